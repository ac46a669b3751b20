/* Changes of a file other than writing: truncation, fallocate, cloning.
 *
 * The shard changes what is committed; what is pending is changed here in the
 * same way and committed later as ever: it was written before, and what the
 * change removed is gone from it. */
#include <errno.h>
#include <stdlib.h>

#include "common/clock.h"
#include "fusefs/file_impl.h"

/* `how` of file_allocate(), as in metadata.proto. */
enum allocate_how {
    ALLOCATE_EXTEND = 1,      /* the size, if needed */
    ALLOCATE_PUNCH = 2,       /* keeping the size */
    ALLOCATE_ZERO = 3,        /* keeping the size */
    ALLOCATE_ZERO_EXTEND = 4, /* the size, if needed */
};

/* Bytes copied by one call where extents cannot be shared, and at a time. */
#define COPY_MAX   ((uint64_t)64 << 20)
#define COPY_PIECE ((size_t)1 << 20)

static bool has_extents(const struct extent_map *map,
                        uint64_t from,
                        uint64_t to)
{
    struct map_extent extent;

    return extent_map_find(map, from, &extent) && extent.offset < to;
}

/* The shard has removed from..to-1 (nothing if they are equal) and answered
 * `attr`: do so here. */
static int changed_locked(struct file *file,
                          uint64_t from,
                          uint64_t to,
                          const struct file_attr *attr)
{
    bool is_expected = false;
    int rc = 0;

    if (from < to) {
        rc = pending_forget(&file->active, from, to);
    }
    if (file->layout_valid && attr->data_version != file->layout_version) {
        /* The step to the next version must have been this change: when it had
         * nothing to do, it was somebody else's. */
        bool has_effect = !file->attr_known || attr->size != file->attr.size ||
                          has_extents(&file->layout, from, to);

        is_expected =
            has_effect && attr->data_version == file->layout_version + 1 &&
            (from == to || extent_map_cut(&file->layout, from, to - from) == 0);
        if (is_expected) {
            file->layout_version = attr->data_version;
        } else {
            file_drop_layout_locked(file);
        }
    }
    file_set_attr_locked(file, attr);
    return rc;
}

int file_truncate(struct file *file, uint64_t size, int64_t mtime_ns)
{
    struct file_meta *meta = file->store->config.meta;
    struct file_attr attr;
    int rc;

    if (size > FILE_SIZE_MAX) {
        return -EFBIG;
    }
    (void)pthread_mutex_lock(&file->flush_lock);
    rc = meta->set_size(meta, file->ino, size, mtime_ns, &attr);
    if (rc == 0) {
        (void)pthread_mutex_lock(&file->lock);
        rc = changed_locked(file, size, UINT64_MAX, &attr);
        file->active.mtime_ns = 0;
        (void)pthread_mutex_unlock(&file->lock);
    }
    (void)pthread_mutex_unlock(&file->flush_lock);
    return rc;
}

int file_allocate(struct file *file,
                  uint64_t offset,
                  uint64_t length,
                  unsigned how)
{
    struct file_meta *meta = file->store->config.meta;
    struct file_attr attr;
    int rc;

    if (length == 0 || how < ALLOCATE_EXTEND || how > ALLOCATE_ZERO_EXTEND) {
        return -EINVAL;
    }
    if (offset > FILE_SIZE_MAX || length > FILE_SIZE_MAX - offset) {
        return -EFBIG;
    }
    (void)pthread_mutex_lock(&file->flush_lock);
    rc = meta->allocate(meta, file->ino, offset, length, how, &attr);
    if (rc == 0) {
        (void)pthread_mutex_lock(&file->lock);
        rc = changed_locked(file, offset,
                            how == ALLOCATE_EXTEND ? offset : offset + length,
                            &attr);
        if (file->active.mtime_ns != 0) {
            file->active.mtime_ns = clock_real_ns();
        }
        (void)pthread_mutex_unlock(&file->lock);
    }
    (void)pthread_mutex_unlock(&file->flush_lock);
    return rc;
}

