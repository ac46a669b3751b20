/* One replica of one Raft group: the state machine of the protocol, without
 * disk, network, clock or threads.
 *
 *     submit, receive, tick ─► raft_group ─► persist ─► (log thread, one sync)
 *                                  │  ▲                     │
 *              send, apply, role ◄─┘  └─────── persisted ◄──┘
 *
 * It is the only user of libraft's raft_step(), and holds the guards that
 * libraft 0.22 needs; raft_group_internal.h lists them. All functions are for
 * one thread, the one that owns the group. Time is passed in, in milliseconds,
 * and must not go back (a clock that does is taken to stand still).
 *
 * What the group wants done goes out through the functions of struct
 * raft_group_ops, called from within the functions here. They must not call
 * back into the group: they queue.
 *
 * Order of durability: writes have serials and become durable in that order,
 * which the caller tells by raft_group_persisted(). Messages that depend on a
 * term or vote are held back in here until that is durable, so what `send` gets
 * may leave at once. Entries are acknowledged to the leader, and counted by the
 * leader itself, only when they are durable.
 *
 * A function that says a negative errno other than those it lists as refusals
 * has met something that must not be: the replica has *failed*. From then on
 * every function says the same. The caller stops the replica, tells a person
 * why (raft_group_error()), and may start it again from the disk. */
#pragma once

#include "proto/raft.pb-c.h"
#include "storaged/raft/raft_types.h"

struct raft_group;

enum group_role {
    GROUP_FOLLOWER,
    GROUP_CANDIDATE,
    GROUP_LEADER,
};

struct raft_group_ops {
    /* Write to the disk. `write` and what it points to is valid only during the
     * call; entries may be kept by a reference to their data. */
    void (*persist)(void *context, const struct raft_write *write);

    /* Send to the replica's node, in order. The callee owns the message and
     * frees it by gabion__raft_message__free_unpacked(). It may be lost, and
     * must be lost rather than come after a reconnect. */
    void (*send)(void *context, uint32_t node, Gabion__RaftMessage *message);

    /* Apply committed entries, each index once and in order; those of kinds
     * other than ENTRY_OPS only move the applied index on. They are durable on
     * a majority, maybe not yet here: the state machine may get ahead of the
     * own disk's log, and skips what it has applied already. Borrowed; the data
     * may be kept by a reference. */
    void (*apply)(void *context, const struct log_entry *entries, size_t n);

    /* Replace the state machine by a copy that has applied at least
     * snapshot->index, fetched from replica `from` on `node`, the leader, or
     * from any other; then call raft_group_installed(). Until then nothing is
     * applied. There is no giving up: try again, or restart the replica. */
    void (*install)(void *context,
                    const struct raft_pointer *snapshot,
                    uint64_t from,
                    uint32_t node);

    /* The role or the term of a leadership has changed. When leadership is
     * lost, nobody knows what becomes of entries that have been submitted and
     * not applied. */
    void (*role)(void *context, enum group_role role, uint64_t term);
};

/* Bugs to be planted by tests. */
#define RAFT_PLANT_EARLY_SEND   1u  /* do not wait for term and vote */
#define RAFT_PLANT_OLD_APPEND   2u  /* take entries below the compacted log */
#define RAFT_PLANT_APPLY_BLIND  4u  /* apply while installing */
#define RAFT_PLANT_NO_SETTLING  8u  /* no early RAFT_CONFIGURATION */
#define RAFT_PLANT_HASTY_CHANGE 16u /* change members before the no-op */
#define RAFT_PLANT_STRICT_VOTER                                              \
    32u                             /* no vote without knowing to be a voter \
                                     */
#define RAFT_PLANT_OLD_REFUSAL 128u /* believe refusals of what is stored */
#define RAFT_PLANT_SAME_TERM   256u /* a lone voter stays in its term */
#define RAFT_PLANT_HIDDEN_TERM 64u  /* pre-votes do not show a higher term */

