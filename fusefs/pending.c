#include "fusefs/pending.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool pending_is_empty(const struct pending *pending)
{
    return pending->map.count == 0 && pending->small == NULL &&
           pending->n_objects == 0 && pending->end == 0 &&
           pending->set.valid == 0;
}

void pending_clear(struct pending *pending)
{
    extent_map_clear(&pending->map);
    buf_unref(pending->small);
    for (size_t i = 0; i < pending->n_objects; i++) {
        log_object_unref(pending->objects[i]);
    }
    free(pending->objects);
    memset(pending, 0, sizeof *pending);
}

uint64_t pending_bytes(const struct pending *pending)
{
    uint64_t bytes = pending->map.bytes;
    size_t from;
    size_t to = 0;

    while (pending_find_small(pending, to, &from, &to)) {
        bytes += to - from;
    }
    return bytes;
}

/* ------------------------------------------------------------- small buffer
 */

size_t pending_small_buf_size(size_t room)
{
    return room + room / 8;
}

size_t pending_small_room(const struct pending *pending)
{
    return pending->small != NULL ? pending->small->size / 9 * 8 : 0;
}

static uint8_t *bits_of(const struct pending *pending)
{
    return pending->small->data + pending_small_room(pending);
}

static bool is_written(const struct pending *pending, size_t offset)
{
    return (bits_of(pending)[offset / 8] >> offset % 8 & 1) != 0;
}

static void mark(struct pending *pending, size_t from, size_t to, bool written)
{
    uint8_t *bits = bits_of(pending);

    while (from < to) {
        if (from % 8 == 0 && to - from >= 8) {
            memset(&bits[from / 8], written ? 0xff : 0, (to - from) / 8);
            from += (to - from) / 8 * 8;
            continue;
        }
        bits[from / 8] =
            (uint8_t)(written ? bits[from / 8] | 1u << from % 8
                              : bits[from / 8] & ~(1u << from % 8));
        from++;
    }
}

/* The first byte from `offset` on that is written, or is not; small_size when
 * there is none. */
static size_t next_of(const struct pending *pending,
                      size_t offset,
                      bool written)
{
    const uint8_t *bits = bits_of(pending);
    uint8_t other = written ? 0 : 0xff;

    while (offset < pending->small_size &&
           is_written(pending, offset) != written) {
        offset += offset % 8 == 0 && bits[offset / 8] == other ? 8 : 1;
    }
    return offset < pending->small_size ? offset : pending->small_size;
}

bool pending_find_small(const struct pending *pending,
                        uint64_t offset,
                        size_t *ret_from,
                        size_t *ret_to)
{
    if (offset >= pending->small_size) {
        return false;
    }
    *ret_from = next_of(pending, (size_t)offset, true);
    if (*ret_from == pending->small_size) {
        return false;
    }
    *ret_to = next_of(pending, *ret_from, false);
    return true;
}

void pending_write_small(struct pending *pending,
                         size_t offset,
                         const uint8_t *data,
                         size_t length)
{
    memcpy(pending->small->data + offset, data, length);
    mark(pending, offset, offset + length, true);
    if (offset + length > pending->small_size) {
        pending->small_size = offset + length;
    }
}

/* Copy what is written at `from` to the small buffer, where nothing is written
 * yet, or over what is. */
static void copy_small(struct pending *pending,
                       const struct pending *from,
                       bool over)
{
    size_t start;
    size_t end = 0;

    while (pending_find_small(from, end, &start, &end)) {
        for (size_t i = start; i < end; i++) {
            if (over || i >= pending->small_size || !is_written(pending, i)) {
                pending_write_small(pending, i, from->small->data + i, 1);
            }
        }
    }
}

void pending_take_small(struct pending *pending, struct buf *buf)
{
    struct pending old = { .small = pending->small,
                           .small_size = pending->small_size };

    pending->small = buf;
    pending->small_size = 0;
    memset(bits_of(pending), 0, pending_small_room(pending) / 8);
    if (old.small != NULL) {
        copy_small(pending, &old, true);
        buf_unref(old.small);
    }
}

