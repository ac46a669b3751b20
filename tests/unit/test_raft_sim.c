/* Many seeds through the simulator, and planted bugs that it must find.
 *
 * RAFT_SIM_SEEDS (default 400) and RAFT_SIM_FIRST (1) choose the seeds; a seed
 * that fails is printed and fails again with RAFT_SIM_FIRST=n RAFT_SIM_SEEDS=1.
 * RAFT_SIM_SECONDS ends a long run early. RAFT_SIM_WORLDS and RAFT_SIM_PLANTS,
 * sums of SIM_* and RAFT_PLANT_*, are for experiments. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <check.h>

#include "common/clock.h"
#include "storaged/raft/raft_group.h"
#include "tests/unit/raft_sim.h"

#define FAULTS_MS 30000u

static uint64_t number_from(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

static struct sim_options options_of(uint64_t seed)
{
    return (struct sim_options){ .seed = seed,
                                 .n_voters = seed % 3 == 0   ? 5
                                             : seed % 7 == 0 ? 1
                                                             : 3,
                                 .faults_ms = FAULTS_MS };
}

static void add(struct sim_result *sum, const struct sim_result *result)
{
    sum->n_events += result->n_events;
    sum->n_acked += result->n_acked;
    sum->n_reads += result->n_reads;
    sum->n_leaders += result->n_leaders;
    sum->n_crashes += result->n_crashes;
    sum->n_snapshots += result->n_snapshots;
    sum->n_installs += result->n_installs;
    sum->n_changes += result->n_changes;
    sum->n_transfers += result->n_transfers;
}

static void print(const struct sim_result *sum, uint64_t n)
{
    printf("%" PRIu64 " seeds: %" PRIu64 " events, %" PRIu64
           " acknowledged, %" PRIu64 " reads, %" PRIu64 " leaders, %" PRIu64
           " crashes, %" PRIu64 " snapshots, %" PRIu64 " installs, %" PRIu64
           " changes, %" PRIu64 " transfers\n",
           n, sum->n_events, sum->n_acked, sum->n_reads, sum->n_leaders,
           sum->n_crashes, sum->n_snapshots, sum->n_installs, sum->n_changes,
           sum->n_transfers);
}

START_TEST(seed_replays_exactly)
{
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct sim_options options = options_of(seed);
        struct sim_result first;
        struct sim_result second;

        sim_run(&options, &first);
        sim_run(&options, &second);
        ck_assert_mem_eq(&first, &second, sizeof first);
    }
}
END_TEST

/* raft_log keeps what the simulated disk keeps. In memory, where syncs cost
 * nothing. */
START_TEST(real_logs_hold_the_same)
{
    char directory[] = "/dev/shm/gabion-raftsim-XXXXXX";
    static const char *const suffixes[] = { "", "-wal", "-shm", "-journal" };
    char path[64];
    char file[96];

    if (mkdtemp(directory) == NULL) {
        return; /* no such place here */
    }
    (void)snprintf(path, sizeof path, "%s/log", directory);
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct sim_options options = options_of(seed);
        struct sim_result result;

        options.log_path = path;
        options.faults_ms = 6000;
        sim_run(&options, &result);
        for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
            (void)snprintf(file, sizeof file, "%s%s", path, suffixes[i]);
            (void)unlink(file);
        }
        ck_assert_msg(result.violation[0] == '\0', "%s", result.violation);
    }
    ck_assert_int_eq(rmdir(directory), 0);
}
END_TEST

