/* Sequence numbers, the metadata client and the session, against a service that
 * dies, comes back, forgets sessions and tells nonsense. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <check.h>

#include "common/clock.h"
#include "fusefs/meta_client.h"
#include "fusefs/sequence_window.h"
#include "fusefs/session.h"
#include "tests/unit/meta_fake.h"

/* --------------------------------------------------------- sequence numbers */

START_TEST(acked_mark_never_passes_what_is_in_flight)
{
    struct sequence_window window;

    sequence_window_init(&window);
    ck_assert_uint_eq(sequence_window_acked(&window), 0);
    for (uint64_t i = 1; i <= 5; i++) {
        ck_assert_uint_eq(sequence_window_begin(&window), i);
    }
    sequence_window_end(&window, 2);
    sequence_window_end(&window, 5);
    ck_assert_uint_eq(sequence_window_acked(&window), 0);
    sequence_window_end(&window, 1);
    ck_assert_uint_eq(sequence_window_acked(&window), 2);
    sequence_window_end(&window, 4);
    ck_assert_uint_eq(sequence_window_acked(&window), 2);
    sequence_window_end(&window, 3);
    ck_assert_uint_eq(sequence_window_acked(&window), 5);
    ck_assert_uint_eq(sequence_window_begin(&window), 6);
    ck_assert_uint_eq(sequence_window_acked(&window), 5);
}
END_TEST

START_TEST(window_fills_and_empties)
{
    struct sequence_window window;

    sequence_window_init(&window);
    for (unsigned i = 0; i < SEQUENCE_WINDOW_SIZE; i++) {
        ck_assert(!sequence_window_is_full(&window));
        (void)sequence_window_begin(&window);
    }
    ck_assert(sequence_window_is_full(&window));
    for (uint64_t i = SEQUENCE_WINDOW_SIZE; i > 0; i--) {
        sequence_window_end(&window, i);
        ck_assert_uint_eq(sequence_window_acked(&window),
                          i > 1 ? 0 : SEQUENCE_WINDOW_SIZE);
    }
}
END_TEST

/* ----------------------------------------------------------------- fixture */

static struct meta_fake fake;
static struct cluster_map *map;
static struct rpc_client *rpc;
static struct meta_client *meta;
static struct session *session;
static uint64_t open_ino; /* what the mount has open */
static bool interrupted;  /* atomic */

static bool is_open(void *context, uint64_t ino)
{
    (void)context;
    return ino == __atomic_load_n(&open_ino, __ATOMIC_RELAXED);
}

static bool is_interrupted(void)
{
    return __atomic_load_n(&interrupted, __ATOMIC_RELAXED);
}

static void connect_to_fake(int64_t timeout_ms, bool hard)
{
    struct meta_client_config config = { .timeout_ms = timeout_ms,
                                         .hard = hard,
                                         .is_interrupted = is_interrupted };
    struct session_config session_config = { .host = "test",
                                             .is_open = is_open };
    struct errmsg msg = { "" };

    meta_fake_init(&fake);
    map = meta_fake_map(&fake);
    ck_assert_int_eq(rpc_client_new(true, &rpc), 0);
    config.rpc = rpc;
    config.map = map;
    ck_assert_int_eq(meta_client_new(&config, &meta), 0);
    session_config.meta = meta;
    ck_assert_msg(session_open(&session_config, &session, &msg) == 0, "%s",
                  msg.text);
}

static void set_up(void)
{
    connect_to_fake(5000, false);
}

static void tear_down(void)
{
    meta_client_stop_retrying(meta);
    (void)session_close(session);
    meta_client_free(meta);
    rpc_client_free(rpc);
    cluster_map_unref(map);
    meta_fake_close(&fake);
}

static int submit_link(struct session_result *result)
{
    Gabion__Link body = GABION__LINK__INIT;
    Gabion__Op op = GABION__OP__INIT;

    body.ino = 5;
    op.body_case = GABION__OP__BODY_LINK;
    op.link = &body;
    return session_submit(session, 1, &op, false, result);
}

