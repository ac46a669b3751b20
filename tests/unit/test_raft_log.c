#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <check.h>
#include <sqlite3.h>

#include "storaged/raft/raft_log.h"
#include "storaged/raft/raft_members.h"

#define CLUSTER  0x1122334455667788u
#define GROUPS_N 3u

static char dir[64];
static char path[96];
static char other[96];
static struct raft_log *raft_log;
static const struct raft_members members = {
    .member = { { 11, 1, MEMBER_VOTER }, { 12, 2, MEMBER_VOTER } },
    .n = 2,
};

static struct raft_log *open_log(const char *name)
{
    struct errmsg msg = { "" };
    struct raft_log *log = NULL;
    int rc = raft_log_open(name, CLUSTER, &log, &msg);

    ck_assert_msg(rc == 0, "%s", msg.text);
    return log;
}

static void add_groups(struct raft_log *log)
{
    struct raft_saved saved;

    ck_assert_int_eq(raft_log_begin(log), 0);
    for (uint32_t group = 0; group < GROUPS_N; group++) {
        ck_assert_int_eq(raft_saved_bootstrap(11, &members, &saved), 0);
        ck_assert_int_eq(raft_log_add(log, group, &saved), 0);
        raft_saved_close(&saved);
    }
    ck_assert_int_eq(raft_log_commit(log), 0);
}

static void setup(void)
{
    struct errmsg msg = { "" };

    (void)snprintf(dir, sizeof dir, "/tmp/gabion-raftlog-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    (void)snprintf(path, sizeof path, "%s/raftlog.db", dir);
    (void)snprintf(other, sizeof other, "%s/other.db", dir);
    ck_assert_int_eq(raft_log_create(path, CLUSTER, &msg), 0);
    raft_log = open_log(path);
    add_groups(raft_log);
}

static void remove_log(const char *name)
{
    static const char *const suffixes[] = { "", "-wal", "-shm", "-journal" };
    char file[128];

    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        (void)snprintf(file, sizeof file, "%s%s", name, suffixes[i]);
        (void)unlink(file);
    }
}

static void teardown(void)
{
    raft_log_close(raft_log);
    remove_log(path);
    remove_log(other);
    ck_assert_int_eq(rmdir(dir), 0);
}

static void reopen(void)
{
    raft_log_close(raft_log);
    raft_log = open_log(path);
}

static struct raft_saved load(struct raft_log *log, uint32_t group)
{
    struct errmsg msg = { "" };
    struct raft_saved saved = { 0 };
    int rc = raft_log_load(log, group, &saved, &msg);

    ck_assert_msg(rc == 0, "%s", msg.text);
    return saved;
}

static struct log_entry make_entry(uint64_t index, uint64_t term)
{
    struct log_entry entry = { .index = index,
                               .term = term,
                               .kind = ENTRY_OPS,
                               .data = buf_new(1 + index % 50) };

    ck_assert_ptr_nonnull(entry.data);
    memset(entry.data->data, (int)(index * 7 + term), entry.data->size);
    return entry;
}

/* One write in the turn that is open. */
static void write_entries(struct raft_log *log,
                          uint32_t group,
                          uint64_t from,
                          size_t n,
                          uint64_t term)
{
    struct log_entry entries[8];
    struct raft_write write = { .has_vote = true,
                                .term = term,
                                .vote = 12,
                                .from = from,
                                .entries = entries,
                                .n_entries = n };

    for (size_t i = 0; i < n; i++) {
        entries[i] = make_entry(from + i, term);
    }
    ck_assert_int_eq(raft_log_write(log, group, &write), 0);
    for (size_t i = 0; i < n; i++) {
        buf_unref(entries[i].data);
    }
}

static void write_snapshot(struct raft_log *log,
                           uint32_t group,
                           uint64_t index,
                           uint64_t term,
                           uint64_t drop_to)
{
    struct raft_pointer snapshot = { index, term, 1, members };
    struct raft_write write = { .snapshot = &snapshot, .drop_to = drop_to };

    ck_assert_int_eq(raft_log_write(log, group, &write), 0);
}

