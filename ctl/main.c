/* gabion: the administrator's command. */
#include <stdio.h>

#include "common/buf.h"
#include "common/clock.h"
#include "ctl/arguments.h"
#include "ctl/fsck.h"
#include "ctl/status.h"
#include "proto/cluster_client.h"

#define MAP_TIMEOUT_MS   4000
#define STATS_TIMEOUT_MS 3000

/* Exit statuses, as --help tells them. */
enum {
    EXIT_HEALTHY = 0,
    EXIT_DEGRADED = 1,
    EXIT_NO_ANSWER = 2,
    EXIT_USAGE = 3,
};

static int fail(int status, const char *reason)
{
    (void)fprintf(stderr, "gabion: %s\n", reason);
    return status;
}

/* Print what has been collected; the reader may have gone. */
static int print(const struct cluster_status *status, bool json)
{
    if (json) {
        status_print_json(status, stdout);
    } else {
        status_print(status, stdout);
    }
    if (fflush(stdout) != 0) {
        return fail(EXIT_NO_ANSWER, "the answer could not be written");
    }
    return status_is_healthy(status) ? EXIT_HEALTHY : EXIT_DEGRADED;
}

static int show_status(struct rpc_client *rpc,
                       struct cluster_map *map,
                       bool json)
{
    struct cluster_status status;
    int rc =
        status_collect(rpc, map, clock_mono_ms() + STATS_TIMEOUT_MS, &status);
    int exit_status;

    if (rc != 0) {
        return fail(EXIT_NO_ANSWER, err_text(rc));
    }
    exit_status = print(&status, json);
    status_clear(&status);
    return exit_status;
}

static int run_fsck(struct rpc_client *rpc,
                    const struct cluster_map *map,
                    bool json)
{
    static const int exits[] = { [FSCK_SOUND] = EXIT_HEALTHY,
                                 [FSCK_FINDINGS] = EXIT_DEGRADED,
                                 [FSCK_INCOMPLETE] = EXIT_NO_ANSWER };
    enum fsck_result result = fsck_metadata(rpc, map, json, stdout);

    if (fflush(stdout) != 0) {
        return fail(EXIT_NO_ANSWER, "the answer could not be written");
    }
    return exits[result];
}

/* Run a command that needs the cluster's map. */
static int run_on_cluster(struct rpc_client *rpc,
                          const struct arguments *arguments)
{
    struct cluster_query query = {
        .seeds = (const char *const *)arguments->seeds,
        .n_seeds = arguments->n_seeds,
        .deadline_ms = clock_mono_ms() + MAP_TIMEOUT_MS,
    };
    struct cluster_map *map = NULL;
    struct errmsg msg = { "" };
    int rc = cluster_client_get_map(rpc, &query, &map, &msg);
    int exit_status;

    if (rc != 0) {
        return fail(EXIT_NO_ANSWER,
                    msg.text[0] != '\0' ? msg.text : err_text(rc));
    }
    exit_status = arguments->command == COMMAND_FSCK
                      ? run_fsck(rpc, map, arguments->json)
                      : show_status(rpc, map, arguments->json);
    cluster_map_unref(map);
    return exit_status;
}

static int run_with_rpc(const struct arguments *arguments)
{
    struct rpc_client *rpc = NULL;
    int rc = rpc_client_new(true, &rpc);

    if (rc != 0) {
        return fail(EXIT_NO_ANSWER, err_text(rc));
    }
    rc = run_on_cluster(rpc, arguments);
    rpc_client_free(rpc);
    return rc;
}

int main(int argc, char **argv)
{
    struct arguments arguments;
    struct errmsg msg = { "" };
    int status;

    mem_tune();
    if (arguments_parse(argc, argv, &arguments, &msg) != 0) {
        status = fail(EXIT_USAGE, msg.text);
    } else if (arguments.command == COMMAND_STATUS ||
               arguments.command == COMMAND_FSCK) {
        status = run_with_rpc(&arguments);
    } else {
        (void)fputs(arguments.command == COMMAND_HELP ? arguments_usage()
                                                      : "gabion " GABION_VERSION
                                                        "\n",
                    stdout);
        status = EXIT_HEALTHY;
    }
    arguments_clear(&arguments);
    return status;
}
