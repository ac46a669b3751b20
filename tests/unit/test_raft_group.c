/* One replica by itself: the test speaks for the others. Each guard of
 * raft_group_internal.h that a single replica can show has a test here; what
 * takes many is in test_raft_sim. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <check.h>

#include "storaged/raft/raft_group_internal.h"

#define SELF     11u
#define SENT_MAX 256u

/* What the group has asked for. */
static struct {
    Gabion__RaftMessage *sent[SENT_MAX]; /* owned */
    size_t n_sent;
    uint64_t serial; /* of the last write */
    size_t n_writes;
    bool wrote_vote;     /* in the last write */
    uint64_t wrote_from; /* likewise */
    uint64_t drop_to;    /* of the last snapshot */
    uint64_t applied;    /* last index */
    size_t n_applied;    /* entries */
    size_t n_installs;
    uint64_t install; /* index of the last one */
    enum group_role role;
} got;

static struct raft_group *group;
static struct raft_group_config config;
static uint64_t now = 1000;

static void on_persist(void *context, const struct raft_write *write)
{
    (void)context;
    ck_assert_uint_eq(write->serial, got.serial + 1);
    got.serial = write->serial;
    got.n_writes++;
    got.wrote_vote = write->has_vote;
    got.wrote_from = write->from;
    if (write->snapshot != NULL) {
        got.drop_to = write->drop_to;
    }
}

static void on_send(void *context, uint32_t node, Gabion__RaftMessage *message)
{
    (void)context;
    ck_assert_uint_lt(got.n_sent, SENT_MAX);
    ck_assert_uint_eq(node, message->to - 10);
    got.sent[got.n_sent++] = message;
}

static void on_apply(void *context, const struct log_entry *entries, size_t n)
{
    (void)context;
    for (size_t i = 0; i < n; i++) {
        ck_assert_uint_eq(entries[i].index, got.applied + 1);
        got.applied = entries[i].index;
        got.n_applied++;
    }
}

static void on_install(void *context,
                       const struct raft_pointer *snapshot,
                       uint64_t from,
                       uint32_t node)
{
    (void)context;
    ck_assert_uint_eq(from, node + 10);
    got.n_installs++;
    got.install = snapshot->index;
}

static void on_role(void *context, enum group_role role, uint64_t term)
{
    (void)context;
    (void)term;
    got.role = role;
}

static const struct raft_group_ops ops = {
    .persist = on_persist,
    .send = on_send,
    .apply = on_apply,
    .install = on_install,
    .role = on_role,
};

static void forget_sent(void)
{
    for (size_t i = 0; i < got.n_sent; i++) {
        gabion__raft_message__free_unpacked(got.sent[i], NULL);
    }
    got.n_sent = 0;
}

static void setup(void)
{
    memset(&got, 0, sizeof got);
    group = NULL;
    config = (struct raft_group_config){
        .group = 4, .node = SELF - 10, .seed = 1, .trailing = 2, .ops = &ops
    };
}

static void teardown(void)
{
    forget_sent();
    raft_group_free(group);
}

static struct raft_members voters(size_t n)
{
    struct raft_members members = { .n = n };

    for (size_t i = 0; i < n; i++) {
        members.member[i] =
            (struct raft_member){ SELF + i, (uint32_t)i + 1, MEMBER_VOTER };
    }
    return members;
}

static void start(struct raft_saved *saved, uint64_t applied)
{
    got.applied = applied;
    ck_assert_int_eq(raft_group_new(&config, saved, applied, now, &group), 0);
    raft_saved_close(saved);
}

/* A voter of a new group of n. */
static void bootstrap(size_t n)
{
    struct raft_members members = voters(n);
    struct raft_saved saved;

    ck_assert_int_eq(raft_saved_bootstrap(SELF, &members, &saved), 0);
    start(&saved, 0);
}

static void persist(void)
{
    ck_assert_int_eq(raft_group_persisted(group, now, got.serial), 0);
}

static struct raft_group_status status(void)
{
    struct raft_group_status result;

    raft_group_get_status(group, &result);
    return result;
}

static void receive(Gabion__RaftMessage *message, uint64_t from)
{
    struct errmsg msg = { "" };

    message->group = config.group;
    message->from = from;
    message->from_node = (uint32_t)from - 10;
    message->to = SELF;
    ck_assert_msg(raft_message_validate(message, &msg) == 0, "%s", msg.text);
    ck_assert_int_eq(raft_group_receive(group, now, message), 0);
}

static bool has_sent(Gabion__RaftMessage__BodyCase body)
{
    for (size_t i = 0; i < got.n_sent; i++) {
        if (got.sent[i]->body_case == body) {
            return true;
        }
    }
    return false;
}

/* What the newest answer to entries says to be stored, 0 if there is none. */
static uint64_t acknowledged(void)
{
    for (size_t i = got.n_sent; i > 0; i--) {
        const Gabion__RaftMessage *message = got.sent[i - 1];

        if (message->body_case ==
            GABION__RAFT_MESSAGE__BODY_APPEND_ENTRIES_RESULT) {
            return message->append_entries_result->last_log_index;
        }
    }
    return 0;
}

