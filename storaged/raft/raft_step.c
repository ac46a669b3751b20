/* The only calls of raft_step(), and the duties that follow from each. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "storaged/raft/raft_group_internal.h"

int group_errno(int code)
{
    switch (code) {
    case 0:
        return 0;
    case RAFT_NOMEM:
        return -ENOMEM;
    case RAFT_NOTLEADER:
        return -EAGAIN;
    case RAFT_CANTCHANGE:
        return -EBUSY;
    case RAFT_BADID:
    case RAFT_NOTFOUND:
        return -ENOENT;
    default:
        return -EBADMSG;
    }
}

int group_fail(struct raft_group *group, int rc, const char *what)
{
    assert(rc < 0);
    if (group->failed == 0) {
        group->failed = rc;
        errmsg_set(&group->why,
                   "replica %016" PRIx64 " of group %" PRIu32
                   " has failed: %s (%s; term %llu, log %" PRIu64 "..%" PRIu64
                   ", commit %llu)",
                   group->replica, group->config.group, what, err_text(rc),
                   raft_current_term(&group->raft), group->log.first,
                   entry_list_last(&group->log),
                   raft_commit_index(&group->raft));
    }
    return rc;
}

/* ------------------------------------------------------------------- sending
 */

static int hold(struct raft_group *group,
                uint32_t node,
                Gabion__RaftMessage *message)
{
    if (group->n_held == group->held_capacity) {
        size_t capacity =
            group->held_capacity > 0 ? 2 * group->held_capacity : 8;
        struct held *more = reallocarray(group->held, capacity, sizeof *more);

        if (more == NULL) {
            return -ENOMEM;
        }
        group->held = more;
        group->held_capacity = capacity;
    }
    group->held[group->n_held++] =
        (struct held){ group->vote_serial, node, message };
    return 0;
}

void group_release_held(struct raft_group *group)
{
    size_t n = 0;

    while (n < group->n_held && group->held[n].serial <= group->persisted) {
        group->config.ops->send(group->config.context, group->held[n].node,
                                group->held[n].message);
        n++;
    }
    if (n > 0) {
        group->n_held -= n;
        memmove(group->held, group->held + n,
                group->n_held * sizeof group->held[0]);
    }
}

/* G14: let a refused candidate know that its term is behind. */
static void show_term(const struct raft_group *group,
                      struct raft_message *message)
{
    struct raft_request_vote_result *result = &message->request_vote_result;

    if (message->type == RAFT_REQUEST_VOTE_RESULT && result->pre_vote &&
        !result->vote_granted &&
        result->term < raft_current_term(&group->raft) &&
        (group->config.plants & RAFT_PLANT_HIDDEN_TERM) == 0) {
        result->term = raft_current_term(&group->raft);
    }
}

static int send_whole(struct raft_group *group,
                      const struct raft_message *message)
{
    const struct raft_sender sender = {
        .group = group->config.group,
        .replica = group->replica,
        .node = group->config.node,
        .log = &group->log,
        .snapshot = &group->snapshot,
    };
    Gabion__RaftMessage *out;
    uint32_t node;
    int rc;

    rc = raft_message_encode(&sender, message, &out, &node);
    if (rc != 0) {
        return group_fail(group, rc, "cannot encode a message");
    }
    if (group->vote_serial <= group->persisted ||
        (group->config.plants & RAFT_PLANT_EARLY_SEND) != 0) {
        assert(group->n_held == 0 || group->config.plants != 0);
        group->config.ops->send(group->config.context, node, out);
        return 0;
    }
    rc = hold(group, node, out);
    if (rc != 0) {
        gabion__raft_message__free_unpacked(out, NULL);
        return group_fail(group, rc, "cannot hold back a message");
    }
    return 0;
}

/* How many of the n entries from `index` on go into one message. */
static unsigned that_fit(const struct raft_group *group,
                         uint64_t index,
                         unsigned n)
{
    const struct log_entry *entry = entry_list_get(&group->log, index);
    uint64_t bytes = 0;
    unsigned fit = 0;

    while (fit < n && entry_list_get(&group->log, index + fit) != NULL) {
        bytes += entry[fit].data->size;
        if (fit > 0 && bytes > group->config.message_bytes) {
            break;
        }
        fit++;
    }
    return fit > 0 ? fit : n; /* what is not here is found out later */
}