static void assert_equal(const struct raft_saved *a, const struct raft_saved *b)
{
    ck_assert_uint_eq(a->replica, b->replica);
    ck_assert_uint_eq(a->term, b->term);
    ck_assert_uint_eq(a->vote, b->vote);
    ck_assert_uint_eq(a->snapshot.index, b->snapshot.index);
    ck_assert_uint_eq(a->snapshot.term, b->snapshot.term);
    ck_assert_uint_eq(a->snapshot.members.n, b->snapshot.members.n);
    ck_assert_uint_eq(a->n_entries, b->n_entries);
    for (size_t i = 0; i < a->n_entries; i++) {
        ck_assert_uint_eq(a->entries[i].index, b->entries[i].index);
        ck_assert_uint_eq(a->entries[i].term, b->entries[i].term);
        ck_assert_int_eq(a->entries[i].kind, b->entries[i].kind);
        ck_assert_uint_eq(a->entries[i].data->size, b->entries[i].data->size);
        ck_assert_mem_eq(a->entries[i].data->data, b->entries[i].data->data,
                         a->entries[i].data->size);
    }
}

START_TEST(everything_is_there_after_reopening)
{
    struct raft_saved saved;
    uint32_t *groups = NULL;
    size_t n = 0;

    ck_assert_int_eq(raft_log_begin(raft_log), 0);
    write_entries(raft_log, 1, 2, 5, 3);
    ck_assert_int_eq(raft_log_commit(raft_log), 0);
    reopen();
    ck_assert_int_eq(raft_log_groups(raft_log, &groups, &n), 0);
    ck_assert_uint_eq(n, GROUPS_N);
    ck_assert_uint_eq(groups[2], 2);
    free(groups);
    saved = load(raft_log, 1);
    ck_assert_uint_eq(saved.replica, 11);
    ck_assert_uint_eq(saved.term, 3);
    ck_assert_uint_eq(saved.vote, 12);
    ck_assert_uint_eq(saved.n_entries, 6);
    ck_assert_int_eq(saved.entries[0].kind, ENTRY_CHANGE);
    ck_assert_uint_eq(saved.entries[5].index, 6);
    ck_assert_uint_eq(saved.entries[5].data->data[0], (6 * 7 + 3) & 0xff);
    raft_saved_close(&saved);
    saved = load(raft_log, 0);
    ck_assert_uint_eq(saved.term, 1);
    ck_assert_uint_eq(saved.n_entries, 1);
    raft_saved_close(&saved);
}
END_TEST

START_TEST(uncommitted_turn_is_forgotten)
{
    struct raft_saved saved;

    ck_assert_int_eq(raft_log_begin(raft_log), 0);
    write_entries(raft_log, 0, 2, 5, 3);
    reopen();
    saved = load(raft_log, 0);
    ck_assert_uint_eq(saved.term, 1);
    ck_assert_uint_eq(saved.n_entries, 1);
    raft_saved_close(&saved);
}
END_TEST

START_TEST(append_replaces_what_conflicts)
{
    struct raft_saved saved;

    ck_assert_int_eq(raft_log_begin(raft_log), 0);
    write_entries(raft_log, 0, 2, 5, 3);
    write_entries(raft_log, 0, 4, 1, 5);
    ck_assert_int_eq(raft_log_commit(raft_log), 0);
    saved = load(raft_log, 0);
    ck_assert_uint_eq(saved.n_entries, 4);
    ck_assert_uint_eq(saved.entries[2].term, 3);
    ck_assert_uint_eq(saved.entries[3].term, 5);
    raft_saved_close(&saved);
}
END_TEST

START_TEST(snapshot_drops_old_entries_only)
{
    struct raft_saved saved;

    ck_assert_int_eq(raft_log_begin(raft_log), 0);
    write_entries(raft_log, 0, 2, 8, 3);
    write_snapshot(raft_log, 0, 6, 3, 4);
    ck_assert_int_eq(raft_log_commit(raft_log), 0);
    saved = load(raft_log, 0);
    ck_assert_uint_eq(saved.snapshot.index, 6);
    ck_assert_uint_eq(saved.snapshot.members.member[1].id, 12);
    ck_assert_uint_eq(saved.entries[0].index, 5);
    ck_assert_uint_eq(saved.n_entries, 5);
    raft_saved_close(&saved);
}
END_TEST

