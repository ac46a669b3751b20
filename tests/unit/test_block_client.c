/* The block client against a server that answers as the test tells it. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <check.h>

#include "common/checksum.h"
#include "common/clock.h"
#include "common/rpc_server.h"
#include "proto/block.pb-c.h"
#include "proto/block_client.h"

#define BLOCK_SIZE 20000u
#define GUARD      64u
#define GUARD_BYTE 0xa5
#define CLUSTER_ID 0xfeedu

/* How the server is to answer a GET. */
struct script {
    const char *claim;
    int32_t error;
    uint32_t block_length;
    uint32_t offset;
    uint32_t payload_size;
    uint32_t n_checksum;
    bool is_damaged;
    int rc; /* what must come of it */
    uint32_t result_length;
};

struct fixture {
    struct rpc_server *server;
    struct rpc_client *rpc;
    struct cluster_map map;
    struct cluster_node nodes[2]; /* 1 is the server, 9 nobody */
    struct block_client *client;
    struct block_io *io;
    struct buf *block; /* what the server has */
    struct script script;
    int32_t error;            /* of PUT and SYNC */
    bool is_hung;             /* keep requests instead of answering them */
    struct rpc_request *held; /* owned */
    char problem[128];        /* what the server did not like about a request */
    unsigned n_done;
};

static struct fixture f;

static void note_problem(bool is_right, const char *what)
{
    if (!is_right) {
        (void)snprintf(f.problem, sizeof f.problem, "%s", what);
    }
}

static bool hold(struct rpc_request *request)
{
    if (f.is_hung) {
        assert(f.held == NULL);
        f.held = request;
    }
    return f.is_hung;
}

static void check_key(const Gabion__BlockKey *key)
{
    static const uint8_t object[16] = { 0, 0, 0, 0, 0, 0, 0, 7,
                                        0, 0, 0, 0, 0, 0, 1, 2 };

    note_problem(key != NULL && key->object.len == sizeof object &&
                     memcmp(key->object.data, object, sizeof object) == 0,
                 "object");
    note_problem(key != NULL && key->stripe == 3 && key->index == 5, "key");
}

static void handle_get(struct rpc_request *request, void *context)
{
    const Gabion__GetBlockRequest *get =
        (const void *)rpc_request_message(request);
    Gabion__GetBlockReply reply;
    uint32_t checksums[256] = { 0 };
    size_t from = f.script.offset;

    (void)context;
    gabion__get_block_reply__init(&reply);
    if (hold(request)) {
        return;
    }
    check_key(get->key);
    note_problem(get->cluster == CLUSTER_ID, "cluster");
    if (from + f.script.payload_size > f.block->size) {
        from = 0;
    } else if (f.script.payload_size <= BLOCK_SIZE) {
        checksum_compute(f.block->data + from, f.script.payload_size,
                         checksums);
    }
    checksums[0] += f.script.is_damaged;
    reply.error = f.script.error;
    reply.block_length = f.script.block_length;
    reply.offset = f.script.offset;
    reply.checksum = checksums;
    reply.n_checksum = f.script.n_checksum;
    rpc_reply(request, &reply.base, f.block, from, f.script.payload_size);
}

static void handle_put(struct rpc_request *request, void *context)
{
    const Gabion__PutBlockRequest *put =
        (const void *)rpc_request_message(request);
    Gabion__PutBlockReply reply;
    const struct iovec *iov;
    size_t n = rpc_request_payload_iov(request, &iov);
    uint8_t *bytes = malloc(BLOCK_SIZE);
    size_t size = 0;

    (void)context;
    gabion__put_block_reply__init(&reply);
    assert(bytes != NULL);
    check_key(put->key);
    note_problem(put->cluster == CLUSTER_ID, "cluster");
    note_problem(put->length == BLOCK_SIZE, "length");
    note_problem(rpc_request_payload_size(request) == BLOCK_SIZE, "payload");
    note_problem(put->n_checksum == checksum_units(BLOCK_SIZE), "checksums");
    for (size_t i = 0; i < n && size + iov[i].iov_len <= BLOCK_SIZE; i++) {
        memcpy(bytes + size, iov[i].iov_base, iov[i].iov_len);
        size += iov[i].iov_len;
    }
    note_problem(size == BLOCK_SIZE &&
                     checksum_verify(bytes, size, put->checksum) < 0,
                 "bytes");
    free(bytes);
    reply.error = f.error;
    reply.instance = 4711;
    rpc_reply(request, &reply.base, NULL, 0, 0);
}

