/* The committed extents of a file: fetching them, finding bytes, lseek(2). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fusefs/file_impl.h"

/* A file that others keep changing yields no consistent layout; after so many
 * attempts any mixture of its states is as good as another. */
#define CHANGES_MAX 8u

/* A layout being fetched. */
struct fetch {
    struct extent_map map;
    struct file_attr attr; /* of the first page */
    bool is_mixed;         /* pages are of different versions */
};

/* Sources of a page's objects, in its order. */
static struct source **make_sources(const struct layout *page)
{
    struct source **sources =
        calloc(page->n_objects + 1, sizeof(struct source *));

    for (size_t i = 0; sources != NULL && i < page->n_objects; i++) {
        sources[i] = source_new_object(&page->objects[i]);
        if (sources[i] == NULL) {
            while (i-- > 0) {
                source_unref(sources[i]);
            }
            free(sources);
            return NULL;
        }
    }
    return sources;
}

static bool is_extent_valid(const struct layout *page,
                            const struct extent *extent)
{
    if (extent->length == 0 || extent->offset > FILE_SIZE_MAX ||
        extent->length > FILE_SIZE_MAX - extent->offset) {
        return false;
    }
    if (extent->data != NULL) {
        return extent->length <= SIZE_MAX;
    }
    return extent->object < page->n_objects &&
           extent->object_offset <= page->objects[extent->object].size &&
           extent->length <=
               page->objects[extent->object].size - extent->object_offset;
}

static int put_extent(struct fetch *fetch,
                      const struct extent *extent,
                      struct source **sources)
{
    struct map_extent new = { .offset = extent->offset,
                              .length = extent->length };
    int rc;

    if (extent->data != NULL) {
        new.source = source_new_inline(extent->data, extent->length);
        if (new.source == NULL) {
            return -ENOMEM;
        }
    } else {
        new.source = source_ref(sources[extent->object]);
        new.source_offset = extent->object_offset;
    }
    rc = extent_map_put(&fetch->map, &new);
    source_unref(new.source);
    return rc;
}

static int put_page(struct fetch *fetch, const struct layout *page)
{
    struct source **sources = make_sources(page);
    int rc = 0;

    if (sources == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; rc == 0 && i < page->n_extents; i++) {
        rc = is_extent_valid(page, &page->extents[i])
                 ? put_extent(fetch, &page->extents[i], sources)
                 : -EPROTO;
    }
    for (size_t i = 0; i < page->n_objects; i++) {
        source_unref(sources[i]);
    }
    free(sources);
    return rc;
}

static int fetch_layout(struct file *file, struct fetch *fetch)
{
    struct file_meta *meta = file->store->config.meta;
    uint64_t offset = 0;
    bool end = false;
    bool first = true;
    int rc = 0;

    memset(fetch, 0, sizeof *fetch);
    while (rc == 0 && !end) {
        struct layout page = { 0 };

        rc = meta->get_layout(meta, file->ino, offset, &page);
        if (rc != 0) {
            break;
        }
        if (first) {
            fetch->attr = page.attr;
            first = false;
        }
        fetch->is_mixed = fetch->is_mixed ||
                          page.attr.data_version != fetch->attr.data_version;
        end = page.end;
        rc = put_page(fetch, &page);
        if (rc == 0 && !end) {
            uint64_t next = extent_map_end(&fetch->map);

            rc = next > offset ? 0 : -EPROTO;
            offset = next;
        }
        if (page.release != NULL) {
            page.release(&page);
        }
    }
    if (rc != 0) {
        extent_map_clear(&fetch->map);
    }
    return rc;
}

void file_drop_layout_locked(struct file *file)
{
    extent_map_clear(&file->layout);
    file->layout_valid = false;
}

/* Take over what was fetched unless the file has changed since. */
static bool install_locked(struct file *file, struct fetch *fetch, bool anyway)
{
    if ((fetch->is_mixed ||
         (file->attr_known &&
          fetch->attr.data_version < file->attr.data_version)) &&
        !anyway) {
        extent_map_clear(&fetch->map);
        return false;
    }
    file_drop_layout_locked(file);
    file_set_attr_locked(file, &fetch->attr);
    file->layout = fetch->map;
    file->layout_version = fetch->attr.data_version;
    file->layout_valid = true;
    return true;
}