START_TEST(installed_snapshot_empties_the_log)
{
    struct raft_saved saved;

    ck_assert_int_eq(raft_log_begin(raft_log), 0);
    write_entries(raft_log, 0, 2, 8, 3);
    write_snapshot(raft_log, 0, 600, 3, RAFT_WHOLE_LOG);
    ck_assert_int_eq(raft_log_commit(raft_log), 0);
    saved = load(raft_log, 0);
    ck_assert_uint_eq(saved.snapshot.index, 600);
    ck_assert_uint_eq(saved.n_entries, 0);
    raft_saved_close(&saved);
    ck_assert_int_eq(raft_log_begin(raft_log), 0);
    write_entries(raft_log, 0, 601, 2, 3);
    ck_assert_int_eq(raft_log_commit(raft_log), 0);
    saved = load(raft_log, 0);
    ck_assert_uint_eq(saved.entries[0].index, 601);
    raft_saved_close(&saved);
}
END_TEST

START_TEST(removed_replica_leaves_nothing)
{
    struct raft_saved fresh = { .replica = 77 };
    struct raft_saved saved = { 0 };

    ck_assert_int_eq(raft_log_begin(raft_log), 0);
    write_entries(raft_log, 0, 2, 8, 3);
    write_snapshot(raft_log, 0, 6, 3, 4);
    ck_assert_int_eq(raft_log_remove(raft_log, 0), 0);
    ck_assert_int_eq(raft_log_commit(raft_log), 0);
    ck_assert_int_eq(raft_log_load(raft_log, 0, &saved, NULL), -ENOENT);
    ck_assert_int_eq(raft_log_begin(raft_log), 0);
    ck_assert_int_eq(raft_log_add(raft_log, 0, &fresh), 0);
    ck_assert_int_eq(raft_log_commit(raft_log), 0);
    saved = load(raft_log, 0);
    ck_assert_uint_eq(saved.replica, 77);
    ck_assert_uint_eq(saved.term, 0);
    ck_assert_uint_eq(saved.n_entries, 0);
    raft_saved_close(&saved);
}
END_TEST

START_TEST(gap_stops_the_store)
{
    struct log_entry entry = make_entry(9, 3);
    struct raft_write write = { .entries = &entry, .n_entries = 1 };
    struct raft_saved saved;

    ck_assert_int_eq(raft_log_begin(raft_log), 0);
    ck_assert_int_eq(raft_log_write(raft_log, 0, &write), -EINVAL);
    ck_assert_int_eq(raft_log_write(raft_log, 1, &write), -EIO);
    ck_assert_int_eq(raft_log_commit(raft_log), -EIO);
    ck_assert_int_eq(raft_log_load(raft_log, 0, &saved, NULL), -EIO);
    buf_unref(entry.data);
    reopen();
    saved = load(raft_log, 0);
    ck_assert_uint_eq(saved.n_entries, 1);
    raft_saved_close(&saved);
}
END_TEST

START_TEST(write_for_unknown_group_stops_the_store)
{
    struct raft_write write = { .has_vote = true, .term = 9 };

    ck_assert_int_eq(raft_log_begin(raft_log), 0);
    ck_assert_int_eq(raft_log_write(raft_log, 99, &write), -EINVAL);
    ck_assert_int_eq(raft_log_commit(raft_log), -EIO);
}
END_TEST

START_TEST(second_replica_of_a_group_is_refused)
{
    struct raft_saved fresh = { .replica = 77 };

    ck_assert_int_eq(raft_log_begin(raft_log), 0);
    ck_assert_int_eq(raft_log_add(raft_log, 0, &fresh), -EEXIST);
}
END_TEST

/* --------------------------------------------------------------------- kills
 */

/* Turn `t`, from 1: every group gets term t + 1 and two entries more; some
 * turns take entries back, some take a snapshot. `last` is by group. */
