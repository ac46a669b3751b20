/* Inodes of a shard, as rows and as the wire's attributes.
 *
 * The writer keeps the inodes it touched last in a cache that writes through,
 * so that the parent of a thousand creates is read once. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "common/err.h"
#include "proto/metadata.pb-c.h"

struct meta_db;
struct sqlite3_stmt;

/* Columns of an inode row, in the order of struct meta_inode. */
#define META_INODE_COLUMNS                                              \
    "ino, mode, nlink, uid, gid, rdev, size, allocated, atime, mtime, " \
    "ctime, data_version, n_xattrs, parent, next_cookie, orphan"
#define META_INODE_N_COLUMNS 16

struct meta_inode {
    uint64_t ino;
    uint32_t mode;  /* type and permissions */
    uint32_t nlink; /* directories: 2 + subdirectories */
    uint32_t uid;
    uint32_t gid;
    uint64_t rdev;      /* of device files */
    uint64_t size;      /* bytes; directories: entries */
    uint64_t allocated; /* bytes covered by extents */
    int64_t atime_ns;
    int64_t mtime_ns;
    int64_t ctime_ns;
    uint64_t data_version; /* grows with each change of the bytes */
    uint32_t n_xattrs;     /* rows of xattr, ACLs included */
    uint64_t parent;       /* directories: where the dentry is; 0 removed */
    uint64_t next_cookie;  /* directories: of the next new entry */
    uint64_t orphan;       /* number of the orphan row; 0 none */
};

/* Errors of all: those of SQLite, and as said. */

/* Errors: -ENOENT */
MUST_CHECK int meta_inode_get(struct meta_db *db,
                              uint64_t ino,
                              struct meta_inode *ret_inode);

/* Errors: -EEXIST the number is in use; nothing has changed then. */
MUST_CHECK int meta_inode_insert(struct meta_db *db,
                                 const struct meta_inode *inode);
MUST_CHECK int meta_inode_put(struct meta_db *db,
                              const struct meta_inode *inode);
MUST_CHECK int meta_inode_delete(struct meta_db *db, uint64_t ino);

/* Forget what is cached, after a rollback. */
void meta_inode_cache_clear(struct meta_db *db);

/* Read a row whose columns from `first` on are META_INODE_COLUMNS. */
void meta_inode_from_row(struct sqlite3_stmt *row,
                         int first,
                         struct meta_inode *ret_inode);

/* A new attribute message, to be freed with its parent message. NULL when out
 * of memory. */
MUST_CHECK Gabion__Attr *meta_inode_attr(const struct meta_inode *inode);

static inline bool meta_inode_is_directory(const struct meta_inode *inode)
{
    return S_ISDIR(inode->mode);
}
