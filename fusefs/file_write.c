/* Writing: to the small buffer of a small file, else to the log. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "common/clock.h"
#include "fusefs/file_impl.h"

/* A longer write is done in pieces; each of them is all or nothing. */
#define PIECE_MAX ((size_t)1 << 20)

#define SMALL_MIN 1024u

/* Again when the layout is loaded. */
#define NEED_LAYOUT 1

/* A write of at most PIECE_MAX bytes. */
struct request {
    uint64_t offset;
    size_t length;
    const uint8_t *data; /* borrowed */
};

/* -------------------------------------------------------------- small files */

/* Where written bytes go. */
enum place {
    PLACE_SMALL,   /* the small buffer */
    PLACE_LOG,     /* the log */
    PLACE_UNKNOWN, /* depends on the layout, which must be loaded */
};

/* Small if all that the file has is in memory. */
static enum place place_by_content(const struct file *file, uint64_t size)
{
    uint64_t offset = 0;

    while (offset < size) {
        struct file_piece piece;

        file_find_locked(file, offset, size, &piece);
        if (piece.is_unknown) {
            return PLACE_UNKNOWN;
        }
        if (piece.source != NULL) {
            return PLACE_LOG;
        }
        offset += piece.length;
    }
    return PLACE_SMALL;
}

/* Where a write that ends at `end` goes. */
static enum place choose_place(const struct file *file, uint64_t end)
{
    uint64_t size = file_size_locked(file);

    if (end > FILE_INLINE_MAX || file->active.map.count > 0) {
        return PLACE_LOG;
    }
    if (file->active.small != NULL) {
        return PLACE_SMALL;
    }
    if (size > FILE_INLINE_MAX) {
        return PLACE_LOG;
    }
    return file->attr_known ? place_by_content(file, size) : PLACE_UNKNOWN;
}

/* Give the small buffer room for `size` bytes. */
static int reserve_small(struct file *file, size_t size)
{
    size_t room = SMALL_MIN;
    struct buf *buf;
    int rc;

    if (pending_small_room(&file->active) >= size) {
        return 0;
    }
    while (room < size) {
        room *= 2;
    }
    rc = write_memory_take(file->store->memory, pending_small_buf_size(room),
                           false, &buf);
    if (rc == 0) {
        pending_take_small(&file->active, buf);
    }
    return rc;
}

static int write_small(struct file *file, const struct request *request)
{
    int rc = reserve_small(file, request->offset + request->length);

    if (rc == 0) {
        pending_write_small(&file->active, request->offset, request->data,
                            request->length);
    }
    return rc;
}

/* ------------------------------------------------------------------- the log
 */

/* Append reserved bytes and note where they went. */
static int append(struct file *file,
                  uint64_t offset,
                  const uint8_t *data,
                  size_t length)
{
    while (length > 0) {
        struct log_range range;
        struct map_extent extent = { .offset = offset };
        int rc;

        stripe_log_append(&file->log, data, length, &range);
        extent.length = range.length;
        extent.source = log_object_source(range.object);
        extent.source_offset = range.offset;
        /* Known first: flushes wait for the objects that they know. */
        rc = pending_add_object(&file->active, range.object);
        if (rc == 0) {
            rc = extent_map_put(&file->active.map, &extent);
        }
        if (rc != 0) {
            return rc;
        }
        offset += range.length;
        data += range.length;
        length -= range.length;
    }
    return 0;
}

/* The bytes of the write lie together in the stripe being filled: no need for
 * new ones. */
static bool overwrite(struct file *file, const struct request *request)
{
    struct map_extent extent;

    return extent_map_find(&file->active.map, request->offset, &extent) &&
           extent.offset <= request->offset &&
           map_extent_end(&extent) >= request->offset + request->length &&
           stripe_log_overwrite(&file->log, extent.source,
                                extent.source_offset +
                                    (request->offset - extent.offset),
                                request->data, request->length);
}

