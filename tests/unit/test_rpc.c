#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <check.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/rpc_client.h"
#include "common/rpc_message.h"
#include "common/rpc_server.h"
#include "proto/block.pb-c.h"
#include "tests/unit/rpc_world.h"

/* ------------------------------------------------------------- round trips */

static const size_t sizes[] = { 0, 1, 4095, 256 << 10, 1 << 20 };

START_TEST(payload_arrives_whole)
{
    size_t size = sizes[(size_t)_i / 2];
    enum rpc_lane lane = _i % 2 == 0 ? RPC_CONTROL : RPC_DATA;
    struct buf *buf = buf_new(size + 1);

    ck_assert_ptr_nonnull(buf);
    rpc_fill(buf->data, size);
    ck_assert_int_eq(rpc_put(peer, lane, buf, size), 0);
    ck_assert_int_eq(rpc_get(peer, lane, size), 0);
    rpc_unref_last(buf);
}
END_TEST

START_TEST(a_handler_may_answer_from_another_thread)
{
    for (int i = 0; i < 50; i++) {
        ck_assert_int_eq(rpc_sync(ORDER_DEFER, SOON_MS), 0);
    }
}
END_TEST

static const struct {
    int refused;
    int seen;
} refusals[] = { { EINVAL, -EINVAL }, { EACCES, -EACCES }, { ENOSYS, -ENOSYS },
                 { ENOMEM, -EAGAIN }, { EAGAIN, -EAGAIN }, { EIO, -EPROTO } };

START_TEST(a_refusal_reaches_the_caller)
{
    ck_assert_int_eq(
        rpc_sync(ORDER_REFUSE + (uint64_t)refusals[_i].refused, SOON_MS),
        refusals[_i].seen);
    ck_assert(rpc_peer_is_up(peer));
}
END_TEST

START_TEST(an_unknown_method_is_ENOSYS)
{
    for (int i = 0; i < 5; i++) {
        Gabion__SyncBlocksRequest request = GABION__SYNC_BLOCKS_REQUEST__INIT;
        struct rpc_call call = { .method = "/gabion.Block/Nonsense",
                                 .request = &request.base,
                                 .reply_type =
                                     &gabion__sync_blocks_reply__descriptor,
                                 .deadline_ms = clock_mono_ms() + SOON_MS };

        ck_assert_int_eq(rpc_call_sync(client, peer, &call), -ENOSYS);
        ck_assert_ptr_null(call.reply);
        rpc_call_clear(&call);
    }
}
END_TEST

START_TEST(an_answer_of_another_type_is_EPROTO)
{
    Gabion__SyncBlocksRequest request = GABION__SYNC_BLOCKS_REQUEST__INIT;
    struct rpc_call call = { .method = "/gabion.Block/SyncBlocks",
                             .request = &request.base,
                             .reply_type = &gabion__block_key__descriptor,
                             .deadline_ms = clock_mono_ms() + SOON_MS };

    ck_assert_int_eq(rpc_call_sync(client, peer, &call), -EPROTO);
    ck_assert_ptr_null(call.reply);
    rpc_call_clear(&call);
}
END_TEST

START_TEST(a_message_too_large_is_EMSGSIZE)
{
    struct buf *buf = buf_new(RPC_MESSAGE_SIZE_MAX);

    ck_assert_ptr_nonnull(buf);
    memset(buf->data, 1, buf->size);
    ck_assert_int_eq(rpc_put(peer, RPC_DATA, buf, RPC_MESSAGE_SIZE_MAX),
                     -EMSGSIZE);
    ck_assert_int_eq(rpc_put(peer, RPC_DATA, buf, RPC_MESSAGE_SIZE_MAX - 4096),
                     0);
    ck_assert_int_eq(rpc_get(peer, RPC_DATA, RPC_MESSAGE_SIZE_MAX), -EMSGSIZE);
    ck_assert_int_eq(rpc_get(peer, RPC_DATA, RPC_MESSAGE_SIZE_MAX - 4096), 0);
    buf_unref(buf);
}
END_TEST

START_TEST(peers_are_made_once)
{
    struct rpc_peer *again;

    ck_assert_int_eq(rpc_client_peer(client, world.address, &again), 0);
    ck_assert_ptr_eq(again, peer);
    ck_assert_str_eq(rpc_peer_address(again), world.address);
    ck_assert_int_eq(rpc_client_peer(client, "nonsense", &again), -EINVAL);
}
END_TEST

