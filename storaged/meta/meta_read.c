#include "storaged/meta/meta_read.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "storaged/meta/meta_db_internal.h"
#include "storaged/meta/meta_inode.h"

#define READER_CACHE_KIB 16384u

#define READ_DIR_MAX 4096u
#define LAYOUT_MAX   8192u

/* Inline bytes after which a layout reply ends: a message must stay small. */
#define LAYOUT_INLINE_MAX (1u << 20)

enum reader_statement {
    READ_BEGIN,
    READ_END,
    READ_INODE,
    READ_LOOKUP,
    READ_DIR,
    READ_DIR_PLUS,
    READ_SYMLINK,
    READ_XATTR,
    READ_XATTR_NAMES,
    READ_EXTENTS,
    READ_OBJECT,
    READ_ORPHANS,
    READ_GARBAGE,
    READ_SESSIONS,
    READ_STATS,
    READ_STATEMENTS
};

static const char *const reader_texts[READ_STATEMENTS] = {
    [READ_BEGIN] = "BEGIN",
    [READ_END] = "COMMIT",
    [READ_INODE] = "SELECT " META_INODE_COLUMNS " FROM inode WHERE ino = ?1",
    [READ_LOOKUP] = "SELECT " META_INODE_COLUMNS
                    " FROM inode WHERE ino = (SELECT d.ino FROM dentry AS d"
                    " WHERE d.parent = ?1 AND d.name = ?2)",
    [READ_DIR] = "SELECT name, ino, cookie, type FROM dentry"
                 " INDEXED BY dentry_cookie"
                 " WHERE parent = ?1 AND cookie > ?2 ORDER BY cookie LIMIT ?3",
    [READ_DIR_PLUS] =
        "SELECT d.name, d.ino, d.cookie, d.type, i.* FROM dentry AS d"
        " INDEXED BY dentry_cookie CROSS JOIN"
        " (SELECT " META_INODE_COLUMNS " FROM inode) AS i ON i.ino = d.ino"
        " WHERE d.parent = ?1 AND d.cookie > ?2 ORDER BY d.cookie LIMIT ?3",
    [READ_SYMLINK] = "SELECT target FROM symlink WHERE ino = ?1",
    [READ_XATTR] = "SELECT value FROM xattr WHERE ino = ?1 AND name = ?2",
    [READ_XATTR_NAMES] = "SELECT name FROM xattr WHERE ino = ?1 ORDER BY name",
    [READ_EXTENTS] =
        "SELECT offset, length, session, serial, object_offset, data"
        " FROM extent WHERE ino = ?1 AND offset >= coalesce("
        "(SELECT e.offset FROM extent AS e WHERE e.ino = ?1 AND e.offset <= ?2"
        " ORDER BY e.offset DESC LIMIT 1), ?2) AND offset + length > ?2"
        " ORDER BY offset LIMIT ?3",
    [READ_OBJECT] = "SELECT size, k, m, unit, missing FROM object"
                    " WHERE session = ?1 AND serial = ?2",
    [READ_ORPHANS] = "SELECT number, ino FROM orphan WHERE number > ?1"
                     " ORDER BY number LIMIT ?2",
    [READ_GARBAGE] = "SELECT session, serial FROM object"
                     " INDEXED BY object_garbage WHERE live = 0"
                     " AND (session, serial) > (?1, ?2)"
                     " ORDER BY session, serial LIMIT ?3",
    [READ_SESSIONS] = "SELECT id FROM session ORDER BY id",
    [READ_STATS] = "SELECT n_inodes, n_objects, applied,"
                   " (SELECT count(*) FROM object INDEXED BY object_garbage"
                   "  WHERE live = 0),"
                   " (SELECT count(*) FROM session) FROM counter",
};

struct meta_reader {
    struct meta_sql sql;
};

