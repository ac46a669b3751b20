#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <check.h>
#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/slice.h>

#include "common/buf.h"
#include "common/rpc_message.h"
#include "proto/block.pb-c.h"

#define TYPE (&gabion__put_block_request__descriptor)

/* The message as gRPC would deliver it: in slices of `piece` bytes. */
static grpc_byte_buffer *in_pieces(const uint8_t *data,
                                   size_t size,
                                   size_t piece)
{
    size_t n = (size + piece - 1) / piece;
    grpc_slice *slices = calloc(n + 1, sizeof *slices);
    grpc_byte_buffer *bytes;

    ck_assert_ptr_nonnull(slices);
    for (size_t i = 0; i < n; i++) {
        size_t offset = i * piece;
        size_t length = size - offset < piece ? size - offset : piece;

        slices[i] =
            grpc_slice_from_copied_buffer((const char *)data + offset, length);
    }
    bytes = grpc_raw_byte_buffer_create(slices, n);
    for (size_t i = 0; i < n; i++) {
        grpc_slice_unref(slices[i]);
    }
    free(slices);
    return bytes;
}

static uint8_t *flatten(grpc_byte_buffer *bytes, size_t *ret_size)
{
    grpc_byte_buffer_reader reader;
    grpc_slice all;
    uint8_t *data;

    ck_assert_int_eq(grpc_byte_buffer_reader_init(&reader, bytes), 1);
    all = grpc_byte_buffer_reader_readall(&reader);
    grpc_byte_buffer_reader_destroy(&reader);
    *ret_size = GRPC_SLICE_LENGTH(all);
    data = malloc(*ret_size + 1);
    ck_assert_ptr_nonnull(data);
    memcpy(data, GRPC_SLICE_START_PTR(all), *ret_size);
    grpc_slice_unref(all);
    return data;
}

/* A request with `size` bytes of bulk packed by protobuf-c itself; the bulk,
 * for comparison, in `*ret_bulk`. */
static uint8_t *pack_inline(size_t size,
                            size_t n_checksum,
                            size_t *ret_size,
                            uint8_t **ret_bulk)
{
    Gabion__PutBlockRequest request = GABION__PUT_BLOCK_REQUEST__INIT;
    Gabion__BlockKey key = GABION__BLOCK_KEY__INIT;
    uint32_t *checksums = calloc(n_checksum + 1, sizeof *checksums);
    uint8_t *bulk = malloc(size + 1);
    uint8_t *data;

    ck_assert_ptr_nonnull(checksums);
    ck_assert_ptr_nonnull(bulk);
    for (size_t i = 0; i < size; i++) {
        bulk[i] = (uint8_t)(i * 7 + i / 251);
    }
    key.stripe = 300;
    request.cluster = 0x1234567890;
    request.key = &key;
    request.length = (uint32_t)size;
    request.checksum = checksums;
    request.n_checksum = n_checksum;
    request.data.data = bulk;
    request.data.len = size;
    data = malloc(protobuf_c_message_get_packed_size(&request.base) + 1);
    ck_assert_ptr_nonnull(data);
    *ret_size = protobuf_c_message_pack(&request.base, data);
    free(checksums);
    *ret_bulk = bulk;
    return data;
}

static void check_message(const struct rpc_message *message,
                          const uint8_t *bulk,
                          size_t size)
{
    const Gabion__PutBlockRequest *header = (const void *)message->header;
    uint8_t *copy = malloc(size + 1);
    size_t sum = 0;

    ck_assert_ptr_nonnull(copy);
    ck_assert_uint_eq(header->cluster, 0x1234567890);
    ck_assert_uint_eq(header->key->stripe, 300);
    ck_assert_uint_eq(header->data.len, 0);
    ck_assert_uint_eq(message->payload_size, size);
    ck_assert_uint_le(message->n_iov, RPC_PAYLOAD_IOV_MAX);
    for (size_t i = 0; i < message->n_iov; i++) {
        ck_assert_uint_gt(message->iov[i].iov_len, 0);
        sum += message->iov[i].iov_len;
    }
    ck_assert_uint_eq(sum, size);
    rpc_message_copy_payload(message, copy);
    ck_assert_int_eq(memcmp(copy, bulk, size), 0);
    free(copy);
}

static const size_t sizes[] = { 0, 1, 127, 128, 4095, 65536, 300000 };
static const size_t pieces[] = { 1, 7, 100, 5000, 65536, 1 << 20 };

