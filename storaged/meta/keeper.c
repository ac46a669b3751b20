#include "storaged/meta/keeper.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "common/clock.h"

struct keeper {
    keeper_step *step;
    void *context; /* borrowed */
    int64_t period_ms;
    bool woken;    /* atomic; set under the lock: a step is owed */
    bool stopping; /* atomic; set under the lock */
    bool running;  /* the thread exists; start and stop only */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* woken or stopping */
};

int keeper_new(keeper_step *step,
               void *context,
               int64_t period_ms,
               struct keeper **ret_keeper)
{
    struct keeper *keeper = calloc(1, sizeof *keeper);

    if (keeper == NULL) {
        return -ENOMEM;
    }
    keeper->step = step;
    keeper->context = context;
    keeper->period_ms = period_ms;
    keeper->woken = true;
    (void)pthread_mutex_init(&keeper->lock, NULL);
    (void)pthread_cond_init(&keeper->changed, NULL);
    *ret_keeper = keeper;
    return 0;
}

void keeper_free(struct keeper *keeper)
{
    if (keeper == NULL) {
        return;
    }
    (void)pthread_cond_destroy(&keeper->changed);
    (void)pthread_mutex_destroy(&keeper->lock);
    free(keeper);
}

static void wait_until_locked(struct keeper *keeper, int64_t until_ms)
{
    struct timespec until = { .tv_sec = until_ms / 1000,
                              .tv_nsec = until_ms % 1000 * 1000000 };

    if (until_ms == INT64_MAX) {
        (void)pthread_cond_wait(&keeper->changed, &keeper->lock);
    } else {
        (void)pthread_cond_clockwait(&keeper->changed, &keeper->lock,
                                     CLOCK_MONOTONIC, &until);
    }
}

static void *keeper_main(void *context)
{
    struct keeper *keeper = context;
    int64_t rested_ms = 0;      /* not before */
    int64_t due_ms = INT64_MAX; /* not later, even if nobody wakes us */

    (void)pthread_mutex_lock(&keeper->lock);
    while (!keeper->stopping) {
        int64_t begin_ms =
            keeper->woken || due_ms < rested_ms ? rested_ms : due_ms;
        int64_t wait_ms;

        if (clock_mono_ms() < begin_ms) {
            wait_until_locked(keeper, begin_ms);
            continue;
        }
        __atomic_store_n(&keeper->woken, false, __ATOMIC_RELEASE);
        (void)pthread_mutex_unlock(&keeper->lock);
        wait_ms = keeper->step(keeper->context);
        (void)pthread_mutex_lock(&keeper->lock);
        rested_ms = clock_mono_ms() + keeper->period_ms;
        due_ms = wait_ms < 0 ? INT64_MAX : clock_mono_ms() + wait_ms;
    }
    (void)pthread_mutex_unlock(&keeper->lock);
    return NULL;
}

int keeper_start(struct keeper *keeper)
{
    int rc = pthread_create(&keeper->thread, NULL, keeper_main, keeper);

    keeper->running = rc == 0;
    return -rc;
}

void keeper_stop(struct keeper *keeper)
{
    (void)pthread_mutex_lock(&keeper->lock);
    __atomic_store_n(&keeper->stopping, true, __ATOMIC_RELEASE);
    (void)pthread_cond_signal(&keeper->changed);
    (void)pthread_mutex_unlock(&keeper->lock);
    if (keeper->running) {
        (void)pthread_join(keeper->thread, NULL);
        keeper->running = false;
    }
}

void keeper_wake(struct keeper *keeper)
{
    if (__atomic_load_n(&keeper->woken, __ATOMIC_ACQUIRE)) {
        return;
    }
    (void)pthread_mutex_lock(&keeper->lock);
    __atomic_store_n(&keeper->woken, true, __ATOMIC_RELEASE);
    (void)pthread_cond_signal(&keeper->changed);
    (void)pthread_mutex_unlock(&keeper->lock);
}

bool keeper_is_stopping(const struct keeper *keeper)
{
    return __atomic_load_n(&keeper->stopping, __ATOMIC_ACQUIRE);
}