int meta_reader_open(struct meta_db *db, struct meta_reader **ret_reader)
{
    struct meta_reader *reader = calloc(1, sizeof *reader);
    int rc;

    if (reader == NULL) {
        return -ENOMEM;
    }
    rc = meta_sql_open(db->path, NULL, READER_CACHE_KIB, &reader->sql, NULL);
    if (rc == 0) {
        rc = meta_sql_prepare(&reader->sql, reader_texts, READ_STATEMENTS);
    }
    if (rc != 0) {
        meta_reader_close(reader);
        return rc;
    }
    *ret_reader = reader;
    return 0;
}

void meta_reader_close(struct meta_reader *reader)
{
    if (reader != NULL) {
        meta_sql_close(&reader->sql);
        free(reader);
    }
}

/* The statement with the integers bound to its first parameters. */
static sqlite3_stmt *statement(struct meta_reader *reader,
                               enum reader_statement which,
                               const int64_t values[],
                               size_t n)
{
    sqlite3_stmt *found = reader->sql.statements[which];

    meta_sql_bind(found, values, n);
    return found;
}

/* A function that fills a reply; its logical failures go to the reply. */
typedef int (*reader_body)(struct meta_reader *reader,
                           const void *request,
                           void *reply);

/* Run `body` on one state of the database. */
static int run_on_snapshot(struct meta_reader *reader,
                           reader_body body,
                           const void *request,
                           void *reply)
{
    int rc = meta_sql_run(reader->sql.statements[READ_BEGIN]);
    int end_rc;

    if (rc != 0) {
        return rc;
    }
    rc = body(reader, request, reply);
    end_rc = meta_sql_run(reader->sql.statements[READ_END]);
    return end_rc != 0 ? end_rc : rc;
}

static bool is_logical(int rc)
{
    return rc != -EIO && rc != -ENOSPC && rc != -EBADMSG && rc != -ENOMEM;
}

/* End a read: a logical failure goes to the reply's `error`; on any other the
 * reply is freed. */
static int finish(int rc, ProtobufCMessage *reply, int32_t *error)
{
    if (rc != 0 && !is_logical(rc)) {
        protobuf_c_message_free_unpacked(reply, NULL);
        return rc;
    }
    *error = -rc;
    return 0;
}

static int get_inode(struct meta_reader *reader,
                     uint64_t ino,
                     struct meta_inode *ret_inode)
{
    sqlite3_stmt *row =
        statement(reader, READ_INODE, (int64_t[]){ (int64_t)ino }, 1);
    int rc = meta_sql_row(row);

    if (rc == 0) {
        meta_inode_from_row(row, 0, ret_inode);
        (void)sqlite3_reset(row);
    }
    return rc;
}

static int set_attr(Gabion__Attr **attr, const struct meta_inode *inode)
{
    *attr = meta_inode_attr(inode);
    return *attr != NULL ? 0 : -ENOMEM;
}

/* Copy a column's bytes into a message. */
static int set_bytes(ProtobufCBinaryData *target, sqlite3_stmt *row, int column)
{
    size_t size = (size_t)sqlite3_column_bytes(row, column);

    if (size == 0) {
        return 0;
    }
    target->data = malloc(size);
    if (target->data == NULL) {
        return -ENOMEM;
    }
    memcpy(target->data, sqlite3_column_blob(row, column), size);
    target->len = size;
    return 0;
}

/* ---------------------------------------------------------------- attributes
 */

/* The inode of a name other than "." and "..". Errors: -ENOENT */
static int lookup_name(struct meta_reader *reader,
                       const Gabion__LookupRequest *request,
                       struct meta_inode *ret_inode)
{
    sqlite3_stmt *row = statement(reader, READ_LOOKUP,
                                  (int64_t[]){ (int64_t)request->parent }, 1);
    int rc;

    meta_sql_bind_bytes(row, 2, request->name.data, request->name.len);
    rc = meta_sql_row(row);
    if (rc == 0) {
        meta_inode_from_row(row, 0, ret_inode);
        (void)sqlite3_reset(row);
    }
    return rc;
}

