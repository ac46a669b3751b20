/* Opening and writing. Loading is in raft_log_load.c. */
#include "storaged/raft/raft_log.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/checksum.h"
#include "common/log.h"
#include "storaged/meta/meta_create.h"
#include "storaged/raft/raft_log_internal.h"
#include "storaged/raft/raft_members.h"

#define LOG_FORMAT         1
#define LOG_APPLICATION_ID 0x4761624c /* "GabL" */
#define LOG_CACHE_KIB      8192u

/* Term and vote are one row: never seen one without the other. */
static const char schema[] =
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;"
    "CREATE TABLE replica(grp INTEGER PRIMARY KEY, id, term, vote, checksum);"
    "CREATE TABLE entry(grp INTEGER, idx INTEGER, term, kind, checksum,"
    " data BLOB, PRIMARY KEY (grp, idx)) WITHOUT ROWID;"
    "CREATE TABLE snapshot(grp INTEGER PRIMARY KEY, idx, term, members_idx,"
    " checksum, members BLOB);";

static const char *const statements[LOG_STATEMENTS_N] = {
    [LOG_BEGIN] = "BEGIN IMMEDIATE",
    [LOG_COMMIT] = "COMMIT",
    [LOG_REPLICA_INSERT] = "INSERT INTO replica(grp, id, term, vote, checksum)"
                           " VALUES (?1, ?2, ?3, ?4, ?5)",
    [LOG_REPLICA_UPDATE] = "UPDATE replica SET term = ?3, vote = ?4,"
                           " checksum = ?5 WHERE grp = ?1 AND id = ?2",
    [LOG_REPLICA_GET] =
        "SELECT id, term, vote, checksum FROM replica WHERE grp = ?1",
    [LOG_REPLICA_ALL] = "SELECT grp FROM replica ORDER BY grp",
    [LOG_REPLICA_DELETE] = "DELETE FROM replica WHERE grp = ?1",
    [LOG_ENTRY_INSERT] =
        "INSERT INTO entry(grp, idx, term, kind, checksum, data)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    [LOG_ENTRY_LAST] = "SELECT max(idx) FROM entry WHERE grp = ?1",
    [LOG_ENTRY_ALL] = "SELECT idx, term, kind, checksum, data FROM entry"
                      " WHERE grp = ?1 ORDER BY idx",
    [LOG_ENTRY_DELETE_FROM] = "DELETE FROM entry WHERE grp = ?1 AND idx >= ?2",
    [LOG_ENTRY_DELETE_TO] = "DELETE FROM entry WHERE grp = ?1 AND idx <= ?2",
    [LOG_SNAPSHOT_PUT] =
        "INSERT OR REPLACE INTO snapshot(grp, idx, term, members_idx,"
        " checksum, members) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    [LOG_SNAPSHOT_GET] = "SELECT idx, term, members_idx, checksum, members"
                         " FROM snapshot WHERE grp = ?1",
    [LOG_SNAPSHOT_DELETE] = "DELETE FROM snapshot WHERE grp = ?1",
};

int64_t log_row_checksum(const int64_t values[],
                         size_t n,
                         const void *bytes,
                         size_t size)
{
    int64_t all[8];

    assert(n < sizeof all / sizeof all[0]);
    memcpy(all, values, n * sizeof all[0]);
    all[n] = checksum_crc32c(bytes, size);
    return checksum_crc32c(all, (n + 1) * sizeof all[0]);
}

/* -------------------------------------------------------- opening, creating */

int raft_log_create(const char *path, uint64_t cluster, struct errmsg *msg)
{
    char *sql = sqlite3_mprintf(
        "PRAGMA application_id=%d; %s"
        "INSERT INTO meta VALUES ('format', %d), ('cluster', %lld)",
        LOG_APPLICATION_ID, schema, LOG_FORMAT, (long long)cluster);
    int rc;

    if (sql == NULL) {
        return -ENOMEM;
    }
    rc = meta_create(path, "Raft log", sql, msg);
    sqlite3_free(sql);
    return rc;
}

