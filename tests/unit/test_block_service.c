#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <check.h>

#include "common/checksum.h"
#include "common/clock.h"
#include "common/rpc_client.h"
#include "common/rpc_server.h"
#include "proto/block.pb-c.h"
#include "proto/validate.h"
#include "storaged/block/block_service.h"
#include "tests/unit/block_fixture.h"

#define N(array) (sizeof(array) / sizeof *(array))

#define CLUSTER 0x1234567890abcdefu
#define SOON_MS 20000

/* A node, and a client of it. */
static struct fault_disk disk;
static struct block_store *store;
static struct block_service *service;
static struct rpc_server *server;
static struct rpc_client *client;
static struct rpc_peer *peer;

static void start_node(void)
{
    struct block_service_options options = { .cluster = CLUSTER, .node = 42 };
    const struct rpc_method *methods;
    struct errmsg msg = { "" };
    char address[32];
    size_t n_methods;

    store = fixture_open();
    options.store = store;
    ck_assert_int_eq(block_service_new(&options, &service), 0);
    methods = block_service_methods(service, &n_methods);
    ck_assert_int_eq(
        rpc_server_new("127.0.0.1:0", methods, n_methods, 2, &server, &msg), 0);
    ck_assert_int_eq(rpc_server_start(server), 0);
    (void)snprintf(address, sizeof address, "127.0.0.1:%d",
                   rpc_server_port(server));
    ck_assert_int_eq(rpc_client_peer(client, address, &peer), 0);
}

static void stop_node(void)
{
    rpc_server_stop(server, 1000);
    rpc_server_free(server);
    block_service_free(service);
    block_store_close(store);
}

static void setup(void)
{
    fixture_setup();
    fault_disk_init(&disk);
    fixture_options.disk = &disk.disk;
    ck_assert_int_eq(rpc_client_new(true, &client), 0);
    start_node();
}

static void teardown(void)
{
    stop_node();
    fixture_teardown();
}

/* -------------------------------------------------------------- messages */

/* A key as it travels. */
struct wire_key {
    Gabion__BlockKey message;
    uint8_t object[16];
};

static Gabion__BlockKey *wire_key(struct wire_key *wire,
                                  const struct block_key *key)
{
    gabion__block_key__init(&wire->message);
    object_id_encode(&key->object, wire->object);
    wire->message.object.len = sizeof wire->object;
    wire->message.object.data = wire->object;
    wire->message.stripe = key->stripe;
    wire->message.index = key->index;
    return &wire->message;
}

/* Make a call; its reply is in `call` until rpc_call_clear(). */
static void call_node(struct rpc_call *call,
                      const char *method,
                      const ProtobufCMessage *request,
                      const ProtobufCMessageDescriptor *reply_type)
{
    call->method = method;
    call->lane = RPC_DATA;
    call->request = request;
    call->reply_type = reply_type;
    call->deadline_ms = clock_mono_ms() + SOON_MS;
    ck_assert_int_eq(rpc_call_sync(client, peer, call), 0);
    ck_assert_ptr_nonnull(call->reply);
}

/* A PutBlock request that is right. */
struct wire_put {
    Gabion__PutBlockRequest message;
    struct wire_key key;
    uint32_t checksums[RECORD_UNITS_MAX];
    struct buf *buf; /* owned */
};

static void make_put(struct wire_put *wire,
                     const struct block_key *key,
                     uint32_t seed,
                     uint32_t length)
{
    wire->buf = buf_new(length);
    ck_assert_ptr_nonnull(wire->buf);
    fixture_fill(key, seed, length, wire->buf->data);
    checksum_compute(wire->buf->data, length, wire->checksums);
    gabion__put_block_request__init(&wire->message);
    wire->message.cluster = CLUSTER;
    wire->message.key = wire_key(&wire->key, key);
    wire->message.length = length;
    wire->message.n_checksum = checksum_units(length);
    wire->message.checksum = wire->checksums;
}

