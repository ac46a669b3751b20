#include "storaged/block/row_cache.h"

#include <errno.h>
#include <stdlib.h>

/* A power of two, more than ROW_CACHE_LOCKS: enough for the blocks that a page
 * cache holds. */
#define N_SLOTS (1u << 20)

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 32;
}

static uint64_t hash_of(const struct block_key *key)
{
    uint64_t hash = mix(mix(0, key->object.session), key->object.serial);

    return mix(hash, (uint64_t)key->stripe << 32 | key->index);
}

/* The parts of a hash that slot and tag are made of have no bit in common. */
static size_t slot_of(uint64_t hash)
{
    return (size_t)(hash >> 32) % N_SLOTS;
}

static uint32_t tag_of(uint64_t hash)
{
    return (uint32_t)hash;
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
    uint64_t hash = hash_of(&row->key);
    size_t slot = slot_of(hash);

    (void)pthread_mutex_lock(&cache->locks[slot % ROW_CACHE_LOCKS]);
    cache->slots[slot] =
        (struct row_slot){ row->place, row->length, tag_of(hash) };
    (void)pthread_mutex_unlock(&cache->locks[slot % ROW_CACHE_LOCKS]);
}

bool row_cache_find(struct row_cache *cache,
                    const struct block_key *key,
                    struct index_row *ret_row)
{
    uint64_t hash = hash_of(key);
    size_t slot = slot_of(hash);
    struct row_slot found;

    (void)pthread_mutex_lock(&cache->locks[slot % ROW_CACHE_LOCKS]);
    found = cache->slots[slot];
    (void)pthread_mutex_unlock(&cache->locks[slot % ROW_CACHE_LOCKS]);
    if (found.place == 0 || found.tag != tag_of(hash)) {
        return false;
    }
    *ret_row = (struct index_row){ *key, found.place, found.length };
    return true;
}