static int quick_check_row(void *context, int n, char **values, char **names)
{
    bool *is_good = context;

    (void)names;
    *is_good = n == 1 && values[0] != NULL && strcmp(values[0], "ok") == 0;
    return 0;
}

/* Whether it is ours and whole. */
static int check_store(struct raft_log *log,
                       const char *path,
                       uint64_t cluster,
                       struct errmsg *msg)
{
    int64_t application = 0;
    int64_t format = 0;
    int64_t found = 0;
    bool is_good = false;
    int rc = meta_sql_integer(&log->sql, "PRAGMA application_id", &application);

    if (rc == 0 && application == LOG_APPLICATION_ID) {
        rc = meta_sql_integer(
            &log->sql, "SELECT value FROM meta WHERE key = 'format'", &format);
    }
    if (rc == 0 && application == LOG_APPLICATION_ID) {
        rc = meta_sql_integer(
            &log->sql, "SELECT value FROM meta WHERE key = 'cluster'", &found);
    }
    if (rc == 0 && application == LOG_APPLICATION_ID && format == LOG_FORMAT) {
        rc = meta_sql_errno(sqlite3_exec(log->sql.handle,
                                         "PRAGMA quick_check(1)",
                                         quick_check_row, &is_good, NULL));
    }
    if (rc == 0 && format > LOG_FORMAT) {
        errmsg_set(msg,
                   "%s has format %" PRId64 ", this program knows %d: "
                   "use the version of Gabion that made it, or a newer one",
                   path, format, LOG_FORMAT);
        return -EINVAL;
    }
    if (rc == 0 && is_good && (uint64_t)found != cluster) {
        errmsg_set(msg,
                   "%s belongs to cluster %016" PRIx64
                   ", not to cluster %016" PRIx64,
                   path, (uint64_t)found, cluster);
        return -ESTALE;
    }
    if (rc == 0 && !is_good) {
        rc = -EBADMSG;
    }
    if (rc != 0) {
        errmsg_set(msg, "%s is not a Raft log of Gabion, or is damaged (%s)",
                   path, err_text(rc));
    }
    return rc;
}

/* An empty file would be a fresh database to SQLite. */
static int check_file(const char *path, struct errmsg *msg)
{
    struct stat st;
    int rc = 0;

    if (stat(path, &st) != 0) {
        rc = errno == ENOENT ? -ENOENT : -EIO;
    } else if (!S_ISREG(st.st_mode) || st.st_size == 0) {
        rc = -EBADMSG;
    }
    if (rc != 0) {
        errmsg_set(msg, "cannot open the Raft log %s: %s", path, err_text(rc));
    }
    return rc;
}

int raft_log_open(const char *path,
                  uint64_t cluster,
                  struct raft_log **ret_log,
                  struct errmsg *msg)
{
    struct raft_log *log;
    int rc = check_file(path, msg);

    if (rc != 0) {
        return rc;
    }
    log = calloc(1, sizeof *log);
    if (log == NULL) {
        return -ENOMEM;
    }
    rc = meta_sql_open(path, NULL, LOG_CACHE_KIB, &log->sql, msg);
    if (rc == 0) {
        rc = meta_sql_exec(&log->sql, "PRAGMA synchronous=FULL;"
                                      "PRAGMA locking_mode=EXCLUSIVE;"
                                      "PRAGMA wal_autocheckpoint=4000");
    }
    if (rc == 0) {
        rc = check_store(log, path, cluster, msg);
    }
    if (rc == 0) {
        rc = meta_sql_prepare(&log->sql, statements, LOG_STATEMENTS_N);
    }
    if (rc != 0) {
        if (msg != NULL && msg->text[0] == '\0') {
            errmsg_set(msg, "cannot open the Raft log %s: %s", path,
                       err_text(rc));
        }
        raft_log_close(log);
        return rc;
    }
    *ret_log = log;
    return 0;
}

