#include <errno.h>
#include <stdlib.h>

#include <check.h>

#include "common/rpc_address.h"

static const struct {
    const char *address;
    const char *target; /* NULL: -EINVAL */
} targets[] = {
    { "127.0.0.1:7000", "ipv4:127.0.0.1:7000" },
    { "[::1]:7000", "ipv6:[::1]:7000" },
    { "node-1.example.org:65535", "dns:node-1.example.org:65535" },
    { "unix:/run/gabion/node.sock", "unix:/run/gabion/node.sock" },
    { "", NULL },
    { ":7000", NULL },
    { "127.0.0.1", NULL },
    { "127.0.0.1:", NULL },
    { "127.0.0.1:0", NULL },
    { "127.0.0.1:65536", NULL },
    { "127.0.0.1:99999999999", NULL },
    { "127.0.0.1:+80", NULL },
    { "127.0.0.1:80 ", NULL },
    { "::1:7000", NULL },
    { "[::1:7000", NULL },
    { "[127.0.0.1]:7000", NULL },
    { "[]:7000", NULL },
    { "dns:///evil:7000", NULL },
    { "-name:7000", NULL },
    { "two words:7000", NULL },
    { "unix:relative", NULL },
    { "unix:", NULL },
};

START_TEST(address_becomes_target)
{
    char target[RPC_TARGET_SIZE_MAX];
    int rc = rpc_address_target(targets[_i].address, target);

    if (targets[_i].target != NULL) {
        ck_assert_int_eq(rc, 0);
        ck_assert_str_eq(target, targets[_i].target);
    } else {
        ck_assert_int_eq(rc, -EINVAL);
    }
}
END_TEST

START_TEST(port_0_is_for_listening_only)
{
    char target[RPC_TARGET_SIZE_MAX];

    ck_assert_int_eq(rpc_address_check_listen("127.0.0.1:0"), 0);
    ck_assert_int_eq(rpc_address_check_listen("127.0.0.1"), -EINVAL);
    ck_assert_int_eq(rpc_address_target("127.0.0.1:0", target), -EINVAL);
}
END_TEST

START_TEST(a_foreign_address_is_diagnosed)
{
    struct errmsg msg = { "" };

    ck_assert_int_eq(rpc_address_diagnose("192.0.2.1:7000", &msg),
                     -EADDRNOTAVAIL);
    ck_assert_str_eq(msg.text, "cannot listen at 192.0.2.1:7000: Cannot assign "
                               "requested address");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("rpc_address");
    TCase *tc = tcase_create("rpc_address");

    tcase_add_loop_test(tc, address_becomes_target, 0,
                        (int)(sizeof targets / sizeof *targets));
    tcase_add_test(tc, port_0_is_for_listening_only);
    tcase_add_test(tc, a_foreign_address_is_diagnosed);
    suite_add_tcase(s, tc);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(suite());
    int n_failed;

    srunner_run_all(runner, CK_ENV);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
