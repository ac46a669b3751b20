/* What a block store does at start-up: bring index and segments together.
 *
 * Segments are scanned from where the index covers them, or from their start
 * when it is new. What a scan finds is believed if the header is sound and, in
 * what the last process may have been writing when it ended, the payload too.
 * What is not is skipped up to the next header; behind the last one it is cut
 * off. Tombstones apply to all records, wherever they are. A segment that
 * cannot be read everywhere is left as it is, and scanned again at the next
 * start. */
#pragma once

#include <stdbool.h>

#include "common/err.h"

struct block_store;

/* Find the segments of a store that knows none. For start-up.
 * Errors, told in `msg`: -EBADMSG two segments of one number; -EIO, -ENOMEM and
 * others of the filesystem. */
MUST_CHECK int recovery_find_segments(struct block_store *store,
                                      struct errmsg *msg);

/* Scan them. `is_new`: the index is empty because it was lost, or this is a new
 * store. For start-up, before any other use; may be repeated with a new index
 * when the index turns out to be broken.
 * Errors, told in `msg`: -EIO, -ENOSPC, -ENOMEM and others of the filesystem.
 */
MUST_CHECK int recovery_run(struct block_store *store,
                            bool is_new,
                            struct errmsg *msg);
