#include "fusefs/mountpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"

#define FUSE_DEVICE "/dev/fuse"
#define FUSE_TYPE   "fuse.gabion"

/* ---------------------------------------------------------------- mountinfo */

/* Spaces and the like are written in octal: \040. In place. */
static void unescape(char *text)
{
    char *to = text;

    while (*text != '\0') {
        if (text[0] == '\\' && text[1] >= '0' && text[1] <= '3' &&
            text[2] >= '0' && text[2] <= '7' && text[3] >= '0' &&
            text[3] <= '7') {
            *to++ = (char)((text[1] - '0') * 64 + (text[2] - '0') * 8 +
                           (text[3] - '0'));
            text += 4;
        } else {
            *to++ = *text++;
        }
    }
    *to = '\0';
}

/* Parse "MAJOR:MINOR". */
static bool parse_device(const char *text, struct mountpoint_line *ret_line)
{
    char *end;

    ret_line->device_major = (unsigned)strtoul(text, &end, 10);
    if (end == text || *end != ':') {
        return false;
    }
    text = end + 1;
    ret_line->device_minor = (unsigned)strtoul(text, &end, 10);
    return end > text && *end == '\0';
}

int mountpoint_parse_line(const char *line, struct mountpoint_line *ret_line)
{
    const char *type = strstr(line, " - ");
    char device[32];

    if (type == NULL ||
        sscanf(line, "%*s %*s %31s %*s %4095s", device, ret_line->path) != 2 ||
        !parse_device(device, ret_line) ||
        sscanf(type, " - %63s", ret_line->type) != 1) {
        return -EINVAL;
    }
    unescape(ret_line->path);
    return 0;
}

/* What is mounted at `path`, the topmost. Errors: -ENOENT nothing is. */
static int find_mount(const char *path, struct mountpoint_line *ret_line)
{
    FILE *file = fopen("/proc/self/mountinfo", "re");
    struct mountpoint_line parsed;
    char *line = NULL;
    size_t capacity = 0;
    int rc = -ENOENT;

    if (file == NULL) {
        return -errno;
    }
    while (getline(&line, &capacity, file) > 0) {
        if (mountpoint_parse_line(line, &parsed) == 0 &&
            strcmp(parsed.path, path) == 0) {
            *ret_line = parsed;
            rc = 0;
        }
    }
    free(line);
    (void)fclose(file);
    return rc;
}

/* ------------------------------------------------------------------- checks */

/* Errors: -ENOTEMPTY, those of opendir(3) */
static int check_empty(const char *path)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;
    int rc = 0;

    if (dir == NULL) {
        return -errno;
    }
    /* One thread only at this time. */
    while (rc == 0 && (entry = readdir(dir)) != NULL) { /* NOLINT */
        if (strcmp(entry->d_name, ".") != 0 &&
            strcmp(entry->d_name, "..") != 0) {
            rc = -ENOTEMPTY;
        }
    }
    (void)closedir(dir);
    return rc;
}

static int check_device(struct errmsg *msg)
{
    if (access(FUSE_DEVICE, F_OK) == 0) {
        return 0;
    }
    errmsg_set(msg,
               "%s is missing: load the kernel's module with "
               "'modprobe fuse', or give the device to this container",
               FUSE_DEVICE);
    return -ENODEV;
}

static int check_directory(const char *given,
                           const char *path,
                           bool nonempty,
                           struct errmsg *msg)
{
    struct mountpoint_line mount;
    struct stat stat;
    int rc;

    if (find_mount(path, &mount) == 0 && strcmp(mount.type, FUSE_TYPE) == 0) {
        errmsg_set(msg,
                   "mountpoint %s: a Gabion filesystem is mounted there "
                   "already",
                   given);
        return -EBUSY;
    }
    if (lstat(path, &stat) != 0) {
        rc = -errno;
        errmsg_set(msg, "mountpoint %s: %s", given, err_text(rc));
        return rc;
    }
    if (!S_ISDIR(stat.st_mode)) {
        errmsg_set(msg, "mountpoint %s is not a directory", given);
        return -ENOTDIR;
    }
    rc = nonempty ? 0 : check_empty(path);
    if (rc == -ENOTEMPTY) {
        errmsg_set(msg,
                   "mountpoint %s is not empty; -o nonempty mounts over "
                   "what is there",
                   given);
    } else if (rc != 0) {
        errmsg_set(msg, "mountpoint %s: %s", given, err_text(rc));
    }
    return rc;
}

int mountpoint_check(const char *path,
                     bool nonempty,
                     char **ret_path,
                     struct errmsg *msg)
{
    char *real = realpath(path, NULL);
    int rc;

    if (real == NULL && errno == ENOTCONN) {
        errmsg_set(msg,
                   "mountpoint %s: a mount whose program has died is in "
                   "the way; remove it with 'fusermount3 -u %s'",
                   path, path);
        return -ENOTCONN;
    }
    if (real == NULL) {
        rc = -errno;
        errmsg_set(msg, "mountpoint %s: %s", path, err_text(rc));
        return rc;
    }
    rc = check_directory(path, real, nonempty, msg);
    if (rc == 0) {
        rc = check_device(msg);
    }
    if (rc != 0) {
        free(real);
        return rc;
    }
    *ret_path = real;
    return 0;
}

void mountpoint_set_readahead(const char *path, unsigned kib)
{
    struct mountpoint_line mount = { 0 };
    char name[128];
    int fd;

    if (find_mount(path, &mount) != 0) {
        return;
    }
    (void)snprintf(name, sizeof name, "/sys/class/bdi/%u:%u/read_ahead_kb",
                   mount.device_major, mount.device_minor);
    fd = open(name, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || dprintf(fd, "%u", kib) < 0) {
        log_debug("cannot set the kernel's read-ahead file=%s error=%s", name,
                  err_text(errno));
    }
    if (fd >= 0) {
        (void)close(fd);
    }
}