/* Entries that are too much for one message go in several: each is one that
 * libraft might have sent. */
static int send_entries(struct raft_group *group,
                        const struct raft_message *message)
{
    struct raft_message part = *message;
    struct raft_append_entries *head = &part.append_entries;
    unsigned left = head->n_entries;
    int rc;

    do {
        head->n_entries = that_fit(group, head->prev_log_index + 1, left);
        rc = send_whole(group, &part);
        if (rc != 0) {
            return rc;
        }
        left -= head->n_entries;
        head->prev_log_index += head->n_entries;
        head->prev_log_term =
            entry_list_term(&group->log, head->prev_log_index);
    } while (left > 0);
    return 0;
}

static int send_one(struct raft_group *group, struct raft_message *message)
{
    if (message->type == RAFT_APPEND_ENTRIES &&
        message->append_entries.n_entries > 0) {
        return send_entries(group, message);
    }
    if (group->answers_stale &&
        message->type == RAFT_APPEND_ENTRIES_RESULT) { /* G12 */
        message->append_entries_result.last_log_index = 0;
    }
    show_term(group, message);
    return send_whole(group, message);
}

/* -------------------------------------------------------------------- duties
 */

/* Put libraft's new entries into the log. */
static int take_entries(struct raft_group *group,
                        const struct raft_update *update)
{
    uint64_t index = update->entries.index;

    if (index < group->log.first || index > entry_list_last(&group->log) + 1) {
        return group_fail(group, -EBADMSG, "entries would leave a gap");
    }
    entry_list_truncate(&group->log, index);
    for (unsigned i = 0; i < update->entries.n; i++) {
        const struct raft_entry *in = &update->entries.batch[i];
        struct log_entry entry = { .index = index + i,
                                   .term = in->term,
                                   .kind = (enum entry_kind)in->type,
                                   .serial = group->serial + 1 };

        if (group->submitting != NULL) {
            entry.data = buf_ref(group->submitting);
        } else {
            entry.data = buf_new(in->buf.len);
            if (entry.data != NULL && in->buf.len > 0) {
                memcpy(entry.data->data, in->buf.base, in->buf.len);
            }
        }
        if (entry.data == NULL || entry_list_append(&group->log, &entry) != 0) {
            buf_unref(entry.data);
            return group_fail(group, -ENOMEM, "no memory for entries");
        }
    }
    return 0;
}

/* Have term, vote and entries written. */
static int write_update(struct raft_group *group,
                        const struct raft_update *update)
{
    struct raft_write write = { .serial = group->serial + 1 };
    uint64_t last = entry_list_last(&group->log);
    bool has_entries = (update->flags & (RAFT_UPDATE_ENTRIES)) != 0;
    int rc = 0;

    if ((update->flags &
         ((RAFT_UPDATE_CURRENT_TERM) | (RAFT_UPDATE_VOTED_FOR))) != 0) {
        write.has_vote = true;
        write.term = raft_current_term(&group->raft);
        write.vote = raft_voted_for(&group->raft);
        group->vote_serial = write.serial;
    }
    if (has_entries) {
        void *batch = update->entries.batch[0].batch;

        rc = take_entries(group, update);
        raft_free(batch);
        if (rc != 0) {
            return rc;
        }
        write.from = update->entries.index <= last ? update->entries.index : 0;
        write.entries = entry_list_get(&group->log, update->entries.index);
        write.n_entries = update->entries.n;
    }
    if (write.has_vote || has_entries) {
        group->serial = write.serial;
        group->config.ops->persist(group->config.context, &write);
    }
    return 0;
}

/* Start to install. The log is empty from here on in memory; on disk it stays
 * until the snapshot has been recorded. */
