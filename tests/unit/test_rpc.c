#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
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
#include "proto/block.pb-c.h"

#define N(array) (sizeof(array) / sizeof *(array))

/* Generous, for machines under load; nothing waits this long when all is well.
 */
#define SOON_MS 10000

extern char **environ;

/* ---------------------------------------------------------------- a server
 *
 * PutBlock answers the sum of the payload. GetBlock answers `length` bytes of a
 * pattern. SyncBlocks obeys its field `cluster`. */

enum order {
    ORDER_ANSWER,
    ORDER_HOLD,  /* answer when the test says so */
    ORDER_DEFER, /* answer from another thread, at once */
    ORDER_REFUSE /* and more: -error */
};

#define N_HELD_MAX 16

struct world {
    struct rpc_server *server;
    char address[32];
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct rpc_request *held[N_HELD_MAX];
    size_t n_held;
    int64_t stop_grace_ms;
    bool has_stopped;
};

static uint64_t sum_bytes(uint64_t sum, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        sum = sum * 31 + data[i];
    }
    return sum;
}

static void fill(uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        data[i] = (uint8_t)(i * 13 + i / 255);
    }
}

static void on_put(struct rpc_request *request, void *context)
{
    const Gabion__PutBlockRequest *message =
        (const void *)rpc_request_message(request);
    Gabion__PutBlockReply reply;
    const struct iovec *iov;
    size_t n_iov = rpc_request_payload_iov(request, &iov);
    size_t size = 0;

    (void)context;
    gabion__put_block_reply__init(&reply);
    for (size_t i = 0; i < n_iov; i++) {
        reply.instance =
            sum_bytes(reply.instance, iov[i].iov_base, iov[i].iov_len);
        size += iov[i].iov_len;
    }
    if (size != message->length || size != rpc_request_payload_size(request) ||
        message->data.len != 0) {
        reply.error = EINVAL;
    }
    rpc_reply(request, &reply.base, NULL, 0, 0);
}

static void on_get(struct rpc_request *request, void *context)
{
    const Gabion__GetBlockRequest *message =
        (const void *)rpc_request_message(request);
    Gabion__GetBlockReply reply;
    struct buf *buf = buf_new(message->length + 100);

    (void)context;
    if (buf == NULL) {
        rpc_refuse(request, -ENOMEM, "no buffer");
        return;
    }
    fill(buf->data + 100, message->length);
    gabion__get_block_reply__init(&reply);
    reply.block_length = message->length;
    rpc_reply(request, &reply.base, buf, 100, message->length);
    buf_unref(buf);
}

static void answer_sync(struct rpc_request *request)
{
    Gabion__SyncBlocksReply reply;

    gabion__sync_blocks_reply__init(&reply);
    reply.instance = 42;
    reply.error = 7;
    rpc_reply(request, &reply.base, NULL, 0, 0);
}

static void *answer_later(void *request)
{
    answer_sync(request);
    return NULL;
}

static void on_sync(struct rpc_request *request, void *context)
{
    const Gabion__SyncBlocksRequest *message =
        (const void *)rpc_request_message(request);
    struct world *world = context;
    pthread_t thread;

    switch (message->cluster) {
    case ORDER_ANSWER:
        answer_sync(request);
        break;
    case ORDER_HOLD:
        (void)pthread_mutex_lock(&world->lock);
        world->held[world->n_held++] = request;
        (void)pthread_cond_broadcast(&world->changed);
        (void)pthread_mutex_unlock(&world->lock);
        break;
    case ORDER_DEFER:
        if (pthread_create(&thread, NULL, answer_later, request) == 0) {
            (void)pthread_detach(thread);
        }
        break;
    default:
        rpc_refuse(request, -(int)(message->cluster - ORDER_REFUSE),
                   "by order");
    }
}

