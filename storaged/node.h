/* A storage node: block service, cluster service and, when the cluster map
 * names it, the metadata service, on one data directory behind one port.
 *
 * No process-wide state: a test may run a whole cluster in one process. The
 * functions of one node are called by one thread at a time. */
#pragma once

#include <stdint.h>

#include "common/err.h"
#include "proto/cluster_map.h"

/* `reserve`: 1 GiB or 1 % of the filesystem, whichever is smaller. */
#define NODE_RESERVE_DEFAULT UINT64_MAX

struct node_config {
    uint32_t id;        /* a node of the map */
    const char *data;   /* borrowed by node_new: the data directory */
    const char *listen; /* borrowed likewise: "host:port", port 0 picks one;
                           NULL: the node's address in the map */
    uint64_t reserve;   /* bytes that puts leave free on the filesystem */
    struct cluster_map *map; /* counted */
};

struct node;

/* Take the data directory, recover what is in it, bind the port. Nothing is
 * served before node_start().
 *
 * Errors, told in `msg` in one line: -EINVAL the node is not in the map; those
 * of superblock_open(), block_store_open(), meta_db_open(), rpc_server_new() */
MUST_CHECK int node_new(const struct node_config *config,
                        struct node **ret_node,
                        struct errmsg *msg);

/* Serve. Errors: -EAGAIN, -ENOMEM; then node_stop() and node_free(). */
MUST_CHECK int node_start(struct node *node);

/* The port bound. */
int node_port(const struct node *node);

/* Finish what is being served, sync, stop serving. Does nothing when not
 * started. */
void node_stop(struct node *node);

/* Stopped or never started. Gives up the data directory. NULL is allowed. */
void node_free(struct node *node);