/* Put the small buffer of `older` beneath that of `pending`: into the one that
 * has room for both. */
static void merge_small(struct pending *pending, struct pending *older)
{
    struct pending newer = { .small = pending->small,
                             .small_size = pending->small_size };

    if (older->small_size <= pending_small_room(pending)) {
        copy_small(pending, older, false);
        return;
    }
    pending->small = older->small;
    pending->small_size = older->small_size;
    older->small = NULL;
    older->small_size = 0;
    copy_small(pending, &newer, true);
    buf_unref(newer.small);
}

/* Forget what is written from..to-1. */
static void forget_small(struct pending *pending, uint64_t from, uint64_t to)
{
    if (from >= pending->small_size) {
        return;
    }
    if (to < pending->small_size) {
        mark(pending, (size_t)from, (size_t)to, false);
        return;
    }
    mark(pending, (size_t)from, pending->small_size, false);
    pending->small_size = (size_t)from;
    if (from == 0) {
        buf_unref(pending->small);
        pending->small = NULL;
    }
}

/* ---------------------------------------------------------------------- both
 */

int pending_add_object(struct pending *pending, struct log_object *object)
{
    size_t n = pending->n_objects;

    if (n > 0 && pending->objects[n - 1] == object) {
        return 0;
    }
    if (n == pending->objects_max) {
        size_t max = n * 2 + 2;
        struct log_object **objects =
            realloc(pending->objects, max * sizeof(struct log_object *));

        if (objects == NULL) {
            return -ENOMEM;
        }
        pending->objects = objects;
        pending->objects_max = max;
    }
    pending->objects[pending->n_objects++] = log_object_ref(object);
    return 0;
}

int pending_forget(struct pending *pending, uint64_t from, uint64_t to)
{
    int rc = extent_map_cut(&pending->map, from, to - from);

    if (rc != 0) {
        return rc;
    }
    forget_small(pending, from, to);
    if (to == UINT64_MAX && pending->end > from) {
        pending->end = from;
    }
    return 0;
}

/* Take those of the attributes that `valid` names. */
static void take_set(struct file_set *set,
                     const struct file_set *from,
                     uint32_t valid)
{
    set->valid |= valid;
    set->mode = (valid & FILE_SET_MODE) != 0 ? from->mode : set->mode;
    set->uid = (valid & FILE_SET_UID) != 0 ? from->uid : set->uid;
    set->gid = (valid & FILE_SET_GID) != 0 ? from->gid : set->gid;
    set->atime_ns =
        (valid & FILE_SET_ATIME) != 0 ? from->atime_ns : set->atime_ns;
}

void pending_set(struct pending *pending, const struct file_set *set)
{
    take_set(&pending->set, set, set->valid);
    pending->set.ctime_ns = set->ctime_ns;
    if ((set->valid & FILE_SET_MTIME) != 0) {
        pending->mtime_ns = set->mtime_ns;
    }
}

void file_set_add_older(struct file_set *set, const struct file_set *older)
{
    take_set(set, older, older->valid & ~set->valid);
    if (set->ctime_ns == 0) {
        set->ctime_ns = older->ctime_ns;
    }
}

int pending_merge_older(struct pending *pending, struct pending *older)
{
    size_t from;
    size_t to = 0;
    int rc = 0;

    while (rc == 0 && pending_find_small(pending, to, &from, &to)) {
        rc = extent_map_cut(&older->map, from, to - from);
    }
    if (older->small != NULL) {
        merge_small(pending, older);
    }
    if (rc == 0) {
        rc = extent_map_overlay(&older->map, &pending->map);
    }
    if (rc == 0) {
        pending->map = older->map;
        memset(&older->map, 0, sizeof older->map);
    }
    for (size_t i = 0; i < older->n_objects && rc == 0; i++) {
        rc = pending_add_object(pending, older->objects[i]);
    }
    pending->end = pending->end > older->end ? pending->end : older->end;
    if (pending->mtime_ns == 0) {
        pending->mtime_ns = older->mtime_ns;
    }
    file_set_add_older(&pending->set, &older->set);
    pending_clear(older);
    return rc;
}