void raft_log_close(struct raft_log *log)
{
    if (log == NULL) {
        return;
    }
    meta_sql_close(&log->sql);
    free(log);
}

/* -------------------------------------------------------------------- turns */

/* The error of a write: it ends the store. */
static int fail(struct raft_log *log, int rc)
{
    if (rc != 0 && !log->failed) {
        log->failed = true;
        log_error("Raft log failed error=\"%s\"", err_text(rc));
    }
    return rc;
}

int raft_log_begin(struct raft_log *log)
{
    assert(!log->in_turn);
    if (log->failed) {
        return -EIO;
    }
    log->in_turn = true;
    return fail(log, meta_sql_run(log_statement(log, LOG_BEGIN)));
}

int raft_log_commit(struct raft_log *log)
{
    assert(log->in_turn);
    if (log->failed) {
        return -EIO;
    }
    log->in_turn = false;
    return fail(log, meta_sql_run(log_statement(log, LOG_COMMIT)));
}

static int run_with(struct raft_log *log,
                    enum log_statement which,
                    uint64_t first,
                    uint64_t second)
{
    sqlite3_stmt *statement = log_statement(log, which);
    int64_t values[2] = { (int64_t)first, (int64_t)second };

    meta_sql_bind(statement, values,
                  (size_t)sqlite3_bind_parameter_count(statement));
    return meta_sql_run(statement);
}

static int put_replica(struct raft_log *log,
                       enum log_statement which,
                       const int64_t row[4])
{
    sqlite3_stmt *statement = log_statement(log, which);
    int64_t values[5] = { row[0], row[1], row[2], row[3],
                          log_row_checksum(row, 4, "", 0) };

    meta_sql_bind(statement, values, 5);
    return meta_sql_run(statement);
}

/* Id of the group's replica. -ENOENT there is none. */
static int get_replica(struct raft_log *log, uint32_t group, int64_t *ret_id)
{
    sqlite3_stmt *statement = log_statement(log, LOG_REPLICA_GET);
    int64_t key = group;
    int rc;

    meta_sql_bind(statement, &key, 1);
    rc = meta_sql_row(statement);
    if (rc == 0) {
        *ret_id = sqlite3_column_int64(statement, 0);
        (void)sqlite3_reset(statement);
    }
    return rc;
}

/* Index of the next entry to be stored. */
static int get_next(struct raft_log *log, uint32_t group, uint64_t *ret_next)
{
    sqlite3_stmt *statement = log_statement(log, LOG_ENTRY_LAST);
    int64_t key = group;
    int rc;

    meta_sql_bind(statement, &key, 1);
    rc = meta_sql_row(statement);
    if (rc != 0) {
        return rc == -ENOENT ? -EBADMSG : rc;
    }
    *ret_next = (uint64_t)sqlite3_column_int64(statement, 0);
    (void)sqlite3_reset(statement);
    if (*ret_next == 0) {
        statement = log_statement(log, LOG_SNAPSHOT_GET);
        meta_sql_bind(statement, &key, 1);
        rc = meta_sql_row(statement);
        if (rc == 0) {
            *ret_next = (uint64_t)sqlite3_column_int64(statement, 0);
            (void)sqlite3_reset(statement);
        } else if (rc != -ENOENT) {
            return rc;
        }
    }
    *ret_next += 1;
    return 0;
}

static int append(struct raft_log *log,
                  uint32_t group,
                  const struct log_entry *entries,
                  size_t n)
{
    uint64_t next = 0;
    int rc = get_next(log, group, &next);

    for (size_t i = 0; i < n && rc == 0; i++) {
        sqlite3_stmt *statement = log_statement(log, LOG_ENTRY_INSERT);
        const struct log_entry *entry = &entries[i];
        int64_t row[5] = { group, (int64_t)entry->index, (int64_t)entry->term,
                           entry->kind, 0 };

        if (entry->index != next + i) {
            return -EINVAL;
        }
        row[4] = log_row_checksum(row, 4, entry->data->data, entry->data->size);
        meta_sql_bind(statement, row, 5);
        meta_sql_bind_bytes(statement, 6, entry->data->data, entry->data->size);
        rc = meta_sql_run(statement);
    }
    return rc;
}

