#include "storaged/block/block_service.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/checksum.h"
#include "common/clock.h"
#include "common/log.h"
#include "proto/block.pb-c.h"
#include "proto/validate.h"
#include "storaged/block/work_queue.h"

#define DELETE_OBJECTS_MAX 1024u
#define LIST_BLOCKS_MAX    10000u

/* Refusals of malformed requests are logged once in this time. */
#define REFUSED_PERIOD_MS 60000

/* A put that takes this long on a poller keeps the others off for a while. */
#define PUT_SLOW_MS  5
#define PUT_AVOID_MS 1000

enum method {
    PUT,
    GET,
    SYNC,
    DELETE,
    LIST,
    STATS,
    N_METHODS
};

struct block_service {
    struct block_store *store;    /* borrowed */
    uint64_t cluster;             /* id */
    uint32_t node;                /* id */
    struct work_queue *transfers; /* owned: puts and gets */
    struct work_queue *syncs;     /* owned: one thread */
    struct work_queue *chores;    /* owned: one thread for the rest */
    int64_t slow_until_ms;        /* atomic: until then pollers do no puts */
    struct log_limit refused;     /* of complaints */
    struct work sync_work;        /* in `syncs` while sync_is_queued */
    pthread_mutex_t lock;         /* guards what follows */
    struct job *waiting_for_sync; /* owned: the next sync's */
    bool sync_is_queued;
    struct rpc_method methods[N_METHODS];
};

/* A request handed to another thread. */
struct job {
    struct work work;              /* first */
    struct block_service *service; /* borrowed */
    struct rpc_request *request;   /* owned */
    void (*serve)(struct block_service *service, struct rpc_request *request);
    struct job *next; /* owned: next of waiting_for_sync */
};

/* What every answer says: 0 or a positive errno, and why. */
struct outcome {
    int rc;            /* 0 or negative errno */
    struct errmsg msg; /* "": the usual text of rc */
};

static int32_t outcome_error(struct block_service *service,
                             const char *method,
                             const struct outcome *outcome)
{
    uint64_t n_dropped;

    if ((outcome->rc == -EINVAL || outcome->rc == -ESTALE) &&
        log_limit_pass(&service->refused, REFUSED_PERIOD_MS, &n_dropped) != 0) {
        log_warn("request refused method=%s detail=\"%s\" more=%" PRIu64,
                 method, outcome->msg.text, n_dropped);
    }
    return -outcome->rc;
}

/* protobuf-c wants a pointer to char, and does not write there. */
static char *outcome_detail(struct outcome *outcome)
{
    if (outcome->rc < 0 && outcome->msg.text[0] == '\0') {
        errmsg_set(&outcome->msg, "%s", err_text(outcome->rc));
    }
    return outcome->msg.text;
}

static int check_cluster(const struct block_service *service,
                         uint64_t cluster,
                         struct errmsg *msg)
{
    if (cluster == service->cluster) {
        return 0;
    }
    errmsg_set(msg,
               "this node is of cluster %016" PRIx64
               ", the request is for %016" PRIx64,
               service->cluster, cluster);
    return -ESTALE;
}

/* ------------------------------------------------------------------- puts */

static int check_put(const struct block_service *service,
                     const struct rpc_request *request,
                     struct block_key *ret_key,
                     struct errmsg *msg)
{
    const Gabion__PutBlockRequest *message =
        (const void *)rpc_request_message(request);
    int rc = check_cluster(service, message->cluster, msg);

    if (rc == 0) {
        rc = validate_block_key(message->key, ret_key, msg);
    }
    if (rc < 0) {
        return rc;
    }
    if (message->length == 0 || message->length > BLOCK_LENGTH_MAX ||
        message->length != rpc_request_payload_size(request)) {
        errmsg_set(msg, "length %u with %zu bytes of data", message->length,
                   rpc_request_payload_size(request));
        return -EINVAL;
    }
    if (message->n_checksum != checksum_units(message->length)) {
        errmsg_set(msg, "%zu checksums for %u bytes", message->n_checksum,
                   message->length);
        return -EINVAL;
    }
    return 0;
}

