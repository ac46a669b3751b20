/* cluster.conf: the map of a cluster as its administrator writes it.
 *
 *   [cluster]
 *   id = 0123456789abcdef       16 hex digits, random, never changed
 *   policy = ec:4+2             or copies:N; ec:4+2 by default
 *   unit = 256K                 bytes of a full block
 *   min_write = 5               k+1 by default
 *   metadata_node = 1           the lowest id by default
 *
 *   [node 1]                    one section for each node
 *   address = host:port
 *   zone = 0                    failure domain; 0: the node is its own
 *   weight = 100
 *
 * The placement is computed from the nodes; every node of the cluster computes
 * the same. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/config.h"
#include "proto/cluster_map.h"
#include "proto/validate.h"

#define UNIT_DEFAULT   (256u << 10)
#define WEIGHT_DEFAULT 100u
#define WEIGHT_MAX     1000000u
#define ID_DIGITS      16u

/* What the file says. */
struct cluster_conf {
    uint64_t id;            /* 0: not given */
    uint32_t k, m;          /* of the policy */
    uint32_t unit;          /* bytes of a full block */
    uint32_t min_write;     /* 0: not given */
    uint32_t metadata_node; /* 0: not given */
    size_t n_nodes;
    struct cluster_node nodes[PLACEMENT_NODES_MAX]; /* addresses owned */
};

/* -------------------------------------------------------- [cluster] setters */

static int set_id(void *target,
                  const char *suffix,
                  const char *value,
                  struct errmsg *msg)
{
    struct cluster_conf *conf = target;
    size_t n_digits = 0;

    (void)suffix;
    while (isxdigit((unsigned char)value[n_digits])) {
        n_digits++;
    }
    if (n_digits == ID_DIGITS && value[n_digits] == '\0') {
        conf->id = strtoull(value, NULL, 16);
    }
    if (conf->id == 0) {
        errmsg_set(msg, "'%s' is not %u hex digits other than 0", value,
                   ID_DIGITS);
        return -EINVAL;
    }
    return 0;
}

/* "K+M" */
static int parse_coding(const char *text, uint64_t *ret_k, uint64_t *ret_m)
{
    char k[8];
    size_t length = strcspn(text, "+");

    if (text[length] != '+' || length >= sizeof k) {
        return -EINVAL;
    }
    memcpy(k, text, length);
    k[length] = '\0';
    if (config_parse_uint(k, 1, EC_K_MAX, ret_k) != 0 ||
        config_parse_uint(text + length + 1, 0, EC_M_MAX, ret_m) != 0) {
        return -EINVAL;
    }
    return 0;
}

static int set_policy(void *target,
                      const char *suffix,
                      const char *value,
                      struct errmsg *msg)
{
    struct cluster_conf *conf = target;
    uint64_t k = 1;
    uint64_t m = 0;
    int rc = -EINVAL;

    (void)suffix;
    if (strncmp(value, "ec:", 3) == 0) {
        rc = parse_coding(value + 3, &k, &m);
    } else if (strncmp(value, "copies:", 7) == 0) {
        rc = config_parse_uint(value + 7, 1, EC_M_MAX + 1, &m);
        m--;
    }
    if (rc != 0) {
        errmsg_set(msg,
                   "'%s' is neither ec:K+M (K 1..%u, M 0..%u) nor copies:N "
                   "(N 1..%u)",
                   value, EC_K_MAX, EC_M_MAX, EC_M_MAX + 1);
        return -EINVAL;
    }
    conf->k = (uint32_t)k;
    conf->m = (uint32_t)m;
    return 0;
}

static int set_unit(void *target,
                    const char *suffix,
                    const char *value,
                    struct errmsg *msg)
{
    struct cluster_conf *conf = target;
    uint64_t unit = 0;
    int rc = config_parse_size(value, &unit);

    (void)suffix;
    if (rc != 0 || unit == 0 || unit > BLOCK_LENGTH_MAX || unit % 4096 != 0) {
        errmsg_set(msg, "'%s' is not a multiple of 4K up to 1M", value);
        return -EINVAL;
    }
    conf->unit = (uint32_t)unit;
    return 0;
}

