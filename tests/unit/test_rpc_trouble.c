#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <check.h>
#include <grpc/byte_buffer.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/rpc_client.h"
#include "common/rpc_message.h"
#include "common/rpc_server.h"
#include "tests/unit/rpc_world.h"

/* ------------------------------------------------------------ dead servers */

START_TEST(a_dead_server_fails_fast_and_its_return_is_noticed)
{
    char listen[32];
    int64_t start;

    memcpy(listen, world.address, sizeof listen);
    ck_assert(rpc_peer_is_up(peer));
    ck_assert_int_eq(rpc_sync(ORDER_ANSWER, SOON_MS), 0);
    world_stop(&world);
    start = clock_mono_ms();
    for (int i = 0; i < 20; i++) {
        ck_assert_int_eq(rpc_sync(ORDER_ANSWER, SOON_MS), -EHOSTUNREACH);
        ck_assert(!rpc_peer_is_up(peer));
    }
    ck_assert_int_lt(clock_mono_ms() - start, 1000);
    ck_assert_int_eq(world_start(&world, listen, NULL), 0);
    rpc_sync_until_served(3000);
    ck_assert(rpc_peer_is_up(peer));
    ck_assert_int_eq(rpc_get(peer, RPC_DATA, 5000), 0);
}
END_TEST

START_TEST(a_peer_counts_as_up_again_after_a_second)
{
    world_stop(&world);
    ck_assert_int_eq(rpc_sync(ORDER_ANSWER, SOON_MS), -EHOSTUNREACH);
    ck_assert(!rpc_peer_is_up(peer));
    ck_assert_int_eq(rpc_queue_wait(queue, clock_mono_ms() + 1010), -ETIMEDOUT);
    ck_assert(rpc_peer_is_up(peer));
}
END_TEST

/* A server in a process of its own: this program with one argument. */
static pid_t spawn_server(struct rpc_peer **ret_peer)
{
    char *argv[] = { strdup("test_rpc_trouble"), strdup("serve"), NULL };
    posix_spawn_file_actions_t actions;
    char address[32] = "";
    int out[2];
    pid_t pid;

    ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
    ck_assert_int_eq(posix_spawn_file_actions_init(&actions), 0);
    (void)posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    ck_assert_int_eq(
        posix_spawn(&pid, "/proc/self/exe", &actions, NULL, argv, environ), 0);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(out[1]);
    free(argv[0]);
    free(argv[1]);
    ck_assert_int_gt(read(out[0], address, sizeof address - 1), 0);
    (void)close(out[0]);
    ck_assert_int_eq(rpc_client_peer(client, address, ret_peer), 0);
    return pid;
}

/* Return when every thread of it has stopped: kill() alone does not wait, and
 * a thread still running may answer. */
static void stop_server(pid_t pid)
{
    int status;

    ck_assert_int_eq(kill(pid, SIGSTOP), 0);
    ck_assert_int_eq(waitpid(pid, &status, WUNTRACED), pid);
    ck_assert(WIFSTOPPED(status));
}

/* Outside of Check: nothing here may assert by its means. */
static int serve(void)
{
    if (world_try_open(&world, NULL) != 0 ||
        write(STDOUT_FILENO, world.address, strlen(world.address)) < 0) {
        return EXIT_FAILURE;
    }
    (void)alarm(60); /* ends us should the test have died */
    for (;;) {
        (void)pause();
    }
}

START_TEST(a_stopped_server_costs_the_deadline_at_most)
{
    struct buf *buf = buf_new(4 << 20);
    int64_t start;
    pid_t pid = spawn_server(&peer);

    ck_assert_ptr_nonnull(buf);
    memset(buf->data, 1, buf->size);
    ck_assert_int_eq(rpc_sync(ORDER_ANSWER, SOON_MS), 0);
    ck_assert_int_eq(rpc_put(peer, RPC_DATA, buf, buf->size), 0);
    stop_server(pid);
    start = clock_mono_ms();
    ck_assert_int_eq(rpc_sync(ORDER_ANSWER, 200), -ETIMEDOUT);
    ck_assert_int_lt(clock_mono_ms() - start, 2000);
    /* Keepalive finds it before this deadline. */
    ck_assert_int_eq(rpc_put(peer, RPC_DATA, buf, buf->size), -EHOSTUNREACH);
    ck_assert(!rpc_peer_is_up(peer));
    ck_assert_int_eq(kill(pid, SIGCONT), 0);
    rpc_sync_until_served(5000);
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    start = clock_mono_ms();
    ck_assert_int_eq(rpc_sync(ORDER_ANSWER, SOON_MS), -EHOSTUNREACH);
    ck_assert_int_lt(clock_mono_ms() - start, 2000);
    rpc_unref_last(buf);
}
END_TEST