static void serve_put(struct block_service *service,
                      struct rpc_request *request)
{
    const Gabion__PutBlockRequest *message =
        (const void *)rpc_request_message(request);
    struct outcome outcome = { 0, { "" } };
    struct block_payload payload = { .length = message->length,
                                     .checksums = message->checksum };
    Gabion__PutBlockReply reply;
    struct block_key key;

    outcome.rc = check_put(service, request, &key, &outcome.msg);
    if (outcome.rc == 0) {
        payload.n_iov = rpc_request_payload_iov(request, &payload.iov);
        outcome.rc = block_store_put(service->store, &key, &payload);
    }
    gabion__put_block_reply__init(&reply);
    reply.error = outcome_error(service, "PutBlock", &outcome);
    reply.detail = outcome_detail(&outcome);
    reply.instance = block_store_instance(service->store);
    rpc_reply(request, &reply.base, NULL, 0, 0);
}

/* ------------------------------------------------------------------- gets */

static int get_piece(struct block_service *service,
                     const Gabion__GetBlockRequest *message,
                     bool cached,
                     struct block_piece *ret_piece,
                     struct errmsg *msg)
{
    struct block_key key;
    int rc = check_cluster(service, message->cluster, msg);

    if (rc == 0) {
        rc = validate_block_key(message->key, &key, msg);
    }
    if (rc == 0) {
        rc = block_store_get(service->store, &key, message->offset,
                             message->length, cached, ret_piece);
        if (rc == -EINVAL) {
            errmsg_set(msg, "offset %u, length %u: not in the block",
                       message->offset, message->length);
        }
    }
    return rc;
}

/* Answer a GetBlock; false: not without waiting for the disk. */
static bool try_get(struct block_service *service,
                    struct rpc_request *request,
                    bool cached)
{
    struct outcome outcome = { 0, { "" } };
    struct block_piece piece = { .buf = NULL };
    Gabion__GetBlockReply reply;

    outcome.rc = get_piece(service, (const void *)rpc_request_message(request),
                           cached, &piece, &outcome.msg);
    if (cached && outcome.rc == -EAGAIN) {
        return false;
    }
    gabion__get_block_reply__init(&reply);
    reply.error = outcome_error(service, "GetBlock", &outcome);
    reply.detail = outcome_detail(&outcome);
    if (outcome.rc == 0) {
        reply.block_length = piece.block_length;
        reply.offset = piece.offset;
        reply.n_checksum = checksum_units(piece.length);
        reply.checksum = piece.checksums;
    }
    rpc_reply(request, &reply.base, piece.buf, 0,
              piece.buf != NULL ? piece.length : 0);
    buf_unref(piece.buf);
    return true;
}

static void serve_get(struct block_service *service,
                      struct rpc_request *request)
{
    (void)try_get(service, request, false);
}

/* ------------------------------------------------------------------ syncs */

static void reply_sync(struct block_service *service,
                       struct rpc_request *request,
                       struct outcome *outcome)
{
    Gabion__SyncBlocksReply reply;

    gabion__sync_blocks_reply__init(&reply);
    reply.error = outcome_error(service, "SyncBlocks", outcome);
    reply.detail = outcome_detail(outcome);
    reply.instance = block_store_instance(service->store);
    rpc_reply(request, &reply.base, NULL, 0, 0);
}

/* One sync for all that have been waiting when it begins. */
static void run_sync(struct work *work)
{
    struct block_service *service =
        (struct block_service *)((char *)work -
                                 offsetof(struct block_service, sync_work));
    struct outcome outcome = { 0, { "" } };
    struct job *jobs;

    (void)pthread_mutex_lock(&service->lock);
    jobs = service->waiting_for_sync;
    service->waiting_for_sync = NULL;
    service->sync_is_queued = false;
    (void)pthread_mutex_unlock(&service->lock);
    outcome.rc = block_store_sync(service->store);
    while (jobs != NULL) {
        struct job *job = jobs;

        jobs = job->next;
        reply_sync(service, job->request, &outcome);
        free(job);
    }
}