static void play_turn(struct raft_log *log, uint64_t t, uint64_t last[GROUPS_N])
{
    ck_assert_int_eq(raft_log_begin(log), 0);
    for (uint32_t group = 0; group < GROUPS_N; group++) {
        uint64_t back = (t + group) % 5 == 0 ? 1 : 0;

        write_entries(log, group, last[group] + 1 - back, 2, t + 1);
        last[group] += 2 - back;
        if ((t + group) % 9 == 0) {
            write_snapshot(log, group, last[group] - 1, t + 1, last[group] - 6);
        }
    }
    ck_assert_int_eq(raft_log_commit(log), 0);
}

static void play_until_killed(int pipe_fd)
{
    uint64_t last[GROUPS_N] = { 1, 1, 1 };

    for (uint64_t t = 1;; t++) {
        play_turn(raft_log, t, last);
        if (write(pipe_fd, &t, sizeof t) != sizeof t) {
            _exit(1);
        }
    }
}

static uint64_t last_acknowledged(int pipe_fd)
{
    uint64_t last = 0;
    uint64_t t;

    while (read(pipe_fd, &t, sizeof t) == sizeof t) {
        last = t;
    }
    return last;
}

/* What the killed one has left is what `n` whole turns give. */
static void assert_turns(uint64_t n)
{
    struct errmsg msg = { "" };
    uint64_t last[GROUPS_N] = { 1, 1, 1 };
    struct raft_log *log;

    remove_log(other);
    ck_assert_int_eq(raft_log_create(other, CLUSTER, &msg), 0);
    log = open_log(other);
    add_groups(log);
    for (uint64_t t = 1; t <= n; t++) {
        play_turn(log, t, last);
    }
    for (uint32_t group = 0; group < GROUPS_N; group++) {
        struct raft_saved got = load(raft_log, group);
        struct raft_saved wanted = load(log, group);

        assert_equal(&got, &wanted);
        raft_saved_close(&got);
        raft_saved_close(&wanted);
    }
    raft_log_close(log);
}

START_TEST(kill_at_any_point_loses_no_turn_and_splits_none)
{
    for (int round = 0; round < 8; round++) {
        struct raft_saved saved;
        uint64_t acknowledged;
        uint64_t found;
        int fds[2];
        pid_t child;

        raft_log_close(raft_log);
        remove_log(path);
        ck_assert_int_eq(raft_log_create(path, CLUSTER, NULL), 0);
        ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
        child = fork();
        if (child == 0) {
            raft_log = open_log(path);
            add_groups(raft_log);
            play_until_killed(fds[1]);
        }
        (void)close(fds[1]);
        (void)usleep(20000 + (unsigned)round * 7919);
        ck_assert_int_eq(kill(child, SIGKILL), 0);
        ck_assert_int_eq(waitpid(child, NULL, 0), child);
        acknowledged = last_acknowledged(fds[0]);
        (void)close(fds[0]);
        raft_log = open_log(path);
        if (acknowledged == 0) {
            continue; /* not even begun, maybe */
        }
        saved = load(raft_log, 0);
        found = saved.term - 1;
        raft_saved_close(&saved);
        ck_assert_uint_ge(found, acknowledged);
        ck_assert_uint_le(found, acknowledged + 1);
        assert_turns(found);
    }
}
END_TEST

/* -------------------------------------------------------------------- damage
 */

/* Close, do `sql` to the database, open. */
static void spoil(const char *sql)
{
    sqlite3 *handle;

    raft_log_close(raft_log);
    ck_assert_int_eq(sqlite3_open(path, &handle), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(handle, sql, NULL, NULL, NULL), SQLITE_OK);
    (void)sqlite3_close(handle);
    raft_log = open_log(path);
}

static const struct {
    const char *sql;  /* what is done to the database */
    const char *word; /* part of the message */
} damages[] = {
    { "UPDATE replica SET vote = 5", "term and vote" },
    { "UPDATE replica SET term = term - 1", "term and vote" },
    { "UPDATE replica SET id = 5", "term and vote" },
    { "UPDATE entry SET data = x'00' WHERE idx = 7", "entry 7" },
    { "UPDATE entry SET term = 2 WHERE idx = 7", "entry 7" },
    { "UPDATE entry SET kind = 2 WHERE idx = 7", "entry 7" },
    { "UPDATE entry SET idx = 10 WHERE idx = 9", "entry 10" },
    { "UPDATE entry SET data = NULL WHERE idx = 7", "entry 7" },
    { "DELETE FROM entry WHERE idx = 7", "entry 8 stands where 7" },
    { "DELETE FROM entry WHERE idx < 8", "does not go with snapshot 6" },
    { "DELETE FROM entry WHERE idx > 5", "does not go with snapshot 6" },
    { "UPDATE snapshot SET idx = 7", "snapshot" },
    { "UPDATE snapshot SET members = x'0102'", "snapshot" },
    { "DELETE FROM snapshot", "there is no snapshot" },
};

