#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <check.h>
#include <sqlite3.h>

#include "storaged/meta/meta_check.h"
#include "tests/unit/meta_fixture.h"

static struct meta_fixture f;
static uint64_t dir, sub, file, other;

/* Some of everything: inodes 1..6. */
static void setup(void)
{
    meta_fixture_open(&f);
    dir = meta_fixture_directory(&f, META_ROOT_INO, "dir");
    sub = meta_fixture_directory(&f, dir, "sub");
    file = meta_fixture_file(&f, sub, "file");
    other = meta_fixture_file(&f, META_ROOT_INO, "other");
    ck_assert_int_eq(meta_fixture_link(&f, file, dir, "link"), 0);
    ck_assert_int_eq(meta_fixture_write(&f, file, 0, 10000), 0);
    ck_assert_int_eq(meta_fixture_write(&f, file, 20000, 10000), 0);
    ck_assert_int_eq(
        meta_fixture_set_xattr(&f, file, "user.a", (const uint8_t *)"b", 1, 0),
        0);
    f.held_open = true;
    ck_assert_int_eq(meta_fixture_unlink(&f, META_ROOT_INO, "other", false), 0);
}

static void teardown(void)
{
    meta_fixture_close(&f);
}

static void spoil(const char *sql)
{
    char *error = NULL;

    ck_assert_msg(sqlite3_exec(f.sqlite, sql, NULL, NULL, &error) == SQLITE_OK,
                  "%s: %s", sql, error);
}

START_TEST(what_apply_makes_is_sound)
{
    struct meta_findings findings;

    ck_assert_int_eq(meta_check(f.db, NULL, NULL, &findings), 0);
    ck_assert_msg(findings.n == 0, "%s", findings.texts[0]);
    meta_findings_clear(&findings);
}
END_TEST

/* The numbers: dir 2, sub 3, file 4, other 5 (an orphan). */
static const struct {
    const char *sql;
    const char *finding; /* part of the one that must be there */
} damages[] = {
    { "DELETE FROM inode WHERE ino = 4", "leads to inode 4, which is not" },
    { "UPDATE dentry SET type = 16384 WHERE ino = 4", "says type 40000" },
    { "UPDATE dentry SET parent = 4 WHERE name = CAST('link' AS BLOB)",
      "inode 4: has names in it" },
    { "UPDATE inode SET next_cookie = 1 WHERE ino = 2", "directory 2: cookie" },
    { "UPDATE inode SET nlink = 1 WHERE ino = 4", "inode 4: nlink 1, names 2" },
    { "DELETE FROM dentry WHERE ino = 4", "inode 4: nlink 2, names 0" },
    { "UPDATE inode SET nlink = 2 WHERE ino = 2",
      "directory 2: nlink 2 size 2" },
    { "UPDATE inode SET size = 9 WHERE ino = 3",
      "directory 3: nlink 2 size 9" },
    { "UPDATE inode SET parent = 1 WHERE ino = 3", "directory 3: parent 1" },
    { "DELETE FROM dentry WHERE ino = 3", "directory 3: parent 2, but 0" },
    { "INSERT INTO dentry VALUES (1, CAST('again' AS BLOB), 3, 16384, 99)",
      "directory 3: parent 2, but 2" },
    { "UPDATE dentry SET parent = 3, cookie = 99 WHERE ino = 2",
      "directory 2: cannot be reached" },
    { "UPDATE extent SET length = 20001 WHERE offset = 0",
      "inode 4: extents at 0 and 20000 overlap" },
    { "UPDATE inode SET size = 100 WHERE ino = 4", "up to 30000" },
    { "UPDATE inode SET allocated = 1 WHERE ino = 4", "allocated 1, extents" },
    { "UPDATE inode SET allocated = 1 WHERE ino = 5", "allocated 1, no" },
    { "DELETE FROM inode WHERE ino = 4", "extents of 20000 bytes" },
    { "UPDATE extent SET data = x'00' WHERE offset = 0", "1 inline bytes" },
    { "DELETE FROM object", "or that is not there" },
    { "UPDATE extent SET object_offset = 99999999 WHERE offset = 0",
      "is behind the end of object" },
    { "UPDATE object SET live = live + 1", "live " },
    { "DELETE FROM orphan", "inode 5: nlink 0, orphan" },
    { "UPDATE inode SET nlink = 0 WHERE ino = 4",
      "inode 4: nlink 0, orphan 0" },
    { "UPDATE inode SET orphan = 0 WHERE ino = 5", "inode 5 is none" },
    { "UPDATE inode SET n_xattrs = 0 WHERE ino = 4", "n_xattrs 0, but 1" },
    { "UPDATE xattr SET ino = 99", "inode 99: has extended" },
    { "INSERT INTO symlink VALUES (4, 'x')", "inode 4: mode 100" },
    { "INSERT INTO symlink VALUES (99, 'x')", "inode 99: mode" },
    { "UPDATE counter SET n_inodes = 77", "inodes 77, but 5" },
    { "UPDATE counter SET n_objects = 77", "objects 77" },
    { "UPDATE counter SET next_sequence = 5", "next inode 5" },
    { "UPDATE counter SET next_session = 1", "are in use" },
    { "PRAGMA writable_schema=ON; DELETE FROM sqlite_schema"
      " WHERE name = 'dentry_cookie'",
      "sqlite: " },
};

