/* Group commit: however many threads ask at once, they share one sync.
 *
 * A sync that had begun before a caller came does not cover what the caller
 * wrote, so it waits for the next one, which one of those waiting runs for all.
 * Thread-safe. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct group_sync {
    int (*run)(void *context); /* does the sync: 0 or a negative errno */
    void *context;             /* borrowed, for run */
    pthread_mutex_t lock;      /* guards what follows */
    pthread_cond_t ended;      /* a sync has ended */
    bool running;              /* one is under way */
    uint64_t n_begun;
    uint64_t n_ended;
    int rc; /* of the last that ended */
};

void group_sync_init(struct group_sync *group,
                     int (*run)(void *context),
                     void *context);
void group_sync_close(struct group_sync *group);

/* Returns what a `run` that began after the call has returned. */
int group_sync_wait(struct group_sync *group);
