#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <check.h>
#include <sqlite3.h>

#include "storaged/meta/wal_vfs.h"

/* ------------------------------------- SQLite's own VFS, watched and spoiled
 */

static struct {
    sqlite3_vfs vfs;
    sqlite3_vfs *base;
    const sqlite3_io_methods *methods; /* the base's, of logs */
    sqlite3_io_methods watched;
    unsigned writes;      /* to logs */
    unsigned part_writes; /* of them, those that begin or end within a page */
    unsigned syncs;       /* of logs */
    int fail;             /* what writes to logs answer, if not SQLITE_OK */
} disk;

static int watch_write(sqlite3_file *file,
                       const void *bytes,
                       int n,
                       sqlite3_int64 offset)
{
    if (disk.fail != SQLITE_OK) {
        return disk.fail;
    }
    disk.writes++;
    if (offset % 4096 != 0 || n % 4096 != 0) {
        disk.part_writes++;
    }
    return disk.methods->xWrite(file, bytes, n, offset);
}

static int watch_sync(sqlite3_file *file, int flags)
{
    disk.syncs++;
    return disk.methods->xSync(file, flags);
}

static int watch_open(sqlite3_vfs *vfs,
                      const char *path,
                      sqlite3_file *file,
                      int flags,
                      int *ret_flags)
{
    int code = disk.base->xOpen(disk.base, path, file, flags, ret_flags);

    (void)vfs;
    if (code == SQLITE_OK && (flags & SQLITE_OPEN_WAL) != 0) {
        disk.methods = file->pMethods;
        disk.watched = *disk.methods;
        disk.watched.xWrite = watch_write;
        disk.watched.xSync = watch_sync;
        file->pMethods = &disk.watched;
    }
    return code;
}

/* ---------------------------------------------------------------- fixture */

static char directory[] = "/tmp/wal-vfs-XXXXXX";
static char path[64];
static sqlite3 *writer;

static void run(sqlite3 *db, const char *sql)
{
    ck_assert_msg(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK,
                  "%s: %s", sql, sqlite3_errmsg(db));
}

