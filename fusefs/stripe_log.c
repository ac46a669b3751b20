#include "fusefs/stripe_log.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "fusefs/file.h"

/* Sizes in which the first stripe's buffer grows: many files are small. */
#define BUF_SMALL  (64u << 10)
#define BUF_MEDIUM (256u << 10)

enum stripe_state {
    STRIPE_FILLING,
    STRIPE_READY,
    STRIPE_QUEUED,
    STRIPE_STORED,
    STRIPE_FAILED,
};

struct stripe {
    struct io_job job;         /* first: the pool hands it back */
    struct log_object *object; /* borrowed; counted while QUEUED */
    uint32_t index;            /* in the object */
    enum stripe_state state;   /* guarded by the object's lock */
    struct buf *buf;           /* counted; NULL once STORED */
    size_t length;             /* bytes in use */
    int64_t queued_ms;         /* when it was queued, clock_mono_ms() */
    int rc;                    /* FAILED: why */
};

struct log_object {
    struct source source;         /* its refs are the object's */
    const struct log_env *env;    /* borrowed until synced */
    pthread_mutex_t lock;         /* guards all below */
    pthread_mutex_t sync_lock;    /* one sync at a time; before `lock` */
    pthread_cond_t stored;        /* a stripe is no longer QUEUED */
    struct object_writer *writer; /* owned; NULL once synced */
    struct stripe **stripes;      /* owned, each owned */
    size_t n_stripes;             /* the last ones may be empty */
    size_t stripes_max;           /* allocated */
    uint64_t size;                /* bytes appended */
    size_t n_queued;              /* stripes QUEUED */
    size_t n_unstored;            /* stripes not STORED */
    bool sealed;                  /* no appends any more */
    bool is_synced;               /* all that is stored is durable */
    bool committed;               /* the shard knows it */
    uint32_t tag;                 /* see log_object_set_tag() */
    void (*failed)(void *context, int rc); /* see log_object_new() */
    void *context;                         /* borrowed while QUEUED */
};

static void free_stripe(struct stripe *stripe)
{
    buf_unref(stripe->buf);
    free(stripe);
}

static void free_stripes(struct log_object *object)
{
    for (size_t i = 0; i < object->n_stripes; i++) {
        assert(object->stripes[i]->state != STRIPE_QUEUED);
        free_stripe(object->stripes[i]);
    }
    free(object->stripes);
    object->stripes = NULL;
    object->n_stripes = 0;
    object->stripes_max = 0;
}

static void destroy(struct source *source)
{
    struct log_object *object = source->log;

    free_stripes(object);
    object_writer_free(object->writer);
    (void)pthread_cond_destroy(&object->stored);
    (void)pthread_mutex_destroy(&object->sync_lock);
    (void)pthread_mutex_destroy(&object->lock);
    free(object);
}

int log_object_new(const struct log_env *env,
                   void (*failed)(void *context, int rc),
                   void *context,
                   struct log_object **ret_object)
{
    struct log_object *object = calloc(1, sizeof *object);
    struct object_info *info;
    int rc;

    if (object == NULL) {
        return -ENOMEM;
    }
    info = &object->source.info;
    rc = env->meta->new_object_id(env->meta, &info->id);
    if (rc == 0) {
        rc = object_writer_new(env->objio, &env->policy, &info->id,
                               &object->writer);
    }
    if (rc != 0) {
        free(object);
        return rc;
    }
    info->k = env->policy.k;
    info->m = env->policy.m;
    info->unit = env->policy.unit;
    object->source.refs = 1;
    object->source.log = object;
    object->source.destroy = destroy;
    object->env = env;
    object->failed = failed;
    object->context = context;
    (void)pthread_mutex_init(&object->lock, NULL);
    (void)pthread_mutex_init(&object->sync_lock, NULL);
    (void)pthread_cond_init(&object->stored, NULL);
    *ret_object = object;
    return 0;
}

struct source *log_object_source(struct log_object *object)
{
    return &object->source;
}

struct log_object *log_object_ref(struct log_object *object)
{
    (void)source_ref(&object->source);
    return object;
}

void log_object_unref(struct log_object *object)
{
    if (object != NULL) {
        source_unref(&object->source);
    }
}

/* ------------------------------------------------------------------ storing */

