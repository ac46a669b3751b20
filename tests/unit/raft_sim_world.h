/* What the files of the simulator share. */
#pragma once

#include <stddef.h>

#include "storaged/raft/entry_list.h"
#include "storaged/raft/raft_group.h"
#include "storaged/raft/raft_log.h"
#include "storaged/raft/raft_members.h"
#include "storaged/raft/raft_message.h"
#include "tests/unit/raft_sim.h"

#define SIM_NODES   8u /* numbered 1..SIM_NODES */
#define SIM_GROUP   7u
#define SIM_CLUSTER 0x5151u
#define SIM_READS   64u

enum sim_kind {
    EV_MESSAGE,
    EV_SYNC,
    EV_TICK,
    EV_APPLY,
    EV_INSTALL,
    EV_DB_SYNC,
    EV_RESTART,
    EV_QUESTION,
    EV_ANSWER,
    EV_CLIENT,
    EV_READ,
    EV_NEMESIS,
    EV_MEMBERS,
};

struct sim_event {
    uint64_t time;
    uint64_t number; /* equal times: first in, first out */
    enum sim_kind kind;
    uint32_t node;    /* where it happens, 0: nowhere */
    uint64_t life;    /* of the node, when it is bound to one */
    struct buf *data; /* counted, or NULL */
    uint64_t a, b, c; /* by kind */
};

struct sim_write {
    struct raft_write write;
    struct raft_pointer snapshot;
    struct log_entry *entries; /* owned, with their data */
};

struct sim_disk {
    uint64_t replica; /* 0: no replica here */
    uint64_t term;
    uint64_t vote;
    struct raft_pointer snapshot;
    struct entry_list log;
    struct sim_write *pending; /* owned, n_pending: written, not yet synced */
    size_t n_pending;
};

/* The state machine is known by how far it is: what it has applied is checked
 * as it comes. */
struct sim_db {
    uint64_t applied;
    uint64_t synced;
};

struct sim_node {
    struct sim_world *world; /* borrowed */
    uint32_t number;
    uint64_t life;            /* counts starts */
    struct raft_group *group; /* owned; NULL: down */
    uint64_t skew_ms;         /* of its clock */
    uint64_t tick_at;         /* by the world's clock */
    struct sim_disk disk;
    struct sim_db db;
    struct log_entry *queue; /* owned, n_queue: to be applied */
    size_t n_queue;
    bool has_apply;      /* an EV_APPLY is under way */
    bool has_sync;       /* an EV_SYNC is under way */
    uint64_t slow_until; /* the disk is slow */
    uint64_t install;    /* index that is wanted, 0: none */
    uint64_t joined_ms;  /* when its replica was made */
    uint64_t crash_in;   /* effects until it dies, 0: it does not */
    bool is_dying;
    struct raft_pointer installing; /* for install */
};

struct sim_entry {
    bool is_known;
    uint64_t term;
    uint64_t value;
    enum entry_kind kind;
};

struct sim_read {
    uint64_t number; /* 0: free */
    uint32_t node;
    uint64_t life;
    uint64_t expected; /* highest acknowledged index when it began */
    struct raft_read read;
    struct raft_answer answers[RAFT_MEMBERS_MAX];
    size_t n_answers;
};

struct sim_submitted {
    uint64_t index;
    uint64_t term;
    uint32_t node;
    uint64_t life;
};

struct sim_leader {
    uint64_t replica; /* 0: none */
    bool is_durable;  /* its term was when it began */
};

struct sim_world {
    struct sim_options options;
    struct sim_result *result; /* borrowed */
    struct raft_log *log;      /* owned: group is the node's number; or NULL */
    uint64_t random;
    uint64_t now;
    struct sim_event *heap; /* owned */
    size_t n_heap;
    size_t heap_capacity;
    uint64_t n_numbers;
    struct sim_node node[SIM_NODES + 1];
    bool cut[SIM_NODES + 1][SIM_NODES + 1];              /* from, to */
    uint64_t last_arrival[SIM_NODES + 1][SIM_NODES + 1]; /* if in order */
    bool in_order;            /* streams, else every message on its own way */
    unsigned loss, dup, late; /* per 10,000 messages */
    uint64_t fault_every_ms;  /* at most, between faults */
    uint64_t snapshots_from;  /* no snapshots before */
    unsigned worlds;          /* SIM_* */
    bool is_calm;             /* no more faults */

    uint64_t next_replica;
    uint64_t next_value;
    uint64_t next_read;
    struct sim_entry *history; /* owned; by index */
    size_t history_capacity;
    uint64_t highest;            /* applied anywhere */
    uint64_t acked;              /* highest acknowledged index */
    struct raft_members members; /* of the newest applied change */
    struct sim_leader *leaders;  /* owned; by term */
    size_t leaders_capacity;
    struct sim_read reads[SIM_READS];
    struct sim_submitted *submitted; /* owned */
    size_t n_submitted;
};

/* raft_sim.c */
uint64_t sim_below(struct sim_world *world, uint64_t limit);
bool sim_one_in(struct sim_world *world, uint64_t n);
void sim_violate(struct sim_world *world, const char *format, ...)
    PRINTF_LIKE(2, 3);
bool sim_is_over(const struct sim_world *world);
void sim_push(struct sim_world *world,
              uint64_t delay,
              const struct sim_event *event);
void sim_send(struct sim_world *world,
              uint32_t from,
              uint32_t to,
              const struct sim_event *event);

/* raft_sim_node.c */
void sim_node_boot(struct sim_node *node);
void sim_node_crash(struct sim_node *node);
void sim_node_give_replica(struct sim_node *node, struct raft_saved *saved);
void sim_node_wipe(struct sim_node *node);
void sim_node_free(struct sim_node *node);
uint64_t sim_node_now(const struct sim_node *node);
/* After each call of the group: errors, death, the next tick. */
void sim_node_after(struct sim_node *node, int rc);
void sim_node_message(struct sim_node *node, const struct sim_event *event);
void sim_node_sync(struct sim_node *node, const struct sim_event *event);
void sim_node_tick(struct sim_node *node);
void sim_node_apply(struct sim_node *node);
void sim_node_install(struct sim_node *node);
void sim_node_db_sync(struct sim_node *node);

/* raft_sim_log.c: the real logs beside the simulated disks; nothing without
 * them. */
void sim_log_open(struct sim_world *world);
void sim_log_close(struct sim_world *world);
void sim_log_add(struct sim_node *node, const struct raft_saved *saved);
void sim_log_remove(struct sim_node *node);
void sim_log_store(struct sim_node *node, const struct sim_write *pending);
void sim_log_compare(struct sim_node *node);

/* raft_sim_check.c */
void sim_check_applied(struct sim_node *node, const struct log_entry *entry);
void sim_check_leader(struct sim_node *node, uint64_t term);
void sim_check_end(struct sim_world *world);
void sim_print(const struct sim_world *world);

/* raft_sim_load.c */
struct sim_node *sim_find_leader(struct sim_world *world);
void sim_client(struct sim_world *world);
void sim_acknowledge(struct sim_node *node, const struct log_entry *entry);
void sim_read(struct sim_world *world);
void sim_question(struct sim_world *world, const struct sim_event *event);
void sim_answer(struct sim_world *world, const struct sim_event *event);
void sim_nemesis(struct sim_world *world);
void sim_change_members(struct sim_world *world);
void sim_heal(struct sim_world *world);
