#include "storaged/block/space.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/clock.h"

/* How long an answer of the filesystem is believed. */
#define ASK_AGAIN_MS 200

int space_measure(struct space *space, struct space_figures *ret_figures)
{
    struct statvfs fs;
    uint64_t free_bytes;

    if (fstatvfs(space->fd, &fs) < 0) {
        return -errno;
    }
    free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    ret_figures->total = (uint64_t)fs.f_blocks * fs.f_frsize;
    ret_figures->available =
        free_bytes > space->reserve ? free_bytes - space->reserve : 0;
    return 0;
}

static int ask_locked(struct space *space, int64_t now_ms)
{
    struct space_figures figures = { 0 };
    int rc = space_measure(space, &figures);

    if (rc == 0) {
        space->budget = figures.available;
        space->asked_ms = now_ms;
    }
    return rc;
}

int space_init(struct space *space, int fd, uint64_t reserve)
{
    space->fd = fd;
    space->reserve = reserve;
    (void)pthread_mutex_init(&space->lock, NULL);
    return ask_locked(space, clock_mono_ms());
}

void space_close(struct space *space)
{
    (void)pthread_mutex_destroy(&space->lock);
}

int space_take(struct space *space, uint64_t size)
{
    int64_t now_ms = clock_mono_ms();
    int rc = 0;

    (void)pthread_mutex_lock(&space->lock);
    if (space->budget < size || now_ms - space->asked_ms > ASK_AGAIN_MS) {
        rc = ask_locked(space, now_ms);
    }
    if (rc == 0 && space->budget < size) {
        rc = -ENOSPC;
    }
    if (rc == 0) {
        space->budget -= size;
    }
    (void)pthread_mutex_unlock(&space->lock);
    return rc;
}

/* FNV-1a. */
static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t size)
{
    const uint8_t *at = bytes;

    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ at[i]) * 0x100000001b3u;
    }
    return hash;
}

/* A machine without an identity of its own is known by its boot. */
static uint64_t hash_machine(uint64_t hash)
{
    static const char *const paths[] = { "/etc/machine-id",
                                         "/proc/sys/kernel/random/boot_id" };

    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        char text[64];
        int fd = open(paths[i], O_RDONLY | O_CLOEXEC);
        ssize_t n = fd >= 0 ? read(fd, text, sizeof text) : -1;

        if (fd >= 0) {
            (void)close(fd);
        }
        if (n > 0) {
            return hash_bytes(hash, text, (size_t)n);
        }
    }
    return hash;
}

int space_identity(int fd, uint64_t *ret_identity)
{
    uint64_t hash = hash_machine(0xcbf29ce484222325u);
    struct statfs fs;
    struct stat status;

    if (fstat(fd, &status) < 0 || fstatfs(fd, &fs) < 0) {
        return -errno;
    }
    hash = hash_bytes(hash, &status.st_dev, sizeof status.st_dev);
    hash = hash_bytes(hash, &fs.f_fsid, sizeof fs.f_fsid);
    *ret_identity = hash != 0 ? hash : 1;
    return 0;
}
