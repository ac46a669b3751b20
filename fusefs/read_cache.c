#include "fusefs/read_cache.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define N_BUCKETS 1024u

enum entry_state {
    ENTRY_QUEUED,  /* read-ahead waits for an I/O thread */
    ENTRY_LOADING, /* somebody reads it */
    ENTRY_READY,
    ENTRY_FAILED, /* no longer found; goes with its last pin */
};

struct entry {
    struct io_job job;           /* first: the pool hands it back */
    struct read_cache *cache;    /* borrowed */
    struct entry *bucket_next;   /* in the bucket */
    struct entry *newer, *older; /* in the list of use; not while FAILED */
    struct object_info object;
    uint64_t index;   /* of the chunk in the object */
    uint8_t *data;    /* owned: chunk bytes */
    size_t size;      /* bytes at data */
    size_t allocated; /* bytes of memory at data */
    enum entry_state state;
    bool is_used;  /* somebody has read it */
    unsigned pins; /* users, and the queued job: it must not go */
    int rc;        /* FAILED: why */
};

struct read_cache {
    struct objio *objio;           /* borrowed */
    struct io_pool *pool;          /* borrowed */
    uint64_t limit;                /* bytes */
    pthread_mutex_t lock;          /* guards all below and the entries */
    pthread_cond_t done;           /* an entry is no longer LOADING */
    uint64_t used;                 /* bytes allocated in entries */
    uint64_t ahead;                /* bytes of entries not yet used */
    struct entry *newest, *oldest; /* list of use */
    struct entry *buckets[N_BUCKETS];
};

int read_cache_new(struct objio *objio,
                   struct io_pool *pool,
                   uint64_t limit,
                   struct read_cache **ret_cache)
{
    struct read_cache *cache = calloc(1, sizeof *cache);

    if (cache == NULL) {
        return -ENOMEM;
    }
    cache->objio = objio;
    cache->pool = pool;
    cache->limit = limit;
    (void)pthread_mutex_init(&cache->lock, NULL);
    (void)pthread_cond_init(&cache->done, NULL);
    *ret_cache = cache;
    return 0;
}

uint32_t read_cache_chunk_size(const struct object_info *object)
{
    uint32_t stripe = object->k * object->unit;

    return stripe <= READ_CHUNK_MAX
               ? stripe * (READ_CHUNK_MAX / stripe)
               : object->unit * (READ_CHUNK_MAX / object->unit);
}

/* ------------------------------------------------------------ list and table
 */

static struct entry **bucket_of(struct read_cache *cache,
                                const struct object_id *id,
                                uint64_t index)
{
    uint64_t h = (id->session * 31 + id->serial) * 131 + index;

    h *= 0x9e3779b97f4a7c15u;
    return &cache->buckets[(h >> 32) % N_BUCKETS];
}

static struct entry *find(struct read_cache *cache,
                          const struct object_id *id,
                          uint64_t index)
{
    struct entry *entry = *bucket_of(cache, id, index);

    while (entry != NULL && (entry->index != index ||
                             object_id_compare(&entry->object.id, id) != 0)) {
        entry = entry->bucket_next;
    }
    return entry;
}

static void unlink_use(struct read_cache *cache, struct entry *entry)
{
    *(entry->newer != NULL ? &entry->newer->older : &cache->newest) =
        entry->older;
    *(entry->older != NULL ? &entry->older->newer : &cache->oldest) =
        entry->newer;
}

static void link_newest(struct read_cache *cache, struct entry *entry)
{
    entry->newer = NULL;
    entry->older = cache->newest;
    *(cache->newest != NULL ? &cache->newest->newer : &cache->oldest) = entry;
    cache->newest = entry;
}

/* Make the entry unfindable. */
static void unlink_entry(struct read_cache *cache, struct entry *entry)
{
    struct entry **at = bucket_of(cache, &entry->object.id, entry->index);

    while (*at != entry) {
        at = &(*at)->bucket_next;
    }
    *at = entry->bucket_next;
    unlink_use(cache, entry);
    cache->used -= entry->allocated;
    if (!entry->is_used) {
        cache->ahead -= entry->allocated;
    }
}

static void free_entry(struct entry *entry)
{
    free(entry->data);
    free(entry);
}

void read_cache_free(struct read_cache *cache)
{
    if (cache == NULL) {
        return;
    }
    while (cache->oldest != NULL) {
        struct entry *entry = cache->oldest;

        assert(entry->pins == 0);
        unlink_entry(cache, entry);
        free_entry(entry);
    }
    (void)pthread_cond_destroy(&cache->done);
    (void)pthread_mutex_destroy(&cache->lock);
    free(cache);
}

/* ------------------------------------------------------------------- entries
 */

/* Make room for `size` bytes. The memory of an evicted entry of that size is
 * handed over for reuse; NULL otherwise. */
static uint8_t *evict(struct read_cache *cache, size_t size)
{
    struct entry *entry = cache->oldest;
    uint8_t *reuse = NULL;

    while (entry != NULL && cache->used + size > cache->limit) {
        struct entry *newer = entry->newer;

        if (entry->pins == 0) {
            unlink_entry(cache, entry);
            if (reuse == NULL && entry->allocated == size) {
                reuse = entry->data;
                entry->data = NULL;
            }
            free_entry(entry);
        }
        entry = newer;
    }
    return reuse;
}

