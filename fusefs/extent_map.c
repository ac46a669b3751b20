#include "fusefs/extent_map.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct extent_leaf {
    size_t count;                               /* extents in use, from 1 */
    struct map_extent extents[EXTENT_LEAF_MAX]; /* ascending */
};

/* A place in the map: an extent, or where one would be inserted. `leaf` is
 * n_leaves behind the last extent. */
struct place {
    size_t leaf;  /* index into leaves */
    size_t index; /* into the leaf's extents */
};

void extent_map_clear(struct extent_map *map)
{
    for (size_t i = 0; i < map->n_leaves; i++) {
        struct extent_leaf *leaf = map->leaves[i].leaf;

        for (size_t j = 0; j < leaf->count; j++) {
            source_unref(leaf->extents[j].source);
        }
        free(leaf);
    }
    free(map->leaves);
    free(map->spare[0]);
    free(map->spare[1]);
    memset(map, 0, sizeof *map);
}

/* The first extent that ends after `offset`, or behind the last. */
static struct place locate(const struct extent_map *map, uint64_t offset)
{
    size_t low = 0;
    size_t high = map->n_leaves;
    struct place place;
    const struct extent_leaf *leaf;

    /* The last leaf that may hold `offset`. */
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;

        if (map->leaves[middle].first <= offset) {
            low = middle;
        } else {
            high = middle;
        }
    }
    place.leaf = low;
    place.index = 0;
    if (map->n_leaves == 0) {
        return place;
    }
    leaf = map->leaves[low].leaf;
    low = 0;
    high = leaf->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (map_extent_end(&leaf->extents[middle]) > offset) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    place.index = low;
    if (low == leaf->count) {
        place.leaf++;
        place.index = 0;
    }
    return place;
}

/* The extent at a place, or NULL behind the last. */
static struct map_extent *at(const struct extent_map *map, struct place place)
{
    if (place.leaf >= map->n_leaves) {
        return NULL;
    }
    assert(place.index < map->leaves[place.leaf].leaf->count);
    return &map->leaves[place.leaf].leaf->extents[place.index];
}

static struct map_extent *before(const struct extent_map *map,
                                 struct place place)
{
    struct extent_leaf *leaf;

    if (place.index > 0) {
        return &map->leaves[place.leaf].leaf->extents[place.index - 1];
    }
    if (place.leaf == 0) {
        return NULL;
    }
    leaf = map->leaves[place.leaf - 1].leaf;
    return &leaf->extents[leaf->count - 1];
}

/* After a change of the leaf's first extent. */
static void update_first(struct extent_map *map, size_t index)
{
    struct extent_leaf *leaf = map->leaves[index].leaf;

    if (leaf->count > 0) {
        map->leaves[index].first = leaf->extents[0].offset;
    }
}

int extent_map_reserve(struct extent_map *map)
{
    for (size_t i = 0; i < 2; i++) {
        if (map->spare[i] == NULL) {
            map->spare[i] = malloc(sizeof *map->spare[i]);
        }
        if (map->spare[i] == NULL) {
            return -ENOMEM;
        }
    }
    if (map->n_leaves + 2 > map->leaves_max) {
        size_t max = map->leaves_max * 2 + 4;
        struct extent_leaf_ref *leaves =
            realloc(map->leaves, max * sizeof *leaves);

        if (leaves == NULL) {
            return -ENOMEM;
        }
        map->leaves = leaves;
        map->leaves_max = max;
    }
    return 0;
}

/* Put an empty leaf, out of the spares, before the leaf `index`. */
static struct extent_leaf *add_leaf(struct extent_map *map,
                                    size_t index,
                                    uint64_t first)
{
    struct extent_leaf *leaf = map->spare[0];

    map->spare[0] = map->spare[1];
    map->spare[1] = NULL;
    assert(leaf != NULL && map->n_leaves < map->leaves_max);
    memmove(&map->leaves[index + 1], &map->leaves[index],
            (map->n_leaves - index) * sizeof map->leaves[0]);
    map->n_leaves++;
    leaf->count = 0;
    map->leaves[index].first = first;
    map->leaves[index].leaf = leaf;
    return leaf;
}

