/* Clients, readers, changes of members, and faults. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/raft_sim_world.h"

static struct sim_node *random_node(struct sim_world *world)
{
    return &world->node[1 + sim_below(world, SIM_NODES)];
}

static bool leads(const struct sim_node *node)
{
    return node->group != NULL && raft_group_is_leader(node->group);
}

/* One that believes to be the leader; of several any. */
struct sim_node *sim_find_leader(struct sim_world *world)
{
    uint32_t first = (uint32_t)sim_below(world, SIM_NODES);

    for (uint32_t i = 0; i < SIM_NODES; i++) {
        struct sim_node *node = &world->node[1 + (first + i) % SIM_NODES];

        if (leads(node)) {
            return node;
        }
    }
    return NULL;
}

static void again(struct sim_world *world, enum sim_kind kind, uint64_t delay)
{
    struct sim_event event = { .kind = kind };

    sim_push(world, delay, &event);
}

/* -------------------------------------------------------------------- clients
 */

static void remember(struct sim_world *world,
                     const struct sim_node *node,
                     uint64_t index,
                     uint64_t term)
{
    world->submitted = reallocarray(world->submitted, world->n_submitted + 1,
                                    sizeof *world->submitted);
    if (world->submitted == NULL) {
        abort();
    }
    world->submitted[world->n_submitted++] =
        (struct sim_submitted){ index, term, node->number, node->life };
}

static void submit(struct sim_node *node)
{
    struct sim_world *world = node->world;
    struct buf *data = buf_new(8 + sim_below(world, 40));
    uint64_t index;
    uint64_t term;
    int rc;

    if (data == NULL) {
        abort();
    }
    memset(data->data, 0, data->size);
    memcpy(data->data, &world->next_value, 8);
    world->next_value++;
    rc =
        raft_group_submit(node->group, sim_node_now(node), data, &index, &term);
    buf_unref(data);
    if (rc == 0) {
        remember(world, node, index, term);
    }
    sim_node_after(node, rc == -EAGAIN ? 0 : rc);
}

void sim_client(struct sim_world *world)
{
    struct sim_node *node = sim_find_leader(world);
    uint64_t n = sim_one_in(world, 10) ? 1 + sim_below(world, 20) : 1;

    again(world, EV_CLIENT, 1 + sim_below(world, world->is_calm ? 500 : 60));
    while (n-- > 0 && node != NULL && leads(node) && !sim_is_over(world)) {
        submit(node);
    }
}

/* The leader that took the entry has applied it: its client is told. */
void sim_acknowledge(struct sim_node *node, const struct log_entry *entry)
{
    struct sim_world *world = node->world;

    for (size_t i = 0; i < world->n_submitted; i++) {
        struct sim_submitted *submitted = &world->submitted[i];

        if (submitted->index != entry->index ||
            submitted->node != node->number || submitted->life != node->life) {
            continue;
        }
        if (submitted->term == entry->term) {
            world->result->n_acked++;
            if (entry->index > world->acked) {
                world->acked = entry->index;
            }
        }
        *submitted = world->submitted[--world->n_submitted];
        return;
    }
}

/* --------------------------------------------------------------------- reads
 */

static struct sim_read *find_read(struct sim_world *world, uint64_t number)
{
    for (size_t i = 0; i < SIM_READS; i++) {
        if (world->reads[i].number == number) {
            return &world->reads[i];
        }
    }
    return NULL;
}

/* Answer the client if the answers suffice. */
static void try_read(struct sim_world *world, struct sim_read *read)
{
    struct sim_node *node = &world->node[read->node];
    int rc = 0;

    if (node->group == NULL || node->life != read->life) {
        read->number = 0;
        return;
    }
    if ((world->options.plants & SIM_PLANT_NO_TERM_CHECK) == 0) {
        rc = raft_group_read_check(node->group, &read->read, read->answers,
                                   read->n_answers);
    }
    if (rc == -EINPROGRESS) {
        return;
    }
    read->number = 0;
    if (rc == 0) {
        world->result->n_reads++;
        if (read->read.index < read->expected) {
            sim_violate(world,
                        "node %u reads at %" PRIu64 ", stale: %" PRIu64
                        " had been acknowledged",
                        node->number, read->read.index, read->expected);
        }
    }
}

