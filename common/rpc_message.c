#include "common/rpc_message.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <grpc/byte_buffer.h>
#include <grpc/grpc.h>
#include <grpc/slice.h>

#define BULK_FIELD 15
#define BULK_TAG   ((BULK_FIELD << 3) | 2)

/* Tag and length of the bulk: one byte, and a varint of at most five. */
#define BULK_PREFIX_SIZE_MAX 6

/* Headers up to this size are decoded without touching the heap, however the
 * slices lie. */
#define GATHER_SIZE 4096

static uint8_t *put_varint(uint8_t *p, uint64_t value)
{
    while (value >= 0x80) {
        *p++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *p++ = (uint8_t)value;
    return p;
}

static void unref_payload(void *buf)
{
    buf_unref((struct buf *)buf);
}

int rpc_message_pack(const ProtobufCMessage *message,
                     struct buf *payload,
                     size_t offset,
                     size_t size,
                     grpc_byte_buffer **ret_bytes)
{
    size_t header_size = protobuf_c_message_get_packed_size(message);
    grpc_slice slices[2];
    size_t n_slices = 1;
    uint8_t *p;

    if (size > RPC_MESSAGE_SIZE_MAX || header_size > RPC_MESSAGE_SIZE_MAX ||
        header_size + BULK_PREFIX_SIZE_MAX + size > RPC_MESSAGE_SIZE_MAX) {
        return -EMSGSIZE;
    }
    if (size == 0) {
        slices[0] = grpc_slice_malloc(header_size);
        (void)protobuf_c_message_pack(message, GRPC_SLICE_START_PTR(slices[0]));
    } else {
        assert(payload != NULL && offset <= payload->size &&
               size <= payload->size - offset);
        slices[0] = grpc_slice_malloc(header_size + BULK_PREFIX_SIZE_MAX);
        p = GRPC_SLICE_START_PTR(slices[0]);
        p += protobuf_c_message_pack(message, p);
        *p++ = BULK_TAG;
        p = put_varint(p, size);
        GRPC_SLICE_SET_LENGTH(slices[0],
                              (size_t)(p - GRPC_SLICE_START_PTR(slices[0])));
        slices[1] = grpc_slice_new_with_user_data(
            payload->data + offset, size, unref_payload, buf_ref(payload));
        n_slices = 2;
    }
    *ret_bytes = grpc_raw_byte_buffer_create(slices, n_slices);
    for (size_t i = 0; i < n_slices; i++) {
        grpc_slice_unref(slices[i]);
    }
    return 0;
}

/* ------------------------------------------------------------- finding bulk */

/* A window on the first bytes of a message. */
struct scan {
    const uint8_t *p;   /* next byte */
    const uint8_t *end; /* of the window */
};

enum scan_result {
    SCAN_BULK,   /* the window up to scan.p is header, tag and length */
    SCAN_MORE,   /* the window ends before the bulk begins */
    SCAN_STRANGE /* no field can start here */
};

/* protobuf-c takes tags and lengths of at most five bytes. */
static enum scan_result scan_varint(struct scan *scan, uint64_t *ret_value)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < 5; i++) {
        if (scan->p == scan->end) {
            return SCAN_MORE;
        }
        value |= (uint64_t)(*scan->p & 0x7f) << (7 * i);
        if ((*scan->p++ & 0x80) == 0) {
            *ret_value = value;
            return SCAN_BULK;
        }
    }
    return SCAN_STRANGE;
}

static enum scan_result skip_bytes(struct scan *scan, uint64_t n)
{
    if (n > (uint64_t)(scan->end - scan->p)) {
        return SCAN_MORE;
    }
    scan->p += n;
    return SCAN_BULK;
}

static enum scan_result skip_long_varint(struct scan *scan)
{
    for (unsigned i = 0; i < 10; i++) {
        if (scan->p == scan->end) {
            return SCAN_MORE;
        }
        if ((*scan->p++ & 0x80) == 0) {
            return SCAN_BULK;
        }
    }
    return SCAN_STRANGE;
}

static enum scan_result skip_value(struct scan *scan, unsigned wire_type)
{
    enum scan_result result;
    uint64_t n;

    switch (wire_type) {
    case PROTOBUF_C_WIRE_TYPE_VARINT:
        return skip_long_varint(scan);
    case PROTOBUF_C_WIRE_TYPE_64BIT:
        return skip_bytes(scan, 8);
    case PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED:
        result = scan_varint(scan, &n);
        return result == SCAN_BULK ? skip_bytes(scan, n) : result;
    case PROTOBUF_C_WIRE_TYPE_32BIT:
        return skip_bytes(scan, 4);
    default:
        return SCAN_STRANGE;
    }
}