/* Send it, free it, return the error of the answer. */
static int send_put(struct wire_put *wire)
{
    struct rpc_call call = { .payload = wire->buf,
                             .payload_size = wire->buf->size };
    const Gabion__PutBlockReply *reply;
    int error;

    call_node(&call, "/gabion.Block/PutBlock", &wire->message.base,
              &gabion__put_block_reply__descriptor);
    reply = (const void *)call.reply;
    error = reply->error;
    ck_assert((error == 0) == (reply->detail[0] == '\0'));
    ck_assert_uint_eq(reply->instance, block_store_instance(store));
    rpc_call_clear(&call);
    buf_unref(wire->buf);
    return error;
}

static int put(const struct block_key *key, uint32_t seed, uint32_t length)
{
    struct wire_put wire;

    make_put(&wire, key, seed, length);
    return send_put(&wire);
}

/* Get a range and compare it; returns the error of the answer. */
static int get(const struct block_key *key,
               uint32_t block_length,
               uint32_t offset,
               uint32_t length)
{
    struct wire_key wire;
    struct rpc_call call = { .lane = RPC_DATA };
    Gabion__GetBlockRequest request;
    const Gabion__GetBlockReply *reply;
    uint8_t *wanted = malloc(block_length + 1);
    uint8_t *bytes;
    size_t size;
    int error;

    gabion__get_block_request__init(&request);
    request.cluster = CLUSTER;
    request.key = wire_key(&wire, key);
    request.offset = offset;
    request.length = length;
    call_node(&call, "/gabion.Block/GetBlock", &request.base,
              &gabion__get_block_reply__descriptor);
    reply = (const void *)call.reply;
    size = rpc_call_payload_size(&call);
    error = reply->error;
    if (error == 0) {
        bytes = malloc(size);
        rpc_call_copy_payload(&call, bytes);
        fixture_fill(key, 0, block_length, wanted);
        ck_assert_uint_eq(reply->block_length, block_length);
        ck_assert_uint_eq(reply->offset, offset / 4096 * 4096);
        ck_assert_uint_eq(reply->n_checksum, checksum_units(size));
        ck_assert_int_eq(checksum_verify(bytes, size, reply->checksum), -1);
        ck_assert_uint_ge(reply->offset + size, offset + length < block_length
                                                    ? offset + length
                                                    : block_length);
        ck_assert_mem_eq(bytes, wanted + reply->offset, size);
        free(bytes);
    } else {
        ck_assert_uint_eq(size, 0);
        ck_assert(reply->detail[0] != '\0');
    }
    free(wanted);
    rpc_call_clear(&call);
    return error;
}

static int sync_blocks(uint64_t cluster, uint64_t *ret_instance)
{
    Gabion__SyncBlocksRequest request;
    struct rpc_call call = { .lane = RPC_CONTROL };
    const Gabion__SyncBlocksReply *reply;
    int error;

    gabion__sync_blocks_request__init(&request);
    request.cluster = cluster;
    call_node(&call, "/gabion.Block/SyncBlocks", &request.base,
              &gabion__sync_blocks_reply__descriptor);
    reply = (const void *)call.reply;
    error = reply->error;
    *ret_instance = reply->instance;
    rpc_call_clear(&call);
    return error;
}

static int delete_object(uint64_t serial, size_t id_size, uint64_t *ret_n)
{
    const struct object_id object = { 7, serial };
    uint8_t id[17] = { 0 };
    ProtobufCBinaryData ids = { id_size, id };
    Gabion__DeleteObjectsRequest request;
    struct rpc_call call = { .lane = RPC_CONTROL };
    const Gabion__DeleteObjectsReply *reply;
    int error;

    object_id_encode(&object, id);
    gabion__delete_objects_request__init(&request);
    request.cluster = CLUSTER;
    request.n_object = 1;
    request.object = &ids;
    call_node(&call, "/gabion.Block/DeleteObjects", &request.base,
              &gabion__delete_objects_reply__descriptor);
    reply = (const void *)call.reply;
    error = reply->error;
    *ret_n = reply->n_blocks;
    rpc_call_clear(&call);
    return error;
}

