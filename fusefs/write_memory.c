#include "fusefs/write_memory.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

/* Stripe buffers kept for reuse. */
#define FREE_MAX 16u

struct write_memory {
    pthread_mutex_t lock;         /* guards all below */
    pthread_cond_t changed;       /* `changes` was incremented */
    uint64_t limit;               /* bytes */
    uint64_t used;                /* bytes in buffers that live */
    size_t stripe_size;           /* bytes of the buffers in the free list */
    unsigned unsent_max;          /* stripes */
    unsigned n_unsent;            /* stripes queued or being stored */
    uint64_t changes;             /* see write_memory_changes() */
    bool making_room;             /* somebody is at it */
    size_t refs;                  /* buffers that live, and the owner */
    size_t free_max;              /* buffers that free_list may keep */
    size_t n_free;                /* in free_list */
    uint8_t *free_list[FREE_MAX]; /* owned */
};

int write_memory_new(uint64_t limit,
                     size_t stripe_size,
                     unsigned unsent_max,
                     struct write_memory **ret_memory)
{
    struct write_memory *memory = calloc(1, sizeof *memory);
    pthread_condattr_t attr;

    if (memory == NULL) {
        return -ENOMEM;
    }
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&memory->lock, NULL);
    (void)pthread_cond_init(&memory->changed, &attr);
    (void)pthread_condattr_destroy(&attr);
    memory->limit = limit;
    memory->stripe_size = stripe_size;
    memory->unsent_max = unsent_max;
    memory->refs = 1;
    memory->free_max = limit / 3 / stripe_size;
    if (memory->free_max > FREE_MAX) {
        memory->free_max = FREE_MAX;
    }
    *ret_memory = memory;
    return 0;
}

/* Drop a reference and the lock. */
static void unref_and_unlock(struct write_memory *memory)
{
    bool last = --memory->refs == 0;

    (void)pthread_mutex_unlock(&memory->lock);
    if (!last) {
        return;
    }
    for (size_t i = 0; i < memory->n_free; i++) {
        free(memory->free_list[i]);
    }
    (void)pthread_cond_destroy(&memory->changed);
    (void)pthread_mutex_destroy(&memory->lock);
    free(memory);
}

void write_memory_free(struct write_memory *memory)
{
    if (memory != NULL) {
        (void)pthread_mutex_lock(&memory->lock);
        unref_and_unlock(memory);
    }
}

static void note_change(struct write_memory *memory)
{
    memory->changes++;
    (void)pthread_cond_broadcast(&memory->changed);
}

/* The last reference of a buffer goes: count it out, keep its memory. */
static void released(struct buf *buf, void *context)
{
    struct write_memory *memory = context;

    (void)pthread_mutex_lock(&memory->lock);
    assert(memory->used >= buf->size);
    memory->used -= buf->size;
    if (buf->size == memory->stripe_size && memory->n_free < memory->free_max) {
        memory->free_list[memory->n_free++] = buf->data;
        buf->data = NULL;
    }
    note_change(memory);
    unref_and_unlock(memory);
}

int write_memory_take(struct write_memory *memory,
                      size_t size,
                      bool force,
                      struct buf **ret_buf)
{
    uint8_t *recycled = NULL;
    struct buf *buf;

    (void)pthread_mutex_lock(&memory->lock);
    if (!force && ((memory->used > 0 && memory->used + size > memory->limit) ||
                   (size == memory->stripe_size &&
                    memory->n_unsent >= memory->unsent_max))) {
        (void)pthread_mutex_unlock(&memory->lock);
        return -EAGAIN;
    }
    memory->used += size;
    memory->refs++;
    if (size == memory->stripe_size && memory->n_free > 0) {
        recycled = memory->free_list[--memory->n_free];
    }
    (void)pthread_mutex_unlock(&memory->lock);

    buf = buf_new(recycled != NULL ? 0 : size);
    if (buf == NULL) {
        (void)pthread_mutex_lock(&memory->lock);
        memory->used -= size;
        free(recycled);
        unref_and_unlock(memory);
        return -ENOMEM;
    }
    if (recycled != NULL) {
        free(buf->data);
        buf->data = recycled;
        buf->size = size;
    }
    buf->on_free = released;
    buf->context = memory;
    *ret_buf = buf;
    return 0;
}

void write_memory_queued(struct write_memory *memory)
{
    (void)pthread_mutex_lock(&memory->lock);
    memory->n_unsent++;
    (void)pthread_mutex_unlock(&memory->lock);
}

void write_memory_done(struct write_memory *memory)
{
    (void)pthread_mutex_lock(&memory->lock);
    assert(memory->n_unsent > 0);
    memory->n_unsent--;
    note_change(memory);
    (void)pthread_mutex_unlock(&memory->lock);
}

uint64_t write_memory_changes(struct write_memory *memory)
{
    uint64_t changes;

    (void)pthread_mutex_lock(&memory->lock);
    changes = memory->changes;
    (void)pthread_mutex_unlock(&memory->lock);
    return changes;
}

bool write_memory_wait(struct write_memory *memory, uint64_t changes)
{
    bool changed;

    (void)pthread_mutex_lock(&memory->lock);
    while (memory->changes == changes &&
           (memory->n_unsent > 0 || memory->making_room)) {
        (void)pthread_cond_wait(&memory->changed, &memory->lock);
    }
    changed = memory->changes != changes;
    if (!changed) {
        memory->making_room = true;
    }
    (void)pthread_mutex_unlock(&memory->lock);
    return changed;
}

void write_memory_made_room(struct write_memory *memory)
{
    (void)pthread_mutex_lock(&memory->lock);
    memory->making_room = false;
    (void)pthread_cond_broadcast(&memory->changed);
    (void)pthread_mutex_unlock(&memory->lock);
}

void write_memory_wait_release(struct write_memory *memory, int64_t timeout_ms)
{
    struct timespec until;
    uint64_t changes;
    int rc = 0;

    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += timeout_ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    (void)pthread_mutex_lock(&memory->lock);
    changes = memory->changes;
    while (memory->changes == changes && memory->used > 0 && rc == 0) {
        rc = pthread_cond_timedwait(&memory->changed, &memory->lock, &until);
    }
    (void)pthread_mutex_unlock(&memory->lock);
}

uint64_t write_memory_used(struct write_memory *memory)
{
    uint64_t used;

    (void)pthread_mutex_lock(&memory->lock);
    used = memory->used;
    (void)pthread_mutex_unlock(&memory->lock);
    return used;
}
