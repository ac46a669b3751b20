#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <check.h>
#include <sqlite3.h>

#include "tests/unit/meta_fixture.h"

static struct meta_fixture f;

static void setup(void)
{
    meta_fixture_open(&f);
}

static void teardown(void)
{
    meta_fixture_close(&f);
}

START_TEST(new_database_has_a_root_directory)
{
    Gabion__Attr root = meta_fixture_attr(&f, META_ROOT_INO);

    ck_assert_uint_eq(root.mode, S_IFDIR | 0755);
    ck_assert_uint_eq(root.nlink, 2);
    ck_assert_uint_eq(root.uid, 0);
    ck_assert_uint_eq(root.parent, META_ROOT_INO);
    ck_assert_int_eq(root.mtime_ns, FIXTURE_NOW_NS);
}
END_TEST

START_TEST(everything_is_there_after_reopening)
{
    uint64_t ino = meta_fixture_file(&f, META_ROOT_INO, "file");
    uint64_t index = f.index;
    char *before = meta_fixture_dump(&f);
    char *after;

    meta_fixture_reopen(&f);
    after = meta_fixture_dump(&f);
    ck_assert_str_eq(before, after);
    ck_assert_uint_eq(meta_db_applied(f.db), index);
    ck_assert_uint_eq(meta_fixture_resolve(&f, "file"), ino);
    free(before);
    free(after);
}
END_TEST

/* Close the database, leave the file. */
static void close_only(void)
{
    (void)sqlite3_close(f.sqlite);
    meta_reader_close(f.reader);
    meta_db_close(f.db);
    f.sqlite = NULL;
    f.reader = NULL;
    f.db = NULL;
}

/* Close, spoil the file by `sql` or `spoil`, and expect a refusal. */
static void expect_refusal(const char *sql,
                           void (*spoil)(const char *path),
                           int rc)
{
    struct errmsg msg = { "" };
    struct meta_db *db = NULL;

    close_only();
    if (sql != NULL) {
        sqlite3 *handle;

        ck_assert_int_eq(sqlite3_open(f.path, &handle), SQLITE_OK);
        ck_assert_int_eq(sqlite3_exec(handle, sql, NULL, NULL, NULL),
                         SQLITE_OK);
        (void)sqlite3_close(handle);
    } else {
        spoil(f.path);
    }
    ck_assert_int_eq(
        meta_db_open(f.path, FIXTURE_CLUSTER, 0, FIXTURE_NOW_NS, &db, &msg),
        rc);
    ck_assert_ptr_null(db);
    ck_assert_ptr_nonnull(strstr(msg.text, f.path));
}

static void truncate_to_nothing(const char *path)
{
    ck_assert_int_eq(truncate(path, 0), 0);
}

static void truncate_half(const char *path)
{
    struct stat st;

    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_eq(truncate(path, st.st_size / 2), 0);
}

static void overwrite_start(const char *path)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    ck_assert_int_eq(pwrite(fd, "no database at all, it seems", 28, 0), 28);
    (void)close(fd);
}

static void overwrite_schema(const char *path)
{
    char garbage[3000];
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    memset(garbage, 0xa5, sizeof garbage);
    ck_assert_int_eq(pwrite(fd, garbage, sizeof garbage, 100), sizeof garbage);
    (void)close(fd);
}

static void replace_by_directory(const char *path)
{
    (void)unlink(path);
    (void)mkdir(path, 0700);
}

static void leave_only_the_log(const char *path)
{
    char log[128];

    (void)snprintf(log, sizeof log, "%s-wal", path);
    ck_assert_int_eq(rename(path, log), 0);
}

static const struct {
    const char *sql;
    void (*spoil)(const char *path);
    int rc;
} refusals[] = {
    { "UPDATE meta SET value = 3 WHERE key = 'format'", NULL, -EINVAL },
    { "UPDATE meta SET value = 5 WHERE key = 'cluster'", NULL, -ESTALE },
    { "UPDATE meta SET value = 5 WHERE key = 'slot'", NULL, -ESTALE },
    { "PRAGMA application_id = 1", NULL, -EBADMSG },
    { "DROP TABLE meta", NULL, -EBADMSG },
    { "DELETE FROM meta", NULL, -EBADMSG },
    { "DROP TABLE extent", NULL, -EBADMSG },
    { "DELETE FROM counter", NULL, -EBADMSG },
    { NULL, truncate_to_nothing, -EBADMSG },
    { NULL, truncate_half, -EBADMSG },
    { NULL, overwrite_start, -EBADMSG },
    { NULL, overwrite_schema, -EBADMSG },
    { NULL, replace_by_directory, -EIO },
    { NULL, leave_only_the_log, -EBADMSG },
};