/* Wait for what the fake is told, at most a few seconds. */
#define WAIT_UNTIL(condition)                                                  \
    do {                                                                       \
        struct timespec until;                                                 \
        (void)clock_gettime(CLOCK_REALTIME, &until);                           \
        until.tv_sec += 10;                                                    \
        (void)pthread_mutex_lock(&fake.lock);                                  \
        while (!(condition)) {                                                 \
            ck_assert_int_eq(                                                  \
                pthread_cond_timedwait(&fake.changed, &fake.lock, &until), 0); \
        }                                                                      \
        (void)pthread_mutex_unlock(&fake.lock);                                \
    } while (0)

struct submitter {
    pthread_t thread;
    int rc;
    struct session_result result;
};

static void *run_submitter(void *context)
{
    struct submitter *submitter = context;

    submitter->rc = submit_link(&submitter->result);
    return NULL;
}

static void start_submitter(struct submitter *submitter)
{
    ck_assert_int_eq(
        pthread_create(&submitter->thread, NULL, run_submitter, submitter), 0);
}

static int finish_submitter(struct submitter *submitter)
{
    ck_assert_int_eq(pthread_join(submitter->thread, NULL), 0);
    session_result_clear(&submitter->result);
    return submitter->rc;
}

/* ----------------------------------------------------------------- submits */

START_TEST(ops_are_numbered_and_acknowledged)
{
    struct session_result result;

    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(submit_link(&result), 0);
        session_result_clear(&result);
    }
    ck_assert_uint_eq(fake.n_ops, 3);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_uint_eq(fake.ops[i].session, 101);
        ck_assert_uint_eq(fake.ops[i].sequence, i + 2); /* 1 opened it */
        ck_assert_uint_eq(fake.ops[i].acked, i + 1);
    }
}
END_TEST

START_TEST(errors_of_ops_are_returned)
{
    struct session_result result;

    fake.op_error = EEXIST;
    ck_assert_int_eq(submit_link(&result), -EEXIST);
    ck_assert_ptr_null(result.op);
    fake.op_error = 5000;
    ck_assert_int_eq(submit_link(&result), -EPROTO);
    fake.op_error = ESTALE; /* but the session lives: about the inode */
    ck_assert_int_eq(submit_link(&result), -ESTALE);
    ck_assert_uint_eq(session_number(session), 101);
}
END_TEST

START_TEST(op_is_sent_again_when_the_service_comes_back)
{
    struct submitter submitter;

    meta_fake_stop(&fake);
    start_submitter(&submitter);
    meta_fake_start(&fake);
    ck_assert_int_eq(finish_submitter(&submitter), 0);
    ck_assert_uint_eq(fake.n_ops, 1);
    ck_assert_uint_eq(fake.ops[0].times, 1);
}
END_TEST

static void *stop_fake(void *context)
{
    (void)context;
    meta_fake_stop(&fake);
    return NULL;
}

/* The answer gets lost with the connection: the op comes again as itself. */
START_TEST(op_without_an_answer_keeps_its_sequence)
{
    struct submitter submitter;
    pthread_t stopper;
    struct rpc_request *held;
    Gabion__SubmitReply empty;

    fake.holds_answers = true;
    start_submitter(&submitter);
    WAIT_UNTIL(fake.waiting != NULL);
    held = fake.waiting;
    ck_assert_int_eq(pthread_create(&stopper, NULL, stop_fake, NULL), 0);
    nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
    gabion__submit_reply__init(&empty);
    rpc_reply(held, &empty.base, NULL, 0, 0);
    ck_assert_int_eq(pthread_join(stopper, NULL), 0);
    (void)pthread_mutex_lock(&fake.lock);
    fake.holds_answers = false;
    (void)pthread_mutex_unlock(&fake.lock);
    meta_fake_start(&fake);
    ck_assert_int_eq(finish_submitter(&submitter), 0);
    ck_assert_uint_eq(fake.n_ops, 1);
    ck_assert_uint_eq(fake.ops[0].times, 2);
}
END_TEST

#define N_THREADS 8
#define N_ROUNDS  100

static void *submit_many(void *context)
{
    struct session_result result;

    for (unsigned i = 0; i < N_ROUNDS; i++) {
        ck_assert_int_eq(submit_link(&result), 0);
        session_result_clear(&result);
    }
    return context;
}

