/* The tables of a metadata shard and the writer's statements on them. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storaged/meta/apply.h"
#include "storaged/meta/meta_create.h"
#include "storaged/meta/meta_db_internal.h"
#include "storaged/meta/meta_inode.h"

#define META_FORMAT         2
#define META_APPLICATION_ID 0x4761624d /* "GabM" */

/* Tables keyed by bytes or by several columns are WITHOUT ROWID: one tree
 * instead of two. */
static const char schema[] =
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;"
    "CREATE TABLE counter(id INTEGER PRIMARY KEY CHECK (id = 1), applied,"
    " next_sequence, next_session, next_orphan, n_inodes, n_objects);"
    "CREATE TABLE inode(ino INTEGER PRIMARY KEY, mode, nlink, uid, gid, rdev,"
    " size, allocated CHECK (allocated >= 0), atime, mtime, ctime,"
    " data_version, n_xattrs, parent, next_cookie, orphan);"
    "CREATE TABLE dentry(parent INTEGER, name BLOB, ino INTEGER, type INTEGER,"
    " cookie INTEGER, PRIMARY KEY (parent, name)) WITHOUT ROWID;"
    "CREATE UNIQUE INDEX dentry_cookie ON dentry(parent, cookie);"
    "CREATE TABLE symlink(ino INTEGER PRIMARY KEY, target BLOB);"
    "CREATE TABLE xattr(ino INTEGER, name BLOB, value BLOB,"
    " PRIMARY KEY (ino, name)) WITHOUT ROWID;"
    "CREATE TABLE extent(ino INTEGER, offset INTEGER, length INTEGER,"
    " session INTEGER, serial INTEGER, object_offset INTEGER, data BLOB,"
    " PRIMARY KEY (ino, offset)) WITHOUT ROWID;"
    "CREATE TABLE object(session INTEGER, serial INTEGER, size INTEGER, k, m,"
    " unit, missing, live CHECK (live >= 0), PRIMARY KEY (session, serial))"
    " WITHOUT ROWID;"
    "CREATE INDEX object_garbage ON object(session, serial) WHERE live = 0;"
    "CREATE TABLE session(id INTEGER PRIMARY KEY, host, opened_ns);"
    "CREATE TABLE result(session INTEGER, sequence INTEGER, acked INTEGER,"
    " result BLOB, PRIMARY KEY (session, sequence)) WITHOUT ROWID;"
    "CREATE TABLE orphan(number INTEGER PRIMARY KEY, ino);";

