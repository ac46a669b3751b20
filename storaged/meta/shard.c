#include "storaged/meta/shard.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/log.h"
#include "storaged/meta/apply.h"

#define WAL_PAGES_MAX 16384u
/* A lone request is applied by the thread that submits it: that saves a change
 * of threads, a tenth of the time of a Create over RPC. With several clients at
 * work it would thin the entries and cost a third of the throughput: so only
 * after this many entries in a row with one request and none waiting after. */
#define LONE_MIN 64u

#define SHARD_THREADS 3u

/* Requests on their way through one transaction: their ops are one batch. */
struct entry {
    struct entry *next;
    int refs; /* atomic: of the one that applied it, and of the list unsynced */
    struct shard_request *requests; /* borrowed, linked, in order; once applied
                                       only those that wait for a sync */
    struct apply_results results;   /* owned */
    Gabion__Batch batch;            /* its ops lie in `ops` */
    Gabion__Op *ops[SHARD_OPS_MAX]; /* borrowed from the requests */
};

struct shard {
    struct shard_config config; /* path is not kept */
    struct meta_db *db;         /* owned; written by the one that applies */
    uint64_t next_session;      /* never given yet; the one that applies */

    pthread_mutex_t lock; /* guards all below */
    bool started;         /* requests are taken */
    bool stopping;        /* no new requests */
    bool applied_all;     /* stopping, and nothing will be applied any more */
    bool applying;        /* some thread is the one that applies */
    unsigned lone;        /* lone entries in a row, see LONE_MIN */
    bool checkpoint_wanted;
    int rc;                /* 0, or why the shard stopped */
    struct errmsg failure; /* what clients are told; never changes once set */
    struct shard_request *queue; /* borrowed, linked: waiting to be applied */
    struct shard_request **queue_end;
    struct entry *unsynced; /* owned: with requests that wait for a sync */
    struct entry **unsynced_end;
    uint64_t synced;        /* of stats.entries, those known to be durable */
    int64_t sync_due_ms;    /* when entries without waiters are synced */
    pthread_cond_t applier; /* wakes the apply thread */
    pthread_cond_t syncer;  /* wakes the sync thread */
    pthread_cond_t checkpointer; /* wakes the checkpoint thread */
    struct shard_stats stats;

    pthread_t threads[SHARD_THREADS]; /* apply, sync, checkpoint */
    unsigned n_threads;               /* of them, those that run */
};

int shard_new(const struct shard_config *config,
              struct shard **ret_shard,
              struct errmsg *msg)
{
    struct shard *shard = calloc(1, sizeof *shard);
    int rc;

    if (shard == NULL) {
        errmsg_set(msg, "out of memory");
        return -ENOMEM;
    }
    shard->config = *config;
    shard->config.path = NULL;
    if (shard->config.wal_pages_max == 0) {
        shard->config.wal_pages_max = WAL_PAGES_MAX;
    }
    if (shard->config.sync == NULL) {
        shard->config.sync = meta_db_sync;
    }
    shard->lone = LONE_MIN;
    shard->queue_end = &shard->queue;
    shard->unsynced_end = &shard->unsynced;
    (void)pthread_mutex_init(&shard->lock, NULL);
    (void)pthread_cond_init(&shard->applier, NULL);
    (void)pthread_cond_init(&shard->syncer, NULL);
    (void)pthread_cond_init(&shard->checkpointer, NULL);
    rc = meta_db_open(config->path, config->cluster, config->slot,
                      clock_real_ns(), &shard->db, msg);
    if (rc < 0) {
        shard_free(shard);
        return rc;
    }
    shard->next_session = meta_db_next_session(shard->db);
    *ret_shard = shard;
    return 0;
}

void shard_free(struct shard *shard)
{
    if (shard == NULL) {
        return;
    }
    assert(shard->n_threads == 0);
    if (shard->db != NULL) {
        meta_db_close(shard->db);
    }
    (void)pthread_cond_destroy(&shard->checkpointer);
    (void)pthread_cond_destroy(&shard->syncer);
    (void)pthread_cond_destroy(&shard->applier);
    (void)pthread_mutex_destroy(&shard->lock);
    free(shard);
}

struct meta_db *shard_db(struct shard *shard)
{
    return shard->db;
}

void shard_get_stats(struct shard *shard, struct shard_stats *ret_stats)
{
    (void)pthread_mutex_lock(&shard->lock);
    *ret_stats = shard->stats;
    (void)pthread_mutex_unlock(&shard->lock);
}

/* ------------------------------------------------------------ completion */

static void finish(struct shard_request *request, int rc, const char *detail)
{
    while (request != NULL) {
        struct shard_request *next = request->next;

        request->rc = rc;
        request->detail = detail;
        request->done(request);
        request = next;
    }
}

