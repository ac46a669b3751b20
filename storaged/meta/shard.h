/* One metadata shard at work: requests gather in a queue, everything that waits
 * is applied as one entry in one transaction, and one sync makes all entries
 * before it durable (group commit).
 *
 *     shard_submit ─► queue ─► entry: apply + commit ─┬─► done (not durable)
 *                                                     └─► sync ─► done
 *
 * An apply thread takes what waits; while requests come one at a time the
 * submitting thread does so itself, which saves a change of threads. A sync
 * thread syncs while applying goes on; an entry for which nobody waits is
 * synced within SHARD_SYNC_DELAY_MS. A checkpoint thread keeps the WAL short.
 *
 * An error of the database stops the shard for good: it is logged once, and
 * every request, waiting or later, ends with -EIO and the reason.
 *
 * Raft will take the place of queue and sync, in front of the same
 * apply_entry(): the choices that an op needs from the leader are stamped when
 * an entry is put together. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "proto/metadata.pb-c.h"
#include "storaged/meta/meta_db.h"

#define SHARD_OPS_MAX       512u /* in one entry, so in one request */
#define SHARD_SYNC_DELAY_MS 100

struct shard;

/* A request. The caller's memory: zero it, fill in the first part, keep it and
 * the ops until `done` has run. */
struct shard_request {
    /* Borrowed, valid in form (proto/validate.h); applied in one entry, in
     * order. An OpenSession without a session number is given one here. */
    Gabion__Op *const *ops;
    size_t n_ops; /* at most SHARD_OPS_MAX; 0: only wait for earlier ones */
    bool durable; /* done when it, and all before, survive the loss of power */

    /* Called exactly once, without locks, on any thread: that of shard_submit()
     * before it returns, another one even earlier. Must be short and not
     * submit. */
    void (*done)(struct shard_request *request);
    void *context; /* borrowed, for done */

    /* Result. 0; -EIO the shard has stopped; -ECANCELED it was told to stop;
     * -ENOMEM nothing was applied */
    int rc;
    const char *detail;         /* when rc < 0: why, for people */
    Gabion__OpResult **results; /* n_ops, in the order of the ops; borrowed,
                                   until done returns */
    struct shard_request *next; /* private */
};

struct shard_config {
    const char *path; /* borrowed by shard_new: the database */
    uint64_t cluster;
    uint32_t slot;
    uint64_t wal_pages_max; /* checkpoint above this; 0: 16384 */

    /* After each entry, before its requests are done, on the thread that
     * applied it. Must be short. May be NULL. */
    void (*applied)(void *context, const Gabion__Batch *batch);
    void *context; /* borrowed, for applied */

    /* meta_db_sync() when NULL: a seam for tests. */
    int (*sync)(struct meta_db *db);
};

/* Open the database, creating it when there is none. Errors as
 * meta_db_open(), told in `msg`. */
MUST_CHECK int shard_new(const struct shard_config *config,
                         struct shard **ret_shard,
                         struct errmsg *msg);

/* Start the threads. Errors: -EAGAIN, -ENOMEM no more threads; then only
 * shard_free() is allowed. */
MUST_CHECK int shard_start(struct shard *shard);

/* Refuse new requests, finish those that wait, sync, end the threads. Does
 * nothing when not started. */
void shard_stop(struct shard *shard);

/* Stopped or never started; no reader may be open. NULL is allowed. */
void shard_free(struct shard *shard);

/* Hand in a request. Trouble is told through done. Any thread. */
void shard_submit(struct shard *shard, struct shard_request *request);

/* Submit one op and wait until it is applied. `*ret_error` is the op's result,
 * 0 or a positive errno. Errors: those of struct shard_request.rc */
MUST_CHECK int shard_run(struct shard *shard, Gabion__Op *op, int *ret_error);

/* Wait until all that any reader can see by now is durable. Errors: those of
 * struct shard_request.rc */
MUST_CHECK int shard_sync(struct shard *shard);

/* The database, for opening readers. Borrowed. */
struct meta_db *shard_db(struct shard *shard);

/* Counters since shard_new(). */
struct shard_stats {
    uint64_t entries; /* committed */
    uint64_t ops;     /* in them */
    uint64_t syncs;
    uint64_t checkpoints;
};
void shard_get_stats(struct shard *shard, struct shard_stats *ret_stats);