void sim_read(struct sim_world *world)
{
    struct sim_node *node = sim_find_leader(world);
    struct sim_read *read = &world->reads[world->next_read % SIM_READS];
    struct raft_group_status status;

    again(world, EV_READ, 1 + sim_below(world, world->is_calm ? 500 : 40));
    if (node == NULL) {
        return;
    }
    *read = (struct sim_read){ .number = world->next_read++,
                               .node = node->number,
                               .life = node->life,
                               .expected = world->acked };
    if (raft_group_read_begin(node->group, &read->read) != 0) {
        sim_violate(world, "node %u leads and cannot read", node->number);
        return;
    }
    raft_group_get_status(node->group, &status);
    for (size_t i = 0; i < status.members.n; i++) {
        struct sim_event question = { .kind = EV_QUESTION,
                                      .node = status.members.member[i].node,
                                      .a = read->number,
                                      .b = node->number };

        if (status.members.member[i].role == MEMBER_VOTER &&
            question.node != node->number) {
            question.c = status.members.member[i].id;
            sim_send(world, node->number, question.node, &question);
        }
    }
    try_read(world, read);
}

void sim_question(struct sim_world *world, const struct sim_event *event)
{
    struct sim_node *node = &world->node[event->node];
    struct sim_event answer = { .kind = EV_ANSWER,
                                .node = (uint32_t)event->b,
                                .a = event->a,
                                .c = event->c };

    if (node->group != NULL && node->disk.replica == event->c) {
        answer.b = raft_group_term(node->group);
        sim_send(world, node->number, answer.node, &answer);
    }
}

void sim_answer(struct sim_world *world, const struct sim_event *event)
{
    struct sim_read *read = find_read(world, event->a);

    if (read == NULL) {
        return;
    }
    for (size_t i = 0; i < read->n_answers; i++) {
        if (read->answers[i].replica == event->c) {
            return;
        }
    }
    if (read->n_answers < RAFT_MEMBERS_MAX) {
        read->answers[read->n_answers++] =
            (struct raft_answer){ event->c, event->b };
    }
    try_read(world, read);
}

/* ------------------------------------------------------------------- members
 */

/* Whether anybody, or what has been applied, still counts on the replica. */
static bool is_wanted(struct sim_world *world, uint64_t replica)
{
    struct raft_group_status status;

    if (raft_members_find(&world->members, replica) != NULL) {
        return true;
    }
    for (uint32_t i = 1; i <= SIM_NODES; i++) {
        const struct sim_node *node = &world->node[i];

        if (node->group == NULL && node->disk.replica != 0 &&
            node->disk.replica != replica) {
            return true; /* who knows */
        }
        if (node->group == NULL || node->disk.replica == replica) {
            continue;
        }
        raft_group_get_status(node->group, &status);
        if (raft_members_find(&status.members, replica) != NULL) {
            return true;
        }
    }
    return false;
}

/* Replicas that have been removed go for good. */
static void clean_up(struct sim_world *world)
{
    for (uint32_t i = 1; i <= SIM_NODES; i++) {
        struct sim_node *node = &world->node[i];

        if (node->disk.replica != 0 && world->now > node->joined_ms + 3000 &&
            !is_wanted(world, node->disk.replica)) {
            sim_node_wipe(node);
        }
    }
}

/* The answers to a change that tell of no bug. */
static int forgive(int rc)
{
    switch (rc) {
    case -EAGAIN:
    case -EBUSY:
    case -EEXIST:
    case -ENOENT:
    case -EINVAL:
        return 0;
    default:
        return rc;
    }
}

static void set_role(struct sim_node *leader,
                     struct raft_member member,
                     enum member_role role)
{
    uint64_t index;
    uint64_t term;
    int rc;

    member.role = role;
    rc = raft_group_set_member(leader->group, sim_node_now(leader), &member,
                               &index, &term);
    sim_node_after(leader, forgive(rc));
}

static void add_member(struct sim_node *leader)
{
    struct sim_world *world = leader->world;
    struct sim_node *node = random_node(world);
    struct raft_saved saved = { .replica = world->next_replica };

    if (node->disk.replica != 0) {
        return;
    }
    world->next_replica++;
    sim_node_give_replica(node, &saved);
    sim_node_boot(node);
    if (!leads(leader)) {
        return;
    }
    set_role(leader,
             (struct raft_member){ node->disk.replica, node->number, 0 },
             sim_one_in(world, 3) ? MEMBER_SPARE : MEMBER_STANDBY);
}

