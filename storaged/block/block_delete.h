/* Deleting: the part of a block store that gives space back. */
#pragma once

#include "common/err.h"

struct block_store;

/* Unlink segments in which nothing lives. First what they say of deletions must
 * be durable elsewhere: all erasing and the index are synced. While a reader of
 * the index is in the way of that they stay until the next time.
 * Errors: -EIO, -ENOSPC, -ENOMEM */
MUST_CHECK int block_delete_empty_segments(struct block_store *store);
