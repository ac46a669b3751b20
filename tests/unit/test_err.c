#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <check.h>

#include "common/err.h"

START_TEST(a_message_is_formatted)
{
    struct errmsg msg;

    errmsg_set(&msg, "%s: %d", "x", 7);
    ck_assert_str_eq(msg.text, "x: 7");
}
END_TEST

START_TEST(a_long_message_is_cut_and_terminated)
{
    struct errmsg msg;
    char text[sizeof msg.text * 2];

    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = '\0';
    errmsg_set(&msg, "%s", text);
    ck_assert_uint_eq(strlen(msg.text), sizeof msg.text - 1);
}
END_TEST

START_TEST(a_message_is_one_line)
{
    struct errmsg msg;

    errmsg_set(&msg, "%s", "a\nb\x1b[2J\xc3\xa4");
    ck_assert_str_eq(msg.text, "a?b?[2J\xc3\xa4");
}
END_TEST

START_TEST(a_missing_message_is_allowed)
{
    errmsg_set(NULL, "%s", "nobody listens");
}
END_TEST

START_TEST(errors_have_a_text_in_either_sign)
{
    ck_assert_str_eq(err_text(-ENOENT), err_text(ENOENT));
    ck_assert_str_eq(err_text(-ENOENT), "No such file or directory");
    ck_assert_str_eq(err_text(-99999), "unknown error");
    ck_assert_str_eq(err_text(INT_MIN), "unknown error");
}
END_TEST

START_TEST(a_node_that_is_down_is_not_called_a_missing_route)
{
    ck_assert_str_eq(err_text(-EHOSTUNREACH), "Node cannot be reached");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("err");
    TCase *tcase = tcase_create("err");
    SRunner *runner;
    int failed;

    tcase_add_test(tcase, a_message_is_formatted);
    tcase_add_test(tcase, a_long_message_is_cut_and_terminated);
    tcase_add_test(tcase, a_message_is_one_line);
    tcase_add_test(tcase, a_missing_message_is_allowed);
    tcase_add_test(tcase, errors_have_a_text_in_either_sign);
    tcase_add_test(tcase, a_node_that_is_down_is_not_called_a_missing_route);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