/* ------------------------------------------------------------------ tests */

static const uint32_t sizes[] = { 1,     64,     4095,   4096,   4097,
                                  65537, 262144, 262145, 1048576 };

START_TEST(put_block_can_be_got)
{
    struct block_key key = fixture_key(1, 2, 3);
    uint32_t size = sizes[_i];

    ck_assert_int_eq(get(&key, size, 0, size), ENOENT);
    ck_assert_int_eq(put(&key, 0, size), 0);
    ck_assert_int_eq(get(&key, size, 0, size), 0);
    ck_assert_int_eq(get(&key, size, 0, 1), 0);
    ck_assert_int_eq(get(&key, size, size - 1, 1), 0);
    ck_assert_int_eq(get(&key, size, size / 2, size), 0);
    ck_assert_int_eq(get(&key, size, size, 1), EINVAL);
    ck_assert_int_eq(get(&key, size, 0, 0), EINVAL);
    ck_assert_int_eq(put(&key, 0, size), 0);
    ck_assert_int_eq(put(&key, 1, size), EEXIST);
    stop_node();
    start_node();
    ck_assert_int_eq(get(&key, size, 0, size), 0);
}
END_TEST

/* Requests that are wrong, made from right ones. */
static void no_key(struct wire_put *wire)
{
    wire->message.key = NULL;
}

static void short_id(struct wire_put *wire)
{
    wire->key.message.object.len = 15;
}

static void stripe_out_of_range(struct wire_put *wire)
{
    wire->key.message.stripe = STRIPES_MAX;
}

static void index_out_of_range(struct wire_put *wire)
{
    wire->key.message.index = 1000;
}

static void length_too_small(struct wire_put *wire)
{
    wire->message.length--;
}

static void length_zero(struct wire_put *wire)
{
    wire->message.length = 0;
}

static void length_huge(struct wire_put *wire)
{
    wire->message.length = UINT32_MAX;
}

static void checksum_missing(struct wire_put *wire)
{
    wire->message.n_checksum--;
}

static void checksums_missing(struct wire_put *wire)
{
    wire->message.n_checksum = 0;
}

static void checksum_wrong(struct wire_put *wire)
{
    wire->checksums[1] ^= 1;
}

static void bytes_wrong(struct wire_put *wire)
{
    wire->buf->data[9999] ^= 1;
}

static void other_cluster(struct wire_put *wire)
{
    wire->message.cluster++;
}

static const struct {
    void (*spoil)(struct wire_put *wire);
    int error;
} wrong_puts[] = {
    { no_key, EINVAL },
    { short_id, EINVAL },
    { stripe_out_of_range, EINVAL },
    { index_out_of_range, EINVAL },
    { length_too_small, EINVAL },
    { length_zero, EINVAL },
    { length_huge, EINVAL },
    { checksum_missing, EINVAL },
    { checksums_missing, EINVAL },
    { checksum_wrong, EBADMSG },
    { bytes_wrong, EBADMSG },
    { other_cluster, ESTALE },
};

START_TEST(wrong_put_is_refused)
{
    struct block_key key = fixture_key(1, 0, 0);
    struct wire_put wire;

    make_put(&wire, &key, 0, 10000);
    wrong_puts[_i].spoil(&wire);
    ck_assert_int_eq(send_put(&wire), wrong_puts[_i].error);
    ck_assert_int_eq(get(&key, 10000, 0, 1), ENOENT);
    ck_assert_int_eq(put(&key, 0, 10000), 0);
}
END_TEST