/* Make room in the full leaf of `*place`, moving the place along. */
static void split_leaf(struct extent_map *map, struct place *place)
{
    struct extent_leaf *leaf = map->leaves[place->leaf].leaf;
    /* Appending fills leaves to the brim. */
    size_t keep = place->index == leaf->count ? leaf->count : leaf->count / 2;
    struct extent_leaf *right = add_leaf(map, place->leaf + 1, 0);

    right->count = leaf->count - keep;
    memcpy(right->extents, &leaf->extents[keep],
           right->count * sizeof right->extents[0]);
    leaf->count = keep;
    map->leaves[place->leaf + 1].first =
        right->count > 0 ? right->extents[0].offset : UINT64_MAX;
    if (place->index >= keep && (place->index > keep || right->count == 0)) {
        place->leaf++;
        place->index -= keep;
    }
}

/* Insert before the place; takes over the reference in `extent`. */
static void insert(struct extent_map *map,
                   struct place place,
                   const struct map_extent *extent)
{
    struct extent_leaf *leaf;

    if (map->n_leaves == 0) {
        (void)add_leaf(map, 0, extent->offset);
    }
    if (place.leaf == map->n_leaves || place.index == 0) {
        /* Rather at the end of the leaf before than at the start of one. */
        if (place.leaf > 0) {
            place.leaf--;
            place.index = map->leaves[place.leaf].leaf->count;
        }
    }
    if (map->leaves[place.leaf].leaf->count == EXTENT_LEAF_MAX) {
        split_leaf(map, &place);
    }
    leaf = map->leaves[place.leaf].leaf;
    memmove(&leaf->extents[place.index + 1], &leaf->extents[place.index],
            (leaf->count - place.index) * sizeof leaf->extents[0]);
    leaf->extents[place.index] = *extent;
    leaf->count++;
    update_first(map, place.leaf);
    map->count++;
    map->bytes += extent->length;
}

/* Remove extents of one leaf; the leaf may be empty afterwards. */
static void remove_from_leaf(struct extent_map *map,
                             size_t index,
                             size_t from,
                             size_t to)
{
    struct extent_leaf *leaf = map->leaves[index].leaf;

    for (size_t i = from; i < to; i++) {
        map->bytes -= leaf->extents[i].length;
        source_unref(leaf->extents[i].source);
    }
    memmove(&leaf->extents[from], &leaf->extents[to],
            (leaf->count - to) * sizeof leaf->extents[0]);
    leaf->count -= to - from;
    update_first(map, index);
    map->count -= to - from;
}

/* Remove the leaves from..to-1, which are empty. */
static void drop_leaves(struct extent_map *map, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        assert(map->leaves[i].leaf->count == 0);
        free(map->leaves[i].leaf);
    }
    memmove(&map->leaves[from], &map->leaves[to],
            (map->n_leaves - to) * sizeof map->leaves[0]);
    map->n_leaves -= to - from;
}

/* Join the leaf with the one after it when both are nearly empty. */
static void join_leaves(struct extent_map *map, size_t index)
{
    struct extent_leaf *left;
    struct extent_leaf *right;

    if (index + 1 >= map->n_leaves) {
        return;
    }
    left = map->leaves[index].leaf;
    right = map->leaves[index + 1].leaf;
    if (left->count + right->count > EXTENT_LEAF_MAX / 2) {
        return;
    }
    memcpy(&left->extents[left->count], right->extents,
           right->count * sizeof right->extents[0]);
    left->count += right->count;
    right->count = 0;
    drop_leaves(map, index + 1, index + 2);
}

/* Remove the extents from `place` on that end at or before `end`. */
static void remove_until(struct extent_map *map,
                         struct place place,
                         uint64_t end)
{
    size_t leaf_index = place.leaf;
    size_t from = place.index;
    size_t empty_from = SIZE_MAX;
    size_t empty_to = 0;

    while (leaf_index < map->n_leaves) {
        struct extent_leaf *leaf = map->leaves[leaf_index].leaf;
        size_t to = from;

        while (to < leaf->count && map_extent_end(&leaf->extents[to]) <= end) {
            to++;
        }
        bool whole = to == leaf->count;

        remove_from_leaf(map, leaf_index, from, to);
        if (leaf->count == 0) {
            empty_from = empty_from == SIZE_MAX ? leaf_index : empty_from;
            empty_to = leaf_index + 1;
        }
        if (!whole) {
            break;
        }
        leaf_index++;
        from = 0;
    }
    if (empty_from != SIZE_MAX) {
        drop_leaves(map, empty_from, empty_to);
    }
    if (place.leaf > 0) {
        join_leaves(map, place.leaf - 1);
    }
}