static bool is_name(const ProtobufCBinaryData *name, const char *text)
{
    return name->len == strlen(text) &&
           memcmp(name->data, text, name->len) == 0;
}

/* A lookup that has not simply found the name. */
static int lookup_slowly(struct meta_reader *reader,
                         const void *request_ptr,
                         void *reply_ptr)
{
    const Gabion__LookupRequest *request = request_ptr;
    Gabion__AttrReply *reply = reply_ptr;
    struct meta_inode inode;
    int rc = get_inode(reader, request->parent, &inode);

    if (rc == 0 && !meta_inode_is_directory(&inode)) {
        rc = -ENOTDIR;
    }
    if (rc == 0 && is_name(&request->name, "..")) {
        rc = get_inode(reader, inode.parent, &inode);
    } else if (rc == 0 && !is_name(&request->name, ".")) {
        rc = lookup_name(reader, request, &inode);
    }
    return rc != 0 ? rc : set_attr(&reply->attr, &inode);
}

int meta_read_lookup(struct meta_reader *reader,
                     const Gabion__LookupRequest *request,
                     Gabion__AttrReply **ret_reply)
{
    Gabion__AttrReply *reply = malloc(sizeof *reply);
    struct meta_inode inode;
    int rc;

    if (reply == NULL) {
        return -ENOMEM;
    }
    gabion__attr_reply__init(reply);
    rc = lookup_name(reader, request, &inode);
    if (rc == 0) {
        rc = set_attr(&reply->attr, &inode);
    } else if (rc == -ENOENT) {
        rc = run_on_snapshot(reader, lookup_slowly, request, reply);
    }
    rc = finish(rc, &reply->base, &reply->error);
    if (rc == 0) {
        *ret_reply = reply;
    }
    return rc;
}

int meta_read_attr(struct meta_reader *reader,
                   const Gabion__GetAttrRequest *request,
                   Gabion__AttrReply **ret_reply)
{
    Gabion__AttrReply *reply = malloc(sizeof *reply);
    struct meta_inode inode;
    int rc;

    if (reply == NULL) {
        return -ENOMEM;
    }
    gabion__attr_reply__init(reply);
    rc = get_inode(reader, request->ino, &inode);
    if (rc == 0) {
        rc = set_attr(&reply->attr, &inode);
    }
    rc = finish(rc, &reply->base, &reply->error);
    if (rc == 0) {
        *ret_reply = reply;
    }
    return rc;
}

/* ---------------------------------------------------------------- directories
 */

static int add_entry(sqlite3_stmt *row, bool plus, Gabion__ReadDirReply *reply)
{
    Gabion__DirEntry *entry = malloc(sizeof *entry);
    struct meta_inode inode;
    int rc;

    if (entry == NULL) {
        return -ENOMEM;
    }
    gabion__dir_entry__init(entry);
    reply->entry[reply->n_entry++] = entry;
    entry->ino = (uint64_t)sqlite3_column_int64(row, 1);
    entry->cookie = (uint64_t)sqlite3_column_int64(row, 2);
    entry->mode = (uint32_t)sqlite3_column_int64(row, 3);
    rc = set_bytes(&entry->name, row, 0);
    if (rc == 0 && plus) {
        meta_inode_from_row(row, 4, &inode);
        rc = set_attr(&entry->attr, &inode);
    }
    return rc;
}

