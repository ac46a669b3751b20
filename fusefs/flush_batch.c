#include "fusefs/flush_batch.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Objects up to this size are packed, up to that many bytes together. */
#define PACK_OBJECT_MAX (256u << 10)
#define PACK_TOTAL_MAX  (8u << 20)

#define NO_INDEX UINT32_MAX

/* An object that a file of the batch wrote to, or the pack. */
struct flush_object {
    struct log_object *log; /* borrowed from the file's generation */
    size_t item;            /* whose; of the pack: n_items */
    bool is_live;           /* extents refer to it */
    bool is_packed;         /* its bytes are committed as part of the pack */
    uint64_t pack_offset;   /* of its bytes in the pack */
    uint32_t info_index;    /* in the commit's objects, or NO_INDEX */
};

struct flush {
    struct file_store *store;
    enum flush_how how;
    struct flush_item *items; /* owned */
    size_t n_items;
    struct flush_object *objects; /* owned; the tag of a log object is its index
                                     here */
    size_t n_objects, objects_max;
    struct log_object *pack; /* counted, or NULL */
    uint32_t pack_index;     /* in objects */
    int pack_rc;             /* outcome of storing it */
    struct extent *extents;  /* owned: what is to be committed */
    struct source **sources; /* owned, each borrowed: of the extents; NULL for
                                inline ones */
    size_t n_extents, extents_max;
    struct object_info *infos; /* owned: objects to be committed */
    size_t n_infos;            /* at most n_objects */
    bool is_durable;           /* the commit and all before it are */
    bool replaces;             /* committed bytes of some file */
};

/* ---------------------------------------------------------------- 1. taking */

/* Grow an array. */
static int grow(void **array, size_t *max, size_t n, size_t size)
{
    void *bigger;
    size_t new_max = *max * 2 + 16;

    if (n < *max) {
        return 0;
    }
    bigger = realloc(*array, new_max * size);
    if (bigger == NULL) {
        return -ENOMEM;
    }
    *array = bigger;
    *max = new_max;
    return 0;
}

static int add_object(struct flush *flush, struct log_object *log, size_t item)
{
    int rc = grow((void **)&flush->objects, &flush->objects_max,
                  flush->n_objects, sizeof flush->objects[0]);

    if (rc == 0) {
        struct flush_object *object = &flush->objects[flush->n_objects];

        memset(object, 0, sizeof *object);
        object->log = log;
        object->item = item;
        object->info_index = NO_INDEX;
        log_object_set_tag(log, (uint32_t)flush->n_objects++);
    }
    return rc;
}

/* The object where the source's bytes lie. */
static struct flush_object *object_of(struct flush *flush,
                                      const struct source *source)
{
    uint32_t index = log_object_tag(source->log);

    assert(flush->objects != NULL && index < flush->n_objects);
    return &flush->objects[index];
}

/* Whether pending bytes take the place of committed ones, which may be durable.
 * Holes count too: the layout need not be known here. */
static bool replaces_locked(const struct file *file)
{
    struct map_extent first;

    return extent_map_find(&file->flushing.map, 0, &first) &&
           (!file->attr_known ||
            (file->attr.allocated > 0 && first.offset < file->attr.size));
}

/* Move the file's pending bytes to `flushing` and look at them. */
static void take(struct flush *flush, size_t index)
{
    struct flush_item *item = &flush->items[index];
    struct file *file = item->file;
    const struct pending *pending = &file->flushing;
    struct map_extent extent;
    uint64_t offset = 0;

    (void)pthread_mutex_lock(&file->lock);
    item->is_taken = !pending_is_empty(&file->active);
    if (item->is_taken) {
        stripe_log_seal(&file->log);
        file->flushing = file->active;
        memset(&file->active, 0, sizeof file->active);
        file->is_flushing = true;
        file->is_new = false;
        file_restart_age_locked(file);
        flush->replaces = flush->replaces || replaces_locked(file);
    }
    (void)pthread_mutex_unlock(&file->lock);
    if (!item->is_taken) {
        return;
    }
    /* Only the holder of flush_lock changes `flushing`. */
    for (size_t i = 0; i < pending->n_objects && item->rc == 0; i++) {
        item->rc = add_object(flush, pending->objects[i], index);
    }
    while (item->rc == 0 && extent_map_find(&pending->map, offset, &extent)) {
        object_of(flush, extent.source)->is_live = true;
        offset = map_extent_end(&extent);
    }
}

/* --------------------------------------------------------------- 2. storing */

