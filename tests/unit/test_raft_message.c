#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <check.h>

#include "storaged/raft/raft_message.h"

#define CLUSTER 0x99u

static const struct raft_members members = {
    .member = { { 11, 1, MEMBER_VOTER }, { 12, 2, MEMBER_VOTER } },
    .n = 2,
};
static struct entry_list entries;
static struct raft_pointer snapshot;
static struct raft_sender sender;

static void append(uint64_t index, enum entry_kind kind, size_t size)
{
    struct log_entry entry = { .index = index, .term = 3, .kind = kind };

    if (kind == ENTRY_CHANGE) {
        ck_assert_int_eq(raft_members_encode(&members, &entry.data), 0);
    } else {
        entry.data = buf_new(size);
        ck_assert_ptr_nonnull(entry.data);
        memset(entry.data->data, (int)index, size);
    }
    ck_assert_int_eq(entry_list_append(&entries, &entry), 0);
}

static void setup(void)
{
    entry_list_init(&entries, 10);
    append(10, ENTRY_OPS, 1);
    append(11, ENTRY_CHANGE, 0);
    append(12, ENTRY_OPS, 0);
    append(13, ENTRY_OPS, 13);
    append(14, ENTRY_NOOP, 8);
    snapshot = (struct raft_pointer){ 9, 2, 5, members };
    sender = (struct raft_sender){ 4, 11, 1, &entries, &snapshot };
}

static void teardown(void)
{
    entry_list_close(&entries);
}

static char address[] = "2/000000000000000c";

static struct raft_message make_message(enum raft_message_type type)
{
    struct raft_message message;

    memset(&message, 0, sizeof message);
    message.type = type;
    message.server_id = 12;
    message.server_address = address;
    return message;
}

/* Encode, pack, unpack, and hand out the frame. */
static Gabion__RaftFrame *travel(const struct raft_message *message)
{
    struct errmsg msg = { "" };
    Gabion__RaftMessage *out;
    Gabion__RaftFrame *frame;
    struct buf *data;
    uint32_t node;
    int rc;

    ck_assert_int_eq(raft_message_encode(&sender, message, &out, &node), 0);
    ck_assert_uint_eq(node, 2);
    ck_assert_int_eq(raft_frame_pack(CLUSTER, &out, 1, &data), 0);
    gabion__raft_message__free_unpacked(out, NULL);
    rc = raft_frame_unpack(data->data, data->size, CLUSTER, &frame, &msg);
    ck_assert_msg(rc == 0, "%s", msg.text);
    buf_unref(data);
    ck_assert_uint_eq(frame->n_message, 1);
    ck_assert_uint_eq(frame->message[0]->group, 4);
    ck_assert_uint_eq(frame->message[0]->to, 12);
    return frame;
}

static struct raft_incoming receive(const struct raft_message *message)
{
    Gabion__RaftFrame *frame = travel(message);
    struct raft_incoming incoming;

    ck_assert_int_eq(raft_message_decode(frame->message[0], 0, 0, &incoming),
                     0);
    gabion__raft_frame__free_unpacked(frame, NULL);
    ck_assert_int_eq(incoming.message.type, message->type);
    ck_assert_uint_eq(incoming.message.server_id, 11);
    ck_assert_str_eq(incoming.address, "1/000000000000000b");
    return incoming;
}

START_TEST(requests_for_votes_survive)
{
    struct raft_message message = make_message(RAFT_REQUEST_VOTE);
    struct raft_incoming in;

    message.request_vote =
        (struct raft_request_vote){ 2, 7, 11, 14, 3, true, true };
    in = receive(&message);
    ck_assert_mem_eq(&in.message.request_vote.term, &message.request_vote.term,
                     sizeof(raft_term));
    ck_assert_uint_eq(in.message.request_vote.version, 2);
    ck_assert_uint_eq(in.message.request_vote.candidate_id, 11);
    ck_assert_uint_eq(in.message.request_vote.last_log_index, 14);
    ck_assert_uint_eq(in.message.request_vote.last_log_term, 3);
    ck_assert(in.message.request_vote.disrupt_leader);
    ck_assert(in.message.request_vote.pre_vote);
}
END_TEST

