/* Mutated frames of Raft messages: `fuzz_raft SEED SECONDS`.
 *
 * What raft_frame_unpack() accepts is given to a replica. Peers that lie may
 * make it stop itself, with a reason; they must not make it crash, write
 * nonsense to its disk, or apply anything twice. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "storaged/raft/raft_group.h"
#include "storaged/raft/raft_members.h"
#include "storaged/raft/raft_message.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/wire_sample.h"

#define CLUSTER      0x77u
#define SELF         11u
#define MESSAGES_MAX 12u
#define FRAME_MAX    65536u

/* The replica, and what it has asked for. */
static struct {
    struct raft_group *group;
    uint64_t now;
    uint64_t serial;
    uint64_t applied;
    uint64_t install; /* index, 0: none */
    uint64_t last;    /* stored by the last write */
    uint64_t term;
    bool is_bad;
} r;

static void on_persist(void *context, const struct raft_write *write)
{
    (void)context;
    r.is_bad = r.is_bad || write->serial != r.serial + 1;
    r.serial = write->serial;
    if (write->has_vote) {
        r.is_bad = r.is_bad || write->term < r.term;
        r.term = write->term;
    }
    if (write->n_entries > 0) {
        uint64_t first = write->entries[0].index;

        r.is_bad = r.is_bad || first == 0 ||
                   (write->from == 0 ? first != r.last + 1
                                     : first != write->from || first > r.last);
        r.last = first + write->n_entries - 1;
    }
    if (write->snapshot != NULL && write->drop_to == RAFT_WHOLE_LOG) {
        r.last = write->snapshot->index;
    }
}

static void on_send(void *context, uint32_t node, Gabion__RaftMessage *message)
{
    (void)context;
    (void)node;
    gabion__raft_message__free_unpacked(message, NULL);
}

static void on_apply(void *context, const struct log_entry *entries, size_t n)
{
    (void)context;
    for (size_t i = 0; i < n; i++) {
        r.is_bad = r.is_bad || entries[i].index != r.applied + 1;
        r.applied = entries[i].index;
    }
}

static void on_install(void *context,
                       const struct raft_pointer *snapshot,
                       uint64_t from,
                       uint32_t node)
{
    (void)context;
    (void)from;
    (void)node;
    r.install = snapshot->index;
}

static void on_role(void *context, enum group_role role, uint64_t term)
{
    (void)context;
    (void)role;
    (void)term;
}

static const struct raft_group_ops ops = { on_persist, on_send, on_apply,
                                           on_install, on_role };

static struct raft_members some_members(void)
{
    struct raft_members members = { .n = 1 + fuzz_below(4) };

    for (size_t i = 0; i < members.n; i++) {
        members.member[i] = (struct raft_member){
            SELF + i, (uint32_t)i, fuzz_one_in(4) ? MEMBER_SPARE : MEMBER_VOTER
        };
    }
    members.member[0].role = MEMBER_VOTER;
    return members;
}

static void start(void)
{
    struct raft_group_config config = {
        .group = 1, .seed = 5, .trailing = fuzz_below(3), .ops = &ops
    };
    struct raft_members members = some_members();
    struct raft_saved saved = { .replica = SELF };

    memset(&r, 0, sizeof r);
    r.now = 1000;
    if (fuzz_one_in(2) && raft_saved_bootstrap(SELF, &members, &saved) != 0) {
        abort();
    }
    r.last = saved.n_entries;
    if (raft_group_new(&config, &saved, 0, r.now, &r.group) != 0) {
        abort();
    }
    raft_saved_close(&saved);
}

/* ------------------------------------------------------------ valid messages
 */

/* Mostly near what the replica knows. */
static uint64_t near(uint64_t value)
{
    uint64_t distance = fuzz_one_in(3) ? fuzz_below(3) : 0;

    return fuzz_one_in(2) || value <= distance ? value + distance
                                               : value - distance;
}

static uint64_t some_term(const struct raft_group_status *status)
{
    uint64_t term = near(status->term);

    return term > 0 ? term : 1;
}

static void put_position(uint64_t term,
                         uint64_t index,
                         uint64_t *ret_index,
                         uint64_t *ret_term)
{
    *ret_index = index;
    *ret_term = index == 0 ? 0 : fuzz_one_in(3) ? 1 + fuzz_below(term) : 1;
}