/* -------------------------------------------------- what the others may say */

static void ask_for_vote(uint64_t from, uint64_t term, uint64_t last, bool pre)
{
    Gabion__RaftMessage message = GABION__RAFT_MESSAGE__INIT;
    Gabion__RaftRequestVote body = GABION__RAFT_REQUEST_VOTE__INIT;

    body.version = 2;
    body.term = term;
    body.last_log_index = last;
    body.last_log_term = last > 0 ? 1 : 0;
    body.pre_vote = pre;
    message.request_vote = &body;
    message.body_case = GABION__RAFT_MESSAGE__BODY_REQUEST_VOTE;
    receive(&message, from);
}

static void vote(uint64_t from, uint64_t term, bool pre)
{
    Gabion__RaftMessage message = GABION__RAFT_MESSAGE__INIT;
    Gabion__RaftRequestVoteResult body = GABION__RAFT_REQUEST_VOTE_RESULT__INIT;

    body.version = 2;
    body.term = term;
    body.vote_granted = true;
    body.pre_vote = pre;
    message.request_vote_result = &body;
    message.body_case = GABION__RAFT_MESSAGE__BODY_REQUEST_VOTE_RESULT;
    receive(&message, from);
}

static void acknowledge(uint64_t from, uint64_t index)
{
    Gabion__RaftMessage message = GABION__RAFT_MESSAGE__INIT;
    Gabion__RaftAppendEntriesResult body =
        GABION__RAFT_APPEND_ENTRIES_RESULT__INIT;

    body.version = 2;
    body.term = raft_group_term(group);
    body.last_log_index = index;
    message.append_entries_result = &body;
    message.body_case = GABION__RAFT_MESSAGE__BODY_APPEND_ENTRIES_RESULT;
    receive(&message, from);
}

/* Entries to send: 'o' ops, 'n' a no-op, a digit: the change to so many voters,
 * 's': to three members of whom this one is a standby.
 */
struct batch {
    Gabion__RaftEntry entry[8];
    Gabion__RaftEntry *list[8];
    struct buf *data[8];
    size_t n;
};

static void fill(struct batch *batch, const char *kinds, uint64_t term)
{
    memset(batch, 0, sizeof *batch);
    for (; *kinds != '\0'; kinds++) {
        size_t i = batch->n++;

        gabion__raft_entry__init(&batch->entry[i]);
        batch->list[i] = &batch->entry[i];
        batch->entry[i].term = term;
        batch->entry[i].kind = *kinds == 'o' ? ENTRY_OPS : ENTRY_NOOP;
        if ((*kinds >= '0' && *kinds <= '9') || *kinds == 's') {
            struct raft_members members =
                voters(*kinds == 's' ? 3 : (size_t)(*kinds - '0'));

            if (*kinds == 's') {
                members.member[0].role = MEMBER_STANDBY;
            }

            batch->entry[i].kind = ENTRY_CHANGE;
            ck_assert_int_eq(raft_members_encode(&members, &batch->data[i]), 0);
        } else {
            batch->data[i] = buf_new(10);
            memset(batch->data[i]->data, (int)i, 10);
        }
        batch->entry[i].data.data = batch->data[i]->data;
        batch->entry[i].data.len = batch->data[i]->size;
    }
}

struct append {
    uint64_t term; /* of the leader, and of the entries */
    uint64_t prev;
    uint64_t prev_term;
    uint64_t commit;
};

static void append(uint64_t from, struct append head, const char *kinds)
{
    Gabion__RaftMessage message = GABION__RAFT_MESSAGE__INIT;
    Gabion__RaftAppendEntries body = GABION__RAFT_APPEND_ENTRIES__INIT;
    struct batch batch;

    fill(&batch, kinds, head.term);
    body.term = head.term;
    body.prev_log_index = head.prev;
    body.prev_log_term = head.prev_term;
    body.leader_commit = head.commit;
    body.entry = batch.list;
    body.n_entry = batch.n;
    message.append_entries = &body;
    message.body_case = GABION__RAFT_MESSAGE__BODY_APPEND_ENTRIES;
    receive(&message, from);
    for (size_t i = 0; i < batch.n; i++) {
        buf_unref(batch.data[i]);
    }
}

static void offer_snapshot(uint64_t from, uint64_t term, uint64_t index)
{
    Gabion__RaftMessage message = GABION__RAFT_MESSAGE__INIT;
    Gabion__RaftInstallSnapshot body = GABION__RAFT_INSTALL_SNAPSHOT__INIT;
    struct raft_members members = voters(3);
    struct buf *data;

    ck_assert_int_eq(raft_members_encode(&members, &data), 0);
    body.term = term;
    body.last_index = index;
    body.last_term = term;
    body.members_index = 1;
    body.members.data = data->data;
    body.members.len = data->size;
    message.install_snapshot = &body;
    message.body_case = GABION__RAFT_MESSAGE__BODY_INSTALL_SNAPSHOT;
    receive(&message, from);
    buf_unref(data);
}

