/* A node: its disk, its state machine, and the driver around the group. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/raft_sim_world.h"

static void *checked(void *memory)
{
    if (memory == NULL) {
        abort();
    }
    return memory;
}

uint64_t sim_node_now(const struct sim_node *node)
{
    return node->world->now + node->skew_ms;
}

/* Something is about to be done outside the group: does the node die before? */
static bool dies_here(struct sim_node *node)
{
    if (node->is_dying) {
        return true;
    }
    if (node->crash_in > 0 && --node->crash_in == 0) {
        node->is_dying = true;
    }
    return node->is_dying;
}

static void push_own(struct sim_node *node, enum sim_kind kind, uint64_t delay)
{
    struct sim_event event = { .kind = kind,
                               .node = node->number,
                               .life = node->life };

    sim_push(node->world, delay, &event);
}

/* ---------------------------------------------------------------------- disk
 */

static struct log_entry *copy_entries(const struct log_entry *entries, size_t n)
{
    struct log_entry *copy = checked(calloc(n > 0 ? n : 1, sizeof *copy));

    for (size_t i = 0; i < n; i++) {
        copy[i] = entries[i];
        copy[i].data = buf_ref(entries[i].data);
    }
    return copy;
}

static void free_entries(struct log_entry *entries, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        buf_unref(entries[i].data);
    }
    free(entries);
}

/* The write reaches the platter. */
static void store(struct sim_node *node, const struct sim_write *pending)
{
    const struct raft_write *write = &pending->write;
    struct sim_disk *disk = &node->disk;

    sim_log_store(node, pending);
    if (write->has_vote) {
        if (write->term < disk->term ||
            (write->term == disk->term && disk->vote != 0 &&
             disk->vote != write->vote)) {
            sim_violate(node->world, "node %u takes back a term or vote",
                        node->number);
        }
        disk->term = write->term;
        disk->vote = write->vote;
    }
    if (write->from != 0) {
        entry_list_truncate(&disk->log, write->from);
    }
    for (size_t i = 0; i < write->n_entries; i++) {
        struct log_entry entry = pending->entries[i];

        if (entry.index != entry_list_last(&disk->log) + 1) {
            sim_violate(node->world, "node %u writes a log with a gap",
                        node->number);
            return;
        }
        entry.data = buf_ref(entry.data);
        if (entry_list_append(&disk->log, &entry) != 0) {
            abort();
        }
    }
    if (write->snapshot != NULL) {
        disk->snapshot = pending->snapshot;
        if (write->drop_to == RAFT_WHOLE_LOG) {
            entry_list_restart(&disk->log, disk->snapshot.index + 1);
        } else {
            entry_list_drop_to(&disk->log, write->drop_to);
        }
    }
}

/* The first `n` of the pending writes, or those up to `serial`, get stored. */
static void store_first(struct sim_node *node, size_t n)
{
    struct sim_disk *disk = &node->disk;

    for (size_t i = 0; i < n; i++) {
        store(node, &disk->pending[i]);
        free_entries(disk->pending[i].entries,
                     disk->pending[i].write.n_entries);
    }
    if (n > 0) {
        disk->n_pending -= n;
        memmove(disk->pending, disk->pending + n,
                disk->n_pending * sizeof *disk->pending);
    }
}

static void lose_pending(struct sim_node *node)
{
    struct sim_disk *disk = &node->disk;

    for (size_t i = 0; i < disk->n_pending; i++) {
        free_entries(disk->pending[i].entries,
                     disk->pending[i].write.n_entries);
    }
    disk->n_pending = 0;
}

static uint64_t sync_delay(struct sim_node *node)
{
    struct sim_world *world = node->world;

    if (world->now < node->slow_until) {
        return 50 + sim_below(world, 500);
    }
    if ((world->worlds & SIM_HARSH) != 0 && !world->is_calm) {
        return 5 + sim_below(world, 60);
    }
    return sim_one_in(world, 50) ? sim_below(world, 300) : sim_below(world, 4);
}

