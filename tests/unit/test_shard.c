/* The shard: order, group commit, durability, failure. */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <check.h>

#include "common/clock.h"
#include "storaged/meta/meta_read.h"
#include "storaged/meta/shard.h"
#include "tests/unit/meta_ops.h"

#define CLUSTER 77u
#define THREADS 8u
#define CREATES 200u

static char dir[64];
static char path[96];
static struct shard *shard;

/* What the sync seam does; reset by setup(). */
static struct {
    sem_t entered; /* posted by each sync */
    sem_t go;      /* when `held`: awaited by each sync */
    bool held;
    int rc;
} syncs;

/* When `held`, each entry waits for `go` after its commit. */
static struct {
    sem_t entered;
    sem_t go;
    bool held;
} entries;

static int sync_seam(struct meta_db *db)
{
    int rc;

    (void)sem_post(&syncs.entered);
    if (__atomic_load_n(&syncs.held, __ATOMIC_SEQ_CST)) {
        (void)sem_wait(&syncs.go);
    }
    rc = __atomic_load_n(&syncs.rc, __ATOMIC_SEQ_CST);
    return rc < 0 ? rc : meta_db_sync(db);
}

static void applied_seam(void *context, const Gabion__Batch *batch)
{
    (void)context;
    (void)batch;
    if (__atomic_load_n(&entries.held, __ATOMIC_SEQ_CST)) {
        (void)sem_post(&entries.entered);
        (void)sem_wait(&entries.go);
    }
}

static bool sem_wait_ms(sem_t *sem, int64_t ms)
{
    int64_t until = clock_real_ns() + ms * 1000000;
    struct timespec ts = { until / 1000000000, until % 1000000000 };
    int rc;

    do {
        rc = sem_timedwait(sem, &ts);
    } while (rc < 0 && errno == EINTR);
    return rc == 0;
}

static void open_shard(uint64_t wal_pages_max)
{
    struct shard_config config = {
        .path = path,
        .cluster = CLUSTER,
        .wal_pages_max = wal_pages_max,
        .sync = sync_seam,
        .applied = applied_seam,
    };
    struct errmsg msg = { "" };

    ck_assert_msg(shard_new(&config, &shard, &msg) == 0, "%s", msg.text);
    ck_assert_int_eq(shard_start(shard), 0);
}

static void close_shard(void)
{
    shard_stop(shard);
    shard_free(shard);
    shard = NULL;
}

