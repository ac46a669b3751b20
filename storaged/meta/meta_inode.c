#include "storaged/meta/meta_inode.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "storaged/meta/meta_db_internal.h"

static struct meta_inode *cache_slot(struct meta_db *db, uint64_t ino)
{
    return &db->inodes[ino % META_INODE_CACHE_SIZE];
}

void meta_inode_cache_clear(struct meta_db *db)
{
    for (size_t i = 0; i < META_INODE_CACHE_SIZE; i++) {
        db->inodes[i].ino = 0;
    }
}

void meta_inode_from_row(struct sqlite3_stmt *row,
                         int first,
                         struct meta_inode *ret_inode)
{
    int64_t c[META_INODE_N_COLUMNS];

    for (int i = 0; i < META_INODE_N_COLUMNS; i++) {
        c[i] = sqlite3_column_int64(row, first + i);
    }
    *ret_inode = (struct meta_inode){
        .ino = (uint64_t)c[0],
        .mode = (uint32_t)c[1],
        .nlink = (uint32_t)c[2],
        .uid = (uint32_t)c[3],
        .gid = (uint32_t)c[4],
        .rdev = (uint64_t)c[5],
        .size = (uint64_t)c[6],
        .allocated = (uint64_t)c[7],
        .atime_ns = c[8],
        .mtime_ns = c[9],
        .ctime_ns = c[10],
        .data_version = (uint64_t)c[11],
        .n_xattrs = (uint32_t)c[12],
        .parent = (uint64_t)c[13],
        .next_cookie = (uint64_t)c[14],
        .orphan = (uint64_t)c[15],
    };
}

/* Bind all columns in their order and run. */
static int run_with_inode(struct meta_db *db,
                          enum meta_statement which,
                          const struct meta_inode *inode)
{
    sqlite3_stmt *statement = meta_db_statement(db, which);

    meta_sql_bind(statement,
                  (int64_t[]){ (int64_t)inode->ino, inode->mode, inode->nlink,
                               inode->uid, inode->gid, (int64_t)inode->rdev,
                               (int64_t)inode->size, (int64_t)inode->allocated,
                               inode->atime_ns, inode->mtime_ns,
                               inode->ctime_ns, (int64_t)inode->data_version,
                               inode->n_xattrs, (int64_t)inode->parent,
                               (int64_t)inode->next_cookie,
                               (int64_t)inode->orphan },
                  META_INODE_N_COLUMNS);
    return meta_sql_run(statement);
}

int meta_inode_get(struct meta_db *db,
                   uint64_t ino,
                   struct meta_inode *ret_inode)
{
    sqlite3_stmt *statement = meta_db_statement(db, META_INODE_GET);
    struct meta_inode *slot = cache_slot(db, ino);
    int rc;

    if (ino == 0) {
        return -ENOENT;
    }
    if (slot->ino != ino) {
        meta_sql_bind(statement, (int64_t[]){ (int64_t)ino }, 1);
        rc = meta_sql_row(statement);
        if (rc != 0) {
            return rc;
        }
        meta_inode_from_row(statement, 0, slot);
        (void)sqlite3_reset(statement);
    }
    *ret_inode = *slot;
    return 0;
}

int meta_inode_insert(struct meta_db *db, const struct meta_inode *inode)
{
    int rc = run_with_inode(db, META_INODE_INSERT, inode);

    if (rc != 0) {
        return rc;
    }
    if (sqlite3_changes(db->writer.handle) == 0) {
        return -EEXIST;
    }
    *cache_slot(db, inode->ino) = *inode;
    db->counters.n_inodes++;
    return 0;
}

int meta_inode_put(struct meta_db *db, const struct meta_inode *inode)
{
    int rc = run_with_inode(db, META_INODE_PUT, inode);

    if (rc == 0) {
        assert(sqlite3_changes(db->writer.handle) == 1);
        *cache_slot(db, inode->ino) = *inode;
    }
    return rc;
}

int meta_inode_delete(struct meta_db *db, uint64_t ino)
{
    sqlite3_stmt *statement = meta_db_statement(db, META_INODE_DELETE);
    int rc;

    if (cache_slot(db, ino)->ino == ino) {
        cache_slot(db, ino)->ino = 0;
    }
    meta_sql_bind(statement, (int64_t[]){ (int64_t)ino }, 1);
    rc = meta_sql_run(statement);
    if (rc == 0) {
        db->counters.n_inodes--;
    }
    return rc;
}

Gabion__Attr *meta_inode_attr(const struct meta_inode *inode)
{
    Gabion__Attr *attr = malloc(sizeof *attr);

    if (attr == NULL) {
        return NULL;
    }
    gabion__attr__init(attr);
    attr->ino = inode->ino;
    attr->mode = inode->mode;
    attr->nlink = inode->nlink;
    attr->uid = inode->uid;
    attr->gid = inode->gid;
    attr->rdev = inode->rdev;
    attr->size = inode->size;
    attr->allocated = inode->allocated;
    attr->atime_ns = inode->atime_ns;
    attr->mtime_ns = inode->mtime_ns;
    attr->ctime_ns = inode->ctime_ns;
    attr->data_version = inode->data_version;
    attr->has_xattrs = inode->n_xattrs > 0;
    attr->parent = inode->parent;
    return attr;
}