static int start_install(struct raft_group *group, struct raft_update *update)
{
    struct raft_snapshot_metadata *metadata = &update->snapshot.metadata;
    struct raft_buffer encoded = { NULL, 0 };
    struct raft_pointer *install = &group->install;
    int code = raft_configuration_encode(&metadata->configuration, &encoded);
    raft_id leader = 0;
    const char *address = NULL;
    int rc;

    raft_configuration_close(&metadata->configuration);
    raft_free(update->snapshot.chunk.base);
    if (code != 0) {
        return group_fail(group, -ENOMEM, "no memory for a snapshot");
    }
    install->index = metadata->index;
    install->term = metadata->term;
    install->members_index = metadata->configuration_index;
    rc = raft_members_decode(encoded.base, encoded.len, &install->members);
    raft_free(encoded.base);
    if (rc != 0) {
        return group_fail(group, rc, "a snapshot's members are not valid");
    }
    entry_list_restart(&group->log, install->index + 1);
    group->installing = true;
    group->install_serial = 0;
    raft_leader(&group->raft, &leader, &address);
    group->config.ops->install(
        group->config.context, install, leader,
        address != NULL ? (uint32_t)strtoul(address, NULL, 10) : 0);
    return 0;
}

static void change_role(struct raft_group *group)
{
    enum group_role role = GROUP_FOLLOWER;

    switch (raft_state(&group->raft)) {
    case RAFT_LEADER:
        role = GROUP_LEADER;
        group->floor = entry_list_last(&group->log);
        /* G5 */
        group->wants_noop = entry_list_term(&group->log, group->floor) !=
                            raft_current_term(&group->raft);
        break;
    case RAFT_CANDIDATE:
        role = GROUP_CANDIDATE;
        break;
    default:
        break;
    }
    if (role != GROUP_LEADER) {
        group->wants_noop = false;
    }
    group->config.ops->role(group->config.context, role,
                            raft_current_term(&group->raft));
}

/* Highest index that is committed and here. */
static uint64_t committed_here(const struct raft_group *group)
{
    uint64_t commit = raft_commit_index(&group->raft);
    uint64_t last = entry_list_last(&group->log);

    return commit < last ? commit : last;
}

/* Give what is committed to apply. */
static int deliver(struct raft_group *group)
{
    uint64_t commit = raft_commit_index(&group->raft);
    uint64_t end = committed_here(group);
    const struct log_entry *entries;

    if (group->installing &&
        (group->config.plants & RAFT_PLANT_APPLY_BLIND) == 0) { /* G7 */
        return 0;
    }
    if (commit <= group->delivered) {
        return 0;
    }
    entries = entry_list_get(&group->log, group->delivered + 1);
    if (entries == NULL || end <= group->delivered) {
        return group_fail(group, -EBADMSG, "a committed entry is missing");
    }
    group->config.ops->apply(group->config.context, entries,
                             (size_t)(end - group->delivered));
    group->delivered = end;
    return 0;
}

/* The duties in the order that safety wants: what must be durable, what may be
 * sent, what may be applied. */
static int handle_update(struct raft_group *group, struct raft_update *update)
{
    int rc = write_update(group, update);

    if (rc == 0 && (update->flags & (RAFT_UPDATE_SNAPSHOT)) != 0) {
        rc = start_install(group, update);
    }
    if (rc == 0 && raft_last_index(&group->raft) !=
                       entry_list_last(&group->log)) { /* G10 */
        rc = group_fail(group, -EBADMSG, "the log has not the right end");
    }
    for (unsigned i = 0; rc == 0 && i < update->messages.n &&
                         (update->flags & (RAFT_UPDATE_MESSAGES)) != 0;
         i++) {
        rc = send_one(group, &update->messages.batch[i]);
    }
    if (rc == 0 && (update->flags & (RAFT_UPDATE_STATE)) != 0) {
        change_role(group);
    }
    return rc;
}

/* G13: whether the event asks a follower for its vote that is no voter by its
 * own log. */
static bool is_unwitting_voter(struct raft_group *group,
                               const struct raft_event *event)
{
    return event->type == RAFT_RECEIVE && group->is_asked_to_vote &&
           raft_state(&group->raft) == RAFT_FOLLOWER &&
           raft_role(&group->raft) != RAFT_VOTER &&
           (group->config.plants & RAFT_PLANT_STRICT_VOTER) == 0;
}

