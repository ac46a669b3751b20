/* The command line of gabion-storaged and storaged.conf. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <check.h>

#include "storaged/daemon_options.h"
#include "storaged/node.h"

#define ARGS_MAX 6

static int parse(const char *const *words,
                 struct daemon_command *command,
                 struct errmsg *msg)
{
    char *argv[ARGS_MAX] = { (char *)(uintptr_t) "gabion-storaged" };
    int argc = 1;

    while (words[argc - 1] != NULL) {
        argv[argc] = (char *)(uintptr_t)words[argc - 1];
        argc++;
    }
    return daemon_command_parse(argc, argv, command, msg);
}

static const struct {
    const char *words[ARGS_MAX];
    enum daemon_action action;
    const char *config;
} good_commands[] = {
    { { "--config", "a.conf" }, DAEMON_RUN, "a.conf" },
    { { "--config=a.conf" }, DAEMON_RUN, "a.conf" },
    { { "--config=a=b" }, DAEMON_RUN, "a=b" },
    { { "--config", "a", "--config", "b" }, DAEMON_RUN, "b" },
    { { "--help" }, DAEMON_HELP, NULL },
    { { "-h" }, DAEMON_HELP, NULL },
    { { "--version" }, DAEMON_VERSION, NULL },
};

START_TEST(good_command_lines_are_understood)
{
    struct daemon_command command;
    struct errmsg msg = { "" };

    ck_assert_msg(parse(good_commands[_i].words, &command, &msg) == 0, "%s",
                  msg.text);
    ck_assert_int_eq(command.action, good_commands[_i].action);
    if (command.action == DAEMON_RUN) {
        ck_assert_str_eq(command.config, good_commands[_i].config);
    }
}
END_TEST

static const struct {
    const char *words[ARGS_MAX];
    const char *says;
} bad_commands[] = {
    { { NULL }, "give --config FILE" },
    { { "--config" }, "needs the path" },
    { { "--config=" }, "needs the path" },
    { { "--config", "" }, "needs the path" },
    { { "--frob" }, "'--frob'" },
    { { "--configure=x" }, "'--configure=x'" },
    { { "a.conf" }, "'a.conf'" },
    { { "--config", "a", "b" }, "'b'" },
};

START_TEST(bad_command_lines_are_refused)
{
    struct daemon_command command;
    struct errmsg msg = { "" };

    ck_assert_int_eq(parse(bad_commands[_i].words, &command, &msg), -EINVAL);
    ck_assert_msg(strstr(msg.text, bad_commands[_i].says) != NULL, "%s",
                  msg.text);
}
END_TEST

/* -------------------------------------------------------------------- file */

static char path[64];

static void make_path(void)
{
    int fd;

    (void)snprintf(path, sizeof path, "/tmp/gabion-test-opt-XXXXXX");
    fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    (void)close(fd);
}

static void remove_path(void)
{
    (void)unlink(path);
}

static int read_text(const char *text,
                     struct daemon_options *options,
                     struct errmsg *msg)
{
    FILE *file = fopen(path, "w");

    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(text, file), 0);
    ck_assert_int_eq(fclose(file), 0);
    msg->text[0] = '\0';
    return daemon_options_read(path, options, msg);
}

#define NEEDED "[node]\nid = 3\ndata = /d\ncluster = /c\n"

START_TEST(a_short_file_gets_the_defaults)
{
    struct daemon_options options;
    struct errmsg msg;

    ck_assert_int_eq(read_text(NEEDED, &options, &msg), 0);
    ck_assert_uint_eq(options.id, 3);
    ck_assert_str_eq(options.data, "/d");
    ck_assert_str_eq(options.cluster, "/c");
    ck_assert_ptr_null(options.listen);
    ck_assert_uint_eq(options.reserve, NODE_RESERVE_DEFAULT);
    ck_assert_int_eq(options.log_level, LOG_INFO);
    daemon_options_clear(&options);
}
END_TEST

START_TEST(every_key_is_taken)
{
    struct daemon_options options;
    struct errmsg msg;

    ck_assert_int_eq(read_text(NEEDED "listen = [::]:5\nreserve = 2G\n"
                                      "log_level = debug\n",
                               &options, &msg),
                     0);
    ck_assert_str_eq(options.listen, "[::]:5");
    ck_assert_uint_eq(options.reserve, (uint64_t)2 << 30);
    ck_assert_int_eq(options.log_level, LOG_DEBUG);
    daemon_options_clear(&options);
}
END_TEST

static const struct {
    const char *text;
    const char *says;
} bad_files[] = {
    { "", "section [node] has no id" },
    { "[node]\nid=1\ncluster=/c\n", "has no data" },
    { "[node]\nid=1\ndata=/d\n", "has no cluster" },
    { "[node]\nid=0\n", ":2: id: '0'" },
    { "[node]\nid=65536\n", ":2: id: '65536'" },
    { "[node]\nid=one\n", ":2: id: 'one'" },
    { "[node]\ndata=\n", ":2: data: the path of a directory is missing" },
    { "[node]\ncluster=\n", ":2: cluster: the path of cluster.conf" },
    { "[node]\nlisten=\n", ":2: listen: host:port is missing" },
    { "[node]\nreserve=lots\n", ":2: reserve: 'lots'" },
    { "[node]\nreserve=9000000T\n", ":2: reserve:" },
    { "[node]\nlog_level=loud\n", ":2: log_level: 'loud'" },
    { "[node]\ncolour=red\n", ":2: unknown key 'colour'" },
    { "[daemon]\nid=1\n", ":2: unknown section [daemon]" },
};

START_TEST(bad_files_are_refused_with_the_reason)
{
    struct daemon_options options;
    struct errmsg msg;

    ck_assert_int_eq(read_text(bad_files[_i].text, &options, &msg), -EINVAL);
    ck_assert_msg(strstr(msg.text, path) == msg.text, "%s", msg.text);
    ck_assert_msg(strstr(msg.text, bad_files[_i].says) != NULL, "%s", msg.text);
    daemon_options_clear(&options);
}
END_TEST

#define N(table) ((int)(sizeof(table) / sizeof *(table)))

int main(void)
{
    Suite *suite = suite_create("daemon_options");
    TCase *tcase = tcase_create("daemon_options");
    SRunner *runner;
    int failed;

    tcase_add_checked_fixture(tcase, make_path, remove_path);
    tcase_add_loop_test(tcase, good_command_lines_are_understood, 0,
                        N(good_commands));
    tcase_add_loop_test(tcase, bad_command_lines_are_refused, 0,
                        N(bad_commands));
    tcase_add_test(tcase, a_short_file_gets_the_defaults);
    tcase_add_test(tcase, every_key_is_taken);
    tcase_add_loop_test(tcase, bad_files_are_refused_with_the_reason, 0,
                        N(bad_files));
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