const char *const meta_statement_texts[META_STATEMENTS] = {
    [META_BEGIN] = "BEGIN IMMEDIATE",
    [META_COMMIT] = "COMMIT",
    [META_ROLLBACK] = "ROLLBACK",
    [META_COUNTERS_GET] =
        "SELECT applied, next_sequence, next_session, next_orphan, n_inodes,"
        " n_objects FROM counter WHERE id = 1",
    [META_COUNTERS_PUT] =
        "UPDATE counter SET applied = ?1, next_sequence = ?2,"
        " next_session = ?3, next_orphan = ?4, n_inodes = ?5, n_objects = ?6"
        " WHERE id = 1",
    [META_INODE_GET] =
        "SELECT " META_INODE_COLUMNS " FROM inode WHERE ino = ?1",
    [META_INODE_INSERT] =
        "INSERT OR IGNORE INTO inode(" META_INODE_COLUMNS ") VALUES"
        " (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16)",
    [META_INODE_PUT] =
        "UPDATE inode SET mode = ?2, nlink = ?3, uid = ?4, gid = ?5,"
        " rdev = ?6, size = ?7, allocated = ?8, atime = ?9, mtime = ?10,"
        " ctime = ?11, data_version = ?12, n_xattrs = ?13, parent = ?14,"
        " next_cookie = ?15, orphan = ?16 WHERE ino = ?1",
    [META_INODE_DELETE] = "DELETE FROM inode WHERE ino = ?1",
    [META_DENTRY_GET] = "SELECT ino, type, cookie FROM dentry"
                        " WHERE parent = ?1 AND name = ?2",
    [META_DENTRY_INSERT] = "INSERT INTO dentry(parent, ino, type, cookie, name)"
                           " VALUES (?1, ?2, ?3, ?4, ?5)",
    [META_DENTRY_PUT] = "UPDATE dentry SET ino = ?2, type = ?3"
                        " WHERE parent = ?1 AND name = ?5 AND cookie = ?4",
    [META_DENTRY_DELETE] = "DELETE FROM dentry WHERE parent = ?1 AND name = ?2",
    [META_SYMLINK_INSERT] = "INSERT INTO symlink(ino, target) VALUES (?1, ?2)",
    [META_SYMLINK_DELETE] = "DELETE FROM symlink WHERE ino = ?1",
    [META_XATTR_GET] = "SELECT value FROM xattr WHERE ino = ?1 AND name = ?2",
    [META_XATTR_PUT] =
        "INSERT INTO xattr(ino, name, value) VALUES (?1, ?2, ?3)"
        " ON CONFLICT (ino, name) DO UPDATE SET value = excluded.value",
    [META_XATTR_DELETE] = "DELETE FROM xattr WHERE ino = ?1 AND name = ?2",
    [META_XATTR_DELETE_ALL] = "DELETE FROM xattr WHERE ino = ?1",
    [META_EXTENT_BELOW] =
        "SELECT offset, length, session, serial, object_offset FROM extent"
        " WHERE ino = ?1 AND offset < ?2 ORDER BY offset DESC",
    [META_EXTENT_FROM] =
        "SELECT offset, length, session, serial, object_offset, data"
        " FROM extent WHERE ino = ?1 AND offset < ?3 AND offset >= coalesce("
        "(SELECT e.offset FROM extent AS e WHERE e.ino = ?1 AND e.offset <= ?2"
        " ORDER BY e.offset DESC LIMIT 1), ?2) AND offset + length > ?2"
        " ORDER BY offset",
    [META_EXTENT_INSERT] =
        "INSERT INTO extent(ino, offset, length, session, serial,"
        " object_offset, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    [META_EXTENT_GROW] =
        "UPDATE extent SET length = length + ?3,"
        " data = CAST(data || ?4 AS BLOB) WHERE ino = ?1 AND offset ="
        " (SELECT max(offset) FROM extent WHERE ino = ?1 AND offset < ?2)"
        " AND offset + length = ?2 AND data IS NOT NULL"
        " AND length + ?3 <= 16384", /* META_INLINE_MAX */
    /* substr() of NULL is NULL: both kinds of extents go the same way. */
    [META_EXTENT_CUT] = "UPDATE extent SET length = ?3 - offset,"
                        " data = substr(data, 1, ?3 - offset)"
                        " WHERE ino = ?1 AND offset = ?2",
    [META_EXTENT_SPLIT] =
        "INSERT INTO extent(ino, offset, length, session, serial,"
        " object_offset, data) SELECT ino, ?3, length - (?3 - offset),"
        " session, serial, object_offset + (?3 - offset),"
        " substr(data, ?3 - offset + 1) FROM extent"
        " WHERE ino = ?1 AND offset = ?2",
    [META_EXTENT_DELETE] =
        "DELETE FROM extent WHERE ino = ?1 AND offset >= ?2 AND offset < ?3",
    [META_OBJECT_GET] = "SELECT size, k, m, unit, live FROM object"
                        " WHERE session = ?1 AND serial = ?2",
    [META_OBJECT_INSERT] =
        "INSERT INTO object(session, serial, size, k, m, unit, missing, live)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    [META_OBJECT_ADD_LIVE] = "UPDATE object SET live = live + ?3"
                             " WHERE session = ?1 AND serial = ?2",
    [META_OBJECT_FORGET] = "DELETE FROM object"
                           " WHERE session = ?1 AND serial = ?2 AND live = 0",
    [META_SESSION_ALL] =
        "SELECT id, coalesce((SELECT max(acked) FROM result"
        " WHERE session = id), 0), coalesce((SELECT max(sequence) FROM result"
        " WHERE session = id), 0) FROM session ORDER BY id",
    [META_SESSION_INSERT] = "INSERT INTO session(id, opened_ns, host)"
                            " VALUES (?1, ?2, ?3)",
    [META_SESSION_DELETE] = "DELETE FROM session WHERE id = ?1",
    [META_RESULT_GET] =
        "SELECT result FROM result WHERE session = ?1 AND sequence = ?2",
    [META_RESULT_INSERT] =
        "INSERT INTO result(session, sequence, acked, result)"
        " VALUES (?1, ?2, ?3, ?4)",
    [META_RESULT_TRIM] =
        "DELETE FROM result WHERE session = ?1 AND sequence <= ?2",
    [META_ORPHAN_INSERT] = "INSERT INTO orphan(number, ino) VALUES (?1, ?2)",
    [META_ORPHAN_DELETE] = "DELETE FROM orphan WHERE number = ?1",
};

