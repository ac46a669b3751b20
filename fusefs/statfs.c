#include "fusefs/statfs.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "proto/validate.h"

#define FRAGMENT   4096u
#define FRESH_MS   1000
#define TIMEOUT_MS 2000

/* Inode numbers that can still be given out, as far as df -i is concerned. */
#define INODES_FREE (UINT64_C(1) << 40)

#define ANY_INO UINT64_C(1)

struct statfs_cache {
    struct rpc_client *rpc;   /* borrowed */
    struct cluster_map *map;  /* borrowed */
    struct meta_client *meta; /* borrowed */
    pthread_mutex_t lock;
    pthread_cond_t renewed;
    /* Guarded by lock. */
    struct statvfs stat; /* the last answer */
    int64_t asked_ms;    /* when it was asked for; 0: never */
    int rc;              /* of the last renewal */
    bool has_stat;
    bool is_renewing;
};

int statfs_cache_new(struct rpc_client *rpc,
                     struct cluster_map *map,
                     struct meta_client *meta,
                     struct statfs_cache **ret_cache)
{
    struct statfs_cache *cache = calloc(1, sizeof *cache);

    if (cache == NULL) {
        return -ENOMEM;
    }
    cache->rpc = rpc;
    cache->map = map;
    cache->meta = meta;
    (void)pthread_mutex_init(&cache->lock, NULL);
    (void)pthread_cond_init(&cache->renewed, NULL);
    *ret_cache = cache;
    return 0;
}

void statfs_cache_free(struct statfs_cache *cache)
{
    if (cache != NULL) {
        (void)pthread_cond_destroy(&cache->renewed);
        (void)pthread_mutex_destroy(&cache->lock);
        free(cache);
    }
}

/* ------------------------------------------------------------------ summing */

void statfs_space_add(struct statfs_space *spaces,
                      size_t *n,
                      const Gabion__NodeStatsReply *stats)
{
    struct statfs_space *space = spaces;

    while (space < spaces + *n && space->filesystem != stats->filesystem) {
        space++;
    }
    if (space == spaces + *n) {
        *space = (struct statfs_space){ stats->filesystem, stats->total,
                                        stats->available };
        ++*n;
    } else if (stats->available < space->available) {
        space->available =
            stats->available; /* asked later, or reserving more */
    }
}

/* Fragments for file bytes that `bytes` of raw space hold. */
static fsblkcnt_t net_fragments(uint64_t bytes,
                                const struct objio_policy *policy)
{
    return bytes / FRAGMENT * policy->k / (policy->k + policy->m);
}

void statfs_space_sum(const struct statfs_space *spaces,
                      size_t n,
                      const struct objio_policy *policy,
                      struct statvfs *ret_stat)
{
    uint64_t total = 0;
    uint64_t available = 0;

    for (size_t i = 0; i < n; i++) {
        total += spaces[i].total;
        available += spaces[i].available;
    }
    memset(ret_stat, 0, sizeof *ret_stat);
    ret_stat->f_bsize = FRAGMENT;
    ret_stat->f_frsize = FRAGMENT;
    ret_stat->f_blocks = net_fragments(total, policy);
    ret_stat->f_bfree = net_fragments(available, policy);
    ret_stat->f_bavail = ret_stat->f_bfree;
    ret_stat->f_namemax = NAME_LENGTH_MAX;
}

/* ------------------------------------------------------------------- asking */

/* Ask all nodes at once; a node that fails is left out. */
struct survey {
    struct rpc_call *calls;      /* owned: one per node */
    struct statfs_space *spaces; /* owned: room for one per node */
    size_t n_spaces;
    size_t n_running;
    int rc; /* of a node that failed */
};

static void node_answered(struct rpc_call *call)
{
    struct survey *survey = call->context;
    const Gabion__NodeStatsReply *reply =
        (const Gabion__NodeStatsReply *)call->reply;

    if (call->rc != 0) {
        survey->rc = call->rc;
    } else if (reply->error == 0) {
        statfs_space_add(survey->spaces, &survey->n_spaces, reply);
    }
    survey->n_running--;
}

