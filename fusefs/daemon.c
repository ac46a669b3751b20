#include "fusefs/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"
#include "fusefs/log_carrier.h"

/* What the child sends: the exit code in the first byte, the text behind it. */
#define REPORT_MAX 1024u

/* --------------------------------------------------------------- the parent */

static _Noreturn void wait_for_report(int fd, pid_t child)
{
    char report[REPORT_MAX];
    size_t length = 0;
    ssize_t n;

    do {
        n = read(fd, report + length, sizeof report - 1 - length);
        length += n > 0 ? (size_t)n : 0;
    } while ((n > 0 && length < sizeof report - 1) ||
             (n < 0 && errno == EINTR));
    report[length] = '\0';
    if (length == 0) {
        int status = 0;

        (void)waitpid(child, &status, 0);
        (void)fprintf(stderr,
                      "gabion-fusefs: ended while mounting (wait status %#x)\n",
                      (unsigned)status);
        _exit(DAEMON_EXIT_MOUNT);
    }
    if (report[0] != 0) {
        (void)fprintf(stderr, "gabion-fusefs: %s\n", report + 1);
    }
    _exit(report[0]);
}

int daemon_start(struct daemon *daemon, bool foreground, struct errmsg *msg)
{
    int fds[2];
    pid_t pid;

    *daemon = (struct daemon){ .report_fd = -1, .foreground = foreground };
    if (foreground) {
        return 0;
    }
    if (pipe2(fds, O_CLOEXEC) != 0) {
        errmsg_set(msg, "cannot make a pipe: %s", err_text(errno));
        return -errno;
    }
    pid = fork();
    if (pid < 0) {
        errmsg_set(msg, "cannot go to the background: %s", err_text(errno));
        return -errno;
    }
    if (pid > 0) {
        (void)close(fds[1]);
        wait_for_report(fds[0], pid);
    }
    (void)close(fds[0]);
    (void)setsid();
    daemon->report_fd = fds[1];
    return 0;
}

/* ---------------------------------------------------------------- the child */

int daemon_open_log(const char *path, struct errmsg *msg)
{
    int fd;

    if (path == NULL) {
        return 0;
    }
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (fd < 0) {
        int rc = -errno;

        errmsg_set(msg, "cannot open log file %s: %s", path, err_text(rc));
        return rc;
    }
    (void)dup2(fd, STDERR_FILENO);
    (void)close(fd);
    return 0;
}

int daemon_write_pid(struct daemon *daemon,
                     const char *path,
                     struct errmsg *msg)
{
    int rc = 0;
    int fd;

    if (path == NULL) {
        return 0;
    }
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || dprintf(fd, "%d\n", (int)getpid()) < 0) {
        rc = -errno;
        errmsg_set(msg, "cannot write pid file %s: %s", path, err_text(rc));
    }
    if (fd >= 0) {
        (void)close(fd);
        daemon->pid_file =
            realpath(path, NULL); /* ready leaves the directory */
    }
    return rc;
}

void daemon_remove_pid(struct daemon *daemon)
{
    if (daemon->pid_file != NULL) {
        (void)unlink(daemon->pid_file);
        free(daemon->pid_file);
        daemon->pid_file = NULL;
    }
}

static void send_report(struct daemon *daemon, int code, const char *text)
{
    char report[REPORT_MAX];
    size_t length = strnlen(text, sizeof report - 2);

    report[0] = (char)code;
    memcpy(report + 1, text, length);
    if (daemon->report_fd >= 0) {
        ssize_t n = write(daemon->report_fd, report, length + 1);

        (void)n; /* the parent is gone: nobody to tell */
        (void)close(daemon->report_fd);
        daemon->report_fd = -1;
    }
}

void daemon_ready(struct daemon *daemon, bool has_log_file)
{
    int null;

    if (daemon->foreground) {
        return;
    }
    if (chdir("/") != 0) {
        log_debug("cannot leave the current directory");
    }
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0) {
        (void)dup2(null, STDIN_FILENO);
        (void)dup2(null, STDOUT_FILENO);
    }
    if (!has_log_file) {
        int fd = -1;

        if (log_carrier_start(&fd) == 0) {
            (void)dup2(fd, STDERR_FILENO);
            (void)close(fd);
        } else if (null >= 0) {
            (void)dup2(null, STDERR_FILENO);
        }
    }
    if (null >= 0) {
        (void)close(null);
    }
    send_report(daemon, 0, "");
}

void daemon_failed(struct daemon *daemon, int code, const char *text)
{
    /* Before who waits for the report tries again. */
    daemon_remove_pid(daemon);
    if (daemon->foreground) {
        (void)fprintf(stderr, "gabion-fusefs: %s\n", text);
    } else {
        send_report(daemon, code, text);
    }
}
