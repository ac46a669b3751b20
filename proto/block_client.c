#include "proto/block_client.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/checksum.h"
#include "common/clock.h"
#include "common/log.h"
#include "proto/block.pb-c.h"
#include "proto/validate.h"

/* Reads up to this size travel with the small calls. */
#define CONTROL_GET_MAX (16u << 10)

/* A put or get given up after this time says that the node hangs, though its
 * connection may be fine; a sync may take its time. It then counts as down for
 * as long as it has been silent, but not for longer than SILENT_DOWN_MS_MAX. */
#define SILENCE_MS         1500
#define SILENT_DOWN_MS_MAX 15000

/* A node of the map. */
struct block_node {
    struct rpc_peer *peer; /* borrowed */
    /* Atomic, clock_mono_ms(): since when it has not answered, 0 if it has;
     * until when it counts as down. */
    int64_t silent_since_ms;
    int64_t down_until_ms;
};

struct block_client {
    struct block_io io;         /* first: the vtable leads back here */
    struct rpc_client *rpc;     /* borrowed */
    struct cluster_map *map;    /* borrowed */
    struct block_node *nodes;   /* owned: as map->nodes */
    pthread_key_t key;          /* the thread's block_queue */
    pthread_mutex_t lock;       /* guards queues and their links */
    struct block_queue *queues; /* owned: of all threads */
};

struct block_queue {
    struct block_client *client; /* borrowed */
    struct rpc_queue *rpc;       /* borrowed: the thread's */
    struct block_op *failed;     /* borrowed: could not be started, linked by
                                    impl, with rc set; wait tells them */
    struct block_queue *next;    /* in client->queues, guarded by its lock */
    struct block_queue **link;   /* what points here, likewise */
};

/* A call under way. */
struct transfer {
    struct rpc_call call;
    struct block_op *op;     /* borrowed */
    struct block_node *node; /* borrowed */
    int64_t begin_ms;
};

static struct block_client *client_of(struct block_io *io)
{
    return (struct block_client *)(void *)io;
}

static struct block_node *find_node(const struct block_client *client,
                                    uint32_t id)
{
    const struct cluster_node *node = cluster_map_node(client->map, id);

    return node != NULL ? &client->nodes[node - client->map->nodes] : NULL;
}

static bool is_silent(const struct block_node *node)
{
    return __atomic_load_n(&node->silent_since_ms, __ATOMIC_RELAXED) != 0 &&
           clock_mono_ms() <
               __atomic_load_n(&node->down_until_ms, __ATOMIC_RELAXED);
}

/* A put or get that began at `begin_ms` has been given up. */
static void note_silence(struct block_node *node, int64_t begin_ms)
{
    int64_t now_ms = clock_mono_ms();
    int64_t since_ms =
        __atomic_load_n(&node->silent_since_ms, __ATOMIC_RELAXED);
    int64_t down_ms;

    if (now_ms - begin_ms < SILENCE_MS) {
        return;
    }
    if (since_ms == 0) {
        since_ms = begin_ms;
    }
    down_ms = now_ms - since_ms;
    if (down_ms > SILENT_DOWN_MS_MAX) {
        down_ms = SILENT_DOWN_MS_MAX;
    }
    __atomic_store_n(&node->down_until_ms, now_ms + down_ms, __ATOMIC_RELAXED);
    __atomic_store_n(&node->silent_since_ms, since_ms, __ATOMIC_RELAXED);
}

/* Learn from how a transfer's call ended. */
static void note_call(const struct transfer *transfer, int rc)
{
    struct block_node *node = transfer->node;

    if (rc == -ETIMEDOUT || rc == -ECANCELED) {
        if (transfer->op->type != BLOCK_SYNC) {
            note_silence(node, transfer->begin_ms);
        }
    } else if (rc == 0 &&
               __atomic_load_n(&node->silent_since_ms, __ATOMIC_RELAXED) != 0) {
        __atomic_store_n(&node->silent_since_ms, 0, __ATOMIC_RELAXED);
    }
}