static int fill_dir(struct meta_reader *reader,
                    const void *request_ptr,
                    void *reply_ptr)
{
    const Gabion__ReadDirRequest *request = request_ptr;
    Gabion__ReadDirReply *reply = reply_ptr;
    sqlite3_stmt *rows;
    struct meta_inode inode;
    int rc = get_inode(reader, request->ino, &inode);

    if (rc != 0 || !meta_inode_is_directory(&inode)) {
        return rc != 0 ? rc : -ENOTDIR;
    }
    if (request->after > INT64_MAX || inode.size == 0) {
        reply->end = true;
        return 0;
    }
    reply->entry = calloc(request->limit, sizeof(Gabion__DirEntry *));
    if (reply->entry == NULL) {
        return -ENOMEM;
    }
    /* One more than wanted tells whether this is the end. */
    rows =
        statement(reader, request->plus ? READ_DIR_PLUS : READ_DIR,
                  (int64_t[]){ (int64_t)request->ino, (int64_t)request->after,
                               (int64_t)request->limit + 1 },
                  3);
    while ((rc = meta_sql_row(rows)) == 0 && reply->n_entry < request->limit) {
        rc = add_entry(rows, request->plus, reply);
        if (rc != 0) {
            break;
        }
    }
    reply->end = rc == -ENOENT;
    (void)sqlite3_reset(rows);
    return rc == -ENOENT ? 0 : rc;
}

int meta_read_dir(struct meta_reader *reader,
                  const Gabion__ReadDirRequest *request,
                  Gabion__ReadDirReply **ret_reply)
{
    Gabion__ReadDirReply *reply = malloc(sizeof *reply);
    int rc = -EINVAL;

    if (reply == NULL) {
        return -ENOMEM;
    }
    gabion__read_dir_reply__init(reply);
    if (request->limit > 0 && request->limit <= READ_DIR_MAX) {
        rc = run_on_snapshot(reader, fill_dir, request, reply);
    }
    rc = finish(rc, &reply->base, &reply->error);
    if (rc == 0) {
        *ret_reply = reply;
    }
    return rc;
}

static int fill_link(struct meta_reader *reader,
                     const void *request_ptr,
                     void *reply_ptr)
{
    const Gabion__ReadLinkRequest *request = request_ptr;
    Gabion__ReadLinkReply *reply = reply_ptr;
    sqlite3_stmt *row;
    struct meta_inode inode;
    int rc = get_inode(reader, request->ino, &inode);

    if (rc != 0 || !S_ISLNK(inode.mode)) {
        return rc != 0 ? rc : -EINVAL;
    }
    row = statement(reader, READ_SYMLINK, (int64_t[]){ (int64_t)request->ino },
                    1);
    rc = meta_sql_row(row);
    if (rc == 0) {
        rc = set_bytes(&reply->target, row, 0);
        (void)sqlite3_reset(row);
    }
    return rc == -ENOENT ? -EBADMSG : rc;
}

int meta_read_link(struct meta_reader *reader,
                   const Gabion__ReadLinkRequest *request,
                   Gabion__ReadLinkReply **ret_reply)
{
    Gabion__ReadLinkReply *reply = malloc(sizeof *reply);
    int rc;

    if (reply == NULL) {
        return -ENOMEM;
    }
    gabion__read_link_reply__init(reply);
    rc = run_on_snapshot(reader, fill_link, request, reply);
    rc = finish(rc, &reply->base, &reply->error);
    if (rc == 0) {
        *ret_reply = reply;
    }
    return rc;
}

/* ---------------------------------------------------------------- xattrs */

static int list_xattrs(struct meta_reader *reader,
                       const struct meta_inode *inode,
                       Gabion__GetXattrReply *reply)
{
    sqlite3_stmt *rows;
    int rc = 0;

    if (inode->n_xattrs == 0) {
        return 0;
    }
    reply->name = calloc(inode->n_xattrs, sizeof(ProtobufCBinaryData));
    if (reply->name == NULL) {
        return -ENOMEM;
    }
    rows = statement(reader, READ_XATTR_NAMES,
                     (int64_t[]){ (int64_t)inode->ino }, 1);
    while (reply->n_name < inode->n_xattrs && (rc = meta_sql_row(rows)) == 0) {
        rc = set_bytes(&reply->name[reply->n_name++], rows, 0);
        if (rc != 0) {
            break;
        }
    }
    (void)sqlite3_reset(rows);
    return rc == -ENOENT ? -EBADMSG : rc; /* fewer than the inode says */
}

