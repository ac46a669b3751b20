/* statfs(2): the space of the nodes, net of parity.
 *
 * Asking every node takes a while, so the answer is kept for a second; while it
 * is being renewed, others get the old one. Nodes on one filesystem share its
 * space, which counts once; a node that does not answer counts for nothing.
 * Thread-safe. */
#pragma once

#include <sys/statvfs.h>

#include "common/err.h"
#include "common/rpc_client.h"
#include "fusefs/meta_client.h"
#include "proto/block.pb-c.h"
#include "proto/cluster_map.h"

struct statfs_cache;

/* All borrowed, for the life of the cache. Errors: -ENOMEM */
MUST_CHECK int statfs_cache_new(struct rpc_client *rpc,
                                struct cluster_map *map,
                                struct meta_client *meta,
                                struct statfs_cache **ret_cache);
void statfs_cache_free(struct statfs_cache *cache); /* NULL is allowed */

/* Errors: -ETIMEDOUT, -EHOSTUNREACH no node has answered yet */
MUST_CHECK int statfs_cache_get(struct statfs_cache *cache,
                                struct statvfs *ret_stat);

/* Space of a filesystem that some nodes share. */
struct statfs_space {
    uint64_t filesystem; /* NodeStatsReply.filesystem */
    uint64_t total;      /* bytes */
    uint64_t available;  /* bytes */
};

/* Add a node's space to the list of `*n` (which has room for one more): a new
 * filesystem, or one that is there already. Pure. */
void statfs_space_add(struct statfs_space *spaces,
                      size_t *n,
                      const Gabion__NodeStatsReply *stats);

/* What files can use of the spaces under a policy. Pure. */
void statfs_space_sum(const struct statfs_space *spaces,
                      size_t n,
                      const struct objio_policy *policy,
                      struct statvfs *ret_stat);