/* A new entry in the cache, pinned once. NULL when out of memory. */
static struct entry *add(struct read_cache *cache,
                         const struct object_info *object,
                         uint64_t index)
{
    size_t chunk = read_cache_chunk_size(object);
    uint64_t left = object->size - index * chunk;
    struct entry *entry = calloc(1, sizeof *entry);
    struct entry **bucket = bucket_of(cache, &object->id, index);

    if (entry == NULL) {
        return NULL;
    }
    entry->size = left < chunk ? (size_t)left : chunk;
    /* Small chunks take little, the others what they can hand on. */
    entry->allocated = entry->size <= chunk / 4 ? entry->size : chunk;
    entry->data = evict(cache, entry->allocated);
    if (entry->data == NULL) {
        entry->data = aligned_alloc(64, (entry->allocated + 63) & ~(size_t)63);
    }
    if (entry->data == NULL) {
        free(entry);
        return NULL;
    }
    entry->cache = cache;
    entry->object = *object;
    entry->index = index;
    entry->pins = 1;
    entry->bucket_next = *bucket;
    *bucket = entry;
    link_newest(cache, entry);
    cache->used += entry->allocated;
    cache->ahead += entry->allocated;
    return entry;
}

static void unpin(struct entry *entry)
{
    assert(entry->pins > 0);
    entry->pins--;
    if (entry->pins == 0 && entry->state == ENTRY_FAILED) {
        free_entry(entry);
    }
}

/* Read the pinned entry, whose state is LOADING. The lock is dropped
 * meanwhile. */
static void load(struct read_cache *cache, struct entry *entry)
{
    uint64_t chunk = read_cache_chunk_size(&entry->object);
    int rc;

    (void)pthread_mutex_unlock(&cache->lock);
    rc = objio_read(cache->objio, &entry->object, entry->index * chunk,
                    entry->size, entry->data);
    (void)pthread_mutex_lock(&cache->lock);
    entry->rc = rc;
    entry->state = rc == 0 ? ENTRY_READY : ENTRY_FAILED;
    if (rc != 0) {
        unlink_entry(cache, entry);
    }
    (void)pthread_cond_broadcast(&cache->done);
}

static void run_ahead(struct io_job *job)
{
    struct entry *entry = (struct entry *)job;
    struct read_cache *cache = entry->cache;

    (void)pthread_mutex_lock(&cache->lock);
    if (entry->state == ENTRY_QUEUED) {
        entry->state = ENTRY_LOADING;
        load(cache, entry);
    }
    unpin(entry);
    (void)pthread_mutex_unlock(&cache->lock);
}

int read_cache_read(struct read_cache *cache,
                    const struct object_info *object,
                    uint64_t offset,
                    size_t length,
                    uint8_t *target)
{
    uint64_t chunk = read_cache_chunk_size(object);
    uint64_t index = offset / chunk;
    struct entry *entry;
    int rc;

    (void)pthread_mutex_lock(&cache->lock);
    entry = find(cache, &object->id, index);
    if (entry != NULL) {
        entry->pins++;
        unlink_use(cache, entry);
        link_newest(cache, entry);
    } else {
        entry = add(cache, object, index);
    }
    if (entry == NULL) {
        (void)pthread_mutex_unlock(&cache->lock);
        return -ENOMEM;
    }
    if (!entry->is_used) {
        entry->is_used = true;
        cache->ahead -= entry->allocated;
    }
    if (entry->state == ENTRY_QUEUED) {
        entry->state = ENTRY_LOADING;
        load(cache, entry);
    }
    while (entry->state == ENTRY_LOADING) {
        (void)pthread_cond_wait(&cache->done, &cache->lock);
    }
    rc = entry->rc;
    (void)pthread_mutex_unlock(&cache->lock);
    if (rc == 0) {
        assert(offset - index * chunk + length <= entry->size);
        memcpy(target, entry->data + (offset - index * chunk), length);
    }
    (void)pthread_mutex_lock(&cache->lock);
    unpin(entry);
    (void)pthread_mutex_unlock(&cache->lock);
    return rc;
}

void read_cache_ahead(struct read_cache *cache,
                      const struct object_info *object,
                      uint64_t offset)
{
    uint64_t index = offset / read_cache_chunk_size(object);
    struct entry *entry = NULL;

    (void)pthread_mutex_lock(&cache->lock);
    if (find(cache, &object->id, index) == NULL &&
        cache->ahead < cache->limit / 2) {
        entry = add(cache, object, index);
    }
    (void)pthread_mutex_unlock(&cache->lock);
    if (entry != NULL) {
        entry->job.run = run_ahead;
        io_pool_submit(cache->pool, &entry->job, IO_READ);
    }
}

uint64_t read_cache_used(struct read_cache *cache)
{
    uint64_t used;

    (void)pthread_mutex_lock(&cache->lock);
    used = cache->used;
    (void)pthread_mutex_unlock(&cache->lock);
    return used;
}
