/* An ordered map of file ranges to the sources of their bytes.
 *
 * Ranges never overlap and are never empty; neighbours that continue each other
 * in the file and in their source are one. Finding, putting and cutting are
 * O(log n) for up to millions of extents. Not thread-safe: the owner guards it.
 *
 * The extents lie in leaves of up to EXTENT_LEAF_MAX, the leaves in one sorted
 * array: a B+-tree of two levels. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "fusefs/source.h"

#define EXTENT_LEAF_MAX 128u

struct map_extent {
    uint64_t offset;        /* in the file */
    uint64_t length;        /* > 0 */
    uint64_t source_offset; /* of the first byte in the source */
    struct source *source;  /* counted by the map; borrowed by who looks */
};

struct extent_leaf;

/* A leaf in the map's array. */
struct extent_leaf_ref {
    uint64_t first;           /* offset of the leaf's first extent */
    struct extent_leaf *leaf; /* owned, never empty */
};

/* Zero-initialise; release with extent_map_clear(). May be moved by
 * assignment. */
struct extent_map {
    struct extent_leaf_ref *leaves; /* owned */
    size_t n_leaves;                /* in use */
    size_t leaves_max;              /* allocated */
    struct extent_leaf *spare[2];   /* owned: so that a change cannot fail in
                                       the middle */
    size_t count;                   /* extents */
    uint64_t bytes;                 /* that the extents cover */
};

/* Forget all extents and release the memory. */
void extent_map_clear(struct extent_map *map);

static inline uint64_t map_extent_end(const struct map_extent *extent)
{
    return extent->offset + extent->length;
}

/* Let the range of `extent` come from its source, whatever was there before;
 * takes a reference of the source. `offset + length` must not overflow.
 * Errors: -ENOMEM the map is as it was */
MUST_CHECK int extent_map_put(struct extent_map *map,
                              const struct map_extent *extent);

/* Let the next put or cut succeed. Errors: -ENOMEM */
MUST_CHECK int extent_map_reserve(struct extent_map *map);

/* Forget what lies in `length` bytes from `offset`; `length` may reach to
 * UINT64_MAX - offset. Errors: -ENOMEM the map is as it was */
MUST_CHECK int extent_map_cut(struct extent_map *map,
                              uint64_t offset,
                              uint64_t length);

/* The first extent that ends after `offset`: it covers `offset` or begins
 * later. False when there is none. */
bool extent_map_find(const struct extent_map *map,
                     uint64_t offset,
                     struct map_extent *ret_extent);

/* Put all of `over` into `map`, leaving `over` empty. Errors: -ENOMEM part of
 * it has been put, `over` is as it was */
MUST_CHECK int extent_map_overlay(struct extent_map *map,
                                  struct extent_map *over);

/* End of the last extent; 0 for an empty map. */
uint64_t extent_map_end(const struct extent_map *map);
