#include "tests/unit/rpc_world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include <check.h>

#include "common/clock.h"
#include "proto/block.pb-c.h"

struct world world;
struct rpc_client *client;
struct rpc_peer *peer;
struct rpc_queue *queue;

static uint64_t sum_bytes(uint64_t sum, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        sum = sum * 31 + data[i];
    }
    return sum;
}

void rpc_fill(uint8_t *data, size_t size)
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
    rpc_fill(buf->data + 100, message->length);
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
    struct world *w = context;
    pthread_t thread;

    switch (message->cluster) {
    case ORDER_ANSWER:
        answer_sync(request);
        break;
    case ORDER_HOLD:
        (void)pthread_mutex_lock(&w->lock);
        w->held[w->n_held++] = request;
        (void)pthread_cond_broadcast(&w->changed);
        (void)pthread_mutex_unlock(&w->lock);
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

int world_start(struct world *w, const char *listen, struct errmsg *msg)
{
    const struct rpc_method methods[] = {
        { "/gabion.Block/PutBlock", &gabion__put_block_request__descriptor,
          on_put, w },
        { "/gabion.Block/GetBlock", &gabion__get_block_request__descriptor,
          on_get, w },
        { "/gabion.Block/SyncBlocks", &gabion__sync_blocks_request__descriptor,
          on_sync, w },
    };
    int rc = rpc_server_new(listen, methods, N(methods), 2, &w->server, msg);

    if (rc == 0) {
        rc = rpc_server_start(w->server);
        (void)snprintf(w->address, sizeof w->address, "127.0.0.1:%d",
                       rpc_server_port(w->server));
    }
    return rc;
}

int world_try_open(struct world *w, struct errmsg *msg)
{
    memset(w, 0, sizeof *w);
    (void)pthread_mutex_init(&w->lock, NULL);
    (void)pthread_cond_init(&w->changed, NULL);
    return world_start(w, "127.0.0.1:0", msg);
}

void world_open(struct world *w)
{
    struct errmsg msg = { "" };
    int rc = world_try_open(w, &msg);

    ck_assert_msg(rc == 0, "%s", msg.text);
}

void world_stop(struct world *w)
{
    rpc_server_stop(w->server, 0);
    rpc_server_free(w->server);
    w->server = NULL;
}

void world_await_held(struct world *w, size_t n)
{
    (void)pthread_mutex_lock(&w->lock);
    while (w->n_held < n) {
        (void)pthread_cond_wait(&w->changed, &w->lock);
    }
    (void)pthread_mutex_unlock(&w->lock);
}

void world_release(struct world *w)
{
    (void)pthread_mutex_lock(&w->lock);
    while (w->n_held > 0) {
        answer_sync(w->held[--w->n_held]);
    }
    (void)pthread_mutex_unlock(&w->lock);
}

void world_close(struct world *w)
{
    world_release(w);
    if (w->server != NULL) {
        world_stop(w);
    }
    (void)pthread_cond_destroy(&w->changed);
    (void)pthread_mutex_destroy(&w->lock);
}

void rpc_setup(void)
{
    mem_tune();
    world_open(&world);
    ck_assert_int_eq(rpc_client_new(true, &client), 0);
    ck_assert_int_eq(rpc_client_peer(client, world.address, &peer), 0);
    queue = rpc_client_thread_queue(client);
    ck_assert_ptr_nonnull(queue);
}

void rpc_teardown(void)
{
    rpc_client_free(client);
    world_close(&world);
}

int rpc_put(struct rpc_peer *to,
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

int rpc_get(struct rpc_peer *from, enum rpc_lane lane, size_t size)
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
        rpc_fill(expected, size);
        ck_assert_int_eq(memcmp(got, expected, size), 0);
    }
    rpc_call_clear(&call);
    free(expected);
    free(got);
    return rc;
}

void rpc_start_sync(struct rpc_queue *on,
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

void rpc_await(struct rpc_call *call)
{
    while (!call->is_finished) {
        ck_assert_int_eq(rpc_queue_wait(queue, clock_mono_ms() + SOON_MS), 0);
    }
}

/* SyncBlocks, from start to end, within `timeout_ms`. */
int rpc_sync(uint64_t order, int64_t timeout_ms)
{
    struct rpc_call call = { 0 };
    int rc;

    rpc_start_sync(queue, peer, &call, order, clock_mono_ms() + timeout_ms);
    rpc_await(&call);
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

void rpc_sync_until_served(int64_t limit_ms)
{
    int64_t end = clock_mono_ms() + limit_ms;

    while (rpc_sync(ORDER_ANSWER, SOON_MS) != 0) {
        ck_assert_int_lt(clock_mono_ms(), end);
        ck_assert_int_eq(rpc_queue_wait(queue, clock_mono_ms() + 10),
                         -ETIMEDOUT);
    }
}

/* gRPC's own threads may drop the last reference a moment after the call. */
void rpc_unref_last(struct buf *buf)
{
    int64_t end = clock_mono_ms() + SOON_MS;

    while (__atomic_load_n(&buf->refs, __ATOMIC_ACQUIRE) > 1) {
        ck_assert_int_lt(clock_mono_ms(), end);
        (void)rpc_queue_wait(queue, clock_mono_ms() + 5);
    }
    buf_unref(buf);
}

/* Calls of all sizes until done, or until the server has gone. */
void *rpc_load(void *context)
{
    struct loader *loader = context;
    struct buf *buf = buf_new(70000);

    ck_assert_ptr_nonnull(buf);
    rpc_fill(buf->data, buf->size);
    for (unsigned i = 0; i < loader->n_calls && loader->bad_rc == 0; i++) {
        size_t size = (size_t)i * 977 % buf->size;
        enum rpc_lane lane = i % 3 == 0 ? RPC_CONTROL : RPC_DATA;

        loader->bad_rc = i % 2 == 0 ? rpc_put(peer, lane, buf, size)
                                    : rpc_get(peer, lane, size);
        loader->n_ok += loader->bad_rc == 0;
    }
    buf_unref(buf);
    return NULL;
}

void rpc_count_done(struct rpc_call *call)
{
    ++*(int *)call->context;
}
