/* A few threads that move bytes: stripes out, read-ahead in. Thread-safe.
 *
 * A job is the caller's memory until its `run` begins; `run` may free it. The
 * two kinds take turns when both wait, so that neither starves the other. */
#pragma once

#include "common/err.h"

enum io_kind {
    IO_PUT,
    IO_READ,
    IO_KINDS
};

struct io_job {
    struct io_job *next;             /* the pool's */
    void (*run)(struct io_job *job); /* may block on I/O, never on a job */
};

struct io_pool;

/* Errors: -ENOMEM; -EAGAIN no threads */
MUST_CHECK int io_pool_new(unsigned n_threads, struct io_pool **ret_pool);

/* Run what is queued, then end. NULL is allowed. */
void io_pool_free(struct io_pool *pool);

void io_pool_submit(struct io_pool *pool,
                    struct io_job *job,
                    enum io_kind kind);

unsigned io_pool_threads(const struct io_pool *pool);