static void put_members(ProtobufCBinaryData *ret_bytes)
{
    struct raft_members members = some_members();
    struct buf *data;

    if (raft_members_encode(&members, &data) != 0) {
        abort();
    }
    ret_bytes->data = malloc(data->size);
    if (ret_bytes->data == NULL) {
        abort();
    }
    ret_bytes->len = data->size;
    memcpy(ret_bytes->data, data->data, data->size);
    buf_unref(data);
}

static void *zeroed(size_t size)
{
    void *memory = calloc(1, size);

    if (memory == NULL) {
        abort();
    }
    return memory;
}

static Gabion__RaftAppendEntries *some_entries(
    const struct raft_group_status *status)
{
    Gabion__RaftAppendEntries *body = zeroed(sizeof *body);
    size_t n = fuzz_below(5);

    gabion__raft_append_entries__init(body);
    body->term = some_term(status);
    put_position(body->term, near(status->last), &body->prev_log_index,
                 &body->prev_log_term);
    body->leader_commit = near(status->last);
    body->entry = zeroed((n + 1) * sizeof(Gabion__RaftEntry *));
    for (size_t i = 0; i < n; i++) {
        Gabion__RaftEntry *entry = zeroed(sizeof *entry);

        gabion__raft_entry__init(entry);
        entry->term = body->term;
        entry->kind = ENTRY_OPS;
        if (fuzz_one_in(3) || (i == 0 && body->prev_log_index == 0)) {
            entry->kind = ENTRY_CHANGE;
            put_members(&entry->data);
        }
        body->entry[body->n_entry++] = entry;
    }
    return body;
}

static Gabion__RaftInstallSnapshot *some_snapshot(
    const struct raft_group_status *status)
{
    Gabion__RaftInstallSnapshot *body = zeroed(sizeof *body);

    gabion__raft_install_snapshot__init(body);
    body->term = some_term(status);
    put_position(body->term, near(status->last) + 1, &body->last_index,
                 &body->last_term);
    body->members_index = 1 + fuzz_below(body->last_index);
    put_members(&body->members);
    return body;
}

static void put_vote_request(const struct raft_group_status *status,
                             Gabion__RaftMessage *message)
{
    Gabion__RaftRequestVote *body = zeroed(sizeof *body);

    gabion__raft_request_vote__init(body);
    body->version = 2;
    body->term = some_term(status);
    put_position(body->term, near(status->last), &body->last_log_index,
                 &body->last_log_term);
    body->disrupt_leader = fuzz_one_in(3);
    body->pre_vote = fuzz_one_in(2);
    message->request_vote = body;
    message->body_case = GABION__RAFT_MESSAGE__BODY_REQUEST_VOTE;
}

static void put_vote(const struct raft_group_status *status,
                     Gabion__RaftMessage *message)
{
    Gabion__RaftRequestVoteResult *body = zeroed(sizeof *body);

    gabion__raft_request_vote_result__init(body);
    body->version = fuzz_one_in(4) ? 1 : 2;
    body->term = some_term(status);
    body->vote_granted = !fuzz_one_in(4);
    body->pre_vote = fuzz_one_in(2);
    message->request_vote_result = body;
    message->body_case = GABION__RAFT_MESSAGE__BODY_REQUEST_VOTE_RESULT;
}

static void put_answer(const struct raft_group_status *status,
                       Gabion__RaftMessage *message)
{
    Gabion__RaftAppendEntriesResult *body = zeroed(sizeof *body);

    gabion__raft_append_entries_result__init(body);
    body->version = 2;
    body->term = some_term(status);
    body->rejected = fuzz_one_in(3) ? near(status->last) : 0;
    body->last_log_index = near(status->last);
    message->append_entries_result = body;
    message->body_case = GABION__RAFT_MESSAGE__BODY_APPEND_ENTRIES_RESULT;
}

static void put_timeout(const struct raft_group_status *status,
                        Gabion__RaftMessage *message)
{
    Gabion__RaftTimeoutNow *body = zeroed(sizeof *body);

    gabion__raft_timeout_now__init(body);
    body->term = some_term(status);
    put_position(body->term, near(status->last), &body->last_log_index,
                 &body->last_log_term);
    message->timeout_now = body;
    message->body_case = GABION__RAFT_MESSAGE__BODY_TIMEOUT_NOW;
}

