/* Where the bytes of an extent lie: in an object, or in memory (inline).
 *
 * A source is counted and shared by extent maps and readers. It does not change
 * once it is made, except that stripe_log.h fills the object behind it. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/objio.h"

struct log_object;

struct source {
    int refs;                /* atomic; use source_ref() and source_unref() */
    struct object_info info; /* of the object; unused when data is set, not
                                final while `log` is in the making */
    uint8_t *data;           /* owned: inline bytes, or NULL */
    struct log_object *log;  /* the object of this mount's making that the
                                source is part of, or NULL */
    void (*destroy)(struct source *source); /* frees it after the last unref */
};

/* An object that the shard named. NULL when out of memory. */
struct source *source_new_object(const struct object_info *info);

/* A copy of `size` inline bytes. NULL when out of memory. */
struct source *source_new_inline(const uint8_t *data, size_t size);

struct source *source_ref(struct source *source);

/* Drop a reference; NULL is allowed. */
void source_unref(struct source *source);