static void entry_unref(struct entry *entry)
{
    if (__atomic_sub_fetch(&entry->refs, 1, __ATOMIC_ACQ_REL) == 0) {
        apply_results_free(&entry->results);
        free(entry);
    }
}

/* Finish the requests that wait in a list of entries. */
static void finish_entries(struct entry *entry, int rc, const char *detail)
{
    while (entry != NULL) {
        struct entry *next = entry->next;

        finish(entry->requests, rc, detail);
        entry_unref(entry);
        entry = next;
    }
}

static struct shard_request *take_queue_locked(struct shard *shard)
{
    struct shard_request *queue = shard->queue;

    shard->queue = NULL;
    shard->queue_end = &shard->queue;
    return queue;
}

static struct entry *take_unsynced_locked(struct shard *shard)
{
    struct entry *unsynced = shard->unsynced;

    shard->unsynced = NULL;
    shard->unsynced_end = &shard->unsynced;
    return unsynced;
}

/* The database failed in step `what`: stop for good and answer everything that
 * waits. The lock is not held. */
static void stop_failed(struct shard *shard, int rc, const char *what)
{
    struct shard_request *queue;
    struct entry *unsynced;

    (void)pthread_mutex_lock(&shard->lock);
    if (shard->rc == 0) {
        shard->rc = -EIO;
        errmsg_set(&shard->failure, "the metadata shard has stopped: %s: %s",
                   what, err_text(rc));
        log_error("metadata shard stopped step=%s error=\"%s\"", what,
                  err_text(rc));
    }
    queue = take_queue_locked(shard);
    unsynced = take_unsynced_locked(shard);
    (void)pthread_cond_signal(&shard->applier);
    (void)pthread_cond_signal(&shard->syncer);
    (void)pthread_cond_signal(&shard->checkpointer);
    (void)pthread_mutex_unlock(&shard->lock);
    finish_entries(unsynced, -EIO, shard->failure.text);
    finish(queue, -EIO, shard->failure.text);
}

/* -------------------------------------------------------------- applying */

/* Make the choices that only the shard can make. */
static void stamp_choices(struct shard *shard, Gabion__Op *op)
{
    if (op->body_case == GABION__OP__BODY_OPEN_SESSION && op->session == 0) {
        op->session = shard->next_session++;
    }
}

/* Move as many waiting requests into a new entry as fit; their number. */
static size_t entry_fill_locked(struct shard *shard, struct entry *entry)
{
    struct shard_request *last = NULL;
    size_t n_requests = 0;
    size_t n = 0;

    for (struct shard_request *r = shard->queue;
         r != NULL && n + r->n_ops <= SHARD_OPS_MAX; r = r->next) {
        for (size_t i = 0; i < r->n_ops; i++) {
            stamp_choices(shard, r->ops[i]);
            entry->ops[n++] = r->ops[i];
        }
        last = r;
        n_requests++;
    }
    assert(last != NULL);
    entry->next = NULL;
    entry->refs = 1;
    entry->requests = shard->queue;
    entry->results = (struct apply_results){ 0 };
    gabion__batch__init(&entry->batch);
    entry->batch.version = 1;
    entry->batch.op = entry->ops;
    entry->batch.n_op = n;
    shard->queue = last->next;
    last->next = NULL;
    if (shard->queue == NULL) {
        shard->queue_end = &shard->queue;
    }
    return n_requests;
}

/* Apply the entry in a transaction of its own. */
static int entry_apply(struct shard *shard, struct entry *entry)
{
    int rc;

    if (entry->batch.n_op == 0) {
        return 0;
    }
    rc = meta_db_begin(shard->db);
    if (rc < 0) {
        return rc;
    }
    rc = apply_entry(shard->db, meta_db_applied(shard->db) + 1, &entry->batch,
                     &entry->results);
    if (rc == 0) {
        rc = meta_db_commit(shard->db);
    }
    if (rc < 0) {
        meta_db_rollback(shard->db);
        return rc;
    }
    assert(entry->results.n == entry->batch.n_op);
    if (shard->config.applied != NULL) {
        shard->config.applied(shard->config.context, &entry->batch);
    }
    return 0;
}

/* Hand out the results; take out the requests that need no sync. */
static struct shard_request *entry_split(struct entry *entry)
{
    Gabion__OpResult **results = entry->results.results;
    struct shard_request *finished = NULL;
    struct shard_request **finished_end = &finished;
    struct shard_request **waiting_end = &entry->requests;

    for (struct shard_request *r = entry->requests; r != NULL; r = r->next) {
        struct shard_request ***end = r->durable ? &waiting_end : &finished_end;

        r->results = results;
        results += r->n_ops;
        **end = r;
        *end = &r->next;
    }
    *waiting_end = NULL;
    *finished_end = NULL;
    return finished;
}

