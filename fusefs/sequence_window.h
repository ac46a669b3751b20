/* Sequence numbers of the ops of one session: which are in flight, and up to
 * which all results have arrived.
 *
 * The shard keeps the result of every op above the `acked` mark, so that a
 * retried op is applied exactly once; the mark must therefore never pass an op
 * whose result is still awaited. Not thread-safe: its owner locks. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Ops in flight at a time: above the number of threads that can submit. */
#define SEQUENCE_WINDOW_SIZE 256u

struct sequence_window {
    uint64_t next;                            /* to be given out, from 1 */
    uint64_t in_flight[SEQUENCE_WINDOW_SIZE]; /* ascending */
    size_t n_in_flight;
};

void sequence_window_init(struct sequence_window *window);

bool sequence_window_is_full(const struct sequence_window *window);

/* Give out the next number. The window must not be full. */
uint64_t sequence_window_begin(struct sequence_window *window);

/* The result of the op has arrived, or nobody waits for it any more. */
void sequence_window_end(struct sequence_window *window, uint64_t sequence);

/* Highest number up to which nothing is in flight; 0 at the start. */
uint64_t sequence_window_acked(const struct sequence_window *window);
