/* The command line of gabion. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <check.h>

#include "ctl/arguments.h"

#define ARGS_MAX 8

static int parse(const char *const *words,
                 struct arguments *arguments,
                 struct errmsg *msg)
{
    char *argv[ARGS_MAX] = { (char *)(uintptr_t) "gabion" };
    int argc = 1;

    while (words[argc - 1] != NULL) {
        argv[argc] = (char *)(uintptr_t)words[argc - 1];
        argc++;
    }
    msg->text[0] = '\0';
    return arguments_parse(argc, argv, arguments, msg);
}

static const struct {
    const char *words[ARGS_MAX];
    enum command command;
    const char *seeds; /* joined by spaces */
    bool json;
} good[] = {
    { { "status", "--cluster", "a:1" }, COMMAND_STATUS, "a:1", false },
    { { "status", "--cluster=a:1,b:2,[::1]:3", "--json" },
      COMMAND_STATUS,
      "a:1 b:2 [::1]:3",
      true },
    { { "status", "--json", "--cluster", "a:1", "--cluster", "b:2" },
      COMMAND_STATUS,
      "a:1 b:2",
      true },
    { { "status", "--cluster", "host,10.0.0.2,[::1],a:1" },
      COMMAND_STATUS,
      "host:7700 10.0.0.2:7700 [::1]:7700 a:1",
      false },
    { { "fsck", "--metadata", "--cluster", "a:1" },
      COMMAND_FSCK,
      "a:1",
      false },
    { { "fsck", "--json", "--cluster=a:1", "--metadata" },
      COMMAND_FSCK,
      "a:1",
      true },
    { { "--help" }, COMMAND_HELP, "", false },
    { { "help" }, COMMAND_HELP, "", false },
    { { "-h" }, COMMAND_HELP, "", false },
    { { "status", "--help" }, COMMAND_HELP, "", false },
    { { "--version" }, COMMAND_VERSION, "", false },
    { { "version" }, COMMAND_VERSION, "", false },
};

START_TEST(good_command_lines_are_understood)
{
    struct arguments arguments;
    struct errmsg msg;
    char seeds[128] = "";

    ck_assert_msg(parse(good[_i].words, &arguments, &msg) == 0, "%s", msg.text);
    ck_assert_int_eq(arguments.command, good[_i].command);
    ck_assert_int_eq(arguments.json, good[_i].json);
    for (size_t i = 0; i < arguments.n_seeds; i++) {
        (void)strcat(seeds, i > 0 ? " " : "");
        (void)strcat(seeds, arguments.seeds[i]);
    }
    ck_assert_str_eq(seeds, good[_i].seeds);
    arguments_clear(&arguments);
}
END_TEST

static const struct {
    const char *words[ARGS_MAX];
    const char *says;
} bad[] = {
    { { NULL }, "what shall be done" },
    { { "stats" }, "'stats'" },
    { { "" }, "''" },
    { { "status" }, "give --cluster" },
    { { "status", "--metadata", "--cluster", "a:1" }, "'--metadata'" },
    { { "fsck", "--metadata" }, "give --cluster" },
    { { "fsck", "--cluster", "a:1" }, "--metadata only" },
    { { "status", "--json" }, "give --cluster" },
    { { "status", "--cluster" }, "needs the address" },
    { { "status", "--cluster", "" }, "''" },
    { { "status", "--cluster", "::1" }, "'::1'" },
    { { "status", "--cluster", "-host" }, "'-host'" },
    { { "status", "--cluster", "a:1," }, "''" },
    { { "status", "--cluster", "a:1,b:0" }, "'b:0'" },
    { { "status", "--cluster=a:99999" }, "'a:99999'" },
    { { "status", "--cluster", "a:1", "more" }, "'more'" },
    { { "status", "--jsonx", "--cluster", "a:1" }, "'--jsonx'" },
};

START_TEST(bad_command_lines_are_refused)
{
    struct arguments arguments;
    struct errmsg msg;

    ck_assert_int_eq(parse(bad[_i].words, &arguments, &msg), -EINVAL);
    ck_assert_msg(strstr(msg.text, bad[_i].says) != NULL, "%s", msg.text);
    arguments_clear(&arguments);
}
END_TEST

#define N(table) ((int)(sizeof(table) / sizeof *(table)))

int main(void)
{
    Suite *suite = suite_create("arguments");
    TCase *tcase = tcase_create("arguments");
    SRunner *runner;
    int failed;

    tcase_add_loop_test(tcase, good_command_lines_are_understood, 0, N(good));
    tcase_add_loop_test(tcase, bad_command_lines_are_refused, 0, N(bad));
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