START_TEST(votes_survive)
{
    struct raft_message message = make_message(RAFT_REQUEST_VOTE_RESULT);
    struct raft_incoming in;

    message.request_vote_result =
        (struct raft_request_vote_result){ 2, 7, true, true, 3, 65535 };
    in = receive(&message);
    ck_assert_uint_eq(in.message.request_vote_result.version, 2);
    ck_assert_uint_eq(in.message.request_vote_result.term, 7);
    ck_assert(in.message.request_vote_result.vote_granted);
    ck_assert(in.message.request_vote_result.pre_vote);
    ck_assert_uint_eq(in.message.request_vote_result.features, 3);
    ck_assert_uint_eq(in.message.request_vote_result.capacity, 65535);
}
END_TEST

START_TEST(answers_to_entries_survive)
{
    struct raft_message message = make_message(RAFT_APPEND_ENTRIES_RESULT);
    struct raft_incoming in;

    message.append_entries_result =
        (struct raft_append_entries_result){ 2, 7, 9, 8, 1, 2 };
    in = receive(&message);
    ck_assert_uint_eq(in.message.append_entries_result.term, 7);
    ck_assert_uint_eq(in.message.append_entries_result.rejected, 9);
    ck_assert_uint_eq(in.message.append_entries_result.last_log_index, 8);
    ck_assert_uint_eq(in.message.append_entries_result.features, 1);
    ck_assert_uint_eq(in.message.append_entries_result.capacity, 2);
}
END_TEST

START_TEST(transfers_survive)
{
    struct raft_message message = make_message(RAFT_TIMEOUT_NOW);
    struct raft_incoming in;

    message.timeout_now = (struct raft_timeout_now){ 1, 7, 14, 3 };
    in = receive(&message);
    ck_assert_uint_eq(in.message.timeout_now.version, 1);
    ck_assert_uint_eq(in.message.timeout_now.term, 7);
    ck_assert_uint_eq(in.message.timeout_now.last_log_index, 14);
    ck_assert_uint_eq(in.message.timeout_now.last_log_term, 3);
}
END_TEST

START_TEST(snapshot_carries_the_senders_members)
{
    struct raft_message message = make_message(RAFT_INSTALL_SNAPSHOT);
    struct raft_incoming in;

    message.install_snapshot.term = 7;
    message.install_snapshot.last_index = 9;
    message.install_snapshot.last_term = 2;
    in = receive(&message);
    ck_assert_uint_eq(in.message.install_snapshot.last_index, 9);
    ck_assert_uint_eq(in.message.install_snapshot.last_term, 2);
    ck_assert_uint_eq(in.message.install_snapshot.conf_index, 5);
    ck_assert_uint_eq(in.message.install_snapshot.conf.n, 2);
    ck_assert_uint_eq(in.message.install_snapshot.conf.servers[1].id, 12);
    raft_incoming_discard(&in);
}
END_TEST

static struct raft_message make_entries(uint64_t prev, unsigned n)
{
    struct raft_message message = make_message(RAFT_APPEND_ENTRIES);

    message.append_entries.term = 7;
    message.append_entries.prev_log_index = prev;
    message.append_entries.prev_log_term = 3;
    message.append_entries.leader_commit = 12;
    message.append_entries.n_entries = n;
    return message;
}

START_TEST(entries_come_from_the_log_in_one_aligned_batch)
{
    struct raft_message message = make_entries(10, 4);
    Gabion__RaftFrame *frame = travel(&message);
    const struct raft_append_entries *in;
    struct raft_incoming incoming;

    ck_assert_int_eq(raft_message_decode(frame->message[0], 0, 4, &incoming),
                     0);
    in = &incoming.message.append_entries;
    ck_assert_uint_eq(in->n_entries, 4);
    ck_assert_uint_eq(in->prev_log_index, 10);
    ck_assert_uint_eq(in->leader_commit, 12);
    ck_assert_int_eq(in->entries[0].type, RAFT_CHANGE);
    ck_assert_int_eq(in->entries[3].type, RAFT_BARRIER);
    for (unsigned i = 0; i < 4; i++) {
        const struct log_entry *own = entry_list_get(&entries, 11 + i);

        ck_assert_ptr_eq(in->entries[i].batch, in->entries[0].batch);
        ck_assert_uint_eq((uintptr_t)in->entries[i].buf.base % 8, 0);
        ck_assert_uint_eq(in->entries[i].buf.len, own->data->size);
        ck_assert(own->data->size == 0 ||
                  memcmp(in->entries[i].buf.base, own->data->data,
                         own->data->size) == 0);
    }
    gabion__raft_frame__free_unpacked(frame, NULL);
    raft_incoming_discard(&incoming);
}
END_TEST

