#include "fusefs/pending.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool pending_is_empty(const struct pending *pending)
{
    return pending->map.count == 0 && pending->small == NULL &&
           pending->n_objects == 0 && pending->end == 0;
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
    return pending->map.bytes + pending->small_size;
}

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
    if (to < pending->small_size) {
        memset(pending->small->data + from, 0, to - from);
    } else if (from < pending->small_size && to != UINT64_MAX) {
        memset(pending->small->data + from, 0, pending->small_size - from);
    } else if (from < pending->small_size) {
        pending->small_size = from;
    }
    if (to == UINT64_MAX && pending->end > from) {
        pending->end = from;
    }
    if (pending->small_size == 0) {
        buf_unref(pending->small);
        pending->small = NULL;
    }
    return 0;
}

int pending_merge_older(struct pending *pending, struct pending *older)
{
    int rc = 0;

    if (pending->small != NULL) {
        rc = extent_map_cut(&older->map, 0, pending->small_size);
    } else {
        pending->small = older->small;
        pending->small_size = older->small_size;
        older->small = NULL;
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
    pending_clear(older);
    return rc;
}
