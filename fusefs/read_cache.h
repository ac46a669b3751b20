/* Chunks of immutable objects, read once for many reads: least recently used
 * ones go first, bounded, thread-safe.
 *
 * An entry that is being read is in the cache already, so that nobody reads it
 * twice. Read-ahead queues entries to the I/O pool; a reader that comes before
 * the pool does the reading itself. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/objio.h"
#include "fusefs/io_pool.h"

/* Chunks are whole stripes, as many as fit into this, or at least one unit. */
#define READ_CHUNK_MAX (1u << 20)

struct read_cache;

/* At most about `limit` bytes. `objio` and `pool` are borrowed.
 * Errors: -ENOMEM */
MUST_CHECK int read_cache_new(struct objio *objio,
                              struct io_pool *pool,
                              uint64_t limit,
                              struct read_cache **ret_cache);

/* No read and no read-ahead may be under way: free the pool first. NULL is
 * allowed. */
void read_cache_free(struct read_cache *cache);

/* Bytes in a chunk of the object. */
uint32_t read_cache_chunk_size(const struct object_info *object);

/* Copy `length` bytes at `offset`, which must lie in one chunk, reading the
 * chunk unless it is there. Errors as objio_read() */
MUST_CHECK int read_cache_read(struct read_cache *cache,
                               const struct object_info *object,
                               uint64_t offset,
                               size_t length,
                               uint8_t *target);

/* Begin to read the chunk at `offset` unless it is there. Nothing happens when
 * chunks read ahead and not yet used fill half of the cache. */
void read_cache_ahead(struct read_cache *cache,
                      const struct object_info *object,
                      uint64_t offset);

/* Bytes of chunks in the cache. */
uint64_t read_cache_used(struct read_cache *cache);