static void wait_for_sync(struct block_service *service, struct job *job)
{
    bool push;

    (void)pthread_mutex_lock(&service->lock);
    job->next = service->waiting_for_sync;
    service->waiting_for_sync = job;
    push = !service->sync_is_queued;
    service->sync_is_queued = true;
    (void)pthread_mutex_unlock(&service->lock);
    if (push) {
        work_queue_push(service->syncs, &service->sync_work);
    }
}

/* -------------------------------------------------------------- deletions */

static int delete_objects(struct block_service *service,
                          const Gabion__DeleteObjectsRequest *message,
                          uint64_t *ret_n_blocks,
                          struct errmsg *msg)
{
    struct object_id objects[DELETE_OBJECTS_MAX];
    int rc = check_cluster(service, message->cluster, msg);

    if (rc < 0) {
        return rc;
    }
    if (message->n_object > DELETE_OBJECTS_MAX) {
        errmsg_set(msg, "%zu objects, at most %u are allowed",
                   message->n_object, DELETE_OBJECTS_MAX);
        return -EINVAL;
    }
    for (size_t i = 0; i < message->n_object; i++) {
        if (message->object[i].len != OBJECT_ID_SIZE) {
            errmsg_set(msg, "an object id of %zu bytes",
                       message->object[i].len);
            return -EINVAL;
        }
        object_id_decode(message->object[i].data, &objects[i]);
    }
    return block_store_delete_objects(service->store, objects,
                                      message->n_object, ret_n_blocks);
}

static void serve_delete(struct block_service *service,
                         struct rpc_request *request)
{
    struct outcome outcome = { 0, { "" } };
    Gabion__DeleteObjectsReply reply;

    gabion__delete_objects_reply__init(&reply);
    outcome.rc =
        delete_objects(service, (const void *)rpc_request_message(request),
                       &reply.n_blocks, &outcome.msg);
    reply.error = outcome_error(service, "DeleteObjects", &outcome);
    reply.detail = outcome_detail(&outcome);
    rpc_reply(request, &reply.base, NULL, 0, 0);
}

/* ------------------------------------------------------------------ lists */

/* The parts of a reply for one block. */
struct list_entry {
    Gabion__BlockInfo info;
    Gabion__BlockKey key;
    uint8_t object[OBJECT_ID_SIZE];
};

/* Everything that an answer to ListBlocks is made of; owned. */
struct list {
    struct block_info *blocks;
    struct list_entry *entries;
    Gabion__BlockInfo **infos;
    size_t n;
};

static void list_free(struct list *list)
{
    free(list->blocks);
    free(list->entries);
    free(list->infos);
}

static int list_read(struct block_service *service,
                     const struct block_key *after,
                     size_t limit,
                     struct list *list)
{
    int rc = -ENOMEM;

    list->blocks = calloc(limit, sizeof *list->blocks);
    list->entries = calloc(limit, sizeof *list->entries);
    list->infos = calloc(limit, sizeof(Gabion__BlockInfo *));
    if (list->blocks != NULL && list->entries != NULL && list->infos != NULL) {
        rc = block_store_list(service->store, after, limit, list->blocks,
                              &list->n);
    }
    for (size_t i = 0; i < list->n; i++) {
        struct list_entry *entry = &list->entries[i];

        gabion__block_info__init(&entry->info);
        gabion__block_key__init(&entry->key);
        object_id_encode(&list->blocks[i].key.object, entry->object);
        entry->key.object.len = sizeof entry->object;
        entry->key.object.data = entry->object;
        entry->key.stripe = list->blocks[i].key.stripe;
        entry->key.index = list->blocks[i].key.index;
        entry->info.key = &entry->key;
        entry->info.length = list->blocks[i].length;
        list->infos[i] = &entry->info;
    }
    return rc;
}

