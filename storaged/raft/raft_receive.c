/* Messages from other replicas, and what must not reach libraft as it is. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>

#include "common/log.h"
#include "storaged/raft/raft_group_internal.h"

#define COMPLAINT_PERIOD_MS 60000

/* The term of the last entry that is known to be there at `index`, 0 if none.
 */
static uint64_t known_term(const struct raft_group *group, uint64_t index)
{
    if (index == group->snapshot.index && index > 0) {
        return group->snapshot.term;
    }
    return entry_list_term(&group->log, index);
}

/* G4. A change is about to be delivered as the entry behind prev_index. If it
 * is new and follows what is in the log, the change before it, which the log
 * has too, is committed: else no leader would have begun this one. */
static int settle_before(struct raft_group *group,
                         const struct raft_append_entries *append)
{
    uint64_t pending = group->raft.configuration_uncommitted_index;
    uint64_t index = append->prev_log_index + 1;

    if ((group->config.plants & RAFT_PLANT_NO_SETTLING) != 0 ||
        append->n_entries == 0 || append->entries[0].type != RAFT_CHANGE ||
        append->term < raft_current_term(&group->raft) || pending == 0 ||
        pending >= index || group->installing ||
        known_term(group, append->prev_log_index) != append->prev_log_term ||
        entry_list_term(&group->log, index) == append->entries[0].term ||
        entry_list_get(&group->log, pending) == NULL) {
        return 0;
    }
    return group_settle(group, pending);
}

/* G15: whether a refusal of entries may be true. What a follower has stored in
 * this term it does not refuse, and its log does not end before. */
static bool is_fresh(const struct raft_group *group,
                     uint64_t from,
                     struct raft_append_entries_result *result)
{
    raft_index match;

    if (result->rejected == 0 ||
        result->term != raft_current_term(&group->raft) ||
        (group->config.plants & RAFT_PLANT_OLD_REFUSAL) != 0 ||
        raft_match_index(&group->raft, from, &match) != 0) {
        return true;
    }
    if (result->last_log_index < match) {
        result->last_log_index = match;
    }
    return result->rejected > match;
}

/* One message or part of one. */
static int deliver(struct raft_group *group,
                   const Gabion__RaftMessage *message,
                   size_t skip,
                   size_t n)
{
    struct raft_incoming incoming;
    struct raft_event event = { .type = RAFT_RECEIVE };
    int rc = raft_message_decode(message, skip, n, &incoming);

    if (rc != 0) {
        return group_fail(group, rc, "cannot decode a message");
    }
    if (incoming.message.type == RAFT_APPEND_ENTRIES) {
        rc = settle_before(group, &incoming.message.append_entries);
        if (rc != 0) {
            raft_incoming_discard(&incoming);
            return rc;
        }
    }
    if (incoming.message.type == RAFT_APPEND_ENTRIES_RESULT &&
        !is_fresh(group, message->from,
                  &incoming.message.append_entries_result)) {
        return 0;
    }
    event.receive.message = &incoming.message;
    rc = group_step(group, &event, false);
    raft_incoming_close(&incoming);
    return rc;
}

/* How many entries from `skip` on can be delivered together: a change comes
 * alone (G2). */
static size_t part_of(const Gabion__RaftAppendEntries *append, size_t skip)
{
    size_t end = skip;

    while (end < append->n_entry && append->entry[end]->kind != ENTRY_CHANGE) {
        end++;
    }
    if (end == skip && end < append->n_entry) {
        end++;
    }
    return end - skip;
}

static int receive_entries(struct raft_group *group,
                           const Gabion__RaftMessage *message)
{
    const Gabion__RaftAppendEntries *append = message->append_entries;
    size_t skip = 0;
    int rc = 0;

    do {
        size_t n = part_of(append, skip);

        if (append->prev_log_index + skip + 1 < group->log.first &&
            (group->config.plants & RAFT_PLANT_OLD_APPEND) == 0) { /* G1 */
            skip += n;
            continue;
        }
        rc = deliver(group, message, skip, n);
        skip += n;
        /* Refused: the rest would be, too. */
        if (rc != 0 || (skip < append->n_entry &&
                        known_term(group, append->prev_log_index + skip) !=
                            append->entry[skip - 1]->term)) {
            break;
        }
    } while (skip < append->n_entry);
    return rc;
}

/* The term of the message, 0 when it is not from a leader to a follower. */
static uint64_t leader_term(const Gabion__RaftMessage *message)
{
    if (message->body_case == GABION__RAFT_MESSAGE__BODY_APPEND_ENTRIES) {
        return message->append_entries->term;
    }
    if (message->body_case == GABION__RAFT_MESSAGE__BODY_INSTALL_SNAPSHOT) {
        return message->install_snapshot->term;
    }
    return 0;
}

static void complain_of_leader(struct raft_group *group,
                               const Gabion__RaftMessage *message,
                               uint64_t term)
{
    uint64_t n_dropped;

    if (log_limit_pass(&group->complaints, COMPLAINT_PERIOD_MS, &n_dropped)) {
        log_warn("two Raft leaders in one term group=%" PRIu32 " term=%" PRIu64
                 " other=%016" PRIx64 " node=%" PRIu32 " more=%" PRIu64,
                 group->config.group, term, message->from, message->from_node,
                 n_dropped);
    }
}

static int receive(struct raft_group *group, const Gabion__RaftMessage *message)
{
    uint64_t term = leader_term(message);
    uint64_t current = raft_current_term(&group->raft);
    int rc;

    if (term != 0 && term == current && group->raft.state == RAFT_LEADER) {
        complain_of_leader(group, message, term);
        return 0; /* G9 */
    }
    if (message->body_case == GABION__RAFT_MESSAGE__BODY_INSTALL_SNAPSHOT &&
        group->installing) {
        return 0; /* G3 */
    }
    if (message->body_case == GABION__RAFT_MESSAGE__BODY_REQUEST_VOTE_RESULT &&
        group->raft.state != RAFT_CANDIDATE) {
        return 0; /* G16 */
    }
    if (message->body_case == GABION__RAFT_MESSAGE__BODY_TIMEOUT_NOW) {
        struct raft_members members;

        group_members(group, &members);
        if (group_is_lone(group, &members)) {
            return 0; /* G17: its own timeout does better */
        }
    }
    group->answers_stale = term != 0 && term < current;
    group->is_asked_to_vote =
        message->body_case == GABION__RAFT_MESSAGE__BODY_REQUEST_VOTE;
    if (message->body_case == GABION__RAFT_MESSAGE__BODY_APPEND_ENTRIES) {
        rc = receive_entries(group, message);
    } else {
        rc = deliver(group, message, 0, 0);
    }
    group->answers_stale = false;
    group->is_asked_to_vote = false;
    return rc;
}

int raft_group_receive(struct raft_group *group,
                       uint64_t now_ms,
                       const Gabion__RaftMessage *message)
{
    int rc = group_enter(group, now_ms);

    if (rc != 0) {
        return rc;
    }
    if (message->group == group->config.group &&
        message->to == group->replica && message->from != group->replica) {
        rc = receive(group, message);
    }
    return group_leave(group, rc);
}
