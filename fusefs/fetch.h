/* Reading several pieces of objects at once: the caller does what it can, I/O
 * threads help. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/objio.h"
#include "fusefs/io_pool.h"
#include "fusefs/read_cache.h"

/* Bytes wanted of one object. */
struct fetch_piece {
    struct object_info object;
    uint64_t offset; /* in the object */
    size_t length;   /* of what is cached: within one chunk */
    uint8_t *target; /* borrowed */
    bool use_cache;  /* read the whole chunk for later readers */
};

struct fetch_env {
    struct objio *objio;      /* borrowed */
    struct io_pool *pool;     /* borrowed */
    struct read_cache *cache; /* borrowed */
};

/* Read all pieces. Errors: of objio_read(), the first one; -ENOMEM */
MUST_CHECK int fetch_pieces(const struct fetch_env *env,
                            const struct fetch_piece *pieces,
                            size_t n);
