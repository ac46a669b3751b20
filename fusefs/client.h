/* What one mount consists of, without FUSE: the cluster, the session, the file
 * layer, the inodes. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "common/objio.h"
#include "common/rpc_client.h"
#include "fusefs/dir_ahead.h"
#include "fusefs/file.h"
#include "fusefs/file_meta.h"
#include "fusefs/inode.h"
#include "fusefs/meta_client.h"
#include "fusefs/name_hints.h"
#include "fusefs/options.h"
#include "fusefs/session.h"
#include "fusefs/statfs.h"
#include "proto/block_client.h"
#include "proto/cluster_map.h"

/* Everything owned but `options`. All set while the mount lives. */
struct client {
    const struct options *options; /* borrowed */
    struct rpc_client *rpc;
    struct cluster_map *map; /* counted */
    struct meta_client *meta;
    struct session *session;
    struct block_client *blocks;
    struct objio *objio;
    struct file_meta_rpc file_meta;
    struct file_store *files;
    struct inode_table *inodes;
    struct name_hints *hints;
    struct dir_ahead *ahead;
    struct statfs_cache *statfs;
    uint64_t root; /* inode of the directory that is mounted */
};

/* Find the cluster, register the mount, look up the directory. gRPC and threads
 * start here: daemonize before. `is_interrupted`: see meta_client.h.
 * Errors: told in `msg` */
MUST_CHECK int client_new(const struct options *options,
                          bool (*is_interrupted)(void),
                          struct client **ret_client,
                          struct errmsg *msg);

/* Save what is not saved yet, take leave, free everything. No request may be
 * running. Returns the error that kept something from being saved, having
 * logged it with how much was lost. NULL is allowed. */
int client_free(struct client *client);