/* Store the stripe from a buffer that has room for parity. */
static int put_stripe(struct stripe *stripe)
{
    struct log_object *object = stripe->object;
    const struct log_env *env = object->env;
    struct buf *buf;
    int rc;

    if (stripe->buf->size >= env->stripe_buf_size) {
        return object_writer_put(object->writer, stripe->index, stripe->buf,
                                 stripe->length);
    }
    rc = write_memory_take(env->memory, env->stripe_buf_size, true, &buf);
    if (rc != 0) {
        return rc;
    }
    memcpy(buf->data, stripe->buf->data, stripe->length);
    rc = object_writer_put(object->writer, stripe->index, buf, stripe->length);
    buf_unref(buf);
    return rc;
}

static void note_outcome(struct log_outage *outage, int64_t start_ms, int rc)
{
    int64_t now_ms = clock_mono_ms();

    if (rc == 0) {
        __atomic_store_n(&outage->failed_ms, 0, __ATOMIC_RELAXED);
    } else if (rc == -ETIMEDOUT || rc == -EHOSTUNREACH || rc == -EIO) {
        __atomic_store_n(&outage->rc, rc, __ATOMIC_RELAXED);
        __atomic_store_n(&outage->lasted_ms, now_ms - start_ms,
                         __ATOMIC_RELAXED);
        __atomic_store_n(&outage->failed_ms, now_ms, __ATOMIC_RELAXED);
    }
}

/* Why the stripe need not be tried, or 0: while it was in the queue another one
 * has waited for the nodes in vain, for most of the time. Else the stripes of a
 * flush would wait one after the other, each of them for the whole timeout. */
static int shared_failure(const struct stripe *stripe)
{
    const struct log_outage *outage = stripe->object->env->outage;
    int64_t failed_ms = __atomic_load_n(&outage->failed_ms, __ATOMIC_RELAXED);
    int64_t lasted_ms = __atomic_load_n(&outage->lasted_ms, __ATOMIC_RELAXED);

    if (failed_ms == 0 || failed_ms - stripe->queued_ms <= lasted_ms / 2) {
        return 0;
    }
    return __atomic_load_n(&outage->rc, __ATOMIC_RELAXED);
}

static int try_put(struct stripe *stripe)
{
    int64_t start_ms = clock_mono_ms();
    int rc = shared_failure(stripe);

    if (rc == 0) {
        rc = put_stripe(stripe);
        note_outcome(stripe->object->env->outage, start_ms, rc);
    }
    return rc;
}

static void run_put(struct io_job *job)
{
    struct stripe *stripe = (struct stripe *)job;
    struct log_object *object = stripe->object;
    struct write_memory *memory = object->env->memory;
    struct buf *buf = NULL;
    int rc = try_put(stripe);

    if (rc != 0 && object->failed != NULL) {
        object->failed(object->context, rc);
    }
    (void)pthread_mutex_lock(&object->lock);
    stripe->rc = rc;
    stripe->state = rc == 0 ? STRIPE_STORED : STRIPE_FAILED;
    if (rc == 0) {
        buf = stripe->buf;
        stripe->buf = NULL;
        object->n_unstored--;
    }
    object->n_queued--;
    (void)pthread_cond_broadcast(&object->stored);
    (void)pthread_mutex_unlock(&object->lock);
    buf_unref(buf);
    write_memory_done(memory);
    log_object_unref(object);
}

static void mark_queued_locked(struct stripe *stripe)
{
    struct log_object *object = stripe->object;

    stripe->state = STRIPE_QUEUED;
    stripe->queued_ms = clock_mono_ms();
    object->is_synced = false;
    stripe->job.run = run_put;
    object->n_queued++;
    (void)log_object_ref(object);
    write_memory_queued(object->env->memory);
}

static void queue_stripe_locked(struct stripe *stripe)
{
    mark_queued_locked(stripe);
    io_pool_submit(stripe->object->env->pool, &stripe->job, IO_PUT);
}

void log_object_push(struct log_object *object, bool help)
{
    struct stripe *own = NULL;

    (void)pthread_mutex_lock(&object->lock);
    assert(object->sealed);
    for (size_t i = 0; object->n_unstored > 0 && i < object->n_stripes; i++) {
        struct stripe *stripe = object->stripes[i];

        if (stripe->state != STRIPE_READY && stripe->state != STRIPE_FAILED) {
            continue;
        }
        if (help && own == NULL) {
            mark_queued_locked(stripe);
            own = stripe;
        } else {
            queue_stripe_locked(stripe);
        }
    }
    (void)pthread_mutex_unlock(&object->lock);
    if (own != NULL) {
        run_put(&own->job);
    }
}

