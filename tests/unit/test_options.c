/* The command line of gabion-fusefs: what is taken, what is refused. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <check.h>

#include "fusefs/mount_source.h"
#include "fusefs/options.h"

#define ARGS_MAX 12

/* Parse "a b c" as the arguments of a program of that name. */
static int parse(const char *line, struct options *options, struct errmsg *msg)
{
    static char copy[1024];
    char *argv[ARGS_MAX + 1] = { NULL };
    char *rest = copy;
    int argc = 0;

    (void)snprintf(copy, sizeof copy, "%s", line);
    while (rest != NULL && argc < ARGS_MAX) {
        argv[argc++] = strsep(&rest, " ");
    }
    msg->text[0] = '\0';
    return options_parse(options, argc, argv, msg);
}

/* ------------------------------------------------------------------- source */

static const struct {
    const char *source;
    const char *seeds; /* joined by spaces; NULL: refused */
    const char *subdir;
} sources[] = {
    { "a:/", "a:7700", "" },
    { "a:7701:/", "a:7701", "" },
    { "a,b:1,10.0.0.3:65535:/", "a:7700 b:1 10.0.0.3:65535", "" },
    { "[::1]:/", "[::1]:7700", "" },
    { "[::1]:9,[fe80::]:/x", "[::1]:9 [fe80::]:7700", "x" },
    { "a://x//y/./z/", "a:7700", "x/y/z" },
    { "a:/..x/...", "a:7700", "..x/..." },
    { "a:/x/../y", NULL, NULL },
    { "a", NULL, NULL },
    { "a:7700", NULL, NULL },
    { "", NULL, NULL },
    { ":/", NULL, NULL },
    { "a,:/", NULL, NULL },
    { "a:0:/", NULL, NULL },
    { "a:65536:/", NULL, NULL },
    { "a::/", NULL, NULL },
    { "a:x:/", NULL, NULL },
    { "::1:7700:/", NULL, NULL },
    { "fe80::1:7700:/", NULL, NULL },
    { "[]:/", NULL, NULL },
    { "[::1:/", NULL, NULL },
    { "[::1]x:/", NULL, NULL },
};

START_TEST(source_is_split_or_refused)
{
    char joined[256] = "";
    char **seeds;
    size_t n_seeds;
    char *subdir;
    struct errmsg msg = { "" };
    int rc =
        mount_source_parse(sources[_i].source, &seeds, &n_seeds, &subdir, &msg);

    if (sources[_i].seeds == NULL) {
        ck_assert_int_eq(rc, -EINVAL);
        ck_assert_str_ne(msg.text, "");
        return;
    }
    ck_assert_int_eq(rc, 0);
    for (size_t i = 0; i < n_seeds; i++) {
        (void)strcat(strcat(joined, i > 0 ? " " : ""), seeds[i]);
    }
    ck_assert_str_eq(joined, sources[_i].seeds);
    ck_assert_str_eq(subdir, sources[_i].subdir);
    mount_source_free_seeds(seeds, n_seeds);
    free(subdir);
}
END_TEST

/* ------------------------------------------------------------------ options */

START_TEST(defaults_are_as_documented)
{
    struct options options;
    struct errmsg msg;

    ck_assert_int_eq(parse("gabion-fusefs a:/ /mnt", &options, &msg), 0);
    ck_assert_str_eq(options.source, "a:/");
    ck_assert_str_eq(options.mountpoint, "/mnt");
    ck_assert_int_eq(options.timeout_ms, 30000);
    ck_assert_int_eq(options.attr_ms, 1000);
    ck_assert_int_eq(options.entry_ms, 1000);
    ck_assert_int_eq(options.negative_ms, 0);
    ck_assert_uint_eq(options.cache_size, 256u << 20);
    ck_assert_int_eq(options.log_level, LOG_INFO);
    ck_assert(!options.hard && !options.foreground && !options.read_only);
    ck_assert(!options.sync_data && !options.sync_names && !options.fake);
    ck_assert_int_eq(options.allow_other, geteuid() == 0);
    ck_assert_str_eq(options.mount_flags, "");
    options_clear(&options);
}
END_TEST

