/* What may be mounted on; lines of mountinfo; df's sums. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <check.h>

#include "fusefs/mountpoint.h"
#include "fusefs/statfs.h"

static char dir[64];

static void set_up(void)
{
    (void)snprintf(dir, sizeof dir, "/tmp/gabion-mountpoint-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void tear_down(void)
{
    char path[128];

    (void)snprintf(path, sizeof path, "%s/entry", dir);
    (void)unlink(path);
    (void)rmdir(dir);
}

static void add_entry(void)
{
    char path[128];
    int fd;

    (void)snprintf(path, sizeof path, "%s/entry", dir);
    fd = open(path, O_WRONLY | O_CREAT, 0600);
    ck_assert_int_ge(fd, 0);
    (void)close(fd);
}

START_TEST(missing_directory_is_named)
{
    struct errmsg msg = { "" };
    char path[128];
    char *real;

    (void)snprintf(path, sizeof path, "%s/nothing", dir);
    ck_assert_int_eq(mountpoint_check(path, false, &real, &msg), -ENOENT);
    ck_assert_ptr_nonnull(strstr(msg.text, path));
}
END_TEST

START_TEST(file_is_no_mountpoint)
{
    struct errmsg msg = { "" };
    char path[128];
    char *real;

    add_entry();
    (void)snprintf(path, sizeof path, "%s/entry", dir);
    ck_assert_int_eq(mountpoint_check(path, false, &real, &msg), -ENOTDIR);
    ck_assert_ptr_nonnull(strstr(msg.text, path));
}
END_TEST

START_TEST(entries_are_only_hidden_on_request)
{
    struct errmsg msg = { "" };
    char *real = NULL;
    int rc;

    add_entry();
    ck_assert_int_eq(mountpoint_check(dir, false, &real, &msg), -ENOTEMPTY);
    ck_assert_ptr_nonnull(strstr(msg.text, "nonempty"));
    rc = mountpoint_check(dir, true, &real, &msg);
    ck_assert(rc == 0 || rc == -ENODEV); /* no /dev/fuse in a container */
    free(real);
}
END_TEST

static const struct {
    const char *line;
    const char *path; /* NULL: not a line */
    const char *type;
    unsigned major, minor;
} lines[] = {
    { "36 25 0:31 / /mnt rw,relatime shared:1 - fuse.gabion a:/ rw", "/mnt",
      "fuse.gabion", 0, 31 },
    { "36 25 8:1 /x /a\\040b\\134c ro - ext4 /dev/sda1 rw", "/a b\\c", "ext4",
      8, 1 },
    { "36 25 0:31 / /mnt rw,relatime", NULL, NULL, 0, 0 },
    { "", NULL, NULL, 0, 0 },
    { " - ", NULL, NULL, 0, 0 },
    { "36 25 x:31 / /mnt rw - a b c", NULL, NULL, 0, 0 },
};

START_TEST(mountinfo_line_is_parsed_or_refused)
{
    struct mountpoint_line line;
    int rc = mountpoint_parse_line(lines[_i].line, &line);

    if (lines[_i].path == NULL) {
        ck_assert_int_eq(rc, -EINVAL);
        return;
    }
    ck_assert_int_eq(rc, 0);
    ck_assert_str_eq(line.path, lines[_i].path);
    ck_assert_str_eq(line.type, lines[_i].type);
    ck_assert_uint_eq(line.device_major, lines[_i].major);
    ck_assert_uint_eq(line.device_minor, lines[_i].minor);
}
END_TEST

START_TEST(shared_filesystems_count_once_and_parity_not_at_all)
{
    const struct {
        uint64_t filesystem, total, available;
    } nodes[] = {
        { 1, 600u << 20, 300u << 20 }, { 1, 600u << 20, 240u << 20 },
        { 2, 60u << 20, 60u << 20 },   { 1, 600u << 20, 270u << 20 },
        { 2, 60u << 20, 60u << 20 },
    };
    const struct objio_policy policy = { .k = 4, .m = 2 };
    struct statfs_space spaces[5];
    struct statvfs stat;
    size_t n = 0;

    for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++) {
        Gabion__NodeStatsReply reply;

        gabion__node_stats_reply__init(&reply);
        reply.filesystem = nodes[i].filesystem;
        reply.total = nodes[i].total;
        reply.available = nodes[i].available;
        statfs_space_add(spaces, &n, &reply);
    }
    ck_assert_uint_eq(n, 2);
    statfs_space_sum(spaces, n, &policy, &stat);
    ck_assert_uint_eq(stat.f_blocks * stat.f_frsize, 440u << 20);
    ck_assert_uint_eq(stat.f_bavail * stat.f_frsize, 200u << 20);
    ck_assert_uint_eq(stat.f_bfree, stat.f_bavail);
    ck_assert_uint_eq(stat.f_namemax, 255);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("mountpoint");
    TCase *tcase = tcase_create("mountpoint");
    SRunner *runner;
    int n_failed;

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, missing_directory_is_named);
    tcase_add_test(tcase, file_is_no_mountpoint);
    tcase_add_test(tcase, entries_are_only_hidden_on_request);
    tcase_add_loop_test(tcase, mountinfo_line_is_parsed_or_refused, 0,
                        (int)(sizeof lines / sizeof *lines));
    tcase_add_test(tcase, shared_filesystems_count_once_and_parity_not_at_all);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