static void wait_for_timeout(void)
{
    now = raft_group_timeout_ms(group);
    ck_assert_int_eq(raft_group_tick(group, now), 0);
}

/* Let it be elected by 12; nothing is persisted behind the vote. */
static void elect(void)
{
    wait_for_timeout();
    vote(12, raft_group_term(group) + 1, true);
    persist();
    vote(12, raft_group_term(group), false);
    ck_assert(raft_group_is_leader(group));
}

/* Leader of three, all of whose log is committed. */
static void lead(void)
{
    bootstrap(3);
    elect();
    persist();
    acknowledge(12, status().last);
    ck_assert_uint_eq(status().commit, status().last);
}

static int submit(uint64_t *ret_index)
{
    struct buf *data = buf_new(5);
    uint64_t term;
    int rc;

    memset(data->data, 1, data->size);
    rc = raft_group_submit(group, now, data, ret_index, &term);
    buf_unref(data);
    return rc;
}

static int set_role(uint64_t id, enum member_role role)
{
    struct raft_member member = { id, (uint32_t)id - 10, role };
    uint64_t index;
    uint64_t term;

    return raft_group_set_member(group, now, &member, &index, &term);
}

/* --------------------------------------------------------------------- tests
 */

START_TEST(lone_voter_leads_and_applies_what_is_durable)
{
    uint64_t index = 0;

    bootstrap(1);
    ck_assert(raft_group_is_leader(group));
    persist();
    ck_assert_int_eq(submit(&index), 0);
    ck_assert_uint_lt(got.applied, index);
    persist();
    ck_assert_uint_eq(got.applied, index);
}
END_TEST

START_TEST(leader_knows_how_far_members_are)
{
    uint64_t index = 0;

    bootstrap(3);
    ck_assert_int_eq(raft_group_get_match(group, 12, &index), -EAGAIN);
    elect();
    persist();
    ck_assert_int_eq(raft_group_get_match(group, 99, &index), -ENOENT);
    ck_assert_int_eq(raft_group_get_match(group, SELF, &index), 0);
    ck_assert_uint_eq(index, 2);
    ck_assert_int_eq(raft_group_get_match(group, 12, &index), 0);
    ck_assert_uint_eq(index, 0);
    acknowledge(12, 2);
    ck_assert_int_eq(raft_group_get_match(group, 12, &index), 0);
    ck_assert_uint_eq(index, 2);
}
END_TEST

START_TEST(entry_is_committed_by_a_majority_only)
{
    uint64_t index = 0;

    lead();
    ck_assert_int_eq(submit(&index), 0);
    acknowledge(12, index);
    ck_assert_uint_lt(got.applied, index); /* not on the own disk */
    persist();
    ck_assert_uint_eq(got.applied, index);
    ck_assert_int_eq(submit(&index), 0);
    persist();
    ck_assert_uint_lt(got.applied, index); /* only on the own disk */
    acknowledge(13, index);
    ck_assert_uint_eq(got.applied, index);
}
END_TEST

START_TEST(many_bytes_go_in_several_messages)
{
    struct buf *data = buf_new(600 << 10);
    uint64_t prev = 2;
    uint64_t index;
    uint64_t term;

    lead();
    memset(data->data, 7, data->size);
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(raft_group_submit(group, now, data, &index, &term), 0);
    }
    buf_unref(data);
    ck_assert_int_eq(submit(&index), 0);
    forget_sent();
    acknowledge(13, 2); /* now it gets all at once */
    for (size_t i = 0; i < got.n_sent; i++) {
        const Gabion__RaftAppendEntries *append = got.sent[i]->append_entries;

        ck_assert_uint_eq(got.sent[i]->to, 13);
        ck_assert_uint_eq(append->prev_log_index, prev);
        ck_assert_uint_eq(append->prev_log_term, term);
        ck_assert_uint_ge(append->n_entry, 1);
        prev += append->n_entry;
    }
    ck_assert_uint_eq(got.n_sent, 4); /* the last two fit */
    ck_assert_uint_eq(prev, index);
}
END_TEST

START_TEST(follower_refuses_to_submit_and_knows_its_leader)
{
    uint64_t index;

    bootstrap(3);
    append(12, (struct append){ 2, 1, 1, 1 }, "n");
    ck_assert_int_eq(submit(&index), -EAGAIN);
    ck_assert_uint_eq(status().leader, 12);
    ck_assert_uint_eq(status().leader_node, 2);
    ck_assert_uint_eq(status().term, 2);
    ck_assert(status().is_voter);
}
END_TEST

START_TEST(joiner_waits_for_a_leader)
{
    struct raft_saved saved = { .replica = SELF };

    start(&saved, 0);
    for (int i = 0; i < 5; i++) {
        wait_for_timeout();
    }
    ck_assert_uint_eq(got.n_sent, 0);
    ck_assert_uint_eq(status().last, 0);
    append(12, (struct append){ 3, 0, 0, 2 }, "3oo");
    persist();
    ck_assert_uint_eq(status().last, 3);
    ck_assert_uint_eq(got.applied, 2);
}
END_TEST