START_TEST(no_seed_violates_anything)
{
    uint64_t n = number_from("RAFT_SIM_SEEDS", 400);
    uint64_t first = number_from("RAFT_SIM_FIRST", 1);
    int64_t end_ms = clock_mono_ms() +
                     (int64_t)number_from("RAFT_SIM_SECONDS", 86400) * 1000;
    struct sim_result sum = { .n_events = 0 };
    uint64_t done = 0;

    while (done < n && clock_mono_ms() < end_ms) {
        struct sim_options options = options_of(first + done);
        struct sim_result result;

        options.worlds = (unsigned)number_from("RAFT_SIM_WORLDS", 0);
        options.group_plants = (unsigned)number_from("RAFT_SIM_PLANTS", 0);
        sim_run(&options, &result);
        add(&sum, &result);
        done++;
        if (result.violation[0] != '\0') {
            printf("FAILED: %s\nRAFT_SIM_FIRST=%" PRIu64 " RAFT_SIM_SEEDS=1\n",
                   result.violation, options.seed);
            (void)fflush(stdout);
            ck_abort_msg("%s", result.violation);
        }
    }
    print(&sum, done);
    ck_assert_uint_gt(sum.n_acked, 0);
    ck_assert_uint_gt(sum.n_reads, 0);
}
END_TEST

/* Each planted bug, what worlds show it soon, and the first seed that does.
 * RAFT_SIM_PLANT_FIRST and RAFT_SIM_PLANT_SEEDS search elsewhere. */
static const struct {
    const char *name;
    unsigned group_plants;
    unsigned plants;
    unsigned worlds;
    uint64_t first;
} plants[] = {
    { "a disk that lies about syncs", 0, SIM_PLANT_LYING_SYNC, 0, 1 },
    { "a read without a term check", 0, SIM_PLANT_NO_TERM_CHECK, 0, 98 },
    { "messages before term and vote are durable", RAFT_PLANT_EARLY_SEND, 0,
      SIM_HARSH, 108 },
    { "entries below the compacted log", RAFT_PLANT_OLD_APPEND, 0,
      SIM_LATE | SIM_RESTLESS, 183 },
    { "apply while installing", RAFT_PLANT_APPLY_BLIND, 0, 0, 1 },
    { "a lone voter that stays in its term", RAFT_PLANT_SAME_TERM, 0, 0, 14 },
    { "no vote without knowing to be a voter", RAFT_PLANT_STRICT_VOTER, 0,
      SIM_RESTLESS, 96 },
};

/* In a process of its own: some bugs make libraft write or read where it must
 * not, and a crash counts as caught. */
static bool is_caught(const struct sim_options *options, const char *name)
{
    pid_t child = fork();
    int how = 0;

    ck_assert_int_ge(child, 0);
    if (child == 0) {
        struct sim_result result;

        sim_run(options, &result);
        if (result.violation[0] != '\0') {
            printf("%s: %s\n", name, result.violation);
            (void)fflush(stdout);
        }
        _exit(result.violation[0] != '\0');
    }
    ck_assert_int_eq(waitpid(child, &how, 0), child);
    if (WIFSIGNALED(how)) {
        printf("%s: seed %" PRIu64 ", dies of signal %d\n", name, options->seed,
               WTERMSIG(how));
    }
    return how != 0;
}

START_TEST(planted_bug_is_caught)
{
    uint64_t first = number_from("RAFT_SIM_PLANT_FIRST", plants[_i].first);
    uint64_t n = number_from("RAFT_SIM_PLANT_SEEDS", 200);

    for (uint64_t seed = first; seed < first + n; seed++) {
        struct sim_options options = options_of(seed);

        options.group_plants = plants[_i].group_plants;
        options.plants = plants[_i].plants;
        options.worlds = plants[_i].worlds;
        options.is_quiet = true;
        if (is_caught(&options, plants[_i].name)) {
            return;
        }
    }
    ck_abort_msg("%s is not caught", plants[_i].name);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_sim");
    TCase *tcase = tcase_create("raft_sim");
    SRunner *runner;
    int n_failed;

    tcase_set_timeout(tcase, 100000);
    tcase_add_test(tcase, seed_replays_exactly);
    tcase_add_test(tcase, real_logs_hold_the_same);
    tcase_add_test(tcase, no_seed_violates_anything);
    tcase_add_loop_test(tcase, planted_bug_is_caught, 0,
                        sizeof plants / sizeof plants[0]);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
