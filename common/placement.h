/* Which nodes hold the blocks of an object.
 *
 * Consistent hashing as a ring of 4096 fixed partitions: object id ->
 * partition -> an ordered list of nodes. Block i lives on the i-th node of the
 * list; the nodes after the (k+m)-th are the spares that a write uses when a
 * home is down. Pure functions of their arguments: no clock, no randomness, no
 * I/O. A placement is immutable and may be shared between threads. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/object_id.h"

#define PLACEMENT_PARTITIONS 4096u
#define PLACEMENT_NODES_MAX  1024u /* nodes in a cluster */
#define PLACEMENT_WIDTH_MAX  32u   /* nodes listed per partition */

struct placement_node {
    uint32_t id;     /* 1..65535, distinct */
    uint32_t zone;   /* failure domain; 0: the node is its own */
    uint32_t weight; /* share relative to the others, 1..1000000 */
};

struct placement;

/* Place all partitions from nothing. Each list names min(width, n_nodes)
 * distinct nodes, the first of them from distinct zones as far as there are
 * zones; over all partitions each position is spread by weight.
 *
 * Errors: -EINVAL no node, too many, ids or weights out of range or ids twice,
 *                 width 0 or above PLACEMENT_WIDTH_MAX.
 *         -ENOMEM */
MUST_CHECK int placement_new(const struct placement_node *nodes,
                             size_t n_nodes,
                             uint32_t width,
                             struct placement **ret_placement);

/* The placement after a change of nodes or weights, with the fewest moves:
 * adding the N-th node moves 1/N of the blocks, all of them to the new node;
 * removing one moves only its own. Errors as placement_new(). */
MUST_CHECK int placement_edit(const struct placement *old,
                              const struct placement_node *nodes,
                              size_t n_nodes,
                              struct placement **ret_placement);

/* A placement from its table: PLACEMENT_PARTITIONS lists of `width` node ids.
 * Errors: -EINVAL width out of range, an id of 0, an id twice in one list.
 *         -ENOMEM */
MUST_CHECK int placement_decode(const uint32_t *table,
                                uint32_t width,
                                struct placement **ret_placement);

void placement_free(struct placement *placement);

/* Node ids listed per partition. */
uint32_t placement_width(const struct placement *placement);

/* The whole table, as placement_decode() takes it. Borrowed. */
const uint32_t *placement_table(const struct placement *placement);

/* Partition of an object: 0..PLACEMENT_PARTITIONS-1. */
uint32_t placement_partition(const struct object_id *object);

/* The placement_width() nodes of the object's partition, in order. Borrowed. */
const uint32_t *placement_nodes(const struct placement *placement,
                                const struct object_id *object);
