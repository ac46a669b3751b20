/* Life of a group, its log and its snapshots. Steps are in raft_step.c,
 * messages in raft_receive.c, members and reads in raft_change.c. */
#include "storaged/raft/raft_group.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "storaged/raft/raft_group_internal.h"

#define ELECTION_MS   500u
#define HEARTBEAT_MS  50u
#define INSTALL_MS    1000u
#define MESSAGE_BYTES (1u << 20)

int group_enter(struct raft_group *group, uint64_t now_ms)
{
    assert(!group->is_busy);
    if (group->failed != 0) {
        return group->failed;
    }
    group->is_busy = true;
    if (now_ms > group->now_ms) {
        group->now_ms = now_ms;
    }
    return 0;
}

int group_leave(struct raft_group *group, int rc)
{
    group->is_busy = false;
    return group->failed != 0 ? group->failed : rc;
}

/* ------------------------------------------------------------------ starting
 */

static int copy_log(struct raft_group *group, const struct raft_saved *saved)
{
    entry_list_init(&group->log, saved->n_entries > 0
                                     ? saved->entries[0].index
                                     : saved->snapshot.index + 1);
    for (size_t i = 0; i < saved->n_entries; i++) {
        struct log_entry entry = saved->entries[i];

        entry.serial = 0;
        entry.data = buf_ref(entry.data);
        if (entry_list_append(&group->log, &entry) != 0) {
            buf_unref(entry.data);
            return -ENOMEM;
        }
    }
    return 0;
}

/* The log as libraft takes it at the start: it wants one batch that it may
 * free, and looks only at the data of changes. */
static int start_entries(const struct raft_group *group,
                         struct raft_entry **ret_entries)
{
    size_t n = group->log.n;
    const struct log_entry *in = entry_list_get(&group->log, group->log.first);
    struct raft_entry *out;
    void *batch;

    if (n == 0) {
        *ret_entries = NULL;
        return 0;
    }
    out = raft_calloc(n, sizeof *out);
    batch = raft_malloc(8);
    if (out == NULL || batch == NULL) {
        raft_free(out);
        raft_free(batch);
        return -ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        out[i].term = in[i].term;
        out[i].type = (enum raft_entry_type)in[i].kind;
        out[i].buf.base = in[i].data->data;
        out[i].buf.len = in[i].data->size;
        out[i].batch = batch;
    }
    *ret_entries = out;
    return 0;
}

/* G17: have the next term written, with a vote for itself. */
static void write_next_term(struct raft_group *group, uint64_t term)
{
    struct raft_write write = { .serial = ++group->serial,
                                .has_vote = true,
                                .term = term + 1,
                                .vote = group->replica };

    group->vote_serial = write.serial;
    group->config.ops->persist(group->config.context, &write);
}

/* Whether the replica is the only voter by what was saved. */
static bool starts_alone(const struct raft_group *group,
                         const struct raft_saved *saved)
{
    const struct log_entry *change =
        entry_list_change(&group->log, entry_list_last(&group->log));
    struct raft_members members = saved->snapshot.members;

    if (change != NULL &&
        raft_members_decode(change->data->data, change->data->size, &members) !=
            0) {
        return false;
    }
    return group_is_lone(group, &members) &&
           (group->config.plants & RAFT_PLANT_SAME_TERM) == 0;
}

/* The RAFT_START event. */
static int start(struct raft_group *group, const struct raft_saved *saved)
{
    struct raft_snapshot_metadata metadata = {
        .index = saved->snapshot.index,
        .term = saved->snapshot.term,
        .configuration_index = saved->snapshot.members_index,
    };
    struct raft_event event = { .type = RAFT_START };
    struct raft_entry *entries;
    int rc = start_entries(group, &entries);

    if (rc != 0) {
        return rc;
    }
    if (metadata.index > 0) {
        rc = raft_message_members(&saved->snapshot.members,
                                  &metadata.configuration);
        event.start.metadata = &metadata;
    }
    event.start.term = saved->term;
    event.start.voted_for = saved->vote;
    if (starts_alone(group, saved)) {
        write_next_term(group, saved->term);
        event.start.term = saved->term + 1;
        event.start.voted_for = group->replica;
    }
    event.start.start_index = group->log.first;
    event.start.entries = entries;
    event.start.n_entries = (unsigned)group->log.n;
    if (rc == 0) {
        rc = group_step(group, &event, false);
        if (rc != 0) {
            return rc; /* libraft has freed the entries */
        }
    }
    if (entries != NULL) {
        raft_free(entries[0].batch);
        raft_free(entries);
    }
    return rc;
}

