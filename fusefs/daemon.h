/* Going to the background: the command that mounts returns when the mount can
 * be used, with what went wrong on its stderr if it cannot.
 *
 * daemon_start() forks at once, before gRPC and before any thread; the child
 * goes on to mount and reports through a pipe. */
#pragma once

#include <stdbool.h>

#include "common/err.h"

/* Exit codes of mount(8). */
#define DAEMON_EXIT_USAGE 1
#define DAEMON_EXIT_MOUNT 32

struct daemon {
    int report_fd;   /* where the parent listens; -1: nobody does */
    bool foreground; /* nothing has been forked */
    char *pid_file;  /* owned: absolute; NULL: none has been written */
};

/* Unless `foreground`, fork: the parent waits in here for the child's report,
 * prints what is wrong, and exits. Returns in the child only, which has a
 * session of its own but still the stderr of the parent.
 * Errors: told in `msg` */
MUST_CHECK int daemon_start(struct daemon *daemon,
                            bool foreground,
                            struct errmsg *msg);

/* Open the log file, appending, and make it stderr; called before anything is
 * logged that the user does not see. `path` NULL: nothing changes yet.
 * Errors: those of open(2), told in `msg` */
MUST_CHECK int daemon_open_log(const char *path, struct errmsg *msg);

/* Write the process id of the caller to a file; `path` NULL: do nothing.
 * Errors: those of open(2) and write(2), told in `msg` */
MUST_CHECK int daemon_write_pid(struct daemon *daemon,
                                const char *path,
                                struct errmsg *msg);

/* Remove the file again: the process is about to end. */
void daemon_remove_pid(struct daemon *daemon);

/* The mount is usable: let the parent exit with 0, give back its stdin, stdout
 * and, without a log file, stderr, whose lines go to syslog(3) from now on. */
void daemon_ready(struct daemon *daemon, bool has_log_file);

/* It will not be: let the parent print `text` and exit with `code`. In the
 * foreground print it here. */
void daemon_failed(struct daemon *daemon, int code, const char *text);
