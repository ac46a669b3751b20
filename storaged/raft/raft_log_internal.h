/* What the files of the log store share. */
#pragma once

#include <sqlite3.h>

#include "storaged/meta/meta_sql.h"
#include "storaged/raft/raft_log.h"

enum log_statement {
    LOG_BEGIN,
    LOG_COMMIT,
    LOG_REPLICA_INSERT,
    LOG_REPLICA_UPDATE,
    LOG_REPLICA_GET,
    LOG_REPLICA_ALL,
    LOG_REPLICA_DELETE,
    LOG_ENTRY_INSERT,
    LOG_ENTRY_LAST,
    LOG_ENTRY_ALL,
    LOG_ENTRY_DELETE_FROM,
    LOG_ENTRY_DELETE_TO,
    LOG_SNAPSHOT_PUT,
    LOG_SNAPSHOT_GET,
    LOG_SNAPSHOT_DELETE,
    LOG_STATEMENTS_N,
};

struct raft_log {
    struct meta_sql sql; /* owned */
    bool failed;         /* for good */
    bool in_turn;
};

static inline sqlite3_stmt *log_statement(const struct raft_log *log,
                                          enum log_statement which)
{
    return log->sql.statements[which];
}

/* Checksum of a row: its integers and its bytes. */
int64_t log_row_checksum(const int64_t values[],
                         size_t n,
                         const void *bytes,
                         size_t size);