/* The entry has been committed: see that it is synced in time and that the WAL
 * stays short. */
static void committed_locked(struct shard *shard, struct entry *entry)
{
    bool was_synced = shard->synced == shard->stats.entries;

    if (entry->batch.n_op > 0) {
        shard->stats.entries++;
        shard->stats.ops += entry->batch.n_op;
    }
    if (was_synced) {
        shard->sync_due_ms = clock_mono_ms() + SHARD_SYNC_DELAY_MS;
    }
    if (entry->requests != NULL) {
        entry->refs++;
        *shard->unsynced_end = entry;
        shard->unsynced_end = &entry->next;
    }
    if (was_synced || entry->requests != NULL) {
        (void)pthread_cond_signal(&shard->syncer);
    }
    if (!shard->checkpoint_wanted &&
        meta_db_wal_pages(shard->db) > shard->config.wal_pages_max) {
        shard->checkpoint_wanted = true;
        (void)pthread_cond_signal(&shard->checkpointer);
    }
}

static bool may_apply_locked(const struct shard *shard)
{
    return shard->queue != NULL && !shard->applying;
}

/* No longer the one that applies, after an entry of `n_requests`. */
static void release_locked(struct shard *shard, size_t n_requests)
{
    shard->applying = false;
    shard->lone = n_requests == 1 && shard->queue == NULL ? shard->lone + 1 : 0;
    if (shard->queue != NULL || shard->stopping) {
        (void)pthread_cond_signal(&shard->applier);
    }
}

/* Become the one that applies, for one entry of what waits. The lock is held
 * and may_apply_locked() on entry; the lock is not held on return. */
static void apply_one(struct shard *shard)
{
    struct entry *entry = malloc(sizeof *entry);
    struct shard_request *finished;
    size_t n_requests;
    int rc;

    if (entry == NULL) {
        finished = take_queue_locked(shard);
        (void)pthread_mutex_unlock(&shard->lock);
        finish(finished, -ENOMEM, "out of memory");
        return;
    }
    n_requests = entry_fill_locked(shard, entry);
    shard->applying = true;
    (void)pthread_mutex_unlock(&shard->lock);

    rc = entry_apply(shard, entry);
    if (rc < 0) {
        stop_failed(shard, rc, "apply");
    }
    finished = rc == 0 ? entry_split(entry) : NULL;

    (void)pthread_mutex_lock(&shard->lock);
    rc = shard->rc;
    if (rc == 0) {
        committed_locked(shard, entry);
    }
    release_locked(shard, n_requests);
    (void)pthread_mutex_unlock(&shard->lock);

    finish(finished, rc, shard->failure.text);
    if (rc < 0) {
        finish(entry->requests, rc, shard->failure.text);
    }
    entry_unref(entry);
}

void shard_submit(struct shard *shard, struct shard_request *request)
{
    int rc;

    assert(request->n_ops <= SHARD_OPS_MAX);
    request->next = NULL;
    (void)pthread_mutex_lock(&shard->lock);
    rc = shard->rc;
    if (rc == 0 && (shard->stopping || !shard->started)) {
        rc = -ECANCELED;
    }
    if (rc < 0) {
        (void)pthread_mutex_unlock(&shard->lock);
        finish(request, rc,
               rc == -ECANCELED ? "the shard is stopping"
                                : shard->failure.text);
        return;
    }
    *shard->queue_end = request;
    shard->queue_end = &request->next;
    if (may_apply_locked(shard) && shard->lone >= LONE_MIN) {
        apply_one(shard);
        return;
    }
    if (may_apply_locked(shard)) {
        (void)pthread_cond_signal(&shard->applier);
    }
    (void)pthread_mutex_unlock(&shard->lock);
}

struct run {
    struct shard_request request;
    sem_t done;
    int error;
};

static void run_done(struct shard_request *request)
{
    struct run *run = request->context;

    if (request->rc == 0 && request->n_ops > 0) {
        run->error = request->results[0]->error;
    }
    (void)sem_post(&run->done);
}

static int run_and_wait(struct shard *shard, struct run *run)
{
    run->request.done = run_done;
    run->request.context = run;
    (void)sem_init(&run->done, 0, 0);
    shard_submit(shard, &run->request);
    while (sem_wait(&run->done) != 0) {
        assert(errno == EINTR);
    }
    (void)sem_destroy(&run->done);
    return run->request.rc;
}

int shard_run(struct shard *shard, Gabion__Op *op, int *ret_error)
{
    struct run run = { .request = { .ops = &op, .n_ops = 1 } };
    int rc = run_and_wait(shard, &run);

    *ret_error = run.error;
    return rc;
}