START_TEST(entries_can_be_taken_in_parts)
{
    struct raft_message message = make_entries(10, 4);
    Gabion__RaftFrame *frame = travel(&message);
    struct raft_incoming incoming;

    ck_assert_int_eq(raft_message_decode(frame->message[0], 1, 2, &incoming),
                     0);
    ck_assert_uint_eq(incoming.message.append_entries.prev_log_index, 11);
    ck_assert_uint_eq(incoming.message.append_entries.prev_log_term, 3);
    ck_assert_uint_eq(incoming.message.append_entries.n_entries, 2);
    ck_assert_uint_eq(incoming.message.append_entries.entries[1].buf.len, 13);
    gabion__raft_frame__free_unpacked(frame, NULL);
    raft_incoming_discard(&incoming);
}
END_TEST

START_TEST(what_the_sender_does_not_have_is_an_error)
{
    struct raft_message message = make_entries(12, 3);
    Gabion__RaftMessage *out = NULL;
    uint32_t node;

    ck_assert_int_eq(raft_message_encode(&sender, &message, &out, &node),
                     -EBADMSG);
    message = make_message(RAFT_INSTALL_SNAPSHOT);
    message.install_snapshot.last_index = 8;
    message.install_snapshot.last_term = 2;
    ck_assert_int_eq(raft_message_encode(&sender, &message, &out, &node),
                     -EBADMSG);
    ck_assert_ptr_null(out);
}
END_TEST

/* -------------------------------------------------------------------- checks
 */

/* A valid message of the kind, spoilt in one place. */
struct spoilt {
    Gabion__RaftMessage message;
    Gabion__RaftRequestVote vote;
    Gabion__RaftRequestVoteResult vote_result;
    Gabion__RaftAppendEntries append;
    Gabion__RaftEntry entry[2];
    Gabion__RaftEntry *entry_list[2];
    Gabion__RaftAppendEntriesResult append_result;
    Gabion__RaftInstallSnapshot install;
    Gabion__RaftTimeoutNow timeout;
};

static struct spoilt s;
static struct buf *packed;

static void fill_append(void)
{
    s.append = (Gabion__RaftAppendEntries)GABION__RAFT_APPEND_ENTRIES__INIT;
    s.append.term = 7;
    s.append.prev_log_index = 4;
    s.append.prev_log_term = 2;
    s.append.leader_commit = 4;
    for (int i = 0; i < 2; i++) {
        s.entry[i] = (Gabion__RaftEntry)GABION__RAFT_ENTRY__INIT;
        s.entry[i].term = 3;
        s.entry[i].kind = ENTRY_CHANGE;
        s.entry[i].data.data = packed->data;
        s.entry[i].data.len = packed->size;
        s.entry_list[i] = &s.entry[i];
    }
    s.append.entry = s.entry_list;
    s.append.n_entry = 2;
}

static void fill_install(void)
{
    s.install =
        (Gabion__RaftInstallSnapshot)GABION__RAFT_INSTALL_SNAPSHOT__INIT;
    s.install.term = 7;
    s.install.last_index = 9;
    s.install.last_term = 7;
    s.install.members_index = 9;
    s.install.members.data = packed->data;
    s.install.members.len = packed->size;
}

static void fill(Gabion__RaftMessage__BodyCase body)
{
    s.message = (Gabion__RaftMessage)GABION__RAFT_MESSAGE__INIT;
    s.message.from = 11;
    s.message.to = 12;
    s.message.body_case = body;
    s.vote = (Gabion__RaftRequestVote)GABION__RAFT_REQUEST_VOTE__INIT;
    s.vote.term = 7;
    s.vote_result =
        (Gabion__RaftRequestVoteResult)GABION__RAFT_REQUEST_VOTE_RESULT__INIT;
    s.vote_result.term = 7;
    fill_append();
    s.append_result = (Gabion__RaftAppendEntriesResult)
        GABION__RAFT_APPEND_ENTRIES_RESULT__INIT;
    s.append_result.term = 7;
    fill_install();
    s.timeout = (Gabion__RaftTimeoutNow)GABION__RAFT_TIMEOUT_NOW__INIT;
    s.timeout.term = 7;
    switch (body) {
    case GABION__RAFT_MESSAGE__BODY_REQUEST_VOTE:
        s.message.request_vote = &s.vote;
        break;
    case GABION__RAFT_MESSAGE__BODY_REQUEST_VOTE_RESULT:
        s.message.request_vote_result = &s.vote_result;
        break;
    case GABION__RAFT_MESSAGE__BODY_APPEND_ENTRIES:
        s.message.append_entries = &s.append;
        break;
    case GABION__RAFT_MESSAGE__BODY_APPEND_ENTRIES_RESULT:
        s.message.append_entries_result = &s.append_result;
        break;
    case GABION__RAFT_MESSAGE__BODY_INSTALL_SNAPSHOT:
        s.message.install_snapshot = &s.install;
        break;
    default:
        s.message.timeout_now = &s.timeout;
        break;
    }
}