START_TEST(damaged_rows_are_refused)
{
    struct errmsg msg = { "" };
    struct raft_saved saved = { 0 };

    ck_assert_int_eq(raft_log_begin(raft_log), 0);
    write_entries(raft_log, 0, 2, 8, 3);
    write_snapshot(raft_log, 0, 6, 3, 4);
    ck_assert_int_eq(raft_log_commit(raft_log), 0);
    spoil(damages[_i].sql);
    ck_assert_int_eq(raft_log_load(raft_log, 0, &saved, &msg), -EBADMSG);
    ck_assert_ptr_null(saved.entries);
    ck_assert_msg(strstr(msg.text, damages[_i].word) != NULL, "%s", msg.text);
}
END_TEST

/* The file as a disk may leave it. Filled well beyond one page. */
static void fill_and_close(void)
{
    for (uint64_t i = 0; i < 60; i++) {
        ck_assert_int_eq(raft_log_begin(raft_log), 0);
        write_entries(raft_log, 0, 2 + 8 * i, 8, 3);
        ck_assert_int_eq(raft_log_commit(raft_log), 0);
    }
    raft_log_close(raft_log);
    raft_log = NULL;
}

static void expect_refusal(const char *name, uint64_t cluster, int rc)
{
    struct errmsg msg = { "" };
    struct raft_log *log = NULL;

    ck_assert_int_eq(raft_log_open(name, cluster, &log, &msg), rc);
    ck_assert_ptr_null(log);
    ck_assert_ptr_nonnull(strstr(msg.text, name));
}

START_TEST(truncated_file_is_refused)
{
    struct stat st;

    fill_and_close();
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_ge(st.st_size, 16384);
    for (off_t size = st.st_size - 4096; size >= 0; size -= 4096) {
        ck_assert_int_eq(truncate(path, size), 0);
        expect_refusal(path, CLUSTER, -EBADMSG);
    }
}
END_TEST

START_TEST(overwritten_page_is_refused)
{
    char garbage[4096];
    struct stat st;
    int fd;

    fill_and_close();
    memset(garbage, 0x5a, sizeof garbage);
    ck_assert_int_eq(stat(path, &st), 0);
    fd = open(path, O_RDWR | O_CLOEXEC);
    for (off_t at = 0; at < st.st_size; at += 4096) {
        char saved[4096];

        ck_assert_int_eq(pread(fd, saved, 4096, at), 4096);
        ck_assert_int_eq(pwrite(fd, garbage, 4096, at), 4096);
        expect_refusal(path, CLUSTER, -EBADMSG);
        ck_assert_int_eq(pwrite(fd, saved, 4096, at), 4096);
    }
    (void)close(fd);
    raft_log_close(open_log(path));
}
END_TEST

