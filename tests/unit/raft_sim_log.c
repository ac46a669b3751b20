/* Real Raft logs that get every write that reaches a simulated disk. */
#include <stdlib.h>
#include <string.h>

#include "tests/unit/raft_sim_world.h"

static void must(int rc, struct sim_node *node, const char *what)
{
    if (rc != 0) {
        sim_violate(node->world, "node %u: the log cannot %s: %d", node->number,
                    what, rc);
    }
}

void sim_log_open(struct sim_world *world)
{
    const char *path = world->options.log_path;

    if (path != NULL &&
        (raft_log_create(path, SIM_CLUSTER, NULL) != 0 ||
         raft_log_open(path, SIM_CLUSTER, &world->log, NULL) != 0)) {
        abort();
    }
}

void sim_log_close(struct sim_world *world)
{
    raft_log_close(world->log);
    world->log = NULL;
}

void sim_log_add(struct sim_node *node, const struct raft_saved *saved)
{
    struct raft_log *log = node->world->log;

    if (log != NULL) {
        must(raft_log_begin(log), node, "begin");
        must(raft_log_add(log, node->number, saved), node, "add");
        must(raft_log_commit(log), node, "commit");
    }
}

void sim_log_remove(struct sim_node *node)
{
    struct raft_log *log = node->world->log;

    if (log != NULL) {
        must(raft_log_begin(log), node, "begin");
        must(raft_log_remove(log, node->number), node, "remove");
        must(raft_log_commit(log), node, "commit");
    }
}

void sim_log_store(struct sim_node *node, const struct sim_write *pending)
{
    struct raft_log *log = node->world->log;
    struct raft_write write = pending->write;

    if (log == NULL) {
        return;
    }
    write.entries = pending->entries;
    if (write.snapshot != NULL) {
        write.snapshot = &pending->snapshot;
    }
    must(raft_log_begin(log), node, "begin");
    must(raft_log_write(log, node->number, &write), node, "write");
    must(raft_log_commit(log), node, "commit");
}

static bool is_same_entry(const struct log_entry *a, const struct log_entry *b)
{
    return a->index == b->index && a->term == b->term && a->kind == b->kind &&
           a->data->size == b->data->size &&
           memcmp(a->data->data, b->data->data, a->data->size) == 0;
}

static bool is_same(const struct sim_disk *disk, const struct raft_saved *saved)
{
    if (disk->replica != saved->replica || disk->term != saved->term ||
        disk->vote != saved->vote ||
        disk->snapshot.index != saved->snapshot.index ||
        disk->snapshot.term != saved->snapshot.term ||
        disk->snapshot.members_index != saved->snapshot.members_index ||
        disk->snapshot.members.n != saved->snapshot.members.n ||
        disk->log.n != saved->n_entries) {
        return false;
    }
    for (size_t i = 0; i < saved->n_entries; i++) {
        const struct log_entry *entry =
            entry_list_get(&disk->log, saved->entries[i].index);

        if (entry == NULL || !is_same_entry(entry, &saved->entries[i])) {
            return false;
        }
    }
    return true;
}

void sim_log_compare(struct sim_node *node)
{
    struct raft_log *log = node->world->log;
    struct raft_saved saved = { 0 };
    struct errmsg msg = { "" };
    int rc;

    if (log == NULL) {
        return;
    }
    rc = raft_log_load(log, node->number, &saved, &msg);
    if (rc != 0) {
        sim_violate(node->world, "node %u cannot load its log: %s",
                    node->number, msg.text);
    } else if (!is_same(&node->disk, &saved)) {
        sim_violate(node->world, "node %u finds another log", node->number);
    }
    raft_saved_close(&saved);
}
