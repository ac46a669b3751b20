/* The program gabion-storaged as a process: what it says, how it ends. Its path
 * is in the environment variable GABION_STORAGED. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <check.h>

#include "common/clock.h"
#include "proto/cluster_client.h"

#define WAIT_MS 20000

static char dir[64];
static char config[96]; /* storaged.conf of the tests' node */

struct process {
    pid_t pid;
    int output;      /* read end of its stdout and stderr */
    char said[8192]; /* what has been read from there */
};

static void put_file(const char *path, const char *format, ...)
    PRINTF_LIKE(2, 3);

static void put_file(const char *path, const char *format, ...)
{
    FILE *file = fopen(path, "w");
    va_list args;

    ck_assert_ptr_nonnull(file);
    va_start(args, format);
    ck_assert_int_ge(vfprintf(file, format, args), 0);
    va_end(args);
    ck_assert_int_eq(fclose(file), 0);
}

static void make_dir(void)
{
    char path[96];

    (void)snprintf(dir, sizeof dir, "/tmp/gabion-test-daemon-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    (void)snprintf(path, sizeof path, "%s/data", dir);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    (void)snprintf(path, sizeof path, "%s/cluster.conf", dir);
    put_file(path, "[cluster]\nid=0123456789abcdef\npolicy=copies:1\n"
                   "[node 1]\naddress=127.0.0.1:1\n");
    (void)snprintf(config, sizeof config, "%s/storaged.conf", dir);
    put_file(config,
             "[node]\nid=1\ndata=%s/data\ncluster=%s/cluster.conf\n"
             "listen=127.0.0.1:0\n",
             dir, dir);
}

static void remove_dir(void)
{
    char command[128];

    (void)snprintf(command, sizeof command, "rm -rf %s", dir);
    ck_assert_int_eq(system(command), 0);
}

/* Run the program with up to two arguments. */
static void run(struct process *process, const char *first, const char *second)
{
    const char *program = getenv("GABION_STORAGED");
    int fds[2];

    ck_assert_msg(program != NULL, "GABION_STORAGED is not set");
    memset(process, 0, sizeof *process);
    ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
    process->output = fds[0];
    process->pid = fork();
    ck_assert_int_ge(process->pid, 0);
    if (process->pid == 0) {
        (void)dup2(fds[1], STDOUT_FILENO);
        (void)dup2(fds[1], STDERR_FILENO);
        (void)execl(program, program, first, second, (char *)NULL);
        _exit(127);
    }
    (void)close(fds[1]);
}

/* Read until the process has said `text`, or, when that is NULL, ended. */
static bool hear(struct process *process, const char *text)
{
    int64_t end = clock_mono_ms() + WAIT_MS;
    size_t n = strlen(process->said);

    while (text == NULL || strstr(process->said, text) == NULL) {
        struct pollfd fd = { .fd = process->output, .events = POLLIN };
        ssize_t got;

        ck_assert_msg(clock_mono_ms() < end, "only said: %s", process->said);
        if (poll(&fd, 1, 100) <= 0) {
            continue;
        }
        got = read(process->output, process->said + n,
                   sizeof process->said - 1 - n);
        if (got <= 0) {
            return text == NULL;
        }
        n += (size_t)got;
        process->said[n] = '\0';
    }
    return true;
}

/* Wait for the end: the exit status, or minus the signal. */
static int end_of(struct process *process)
{
    int status = 0;

    ck_assert(hear(process, NULL));
    ck_assert_int_eq(waitpid(process->pid, &status, 0), process->pid);
    (void)close(process->output);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void run_node(struct process *process)
{
    run(process, "--config", config);
    ck_assert_msg(hear(process, " info ready node=1 address=127.0.0.1:0 port="),
                  "%s", process->said);
    ck_assert(hear(process, "\n"));
}

/* Whether the node at the port that it told answers. */
static bool answers(const struct process *process)
{
    char address[64];
    const char *seed = address;
    struct cluster_query query = { .seeds = &seed,
                                   .n_seeds = 1,
                                   .cluster = 0x0123456789abcdef,
                                   .deadline_ms = clock_mono_ms() + 5000 };
    const char *port = strstr(process->said, "port=");
    struct cluster_map *map = NULL;
    struct rpc_client *rpc = NULL;
    struct errmsg msg;
    int rc;

    (void)snprintf(address, sizeof address, "127.0.0.1:%d",
                   (int)strtol(port + 5, NULL, 10));
    ck_assert_int_eq(rpc_client_new(true, &rpc), 0);
    rc = cluster_client_get_map(rpc, &query, &map, &msg);
    cluster_map_unref(map);
    rpc_client_free(rpc);
    return rc == 0;
}

static unsigned count_lines(const char *text)
{
    unsigned n = 0;

    for (; *text != '\0'; text++) {
        n += *text == '\n';
    }
    return n;
}

static const int ending_signals[] = { SIGTERM, SIGINT };

START_TEST(it_serves_until_it_is_told_to_stop)
{
    struct process process;

    run_node(&process);
    ck_assert(answers(&process));
    ck_assert_int_eq(kill(process.pid, ending_signals[_i]), 0);
    ck_assert_int_eq(end_of(&process), 0);
    ck_assert_ptr_nonnull(strstr(process.said, "stopped node=1"));
}
END_TEST

START_TEST(it_starts_again_after_any_end)
{
    static const int signals[] = { SIGKILL, SIGTERM, SIGKILL };
    struct process process;

    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        run_node(&process);
        ck_assert_int_eq(kill(process.pid, signals[i]), 0);
        ck_assert_int_eq(end_of(&process),
                         signals[i] == SIGTERM ? 0 : -SIGKILL);
    }
    run_node(&process);
    ck_assert(answers(&process));
    ck_assert_int_eq(kill(process.pid, SIGTERM), 0);
    ck_assert_int_eq(end_of(&process), 0);
}
END_TEST

START_TEST(a_second_daemon_names_the_first)
{
    struct process first;
    struct process second;
    char pid[32];

    run_node(&first);
    run(&second, "--config", config);
    ck_assert_int_eq(end_of(&second), 2);
    (void)snprintf(pid, sizeof pid, "pid %ld\n", (long)first.pid);
    ck_assert_msg(strstr(second.said, pid) != NULL, "%s", second.said);
    ck_assert_uint_eq(count_lines(second.said), 1);
    ck_assert(answers(&first));
    ck_assert_int_eq(kill(first.pid, SIGTERM), 0);
    ck_assert_int_eq(end_of(&first), 0);
}
END_TEST

static const struct {
    const char *arguments[2];
    int status;
    const char *says;
} short_runs[] = {
    { { "--help" }, 0, "Exit status:" },
    { { "--version" }, 0, "gabion-storaged 0." },
    { { NULL }, 1, "give --config FILE" },
    { { "--frob" }, 1, "'--frob'" },
    { { "--config", "/nonexistent/x.conf" }, 1, "/nonexistent/x.conf" },
};

START_TEST(usage_and_mistakes_end_at_once)
{
    struct process process;

    run(&process, short_runs[_i].arguments[0], short_runs[_i].arguments[1]);
    ck_assert_int_eq(end_of(&process), short_runs[_i].status);
    ck_assert_msg(strstr(process.said, short_runs[_i].says) != NULL, "%s",
                  process.said);
    if (short_runs[_i].status != 0) {
        ck_assert_uint_eq(count_lines(process.said), 1);
    }
}
END_TEST

static const struct {
    const char *lines; /* of [node], after data= and cluster= */
    int status;
    const char *says;
} bad_configs[] = {
    { "id=2\n", 1, "node 2 is not in" },
    { "id=1\ncolour=red\n", 1, "storaged.conf:5: unknown key 'colour'" },
    { "id=1\nlisten=nowhere\n", 2, "cannot listen at nowhere" },
    { "id=1\nlisten=192.0.2.1:7000\n", 2, "cannot listen at 192.0.2.1:7000" },
};

START_TEST(a_wrong_configuration_is_one_line)
{
    struct process process;

    put_file(config, "[node]\ndata=%s/data\ncluster=%s/cluster.conf\n%s", dir,
             dir, bad_configs[_i].lines);
    run(&process, "--config", config);
    ck_assert_int_eq(end_of(&process), bad_configs[_i].status);
    ck_assert_msg(strstr(process.said, bad_configs[_i].says) != NULL, "%s",
                  process.said);
    ck_assert_uint_eq(count_lines(process.said), 1);
}
END_TEST

START_TEST(a_data_directory_that_is_not_there_is_told)
{
    struct process process;

    put_file(config, "[node]\nid=1\ndata=%s/absent\ncluster=%s/cluster.conf\n",
             dir, dir);
    run(&process, "--config", config);
    ck_assert_int_eq(end_of(&process), 2);
    ck_assert_ptr_nonnull(strstr(process.said, "/absent: No such file"));
    ck_assert_uint_eq(count_lines(process.said), 1);
}
END_TEST

#define N(table) ((int)(sizeof(table) / sizeof *(table)))

int main(void)
{
    Suite *suite = suite_create("daemon");
    TCase *tcase = tcase_create("daemon");
    SRunner *runner;
    int failed;

    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, make_dir, remove_dir);
    tcase_add_loop_test(tcase, it_serves_until_it_is_told_to_stop, 0,
                        N(ending_signals));
    tcase_add_test(tcase, it_starts_again_after_any_end);
    tcase_add_test(tcase, a_second_daemon_names_the_first);
    tcase_add_loop_test(tcase, usage_and_mistakes_end_at_once, 0,
                        N(short_runs));
    tcase_add_loop_test(tcase, a_wrong_configuration_is_one_line, 0,
                        N(bad_configs));
    tcase_add_test(tcase, a_data_directory_that_is_not_there_is_told);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