START_TEST(other_cluster_is_refused_everywhere)
{
    static const struct {
        const char *method;
        const ProtobufCMessageDescriptor *request;
        const ProtobufCMessageDescriptor *reply;
    } methods[] = {
        { "/gabion.Block/GetBlock", &gabion__get_block_request__descriptor,
          &gabion__get_block_reply__descriptor },
        { "/gabion.Block/SyncBlocks", &gabion__sync_blocks_request__descriptor,
          &gabion__sync_blocks_reply__descriptor },
        { "/gabion.Block/DeleteObjects",
          &gabion__delete_objects_request__descriptor,
          &gabion__delete_objects_reply__descriptor },
        { "/gabion.Block/ListBlocks", &gabion__list_blocks_request__descriptor,
          &gabion__list_blocks_reply__descriptor },
        { "/gabion.Block/NodeStats", &gabion__node_stats_request__descriptor,
          &gabion__node_stats_reply__descriptor },
    };

    for (size_t i = 0; i < N(methods); i++) {
        union {
            ProtobufCMessage base;
            Gabion__GetBlockRequest get;
            Gabion__DeleteObjectsRequest delete;
            Gabion__ListBlocksRequest list;
        } request;
        struct rpc_call call = { .lane = RPC_CONTROL };

        methods[i].request->message_init(&request.base);
        call_node(&call, methods[i].method, &request.base, methods[i].reply);
        /* Every answer begins with its error. */
        ck_assert_int_eq(
            ((const Gabion__GetBlockReply *)(void *)call.reply)->error, ESTALE);
        rpc_call_clear(&call);
    }
}
END_TEST

START_TEST(sync_tells_the_instance)
{
    struct block_key key = fixture_key(1, 0, 0);
    uint64_t first;
    uint64_t second;
    int n_before;

    ck_assert_int_eq(put(&key, 0, 10000), 0);
    n_before = disk.n_syncs;
    ck_assert_int_eq(sync_blocks(CLUSTER, &first), 0);
    ck_assert_int_gt(disk.n_syncs, n_before);
    ck_assert_uint_eq(first, block_store_instance(store));
    stop_node();
    start_node();
    ck_assert_int_eq(sync_blocks(CLUSTER, &second), 0);
    ck_assert_uint_ne(first, second);
}
END_TEST

static void count(struct rpc_call *call)
{
    const Gabion__SyncBlocksReply *reply = (const void *)call->reply;

    ck_assert_int_eq(call->rc, 0);
    ck_assert_int_eq(reply->error, 0);
    ++*(unsigned *)call->context;
}

START_TEST(all_waiting_syncs_are_answered)
{
    struct block_key key = fixture_key(1, 0, 0);
    struct rpc_queue *queue = rpc_client_thread_queue(client);
    struct rpc_call calls[50];
    Gabion__SyncBlocksRequest request;
    unsigned n_done = 0;
    int n_before;

    ck_assert_int_eq(put(&key, 0, 10000), 0);
    disk.sync_ms = 50;
    n_before = disk.n_syncs;
    gabion__sync_blocks_request__init(&request);
    request.cluster = CLUSTER;
    for (size_t i = 0; i < N(calls); i++) {
        calls[i] = (struct rpc_call){
            .method = "/gabion.Block/SyncBlocks",
            .lane = RPC_CONTROL,
            .request = &request.base,
            .reply_type = &gabion__sync_blocks_reply__descriptor,
            .deadline_ms = clock_mono_ms() + SOON_MS,
            .done = count,
            .context = &n_done,
        };
        rpc_call_start(queue, peer, &calls[i]);
    }
    while (n_done < N(calls)) {
        ck_assert_int_eq(rpc_queue_wait(queue, clock_mono_ms() + SOON_MS), 0);
    }
    for (size_t i = 0; i < N(calls); i++) {
        rpc_call_clear(&calls[i]);
    }
    ck_assert_int_le(disk.n_syncs - n_before, 2);
    disk.sync_ms = 0;
}
END_TEST

