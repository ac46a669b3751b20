/* Who may use a data directory. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <check.h>

#include "storaged/superblock.h"

#define CLUSTER 0x0123456789abcdefu
#define NODE    3u

static char dir[64];
static char command[128];

static void make_dir(void)
{
    (void)snprintf(dir, sizeof dir, "/tmp/gabion-test-sb-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void remove_dir(void)
{
    (void)snprintf(command, sizeof command, "rm -rf %s", dir);
    ck_assert_int_eq(system(command), 0);
}

static const char *in_dir(const char *name)
{
    static char path[128];

    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void put_file(const char *name, const char *text)
{
    FILE *file = fopen(in_dir(name), "w");

    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(text, file), 0);
    ck_assert_int_eq(fclose(file), 0);
}

static void get_file(const char *name, char text[512])
{
    FILE *file = fopen(in_dir(name), "r");
    size_t n;

    ck_assert_ptr_nonnull(file);
    n = fread(text, 1, 511, file);
    text[n] = '\0';
    (void)fclose(file);
}

static int open_as(uint64_t cluster, uint32_t node, struct errmsg *msg)
{
    struct superblock *superblock = NULL;
    int rc = superblock_open(dir, cluster, node, &superblock, msg);

    ck_assert((rc == 0) == (superblock != NULL));
    superblock_close(superblock);
    return rc;
}

static void create(void)
{
    struct errmsg msg = { "" };

    ck_assert_msg(open_as(CLUSTER, NODE, &msg) == 0, "%s", msg.text);
}

/* One line that names the directory and says this. */
static void check_says(const struct errmsg *msg, const char *text)
{
    ck_assert_msg(strstr(msg->text, dir) != NULL, "%s", msg->text);
    ck_assert_msg(strstr(msg->text, text) != NULL, "%s", msg->text);
    ck_assert_ptr_null(strchr(msg->text, '\n'));
}

START_TEST(an_empty_directory_is_taken_and_found_again)
{
    char text[512];

    create();
    create();
    get_file("superblock", text);
    ck_assert_ptr_eq(strstr(text, "format = 1\ncluster = 0123456789abcdef\n"
                                  "node = 3\nchecksum = "),
                     text);
    ck_assert_int_ne(access(in_dir("superblock.tmp"), F_OK), 0);
}
END_TEST

START_TEST(leftovers_of_a_start_cut_short_are_no_obstacle)
{
    put_file("superblock.tmp", "form");
    put_file("lock", "123\n");
    ck_assert_int_eq(mkdir(in_dir("lost+found"), 0700), 0);
    create();
}
END_TEST

START_TEST(another_cluster_is_refused)
{
    struct errmsg msg;

    create();
    ck_assert_int_eq(open_as(CLUSTER + 1, NODE, &msg), -ESTALE);
    check_says(&msg, "another cluster, 0123456789abcdef instead of "
                     "0123456789abcdf0");
}
END_TEST

START_TEST(another_node_is_refused)
{
    struct errmsg msg;

    create();
    ck_assert_int_eq(open_as(CLUSTER, NODE + 1, &msg), -ESTALE);
    check_says(&msg, "of node 3, not of node 4");
}
END_TEST

START_TEST(a_directory_of_something_else_is_refused_untouched)
{
    struct errmsg msg;

    put_file("letter.txt", "dear");
    ck_assert_int_eq(open_as(CLUSTER, NODE, &msg), -ENOTEMPTY);
    check_says(&msg, "'letter.txt' is in it");
    ck_assert_int_ne(access(in_dir("superblock"), F_OK), 0);
    ck_assert_int_ne(access(in_dir("lock"), F_OK), 0);
}
END_TEST

