/* Mutated messages against the message splitter: `fuzz_rpc_message SEED
 * SECONDS`.
 *
 * However the bytes are cut into slices, rpc_message_unpack() must agree with
 * protobuf-c on whether they are a message, on its bulk and on all its other
 * fields. */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include <grpc/byte_buffer.h>
#include <grpc/grpc.h>
#include <grpc/slice.h>

#include "common/rpc_message.h"
#include "proto/block.pb-c.h"
#include "tests/fuzz/fuzz.h"

#define TYPE           (&gabion__put_block_request__descriptor)
#define SIZE_MAX_BYTES (128 << 10)
/* Where the headers of the first fields lie. */
#define HEAD 40

/* A valid request; small ones more often than large ones. */
static size_t make_valid(uint8_t *data)
{
    static const size_t bulk_sizes[] = { 0, 1, 5, 130, 5000, 70000 };
    static uint8_t bulk[70000];
    static uint32_t checksums[3000];
    Gabion__PutBlockRequest request = GABION__PUT_BLOCK_REQUEST__INIT;
    Gabion__BlockKey key = GABION__BLOCK_KEY__INIT;

    key.object.data = bulk;
    key.object.len = fuzz_below(20);
    key.stripe = (uint32_t)fuzz_draw();
    request.cluster = fuzz_draw();
    if (!fuzz_one_in(8)) {
        request.key = &key;
    }
    request.length = (uint32_t)fuzz_draw();
    request.checksum = checksums;
    request.n_checksum = fuzz_one_in(16) ? fuzz_below(3000) : fuzz_below(10);
    request.data.data = bulk;
    request.data.len = bulk_sizes[fuzz_below(6)];
    for (size_t i = 0; i < 16; i++) {
        bulk[fuzz_below(sizeof bulk)] = (uint8_t)fuzz_draw();
        checksums[fuzz_below(3000)] = (uint32_t)fuzz_draw();
    }
    return protobuf_c_message_pack(&request.base, data);
}

static grpc_byte_buffer *slice_up(const uint8_t *data, size_t size)
{
    static const size_t pieces[] = { 1, 3, 24, 300, 5000, SIZE_MAX_BYTES };
    static grpc_slice slices[SIZE_MAX_BYTES];
    size_t piece = pieces[size > 20000 ? 2 + fuzz_below(4) : fuzz_below(6)];
    grpc_byte_buffer *bytes;
    size_t n = 0;

    for (size_t at = 0; at < size;) {
        size_t length = 1 + fuzz_below(piece);

        if (length > size - at) {
            length = size - at;
        }
        slices[n++] =
            grpc_slice_from_copied_buffer((const char *)data + at, length);
        at += length;
    }
    bytes = grpc_raw_byte_buffer_create(slices, n);
    for (size_t i = 0; i < n; i++) {
        grpc_slice_unref(slices[i]);
    }
    return bytes;
}

/* Whether the header, its bulk put back, is the message protobuf-c sees. */
static bool is_same(const struct rpc_message *message,
                    const ProtobufCMessage *expected)
{
    static uint8_t a[2 * SIZE_MAX_BYTES];
    static uint8_t b[2 * SIZE_MAX_BYTES];
    static uint8_t bulk[SIZE_MAX_BYTES];
    Gabion__PutBlockRequest *header = (void *)message->header;
    size_t n_a;
    size_t n_b;

    if (header->data.len != 0 || message->n_iov > RPC_PAYLOAD_IOV_MAX) {
        return false;
    }
    rpc_message_copy_payload(message, bulk);
    header->data.data = bulk;
    header->data.len = message->payload_size;
    n_a = protobuf_c_message_pack(&header->base, a);
    n_b = protobuf_c_message_pack(expected, b);
    header->data.data = NULL;
    header->data.len = 0;
    return n_a == n_b && memcmp(a, b, n_a) == 0;
}

static bool check(const uint8_t *data, size_t size)
{
    ProtobufCMessage *expected =
        protobuf_c_message_unpack(TYPE, NULL, size, data);
    struct rpc_message message = { 0 };
    int rc = rpc_message_unpack(TYPE, slice_up(data, size), &message);
    bool is_ok = rc == (expected != NULL ? 0 : -EBADMSG);

    if (is_ok && expected != NULL) {
        is_ok = is_same(&message, expected);
    }
    rpc_message_close(&message);
    if (expected != NULL) {
        protobuf_c_message_free_unpacked(expected, NULL);
    }
    return is_ok;
}

static bool run_round(void)
{
    static uint8_t data[SIZE_MAX_BYTES];
    size_t size = make_valid(data);
    size_t n_mutations = fuzz_below(6);

    for (size_t i = 0; i < n_mutations; i++) {
        size = fuzz_mutate(data, size, sizeof data, HEAD);
    }
    return check(data, size);
}

int main(int argc, char **argv)
{
    return fuzz_main(argc, argv, run_round);
}
