#include "storaged/block/block_store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "storaged/block/block_delete.h"
#include "storaged/block/block_state.h"
#include "storaged/block/index_tx.h"
#include "storaged/block/recovery.h"

/* Trouble. */

bool block_store_has_failed(const struct block_store *store)
{
    return __atomic_load_n(&store->failed, __ATOMIC_ACQUIRE);
}

void block_store_fail(struct block_store *store, const char *what, int error)
{
    if (!__atomic_exchange_n(&store->failed, true, __ATOMIC_ACQ_REL)) {
        log_error("block store failed, it is read-only until the next start: "
                  "check the disk operation=%s error=%s",
                  what, err_text(error));
    }
}

int block_store_check_index(struct block_store *store, int rc)
{
    if (rc == -EMFILE) {
        return -EIO;
    }
    if (rc != -EBADMSG && rc != -EIO) {
        return rc;
    }
    if (!__atomic_exchange_n(&store->index_broken, true, __ATOMIC_ACQ_REL)) {
        log_error("block index is damaged, the next start rebuilds it path=%s "
                  "error=%s",
                  store->index_path, err_text(rc));
    }
    block_store_fail(store, "index", rc);
    return -EIO;
}

bool block_store_may_report(struct block_store *store, uint64_t place)
{
    uint64_t *slot = &store->reported[place % REPORTED_SLOTS];

    return __atomic_exchange_n(slot, place, __ATOMIC_RELAXED) != place;
}

/* Opening. */

static int sync_segments(void *context)
{
    struct block_store *store = context;
    int rc;

    if (block_store_has_failed(store)) {
        return -EIO;
    }
    rc = segment_set_sync(&store->set);
    if (rc < 0 && rc != -ENOMEM) {
        block_store_fail(store, "sync", rc);
        rc = -EIO;
    }
    return rc;
}

static void init_parts(struct block_store *store,
                       const struct block_store_options *options,
                       int segments_fd)
{
    uint32_t size =
        options->segment_size > 0 ? options->segment_size : SEGMENT_SIZE_MAX;

    store->disk = options->disk != NULL ? options->disk : disk_system();
    segment_set_init(&store->set, segments_fd, size, store->disk);
    pending_init(&store->pending);
    group_sync_init(&store->sync, sync_segments, store);
    index_keeper_init(&store->keeper);
    (void)pthread_mutex_init(&store->index_lock, NULL);
}

static void close_parts(struct block_store *store)
{
    index_keeper_close(&store->keeper);
    group_sync_close(&store->sync);
    pending_close(&store->pending);
    segment_set_close(&store->set);
    row_cache_close(&store->rows);
    space_close(&store->space);
    (void)pthread_mutex_destroy(&store->index_lock);
}