int meta_schema_create(const char *path,
                       uint64_t cluster,
                       uint32_t slot,
                       int64_t now_ns,
                       struct errmsg *msg)
{
    char *sql = sqlite3_mprintf(
        "PRAGMA application_id=%d; %s"
        "INSERT INTO meta VALUES ('format', %d), ('cluster', %lld),"
        " ('slot', %u);"
        "INSERT INTO counter VALUES (1, 0, %u, 1, 1, 1, 0);"
        "INSERT INTO inode(" META_INODE_COLUMNS
        ") VALUES (%u, %u, 2, 0, 0, 0, 0, 0, %lld, %lld, %lld, 1, 0, %u, 1, 0)",
        META_APPLICATION_ID, schema, META_FORMAT, (long long)cluster, slot,
        META_ROOT_INO + 1, META_ROOT_INO, S_IFDIR | 0755, (long long)now_ns,
        (long long)now_ns, (long long)now_ns, META_ROOT_INO);
    int rc;

    if (sql == NULL) {
        return -ENOMEM;
    }
    rc = meta_create(path, "metadata database", sql, msg);
    sqlite3_free(sql);
    return rc;
}

int meta_schema_check(struct meta_sql *sql,
                      const char *path,
                      uint64_t cluster,
                      uint32_t slot,
                      struct errmsg *msg)
{
    static const char value[] = "SELECT value FROM meta WHERE key = ";
    char text[96];
    int64_t application = 0;
    int64_t found[3] = { 0 };
    static const char *const keys[3] = { "format", "cluster", "slot" };
    int rc = meta_sql_integer(sql, "PRAGMA application_id", &application);

    for (size_t i = 0; rc == 0 && i < 3; i++) {
        (void)snprintf(text, sizeof text, "%s'%s'", value, keys[i]);
        rc = application == META_APPLICATION_ID
                 ? meta_sql_integer(sql, text, &found[i])
                 : -EBADMSG;
    }
    if (rc != 0) {
        errmsg_set(
            msg, "%s is not a metadata database of Gabion, or is damaged (%s)",
            path, err_text(rc));
        return rc;
    }
    if (found[0] != META_FORMAT) {
        errmsg_set(msg,
                   "%s has format %" PRId64 ", this program knows %d: "
                   "use the version of Gabion that made it, or a newer one",
                   path, found[0], META_FORMAT);
        return -EINVAL;
    }
    if ((uint64_t)found[1] != cluster || found[2] != slot) {
        errmsg_set(msg,
                   "%s belongs to slot %" PRId64 " of cluster %016" PRIx64
                   ", not to slot %u of cluster %016" PRIx64,
                   path, found[2], (uint64_t)found[1], slot, cluster);
        return -ESTALE;
    }
    return 0;
}