static void begin_sync(struct sim_node *node)
{
    struct sim_event event = { .kind = EV_SYNC,
                               .node = node->number,
                               .life = node->life };

    event.a = node->disk.pending[node->disk.n_pending - 1].write.serial;
    node->has_sync = true;
    sim_push(node->world, sync_delay(node), &event);
}

/* A lying disk calls everything durable at once, and stores it much later. */
static void lie(struct sim_node *node, uint64_t serial)
{
    struct sim_event event = { .kind = EV_SYNC,
                               .node = node->number,
                               .life = node->life,
                               .a = serial,
                               .b = 1 };

    sim_push(node->world, 0, &event);
    event.b = 2;
    sim_push(node->world, 500 + sim_below(node->world, 3000), &event);
}

static void on_persist(void *context, const struct raft_write *write)
{
    struct sim_node *node = context;
    struct sim_disk *disk = &node->disk;
    struct sim_write *pending;

    if (dies_here(node)) {
        return;
    }
    disk->pending = checked(reallocarray(disk->pending, disk->n_pending + 1,
                                         sizeof *disk->pending));
    pending = &disk->pending[disk->n_pending++];
    *pending = (struct sim_write){ .write = *write };
    pending->entries = copy_entries(write->entries, write->n_entries);
    if (write->snapshot != NULL) {
        pending->snapshot = *write->snapshot;
    }
    if ((node->world->options.plants & SIM_PLANT_LYING_SYNC) != 0) {
        lie(node, write->serial);
    } else if (!node->has_sync) {
        begin_sync(node);
    }
}

void sim_node_sync(struct sim_node *node, const struct sim_event *event)
{
    struct sim_disk *disk = &node->disk;
    size_t n = 0;

    if (event->b != 1) {
        while (n < disk->n_pending &&
               disk->pending[n].write.serial <= event->a) {
            n++;
        }
        store_first(node, n);
    }
    if (event->b == 0) {
        node->has_sync = false;
        if (disk->n_pending > 0) {
            begin_sync(node);
        }
    }
    if (event->b != 2) {
        sim_node_after(node, raft_group_persisted(
                                 node->group, sim_node_now(node), event->a));
    }
}

/* ------------------------------------------------------------- state machine
 */

static void on_apply(void *context, const struct log_entry *entries, size_t n)
{
    struct sim_node *node = context;
    struct log_entry *more;

    if (dies_here(node)) {
        return;
    }
    node->queue = checked(
        reallocarray(node->queue, node->n_queue + n, sizeof *node->queue));
    more = copy_entries(entries, n);
    memcpy(node->queue + node->n_queue, more, n * sizeof *more);
    free(more);
    node->n_queue += n;
    if (!node->has_apply) {
        node->has_apply = true;
        push_own(node, EV_APPLY, sim_below(node->world, 3));
    }
}

void sim_node_apply(struct sim_node *node)
{
    size_t n = node->n_queue;

    node->has_apply = false;
    for (size_t i = 0; i < n && !sim_is_over(node->world); i++) {
        const struct log_entry *entry = &node->queue[i];

        if (entry->index <= node->db.applied) {
            continue;
        }
        if (entry->index != node->db.applied + 1) {
            sim_violate(node->world,
                        "node %u applies entry %" PRIu64 " after %" PRIu64,
                        node->number, entry->index, node->db.applied);
        }
        sim_check_applied(node, entry);
        node->db.applied = entry->index;
        sim_acknowledge(node, entry);
    }
    free_entries(node->queue, n);
    node->queue = NULL;
    node->n_queue = 0;
}

static void on_install(void *context,
                       const struct raft_pointer *snapshot,
                       uint64_t from,
                       uint32_t from_node)
{
    struct sim_node *node = context;

    (void)from;
    (void)from_node;
    if (dies_here(node)) {
        return;
    }
    node->install = snapshot->index;
    push_own(node, EV_INSTALL, 2 + sim_below(node->world, 300));
}

/* A node to copy the state machine from; NULL if none can be reached. */
static struct sim_node *find_source(struct sim_node *node)
{
    struct sim_world *world = node->world;
    uint32_t first = (uint32_t)sim_below(world, SIM_NODES);