/* The result of an op whose call failed with `rc`. */
static int call_error(int rc)
{
    switch (rc) {
    case -ETIMEDOUT:
    case -EHOSTUNREACH:
    case -ECANCELED:
    case -ENOMEM:
        return rc;
    case -EAGAIN:
        return -EHOSTUNREACH;
    default:
        return -EPROTO;
    }
}

/* The result of an op that the node answered with `error`. */
static int reply_error(const struct block_op *op,
                       int32_t error,
                       const char *detail)
{
    static const int known[] = { ENOENT, EBADMSG, EIO,   ENOSPC,
                                 EEXIST, ESTALE,  ENOMEM };

    if (error == 0) {
        return 0;
    }
    log_debug("block refused node=%u stripe=%u index=%u error=%s detail=%.200s",
              op->node, op->key.stripe, op->key.index, err_text(error), detail);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (error == known[i]) {
            return -error;
        }
    }
    return -EPROTO;
}

static int take_put(struct block_op *op, const ProtobufCMessage *message)
{
    const Gabion__PutBlockReply *reply = (const void *)message;

    op->result_instance = reply->instance;
    return reply_error(op, reply->error, reply->detail);
}

static int take_sync(struct block_op *op, const ProtobufCMessage *message)
{
    const Gabion__SyncBlocksReply *reply = (const void *)message;

    op->result_instance = reply->instance;
    return reply_error(op, reply->error, reply->detail);
}

/* The bytes that a right answer to a GET holds: what was asked for, widened to
 * whole units, cut at the end of the block. 0: there is no right answer. */
static size_t expected_size(const struct block_op *op, uint32_t block_length)
{
    size_t wide = checksum_units(op->length) * CHECKSUM_UNIT;

    if (block_length > BLOCK_LENGTH_MAX || block_length <= op->offset) {
        return 0;
    }
    return wide < block_length - op->offset ? wide : block_length - op->offset;
}

/* Copy the payload to `target` and check it there. */
static int copy_and_verify(const struct rpc_call *call,
                           const Gabion__GetBlockReply *reply,
                           uint8_t *target,
                           size_t size)
{
    rpc_call_copy_payload(call, target);
    return checksum_verify(target, size, reply->checksum) < 0 ? 0 : -EBADMSG;
}

static int take_get(struct block_op *op, const struct rpc_call *call)
{
    const Gabion__GetBlockReply *reply = (const void *)call->reply;
    size_t size = rpc_call_payload_size(call);
    uint8_t *bounce;
    int rc = reply_error(op, reply->error, reply->detail);

    if (rc != 0) {
        return rc;
    }
    if (size == 0 || reply->offset != op->offset ||
        size != expected_size(op, reply->block_length) ||
        reply->n_checksum != checksum_units(size)) {
        log_debug(
            "senseless block node=%u stripe=%u index=%u offset=%u size=%zu",
            op->node, op->key.stripe, op->key.index, reply->offset, size);
        return -EPROTO;
    }
    if (size <= op->length) {
        rc = copy_and_verify(call, reply, op->target, size);
        op->result_length = rc == 0 ? (uint32_t)size : 0;
        return rc;
    }
    /* The last unit is wanted in part only, but checked as a whole. */
    bounce = malloc(size);
    if (bounce == NULL) {
        return -ENOMEM;
    }
    rc = copy_and_verify(call, reply, bounce, size);
    if (rc == 0) {
        op->result_length = op->length;
        memcpy(op->target, bounce, op->length);
    }
    free(bounce);
    return rc;
}

static void transfer_done(struct rpc_call *call)
{
    struct transfer *transfer = call->context;
    struct block_op *op = transfer->op;

    note_call(transfer, call->rc);
    if (call->rc != 0) {
        op->rc = call_error(call->rc);
    } else if (op->type == BLOCK_PUT) {
        op->rc = take_put(op, call->reply);
    } else if (op->type == BLOCK_GET) {
        op->rc = take_get(op, call);
    } else {
        op->rc = take_sync(op, call->reply);
    }
    rpc_call_clear(call);
    free(transfer);
    op->impl = NULL;
    op->done(op);
}