struct raft_group_config {
    uint32_t group;
    uint32_t node;         /* where this replica lives */
    unsigned seed;         /* differs between replicas, or votes are split */
    unsigned election_ms;  /* 0: 500 */
    unsigned heartbeat_ms; /* 0: 50 */
    unsigned install_ms;   /* until a snapshot is offered again; 0: 1000 */
    /* Entries that a snapshot leaves in the log for slow followers, bounded by
     * the bytes of their data. */
    uint64_t trailing;
    uint64_t trailing_bytes; /* 0: no bound */
    /* Data in one message, unless a single entry has more. 0: 1 MiB */
    uint64_t message_bytes;
    unsigned plants;                  /* RAFT_PLANT_*; 0 but in tests */
    const struct raft_group_ops *ops; /* borrowed for good */
    void *context;                    /* borrowed, for ops */
};

/* Start a replica from what raft_log_load() has found: a state from an earlier
 * life, one made by raft_saved_bootstrap(), or one with nothing but an id,
 * which joins a group: it waits until a leader speaks to it. `saved` stays the
 * caller's; its entries' data is shared. `applied` is the index up to which the
 * state machine has applied; at least snapshot.index.
 *
 * Callbacks may run before it returns. Errors: -EINVAL `saved` contradicts
 * itself, or applied < snapshot.index; -ENOMEM; -EBADMSG libraft refuses. */
MUST_CHECK int raft_group_new(const struct raft_group_config *config,
                              const struct raft_saved *saved,
                              uint64_t applied,
                              uint64_t now_ms,
                              struct raft_group **ret_group);

/* Without callbacks. NULL is allowed. */
void raft_group_free(struct raft_group *group);

/* As leader, append an entry with `data` for the state machine. On success the
 * group has a reference of its own to the data, and the entry has this index
 * and term: when an entry of that index and another term is applied, or a
 * snapshot beyond it installed by another leader, this one may be lost.
 * Refusals: -EAGAIN not the leader, or leadership is being handed over;
 * -EINVAL more than RAFT_DATA_MAX bytes; -ENOMEM */
MUST_CHECK int raft_group_submit(struct raft_group *group,
                                 uint64_t now_ms,
                                 struct buf *data,
                                 uint64_t *ret_index,
                                 uint64_t *ret_term);

/* Take a message, which must have passed raft_message_validate(). One for
 * another group or replica, maybe an earlier life of this one, is ignored. */
MUST_CHECK int raft_group_receive(struct raft_group *group,
                                  uint64_t now_ms,
                                  const Gabion__RaftMessage *message);

/* All writes with serials up to `serial` are on stable storage. */
MUST_CHECK int raft_group_persisted(struct raft_group *group,
                                    uint64_t now_ms,
                                    uint64_t serial);

/* When raft_group_tick() is due; changes with every other call. Calling it
 * early does nothing. */
uint64_t raft_group_timeout_ms(const struct raft_group *group);
MUST_CHECK int raft_group_tick(struct raft_group *group, uint64_t now_ms);

/* The state machine is durable up to `index`: take that as a snapshot and
 * compact the log. Refusals: -EINVAL nothing that is applied and, in this
 * replica's log, durable, or not newer than the last one; -EBUSY a snapshot is
 * being installed; -ENOMEM
 *
 * The caller leaves it, within bounds, while a follower installs: it would be
 * left behind again. */
MUST_CHECK int raft_group_snapshot(struct raft_group *group,
                                   uint64_t now_ms,
                                   uint64_t index);

/* What `install` asked for is done, and durable: the state machine has applied
 * up to `applied`. Refusals: -EINVAL nothing was asked for, or not that much is
 * applied. */
MUST_CHECK int raft_group_installed(struct raft_group *group,
                                    uint64_t now_ms,
                                    uint64_t applied);

struct raft_group_status {
    uint64_t replica;
    enum group_role role;
    uint64_t term;
    uint64_t leader; /* replica, 0: not known */
    uint32_t leader_node;
    uint64_t commit; /* highest index known to be committed */
    uint64_t first;  /* of the log in memory; first > last: it is empty */
    uint64_t last;
    uint64_t log_bytes; /* data of first..last */
    uint64_t snapshot;  /* its index, 0: none */
    bool is_installing;
    bool is_voter;               /* by the newest members */
    struct raft_members members; /* the newest, maybe not yet committed */
};
void raft_group_get_status(const struct raft_group *group,
                           struct raft_group_status *ret_status);