START_TEST(stranger_and_absent_files_are_refused)
{
    sqlite3 *handle;

    raft_log_close(raft_log);
    raft_log = NULL;
    expect_refusal(path, CLUSTER + 1, -ESTALE);
    expect_refusal(other, CLUSTER, -ENOENT);
    ck_assert_int_eq(sqlite3_open(other, &handle), SQLITE_OK);
    ck_assert_int_eq(
        sqlite3_exec(handle, "CREATE TABLE meta(key, value)", NULL, NULL, NULL),
        SQLITE_OK);
    (void)sqlite3_close(handle);
    expect_refusal(other, CLUSTER, -EBADMSG);
    ck_assert_int_eq(sqlite3_open(path, &handle), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(handle,
                                  "UPDATE meta SET value = 99 WHERE "
                                  "key = 'format'",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    (void)sqlite3_close(handle);
    expect_refusal(path, CLUSTER, -EINVAL);
}
END_TEST

START_TEST(creation_replaces_nothing)
{
    struct errmsg msg = { "" };
    struct raft_saved saved;

    ck_assert_int_eq(raft_log_create(path, CLUSTER, &msg), -EEXIST);
    ck_assert_ptr_nonnull(strstr(msg.text, path));
    saved = load(raft_log, 0);
    ck_assert_uint_eq(saved.term, 1);
    raft_saved_close(&saved);
}
END_TEST

/* ------------------------------------------------------------------- members
 */

START_TEST(members_survive_encoding)
{
    struct raft_members all = { .n = RAFT_MEMBERS_MAX };
    struct raft_members got;
    struct buf *data;

    for (size_t i = 0; i < all.n; i++) {
        all.member[i] =
            (struct raft_member){ UINT64_MAX - i, UINT32_MAX - (uint32_t)i,
                                  (enum member_role)(i % 3) };
    }
    ck_assert_int_eq(raft_members_encode(&all, &data), 0);
    ck_assert_uint_eq(data->size % 8, 0);
    ck_assert_int_eq(raft_members_decode(data->data, data->size, &got), 0);
    ck_assert_uint_eq(got.n, all.n);
    for (size_t i = 0; i < all.n; i++) {
        ck_assert_uint_eq(got.member[i].id, all.member[i].id);
        ck_assert_uint_eq(got.member[i].node, all.member[i].node);
        ck_assert_int_eq(got.member[i].role, all.member[i].role);
    }
    buf_unref(data);
}
END_TEST

START_TEST(damaged_members_are_refused)
{
    struct raft_members got;
    struct buf *data;

    ck_assert_int_eq(raft_members_encode(&members, &data), 0);
    for (size_t size = 0; size < data->size; size++) {
        /* Of its own size, so that a read past the end is seen. */
        uint8_t *copy = malloc(size > 0 ? size : 1);

        ck_assert_ptr_nonnull(copy);
        memcpy(copy, data->data, size);
        ck_assert_int_eq(raft_members_decode(copy, size, &got), -EBADMSG);
        free(copy);
    }
    for (size_t i = 0; i < data->size; i++) {
        for (int bit = 0; bit < 8; bit++) {
            data->data[i] ^= (uint8_t)(1 << bit);
            if (raft_members_decode(data->data, data->size, &got) == 0) {
                /* Another role or node is a valid one. */
                ck_assert_uint_eq(got.n, members.n);
                ck_assert_uint_eq(got.member[0].id, 11);
                ck_assert_uint_eq(got.member[1].id, 12);
            }
            data->data[i] ^= (uint8_t)(1 << bit);
        }
    }
    buf_unref(data);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_log");
    TCase *tcase = tcase_create("raft_log");
    SRunner *runner;
    int n_failed;

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 100);
    tcase_add_test(tcase, everything_is_there_after_reopening);
    tcase_add_test(tcase, uncommitted_turn_is_forgotten);
    tcase_add_test(tcase, append_replaces_what_conflicts);
    tcase_add_test(tcase, snapshot_drops_old_entries_only);
    tcase_add_test(tcase, installed_snapshot_empties_the_log);
    tcase_add_test(tcase, removed_replica_leaves_nothing);
    tcase_add_test(tcase, gap_stops_the_store);
    tcase_add_test(tcase, write_for_unknown_group_stops_the_store);
    tcase_add_test(tcase, second_replica_of_a_group_is_refused);
    tcase_add_test(tcase, kill_at_any_point_loses_no_turn_and_splits_none);
    tcase_add_loop_test(tcase, damaged_rows_are_refused, 0,
                        sizeof damages / sizeof damages[0]);
    tcase_add_test(tcase, truncated_file_is_refused);
    tcase_add_test(tcase, overwritten_page_is_refused);
    tcase_add_test(tcase, stranger_and_absent_files_are_refused);
    tcase_add_test(tcase, creation_replaces_nothing);
    tcase_add_test(tcase, members_survive_encoding);
    tcase_add_test(tcase, damaged_members_are_refused);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