static void fill_key(Gabion__BlockKey *ret_key,
                     uint8_t ret_object[OBJECT_ID_SIZE],
                     const struct block_key *key)
{
    gabion__block_key__init(ret_key);
    object_id_encode(&key->object, ret_object);
    ret_key->object.data = ret_object;
    ret_key->object.len = OBJECT_ID_SIZE;
    ret_key->stripe = key->stripe;
    ret_key->index = key->index;
}

static void start_put(struct block_queue *queue, struct transfer *transfer)
{
    struct block_op *op = transfer->op;
    struct rpc_call *call = &transfer->call;
    Gabion__PutBlockRequest request = GABION__PUT_BLOCK_REQUEST__INIT;
    Gabion__BlockKey key;
    uint8_t object[OBJECT_ID_SIZE];

    fill_key(&key, object, &op->key);
    request.cluster = queue->client->map->id;
    request.key = &key;
    request.length = op->length;
    request.n_checksum = checksum_units(op->length);
    request.checksum = (uint32_t *)(uintptr_t)op->checksums; /* only read */
    call->method = "/gabion.Block/PutBlock";
    call->lane = RPC_DATA;
    call->request = &request.base;
    call->payload = op->buf;
    call->payload_offset = op->buf_offset;
    call->payload_size = op->length;
    call->reply_type = &gabion__put_block_reply__descriptor;
    rpc_call_start(queue->rpc, transfer->node->peer, call);
}

static void start_get(struct block_queue *queue, struct transfer *transfer)
{
    struct block_op *op = transfer->op;
    struct rpc_call *call = &transfer->call;
    Gabion__GetBlockRequest request = GABION__GET_BLOCK_REQUEST__INIT;
    Gabion__BlockKey key;
    uint8_t object[OBJECT_ID_SIZE];

    assert(op->offset % CHECKSUM_UNIT == 0);
    fill_key(&key, object, &op->key);
    request.cluster = queue->client->map->id;
    request.key = &key;
    request.offset = op->offset;
    request.length = op->length;
    call->method = "/gabion.Block/GetBlock";
    call->lane = op->length <= CONTROL_GET_MAX ? RPC_CONTROL : RPC_DATA;
    call->request = &request.base;
    call->reply_type = &gabion__get_block_reply__descriptor;
    rpc_call_start(queue->rpc, transfer->node->peer, call);
}

static void start_sync(struct block_queue *queue, struct transfer *transfer)
{
    struct rpc_call *call = &transfer->call;
    Gabion__SyncBlocksRequest request = GABION__SYNC_BLOCKS_REQUEST__INIT;

    request.cluster = queue->client->map->id;
    call->method = "/gabion.Block/SyncBlocks";
    call->lane = RPC_CONTROL;
    call->request = &request.base;
    call->reply_type = &gabion__sync_blocks_reply__descriptor;
    rpc_call_start(queue->rpc, transfer->node->peer, call);
}

/* Have client_wait() tell that the op failed. */
static void fail_later(struct block_queue *queue, struct block_op *op, int rc)
{
    op->rc = rc;
    op->impl = queue->failed;
    queue->failed = op;
}

static void client_start(struct block_io *io,
                         struct block_queue *queue,
                         struct block_op *op)
{
    struct block_node *node = find_node(client_of(io), op->node);
    struct transfer *transfer;

    op->rc = 0;
    op->result_length = 0;
    op->result_instance = 0;
    if (node == NULL) {
        fail_later(queue, op, -EHOSTUNREACH);
        return;
    }
    transfer = calloc(1, sizeof *transfer);
    if (transfer == NULL) {
        fail_later(queue, op, -ENOMEM);
        return;
    }
    transfer->op = op;
    transfer->node = node;
    transfer->begin_ms = clock_mono_ms();
    transfer->call.deadline_ms = op->deadline_ms;
    transfer->call.done = transfer_done;
    transfer->call.context = transfer;
    op->impl = transfer;
    switch (op->type) {
    case BLOCK_PUT:
        start_put(queue, transfer);
        break;
    case BLOCK_GET:
        start_get(queue, transfer);
        break;
    case BLOCK_SYNC:
        start_sync(queue, transfer);
        break;
    }
}

