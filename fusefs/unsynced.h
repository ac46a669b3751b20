/* Objects that are committed and not yet durable, with the files that they
 * belong to. Thread-safe.
 *
 * A file may be closed and forgotten before its objects are synced, so they are
 * kept by inode number. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "fusefs/file.h"
#include "fusefs/stripe_log.h"

struct unsynced;

/* `meta` is borrowed for the life of the list. Errors: -ENOMEM */
MUST_CHECK int unsynced_new(struct file_meta *meta, struct unsynced **ret_list);
void unsynced_free(struct unsynced *list);

/* Keep the object until it is durable. Errors: -ENOMEM */
MUST_CHECK int unsynced_add(struct unsynced *list,
                            uint64_t ino,
                            struct log_object *object);

/* `ino` takes over extents of the file `source`: what that one has waits for
 * both of them. Errors: -ENOMEM */
MUST_CHECK int unsynced_share(struct unsynced *list,
                              uint64_t source,
                              uint64_t ino);

#define UNSYNCED_ALL 0u /* no inode has this number */

/* Make durable what the file has, or all files have. An object whose blocks are
 * gone is forgotten when its file does not refer to it any more: they have been
 * deleted then. Stops at the first failure; what is not durable stays for
 * another try, but for what can never be (-EIO), of which the caller is told
 * once.
 *
 * Errors: as object_writer_sync(); those of get_layout(); -ENOMEM */
MUST_CHECK int unsynced_sync(struct unsynced *list, uint64_t ino);

/* The same for what was added before `before_ms` of clock_mono_ms(), with
 * nobody to be told: what fails stays for an unsynced_sync(), and after many
 * times -EIO is not tried again until then. */
MUST_CHECK int unsynced_write_back(struct unsynced *list, int64_t before_ms);
