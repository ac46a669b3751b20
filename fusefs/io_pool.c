#include "fusefs/io_pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

struct queue {
    struct io_job *first; /* NULL: empty */
    struct io_job **last; /* where the next job is linked */
};

struct io_pool {
    pthread_mutex_t lock;          /* guards the queues, `turn` and `ending` */
    pthread_cond_t wake;           /* a job came, or the end */
    struct queue queues[IO_KINDS]; /* waiting jobs, oldest first */
    enum io_kind turn;             /* whose job goes first */
    bool ending;                   /* threads end when the queues are empty */
    unsigned n_threads;            /* started */
    pthread_t threads[];
};

/* The next job, waiting for one. NULL: the end. */
static struct io_job *next_job(struct io_pool *pool)
{
    struct io_job *job = NULL;

    (void)pthread_mutex_lock(&pool->lock);
    while (pool->queues[IO_PUT].first == NULL &&
           pool->queues[IO_READ].first == NULL && !pool->ending) {
        (void)pthread_cond_wait(&pool->wake, &pool->lock);
    }
    for (unsigned i = 0; i < IO_KINDS && job == NULL; i++) {
        struct queue *queue = &pool->queues[pool->turn];

        job = queue->first;
        if (job != NULL) {
            queue->first = job->next;
            if (queue->first == NULL) {
                queue->last = &queue->first;
            }
        }
        pool->turn = pool->turn == IO_PUT ? IO_READ : IO_PUT;
    }
    (void)pthread_mutex_unlock(&pool->lock);
    return job;
}

static void *work(void *argument)
{
    struct io_pool *pool = argument;
    struct io_job *job;

    while ((job = next_job(pool)) != NULL) {
        job->run(job);
    }
    return NULL;
}

int io_pool_new(unsigned n_threads, struct io_pool **ret_pool)
{
    struct io_pool *pool =
        calloc(1, sizeof *pool + n_threads * sizeof pool->threads[0]);

    if (pool == NULL) {
        return -ENOMEM;
    }
    (void)pthread_mutex_init(&pool->lock, NULL);
    (void)pthread_cond_init(&pool->wake, NULL);
    for (unsigned i = 0; i < IO_KINDS; i++) {
        pool->queues[i].last = &pool->queues[i].first;
    }
    for (unsigned i = 0; i < n_threads; i++) {
        if (pthread_create(&pool->threads[i], NULL, work, pool) != 0) {
            io_pool_free(pool);
            return -EAGAIN;
        }
        pool->n_threads++;
    }
    *ret_pool = pool;
    return 0;
}

void io_pool_free(struct io_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&pool->lock);
    pool->ending = true;
    (void)pthread_cond_broadcast(&pool->wake);
    (void)pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->n_threads; i++) {
        (void)pthread_join(pool->threads[i], NULL);
    }
    (void)pthread_cond_destroy(&pool->wake);
    (void)pthread_mutex_destroy(&pool->lock);
    free(pool);
}

void io_pool_submit(struct io_pool *pool, struct io_job *job, enum io_kind kind)
{
    struct queue *queue = &pool->queues[kind];

    job->next = NULL;
    (void)pthread_mutex_lock(&pool->lock);
    *queue->last = job;
    queue->last = &job->next;
    (void)pthread_cond_signal(&pool->wake);
    (void)pthread_mutex_unlock(&pool->lock);
}

unsigned io_pool_threads(const struct io_pool *pool)
{
    return pool->n_threads;
}