static int fill_xattr(struct meta_reader *reader,
                      const void *request_ptr,
                      void *reply_ptr)
{
    const Gabion__GetXattrRequest *request = request_ptr;
    Gabion__GetXattrReply *reply = reply_ptr;
    sqlite3_stmt *row;
    struct meta_inode inode;
    int rc = get_inode(reader, request->ino, &inode);

    if (rc != 0) {
        return rc;
    }
    if (request->name.len == 0) {
        return list_xattrs(reader, &inode, reply);
    }
    row =
        statement(reader, READ_XATTR, (int64_t[]){ (int64_t)request->ino }, 1);
    meta_sql_bind_bytes(row, 2, request->name.data, request->name.len);
    rc = meta_sql_row(row);
    if (rc == 0) {
        rc = set_bytes(&reply->value, row, 0);
        (void)sqlite3_reset(row);
    }
    return rc == -ENOENT ? -ENODATA : rc;
}

int meta_read_xattr(struct meta_reader *reader,
                    const Gabion__GetXattrRequest *request,
                    Gabion__GetXattrReply **ret_reply)
{
    Gabion__GetXattrReply *reply = malloc(sizeof *reply);
    int rc;

    if (reply == NULL) {
        return -ENOMEM;
    }
    gabion__get_xattr_reply__init(reply);
    rc = run_on_snapshot(reader, fill_xattr, request, reply);
    rc = finish(rc, &reply->base, &reply->error);
    if (rc == 0) {
        *ret_reply = reply;
    }
    return rc;
}

/* ---------------------------------------------------------------- layouts */

static int add_extent(sqlite3_stmt *row,
                      struct meta_object_tally *objects,
                      Gabion__GetLayoutReply *reply)
{
    Gabion__Extent *extent = malloc(sizeof *extent);
    struct object_id id;
    size_t index;
    int rc;

    if (extent == NULL) {
        return -ENOMEM;
    }
    gabion__extent__init(extent);
    reply->extent[reply->n_extent++] = extent;
    extent->offset = (uint64_t)sqlite3_column_int64(row, 0);
    extent->length = (uint64_t)sqlite3_column_int64(row, 1);
    id.session = (uint64_t)sqlite3_column_int64(row, 2);
    id.serial = (uint64_t)sqlite3_column_int64(row, 3);
    if (id.session == 0) {
        return set_bytes(&extent->data, row, 5);
    }
    extent->object_offset = (uint64_t)sqlite3_column_int64(row, 4);
    rc = meta_object_tally_find(objects, &id, &index);
    extent->object = (uint32_t)index + 1;
    return rc;
}

static int read_object(struct meta_reader *reader,
                       const struct object_id *id,
                       Gabion__ObjectInfo *info)
{
    sqlite3_stmt *row =
        statement(reader, READ_OBJECT,
                  (int64_t[]){ (int64_t)id->session, (int64_t)id->serial }, 2);
    int rc = meta_sql_row(row);

    if (rc != 0) {
        return rc == -ENOENT ? -EBADMSG : rc;
    }
    info->size = (uint64_t)sqlite3_column_int64(row, 0);
    info->k = (uint32_t)sqlite3_column_int64(row, 1);
    info->m = (uint32_t)sqlite3_column_int64(row, 2);
    info->unit = (uint32_t)sqlite3_column_int64(row, 3);
    info->missing = (uint32_t)sqlite3_column_int64(row, 4);
    (void)sqlite3_reset(row);
    info->id.data = malloc(OBJECT_ID_SIZE);
    if (info->id.data == NULL) {
        return -ENOMEM;
    }
    info->id.len = OBJECT_ID_SIZE;
    object_id_encode(id, info->id.data);
    return 0;
}