START_TEST(vote_waits_for_the_disk)
{
    bootstrap(3);
    ask_for_vote(12, 5, 1, false);
    ck_assert(got.wrote_vote);
    ck_assert_uint_eq(got.n_sent, 0);
    persist();
    ck_assert_uint_eq(got.n_sent, 1);
    ck_assert(got.sent[0]->request_vote_result->vote_granted);
    ck_assert_uint_eq(got.sent[0]->request_vote_result->term, 5);
}
END_TEST

START_TEST(messages_behind_a_vote_keep_their_order)
{
    bootstrap(3);
    ask_for_vote(12, 5, 1, false);
    append(12, (struct append){ 5, 1, 1, 1 }, "");
    ck_assert_uint_eq(got.n_sent, 0);
    persist();
    ck_assert_uint_eq(got.n_sent, 2);
    ck_assert_int_eq(got.sent[0]->body_case,
                     GABION__RAFT_MESSAGE__BODY_REQUEST_VOTE_RESULT);
    ck_assert_int_eq(got.sent[1]->body_case,
                     GABION__RAFT_MESSAGE__BODY_APPEND_ENTRIES_RESULT);
}
END_TEST

START_TEST(entries_are_acknowledged_when_durable)
{
    bootstrap(3);
    append(12, (struct append){ 1, 1, 1, 1 }, "oo");
    ck_assert_uint_eq(got.n_sent, 0);
    persist();
    ck_assert_uint_eq(acknowledged(), 3);
}
END_TEST

/* G6 */
START_TEST(replaced_entries_are_not_acknowledged)
{
    uint64_t first;

    bootstrap(3);
    append(12, (struct append){ 1, 1, 1, 1 }, "ooo");
    first = got.serial;
    append(13, (struct append){ 2, 2, 1, 1 }, "o");
    ck_assert_uint_eq(got.wrote_from, 3);
    ck_assert_int_eq(raft_group_persisted(group, now, first), 0);
    ck_assert_uint_eq(group->raft.last_stored, 2);
    persist();
    ck_assert_uint_eq(group->raft.last_stored, 3);
}
END_TEST

START_TEST(others_mail_is_ignored)
{
    Gabion__RaftMessage message = GABION__RAFT_MESSAGE__INIT;
    Gabion__RaftRequestVote body = GABION__RAFT_REQUEST_VOTE__INIT;

    bootstrap(3);
    body.term = 9;
    message.request_vote = &body;
    message.body_case = GABION__RAFT_MESSAGE__BODY_REQUEST_VOTE;
    message.from = 12;
    message.group = config.group;
    message.to = SELF + 50; /* an earlier life */
    ck_assert_int_eq(raft_group_receive(group, now, &message), 0);
    message.to = SELF;
    message.group++;
    ck_assert_int_eq(raft_group_receive(group, now, &message), 0);
    ck_assert_uint_eq(raft_group_term(group), 1);
}
END_TEST

/* A follower with entries up to 8, a snapshot at 7 and 6..8 in the log. */
static void compact(void)
{
    bootstrap(3);
    append(12, (struct append){ 1, 1, 1, 8 }, "ooooooo");
    persist();
    ck_assert_uint_eq(got.applied, 8);
    ck_assert_int_eq(raft_group_snapshot(group, now, 7), 0);
    persist();
    ck_assert_uint_eq(status().first, 6);
    ck_assert_uint_eq(got.drop_to, 5);
    forget_sent();
}

/* G1 */
START_TEST(entries_below_the_compacted_log_are_dropped)
{
    compact();
    append(12, (struct append){ 1, 0, 0, 8 }, "3oo");
    ck_assert_uint_eq(got.n_sent, 0);
    ck_assert_uint_eq(status().last, 8);
    append(12, (struct append){ 1, 8, 1, 8 }, "o");
    ck_assert_uint_eq(status().last, 9);
}
END_TEST

/* A leader that knows another committed entry: something must be very wrong. */
START_TEST(replica_fails_rather_than_lose_what_is_committed)
{
    Gabion__RaftMessage message = GABION__RAFT_MESSAGE__INIT;
    Gabion__RaftAppendEntries body = GABION__RAFT_APPEND_ENTRIES__INIT;
    struct batch batch;
    uint64_t index;

    compact();
    fill(&batch, "o", 2);
    body.term = 2;
    body.prev_log_index = 7;
    body.prev_log_term = 1;
    body.entry = batch.list;
    body.n_entry = batch.n;
    message.group = config.group;
    message.from = 12;
    message.to = SELF;
    message.append_entries = &body;
    message.body_case = GABION__RAFT_MESSAGE__BODY_APPEND_ENTRIES;
    ck_assert_int_eq(raft_group_receive(group, now, &message), -EBADMSG);
    ck_assert_str_ne(raft_group_error(group), "");
    ck_assert_int_eq(submit(&index), -EBADMSG);
    ck_assert_int_eq(raft_group_tick(group, now), -EBADMSG);
    ck_assert(!raft_group_is_leader(group));
    buf_unref(batch.data[0]);
}
END_TEST