START_TEST(gets_and_puts_do_not_wait_for_a_sync)
{
    struct block_key key = fixture_key(1, 0, 0);
    struct block_key other = fixture_key(2, 0, 0);
    struct rpc_queue *queue = rpc_client_thread_queue(client);
    Gabion__SyncBlocksRequest request;
    unsigned n_done = 0;
    struct rpc_call call = {
        .method = "/gabion.Block/SyncBlocks",
        .lane = RPC_CONTROL,
        .request = &request.base,
        .reply_type = &gabion__sync_blocks_reply__descriptor,
        .deadline_ms = clock_mono_ms() + SOON_MS,
        .done = count,
        .context = &n_done,
    };

    ck_assert_int_eq(put(&key, 0, 10000), 0);
    fault_disk_hold_syncs(&disk);
    gabion__sync_blocks_request__init(&request);
    request.cluster = CLUSTER;
    rpc_call_start(queue, peer, &call);
    fault_disk_await_held(&disk);
    for (uint32_t i = 0; i < 10; i++) {
        other.stripe = i;
        ck_assert_int_eq(put(&other, 0, 10000), 0);
        ck_assert_int_eq(get(&key, 10000, 0, 10000), 0);
        ck_assert_int_eq(get(&other, 10000, 0, 10000), 0);
    }
    ck_assert_uint_eq(n_done, 0);
    fault_disk_release(&disk);
    while (n_done == 0) {
        ck_assert_int_eq(rpc_queue_wait(queue, clock_mono_ms() + SOON_MS), 0);
    }
    rpc_call_clear(&call);
}
END_TEST

START_TEST(deleted_object_is_gone)
{
    struct block_key key = fixture_key(1, 0, 0);
    struct block_key other = fixture_key(2, 0, 0);
    uint64_t n;

    for (key.stripe = 0; key.stripe < 5; key.stripe++) {
        ck_assert_int_eq(put(&key, 0, 10000), 0);
    }
    ck_assert_int_eq(put(&other, 0, 10000), 0);
    ck_assert_int_eq(delete_object(1, 15, &n), EINVAL);
    ck_assert_int_eq(delete_object(1, 17, &n), EINVAL);
    ck_assert_int_eq(delete_object(1, 16, &n), 0);
    ck_assert_uint_eq(n, 5);
    ck_assert_int_eq(delete_object(1, 16, &n), 0);
    ck_assert_uint_eq(n, 0);
    key.stripe = 2;
    ck_assert_int_eq(get(&key, 10000, 0, 1), ENOENT);
    ck_assert_int_eq(get(&other, 10000, 0, 1), 0);
}
END_TEST

static int list_blocks(const struct block_key *after,
                       uint32_t limit,
                       struct rpc_call *call)
{
    struct wire_key wire;
    Gabion__ListBlocksRequest request;

    gabion__list_blocks_request__init(&request);
    request.cluster = CLUSTER;
    request.after = after != NULL ? wire_key(&wire, after) : NULL;
    request.limit = limit;
    call_node(call, "/gabion.Block/ListBlocks", &request.base,
              &gabion__list_blocks_reply__descriptor);
    return ((const Gabion__ListBlocksReply *)(void *)call->reply)->error;
}