#define VOTE    GABION__RAFT_MESSAGE__BODY_REQUEST_VOTE
#define RESULT  GABION__RAFT_MESSAGE__BODY_REQUEST_VOTE_RESULT
#define APPEND  GABION__RAFT_MESSAGE__BODY_APPEND_ENTRIES
#define ANSWER  GABION__RAFT_MESSAGE__BODY_APPEND_ENTRIES_RESULT
#define INSTALL GABION__RAFT_MESSAGE__BODY_INSTALL_SNAPSHOT
#define TIMEOUT GABION__RAFT_MESSAGE__BODY_TIMEOUT_NOW

/* Each a message, a field of it, and a value that it must not have. */
static const struct {
    Gabion__RaftMessage__BodyCase body;
    void *field; /* of s */
    size_t size;
    uint64_t value;
} bad[] = {
    { VOTE, &s.message.from, 8, 0 },
    { VOTE, &s.message.to, 8, 0 },
    { VOTE, &s.message.to, 8, 11 },
    { VOTE, &s.vote.term, 8, 0 },
    { VOTE, &s.vote.term, 8, 1ull << 63 },
    { VOTE, &s.vote.version, 4, 256 },
    { VOTE, &s.vote.last_log_index, 8, 1 }, /* without a term */
    { VOTE, &s.vote.last_log_term, 8, 1 },  /* without an entry */
    { RESULT, &s.vote_result.term, 8, 0 },
    { RESULT, &s.vote_result.version, 4, 300 },
    { RESULT, &s.vote_result.features, 4, 65536 },
    { RESULT, &s.vote_result.capacity, 4, 65536 },
    { APPEND, &s.append.term, 8, 0 },
    { APPEND, &s.append.term, 8, 2 }, /* below the entries' */
    { APPEND, &s.append.prev_log_index, 8, 0 },
    { APPEND, &s.append.prev_log_index, 8, INT64_MAX - 1ull },
    { APPEND, &s.append.prev_log_term, 8, 0 },
    { APPEND, &s.append.prev_log_term, 8, 8 },
    { APPEND, &s.append.prev_log_term, 8, 4 }, /* above the entries' */
    { APPEND, &s.append.leader_commit, 8, UINT64_MAX },
    { APPEND, &s.append.n_entry, 8, 1025 },
    { APPEND, &s.entry[0].term, 8, 0 },
    { APPEND, &s.entry[0].term, 8, 4 }, /* above the next one's */
    { APPEND, &s.entry[1].term, 8, 8 },
    { APPEND, &s.entry[1].kind, 4, 0 },
    { APPEND, &s.entry[1].kind, 4, 4 },
    { APPEND, &s.entry[1].data.len, 8, 9 },
    { APPEND, &s.entry[1].data.len, 8, 0 },
    { ANSWER, &s.append_result.term, 8, 0 },
    { ANSWER, &s.append_result.rejected, 8, UINT64_MAX },
    { ANSWER, &s.append_result.last_log_index, 8, UINT64_MAX },
    { ANSWER, &s.append_result.features, 4, 65536 },
    { INSTALL, &s.install.term, 8, 6 }, /* below last_term */
    { INSTALL, &s.install.last_index, 8, 0 },
    { INSTALL, &s.install.last_term, 8, 0 },
    { INSTALL, &s.install.members_index, 8, 0 },
    { INSTALL, &s.install.members_index, 8, 10 },
    { INSTALL, &s.install.members.len, 8, 16 },
    { TIMEOUT, &s.timeout.term, 8, 0 },
    { TIMEOUT, &s.timeout.last_log_index, 8, 3 },
    { TIMEOUT, &s.message.body_case, 4, 0 },
};

START_TEST(bad_values_are_refused)
{
    struct errmsg msg = { "" };

    ck_assert_int_eq(raft_members_encode(&members, &packed), 0);
    fill(bad[_i].body);
    ck_assert_int_eq(raft_message_validate(&s.message, &msg), 0);
    memcpy(bad[_i].field, &bad[_i].value, bad[_i].size);
    ck_assert_int_eq(raft_message_validate(&s.message, &msg), -EINVAL);
    ck_assert_uint_gt(strlen(msg.text), 0);
    buf_unref(packed);
}
END_TEST

