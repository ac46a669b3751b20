/* Written bytes of one file that are not committed: one generation of them.
 *
 * Bytes lie in objects in the making (`map`), or, for a small file, in `small`
 * at their place in the file, with a bit for each that has been written: the
 * others are not ours to commit, another mount may have changed them. Where map
 * and small both have a byte, the map counts. Not thread-safe: the file's lock
 * guards it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "fusefs/extent_map.h"
#include "fusefs/file.h"
#include "fusefs/stripe_log.h"

/* Zero-initialise; release with pending_clear(). May be moved by assignment. */
struct pending {
    struct extent_map map;       /* all its sources are log objects */
    struct buf *small;           /* counted, or NULL: bytes, then their bits */
    size_t small_size;           /* nothing is written at small beyond this */
    struct log_object **objects; /* owned, each counted: written to for this
                                    generation, dead ones too */
    size_t n_objects;            /* in use */
    size_t objects_max;          /* allocated */
    uint64_t end;     /* the file is at least this long; 0: says nothing */
    int64_t mtime_ns; /* of the last write, or set since; 0: leave it alone */
    struct file_set set; /* its mtime is the one above */
};

bool pending_is_empty(const struct pending *pending);
void pending_clear(struct pending *pending);

/* Bytes that have yet to be committed. */
uint64_t pending_bytes(const struct pending *pending);

/* Size of a small buffer for `room` bytes, a multiple of 8. */
size_t pending_small_buf_size(size_t room);

/* Bytes that the small buffer has room for. */
size_t pending_small_room(const struct pending *pending);

/* Use this bigger buffer from now on, whose reference is taken over. */
void pending_take_small(struct pending *pending, struct buf *buf);

/* Write to the small buffer, which must have room. */
void pending_write_small(struct pending *pending,
                         size_t offset,
                         const uint8_t *data,
                         size_t length);

/* The first run of bytes written at small that ends after `offset`: it covers
 * `offset` or begins later. False when there is none. */
bool pending_find_small(const struct pending *pending,
                        uint64_t offset,
                        size_t *ret_from,
                        size_t *ret_to);

/* Remember that bytes were appended to the object. Errors: -ENOMEM */
MUST_CHECK int pending_add_object(struct pending *pending,
                                  struct log_object *object);

/* Let the range from..to-1 be of length 0: punched (`to` is UINT64_MAX: cut
 * off). Errors: -ENOMEM nothing has changed */
MUST_CHECK int pending_forget(struct pending *pending,
                              uint64_t from,
                              uint64_t to);

/* Attributes have been set, after all that is pending. */
void pending_set(struct pending *pending, const struct file_set *set);

/* Those of `older` that `set` does not name. */
void file_set_add_older(struct file_set *set, const struct file_set *older);

/* Put `older` beneath `pending`; `older` is empty afterwards. Errors: -ENOMEM
 * some of the older bytes are lost */
MUST_CHECK int pending_merge_older(struct pending *pending,
                                   struct pending *older);
