/* Objects that are committed and not yet durable, with the files that they
 * belong to. Thread-safe.
 *
 * A file may be closed and forgotten before its objects are synced, so they are
 * kept by inode number. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "fusefs/stripe_log.h"

struct unsynced;

/* Errors: -ENOMEM */
MUST_CHECK int unsynced_new(struct unsynced **ret_list);
void unsynced_free(struct unsynced *list);

/* Keep the object until it is durable. Errors: -ENOMEM */
MUST_CHECK int unsynced_add(struct unsynced *list,
                            uint64_t ino,
                            struct log_object *object);

/* `ino` has taken over extents of the file `source`: what that one has waits
 * for both of them. Errors: -ENOMEM */
MUST_CHECK int unsynced_share(struct unsynced *list,
                              uint64_t source,
                              uint64_t ino);

#define UNSYNCED_ALL 0u /* no inode has this number */

/* Make durable what the file has, or all files have, unless it was added after
 * `before_ms` of clock_mono_ms(). Stops at the first failure; what is not
 * durable stays for another try. Errors as object_writer_sync(); -ENOMEM */
MUST_CHECK int unsynced_sync(struct unsynced *list,
                             uint64_t ino,
                             int64_t before_ms);

/* Give up objects that failed to sync this often, at most `max`; returns how
 * many. `ret_inos` are the files, one for each object. */
size_t unsynced_give_up(struct unsynced *list,
                        unsigned tries_max,
                        uint64_t *ret_inos,
                        size_t max);
