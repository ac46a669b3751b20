/* A few threads that do what may block, first come, first served.
 * Thread-safe. */
#pragma once

#include "common/err.h"

struct work_queue;

/* One piece of work, embedded in what it is about. */
struct work {
    void (*run)(struct work *work); /* owns the work: it may free it, or push it
                                       again */
    struct work *next;              /* the queue's */
};

/* Errors: -EINVAL no thread wanted; -EAGAIN, -ENOMEM */
MUST_CHECK int work_queue_new(unsigned n_threads,
                              struct work_queue **ret_queue);

/* Does what is queued, then ends. Nobody may push any more. NULL is allowed. */
void work_queue_free(struct work_queue *queue);

void work_queue_push(struct work_queue *queue, struct work *work);