static Gabion__RaftMessage *some_message(void)
{
    Gabion__RaftMessage *message = zeroed(sizeof *message);
    struct raft_group_status status;

    raft_group_get_status(r.group, &status);
    gabion__raft_message__init(message);
    message->group = 1;
    message->from = SELF + 1 + fuzz_below(3);
    message->from_node = (uint32_t)(message->from - SELF);
    message->to = SELF;
    switch (fuzz_below(8)) {
    case 0:
        put_vote_request(&status, message);
        break;
    case 1:
        put_vote(&status, message);
        break;
    case 2:
    case 3:
        put_answer(&status, message);
        break;
    case 4:
        message->install_snapshot = some_snapshot(&status);
        message->body_case = GABION__RAFT_MESSAGE__BODY_INSTALL_SNAPSHOT;
        break;
    case 5:
        put_timeout(&status, message);
        break;
    default:
        message->append_entries = some_entries(&status);
        message->body_case = GABION__RAFT_MESSAGE__BODY_APPEND_ENTRIES;
        break;
    }
    return message;
}

/* -------------------------------------------------------------------- rounds
 */

static uint8_t data[FRAME_MAX];

/* A frame with one message, changed here and there. */
static size_t some_frame(void)
{
    Gabion__RaftFrame *frame = zeroed(sizeof *frame);
    bool is_changed = fuzz_one_in(2);
    size_t size = 0;

    gabion__raft_frame__init(frame);
    frame->cluster = CLUSTER;
    frame->message = zeroed(sizeof(Gabion__RaftMessage *));
    frame->message[0] = some_message();
    frame->n_message = 1;
    for (size_t n = is_changed ? fuzz_below(3) : 0; n > 0; n--) {
        wire_mutate_field(&frame->base);
    }
    if (gabion__raft_frame__get_packed_size(frame) <= sizeof data) {
        size = gabion__raft_frame__pack(frame, data);
    }
    gabion__raft_frame__free_unpacked(frame, NULL);
    for (size_t n = is_changed ? fuzz_below(3) : 0; n > 0; n--) {
        size = fuzz_mutate(data, size, sizeof data, 0);
    }
    return size;
}

/* Let the replica do what it does besides receiving. */
static int live(void)
{
    int rc = 0;

    if (fuzz_one_in(2)) {
        rc = raft_group_persisted(r.group, r.now, r.serial);
    }
    if (rc == 0 && fuzz_one_in(3)) {
        r.now += fuzz_below(1000);
        rc = raft_group_tick(r.group, r.now);
    }
    if (rc == 0 && fuzz_one_in(4)) {
        rc = raft_group_snapshot(r.group, r.now, r.applied);
        rc = rc == -EINVAL || rc == -EBUSY ? 0 : rc;
    }
    if (rc == 0 && r.install != 0 && fuzz_one_in(3)) {
        if (r.applied < r.install) {
            r.applied = r.install;
        }
        r.install = 0;
        rc = raft_group_installed(r.group, r.now, r.applied);
    }
    return rc;
}

/* 0, or why the replica has stopped. */
static int deliver(size_t size)
{
    Gabion__RaftFrame *frame;
    struct errmsg msg = { "" };
    uint8_t *exact = malloc(size + 1);
    int rc;

    if (exact == NULL) {
        abort();
    }
    memcpy(exact, data, size);
    rc = raft_frame_unpack(exact, size, CLUSTER, &frame, &msg);
    free(exact);
    if (rc != 0) {
        r.is_bad = r.is_bad || msg.text[0] == '\0' ||
                   (rc != -EBADMSG && rc != -EINVAL && rc != -ESTALE);
        return 0;
    }
    for (size_t i = 0; i < frame->n_message && rc == 0; i++) {
        rc = raft_group_receive(r.group, r.now, frame->message[i]);
    }
    gabion__raft_frame__free_unpacked(frame, NULL);
    return rc;
}

static bool run_round(void)
{
    bool is_ok = true;
    int rc = 0;

    start();
    for (size_t i = 0; i < MESSAGES_MAX && rc == 0; i++) {
        rc = deliver(some_frame());
        if (rc == 0) {
            rc = live();
        }
    }
    if (rc != 0 && (rc != -EBADMSG || raft_group_error(r.group)[0] == '\0')) {
        is_ok = fuzz_fail("stops with %d without a word", rc);
    } else if (r.is_bad) {
        is_ok = fuzz_fail("writes or applies nonsense");
    }
    raft_group_free(r.group);
    return is_ok;
}

int main(int argc, char **argv)
{
    return fuzz_main(argc, argv, run_round);
}
