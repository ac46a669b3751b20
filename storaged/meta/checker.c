#include "storaged/meta/checker.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>

#include "common/log.h"
#include "proto/metadata.pb-c.h"
#include "storaged/meta/keeper.h"
#include "storaged/meta/meta_check.h"
#include "storaged/meta/meta_reply.h"

struct checker {
    struct meta_db *db; /* borrowed */
    uint64_t cluster;
    struct keeper *keeper; /* owned */

    pthread_mutex_t lock;          /* guards what follows */
    uint64_t check;                /* number of the latest; 0: none yet */
    bool is_running;               /* the latest is not done */
    int rc;                        /* what became of it */
    struct meta_findings findings; /* of it */
};

static bool is_stopping(void *context)
{
    const struct checker *checker = context;

    return keeper_is_stopping(checker->keeper);
}

static void tell(const struct meta_findings *findings)
{
    for (size_t i = 0; i < findings->n_texts; i++) {
        log_error("metadata contradicts itself finding=\"%s\"",
                  findings->texts[i]);
    }
    if (findings->n > findings->n_texts) {
        log_error("metadata contradicts itself more=%" PRIu64,
                  findings->n - findings->n_texts);
    }
}

/* The keeper's step: run the check that is wanted. */
static int64_t run_check(void *context)
{
    struct checker *checker = context;
    struct meta_findings findings;
    bool is_wanted;
    int rc;

    (void)pthread_mutex_lock(&checker->lock);
    is_wanted = checker->is_running;
    (void)pthread_mutex_unlock(&checker->lock);
    if (!is_wanted) {
        return -1;
    }
    rc = meta_check(checker->db, is_stopping, checker, &findings);
    if (rc == 0) {
        tell(&findings);
    }
    (void)pthread_mutex_lock(&checker->lock);
    checker->rc = rc;
    checker->findings = findings;
    checker->is_running = false;
    (void)pthread_mutex_unlock(&checker->lock);
    return -1;
}

/* ------------------------------------------------------------------- asking */

static void begin_locked(struct checker *checker)
{
    if (checker->is_running) {
        return;
    }
    meta_findings_clear(&checker->findings);
    checker->check++;
    checker->is_running = true;
    keeper_wake(checker->keeper);
}

static void answer_locked(const struct checker *checker,
                          struct rpc_request *rpc)
{
    Gabion__CheckShardReply reply;
    char *texts[META_FINDINGS_MAX];

    gabion__check_shard_reply__init(&reply);
    reply.check = checker->check;
    reply.done = !checker->is_running;
    if (reply.done) {
        reply.n_findings = checker->findings.n;
        reply.n_finding = checker->findings.n_texts;
        reply.finding = texts;
        for (size_t i = 0; i < reply.n_finding; i++) {
            texts[i] = checker->findings.texts[i];
        }
    }
    rpc_reply(rpc, &reply.base, NULL, 0, 0);
}

static void handle_check(struct rpc_request *rpc, void *context)
{
    const ProtobufCMessageDescriptor *type =
        &gabion__check_shard_reply__descriptor;
    const Gabion__CheckShardRequest *request =
        (const Gabion__CheckShardRequest *)rpc_request_message(rpc);
    struct checker *checker = context;

    if (!meta_request_is_for(rpc, checker->cluster, type)) {
        return;
    }
    (void)pthread_mutex_lock(&checker->lock);
    if (request->check == 0) {
        begin_locked(checker);
    }
    if (request->check != 0 && request->check != checker->check) {
        meta_reply_error(rpc, type, ESTALE, "there is no such check");
    } else if (!checker->is_running && checker->rc != 0) {
        meta_reply_error(rpc, type, -checker->rc, NULL);
    } else {
        answer_locked(checker, rpc);
    }
    (void)pthread_mutex_unlock(&checker->lock);
}

/* --------------------------------------------------------------------- life */

int checker_new(struct meta_db *db,
                uint64_t cluster,
                struct checker **ret_checker)
{
    struct checker *checker = calloc(1, sizeof *checker);
    int rc;

    if (checker == NULL) {
        return -ENOMEM;
    }
    checker->db = db;
    checker->cluster = cluster;
    (void)pthread_mutex_init(&checker->lock, NULL);
    rc = keeper_new(run_check, checker, 0, &checker->keeper);
    if (rc != 0) {
        checker_free(checker);
        return rc;
    }
    *ret_checker = checker;
    return 0;
}

void checker_free(struct checker *checker)
{
    if (checker == NULL) {
        return;
    }
    keeper_free(checker->keeper);
    meta_findings_clear(&checker->findings);
    (void)pthread_mutex_destroy(&checker->lock);
    free(checker);
}

int checker_start(struct checker *checker)
{
    return keeper_start(checker->keeper);
}

void checker_stop(struct checker *checker)
{
    keeper_stop(checker->keeper);
}

struct rpc_method checker_method(struct checker *checker)
{
    return (struct rpc_method){
        .path = "/gabion.Meta/CheckShard",
        .request_type = &gabion__check_shard_request__descriptor,
        .handler = handle_check,
        .context = checker,
    };
}