static int init_raft(struct raft_group *group)
{
    const struct raft_group_config *config = &group->config;
    char address[RAFT_ADDRESS_MAX];

    /* raft_init() leaves some of it as it was. */
    memset(&group->raft, 0, sizeof group->raft);
    raft_members_address(group->replica, config->node, address);
    if (raft_init(&group->raft, NULL, NULL, group->replica, address) != 0) {
        return -ENOMEM;
    }
    raft_seed(&group->raft, config->seed);
    raft_set_election_timeout(&group->raft, config->election_ms);
    raft_set_heartbeat_timeout(&group->raft, config->heartbeat_ms);
    raft_set_install_snapshot_timeout(&group->raft, config->install_ms);
    raft_set_pre_vote(&group->raft, true);
    return 0;
}

static void set_defaults(struct raft_group_config *config)
{
    if (config->election_ms == 0) {
        config->election_ms = ELECTION_MS;
    }
    if (config->heartbeat_ms == 0) {
        config->heartbeat_ms = HEARTBEAT_MS;
    }
    if (config->install_ms == 0) {
        config->install_ms = INSTALL_MS;
    }
    if (config->message_bytes == 0) {
        config->message_bytes = MESSAGE_BYTES;
    }
}

int raft_group_new(const struct raft_group_config *config,
                   const struct raft_saved *saved,
                   uint64_t applied,
                   uint64_t now_ms,
                   struct raft_group **ret_group)
{
    struct raft_group *group;
    int rc;

    if (raft_saved_check(saved, NULL) != 0 || applied < saved->snapshot.index) {
        return -EINVAL;
    }
    group = calloc(1, sizeof *group);
    if (group == NULL) {
        return -ENOMEM;
    }
    group->config = *config;
    set_defaults(&group->config);
    group->replica = saved->replica;
    group->snapshot = saved->snapshot;
    group->settled = saved->snapshot.index;
    group->delivered = applied;
    group->now_ms = now_ms;
    rc = init_raft(group);
    if (rc != 0) {
        free(group);
        return rc;
    }
    rc = copy_log(group, saved);
    if (rc == 0) {
        group->is_busy = true;
        rc = start(group, saved);
        group->is_busy = false;
    }
    if (rc != 0) {
        raft_group_free(group);
        return rc;
    }
    *ret_group = group;
    return 0;
}

void raft_group_free(struct raft_group *group)
{
    if (group == NULL) {
        return;
    }
    assert(!group->is_busy);
    raft_close(&group->raft, NULL);
    entry_list_close(&group->log);
    for (size_t i = 0; i < group->n_held; i++) {
        gabion__raft_message__free_unpacked(group->held[i].message, NULL);
    }
    free(group->held);
    free(group);
}

/* -------------------------------------------------------------------- events
 */

int raft_group_submit(struct raft_group *group,
                      uint64_t now_ms,
                      struct buf *data,
                      uint64_t *ret_index,
                      uint64_t *ret_term)
{
    uint64_t index;
    int rc;

    if (data->size > RAFT_DATA_MAX) {
        return -EINVAL;
    }
    rc = group_enter(group, now_ms);
    if (rc != 0) {
        return rc;
    }
    index = entry_list_last(&group->log) + 1;
    rc = group_append(group, ENTRY_OPS, data);
    if (rc == 0) {
        *ret_index = index;
        *ret_term = entry_list_term(&group->log, index);
        rc = group_follow_up(group);
    }
    return group_leave(group, rc);
}

uint64_t raft_group_timeout_ms(const struct raft_group *group)
{
    uint64_t timeout = raft_timeout(&group->raft);

    if (timeout <= group->ticked_ms) { /* G11 */
        timeout = group->ticked_ms + group->config.heartbeat_ms;
    }
    return timeout;
}

/* G13: a follower that has not heard of its leader for so long that it would
 * stand for election, but must not, has none to which it owes its vote. */
static void forget_leader(struct raft_group *group)
{
    struct raft *raft = &group->raft;

    if ((group->config.plants & RAFT_PLANT_STRICT_VOTER) == 0 &&
        raft->follower_state.current_leader.address != NULL) {
        raft_free(raft->follower_state.current_leader.address);
        raft->follower_state.current_leader.address = NULL;
        raft->follower_state.current_leader.id = 0;
    }
}