static int parse_u32(const char *value,
                     uint32_t max,
                     uint32_t *ret,
                     struct errmsg *msg)
{
    uint64_t number;

    if (config_parse_uint(value, 1, max, &number) != 0) {
        errmsg_set(msg, "'%s' is not a number of 1..%" PRIu32, value, max);
        return -EINVAL;
    }
    *ret = (uint32_t)number;
    return 0;
}

static int set_min_write(void *target,
                         const char *suffix,
                         const char *value,
                         struct errmsg *msg)
{
    struct cluster_conf *conf = target;

    (void)suffix;
    return parse_u32(value, EC_BLOCKS_MAX, &conf->min_write, msg);
}

static int set_metadata_node(void *target,
                             const char *suffix,
                             const char *value,
                             struct errmsg *msg)
{
    struct cluster_conf *conf = target;

    (void)suffix;
    return parse_u32(value, UINT16_MAX, &conf->metadata_node, msg);
}

/* --------------------------------------------------------- [node N] setters */

/* The node of a section, made when it is new. */
static int find_node(struct cluster_conf *conf,
                     const char *suffix,
                     struct cluster_node **ret_node,
                     struct errmsg *msg)
{
    uint32_t id;
    int rc = parse_u32(suffix, UINT16_MAX, &id, msg);

    if (rc != 0) {
        return rc;
    }
    if (*suffix == '0') {
        errmsg_set(msg, "write the node's id without a leading 0");
        return -EINVAL;
    }
    for (size_t i = 0; i < conf->n_nodes; i++) {
        if (conf->nodes[i].id == id) {
            *ret_node = &conf->nodes[i];
            return 0;
        }
    }
    if (conf->n_nodes == PLACEMENT_NODES_MAX) {
        errmsg_set(msg, "more than %u nodes", PLACEMENT_NODES_MAX);
        return -EINVAL;
    }
    *ret_node = &conf->nodes[conf->n_nodes++];
    **ret_node = (struct cluster_node){ .id = id, .weight = WEIGHT_DEFAULT };
    return 0;
}

static int set_address(void *target,
                       const char *suffix,
                       const char *value,
                       struct errmsg *msg)
{
    struct cluster_conf *conf = target;
    struct cluster_node *node;
    int rc = find_node(conf, suffix, &node, msg);

    if (rc != 0) {
        return rc;
    }
    for (size_t i = 0; i < conf->n_nodes; i++) {
        if (conf->nodes[i].address != NULL &&
            strcmp(conf->nodes[i].address, value) == 0) {
            errmsg_set(msg, "node %" PRIu32 " has the address %s, too",
                       conf->nodes[i].id, value);
            return -EINVAL;
        }
    }
    node->address = strdup(value);
    return node->address != NULL ? 0 : -ENOMEM;
}

static int set_zone(void *target,
                    const char *suffix,
                    const char *value,
                    struct errmsg *msg)
{
    struct cluster_node *node;
    uint64_t zone;
    int rc = find_node(target, suffix, &node, msg);

    if (rc != 0) {
        return rc;
    }
    if (config_parse_uint(value, 0, UINT32_MAX, &zone) != 0) {
        errmsg_set(msg, "'%s' is not a number of 0..%" PRIu32, value,
                   UINT32_MAX);
        return -EINVAL;
    }
    node->zone = (uint32_t)zone;
    return 0;
}

static int set_weight(void *target,
                      const char *suffix,
                      const char *value,
                      struct errmsg *msg)
{
    struct cluster_node *node;
    int rc = find_node(target, suffix, &node, msg);

    return rc != 0 ? rc : parse_u32(value, WEIGHT_MAX, &node->weight, msg);
}

/* ---------------------------------------------------------------- the whole */

static const struct config_key keys[] = {
    { "cluster", "id", set_id },
    { "cluster", "policy", set_policy },
    { "cluster", "unit", set_unit },
    { "cluster", "min_write", set_min_write },
    { "cluster", "metadata_node", set_metadata_node },
    { "node ", "address", set_address },
    { "node ", "zone", set_zone },
    { "node ", "weight", set_weight },
};

