#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <check.h>

#include "storaged/meta/acl.h"

#define ENTRIES_MAX 8

/* An ACL in short: tag, permissions, id. */
struct entry {
    uint16_t tag;
    uint16_t permissions;
    uint32_t id;
};

#define OWNER(p)            \
    {                       \
        0x01, p, 0xffffffff \
    }
#define USER(p, id) \
    {               \
        0x02, p, id \
    }
#define GROUP(p)            \
    {                       \
        0x04, p, 0xffffffff \
    }
#define NAMED_GROUP(p, id) \
    {                      \
        0x08, p, id        \
    }
#define MASK(p)             \
    {                       \
        0x10, p, 0xffffffff \
    }
#define OTHER(p)            \
    {                       \
        0x20, p, 0xffffffff \
    }

static size_t build(const struct entry *entries,
                    size_t n,
                    uint8_t ret_value[128])
{
    uint8_t *at = ret_value;

    memcpy(at, "\2\0\0\0", 4);
    at += 4;
    for (size_t i = 0; i < n; i++, at += 8) {
        at[0] = (uint8_t)entries[i].tag;
        at[1] = (uint8_t)(entries[i].tag >> 8);
        at[2] = (uint8_t)entries[i].permissions;
        at[3] = (uint8_t)(entries[i].permissions >> 8);
        memcpy(at + 4, &entries[i].id, 4);
    }
    return (size_t)(at - ret_value);
}

static const struct {
    const char *what;
    int rc;
    size_t n;
    struct entry entries[ENTRIES_MAX];
} checks[] = {
    { "minimal", 0, 3, { OWNER(7), GROUP(5), OTHER(0) } },
    { "with mask", 0, 4, { OWNER(7), GROUP(5), MASK(5), OTHER(0) } },
    { "full",
      0,
      8,
      { OWNER(7), USER(6, 10), USER(4, 11), GROUP(5), NAMED_GROUP(4, 20),
        NAMED_GROUP(1, 21), MASK(7), OTHER(0) } },
    { "no entries", -EINVAL, 0, { { 0 } } },
    { "no owner", -EINVAL, 2, { GROUP(5), OTHER(0) } },
    { "no group", -EINVAL, 2, { OWNER(5), OTHER(0) } },
    { "no other", -EINVAL, 2, { OWNER(5), GROUP(0) } },
    { "two owners", -EINVAL, 4, { OWNER(7), OWNER(7), GROUP(5), OTHER(0) } },
    { "two others", -EINVAL, 4, { OWNER(7), GROUP(5), OTHER(0), OTHER(0) } },
    { "two masks",
      -EINVAL,
      5,
      { OWNER(7), GROUP(5), MASK(1), MASK(1), OTHER(0) } },
    { "order", -EINVAL, 3, { OWNER(7), OTHER(0), GROUP(5) } },
    { "named without mask",
      -EINVAL,
      4,
      { OWNER(7), USER(7, 1), GROUP(5), OTHER(0) } },
    { "permissions", -EINVAL, 3, { OWNER(8), GROUP(5), OTHER(0) } },
    { "permissions high", -EINVAL, 3, { OWNER(256), GROUP(5), OTHER(0) } },
    { "tag zero", -EINVAL, 4, { { 0, 1, 0 }, OWNER(7), GROUP(5), OTHER(0) } },
    { "tag mixed", -EINVAL, 4, { OWNER(7), { 3, 0, 0 }, GROUP(5), OTHER(0) } },
    { "tag unknown",
      -EINVAL,
      4,
      { OWNER(7), GROUP(5), OTHER(0), { 0x40, 0, 0 } } },
};

START_TEST(only_well_formed_acls_pass)
{
    uint8_t value[128];
    size_t size = build(checks[_i].entries, checks[_i].n, value);

    ck_assert_msg(acl_check(value, size) == checks[_i].rc, "%s",
                  checks[_i].what);
}
END_TEST

START_TEST(every_cut_and_every_other_version_is_refused)
{
    struct entry entries[] = { OWNER(7), GROUP(5), OTHER(0) };
    uint8_t value[128];
    size_t size = build(entries, 3, value);

    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *exact = malloc(cut > 0 ? cut : 1);

        memcpy(exact, value, cut);
        ck_assert_int_eq(acl_check(exact, cut), -EINVAL);
        free(exact);
    }
    for (size_t i = 0; i < 4; i++) {
        value[i] ^= 1;
        ck_assert_int_eq(acl_check(value, size), -EINVAL);
        value[i] ^= 1;
    }
}
END_TEST