START_TEST(what_is_not_ours_is_refused_with_a_message)
{
    expect_refusal(refusals[_i].sql, refusals[_i].spoil, refusals[_i].rc);
    if (refusals[_i].spoil == replace_by_directory) {
        ck_assert_int_eq(rmdir(f.path), 0);
    }
}
END_TEST

START_TEST(missing_directory_is_refused_with_a_message)
{
    struct errmsg msg = { "" };
    struct meta_db *db = NULL;

    ck_assert_int_eq(meta_db_open("/tmp/gabion-no-such-directory/shard.db", 1,
                                  0, 0, &db, &msg),
                     -EIO);
    ck_assert_str_ne(msg.text, "");
}
END_TEST

START_TEST(interrupted_creation_starts_over)
{
    char name[128];
    struct errmsg msg = { "" };
    struct meta_db *db;
    FILE *file;

    (void)snprintf(name, sizeof name, "%s/other.db.new", f.directory);
    file = fopen(name, "we");
    (void)fputs("half a database", file);
    (void)fclose(file);
    name[strlen(name) - 4] = '\0';
    ck_assert_int_eq(meta_db_open(name, 7, 3, 1, &db, &msg), 0);
    ck_assert_uint_eq(meta_db_applied(db), 0);
    meta_db_close(db);
    ck_assert_int_eq(meta_db_open(name, 7, 3, 1, &db, &msg), 0);
    meta_db_close(db);
    ck_assert_int_eq(unlink(name), 0);
}
END_TEST

static void create_in_batch(uint64_t index, const char *name, bool commit)
{
    Gabion__Create create = GABION__CREATE__INIT;
    Gabion__Op op = GABION__OP__INIT;
    Gabion__Op *ops = &op;
    Gabion__Batch batch = GABION__BATCH__INIT;
    struct apply_results results;

    create.parent = META_ROOT_INO;
    create.name = meta_fixture_bytes(name);
    create.ino = f.next_ino++;
    create.mode = S_IFREG | 0644;
    create.exclusive = true;
    op.session = f.session;
    op.sequence = ++f.sequence;
    op.now_ns = 5;
    op.body_case = GABION__OP__BODY_CREATE;
    op.create = &create;
    batch.n_op = 1;
    batch.op = &ops;
    ck_assert_int_eq(meta_db_begin(f.db), 0);
    ck_assert_int_eq(apply_entry(f.db, index, &batch, &results), 0);
    if (commit) {
        ck_assert_uint_eq(results.n, 1);
        ck_assert_int_eq(results.results[0]->error, 0);
        ck_assert_int_eq(meta_db_commit(f.db), 0);
    } else {
        meta_db_rollback(f.db);
    }
    apply_results_free(&results);
}

START_TEST(rollback_leaves_no_trace)
{
    char *before = meta_fixture_dump(&f);
    uint64_t applied = meta_db_applied(f.db);
    char *after;

    create_in_batch(applied + 1, "file", false);
    after = meta_fixture_dump(&f);
    ck_assert_str_eq(before, after);
    ck_assert_uint_eq(meta_db_applied(f.db), applied);
    f.sequence--;
    f.next_ino--;
    create_in_batch(applied + 1, "file", true);
    ck_assert_uint_ne(meta_fixture_resolve(&f, "file"), 0);
    free(before);
    free(after);
}
END_TEST

START_TEST(reader_sees_the_last_commit_and_nothing_after_it)
{
    Gabion__Batch empty = GABION__BATCH__INIT;
    struct apply_results results;

    create_in_batch(f.index + 1, "one", true);
    ck_assert_uint_ne(meta_fixture_resolve(&f, "one"), 0);
    ck_assert_int_eq(meta_db_begin(f.db), 0);
    ck_assert_int_eq(apply_entry(f.db, f.index + 2, &empty, &results), 0);
    ck_assert_int_eq(meta_fixture_query(&f, "SELECT applied FROM counter"),
                     (int64_t)f.index + 1);
    ck_assert_int_eq(meta_db_commit(f.db), 0);
    ck_assert_int_eq(meta_fixture_query(&f, "SELECT applied FROM counter"),
                     (int64_t)f.index + 2);
    apply_results_free(&results);
}
END_TEST

