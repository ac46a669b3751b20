/* The durable log of all Raft groups of a node: one SQLite database.
 *
 * Writes of all groups gather in a *turn*, which is one transaction and one
 * sync: it is on stable storage as a whole or not at all. Whatever is to follow
 * the writes of a turn (messages that tell of a vote, PERSISTED events) comes
 * after raft_log_commit() has returned 0.
 *
 * Any error is final: it is logged, and every later call but raft_log_close()
 * says -EIO. The node must stop its replicas then and start them again from
 * what the disk has; nothing is tried twice, since after a failed sync nobody
 * knows what is on the disk.
 *
 * Every row has a checksum, and raft_log_load() checks that what it reads makes
 * sense as a whole: a damaged log is refused. A replica that has lost it must
 * come back under a new id, because it may have voted.
 *
 * Used by one thread at a time. The process owns the database alone; never open
 * its file by other means (POSIX locks would be dropped). */
#pragma once

#include "storaged/raft/raft_types.h"

struct raft_log;

/* Create the database `path`. Leftovers of an interrupted creation are removed.
 * Errors: -EEXIST; -EIO, -ENOSPC, -ENOMEM; told in `msg`. */
MUST_CHECK int raft_log_create(const char *path,
                               uint64_t cluster,
                               struct errmsg *msg);

/* Open it. It is never created here: a log that should be there and is not must
 * not be taken for one that is empty. Errors, told in `msg`: -ENOENT there is
 * none; -EBADMSG damaged or something else; -EINVAL newer format; -ESTALE of
 * another cluster; -EIO, -ENOSPC, -ENOMEM */
MUST_CHECK int raft_log_open(const char *path,
                             uint64_t cluster,
                             struct raft_log **ret_log,
                             struct errmsg *msg);

/* What has not been committed is lost. NULL is allowed. */
void raft_log_close(struct raft_log *log);

/* The groups that have a replica here, ascending. `*ret_groups` is the caller's
 * to free, NULL when there are none. Errors: -EIO, -EBADMSG, -ENOMEM */
MUST_CHECK int raft_log_groups(struct raft_log *log,
                               uint32_t **ret_groups,
                               size_t *ret_n);

/* All of one group. The caller closes `*ret_saved` by raft_saved_close(). Not
 * within a turn. Errors: -ENOENT no replica of the group here; -EBADMSG
 * damaged, told in `msg`; -EIO, -ENOMEM */
MUST_CHECK int raft_log_load(struct raft_log *log,
                             uint32_t group,
                             struct raft_saved *ret_saved,
                             struct errmsg *msg);

/* Begin a turn. Errors of this and the following: -EIO, -ENOSPC, -EBADMSG,
 * -ENOMEM, all final. */
MUST_CHECK int raft_log_begin(struct raft_log *log);

/* Add a replica with its first state: of raft_saved_bootstrap(), or only with
 * an id, for one that joins a group. Errors: also -EEXIST the group has one. */
MUST_CHECK int raft_log_add(struct raft_log *log,
                            uint32_t group,
                            const struct raft_saved *saved);

/* Forget the group's replica: it was removed from the group, or is to come back
 * under a new id. Says 0 also when there is none. */
MUST_CHECK int raft_log_remove(struct raft_log *log, uint32_t group);

/* Do what `write` asks for. Errors: also -EINVAL the entries do not follow
 * those that are stored, or the group has no replica: nothing was guessed. */
MUST_CHECK int raft_log_write(struct raft_log *log,
                              uint32_t group,
                              const struct raft_write *write);

/* Commit the turn and sync. With -EIO it is unknown whether the turn is on
 * disk. */
MUST_CHECK int raft_log_commit(struct raft_log *log);
