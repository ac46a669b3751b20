/* Liveness of sessions, and which orphans nobody needs. */
#include <errno.h>
#include <stdlib.h>

#include <check.h>

#include "storaged/meta/sessions.h"

#define EXPIRY_MS 15000

static struct sessions *sessions;
static int64_t now_ms;

static int64_t test_clock(void)
{
    return now_ms;
}

static void setup(void)
{
    now_ms = 1000;
    ck_assert_int_eq(sessions_new(EXPIRY_MS, test_clock, &sessions), 0);
}

static void teardown(void)
{
    sessions_free(sessions);
}

START_TEST(only_known_sessions_live)
{
    ck_assert_int_eq(sessions_touch(sessions, 5), -ESTALE);
    ck_assert_int_eq(sessions_heartbeat(sessions, 5, 0, NULL, 0), -ESTALE);
    for (uint64_t id = 100; id > 0; id--) {
        ck_assert_int_eq(sessions_add(sessions, id), 0);
        ck_assert_int_eq(sessions_add(sessions, id), -EEXIST);
    }
    for (uint64_t id = 1; id <= 100; id += 2) {
        sessions_remove(sessions, id);
        sessions_remove(sessions, id);
    }
    for (uint64_t id = 1; id <= 100; id++) {
        ck_assert_int_eq(sessions_touch(sessions, id),
                         id % 2 == 0 ? 0 : -ESTALE);
    }
}
END_TEST

START_TEST(a_pardon_gives_a_full_period_again)
{
    uint64_t ids[4];

    ck_assert_int_eq(sessions_add(sessions, 1), 0);
    now_ms += EXPIRY_MS;
    sessions_pardon(sessions);
    ck_assert_uint_eq(sessions_expired(sessions, ids, 4), 0);
    ck_assert_int_eq(sessions_next_expiry_ms(sessions), EXPIRY_MS);
    now_ms += EXPIRY_MS;
    ck_assert_uint_eq(sessions_expired(sessions, ids, 4), 1);
    sessions_pardon(sessions);
    ck_assert_int_eq(sessions_touch(sessions, 1), -ESTALE);
}
END_TEST

START_TEST(a_silent_session_expires_and_stays_refused)
{
    uint64_t ids[4];

    ck_assert_int_eq(sessions_next_expiry_ms(sessions), -1);
    ck_assert_int_eq(sessions_add(sessions, 1), 0);
    ck_assert_int_eq(sessions_add(sessions, 2), 0);
    ck_assert_int_eq(sessions_next_expiry_ms(sessions), EXPIRY_MS);
    now_ms += EXPIRY_MS - 1;
    ck_assert_int_eq(sessions_touch(sessions, 2), 0);
    ck_assert_uint_eq(sessions_expired(sessions, ids, 4), 0);
    now_ms += 1;
    ck_assert_int_eq(sessions_next_expiry_ms(sessions), 0);
    ck_assert_uint_eq(sessions_expired(sessions, ids, 4), 1);
    ck_assert_uint_eq(ids[0], 1);
    ck_assert_int_eq(sessions_touch(sessions, 1), -ESTALE);
    ck_assert_int_eq(sessions_heartbeat(sessions, 1, 0, NULL, 0), -ESTALE);
    /* Listed until it is removed. */
    ck_assert_uint_eq(sessions_expired(sessions, ids, 4), 1);
    sessions_remove(sessions, 1);
    ck_assert_uint_eq(sessions_expired(sessions, ids, 4), 0);
    ck_assert_int_eq(sessions_touch(sessions, 2), 0);
}
END_TEST

static bool allows(uint64_t number, uint64_t ino)
{
    struct sessions_survey survey;
    bool allowed;

    ck_assert_int_eq(sessions_survey_get(sessions, &survey), 0);
    allowed = sessions_survey_allows(&survey, number, ino);
    sessions_survey_clear(&survey);
    return allowed;
}

START_TEST(an_orphan_is_free_when_all_have_seen_and_none_holds_it)
{
    uint64_t held[] = { 30, 10, 20 };

    ck_assert(allows(7, 10)); /* nobody is there */
    ck_assert_int_eq(sessions_add(sessions, 1), 0);
    ck_assert_int_eq(sessions_add(sessions, 2), 0);
    ck_assert(!allows(1, 10)); /* nobody has seen it */
    ck_assert_int_eq(sessions_heartbeat(sessions, 1, 7, held, 3), 0);
    ck_assert(!allows(7, 40)); /* the other one has not */
    ck_assert_int_eq(sessions_heartbeat(sessions, 2, 6, NULL, 0), 0);
    ck_assert(allows(6, 40));
    ck_assert(!allows(7, 40));
    for (unsigned i = 0; i < 3; i++) {
        ck_assert(!allows(6, held[i]));
    }
    ck_assert_int_eq(sessions_heartbeat(sessions, 1, 7, held + 1, 1), 0);
    ck_assert(allows(6, 30));
    ck_assert(!allows(6, 10));
    sessions_remove(sessions, 1);
    ck_assert(allows(6, 10));
}
END_TEST

START_TEST(an_expired_session_counts_until_it_is_closed)
{
    uint64_t held = 10;
    uint64_t ids[4];

    ck_assert_int_eq(sessions_add(sessions, 1), 0);
    ck_assert_int_eq(sessions_heartbeat(sessions, 1, 9, &held, 1), 0);
    now_ms += EXPIRY_MS;
    ck_assert_uint_eq(sessions_expired(sessions, ids, 4), 1);
    ck_assert(!allows(9, 10));
    sessions_remove(sessions, 1);
    ck_assert(allows(9, 10));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sessions");
    TCase *tcase = tcase_create("sessions");
    SRunner *runner = srunner_create(suite);
    int n_failed;

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, only_known_sessions_live);
    tcase_add_test(tcase, a_pardon_gives_a_full_period_again);
    tcase_add_test(tcase, a_silent_session_expires_and_stays_refused);
    tcase_add_test(tcase,
                   an_orphan_is_free_when_all_have_seen_and_none_holds_it);
    tcase_add_test(tcase, an_expired_session_counts_until_it_is_closed);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_ENV);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