START_TEST(own_options_are_taken)
{
    struct options options;
    struct errmsg msg;

    ck_assert_int_eq(
        parse("gabion-fusefs -f a:/ /mnt -o timeout=5s,hard,cache_size=64M "
              "-oattr_timeout=250ms,entry_timeout=2,negative_timeout=1s,"
              "log_level=warn,log_file=/x/y,nonempty,allow_other",
              &options, &msg),
        0);
    ck_assert_int_eq(options.timeout_ms, 5000);
    ck_assert(options.hard && options.foreground && options.nonempty);
    ck_assert(options.allow_other);
    ck_assert_uint_eq(options.cache_size, 64u << 20);
    ck_assert_int_eq(options.attr_ms, 250);
    ck_assert_int_eq(options.entry_ms, 2000);
    ck_assert_int_eq(options.negative_ms, 1000);
    ck_assert_int_eq(options.log_level, LOG_WARN);
    ck_assert_str_eq(options.log_file, "/x/y");
    options_clear(&options);
}
END_TEST

/* What fstab(5) lines and mount(8) have in them. */
static const char *const conventional[] = {
    "defaults",
    "_netdev,nofail,noauto,auto,user,users,owner,group",
    "x-systemd.automount,x-systemd.requires=a.service,X-mount.mkdir",
    "comment=hello",
    "noatime,relatime,strictatime,nodiratime,lazytime",
    "rw,async,suid,dev,exec",
    "fsname=x,subtype=y,default_permissions,max_read=131072",
    "",
    ",,",
};

START_TEST(conventional_options_are_accepted)
{
    char line[512];
    struct options options;
    struct errmsg msg;

    (void)snprintf(line, sizeof line, "gabion-fusefs a:/ /mnt -o %s",
                   conventional[_i]);
    ck_assert_msg(parse(line, &options, &msg) == 0, "%s", msg.text);
    options_clear(&options);
}
END_TEST

START_TEST(what_concerns_the_kernel_is_handed_on)
{
    struct options options;
    struct errmsg msg;

    ck_assert_int_eq(parse("mount.gabion a:/ /mnt -o "
                           "rw,nosuid,noexec,context=\"s:o:t:s0,c1\",nodev,ro",
                           &options, &msg),
                     0);
    ck_assert_str_eq(options.mount_flags,
                     "nosuid,noexec,context=\"s:o:t:s0,c1\",nodev");
    ck_assert(options.read_only);
    options_clear(&options);
}
END_TEST

static const struct {
    const char *line;
    const char *in_message;
} refused[] = {
    { "gabion-fusefs", "SOURCE" },
    { "gabion-fusefs a:/", "MOUNTPOINT" },
    { "gabion-fusefs a:/ /mnt more", "more" },
    { "gabion-fusefs a /mnt", "'a'" },
    { "gabion-fusefs a:/ /mnt -x", "-x" },
    { "gabion-fusefs a:/ /mnt --frob", "--frob" },
    { "gabion-fusefs a:/ /mnt -o", "-o" },
    { "gabion-fusefs a:/ /mnt -o cache_sise=1G", "'cache_sise'" },
    { "gabion-fusefs a:/ /mnt -o ro,frob,rw", "'frob'" },
    { "gabion-fusefs a:/ /mnt -o uid=5", "'uid'" },
    { "gabion-fusefs a:/ /mnt -o cache_size=1M", "cache_size" },
    { "gabion-fusefs a:/ /mnt -o cache_size=lots", "cache_size" },
    { "gabion-fusefs a:/ /mnt -o cache_size", "cache_size" },
    { "gabion-fusefs a:/ /mnt -o timeout=", "timeout" },
    { "gabion-fusefs a:/ /mnt -o timeout=soon", "timeout" },
    { "gabion-fusefs a:/ /mnt -o timeout=1ms", "timeout" },
    { "gabion-fusefs a:/ /mnt -o hard=perhaps", "hard" },
    { "gabion-fusefs a:/ /mnt -o ro=1", "'ro'" },
    { "gabion-fusefs a:/ /mnt -o nosuid=1", "'nosuid'" },
    { "gabion-fusefs a:/ /mnt -o log_level=loud", "log_level" },
    { "gabion-fusefs a:/ /mnt -o conf=/nowhere/x.conf", "/nowhere/x.conf" },
};

START_TEST(mistakes_are_refused_by_name)
{
    struct options options;
    struct errmsg msg;

    ck_assert_int_lt(parse(refused[_i].line, &options, &msg), 0);
    ck_assert_msg(strstr(msg.text, refused[_i].in_message) != NULL, "%s",
                  msg.text);
    ck_assert_ptr_null(strchr(msg.text, '\n'));
    options_clear(&options);
}
END_TEST