START_TEST(snapshots_out_of_range_are_refused)
{
    compact();
    ck_assert_int_eq(raft_group_snapshot(group, now, 7), -EINVAL);
    ck_assert_int_eq(raft_group_snapshot(group, now, 6), -EINVAL);
    ck_assert_int_eq(raft_group_snapshot(group, now, 9), -EINVAL);
    ck_assert_int_eq(raft_group_snapshot(group, now, 8), 0);
    ck_assert_int_eq(raft_group_installed(group, now, 8), -EINVAL);
}
END_TEST

START_TEST(bytes_bound_what_is_kept)
{
    config.trailing = 100;
    config.trailing_bytes = 25; /* two entries of 10 bytes */
    compact();
}
END_TEST

/* G2 */
START_TEST(change_is_recorded_under_its_own_index)
{
    bootstrap(3);
    append(12, (struct append){ 1, 1, 1, 1 }, "oo4oo");
    ck_assert_uint_eq(status().last, 6);
    ck_assert_uint_eq(group->raft.configuration_uncommitted_index, 4);
    ck_assert_uint_eq(status().members.n, 4);
    append(12, (struct append){ 1, 6, 1, 6 }, "");
    ck_assert_uint_eq(group->raft.configuration_uncommitted_index, 0);
    ck_assert_uint_eq(group->raft.configuration_committed_index, 4);
    ck_assert_uint_eq(got.applied, 6);
}
END_TEST

/* G3, G7 */
START_TEST(nothing_is_applied_while_installing)
{
    bootstrap(3);
    append(12, (struct append){ 2, 1, 1, 1 }, "oo");
    persist();
    forget_sent();
    offer_snapshot(12, 2, 50);
    ck_assert_uint_eq(got.install, 50);
    ck_assert(status().is_installing);
    offer_snapshot(12, 2, 60);
    ck_assert_uint_eq(got.n_installs, 1);
    append(12, (struct append){ 2, 50, 2, 50 }, "");
    ck_assert_uint_eq(got.applied, 1);
    ck_assert_int_eq(raft_group_snapshot(group, now, 1), -EBUSY);
    ck_assert_int_eq(raft_group_installed(group, now, 49), -EINVAL);
    ck_assert_int_eq(raft_group_installed(group, now, 52), 0);
    ck_assert(status().is_installing);
    ck_assert_uint_eq(got.drop_to, RAFT_WHOLE_LOG);
    persist();
    ck_assert(!status().is_installing);
    ck_assert_uint_eq(acknowledged(), 50);
    got.applied = 52;
    append(12, (struct append){ 2, 50, 2, 53 }, "ooo");
    persist();
    ck_assert_uint_eq(got.applied, 53); /* 51 and 52 had been */
}
END_TEST

/* G4 */
START_TEST(roll_back_goes_to_the_change_before)
{
    bootstrap(3);
    append(12, (struct append){ 2, 1, 1, 1 }, "4");
    append(12, (struct append){ 2, 2, 2, 1 }, "5"); /* so 2 was committed */
    ck_assert_uint_eq(status().members.n, 5);
    append(13, (struct append){ 3, 2, 2, 1 }, "o");
    ck_assert_uint_eq(status().members.n, 4);
}
END_TEST

START_TEST(without_settling_roll_back_goes_too_far)
{
    config.plants = RAFT_PLANT_NO_SETTLING;
    bootstrap(3);
    append(12, (struct append){ 2, 1, 1, 1 }, "4");
    append(12, (struct append){ 2, 2, 2, 1 }, "5");
    append(13, (struct append){ 3, 2, 2, 1 }, "o");
    ck_assert_uint_eq(status().members.n, 3);
}
END_TEST

/* G5 */
START_TEST(leader_begins_its_term_before_changes)
{
    bootstrap(3);
    elect();
    ck_assert_uint_eq(status().last, 2);
    ck_assert_int_eq(entry_list_get(&group->log, 2)->kind, ENTRY_NOOP);
    persist();
    ck_assert_int_eq(set_role(14, MEMBER_STANDBY), -EBUSY);
    acknowledge(13, 2);
    ck_assert_int_eq(set_role(14, MEMBER_STANDBY), 0);
    ck_assert_int_eq(set_role(15, MEMBER_STANDBY), -EBUSY);
}
END_TEST

/* G8 */
START_TEST(changes_are_settled_after_a_restart)
{
    struct raft_members members = voters(1);
    struct raft_saved saved;

    ck_assert_int_eq(raft_saved_bootstrap(SELF, &members, &saved), 0);
    saved.term = 4;
    saved.entries = reallocarray(saved.entries, 2, sizeof *saved.entries);
    saved.entries[1] = saved.entries[0];
    saved.entries[1].index = 2;
    saved.n_entries = 2;
    members.member[members.n++] = (struct raft_member){ 12, 2, MEMBER_SPARE };
    ck_assert_int_eq(raft_members_encode(&members, &saved.entries[1].data), 0);
    start(&saved, 2); /* both have been applied */
    persist();
    ck_assert_int_eq(set_role(13, MEMBER_SPARE), 0);
    ck_assert_uint_eq(status().members.n, 3);
}
END_TEST