static int pack_object(struct flush *flush, struct flush_object *object)
{
    const uint8_t *data;
    size_t length;
    uint64_t size;
    int rc = 0;

    if (!log_object_is_short(object->log, &data, &length) ||
        length > PACK_OBJECT_MAX) {
        return 0;
    }
    if (flush->pack == NULL) {
        rc = log_object_new(&flush->store->env, NULL, NULL, &flush->pack);
    }
    if (rc != 0) {
        return rc;
    }
    size = log_object_size(flush->pack) + length;
    if (size <= PACK_TOTAL_MAX && size <= flush->store->env.object_size_max) {
        rc = log_object_append(flush->pack, data, length, &object->pack_offset);
        object->is_packed = rc == 0;
    }
    return rc;
}

/* Put the short leftovers of several files into one object. When that cannot
 * be, they are simply stored by themselves. */
static void pack_objects(struct flush *flush)
{
    size_t n = flush->n_objects;
    int rc = 0;

    for (size_t i = 0; i < n && rc == 0; i++) {
        if (flush->objects[i].is_live) {
            rc = pack_object(flush, &flush->objects[i]);
        }
    }
    if (flush->pack == NULL) {
        return;
    }
    log_object_seal(flush->pack);
    if (log_object_size(flush->pack) > 0 && rc == 0) {
        flush->pack_index = (uint32_t)flush->n_objects;
        rc = add_object(flush, flush->pack, flush->n_items);
    }
    for (size_t i = 0; i < n && rc != 0; i++) {
        flush->objects[i].is_packed = false;
    }
}

static void push_objects(struct flush *flush)
{
    for (size_t i = 0; i < flush->n_objects; i++) {
        struct flush_object *object = &flush->objects[i];
        bool is_pack = object->item == flush->n_items;
        bool is_last = i + 1 == flush->n_objects;

        if (is_pack || (object->is_live && !object->is_packed)) {
            log_object_push(object->log, is_last);
        }
    }
}

static void fail_item(struct flush_item *item, int rc)
{
    if (item->rc == 0) {
        item->rc = rc;
    }
}

/* The pack has failed, and with it all who are in it. */
static void fail_packed(struct flush *flush, int rc)
{
    flush->pack_rc = rc;
    for (size_t i = 0; i < flush->n_objects; i++) {
        if (flush->objects[i].is_packed) {
            fail_item(&flush->items[flush->objects[i].item], rc);
        }
    }
}

/* Wait for all stripes, those of dead objects too: their I/O knows the file. */
static void wait_objects(struct flush *flush)
{
    for (size_t i = 0; i < flush->n_objects; i++) {
        struct flush_object *object = &flush->objects[i];
        int rc = log_object_wait(object->log);

        if (rc != 0 && object->item == flush->n_items) {
            fail_packed(flush, rc);
        } else if (rc != 0 && object->is_live) {
            fail_item(&flush->items[object->item], rc);
        }
    }
}

/* Make the blocks durable. Returns the first error; it does not keep the bytes
 * from being committed, only from being called durable. After it the others
 * would most likely wait as long for nothing. */
static int sync_objects(struct flush *flush)
{
    int rc = 0;

    for (size_t i = 0; i < flush->n_objects && rc == 0; i++) {
        struct flush_object *object = &flush->objects[i];
        bool is_pack = object->item == flush->n_items;

        if (is_pack ? flush->pack_rc == 0
                    : object->is_live && !object->is_packed &&
                          flush->items[object->item].rc == 0) {
            rc = log_object_sync(object->log);
        }
    }
    return rc;
}

/* ------------------------------------------------------------ 3. committing */

static int emit(struct flush *flush,
                const struct extent *extent,
                struct source *source)
{
    size_t max = flush->extents_max;
    int rc = grow((void **)&flush->extents, &max, flush->n_extents,
                  sizeof flush->extents[0]);

    if (rc == 0) {
        rc = grow((void **)&flush->sources, &flush->extents_max,
                  flush->n_extents, sizeof(struct source *));
    }
    if (rc == 0) {
        flush->extents[flush->n_extents] = *extent;
        flush->sources[flush->n_extents++] = source;
    }
    return rc;
}

/* Index of the object in the commit. */
static uint32_t name_object(struct flush *flush, struct flush_object *object)
{
    if (object->info_index == NO_INDEX) {
        object->info_index = (uint32_t)flush->n_infos;
        (void)log_object_info(object->log, &flush->infos[flush->n_infos++]);
    }
    return object->info_index;
}

/* Commit an extent of the map. */
static int emit_mapped(struct flush *flush, const struct map_extent *mapped)
{
    struct flush_object *object = object_of(flush, mapped->source);
    struct extent extent = { .offset = mapped->offset,
                             .length = mapped->length,
                             .object_offset = mapped->source_offset };

    if (object->is_packed) {
        extent.object_offset += object->pack_offset;
        object = &flush->objects[flush->pack_index];
    }
    extent.object = name_object(flush, object);
    return emit(flush, &extent, log_object_source(object->log));
}

