#include "storaged/meta/meta_service.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "proto/validate.h"
#include "storaged/block/space.h"
#include "storaged/meta/checker.h"
#include "storaged/meta/garbage.h"
#include "storaged/meta/meta_read.h"
#include "storaged/meta/meta_reads.h"
#include "storaged/meta/meta_reply.h"
#include "storaged/meta/reader_pool.h"
#include "storaged/meta/reaper.h"
#include "storaged/meta/sessions.h"

#define METHODS (META_READS_METHODS + 3u)

/* Room that an op takes at most, and each of its extents: about. */
#define OP_BYTES     8192u
#define EXTENT_BYTES 128u

struct meta_service {
    uint64_t cluster;
    int64_t expiry_ms;
    struct shard *shard;       /* owned */
    struct sessions *sessions; /* owned */
    struct reader_pool *pool;  /* owned */
    struct meta_reads *reads;  /* owned */
    struct reaper *reaper;     /* owned */
    struct garbage *garbage;   /* owned */
    struct checker *checker;   /* owned */
    int dir;                   /* owned: where the database is; -1 none */
    bool has_space;            /* `space` is to be closed */
    struct space space;        /* of the filesystem there */
    struct rpc_method methods[METHODS];
};

/* A Submit on its way through the shard. */
struct submission {
    struct meta_service *service; /* borrowed */
    struct rpc_request *rpc;      /* owned; the ops lie in it */
    struct shard_request request;
};

/* ---------------------------------------------------------------- Submit */

/* Whether a mount may send these ops together; `*ret_session` is whose they
 * are, 0 when that is no matter. Errors: -EINVAL with the reason in `msg` */
static int check_ops(const Gabion__SubmitRequest *request,
                     uint64_t *ret_session,
                     struct errmsg *msg)
{
    uint64_t session = request->n_op > 0 ? request->op[0]->session : 0;

    if (request->n_op > SHARD_OPS_MAX) {
        errmsg_set(msg, "%zu ops in one request, at most %u are allowed",
                   request->n_op, SHARD_OPS_MAX);
        return -EINVAL;
    }
    for (size_t i = 0; i < request->n_op; i++) {
        const Gabion__Op *op = request->op[i];

        if (op->body_case == GABION__OP__BODY_OPEN_SESSION) {
            session = 0;
            if (request->n_op > 1) {
                errmsg_set(msg, "OpenSession does not come alone");
                return -EINVAL;
            }
        } else if (op->session == 0 || op->session != session) {
            errmsg_set(msg, "the ops are not of one session");
            return -EINVAL;
        }
        if (op->body_case == GABION__OP__BODY_REAP_ORPHANS ||
            op->body_case == GABION__OP__BODY_FORGET_OBJECTS ||
            (op->body_case == GABION__OP__BODY_CLOSE_SESSION &&
             op->close_session->expired)) {
            errmsg_set(msg, "an op that only the shard itself may make");
            return -EINVAL;
        }
    }
    *ret_session = session;
    return 0;
}

/* A session has come or gone with this op. */
static void note_session(struct meta_service *service,
                         const Gabion__Op *op,
                         Gabion__OpResult *result)
{
    if (result->error != 0) {
        return;
    }
    if (op->body_case == GABION__OP__BODY_OPEN_SESSION) {
        /* On failure it expires after the next restart. */
        result->error = -sessions_add(service->sessions, op->session);
        log_info("session opened session=%" PRIx64 " host=\"%s\"", op->session,
                 op->open_session->host);
    } else if (op->body_case == GABION__OP__BODY_CLOSE_SESSION) {
        sessions_remove(service->sessions, op->session);
        log_info("session closed session=%" PRIx64, op->session);
    }
}

static void submit_done(struct shard_request *request)
{
    struct submission *submission = request->context;
    Gabion__SubmitReply reply;

    if (request->rc < 0) {
        meta_reply_error(submission->rpc, &gabion__submit_reply__descriptor,
                         request->rc == -ECANCELED ? EIO : -request->rc,
                         request->detail);
    } else {
        for (size_t i = 0; i < request->n_ops; i++) {
            note_session(submission->service, request->ops[i],
                         request->results[i]);
        }
        gabion__submit_reply__init(&reply);
        reply.n_result = request->n_ops;
        reply.result = request->results;
        rpc_reply(submission->rpc, &reply.base, NULL, 0, 0);
    }
    free(submission);
}

