/* `gabion status`: what the nodes of a cluster say of themselves. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/err.h"
#include "common/rpc_client.h"
#include "proto/cluster_map.h"

/* One node. */
struct node_status {
    uint32_t id;
    const char *address;   /* borrowed from the map */
    bool up;               /* it answered as the node that it should be */
    struct errmsg trouble; /* why it is not up */
    uint64_t total;        /* bytes of its filesystem */
    uint64_t available;    /* bytes that may still be stored */
    uint64_t used;         /* bytes on the disk */
    uint64_t n_blocks;
    uint64_t block_bytes; /* of these blocks */
};

/* One metadata shard. */
struct shard_status {
    uint32_t node; /* that serves it */
    bool up;
    struct errmsg trouble; /* why it is not up */
    uint64_t n_inodes, n_objects, n_garbage, n_sessions, applied;
};

struct cluster_status {
    struct cluster_map *map;     /* counted */
    struct node_status *nodes;   /* owned: one for each of the map */
    struct shard_status *shards; /* owned: one for each node with slots */
    size_t n_shards;
};

/* Ask all nodes of the map at once, until `deadline_ms` (clock_mono_ms()).
 * That some do not answer is no error. Release with status_clear().
 * Errors: -ENOMEM; -EINVAL an address is not one */
MUST_CHECK int status_collect(struct rpc_client *rpc,
                              struct cluster_map *map,
                              int64_t deadline_ms,
                              struct cluster_status *ret_status);

void status_clear(struct cluster_status *status);

/* Whether all nodes and shards are up. */
bool status_is_healthy(const struct cluster_status *status);

/* Print for people, or as one JSON object. */
void status_print(const struct cluster_status *status, FILE *file);
void status_print_json(const struct cluster_status *status, FILE *file);
