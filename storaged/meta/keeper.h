/* The thread of a keeper (work in the background): runs its step when woken or
 * when its time has come, but rests for a period between steps. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

struct keeper;

/* One step of work. The answer is after how many milliseconds to run again
 * without being woken; -1: never. Long work looks at keeper_is_stopping(). */
typedef int64_t keeper_step(void *context);

/* `context` is borrowed. Errors: -ENOMEM */
MUST_CHECK int keeper_new(keeper_step *step,
                          void *context,
                          int64_t period_ms,
                          struct keeper **ret_keeper);

/* Stopped or never started. NULL is allowed. */
void keeper_free(struct keeper *keeper);

/* Start the thread; the first step runs at once. Once only.
 * Errors: -EAGAIN no more threads */
MUST_CHECK int keeper_start(struct keeper *keeper);

/* Wait for the end of the step under way and end the thread. Does nothing when
 * not started or stopped already. */
void keeper_stop(struct keeper *keeper);

/* A step is wanted. Cheap; any thread. */
void keeper_wake(struct keeper *keeper);

bool keeper_is_stopping(const struct keeper *keeper);
