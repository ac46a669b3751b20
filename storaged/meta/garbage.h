/* The collector of garbage objects: deletes the blocks of objects without live
 * bytes from their nodes, then has the shard forget the objects.
 *
 * Why no object is deleted that anybody could still refer to: the durable state
 * says that no extent refers to it (meta_read_garbage(), then shard_sync():
 * what is only committed may be undone by a loss of power), extents come to
 * refer to an object only in the op that adds the object or from another
 * extent, and object ids are never used twice. So once garbage, always garbage.
 *
 * One thread. A pass goes through all garbage in portions; each portion is told
 * to every node of its partitions' lists, in parallel. An object is forgotten
 * when all its nodes have answered. A node that fails is left alone for a while
 * (doubling up to GARBAGE_BACK_OFF_MAX_MS); its objects wait, others go on, and
 * which nodes have already answered for a waiting object is remembered. */
#pragma once

#include <stdint.h>

#include "common/err.h"
#include "common/rpc_client.h"
#include "proto/cluster_map.h"
#include "storaged/meta/shard.h"

#define GARBAGE_PORTION         1024u /* objects per DeleteObjects */
#define GARBAGE_PERIOD_MS       1000  /* between passes, at least */
#define GARBAGE_BACK_OFF_MIN_MS 1000
#define GARBAGE_BACK_OFF_MAX_MS 60000

struct garbage;

struct garbage_config {
    struct shard *shard;      /* borrowed */
    struct rpc_client *rpc;   /* borrowed */
    struct cluster_map *map;  /* counted */
    int64_t (*real_ns)(void); /* clock of the ops made here */
};

/* Errors: -ENOMEM; -EIO, -EBADMSG the database; -EINVAL an address of the map
 * is not one */
MUST_CHECK int garbage_new(const struct garbage_config *config,
                           struct garbage **ret_garbage);

/* Errors: -EAGAIN, -ENOMEM no thread */
MUST_CHECK int garbage_start(struct garbage *garbage);

/* Before shard_stop(). Gives up calls under way. Does nothing when not
 * started. */
void garbage_stop(struct garbage *garbage);
void garbage_free(struct garbage *garbage); /* NULL is allowed */

/* There may be new garbage. Cheap; any thread. */
void garbage_wake(struct garbage *garbage);