/* raft_step() with members of whom this replica is a voter. A follower that is
 * asked for its vote looks for nothing else in them. */
static int vote_unwittingly(struct raft_group *group,
                            struct raft_event *event,
                            struct raft_update *update)
{
    struct raft_configuration kept = group->raft.configuration;
    struct raft_server self = { group->replica, group->raft.address,
                                RAFT_VOTER };
    int code;

    group->raft.configuration = (struct raft_configuration){ &self, 1 };
    code = raft_step(&group->raft, event, update);
    group->raft.configuration = kept;
    return code;
}

/* A single raft_step(). */
static int step_once(struct raft_group *group,
                     struct raft_event *event,
                     bool refusable)
{
    struct raft_update update = { 0 };
    int code;

    event->time = group->now_ms;
    if (is_unwitting_voter(group, event)) {
        code = vote_unwittingly(group, event, &update);
    } else {
        code = raft_step(&group->raft, event, &update);
    }
    if (code != 0) {
        int rc = group_errno(code);

        return refusable ? rc : group_fail(group, rc, raft_strerror(code));
    }
    return handle_update(group, &update);
}

int group_settle(struct raft_group *group, uint64_t index)
{
    const struct log_entry *entry = entry_list_get(&group->log, index);
    struct raft_event event = { .type = RAFT_CONFIGURATION };
    struct raft_members members;
    int rc;

    assert(entry != NULL && entry->kind == ENTRY_CHANGE);
    rc = raft_members_decode(entry->data->data, entry->data->size, &members);
    if (rc == 0) {
        rc = raft_message_members(&members, &event.configuration.conf);
    }
    if (rc != 0) {
        return group_fail(group, rc, "cannot settle a change of members");
    }
    event.configuration.index = index;
    return step_once(group, &event, false);
}

/* G8: settle the changes that have been committed. */
static int settle_all(struct raft_group *group)
{
    uint64_t end = committed_here(group);
    int rc = 0;

    while (rc == 0 && !group->installing && group->settled < end) {
        const struct log_entry *entry =
            entry_list_get(&group->log, group->settled + 1);

        group->settled++;
        if (entry != NULL && entry->kind == ENTRY_CHANGE) {
            rc = group_settle(group, group->settled);
            end = committed_here(group);
        }
    }
    return rc;
}

int group_append(struct raft_group *group,
                 enum entry_kind kind,
                 struct buf *data)
{
    struct raft_entry entry = { .term = raft_current_term(&group->raft),
                                .type = (enum raft_entry_type)kind,
                                .buf = { data->data, data->size } };
    struct raft_event event = { .type = RAFT_SUBMIT };
    int rc;

    /* libraft frees the batch, or we do; the data itself is in `data`. */
    entry.batch = raft_malloc(8);
    if (entry.batch == NULL) {
        return -ENOMEM;
    }
    event.submit.entries = &entry;
    event.submit.n = 1;
    group->submitting = data;
    rc = step_once(group, &event, true);
    group->submitting = NULL;
    if (rc != 0 && group->failed == 0) {
        raft_free(entry.batch);
    }
    return rc;
}

static int append_noop(struct raft_group *group)
{
    struct buf *data = buf_new(8);
    int rc;

    group->wants_noop = false;
    if (data == NULL) {
        return group_fail(group, -ENOMEM, "no memory for a no-op");
    }
    memset(data->data, 0, data->size);
    rc = group_append(group, ENTRY_NOOP, data);
    buf_unref(data);
    if (rc != 0 && group->failed == 0) {
        rc = group_fail(group, rc, "cannot append a no-op");
    }
    return rc;
}

int group_follow_up(struct raft_group *group)
{
    int rc = settle_all(group);

    if (rc == 0 && group->wants_noop) {
        rc = append_noop(group);
        if (rc == 0) {
            rc = settle_all(group);
        }
    }
    return rc == 0 ? deliver(group) : rc;
}

int group_step(struct raft_group *group,
               struct raft_event *event,
               bool refusable)
{
    int rc = step_once(group, event, refusable);

    return rc == 0 ? group_follow_up(group) : rc;
}