/* ---------------------------------------------------------------- stopping */

static void *stop(void *context)
{
    struct world *w = context;

    rpc_server_stop(w->server, w->stop_grace_ms);
    __atomic_store_n(&w->has_stopped, true, __ATOMIC_RELEASE);
    return NULL;
}

START_TEST(stop_waits_for_every_answer)
{
    struct rpc_call calls[3] = { 0 };
    pthread_t thread;

    for (size_t i = 0; i < N(calls); i++) {
        rpc_start_sync(queue, peer, &calls[i], ORDER_HOLD,
                       clock_mono_ms() + SOON_MS);
    }
    world_await_held(&world, N(calls));
    world.stop_grace_ms = 50;
    ck_assert_int_eq(pthread_create(&thread, NULL, stop, &world), 0);
    for (size_t i = 0; i < N(calls); i++) {
        rpc_await(&calls[i]);
        ck_assert_int_eq(calls[i].rc, -EHOSTUNREACH);
        rpc_call_clear(&calls[i]);
    }
    ck_assert_int_eq(rpc_queue_wait(queue, clock_mono_ms() + 100), -ETIMEDOUT);
    ck_assert(!__atomic_load_n(&world.has_stopped, __ATOMIC_ACQUIRE));
    world_release(&world);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    rpc_server_free(world.server);
    world.server = NULL;
}
END_TEST

START_TEST(calls_answered_within_the_grace_succeed)
{
    struct rpc_call call = { 0 };
    pthread_t thread;

    rpc_start_sync(queue, peer, &call, ORDER_HOLD, clock_mono_ms() + SOON_MS);
    world_await_held(&world, 1);
    world.stop_grace_ms = SOON_MS;
    ck_assert_int_eq(pthread_create(&thread, NULL, stop, &world), 0);
    ck_assert_int_eq(rpc_queue_wait(queue, clock_mono_ms() + 100), -ETIMEDOUT);
    world_release(&world);
    rpc_await(&call);
    ck_assert_int_eq(call.rc, 0);
    rpc_call_clear(&call);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    rpc_server_free(world.server);
    world.server = NULL;
}
END_TEST

START_TEST(stop_under_load_ends_in_errors_not_in_hangs)
{
    struct loader loaders[4] = { 0 };

    for (size_t i = 0; i < N(loaders); i++) {
        loaders[i].n_calls = 1000000;
        ck_assert_int_eq(
            pthread_create(&loaders[i].thread, NULL, rpc_load, &loaders[i]), 0);
    }
    (void)rpc_queue_wait(queue, clock_mono_ms() + 50 + (int64_t)_i * 7);
    world_stop(&world);
    for (size_t i = 0; i < N(loaders); i++) {
        ck_assert_int_eq(pthread_join(loaders[i].thread, NULL), 0);
        ck_assert_int_eq(loaders[i].bad_rc, -EHOSTUNREACH);
    }
}
END_TEST

/* ----------------------------------------------------------- hostile peers */

/* A call with these very bytes as its message; returns the status. */
static grpc_status_code raw_call(const uint8_t *data, size_t size)
{
    grpc_completion_queue *cq = grpc_completion_queue_create_for_pluck(NULL);
    grpc_channel_credentials *credentials = grpc_insecure_credentials_create();
    grpc_channel *channel =
        grpc_channel_create(world.address, credentials, NULL);
    grpc_call *call = grpc_channel_create_call(
        channel, NULL, GRPC_PROPAGATE_DEFAULTS, cq,
        grpc_slice_from_static_string("/gabion.Block/PutBlock"), NULL,
        gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                     gpr_time_from_millis(SOON_MS, GPR_TIMESPAN)),
        NULL);
    grpc_slice slice = grpc_slice_from_copied_buffer((const char *)data, size);
    grpc_byte_buffer *message = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_byte_buffer *answer = NULL;
    grpc_metadata_array initial;
    grpc_metadata_array trailing;
    grpc_slice details;
    grpc_status_code status;
    grpc_op ops[6];

    memset(ops, 0, sizeof ops);
    grpc_metadata_array_init(&initial);
    grpc_metadata_array_init(&trailing);
    ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
    ops[1].op = GRPC_OP_SEND_MESSAGE;
    ops[1].data.send_message.send_message = message;
    ops[2].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
    ops[3].op = GRPC_OP_RECV_STATUS_ON_CLIENT;
    ops[3].data.recv_status_on_client.trailing_metadata = &trailing;
    ops[3].data.recv_status_on_client.status = &status;
    ops[3].data.recv_status_on_client.status_details = &details;
    ops[4].op = GRPC_OP_RECV_INITIAL_METADATA;
    ops[4].data.recv_initial_metadata.recv_initial_metadata = &initial;
    ops[5].op = GRPC_OP_RECV_MESSAGE;
    ops[5].data.recv_message.recv_message = &answer;
    ck_assert_int_eq(grpc_call_start_batch(call, ops, N(ops), ops, NULL),
                     GRPC_CALL_OK);
    (void)grpc_completion_queue_pluck(
        cq, ops, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    ck_assert_ptr_null(answer);
    grpc_metadata_array_destroy(&initial);
    grpc_metadata_array_destroy(&trailing);
    grpc_slice_unref(details);
    grpc_slice_unref(slice);
    grpc_byte_buffer_destroy(message);
    grpc_call_unref(call);
    grpc_channel_destroy(channel);
    grpc_channel_credentials_release(credentials);
    grpc_completion_queue_shutdown(cq);
    grpc_completion_queue_destroy(cq);
    return status;
}

