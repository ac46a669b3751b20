/* The keeper of sessions and orphans: expires sessions that have fallen silent
 * and frees unlinked inodes that nobody needs any more.
 *
 * One thread. It looks at the orphans when it is woken, at most once per
 * REAPER_PERIOD_MS, and at the sessions when one may have expired.
 *
 * A reaper that finds itself late has not run, and neither has who receives the
 * heartbeats: then all sessions are given a full period again.
 *
 * An orphan is reaped only when every session of the shard has seen its number
 * and none holds it (see sessions.h). */
#pragma once

#include <stdint.h>

#include "common/err.h"
#include "storaged/meta/sessions.h"
#include "storaged/meta/shard.h"

#define REAPER_PERIOD_MS 1000

struct reaper;

struct reaper_config {
    struct shard *shard;       /* borrowed */
    struct sessions *sessions; /* borrowed */
    int64_t (*real_ns)(void);  /* clock of the ops made here */
};

/* Errors: -ENOMEM; -EIO, -EBADMSG the database */
MUST_CHECK int reaper_new(const struct reaper_config *config,
                          struct reaper **ret_reaper);

/* Errors: -EAGAIN, -ENOMEM no thread */
MUST_CHECK int reaper_start(struct reaper *reaper);

/* Before shard_stop(). Does nothing when not started. */
void reaper_stop(struct reaper *reaper);
void reaper_free(struct reaper *reaper); /* NULL is allowed */

/* There may be something to reap. Cheap; any thread. */
void reaper_wake(struct reaper *reaper);