/* Where the bulk begins in the message that begins with `size` bytes of `data`.
 */
static enum scan_result find_bulk(const uint8_t *data,
                                  size_t size,
                                  size_t *ret_header_size,
                                  size_t *ret_bulk_offset,
                                  uint64_t *ret_bulk_size)
{
    struct scan scan = { .p = data, .end = data + size };
    enum scan_result result;
    uint64_t tag;

    for (;;) {
        *ret_header_size = (size_t)(scan.p - data);
        result = scan_varint(&scan, &tag);
        if (result != SCAN_BULK) {
            return result;
        }
        if (tag == BULK_TAG) {
            break;
        }
        result = skip_value(&scan, (unsigned)(tag & 7));
        if (result != SCAN_BULK) {
            return result;
        }
    }
    result = scan_varint(&scan, ret_bulk_size);
    *ret_bulk_offset = (size_t)(scan.p - data);
    return result;
}

/* ----------------------------------------------------------------- decoding */

static size_t slice_count(const grpc_byte_buffer *bytes)
{
    return bytes->data.raw.slice_buffer.count;
}

static struct iovec slice_bytes(const grpc_byte_buffer *bytes, size_t i)
{
    grpc_slice *slice = &bytes->data.raw.slice_buffer.slices[i];

    return (struct iovec){ GRPC_SLICE_START_PTR(*slice),
                           GRPC_SLICE_LENGTH(*slice) };
}

/* Copy up to `size` of the message's first bytes. */
static size_t gather(const grpc_byte_buffer *bytes,
                     uint8_t *target,
                     size_t size)
{
    size_t n = 0;

    for (size_t i = 0; i < slice_count(bytes) && n < size; i++) {
        struct iovec part = slice_bytes(bytes, i);
        size_t take = part.iov_len < size - n ? part.iov_len : size - n;

        memcpy(target + n, part.iov_base, take);
        n += take;
    }
    return n;
}

static const ProtobufCFieldDescriptor *bulk_field(
    const ProtobufCMessageDescriptor *type)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field(type, BULK_FIELD);

    if (field == NULL || field->type != PROTOBUF_C_TYPE_BYTES ||
        field->label == PROTOBUF_C_LABEL_REPEATED ||
        field->default_value != NULL ||
        (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
        return NULL;
    }
    return field;
}

static void point_at_one(struct rpc_message *message, struct iovec whole)
{
    message->iov = message->iov_inline;
    message->iov[0] = whole;
    message->n_iov = 1;
    message->payload_size = whole.iov_len;
}

/* A peer may send any number of tiny frames; then one copy is better. */
static int flatten_payload(struct rpc_message *message, size_t offset)
{
    const grpc_byte_buffer *bytes = message->bytes;
    size_t total = bytes->data.raw.slice_buffer.length;

    message->flat = malloc(total);
    if (message->flat == NULL) {
        return -ENOMEM;
    }
    (void)gather(bytes, message->flat, total);
    point_at_one(message,
                 (struct iovec){ message->flat + offset, total - offset });
    return 0;
}

/* Let the iovec cover the bytes from `offset`. */
static int point_at_slices(struct rpc_message *message, size_t offset)
{
    const grpc_byte_buffer *bytes = message->bytes;
    size_t n = slice_count(bytes);

    message->iov = message->iov_inline;
    if (n > RPC_PAYLOAD_IOV_MAX) {
        return flatten_payload(message, offset);
    }
    if (n > RPC_MESSAGE_IOV_INLINE) {
        message->iov = malloc(n * sizeof *message->iov);
        if (message->iov == NULL) {
            message->iov = message->iov_inline;
            return -ENOMEM;
        }
    }
    for (size_t i = 0; i < n; i++) {
        struct iovec part = slice_bytes(bytes, i);
        size_t skip = part.iov_len < offset ? part.iov_len : offset;

        offset -= skip;
        if (part.iov_len == skip) {
            continue;
        }
        message->iov[message->n_iov++] =
            (struct iovec){ (uint8_t *)part.iov_base + skip,
                            part.iov_len - skip };
        message->payload_size += part.iov_len - skip;
    }
    return 0;
}

/* Split the message if all of it that follows `data`'s header is bulk.
 * `*ret_split` tells. Errors: as of rpc_message_unpack(). */
