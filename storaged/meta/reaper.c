#include "storaged/meta/reaper.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/log.h"
#include "storaged/meta/keeper.h"
#include "storaged/meta/meta_read.h"

/* Orphans looked at, and so freed at most, per entry: others wait that long. */
#define PORTION 64u

/* Entries made in one step. */
#define ENTRIES_MAX 1024u

/* A step so late tells that this process did not run: it was stopped, or the
 * machine was. */
#define LATE_MS 2000

struct reaper {
    struct reaper_config config;
    struct meta_reader *reader; /* owned */
    struct keeper *keeper;      /* owned */
    int64_t due_ms;             /* when the next step begins at the latest; 0:
                                   it may be at any time */
};

static int run_op(struct reaper *reaper, Gabion__Op *op)
{
    int error;
    int rc;

    op->now_ns = reaper->config.real_ns();
    rc = shard_run(reaper->config.shard, op, &error);
    return rc < 0 ? rc : -error;
}

static void expire_session(struct reaper *reaper, uint64_t id)
{
    Gabion__CloseSession body = GABION__CLOSE_SESSION__INIT;
    Gabion__Op op = GABION__OP__INIT;
    int rc;

    body.expired = true;
    op.session = id;
    op.body_case = GABION__OP__BODY_CLOSE_SESSION;
    op.close_session = &body;
    rc = run_op(reaper, &op);
    if (rc < 0 && rc != -ESTALE) {
        return; /* still marked: tried again in the next step */
    }
    log_info("session expired session=%" PRIx64, id);
    sessions_remove(reaper->config.sessions, id);
}

/* Sessions whose heartbeats we could not hear are not to blame. */
static void pardon_if_late(struct reaper *reaper)
{
    int64_t late_ms = clock_mono_ms() - reaper->due_ms;

    if (reaper->due_ms != 0 && late_ms > LATE_MS) {
        log_warn("did not run for a while, sessions are given more time "
                 "milliseconds=%" PRId64,
                 late_ms);
        sessions_pardon(reaper->config.sessions);
    }
}

static void expire(struct reaper *reaper)
{
    uint64_t ids[PORTION];
    size_t n = sessions_expired(reaper->config.sessions, ids, PORTION);

    for (size_t i = 0; i < n; i++) {
        expire_session(reaper, ids[i]);
    }
}

/* Free those of the orphans that nobody needs, `*ret_n` of them. */
static int reap_portion(struct reaper *reaper,
                        const struct meta_orphan *orphans,
                        size_t n,
                        size_t *ret_n)
{
    Gabion__ReapOrphans body = GABION__REAP_ORPHANS__INIT;
    Gabion__Op op = GABION__OP__INIT;
    struct sessions_survey survey;
    uint64_t inos[PORTION];
    int rc;

    body.ino = inos;
    rc = sessions_survey_get(reaper->config.sessions, &survey);
    if (rc < 0) {
        return rc;
    }
    for (size_t i = 0; i < n; i++) {
        if (sessions_survey_allows(&survey, orphans[i].number,
                                   orphans[i].ino)) {
            inos[body.n_ino++] = orphans[i].ino;
        }
    }
    sessions_survey_clear(&survey);
    *ret_n = body.n_ino;
    if (body.n_ino == 0) {
        return 0;
    }
    op.body_case = GABION__OP__BODY_REAP_ORPHANS;
    op.reap_orphans = &body;
    return run_op(reaper, &op);
}

/* Go through all orphans; `*ret_more`: not to the end.
 *
 * Every portion is read before the sessions are asked: a session opened after
 * the reading cannot have any of these inodes open. A portion of which some
 * were freed is read once more: of a file with very many extents an entry
 * frees only some. */
static int reap(struct reaper *reaper, bool *ret_more)
{
    struct meta_orphan orphans[PORTION];
    uint64_t after = 0;
    size_t n = PORTION;
    size_t n_entries = 0;
    size_t n_freed = 0;
    int rc = 0;

    while (rc == 0 && (n == PORTION || n_freed > 0)) {
        if (n_entries == ENTRIES_MAX || keeper_is_stopping(reaper->keeper)) {
            *ret_more = true;
            return 0;
        }
        n_freed = 0;
        rc = meta_read_orphans(reaper->reader, after, PORTION, orphans, &n);
        if (rc == 0 && n > 0) {
            rc = reap_portion(reaper, orphans, n, &n_freed);
        }
        if (n_freed > 0) {
            n_entries++;
        } else if (n > 0) {
            after = orphans[n - 1].number;
        }
    }
    *ret_more = false;
    return rc;
}

static int64_t reaper_step(void *context)
{
    static struct log_limit limit;
    struct reaper *reaper = context;
    int64_t wait_ms;
    uint64_t dropped;
    bool more = false;
    int rc;

    pardon_if_late(reaper);
    expire(reaper);
    rc = reap(reaper, &more);
    /* A shard that stopped has said so itself. */
    if (rc < 0 && rc != -EIO && rc != -ECANCELED &&
        log_limit_pass(&limit, 60000, &dropped)) {
        log_warn("orphans not reaped error=\"%s\"", err_text(rc));
    }
    wait_ms = sessions_next_expiry_ms(reaper->config.sessions);
    if (more || wait_ms > REAPER_PERIOD_MS) {
        wait_ms = REAPER_PERIOD_MS;
    }
    /* The keeper rests for a period, whatever we say. */
    reaper->due_ms = wait_ms < 0 ? 0 : clock_mono_ms() + REAPER_PERIOD_MS;
    return wait_ms;
}

int reaper_new(const struct reaper_config *config, struct reaper **ret_reaper)
{
    struct reaper *reaper = calloc(1, sizeof *reaper);
    int rc;

    if (reaper == NULL) {
        return -ENOMEM;
    }
    reaper->config = *config;
    rc = keeper_new(reaper_step, reaper, REAPER_PERIOD_MS, &reaper->keeper);
    if (rc == 0) {
        rc = meta_reader_open(shard_db(config->shard), &reaper->reader);
    }
    if (rc < 0) {
        reaper_free(reaper);
        return rc;
    }
    *ret_reaper = reaper;
    return 0;
}

void reaper_free(struct reaper *reaper)
{
    if (reaper == NULL) {
        return;
    }
    if (reaper->reader != NULL) {
        meta_reader_close(reaper->reader);
    }
    keeper_free(reaper->keeper);
    free(reaper);
}

int reaper_start(struct reaper *reaper)
{
    return keeper_start(reaper->keeper);
}

void reaper_stop(struct reaper *reaper)
{
    keeper_stop(reaper->keeper);
}

void reaper_wake(struct reaper *reaper)
{
    keeper_wake(reaper->keeper);
}
