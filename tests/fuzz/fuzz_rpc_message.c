/* Mutated messages against the message splitter: `fuzz_rpc_message SEED
 * SECONDS`.
 *
 * However the bytes are cut into slices, rpc_message_unpack() must agree with
 * protobuf-c on whether they are a message, on its bulk and on all its other
 * fields. A failure prints the seed of its round: pass it to repeat that round
 * first. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <grpc/byte_buffer.h>
#include <grpc/grpc.h>
#include <grpc/slice.h>

#include "common/clock.h"
#include "common/rpc_message.h"
#include "proto/block.pb-c.h"

#define TYPE           (&gabion__put_block_request__descriptor)
#define SIZE_MAX_BYTES (128 << 10)

static uint64_t state;

/* splitmix64 */
static uint64_t draw(void)
{
    uint64_t z = (state += 0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static size_t below(size_t n)
{
    return (size_t)(draw() % n);
}

/* A valid request; small ones more often than large ones. */
static size_t make_valid(uint8_t *data)
{
    static const size_t bulk_sizes[] = { 0, 1, 5, 130, 5000, 70000 };
    static uint8_t bulk[70000];
    static uint32_t checksums[3000];
    Gabion__PutBlockRequest request = GABION__PUT_BLOCK_REQUEST__INIT;
    Gabion__BlockKey key = GABION__BLOCK_KEY__INIT;

    key.object.data = bulk;
    key.object.len = below(20);
    key.stripe = (uint32_t)draw();
    request.cluster = draw();
    if (below(8) != 0) {
        request.key = &key;
    }
    request.length = (uint32_t)draw();
    request.checksum = checksums;
    request.n_checksum = below(16) == 0 ? below(3000) : below(10);
    request.data.data = bulk;
    request.data.len = bulk_sizes[below(6)];
    for (size_t i = 0; i < 16; i++) {
        bulk[below(sizeof bulk)] = (uint8_t)draw();
        checksums[below(3000)] = (uint32_t)draw();
    }
    return protobuf_c_message_pack(&request.base, data);
}

static uint8_t interesting_byte(void)
{
    static const uint8_t bytes[] = { 0x00, 0x01, 0x7a, 0x7f, 0x80, 0xff,
                                     0x12, 0x22, 0x0a, 0xfa, 0x78, 0x7d };

    return below(2) == 0 ? bytes[below(sizeof bytes)] : (uint8_t)draw();
}

/* One change; most of them where headers lie. */
static size_t mutate(uint8_t *data, size_t size)
{
    size_t region = below(4) == 0 || size < 40 ? size : 40;
    size_t at = region > 0 ? below(region) : 0;
    size_t n = size - at < 1 ? 0 : 1 + below(size - at < 9 ? size - at : 9);

    switch (below(6)) {
    case 0: /* change */
        if (size > 0) {
            data[at] = interesting_byte();
        }
        return size;
    case 1: /* flip */
        if (size > 0) {
            data[at] ^= (uint8_t)(1u << below(8));
        }
        return size;
    case 2: /* remove */
        memmove(data + at, data + at + n, size - at - n);
        return size - n;
    case 3: /* insert */
        memmove(data + at + 1, data + at, size - at);
        data[at] = interesting_byte();
        return size + 1;
    case 4: /* cut */
        return at;
    default: /* put the tail first, which makes other field orders */
        at = size > 0 ? below(size) : 0;
        memcpy(data + size, data, at);
        memmove(data, data + at, size);
        return size;
    }
}

static grpc_byte_buffer *slice_up(const uint8_t *data, size_t size)
{
    static const size_t pieces[] = { 1, 3, 24, 300, 5000, SIZE_MAX_BYTES };
    static grpc_slice slices[SIZE_MAX_BYTES];
    size_t piece = pieces[size > 20000 ? 2 + below(4) : below(6)];
    grpc_byte_buffer *bytes;
    size_t n = 0;

    for (size_t at = 0; at < size;) {
        size_t length = 1 + below(piece);

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
    static uint8_t data[SIZE_MAX_BYTES * 2];
    size_t size = make_valid(data);
    size_t n_mutations = below(6);

    for (size_t i = 0; i < n_mutations; i++) {
        size = mutate(data, size);
    }
    return check(data, size);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    int64_t seconds = argc > 2 ? strtoll(argv[2], NULL, 10) : 2;
    int64_t end = clock_mono_ms() + seconds * 1000;
    uint64_t n_rounds = 0;

    while (n_rounds == 0 || clock_mono_ms() < end) {
        state = seed + n_rounds;
        if (!run_round()) {
            (void)fprintf(stderr, "failed: seed %" PRIu64 "\n",
                          seed + n_rounds);
            return EXIT_FAILURE;
        }
        n_rounds++;
    }
    printf("%" PRIu64 " rounds\n", n_rounds);
    return EXIT_SUCCESS;
}
