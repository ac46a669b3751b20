/* Log lines as they arrive on stderr, which each test redirects to a pipe. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <check.h>

#include "common/log.h"

static int log_pipe[2];
static int old_stderr;

static void catch_stderr(void)
{
    ck_assert_int_eq(pipe2(log_pipe, O_NONBLOCK | O_CLOEXEC), 0);
    old_stderr = dup(STDERR_FILENO);
    ck_assert_int_ge(dup2(log_pipe[1], STDERR_FILENO), 0);
    log_set_level(LOG_INFO);
}

static void release_stderr(void)
{
    (void)dup2(old_stderr, STDERR_FILENO);
    (void)close(old_stderr);
    (void)close(log_pipe[0]);
    (void)close(log_pipe[1]);
}

/* What has been logged since the last call. */
static const char *logged(void)
{
    static char text[8192];
    ssize_t n = read(log_pipe[0], text, sizeof text - 1);

    text[n > 0 ? n : 0] = '\0';
    return text;
}

START_TEST(a_line_has_time_level_and_message)
{
    const char *line;

    log_warn("block damaged node=%d", 3);
    line = logged();
    ck_assert_uint_gt(strlen(line), 24);
    ck_assert_int_eq(line[10], 'T');
    ck_assert_int_eq(line[23], 'Z');
    ck_assert_str_eq(line + 24, " warn block damaged node=3\n");
}
END_TEST

START_TEST(a_long_message_is_cut_to_one_line)
{
    char text[5000];
    const char *line;

    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = '\0';
    log_error("%s", text);
    line = logged();
    ck_assert_uint_lt(strlen(line), 1100);
    ck_assert_ptr_eq(strchr(line, '\n'), line + strlen(line) - 1);
}
END_TEST

START_TEST(what_a_peer_says_cannot_forge_a_line)
{
    log_warn("refused detail=\"%s\"", "x\n2026-01-01 error y\r\x1b[2J");
    ck_assert_str_eq(logged() + 24,
                     " warn refused detail=\"x?2026-01-01 error y??[2J\"\n");
}
END_TEST

START_TEST(only_levels_asked_for_are_logged)
{
    static void (*const log_at[])(
        const char *format, ...) = { log_error, log_warn, log_info, log_debug };

    for (int level = LOG_ERROR; level <= LOG_DEBUG; level++) {
        log_set_level((enum log_level)level);
        for (int at = LOG_ERROR; at <= LOG_DEBUG; at++) {
            log_at[at]("x");
            ck_assert_int_eq(*logged() != '\0', at <= level);
        }
    }
}
END_TEST

START_TEST(levels_have_names)
{
    enum log_level level = LOG_ERROR;

    ck_assert_int_eq(log_level_parse("debug", &level), 0);
    ck_assert_int_eq(level, LOG_DEBUG);
    ck_assert_int_eq(log_level_parse("error", &level), 0);
    ck_assert_int_eq(level, LOG_ERROR);
    ck_assert_int_eq(log_level_parse("loud", &level), -EINVAL);
    ck_assert_int_eq(log_level_parse("", &level), -EINVAL);
}
END_TEST

START_TEST(a_flood_passes_once_per_period)
{
    struct log_limit limit = { 0 };
    uint64_t dropped = 77;

    ck_assert_int_eq(log_limit_pass(&limit, 3600000, &dropped), 1);
    ck_assert_uint_eq(dropped, 0);
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(log_limit_pass(&limit, 3600000, &dropped), 0);
    }
    ck_assert_int_eq(log_limit_pass(&limit, 0, &dropped), 1);
    ck_assert_uint_eq(dropped, 5);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log");
    TCase *tcase = tcase_create("log");
    SRunner *runner;
    int failed;

    tcase_add_checked_fixture(tcase, catch_stderr, release_stderr);
    tcase_add_test(tcase, a_line_has_time_level_and_message);
    tcase_add_test(tcase, a_long_message_is_cut_to_one_line);
    tcase_add_test(tcase, what_a_peer_says_cannot_forge_a_line);
    tcase_add_test(tcase, only_levels_asked_for_are_logged);
    tcase_add_test(tcase, levels_have_names);
    tcase_add_test(tcase, a_flood_passes_once_per_period);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