static int client_wait(struct block_io *io,
                       struct block_queue *queue,
                       int64_t deadline_ms)
{
    struct block_op *op = queue->failed;

    (void)io;
    if (op == NULL) {
        return rpc_queue_wait(queue->rpc, deadline_ms);
    }
    queue->failed = op->impl;
    op->impl = NULL;
    op->done(op);
    return 0;
}

static void client_cancel(struct block_io *io, struct block_op *op)
{
    (void)io;
    if (op->rc == 0) { /* else it has failed already and is to be told */
        struct transfer *transfer = op->impl;

        rpc_call_cancel(&transfer->call);
    }
}

static bool client_is_up(struct block_io *io, uint32_t node)
{
    const struct block_node *found = find_node(client_of(io), node);

    return found != NULL && rpc_peer_is_up(found->peer) && !is_silent(found);
}

/* Destructor of the thread-specific value. */
static void release_queue(void *value)
{
    struct block_queue *queue = value;
    struct block_client *client = queue->client;

    assert(queue->failed == NULL);
    (void)pthread_mutex_lock(&client->lock);
    *queue->link = queue->next;
    if (queue->next != NULL) {
        queue->next->link = queue->link;
    }
    (void)pthread_mutex_unlock(&client->lock);
    free(queue);
}

static struct block_queue *make_queue(struct block_client *client)
{
    struct block_queue *queue = calloc(1, sizeof *queue);

    if (queue == NULL) {
        return NULL;
    }
    queue->client = client;
    queue->rpc = rpc_client_thread_queue(client->rpc);
    if (queue->rpc == NULL || pthread_setspecific(client->key, queue) != 0) {
        free(queue);
        return NULL;
    }
    (void)pthread_mutex_lock(&client->lock);
    queue->next = client->queues;
    queue->link = &client->queues;
    if (queue->next != NULL) {
        queue->next->link = &queue->next;
    }
    client->queues = queue;
    (void)pthread_mutex_unlock(&client->lock);
    return queue;
}

static struct block_queue *client_queue(struct block_io *io)
{
    struct block_client *client = client_of(io);
    struct block_queue *queue = pthread_getspecific(client->key);

    return queue != NULL ? queue : make_queue(client);
}

static int find_peers(struct block_client *client)
{
    const struct cluster_map *map = client->map;

    client->nodes = calloc(map->n_nodes, sizeof *client->nodes);
    if (client->nodes == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < map->n_nodes; i++) {
        int rc = rpc_client_peer(client->rpc, map->nodes[i].address,
                                 &client->nodes[i].peer);

        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

int block_client_new(struct rpc_client *rpc,
                     struct cluster_map *map,
                     struct block_client **ret_client)
{
    struct block_client *client = calloc(1, sizeof *client);
    int rc;

    if (client == NULL) {
        return -ENOMEM;
    }
    client->io.start = client_start;
    client->io.wait = client_wait;
    client->io.cancel = client_cancel;
    client->io.is_up = client_is_up;
    client->io.queue = client_queue;
    client->rpc = rpc;
    client->map = map;
    rc = find_peers(client);
    if (rc == 0 && pthread_key_create(&client->key, release_queue) != 0) {
        rc = -ENOMEM;
    }
    if (rc != 0) {
        free(client->nodes);
        free(client);
        return rc;
    }
    (void)pthread_mutex_init(&client->lock, NULL);
    *ret_client = client;
    return 0;
}

void block_client_free(struct block_client *client)
{
    if (client == NULL) {
        return;
    }
    (void)pthread_key_delete(client->key);
    while (client->queues != NULL) {
        struct block_queue *queue = client->queues;

        client->queues = queue->next;
        free(queue);
    }
    (void)pthread_mutex_destroy(&client->lock);
    free(client->nodes);
    free(client);
}

struct block_io *block_client_io(struct block_client *client)
{
    return &client->io;
}