#define N(array) (sizeof(array) / sizeof *(array))

START_TEST(bulk_survives_any_slicing)
{
    size_t size = sizes[(size_t)_i % N(sizes)];
    size_t piece = pieces[(size_t)_i / N(sizes) % N(pieces)];
    size_t n_checksum = (size_t)_i / N(sizes) / N(pieces) == 0 ? 3 : 2000;
    struct rpc_message message = { 0 };
    uint8_t *bulk;
    size_t n;
    uint8_t *data = pack_inline(size, n_checksum, &n, &bulk);

    ck_assert_int_eq(
        rpc_message_unpack(TYPE, in_pieces(data, n, piece), &message), 0);
    check_message(&message, bulk, size);
    rpc_message_close(&message);
    ck_assert_uint_eq(message.payload_size, 0);
    free(data);
    free(bulk);
}
END_TEST

START_TEST(bulk_is_not_copied)
{
    struct rpc_message message = { 0 };
    uint8_t *bulk;
    size_t n;
    uint8_t *data = pack_inline(300000, 75, &n, &bulk);

    ck_assert_int_eq(
        rpc_message_unpack(TYPE, in_pieces(data, n, 65536), &message), 0);
    ck_assert_ptr_null(message.flat);
    ck_assert_ptr_nonnull(message.bytes);
    ck_assert_uint_eq(message.n_iov, 5);
    rpc_message_close(&message);
    free(data);
    free(bulk);
}
END_TEST

START_TEST(fields_behind_the_bulk_are_decoded)
{
    struct rpc_message message = { 0 };
    uint8_t *bulk;
    size_t n;
    uint8_t *data = pack_inline(5000, 2, &n, &bulk);
    size_t bulk_field = 5000 + 3;
    uint8_t *swapped = malloc(n);

    ck_assert_ptr_nonnull(swapped);
    memcpy(swapped, data + n - bulk_field, bulk_field);
    memcpy(swapped + bulk_field, data, n - bulk_field);
    ck_assert_int_eq(
        rpc_message_unpack(TYPE, in_pieces(swapped, n, pieces[(size_t)_i]),
                           &message),
        0);
    check_message(&message, bulk, 5000);
    rpc_message_close(&message);
    free(swapped);
    free(data);
    free(bulk);
}
END_TEST

START_TEST(the_last_of_two_bulks_counts)
{
    static const uint8_t data[] = { 0x7a, 2, 'a', 'b', 0x7a, 1, 'c' };
    struct rpc_message message = { 0 };

    ck_assert_int_eq(
        rpc_message_unpack(TYPE, in_pieces(data, sizeof data, 100), &message),
        0);
    ck_assert_uint_eq(message.payload_size, 1);
    ck_assert_int_eq(*(const char *)message.iov[0].iov_base, 'c');
    rpc_message_close(&message);
}
END_TEST

START_TEST(packing_is_what_protobuf_packs)
{
    size_t size = sizes[_i];
    Gabion__PutBlockRequest request = GABION__PUT_BLOCK_REQUEST__INIT;
    Gabion__BlockKey key = GABION__BLOCK_KEY__INIT;
    uint32_t checksums[3] = { 0 };
    struct buf *buf = buf_new(size + 10);
    grpc_byte_buffer *bytes;
    uint8_t *bulk;
    size_t n;
    size_t n_packed;
    uint8_t *data = pack_inline(size, 3, &n, &bulk);
    uint8_t *packed;

    ck_assert_ptr_nonnull(buf);
    memcpy(buf->data + 10, bulk, size);
    key.stripe = 300;
    request.cluster = 0x1234567890;
    request.key = &key;
    request.length = (uint32_t)size;
    request.checksum = checksums;
    request.n_checksum = 3;
    ck_assert_int_eq(rpc_message_pack(&request.base, buf, 10, size, &bytes), 0);
    ck_assert_int_eq(buf->refs, size > 0 ? 2 : 1);
    packed = flatten(bytes, &n_packed);
    grpc_byte_buffer_destroy(bytes);
    ck_assert_int_eq(buf->refs, 1);
    ck_assert_uint_eq(n_packed, n);
    ck_assert_int_eq(memcmp(packed, data, n), 0);
    buf_unref(buf);
    free(packed);
    free(data);
    free(bulk);
}
END_TEST