/* G9 */
START_TEST(leader_heeds_no_other_in_its_term)
{
    lead();
    append(13, (struct append){ raft_group_term(group), 1, 1, 1 }, "oo");
    ck_assert(raft_group_is_leader(group));
    ck_assert_uint_eq(status().last, 2);
}
END_TEST

/* G11 */
START_TEST(timeout_moves_on_whoever_is_a_spare)
{
    lead();
    ck_assert_int_eq(set_role(14, MEMBER_STANDBY), 0);
    persist();
    acknowledge(12, status().last);
    wait_for_timeout();
    ck_assert_int_eq(set_role(14, MEMBER_SPARE), 0);
    persist();
    acknowledge(12, status().last);
    for (int i = 0; i < 8; i++) {
        uint64_t before = now;

        wait_for_timeout();
        acknowledge(12, status().last);
        acknowledge(13, status().last);
        ck_assert_uint_gt(now, before);
    }
    ck_assert(raft_group_is_leader(group));
}
END_TEST

/* G12 */
START_TEST(stale_leader_is_told_no_nonsense)
{
    bootstrap(3);
    append(12, (struct append){ 5, 1, 1, 1 }, "");
    persist();
    forget_sent();
    append(13, (struct append){ 4, 1, 1, 1 }, "o");
    ck_assert_uint_eq(got.sent[0]->append_entries_result->term, 5);
    ck_assert_uint_eq(got.sent[0]->append_entries_result->last_log_index, 0);
    ck_assert_uint_eq(status().last, 1);
}
END_TEST

/* G13 */
START_TEST(joiner_that_is_a_voter_without_knowing_votes)
{
    struct raft_saved saved = { .replica = SELF };

    start(&saved, 0);
    ask_for_vote(12, 6, 1, true);
    ck_assert(got.sent[0]->request_vote_result->vote_granted);
    ask_for_vote(12, 6, 1, false);
    persist();
    ck_assert(got.sent[1]->request_vote_result->vote_granted);
    ck_assert(!got.sent[1]->request_vote_result->pre_vote);
    forget_sent();
    ask_for_vote(13, 6, 1, false);
    persist();
    ck_assert(!got.sent[0]->request_vote_result->vote_granted);
}
END_TEST

START_TEST(standby_forgets_a_leader_that_is_silent)
{
    struct raft_saved saved = { .replica = SELF };

    start(&saved, 0);
    append(12, (struct append){ 1, 0, 0, 1 }, "s");
    persist();
    ck_assert(!status().is_voter);
    ck_assert_uint_eq(status().leader, 12);
    forget_sent();
    ask_for_vote(13, 3, 9, true);
    ck_assert(!got.sent[0]->request_vote_result->vote_granted);
    forget_sent();
    wait_for_timeout();
    ck_assert_uint_eq(status().leader, 0);
    ask_for_vote(13, 3, 9, true);
    ck_assert(got.sent[0]->request_vote_result->vote_granted);
}
END_TEST

/* G17 */
START_TEST(lone_voter_leads_in_a_new_term_after_a_restart)
{
    struct raft_members members = voters(1);
    struct raft_saved saved;

    ck_assert_int_eq(raft_saved_bootstrap(SELF, &members, &saved), 0);
    saved.term = 4;
    start(&saved, 0);
    ck_assert(raft_group_is_leader(group));
    ck_assert_uint_eq(raft_group_term(group), 5);
    ck_assert_uint_eq(entry_list_term(&group->log, 2), 5);
}
END_TEST

START_TEST(last_voter_leads_in_a_new_term)
{
    bootstrap(2);
    append(12, (struct append){ 3, 1, 1, 2 }, "1");
    persist();
    wait_for_timeout();
    ck_assert(raft_group_is_leader(group));
    ck_assert_uint_eq(raft_group_term(group), 4);
}
END_TEST

/* G14 */
START_TEST(refused_candidate_learns_of_a_higher_term)
{
    bootstrap(3);
    ask_for_vote(12, 12, 1, false);
    persist();
    forget_sent();
    ask_for_vote(13, 8, 1, true);
    ck_assert(!got.sent[0]->request_vote_result->vote_granted);
    ck_assert_uint_eq(got.sent[0]->request_vote_result->term, 12);
}
END_TEST

static void refuse(uint64_t from, uint64_t rejected, uint64_t last)
{
    Gabion__RaftMessage message = GABION__RAFT_MESSAGE__INIT;
    Gabion__RaftAppendEntriesResult body =
        GABION__RAFT_APPEND_ENTRIES_RESULT__INIT;

    body.version = 2;
    body.term = raft_group_term(group);
    body.rejected = rejected;
    body.last_log_index = last;
    message.append_entries_result = &body;
    message.body_case = GABION__RAFT_MESSAGE__BODY_APPEND_ENTRIES_RESULT;
    receive(&message, from);
}

/* How many entries go to replica 12 with the next heartbeats. Time passes, so
 * that a pipeline is given up. */