START_TEST(checkpoint_empties_the_log)
{
    char name[16];

    for (int i = 0; i < 50; i++) {
        (void)snprintf(name, sizeof name, "f%d", i);
        (void)meta_fixture_file(&f, META_ROOT_INO, name);
    }
    ck_assert_uint_gt(meta_db_wal_pages(f.db), 50);
    ck_assert_int_eq(meta_db_sync(f.db), 0);
    ck_assert_int_eq(meta_db_checkpoint(f.db), 0);
    ck_assert_uint_eq(meta_db_wal_pages(f.db), 0);
    (void)meta_fixture_file(&f, META_ROOT_INO, "after");
    ck_assert_uint_lt(meta_db_wal_pages(f.db), 20);
    ck_assert_uint_ne(meta_fixture_resolve(&f, "f7"), 0);
    ck_assert_uint_ne(meta_fixture_resolve(&f, "after"), 0);
}
END_TEST

/* Threads beside the writer. */
struct beside {
    atomic_bool stop;
    atomic_int failures;
    atomic_int rounds;
};

static void *checkpoint_on_and_on(void *context)
{
    struct beside *beside = context;

    while (!atomic_load(&beside->stop)) {
        if (meta_db_checkpoint(f.db) != 0) {
            atomic_fetch_add(&beside->failures, 1);
        }
        atomic_fetch_add(&beside->rounds, 1);
    }
    return NULL;
}

static void *sync_on_and_on(void *context)
{
    struct beside *beside = context;

    while (!atomic_load(&beside->stop)) {
        if (meta_db_sync(f.db) != 0) {
            atomic_fetch_add(&beside->failures, 1);
        }
        atomic_fetch_add(&beside->rounds, 1);
    }
    return NULL;
}

/* A directory's size and entries change together. */
static void *read_on_and_on(void *context)
{
    struct beside *beside = context;
    Gabion__ReadDirRequest request = GABION__READ_DIR_REQUEST__INIT;
    struct meta_reader *reader;
    uint64_t last = 0;

    if (meta_reader_open(f.db, &reader) != 0) {
        atomic_fetch_add(&beside->failures, 1);
        return NULL;
    }
    request.ino = META_ROOT_INO;
    request.limit = 4096;
    while (!atomic_load(&beside->stop)) {
        Gabion__ReadDirReply *reply;

        if (meta_read_dir(reader, &request, &reply) != 0) {
            atomic_fetch_add(&beside->failures, 1);
            continue;
        }
        if (reply->error != 0 || reply->n_entry < last) {
            atomic_fetch_add(&beside->failures, 1);
        }
        last = reply->n_entry;
        gabion__read_dir_reply__free_unpacked(reply, NULL);
        atomic_fetch_add(&beside->rounds, 1);
    }
    meta_reader_close(reader);
    return NULL;
}

START_TEST(checkpoints_syncs_and_reads_go_on_beside_the_writer)
{
    static void *(*const bodies[])(void *) = { checkpoint_on_and_on,
                                               sync_on_and_on, read_on_and_on };
    struct beside beside[3] = { 0 };
    pthread_t threads[3];
    uint64_t pages_max = 0;
    char name[16];

    for (size_t i = 0; i < 3; i++) {
        ck_assert_int_eq(
            pthread_create(&threads[i], NULL, bodies[i], &beside[i]), 0);
    }
    for (int i = 0; i < 1500 || atomic_load(&beside[0].rounds) < 3 ||
                    atomic_load(&beside[2].rounds) < 3;
         i++) {
        uint64_t pages;

        (void)snprintf(name, sizeof name, "f%d", i);
        (void)meta_fixture_file(&f, META_ROOT_INO, name);
        pages = meta_db_wal_pages(f.db);
        pages_max = pages > pages_max ? pages : pages_max;
    }
    for (size_t i = 0; i < 3; i++) {
        atomic_store(&beside[i].stop, true);
        (void)pthread_join(threads[i], NULL);
        ck_assert_int_eq(atomic_load(&beside[i].failures), 0);
        ck_assert_int_gt(atomic_load(&beside[i].rounds), 0);
    }
    ck_assert_int_eq(
        meta_fixture_query(&f, "PRAGMA integrity_check") == 0 &&
            meta_fixture_query(&f, "SELECT count(*) FROM dentry") >= 1500,
        1);
    ck_assert_msg(pages_max < 10000, "the log grew to %llu pages",
                  (unsigned long long)pages_max);
}
END_TEST