int shard_sync(struct shard *shard)
{
    struct run run = { .request = { .durable = true } };

    return run_and_wait(shard, &run);
}

/* --------------------------------------------------------------- threads */

/* Takes what gathered while another thread applied. */
static void *apply_main(void *context)
{
    struct shard *shard = context;

    (void)pthread_mutex_lock(&shard->lock);
    while (!shard->stopping || shard->queue != NULL || shard->applying) {
        if (may_apply_locked(shard)) {
            apply_one(shard);
            (void)pthread_mutex_lock(&shard->lock);
        } else {
            (void)pthread_cond_wait(&shard->applier, &shard->lock);
        }
    }
    shard->applied_all = true;
    (void)pthread_cond_signal(&shard->syncer);
    (void)pthread_mutex_unlock(&shard->lock);
    return NULL;
}

/* Wait until something is to be synced. False when the thread has to end. */
static bool sync_wait_locked(struct shard *shard)
{
    while (shard->rc == 0) {
        bool behind = shard->synced < shard->stats.entries;
        struct timespec due = { .tv_sec = shard->sync_due_ms / 1000,
                                .tv_nsec =
                                    shard->sync_due_ms % 1000 * 1000000 };

        if (shard->unsynced != NULL ||
            (behind &&
             (shard->applied_all || clock_mono_ms() >= shard->sync_due_ms))) {
            return true;
        }
        if (shard->applied_all) {
            return false;
        }
        if (behind) {
            (void)pthread_cond_clockwait(&shard->syncer, &shard->lock,
                                         CLOCK_MONOTONIC, &due);
        } else {
            (void)pthread_cond_wait(&shard->syncer, &shard->lock);
        }
    }
    return false;
}

static void *sync_main(void *context)
{
    struct shard *shard = context;
    int rc = 0;

    (void)pthread_mutex_lock(&shard->lock);
    while (rc == 0 && sync_wait_locked(shard)) {
        struct entry *entries = take_unsynced_locked(shard);
        uint64_t synced = shard->stats.entries;
        bool behind = shard->synced < synced;
        int64_t begun_ms = clock_mono_ms();

        (void)pthread_mutex_unlock(&shard->lock);
        rc = behind ? shard->config.sync(shard->db) : 0;
        if (rc < 0) {
            stop_failed(shard, rc, "sync");
            finish_entries(entries, -EIO, shard->failure.text);
        }
        (void)pthread_mutex_lock(&shard->lock);
        if (rc == 0) {
            shard->synced = synced;
            shard->sync_due_ms = begun_ms + SHARD_SYNC_DELAY_MS;
            shard->stats.syncs += behind;
            (void)pthread_mutex_unlock(&shard->lock);
            finish_entries(entries, 0, NULL);
            (void)pthread_mutex_lock(&shard->lock);
        }
    }
    (void)pthread_mutex_unlock(&shard->lock);
    return NULL;
}

static void *checkpoint_main(void *context)
{
    struct shard *shard = context;
    int rc = 0;

    (void)pthread_mutex_lock(&shard->lock);
    while (!shard->stopping && shard->rc == 0) {
        if (!shard->checkpoint_wanted) {
            (void)pthread_cond_wait(&shard->checkpointer, &shard->lock);
            continue;
        }
        (void)pthread_mutex_unlock(&shard->lock);
        rc = meta_db_checkpoint(shard->db);
        if (rc < 0) {
            stop_failed(shard, rc, "checkpoint");
        }
        (void)pthread_mutex_lock(&shard->lock);
        shard->checkpoint_wanted = false;
        shard->stats.checkpoints++;
    }
    (void)pthread_mutex_unlock(&shard->lock);
    return NULL;
}

int shard_start(struct shard *shard)
{
    static void *(*const mains[])(void *) = { apply_main, sync_main,
                                              checkpoint_main };
    int rc;

    assert(shard->n_threads == 0 && !shard->stopping);
    for (unsigned i = 0; i < SHARD_THREADS; i++) {
        rc = pthread_create(&shard->threads[i], NULL, mains[i], shard);
        if (rc != 0) {
            shard_stop(shard);
            return -rc;
        }
        shard->n_threads++;
    }
    (void)pthread_mutex_lock(&shard->lock);
    shard->started = true;
    (void)pthread_mutex_unlock(&shard->lock);
    return 0;
}

void shard_stop(struct shard *shard)
{
    (void)pthread_mutex_lock(&shard->lock);
    shard->stopping = true;
    (void)pthread_cond_signal(&shard->applier);
    (void)pthread_cond_signal(&shard->checkpointer);
    (void)pthread_mutex_unlock(&shard->lock);
    for (unsigned i = 0; i < shard->n_threads; i++) {
        (void)pthread_join(shard->threads[i], NULL);
    }
    shard->n_threads = 0;
}