static int start_at(struct world *world, const char *listen, struct errmsg *msg)
{
    const struct rpc_method methods[] = {
        { "/gabion.Block/PutBlock", &gabion__put_block_request__descriptor,
          on_put, world },
        { "/gabion.Block/GetBlock", &gabion__get_block_request__descriptor,
          on_get, world },
        { "/gabion.Block/SyncBlocks", &gabion__sync_blocks_request__descriptor,
          on_sync, world },
    };
    int rc =
        rpc_server_new(listen, methods, N(methods), 2, &world->server, msg);

    if (rc == 0) {
        rc = rpc_server_start(world->server);
        (void)snprintf(world->address, sizeof world->address, "127.0.0.1:%d",
                       rpc_server_port(world->server));
    }
    return rc;
}

static int try_open(struct world *world, struct errmsg *msg)
{
    memset(world, 0, sizeof *world);
    (void)pthread_mutex_init(&world->lock, NULL);
    (void)pthread_cond_init(&world->changed, NULL);
    return start_at(world, "127.0.0.1:0", msg);
}

static void world_open(struct world *world)
{
    struct errmsg msg = { "" };
    int rc = try_open(world, &msg);

    ck_assert_msg(rc == 0, "%s", msg.text);
}

static void world_stop(struct world *world)
{
    rpc_server_stop(world->server, 0);
    rpc_server_free(world->server);
    world->server = NULL;
}

static void await_held(struct world *world, size_t n)
{
    (void)pthread_mutex_lock(&world->lock);
    while (world->n_held < n) {
        (void)pthread_cond_wait(&world->changed, &world->lock);
    }
    (void)pthread_mutex_unlock(&world->lock);
}

static void release_held(struct world *world)
{
    (void)pthread_mutex_lock(&world->lock);
    while (world->n_held > 0) {
        answer_sync(world->held[--world->n_held]);
    }
    (void)pthread_mutex_unlock(&world->lock);
}

static void world_close(struct world *world)
{
    release_held(world);
    if (world->server != NULL) {
        world_stop(world);
    }
    (void)pthread_cond_destroy(&world->changed);
    (void)pthread_mutex_destroy(&world->lock);
}

/* ----------------------------------------------------------------- fixture */

static struct world world;
static struct rpc_client *client;
static struct rpc_peer *peer;
static struct rpc_queue *queue;

static void setup(void)
{
    mem_tune();
    world_open(&world);
    ck_assert_int_eq(rpc_client_new(&client), 0);
    ck_assert_int_eq(rpc_client_peer(client, world.address, &peer), 0);
    queue = rpc_client_thread_queue(client);
    ck_assert_ptr_nonnull(queue);
}

static void teardown(void)
{
    rpc_client_free(client);
    world_close(&world);
}

static int put(struct rpc_peer *to,
               enum rpc_lane lane,
               struct buf *buf,
               size_t size)
{
    Gabion__PutBlockRequest request = GABION__PUT_BLOCK_REQUEST__INIT;
    uint32_t checksums[64] = { 1, 2, 3 };
    struct rpc_call call = { .method = "/gabion.Block/PutBlock",
                             .lane = lane,
                             .request = &request.base,
                             .payload = buf,
                             .payload_size = size,
                             .reply_type = &gabion__put_block_reply__descriptor,
                             .deadline_ms = clock_mono_ms() + SOON_MS };
    int rc;

    request.length = (uint32_t)size;
    request.checksum = checksums;
    request.n_checksum = N(checksums);
    rc = rpc_call_sync(client, to, &call);
    if (rc == 0) {
        const Gabion__PutBlockReply *reply = (const void *)call.reply;

        ck_assert_int_eq(reply->error, 0);
        ck_assert_uint_eq(reply->instance,
                          size > 0 ? sum_bytes(0, buf->data, size) : 0);
    }
    rpc_call_clear(&call);
    return rc;
}