    for (uint32_t i = 0; i < SIM_NODES; i++) {
        struct sim_node *other = &world->node[1 + (first + i) % SIM_NODES];

        if (other->group != NULL && other != node &&
            !world->cut[other->number][node->number] &&
            other->db.applied >= node->install) {
            return other;
        }
    }
    return NULL;
}

void sim_node_install(struct sim_node *node)
{
    struct sim_node *source = find_source(node);

    if (node->install == 0) {
        return;
    }
    if (node->db.applied < node->install) {
        if (source == NULL) {
            push_own(node, EV_INSTALL, 100);
            return;
        }
        node->db.applied = source->db.applied;
    }
    node->db.synced = node->db.applied;
    node->install = 0;
    node->world->result->n_installs++;
    if (!node->world->is_calm && sim_one_in(node->world, 10)) {
        sim_node_crash(node); /* renamed, not yet recorded */
        return;
    }
    sim_node_after(node, raft_group_installed(node->group, sim_node_now(node),
                                              node->db.applied));
}

void sim_node_db_sync(struct sim_node *node)
{
    struct sim_world *world = node->world;
    int rc;

    push_own(node, EV_DB_SYNC, 20 + sim_below(world, 400));
    node->db.synced = node->db.applied;
    if (node->db.synced == 0 || world->now < world->snapshots_from ||
        !sim_one_in(world, 3)) {
        return;
    }
    rc = raft_group_snapshot(node->group, sim_node_now(node), node->db.synced);
    if (rc == 0) {
        world->result->n_snapshots++;
    }
    sim_node_after(node, rc == -EINVAL || rc == -EBUSY ? 0 : rc);
}

/* --------------------------------------------------------------------- group
 */

static void on_send(void *context, uint32_t to, Gabion__RaftMessage *message)
{
    struct sim_node *node = context;
    struct sim_event event = { .kind = EV_MESSAGE, .node = to };

    if (!dies_here(node)) {
        if (raft_frame_pack(SIM_CLUSTER, &message, 1, &event.data) != 0) {
            abort();
        }
        sim_send(node->world, node->number, to, &event);
        buf_unref(event.data);
    }
    gabion__raft_message__free_unpacked(message, NULL);
}

static void on_role(void *context, enum group_role role, uint64_t term)
{
    struct sim_node *node = context;

    if (!dies_here(node) && role == GROUP_LEADER) {
        sim_check_leader(node, term);
    }
}

static const struct raft_group_ops group_ops = {
    .persist = on_persist,
    .send = on_send,
    .apply = on_apply,
    .install = on_install,
    .role = on_role,
};

static void schedule_tick(struct sim_node *node)
{
    uint64_t at = raft_group_timeout_ms(node->group);
    uint64_t now = sim_node_now(node);

    at = node->world->now + (at > now ? at - now : 0);
    if (at != node->tick_at) {
        node->tick_at = at;
        push_own(node, EV_TICK, at - node->world->now);
    }
}

void sim_node_after(struct sim_node *node, int rc)
{
    if (node->is_dying) {
        sim_node_crash(node);
        return;
    }
    if (rc != 0) {
        sim_violate(node->world, "node %u: rc %d, %s", node->number, rc,
                    raft_group_error(node->group));
        return;
    }
    schedule_tick(node);
}

void sim_node_tick(struct sim_node *node)
{
    node->tick_at = 0;
    sim_node_after(node, raft_group_tick(node->group, sim_node_now(node)));
}

void sim_node_message(struct sim_node *node, const struct sim_event *event)
{
    struct errmsg msg = { "" };
    Gabion__RaftFrame *frame;
    int rc = raft_frame_unpack(event->data->data, event->data->size,
                               SIM_CLUSTER, &frame, &msg);

    if (rc != 0) {
        sim_violate(node->world, "node %u gets a frame that is not valid: %s",
                    node->number, msg.text);
        return;
    }
    rc = raft_group_receive(node->group, sim_node_now(node), frame->message[0]);
    gabion__raft_frame__free_unpacked(frame, NULL);
    sim_node_after(node, rc);
}

