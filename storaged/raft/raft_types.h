/* What the log store, the messages and the groups of Raft speak of: entries,
 * members, snapshot pointers, and what a replica keeps on disk.
 *
 * A *group* is one shard's set of replicas. A *replica* has a random id that is
 * never used again, not even after its disk has been wiped: it stands for one
 * memory of votes and entries. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"

#define RAFT_MEMBERS_MAX 15u
#define RAFT_DATA_MAX    (16u << 20) /* bytes in one entry */

/* Numbered as libraft does; the numbers are on disk and on the wire. */
enum entry_kind {
    ENTRY_OPS = 1, /* for the state machine */
    ENTRY_NOOP,    /* says that a leader's term has begun */
    ENTRY_CHANGE,  /* the members from here on, see raft_members.h */
};

struct log_entry {
    uint64_t index; /* from 1 */
    uint64_t term;  /* from 1, never falling with the index */
    enum entry_kind kind;
    struct buf *data; /* counted; nobody writes to it any more */
    uint64_t serial;  /* private to raft_group: of the write that stores it */
};

/* Numbered as libraft does. */
enum member_role {
    MEMBER_STANDBY, /* gets the log, has no vote */
    MEMBER_VOTER,
    MEMBER_SPARE, /* only known */
};

struct raft_member {
    uint64_t id;   /* of the replica, not 0 */
    uint32_t node; /* where it lives */
    enum member_role role;
};

struct raft_members {
    struct raft_member member[RAFT_MEMBERS_MAX]; /* ids differ */
    size_t n;
};

/* A snapshot is a pointer: the state machine's own database is durable up to
 * and with `index`. */
struct raft_pointer {
    uint64_t index; /* 0: there is none */
    uint64_t term;  /* of the entry `index` */
    uint64_t members_index;
    struct raft_members members; /* as of `index`, from entry members_index */
};

/* All that a replica keeps on disk besides its state machine. Entries follow
 * one another; the first one is 1 without a snapshot, at most
 * snapshot.index + 1 with one, and the last one is at least snapshot.index
 * unless there are no entries. */
struct raft_saved {
    uint64_t replica;
    uint64_t term; /* 0: nothing has happened yet */
    uint64_t vote; /* replica voted for in `term`, 0: none */
    struct raft_pointer snapshot;
    struct log_entry *entries; /* owned, n_entries; each holds its data */
    size_t n_entries;
};

/* Drops entries to the last one stored. */
#define RAFT_WHOLE_LOG UINT64_MAX

/* What a replica wants written, in this order and all or nothing. Writes of a
 * group become durable in the order of their serials. */
struct raft_write {
    uint64_t serial; /* from 1, one after the other */
    bool has_vote;   /* term and vote change */
    uint64_t term;
    uint64_t vote;
    uint64_t from;                   /* not 0: drop stored entries >= from */
    const struct log_entry *entries; /* then append these; borrowed */
    size_t n_entries;
    const struct raft_pointer *snapshot; /* not NULL: replace; borrowed */
    uint64_t drop_to; /* with a snapshot: forget entries <= drop_to */
};

/* Check what has been read against the rules above. 0 or -EBADMSG, with what is
 * wrong in `msg`. */
MUST_CHECK int raft_saved_check(const struct raft_saved *saved,
                                struct errmsg *msg);

/* Free entries; zeroes `saved`. */
void raft_saved_close(struct raft_saved *saved);

/* The first state of each replica of a new group, equal but for the id: term 1
 * and, as entry 1, the members, of which at least one is a voter. It must be
 * written by the caller (raft_log_add()) before the group starts. Errors:
 * -EINVAL no voter; -ENOMEM */
MUST_CHECK int raft_saved_bootstrap(uint64_t replica,
                                    const struct raft_members *members,
                                    struct raft_saved *ret_saved);
