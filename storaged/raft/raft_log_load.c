/* Reading a group back, trusting nothing. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "storaged/raft/raft_log_internal.h"
#include "storaged/raft/raft_members.h"

int raft_log_groups(struct raft_log *log, uint32_t **ret_groups, size_t *ret_n)
{
    sqlite3_stmt *statement = log_statement(log, LOG_REPLICA_ALL);
    uint32_t *groups = NULL;
    size_t n = 0;
    int rc = log->failed ? -EIO : meta_sql_row(statement);

    while (rc == 0) {
        int64_t group = sqlite3_column_int64(statement, 0);
        uint32_t *more = reallocarray(groups, n + 1, sizeof *groups);

        if (more == NULL || group < 0 || group > UINT32_MAX) {
            groups = more != NULL ? more : groups;
            rc = more == NULL ? -ENOMEM : -EBADMSG;
            (void)sqlite3_reset(statement);
            break;
        }
        groups = more;
        groups[n++] = (uint32_t)group;
        rc = meta_sql_row(statement);
    }
    if (rc != -ENOENT || log->failed) {
        free(groups);
        return rc;
    }
    *ret_groups = groups;
    *ret_n = n;
    return 0;
}

/* Whether the current row's integers, the group put before them, and the bytes
 * of `bytes_column` (-1: none) have the checksum that stands in `column`. */
static bool is_row_whole(sqlite3_stmt *statement,
                         uint32_t group,
                         int column,
                         int bytes_column)
{
    int64_t row[8] = { group };
    const void *bytes = "";
    size_t size = 0;

    for (int i = 0; i < column; i++) {
        row[i + 1] = sqlite3_column_int64(statement, i);
    }
    if (bytes_column >= 0) {
        size = (size_t)sqlite3_column_bytes(statement, bytes_column);
        bytes = size > 0 ? sqlite3_column_blob(statement, bytes_column) : "";
    }
    return bytes != NULL &&
           sqlite3_column_int64(statement, column) ==
               log_row_checksum(row, (size_t)column + 1, bytes, size);
}

static int load_replica(struct raft_log *log,
                        uint32_t group,
                        struct raft_saved *saved,
                        struct errmsg *msg)
{
    sqlite3_stmt *statement = log_statement(log, LOG_REPLICA_GET);
    int64_t key = group;
    int rc;

    meta_sql_bind(statement, &key, 1);
    rc = meta_sql_row(statement);
    if (rc != 0) {
        return rc;
    }
    if (!is_row_whole(statement, group, 3, -1)) {
        errmsg_set(msg, "term and vote do not match their checksum");
        rc = -EBADMSG;
    }
    saved->replica = (uint64_t)sqlite3_column_int64(statement, 0);
    saved->term = (uint64_t)sqlite3_column_int64(statement, 1);
    saved->vote = (uint64_t)sqlite3_column_int64(statement, 2);
    (void)sqlite3_reset(statement);
    return rc;
}

static int load_snapshot(struct raft_log *log,
                         uint32_t group,
                         struct raft_saved *saved,
                         struct errmsg *msg)
{
    sqlite3_stmt *statement = log_statement(log, LOG_SNAPSHOT_GET);
    struct raft_pointer *snapshot = &saved->snapshot;
    int64_t key = group;
    int rc;

    meta_sql_bind(statement, &key, 1);
    rc = meta_sql_row(statement);
    if (rc != 0) {
        return rc == -ENOENT ? 0 : rc;
    }
    snapshot->index = (uint64_t)sqlite3_column_int64(statement, 0);
    snapshot->term = (uint64_t)sqlite3_column_int64(statement, 1);
    snapshot->members_index = (uint64_t)sqlite3_column_int64(statement, 2);
    if (!is_row_whole(statement, group, 3, 4) || snapshot->index == 0 ||
        raft_members_decode(sqlite3_column_blob(statement, 4),
                            (size_t)sqlite3_column_bytes(statement, 4),
                            &snapshot->members) != 0) {
        errmsg_set(msg, "the snapshot's record is damaged");
        rc = -EBADMSG;
    }
    (void)sqlite3_reset(statement);
    return rc;
}

/* The current row of LOG_ENTRY_ALL. */
static int load_entry(sqlite3_stmt *statement,
                      uint32_t group,
                      struct log_entry *ret_entry,
                      struct errmsg *msg)
{
    size_t size = (size_t)sqlite3_column_bytes(statement, 4);
    struct log_entry entry = {
        .index = (uint64_t)sqlite3_column_int64(statement, 0),
        .term = (uint64_t)sqlite3_column_int64(statement, 1),
        .kind = (enum entry_kind)sqlite3_column_int(statement, 2),
    };

    if (!is_row_whole(statement, group, 3, 4) || size > RAFT_DATA_MAX) {
        errmsg_set(msg, "entry %" PRIu64 " does not match its checksum",
                   entry.index);
        return -EBADMSG;
    }
    entry.data = buf_new(size);
    if (entry.data == NULL) {
        return -ENOMEM;
    }
    if (size > 0) {
        memcpy(entry.data->data, sqlite3_column_blob(statement, 4), size);
    }
    *ret_entry = entry;
    return 0;
}

static int load_entries(struct raft_log *log,
                        uint32_t group,
                        struct raft_saved *saved,
                        struct errmsg *msg)
{
    sqlite3_stmt *statement = log_statement(log, LOG_ENTRY_ALL);
    size_t capacity = 0;
    int64_t key = group;
    int rc;

    meta_sql_bind(statement, &key, 1);
    while ((rc = meta_sql_row(statement)) == 0) {
        if (saved->n_entries == capacity) {
            struct log_entry *entries;

            capacity = capacity > 0 ? 2 * capacity : 64;
            entries = reallocarray(saved->entries, capacity, sizeof *entries);
            if (entries == NULL) {
                rc = -ENOMEM;
                break;
            }
            saved->entries = entries;
        }
        rc = load_entry(statement, group, &saved->entries[saved->n_entries],
                        msg);
        if (rc != 0) {
            break;
        }
        saved->n_entries++;
    }
    (void)sqlite3_reset(statement);
    return rc == -ENOENT ? 0 : rc;
}

int raft_log_load(struct raft_log *log,
                  uint32_t group,
                  struct raft_saved *ret_saved,
                  struct errmsg *msg)
{
    struct raft_saved saved = { 0 };
    struct errmsg why = { "" };
    int rc;

    if (log->failed || log->in_turn) {
        return -EIO;
    }
    rc = load_replica(log, group, &saved, &why);
    if (rc == -ENOENT) {
        return rc;
    }
    if (rc == 0) {
        rc = load_snapshot(log, group, &saved, &why);
    }
    if (rc == 0) {
        rc = load_entries(log, group, &saved, &why);
    }
    if (rc == 0) {
        rc = raft_saved_check(&saved, &why);
    }
    if (rc != 0) {
        errmsg_set(msg, "the Raft log of group %" PRIu32 " is damaged: %s",
                   group, why.text[0] != '\0' ? why.text : err_text(rc));
        raft_saved_close(&saved);
        return rc;
    }
    *ret_saved = saved;
    return 0;
}
