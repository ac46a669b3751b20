/* gabion-storaged: one storage node. */
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>

#include "common/buf.h"
#include "common/log.h"
#include "proto/cluster_map.h"
#include "storaged/daemon_options.h"
#include "storaged/node.h"

/* Exit statuses, as --help tells them. */
enum {
    EXIT_STOPPED = 0,
    EXIT_CONFIG = 1,
    EXIT_NODE = 2,
};

static int fail(int status, const char *reason)
{
    (void)fprintf(stderr, "gabion-storaged: %s\n", reason);
    return status;
}

/* Keep the signals that end the daemon for sigwaitinfo(2); call before any
 * thread is made, for they all inherit it. */
static void hold_signals(sigset_t *ret_ending)
{
    const struct sigaction ignore = { .sa_handler = SIG_IGN };

    (void)sigemptyset(ret_ending);
    (void)sigaddset(ret_ending, SIGTERM);
    (void)sigaddset(ret_ending, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, ret_ending, NULL);
    (void)sigaction(SIGPIPE, &ignore, NULL);
}

static int serve(struct node *node,
                 const struct daemon_options *options,
                 const struct cluster_map *map,
                 const sigset_t *ending)
{
    const char *address = options->listen != NULL
                              ? options->listen
                              : cluster_map_node(map, options->id)->address;
    int rc = node_start(node);
    int signo;

    if (rc != 0) {
        node_stop(node);
        return fail(EXIT_NODE, err_text(rc));
    }
    log_info("ready node=%" PRIu32 " address=%s port=%d", options->id, address,
             node_port(node));
    do {
        signo = sigwaitinfo(ending, NULL);
    } while (signo < 0);
    log_info("stopping node=%" PRIu32 " signal=%d", options->id, signo);
    node_stop(node);
    log_info("stopped node=%" PRIu32, options->id);
    return EXIT_STOPPED;
}

static int run_node(const struct daemon_options *options,
                    struct cluster_map *map,
                    const sigset_t *ending)
{
    struct node_config config = { .id = options->id,
                                  .data = options->data,
                                  .listen = options->listen,
                                  .reserve = options->reserve,
                                  .map = map };
    struct node *node = NULL;
    struct errmsg msg = { "" };
    int status;

    if (node_new(&config, &node, &msg) != 0) {
        return fail(EXIT_NODE, msg.text);
    }
    status = serve(node, options, map, ending);
    node_free(node);
    return status;
}

static int run(const char *config, const sigset_t *ending)
{
    struct daemon_options options;
    struct cluster_map *map = NULL;
    struct errmsg msg = { "" };
    int status;

    if (daemon_options_read(config, &options, &msg) != 0 ||
        cluster_map_load(options.cluster, &map, &msg) != 0) {
        status = fail(EXIT_CONFIG, msg.text);
    } else if (cluster_map_node(map, options.id) == NULL) {
        errmsg_set(&msg, "%s: node %" PRIu32 " is not in %s", config,
                   options.id, options.cluster);
        status = fail(EXIT_CONFIG, msg.text);
    } else {
        log_set_level(options.log_level);
        status = run_node(&options, map, ending);
    }
    cluster_map_unref(map);
    daemon_options_clear(&options);
    return status;
}

int main(int argc, char **argv)
{
    struct daemon_command command;
    struct errmsg msg = { "" };
    sigset_t ending;

    mem_tune();
    if (daemon_command_parse(argc, argv, &command, &msg) != 0) {
        return fail(EXIT_CONFIG, msg.text);
    }
    switch (command.action) {
    case DAEMON_HELP:
        (void)fputs(daemon_usage(), stdout);
        return EXIT_STOPPED;
    case DAEMON_VERSION:
        (void)puts("gabion-storaged " GABION_VERSION);
        return EXIT_STOPPED;
    default:
        hold_signals(&ending);
        return run(command.config, &ending);
    }
}
