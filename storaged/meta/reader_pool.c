#include "storaged/meta/reader_pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

/* More than there are threads that read; beyond it readers are closed. */
#define IDLE_MAX 32u

struct reader_pool {
    struct meta_db *db;                 /* borrowed */
    pthread_mutex_t lock;               /* guards all below */
    struct meta_reader *idle[IDLE_MAX]; /* owned; the last used one last, as
                                           its pages are in the CPU's cache */
    size_t n_idle;
};

int reader_pool_new(struct meta_db *db, struct reader_pool **ret_pool)
{
    struct reader_pool *pool = calloc(1, sizeof *pool);

    if (pool == NULL) {
        return -ENOMEM;
    }
    pool->db = db;
    (void)pthread_mutex_init(&pool->lock, NULL);
    *ret_pool = pool;
    return 0;
}

void reader_pool_free(struct reader_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    for (size_t i = 0; i < pool->n_idle; i++) {
        meta_reader_close(pool->idle[i]);
    }
    (void)pthread_mutex_destroy(&pool->lock);
    free(pool);
}

int reader_pool_take(struct reader_pool *pool, struct meta_reader **ret_reader)
{
    struct meta_reader *reader = NULL;

    (void)pthread_mutex_lock(&pool->lock);
    if (pool->n_idle > 0) {
        reader = pool->idle[--pool->n_idle];
    }
    (void)pthread_mutex_unlock(&pool->lock);
    if (reader == NULL) {
        return meta_reader_open(pool->db, ret_reader);
    }
    *ret_reader = reader;
    return 0;
}

void reader_pool_give(struct reader_pool *pool, struct meta_reader *reader)
{
    (void)pthread_mutex_lock(&pool->lock);
    if (pool->n_idle < IDLE_MAX) {
        pool->idle[pool->n_idle++] = reader;
        reader = NULL;
    }
    (void)pthread_mutex_unlock(&pool->lock);
    if (reader != NULL) {
        meta_reader_close(reader);
    }
}
