/* The first argument of a mount:
 * HOST[:PORT][,HOST[:PORT]...]:/[SUBDIR]. Pure functions. */
#pragma once

#include <stddef.h>

#include "common/err.h"

#define MOUNT_SOURCE_DEFAULT_PORT 7700

/* Split `source` into addresses ("host:port", IPv6 in brackets) and the
 * directory, without a '/' at either end, "" for the root. On success the
 * caller owns both: mount_source_free_seeds() and free(3).
 *
 * Errors: -EINVAL with the reason in `msg`; -ENOMEM */
MUST_CHECK int mount_source_parse(const char *source,
                                  char ***ret_seeds,
                                  size_t *ret_n_seeds,
                                  char **ret_subdir,
                                  struct errmsg *msg);
void mount_source_free_seeds(char **seeds, size_t n_seeds);