/* ---------------------------------------------------- deadlines and cancel */

START_TEST(a_missed_deadline_is_ETIMEDOUT)
{
    int64_t start = clock_mono_ms();

    ck_assert_int_eq(rpc_sync(ORDER_HOLD, 150), -ETIMEDOUT);
    ck_assert_int_ge(clock_mono_ms() - start, 140);
    ck_assert_int_lt(clock_mono_ms() - start, SOON_MS);
    ck_assert_int_eq(rpc_sync(ORDER_ANSWER, -1), -ETIMEDOUT);
    ck_assert(rpc_peer_is_up(peer));
}
END_TEST

START_TEST(cancelling_ends_a_call)
{
    int n_done = 0;
    struct rpc_call call = { .done = rpc_count_done, .context = &n_done };

    rpc_start_sync(queue, peer, &call, ORDER_HOLD, clock_mono_ms() + SOON_MS);
    world_await_held(&world, 1);
    rpc_call_cancel(&call);
    rpc_call_cancel(&call);
    rpc_await(&call);
    ck_assert_int_eq(call.rc, -ECANCELED);
    ck_assert_int_eq(n_done, 1);
    rpc_call_cancel(&call);
    rpc_call_clear(&call);
    ck_assert_int_eq(rpc_sync(ORDER_ANSWER, SOON_MS), 0);
}
END_TEST

START_TEST(freeing_a_queue_ends_its_calls)
{
    int n_done = 0;
    struct rpc_call calls[3];
    struct rpc_queue *own;

    ck_assert_int_eq(rpc_queue_new(client, &own), 0);
    for (size_t i = 0; i < N(calls); i++) {
        calls[i] =
            (struct rpc_call){ .done = rpc_count_done, .context = &n_done };
        rpc_start_sync(own, peer, &calls[i], ORDER_HOLD,
                       clock_mono_ms() + SOON_MS);
    }
    world_await_held(&world, N(calls));
    rpc_queue_free(own);
    ck_assert_int_eq(n_done, N(calls));
    for (size_t i = 0; i < N(calls); i++) {
        ck_assert_int_eq(calls[i].rc, -ECANCELED);
        rpc_call_clear(&calls[i]);
    }
}
END_TEST

static void start_again(struct rpc_call *call)
{
    int *n_left = call->context;

    rpc_call_clear(call);
    if ((*n_left)-- > 0) {
        rpc_start_sync(queue, peer, call, ORDER_ANSWER,
                       clock_mono_ms() + SOON_MS);
    }
}

START_TEST(done_may_start_the_call_again)
{
    int n_left = 5;
    struct rpc_call call = { .done = start_again, .context = &n_left };

    rpc_start_sync(queue, peer, &call, ORDER_ANSWER, clock_mono_ms() + SOON_MS);
    rpc_await(&call);
    ck_assert_int_eq(n_left, -1);
}
END_TEST

START_TEST(waiting_for_nothing_times_out)
{
    int64_t start = clock_mono_ms();

    ck_assert_int_eq(rpc_queue_wait(queue, start + 50), -ETIMEDOUT);
    ck_assert_int_ge(clock_mono_ms() - start, 49);
    ck_assert_int_eq(rpc_queue_wait(queue, 0), -ETIMEDOUT);
}
END_TEST

/* ----------------------------------------------------------------- fan-out */

START_TEST(any_4_of_6_servers_are_enough)
{
    struct world worlds[6];
    struct rpc_call calls[6] = { 0 };
    int n_done = 0;

    for (size_t i = 0; i < N(worlds); i++) {
        struct rpc_peer *to;

        world_open(&worlds[i]);
        ck_assert_int_eq(rpc_client_peer(client, worlds[i].address, &to), 0);
        calls[i].done = rpc_count_done;
        calls[i].context = &n_done;
        rpc_start_sync(queue, to, &calls[i], i < 2 ? ORDER_HOLD : ORDER_ANSWER,
                       clock_mono_ms() + SOON_MS);
    }
    while (n_done < 4) {
        ck_assert_int_eq(rpc_queue_wait(queue, clock_mono_ms() + SOON_MS), 0);
    }
    for (size_t i = 0; i < N(calls); i++) {
        ck_assert_int_eq(calls[i].is_finished, i >= 2);
        rpc_call_cancel(&calls[i]);
        rpc_await(&calls[i]);
        ck_assert_int_eq(calls[i].rc, i < 2 ? -ECANCELED : 0);
        rpc_call_clear(&calls[i]);
    }
    ck_assert_int_eq(n_done, 6);
    for (size_t i = 0; i < N(worlds); i++) {
        world_close(&worlds[i]);
    }
}
END_TEST