START_TEST(many_threads_share_the_numbers)
{
    pthread_t threads[N_THREADS];
    uint64_t sum = 0;
    uint64_t n = (uint64_t)N_THREADS * N_ROUNDS;

    for (unsigned i = 0; i < N_THREADS; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, submit_many, NULL),
                         0);
    }
    for (unsigned i = 0; i < N_THREADS; i++) {
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    }
    ck_assert_uint_eq(fake.n_ops, n);
    for (unsigned i = 0; i < n; i++) {
        sum += fake.ops[i].sequence;
        ck_assert_uint_lt(fake.ops[i].acked, fake.ops[i].sequence);
        ck_assert_uint_eq(fake.ops[i].times, 1);
    }
    ck_assert_uint_eq(sum, n * (n + 3) / 2); /* 2 .. n + 1, each once */
}
END_TEST

START_TEST(sync_asks_only_when_there_is_something)
{
    struct session_result result;

    ck_assert_int_eq(session_sync(session, 1, session_mark(session)), 0);
    ck_assert_uint_eq(fake.n_syncs, 0);
    ck_assert_int_eq(submit_link(&result), 0);
    ck_assert_uint_eq(result.mark, session_mark(session));
    session_result_clear(&result);
    ck_assert_int_eq(session_sync(session, 1, result.mark), 0);
    ck_assert_int_eq(session_sync(session, 1, result.mark), 0);
    ck_assert_uint_eq(fake.n_syncs, 1);
}
END_TEST

/* ------------------------------------------------------------ trouble ends */

static void set_up_hasty(void)
{
    connect_to_fake(1000, false);
}

static bool is_silence(int rc)
{
    return rc == -EHOSTUNREACH || rc == -ETIMEDOUT;
}

START_TEST(calls_end_with_the_timeout)
{
    struct session_result result;
    Gabion__Attr attr;
    int64_t start_ms = clock_mono_ms();
    int rc;

    meta_fake_stop(&fake);
    ck_assert(is_silence(submit_link(&result)));
    ck_assert(is_silence(meta_client_get_attr(meta, 1, &attr)));
    ck_assert_int_ge(clock_mono_ms() - start_ms, 1900);
    ck_assert_int_lt(clock_mono_ms() - start_ms, 6000);
    meta_fake_start(&fake);
    /* A channel that has failed is tried again after a second at the latest. */
    start_ms = clock_mono_ms();
    while (is_silence(rc = meta_client_get_attr(meta, 1, &attr))) {
        ck_assert_int_lt(clock_mono_ms() - start_ms, 10000);
    }
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(submit_link(&result), 0);
    session_result_clear(&result);
    /* Nobody waits for the first op any more: it is no longer in flight. */
    ck_assert_uint_eq(fake.ops[0].sequence, 3);
    ck_assert_uint_eq(fake.ops[0].acked, 2);
}
END_TEST

static void set_up_hard(void)
{
    connect_to_fake(1000, true);
}

START_TEST(hard_calls_wait_until_interrupted)
{
    struct submitter submitter;

    meta_fake_stop(&fake);
    start_submitter(&submitter);
    nanosleep(&(struct timespec){ .tv_sec = 1, .tv_nsec = 500000000 }, NULL);
    __atomic_store_n(&interrupted, true, __ATOMIC_RELAXED);
    ck_assert_int_eq(finish_submitter(&submitter), -EINTR);
}
END_TEST

/* ----------------------------------------------------------------- session */

START_TEST(lost_session_is_replaced_and_the_op_goes_on)
{
    struct session_result result;
    struct object_id id;

    session_new_object(session, &id);
    ck_assert_uint_eq(id.session, 101);
    ck_assert_uint_eq(id.serial, 1);
    (void)pthread_mutex_lock(&fake.lock);
    fake.lost_session = 101;
    (void)pthread_mutex_unlock(&fake.lock);
    ck_assert_int_eq(submit_link(&result), 0);
    session_result_clear(&result);
    ck_assert_uint_eq(session_number(session), 102);
    ck_assert_uint_eq(fake.ops[fake.n_ops - 1].session, 102);
    ck_assert_uint_eq(fake.ops[fake.n_ops - 1].sequence, 2);
    session_new_object(session, &id);
    ck_assert_uint_eq(id.session, 102);
    ck_assert_uint_eq(id.serial, 1);
}
END_TEST

START_TEST(keeper_notices_that_the_session_is_lost)
{
    (void)pthread_mutex_lock(&fake.lock);
    fake.lost_session = 101;
    (void)pthread_mutex_unlock(&fake.lock);
    WAIT_UNTIL(fake.n_sessions == 2);
}
END_TEST