static int put_snapshot(struct raft_log *log,
                        uint32_t group,
                        const struct raft_pointer *snapshot)
{
    sqlite3_stmt *statement = log_statement(log, LOG_SNAPSHOT_PUT);
    int64_t row[5] = { group, (int64_t)snapshot->index, (int64_t)snapshot->term,
                       (int64_t)snapshot->members_index, 0 };
    struct buf *members;
    int rc = raft_members_encode(&snapshot->members, &members);

    if (rc != 0) {
        return rc;
    }
    row[4] = log_row_checksum(row, 4, members->data, members->size);
    meta_sql_bind(statement, row, 5);
    meta_sql_bind_bytes(statement, 6, members->data, members->size);
    rc = meta_sql_run(statement);
    buf_unref(members);
    return rc;
}

static int write_all(struct raft_log *log,
                     uint32_t group,
                     const struct raft_write *write)
{
    int64_t id = 0;
    int rc = get_replica(log, group, &id);

    if (rc != 0) {
        return rc == -ENOENT ? -EINVAL : rc;
    }
    if (write->has_vote) {
        int64_t row[4] = { group, id, (int64_t)write->term,
                           (int64_t)write->vote };

        rc = put_replica(log, LOG_REPLICA_UPDATE, row);
    }
    if (rc == 0 && write->from != 0) {
        rc = run_with(log, LOG_ENTRY_DELETE_FROM, group, write->from);
    }
    if (rc == 0 && write->n_entries > 0) {
        rc = append(log, group, write->entries, write->n_entries);
    }
    if (rc == 0 && write->snapshot != NULL) {
        uint64_t drop_to =
            write->drop_to < INT64_MAX ? write->drop_to : INT64_MAX;

        rc = put_snapshot(log, group, write->snapshot);
        if (rc == 0) {
            rc = run_with(log, LOG_ENTRY_DELETE_TO, group, drop_to);
        }
    }
    return rc;
}

int raft_log_write(struct raft_log *log,
                   uint32_t group,
                   const struct raft_write *write)
{
    assert(log->in_turn);
    return log->failed ? -EIO : fail(log, write_all(log, group, write));
}

int raft_log_add(struct raft_log *log,
                 uint32_t group,
                 const struct raft_saved *saved)
{
    int64_t row[4] = { group, (int64_t)saved->replica, (int64_t)saved->term,
                       (int64_t)saved->vote };
    int64_t id = 0;
    int rc;

    assert(log->in_turn && saved->snapshot.index == 0);
    if (log->failed) {
        return -EIO;
    }
    rc = get_replica(log, group, &id);
    if (rc != -ENOENT) {
        return fail(log, rc == 0 ? -EEXIST : rc);
    }
    rc = put_replica(log, LOG_REPLICA_INSERT, row);
    if (rc == 0 && saved->n_entries > 0) {
        rc = append(log, group, saved->entries, saved->n_entries);
    }
    return fail(log, rc);
}

int raft_log_remove(struct raft_log *log, uint32_t group)
{
    int rc;

    assert(log->in_turn);
    if (log->failed) {
        return -EIO;
    }
    rc = run_with(log, LOG_ENTRY_DELETE_FROM, group, 0);
    if (rc == 0) {
        rc = run_with(log, LOG_SNAPSHOT_DELETE, group, 0);
    }
    if (rc == 0) {
        rc = run_with(log, LOG_REPLICA_DELETE, group, 0);
    }
    return fail(log, rc);
}