static size_t entries_sent(void)
{
    size_t n = 0;

    for (int i = 0; i < 30; i++) {
        forget_sent();
        wait_for_timeout();
        acknowledge(13, 2);
        for (size_t j = 0; j < got.n_sent; j++) {
            if (got.sent[j]->to == 12 &&
                got.sent[j]->body_case ==
                    GABION__RAFT_MESSAGE__BODY_APPEND_ENTRIES) {
                n += got.sent[j]->append_entries->n_entry;
            }
        }
    }
    return n;
}

/* G15 */
START_TEST(late_refusal_does_not_starve_a_follower)
{
    uint64_t index = 0;

    config.plants = _i == 0 ? 0 : RAFT_PLANT_OLD_REFUSAL;
    lead();
    acknowledge(13, 2);
    ck_assert_uint_eq(entries_sent(), 0); /* 12 is silent: probed */
    ck_assert_int_eq(submit(&index), 0);
    refuse(12, 2, 1);
    if (_i == 0) {
        ck_assert_uint_gt(entries_sent(), 0);
    } else {
        ck_assert_uint_eq(entries_sent(), 0);
    }
}
END_TEST

START_TEST(read_is_confirmed_by_a_majority_in_the_term)
{
    struct raft_answer answers[2];
    struct raft_read read;

    bootstrap(3);
    ck_assert_int_eq(raft_group_read_begin(group, &read), -EAGAIN);
    elect();
    ck_assert_int_eq(raft_group_read_begin(group, &read), 0);
    ck_assert_uint_ge(read.index, 1);
    ck_assert_int_eq(raft_group_read_check(group, &read, answers, 0),
                     -EINPROGRESS);
    answers[0] = (struct raft_answer){ 99, read.term }; /* no voter */
    ck_assert_int_eq(raft_group_read_check(group, &read, answers, 1),
                     -EINPROGRESS);
    answers[1] = (struct raft_answer){ 13, read.term };
    ck_assert_int_eq(raft_group_read_check(group, &read, answers, 2), 0);
    answers[0] = (struct raft_answer){ 12, read.term + 1 };
    ck_assert_int_eq(raft_group_read_check(group, &read, answers, 2), -EAGAIN);
    answers[0].term = read.term;
    append(12, (struct append){ read.term + 1, 1, 1, 1 }, "n");
    ck_assert_int_eq(raft_group_read_check(group, &read, answers, 2), -EAGAIN);
}
END_TEST

START_TEST(read_waits_for_all_that_was_acknowledged)
{
    struct raft_read read;
    uint64_t index = 0;

    lead();
    ck_assert_int_eq(submit(&index), 0);
    persist();
    acknowledge(12, index);
    ck_assert_int_eq(raft_group_read_begin(group, &read), 0);
    ck_assert_uint_eq(read.index, index);
}
END_TEST

START_TEST(impossible_changes_are_refused)
{
    struct raft_member moved = { 12, 9, MEMBER_STANDBY };
    uint64_t index;
    uint64_t term;

    bootstrap(3);
    ck_assert_int_eq(set_role(14, MEMBER_STANDBY), -EAGAIN);
    raft_group_free(group);
    memset(&got, 0, sizeof got);
    lead();
    ck_assert_int_eq(set_role(12, MEMBER_VOTER), -EEXIST);
    ck_assert_int_eq(raft_group_set_member(group, now, &moved, &index, &term),
                     -EINVAL);
    ck_assert_int_eq(raft_group_remove_member(group, now, 99, &index, &term),
                     -ENOENT);
    ck_assert_int_eq(raft_group_catch_up(group, now, 12), -EINVAL);
    ck_assert_int_eq(raft_group_catch_up(group, now, 99), -ENOENT);
    ck_assert_int_eq(raft_group_transfer(group, now, 99), -ENOENT);
    ck_assert_int_eq(raft_group_transfer(group, now, SELF), -ENOENT);
}
END_TEST

START_TEST(member_is_added_caught_up_and_promoted)
{
    struct raft_members members;

    lead();
    ck_assert_int_eq(set_role(14, MEMBER_STANDBY), 0);
    persist();
    acknowledge(12, status().last);
    ck_assert_int_eq(raft_group_catch_up(group, now, 14), 0);
    ck_assert_int_eq(raft_group_catch_up_state(group, 14), CATCH_UP_RUNNING);
    ck_assert_int_eq(set_role(14, MEMBER_VOTER), -EBUSY);
    acknowledge(14, status().last);
    ck_assert_int_eq(raft_group_catch_up_state(group, 14), CATCH_UP_FINISHED);
    ck_assert_int_eq(set_role(14, MEMBER_VOTER), 0);
    members = status().members;
    ck_assert_uint_eq(raft_members_voters(&members), 4);
}
END_TEST

