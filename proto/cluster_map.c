#include "proto/cluster_map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/validate.h"

static int compare_nodes(const void *a, const void *b)
{
    const struct cluster_node *x = a;
    const struct cluster_node *y = b;

    return (x->id > y->id) - (x->id < y->id);
}

static int decode_nodes(const Gabion__ClusterMap *message,
                        struct cluster_map *map)
{
    map->nodes = calloc(message->n_node, sizeof *map->nodes);
    if (map->nodes == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < message->n_node; i++) {
        const Gabion__Node *from = message->node[i];
        struct cluster_node *node = &map->nodes[map->n_nodes++];

        node->id = from->id;
        node->zone = from->zone;
        node->weight = from->weight;
        node->address = strdup(from->address);
        if (node->address == NULL) {
            return -ENOMEM;
        }
    }
    qsort(map->nodes, map->n_nodes, sizeof *map->nodes, compare_nodes);
    return 0;
}

static void decode_shards(const Gabion__ClusterMap *message,
                          struct cluster_map *map)
{
    for (size_t i = 0; i < message->n_shard; i++) {
        const Gabion__Shard *shard = message->shard[i];

        for (uint32_t slot = shard->first_slot; slot <= shard->last_slot;
             slot++) {
            map->slot_node[slot] = shard->node;
        }
    }
}

int cluster_map_decode(const Gabion__ClusterMap *message,
                       struct cluster_map **ret_map,
                       struct errmsg *msg)
{
    struct cluster_map *map;
    int rc = validate_cluster_map(message, msg);

    if (rc != 0) {
        return rc;
    }
    map = calloc(1, sizeof *map);
    if (map == NULL) {
        return -ENOMEM;
    }
    map->refs = 1;
    map->id = message->id;
    map->version = message->version;
    map->policy.k = message->policy->k;
    map->policy.m = message->policy->m;
    map->policy.unit = message->policy->unit;
    map->policy.min_write = message->policy->min_write;
    decode_shards(message, map);
    rc = decode_nodes(message, map);
    if (rc == 0) {
        rc = placement_decode(message->placement, message->placement_width,
                              &map->placement);
    }
    if (rc != 0) {
        cluster_map_unref(map);
        return rc;
    }
    *ret_map = map;
    return 0;
}

/* ------------------------------------------------------------------ encode */

/* A message from the heap, as unpacking would make it. */
static void *new_message(const ProtobufCMessageDescriptor *type)
{
    void *message = malloc(type->sizeof_message);

    if (message != NULL) {
        protobuf_c_message_init(type, message);
    }
    return message;
}

static int encode_nodes(const struct cluster_map *map,
                        Gabion__ClusterMap *message)
{
    message->node = calloc(map->n_nodes, sizeof(void *));
    if (message->node == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < map->n_nodes; i++) {
        Gabion__Node *node = new_message(&gabion__node__descriptor);
        char *address = strdup(map->nodes[i].address);

        if (node == NULL || address == NULL) {
            free(node);
            free(address);
            return -ENOMEM;
        }
        node->id = map->nodes[i].id;
        node->zone = map->nodes[i].zone;
        node->weight = map->nodes[i].weight;
        node->address = address;
        message->node[message->n_node++] = node;
    }
    return 0;
}

/* One shard for each run of slots on one node. */
static int encode_shards(const struct cluster_map *map,
                         Gabion__ClusterMap *message)
{
    message->shard = calloc(METADATA_SLOTS, sizeof(void *));
    if (message->shard == NULL) {
        return -ENOMEM;
    }
    for (uint32_t slot = 0; slot < METADATA_SLOTS; slot++) {
        Gabion__Shard *shard;

        if (slot > 0 && map->slot_node[slot] == map->slot_node[slot - 1]) {
            message->shard[message->n_shard - 1]->last_slot = slot;
            continue;
        }
        shard = new_message(&gabion__shard__descriptor);
        if (shard == NULL) {
            return -ENOMEM;
        }
        shard->id = (uint32_t)message->n_shard;
        shard->node = map->slot_node[slot];
        shard->first_slot = slot;
        shard->last_slot = slot;
        message->shard[message->n_shard++] = shard;
    }
    return 0;
}

static int encode_placement(const struct cluster_map *map,
                            Gabion__ClusterMap *message)
{
    size_t n = (size_t)PLACEMENT_PARTITIONS * placement_width(map->placement);

    message->placement = malloc(n * sizeof *message->placement);
    if (message->placement == NULL) {
        return -ENOMEM;
    }
    memcpy(message->placement, placement_table(map->placement),
           n * sizeof *message->placement);
    message->placement_width = placement_width(map->placement);
    message->n_placement = n;
    return 0;
}

Gabion__ClusterMap *cluster_map_encode(const struct cluster_map *map)
{
    Gabion__ClusterMap *message = new_message(&gabion__cluster_map__descriptor);

    if (message == NULL) {
        return NULL;
    }
    message->id = map->id;
    message->version = map->version;
    message->policy = new_message(&gabion__policy__descriptor);
    if (message->policy == NULL || encode_nodes(map, message) != 0 ||
        encode_shards(map, message) != 0 ||
        encode_placement(map, message) != 0) {
        gabion__cluster_map__free_unpacked(message, NULL);
        return NULL;
    }
    message->policy->k = map->policy.k;
    message->policy->m = map->policy.m;
    message->policy->unit = map->policy.unit;
    message->policy->min_write = map->policy.min_write;
    return message;
}

/* -------------------------------------------------------------------- life */

struct cluster_map *cluster_map_ref(struct cluster_map *map)
{
    (void)__atomic_fetch_add(&map->refs, 1, __ATOMIC_RELAXED);
    return map;
}

void cluster_map_unref(struct cluster_map *map)
{
    if (map == NULL ||
        __atomic_sub_fetch(&map->refs, 1, __ATOMIC_ACQ_REL) > 0) {
        return;
    }
    for (size_t i = 0; i < map->n_nodes; i++) {
        free(map->nodes[i].address);
    }
    free(map->nodes);
    placement_free(map->placement);
    free(map);
}

const struct cluster_node *cluster_map_node(const struct cluster_map *map,
                                            uint32_t id)
{
    struct cluster_node key = { .id = id };

    return bsearch(&key, map->nodes, map->n_nodes, sizeof *map->nodes,
                   compare_nodes);
}