int file_load_layout_locked(struct file *file)
{
    unsigned n = 0;
    int rc = 0;

    while (rc == 0 && !(file->layout_valid && file->attr_known)) {
        struct fetch fetch;

        if (file->is_loading) {
            (void)pthread_cond_wait(&file->changed, &file->lock);
            continue;
        }
        file->is_loading = true;
        (void)pthread_mutex_unlock(&file->lock);
        rc = fetch_layout(file, &fetch);
        (void)pthread_mutex_lock(&file->lock);
        file->is_loading = false;
        (void)pthread_cond_broadcast(&file->changed);
        if (rc == 0) {
            (void)install_locked(file, &fetch, ++n >= CHANGES_MAX);
        }
    }
    return rc;
}

/* Look at one generation. False: it does not have the byte; `*end` is where it
 * has the next one, if that is earlier. */
static bool find_pending(const struct pending *pending,
                         uint64_t offset,
                         uint64_t *end,
                         struct file_piece *piece)
{
    struct map_extent extent;
    size_t from;
    size_t to;

    if (extent_map_find(&pending->map, offset, &extent)) {
        if (extent.offset <= offset) {
            uint64_t extent_end = map_extent_end(&extent);

            *end = extent_end < *end ? extent_end : *end;
            piece->source = extent.source;
            piece->run = extent.length;
            piece->source_offset =
                extent.source_offset + (offset - extent.offset);
            return true;
        }
        *end = extent.offset < *end ? extent.offset : *end;
    }
    if (!pending_find_small(pending, offset, &from, &to)) {
        return false;
    }
    if (from > offset) {
        *end = from < *end ? from : *end;
        return false;
    }
    *end = to < *end ? to : *end;
    piece->data = pending->small->data + offset;
    return true;
}

static void find_committed(const struct file *file,
                           uint64_t offset,
                           uint64_t *end,
                           struct file_piece *piece)
{
    struct map_extent extent;

    if (!file->layout_valid) {
        /* Nothing was ever committed beyond the size. */
        piece->is_unknown = !file->attr_known || offset < file->attr.size;
        return;
    }
    if (!extent_map_find(&file->layout, offset, &extent)) {
        return;
    }
    if (extent.offset > offset) {
        *end = extent.offset < *end ? extent.offset : *end;
        return;
    }
    *end = map_extent_end(&extent) < *end ? map_extent_end(&extent) : *end;
    piece->source_offset = extent.source_offset + (offset - extent.offset);
    if (extent.source->data != NULL) {
        piece->data = extent.source->data + piece->source_offset;
    } else {
        piece->source = extent.source;
        piece->run = extent.length;
    }
}

void file_find_locked(const struct file *file,
                      uint64_t offset,
                      uint64_t end,
                      struct file_piece *ret_piece)
{
    memset(ret_piece, 0, sizeof *ret_piece);
    if (!find_pending(&file->active, offset, &end, ret_piece) &&
        !find_pending(&file->flushing, offset, &end, ret_piece)) {
        find_committed(file, offset, &end, ret_piece);
    }
    ret_piece->length = end - offset;
}

int file_seek(struct file *file,
              uint64_t offset,
              int whence,
              uint64_t *ret_offset)
{
    bool want_data = whence == SEEK_DATA;
    uint64_t size;
    int rc;

    if (whence != SEEK_DATA && whence != SEEK_HOLE) {
        return -EINVAL;
    }
    (void)pthread_mutex_lock(&file->lock);
    rc = file_load_layout_locked(file);
    size = rc == 0 ? file_size_locked(file) : 0;
    rc = rc == 0 && offset >= size ? -ENXIO : rc;
    while (rc == 0 && offset < size) {
        struct file_piece piece;

        file_find_locked(file, offset, size, &piece);
        if ((piece.source != NULL || piece.data != NULL) == want_data) {
            break;
        }
        offset += piece.length;
    }
    (void)pthread_mutex_unlock(&file->lock);
    if (rc == 0 && offset == size && want_data) {
        rc = -ENXIO;
    }
    if (rc == 0) {
        *ret_offset = offset;
    }
    return rc;
}
