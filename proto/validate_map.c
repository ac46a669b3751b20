#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/placement.h"
#include "common/rpc_address.h"
#include "proto/validate_internal.h"

#define NODE_ID_MAX UINT16_MAX
#define WEIGHT_MAX  1000000u

/* A set of node ids. */
struct id_set {
    uint8_t bits[(NODE_ID_MAX + 1) / 8];
};

static bool has_id(const struct id_set *set, uint32_t id)
{
    return id <= NODE_ID_MAX && (set->bits[id / 8] >> id % 8 & 1) != 0;
}

static int validate_node(const Gabion__Node *node,
                         struct id_set *ids,
                         struct errmsg *msg)
{
    char target[RPC_TARGET_SIZE_MAX];

    if (node->id == 0 || node->id > NODE_ID_MAX) {
        errmsg_set(msg, "node id %" PRIu32 " is not in 1..%u", node->id,
                   NODE_ID_MAX);
        return -EINVAL;
    }
    if (has_id(ids, node->id)) {
        errmsg_set(msg, "node %" PRIu32 " is there twice", node->id);
        return -EINVAL;
    }
    ids->bits[node->id / 8] =
        (uint8_t)(ids->bits[node->id / 8] | 1U << node->id % 8);
    if (node->weight == 0 || node->weight > WEIGHT_MAX) {
        errmsg_set(msg, "the weight of node %" PRIu32 " is not in 1..%u",
                   node->id, WEIGHT_MAX);
        return -EINVAL;
    }
    if (node->address == NULL || rpc_address_check_listen(node->address) != 0 ||
        rpc_address_target(node->address, target) != 0) {
        errmsg_set(msg, "the address of node %" PRIu32 " is not host:port",
                   node->id);
        return -EINVAL;
    }
    return 0;
}

static int validate_nodes(const Gabion__ClusterMap *map,
                          struct id_set *ret_ids,
                          struct errmsg *msg)
{
    int rc = check(map->n_node > 0 && map->n_node <= PLACEMENT_NODES_MAX, msg,
                   "no nodes, or too many");

    memset(ret_ids, 0, sizeof *ret_ids);
    for (size_t i = 0; i < map->n_node && rc == 0; i++) {
        rc = validate_node(map->node[i], ret_ids, msg);
    }
    return rc;
}

static int validate_policy(const Gabion__ClusterMap *map, struct errmsg *msg)
{
    const Gabion__Policy *policy = map->policy;
    int rc;

    if (policy == NULL) {
        return check(false, msg, "the policy is missing");
    }
    rc = validate_coding(policy->k, policy->m, policy->unit, msg);
    if (rc != 0) {
        return rc;
    }
    if (policy->min_write < policy->k ||
        policy->min_write > policy->k + policy->m) {
        errmsg_set(msg, "min_write is not in %" PRIu32 "..%" PRIu32, policy->k,
                   policy->k + policy->m);
        return -EINVAL;
    }
    if (policy->k + policy->m > map->n_node) {
        errmsg_set(msg,
                   "%" PRIu32 "+%" PRIu32 " blocks need as many nodes, there "
                   "are %zu",
                   policy->k, policy->m, map->n_node);
        return -EINVAL;
    }
    return 0;
}

/* Every slot is served by one shard, on a node that exists. */
static int validate_shards(const Gabion__ClusterMap *map,
                           const struct id_set *ids,
                           struct errmsg *msg)
{
    bool served[METADATA_SLOTS] = { false };
    size_t n_served = 0;

    for (size_t i = 0; i < map->n_shard; i++) {
        const Gabion__Shard *shard = map->shard[i];

        if (!has_id(ids, shard->node)) {
            errmsg_set(msg,
                       "metadata is on node %" PRIu32 ", which is not there",
                       shard->node);
            return -EINVAL;
        }
        if (shard->first_slot > shard->last_slot ||
            shard->last_slot >= METADATA_SLOTS) {
            return check(false, msg, "metadata slots out of range");
        }
        for (uint32_t slot = shard->first_slot; slot <= shard->last_slot;
             slot++) {
            if (served[slot]) {
                return check(false, msg, "a metadata slot is served twice");
            }
            served[slot] = true;
            n_served++;
        }
    }
    return check(n_served == METADATA_SLOTS, msg,
                 "a metadata slot is not served");
}

static int validate_placement(const Gabion__ClusterMap *map,
                              const struct id_set *ids,
                              struct errmsg *msg)
{
    uint32_t width = map->placement_width;

    if (width == 0 || width > PLACEMENT_WIDTH_MAX || width > map->n_node ||
        width < map->policy->k + map->policy->m) {
        errmsg_set(msg, "placement lists of %" PRIu32 " nodes", width);
        return -EINVAL;
    }
    if (map->n_placement != (size_t)PLACEMENT_PARTITIONS * width) {
        return check(false, msg, "the placement is incomplete");
    }
    for (size_t i = 0; i < map->n_placement; i++) {
        size_t first = i - i % width;

        if (!has_id(ids, map->placement[i])) {
            errmsg_set(
                msg, "the placement names node %" PRIu32 ", which is not there",
                map->placement[i]);
            return -EINVAL;
        }
        for (size_t j = first; j < i; j++) {
            if (map->placement[j] == map->placement[i]) {
                return check(false, msg, "the placement lists a node twice");
            }
        }
    }
    return 0;
}

int validate_cluster_map(const Gabion__ClusterMap *map, struct errmsg *msg)
{
    struct id_set ids;
    int rc = check(map->id != 0 && map->version != 0, msg,
                   "a map without cluster id or version");

    if (rc == 0) {
        rc = validate_nodes(map, &ids, msg);
    }
    if (rc == 0) {
        rc = validate_policy(map, msg);
    }
    if (rc == 0) {
        rc = validate_shards(map, &ids, msg);
    }
    if (rc == 0) {
        rc = validate_placement(map, &ids, msg);
    }
    return rc;
}