int log_object_wait(struct log_object *object)
{
    int rc = 0;

    (void)pthread_mutex_lock(&object->lock);
    while (object->n_queued > 0) {
        (void)pthread_cond_wait(&object->stored, &object->lock);
    }
    for (size_t i = 0; object->n_unstored > 0 && i < object->n_stripes; i++) {
        if (object->stripes[i]->state == STRIPE_FAILED) {
            rc = object->stripes[i]->rc;
            break;
        }
    }
    (void)pthread_mutex_unlock(&object->lock);
    return rc;
}

/* ---------------------------------------------------------------- appending */

/* Data bytes that the stripe's buffer has room for. */
static size_t room(const struct stripe *stripe)
{
    size_t stripe_length = stripe->object->env->stripe_length;

    return stripe->buf->size < stripe_length ? stripe->buf->size
                                             : stripe_length;
}

/* Size of a buffer for `length` bytes of the stripe `index`. Only the first
 * stripe starts small: who has filled one will fill more. */
static size_t choose_size(const struct log_env *env,
                          size_t length,
                          size_t index)
{
    if (index == 0 && length <= BUF_SMALL && env->stripe_length > BUF_SMALL) {
        return BUF_SMALL;
    }
    if (index == 0 && length <= BUF_MEDIUM && env->stripe_length > BUF_MEDIUM) {
        return BUF_MEDIUM;
    }
    return env->stripe_buf_size;
}

/* Append an empty stripe; takes over the buffer unless it fails. */
static int add_stripe(struct log_object *object, struct buf *buf)
{
    struct stripe *stripe = calloc(1, sizeof *stripe);
    int rc = stripe != NULL ? 0 : -ENOMEM;

    (void)pthread_mutex_lock(&object->lock);
    if (rc == 0 && object->n_stripes == object->stripes_max) {
        size_t max = object->stripes_max * 2 + 4;
        struct stripe **stripes =
            realloc(object->stripes, max * sizeof(struct stripe *));

        if (stripes != NULL) {
            object->stripes = stripes;
            object->stripes_max = max;
        } else {
            rc = -ENOMEM;
        }
    }
    if (rc == 0) {
        stripe->object = object;
        stripe->index = (uint32_t)object->n_stripes;
        stripe->buf = buf;
        object->stripes[object->n_stripes++] = stripe;
        object->n_unstored++;
    }
    (void)pthread_mutex_unlock(&object->lock);
    if (rc != 0) {
        free(stripe);
    }
    return rc;
}

/* Give the stripe `index`, the last one or the one to add, room for `length`
 * bytes in all. */
static int reserve_stripe(struct log_object *object,
                          size_t index,
                          size_t length,
                          bool force)
{
    const struct log_env *env = object->env;
    struct stripe *stripe = NULL;
    struct buf *buf;
    int rc;

    if (index < object->n_stripes) {
        stripe = object->stripes[index];
        if (room(stripe) >= length) {
            return 0;
        }
    }
    rc = write_memory_take(env->memory, choose_size(env, length, index), force,
                           &buf);
    if (rc != 0) {
        return rc;
    }
    if (stripe == NULL) {
        rc = add_stripe(object, buf);
        if (rc != 0) {
            buf_unref(buf);
        }
        return rc;
    }
    memcpy(buf->data, stripe->buf->data, stripe->length);
    (void)pthread_mutex_lock(&object->lock);
    struct buf *old = stripe->buf;

    stripe->buf = buf;
    (void)pthread_mutex_unlock(&object->lock);
    buf_unref(old);
    return 0;
}

static int reserve(struct log_object *object, size_t length, bool force)
{
    size_t stripe_length = object->env->stripe_length;
    uint64_t end = object->size + length;
    int rc = 0;

    for (size_t i = object->size / stripe_length;
         rc == 0 && i * stripe_length < end; i++) {
        uint64_t in_stripe = end - i * stripe_length;

        rc = reserve_stripe(object, i,
                            in_stripe < stripe_length ? (size_t)in_stripe
                                                      : stripe_length,
                            force);
    }
    return rc;
}

