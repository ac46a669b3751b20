#include "common/objio.h"

#include <errno.h>
#include <stdlib.h>

#include "common/objio_impl.h"

int objio_new(const struct objio_config *config, struct objio **ret_objio)
{
    struct objio *objio = calloc(1, sizeof *objio);

    if (objio == NULL) {
        return -ENOMEM;
    }
    objio->config = *config;
    (void)pthread_mutex_init(&objio->lock, NULL);
    *ret_objio = objio;
    return 0;
}

void objio_free(struct objio *objio)
{
    if (objio == NULL) {
        return;
    }
    for (unsigned k = 0; k <= EC_K_MAX; k++) {
        for (unsigned m = 0; m <= EC_M_MAX; m++) {
            ec_free(objio->codecs[k][m]);
        }
    }
    (void)pthread_mutex_destroy(&objio->lock);
    free(objio);
}

size_t objio_stripe_buf_size(const struct objio_policy *policy)
{
    return (size_t)(policy->k + policy->m) * policy->unit;
}

int objio_codec(struct objio *objio,
                uint32_t k,
                uint32_t m,
                const struct ec **ret_codec)
{
    struct ec **slot;
    struct ec *codec;
    int rc = 0;

    if (k > EC_K_MAX || m > EC_M_MAX) {
        return -EINVAL;
    }
    slot = &objio->codecs[k][m];
    codec = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
    if (codec == NULL) {
        (void)pthread_mutex_lock(&objio->lock);
        codec = *slot;
        if (codec == NULL) {
            rc = ec_new(k, m, &codec);
        }
        if (rc == 0) {
            __atomic_store_n(slot, codec, __ATOMIC_RELEASE);
        }
        (void)pthread_mutex_unlock(&objio->lock);
    }
    if (rc == 0) {
        *ret_codec = codec;
    }
    return rc;
}

bool objio_is_passing(int rc)
{
    return rc == -EHOSTUNREACH || rc == -ETIMEDOUT || rc == -ECANCELED ||
           rc == -ESTALE || rc == -ENOMEM;
}

int64_t objio_longer_pause(int64_t pause_ms)
{
    return earlier(2 * pause_ms, RETRY_MS_MAX);
}

void objio_get_stats(struct objio *objio, struct objio_stats *ret_stats)
{
    const struct objio_stats *stats = &objio->stats;

    ret_stats->blocks_put =
        __atomic_load_n(&stats->blocks_put, __ATOMIC_RELAXED);
    ret_stats->blocks_got =
        __atomic_load_n(&stats->blocks_got, __ATOMIC_RELAXED);
    ret_stats->reads_degraded =
        __atomic_load_n(&stats->reads_degraded, __ATOMIC_RELAXED);
    ret_stats->blocks_damaged =
        __atomic_load_n(&stats->blocks_damaged, __ATOMIC_RELAXED);
    ret_stats->writes_degraded =
        __atomic_load_n(&stats->writes_degraded, __ATOMIC_RELAXED);
}