/* Whether numbers are given out: a loss of power must not take them back, as
 * they would be given out a second time while the first one's objects and
 * inodes are about. */
static bool gives_numbers(const Gabion__SubmitRequest *request)
{
    for (size_t i = 0; i < request->n_op; i++) {
        if (request->op[i]->body_case == GABION__OP__BODY_OPEN_SESSION ||
            request->op[i]->body_case == GABION__OP__BODY_RESERVE_INODES) {
            return true;
        }
    }
    return false;
}

/* Bytes that the op adds to the database; 0: it may even take away. */
static uint64_t room_for(const Gabion__Op *op)
{
    uint64_t bytes = OP_BYTES;

    switch (op->body_case) {
    case GABION__OP__BODY_CREATE:
    case GABION__OP__BODY_LINK:
    case GABION__OP__BODY_CLONE:
        return bytes;
    case GABION__OP__BODY_SET_XATTR:
        return bytes + op->set_xattr->value.len;
    case GABION__OP__BODY_COMMIT_WRITES:
        for (size_t i = 0; i < op->commit_writes->n_file; i++) {
            const Gabion__FileWrite *file = op->commit_writes->file[i];

            bytes += EXTENT_BYTES * file->n_extent;
            for (size_t j = 0; j < file->n_extent; j++) {
                bytes += file->extent[j]->data.len;
            }
        }
        return bytes;
    default:
        return 0;
    }
}

/* Whether there is room for the ops. Errors: -ENOSPC; those of space_take() */
static int take_room(struct meta_service *service,
                     const Gabion__SubmitRequest *request)
{
    static struct log_limit limit;
    uint64_t bytes = 0;
    uint64_t dropped;
    int rc;

    for (size_t i = 0; i < request->n_op; i++) {
        bytes += room_for(request->op[i]);
    }
    rc = bytes > 0 ? space_take(&service->space, bytes) : 0;
    if (rc < 0 && log_limit_pass(&limit, 60000, &dropped)) {
        log_warn("no room for more metadata error=\"%s\"", err_text(rc));
    }
    return rc;
}

static void handle_submit(struct rpc_request *rpc, void *context)
{
    const ProtobufCMessageDescriptor *type = &gabion__submit_reply__descriptor;
    const Gabion__SubmitRequest *request =
        (const Gabion__SubmitRequest *)rpc_request_message(rpc);
    struct meta_service *service = context;
    struct submission *submission;
    struct errmsg msg = { "" };
    uint64_t session = 0;
    int rc;

    if (!meta_request_is_for(rpc, service->cluster, type)) {
        return;
    }
    if (validate_submit(request, &msg) < 0 ||
        check_ops(request, &session, &msg) < 0) {
        meta_reply_error(rpc, type, EINVAL, msg.text);
        return;
    }
    if (session != 0 && sessions_touch(service->sessions, session) < 0) {
        meta_reply_error(rpc, type, ESTALE, "the session has expired");
        return;
    }
    rc = take_room(service, request);
    if (rc < 0) {
        meta_reply_error(rpc, type, -rc, NULL);
        return;
    }
    submission = calloc(1, sizeof *submission);
    if (submission == NULL) {
        meta_reply_error(rpc, type, ENOMEM, NULL);
        return;
    }
    if (request->n_op > 0 && session == 0) {
        request->op[0]->session = 0; /* OpenSession: the shard chooses */
    }
    submission->service = service;
    submission->rpc = rpc;
    submission->request = (struct shard_request){
        .ops = request->op,
        .n_ops = request->n_op,
        .durable = request->durable || gives_numbers(request),
        .done = submit_done,
        .context = submission,
    };
    shard_submit(service->shard, &submission->request);
}

