/* Protobuf messages whose bulk travels without being copied.
 *
 * A message may have one bulk field: `bytes`, number 15, not repeated. Being
 * the highest-numbered field it comes last on the wire, so that a message is
 *
 *     the other fields, as protobuf-c packs them | 0x7a | length | bulk
 *
 * which is what any protobuf encoder makes of it. Here the bulk is sent as a
 * slice of its own and received as an iovec over gRPC's slices; only what comes
 * before it goes through protobuf-c. Encodings in another order are legal and
 * decoded too, with a copy. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <protobuf-c/protobuf-c.h>

#include "common/buf.h"
#include "common/err.h"

struct grpc_byte_buffer;

/* Longest message, bulk included, that is sent or accepted. */
#define RPC_MESSAGE_SIZE_MAX (8u << 20)

/* A received payload has at most this many pieces (IOV_MAX: one pwritev). */
#define RPC_PAYLOAD_IOV_MAX 1024

#define RPC_MESSAGE_IOV_INLINE 20

/* A received message. Zero is an empty one. Do not move it: the iovec may lie
 * inside. */
struct rpc_message {
    ProtobufCMessage *header; /* owned; its bulk field is empty */
    size_t payload_size;      /* bytes of bulk */
    struct iovec *iov;        /* the bulk: iov_inline or owned; no empty ones */
    size_t n_iov;
    struct iovec iov_inline[RPC_MESSAGE_IOV_INLINE];
    struct grpc_byte_buffer *bytes; /* owned or NULL: where the iovec points */
    uint8_t *flat;                  /* owned or NULL: likewise */
};

/* Encode `message`, whose bulk field must be empty, with `size` bytes of
 * `payload` from `offset` as its bulk. With size 0 there is none, and `payload`
 * may be NULL. The buffer is referenced until gRPC lets go of the bytes. The
 * caller owns `*ret_bytes`.
 * Errors: -EMSGSIZE longer than RPC_MESSAGE_SIZE_MAX. */
MUST_CHECK int rpc_message_pack(const ProtobufCMessage *message,
                                struct buf *payload,
                                size_t offset,
                                size_t size,
                                struct grpc_byte_buffer **ret_bytes);

/* Decode. `bytes` is taken, also on failure; NULL is malformed. On success the
 * caller releases `message` with rpc_message_close(); on failure it is left
 * zeroed.
 * Errors: -EBADMSG malformed; -ENOMEM. */
MUST_CHECK int rpc_message_unpack(const ProtobufCMessageDescriptor *type,
                                  struct grpc_byte_buffer *bytes,
                                  struct rpc_message *message);

/* Copy the bulk, all of it, to `target`. */
void rpc_message_copy_payload(const struct rpc_message *message, void *target);

/* Release everything and zero `message`. */
void rpc_message_close(struct rpc_message *message);
