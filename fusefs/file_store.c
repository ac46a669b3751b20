/* The file store of a mount: its life, its background thread, its memory. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "common/clock.h"
#include "common/log.h"
#include "fusefs/file_impl.h"

#define CACHE_SIZE_MIN ((uint64_t)32 << 20)

/* On two cores more threads only contend. */
#define IO_THREADS_DEFAULT 3u

#define AHEAD_MAX ((uint64_t)8 << 20)

/* Age at which the background flushes a file, or makes a commit durable. */
#define DIRTY_MS_MAX    1000
#define UNSYNCED_MS_MAX 500

#define TICK_MS 250

/* How often trouble of the background is logged. */
#define LOG_PERIOD_MS 10000

/* How long to wait for buffers that the network still holds. */
#define RELEASE_WAIT_MS 1000

/* ---------------------------------------------------------------- writeback */

/* Files dirty since `before_ms` or longer, at most `max`, longest first, each
 * with a reference. */
static size_t collect_dirty(struct file_store *store,
                            int64_t before_ms,
                            struct file **ret_files,
                            size_t max)
{
    size_t n = 0;

    (void)pthread_mutex_lock(&store->lock);
    for (struct file *file = store->dirty_first; file != NULL && n < max;
         file = file->dirty_next) {
        if (file->dirty_since_ms <= before_ms) {
            file->refs++;
            ret_files[n++] = file;
        }
    }
    (void)pthread_mutex_unlock(&store->lock);
    return n;
}

/* Flush and release the files; errors are noted for their next callers. */
static int flush_collected(struct file_store *store,
                           struct file **files,
                           size_t n,
                           enum flush_how how)
{
    struct file **left = calloc(n + 1, sizeof(struct file *));
    int rc = left != NULL ? 0 : -ENOMEM;

    for (size_t i = 0; i < n && rc == 0; i++) {
        left[i] = files[i];
    }
    if (rc == 0 && n > 0) {
        rc = file_flush_many(store, left, n, how, true);
    }
    for (size_t i = 0; i < n; i++) {
        file_put(files[i]);
    }
    free(left);
    return rc;
}

static void log_trouble(struct log_limit *limit, const char *what, int rc)
{
    uint64_t dropped;

    if (log_limit_pass(limit, LOG_PERIOD_MS, &dropped)) {
        log_warn("%s error=\"%s\" more=%llu", what, err_text(rc),
                 (unsigned long long)dropped);
    }
}

/* Wait for the next tick, or for somebody in a hurry. False: the end. */
static bool wait_tick(struct file_store *store)
{
    struct timespec until;
    bool goes_on;
    int rc = 0;

    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += TICK_MS * 1000000L;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    (void)pthread_mutex_lock(&store->lock);
    while (!store->stopping && !store->hurry && rc == 0) {
        rc = pthread_cond_timedwait(&store->wake, &store->lock, &until);
    }
    store->hurry = false;
    goes_on = !store->stopping;
    (void)pthread_mutex_unlock(&store->lock);
    return goes_on;
}

static void *run_writeback(void *argument)
{
    struct file_store *store = argument;
    struct log_limit flush_limit = { 0 };
    struct log_limit sync_limit = { 0 };

    while (wait_tick(store)) {
        struct file *files[FLUSH_FILES_MAX];
        int64_t now_ms = clock_mono_ms();
        size_t n =
            collect_dirty(store, now_ms - DIRTY_MS_MAX, files, FLUSH_FILES_MAX);
        int rc = flush_collected(store, files, n, FLUSH_COMMIT);

        if (rc != 0) {
            log_trouble(&flush_limit, "cannot write back", rc);
        }
        rc = unsynced_write_back(store->unsynced, now_ms - UNSYNCED_MS_MAX);
        if (rc != 0) {
            log_trouble(&sync_limit, "cannot make data durable", rc);
        }
    }
    return NULL;
}

void file_store_hurry(struct file_store *store, struct file *file)
{
    (void)pthread_mutex_lock(&store->lock);
    if (file->dirty_since_ms != 0) {
        file->dirty_since_ms = 0;
        store->hurry = true;
        (void)pthread_cond_signal(&store->wake);
    }
    (void)pthread_mutex_unlock(&store->lock);
}

/* ------------------------------------------------------------------- memory */

int file_store_wait_memory(struct file_store *store, uint64_t changes)
{
    struct file *files[FLUSH_FILES_MAX];
    uint64_t before = write_memory_used(store->memory);
    size_t n;
    int rc;

    if (write_memory_wait(store->memory, changes)) {
        return 0;
    }
    n = collect_dirty(store, INT64_MAX, files, FLUSH_FILES_MAX);
    rc = flush_collected(store, files, n, FLUSH_COMMIT);
    write_memory_made_room(store->memory);
    if (n == 0) {
        write_memory_wait_release(store->memory, RELEASE_WAIT_MS);
    }
    return write_memory_used(store->memory) < before ? 0 : rc;
}

/* --------------------------------------------------------------------- life */

