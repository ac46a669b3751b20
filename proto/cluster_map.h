/* The cluster map in memory: nodes, default policy, placement, shards.
 * Immutable and counted: readers keep a reference while they use it. */
#pragma once

#include <stdint.h>

#include "common/err.h"
#include "common/objio.h"
#include "common/placement.h"
#include "proto/cluster.pb-c.h"

struct cluster_node {
    uint32_t id;
    uint32_t zone;
    uint32_t weight;
    char *address; /* owned, "host:port" */
};

struct cluster_map {
    uint64_t id; /* of the cluster */
    uint64_t version;
    struct objio_policy policy;
    struct cluster_node *nodes; /* owned, ascending ids */
    size_t n_nodes;
    uint32_t slot_node[1024];    /* node that serves each metadata slot */
    struct placement *placement; /* owned */
    int refs;                    /* atomic */
};

/* From a message, validated. Errors: -EINVAL with the reason in `msg`, -ENOMEM
 */
MUST_CHECK int cluster_map_decode(const Gabion__ClusterMap *message,
                                  struct cluster_map **ret_map,
                                  struct errmsg *msg);

/* As a message for the wire; free with
 * gabion__cluster_map__free_unpacked(message, NULL). NULL when out of memory.
 */
Gabion__ClusterMap *cluster_map_encode(const struct cluster_map *map);

/* From a cluster.conf file: [cluster] id= policy= unit= min_write=
 * metadata_node=, [node N] address= zone= weight=; see cluster_map_load.c.
 * The version is 1, the placement is computed.
 * Errors: those of config_read(), -EINVAL, -ENOMEM, with the reason in `msg` */
MUST_CHECK int cluster_map_load(const char *path,
                                struct cluster_map **ret_map,
                                struct errmsg *msg);

struct cluster_map *cluster_map_ref(struct cluster_map *map);
void cluster_map_unref(struct cluster_map *map); /* NULL is allowed */

/* The node with this id, or NULL. Borrowed from the map. */
const struct cluster_node *cluster_map_node(const struct cluster_map *map,
                                            uint32_t id);
