/* gabion-fusefs: mounts a Gabion filesystem. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/buf.h"
#include "common/log.h"
#include "fusefs/daemon.h"
#include "fusefs/mount.h"
#include "fusefs/mountpoint.h"
#include "fusefs/options.h"

/* Every thread to come inherits this: only the one that waits for them gets
 * these signals. */
static void block_signals(void)
{
    const struct sigaction ignore = { .sa_handler = SIG_IGN };
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGHUP);
    (void)sigaddset(&set, SIGUSR2);
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL);
    (void)sigaction(SIGPIPE, &ignore, NULL);
}

static int complain(const struct errmsg *msg, int code)
{
    (void)fprintf(stderr, "gabion-fusefs: %s\n", msg->text);
    return code;
}

static int run_in_background(const struct options *options,
                             const char *mountpoint)
{
    struct daemon daemon;
    struct errmsg msg = { "" };
    int code;

    block_signals();
    if (daemon_start(&daemon, options->foreground, &msg) != 0) {
        return complain(&msg, DAEMON_EXIT_MOUNT);
    }
    if (daemon_open_log(options->log_file, &msg) != 0 ||
        daemon_write_pid(&daemon, options->pid_file, &msg) != 0) {
        daemon_failed(&daemon, DAEMON_EXIT_MOUNT, msg.text);
        return DAEMON_EXIT_MOUNT;
    }
    log_set_level(options->log_level);
    code = mount_run(options, mountpoint, &daemon);
    daemon_remove_pid(&daemon);
    return code;
}

static int run(const struct options *options)
{
    char *mountpoint = NULL;
    struct errmsg msg = { "" };
    int code = EXIT_SUCCESS;

    if (options->wants_help) {
        (void)fputs(options_usage(), stdout);
        return EXIT_SUCCESS;
    }
    if (options->wants_version) {
        (void)puts("gabion-fusefs " GABION_VERSION);
        return EXIT_SUCCESS;
    }
    if (mountpoint_check(options->mountpoint, options->nonempty, &mountpoint,
                         &msg) != 0) {
        return complain(&msg, DAEMON_EXIT_MOUNT);
    }
    if (!options->fake) {
        code = run_in_background(options, mountpoint);
    }
    free(mountpoint);
    return code;
}

int main(int argc, char **argv)
{
    struct options options;
    struct errmsg msg = { "" };
    int code;

    mem_tune();
    if (options_parse(&options, argc, argv, &msg) == 0) {
        code = run(&options);
    } else {
        code = complain(&msg, DAEMON_EXIT_USAGE);
    }
    options_clear(&options);
    return code;
}