static void ask_node(struct statfs_cache *cache,
                     struct survey *survey,
                     struct rpc_queue *queue,
                     size_t index)
{
    Gabion__NodeStatsRequest request = GABION__NODE_STATS_REQUEST__INIT;
    struct rpc_call *call = &survey->calls[index];
    struct rpc_peer *peer;
    int rc =
        rpc_client_peer(cache->rpc, cache->map->nodes[index].address, &peer);

    if (rc != 0) {
        survey->rc = rc;
        return;
    }
    request.cluster = cache->map->id;
    call->method = "/gabion.Block/NodeStats";
    call->lane = RPC_CONTROL;
    call->request = &request.base;
    call->reply_type = &gabion__node_stats_reply__descriptor;
    call->deadline_ms = clock_mono_ms() + TIMEOUT_MS;
    call->done = node_answered;
    call->context = survey;
    survey->n_running++;
    rpc_call_start(queue, peer, call);
}

static int run_survey(struct statfs_cache *cache, struct survey *survey)
{
    struct rpc_queue *queue = rpc_client_thread_queue(cache->rpc);

    if (queue == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < cache->map->n_nodes; i++) {
        ask_node(cache, survey, queue, i);
    }
    while (survey->n_running > 0) {
        (void)rpc_queue_wait(queue, clock_mono_ms() + TIMEOUT_MS);
    }
    for (size_t i = 0; i < cache->map->n_nodes; i++) {
        rpc_call_clear(&survey->calls[i]);
    }
    if (survey->n_spaces == 0) {
        return survey->rc != 0 ? survey->rc : -EIO;
    }
    return 0;
}

static int ask_all(struct statfs_cache *cache, struct statvfs *ret_stat)
{
    size_t n = cache->map->n_nodes;
    struct survey survey = {
        .calls = calloc(n, sizeof *survey.calls),
        .spaces = calloc(n, sizeof *survey.spaces),
    };
    Gabion__ShardStatsReply *shard;
    int rc = survey.calls == NULL || survey.spaces == NULL
                 ? -ENOMEM
                 : run_survey(cache, &survey);

    if (rc == 0) {
        statfs_space_sum(survey.spaces, survey.n_spaces, &cache->map->policy,
                         ret_stat);
        ret_stat->f_ffree = INODES_FREE;
        ret_stat->f_favail = INODES_FREE;
        ret_stat->f_files = INODES_FREE;
        if (meta_client_stats(cache->meta, ANY_INO, &shard) == 0) {
            ret_stat->f_files += shard->n_inodes;
            gabion__shard_stats_reply__free_unpacked(shard, NULL);
        }
    }
    free(survey.calls);
    free(survey.spaces);
    return rc;
}

/* Called and returns with the lock held. */
static void renew_locked(struct statfs_cache *cache)
{
    struct statvfs stat;
    int rc;

    cache->is_renewing = true;
    cache->asked_ms = clock_mono_ms();
    (void)pthread_mutex_unlock(&cache->lock);
    rc = ask_all(cache, &stat);
    (void)pthread_mutex_lock(&cache->lock);
    cache->is_renewing = false;
    cache->rc = rc;
    if (rc == 0) {
        cache->stat = stat;
        cache->has_stat = true;
    }
    (void)pthread_cond_broadcast(&cache->renewed);
}

int statfs_cache_get(struct statfs_cache *cache, struct statvfs *ret_stat)
{
    int rc;

    (void)pthread_mutex_lock(&cache->lock);
    if (!cache->is_renewing &&
        (!cache->has_stat || clock_mono_ms() - cache->asked_ms >= FRESH_MS)) {
        renew_locked(cache);
    }
    while (cache->is_renewing && !cache->has_stat) {
        (void)pthread_cond_wait(&cache->renewed, &cache->lock);
    }
    rc = cache->has_stat ? 0 : cache->rc;
    *ret_stat = cache->stat;
    (void)pthread_mutex_unlock(&cache->lock);
    return rc;
}
