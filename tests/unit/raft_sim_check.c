/* The checker. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/checksum.h"
#include "tests/unit/raft_sim_world.h"

static const struct sim_entry none;

static struct sim_entry *history(struct sim_world *world, uint64_t index)
{
    while (index >= world->history_capacity) {
        size_t capacity = 2 * world->history_capacity + 256;

        world->history =
            reallocarray(world->history, capacity, sizeof *world->history);
        if (world->history == NULL) {
            abort();
        }
        for (size_t i = world->history_capacity; i < capacity; i++) {
            world->history[i] = none;
        }
        world->history_capacity = capacity;
    }
    return &world->history[index];
}

static uint64_t value_of(const struct log_entry *entry)
{
    uint64_t value = 0;

    if (entry->kind == ENTRY_OPS && entry->data->size >= sizeof value) {
        memcpy(&value, entry->data->data, sizeof value);
        return value;
    }
    return checksum_crc32c(entry->data->data, entry->data->size);
}

void sim_check_applied(struct sim_node *node, const struct log_entry *entry)
{
    struct sim_world *world = node->world;
    struct sim_entry *known = history(world, entry->index);
    uint64_t value = value_of(entry);

    if (!known->is_known) {
        *known = (struct sim_entry){ true, entry->term, value, entry->kind };
        if (entry->kind == ENTRY_CHANGE) {
            world->result->n_changes++;
            if (raft_members_decode(entry->data->data, entry->data->size,
                                    &world->members) != 0) {
                sim_violate(world, "node %u applies bad members", node->number);
            }
        }
        if (entry->index > world->highest) {
            world->highest = entry->index;
        }
        return;
    }
    if (known->term != entry->term || known->value != value ||
        known->kind != entry->kind) {
        sim_violate(
            world,
            "node %u applies at %" PRIu64 " value %" PRIu64 " of term %" PRIu64
            ", another has applied %" PRIu64 " of term %" PRIu64 "%s",
            node->number, entry->index, value, entry->term, known->value,
            known->term, entry->index <= world->acked ? " (acknowledged)" : "");
    }
}

void sim_check_leader(struct sim_node *node, uint64_t term)
{
    struct sim_world *world = node->world;

    while (term >= world->leaders_capacity) {
        size_t capacity = 2 * world->leaders_capacity + 64;

        world->leaders =
            reallocarray(world->leaders, capacity, sizeof *world->leaders);
        if (world->leaders == NULL) {
            abort();
        }
        for (size_t i = world->leaders_capacity; i < capacity; i++) {
            world->leaders[i] = (struct sim_leader){ 0 };
        }
        world->leaders_capacity = capacity;
    }
    /* A lone voter leads at once, before its term is durable; if it dies then,
     * nobody has heard of that term, and it may come again. */
    if (world->leaders[term].replica != 0 &&
        (world->leaders[term].replica != node->disk.replica ||
         world->leaders[term].is_durable)) {
        sim_violate(world,
                    "term %" PRIu64 " has leaders %" PRIu64 " and %" PRIu64,
                    term, world->leaders[term].replica, node->disk.replica);
    }
    world->leaders[term] =
        (struct sim_leader){ node->disk.replica, node->disk.term >= term };
    world->result->n_leaders++;
}

static void print_node(const struct sim_node *node)
{
    static const char *const roles[] = { "follower", "candidate", "leader" };
    struct raft_group_status status;

    printf("node %u replica %" PRIu64 " applied %" PRIu64 ": ", node->number,
           node->disk.replica, node->db.applied);
    if (node->group == NULL) {
        printf("down\n");
        return;
    }
    raft_group_get_status(node->group, &status);
    printf("%s term %" PRIu64 " leader %" PRIu64 " log %" PRIu64 "..%" PRIu64
           " commit %" PRIu64 " snapshot %" PRIu64 "%s, members",
           roles[status.role], status.term, status.leader, status.first,
           status.last, status.commit, status.snapshot,
           status.is_installing ? " (installing)" : "");
    for (size_t i = 0; i < status.members.n; i++) {
        const struct raft_member *member = &status.members.member[i];

        printf(" %" PRIu64 "%c", member->id, "sv-"[member->role]);
    }
    printf("\n");
}

void sim_print(const struct sim_world *world)
{
    printf("at %" PRIu64 " ms: applied %" PRIu64 ", acknowledged %" PRIu64 "\n",
           world->now, world->highest, world->acked);
    for (uint32_t i = 1; i <= SIM_NODES; i++) {
        if (world->node[i].disk.replica != 0) {
            print_node(&world->node[i]);
        }
    }
    (void)fflush(stdout);
}

/* All is mended and a minute has passed: everything must work. */
void sim_check_end(struct sim_world *world)
{
    struct sim_node *leader = sim_find_leader(world);
    struct raft_group_status status;

    if (leader == NULL) {
        sim_violate(world, "no leader after all faults have ended");
        return;
    }
    raft_group_get_status(leader->group, &status);
    if (world->acked + 50 < world->highest || world->acked == 0 ||
        status.commit + 50 < status.last) {
        sim_violate(world,
                    "nothing is committed any more: acked %" PRIu64
                    ", applied %" PRIu64 ", last %" PRIu64,
                    world->acked, world->highest, status.last);
    }
    for (size_t i = 0; i < status.members.n; i++) {
        const struct raft_member *member = &status.members.member[i];
        struct sim_node *node = &world->node[member->node];

        if (member->role == MEMBER_SPARE || node->disk.replica != member->id) {
            continue;
        }
        if (node->group == NULL || node->db.applied + 50 < world->highest) {
            sim_violate(world,
                        "node %u has applied %" PRIu64 " of %" PRIu64
                        " after all faults have ended",
                        node->number, node->db.applied, world->highest);
        }
    }
}
