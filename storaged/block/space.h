/* Space of the filesystem below a directory: how much puts may still take, and
 * whether two nodes share it. Thread-safe. */
#pragma once

#include <pthread.h>
#include <stdint.h>

#include "common/err.h"

struct space {
    int fd;               /* borrowed: a directory of the filesystem */
    uint64_t reserve;     /* bytes that are kept free of blocks */
    pthread_mutex_t lock; /* guards what follows */
    uint64_t budget;      /* bytes that may be taken before asking again */
    int64_t asked_ms;     /* when the filesystem was last asked */
};

struct space_figures {
    uint64_t total;     /* bytes of the filesystem */
    uint64_t available; /* bytes that puts may still take */
};

/* `fd` must stay open. To be closed also after a failure. Errors: -EIO and
 * others of fstatvfs(3). */
MUST_CHECK int space_init(struct space *space, int fd, uint64_t reserve);
void space_close(struct space *space);

/* Ask for room for `size` bytes. Approximate: the filesystem is asked several
 * times a second. Errors: -ENOSPC; -EIO and others of fstatvfs(3). */
MUST_CHECK int space_take(struct space *space, uint64_t size);

/* Errors: -EIO and others of fstatvfs(3). */
MUST_CHECK int space_measure(struct space *space,
                             struct space_figures *ret_figures);

/* A number that is equal for all directories of one filesystem of one machine,
 * and different otherwise. Never 0.
 * Errors: -EIO and others of fstat(2). */
MUST_CHECK int space_identity(int fd, uint64_t *ret_identity);