static int list_blocks(struct block_service *service,
                       const Gabion__ListBlocksRequest *message,
                       struct list *list,
                       struct errmsg *msg)
{
    struct block_key after;
    int rc = check_cluster(service, message->cluster, msg);

    if (rc == 0 && message->after != NULL) {
        rc = validate_block_key(message->after, &after, msg);
    }
    if (rc < 0) {
        return rc;
    }
    if (message->limit == 0 || message->limit > LIST_BLOCKS_MAX) {
        errmsg_set(msg, "a limit of %u, it must be 1..%u", message->limit,
                   LIST_BLOCKS_MAX);
        return -EINVAL;
    }
    return list_read(service, message->after != NULL ? &after : NULL,
                     message->limit, list);
}

static void serve_list(struct block_service *service,
                       struct rpc_request *request)
{
    const Gabion__ListBlocksRequest *message =
        (const void *)rpc_request_message(request);
    struct outcome outcome = { 0, { "" } };
    struct list list = { NULL, NULL, NULL, 0 };
    Gabion__ListBlocksReply reply;

    gabion__list_blocks_reply__init(&reply);
    outcome.rc = list_blocks(service, message, &list, &outcome.msg);
    reply.error = outcome_error(service, "ListBlocks", &outcome);
    reply.detail = outcome_detail(&outcome);
    reply.n_block = list.n;
    reply.block = list.infos;
    reply.more = outcome.rc == 0 && list.n == message->limit;
    rpc_reply(request, &reply.base, NULL, 0, 0);
    list_free(&list);
}

/* ---------------------------------------------------------------- figures */

static void serve_stats(struct block_service *service,
                        struct rpc_request *request)
{
    const Gabion__NodeStatsRequest *message =
        (const void *)rpc_request_message(request);
    struct outcome outcome = { 0, { "" } };
    struct block_store_stats stats;
    Gabion__NodeStatsReply reply;

    gabion__node_stats_reply__init(&reply);
    outcome.rc = check_cluster(service, message->cluster, &outcome.msg);
    if (outcome.rc == 0) {
        outcome.rc = block_store_stats(service->store, &stats);
    }
    if (outcome.rc == 0) {
        reply.node = service->node;
        reply.total = stats.total;
        reply.available = stats.available;
        reply.used = stats.used;
        reply.filesystem = stats.filesystem;
        reply.n_blocks = stats.n_blocks;
        reply.block_bytes = stats.block_bytes;
        reply.instance = stats.instance;
    }
    reply.error = outcome_error(service, "NodeStats", &outcome);
    reply.detail = outcome_detail(&outcome);
    rpc_reply(request, &reply.base, NULL, 0, 0);
}

/* --------------------------------------------------------------- handlers */

static void run_job(struct work *work)
{
    struct job *job = (struct job *)work;

    job->serve(job->service, job->request);
    free(job);
}

/* A job for the request; NULL: refused for want of memory. */
static struct job *job_new(struct block_service *service,
                           struct rpc_request *request)
{
    struct job *job = calloc(1, sizeof *job);

    if (job == NULL) {
        rpc_refuse(request, -ENOMEM, "out of memory");
        return NULL;
    }
    job->work.run = run_job;
    job->service = service;
    job->request = request;
    return job;
}

static void hand_over(struct block_service *service,
                      struct rpc_request *request,
                      struct work_queue *queue,
                      void (*serve)(struct block_service *service,
                                    struct rpc_request *request))
{
    struct job *job = job_new(service, request);

    if (job != NULL) {
        job->serve = serve;
        work_queue_push(queue, &job->work);
    }
}

/* Handing a put to another thread costs a fifth of its time, and a buffered
 * write rarely waits. When one does, the disk is behind: for a while puts then
 * go to the threads. */