START_TEST(nothing_and_a_bare_header_are_empty)
{
    struct entry entries[] = { OWNER(7), GROUP(5), OTHER(0) };
    uint8_t value[128];
    size_t size = build(entries, 3, value);

    ck_assert(acl_is_empty(NULL, 0));
    ck_assert(acl_is_empty(value, 4));
    ck_assert(!acl_is_empty(value, 3));
    ck_assert(!acl_is_empty(value, size));
}
END_TEST

static const struct {
    const char *what;
    bool minimal;
    uint32_t mode; /* that the ACL says */
    size_t n;
    struct entry entries[ENTRIES_MAX];
    uint32_t wanted;         /* mode of a new file */
    uint32_t left;           /* what inheriting leaves of it */
    uint32_t inherited_mask; /* permissions of the last but one entry then */
} modes[] = {
    { "minimal",
      true,
      0750,
      3,
      { OWNER(7), GROUP(5), OTHER(0) },
      0666,
      0640,
      4 },
    { "mask limits",
      false,
      0740,
      4,
      { OWNER(7), GROUP(7), MASK(4), OTHER(0) },
      0666,
      0640,
      4 },
    { "mask over group",
      false,
      0774,
      5,
      { OWNER(7), USER(7, 1), GROUP(0), MASK(7), OTHER(4) },
      0644,
      0644,
      4 },
    { "nothing wanted",
      false,
      0777,
      5,
      { OWNER(7), USER(7, 1), GROUP(7), MASK(7), OTHER(7) },
      0,
      0,
      0 },
    { "special bits stay",
      false,
      0777,
      5,
      { OWNER(7), USER(7, 1), GROUP(7), MASK(7), OTHER(7) },
      02755,
      02755,
      5 },
};

START_TEST(group_bits_of_the_mode_are_the_mask)
{
    uint8_t value[128];
    size_t size = build(modes[_i].entries, modes[_i].n, value);

    ck_assert_int_eq(acl_check(value, size), 0);
    ck_assert_uint_eq(acl_mode(value, size), modes[_i].mode);
    ck_assert(acl_is_minimal(value, size) == modes[_i].minimal);
}
END_TEST

START_TEST(inheriting_takes_away_what_the_mode_does_not_ask_for)
{
    uint8_t value[128];
    size_t size = build(modes[_i].entries, modes[_i].n, value);

    ck_assert_uint_eq(acl_inherit(value, size, modes[_i].wanted),
                      modes[_i].left);
    ck_assert_int_eq(acl_check(value, size), 0);
    ck_assert_uint_eq(acl_mode(value, size), modes[_i].left & 0777);
    ck_assert_uint_eq(value[size - 16 + 2], modes[_i].inherited_mask);
}
END_TEST

START_TEST(chmod_leaves_named_entries_and_the_group_under_a_mask)
{
    struct entry entries[] = { OWNER(7), USER(6, 1), GROUP(5), MASK(7),
                               OTHER(4) };
    struct entry expected[] = { OWNER(6), USER(6, 1), GROUP(5), MASK(4),
                                OTHER(0) };
    uint8_t value[128];
    uint8_t after[128];
    size_t size = build(entries, 5, value);

    (void)build(expected, 5, after);
    acl_chmod(value, size, 0100640);
    ck_assert_mem_eq(value, after, size);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("acl");
    TCase *tcase = tcase_create("acl");
    SRunner *runner;
    int n_failed;

    tcase_add_loop_test(tcase, only_well_formed_acls_pass, 0,
                        sizeof checks / sizeof checks[0]);
    tcase_add_test(tcase, every_cut_and_every_other_version_is_refused);
    tcase_add_test(tcase, nothing_and_a_bare_header_are_empty);
    tcase_add_loop_test(tcase, group_bits_of_the_mode_are_the_mask, 0,
                        sizeof modes / sizeof modes[0]);
    tcase_add_loop_test(tcase,
                        inheriting_takes_away_what_the_mode_does_not_ask_for, 0,
                        sizeof modes / sizeof modes[0]);
    tcase_add_test(tcase,
                   chmod_leaves_named_entries_and_the_group_under_a_mask);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? 0 : 1;
}
