#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "fusefs/file_impl.h"

static void note_put_error(void *context, int rc)
{
    struct file *file = context;

    __atomic_store_n(&file->put_error, rc, __ATOMIC_RELAXED);
}

static struct file *new_file(struct file_store *store, uint64_t ino)
{
    struct file *file = calloc(1, sizeof *file);

    if (file == NULL) {
        return NULL;
    }
    file->store = store;
    file->ino = ino;
    file->refs = 1;
    file->log.env = &store->env;
    file->log.failed = note_put_error;
    file->log.context = file;
    (void)pthread_mutex_init(&file->flush_lock, NULL);
    (void)pthread_mutex_init(&file->lock, NULL);
    (void)pthread_cond_init(&file->changed, NULL);
    return file;
}

static void free_file(struct file *file)
{
    assert(pending_is_empty(&file->active) && !file->is_flushing);
    stripe_log_seal(&file->log);
    pending_clear(&file->active);
    extent_map_clear(&file->layout);
    (void)pthread_cond_destroy(&file->changed);
    (void)pthread_mutex_destroy(&file->lock);
    (void)pthread_mutex_destroy(&file->flush_lock);
    free(file);
}

static struct file **find_locked(struct file_store *store, uint64_t ino)
{
    uint64_t h = ino * 0x9e3779b97f4a7c15u;
    struct file **at = &store->buckets[(h >> 32) % FILE_BUCKETS];

    while (*at != NULL && (*at)->ino != ino) {
        at = &(*at)->bucket_next;
    }
    return at;
}

int file_get(struct file_store *store, uint64_t ino, struct file **ret_file)
{
    struct file **at;

    (void)pthread_mutex_lock(&store->lock);
    at = find_locked(store, ino);
    if (*at != NULL) {
        (*at)->refs++;
    } else {
        *at = new_file(store, ino);
    }
    *ret_file = *at;
    (void)pthread_mutex_unlock(&store->lock);
    return *ret_file != NULL ? 0 : -ENOMEM;
}

void file_put(struct file *file)
{
    struct file_store *store = file->store;
    bool last;

    (void)pthread_mutex_lock(&store->lock);
    last = --file->refs == 0;
    if (last) {
        struct file **at = find_locked(store, file->ino);

        assert(*at == file);
        *at = file->bucket_next;
    }
    (void)pthread_mutex_unlock(&store->lock);
    if (last) {
        free_file(file);
    }
}

/* Append to the list of dirty files. The store's lock is held. */
static void link_dirty(struct file *file)
{
    struct file_store *store = file->store;

    file->dirty_since_ms = clock_mono_ms();
    file->dirty_next = NULL;
    file->dirty_before = store->dirty_last;
    *(store->dirty_last != NULL ? &store->dirty_last->dirty_next
                                : &store->dirty_first) = file;
    store->dirty_last = file;
}

static void unlink_dirty(struct file *file)
{
    struct file_store *store = file->store;

    *(file->dirty_before != NULL ? &file->dirty_before->dirty_next
                                 : &store->dirty_first) = file->dirty_next;
    *(file->dirty_next != NULL ? &file->dirty_next->dirty_before
                               : &store->dirty_last) = file->dirty_before;
}

void file_set_dirty_locked(struct file *file)
{
    struct file_store *store = file->store;

    if (file->is_dirty) {
        return;
    }
    file->is_dirty = true;
    (void)pthread_mutex_lock(&store->lock);
    file->refs++;
    link_dirty(file);
    (void)pthread_mutex_unlock(&store->lock);
}

void file_restart_age_locked(struct file *file)
{
    struct file_store *store = file->store;

    assert(file->is_dirty);
    (void)pthread_mutex_lock(&store->lock);
    unlink_dirty(file);
    link_dirty(file);
    (void)pthread_mutex_unlock(&store->lock);
}

bool file_take_dirty_locked(struct file *file)
{
    struct file_store *store = file->store;

    if (!file->is_dirty) {
        return false;
    }
    file->is_dirty = false;
    (void)pthread_mutex_lock(&store->lock);
    unlink_dirty(file);
    (void)pthread_mutex_unlock(&store->lock);
    return true;
}

