/* One SQLite connection of a metadata shard, with its prepared statements.
 *
 * A connection is used by one thread at a time. Errors of SQLite are logged
 * here, once, with SQLite's own words, and become errnos: a caller needs only
 * to pass them on. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <sqlite3.h>

#include "common/err.h"

/* How long a connection waits for another one's lock. The locks that can be
 * met are held for moments only. */
#define META_SQL_BUSY_MS 10000

struct meta_sql {
    sqlite3 *handle;           /* owned */
    sqlite3_stmt **statements; /* owned: n_statements of them */
    size_t n_statements;
};

/* Open the existing database `path` through the VFS of that name (NULL:
 * SQLite's own) in WAL mode with a page cache of `cache_kib`. Zero-initialise
 * `*ret_sql`; meta_sql_close() is due in any case. Errors: -EBADMSG corrupt or
 * no database; -EIO, -ENOSPC, -ENOMEM */
MUST_CHECK int meta_sql_open(const char *path,
                             const char *vfs,
                             unsigned cache_kib,
                             struct meta_sql *ret_sql,
                             struct errmsg *msg);

/* Prepare the statements: `sql->statements[i]` is `texts[i]`. Errors as above;
 * -EBADMSG also when the schema is not ours. */
MUST_CHECK int meta_sql_prepare(struct meta_sql *sql,
                                const char *const texts[],
                                size_t n);

void meta_sql_close(struct meta_sql *sql);

/* The errno of an SQLite result code. */
int meta_sql_errno(int code);

/* Log the connection's last error and answer its errno. */
int meta_sql_fail(sqlite3 *handle, int code);

/* Run statements without parameters and results. */
MUST_CHECK int meta_sql_exec(struct meta_sql *sql, const char *text);

/* The integer that a query gives. Errors: those of SQLite; -EBADMSG it gives
 * none. */
MUST_CHECK int meta_sql_integer(struct meta_sql *sql,
                                const char *text,
                                int64_t *ret_value);

/* Bind integers to the parameters 1..n of a reset statement. */
void meta_sql_bind(sqlite3_stmt *statement, const int64_t values[], size_t n);

/* Bind bytes, which must stay until the statement is reset. NULL with size 0 is
 * an empty value, not SQL's NULL. */
void meta_sql_bind_bytes(sqlite3_stmt *statement,
                         int index,
                         const void *bytes,
                         size_t size);

/* Step to the next row: 0 when there is one, to be read before the statement
 * is stepped on or reset; -ENOENT after the last one. On failure, and after
 * the last row, the statement has been reset. */
MUST_CHECK int meta_sql_row(sqlite3_stmt *statement);

/* Run a statement that gives no rows, and reset it. A violated constraint means
 * that the database contradicts itself: -EBADMSG. */
MUST_CHECK int meta_sql_run(sqlite3_stmt *statement);