/* G17: a lone voter is about to stand for election. */
static void enter_next_term(struct raft_group *group)
{
    struct raft *raft = &group->raft;
    struct raft_members members;

    group_members(group, &members);
    if (!group_is_lone(group, &members) || group->installing ||
        raft->last_stored < entry_list_last(&group->log) ||
        (group->config.plants & RAFT_PLANT_SAME_TERM) != 0) {
        return;
    }
    write_next_term(group, raft->current_term);
    raft->current_term++;
    raft->voted_for = group->replica;
    raft->follower_state.match = 0;
}

int raft_group_tick(struct raft_group *group, uint64_t now_ms)
{
    struct raft_event event = { .type = RAFT_TIMEOUT };
    bool was_follower = raft_state(&group->raft) == RAFT_FOLLOWER;
    int rc = group_enter(group, now_ms);

    if (rc != 0) {
        return rc;
    }
    if (group->now_ms >= raft_group_timeout_ms(group)) {
        group->ticked_ms = group->now_ms;
        if (was_follower) {
            enter_next_term(group);
        }
        rc = group_step(group, &event, false);
        if (rc == 0 && was_follower &&
            raft_state(&group->raft) == RAFT_FOLLOWER) {
            forget_leader(group);
        }
    }
    return group_leave(group, rc);
}

/* G6: highest index whose entry, and all before it, are on the disk as they
 * are in the log. Serials do not fall with the index. */
static uint64_t stored_here(const struct raft_group *group)
{
    uint64_t index = entry_list_last(&group->log);

    while (index >= group->log.first &&
           entry_list_get(&group->log, index)->serial > group->persisted) {
        index--;
    }
    return index;
}

/* The record of an installed snapshot is on the disk. */
static int finish_install(struct raft_group *group)
{
    struct raft_pointer *install = &group->install;
    struct raft_event event = { .type = RAFT_PERSISTED_SNAPSHOT };
    struct raft_snapshot_metadata *metadata =
        &event.persisted_snapshot.metadata;
    int rc = raft_message_members(&install->members, &metadata->configuration);

    if (rc != 0) {
        return group_fail(group, rc, "no memory for a snapshot");
    }
    metadata->index = install->index;
    metadata->term = install->term;
    metadata->configuration_index = install->members_index;
    event.persisted_snapshot.last = true;
    group->snapshot = *install;
    group->settled = install->index;
    if (group->delivered < group->install_applied) {
        group->delivered = group->install_applied;
    }
    group->installing = false;
    group->install_serial = 0;
    return group_step(group, &event, false);
}

static int report_entries(struct raft_group *group)
{
    struct raft_event event = { .type = RAFT_PERSISTED_ENTRIES };
    uint64_t index = stored_here(group);

    if (group->installing || index < group->log.first ||
        index <= group->raft.last_stored) {
        return 0;
    }
    event.persisted_entries.index = index;
    return group_step(group, &event, false);
}

int raft_group_persisted(struct raft_group *group,
                         uint64_t now_ms,
                         uint64_t serial)
{
    int rc = group_enter(group, now_ms);

    if (rc != 0) {
        return rc;
    }
    assert(serial <= group->serial);
    if (serial > group->persisted) {
        group->persisted = serial;
        group_release_held(group);
        if (group->install_serial != 0 && group->install_serial <= serial) {
            rc = finish_install(group);
        }
        if (rc == 0) {
            rc = report_entries(group);
        }
    }
    return group_leave(group, rc);
}

/* ----------------------------------------------------------------- snapshots
 */

/* How many entries up to `index` to keep in the log. */
static uint64_t trailing_of(const struct raft_group *group, uint64_t index)
{
    const struct raft_group_config *config = &group->config;
    uint64_t bytes = 0;
    uint64_t n = 0;

    while (n < config->trailing && index - n >= group->log.first) {
        bytes += entry_list_get(&group->log, index - n)->data->size;
        if (config->trailing_bytes > 0 && bytes > config->trailing_bytes) {
            break;
        }
        n++;
    }
    return n;
}

/* The pointer for a snapshot at `index`: with the members as of then, which
 * may not be the newest. */
static int make_pointer(const struct raft_group *group,
                        uint64_t index,
                        struct raft_pointer *ret_pointer)
{
    const struct log_entry *change = entry_list_change(&group->log, index);

    *ret_pointer = group->snapshot;
    ret_pointer->index = index;
    ret_pointer->term = entry_list_term(&group->log, index);
    if (change == NULL) {
        return group->snapshot.index > 0 ? 0 : -EBADMSG;
    }
    ret_pointer->members_index = change->index;
    return raft_members_decode(change->data->data, change->data->size,
                               &ret_pointer->members);
}