static int get(struct rpc_peer *from, enum rpc_lane lane, size_t size)
{
    Gabion__GetBlockRequest request = GABION__GET_BLOCK_REQUEST__INIT;
    struct rpc_call call = { .method = "/gabion.Block/GetBlock",
                             .lane = lane,
                             .request = &request.base,
                             .reply_type = &gabion__get_block_reply__descriptor,
                             .deadline_ms = clock_mono_ms() + SOON_MS };
    uint8_t *expected = malloc(size + 1);
    uint8_t *got = malloc(size + 1);
    int rc;

    ck_assert_ptr_nonnull(expected);
    ck_assert_ptr_nonnull(got);
    request.length = (uint32_t)size;
    rc = rpc_call_sync(client, from, &call);
    if (rc == 0) {
        const Gabion__GetBlockReply *reply = (const void *)call.reply;

        ck_assert_uint_eq(reply->block_length, size);
        ck_assert_uint_eq(reply->data.len, 0);
        ck_assert_uint_eq(rpc_call_payload_size(&call), size);
        rpc_call_copy_payload(&call, got);
        fill(expected, size);
        ck_assert_int_eq(memcmp(got, expected, size), 0);
    }
    rpc_call_clear(&call);
    free(expected);
    free(got);
    return rc;
}

static void start_sync(struct rpc_queue *on,
                       struct rpc_peer *to,
                       struct rpc_call *call,
                       uint64_t order,
                       int64_t deadline_ms)
{
    Gabion__SyncBlocksRequest request = GABION__SYNC_BLOCKS_REQUEST__INIT;

    request.cluster = order;
    call->method = "/gabion.Block/SyncBlocks";
    call->request = &request.base;
    call->reply_type = &gabion__sync_blocks_reply__descriptor;
    call->deadline_ms = deadline_ms;
    rpc_call_start(on, to, call);
    call->request = NULL;
}

static void await(struct rpc_call *call)
{
    while (!call->is_finished) {
        ck_assert_int_eq(rpc_queue_wait(queue, clock_mono_ms() + SOON_MS), 0);
    }
}

/* SyncBlocks, from start to end, within `timeout_ms`. */
static int sync_within(uint64_t order, int64_t timeout_ms)
{
    struct rpc_call call = { 0 };
    int rc;

    start_sync(queue, peer, &call, order, clock_mono_ms() + timeout_ms);
    await(&call);
    rc = call.rc;
    if (rc == 0) {
        ck_assert_uint_eq(
            ((const Gabion__SyncBlocksReply *)(const void *)call.reply)
                ->instance,
            42);
    }
    rpc_call_clear(&call);
    return rc;
}

static void sync_until_served(int64_t limit_ms)
{
    int64_t end = clock_mono_ms() + limit_ms;

    while (sync_within(ORDER_ANSWER, SOON_MS) != 0) {
        ck_assert_int_lt(clock_mono_ms(), end);
        ck_assert_int_eq(rpc_queue_wait(queue, clock_mono_ms() + 10),
                         -ETIMEDOUT);
    }
}

/* ------------------------------------------------------------- round trips */

static const size_t sizes[] = { 0, 1, 4095, 256 << 10, 1 << 20 };

START_TEST(payload_arrives_whole)
{
    size_t size = sizes[(size_t)_i / 2];
    enum rpc_lane lane = _i % 2 == 0 ? RPC_CONTROL : RPC_DATA;
    struct buf *buf = buf_new(size + 1);

    ck_assert_ptr_nonnull(buf);
    fill(buf->data, size);
    ck_assert_int_eq(put(peer, lane, buf, size), 0);
    ck_assert_int_eq(get(peer, lane, size), 0);
    ck_assert_int_eq(buf->refs, 1);
    buf_unref(buf);
}
END_TEST