/* Commit what the small buffer has of from..to-1. */
static int emit_small(struct flush *flush,
                      const struct pending *pending,
                      uint64_t from,
                      uint64_t to)
{
    size_t start;
    size_t end;
    int rc = 0;

    while (rc == 0 && from < to &&
           pending_find_small(pending, from, &start, &end) && start < to) {
        uint64_t first = start > from ? start : from;
        struct extent extent = { .offset = first,
                                 .length = (end < to ? end : to) - first,
                                 .data = pending->small->data + first };

        rc = emit(flush, &extent, NULL);
        from = end;
    }
    return rc;
}

/* List the file's extents: those of the map, and between them those of the
 * small buffer. */
static int emit_pending(struct flush *flush, const struct pending *pending)
{
    uint64_t small_done = 0;
    struct map_extent extent;
    uint64_t offset = 0;
    int rc = 0;

    while (rc == 0 && extent_map_find(&pending->map, offset, &extent)) {
        uint64_t small_end = extent.offset < pending->small_size
                                 ? extent.offset
                                 : pending->small_size;

        offset = map_extent_end(&extent);
        if (small_done < small_end) {
            rc = emit_small(flush, pending, small_done, small_end);
        }
        small_done = offset;
        if (rc == 0) {
            rc = emit_mapped(flush, &extent);
        }
    }
    if (rc == 0 && small_done < pending->small_size) {
        rc = emit_small(flush, pending, small_done, pending->small_size);
    }
    return rc;
}

/* Build what the item commits. False: it turned out to be nothing. */
static bool build_item(struct flush *flush, struct flush_item *item)
{
    const struct pending *pending = &item->file->flushing;
    bool grows;

    item->first_extent = flush->n_extents;
    fail_item(item, emit_pending(flush, pending));
    if (item->rc != 0) {
        flush->n_extents = item->first_extent;
        return false;
    }
    item->n_extents = flush->n_extents - item->first_extent;
    (void)pthread_mutex_lock(&item->file->lock);
    grows = !item->file->attr_known || pending->end > item->file->attr.size;
    (void)pthread_mutex_unlock(&item->file->lock);
    return item->n_extents > 0 || grows || pending->set.valid != 0;
}

/* Lay the item's extents over the layout. */
static int apply_extents(struct flush *flush, const struct flush_item *item)
{
    const struct extent *extents = flush->extents + item->first_extent;
    struct source *const *sources = flush->sources + item->first_extent;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < item->n_extents; i++) {
        const struct extent *extent = &extents[i];
        struct source *source = sources[i];
        struct map_extent new = { .offset = extent->offset,
                                  .length = extent->length,
                                  .source_offset = extent->object_offset };

        new.source = source != NULL
                         ? source_ref(source)
                         : source_new_inline(extent->data, extent->length);
        if (new.source == NULL) {
            return -ENOMEM;
        }
        rc = extent_map_put(&item->file->layout, &new);
        source_unref(new.source);
    }
    return rc;
}

/* The shard has the item's bytes. */
static void item_committed(struct flush *flush,
                           const struct flush_item *item,
                           const struct file_attr *attr)
{
    struct file *file = item->file;

    (void)pthread_mutex_lock(&file->lock);
    if (file->layout_valid && file->layout_version != attr->data_version) {
        /* Another version than the next: somebody else has changed the file. */
        if (file->layout_version + 1 == attr->data_version &&
            apply_extents(flush, item) == 0) {
            file->layout_version = attr->data_version;
        } else {
            file_drop_layout_locked(file);
        }
    }
    file_set_attr_locked(file, attr);
    (void)pthread_mutex_unlock(&file->lock);
}

/* Remember that an object of the file is committed and not durable yet. Without
 * memory for that it is made durable now. */
static void note_unsynced(struct flush *flush,
                          struct file *file,
                          struct log_object *log)
{
    int rc = unsynced_add(flush->store->unsynced, file->ino, log);

    if (rc != 0) {
        rc = log_object_sync(log);
    }
    if (rc != 0) {
        (void)pthread_mutex_lock(&file->lock);
        file->lost_error = rc;
        (void)pthread_mutex_unlock(&file->lock);
    }
}

/* Go on from what the commit has named: it is known to the shard, and may not
 * be durable yet. */
static void objects_committed(struct flush *flush)
{
    for (size_t i = 0; i < flush->n_objects; i++) {
        struct flush_object *object = &flush->objects[i];
        size_t item = object->item;

        if (item == flush->n_items) {
            log_object_set_committed(object->log);
            continue;
        }
        if (object->is_packed) {
            object = &flush->objects[flush->pack_index];
        }
        if (object->info_index != NO_INDEX) {
            log_object_set_committed(object->log);
            if (!log_object_is_synced(object->log)) {
                note_unsynced(flush, flush->items[item].file, object->log);
            }
        }
    }
}