/* Let what the small buffer has lie in the log; there is room for it. */
static int move_small(struct file *file)
{
    struct pending *active = &file->active;
    size_t from;
    size_t to = 0;
    int rc = 0;

    while (rc == 0 && pending_find_small(active, to, &from, &to)) {
        rc = append(file, from, active->small->data + from, to - from);
    }
    if (rc == 0) {
        buf_unref(active->small);
        active->small = NULL;
        active->small_size = 0;
    }
    return rc;
}

static int write_log(struct file *file, const struct request *request)
{
    struct pending *active = &file->active;
    /* A small file that grows moves to the log. */
    size_t moving = active->map.count == 0 ? active->small_size : 0;
    int rc;

    if (overwrite(file, request)) {
        return 0;
    }
    rc = stripe_log_reserve(&file->log, request->length + moving, false);
    if (rc == 0 && moving > 0) {
        rc = move_small(file);
    }
    if (rc == 0) {
        rc = append(file, request->offset, request->data, request->length);
    }
    return rc;
}

/* ---------------------------------------------------------------------- both
 */

/* One attempt. NEED_LAYOUT: again when it is loaded; -EAGAIN: again when there
 * is memory. */
static int try_write(struct file *file, struct request *request, bool append_to)
{
    struct pending *active = &file->active;
    enum place place;
    uint64_t end;
    int rc;

    if (append_to) {
        if (!file->attr_known) {
            return NEED_LAYOUT;
        }
        request->offset = file_size_locked(file);
    }
    if (request->offset > FILE_SIZE_MAX - request->length) {
        return -EFBIG;
    }
    end = request->offset + request->length;
    place = choose_place(file, end);
    if (place == PLACE_UNKNOWN) {
        return NEED_LAYOUT;
    }
    rc = place == PLACE_SMALL ? write_small(file, request)
                              : write_log(file, request);
    if (!pending_is_empty(active)) {
        /* Also after a failure in the middle. */
        file_set_dirty_locked(file);
    }
    if (rc == 0) {
        active->end = active->end > end ? active->end : end;
        active->mtime_ns = clock_real_ns();
    }
    return rc;
}

/* Keep the number of pending extents in bounds. */
static void limit_extents(struct file *file, size_t n)
{
    if (n < EXTENTS_MANY) {
        return;
    }
    file_store_hurry(file->store, file);
    if (n >= EXTENTS_TOO_MANY) {
        int rc = file_flush_many(file->store, &file, 1, FLUSH_COMMIT, true);

        (void)rc; /* noted, and told by the next call */
    }
}

static int write_piece(struct file *file,
                       struct request *request,
                       bool append_to)
{
    struct file_store *store = file->store;
    size_t n_extents;
    int rc;

    (void)pthread_mutex_lock(&file->lock);
    rc = file_take_error_locked(file);
    while (rc == 0) {
        uint64_t changes = write_memory_changes(store->memory);

        rc = try_write(file, request, append_to);
        if (rc == NEED_LAYOUT) {
            rc = file_load_layout_locked(file);
        } else if (rc == -EAGAIN) {
            (void)pthread_mutex_unlock(&file->lock);
            rc = file_store_wait_memory(store, changes);
            (void)pthread_mutex_lock(&file->lock);
        } else {
            break;
        }
    }
    n_extents = file->active.map.count;
    (void)pthread_mutex_unlock(&file->lock);
    if (rc == 0) {
        limit_extents(file, n_extents);
    }
    return rc;
}

int file_write(struct file *file,
               uint64_t offset,
               size_t length,
               const uint8_t *source,
               bool append)
{
    int rc = 0;

    if (!append && offset > FILE_SIZE_MAX - length) {
        return -EFBIG;
    }
    while (rc == 0 && length > 0) {
        struct request request = { .offset = offset,
                                   .length =
                                       length < PIECE_MAX ? length : PIECE_MAX,
                                   .data = source };

        rc = write_piece(file, &request, append);
        offset += request.length;
        source += request.length;
        length -= request.length;
    }
    return rc;
}
