#include "fusefs/fetch.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

/* Pieces that several threads work on; freed by the last one to look. */
struct fetch {
    const struct fetch_env *env;      /* borrowed while a piece is unfinished */
    const struct fetch_piece *pieces; /* borrowed likewise */
    size_t n;                         /* pieces */
    pthread_mutex_t lock;             /* guards all below */
    pthread_cond_t done;              /* n_done == n */
    size_t next;                      /* first piece that nobody has begun */
    size_t n_done;                    /* finished */
    int rc;                           /* first failure, or 0 */
    size_t refs;                      /* the caller and the helpers */
};

struct helper {
    struct io_job job;   /* first: the pool hands it back */
    struct fetch *fetch; /* counted */
};

static int read_piece(const struct fetch_env *env,
                      const struct fetch_piece *piece)
{
    if (piece->use_cache &&
        read_cache_read(env->cache, &piece->object, piece->offset,
                        piece->length, piece->target) == 0) {
        return 0;
    }
    /* A chunk may fail for a part of it that is not wanted now. */
    return objio_read(env->objio, &piece->object, piece->offset, piece->length,
                      piece->target);
}

/* Read pieces that nobody has begun until there are none. */
static void work(struct fetch *fetch)
{
    (void)pthread_mutex_lock(&fetch->lock);
    while (fetch->next < fetch->n) {
        const struct fetch_piece *piece = &fetch->pieces[fetch->next++];
        int rc;

        (void)pthread_mutex_unlock(&fetch->lock);
        rc = read_piece(fetch->env, piece);
        (void)pthread_mutex_lock(&fetch->lock);
        fetch->rc = fetch->rc != 0 ? fetch->rc : rc;
        if (++fetch->n_done == fetch->n) {
            (void)pthread_cond_signal(&fetch->done);
        }
    }
    (void)pthread_mutex_unlock(&fetch->lock);
}

static void unref(struct fetch *fetch)
{
    bool last;

    (void)pthread_mutex_lock(&fetch->lock);
    last = --fetch->refs == 0;
    (void)pthread_mutex_unlock(&fetch->lock);
    if (last) {
        (void)pthread_cond_destroy(&fetch->done);
        (void)pthread_mutex_destroy(&fetch->lock);
        free(fetch);
    }
}

static void run_helper(struct io_job *job)
{
    struct helper *helper = (struct helper *)job;

    work(helper->fetch);
    unref(helper->fetch);
    free(helper);
}

/* Ask I/O threads to take part; fewer will do when memory is short. */
static void call_helpers(struct fetch *fetch, size_t n)
{
    while (n-- > 0) {
        struct helper *helper = malloc(sizeof *helper);

        if (helper == NULL) {
            return;
        }
        helper->job.run = run_helper;
        helper->fetch = fetch;
        (void)pthread_mutex_lock(&fetch->lock);
        fetch->refs++;
        (void)pthread_mutex_unlock(&fetch->lock);
        io_pool_submit(fetch->env->pool, &helper->job, IO_READ);
    }
}

int fetch_pieces(const struct fetch_env *env,
                 const struct fetch_piece *pieces,
                 size_t n)
{
    struct fetch *fetch;
    size_t n_threads = io_pool_threads(env->pool);
    int rc;

    if (n <= 1) {
        return n == 0 ? 0 : read_piece(env, pieces);
    }
    fetch = calloc(1, sizeof *fetch);
    if (fetch == NULL) {
        return -ENOMEM;
    }
    fetch->env = env;
    fetch->pieces = pieces;
    fetch->n = n;
    fetch->refs = 1;
    (void)pthread_mutex_init(&fetch->lock, NULL);
    (void)pthread_cond_init(&fetch->done, NULL);
    call_helpers(fetch, n - 1 < n_threads ? n - 1 : n_threads);
    work(fetch);
    (void)pthread_mutex_lock(&fetch->lock);
    while (fetch->n_done < fetch->n) {
        (void)pthread_cond_wait(&fetch->done, &fetch->lock);
    }
    rc = fetch->rc;
    (void)pthread_mutex_unlock(&fetch->lock);
    unref(fetch);
    return rc;
}