static int64_t number(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *row;
    int64_t value;

    ck_assert_int_eq(sqlite3_prepare_v2(db, sql, -1, &row, NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_step(row), SQLITE_ROW);
    value = sqlite3_column_int64(row, 0);
    (void)sqlite3_finalize(row);
    return value;
}

static sqlite3 *open_as(const char *vfs)
{
    sqlite3 *db;

    ck_assert_int_eq(sqlite3_open_v2(path, &db,
                                     SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
                                     vfs),
                     SQLITE_OK);
    run(db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
            "PRAGMA wal_autocheckpoint=0; PRAGMA temp_store=MEMORY");
    return db;
}

static void open_writer(void)
{
    writer = open_as(wal_vfs_name());
    ck_assert_int_eq(
        sqlite3_db_config(writer, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL),
        SQLITE_OK);
}

static void setup(void)
{
    disk.base = sqlite3_vfs_find("unix");
    disk.vfs = *disk.base;
    disk.vfs.zName = "watched";
    disk.vfs.xOpen = watch_open;
    ck_assert_int_eq(sqlite3_vfs_register(&disk.vfs, 1), SQLITE_OK);
    ck_assert_ptr_nonnull(mkdtemp(directory));
    (void)snprintf(path, sizeof path, "%s/db", directory);
    open_writer();
    run(writer, "CREATE TABLE t(k INTEGER PRIMARY KEY, v BLOB)");
}

static void teardown(void)
{
    char command[64];

    disk.fail = SQLITE_OK;
    (void)sqlite3_close(writer);
    (void)snprintf(command, sizeof command, "rm -rf %s", directory);
    ck_assert_int_eq(system(command), 0);
    (void)sqlite3_vfs_unregister(&disk.vfs);
    (void)strcpy(directory + strlen(directory) - 6, "XXXXXX");
}

/* Touch some ten pages. */
static void touch_pages(int seed)
{
    char sql[256];

    run(writer, "BEGIN");
    for (int i = 0; i < 10; i++) {
        (void)snprintf(sql, sizeof sql,
                       "REPLACE INTO t VALUES (%d, zeroblob(3000 + %d))", i * 7,
                       seed % 512);
        run(writer, sql);
    }
    run(writer, "COMMIT");
}

/* ------------------------------------------------------------------ tests */

START_TEST(a_transaction_is_one_write_of_whole_pages_and_no_sync)
{
    unsigned writes;
    unsigned part_writes;
    unsigned syncs;

    touch_pages(0);
    writes = disk.writes;
    part_writes = disk.part_writes;
    syncs = disk.syncs;
    for (int i = 1; i <= 100; i++) {
        touch_pages(i);
    }
    ck_assert_uint_eq(disk.writes - writes, 100);
    ck_assert_uint_eq(disk.part_writes, part_writes);
    ck_assert_uint_eq(disk.syncs, syncs);
}
END_TEST

START_TEST(other_connections_see_each_commit)
{
    sqlite3 *reader = open_as(NULL);

    for (int i = 1; i <= 50; i++) {
        char sql[64];

        (void)snprintf(sql, sizeof sql, "REPLACE INTO t VALUES (1, %d)", i);
        run(writer, sql);
        ck_assert_int_eq(number(reader, "SELECT v FROM t WHERE k = 1"), i);
    }
    (void)sqlite3_close(reader);
}
END_TEST

START_TEST(a_log_that_starts_over_is_synced_once)
{
    sqlite3 *checkpointer = open_as(NULL);
    unsigned syncs;

    touch_pages(0);
    ck_assert_int_eq(sqlite3_wal_checkpoint_v2(checkpointer, NULL,
                                               SQLITE_CHECKPOINT_RESTART, NULL,
                                               NULL),
                     SQLITE_OK);
    syncs = disk.syncs;
    touch_pages(1);
    touch_pages(2);
    ck_assert_uint_eq(disk.syncs, syncs + 1);
    ck_assert_int_eq(number(checkpointer, "SELECT count(*) FROM t"), 10);
    (void)sqlite3_close(checkpointer);
}
END_TEST

START_TEST(a_failed_write_fails_the_commit_and_nothing_else)
{
    int64_t before;

    touch_pages(0);
    before = number(writer, "SELECT sum(length(v)) FROM t");
    disk.fail = SQLITE_FULL;
    run(writer, "BEGIN; UPDATE t SET v = zeroblob(2000)");
    ck_assert_int_eq(sqlite3_exec(writer, "COMMIT", NULL, NULL, NULL),
                     SQLITE_FULL);
    if (sqlite3_get_autocommit(writer) == 0) {
        run(writer, "ROLLBACK");
    }
    disk.fail = SQLITE_OK;
    ck_assert_int_eq(number(writer, "SELECT sum(length(v)) FROM t"), before);
    touch_pages(5);
    (void)sqlite3_close(writer);
    open_writer();
    ck_assert_int_eq(number(writer, "SELECT sum(length(v)) FROM t"), 10 * 3005);
}
END_TEST

/* Rollbacks, transactions larger than the cache (frames are written before the
 * commit, read again and written over), logs that start over. */
static void random_work(unsigned seed, unsigned steps, void (*after)(int64_t))
{
    char sql[160];

    run(writer,
        "PRAGMA cache_size=4; PRAGMA cache_spill=2; CREATE TABLE IF NOT EXISTS"
        " done(n INTEGER); INSERT INTO done VALUES (0)");
    srand(seed);
    for (unsigned step = 1; step <= steps; step++) {
        unsigned changes = rand() % 10 == 0 ? 400 : (unsigned)rand() % 20;

        run(writer, "BEGIN");
        for (unsigned i = 0; i < changes; i++) {
            (void)snprintf(sql, sizeof sql,
                           rand() % 3 == 0
                               ? "DELETE FROM t WHERE k = %d"
                               : "REPLACE INTO t VALUES (%d, randomblob(%d))",
                           rand() % 1000, rand() % 4000);
            run(writer, sql);
        }
        (void)snprintf(sql, sizeof sql, "UPDATE done SET n = %u", step);
        run(writer, sql);
        if (rand() % 5 == 0) {
            run(writer, "ROLLBACK");
            continue;
        }
        run(writer, "COMMIT");
        after((int64_t)step);
    }
}

static int progress[2];

static void tell(int64_t step)
{
    if (write(progress[1], &step, sizeof step) != sizeof step) {
        _exit(EXIT_FAILURE);
    }
    if (step % 16 == 0) {
        sqlite3 *checkpointer = open_as("unix");

        (void)sqlite3_wal_checkpoint_v2(checkpointer, NULL,
                                        SQLITE_CHECKPOINT_RESTART, NULL, NULL);
        (void)sqlite3_close(checkpointer);
    }
    if (rand() % 40 == 0) {
        (void)kill(getpid(), SIGKILL);
    }
}

/* A process that dies after a commit has lost nothing of it. */
START_TEST(a_commit_outlives_its_process)
{
    (void)sqlite3_close(writer);
    for (unsigned seed = 1; seed <= 12; seed++) {
        int64_t told = 0;
        pid_t pid;

        ck_assert_int_eq(pipe(progress), 0);
        pid = fork();
        ck_assert_int_ge(pid, 0);
        if (pid == 0) {
            open_writer();
            random_work(seed, 200, tell);
            _exit(EXIT_SUCCESS);
        }
        (void)close(progress[1]);
        while (read(progress[0], &told, sizeof told) == sizeof told) {
        }
        (void)close(progress[0]);
        ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
        writer = open_as("unix");
        ck_assert_int_eq(number(writer, "SELECT max(n) FROM done"), told);
        ck_assert_int_eq(number(writer,
                                "SELECT count(*) FROM pragma_integrity_check"
                                " WHERE integrity_check = 'ok'"),
                         1);
        run(writer, "DROP TABLE done");
        (void)sqlite3_close(writer);
    }
    open_writer();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("wal_vfs");
    TCase *tcase = tcase_create("wal_vfs");
    SRunner *runner;
    int n_failed;

    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase,
                   a_transaction_is_one_write_of_whole_pages_and_no_sync);
    tcase_add_test(tcase, other_connections_see_each_commit);
    tcase_add_test(tcase, a_log_that_starts_over_is_synced_once);
    tcase_add_test(tcase, a_failed_write_fails_the_commit_and_nothing_else);
    tcase_add_test(tcase, a_commit_outlives_its_process);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? 0 : 1;
}