static uint32_t lowest_id(const struct cluster_conf *conf)
{
    uint32_t lowest = UINT32_MAX;

    for (size_t i = 0; i < conf->n_nodes; i++) {
        if (conf->nodes[i].id < lowest) {
            lowest = conf->nodes[i].id;
        }
    }
    return lowest;
}

/* What must be given, and what follows from other values. */
static int complete(struct cluster_conf *conf,
                    const char *path,
                    struct errmsg *msg)
{
    if (conf->id == 0) {
        errmsg_set(msg, "%s: section [cluster] has no id", path);
        return -EINVAL;
    }
    if (conf->n_nodes == 0) {
        errmsg_set(msg, "%s: there is no section [node 1]", path);
        return -EINVAL;
    }
    for (size_t i = 0; i < conf->n_nodes; i++) {
        if (conf->nodes[i].address == NULL) {
            errmsg_set(msg, "%s: section [node %" PRIu32 "] has no address",
                       path, conf->nodes[i].id);
            return -EINVAL;
        }
    }
    if (conf->min_write == 0) {
        conf->min_write = conf->m > 0 ? conf->k + 1 : conf->k;
    }
    if (conf->metadata_node == 0) {
        conf->metadata_node = lowest_id(conf);
    }
    return 0;
}

static int place(const struct cluster_conf *conf, struct placement **ret)
{
    struct placement_node nodes[PLACEMENT_NODES_MAX];

    for (size_t i = 0; i < conf->n_nodes; i++) {
        nodes[i].id = conf->nodes[i].id;
        nodes[i].zone = conf->nodes[i].zone;
        nodes[i].weight = conf->nodes[i].weight;
    }
    return placement_new(nodes, conf->n_nodes, PLACEMENT_WIDTH_MAX, ret);
}

/* By way of the message, so that one set of checks judges every map. */
static int make_map(struct cluster_conf *conf,
                    struct cluster_map **ret_map,
                    struct errmsg *msg)
{
    struct cluster_map draft = { .id = conf->id,
                                 .version = 1,
                                 .policy = { conf->k, conf->m, conf->unit,
                                             conf->min_write },
                                 .nodes = conf->nodes,
                                 .n_nodes = conf->n_nodes };
    Gabion__ClusterMap *message = NULL;
    int rc;

    for (size_t slot = 0; slot < METADATA_SLOTS; slot++) {
        draft.slot_node[slot] = conf->metadata_node;
    }
    rc = place(conf, &draft.placement);
    if (rc != 0) {
        return rc;
    }
    message = cluster_map_encode(&draft);
    placement_free(draft.placement);
    if (message == NULL) {
        return -ENOMEM;
    }
    rc = cluster_map_decode(message, ret_map, msg);
    gabion__cluster_map__free_unpacked(message, NULL);
    return rc;
}

int cluster_map_load(const char *path,
                     struct cluster_map **ret_map,
                     struct errmsg *msg)
{
    struct cluster_conf *conf = calloc(1, sizeof *conf);
    struct errmsg why = { "" };
    int rc;

    if (conf == NULL) {
        errmsg_set(msg, "%s: %s", path, err_text(ENOMEM));
        return -ENOMEM;
    }
    conf->k = 4;
    conf->m = 2;
    conf->unit = UNIT_DEFAULT;
    rc = config_read(path, keys, sizeof keys / sizeof *keys, conf, msg);
    if (rc == 0) {
        rc = complete(conf, path, msg);
    }
    if (rc == 0) {
        rc = make_map(conf, ret_map, &why);
        if (rc != 0) {
            errmsg_set(msg, "%s: %s", path,
                       why.text[0] != '\0' ? why.text : err_text(rc));
        }
    }
    for (size_t i = 0; i < conf->n_nodes; i++) {
        free(conf->nodes[i].address);
    }
    free(conf);
    return rc;
}