START_TEST(first_entry_must_name_members)
{
    struct errmsg msg = { "" };

    ck_assert_int_eq(raft_members_encode(&members, &packed), 0);
    fill(APPEND);
    s.append.prev_log_index = 0;
    s.append.prev_log_term = 0;
    ck_assert_int_eq(raft_message_validate(&s.message, &msg), 0);
    s.entry[0].kind = ENTRY_OPS;
    ck_assert_int_eq(raft_message_validate(&s.message, &msg), -EINVAL);
    buf_unref(packed);
}
END_TEST

START_TEST(frames_of_strangers_are_refused)
{
    struct errmsg msg = { "" };
    Gabion__RaftFrame *frame = NULL;
    struct buf *data;

    ck_assert_int_eq(raft_frame_pack(CLUSTER, NULL, 0, &data), 0);
    ck_assert_int_eq(
        raft_frame_unpack(data->data, data->size, CLUSTER, &frame, &msg), 0);
    gabion__raft_frame__free_unpacked(frame, NULL);
    frame = NULL;
    ck_assert_int_eq(
        raft_frame_unpack(data->data, data->size, CLUSTER + 1, &frame, &msg),
        -ESTALE);
    ck_assert_int_eq(raft_frame_unpack("nonsense", 8, CLUSTER, &frame, &msg),
                     -EBADMSG);
    ck_assert_ptr_null(frame);
    buf_unref(data);
}
END_TEST

/* ---------------------------------------------------------------- entry_list
 */

START_TEST(list_keeps_what_was_appended)
{
    struct entry_list list;

    entry_list_init(&list, 1);
    for (uint64_t index = 1; index <= 1000; index++) {
        struct log_entry entry = { .index = index,
                                   .term = index / 10 + 1,
                                   .kind = ENTRY_OPS,
                                   .data = buf_new(8) };

        ck_assert_int_eq(entry_list_append(&list, &entry), 0);
        if (index % 3 == 0) {
            entry_list_drop_to(&list, index > 20 ? index - 20 : 0);
        }
    }
    ck_assert_uint_eq(list.first, 980);
    ck_assert_uint_eq(entry_list_last(&list), 1000);
    ck_assert_uint_eq(list.bytes, 8 * list.n);
    ck_assert_uint_eq(entry_list_term(&list, 979), 0);
    ck_assert_uint_eq(entry_list_term(&list, 980), 99);
    ck_assert_uint_eq(entry_list_term(&list, 1001), 0);
    entry_list_truncate(&list, 990);
    ck_assert_uint_eq(entry_list_last(&list), 989);
    entry_list_drop_to(&list, 5000);
    ck_assert_uint_eq(list.first, 990);
    ck_assert_uint_eq(entry_list_last(&list), 989);
    entry_list_restart(&list, 7);
    ck_assert_uint_eq(entry_list_last(&list), 6);
    ck_assert_uint_eq(list.bytes, 0);
    entry_list_close(&list);
}
END_TEST

START_TEST(list_finds_the_newest_change)
{
    ck_assert_ptr_null(entry_list_change(&entries, 10));
    ck_assert_uint_eq(entry_list_change(&entries, 14)->index, 11);
    ck_assert_uint_eq(entry_list_change(&entries, 11)->index, 11);
    ck_assert_ptr_null(entry_list_change(&entries, 15));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_message");
    TCase *tcase = tcase_create("raft_message");
    SRunner *runner;
    int n_failed;

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, requests_for_votes_survive);
    tcase_add_test(tcase, votes_survive);
    tcase_add_test(tcase, answers_to_entries_survive);
    tcase_add_test(tcase, transfers_survive);
    tcase_add_test(tcase, snapshot_carries_the_senders_members);
    tcase_add_test(tcase, entries_come_from_the_log_in_one_aligned_batch);
    tcase_add_test(tcase, entries_can_be_taken_in_parts);
    tcase_add_test(tcase, what_the_sender_does_not_have_is_an_error);
    tcase_add_loop_test(tcase, bad_values_are_refused, 0,
                        sizeof bad / sizeof bad[0]);
    tcase_add_test(tcase, first_entry_must_name_members);
    tcase_add_test(tcase, frames_of_strangers_are_refused);
    tcase_add_test(tcase, list_keeps_what_was_appended);
    tcase_add_test(tcase, list_finds_the_newest_change);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
