/* Directory entries of a shard. */
#pragma once

#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "common/err.h"

struct meta_db;

struct meta_dentry {
    uint64_t parent;
    ProtobufCBinaryData name; /* borrowed */
    uint64_t ino;
    uint32_t type;   /* the S_IFMT bits of the inode's mode */
    uint64_t cookie; /* place in readdir's order; never changes */
};

/* Errors of all: those of SQLite, and as said. */

/* `ret_dentry->name` borrows `*name`. Errors: -ENOENT */
MUST_CHECK int meta_dentry_get(struct meta_db *db,
                               uint64_t parent,
                               const ProtobufCBinaryData *name,
                               struct meta_dentry *ret_dentry);
MUST_CHECK int meta_dentry_insert(struct meta_db *db,
                                  const struct meta_dentry *dentry);

/* Let an existing name, at its old place in the order, lead to another inode.
 */
MUST_CHECK int meta_dentry_put(struct meta_db *db,
                               const struct meta_dentry *dentry);
MUST_CHECK int meta_dentry_delete(struct meta_db *db,
                                  const struct meta_dentry *dentry);