static void handle_sync(struct rpc_request *request, void *context)
{
    const Gabion__SyncBlocksRequest *sync =
        (const void *)rpc_request_message(request);
    Gabion__SyncBlocksReply reply;

    (void)context;
    gabion__sync_blocks_reply__init(&reply);
    note_problem(sync->cluster == CLUSTER_ID, "cluster");
    reply.error = f.error;
    reply.instance = 4712;
    rpc_reply(request, &reply.base, NULL, 0, 0);
}

static void set_up(void)
{
    static const struct rpc_method methods[] = {
        { "/gabion.Block/GetBlock", &gabion__get_block_request__descriptor,
          handle_get, NULL },
        { "/gabion.Block/PutBlock", &gabion__put_block_request__descriptor,
          handle_put, NULL },
        { "/gabion.Block/SyncBlocks", &gabion__sync_blocks_request__descriptor,
          handle_sync, NULL },
    };
    struct errmsg msg;
    char address[64];

    memset(&f, 0, sizeof f);
    ck_assert_int_eq(
        rpc_server_new("127.0.0.1:0", methods, 3, 1, &f.server, &msg), 0);
    ck_assert_int_eq(rpc_server_start(f.server), 0);
    (void)snprintf(address, sizeof address, "127.0.0.1:%d",
                   rpc_server_port(f.server));
    f.nodes[0].id = 1;
    f.nodes[0].address = strdup(address);
    f.nodes[1].id = 9;
    f.nodes[1].address = strdup("127.0.0.1:1");
    f.map.id = CLUSTER_ID;
    f.map.nodes = f.nodes;
    f.map.n_nodes = 2;
    f.block = buf_new(5u << 20);
    assert(f.block != NULL);
    for (size_t i = 0; i < f.block->size; i++) {
        f.block->data[i] = (uint8_t)(i * i >> 3);
    }
    ck_assert_int_eq(rpc_client_new(true, &f.rpc), 0);
    ck_assert_int_eq(block_client_new(f.rpc, &f.map, &f.client), 0);
    f.io = block_client_io(f.client);
}

static void tear_down(void)
{
    if (f.held != NULL) {
        rpc_refuse(f.held, -EAGAIN, "held");
    }
    block_client_free(f.client);
    rpc_client_free(f.rpc);
    rpc_server_stop(f.server, 100);
    rpc_server_free(f.server);
    buf_unref(f.block);
    free(f.nodes[0].address);
    free(f.nodes[1].address);
}

static void count_done(struct block_op *op)
{
    (void)op;
    f.n_done++;
}

static void prepare(struct block_op *op, enum block_op_type type, uint32_t node)
{
    memset(op, 0, sizeof *op);
    op->type = type;
    op->node = node;
    op->key.object.session = 7;
    op->key.object.serial = 0x102;
    op->key.stripe = 3;
    op->key.index = 5;
    op->deadline_ms = clock_mono_ms() + 5000;
    op->done = count_done;
}

static int finish(struct block_op *op)
{
    unsigned before = f.n_done;

    while (f.n_done == before) {
        ck_assert_int_eq(
            f.io->wait(f.io, f.io->queue(f.io), clock_mono_ms() + 10000), 0);
    }
    ck_assert_str_eq(f.problem, "");
    return op->rc;
}

static int run(struct block_op *op)
{
    f.io->start(f.io, f.io->queue(f.io), op);
    return finish(op);
}