START_TEST(malformed_bytes_are_refused)
{
    uint8_t data[200];
    unsigned seed = 1;

    for (int i = 0; i < 20; i++) {
        for (size_t j = 0; j < sizeof data; j++) {
            data[j] = (uint8_t)rand_r(&seed); /* NOLINT: repeatable */
        }
        data[0] = 0x12; /* a key that is longer than all */
        data[1] = 0xff;
        data[2] = 0x7f;
        ck_assert_int_eq(raw_call(data, sizeof data),
                         GRPC_STATUS_INVALID_ARGUMENT);
    }
    ck_assert_int_eq(rpc_sync(ORDER_ANSWER, SOON_MS), 0);
}
END_TEST

START_TEST(a_peer_that_ignores_the_limit_is_refused)
{
    uint8_t *data = calloc(1, RPC_MESSAGE_SIZE_MAX + 1);

    ck_assert_ptr_nonnull(data);
    ck_assert_int_eq(raw_call(data, RPC_MESSAGE_SIZE_MAX + 1),
                     GRPC_STATUS_RESOURCE_EXHAUSTED);
    free(data);
}
END_TEST

/* Send bytes to the port and wait until the server hangs up or falls silent. */
static void send_garbage(const char *data, size_t size)
{
    struct sockaddr_in addr = { .sin_family = AF_INET,
                                .sin_port = htons(
                                    (uint16_t)rpc_server_port(world.server)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct timeval limit = { .tv_usec = 200000 };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char answer[512];

    ck_assert_int_ge(fd, 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    (void)send(fd, data, size, MSG_NOSIGNAL);
    while (recv(fd, answer, sizeof answer, 0) > 0) {
    }
    (void)close(fd);
}

START_TEST(garbage_on_the_port_does_no_harm)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                                  "\xff\xff\xff\x05\xff\xff\xff\xff\xff junk";
    static const char http[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    char noise[4096];
    unsigned seed = 7;

    for (size_t i = 0; i < sizeof noise; i++) {
        noise[i] = (char)rand_r(&seed); /* NOLINT: repeatable */
    }
    send_garbage(noise, sizeof noise);
    send_garbage(http, sizeof http - 1);
    send_garbage(preface, sizeof preface - 1);
    send_garbage("", 0);
    ck_assert_int_eq(rpc_sync(ORDER_ANSWER, SOON_MS), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("rpc_trouble");
    TCase *tc = tcase_create("rpc_trouble");

    tcase_add_checked_fixture(tc, rpc_setup, rpc_teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, a_dead_server_fails_fast_and_its_return_is_noticed);
    tcase_add_test(tc, a_peer_counts_as_up_again_after_a_second);
    tcase_add_test(tc, a_stopped_server_costs_the_deadline_at_most);
    tcase_add_test(tc, stop_waits_for_every_answer);
    tcase_add_test(tc, calls_answered_within_the_grace_succeed);
    tcase_add_loop_test(tc, stop_under_load_ends_in_errors_not_in_hangs, 0, 5);
    tcase_add_test(tc, malformed_bytes_are_refused);
    tcase_add_test(tc, a_peer_that_ignores_the_limit_is_refused);
    tcase_add_test(tc, garbage_on_the_port_does_no_harm);
    suite_add_tcase(s, tc);
    return s;
}

int main(int argc, char **argv)
{
    SRunner *runner;
    int n_failed;

    if (argc == 2 && strcmp(argv[1], "serve") == 0) {
        return serve();
    }
    runner = srunner_create(suite());
    srunner_run_all(runner, CK_ENV);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