/* extent_map_cut() with the memory reserved. */
static void cut(struct extent_map *map, uint64_t offset, uint64_t end)
{
    struct place place = locate(map, offset);
    struct map_extent *extent = at(map, place);

    if (extent == NULL || extent->offset >= end) {
        return;
    }
    if (extent->offset < offset) {
        uint64_t old_end = map_extent_end(extent);
        struct map_extent right = *extent;

        map->bytes -= old_end - offset;
        extent->length = offset - extent->offset;
        place.index++;
        if (old_end > end) {
            right.offset = end;
            right.length = old_end - end;
            right.source_offset += end - extent->offset;
            (void)source_ref(right.source);
            insert(map, place, &right);
            return;
        }
        if (place.index == map->leaves[place.leaf].leaf->count) {
            place.leaf++;
            place.index = 0;
        }
    }
    remove_until(map, place, end);
    place = locate(map, offset);
    extent = at(map, place);
    if (extent != NULL && extent->offset < end) {
        uint64_t gone = end - extent->offset;

        extent->offset += gone;
        extent->source_offset += gone;
        extent->length -= gone;
        map->bytes -= gone;
        update_first(map, place.leaf);
    }
}

int extent_map_cut(struct extent_map *map, uint64_t offset, uint64_t length)
{
    int rc = extent_map_reserve(map);

    if (rc == 0) {
        cut(map, offset, offset + length);
    }
    return rc;
}

static bool continues(const struct map_extent *a, const struct map_extent *b)
{
    return map_extent_end(a) == b->offset && a->source == b->source &&
           a->source_offset + a->length == b->source_offset;
}

int extent_map_put(struct extent_map *map, const struct map_extent *extent)
{
    int rc = extent_map_reserve(map);
    struct place place;
    struct map_extent *left;
    struct map_extent *right;
    struct map_extent copy = *extent;

    assert(extent->length > 0);
    if (rc != 0) {
        return rc;
    }
    (void)source_ref(copy.source);
    cut(map, extent->offset, map_extent_end(extent));
    place = locate(map, extent->offset);
    left = before(map, place);
    right = at(map, place);
    if (right != NULL && continues(&copy, right)) {
        copy.length += right->length;
        if (left == NULL || !continues(left, &copy)) {
            /* The right one grows to the left in its place. */
            map->bytes += extent->length;
            right->offset = copy.offset;
            right->length = copy.length;
            right->source_offset = copy.source_offset;
            update_first(map, place.leaf);
            source_unref(copy.source);
            return 0;
        }
        remove_until(map, place, map_extent_end(right));
        left = before(map, locate(map, extent->offset));
    }
    if (left != NULL && continues(left, &copy)) {
        left->length += copy.length;
        map->bytes += copy.length;
        source_unref(copy.source);
        return 0;
    }
    if (map->spare[0] == NULL || map->n_leaves == map->leaves_max) {
        abort(); /* a cut and an insertion take a leaf each at most */
    }
    insert(map, locate(map, extent->offset), &copy);
    return 0;
}

bool extent_map_find(const struct extent_map *map,
                     uint64_t offset,
                     struct map_extent *ret_extent)
{
    const struct map_extent *extent = at(map, locate(map, offset));

    if (extent == NULL) {
        return false;
    }
    *ret_extent = *extent;
    return true;
}

int extent_map_overlay(struct extent_map *map, struct extent_map *over)
{
    for (size_t i = 0; i < over->n_leaves; i++) {
        const struct extent_leaf *leaf = over->leaves[i].leaf;

        for (size_t j = 0; j < leaf->count; j++) {
            int rc = extent_map_put(map, &leaf->extents[j]);

            if (rc != 0) {
                return rc;
            }
        }
    }
    extent_map_clear(over);
    return 0;
}

uint64_t extent_map_end(const struct extent_map *map)
{
    const struct extent_leaf *leaf;

    if (map->n_leaves == 0) {
        return 0;
    }
    leaf = map->leaves[map->n_leaves - 1].leaf;
    return map_extent_end(&leaf->extents[leaf->count - 1]);
}