/* Answers to a GET of 8192 bytes at 4096. */
static const struct script scripts[] = {
    { "a right answer", 0, BLOCK_SIZE, 4096, 8192, 2, 0, 0, 8192 },
    { "a right short one", 0, 10000, 4096, 5904, 2, 0, 0, 5904 },
    { "cut at a unit", 0, 8192, 4096, 4096, 1, 0, 0, 4096 },
    { "longer than asked", 0, BLOCK_SIZE, 4096, 12288, 3, 0, -EPROTO, 0 },
    { "far too long", 0, BLOCK_SIZE, 4096, 4 << 20, 2, 0, -EPROTO, 0 },
    { "cut without need", 0, BLOCK_SIZE, 4096, 4096, 1, 0, -EPROTO, 0 },
    { "an odd length", 0, BLOCK_SIZE, 4096, 8191, 2, 0, -EPROTO, 0 },
    { "no bytes", 0, BLOCK_SIZE, 4096, 0, 0, 0, -EPROTO, 0 },
    { "no bytes, checksums", 0, BLOCK_SIZE, 4096, 0, 2, 0, -EPROTO, 0 },
    { "another offset", 0, BLOCK_SIZE, 0, 8192, 2, 0, -EPROTO, 0 },
    { "an odd offset", 0, BLOCK_SIZE, 4097, 8192, 2, 0, -EPROTO, 0 },
    { "a huge offset", 0, BLOCK_SIZE, UINT32_MAX, 8192, 2, 0, -EPROTO, 0 },
    { "a block of nothing", 0, 0, 4096, 8192, 2, 0, -EPROTO, 0 },
    { "a block before it", 0, 4096, 4096, 8192, 2, 0, -EPROTO, 0 },
    { "a huge block", 0, UINT32_MAX, 4096, 8192, 2, 0, -EPROTO, 0 },
    { "a checksum short", 0, BLOCK_SIZE, 4096, 8192, 1, 0, -EPROTO, 0 },
    { "no checksums", 0, BLOCK_SIZE, 4096, 8192, 0, 0, -EPROTO, 0 },
    { "too many checksums", 0, BLOCK_SIZE, 4096, 8192, 256, 0, -EPROTO, 0 },
    { "a wrong checksum", 0, BLOCK_SIZE, 4096, 8192, 2, 1, -EBADMSG, 0 },
    { "not found", ENOENT, 0, 0, 0, 0, 0, -ENOENT, 0 },
    { "damaged", EBADMSG, BLOCK_SIZE, 4096, 8192, 2, 0, -EBADMSG, 0 },
    { "another cluster", ESTALE, 0, 0, 0, 0, 0, -ESTALE, 0 },
    { "invalid", EINVAL, 0, 0, 0, 0, 0, -EPROTO, 0 },
    { "no such error", 9999, 0, 0, 0, 0, 0, -EPROTO, 0 },
    { "a negative error", -ENOENT, 0, 0, 0, 0, 0, -EPROTO, 0 },
    { "the least error", INT32_MIN, 0, 0, 0, 0, 0, -EPROTO, 0 },
};

START_TEST(only_right_answers_to_a_get_are_taken)
{
    const struct script *script = &scripts[_i];
    uint8_t memory[8192 + 2 * GUARD];
    struct block_op op;

    f.script = *script;
    memset(memory, GUARD_BYTE, sizeof memory);
    prepare(&op, BLOCK_GET, 1);
    op.offset = 4096;
    op.length = 8192;
    op.target = memory + GUARD;
    ck_assert_msg(run(&op) == script->rc, "%s: %d", script->claim, op.rc);
    ck_assert_uint_eq(op.result_length, script->result_length);
    if (script->rc == 0) {
        ck_assert(memcmp(op.target, f.block->data + 4096, op.result_length) ==
                  0);
    }
    for (size_t i = 0; i < GUARD; i++) {
        ck_assert_uint_eq(memory[i], GUARD_BYTE);
        ck_assert_uint_eq(memory[GUARD + 8192 + i], GUARD_BYTE);
    }
}
END_TEST

START_TEST(part_of_a_unit_is_checked_as_a_whole)
{
    uint8_t memory[8192];
    struct block_op op;

    f.script = scripts[0];
    f.script.is_damaged = _i == 2;
    prepare(&op, BLOCK_GET, 1);
    op.offset = 4096;
    op.length = 4096 + (_i ? 100 : 4000);
    op.target = memory;
    memory[op.length] = GUARD_BYTE;
    ck_assert_int_eq(run(&op), _i == 2 ? -EBADMSG : 0);
    ck_assert_uint_eq(op.result_length, _i == 2 ? 0 : op.length);
    ck_assert(_i == 2 || memcmp(memory, f.block->data + 4096, op.length) == 0);
    ck_assert_uint_eq(memory[op.length], GUARD_BYTE);
}
END_TEST

static const struct {
    int32_t error;
    int rc;
} errors[] = {
    { 0, 0 },
    { ENOSPC, -ENOSPC },
    { EBADMSG, -EBADMSG },
    { EEXIST, -EEXIST },
    { EIO, -EIO },
    { ESTALE, -ESTALE },
    { EINVAL, -EPROTO },
    { -1, -EPROTO },
    { INT32_MAX, -EPROTO },
};

START_TEST(a_put_carries_key_bytes_and_checksums)
{
    uint32_t checksums[8];
    struct block_op op;

    f.error = errors[_i].error;
    checksum_compute(f.block->data + 64, BLOCK_SIZE, checksums);
    prepare(&op, BLOCK_PUT, 1);
    op.buf = f.block;
    op.buf_offset = 64;
    op.length = BLOCK_SIZE;
    op.checksums = checksums;
    ck_assert_int_eq(run(&op), errors[_i].rc);
    ck_assert_uint_eq(op.result_instance, 4711);
}
END_TEST

START_TEST(a_sync_tells_the_instance)
{
    struct block_op op;

    f.error = errors[_i].error;
    prepare(&op, BLOCK_SYNC, 1);
    ck_assert_int_eq(run(&op), errors[_i].rc);
    ck_assert_uint_eq(op.result_instance, 4712);
}
END_TEST