static int take_snapshot(struct raft_group *group, uint64_t index)
{
    uint64_t trailing = trailing_of(group, index);
    struct raft_event event = { .type = RAFT_SNAPSHOT };
    struct raft_snapshot_metadata *metadata = &event.snapshot.metadata;
    struct raft_write write = { .serial = group->serial + 1 };
    struct raft_pointer pointer;
    int rc = make_pointer(group, index, &pointer);

    if (rc == 0) {
        rc = raft_message_members(&pointer.members, &metadata->configuration);
    }
    if (rc != 0) {
        return group_fail(group, rc, "cannot take a snapshot");
    }
    metadata->index = index;
    metadata->term = pointer.term;
    metadata->configuration_index = pointer.members_index;
    event.snapshot.trailing = (unsigned)trailing;
    group->snapshot = pointer;
    /* As libraft does it: nothing is dropped unless what is kept begins here.
     */
    if (index - trailing >= group->log.first) {
        write.drop_to = index - trailing;
        entry_list_drop_to(&group->log, write.drop_to);
    }
    write.snapshot = &group->snapshot;
    group->serial = write.serial;
    group->config.ops->persist(group->config.context, &write);
    return group_step(group, &event, false);
}

int raft_group_snapshot(struct raft_group *group,
                        uint64_t now_ms,
                        uint64_t index)
{
    int rc = group_enter(group, now_ms);

    if (rc != 0) {
        return rc;
    }
    if (group->installing) {
        rc = -EBUSY;
    } else if (index <= group->snapshot.index || index > group->delivered ||
               index > raft_commit_index(&group->raft) ||
               index > group->raft.last_stored ||
               entry_list_get(&group->log, index) == NULL) {
        rc = -EINVAL;
    } else {
        rc = take_snapshot(group, index);
    }
    return group_leave(group, rc);
}

int raft_group_installed(struct raft_group *group,
                         uint64_t now_ms,
                         uint64_t applied)
{
    struct raft_write write = { .drop_to = RAFT_WHOLE_LOG };
    int rc = group_enter(group, now_ms);

    if (rc != 0) {
        return rc;
    }
    if (!group->installing || group->install_serial != 0 ||
        applied < group->install.index) {
        return group_leave(group, -EINVAL);
    }
    group->install_applied = applied;
    write.serial = ++group->serial;
    write.snapshot = &group->install;
    group->install_serial = write.serial;
    group->config.ops->persist(group->config.context, &write);
    return group_leave(group, 0);
}

/* -------------------------------------------------------------------- status
 */

uint64_t raft_group_term(const struct raft_group *group)
{
    return raft_current_term(&group->raft);
}

bool raft_group_is_leader(const struct raft_group *group)
{
    return group->failed == 0 && group->raft.state == RAFT_LEADER;
}

const char *raft_group_error(const struct raft_group *group)
{
    return group->why.text;
}

static void get_leader(const struct raft_group *group,
                       struct raft_group_status *status)
{
    if (status->role == GROUP_LEADER) {
        status->leader = group->replica;
        status->leader_node = group->config.node;
    } else if (status->role == GROUP_FOLLOWER) {
        const char *address = group->raft.follower_state.current_leader.address;

        status->leader = group->raft.follower_state.current_leader.id;
        status->leader_node =
            address != NULL ? (uint32_t)strtoul(address, NULL, 10) : 0;
    }
}

void raft_group_get_status(const struct raft_group *group,
                           struct raft_group_status *ret_status)
{
    const struct raft_member *self;
    struct raft_group_status status = {
        .replica = group->replica,
        .role = group->raft.state == RAFT_LEADER      ? GROUP_LEADER
                : group->raft.state == RAFT_CANDIDATE ? GROUP_CANDIDATE
                                                      : GROUP_FOLLOWER,
        .term = raft_current_term(&group->raft),
        .commit = raft_commit_index(&group->raft),
        .first = group->log.first,
        .last = entry_list_last(&group->log),
        .log_bytes = group->log.bytes,
        .snapshot = group->snapshot.index,
        .is_installing = group->installing,
    };

    get_leader(group, &status);
    group_members(group, &status.members);
    self = raft_members_find(&status.members, group->replica);
    status.is_voter = self != NULL && self->role == MEMBER_VOTER;
    *ret_status = status;
}
