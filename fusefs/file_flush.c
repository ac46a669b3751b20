/* Flushing as its callers know it: which files go together, whom to tell. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/flush_batch.h"

/* Bounds of one commit. */
#define BATCH_EXTENTS_MAX 16384u
#define BATCH_INLINE_MAX  (1u << 20)

static bool is_gone(int rc)
{
    return rc == -ENOENT || rc == -ESTALE;
}

/* Flush one file whose flush_lock is held. */
static int flush_held(struct file *file, enum flush_how how, bool *ret_durable)
{
    struct flush_item item = { .file = file };
    int sync_rc = flush_batch_run(file->store, &item, 1, how, ret_durable);

    if (item.is_clean) {
        /* Not the last one: the caller has its own. */
        file_put(file);
    }
    return item.rc != 0 ? item.rc : sync_rc;
}

int file_flush_held(struct file *file, enum flush_how how)
{
    bool durable;

    return flush_held(file, how, &durable);
}

/* Let the next caller of the file be told. */
static void note_error(struct file *file, int rc)
{
    (void)pthread_mutex_lock(&file->lock);
    if (is_gone(rc)) {
        file->lost_error = rc;
    } else {
        __atomic_store_n(&file->put_error, rc, __ATOMIC_RELAXED);
    }
    (void)pthread_mutex_unlock(&file->lock);
}

/* Flush the files of the items, whose flush_locks are held. Returns the first
 * error. */
static int flush_batch(struct file_store *store,
                       struct flush_item *items,
                       size_t n,
                       enum flush_how how,
                       bool note)
{
    bool durable;
    int first_rc = flush_batch_run(store, items, n, how, &durable);

    for (size_t i = 0; i < n; i++) {
        struct file *file = items[i].file;
        int rc = items[i].rc;

        if (n > 1 && is_gone(rc)) {
            /* Of whom the shard said so is not known: one by one. */
            rc = file_flush_held(file, how);
        }
        if (rc != 0 && note) {
            note_error(file, rc);
        }
        first_rc = first_rc != 0 ? first_rc : rc;
    }
    return first_rc;
}

/* What a file adds to a commit. */
struct load {
    size_t n_extents;
    size_t inline_size;
};

/* Whether the file may join a batch of that load; if so its own is added. */
static bool fits(struct file *file, struct load *load)
{
    struct load sum = *load;
    bool is_first = load->n_extents == 0 && load->inline_size == 0;

    (void)pthread_mutex_lock(&file->lock);
    sum.n_extents += file->active.map.count + 1;
    sum.inline_size += file->active.small_size;
    (void)pthread_mutex_unlock(&file->lock);
    if (!is_first && (sum.n_extents > BATCH_EXTENTS_MAX ||
                      sum.inline_size > BATCH_INLINE_MAX)) {
        return false;
    }
    *load = sum;
    return true;
}

/* Choose files for a batch and lock them: the first one as long as it takes,
 * the others only if they are free. The chosen ones are NULL afterwards. */
static size_t choose_batch(struct file **files,
                           size_t n,
                           struct flush_item *ret_items)
{
    struct load load = { 0 };
    size_t n_items = 0;

    for (size_t i = 0; i < n && n_items < FLUSH_FILES_MAX; i++) {
        struct file *file = files[i];

        if (file == NULL) {
            continue;
        }
        if (n_items == 0) {
            (void)pthread_mutex_lock(&file->flush_lock);
        } else if (pthread_mutex_trylock(&file->flush_lock) != 0) {
            continue;
        }
        if (!fits(file, &load)) {
            (void)pthread_mutex_unlock(&file->flush_lock);
            continue;
        }
        memset(&ret_items[n_items], 0, sizeof ret_items[0]);
        ret_items[n_items++].file = file;
        files[i] = NULL;
    }
    return n_items;
}

/* Drop what a flush of the items has taken and locked. */
static void release_batch(struct flush_item *items, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        (void)pthread_mutex_unlock(&items[i].file->flush_lock);
        if (items[i].is_clean) {
            file_put(items[i].file);
        }
    }
}

int file_flush_many(struct file_store *store,
                    struct file **files,
                    size_t n,
                    enum flush_how how,
                    bool note)
{
    size_t max = n < FLUSH_FILES_MAX ? n : FLUSH_FILES_MAX;
    struct flush_item *items = calloc(max + 1, sizeof *items);
    size_t n_items;
    int first_rc = 0;

    if (items == NULL) {
        return -ENOMEM;
    }
    while ((n_items = choose_batch(files, n, items)) > 0) {
        int rc = flush_batch(store, items, n_items, how, note);

        release_batch(items, n_items);
        first_rc = first_rc != 0 ? first_rc : rc;
    }
    free(items);
    return first_rc;
}

/* ------------------------------------------------------------ one file's own
 */

/* Flush for a caller who is told of what went wrong, earlier things included.
 */
static int flush_and_tell(struct file *file,
                          enum flush_how how,
                          bool *ret_durable)
{
    int told;
    int rc;

    (void)pthread_mutex_lock(&file->flush_lock);
    rc = flush_held(file, how, ret_durable);
    (void)pthread_mutex_unlock(&file->flush_lock);
    (void)pthread_mutex_lock(&file->lock);
    file->is_new = false;
    told = file->lost_error;
    file->lost_error = 0;
    /* Bytes that could not be stored earlier are stored now, or `rc` says why
     * not. */
    __atomic_store_n(&file->put_error, 0, __ATOMIC_RELAXED);
    (void)pthread_mutex_unlock(&file->lock);
    return rc != 0 ? rc : told;
}

int file_flush(struct file *file)
{
    bool durable;

    return flush_and_tell(file, FLUSH_COMMIT, &durable);
}

int file_settle(struct file *file)
{
    struct file_set set;
    int rc = 0;

    file_held(file, &set);
    if (set.valid != 0) {
        (void)pthread_mutex_lock(&file->flush_lock);
        rc = file_flush_held(file, FLUSH_COMMIT);
        (void)pthread_mutex_unlock(&file->flush_lock);
    }
    return rc;
}

/* Make blocks durable that were committed without. */
static int sync_earlier(struct file *file)
{
    return unsynced_sync(file->store->unsynced, file->ino);
}

int file_sync_data(struct file *file)
{
    bool durable;
    int rc = flush_and_tell(file, FLUSH_SYNC, &durable);

    return rc != 0 ? rc : sync_earlier(file);
}

int file_fsync(struct file *file)
{
    struct file_meta *meta = file->store->config.meta;
    bool durable;
    int rc = flush_and_tell(file, FLUSH_DURABLE, &durable);

    if (rc == 0) {
        rc = sync_earlier(file);
    }
    if (rc == 0 && !durable) {
        rc = meta->sync(meta);
    }
    return rc;
}
