/* The metadata side of the file data layer (struct file_meta of fusefs/file.h)
 * over the session: layouts from the shard, commits as ops, and what the shard
 * answers goes into the inode table. */
#pragma once

#include "fusefs/file.h"
#include "fusefs/inode.h"
#include "fusefs/meta_client.h"
#include "fusefs/session.h"

struct file_meta_rpc {
    struct file_meta base; /* what the file layer is given */
    struct meta_client *meta;
    struct session *session;
    struct inode_table *inodes; /* NULL: nothing is cached */
};

/* All borrowed, for as long as the file layer lives. */
void file_meta_rpc_init(struct file_meta_rpc *meta,
                        struct meta_client *client,
                        struct session *session,
                        struct inode_table *inodes);
