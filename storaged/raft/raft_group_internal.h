/* What the files of raft_group share: the group, and the guards around
 * raft_step() of libraft 0.22.1 with the reasons for each.
 *
 *   G1  APPEND_ENTRIES that begin below the compacted log are dropped:
 *       libraft takes entries that it has compacted for new ones, appends
 *       them behind its last, and reads beyond the message. (raft_receive.c)
 *   G2  A change of members is delivered alone: libraft records it under the
 *       index of the batch's first new entry. (raft_receive.c)
 *   G3  INSTALL_SNAPSHOT while one is being installed is dropped: libraft
 *       ignores it, but leaks its members. (raft_receive.c)
 *   G4  Before a change is delivered to a follower, the one before it is
 *       settled (RAFT_CONFIGURATION): a leader begins a change only when the
 *       last one is committed, but libraft would remember the one before the
 *       last as what to roll back to. (raft_receive.c)
 *   G5  A leader appends an entry of its own term in any case, and changes
 *       members only when it is committed: libraft appends one only when its
 *       log is longer than what is committed, and never waits for it;
 *       members could then be changed on both sides of an election without
 *       an overlap of majorities. (raft_step.c, raft_change.c)
 *   G6  Entries are reported as persisted only when they are still in the
 *       log as they were written, newer than what was reported, and nothing
 *       is being installed: libraft would count them without looking.
 *       Snapshots are not ahead of them. (raft_group.c)
 *   G7  Nothing is applied while a snapshot is being installed: libraft
 *       raises the commit index all the same. (raft_step.c)
 *   G8  Every committed change of members is settled, also after a restart:
 *       until then libraft would refuse any other. (raft_step.c)
 *   G9  APPEND_ENTRIES and INSTALL_SNAPSHOT of the own term are dropped by a
 *       leader: two leaders of a term are the work of a reused id; libraft
 *       has only an assertion against it. (raft_receive.c)
 *   G10 After each step the log's end must be where libraft believes it.
 *       (raft_step.c)
 *   G11 A timeout in the past is put off by a heartbeat: that of a member
 *       that was made a spare stays there. (raft_group.c)
 *   G12 last_log_index of the answer to a stale leader is not initialised by
 *       libraft; it is zeroed. (raft_step.c)
 *   G13 A replica votes even if its own log does not say yet that it is a
 *       voter (as in section 4.1 of the thesis; the candidate knows who
 *       counts), and forgets a leader that it does not hear of any more.
 *       libraft refuses and waits: a group could be stuck for good when a
 *       leader dies between the commit of a promotion and its arrival.
 *       (raft_step.c, raft_group.c)
 *   G14 A refusal to a candidate of a lower term shows the own term: in pre-
 *       votes libraft hides it, so a replica of a higher term with an older
 *       log would refuse for ever those whom it should elect. (raft_step.c)
 *   G15 A refusal of entries that the leader knows to be stored, late or
 *       doubled, is dropped: libraft might step back behind them and would
 *       then, by an unsigned difference, send that follower nothing for as
 *       long as it leads. (raft_receive.c)
 *   G16 Votes that come when it is no candidate are dropped: libraft looks
 *       at what only a candidate has before it ignores them.
 *       (raft_receive.c)
 *   G17 A lone voter enters a new term before it leads: libraft makes it the
 *       leader of the term that it is in, where it, before a crash, or
 *       another may have led, so that one term could have two entries of one
 *       index. (raft_group.c, raft_receive.c) */
#pragma once

#include <raft.h>

#include "common/log.h"
#include "storaged/raft/entry_list.h"
#include "storaged/raft/raft_group.h"
#include "storaged/raft/raft_members.h"
#include "storaged/raft/raft_message.h"

/* A message that waits for a vote to be durable. */
struct held {
    uint64_t serial; /* of the write that it waits for */
    uint32_t node;
    Gabion__RaftMessage *message; /* owned */
};

struct raft_group {
    struct raft raft; /* libraft's */
    struct raft_group_config config;
    uint64_t replica;
    struct entry_list log;        /* what libraft believes to be in the log */
    struct raft_pointer snapshot; /* index 0: none */

    uint64_t serial;      /* of the last write */
    uint64_t persisted;   /* all up to here are durable */
    uint64_t vote_serial; /* of the last write of term and vote */
    struct held *held;    /* owned, held_capacity; in order */
    size_t n_held;
    size_t held_capacity;

    bool installing;
    struct raft_pointer install; /* what is being installed */
    uint64_t install_applied;    /* of what has been put in place */
    uint64_t install_serial;     /* of the write that records it; 0: none yet */

    uint64_t settled;      /* changes up to here are known to libraft */
    uint64_t delivered;    /* entries up to here have been given to apply */
    uint64_t floor;        /* last index when leadership began */
    bool wants_noop;       /* G5 */
    bool answers_stale;    /* G12: the message in hand is of a lower term */
    bool is_asked_to_vote; /* G13: the message in hand asks for a vote */

    struct buf *submitting; /* borrowed: data of the entry in hand */
    uint64_t now_ms;
    uint64_t ticked_ms; /* last time of raft_group_tick() */
    bool is_busy;       /* inside a function: callbacks must not call */
    int failed;         /* negative errno, 0: no */
    struct errmsg why;  /* it has failed */
    struct log_limit complaints;
};

/* The errno of libraft's code. */
int group_errno(int code);

/* Fail: remember and say why. Returns rc. */
int group_fail(struct raft_group *group, int rc, const char *what);

/* Enter and leave a public function. Enter says the error of a group that has
 * failed. */
MUST_CHECK int group_enter(struct raft_group *group, uint64_t now_ms);
int group_leave(struct raft_group *group, int rc);

/* One raft_step() with all that follows from it. With `refusable` the errors of
 * the step itself are only returned, and do not make the group fail. */
MUST_CHECK int group_step(struct raft_group *group,
                          struct raft_event *event,
                          bool refusable);

/* Tell libraft that the change at `index`, which is in the log, is committed.
 */
MUST_CHECK int group_settle(struct raft_group *group, uint64_t index);

/* What steps have left to do, each by steps of its own. */
MUST_CHECK int group_follow_up(struct raft_group *group);

/* Append an entry as leader, without following up. Refusals as
 * raft_group_submit(). */
MUST_CHECK int group_append(struct raft_group *group,
                            enum entry_kind kind,
                            struct buf *data);

/* Hand what has been held back to `send`, as far as it may go now. */
void group_release_held(struct raft_group *group);

/* Whether this replica is the only voter among `members`. */
bool group_is_lone(const struct raft_group *group,
                   const struct raft_members *members);

/* The members that libraft goes by: the newest in log or snapshot. */
void group_members(const struct raft_group *group,
                   struct raft_members *ret_members);
