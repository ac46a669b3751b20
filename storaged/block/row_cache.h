/* Where blocks lie that were put or read lately: spares the index. Thread-safe.
 *
 * An entry may be out of date, after a deletion or a replacement; the place
 * then holds nothing that could be taken for the block, so whoever finds it
 * damaged asks the index again. */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include "common/err.h"
#include "storaged/block/block_index.h"

#define ROW_CACHE_LOCKS 64u

struct row_cache {
    struct index_row *slots;                /* owned; place 0: empty */
    pthread_mutex_t locks[ROW_CACHE_LOCKS]; /* guard the slots, in turn */
};

/* To be closed also after a failure. Errors: -ENOMEM */
MUST_CHECK int row_cache_init(struct row_cache *cache);
void row_cache_close(struct row_cache *cache);

void row_cache_put(struct row_cache *cache, const struct index_row *row);

/* False: not known. */
bool row_cache_find(struct row_cache *cache,
                    const struct block_key *key,
                    struct index_row *ret_row);
