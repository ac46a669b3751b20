#include "storaged/meta/meta_dentry.h"

#include "storaged/meta/meta_db_internal.h"

int meta_dentry_get(struct meta_db *db,
                    uint64_t parent,
                    const ProtobufCBinaryData *name,
                    struct meta_dentry *ret_dentry)
{
    sqlite3_stmt *statement = meta_db_statement(db, META_DENTRY_GET);
    int rc;

    meta_sql_bind(statement, (int64_t[]){ (int64_t)parent }, 1);
    meta_sql_bind_bytes(statement, 2, name->data, name->len);
    rc = meta_sql_row(statement);
    if (rc != 0) {
        return rc;
    }
    *ret_dentry = (struct meta_dentry){
        .parent = parent,
        .name = *name,
        .ino = (uint64_t)sqlite3_column_int64(statement, 0),
        .type = (uint32_t)sqlite3_column_int64(statement, 1),
        .cookie = (uint64_t)sqlite3_column_int64(statement, 2),
    };
    (void)sqlite3_reset(statement);
    return 0;
}

/* Bind parent, ino, type, cookie, name and run. */
static int run_with_dentry(struct meta_db *db,
                           enum meta_statement which,
                           const struct meta_dentry *dentry)
{
    sqlite3_stmt *statement = meta_db_statement(db, which);

    meta_sql_bind(statement,
                  (int64_t[]){ (int64_t)dentry->parent, (int64_t)dentry->ino,
                               dentry->type, (int64_t)dentry->cookie },
                  4);
    meta_sql_bind_bytes(statement, 5, dentry->name.data, dentry->name.len);
    return meta_sql_run(statement);
}

int meta_dentry_insert(struct meta_db *db, const struct meta_dentry *dentry)
{
    return run_with_dentry(db, META_DENTRY_INSERT, dentry);
}

int meta_dentry_put(struct meta_db *db, const struct meta_dentry *dentry)
{
    return run_with_dentry(db, META_DENTRY_PUT, dentry);
}

int meta_dentry_delete(struct meta_db *db, const struct meta_dentry *dentry)
{
    sqlite3_stmt *statement = meta_db_statement(db, META_DENTRY_DELETE);

    meta_sql_bind(statement, (int64_t[]){ (int64_t)dentry->parent }, 1);
    meta_sql_bind_bytes(statement, 2, dentry->name.data, dentry->name.len);
    return meta_sql_run(statement);
}
