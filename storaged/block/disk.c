#include "storaged/block/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static ssize_t system_read(struct disk *disk,
                           int fd,
                           const struct iovec *iov,
                           int n_iov,
                           off_t offset,
                           int flags)
{
    ssize_t n;

    (void)disk;
    do {
        n = preadv2(fd, iov, n_iov, offset, flags);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static void system_expect(struct disk *disk, int fd, off_t offset, off_t size)
{
    (void)disk;
    (void)posix_fadvise(fd, offset, size, POSIX_FADV_WILLNEED);
}

static ssize_t system_write(struct disk *disk,
                            int fd,
                            const struct iovec *iov,
                            int n_iov,
                            off_t offset)
{
    ssize_t n;

    (void)disk;
    do {
        n = pwritev(fd, iov, n_iov, offset);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static int system_sync(struct disk *disk, int fd)
{
    (void)disk;
    return fdatasync(fd) < 0 ? -errno : 0;
}

static struct disk system_calls = { system_read, system_expect, system_write,
                                    system_sync };

struct disk *disk_system(void)
{
    return &system_calls;
}