START_TEST(a_missing_directory_is_told)
{
    struct superblock *superblock = NULL;
    struct errmsg msg;

    ck_assert_int_eq(superblock_open("/nonexistent/gabion", CLUSTER, NODE,
                                     &superblock, &msg),
                     -ENOENT);
    ck_assert_ptr_nonnull(strstr(msg.text, "/nonexistent/gabion"));
    put_file("file", "");
    ck_assert_int_eq(
        superblock_open(in_dir("file"), CLUSTER, NODE, &superblock, &msg),
        -ENOTDIR);
    ck_assert_ptr_null(superblock);
}
END_TEST

START_TEST(a_second_user_is_refused_and_told_the_pid)
{
    struct superblock *superblock = NULL;
    struct errmsg msg = { "" };
    char pid[32];

    ck_assert_int_eq(superblock_open(dir, CLUSTER, NODE, &superblock, &msg), 0);
    ck_assert_int_eq(open_as(CLUSTER, NODE, &msg), -EBUSY);
    (void)snprintf(pid, sizeof pid, "pid %ld", (long)getpid());
    check_says(&msg, pid);
    superblock_close(superblock);
    create();
}
END_TEST

START_TEST(the_lock_dies_with_its_process)
{
    pid_t child = fork();
    int status = 0;

    ck_assert_int_ge(child, 0);
    if (child == 0) {
        struct superblock *superblock = NULL;

        _exit(superblock_open(dir, CLUSTER, NODE, &superblock, NULL) != 0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    create();
}
END_TEST

/* Damage of any byte is found. Digits of the format make it newer. */
START_TEST(any_flipped_byte_is_found)
{
    char good[512];
    char bad[512];
    struct errmsg msg;

    create();
    get_file("superblock", good);
    for (size_t i = 0; i < strlen(good); i++) {
        int rc;

        memcpy(bad, good, sizeof bad);
        bad[i] = (char)(bad[i] ^ 2);
        put_file("superblock", bad);
        rc = open_as(CLUSTER, NODE, &msg);
        ck_assert_msg(rc == -EBADMSG || rc == -EINVAL, "byte %zu: %d", i, rc);
        check_says(&msg, rc == -EINVAL ? "newer" : "damaged");
    }
    for (size_t size = 0; size < strlen(good); size++) {
        (void)snprintf(bad, sizeof bad, "%.*s", (int)size, good);
        put_file("superblock", bad);
        ck_assert_int_eq(open_as(CLUSTER, NODE, &msg), -EBADMSG);
    }
    put_file("superblock", good);
    create();
}
END_TEST

START_TEST(a_newer_format_is_refused_whatever_follows)
{
    struct errmsg msg;

    put_file("superblock", "format = 999\nnothing we know\n");
    ck_assert_int_eq(open_as(CLUSTER, NODE, &msg), -EINVAL);
    check_says(&msg, "newer Gabion (format 999");
}
END_TEST

START_TEST(a_huge_superblock_is_damaged)
{
    char text[512];
    struct errmsg msg;

    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    put_file("superblock", text);
    ck_assert_int_eq(open_as(CLUSTER, NODE, &msg), -EBADMSG);
    check_says(&msg, "damaged");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("superblock");
    TCase *tcase = tcase_create("superblock");
    SRunner *runner;
    int failed;

    tcase_add_checked_fixture(tcase, make_dir, remove_dir);
    tcase_add_test(tcase, an_empty_directory_is_taken_and_found_again);
    tcase_add_test(tcase, leftovers_of_a_start_cut_short_are_no_obstacle);
    tcase_add_test(tcase, another_cluster_is_refused);
    tcase_add_test(tcase, another_node_is_refused);
    tcase_add_test(tcase, a_directory_of_something_else_is_refused_untouched);
    tcase_add_test(tcase, a_missing_directory_is_told);
    tcase_add_test(tcase, a_second_user_is_refused_and_told_the_pid);
    tcase_add_test(tcase, the_lock_dies_with_its_process);
    tcase_add_test(tcase, any_flipped_byte_is_found);
    tcase_add_test(tcase, a_newer_format_is_refused_whatever_follows);
    tcase_add_test(tcase, a_huge_superblock_is_damaged);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