START_TEST(too_long_a_message_is_refused)
{
    Gabion__PutBlockRequest request = GABION__PUT_BLOCK_REQUEST__INIT;
    struct buf *buf = buf_new(RPC_MESSAGE_SIZE_MAX);
    grpc_byte_buffer *bytes;

    ck_assert_ptr_nonnull(buf);
    ck_assert_int_eq(
        rpc_message_pack(&request.base, buf, 0, RPC_MESSAGE_SIZE_MAX, &bytes),
        -EMSGSIZE);
    ck_assert_int_eq(buf->refs, 1);
    ck_assert_int_eq(rpc_message_pack(&request.base, buf, 0,
                                      RPC_MESSAGE_SIZE_MAX - 6, &bytes),
                     0);
    grpc_byte_buffer_destroy(bytes);
    buf_unref(buf);
}
END_TEST

struct garbage {
    const char *bytes;
    size_t size;
};

#define GARBAGE(text)          \
    {                          \
        text, sizeof(text) - 1 \
    }

static const struct garbage garbages[] = {
    GARBAGE("\xff"),
    GARBAGE("\x7a"),
    GARBAGE("\x7a\x05"
            "ab"),                       /* shorter than it says */
    GARBAGE("\x7a\xff\xff\xff\xff\x0f"), /* 4 GiB */
    GARBAGE("\x7a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
    GARBAGE("\x12\x05\x0a"),                  /* key is cut */
    GARBAGE("\x12\x03\x0a\x7f\x01\x7a\x01x"), /* key is longer than itself */
    GARBAGE("\x0b\x0c"),                      /* a group */
    GARBAGE("\x09\x01\x02"),                  /* cluster is cut */
    GARBAGE("\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
    GARBAGE("\x22\x03\x01\x02\x03"), /* checksums: not a multiple of 4 */
};

START_TEST(garbage_is_refused)
{
    const struct garbage *garbage = &garbages[_i];
    struct rpc_message message = { 0 };

    for (size_t piece = 1; piece <= garbage->size; piece++) {
        ck_assert_int_eq(
            rpc_message_unpack(TYPE,
                               in_pieces((const uint8_t *)garbage->bytes,
                                         garbage->size, piece),
                               &message),
            -EBADMSG);
        ck_assert_ptr_null(message.header);
        ck_assert_uint_eq(message.payload_size, 0);
    }
}
END_TEST

START_TEST(no_message_is_refused)
{
    struct rpc_message message = { 0 };

    ck_assert_int_eq(rpc_message_unpack(TYPE, NULL, &message), -EBADMSG);
}
END_TEST

START_TEST(a_message_without_bulk_field_is_decoded)
{
    Gabion__NodeStatsReply reply;
    struct rpc_message message = { 0 };
    uint8_t data[64];
    size_t n;

    gabion__node_stats_reply__init(&reply);
    reply.total = 1ULL << 40;
    reply.node = 7;
    n = protobuf_c_message_pack(&reply.base, data);
    ck_assert_int_eq(rpc_message_unpack(reply.base.descriptor,
                                        in_pieces(data, n, 3), &message),
                     0);
    ck_assert_uint_eq(
        ((const Gabion__NodeStatsReply *)(const void *)message.header)->total,
        1ULL << 40);
    ck_assert_ptr_null(message.bytes);
    rpc_message_close(&message);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("rpc_message");
    TCase *tc = tcase_create("rpc_message");

    tcase_add_loop_test(tc, bulk_survives_any_slicing, 0,
                        (int)(N(sizes) * N(pieces) * 2));
    tcase_add_test(tc, bulk_is_not_copied);
    tcase_add_loop_test(tc, fields_behind_the_bulk_are_decoded, 0,
                        (int)N(pieces));
    tcase_add_test(tc, the_last_of_two_bulks_counts);
    tcase_add_loop_test(tc, packing_is_what_protobuf_packs, 0, (int)N(sizes));
    tcase_add_test(tc, too_long_a_message_is_refused);
    tcase_add_loop_test(tc, garbage_is_refused, 0, (int)N(garbages));
    tcase_add_test(tc, no_message_is_refused);
    tcase_add_test(tc, a_message_without_bulk_field_is_decoded);
    suite_add_tcase(s, tc);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(suite());
    int n_failed;

    srunner_run_all(runner, CK_ENV);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
