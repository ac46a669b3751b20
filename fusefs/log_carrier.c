#include "fusefs/log_carrier.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

/* Of "time level message". */
static int priority_of(const char *line)
{
    const char *level = strchr(line, ' ');

    if (level == NULL) {
        return LOG_NOTICE;
    }
    if (strncmp(level, " error ", 7) == 0) {
        return LOG_ERR;
    }
    if (strncmp(level, " warn ", 6) == 0) {
        return LOG_WARNING;
    }
    return strncmp(level, " debug ", 7) == 0 ? LOG_DEBUG : LOG_INFO;
}

static void *carry(void *context)
{
    FILE *lines = context;
    char line[1024];

    openlog("gabion-fusefs", LOG_PID, LOG_DAEMON);
    while (fgets(line, sizeof line, lines) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        syslog(priority_of(line), "%s", line);
    }
    (void)fclose(lines);
    return NULL;
}

int log_carrier_start(int *ret_fd)
{
    pthread_t thread;
    int fds[2];
    FILE *lines;

    if (pipe2(fds, O_CLOEXEC) != 0) {
        return -errno;
    }
    lines = fdopen(fds[0], "r");
    if (lines == NULL) {
        (void)close(fds[0]);
        (void)close(fds[1]);
        return -ENOMEM;
    }
    if (pthread_create(&thread, NULL, carry, lines) != 0) {
        (void)fclose(lines);
        (void)close(fds[1]);
        return -EAGAIN;
    }
    (void)pthread_detach(thread);
    *ret_fd = fds[1];
    return 0;
}
