/* What objio.c, object_read.c and object_write.c share; for them alone. */
#pragma once

#include <pthread.h>

#include "common/objio.h"

/* First and longest pause before nodes that failed are tried again. */
#define RETRY_MS_MIN 20
#define RETRY_MS_MAX 1000

struct objio {
    struct objio_config config;
    pthread_mutex_t lock; /* held while a codec is made */
    /* Codecs by k and m, owned, NULL until first used. Atomic; never changed
     * once set. */
    struct ec *codecs[EC_K_MAX + 1][EC_M_MAX + 1];
    struct objio_stats stats; /* each atomic */
    /* Moving averages of how long healthy stripe reads take, atomic: of at most
     * SMALL_READ_MAX bytes, and of more. */
    uint64_t latency_us[2];
};

/* The codec for k + m blocks, made on first use; borrowed from the objio.
 * Errors: -EINVAL, -ENOMEM */
MUST_CHECK int objio_codec(struct objio *objio,
                           uint32_t k,
                           uint32_t m,
                           const struct ec **ret_codec);

/* Add one to a counter of the objio's stats. */
#define OBJIO_COUNT(objio, counter) \
    ((void)__atomic_fetch_add(&(objio)->stats.counter, 1, __ATOMIC_RELAXED))

/* Whether what failed with `rc` may succeed on the same node later. */
bool objio_is_passing(int rc);

/* Double a pause, up to RETRY_MS_MAX. */
int64_t objio_longer_pause(int64_t pause_ms);

static inline uint32_t count_bits(uint32_t mask)
{
    return (uint32_t)__builtin_popcount(mask);
}

static inline uint32_t bit_mask(uint32_t n)
{
    return n >= 32 ? UINT32_MAX : (1u << n) - 1;
}

static inline int64_t earlier(int64_t a_ms, int64_t b_ms)
{
    return a_ms < b_ms ? a_ms : b_ms;
}