/* Runs after each entry: wake those who find work in what it left. */
static void applied(void *context, const Gabion__Batch *batch)
{
    struct meta_service *service = context;

    for (size_t i = 0; i < batch->n_op; i++) {
        switch (batch->op[i]->body_case) {
        case GABION__OP__BODY_UNLINK:
        case GABION__OP__BODY_RENAME:
        case GABION__OP__BODY_CLOSE_SESSION:
            reaper_wake(service->reaper);
            garbage_wake(service->garbage);
            break;
        case GABION__OP__BODY_SET_ATTR:
        case GABION__OP__BODY_COMMIT_WRITES:
        case GABION__OP__BODY_ALLOCATE:
        case GABION__OP__BODY_CLONE:
        case GABION__OP__BODY_REAP_ORPHANS:
            garbage_wake(service->garbage);
            break;
        default:
            break;
        }
    }
}

/* ------------------------------------------------------------- Heartbeat */

/* Answer with the orphans in `orphans`. Errors: -ENOMEM nothing answered */
static int reply_orphans(struct meta_service *service,
                         struct rpc_request *rpc,
                         const struct meta_orphan *orphans,
                         size_t n)
{
    Gabion__HeartbeatReply reply;
    Gabion__Orphan *messages = calloc(n + 1, sizeof *messages);
    Gabion__Orphan **pointers = calloc(n + 1, sizeof(void *));
    int rc = -ENOMEM;

    if (messages != NULL && pointers != NULL) {
        for (size_t i = 0; i < n; i++) {
            gabion__orphan__init(&messages[i]);
            messages[i].number = orphans[i].number;
            messages[i].ino = orphans[i].ino;
            pointers[i] = &messages[i];
        }
        gabion__heartbeat_reply__init(&reply);
        reply.orphan = pointers;
        reply.n_orphan = n;
        reply.expiry_ms = (uint32_t)service->expiry_ms;
        rpc_reply(rpc, &reply.base, NULL, 0, 0);
        rc = 0;
    }
    free(pointers);
    free(messages);
    return rc;
}

static int heartbeat(struct meta_service *service, struct rpc_request *rpc)
{
    const Gabion__HeartbeatRequest *request =
        (const Gabion__HeartbeatRequest *)rpc_request_message(rpc);
    struct meta_orphan *orphans = NULL;
    struct meta_reader *reader = NULL;
    size_t n = 0;
    int rc;

    rc = sessions_heartbeat(service->sessions, request->session,
                            request->orphans_seen, request->held,
                            request->n_held);
    if (rc < 0) {
        return rc;
    }
    reaper_wake(service->reaper);
    orphans = malloc(META_ORPHANS_MAX * sizeof *orphans);
    rc = orphans == NULL ? -ENOMEM : reader_pool_take(service->pool, &reader);
    if (rc == 0) {
        rc = meta_read_orphans(reader, request->orphans_seen, META_ORPHANS_MAX,
                               orphans, &n);
        reader_pool_give(service->pool, reader);
    }
    if (rc == 0) {
        rc = reply_orphans(service, rpc, orphans, n);
    }
    free(orphans);
    return rc;
}

static void handle_heartbeat(struct rpc_request *rpc, void *context)
{
    const ProtobufCMessageDescriptor *type =
        &gabion__heartbeat_reply__descriptor;
    struct meta_service *service = context;
    int rc;

    if (!meta_request_is_for(rpc, service->cluster, type)) {
        return;
    }
    rc = heartbeat(service, rpc);
    if (rc < 0) {
        meta_reply_error(rpc, type, -rc,
                         rc == -ESTALE ? "the session has expired" : NULL);
    }
}

/* ------------------------------------------------------------------ life */

/* Every session of the database lives, for now. */
static int load_sessions(struct meta_service *service)
{
    struct meta_reader *reader;
    uint64_t *ids = NULL;
    size_t n = 0;
    int rc = reader_pool_take(service->pool, &reader);

    if (rc < 0) {
        return rc;
    }
    rc = meta_read_sessions(reader, &ids, &n);
    reader_pool_give(service->pool, reader);
    for (size_t i = 0; i < n && rc == 0; i++) {
        rc = sessions_add(service->sessions, ids[i]);
    }
    free(ids);
    return rc;
}

static int keepers_new(struct meta_service *service,
                       const struct meta_service_config *config)
{
    int64_t (*real_ns)(void) =
        config->real_ns != NULL ? config->real_ns : clock_real_ns;
    struct reaper_config reaper = { service->shard, service->sessions,
                                    real_ns };
    struct garbage_config garbage = { service->shard, config->rpc, config->map,
                                      real_ns };
    int rc = reaper_new(&reaper, &service->reaper);

    if (rc == 0) {
        rc = garbage_new(&garbage, &service->garbage);
    }
    return rc != 0 ? rc
                   : checker_new(shard_db(service->shard), service->cluster,
                                 &service->checker);
}