static void on_put(struct rpc_request *request, void *context)
{
    struct block_service *service = context;
    int64_t start_ms = clock_mono_ms();
    int64_t end_ms;

    if (start_ms < __atomic_load_n(&service->slow_until_ms, __ATOMIC_RELAXED)) {
        hand_over(service, request, service->transfers, serve_put);
        return;
    }
    serve_put(service, request);
    end_ms = clock_mono_ms();
    if (end_ms - start_ms >= PUT_SLOW_MS) {
        __atomic_store_n(&service->slow_until_ms, end_ms + PUT_AVOID_MS,
                         __ATOMIC_RELAXED);
    }
}

static void on_get(struct rpc_request *request, void *context)
{
    struct block_service *service = context;

    if (!try_get(service, request, true)) {
        hand_over(service, request, service->transfers, serve_get);
    }
}

static void on_sync(struct rpc_request *request, void *context)
{
    const Gabion__SyncBlocksRequest *message =
        (const void *)rpc_request_message(request);
    struct block_service *service = context;
    struct outcome outcome = { 0, { "" } };
    struct job *job;

    outcome.rc = check_cluster(service, message->cluster, &outcome.msg);
    if (outcome.rc < 0) {
        reply_sync(service, request, &outcome);
        return;
    }
    job = job_new(service, request);
    if (job != NULL) {
        wait_for_sync(service, job);
    }
}

static void on_delete(struct rpc_request *request, void *context)
{
    struct block_service *service = context;

    hand_over(service, request, service->chores, serve_delete);
}

static void on_list(struct rpc_request *request, void *context)
{
    struct block_service *service = context;

    hand_over(service, request, service->chores, serve_list);
}

static void on_stats(struct rpc_request *request, void *context)
{
    struct block_service *service = context;

    hand_over(service, request, service->chores, serve_stats);
}

static void set_methods(struct block_service *service)
{
    const struct rpc_method methods[N_METHODS] = {
        [PUT] = { "/gabion.Block/PutBlock",
                  &gabion__put_block_request__descriptor, on_put, service },
        [GET] = { "/gabion.Block/GetBlock",
                  &gabion__get_block_request__descriptor, on_get, service },
        [SYNC] = { "/gabion.Block/SyncBlocks",
                   &gabion__sync_blocks_request__descriptor, on_sync, service },
        [DELETE] = { "/gabion.Block/DeleteObjects",
                     &gabion__delete_objects_request__descriptor, on_delete,
                     service },
        [LIST] = { "/gabion.Block/ListBlocks",
                   &gabion__list_blocks_request__descriptor, on_list, service },
        [STATS] = { "/gabion.Block/NodeStats",
                    &gabion__node_stats_request__descriptor, on_stats,
                    service },
    };

    memcpy(service->methods, methods, sizeof methods);
}

int block_service_new(const struct block_service_options *options,
                      struct block_service **ret_service)
{
    struct block_service *service = calloc(1, sizeof *service);
    int rc;

    if (service == NULL) {
        return -ENOMEM;
    }
    service->store = options->store;
    service->cluster = options->cluster;
    service->node = options->node;
    service->sync_work.run = run_sync;
    (void)pthread_mutex_init(&service->lock, NULL);
    set_methods(service);
    rc = work_queue_new(options->n_threads > 0 ? options->n_threads
                                               : BLOCK_SERVICE_THREADS,
                        &service->transfers);
    if (rc == 0) {
        rc = work_queue_new(1, &service->syncs);
    }
    if (rc == 0) {
        rc = work_queue_new(1, &service->chores);
    }
    if (rc < 0) {
        block_service_free(service);
        return rc;
    }
    *ret_service = service;
    return 0;
}

const struct rpc_method *block_service_methods(struct block_service *service,
                                               size_t *ret_n)
{
    *ret_n = N_METHODS;
    return service->methods;
}

void block_service_free(struct block_service *service)
{
    if (service == NULL) {
        return;
    }
    work_queue_free(service->transfers);
    work_queue_free(service->syncs);
    work_queue_free(service->chores);
    (void)pthread_mutex_destroy(&service->lock);
    free(service);
}
