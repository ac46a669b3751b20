#include "storaged/block/work_queue.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

struct work_queue {
    pthread_mutex_t lock;  /* guards what follows, but threads */
    pthread_cond_t pushed; /* there is work, or the end */
    struct work *first;    /* borrowed */
    struct work **last;    /* where the next one is linked */
    bool stopping;
    unsigned n_threads;
    pthread_t *threads; /* owned */
};

/* The next piece of work; NULL: the end. */
static struct work *pop(struct work_queue *queue)
{
    struct work *work;

    (void)pthread_mutex_lock(&queue->lock);
    while (queue->first == NULL && !queue->stopping) {
        (void)pthread_cond_wait(&queue->pushed, &queue->lock);
    }
    work = queue->first;
    if (work != NULL) {
        queue->first = work->next;
        if (queue->first == NULL) {
            queue->last = &queue->first;
        }
    }
    (void)pthread_mutex_unlock(&queue->lock);
    return work;
}

static void *work_on(void *context)
{
    struct work_queue *queue = context;
    struct work *work;

    while ((work = pop(queue)) != NULL) {
        work->run(work);
    }
    return NULL;
}

int work_queue_new(unsigned n_threads, struct work_queue **ret_queue)
{
    struct work_queue *queue;
    int rc = 0;

    if (n_threads == 0) {
        return -EINVAL;
    }
    queue = calloc(1, sizeof *queue);
    if (queue == NULL) {
        return -ENOMEM;
    }
    (void)pthread_mutex_init(&queue->lock, NULL);
    (void)pthread_cond_init(&queue->pushed, NULL);
    queue->last = &queue->first;
    queue->threads = calloc(n_threads, sizeof *queue->threads);
    if (queue->threads == NULL) {
        rc = -ENOMEM;
    }
    while (rc == 0 && queue->n_threads < n_threads) {
        rc = -pthread_create(&queue->threads[queue->n_threads], NULL, work_on,
                             queue);
        queue->n_threads += rc == 0;
    }
    if (rc < 0) {
        work_queue_free(queue);
        return rc;
    }
    *ret_queue = queue;
    return 0;
}

void work_queue_free(struct work_queue *queue)
{
    if (queue == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&queue->lock);
    queue->stopping = true;
    (void)pthread_cond_broadcast(&queue->pushed);
    (void)pthread_mutex_unlock(&queue->lock);
    for (unsigned i = 0; i < queue->n_threads; i++) {
        (void)pthread_join(queue->threads[i], NULL);
    }
    free(queue->threads);
    (void)pthread_cond_destroy(&queue->pushed);
    (void)pthread_mutex_destroy(&queue->lock);
    free(queue);
}

void work_queue_push(struct work_queue *queue, struct work *work)
{
    (void)pthread_mutex_lock(&queue->lock);
    work->next = NULL;
    *queue->last = work;
    queue->last = &work->next;
    (void)pthread_cond_signal(&queue->pushed);
    (void)pthread_mutex_unlock(&queue->lock);
}
