/* The background thread of a block store: moves pending rows to the index in
 * batches, asks the kernel to write out what is put in a stream, and syncs what
 * nobody has asked to sync, so that a restart has little to scan. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

struct block_store;

struct index_keeper {
    pthread_t thread;
    bool started;          /* thread runs */
    pthread_mutex_t lock;  /* guards what follows */
    pthread_cond_t wakeup; /* by the monotonic clock */
    bool stopping;
    bool kicked; /* there is something to do now */
};

/* Prepare, without a thread: what comes before index_keeper_start() may kick.
 */
void index_keeper_init(struct index_keeper *keeper);

/* Errors: -EAGAIN, -ENOMEM no thread. */
MUST_CHECK int index_keeper_start(struct index_keeper *keeper,
                                  struct block_store *store);

/* End the thread, if there is one, and release. */
void index_keeper_close(struct index_keeper *keeper);

/* A put has ended: `n_rows` wait for the index, `backlog` bytes for being
 * written out. Cheap. */
void index_keeper_note(struct index_keeper *keeper,
                       size_t n_rows,
                       uint32_t backlog);
