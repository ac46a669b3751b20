#include "common/log.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"

static const char *const level_names[] = { "error", "warn", "info", "debug" };

/* The only process-wide setting of this module: what to drop. */
static int level_max = LOG_INFO;

int log_level_parse(const char *name, enum log_level *ret_level)
{
    for (unsigned i = 0; i < sizeof level_names / sizeof *level_names; i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *ret_level = (enum log_level)i;
            return 0;
        }
    }
    return -EINVAL;
}

void log_set_level(enum log_level level)
{
    __atomic_store_n(&level_max, (int)level, __ATOMIC_RELAXED);
}

/* One write(2) per line, so that lines of several threads do not mix. */
static void write_line(enum log_level level, const char *format, va_list args)
{
    char line[1024];
    struct timespec now;
    struct tm utc;
    size_t n;
    int length;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &utc);
    n = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &utc);
    length = snprintf(line + n, sizeof line - n, ".%03ldZ %s ",
                      now.tv_nsec / 1000000, level_names[level]);
    n += (size_t)length;
    length = vsnprintf(line + n, sizeof line - n - 1, format, args);
    if (length > 0) {
        err_make_plain(line + n);
        n += (size_t)length;
    }
    if (n > sizeof line - 2) {
        n = sizeof line - 2;
    }
    line[n++] = '\n';
    if (write(STDERR_FILENO, line, n) < 0) {
        return; /* nowhere left to complain */
    }
}

#define LOG_AT(level, format)                                             \
    do {                                                                  \
        va_list args;                                                     \
        if ((int)(level) > __atomic_load_n(&level_max, __ATOMIC_RELAXED)) \
            return;                                                       \
        va_start(args, format);                                           \
        write_line(level, format, args);                                  \
        va_end(args);                                                     \
    } while (false)

void log_error(const char *format, ...)
{
    LOG_AT(LOG_ERROR, format);
}

void log_warn(const char *format, ...)
{
    LOG_AT(LOG_WARN, format);
}

void log_info(const char *format, ...)
{
    LOG_AT(LOG_INFO, format);
}

void log_debug(const char *format, ...)
{
    LOG_AT(LOG_DEBUG, format);
}

int log_limit_pass(struct log_limit *limit,
                   int64_t period_ms,
                   uint64_t *ret_dropped)
{
    int64_t now = clock_mono_ms();
    int64_t last = __atomic_load_n(&limit->last_ms, __ATOMIC_RELAXED);

    if ((last != 0 && now - last < period_ms) ||
        !__atomic_compare_exchange_n(&limit->last_ms, &last, now, false,
                                     __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
        (void)__atomic_add_fetch(&limit->dropped, 1, __ATOMIC_RELAXED);
        return 0;
    }
    *ret_dropped = __atomic_exchange_n(&limit->dropped, 0, __ATOMIC_RELAXED);
    return 1;
}