static int add_objects(struct meta_reader *reader,
                       const struct meta_object_tally *objects,
                       Gabion__GetLayoutReply *reply)
{
    int rc = 0;

    if (objects->n == 0) {
        return 0;
    }
    reply->object = calloc(objects->n, sizeof(Gabion__ObjectInfo *));
    if (reply->object == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; rc == 0 && i < objects->n; i++) {
        Gabion__ObjectInfo *info = malloc(sizeof *info);

        if (info == NULL) {
            return -ENOMEM;
        }
        gabion__object_info__init(info);
        reply->object[reply->n_object++] = info;
        rc = read_object(reader, &objects->changes[i].id, info);
    }
    return rc;
}

/* Add the extents, up to the limits; their objects are left in `objects`. */
static int add_extents(struct meta_reader *reader,
                       const Gabion__GetLayoutRequest *request,
                       struct meta_object_tally *objects,
                       Gabion__GetLayoutReply *reply)
{
    size_t inline_bytes = 0;
    sqlite3_stmt *rows;
    int rc;

    reply->extent = calloc(request->limit, sizeof(Gabion__Extent *));
    if (reply->extent == NULL) {
        return -ENOMEM;
    }
    /* One more than wanted tells whether this is the end. */
    rows =
        statement(reader, READ_EXTENTS,
                  (int64_t[]){ (int64_t)request->ino, (int64_t)request->offset,
                               (int64_t)request->limit + 1 },
                  3);
    while ((rc = meta_sql_row(rows)) == 0 && reply->n_extent < request->limit &&
           inline_bytes < LAYOUT_INLINE_MAX) {
        rc = add_extent(rows, objects, reply);
        if (rc != 0) {
            break;
        }
        inline_bytes += reply->extent[reply->n_extent - 1]->data.len;
    }
    reply->end = rc == -ENOENT;
    (void)sqlite3_reset(rows);
    return rc == -ENOENT ? 0 : rc;
}

static int fill_layout(struct meta_reader *reader,
                       const void *request_ptr,
                       void *reply_ptr)
{
    const Gabion__GetLayoutRequest *request = request_ptr;
    Gabion__GetLayoutReply *reply = reply_ptr;
    struct meta_object_tally objects = { 0 };
    struct meta_inode inode;
    int rc = get_inode(reader, request->ino, &inode);

    if (rc == 0 && !S_ISREG(inode.mode)) {
        rc = meta_inode_is_directory(&inode) ? -EISDIR : -EINVAL;
    }
    if (rc == 0) {
        rc = set_attr(&reply->attr, &inode);
    }
    if (rc != 0) {
        return rc;
    }
    if (inode.allocated == 0 || request->offset > INT64_MAX) {
        reply->end = true;
        return 0;
    }
    rc = add_extents(reader, request, &objects, reply);
    if (rc == 0) {
        rc = add_objects(reader, &objects, reply);
    }
    meta_object_tally_close(&objects);
    return rc;
}

int meta_read_layout(struct meta_reader *reader,
                     const Gabion__GetLayoutRequest *request,
                     Gabion__GetLayoutReply **ret_reply)
{
    Gabion__GetLayoutReply *reply = malloc(sizeof *reply);
    int rc = -EINVAL;

    if (reply == NULL) {
        return -ENOMEM;
    }
    gabion__get_layout_reply__init(reply);
    if (request->limit > 0 && request->limit <= LAYOUT_MAX) {
        rc = run_on_snapshot(reader, fill_layout, request, reply);
    }
    rc = finish(rc, &reply->base, &reply->error);
    if (rc == 0) {
        *ret_reply = reply;
    }
    return rc;
}

/* ---------------------------------------------------------------- the shard */

