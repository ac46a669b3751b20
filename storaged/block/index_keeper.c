#include "storaged/block/index_keeper.h"

#include <errno.h>
#include <time.h>

#include "common/clock.h"
#include "common/log.h"
#include "storaged/block/block_state.h"
#include "storaged/block/index_tx.h"

/* Rows wait at most this long, or until there are this many. */
#define FLUSH_MS   200
#define FLUSH_ROWS 1024u

/* After a failure, on a full disk mostly. */
#define RETRY_MS 1000

/* Changes that nobody syncs are synced after this time. */
#define SYNC_MS 10000

/* Bytes written in a stream before the kernel is asked to write them out. */
#define WRITE_OUT_SIZE (8u << 20)

/* Without anything to do, in effect for ever. */
#define IDLE_MS 3600000

void index_keeper_init(struct index_keeper *keeper)
{
    pthread_condattr_t attributes;

    *keeper = (struct index_keeper){ .started = false };
    (void)pthread_mutex_init(&keeper->lock, NULL);
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&keeper->wakeup, &attributes);
    (void)pthread_condattr_destroy(&attributes);
}

static void kick(struct index_keeper *keeper)
{
    (void)pthread_mutex_lock(&keeper->lock);
    if (!keeper->kicked) {
        keeper->kicked = true;
        (void)pthread_cond_signal(&keeper->wakeup);
    }
    (void)pthread_mutex_unlock(&keeper->lock);
}

void index_keeper_note(struct index_keeper *keeper,
                       size_t n_rows,
                       uint32_t backlog)
{
    if (n_rows == 1 || n_rows % FLUSH_ROWS == 0 || backlog >= WRITE_OUT_SIZE) {
        kick(keeper);
    }
}

/* Wait for a kick, the end, or `until_ms`. Returns whether to go on. */
static bool wait_for_work(struct index_keeper *keeper, int64_t until_ms)
{
    struct timespec until = { until_ms / 1000, until_ms % 1000 * 1000000 };
    int rc = 0;
    bool go_on;

    (void)pthread_mutex_lock(&keeper->lock);
    while (!keeper->kicked && !keeper->stopping && rc != ETIMEDOUT) {
        rc = pthread_cond_timedwait(&keeper->wakeup, &keeper->lock, &until);
    }
    keeper->kicked = false;
    go_on = !keeper->stopping;
    (void)pthread_mutex_unlock(&keeper->lock);
    return go_on;
}

/* When to look again although nobody kicks. */
static int64_t next_time(struct block_store *store, int64_t flush_ms)
{
    int64_t now_ms = clock_mono_ms();
    int64_t dirty_ms = segment_set_dirty_ms(&store->set);
    int64_t next_ms = now_ms + IDLE_MS;

    if (pending_count(&store->pending) > 0) {
        next_ms = flush_ms;
    }
    if (dirty_ms > 0 && !block_store_has_failed(store) &&
        now_ms + SYNC_MS - dirty_ms < next_ms) {
        next_ms = now_ms + SYNC_MS - dirty_ms;
    }
    return next_ms;
}

static void *run(void *context)
{
    struct block_store *store = context;
    int64_t flush_ms = 0; /* not before, unless there are many rows */

    while (wait_for_work(&store->keeper, next_time(store, flush_ms))) {
        size_t n_rows = pending_count(&store->pending);
        int64_t now_ms = clock_mono_ms();

        segment_set_write_out(&store->set, WRITE_OUT_SIZE);
        if (segment_set_dirty_ms(&store->set) >= SYNC_MS &&
            !block_store_has_failed(store) && block_store_sync(store) == 0) {
            (void)index_tx_flush(store);
        }
        if (n_rows >= FLUSH_ROWS || (n_rows > 0 && now_ms >= flush_ms)) {
            int rc = index_tx_flush(store);

            flush_ms = clock_mono_ms() + (rc == 0 ? FLUSH_MS : RETRY_MS);
        }
    }
    return NULL;
}

int index_keeper_start(struct index_keeper *keeper, struct block_store *store)
{
    int rc = pthread_create(&keeper->thread, NULL, run, store);

    keeper->started = rc == 0;
    return -rc;
}

void index_keeper_close(struct index_keeper *keeper)
{
    (void)pthread_mutex_lock(&keeper->lock);
    keeper->stopping = true;
    (void)pthread_cond_signal(&keeper->wakeup);
    (void)pthread_mutex_unlock(&keeper->lock);
    if (keeper->started) {
        (void)pthread_join(keeper->thread, NULL);
    }
    (void)pthread_cond_destroy(&keeper->wakeup);
    (void)pthread_mutex_destroy(&keeper->lock);
}
