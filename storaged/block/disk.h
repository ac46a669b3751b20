/* The seam between the block store and the disk: the system calls that a disk
 * can fail. Tests put faults in its place. Thread-safe. */
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

struct disk {
    /* preadv2(2): bytes read or a negative errno. `flags` is 0 or RWF_NOWAIT.
     */
    ssize_t (*read)(struct disk *disk,
                    int fd,
                    const struct iovec *iov,
                    int n_iov,
                    off_t offset,
                    int flags);

    /* Start fetching these bytes, so that reads of them need not wait one after
     * the other: posix_fadvise(2). Only a hint, it may do nothing. */
    void (*expect)(struct disk *disk, int fd, off_t offset, off_t size);

    /* pwritev(2): bytes written or a negative errno. */
    ssize_t (*write)(struct disk *disk,
                     int fd,
                     const struct iovec *iov,
                     int n_iov,
                     off_t offset);

    /* fdatasync(2): 0 or a negative errno. */
    int (*sync)(struct disk *disk, int fd);
};

/* The calls of this system. Static. */
struct disk *disk_system(void);