START_TEST(each_contradiction_is_found)
{
    struct meta_findings findings;
    bool found = false;

    ck_assert_uint_eq(file, 4);
    ck_assert_uint_eq(other, 5);
    spoil(damages[_i].sql);
    ck_assert_int_eq(meta_check(f.db, NULL, NULL, &findings), 0);
    for (size_t i = 0; i < findings.n_texts; i++) {
        found = found || strstr(findings.texts[i], damages[_i].finding) != NULL;
    }
    ck_assert_msg(found, "%s: %lu findings, first: %s", damages[_i].sql,
                  (unsigned long)findings.n,
                  findings.n > 0 ? findings.texts[0] : "");
    meta_findings_clear(&findings);
}
END_TEST

START_TEST(many_findings_are_counted_and_some_told)
{
    struct meta_findings findings;

    spoil("WITH RECURSIVE n(i) AS (VALUES (1000) UNION ALL"
          " SELECT i + 1 FROM n WHERE i < 1999)"
          " INSERT INTO xattr SELECT i, 'user.a', 'b' FROM n");
    ck_assert_int_eq(meta_check(f.db, NULL, NULL, &findings), 0);
    ck_assert_uint_eq(findings.n, 1000);
    ck_assert_uint_eq(findings.n_texts, META_FINDINGS_MAX);
    meta_findings_clear(&findings);
}
END_TEST

static bool at_once(void *context)
{
    ++*(unsigned *)context;
    return true;
}

START_TEST(a_check_can_be_stopped)
{
    struct meta_findings findings;
    unsigned n = 0;

    spoil("WITH RECURSIVE n(i) AS (VALUES (1000) UNION ALL"
          " SELECT i + 1 FROM n WHERE i < 200000)"
          " INSERT INTO xattr SELECT i, 'user.a', 'b' FROM n");
    ck_assert_int_eq(meta_check(f.db, at_once, &n, &findings), -ECANCELED);
    ck_assert_uint_eq(n, 1);
    ck_assert_uint_eq(findings.n_texts, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("meta_check");
    TCase *tcase = tcase_create("meta_check");
    SRunner *runner;
    int n_failed;

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 30);
    tcase_add_test(tcase, what_apply_makes_is_sound);
    tcase_add_loop_test(tcase, each_contradiction_is_found, 0,
                        sizeof damages / sizeof damages[0]);
    tcase_add_test(tcase, many_findings_are_counted_and_some_told);
    tcase_add_test(tcase, a_check_can_be_stopped);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? 0 : 1;
}