START_TEST(member_is_removed_but_not_the_leader_itself)
{
    uint64_t index;
    uint64_t term;

    lead();
    ck_assert_int_eq(raft_group_remove_member(group, now, SELF, &index, &term),
                     -EINVAL);
    ck_assert_int_eq(set_role(12, MEMBER_STANDBY), -EINVAL);
    ck_assert_int_eq(raft_group_remove_member(group, now, 12, &index, &term),
                     0);
    ck_assert_uint_eq(status().members.n, 2);
    persist();
    acknowledge(12, index); /* counts no more */
    ck_assert_uint_lt(status().commit, index);
    acknowledge(13, index);
    ck_assert_uint_eq(status().commit, index);
}
END_TEST

START_TEST(transfer_asks_the_other_to_stand)
{
    uint64_t index;

    lead();
    ck_assert_int_eq(raft_group_transfer(group, now, 12), 0);
    ck_assert(raft_group_is_transferring(group));
    ck_assert(has_sent(GABION__RAFT_MESSAGE__BODY_TIMEOUT_NOW));
    ck_assert_int_eq(submit(&index), -EAGAIN);
    append(12, (struct append){ raft_group_term(group) + 1, 2, 2, 2 }, "n");
    ck_assert_uint_eq(status().leader, 12);
    ck_assert_int_eq(got.role, GROUP_FOLLOWER);
}
END_TEST

START_TEST(bad_states_do_not_start)
{
    struct raft_members members = voters(3);
    struct raft_saved saved;

    ck_assert_int_eq(raft_saved_bootstrap(SELF, &members, &saved), 0);
    saved.entries[0].index = 2;
    ck_assert_int_eq(raft_group_new(&config, &saved, 0, now, &group), -EINVAL);
    saved.entries[0].index = 1;
    saved.snapshot = (struct raft_pointer){ 1, 1, 1, members };
    ck_assert_int_eq(raft_group_new(&config, &saved, 0, now, &group), -EINVAL);
    ck_assert_int_eq(raft_group_new(&config, &saved, 1, now, &group), 0);
    raft_saved_close(&saved);
}
END_TEST

static void add_tests(TCase *tcase)
{
    tcase_add_test(tcase, lone_voter_leads_and_applies_what_is_durable);
    tcase_add_test(tcase, leader_knows_how_far_members_are);
    tcase_add_test(tcase, entry_is_committed_by_a_majority_only);
    tcase_add_test(tcase, many_bytes_go_in_several_messages);
    tcase_add_test(tcase, follower_refuses_to_submit_and_knows_its_leader);
    tcase_add_test(tcase, joiner_waits_for_a_leader);
    tcase_add_test(tcase, vote_waits_for_the_disk);
    tcase_add_test(tcase, messages_behind_a_vote_keep_their_order);
    tcase_add_test(tcase, entries_are_acknowledged_when_durable);
    tcase_add_test(tcase, replaced_entries_are_not_acknowledged);
    tcase_add_test(tcase, others_mail_is_ignored);
    tcase_add_test(tcase, entries_below_the_compacted_log_are_dropped);
    tcase_add_test(tcase, replica_fails_rather_than_lose_what_is_committed);
    tcase_add_test(tcase, snapshots_out_of_range_are_refused);
    tcase_add_test(tcase, bytes_bound_what_is_kept);
    tcase_add_test(tcase, change_is_recorded_under_its_own_index);
    tcase_add_test(tcase, nothing_is_applied_while_installing);
    tcase_add_test(tcase, roll_back_goes_to_the_change_before);
    tcase_add_test(tcase, without_settling_roll_back_goes_too_far);
    tcase_add_test(tcase, leader_begins_its_term_before_changes);
    tcase_add_test(tcase, changes_are_settled_after_a_restart);
    tcase_add_test(tcase, leader_heeds_no_other_in_its_term);
    tcase_add_test(tcase, timeout_moves_on_whoever_is_a_spare);
    tcase_add_test(tcase, stale_leader_is_told_no_nonsense);
    tcase_add_test(tcase, joiner_that_is_a_voter_without_knowing_votes);
    tcase_add_test(tcase, standby_forgets_a_leader_that_is_silent);
    tcase_add_test(tcase, lone_voter_leads_in_a_new_term_after_a_restart);
    tcase_add_test(tcase, last_voter_leads_in_a_new_term);
    tcase_add_test(tcase, refused_candidate_learns_of_a_higher_term);
    tcase_add_loop_test(tcase, late_refusal_does_not_starve_a_follower, 0, 2);
    tcase_add_test(tcase, read_is_confirmed_by_a_majority_in_the_term);
    tcase_add_test(tcase, read_waits_for_all_that_was_acknowledged);
    tcase_add_test(tcase, impossible_changes_are_refused);
    tcase_add_test(tcase, member_is_added_caught_up_and_promoted);
    tcase_add_test(tcase, member_is_removed_but_not_the_leader_itself);
    tcase_add_test(tcase, transfer_asks_the_other_to_stand);
    tcase_add_test(tcase, bad_states_do_not_start);
}

int main(void)
{
    Suite *suite = suite_create("raft_group");
    TCase *tcase = tcase_create("raft_group");
    SRunner *runner;
    int n_failed;

    tcase_add_checked_fixture(tcase, setup, teardown);
    add_tests(tcase);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
