#include "common/placement.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/placement_plan.h"

#define NODE_ID_MAX UINT16_MAX
#define WEIGHT_MAX  1000000u

struct placement {
    uint32_t width;        /* nodes listed per partition */
    uint32_t width_wanted; /* what the width grows to when nodes are added */
    uint32_t table[];      /* node ids: [partition][position] */
};

static int placement_alloc(uint32_t width,
                           uint32_t width_wanted,
                           struct placement **ret_placement)
{
    struct placement *placement;
    size_t n = (size_t)PLACEMENT_PARTITIONS * width;

    placement = calloc(1, sizeof *placement + n * sizeof *placement->table);
    if (placement == NULL) {
        return -ENOMEM;
    }
    placement->width = width;
    placement->width_wanted = width_wanted;
    *ret_placement = placement;
    return 0;
}

static int check_nodes(const struct placement_node *nodes, size_t n_nodes)
{
    uint8_t seen[(NODE_ID_MAX + 1) / 8] = { 0 };

    if (n_nodes == 0 || n_nodes > PLACEMENT_NODES_MAX) {
        return -EINVAL;
    }
    for (size_t i = 0; i < n_nodes; i++) {
        uint32_t id = nodes[i].id;

        if (id == 0 || id > NODE_ID_MAX || nodes[i].weight == 0 ||
            nodes[i].weight > WEIGHT_MAX || (seen[id / 8] >> id % 8 & 1) != 0) {
            return -EINVAL;
        }
        seen[id / 8] = (uint8_t)(seen[id / 8] | 1U << id % 8);
    }
    return 0;
}

static uint32_t min_width(uint32_t wanted, size_t n_nodes)
{
    return wanted < n_nodes ? wanted : (uint32_t)n_nodes;
}

int placement_new(const struct placement_node *nodes,
                  size_t n_nodes,
                  uint32_t width,
                  struct placement **ret_placement)
{
    struct placement *placement = NULL;
    int rc = check_nodes(nodes, n_nodes);

    if (rc != 0) {
        return rc;
    }
    if (width == 0 || width > PLACEMENT_WIDTH_MAX) {
        return -EINVAL;
    }
    rc = placement_alloc(min_width(width, n_nodes), width, &placement);
    if (rc != 0) {
        return rc;
    }
    rc = placement_plan(nodes, n_nodes, placement->width, placement->table);
    if (rc != 0) {
        placement_free(placement);
        return rc;
    }
    *ret_placement = placement;
    return 0;
}

int placement_edit(const struct placement *old,
                   const struct placement_node *nodes,
                   size_t n_nodes,
                   struct placement **ret_placement)
{
    struct placement *placement = NULL;
    uint32_t n_kept;
    int rc = check_nodes(nodes, n_nodes);

    if (rc != 0) {
        return rc;
    }
    rc = placement_alloc(min_width(old->width_wanted, n_nodes),
                         old->width_wanted, &placement);
    if (rc != 0) {
        return rc;
    }
    n_kept = min_width(old->width, placement->width);
    for (size_t row = 0; row < PLACEMENT_PARTITIONS; row++) {
        memcpy(placement->table + row * placement->width,
               old->table + row * old->width,
               n_kept * sizeof *placement->table);
    }
    rc = placement_plan(nodes, n_nodes, placement->width, placement->table);
    if (rc != 0) {
        placement_free(placement);
        return rc;
    }
    *ret_placement = placement;
    return 0;
}

/* Whether the ids of a list are in range and distinct. */
static bool is_list(const uint32_t *list, uint32_t width)
{
    for (uint32_t i = 0; i < width; i++) {
        if (list[i] == 0 || list[i] > NODE_ID_MAX) {
            return false;
        }
        for (uint32_t j = 0; j < i; j++) {
            if (list[i] == list[j]) {
                return false;
            }
        }
    }
    return true;
}

/* Whether every list names the same nodes, which then are all there are. */
static bool lists_all_nodes(const uint32_t *table, uint32_t width)
{
    for (size_t i = 0; i < (size_t)PLACEMENT_PARTITIONS * width; i++) {
        uint32_t j = 0;

        while (j < width && table[j] != table[i]) {
            j++;
        }
        if (j == width) {
            return false;
        }
    }
    return true;
}

int placement_decode(const uint32_t *table,
                     uint32_t width,
                     struct placement **ret_placement)
{
    struct placement *placement = NULL;
    int rc;

    if (width == 0 || width > PLACEMENT_WIDTH_MAX) {
        return -EINVAL;
    }
    for (size_t row = 0; row < PLACEMENT_PARTITIONS; row++) {
        if (!is_list(table + row * width, width)) {
            return -EINVAL;
        }
    }
    rc = placement_alloc(
        width, lists_all_nodes(table, width) ? PLACEMENT_WIDTH_MAX : width,
        &placement);
    if (rc != 0) {
        return rc;
    }
    memcpy(placement->table, table,
           (size_t)PLACEMENT_PARTITIONS * width * sizeof *table);
    *ret_placement = placement;
    return 0;
}

void placement_free(struct placement *placement)
{
    free(placement);
}

uint32_t placement_width(const struct placement *placement)
{
    return placement->width;
}

const uint32_t *placement_table(const struct placement *placement)
{
    return placement->table;
}

/* The finalizer of MurmurHash3: each bit of x changes half of the result's. */
static uint64_t mix64(uint64_t x)
{
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccd;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53;
    return x ^ x >> 33;
}

uint32_t placement_partition(const struct object_id *object)
{
    uint64_t hash = mix64(mix64(object->session) + object->serial);

    return (uint32_t)(hash % PLACEMENT_PARTITIONS);
}

const uint32_t *placement_nodes(const struct placement *placement,
                                const struct object_id *object)
{
    return placement->table +
           (size_t)placement_partition(object) * placement->width;
}
