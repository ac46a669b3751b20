/* Objects of a shard and how many of their bytes are live.
 *
 * An op gathers what it does to objects in a tally and settles it at its end,
 * so that an object is written once however many of its extents change. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/object_id.h"
#include "proto/metadata.pb-c.h"

struct meta_db;

/* What an op does to one object. */
struct meta_object_change {
    struct object_id id;
    int64_t live;                      /* bytes that come or go */
    const Gabion__ObjectInfo *created; /* borrowed: new with this op, or NULL */
};

/* Changes by object, in the order in which the objects were first met. */
struct meta_object_tally {
    struct meta_object_change *changes; /* owned */
    size_t n;
    size_t capacity;
    uint32_t *buckets; /* owned: 1 + index into changes; 0 empty */
    size_t n_buckets;  /* a power of two, at least 2 * capacity; or 0 */
};

void meta_object_tally_close(struct meta_object_tally *tally);

/* Forget all changes, keep the memory unless it is large. */
void meta_object_tally_reset(struct meta_object_tally *tally);

/* Index of the object's change, which is added when it is not there.
 * Errors: -ENOMEM */
MUST_CHECK int meta_object_tally_find(struct meta_object_tally *tally,
                                      const struct object_id *id,
                                      size_t *ret_index);

/* Count `live` bytes of the object. Errors: -ENOMEM */
MUST_CHECK int meta_object_tally_add(struct meta_object_tally *tally,
                                     const struct object_id *id,
                                     int64_t live);

/* Write the changes of db's tally to the database and reset it. */
MUST_CHECK int meta_object_settle(struct meta_db *db);

/* Take a new object of an op into db's tally. One that is known already, with
 * the same data and still live, is allowed. Errors: -EINVAL not the data it
 * has; -ESTALE it is garbage, and its blocks may be gone; and of SQLite */
MUST_CHECK int meta_object_create(struct meta_db *db,
                                  const Gabion__ObjectInfo *info);

/* Drop the row of an object without live bytes; others are left alone. */
MUST_CHECK int meta_object_forget(struct meta_db *db,
                                  const struct object_id *id);
