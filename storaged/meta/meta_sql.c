#include "storaged/meta/meta_sql.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/log.h"

int meta_sql_errno(int code)
{
    switch (code & 0xff) {
    case SQLITE_OK:
        return 0;
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_NOMEM:
        return -ENOMEM;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_CONSTRAINT:
    case SQLITE_SCHEMA:
    case SQLITE_ERROR: /* a table or column of ours is not there */
        return -EBADMSG;
    default:
        return -EIO;
    }
}

int meta_sql_fail(sqlite3 *handle, int code)
{
    log_error("metadata database failed file=%s code=%d error=\"%s\"",
              sqlite3_db_filename(handle, "main"),
              sqlite3_extended_errcode(handle), sqlite3_errmsg(handle));
    return meta_sql_errno(code);
}

int meta_sql_exec(struct meta_sql *sql, const char *text)
{
    int code = sqlite3_exec(sql->handle, text, NULL, NULL, NULL);

    return code == SQLITE_OK ? 0 : meta_sql_fail(sql->handle, code);
}

int meta_sql_integer(struct meta_sql *sql, const char *text, int64_t *ret_value)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(sql->handle, text, -1, &statement, NULL);
    int rc = meta_sql_errno(code);

    if (rc == 0) {
        code = sqlite3_step(statement);
        if (code == SQLITE_ROW) {
            *ret_value = sqlite3_column_int64(statement, 0);
        } else {
            rc = code == SQLITE_DONE ? -EBADMSG : meta_sql_errno(code);
        }
    }
    (void)sqlite3_finalize(statement);
    return rc;
}

int meta_sql_open(const char *path,
                  const char *vfs,
                  unsigned cache_kib,
                  struct meta_sql *ret_sql,
                  struct errmsg *msg)
{
    char pragmas[512];
    int code;

    code = sqlite3_open_v2(path, &ret_sql->handle,
                           SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, vfs);
    if (code == SQLITE_OK) {
        (void)snprintf(pragmas, sizeof pragmas,
                       "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; "
                       "PRAGMA wal_autocheckpoint=0; PRAGMA temp_store=MEMORY; "
                       "PRAGMA secure_delete=OFF; "
                       "PRAGMA cell_size_check=ON; PRAGMA cache_size=-%u",
                       cache_kib);
        (void)sqlite3_busy_timeout(ret_sql->handle, META_SQL_BUSY_MS);
        code = sqlite3_exec(ret_sql->handle, pragmas, NULL, NULL, NULL);
    }
    if (code != SQLITE_OK) {
        errmsg_set(msg, "cannot open the metadata database %s: %s", path,
                   ret_sql->handle != NULL ? sqlite3_errmsg(ret_sql->handle)
                                           : "out of memory");
    }
    return meta_sql_errno(code);
}

int meta_sql_prepare(struct meta_sql *sql, const char *const texts[], size_t n)
{
    assert(sql->statements == NULL);
    sql->statements = calloc(n, sizeof(sqlite3_stmt *));
    if (sql->statements == NULL) {
        return -ENOMEM;
    }
    sql->n_statements = n;
    for (size_t i = 0; i < n; i++) {
        int code = sqlite3_prepare_v3(sql->handle, texts[i], -1,
                                      SQLITE_PREPARE_PERSISTENT,
                                      &sql->statements[i], NULL);

        if (code != SQLITE_OK) {
            return meta_sql_fail(sql->handle, code);
        }
    }
    return 0;
}

void meta_sql_close(struct meta_sql *sql)
{
    for (size_t i = 0; i < sql->n_statements; i++) {
        (void)sqlite3_finalize(sql->statements[i]);
    }
    free(sql->statements);
    if (sql->handle != NULL) {
        int code = sqlite3_close(sql->handle);

        assert(code == SQLITE_OK);
        (void)code;
    }
    *sql = (struct meta_sql){ 0 };
}

void meta_sql_bind(sqlite3_stmt *statement, const int64_t values[], size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int code = sqlite3_bind_int64(statement, (int)i + 1, values[i]);

        assert(code == SQLITE_OK);
        (void)code;
    }
}

void meta_sql_bind_bytes(sqlite3_stmt *statement,
                         int index,
                         const void *bytes,
                         size_t size)
{
    int code = sqlite3_bind_blob64(statement, index, size > 0 ? bytes : "",
                                   size, SQLITE_STATIC);

    assert(code == SQLITE_OK);
    (void)code;
}

int meta_sql_row(sqlite3_stmt *statement)
{
    int code = sqlite3_step(statement);

    if (code == SQLITE_ROW) {
        return 0;
    }
    if (code != SQLITE_DONE) {
        int rc = meta_sql_fail(sqlite3_db_handle(statement), code);

        (void)sqlite3_reset(statement);
        return rc;
    }
    (void)sqlite3_reset(statement);
    return -ENOENT;
}

int meta_sql_run(sqlite3_stmt *statement)
{
    int code = sqlite3_step(statement);
    int rc = 0;

    assert(code != SQLITE_ROW);
    if (code != SQLITE_DONE) {
        rc = meta_sql_fail(sqlite3_db_handle(statement), code);
    }
    (void)sqlite3_reset(statement);
    return rc;
}
