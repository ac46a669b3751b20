/* Unary RPCs over gRPC C-core, client side.
 *
 * One rpc_client per process holds the channels; each thread that calls has an
 * rpc_queue, where its completions arrive. A peer has two channels: control for
 * small calls, data for blocks, so that a ping never waits behind a megabyte.
 * Connecting and keepalive go on while no caller waits, as long as some thread
 * polls: one of the client's own, or a server's. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "common/buf.h"
#include "common/err.h"

struct rpc_client;
struct rpc_peer;  /* one server, shared by all threads */
struct rpc_queue; /* one thread's completions */

enum rpc_lane {
    RPC_CONTROL,
    RPC_DATA
};

/* `polls`: keep a thread that polls while no caller waits. In a process whose
 * rpc_server polls anyway it would only catch the server's events.
 * Errors: -ENOMEM. gRPC is initialised here: daemonize before. */
MUST_CHECK int rpc_client_new(bool polls, struct rpc_client **ret_client);

/* All calls must have finished and all queues be freed. NULL is allowed. */
void rpc_client_free(struct rpc_client *client);

/* The peer at `address` ("host:port", IPv6 in brackets, or "unix:/path"), made
 * on first use, living as long as the client. Nothing is connected yet.
 * Errors: -EINVAL not an address; -ENOMEM */
MUST_CHECK int rpc_client_peer(struct rpc_client *client,
                               const char *address,
                               struct rpc_peer **ret_peer);

/* Whether the last call to the peer did not fail for want of a connection. True
 * before the first call. A peer that was down counts as up again when a call
 * succeeds or, at the latest, a second after the failure, so that it is tried
 * again. */
bool rpc_peer_is_up(const struct rpc_peer *peer);

const char *rpc_peer_address(const struct rpc_peer *peer);

/* Errors: -ENOMEM */
MUST_CHECK int rpc_queue_new(struct rpc_client *client,
                             struct rpc_queue **ret_queue);

/* Cancels what is in flight, collects it (each `done` runs), frees. */
void rpc_queue_free(struct rpc_queue *queue);

/* The calling thread's queue, made on first use and freed when the thread ends.
 * NULL when out of memory. Threads must end before rpc_client_free(), except
 * the one that calls it. */
struct rpc_queue *rpc_client_thread_queue(struct rpc_client *client);

/* One call. Caller's memory: zero it, fill in the first part, keep it until
 * `done` has run, then rpc_call_clear(). */
struct rpc_call {
    const char *method; /* "/gabion.Block/PutBlock"; static */
    enum rpc_lane lane;
    const ProtobufCMessage *request; /* borrowed until rpc_call_start returns */
    struct buf *payload;   /* borrowed or NULL: sent by reference as the
                              request's bytes field number 15, which must be
                              empty in `request`; referenced for as long as
                              gRPC needs it, after a failure perhaps a moment
                              longer than until `done` */
    size_t payload_offset; /* in payload */
    size_t payload_size;   /* 0: no payload */
    const ProtobufCMessageDescriptor *reply_type;
    int64_t deadline_ms; /* in clock_mono_ms(); required */

    /* Called exactly once, from rpc_queue_wait() on the queue of the call. */
    void (*done)(struct rpc_call *call);
    void *context; /* borrowed, for done */

    /* Result.
     * 0; -ETIMEDOUT; -EHOSTUNREACH no connection, or it broke (the peer may or
     * may not have acted); -ECANCELED; -ENOSYS the peer does not know the
     * method; -EMSGSIZE request or answer exceeds RPC_MESSAGE_SIZE_MAX
     * (common/rpc_message.h); -EPROTO an answer that cannot be decoded; -EACCES
     * refused; -EINVAL the peer calls the request malformed; -EAGAIN the peer
     * cannot serve it now; -ENOMEM */
    int rc;
    bool is_finished;        /* `done` is running or has run */
    ProtobufCMessage *reply; /* unpacked, owned by the call; bytes field 15 is
                                left empty when it travelled as payload */

    /* Private. */
    struct rpc_call_impl *impl; /* owned; NULL when it could not be started */
    struct rpc_call *next;      /* in the queue's list of such calls */
};

/* Start the call. Trouble is told through `done`. */
void rpc_call_start(struct rpc_queue *queue,
                    struct rpc_peer *peer,
                    struct rpc_call *call);

/* Ask for an early end, from the queue's thread; `done` still runs. */
void rpc_call_cancel(struct rpc_call *call);

/* Size of the reply's payload (bytes field 15). In or after done. */
size_t rpc_call_payload_size(const struct rpc_call *call);

/* Copy the reply's payload to `target`, which has room for all of it. */
void rpc_call_copy_payload(const struct rpc_call *call, void *target);

/* The reply, which is the caller's from now on: it ends with
 * protobuf_c_message_free_unpacked(reply, NULL). NULL when there is none. */
ProtobufCMessage *rpc_call_take_reply(struct rpc_call *call);

/* Release reply and payload. Zeroes the results. */
void rpc_call_clear(struct rpc_call *call);

/* Run the `done` of at least one finished call, waiting until `deadline_ms`
 * (clock_mono_ms()). Errors: -ETIMEDOUT none finished. */
int rpc_queue_wait(struct rpc_queue *queue, int64_t deadline_ms);

/* Start the call, wait for it on the calling thread's queue (running others'
 * `done` meanwhile), return call->rc. `done` may be NULL. */
MUST_CHECK int rpc_call_sync(struct rpc_client *client,
                             struct rpc_peer *peer,
                             struct rpc_call *call);