/* Whether copying the file's bytes is cheaper than sharing its extents: they
 * are in memory, or few enough to be. */
static bool is_small(struct file *file)
{
    bool small;

    (void)pthread_mutex_lock(&file->lock);
    small = file->attr_known && file_size_locked(file) <= FILE_INLINE_MAX;
    (void)pthread_mutex_unlock(&file->lock);
    return small;
}

static int copy_bytes(struct file *source,
                      uint64_t source_offset,
                      struct file *file,
                      uint64_t offset,
                      uint64_t length,
                      uint64_t *ret_length)
{
    uint8_t *bytes = malloc(COPY_PIECE);
    uint64_t done = 0;
    int rc = bytes != NULL ? 0 : -ENOMEM;

    length = length < COPY_MAX ? length : COPY_MAX;
    while (rc == 0 && done < length) {
        size_t n =
            length - done < COPY_PIECE ? (size_t)(length - done) : COPY_PIECE;

        rc = file_read(source, source_offset + done, n, bytes, &n);
        if (rc == 0 && n == 0) {
            break;
        }
        if (rc == 0) {
            rc = file_write(file, offset + done, n, bytes, false);
        }
        done += rc == 0 ? n : 0;
    }
    free(bytes);
    *ret_length = done;
    return done > 0 ? 0 : rc;
}

/* Flush for an operation that needs the extents at the shard. */
static int flush_first(struct file *file)
{
    int rc;

    (void)pthread_mutex_lock(&file->flush_lock);
    rc = file_flush_held(file, FLUSH_COMMIT);
    (void)pthread_mutex_unlock(&file->flush_lock);
    return rc;
}

static int share_extents(struct file *source,
                         uint64_t source_offset,
                         struct file *file,
                         uint64_t offset,
                         uint64_t length,
                         uint64_t *ret_length)
{
    struct file_meta *meta = file->store->config.meta;
    struct file_attr attr;
    int rc = flush_first(source);

    if (rc != 0) {
        return rc;
    }
    (void)pthread_mutex_lock(&file->flush_lock);
    rc = file_flush_held(file, FLUSH_COMMIT);
    if (rc == 0) {
        /* The source's blocks may not be durable yet. */
        rc = unsynced_share(file->store->unsynced, source->ino, file->ino);
    }
    if (rc == 0) {
        rc = meta->clone(meta,
                         &(struct file_clone_range){
                             .source = source->ino,
                             .source_offset = source_offset,
                             .ino = file->ino,
                             .offset = offset,
                             .length = length,
                         },
                         ret_length, &attr);
    }
    if (rc == 0) {
        (void)pthread_mutex_lock(&file->lock);
        file_drop_layout_locked(file);
        file_set_attr_locked(file, &attr);
        file->is_new = false;
        (void)pthread_mutex_unlock(&file->lock);
    }
    (void)pthread_mutex_unlock(&file->flush_lock);
    return rc;
}

int file_clone(struct file *source,
               uint64_t source_offset,
               struct file *file,
               uint64_t offset,
               uint64_t length,
               uint64_t *ret_length)
{
    int rc = -EOPNOTSUPP;

    /* SSIZE_MAX means "all there is". */
    if (source_offset > FILE_SIZE_MAX || offset > FILE_SIZE_MAX) {
        return -EFBIG;
    }
    if (length > FILE_SIZE_MAX - source_offset) {
        length = FILE_SIZE_MAX - source_offset;
    }
    if (length > FILE_SIZE_MAX - offset) {
        length = FILE_SIZE_MAX - offset;
    }
    if (!is_small(source)) {
        rc = share_extents(source, source_offset, file, offset, length,
                           ret_length);
    }
    if (rc == -EOPNOTSUPP || rc == -EINVAL) {
        rc =
            copy_bytes(source, source_offset, file, offset, length, ret_length);
    }
    return rc;
}
