/* Where blocks lie that were put or read lately: spares the index. Thread-safe.
 *
 * An entry may be out of date, after a deletion or a replacement, or that of
 * another block: of the key it keeps a few bits. Its place then holds nothing
 * that could be taken for the block, so whoever finds it damaged, or its length
 * impossible, asks the index again. */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include "common/err.h"
#include "storaged/block/block_index.h"

#define ROW_CACHE_LOCKS 64u

struct row_slot {
    uint64_t place;  /* 0: empty */
    uint32_t length; /* of the block */
    uint32_t tag;    /* of its key */
};

struct row_cache {
    struct row_slot *slots;                 /* owned */
    pthread_mutex_t locks[ROW_CACHE_LOCKS]; /* guard the slots, in turn */
};

/* To be closed also after a failure. Errors: -ENOMEM */
MUST_CHECK int row_cache_init(struct row_cache *cache);
void row_cache_close(struct row_cache *cache);

void row_cache_put(struct row_cache *cache, const struct index_row *row);

/* False: not known. Else `*ret_row` is, most likely, that of the key. */
bool row_cache_find(struct row_cache *cache,
                    const struct block_key *key,
                    struct index_row *ret_row);
