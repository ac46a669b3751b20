/* The SQLite database of one metadata shard: opening, transactions, syncing.
 *
 * One writer handle (struct meta_db) per shard, used by one thread at a time
 * except where a function says otherwise; any number of readers (struct
 * meta_reader), each used by one thread at a time, each seeing the last commit.
 *
 * WAL mode: a commit survives the death of the process, and meta_db_sync()
 * makes all commits before it survive the loss of power. Never open or close
 * the database file by other means in this process: POSIX locks of the whole
 * process would be dropped. */
#pragma once

#include <stdint.h>

#include "common/err.h"

struct meta_db;
struct meta_reader;

/* Open the shard's database `path`, creating it with a root directory (inode
 * META_ROOT_INO, mode 0755, owner 0:0, times `now_ns`) when it does not exist.
 * `slot` is the slot of the inodes made here. A database of another cluster or
 * slot or of a newer format is refused with the reason in `msg`. Errors:
 * -EINVAL newer format; -ESTALE another cluster or slot; -EIO, -ENOSPC,
 * -EBADMSG corrupt; -ENOMEM */
MUST_CHECK int meta_db_open(const char *path,
                            uint64_t cluster,
                            uint32_t slot,
                            int64_t now_ns,
                            struct meta_db **ret_db,
                            struct errmsg *msg);
void meta_db_close(struct meta_db *db);

/* Open the directory that the database `path` lies in. Returns the descriptor,
 * which the caller closes, or the -errno of open(2); -ENOMEM. */
MUST_CHECK int meta_db_open_directory(const char *path);

/* Index of the last applied entry; 0 for a new database. */
uint64_t meta_db_applied(const struct meta_db *db);

/* The smallest number that no session has ever had: for the next OpenSession.
 * By the writer's thread. */
uint64_t meta_db_next_session(const struct meta_db *db);

/* Begin and commit the transaction around apply_entry() calls. An error here
 * means the replica must stop. */
MUST_CHECK int meta_db_begin(struct meta_db *db);
MUST_CHECK int meta_db_commit(struct meta_db *db);
void meta_db_rollback(struct meta_db *db);

/* Make all earlier commits durable (fdatasync of the WAL). Any thread, also
 * while another thread commits. Errors: -EIO, -ENOSPC: the replica must stop.
 */
MUST_CHECK int meta_db_sync(struct meta_db *db);

/* Move the WAL's content to the main file through a handle of its own. Any one
 * thread besides the writer, which waits in meta_db_begin() for the last
 * stretch (the pages that were added meanwhile). Not within a transaction of
 * the same thread. */
MUST_CHECK int meta_db_checkpoint(struct meta_db *db);

/* Pages in the WAL since it was last reset: when to checkpoint. Any thread. */
uint64_t meta_db_wal_pages(struct meta_db *db);

/* A reader of the same database. Errors: -EIO, -ENOMEM */
MUST_CHECK int meta_reader_open(struct meta_db *db,
                                struct meta_reader **ret_reader);
void meta_reader_close(struct meta_reader *reader);