static int open_directories(struct block_store *store,
                            const struct block_store_options *options)
{
    int segments_fd;
    int rc;

    store->dir_fd = open(options->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (store->dir_fd < 0) {
        return -errno;
    }
    if (mkdirat(store->dir_fd, "segments", 0700) < 0 && errno != EEXIST) {
        return -errno;
    }
    if (fsync(store->dir_fd) < 0) {
        return -errno;
    }
    rc = space_identity(store->dir_fd, &store->filesystem);
    if (rc < 0) {
        return rc;
    }
    segments_fd =
        openat(store->dir_fd, "segments", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (segments_fd < 0) {
        return -errno;
    }
    init_parts(store, options, segments_fd);
    rc = space_init(&store->space, store->dir_fd, options->reserve);
    if (rc == 0) {
        rc = row_cache_init(&store->rows);
    }
    if (rc < 0) {
        close_parts(store);
    }
    return rc;
}

static int open_new_index(struct block_store *store, struct errmsg *msg)
{
    int rc = block_index_discard(store->index_path, true);

    if (rc < 0) {
        errmsg_set(msg, "cannot move the damaged index %s aside: %s",
                   store->index_path, err_text(rc));
        return rc;
    }
    return block_index_open(store->index_path, &store->index, msg);
}

/* Open the index, or make a new one, and bring it up to date. */
static int open_index(struct block_store *store, struct errmsg *msg)
{
    struct stat status;
    bool is_new = stat(store->index_path, &status) < 0 && errno == ENOENT;
    int rc = 0;

    if (is_new) {
        rc = block_index_discard(store->index_path, false);
    }
    if (rc == 0) {
        rc = block_index_open(store->index_path, &store->index, msg);
    }
    if (rc == -EBADMSG) {
        log_warn("block index is damaged, rebuilding it path=%s",
                 store->index_path);
        is_new = true;
        rc = open_new_index(store, msg);
    }
    if (rc < 0) {
        return rc;
    }
    rc = recovery_run(store, is_new, msg);
    if (rc < 0 && store->index_broken) {
        block_index_close(store->index, false);
        store->index = NULL;
        store->index_broken = false;
        store->failed = false;
        rc = open_new_index(store, msg);
        if (rc == 0) {
            rc = recovery_run(store, true, msg);
        }
    }
    return rc;
}

static void store_free(struct block_store *store)
{
    if (store->dir_fd >= 0) {
        (void)close(store->dir_fd);
    }
    free(store->index_path);
    free(store);
}

/* A store whose directories are open; nothing else yet. */
static int store_new(const struct block_store_options *options,
                     struct block_store **ret_store,
                     struct errmsg *msg)
{
    struct block_store *store = calloc(1, sizeof *store);
    int rc = -ENOMEM;

    if (store != NULL) {
        store->dir_fd = -1;
        if (asprintf(&store->index_path, "%s/index.db", options->dir) < 0) {
            store->index_path = NULL;
        } else if (getrandom(&store->instance, sizeof store->instance, 0) !=
                   (ssize_t)sizeof store->instance) {
            rc = -EIO;
        } else {
            rc = open_directories(store, options);
        }
    }
    if (rc < 0) {
        errmsg_set(msg, "cannot open the block store in %s: %s", options->dir,
                   err_text(rc));
        if (store != NULL) {
            store_free(store);
        }
        return rc;
    }
    *ret_store = store;
    return 0;
}

int block_store_open(const struct block_store_options *options,
                     struct block_store **ret_store,
                     struct errmsg *msg)
{
    struct block_store *store;
    int rc;

    if (options->segment_size > SEGMENT_SIZE_MAX ||
        (options->segment_size > 0 &&
         options->segment_size < 2 * RECORD_PAYLOAD_MAX)) {
        errmsg_set(msg, "the segment size must be from 2 MiB to 256 MiB");
        return -EINVAL;
    }
    rc = store_new(options, &store, msg);
    if (rc < 0) {
        return rc;
    }
    rc = recovery_find_segments(store, msg);
    if (rc == 0) {
        rc = open_index(store, msg);
    }
    if (rc == 0) {
        rc = block_delete_empty_segments(store);
    }
    if (rc == 0) {
        rc = index_keeper_start(&store->keeper, store);
    }
    if (rc < 0) {
        close_parts(store);
        block_index_close(store->index, false);
        store_free(store);
        return rc;
    }
    *ret_store = store;
    return 0;
}

void block_store_close(struct block_store *store)
{
    bool clean;

    if (store == NULL) {
        return;
    }
    index_keeper_close(&store->keeper);
    index_keeper_init(&store->keeper);
    clean = block_store_sync(store) == 0 && index_tx_flush(store) == 0 &&
            block_index_sync(store->index) == 0;
    close_parts(store);
    block_index_close(store->index, clean);
    if (store->index_broken) {
        int rc = block_index_discard(store->index_path, true);

        if (rc < 0) {
            log_error("cannot move the damaged index aside path=%s error=%s",
                      store->index_path, err_text(rc));
        }
    }
    store_free(store);
}

int block_store_sync(struct block_store *store)
{
    return group_sync_wait(&store->sync);
}

uint64_t block_store_instance(const struct block_store *store)
{
    return store->instance;
}

int block_store_list(struct block_store *store,
                     const struct block_key *after,
                     size_t limit,
                     struct block_info *ret_blocks,
                     size_t *ret_n)
{
    struct index_row *rows = calloc(limit + 1, sizeof *rows);
    size_t n = 0;
    int rc;

    if (rows == NULL) {
        return -ENOMEM;
    }
    rc = index_tx_flush(store);
    if (rc == 0) {
        rc = block_store_check_index(
            store, block_index_list(store->index, after, limit, rows, &n));
    }
    for (size_t i = 0; i < n; i++) {
        ret_blocks[i] = (struct block_info){ rows[i].key, rows[i].length };
    }
    free(rows);
    if (rc == 0) {
        *ret_n = n;
    }
    return rc;
}

static uint64_t index_size(const struct block_store *store)
{
    static const char *const names[] = { "index.db", "index.db-wal" };
    struct stat status;
    uint64_t bytes = 0;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (fstatat(store->dir_fd, names[i], &status, 0) == 0) {
            bytes += (uint64_t)status.st_blocks * 512;
        }
    }
    return bytes;
}

/* Count what lives in the segments. */
static int count_blocks(struct block_store *store,
                        struct block_store_stats *stats)
{
    struct segment **segments;
    size_t n = 0;
    int rc;

    (void)index_tx_flush(store);
    (void)pthread_mutex_lock(&store->index_lock);
    rc = segment_set_list(&store->set, &segments, &n);
    if (rc == 0) {
        for (size_t i = 0; i < n; i++) {
            stats->n_blocks += segments[i]->n_live;
            stats->block_bytes += segments[i]->live_bytes;
        }
        free(segments);
    }
    (void)pthread_mutex_unlock(&store->index_lock);
    return rc;
}

int block_store_stats(struct block_store *store,
                      struct block_store_stats *ret_stats)
{
    struct space_figures space;
    int rc = space_measure(&store->space, &space);

    if (rc < 0) {
        return rc;
    }
    *ret_stats = (struct block_store_stats){
        .total = space.total,
        .available = space.available,
        .used = segment_set_allocated(&store->set) + index_size(store),
        .filesystem = store->filesystem,
        .instance = store->instance,
    };
    return count_blocks(store, ret_stats);
}