static int call_commit(struct flush *flush,
                       struct flush_item **committing,
                       size_t n,
                       bool durable)
{
    struct file_meta *meta = flush->store->config.meta;
    struct file_write *writes = calloc(n, sizeof *writes);
    struct file_attr *attrs = calloc(n, sizeof *attrs);
    int rc = writes != NULL && attrs != NULL ? 0 : -ENOMEM;

    for (size_t i = 0; i < n && rc == 0; i++) {
        const struct pending *pending = &committing[i]->file->flushing;

        writes[i].ino = committing[i]->file->ino;
        writes[i].extents = flush->extents + committing[i]->first_extent;
        writes[i].n_extents = committing[i]->n_extents;
        writes[i].end = pending->end;
        writes[i].mtime_ns = pending->mtime_ns;
        writes[i].set = pending->set;
    }
    if (rc == 0) {
        rc = meta->commit(meta,
                          &(struct file_commit){ .objects = flush->infos,
                                                 .n_objects = flush->n_infos,
                                                 .writes = writes,
                                                 .n_writes = n,
                                                 .durable = durable },
                          attrs);
    }
    flush->is_durable = rc == 0 && durable;
    if (rc == 0) {
        objects_committed(flush);
        for (size_t i = 0; i < n; i++) {
            item_committed(flush, committing[i], &attrs[i]);
        }
    }
    free(writes);
    free(attrs);
    return rc;
}

static void commit(struct flush *flush, bool durable)
{
    struct flush_item **committing =
        calloc(flush->n_items + 1, sizeof(struct flush_item *));
    size_t n = 0;

    flush->infos = calloc(flush->n_objects + 1, sizeof flush->infos[0]);
    for (size_t i = 0; i < flush->n_items; i++) {
        struct flush_item *item = &flush->items[i];

        if (!item->is_taken) {
            continue;
        }
        if (committing == NULL || flush->infos == NULL) {
            fail_item(item, -ENOMEM);
        }
        if (item->rc == 0 && build_item(flush, item)) {
            committing[n++] = item;
        }
    }
    if (n > 0) {
        int rc = call_commit(flush, committing, n, durable);

        for (size_t i = 0; i < n; i++) {
            fail_item(committing[i], rc);
        }
    }
    free(committing);
}

/* -------------------------------------------------------------- 4. settling */

/* The bytes can never be committed: the file is gone. */
static bool is_hopeless(int rc)
{
    return rc == -ENOENT || rc == -ESTALE;
}

static void settle(struct flush *flush, struct flush_item *item)
{
    struct file *file = item->file;

    (void)pthread_mutex_lock(&file->lock);
    if (item->rc != 0 && (!is_hopeless(item->rc) || flush->n_items > 1)) {
        if (pending_merge_older(&file->active, &file->flushing) != 0) {
            file->lost_error = -ENOMEM;
        }
        file_restart_age_locked(file);
    } else if (item->is_taken && item->rc == 0) {
        /* What could not be stored before is stored now. */
        __atomic_store_n(&file->put_error, 0, __ATOMIC_RELAXED);
    }
    pending_clear(&file->flushing);
    file->is_flushing = false;
    if (pending_is_empty(&file->active)) {
        item->is_clean = file_take_dirty_locked(file);
    }
    (void)pthread_mutex_unlock(&file->lock);
}

static void clean_up(struct flush *flush)
{
    log_object_unref(flush->pack);
    free(flush->objects);
    free(flush->extents);
    free(flush->sources);
    free(flush->infos);
}

int flush_batch_run(struct file_store *store,
                    struct flush_item *items,
                    size_t n,
                    enum flush_how how,
                    bool *ret_durable)
{
    struct flush batch = {
        .store = store, .how = how, .items = items, .n_items = n
    };
    struct flush *flush = &batch;
    int sync_rc = 0;

    *ret_durable = false;

    for (size_t i = 0; i < flush->n_items; i++) {
        take(flush, i);
    }
    if (flush->n_items > 1) {
        pack_objects(flush);
    }
    push_objects(flush);
    wait_objects(flush);
    if (flush->how != FLUSH_COMMIT || flush->replaces) {
        sync_rc = sync_objects(flush);
    }
    commit(flush, flush->how == FLUSH_DURABLE && sync_rc == 0);
    *ret_durable = flush->is_durable;
    for (size_t i = 0; i < flush->n_items; i++) {
        settle(flush, &flush->items[i]);
    }
    clean_up(flush);
    return how == FLUSH_COMMIT ? 0 : sync_rc;
}
