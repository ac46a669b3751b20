#include "storaged/block/row_cache.h"

#include <errno.h>
#include <stdlib.h>

/* A power of two, more than ROW_CACHE_LOCKS. */
#define N_SLOTS 65536u

static size_t slot_of(const struct block_key *key)
{
    uint64_t hash = key->object.session * 0x9e3779b97f4a7c15u;

    hash = (hash ^ key->object.serial) * 0x9e3779b97f4a7c15u;
    hash = (hash ^ ((uint64_t)key->stripe << 8) ^ key->index) *
           0x9e3779b97f4a7c15u;
    return (size_t)(hash >> 40) % N_SLOTS;
}

int row_cache_init(struct row_cache *cache)
{
    cache->slots = calloc(N_SLOTS, sizeof *cache->slots);
    for (size_t i = 0; i < ROW_CACHE_LOCKS; i++) {
        (void)pthread_mutex_init(&cache->locks[i], NULL);
    }
    return cache->slots != NULL ? 0 : -ENOMEM;
}

void row_cache_close(struct row_cache *cache)
{
    for (size_t i = 0; i < ROW_CACHE_LOCKS; i++) {
        (void)pthread_mutex_destroy(&cache->locks[i]);
    }
    free(cache->slots);
}

void row_cache_put(struct row_cache *cache, const struct index_row *row)
{
    size_t slot = slot_of(&row->key);

    (void)pthread_mutex_lock(&cache->locks[slot % ROW_CACHE_LOCKS]);
    cache->slots[slot] = *row;
    (void)pthread_mutex_unlock(&cache->locks[slot % ROW_CACHE_LOCKS]);
}

bool row_cache_find(struct row_cache *cache,
                    const struct block_key *key,
                    struct index_row *ret_row)
{
    size_t slot = slot_of(key);

    (void)pthread_mutex_lock(&cache->locks[slot % ROW_CACHE_LOCKS]);
    *ret_row = cache->slots[slot];
    (void)pthread_mutex_unlock(&cache->locks[slot % ROW_CACHE_LOCKS]);
    return ret_row->place != 0 && block_key_compare(&ret_row->key, key) == 0;
}