START_TEST(many_threads_share_a_peer)
{
    struct loader loaders[8] = { 0 };

    for (size_t i = 0; i < N(loaders); i++) {
        loaders[i].n_calls = 300;
        ck_assert_int_eq(
            pthread_create(&loaders[i].thread, NULL, rpc_load, &loaders[i]), 0);
    }
    for (size_t i = 0; i < N(loaders); i++) {
        ck_assert_int_eq(pthread_join(loaders[i].thread, NULL), 0);
        ck_assert_int_eq(loaders[i].bad_rc, 0);
        ck_assert_uint_eq(loaders[i].n_ok, loaders[i].n_calls);
    }
}
END_TEST

/* ------------------------------------------------------------------- set-up */

START_TEST(a_port_in_use_is_told)
{
    struct rpc_server *second;
    struct errmsg msg = { "" };
    char expected[128];

    (void)snprintf(expected, sizeof expected,
                   "cannot listen at %s: the port is in use by another program",
                   world.address);
    ck_assert_int_eq(rpc_server_new(world.address, NULL, 0, 1, &second, &msg),
                     -EADDRINUSE);
    ck_assert_str_eq(msg.text, expected);
    ck_assert_int_eq(rpc_sync(ORDER_ANSWER, SOON_MS), 0);
}
END_TEST

static void on_any(struct rpc_request *request, void *context)
{
    (void)context;
    rpc_refuse(request, -ENOSYS, "never served");
}

START_TEST(bad_arguments_are_EINVAL)
{
    static const struct rpc_method twice[] = {
        { "/a/B", &gabion__block_key__descriptor, on_any, NULL },
        { "/a/B", &gabion__block_key__descriptor, on_any, NULL },
    };
    struct rpc_server *server;
    struct errmsg msg = { "" };

    ck_assert_int_eq(rpc_server_new("nonsense", NULL, 0, 1, &server, &msg),
                     -EINVAL);
    ck_assert_str_eq(
        msg.text, "cannot listen at nonsense: not an address like host:port");
    ck_assert_int_eq(rpc_server_new("127.0.0.1:0", NULL, 0, 0, &server, &msg),
                     -EINVAL);
    ck_assert_int_eq(rpc_server_new("127.0.0.1:0", twice, 2, 1, &server, &msg),
                     -EINVAL);
}
END_TEST

START_TEST(a_server_never_started_can_be_freed)
{
    struct rpc_server *server;

    ck_assert_int_eq(rpc_server_new("127.0.0.1:0", NULL, 0, 2, &server, NULL),
                     0);
    ck_assert_int_gt(rpc_server_port(server), 0);
    rpc_server_free(server);
    rpc_server_free(NULL);
    rpc_client_free(NULL);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("rpc");
    TCase *tc = tcase_create("rpc");

    tcase_add_checked_fixture(tc, rpc_setup, rpc_teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, payload_arrives_whole, 0, (int)(2 * N(sizes)));
    tcase_add_test(tc, a_handler_may_answer_from_another_thread);
    tcase_add_loop_test(tc, a_refusal_reaches_the_caller, 0, (int)N(refusals));
    tcase_add_test(tc, an_unknown_method_is_ENOSYS);
    tcase_add_test(tc, an_answer_of_another_type_is_EPROTO);
    tcase_add_test(tc, a_message_too_large_is_EMSGSIZE);
    tcase_add_test(tc, peers_are_made_once);
    tcase_add_test(tc, a_missed_deadline_is_ETIMEDOUT);
    tcase_add_test(tc, cancelling_ends_a_call);
    tcase_add_test(tc, freeing_a_queue_ends_its_calls);
    tcase_add_test(tc, done_may_start_the_call_again);
    tcase_add_test(tc, waiting_for_nothing_times_out);
    tcase_add_test(tc, many_threads_share_a_peer);
    tcase_add_test(tc, any_4_of_6_servers_are_enough);
    tcase_add_test(tc, a_port_in_use_is_told);
    tcase_add_test(tc, bad_arguments_are_EINVAL);
    tcase_add_test(tc, a_server_never_started_can_be_freed);
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