/* As leader, the highest index that is known to be durable on a member, itself
 * included: how far it lags, and what a snapshot should leave to it.
 * Refusals: -EAGAIN not the leader; -ENOENT no such member. */
MUST_CHECK int raft_group_get_match(const struct raft_group *group,
                                    uint64_t replica,
                                    uint64_t *ret_index);

/* The current term: the answer to a peer's term check. Must come from here, and
 * after the question has arrived. */
uint64_t raft_group_term(const struct raft_group *group);
bool raft_group_is_leader(const struct raft_group *group);

/* Why the replica has failed; "" if it has not. Borrowed. */
const char *raft_group_error(const struct raft_group *group);

/* ------------------------------------------------- reading without the log */

/* A linearizable read: (1) raft_group_read_begin() when it has arrived; (2) ask
 * the other voters for their terms, sending after (1), one question for all
 * reads that wait and all groups; (3) when raft_group_read_check() says 0, wait
 * until the state machine has applied `index`, then read.
 *
 * Sound since no voter's term was above `term` when it answered: so no leader
 * of a higher term was elected before (1), and whatever was acknowledged by
 * then is at or below `index`. */
struct raft_read {
    uint64_t term;
    uint64_t index;
};

struct raft_answer {
    uint64_t replica;
    uint64_t term;
};

/* Refusals: -EAGAIN not the leader. */
MUST_CHECK int raft_group_read_begin(const struct raft_group *group,
                                     struct raft_read *ret_read);

/* Whether the answers so far, at most one of each replica, confirm the read.
 * Refusals: -EINPROGRESS not yet; -EAGAIN they cannot any more: it is not, or
 * was not all the time, the leader. */
MUST_CHECK int raft_group_read_check(const struct raft_group *group,
                                     const struct raft_read *read,
                                     const struct raft_answer answers[],
                                     size_t n);

/* ------------------------------------------------------ changing the members
 */

/* Members change one at a time, by entries. To add a replica: set() as spare or
 * standby, under an id that no replica ever had; raft_group_catch_up() and wait
 * for CATCH_UP_FINISHED; set() as voter. To take one away: remove() it.
 *
 * A voter cannot be made a standby, and a leader does not remove itself: it
 * hands over first. Who has the entry that takes its vote away would hold the
 * longest log of all and not stand for election, and libraft has it wait, and
 * the others with it, for the old leader.
 *
 * `*ret_index` and `*ret_term` are those of the entry. Refusals: -EAGAIN not
 * the leader; -EBUSY another change, a catch-up or the beginning of the
 * leader's term is not yet committed; -EEXIST nothing would change; -ENOENT no
 * such member; -EINVAL id 0, node of a member changed, too many members, a
 * voter's role, or this replica itself; -ENOMEM */
MUST_CHECK int raft_group_set_member(struct raft_group *group,
                                     uint64_t now_ms,
                                     const struct raft_member *member,
                                     uint64_t *ret_index,
                                     uint64_t *ret_term);
MUST_CHECK int raft_group_remove_member(struct raft_group *group,
                                        uint64_t now_ms,
                                        uint64_t replica,
                                        uint64_t *ret_index,
                                        uint64_t *ret_term);

enum catch_up {
    CATCH_UP_NONE,
    CATCH_UP_RUNNING,
    CATCH_UP_ABORTED,
    CATCH_UP_FINISHED,
};

/* Bring a spare or standby up to date, for as long as this leader leads.
 * Refusals: -EAGAIN not the leader; -EBUSY a catch-up or a change of members is
 * running; -ENOENT no such member; -EINVAL it is a voter. */
MUST_CHECK int raft_group_catch_up(struct raft_group *group,
                                   uint64_t now_ms,
                                   uint64_t replica);
enum catch_up raft_group_catch_up_state(const struct raft_group *group,
                                        uint64_t replica);

/* Hand leadership to a voter (0: to one that has the whole log if any has).
 * Nothing can be submitted until it has worked or an election timeout has
 * passed. Refusals: -EAGAIN not the leader, or a transfer is running; -ENOENT
 * no such voter, or it is this one; -ENOMEM */
MUST_CHECK int raft_group_transfer(struct raft_group *group,
                                   uint64_t now_ms,
                                   uint64_t replica);
bool raft_group_is_transferring(const struct raft_group *group);