START_TEST(list_can_be_continued)
{
    struct block_key key;
    struct rpc_call call = { .lane = RPC_CONTROL };
    const Gabion__ListBlocksReply *reply;
    uint32_t n = 0;
    bool more = true;

    for (uint32_t i = 0; i < 25; i++) {
        key = fixture_key(1, 24 - i, 2);
        ck_assert_int_eq(put(&key, 0, 100 + key.stripe), 0);
    }
    while (more) {
        ck_assert_int_eq(list_blocks(n > 0 ? &key : NULL, 10, &call), 0);
        reply = (const void *)call.reply;
        for (size_t i = 0; i < reply->n_block; i++, n++) {
            ck_assert_int_eq(
                validate_block_key(reply->block[i]->key, &key, NULL), 0);
            ck_assert_uint_eq(key.object.serial, 1);
            ck_assert_uint_eq(key.stripe, n);
            ck_assert_uint_eq(reply->block[i]->length, 100 + n);
        }
        more = reply->more;
        rpc_call_clear(&call);
    }
    ck_assert_uint_eq(n, 25);
    ck_assert_int_eq(list_blocks(NULL, 0, &call), EINVAL);
    rpc_call_clear(&call);
    ck_assert_int_eq(list_blocks(NULL, 10001, &call), EINVAL);
    rpc_call_clear(&call);
}
END_TEST

START_TEST(figures_are_told)
{
    struct block_key key = fixture_key(1, 0, 0);
    Gabion__NodeStatsRequest request;
    struct rpc_call call = { .lane = RPC_CONTROL };
    const Gabion__NodeStatsReply *reply;

    ck_assert_int_eq(put(&key, 0, 10000), 0);
    gabion__node_stats_request__init(&request);
    request.cluster = CLUSTER;
    call_node(&call, "/gabion.Block/NodeStats", &request.base,
              &gabion__node_stats_reply__descriptor);
    reply = (const void *)call.reply;
    ck_assert_int_eq(reply->error, 0);
    ck_assert_uint_eq(reply->node, 42);
    ck_assert_uint_eq(reply->n_blocks, 1);
    ck_assert_uint_eq(reply->block_bytes, 10000);
    ck_assert_uint_gt(reply->total, reply->available);
    ck_assert_uint_gt(reply->used, 10000);
    ck_assert_uint_ne(reply->filesystem, 0);
    ck_assert_uint_eq(reply->instance, block_store_instance(store));
    rpc_call_clear(&call);
}
END_TEST

START_TEST(full_node_says_so)
{
    struct block_key key = fixture_key(1, 0, 0);

    stop_node();
    fixture_options.reserve = UINT64_MAX / 2;
    start_node();
    ck_assert_int_eq(put(&key, 0, 10000), ENOSPC);
}
END_TEST

START_TEST(damaged_block_is_told)
{
    struct block_key key = fixture_key(1, 0, 0);
    char path[128];
    int fd;

    ck_assert_int_eq(put(&key, 0, 10000), 0);
    ck_assert_int_eq(get(&key, 10000, 0, 1), 0);
    ck_assert(fixture_segment(0, path));
    fd = open(path, O_WRONLY);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pwrite(fd, "x", 1, 40), 1);
    (void)close(fd);
    ck_assert_int_eq(get(&key, 10000, 0, 1), EBADMSG);
    ck_assert_int_eq(put(&key, 0, 10000), 0);
    ck_assert_int_eq(get(&key, 10000, 0, 10000), 0);
}
END_TEST

static Suite *block_service_suite(void)
{
    Suite *suite = suite_create("block_service");
    TCase *tcase = tcase_create("all");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, put_block_can_be_got, 0, N(sizes));
    tcase_add_loop_test(tcase, wrong_put_is_refused, 0, N(wrong_puts));
    tcase_add_test(tcase, other_cluster_is_refused_everywhere);
    tcase_add_test(tcase, sync_tells_the_instance);
    tcase_add_test(tcase, all_waiting_syncs_are_answered);
    tcase_add_test(tcase, gets_and_puts_do_not_wait_for_a_sync);
    tcase_add_test(tcase, deleted_object_is_gone);
    tcase_add_test(tcase, list_can_be_continued);
    tcase_add_test(tcase, figures_are_told);
    tcase_add_test(tcase, full_node_says_so);
    tcase_add_test(tcase, damaged_block_is_told);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(block_service_suite());
    int n_failed;

    srunner_run_all(runner, CK_NORMAL);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