START_TEST(letters_mean_what_mount_says_when_it_calls)
{
    struct options options;
    struct errmsg msg;

    ck_assert_int_eq(
        parse("/sbin/mount.gabion a:/ /mnt -sfnv -t gabion -N ns -o rw",
              &options, &msg),
        0);
    ck_assert(options.fake && !options.foreground);
    options_clear(&options);
    ck_assert_int_eq(parse("gabion-fusefs a:/ /mnt -n", &options, &msg),
                     -EINVAL);
    options_clear(&options);
    ck_assert_int_eq(parse("gabion-fusefs a:/ /mnt -d", &options, &msg), 0);
    ck_assert(options.foreground);
    ck_assert_int_eq(options.log_level, LOG_DEBUG);
    options_clear(&options);
    ck_assert_int_eq(parse("gabion-fusefs --help", &options, &msg), 0);
    ck_assert(options.wants_help);
    options_clear(&options);
}
END_TEST

START_TEST(sync_options_tell_data_from_names)
{
    static const struct {
        const char *list;
        bool data, names;
    } cases[] = {
        { "sync", true, true },
        { "dirsync", false, true },
        { "sync,async", false, false },
    };
    char line[128];
    struct options options;
    struct errmsg msg;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        (void)snprintf(line, sizeof line, "gabion-fusefs a:/ /mnt -o %s",
                       cases[i].list);
        ck_assert_int_eq(parse(line, &options, &msg), 0);
        ck_assert_int_eq(options.sync_data, cases[i].data);
        ck_assert_int_eq(options.sync_names, cases[i].names);
        options_clear(&options);
    }
}
END_TEST

/* ------------------------------------------------------------- client.conf */

static char conf_path[64];

static void write_conf(const char *text)
{
    int fd;

    (void)snprintf(conf_path, sizeof conf_path, "/tmp/gabion-options-XXXXXX");
    fd = mkstemp(conf_path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    (void)close(fd);
}

static int parse_with_conf(const char *list,
                           struct options *options,
                           struct errmsg *msg)
{
    char line[256];
    int rc;

    (void)snprintf(line, sizeof line, "gabion-fusefs a:/ /mnt -o conf=%s%s",
                   conf_path, list);
    rc = parse(line, options, msg);
    (void)unlink(conf_path);
    return rc;
}

START_TEST(arguments_win_over_the_file)
{
    struct options options;
    struct errmsg msg;

    write_conf("[client]\ntimeout = 7s\nhard = yes\ncache_size = 1G\n"
               "attr_timeout = 3s\nlog_level = error\n");
    ck_assert_int_eq(parse_with_conf(",timeout=9s", &options, &msg), 0);
    ck_assert_int_eq(options.timeout_ms, 9000);
    ck_assert(options.hard);
    ck_assert_uint_eq(options.cache_size, 1u << 30);
    ck_assert_int_eq(options.attr_ms, 3000);
    ck_assert_int_eq(options.log_level, LOG_ERROR);
    options_clear(&options);
}
END_TEST

START_TEST(unknown_keys_in_the_file_are_refused)
{
    struct options options;
    struct errmsg msg;

    write_conf("[client]\ntimeout = 7s\nfrob = 1\n");
    ck_assert_int_eq(parse_with_conf("", &options, &msg), -EINVAL);
    ck_assert_ptr_nonnull(strstr(msg.text, ":3:"));
    options_clear(&options);
}
END_TEST

#define LENGTH(array) ((int)(sizeof(array) / sizeof *(array)))

int main(void)
{
    Suite *suite = suite_create("options");
    TCase *tcase = tcase_create("options");
    SRunner *runner;
    int n_failed;

    tcase_add_loop_test(tcase, source_is_split_or_refused, 0, LENGTH(sources));
    tcase_add_test(tcase, defaults_are_as_documented);
    tcase_add_test(tcase, own_options_are_taken);
    tcase_add_loop_test(tcase, conventional_options_are_accepted, 0,
                        LENGTH(conventional));
    tcase_add_test(tcase, what_concerns_the_kernel_is_handed_on);
    tcase_add_loop_test(tcase, mistakes_are_refused_by_name, 0,
                        LENGTH(refused));
    tcase_add_test(tcase, letters_mean_what_mount_says_when_it_calls);
    tcase_add_test(tcase, sync_options_tell_data_from_names);
    tcase_add_test(tcase, arguments_win_over_the_file);
    tcase_add_test(tcase, unknown_keys_in_the_file_are_refused);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