/* ---------------------------------------------------------------- life, death
 */

void sim_node_give_replica(struct sim_node *node, struct raft_saved *saved)
{
    struct sim_disk *disk = &node->disk;

    sim_node_wipe(node);
    disk->replica = saved->replica;
    disk->term = saved->term;
    entry_list_init(&disk->log, 1);
    for (size_t i = 0; i < saved->n_entries; i++) {
        struct log_entry entry = saved->entries[i];

        entry.data = buf_ref(entry.data);
        if (entry_list_append(&disk->log, &entry) != 0) {
            abort();
        }
    }
    sim_log_add(node, saved);
    node->joined_ms = node->world->now;
    raft_saved_close(saved);
}

void sim_node_boot(struct sim_node *node)
{
    struct sim_world *world = node->world;
    struct sim_disk *disk = &node->disk;
    struct raft_saved saved = {
        .replica = disk->replica,
        .term = disk->term,
        .vote = disk->vote,
        .snapshot = disk->snapshot,
        .n_entries = disk->log.n,
    };
    struct raft_group_config config = {
        .group = SIM_GROUP,
        .node = node->number,
        .seed = (unsigned)sim_below(world, 1u << 30) + 1,
        .trailing = sim_below(world, 30),
        .trailing_bytes = sim_one_in(world, 2) ? 200 : 0,
        .message_bytes = sim_one_in(world, 2) ? 60 : 0,
        .plants = world->options.group_plants,
        .ops = &group_ops,
        .context = node,
    };
    struct errmsg msg = { "" };
    int rc;

    sim_log_compare(node);
    saved.entries =
        copy_entries(entry_list_get(&disk->log, disk->log.first), disk->log.n);
    node->life++;
    node->tick_at = 0;
    node->crash_in = 0;
    if (!world->is_calm &&
        sim_one_in(world, (world->worlds & SIM_HARSH) != 0 ? 2 : 4)) {
        node->crash_in =
            1 + sim_below(world, (world->worlds & SIM_HARSH) != 0 ? 60 : 400);
    }
    if (raft_saved_check(&saved, &msg) != 0) {
        sim_violate(world, "node %u finds its disk wrong: %s", node->number,
                    msg.text);
    }
    rc = raft_group_new(&config, &saved, node->db.applied, sim_node_now(node),
                        &node->group);
    raft_saved_close(&saved);
    if (rc != 0) {
        sim_violate(world, "node %u cannot start: %d", node->number, rc);
        return;
    }
    push_own(node, EV_DB_SYNC, sim_below(world, 400));
    sim_node_after(node, 0);
}

/* What was in memory is gone; what was not synced may be. */
static void stop(struct sim_node *node)
{
    raft_group_free(node->group);
    node->group = NULL;
    free_entries(node->queue, node->n_queue);
    node->queue = NULL;
    node->n_queue = 0;
    node->has_apply = false;
    node->has_sync = false;
    node->is_dying = false;
    node->install = 0;
    node->life++;
}

void sim_node_crash(struct sim_node *node)
{
    struct sim_world *world = node->world;
    struct sim_event event = { .kind = EV_RESTART, .node = node->number };

    world->result->n_crashes++;
    stop(node);
    store_first(node, (size_t)sim_below(world, node->disk.n_pending + 1));
    lose_pending(node);
    node->db.applied = node->db.synced +
                       sim_below(world, node->db.applied - node->db.synced + 1);
    sim_push(world,
             sim_below(world, (world->worlds & SIM_HARSH) != 0 ? 300 : 3000),
             &event);
}

void sim_node_wipe(struct sim_node *node)
{
    if (node->group != NULL) {
        stop(node);
    }
    lose_pending(node);
    sim_log_remove(node);
    free(node->disk.pending);
    entry_list_close(&node->disk.log);
    node->disk = (struct sim_disk){ 0 };
    node->db = (struct sim_db){ 0 };
}

void sim_node_free(struct sim_node *node)
{
    sim_node_wipe(node);
}