/* The child: apply and commit entries for ever, and tell each that has been. */
static void apply_until_killed(int pipe_fd)
{
    struct errmsg msg;
    char name[24];

    if (meta_db_open(f.path, FIXTURE_CLUSTER, 0, 0, &f.db, &msg) != 0) {
        _exit(1);
    }
    f.index = meta_db_applied(f.db);
    f.session = meta_db_next_session(f.db);
    f.sequence = 1;
    meta_fixture_open_session(&f, f.session);
    for (int i = 0;; i++) {
        (void)snprintf(name, sizeof name, "s%llu.%d",
                       (unsigned long long)f.session, i);
        f.next_ino = 2 + f.session * 5000 + (uint64_t)i % 5000;
        (void)meta_fixture_file(&f, META_ROOT_INO, name);
        if (i % 64 == 63 && meta_db_checkpoint(f.db) != 0) {
            _exit(1);
        }
        if (write(pipe_fd, &f.index, sizeof f.index) != sizeof f.index) {
            _exit(1);
        }
    }
}

static uint64_t last_told(int pipe_fd)
{
    uint64_t told = 0;
    uint64_t index;

    while (read(pipe_fd, &index, sizeof index) == sizeof index) {
        told = index;
    }
    return told;
}

START_TEST(kill_in_the_middle_of_commits_loses_none)
{
    int64_t n_files = 0;

    close_only();
    for (int round = 0; round < 12; round++) {
        struct timespec moment = { 0, 5000000 + (round * 7919 % 60) * 1000000 };
        struct errmsg msg = { "" };
        uint64_t told;
        int fds[2];
        int status;
        pid_t child;

        ck_assert_int_eq(pipe(fds), 0);
        child = fork();
        if (child == 0) {
            (void)close(fds[0]);
            apply_until_killed(fds[1]);
        }
        (void)close(fds[1]);
        (void)nanosleep(&moment, NULL);
        ck_assert_int_eq(kill(child, SIGKILL), 0);
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert(WIFSIGNALED(status));
        told = last_told(fds[0]);
        (void)close(fds[0]);

        ck_assert_msg(
            meta_db_open(f.path, FIXTURE_CLUSTER, 0, 0, &f.db, &msg) == 0, "%s",
            msg.text);
        ck_assert_int_eq(sqlite3_open(f.path, &f.sqlite), SQLITE_OK);
        ck_assert_uint_ge(meta_db_applied(f.db), told);
        ck_assert_int_ge(meta_fixture_query(&f, "SELECT count(*) FROM dentry"),
                         n_files);
        n_files = meta_fixture_query(&f, "SELECT size FROM inode WHERE ino=1");
        ck_assert_int_eq(meta_fixture_query(&f, "SELECT count(*) FROM dentry"),
                         n_files);
        ck_assert_int_eq(
            meta_fixture_query(&f, "SELECT count(*) FROM pragma_quick_check"
                                   " WHERE quick_check <> 'ok'"),
            0);
        close_only();
    }
    ck_assert_int_gt(n_files, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("meta_db");
    TCase *tcase = tcase_create("meta_db");
    SRunner *runner;
    int n_failed;

    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, new_database_has_a_root_directory);
    tcase_add_test(tcase, everything_is_there_after_reopening);
    tcase_add_loop_test(tcase, what_is_not_ours_is_refused_with_a_message, 0,
                        sizeof refusals / sizeof refusals[0]);
    tcase_add_test(tcase, missing_directory_is_refused_with_a_message);
    tcase_add_test(tcase, interrupted_creation_starts_over);
    tcase_add_test(tcase, rollback_leaves_no_trace);
    tcase_add_test(tcase, reader_sees_the_last_commit_and_nothing_after_it);
    tcase_add_test(tcase, checkpoint_empties_the_log);
    tcase_add_test(tcase, checkpoints_syncs_and_reads_go_on_beside_the_writer);
    tcase_add_test(tcase, kill_in_the_middle_of_commits_loses_none);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? 0 : 1;
}
