/* INI files (libinih): sections, keys, values; unknown keys are refused with
 * file and line. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/* One known key. A table of these describes a section. */
struct config_key {
    const char *section; /* exact name, or a prefix ending in ' ' for numbered
                            sections such as "node " for [node 3] */
    const char *name;
    /* Take the value. `suffix` is what follows the prefix in a numbered
     * section, else "". Returns 0 or -EINVAL, with the reason in `msg`. */
    int (*set)(void *target,
               const char *suffix,
               const char *value,
               struct errmsg *msg);
};

/* Read `path` into `target`, calling the setter of each key in file order.
 * `msg` then says `path:line: what is wrong`.
 *
 * Errors: -ENOENT, -EACCES ...  the file cannot be read
 *         -EINVAL               syntax error, unknown section or key, value
 *                               refused, key given twice in one section */
MUST_CHECK int config_read(const char *path,
                           const struct config_key *keys,
                           size_t n_keys,
                           void *target,
                           struct errmsg *msg);

/* Parse a size such as "256M", "1.5G", "4096" (powers of 1024, suffix K M G T,
 * optionally followed by "iB" or "B"). Errors: -EINVAL, -ERANGE. */
MUST_CHECK int config_parse_size(const char *text, uint64_t *ret_bytes);

/* Longest time that is parsed, some 146 years: added to a clock, in nanoseconds
 * too, it does not overflow. */
#define CONFIG_DURATION_MS_MAX (INT64_MAX / 2000000)

/* Parse a time such as "500ms", "30s", "30", "10min" (bare numbers are
 * seconds) to milliseconds, 0..CONFIG_DURATION_MS_MAX. Errors: -EINVAL,
 * -ERANGE. */
MUST_CHECK int config_parse_duration(const char *text, int64_t *ret_ms);

/* Parse a decimal number in min..max. Errors: -EINVAL, -ERANGE. */
MUST_CHECK int config_parse_uint(const char *text,
                                 uint64_t min,
                                 uint64_t max,
                                 uint64_t *ret_number);

/* "yes", "no", "true", "false", "on", "off", "1", "0". Errors: -EINVAL. */
MUST_CHECK int config_parse_bool(const char *text, bool *ret_value);
