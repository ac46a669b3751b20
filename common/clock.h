/* Clocks. Units end the names. Thread-safe. */
#pragma once

#include <stdint.h>

/* Milliseconds and nanoseconds since some point in the past; never go back
 * (CLOCK_MONOTONIC). Deadlines are in this clock. */
int64_t clock_mono_ms(void);
int64_t clock_mono_ns(void);

/* Nanoseconds since the epoch (CLOCK_REALTIME): for inode times. */
int64_t clock_real_ns(void);