static int init_parts(struct file_store *store)
{
    const struct file_store_config *config = &store->config;
    struct log_env *env = &store->env;
    unsigned n_threads =
        config->n_io_threads > 0 ? config->n_io_threads : IO_THREADS_DEFAULT;
    uint64_t cache_limit = config->cache_size / 2;
    int rc;

    env->objio = config->objio;
    env->meta = config->meta;
    env->outage = &store->outage;
    env->policy = config->policy;
    env->stripe_length = (size_t)config->policy.k * config->policy.unit;
    env->stripe_buf_size = objio_stripe_buf_size(&config->policy);
    env->object_size_max =
        OBJECT_SIZE_MAX / env->stripe_length * env->stripe_length;
    store->ahead_max =
        cache_limit / 4 < AHEAD_MAX ? cache_limit / 4 : AHEAD_MAX;

    /* Of the rest, a quarter is for buffers between two uses. */
    rc = write_memory_new(config->cache_size / 8 * 3, env->stripe_buf_size,
                          4 * n_threads, &store->memory);
    env->memory = store->memory;
    if (rc == 0) {
        rc = io_pool_new(n_threads, &store->pool);
        env->pool = store->pool;
    }
    if (rc == 0) {
        rc = read_cache_new(config->objio, store->pool, cache_limit,
                            &store->cache);
    }
    if (rc == 0) {
        rc = unsynced_new(config->meta, &store->unsynced);
    }
    return rc;
}

static void free_parts(struct file_store *store)
{
    io_pool_free(store->pool);
    read_cache_free(store->cache);
    unsynced_free(store->unsynced);
    write_memory_free(store->memory);
    (void)pthread_cond_destroy(&store->wake);
    (void)pthread_mutex_destroy(&store->lock);
    free(store);
}

int file_store_new(const struct file_store_config *config,
                   struct file_store **ret_store)
{
    struct file_store *store;
    pthread_condattr_t attr;
    int rc;

    if (config->cache_size < CACHE_SIZE_MIN || config->policy.k == 0 ||
        config->policy.unit == 0) {
        return -EINVAL;
    }
    store = calloc(1, sizeof *store);
    if (store == NULL) {
        return -ENOMEM;
    }
    store->config = *config;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&store->lock, NULL);
    (void)pthread_cond_init(&store->wake, &attr);
    (void)pthread_condattr_destroy(&attr);
    rc = init_parts(store);
    if (rc == 0 &&
        pthread_create(&store->writeback, NULL, run_writeback, store) != 0) {
        rc = -EAGAIN;
    }
    if (rc != 0) {
        free_parts(store);
        return rc;
    }
    *ret_store = store;
    return 0;
}

void file_store_free(struct file_store *store)
{
    if (store == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&store->lock);
    store->stopping = true;
    (void)pthread_cond_signal(&store->wake);
    (void)pthread_mutex_unlock(&store->lock);
    (void)pthread_join(store->writeback, NULL);
    for (size_t i = 0; i < FILE_BUCKETS; i++) {
        assert(store->buckets[i] == NULL);
    }
    free_parts(store);
}

void file_store_get_stats(struct file_store *store,
                          struct file_store_stats *ret_stats)
{
    ret_stats->write_bytes = write_memory_used(store->memory);
    ret_stats->read_bytes = read_cache_used(store->cache);
}

/* ------------------------------------------------------------------- syncfs */

/* All dirty files, each with a reference. */
static int collect_all(struct file_store *store,
                       struct file ***ret_files,
                       size_t *ret_n)
{
    struct file **files;
    size_t n = 0;

    (void)pthread_mutex_lock(&store->lock);
    for (struct file *file = store->dirty_first; file != NULL;
         file = file->dirty_next) {
        n++;
    }
    files = calloc(n + 1, sizeof(struct file *));
    n = 0;
    for (struct file *file = store->dirty_first; files != NULL && file != NULL;
         file = file->dirty_next) {
        file->refs++;
        files[n++] = file;
    }
    (void)pthread_mutex_unlock(&store->lock);
    *ret_files = files;
    *ret_n = n;
    return files != NULL ? 0 : -ENOMEM;
}

static uint64_t count_pending(struct file_store *store)
{
    struct file **files;
    uint64_t sum = 0;
    size_t n;

    if (collect_all(store, &files, &n) != 0) {
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        (void)pthread_mutex_lock(&files[i]->lock);
        sum += pending_bytes(&files[i]->active) +
               pending_bytes(&files[i]->flushing);
        (void)pthread_mutex_unlock(&files[i]->lock);
        file_put(files[i]);
    }
    free(files);
    return sum;
}

int file_store_sync(struct file_store *store, uint64_t *ret_lost)
{
    struct file_meta *meta = store->config.meta;
    struct file **files;
    size_t n;
    int rc = collect_all(store, &files, &n);
    int sync_rc;

    if (rc == 0) {
        rc = flush_collected(store, files, n, FLUSH_SYNC);
        free(files);
    }
    sync_rc = unsynced_sync(store->unsynced, UNSYNCED_ALL);
    rc = rc != 0 ? rc : sync_rc;
    sync_rc = meta->sync(meta);
    rc = rc != 0 ? rc : sync_rc;
    *ret_lost = rc != 0 ? count_pending(store) : 0;
    return rc;
}