/* Append reserved bytes; full stripes are queued. */
static void append(struct log_object *object,
                   const uint8_t *data,
                   size_t length)
{
    size_t stripe_length = object->env->stripe_length;

    while (length > 0) {
        struct stripe *stripe = object->stripes[object->size / stripe_length];
        size_t n = room(stripe) - stripe->length;

        n = n < length ? n : length;
        assert(n > 0 && stripe->state == STRIPE_FILLING);
        memcpy(stripe->buf->data + stripe->length, data, n);
        (void)pthread_mutex_lock(&object->lock);
        stripe->length += n;
        object->size += n;
        if (stripe->length == stripe_length) {
            queue_stripe_locked(stripe);
        }
        (void)pthread_mutex_unlock(&object->lock);
        data += n;
        length -= n;
    }
}

int log_object_append(struct log_object *object,
                      const uint8_t *data,
                      size_t length,
                      uint64_t *ret_offset)
{
    int rc = reserve(object, length, true);

    if (rc == 0) {
        *ret_offset = object->size;
        append(object, data, length);
    }
    return rc;
}

uint64_t log_object_size(struct log_object *object)
{
    uint64_t size;

    (void)pthread_mutex_lock(&object->lock);
    size = object->size;
    (void)pthread_mutex_unlock(&object->lock);
    return size;
}

/* Drop the stripes that were reserved and not used. */
static void trim_locked(struct log_object *object)
{
    while (object->n_stripes > 0) {
        struct stripe *stripe = object->stripes[object->n_stripes - 1];

        if (stripe->state != STRIPE_FILLING || stripe->length > 0) {
            break;
        }
        free_stripe(stripe);
        object->n_stripes--;
        object->n_unstored--;
    }
}

void log_object_seal(struct log_object *object)
{
    (void)pthread_mutex_lock(&object->lock);
    object->sealed = true;
    object->source.info.size = object->size;
    trim_locked(object);
    if (object->n_stripes > 0 &&
        object->stripes[object->n_stripes - 1]->state == STRIPE_FILLING) {
        object->stripes[object->n_stripes - 1]->state = STRIPE_READY;
    }
    (void)pthread_mutex_unlock(&object->lock);
}

bool log_object_is_short(struct log_object *object,
                         const uint8_t **ret_data,
                         size_t *ret_length)
{
    const struct stripe *stripe = NULL;

    (void)pthread_mutex_lock(&object->lock);
    if (object->n_stripes == 1 && object->stripes[0]->state == STRIPE_READY) {
        stripe = object->stripes[0];
        *ret_data = stripe->buf->data;
        *ret_length = stripe->length;
    }
    (void)pthread_mutex_unlock(&object->lock);
    return stripe != NULL;
}

void log_object_set_tag(struct log_object *object, uint32_t tag)
{
    object->tag = tag;
}

uint32_t log_object_tag(const struct log_object *object)
{
    return object->tag;
}

/* ------------------------------------------------------ committing, reading */

void log_object_set_committed(struct log_object *object)
{
    (void)pthread_mutex_lock(&object->lock);
    object->committed = true;
    (void)pthread_mutex_unlock(&object->lock);
}

/* Give up what only an object in the making needs. Returns its writer, to be
 * freed without the lock. */
static struct object_writer *finish_locked(struct log_object *object)
{
    struct object_writer *writer = object->writer;

    assert(object->n_unstored == 0);
    object->source.info.missing = object_writer_missing(writer);
    object->writer = NULL;
    free_stripes(object);
    return writer;
}

int log_object_sync(struct log_object *object)
{
    struct object_writer *done = NULL;
    int rc = 0;

    (void)pthread_mutex_lock(&object->sync_lock);
    if (!log_object_is_synced(object)) {
        rc = object_writer_sync(object->writer);
        if (rc == 0) {
            (void)pthread_mutex_lock(&object->lock);
            object->is_synced = true;
            done = finish_locked(object);
            (void)pthread_mutex_unlock(&object->lock);
        }
    }
    (void)pthread_mutex_unlock(&object->sync_lock);
    object_writer_free(done);
    return rc;
}

bool log_object_is_synced(struct log_object *object)
{
    bool is_synced;

    (void)pthread_mutex_lock(&object->lock);
    is_synced = object->is_synced;
    (void)pthread_mutex_unlock(&object->lock);
    return is_synced;
}

