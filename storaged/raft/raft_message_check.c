/* The form of what peers say. */
#include <errno.h>

#include "storaged/raft/raft_message.h"

/* Say what is wrong unless it is right. */
static int check(bool is_right, struct errmsg *msg, const char *what)
{
    if (is_right) {
        return 0;
    }
    errmsg_set(msg, "Raft message: %s", what);
    return -EINVAL;
}

static bool is_number(uint64_t value)
{
    return value <= RAFT_NUMBER_MAX;
}

static bool is_term(uint64_t value)
{
    return value > 0 && is_number(value);
}

/* Whether there is an entry `index` exactly when it has a term, and one that a
 * sender in `term` may know. */
static bool is_position(uint64_t index, uint64_t index_term, uint64_t term)
{
    return is_number(index) && index_term <= term &&
           (index == 0) == (index_term == 0);
}

static bool is_version(uint32_t version)
{
    return version <= UINT8_MAX;
}

static int check_request_vote(const Gabion__RaftRequestVote *body,
                              struct errmsg *msg)
{
    return check(
        is_version(body->version) && is_term(body->term) &&
            is_position(body->last_log_index, body->last_log_term, body->term),
        msg, "bad request for a vote");
}

static int check_vote_result(const Gabion__RaftRequestVoteResult *body,
                             struct errmsg *msg)
{
    return check(is_version(body->version) && is_term(body->term) &&
                     body->features <= UINT16_MAX &&
                     body->capacity <= UINT16_MAX,
                 msg, "bad vote");
}

static bool is_entry(const Gabion__RaftEntry *entry,
                     uint64_t term_min,
                     uint64_t term_max)
{
    struct raft_members members;

    if (entry->term == 0 || entry->term < term_min || entry->term > term_max ||
        entry->data.len > RAFT_DATA_MAX) {
        return false;
    }
    switch (entry->kind) {
    case ENTRY_OPS:
    case ENTRY_NOOP:
        return true;
    case ENTRY_CHANGE:
        return raft_members_decode(entry->data.data, entry->data.len,
                                   &members) == 0;
    default:
        return false;
    }
}

static int check_append_entries(const Gabion__RaftAppendEntries *body,
                                struct errmsg *msg)
{
    uint64_t term = body->prev_log_term;

    if (!is_version(body->version) || !is_term(body->term) ||
        !is_number(body->leader_commit) ||
        !is_position(body->prev_log_index, body->prev_log_term, body->term)) {
        return check(false, msg, "bad head of entries");
    }
    if (body->n_entry > RAFT_MESSAGE_ENTRIES_MAX ||
        body->n_entry > RAFT_NUMBER_MAX - body->prev_log_index) {
        return check(false, msg, "too many entries");
    }
    if (body->prev_log_index == 0 && body->n_entry > 0 &&
        body->entry[0]->kind != ENTRY_CHANGE) {
        return check(false, msg, "the first entry names no members");
    }
    for (size_t i = 0; i < body->n_entry; i++) {
        if (!is_entry(body->entry[i], term, body->term)) {
            return check(false, msg, "bad entry");
        }
        term = body->entry[i]->term;
    }
    return 0;
}

static int check_entries_result(const Gabion__RaftAppendEntriesResult *body,
                                struct errmsg *msg)
{
    return check(
        is_version(body->version) && is_term(body->term) &&
            is_number(body->rejected) && is_number(body->last_log_index) &&
            body->features <= UINT16_MAX && body->capacity <= UINT16_MAX,
        msg, "bad answer to entries");
}

static int check_install_snapshot(const Gabion__RaftInstallSnapshot *body,
                                  struct errmsg *msg)
{
    struct raft_members members;

    return check(
        is_version(body->version) && is_term(body->term) &&
            body->last_index > 0 &&
            is_position(body->last_index, body->last_term, body->term) &&
            body->members_index > 0 &&
            body->members_index <= body->last_index &&
            raft_members_decode(body->members.data, body->members.len,
                                &members) == 0,
        msg, "bad snapshot");
}

static int check_timeout_now(const Gabion__RaftTimeoutNow *body,
                             struct errmsg *msg)
{
    return check(
        is_version(body->version) && is_term(body->term) &&
            is_position(body->last_log_index, body->last_log_term, body->term),
        msg, "bad transfer of leadership");
}

int raft_message_validate(const Gabion__RaftMessage *message,
                          struct errmsg *msg)
{
    if (message->from == 0 || message->to == 0 ||
        message->from == message->to) {
        return check(false, msg, "bad replica ids");
    }
    switch (message->body_case) {
    case GABION__RAFT_MESSAGE__BODY_REQUEST_VOTE:
        return check_request_vote(message->request_vote, msg);
    case GABION__RAFT_MESSAGE__BODY_REQUEST_VOTE_RESULT:
        return check_vote_result(message->request_vote_result, msg);
    case GABION__RAFT_MESSAGE__BODY_APPEND_ENTRIES:
        return check_append_entries(message->append_entries, msg);
    case GABION__RAFT_MESSAGE__BODY_APPEND_ENTRIES_RESULT:
        return check_entries_result(message->append_entries_result, msg);
    case GABION__RAFT_MESSAGE__BODY_INSTALL_SNAPSHOT:
        return check_install_snapshot(message->install_snapshot, msg);
    case GABION__RAFT_MESSAGE__BODY_TIMEOUT_NOW:
        return check_timeout_now(message->timeout_now, msg);
    default:
        return check(false, msg, "of an unknown kind");
    }
}
