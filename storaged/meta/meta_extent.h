/* Extents of files. Every change is counted in db's tally; the caller settles
 * it and puts the change of `allocated` into the inode. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/object_id.h"

struct meta_db;

#define META_INLINE_MAX 16384u

struct meta_extent {
    uint64_t offset; /* in the file */
    uint64_t length; /* > 0 */
    struct object_id object;
    uint64_t object_offset;
    const uint8_t *data; /* inline: `length` bytes, borrowed; else NULL */
};

/* Take the extents out of [from, to) of the file, splitting those that reach
 * over an edge. `*ret_bytes` is how many bytes had been covered. */
MUST_CHECK int meta_extent_trim(struct meta_db *db,
                                uint64_t ino,
                                uint64_t from,
                                uint64_t to,
                                uint64_t *ret_bytes);

/* Drop extents from the end of the file, at most `*budget` of them, which is
 * lowered by their number. `*ret_bytes` as above. */
MUST_CHECK int meta_extent_drop_tail(struct meta_db *db,
                                     uint64_t ino,
                                     uint64_t *budget,
                                     uint64_t *ret_bytes);

/* Add an extent where none is. Inline bytes may be appended to the inline
 * extent before them. */
MUST_CHECK int meta_extent_insert(struct meta_db *db,
                                  uint64_t ino,
                                  const struct meta_extent *extent);

/* Parts of extents of a range, copied. */
struct meta_extent_list {
    struct meta_extent *extents; /* owned, as is their data */
    size_t n;
    size_t capacity;
    size_t inline_bytes;
};

void meta_extent_list_close(struct meta_extent_list *list);

/* Collect what lies in [from, to), cut at its edges. A range of very many
 * extents is collected from its start only: `*ret_to` is how far. */
MUST_CHECK int meta_extent_collect(struct meta_db *db,
                                   uint64_t ino,
                                   uint64_t from,
                                   uint64_t to,
                                   struct meta_extent_list *ret_list,
                                   uint64_t *ret_to);