bool log_object_info(struct log_object *object, struct object_info *ret_info)
{
    bool committed;

    (void)pthread_mutex_lock(&object->lock);
    *ret_info = object->source.info;
    ret_info->size = object->size;
    if (object->writer != NULL) {
        ret_info->missing = object_writer_missing(object->writer);
    }
    committed = object->committed;
    (void)pthread_mutex_unlock(&object->lock);
    return committed;
}

void log_object_look(struct log_object *object,
                     uint64_t offset,
                     size_t length,
                     struct buf **ret_buf,
                     const uint8_t **ret_data,
                     size_t *ret_length)
{
    size_t stripe_length = object->env->stripe_length;
    bool first = true;
    size_t n = 0;

    *ret_buf = NULL;
    (void)pthread_mutex_lock(&object->lock);
    assert(offset + length <= object->size);
    while (n < length && object->n_unstored > 0) {
        uint64_t pos = offset + n;
        struct stripe *stripe = object->stripes[pos / stripe_length];
        size_t in_stripe = pos % stripe_length;

        if (stripe->buf != NULL) {
            if (first) {
                *ret_buf = buf_ref(stripe->buf);
                *ret_data = stripe->buf->data + in_stripe;
                n = stripe->length - in_stripe;
            }
            break;
        }
        first = false;
        n += stripe_length - in_stripe;
    }
    (void)pthread_mutex_unlock(&object->lock);
    *ret_length = n < length && n > 0 ? n : length;
}

/* ---------------------------------------------------------------------- log */

/* Give back what was reserved and is not used: it must not wait for memory that
 * it holds itself. */
static void trim(struct stripe_log *log)
{
    if (log->current != NULL) {
        (void)pthread_mutex_lock(&log->current->lock);
        trim_locked(log->current);
        (void)pthread_mutex_unlock(&log->current->lock);
    }
    log_object_unref(log->next);
    log->next = NULL;
}

int stripe_log_reserve(struct stripe_log *log, size_t length, bool force)
{
    const struct log_env *env = log->env;
    uint64_t left;
    int rc = 0;

    assert(length <= env->object_size_max);
    if (log->current == NULL) {
        rc = log_object_new(env, log->failed, log->context, &log->current);
        if (rc != 0) {
            return rc;
        }
    }
    left = env->object_size_max - log->current->size;
    if (length > left && log->next == NULL) {
        rc = log_object_new(env, log->failed, log->context, &log->next);
    }
    if (rc == 0) {
        rc =
            reserve(log->current, length < left ? length : (size_t)left, force);
    }
    if (rc == 0 && length > left) {
        rc = reserve(log->next, length - (size_t)left, force);
    }
    if (rc != 0) {
        trim(log);
    }
    return rc;
}

void stripe_log_append(struct stripe_log *log,
                       const uint8_t *data,
                       size_t length,
                       struct log_range *ret_range)
{
    struct log_object *object = log->current;
    uint64_t left = log->env->object_size_max - object->size;

    if (left == 0) {
        log_object_seal(object);
        log_object_unref(object);
        object = log->next;
        log->current = object;
        log->next = NULL;
        left = log->env->object_size_max;
    }
    assert(object != NULL);
    ret_range->object = object;
    ret_range->offset = object->size;
    ret_range->length = length < left ? length : (size_t)left;
    append(object, data, ret_range->length);
}

bool stripe_log_overwrite(struct stripe_log *log,
                          const struct source *source,
                          uint64_t offset,
                          const uint8_t *data,
                          size_t length)
{
    struct log_object *object = log->current;
    struct stripe *stripe;
    size_t stripe_length = log->env->stripe_length;
    uint64_t start;

    if (object == NULL || source != &object->source) {
        return false;
    }
    start = object->size / stripe_length * stripe_length;
    if (offset < start || offset + length > object->size) {
        return false;
    }
    stripe = object->stripes[start / stripe_length];
    memcpy(stripe->buf->data + (offset - start), data, length);
    return true;
}

void stripe_log_seal(struct stripe_log *log)
{
    if (log->current != NULL) {
        log_object_seal(log->current);
        log_object_unref(log->current);
        log->current = NULL;
    }
    log_object_unref(log->next);
    log->next = NULL;
}