static void setup(void)
{
    memset(&syncs, 0, sizeof syncs);
    memset(&entries, 0, sizeof entries);
    (void)sem_init(&syncs.entered, 0, 0);
    (void)sem_init(&syncs.go, 0, 0);
    (void)sem_init(&entries.entered, 0, 0);
    (void)sem_init(&entries.go, 0, 0);
    (void)snprintf(dir, sizeof dir, "/tmp/gabion-shard-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    (void)snprintf(path, sizeof path, "%s/shard.db", dir);
    open_shard(0);
}

static void teardown(void)
{
    static const char *const suffixes[] = { "", "-wal", "-shm" };
    char name[128];

    if (shard != NULL) {
        close_shard();
    }
    for (unsigned i = 0; i < 3; i++) {
        (void)snprintf(name, sizeof name, "%s%s", path, suffixes[i]);
        (void)unlink(name);
    }
    (void)rmdir(dir);
}

/* A request with one op, and what became of it. */
struct sent {
    struct op_box box;
    struct shard_request request;
    sem_t done;
    int rc;
    int error;
    uint64_t ino;
    char detail[256];
};

static void sent_done(struct shard_request *request)
{
    struct sent *sent = request->context;

    sent->rc = request->rc;
    if (request->rc < 0) {
        (void)snprintf(sent->detail, sizeof sent->detail, "%s",
                       request->detail);
    } else if (request->n_ops > 0) {
        sent->error = request->results[0]->error;
        sent->ino = request->results[0]->ino;
    }
    (void)sem_post(&sent->done);
}

/* Submit sent->box. */
static void start(struct sent *sent, bool durable)
{
    (void)sem_init(&sent->done, 0, 0);
    sent->request = (struct shard_request){ .ops = &sent->box.pointer,
                                            .n_ops = 1,
                                            .durable = durable,
                                            .done = sent_done,
                                            .context = sent };
    shard_submit(shard, &sent->request);
}

static int finish(struct sent *sent)
{
    ck_assert(sem_wait_ms(&sent->done, 30000));
    return sent->rc < 0 ? sent->rc : -sent->error;
}

static int run(struct sent *sent, bool durable)
{
    start(sent, durable);
    return finish(sent);
}

static uint64_t new_session(void)
{
    struct sent sent;

    op_open(&sent.box);
    ck_assert_int_eq(run(&sent, false), 0);
    return sent.box.op.session;
}

/* The first of `count` reserved inodes, by the op of this sequence. */
static uint64_t reserve(uint64_t session, uint64_t sequence, uint32_t count)
{
    struct sent sent;

    op_reserve(&sent.box, session, sequence, count);
    ck_assert_int_eq(run(&sent, false), 0);
    return sent.ino;
}

static uint64_t lookup(const char *name)
{
    Gabion__LookupRequest request = GABION__LOOKUP_REQUEST__INIT;
    Gabion__AttrReply *reply;
    struct meta_reader *reader;
    char copy[64];
    uint64_t ino;

    (void)snprintf(copy, sizeof copy, "%s", name);
    request.parent = 1;
    request.name = (ProtobufCBinaryData){ strlen(copy), (uint8_t *)copy };
    ck_assert_int_eq(meta_reader_open(shard_db(shard), &reader), 0);
    ck_assert_int_eq(meta_read_lookup(reader, &request, &reply), 0);
    ino = reply->error == 0 ? reply->attr->ino : 0;
    gabion__attr_reply__free_unpacked(reply, NULL);
    meta_reader_close(reader);
    return ino;
}

static uint64_t count_syncs(void)
{
    struct shard_stats stats;

    shard_get_stats(shard, &stats);
    return stats.syncs;
}

/* One session that creates files, every fourth durably. */
static void *create_files(void *context)
{
    uint64_t number = (uint64_t)(uintptr_t)context;
    uint64_t session = new_session();
    uint64_t ino = reserve(session, 2, CREATES);
    struct sent sent;
    char name[32];

    for (unsigned i = 0; i < CREATES; i++) {
        (void)snprintf(name, sizeof name, "f%" PRIu64 "-%u", number, i);
        op_create(&sent.box, session, 3 + i, name, ino + i);
        ck_assert_int_eq(run(&sent, i % 4 == 0), 0);
        ck_assert_uint_eq(lookup(name), ino + i);
    }
    return NULL;
}

START_TEST(many_threads_get_the_results_of_their_ops)
{
    pthread_t threads[THREADS];

    for (uintptr_t i = 0; i < THREADS; i++) {
        ck_assert_int_eq(
            pthread_create(&threads[i], NULL, create_files, (void *)i), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        (void)pthread_join(threads[i], NULL);
    }
}
END_TEST

/* Create and unlink the same name again and again without waiting: every op
 * succeeds only when all are applied in order. */
static void *create_and_unlink(void *context)
{
    uint64_t number = (uint64_t)(uintptr_t)context;
    uint64_t session = new_session();
    uint64_t ino = reserve(session, 2, CREATES);
    struct sent *sent = calloc(CREATES, sizeof *sent);
    char name[32];

    (void)snprintf(name, sizeof name, "same%" PRIu64, number);
    for (unsigned i = 0; i < CREATES; i++) {
        if (i % 2 == 0) {
            op_create(&sent[i].box, session, 3 + i, name, ino + i);
        } else {
            op_unlink(&sent[i].box, session, 3 + i, name);
        }
        start(&sent[i], i % 7 == 0);
    }
    for (unsigned i = 0; i < CREATES; i++) {
        ck_assert_int_eq(finish(&sent[i]), 0);
    }
    free(sent);
    return NULL;
}

START_TEST(ops_of_a_session_are_applied_in_order)
{
    pthread_t threads[THREADS];

    for (uintptr_t i = 0; i < THREADS; i++) {
        ck_assert_int_eq(
            pthread_create(&threads[i], NULL, create_and_unlink, (void *)i), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        (void)pthread_join(threads[i], NULL);
    }
}
END_TEST

static void *start_held(void *context)
{
    start(context, false);
    return NULL;
}

START_TEST(what_waits_is_applied_as_one_entry)
{
    uint64_t session = new_session();
    uint64_t ino = reserve(session, 2, 1000);
    struct sent *sent = calloc(1000, sizeof *sent);
    struct shard_stats before, after;
    pthread_t thread;
    char name[32];

    for (unsigned i = 0; i < 1000; i++) {
        (void)snprintf(name, sizeof name, "w%u", i);
        op_create(&sent[i].box, session, 3 + i, name, ino + i);
    }
    shard_get_stats(shard, &before);
    __atomic_store_n(&entries.held, true, __ATOMIC_SEQ_CST);
    ck_assert_int_eq(pthread_create(&thread, NULL, start_held, &sent[0]), 0);
    ck_assert(sem_wait_ms(&entries.entered, 10000));
    for (unsigned i = 1; i < 1000; i++) {
        start(&sent[i], false);
    }
    __atomic_store_n(&entries.held, false, __ATOMIC_SEQ_CST);
    (void)sem_post(&entries.go);
    for (unsigned i = 0; i < 1000; i++) {
        ck_assert_int_eq(finish(&sent[i]), 0);
    }
    (void)pthread_join(thread, NULL);
    shard_get_stats(shard, &after);
    /* The one held, 512, and the other 487. */
    ck_assert_uint_eq(after.entries - before.entries, 3);
    ck_assert_uint_eq(after.ops - before.ops, 1000);
    free(sent);
}
END_TEST

START_TEST(only_durable_requests_wait_for_the_sync)
{
    uint64_t session = new_session();
    uint64_t ino = reserve(session, 2, 10);
    struct sent durable, other;

    __atomic_store_n(&syncs.held, true, __ATOMIC_SEQ_CST);
    op_create(&durable.box, session, 3, "durable", ino);
    op_create(&other.box, session, 4, "other", ino + 1);
    start(&durable, true);
    ck_assert_int_eq(run(&other, false), 0);
    ck_assert(sem_wait_ms(&syncs.entered, 10000));
    ck_assert(!sem_wait_ms(&durable.done, 50));
    ck_assert_uint_ne(lookup("durable"), 0);
    __atomic_store_n(&syncs.held, false, __ATOMIC_SEQ_CST);
    (void)sem_post(&syncs.go);
    ck_assert_int_eq(finish(&durable), 0);
}
END_TEST

START_TEST(one_sync_serves_all_that_wait)
{
    uint64_t session = new_session();
    uint64_t ino = reserve(session, 2, 100);
    struct sent *sent = calloc(100, sizeof *sent);
    uint64_t before;
    char name[32];

    /* The first holds up the syncer, the other 99 gather behind it. */
    __atomic_store_n(&syncs.held, true, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < 100; i++) {
        (void)snprintf(name, sizeof name, "s%u", i);
        op_create(&sent[i].box, session, 3 + i, name, ino + i);
        start(&sent[i], true);
        if (i == 0) {
            ck_assert(sem_wait_ms(&syncs.entered, 10000));
        }
    }
    before = count_syncs();
    __atomic_store_n(&syncs.held, false, __ATOMIC_SEQ_CST);
    (void)sem_post(&syncs.go);
    for (unsigned i = 0; i < 100; i++) {
        ck_assert_int_eq(finish(&sent[i]), 0);
    }
    ck_assert_uint_le(count_syncs() - before, 2);
    free(sent);
}
END_TEST

START_TEST(an_entry_nobody_waits_for_is_synced_soon_and_once)
{
    uint64_t session = new_session();

    ck_assert(sem_wait_ms(&syncs.entered, 2000));
    while (sem_wait_ms(&syncs.entered, 3ll * SHARD_SYNC_DELAY_MS)) {
    }
    (void)reserve(session, 2, 1);
    ck_assert(sem_wait_ms(&syncs.entered, 2000));
    ck_assert(!sem_wait_ms(&syncs.entered, 3ll * SHARD_SYNC_DELAY_MS));
}
END_TEST

START_TEST(a_durable_request_without_ops_waits_for_earlier_ones)
{
    uint64_t session = new_session();
    uint64_t ino = reserve(session, 2, 1);
    struct sent create, barrier;

    __atomic_store_n(&syncs.held, true, __ATOMIC_SEQ_CST);
    op_create(&create.box, session, 3, "early", ino);
    ck_assert_int_eq(run(&create, false), 0);
    (void)sem_init(&barrier.done, 0, 0);
    barrier.request = (struct shard_request){ .durable = true,
                                              .done = sent_done,
                                              .context = &barrier };
    shard_submit(shard, &barrier.request);
    ck_assert(sem_wait_ms(&syncs.entered, 10000));
    ck_assert(!sem_wait_ms(&barrier.done, 50));
    __atomic_store_n(&syncs.held, false, __ATOMIC_SEQ_CST);
    (void)sem_post(&syncs.go);
    ck_assert(sem_wait_ms(&barrier.done, 10000));
    ck_assert_int_eq(barrier.rc, 0);
}
END_TEST

static void *open_sessions(void *context)
{
    uint64_t *ids = context;

    for (unsigned i = 0; i < CREATES; i++) {
        ids[i] = new_session();
    }
    return NULL;
}

START_TEST(session_numbers_are_never_given_twice)
{
    static uint64_t ids[THREADS][CREATES];
    pthread_t threads[THREADS];
    uint64_t highest = 0;
    struct sent sent;

    for (unsigned i = 0; i < THREADS; i++) {
        ck_assert_int_eq(
            pthread_create(&threads[i], NULL, open_sessions, ids[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        (void)pthread_join(threads[i], NULL);
        for (unsigned j = 0; j < CREATES; j++) {
            ck_assert(j == 0 || ids[i][j] > ids[i][j - 1]);
            highest = ids[i][j] > highest ? ids[i][j] : highest;
        }
    }
    ck_assert_uint_lt(highest - ids[0][0], (uint64_t)THREADS * CREATES);
    op_close(&sent.box, highest, 2);
    ck_assert_int_eq(run(&sent, false), 0);
    close_shard();
    open_shard(0);
    ck_assert_uint_gt(new_session(), highest);
}
END_TEST

START_TEST(a_long_wal_is_checkpointed)
{
    struct shard_stats stats = { 0 };
    uint64_t session;
    int64_t deadline_ms = clock_mono_ms() + 20000;

    close_shard();
    open_shard(50);
    session = new_session();
    for (unsigned i = 0; i < 300; i++) {
        (void)reserve(session, 2 + i, 1);
    }
    while (stats.checkpoints == 0 && clock_mono_ms() < deadline_ms) {
        shard_get_stats(shard, &stats);
        (void)sched_yield();
    }
    ck_assert_uint_gt(stats.checkpoints, 0);
    ck_assert_uint_le(meta_db_wal_pages(shard_db(shard)), 50 + 600);
}
END_TEST

START_TEST(requests_after_stop_are_refused)
{
    uint64_t session = new_session();
    struct sent sent;

    shard_stop(shard);
    op_reserve(&sent.box, session, 2, 1);
    ck_assert_int_eq(run(&sent, true), -ECANCELED);
}
END_TEST

START_TEST(stop_answers_what_waits)
{
    uint64_t session = new_session();
    uint64_t ino = reserve(session, 2, 50);
    struct sent *sent = calloc(50, sizeof *sent);
    char name[32];

    for (unsigned i = 0; i < 50; i++) {
        (void)snprintf(name, sizeof name, "q%u", i);
        op_create(&sent[i].box, session, 3 + i, name, ino + i);
        start(&sent[i], true);
    }
    shard_stop(shard);
    for (unsigned i = 0; i < 50; i++) {
        ck_assert_int_eq(sem_trywait(&sent[i].done), 0);
        ck_assert_int_eq(sent[i].rc, 0);
    }
    free(sent);
}
END_TEST

/* ---------------------------------------------------------------- failure */

START_TEST(a_failed_sync_stops_the_shard)
{
    uint64_t session = new_session();
    struct sent sent;

    __atomic_store_n(&syncs.rc, -EIO, __ATOMIC_SEQ_CST);
    op_reserve(&sent.box, session, 2, 1);
    ck_assert_int_eq(run(&sent, true), -EIO);
    __atomic_store_n(&syncs.rc, 0, __ATOMIC_SEQ_CST);
    op_reserve(&sent.box, session, 3, 1);
    ck_assert_int_eq(run(&sent, false), -EIO);
    ck_assert_ptr_nonnull(strstr(sent.detail, "sync"));
}
END_TEST

/* The database cannot grow any more: RLIMIT_FSIZE. */
START_TEST(a_full_disk_stops_the_shard_and_loses_nothing)
{
    uint64_t session = new_session();
    uint64_t ino = reserve(session, 2, 100000);
    struct rlimit old, limit;
    struct sent sent;
    char name[32];
    unsigned n = 0;
    int rc = 0;

    (void)signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
    limit = old;
    limit.rlim_cur = 1 << 20;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    while (rc == 0 && n < 100000) {
        (void)snprintf(name, sizeof name, "n%u", n);
        op_create(&sent.box, session, 3 + n, name, ino + n);
        rc = run(&sent, false);
        n += rc == 0;
    }
    ck_assert_int_eq(rc, -EIO);
    ck_assert_uint_gt(n, 10);
    op_create(&sent.box, session, 3 + n, "after", ino + n);
    ck_assert_int_eq(run(&sent, true), -EIO);
    ck_assert_uint_ne(lookup("n1"), 0);
    close_shard();
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &old), 0);

    open_shard(0);
    for (unsigned i = 0; i < n; i++) {
        (void)snprintf(name, sizeof name, "n%u", i);
        ck_assert_uint_eq(lookup(name), ino + i);
    }
    ck_assert_uint_eq(lookup("after"), 0);
    op_create(&sent.box, session, 3 + n, "after", ino + n);
    ck_assert_int_eq(run(&sent, true), 0);
}
END_TEST

/* --------------------------------------------------------------- kill -9 */

struct answered {
    uint64_t ino;
    char name[24];
};

struct victim {
    unsigned number;
    unsigned round;
    int fd; /* of the pipe to the parent */
};

static void *create_until_killed(void *context)
{
    const struct victim *victim = context;
    uint64_t session = new_session();
    uint64_t ino = reserve(session, 2, 1u << 20);
    struct answered answered = { 0 };
    struct sent sent;

    for (unsigned i = 0;; i++) {
        answered.ino = ino + i;
        (void)snprintf(answered.name, sizeof answered.name, "k%u-%u-%u",
                       victim->round, victim->number, i);
        op_create(&sent.box, session, 3 + i, answered.name, ino + i);
        if (run(&sent, i % 8 == 0) != 0 ||
            write(victim->fd, &answered, sizeof answered) < 0) {
            _exit(1);
        }
    }
    return NULL;
}

static void live_until_killed(unsigned round, int fd)
{
    struct victim victims[4];
    pthread_t threads[4];

    open_shard(100); /* checkpoints are killed, too */
    for (unsigned i = 0; i < 4; i++) {
        victims[i] = (struct victim){ i, round, fd };
        (void)pthread_create(&threads[i], NULL, create_until_killed,
                             &victims[i]);
    }
    (void)pthread_join(threads[0], NULL);
    _exit(1);
}

/* Numerical Recipes' generator: enough to choose moments. */
static uint32_t random_number(void)
{
    static uint32_t state = 1;

    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

START_TEST(answered_ops_survive_kill)
{
    struct answered answered;
    struct answered *all = NULL;
    size_t n = 0;

    close_shard();
    for (unsigned round = 0; round < 12; round++) {
        size_t n_before = n;
        int fds[2];
        pid_t pid;

        ck_assert_int_eq(pipe(fds), 0);
        pid = fork();
        if (pid == 0) {
            (void)close(fds[0]);
            live_until_killed(round, fds[1]);
        }
        (void)close(fds[1]);
        /* Kill it at a random moment after its first answer. */
        for (int left = (int)(random_number() % 400);
             left >= 0 && read(fds[0], &answered, sizeof answered) ==
                              (ssize_t)sizeof answered;
             left--) {
            all = reallocarray(all, n + 1, sizeof *all);
            all[n++] = answered;
        }
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
        while (read(fds[0], &answered, sizeof answered) ==
               (ssize_t)sizeof answered) {
            all = reallocarray(all, n + 1, sizeof *all);
            all[n++] = answered;
        }
        (void)close(fds[0]);
        ck_assert_uint_gt(n, n_before);
        open_shard(0);
        for (size_t i = n_before; i < n; i++) {
            ck_assert_uint_eq(lookup(all[i].name), all[i].ino);
        }
        close_shard();
    }
    open_shard(0);
    for (size_t i = 0; i < n; i++) {
        ck_assert_uint_eq(lookup(all[i].name), all[i].ino);
    }
    free(all);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("shard");
    TCase *tcase = tcase_create("shard");
    SRunner *runner = srunner_create(suite);
    int n_failed;

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, many_threads_get_the_results_of_their_ops);
    tcase_add_test(tcase, ops_of_a_session_are_applied_in_order);
    tcase_add_test(tcase, what_waits_is_applied_as_one_entry);
    tcase_add_test(tcase, only_durable_requests_wait_for_the_sync);
    tcase_add_test(tcase, one_sync_serves_all_that_wait);
    tcase_add_test(tcase, an_entry_nobody_waits_for_is_synced_soon_and_once);
    tcase_add_test(tcase, a_durable_request_without_ops_waits_for_earlier_ones);
    tcase_add_test(tcase, session_numbers_are_never_given_twice);
    tcase_add_test(tcase, a_long_wal_is_checkpointed);
    tcase_add_test(tcase, requests_after_stop_are_refused);
    tcase_add_test(tcase, stop_answers_what_waits);
    tcase_add_test(tcase, a_failed_sync_stops_the_shard);
    tcase_add_test(tcase, a_full_disk_stops_the_shard_and_loses_nothing);
    tcase_add_test(tcase, answered_ops_survive_kill);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_ENV);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