uint64_t file_size_locked(const struct file *file)
{
    uint64_t size = file->attr_known ? file->attr.size : 0;

    size = size > file->flushing.end ? size : file->flushing.end;
    return size > file->active.end ? size : file->active.end;
}

int file_take_error_locked(struct file *file)
{
    int rc = file->lost_error;
    int put_error = __atomic_exchange_n(&file->put_error, 0, __ATOMIC_RELAXED);

    file->lost_error = 0;
    return rc != 0 ? rc : put_error;
}

void file_set_attr_locked(struct file *file, const struct file_attr *attr)
{
    if (!file->attr_known || attr->data_version >= file->attr.data_version) {
        file->attr = *attr;
        file->attr_known = true;
    }
}

void file_created(struct file *file, const struct file_attr *attr)
{
    (void)pthread_mutex_lock(&file->lock);
    if (!file->attr_known && attr->size == 0) {
        file->attr = *attr;
        file->attr_known = true;
        file->layout_valid = true;
        file->layout_version = attr->data_version;
        file->is_new = true;
    }
    (void)pthread_mutex_unlock(&file->lock);
}

void file_revalidate(struct file *file, const struct file_attr *attr)
{
    (void)pthread_mutex_lock(&file->lock);
    if (!file->attr_known) {
        file->attr = *attr;
        file->attr_known = true;
    } else if (attr->data_version > file->attr.data_version &&
               !(file->is_flushing &&
                 attr->data_version == file->attr.data_version + 1)) {
        /* One version further during a flush is the flush itself; if it is not,
         * the flush will find out. */
        file->attr = *attr;
    }
    if (file->layout_valid && file->layout_version < file->attr.data_version) {
        file_drop_layout_locked(file);
    }
    (void)pthread_mutex_unlock(&file->lock);
}

void file_overlay_attr(struct file *file, struct file_attr *attr)
{
    uint64_t pending;

    (void)pthread_mutex_lock(&file->lock);
    if (file->attr_known && file->attr.data_version > attr->data_version) {
        *attr = file->attr;
    }
    if (file->flushing.end > attr->size) {
        attr->size = file->flushing.end;
    }
    if (file->active.end > attr->size) {
        attr->size = file->active.end;
    }
    pending = pending_bytes(&file->active) + pending_bytes(&file->flushing);
    if (pending > 0) {
        /* An estimate: overwritten bytes count twice, but never beyond what the
         * file can have. */
        attr->allocated += pending;
        if (attr->allocated > attr->size) {
            attr->allocated = attr->size;
        }
    }
    if (file->active.mtime_ns != 0) {
        attr->mtime_ns = file->active.mtime_ns;
    } else if (file->flushing.mtime_ns != 0) {
        attr->mtime_ns = file->flushing.mtime_ns;
    }
    (void)pthread_mutex_unlock(&file->lock);
}

bool file_hold(struct file *file, const struct file_set *set)
{
    bool is_held;

    (void)pthread_mutex_lock(&file->lock);
    is_held = file->is_new;
    if (is_held) {
        pending_set(&file->active, set);
        file_set_dirty_locked(file);
    }
    (void)pthread_mutex_unlock(&file->lock);
    return is_held;
}

void file_held(struct file *file, struct file_set *ret_set)
{
    (void)pthread_mutex_lock(&file->lock);
    *ret_set = file->active.set;
    file_set_add_older(ret_set, &file->flushing.set);
    (void)pthread_mutex_unlock(&file->lock);
}

void file_mtime_was_set(struct file *file)
{
    /* A commit on its way carries an mtime that must arrive before. */
    (void)pthread_mutex_lock(&file->flush_lock);
    (void)pthread_mutex_lock(&file->lock);
    file->active.mtime_ns = 0;
    (void)pthread_mutex_unlock(&file->lock);
    (void)pthread_mutex_unlock(&file->flush_lock);
}
