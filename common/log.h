/* Logging to stderr, one line `time level message key=value ...` each; journald
 * adds its own time when stderr is its stream. Thread-safe.
 *
 * error: data or service lost; warn: degraded but served; info: life cycle;
 * debug: everything else. `common/` and `proto/` log only at debug. */
#pragma once

#include <stdint.h>

#include "common/err.h"

enum log_level {
    LOG_ERROR,
    LOG_WARN,
    LOG_INFO,
    LOG_DEBUG
};

/* The level from its name ("error", "warn", "info", "debug").
 * Errors: -EINVAL no such level. */
MUST_CHECK int log_level_parse(const char *name, enum log_level *ret_level);

/* Messages above `level` are dropped. Default LOG_INFO. Atomic. */
void log_set_level(enum log_level level);

/* Log a message: words first, then key=value pairs, all by `format`. */
void log_error(const char *format, ...) PRINTF_LIKE(1, 2);
void log_warn(const char *format, ...) PRINTF_LIKE(1, 2);
void log_info(const char *format, ...) PRINTF_LIKE(1, 2);
void log_debug(const char *format, ...) PRINTF_LIKE(1, 2);

/* Lets one message through per period, so that a flood of like events is
 * logged once. Zero-initialise; share between threads freely. */
struct log_limit {
    int64_t last_ms;  /* atomic: when a message was last let through */
    uint64_t dropped; /* atomic: messages held back since then */
};

/* Whether to log now; `*ret_dropped` is then the number held back before. */
int log_limit_pass(struct log_limit *limit,
                   int64_t period_ms,
                   uint64_t *ret_dropped);
