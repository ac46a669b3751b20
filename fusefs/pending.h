/* Written bytes of one file that are not committed: one generation of them.
 *
 * Bytes lie in objects in the making (`map`), or, for a small file, in `small`,
 * which holds the file's bytes from 0 on. Where both cover a byte, the map
 * counts. Not thread-safe: the file's lock guards it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "fusefs/extent_map.h"
#include "fusefs/stripe_log.h"

/* Zero-initialise; release with pending_clear(). May be moved by assignment. */
struct pending {
    struct extent_map map;       /* all its sources are log objects */
    struct buf *small;           /* counted, or NULL */
    size_t small_size;           /* bytes in use at small */
    struct log_object **objects; /* owned, each counted: written to for this
                                    generation, dead ones too */
    size_t n_objects;            /* in use */
    size_t objects_max;          /* allocated */
    uint64_t end;     /* the file is at least this long; 0: says nothing */
    int64_t mtime_ns; /* of the last write; 0: leave it alone */
};

bool pending_is_empty(const struct pending *pending);
void pending_clear(struct pending *pending);

/* Bytes that have yet to be committed. */
uint64_t pending_bytes(const struct pending *pending);

/* Remember that bytes were appended to the object. Errors: -ENOMEM */
MUST_CHECK int pending_add_object(struct pending *pending,
                                  struct log_object *object);

/* Let the range from..to-1 be of length 0: punched (`to` is UINT64_MAX: cut
 * off). Errors: -ENOMEM nothing has changed */
MUST_CHECK int pending_forget(struct pending *pending,
                              uint64_t from,
                              uint64_t to);

/* Put `older` beneath `pending`; `older` is empty afterwards. Errors: -ENOMEM
 * some of the older bytes are lost */
MUST_CHECK int pending_merge_older(struct pending *pending,
                                   struct pending *older);
