/* Inside of struct meta_db, for the state machine only (apply*, meta_inode,
 * meta_dentry, meta_extent, meta_object).
 *
 * Schema, one row per line of thought:
 *
 *   meta(key, value)       format, cluster, slot
 *   counter                one row: struct meta_counters
 *   inode(ino, ...)        one row per inode, unlinked ones included
 *   dentry(parent, name)   names; an index by (parent, cookie) for readdir
 *   symlink(ino), xattr(ino, name)
 *   extent(ino, offset)    bytes of a file: of an object, or inline
 *   object(session, serial)   live = sum of the lengths of its extents; those
 *                          at zero are in a partial index, for the reaper
 *   session(id), result(session, sequence, acked)   a session's acked mark is
 *                          the highest among its kept results
 *   orphan(number)         inodes without a name, until they are reaped
 *
 * Invariants, which test_apply_model checks:
 *   I1 a file's nlink is the number of its dentries; a directory's is 2 + its
 *      subdirectories, 0 when removed; its size is the number of its entries
 *   I2 a directory's parent is where its dentry is; parents form a tree
 *   I3 extents of a file do not overlap and end at or before its size;
 *      allocated is the sum of their lengths
 *   I4 an object's live is the sum of the lengths of the extents on it
 *   I5 an inode has nlink 0 exactly if it has an orphan row */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "storaged/meta/meta_db.h"
#include "storaged/meta/meta_object.h"
#include "storaged/meta/meta_sql.h"

#define META_SEQUENCE_MAX ((1ull << 53) - 1)

/* The writer's statements. */
enum meta_statement {
    META_BEGIN,
    META_COMMIT,
    META_ROLLBACK,
    META_COUNTERS_GET,
    META_COUNTERS_PUT,
    META_INODE_GET,
    META_INODE_INSERT,
    META_INODE_PUT,
    META_INODE_DELETE,
    META_DENTRY_GET,
    META_DENTRY_INSERT,
    META_DENTRY_PUT,
    META_DENTRY_DELETE,
    META_SYMLINK_INSERT,
    META_SYMLINK_DELETE,
    META_XATTR_GET,
    META_XATTR_PUT,
    META_XATTR_DELETE,
    META_XATTR_DELETE_ALL,
    META_EXTENT_BELOW,
    META_EXTENT_FROM,
    META_EXTENT_INSERT,
    META_EXTENT_GROW,
    META_EXTENT_CUT,
    META_EXTENT_SPLIT,
    META_EXTENT_DELETE,
    META_OBJECT_GET,
    META_OBJECT_INSERT,
    META_OBJECT_ADD_LIVE,
    META_OBJECT_FORGET,
    META_SESSION_ALL,
    META_SESSION_INSERT,
    META_SESSION_DELETE,
    META_RESULT_GET,
    META_RESULT_INSERT,
    META_RESULT_TRIM,
    META_ORPHAN_INSERT,
    META_ORPHAN_DELETE,
    META_STATEMENTS
};

/* The counter row, written once per transaction. */
struct meta_counters {
    uint64_t applied;       /* index of the last entry */
    uint64_t next_sequence; /* of inode numbers */
    uint64_t next_session;  /* smallest number never used by a session */
    uint64_t next_orphan;
    uint64_t n_inodes;
    uint64_t n_objects;
};

/* What the writer remembers of a session. */
struct meta_session {
    uint64_t id;
    uint64_t acked;   /* ops up to this sequence are refused */
    uint64_t highest; /* sequence among the kept results */
};

#define META_INODE_CACHE_SIZE 1024u

struct meta_inode;

struct meta_db {
    char *path;             /* owned */
    uint32_t slot;          /* of inodes made here */
    struct meta_sql writer; /* the writer's thread only */
    bool in_transaction;    /* the writer's thread only */
    struct meta_counters counters;
    struct meta_session *sessions; /* owned: all sessions, ascending by id */
    size_t n_sessions;
    size_t sessions_capacity;
    struct meta_inode *inodes; /* owned: META_INODE_CACHE_SIZE slots, by ino */
    struct meta_object_tally tally; /* of the op being applied */

    /* Held by a transaction from BEGIN to its end, and by the checkpoint for
     * its last stretch. Taken before sync_lock. */
    pthread_mutex_t writer_lock;
    struct meta_sql checkpointer; /* the checkpoint's thread only */
    atomic_uint_least64_t wal_pages;

    pthread_mutex_t sync_lock; /* guards wal */
    struct meta_sql syncer;    /* idle: keeps the file behind wal open */
    sqlite3_file *wal;         /* borrowed from syncer */
};

static inline sqlite3_stmt *meta_db_statement(struct meta_db *db,
                                              enum meta_statement statement)
{
    return db->writer.statements[statement];
}

/* The session, or NULL. Valid until sessions come or go. */
struct meta_session *meta_db_session(struct meta_db *db, uint64_t id);

/* Make room for one more session and give its place in the order; the caller
 * fills it. NULL when out of memory. */
struct meta_session *meta_db_session_add(struct meta_db *db, uint64_t id);
void meta_db_session_remove(struct meta_db *db, struct meta_session *session);

/* The texts of enum meta_statement (meta_schema.c). */
extern const char *const meta_statement_texts[META_STATEMENTS];

/* Make a new database file at `path`, which does not exist, with its root
 * directory (meta_schema.c). */
MUST_CHECK int meta_schema_create(const char *path,
                                  uint64_t cluster,
                                  uint32_t slot,
                                  int64_t now_ns,
                                  struct errmsg *msg);

/* Check that the database is ours. Errors as meta_db_open(). */
MUST_CHECK int meta_schema_check(struct meta_sql *sql,
                                 const char *path,
                                 uint64_t cluster,
                                 uint32_t slot,
                                 struct errmsg *msg);