static int try_split(const ProtobufCMessageDescriptor *type,
                     const uint8_t *data,
                     size_t size,
                     struct rpc_message *message,
                     bool *ret_split)
{
    size_t total = message->bytes->data.raw.slice_buffer.length;
    size_t header_size;
    size_t offset;
    uint64_t bulk_size;

    *ret_split =
        find_bulk(data, size, &header_size, &offset, &bulk_size) == SCAN_BULK &&
        bulk_size == total - offset;
    if (!*ret_split) {
        return 0;
    }
    message->header = protobuf_c_message_unpack(type, NULL, header_size, data);
    if (message->header == NULL) {
        return -EBADMSG;
    }
    return point_at_slices(message, offset);
}

/* Take the bulk out of the unpacked message. */
static void detach_bulk(const ProtobufCFieldDescriptor *field,
                        struct rpc_message *message)
{
    ProtobufCBinaryData *bulk =
        (ProtobufCBinaryData *)(void *)((uint8_t *)message->header +
                                        field->offset);

    if (bulk->len > 0) {
        message->flat = bulk->data;
        point_at_one(message, (struct iovec){ bulk->data, bulk->len });
        *bulk = (ProtobufCBinaryData){ 0 };
    }
}

static int unpack_flat(const ProtobufCMessageDescriptor *type,
                       const uint8_t *data,
                       size_t size,
                       struct rpc_message *message)
{
    const ProtobufCFieldDescriptor *field = bulk_field(type);

    message->header = protobuf_c_message_unpack(type, NULL, size, data);
    if (message->header == NULL) {
        return -EBADMSG;
    }
    if (field != NULL) {
        detach_bulk(field, message);
    }
    return 0;
}

static int unpack_gathered(const ProtobufCMessageDescriptor *type,
                           struct rpc_message *message)
{
    size_t total = message->bytes->data.raw.slice_buffer.length;
    uint8_t *data = malloc(total);
    int rc;

    if (data == NULL) {
        return -ENOMEM;
    }
    (void)gather(message->bytes, data, total);
    rc = unpack_flat(type, data, total, message);
    free(data);
    return rc;
}

static int unpack(const ProtobufCMessageDescriptor *type,
                  struct rpc_message *message)
{
    const grpc_byte_buffer *bytes = message->bytes;
    size_t total = bytes->data.raw.slice_buffer.length;
    bool has_bulk = bulk_field(type) != NULL;
    bool is_split = false;
    uint8_t start[GATHER_SIZE];
    struct iovec first = { start, 0 };
    size_t n;
    int rc = 0;

    if (slice_count(bytes) > 0) {
        first = slice_bytes(bytes, 0);
    }
    if (has_bulk && first.iov_len > 0) {
        rc = try_split(type, first.iov_base, first.iov_len, message, &is_split);
        if (rc != 0 || is_split) {
            return rc;
        }
    }
    if (first.iov_len == total) {
        return unpack_flat(type, first.iov_base, total, message);
    }
    n = gather(bytes, start, sizeof start);
    if (n == total) {
        return unpack_flat(type, start, total, message);
    }
    if (has_bulk) {
        rc = try_split(type, start, n, message, &is_split);
        if (rc != 0 || is_split) {
            return rc;
        }
    }
    return unpack_gathered(type, message);
}

static void release_bytes(struct rpc_message *message)
{
    if (message->bytes != NULL) {
        grpc_byte_buffer_destroy(message->bytes);
        message->bytes = NULL;
    }
}

int rpc_message_unpack(const ProtobufCMessageDescriptor *type,
                       grpc_byte_buffer *bytes,
                       struct rpc_message *message)
{
    int rc = -EBADMSG;

    message->header = NULL;
    message->payload_size = 0;
    message->iov = NULL;
    message->n_iov = 0;
    message->bytes = bytes;
    message->flat = NULL;
    if (bytes != NULL && bytes->type == GRPC_BB_RAW &&
        bytes->data.raw.compression == GRPC_COMPRESS_NONE) {
        rc = unpack(type, message);
    }
    if (rc != 0) {
        rpc_message_close(message);
        return rc;
    }
    if (message->payload_size == 0 || message->flat != NULL) {
        release_bytes(message);
    }
    return 0;
}

void rpc_message_copy_payload(const struct rpc_message *message, void *target)
{
    uint8_t *p = target;

    for (size_t i = 0; i < message->n_iov; i++) {
        memcpy(p, message->iov[i].iov_base, message->iov[i].iov_len);
        p += message->iov[i].iov_len;
    }
}

void rpc_message_close(struct rpc_message *message)
{
    if (message->header != NULL) {
        protobuf_c_message_free_unpacked(message->header, NULL);
        message->header = NULL;
    }
    if (message->iov != message->iov_inline) {
        free(message->iov);
    }
    message->iov = NULL;
    message->n_iov = 0;
    message->payload_size = 0;
    free(message->flat);
    message->flat = NULL;
    release_bytes(message);
}