START_TEST(an_unknown_node_fails_from_wait_not_from_start)
{
    struct block_op ops[3];

    for (int i = 0; i < 3; i++) {
        prepare(&ops[i], BLOCK_SYNC, 5);
        f.io->start(f.io, f.io->queue(f.io), &ops[i]);
        f.io->cancel(f.io, &ops[i]);
    }
    ck_assert_uint_eq(f.n_done, 0);
    for (int i = 0; i < 3; i++) {
        (void)f.io->wait(f.io, f.io->queue(f.io), clock_mono_ms() + 10000);
    }
    ck_assert_uint_eq(f.n_done, 3);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(ops[i].rc, -EHOSTUNREACH);
    }
    ck_assert(!f.io->is_up(f.io, 5));
}
END_TEST

START_TEST(a_node_that_refuses_connections_is_not_up)
{
    struct block_op op;

    ck_assert(f.io->is_up(f.io, 9));
    prepare(&op, BLOCK_SYNC, 9);
    ck_assert_int_eq(run(&op), -EHOSTUNREACH);
    ck_assert(!f.io->is_up(f.io, 9));
    ck_assert(f.io->is_up(f.io, 1));
}
END_TEST

START_TEST(cancel_and_deadline_end_a_transfer_that_hangs)
{
    int64_t begin_ms = clock_mono_ms();
    uint8_t memory[4096];
    struct block_op op;

    f.is_hung = true;
    prepare(&op, BLOCK_GET, 1);
    op.length = sizeof memory;
    op.target = memory;
    if (_i) {
        f.io->start(f.io, f.io->queue(f.io), &op);
        ck_assert_int_eq(f.io->wait(f.io, f.io->queue(f.io), begin_ms + 200),
                         -ETIMEDOUT);
        f.io->cancel(f.io, &op);
        ck_assert_int_eq(finish(&op), -ECANCELED);
    } else {
        op.deadline_ms = begin_ms + 200;
        ck_assert_int_eq(run(&op), -ETIMEDOUT);
    }
    ck_assert_int_lt(clock_mono_ms() - begin_ms, 2000);
    ck_assert(f.io->is_up(f.io, 1)); /* so soon it says nothing */
}
END_TEST

START_TEST(a_node_that_does_not_answer_is_not_up_until_it_does)
{
    uint8_t memory[4096];
    struct block_op get;
    struct block_op sync;

    f.is_hung = true;
    prepare(&get, BLOCK_GET, 1);
    get.length = sizeof memory;
    get.target = memory;
    f.io->start(f.io, f.io->queue(f.io), &get);
    ck_assert_int_eq(
        f.io->wait(f.io, f.io->queue(f.io), clock_mono_ms() + 1600),
        -ETIMEDOUT);
    ck_assert(f.io->is_up(f.io, 1));
    f.io->cancel(f.io, &get);
    ck_assert_int_eq(finish(&get), -ECANCELED);
    ck_assert(!f.io->is_up(f.io, 1));
    if (_i) { /* asked in spite of that */
        prepare(&sync, BLOCK_SYNC, 1);
        ck_assert_int_eq(run(&sync), 0);
    }
    for (int i = 0; !f.io->is_up(f.io, 1); i++) {
        ck_assert_int_lt(i, _i ? 0 : 200);
        (void)f.io->wait(f.io, f.io->queue(f.io), clock_mono_ms() + 50);
    }
}
END_TEST

static Suite *block_client_suite(void)
{
    const int n_scripts = sizeof scripts / sizeof scripts[0];
    const int n_errors = sizeof errors / sizeof errors[0];
    Suite *suite = suite_create("block_client");
    TCase *tcase = tcase_create("against a server");

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_set_timeout(tcase, 30);
    tcase_add_loop_test(tcase, only_right_answers_to_a_get_are_taken, 0,
                        n_scripts);
    tcase_add_loop_test(tcase, part_of_a_unit_is_checked_as_a_whole, 0, 3);
    tcase_add_loop_test(tcase, a_put_carries_key_bytes_and_checksums, 0,
                        n_errors);
    tcase_add_loop_test(tcase, a_sync_tells_the_instance, 0, n_errors);
    tcase_add_test(tcase, an_unknown_node_fails_from_wait_not_from_start);
    tcase_add_test(tcase, a_node_that_refuses_connections_is_not_up);
    tcase_add_loop_test(tcase, cancel_and_deadline_end_a_transfer_that_hangs, 0,
                        2);
    tcase_add_loop_test(
        tcase, a_node_that_does_not_answer_is_not_up_until_it_does, 0, 2);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(block_client_suite());
    int n_failed;

    srunner_run_all(runner, CK_ENV);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