static void change_member(struct sim_node *leader,
                          const struct raft_member *member,
                          size_t n_voters)
{
    struct sim_world *world = leader->world;
    enum catch_up state = raft_group_catch_up_state(leader->group, member->id);
    uint64_t index;
    uint64_t term;
    int rc = 0;

    if (member->role == MEMBER_VOTER) {
        if (n_voters <= (world->options.n_voters == 1 ? 1 : 3)) {
            return;
        }
        rc = raft_group_remove_member(leader->group, sim_node_now(leader),
                                      member->id, &index, &term);
    } else if (state == CATCH_UP_FINISHED ||
               (member->role == MEMBER_STANDBY && sim_one_in(world, 3))) {
        if (n_voters < 5) {
            set_role(leader, *member, MEMBER_VOTER);
            return;
        }
    } else if (state != CATCH_UP_RUNNING && sim_one_in(world, 2)) {
        rc = raft_group_catch_up(leader->group, sim_node_now(leader),
                                 member->id);
    } else if (sim_one_in(world, 3)) {
        rc = raft_group_remove_member(leader->group, sim_node_now(leader),
                                      member->id, &index, &term);
    } else {
        set_role(leader, *member,
                 member->role == MEMBER_SPARE ? MEMBER_STANDBY : MEMBER_SPARE);
        return;
    }
    sim_node_after(leader, forgive(rc));
}

static void transfer(struct sim_node *leader,
                     const struct raft_members *members)
{
    struct sim_world *world = leader->world;
    uint64_t to = sim_one_in(world, 3)
                      ? 0
                      : members->member[sim_below(world, members->n)].id;
    int rc = raft_group_transfer(leader->group, sim_node_now(leader), to);

    if (rc == 0) {
        world->result->n_transfers++;
    }
    sim_node_after(leader, forgive(rc));
}

void sim_change_members(struct sim_world *world)
{
    struct sim_node *leader = sim_find_leader(world);
    struct raft_group_status status;

    again(
        world, EV_MEMBERS,
        20 + sim_below(world, (world->worlds & SIM_RESTLESS) != 0 ? 100 : 800));
    clean_up(world);
    if (leader == NULL || world->is_calm) {
        return;
    }
    raft_group_get_status(leader->group, &status);
    switch (sim_below(world, 4)) {
    case 0:
        add_member(leader);
        break;
    case 1:
        transfer(leader, &status.members);
        break;
    default:
        change_member(
            leader, &status.members.member[sim_below(world, status.members.n)],
            raft_members_voters(&status.members));
        break;
    }
}

/* -------------------------------------------------------------------- faults
 */

static void mend_network(struct sim_world *world)
{
    memset(world->cut, 0, sizeof world->cut);
}

/* Cut the nodes in two at random; one way, or both. */
static void split(struct sim_world *world)
{
    uint64_t side = sim_below(world, 1u << (SIM_NODES + 1));
    bool one_way = sim_one_in(world, 3);

    for (uint32_t i = 1; i <= SIM_NODES; i++) {
        for (uint32_t j = 1; j <= SIM_NODES; j++) {
            if ((side >> i & 1) != 0 && (side >> j & 1) == 0) {
                world->cut[i][j] = true;
                world->cut[j][i] = world->cut[j][i] || !one_way;
            }
        }
    }
}

static void isolate(struct sim_world *world, const struct sim_node *node)
{
    bool one_way = sim_one_in(world, 3);

    for (uint32_t i = 1; i <= SIM_NODES && node != NULL; i++) {
        world->cut[node->number][i] = true;
        world->cut[i][node->number] = !one_way;
    }
}

static void crash_some(struct sim_world *world, bool all)
{
    for (uint32_t i = 1; i <= SIM_NODES; i++) {
        struct sim_node *node = &world->node[i];

        if (node->group != NULL && (all || sim_one_in(world, 3))) {
            sim_node_crash(node);
        }
    }
}

void sim_nemesis(struct sim_world *world)
{
    struct sim_node *node = random_node(world);

    if (world->is_calm) {
        return;
    }
    again(world, EV_NEMESIS, 50 + sim_below(world, world->fault_every_ms));
    switch (sim_below(world, 11)) {
    case 0:
    case 1:
        split(world);
        break;
    case 2:
        isolate(world, sim_find_leader(world));
        break;
    case 3:
    case 4:
    case 5:
        mend_network(world);
        break;
    case 6:
        crash_some(world, sim_one_in(world, 3));
        break;
    case 7:
        node->slow_until = world->now + sim_below(world, 2000);
        break;
    case 8:
        node->skew_ms += sim_below(world, 3000);
        break;
    case 9:
        node = sim_find_leader(world);
        if (node != NULL) {
            node->crash_in = 1 + sim_below(world, 10);
        }
        break;
    default:
        if (node->group != NULL) {
            node->crash_in = 1 + sim_below(world, 20);
        }
        break;
    }
}

/* The end of all faults: everything that has a replica runs. */
void sim_heal(struct sim_world *world)
{
    world->is_calm = true;
    mend_network(world);
    for (uint32_t i = 1; i <= SIM_NODES; i++) {
        struct sim_node *node = &world->node[i];

        node->crash_in = 0;
        node->slow_until = 0;
        if (node->group == NULL && node->disk.replica != 0) {
            sim_node_boot(node);
        }
    }
}