START_TEST(orphan_is_held_while_it_is_open)
{
    __atomic_store_n(&open_ino, 77, __ATOMIC_RELAXED);
    (void)pthread_mutex_lock(&fake.lock);
    fake.orphan = 77;
    (void)pthread_mutex_unlock(&fake.lock);
    WAIT_UNTIL(fake.orphans_seen == 1 && fake.held == 77);
    __atomic_store_n(&open_ino, 0, __ATOMIC_RELAXED);
    WAIT_UNTIL(fake.orphans_seen == 1 && fake.held == 0);
}
END_TEST

START_TEST(inode_numbers_are_given_out_once)
{
    uint64_t last = 999;

    for (unsigned i = 0; i < 50000; i++) {
        uint64_t ino;

        ck_assert_int_eq(session_new_ino(session, &ino), 0);
        ck_assert_uint_gt(ino, last);
        last = ino;
    }
    ck_assert_uint_ge(fake.n_ops, 3);
}
END_TEST

/* ---------------------------------------------------------------- nonsense */

START_TEST(answers_are_checked)
{
    Gabion__ReadDirRequest query = GABION__READ_DIR_REQUEST__INIT;
    Gabion__ReadDirReply *page;
    Gabion__Attr attr;

    ck_assert_int_eq(meta_client_get_attr(meta, 5, &attr), 0);
    ck_assert_uint_eq(attr.ino, 5);
    ck_assert_int_eq(meta_client_get_attr(meta, 404, &attr), -ENOENT);
    ck_assert_int_eq(meta_client_get_attr(meta, 13, &attr), -EPROTO);
    ck_assert_int_eq(meta_client_get_attr(meta, 666, &attr), -EPROTO);

    query.ino = 5;
    query.limit = 10;
    query.after = 40;
    ck_assert_int_eq(meta_client_read_dir(meta, &query, &page), 0);
    ck_assert_uint_eq(page->n_entry, 3);
    ck_assert_uint_eq(page->entry[0]->cookie, 41);
    gabion__read_dir_reply__free_unpacked(page, NULL);
    query.limit = 2; /* fewer than come */
    ck_assert_int_eq(meta_client_read_dir(meta, &query, &page), -EPROTO);
    query.limit = 10;
    query.ino = 13;
    ck_assert_int_eq(meta_client_read_dir(meta, &query, &page), -EPROTO);
    query.ino = 14;
    ck_assert_int_eq(meta_client_read_dir(meta, &query, &page), -EPROTO);
}
END_TEST

static void add_case(Suite *suite,
                     const char *name,
                     void (*fixture)(void),
                     const TTest *const *tests)
{
    TCase *tcase = tcase_create(name);

    tcase_set_timeout(tcase, 60);
    if (fixture != NULL) {
        tcase_add_checked_fixture(tcase, fixture, tear_down);
    }
    for (; *tests != NULL; tests++) {
        tcase_add_test(tcase, *tests);
    }
    suite_add_tcase(suite, tcase);
}

int main(void)
{
    const TTest *const pure[] = { acked_mark_never_passes_what_is_in_flight,
                                  window_fills_and_empties, NULL };
    const TTest *const normal[] = {
        ops_are_numbered_and_acknowledged,
        errors_of_ops_are_returned,
        op_is_sent_again_when_the_service_comes_back,
        op_without_an_answer_keeps_its_sequence,
        many_threads_share_the_numbers,
        sync_asks_only_when_there_is_something,
        lost_session_is_replaced_and_the_op_goes_on,
        keeper_notices_that_the_session_is_lost,
        orphan_is_held_while_it_is_open,
        inode_numbers_are_given_out_once,
        answers_are_checked,
        NULL,
    };
    const TTest *const hasty[] = { calls_end_with_the_timeout, NULL };
    const TTest *const hard[] = { hard_calls_wait_until_interrupted, NULL };
    Suite *suite = suite_create("session");
    SRunner *runner;
    int n_failed;

    add_case(suite, "sequences", NULL, pure);
    add_case(suite, "session", set_up, normal);
    add_case(suite, "timeout", set_up_hasty, hasty);
    add_case(suite, "hard", set_up_hard, hard);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