int meta_read_stats(struct meta_reader *reader,
                    Gabion__ShardStatsReply **ret_reply)
{
    sqlite3_stmt *row = statement(reader, READ_STATS, NULL, 0);
    Gabion__ShardStatsReply *reply = malloc(sizeof *reply);
    int rc;

    if (reply == NULL) {
        return -ENOMEM;
    }
    gabion__shard_stats_reply__init(reply);
    rc = meta_sql_row(row);
    if (rc == 0) {
        reply->n_inodes = (uint64_t)sqlite3_column_int64(row, 0);
        reply->n_objects = (uint64_t)sqlite3_column_int64(row, 1);
        reply->applied = (uint64_t)sqlite3_column_int64(row, 2);
        reply->n_garbage = (uint64_t)sqlite3_column_int64(row, 3);
        reply->n_sessions = (uint64_t)sqlite3_column_int64(row, 4);
        (void)sqlite3_reset(row);
    }
    rc = finish(rc == -ENOENT ? -EBADMSG : rc, &reply->base, &reply->error);
    if (rc == 0) {
        *ret_reply = reply;
    }
    return rc;
}

int meta_read_orphans(struct meta_reader *reader,
                      uint64_t after,
                      size_t limit,
                      struct meta_orphan *ret_orphans,
                      size_t *ret_n)
{
    sqlite3_stmt *rows;
    int rc = -ENOENT;

    *ret_n = 0;
    if (after > INT64_MAX) {
        return 0;
    }
    rows = statement(reader, READ_ORPHANS,
                     (int64_t[]){ (int64_t)after, (int64_t)limit }, 2);
    while (*ret_n < limit && (rc = meta_sql_row(rows)) == 0) {
        ret_orphans[*ret_n].number = (uint64_t)sqlite3_column_int64(rows, 0);
        ret_orphans[*ret_n].ino = (uint64_t)sqlite3_column_int64(rows, 1);
        ++*ret_n;
    }
    (void)sqlite3_reset(rows);
    return rc == -ENOENT ? 0 : rc;
}

int meta_read_garbage(struct meta_reader *reader,
                      const struct meta_garbage *after,
                      size_t limit,
                      struct meta_garbage *ret_objects,
                      size_t *ret_n)
{
    struct object_id above = { 0 };
    sqlite3_stmt *rows;
    int rc = 0;

    if (after != NULL) {
        object_id_decode(after->object, &above);
    }
    rows = statement(reader, READ_GARBAGE,
                     (int64_t[]){ (int64_t)above.session, (int64_t)above.serial,
                                  (int64_t)limit },
                     3);
    *ret_n = 0;
    while (*ret_n < limit && (rc = meta_sql_row(rows)) == 0) {
        struct object_id id = {
            .session = (uint64_t)sqlite3_column_int64(rows, 0),
            .serial = (uint64_t)sqlite3_column_int64(rows, 1),
        };

        object_id_encode(&id, ret_objects[*ret_n].object);
        ++*ret_n;
    }
    (void)sqlite3_reset(rows);
    return rc == -ENOENT ? 0 : rc;
}

int meta_read_sessions(struct meta_reader *reader,
                       uint64_t **ret_sessions,
                       size_t *ret_n)
{
    sqlite3_stmt *rows = statement(reader, READ_SESSIONS, NULL, 0);
    uint64_t *sessions = NULL;
    size_t n = 0;
    size_t capacity = 0;
    int rc;

    while ((rc = meta_sql_row(rows)) == 0) {
        if (n == capacity) {
            uint64_t *grown;

            capacity = capacity > 0 ? 2 * capacity : 16;
            grown = reallocarray(sessions, capacity, sizeof *sessions);
            if (grown == NULL) {
                rc = -ENOMEM;
                break;
            }
            sessions = grown;
        }
        sessions[n++] = (uint64_t)sqlite3_column_int64(rows, 0);
    }
    (void)sqlite3_reset(rows);
    if (rc != -ENOENT) {
        free(sessions);
        return rc;
    }
    *ret_sessions = sessions;
    *ret_n = n;
    return 0;
}