static void fill_methods(struct meta_service *service)
{
    service->methods[0] = (struct rpc_method){
        .path = "/gabion.Meta/Submit",
        .request_type = &gabion__submit_request__descriptor,
        .handler = handle_submit,
        .context = service,
    };
    service->methods[1] = (struct rpc_method){
        .path = "/gabion.Meta/Heartbeat",
        .request_type = &gabion__heartbeat_request__descriptor,
        .handler = handle_heartbeat,
        .context = service,
    };
    service->methods[2] = checker_method(service->checker);
    meta_reads_methods(service->reads, service->methods + 3);
}

static int space_new(struct meta_service *service,
                     const struct meta_service_config *config)
{
    service->dir = meta_db_open_directory(config->shard.path);
    if (service->dir < 0) {
        return service->dir;
    }
    service->has_space = true;
    return space_init(&service->space, service->dir, config->reserve);
}

/* Everything behind the shard. */
static int parts_new(struct meta_service *service,
                     const struct meta_service_config *config)
{
    int rc = space_new(service, config);

    if (rc == 0) {
        rc = sessions_new(service->expiry_ms,
                          config->mono_ms != NULL ? config->mono_ms
                                                  : clock_mono_ms,
                          &service->sessions);
    }
    if (rc == 0) {
        rc = reader_pool_new(shard_db(service->shard), &service->pool);
    }
    if (rc == 0) {
        rc = meta_reads_new(service->cluster, service->pool, &service->reads);
    }
    if (rc == 0) {
        rc = load_sessions(service);
    }
    if (rc == 0) {
        rc = keepers_new(service, config);
    }
    return rc;
}

int meta_service_new(const struct meta_service_config *config,
                     struct meta_service **ret_service,
                     struct errmsg *msg)
{
    struct meta_service *service = calloc(1, sizeof *service);
    struct shard_config shard = config->shard;
    int rc;

    if (service == NULL) {
        errmsg_set(msg, "out of memory");
        return -ENOMEM;
    }
    service->dir = -1;
    service->cluster = shard.cluster;
    service->expiry_ms =
        config->expiry_ms != 0 ? config->expiry_ms : META_EXPIRY_MS;
    shard.applied = applied;
    shard.context = service;
    rc = shard_new(&shard, &service->shard, msg);
    if (rc < 0) {
        meta_service_free(service);
        return rc;
    }
    rc = parts_new(service, config);
    if (rc < 0) {
        errmsg_set(msg, "metadata service: %s", err_text(rc));
        meta_service_free(service);
        return rc;
    }
    fill_methods(service);
    *ret_service = service;
    return 0;
}

void meta_service_free(struct meta_service *service)
{
    if (service == NULL) {
        return;
    }
    checker_free(service->checker);
    garbage_free(service->garbage);
    reaper_free(service->reaper);
    meta_reads_free(service->reads);
    reader_pool_free(service->pool);
    shard_free(service->shard);
    sessions_free(service->sessions);
    if (service->has_space) {
        space_close(&service->space);
    }
    if (service->dir >= 0) {
        (void)close(service->dir);
    }
    free(service);
}

const struct rpc_method *meta_service_methods(struct meta_service *service,
                                              size_t *ret_n)
{
    *ret_n = METHODS;
    return service->methods;
}

int meta_service_start(struct meta_service *service)
{
    int rc = shard_start(service->shard);

    if (rc == 0) {
        rc = reaper_start(service->reaper);
    }
    if (rc == 0) {
        rc = garbage_start(service->garbage);
    }
    if (rc == 0) {
        rc = checker_start(service->checker);
    }
    return rc;
}

void meta_service_stop(struct meta_service *service)
{
    checker_stop(service->checker);
    garbage_stop(service->garbage);
    reaper_stop(service->reaper);
    shard_stop(service->shard);
}

struct shard *meta_service_shard(struct meta_service *service)
{
    return service->shard;
}