START_TEST(a_handler_may_answer_from_another_thread)
{
    for (int i = 0; i < 50; i++) {
        ck_assert_int_eq(sync_within(ORDER_DEFER, SOON_MS), 0);
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
        sync_within(ORDER_REFUSE + (uint64_t)refusals[_i].refused, SOON_MS),
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
    ck_assert_int_eq(put(peer, RPC_DATA, buf, RPC_MESSAGE_SIZE_MAX), -EMSGSIZE);
    ck_assert_int_eq(put(peer, RPC_DATA, buf, RPC_MESSAGE_SIZE_MAX - 4096), 0);
    ck_assert_int_eq(get(peer, RPC_DATA, RPC_MESSAGE_SIZE_MAX), -EMSGSIZE);
    ck_assert_int_eq(get(peer, RPC_DATA, RPC_MESSAGE_SIZE_MAX - 4096), 0);
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

/* ------------------------------------------------------ deadlines and cancel
 */

START_TEST(a_missed_deadline_is_ETIMEDOUT)
{
    int64_t start = clock_mono_ms();

    ck_assert_int_eq(sync_within(ORDER_HOLD, 150), -ETIMEDOUT);
    ck_assert_int_ge(clock_mono_ms() - start, 140);
    ck_assert_int_lt(clock_mono_ms() - start, SOON_MS);
    ck_assert_int_eq(sync_within(ORDER_ANSWER, -1), -ETIMEDOUT);
    ck_assert(rpc_peer_is_up(peer));
}
END_TEST

static void note_done(struct rpc_call *call)
{
    ++*(int *)call->context;
}

START_TEST(cancelling_ends_a_call)
{
    int n_done = 0;
    struct rpc_call call = { .done = note_done, .context = &n_done };

    start_sync(queue, peer, &call, ORDER_HOLD, clock_mono_ms() + SOON_MS);
    await_held(&world, 1);
    rpc_call_cancel(&call);
    rpc_call_cancel(&call);
    await(&call);
    ck_assert_int_eq(call.rc, -ECANCELED);
    ck_assert_int_eq(n_done, 1);
    rpc_call_cancel(&call);
    rpc_call_clear(&call);
    ck_assert_int_eq(sync_within(ORDER_ANSWER, SOON_MS), 0);
}
END_TEST

START_TEST(freeing_a_queue_ends_its_calls)
{
    int n_done = 0;
    struct rpc_call calls[3];
    struct rpc_queue *own;

    ck_assert_int_eq(rpc_queue_new(client, &own), 0);
    for (size_t i = 0; i < N(calls); i++) {
        calls[i] = (struct rpc_call){ .done = note_done, .context = &n_done };
        start_sync(own, peer, &calls[i], ORDER_HOLD, clock_mono_ms() + SOON_MS);
    }
    await_held(&world, N(calls));
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
        start_sync(queue, peer, call, ORDER_ANSWER, clock_mono_ms() + SOON_MS);
    }
}

START_TEST(done_may_start_the_call_again)
{
    int n_left = 5;
    struct rpc_call call = { .done = start_again, .context = &n_left };

    start_sync(queue, peer, &call, ORDER_ANSWER, clock_mono_ms() + SOON_MS);
    await(&call);
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

/* -------------------------------------------------------------- dead servers
 */

START_TEST(a_dead_server_fails_fast_and_its_return_is_noticed)
{
    char listen[32];
    int64_t start;

    memcpy(listen, world.address, sizeof listen);
    ck_assert(rpc_peer_is_up(peer));
    ck_assert_int_eq(sync_within(ORDER_ANSWER, SOON_MS), 0);
    world_stop(&world);
    start = clock_mono_ms();
    for (int i = 0; i < 20; i++) {
        ck_assert_int_eq(sync_within(ORDER_ANSWER, SOON_MS), -EHOSTUNREACH);
        ck_assert(!rpc_peer_is_up(peer));
    }
    ck_assert_int_lt(clock_mono_ms() - start, 1000);
    ck_assert_int_eq(start_at(&world, listen, NULL), 0);
    sync_until_served(3000);
    ck_assert(rpc_peer_is_up(peer));
    ck_assert_int_eq(get(peer, RPC_DATA, 5000), 0);
}
END_TEST

START_TEST(a_peer_counts_as_up_again_after_a_second)
{
    world_stop(&world);
    ck_assert_int_eq(sync_within(ORDER_ANSWER, SOON_MS), -EHOSTUNREACH);
    ck_assert(!rpc_peer_is_up(peer));
    ck_assert_int_eq(rpc_queue_wait(queue, clock_mono_ms() + 1010), -ETIMEDOUT);
    ck_assert(rpc_peer_is_up(peer));
}
END_TEST

/* A server in a process of its own: this program with one argument. */
static pid_t spawn_server(struct rpc_peer **ret_peer)
{
    char *argv[] = { strdup("test_rpc"), strdup("serve"), NULL };
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

/* Outside of Check: nothing here may assert by its means. */
static int serve(void)
{
    if (try_open(&world, NULL) != 0 ||
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
    ck_assert_int_eq(sync_within(ORDER_ANSWER, SOON_MS), 0);
    ck_assert_int_eq(put(peer, RPC_DATA, buf, buf->size), 0);
    ck_assert_int_eq(kill(pid, SIGSTOP), 0);
    start = clock_mono_ms();
    ck_assert_int_eq(sync_within(ORDER_ANSWER, 200), -ETIMEDOUT);
    ck_assert_int_lt(clock_mono_ms() - start, 2000);
    /* Keepalive finds it before this deadline. */
    ck_assert_int_eq(put(peer, RPC_DATA, buf, buf->size), -EHOSTUNREACH);
    ck_assert_int_eq(buf->refs, 1);
    ck_assert(!rpc_peer_is_up(peer));
    ck_assert_int_eq(kill(pid, SIGCONT), 0);
    sync_until_served(5000);
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    start = clock_mono_ms();
    ck_assert_int_eq(sync_within(ORDER_ANSWER, SOON_MS), -EHOSTUNREACH);
    ck_assert_int_lt(clock_mono_ms() - start, 2000);
    buf_unref(buf);
}
END_TEST

/* ------------------------------------------------------------------ stopping
 */

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
        start_sync(queue, peer, &calls[i], ORDER_HOLD,
                   clock_mono_ms() + SOON_MS);
    }
    await_held(&world, N(calls));
    world.stop_grace_ms = 50;
    ck_assert_int_eq(pthread_create(&thread, NULL, stop, &world), 0);
    for (size_t i = 0; i < N(calls); i++) {
        await(&calls[i]);
        ck_assert_int_eq(calls[i].rc, -EHOSTUNREACH);
        rpc_call_clear(&calls[i]);
    }
    ck_assert_int_eq(rpc_queue_wait(queue, clock_mono_ms() + 100), -ETIMEDOUT);
    ck_assert(!__atomic_load_n(&world.has_stopped, __ATOMIC_ACQUIRE));
    release_held(&world);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    rpc_server_free(world.server);
    world.server = NULL;
}
END_TEST

START_TEST(calls_answered_within_the_grace_succeed)
{
    struct rpc_call call = { 0 };
    pthread_t thread;

    start_sync(queue, peer, &call, ORDER_HOLD, clock_mono_ms() + SOON_MS);
    await_held(&world, 1);
    world.stop_grace_ms = SOON_MS;
    ck_assert_int_eq(pthread_create(&thread, NULL, stop, &world), 0);
    ck_assert_int_eq(rpc_queue_wait(queue, clock_mono_ms() + 100), -ETIMEDOUT);
    release_held(&world);
    await(&call);
    ck_assert_int_eq(call.rc, 0);
    rpc_call_clear(&call);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    rpc_server_free(world.server);
    world.server = NULL;
}
END_TEST

struct loader {
    pthread_t thread;
    unsigned n_calls;
    unsigned n_ok;
    int bad_rc;
};

/* Calls of all sizes until done, or until the server has gone. */
static void *load(void *context)
{
    struct loader *loader = context;
    struct buf *buf = buf_new(70000);

    ck_assert_ptr_nonnull(buf);
    fill(buf->data, buf->size);
    for (unsigned i = 0; i < loader->n_calls && loader->bad_rc == 0; i++) {
        size_t size = i * 977 % buf->size;
        enum rpc_lane lane = i % 3 == 0 ? RPC_CONTROL : RPC_DATA;

        loader->bad_rc =
            i % 2 == 0 ? put(peer, lane, buf, size) : get(peer, lane, size);
        loader->n_ok += loader->bad_rc == 0;
    }
    buf_unref(buf);
    return NULL;
}

START_TEST(many_threads_share_a_peer)
{
    struct loader loaders[8] = { 0 };

    for (size_t i = 0; i < N(loaders); i++) {
        loaders[i].n_calls = 300;
        ck_assert_int_eq(
            pthread_create(&loaders[i].thread, NULL, load, &loaders[i]), 0);
    }
    for (size_t i = 0; i < N(loaders); i++) {
        ck_assert_int_eq(pthread_join(loaders[i].thread, NULL), 0);
        ck_assert_int_eq(loaders[i].bad_rc, 0);
        ck_assert_uint_eq(loaders[i].n_ok, loaders[i].n_calls);
    }
}
END_TEST

START_TEST(stop_under_load_ends_in_errors_not_in_hangs)
{
    struct loader loaders[4] = { 0 };

    for (size_t i = 0; i < N(loaders); i++) {
        loaders[i].n_calls = 1000000;
        ck_assert_int_eq(
            pthread_create(&loaders[i].thread, NULL, load, &loaders[i]), 0);
    }
    (void)rpc_queue_wait(queue, clock_mono_ms() + 50 + _i * 7);
    world_stop(&world);
    for (size_t i = 0; i < N(loaders); i++) {
        ck_assert_int_eq(pthread_join(loaders[i].thread, NULL), 0);
        ck_assert_int_eq(loaders[i].bad_rc, -EHOSTUNREACH);
    }
}
END_TEST

/* ------------------------------------------------------------------- fan-out
 */

START_TEST(any_4_of_6_servers_are_enough)
{
    struct world worlds[6];
    struct rpc_call calls[6] = { 0 };
    int n_done = 0;

    for (size_t i = 0; i < N(worlds); i++) {
        struct rpc_peer *to;

        world_open(&worlds[i]);
        ck_assert_int_eq(rpc_client_peer(client, worlds[i].address, &to), 0);
        calls[i].done = note_done;
        calls[i].context = &n_done;
        start_sync(queue, to, &calls[i], i < 2 ? ORDER_HOLD : ORDER_ANSWER,
                   clock_mono_ms() + SOON_MS);
    }
    while (n_done < 4) {
        ck_assert_int_eq(rpc_queue_wait(queue, clock_mono_ms() + SOON_MS), 0);
    }
    for (size_t i = 0; i < N(calls); i++) {
        ck_assert_int_eq(calls[i].is_finished, i >= 2);
        rpc_call_cancel(&calls[i]);
        await(&calls[i]);
        ck_assert_int_eq(calls[i].rc, i < 2 ? -ECANCELED : 0);
        rpc_call_clear(&calls[i]);
    }
    ck_assert_int_eq(n_done, 6);
    for (size_t i = 0; i < N(worlds); i++) {
        world_close(&worlds[i]);
    }
}
END_TEST

/* ------------------------------------------------------------- hostile peers
 */

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
    ck_assert_int_eq(sync_within(ORDER_ANSWER, SOON_MS), 0);
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
    ck_assert_int_eq(sync_within(ORDER_ANSWER, SOON_MS), 0);
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
    ck_assert_int_eq(sync_within(ORDER_ANSWER, SOON_MS), 0);
}
END_TEST

START_TEST(bad_arguments_are_EINVAL)
{
    static const struct rpc_method twice[] = {
        { "/a/B", &gabion__block_key__descriptor, on_sync, NULL },
        { "/a/B", &gabion__block_key__descriptor, on_sync, NULL },
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

static void add_tests(TCase *tc)
{
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
    tcase_add_test(tc, a_dead_server_fails_fast_and_its_return_is_noticed);
    tcase_add_test(tc, a_peer_counts_as_up_again_after_a_second);
    tcase_add_test(tc, a_stopped_server_costs_the_deadline_at_most);
    tcase_add_test(tc, stop_waits_for_every_answer);
    tcase_add_test(tc, calls_answered_within_the_grace_succeed);
    tcase_add_test(tc, many_threads_share_a_peer);
    tcase_add_loop_test(tc, stop_under_load_ends_in_errors_not_in_hangs, 0, 5);
    tcase_add_test(tc, any_4_of_6_servers_are_enough);
    tcase_add_test(tc, malformed_bytes_are_refused);
    tcase_add_test(tc, a_peer_that_ignores_the_limit_is_refused);
    tcase_add_test(tc, garbage_on_the_port_does_no_harm);
    tcase_add_test(tc, a_port_in_use_is_told);
    tcase_add_test(tc, bad_arguments_are_EINVAL);
    tcase_add_test(tc, a_server_never_started_can_be_freed);
}

static Suite *suite(void)
{
    Suite *s = suite_create("rpc");
    TCase *tc = tcase_create("rpc");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    add_tests(tc);
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
