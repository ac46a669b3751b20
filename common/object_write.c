/* Storing stripes.
 *
 * A block goes to its home; when the home is down or fails, to the first spare
 * that is up. When no node is left for it in this round it stays out: the
 * stripe is complete with min_write blocks. With fewer, nodes that failed are
 * tried again after a pause, though others may still be busy; when none is,
 * those that seem down are tried too, and a new round begins, until the
 * deadline. */
#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "common/checksum.h"
#include "common/clock.h"
#include "common/object_writer.h"

#define NO_NODE UINT32_MAX

/* One call of object_writer_put(). Masks have bit i set for block i, or for
 * node i of the object's list. */
struct put {
    struct object_writer *writer; /* borrowed */
    struct block_queue *queue;    /* borrowed */
    struct buf *buf;              /* borrowed */
    uint32_t *checksums;          /* owned: n_units for each block */
    uint32_t n_units;             /* in a block */
    uint32_t stripe;
    uint32_t block_size;
    int64_t deadline_ms;
    int64_t pause_ms;     /* before nodes that failed are tried again */
    int64_t retry_ms;     /* when they are while others run; INT64_MAX: never */
    int64_t straggler_ms; /* when transfers still running are given up */
    uint32_t stored;      /* blocks */
    uint32_t running;     /* blocks */
    uint32_t full;        /* blocks whose last failure was ENOSPC */
    uint32_t taken;       /* spares that hold or are being sent a block */
    uint32_t failed;      /* nodes that failed in this round */
    int rc;               /* the last failure */
    uint64_t instances[EC_BLOCKS_MAX]; /* of the nodes that stored */
    uint8_t nodes[EC_BLOCKS_MAX];      /* index of the node last tried */
    struct block_op ops[EC_BLOCKS_MAX];
};

static bool is_policy_valid(const struct objio_policy *policy)
{
    return stripe_is_valid(policy->k, policy->unit) && policy->m <= EC_M_MAX &&
           policy->min_write >= policy->k &&
           policy->min_write <= policy->k + policy->m;
}

int object_writer_new(struct objio *objio,
                      const struct objio_policy *policy,
                      const struct object_id *id,
                      struct object_writer **ret_writer)
{
    const struct placement *placement = objio->config.placement;
    struct object_writer *writer;
    const struct ec *codec;
    int rc;

    if (!is_policy_valid(policy)) {
        return -EINVAL;
    }
    rc = objio_codec(objio, policy->k, policy->m, &codec);
    if (rc != 0) {
        return rc;
    }
    writer = calloc(1, sizeof *writer);
    if (writer == NULL) {
        return -ENOMEM;
    }
    writer->objio = objio;
    writer->policy = *policy;
    writer->id = *id;
    writer->codec = codec;
    writer->nodes = placement_nodes(placement, id);
    writer->n_nodes = placement_width(placement);
    writer->n_blocks = policy->k + policy->m;
    (void)pthread_mutex_init(&writer->lock, NULL);
    *ret_writer = writer;
    return 0;
}

void object_writer_free(struct object_writer *writer)
{
    if (writer == NULL) {
        return;
    }
    (void)pthread_mutex_destroy(&writer->lock);
    free(writer->placed);
    free(writer->is_put);
    free(writer);
}

uint32_t object_writer_missing(const struct object_writer *writer)
{
    return __atomic_load_n(&writer->missing, __ATOMIC_RELAXED);
}

int object_writer_error(int rc)
{
    switch (rc) {
    case 0:
    case -ENOSPC:
    case -ETIMEDOUT:
    case -EHOSTUNREACH:
    case -ENOMEM:
        return rc;
    case -ECANCELED:
        return -ETIMEDOUT;
    default:
        return -EIO;
    }
}

/* Make room in the record for `stripe`. Errors: -ENOMEM */
static int reserve_locked(struct object_writer *writer, uint32_t stripe)
{
    uint32_t n = writer->n_stripes > 0 ? writer->n_stripes : 16;
    struct placed *placed;
    bool *is_put;

    if (stripe < writer->n_stripes) {
        return 0;
    }
    while (n <= stripe) {
        n *= 2;
    }
    placed =
        realloc(writer->placed, (size_t)n * writer->n_blocks * sizeof *placed);
    if (placed == NULL) {
        return -ENOMEM;
    }
    writer->placed = placed;
    is_put = realloc(writer->is_put, n * sizeof *is_put);
    if (is_put == NULL) {
        return -ENOMEM;
    }
    writer->is_put = is_put;
    memset(is_put + writer->n_stripes, 0,
           (n - writer->n_stripes) * sizeof *is_put);
    writer->n_stripes = n;
    return 0;
}

static int reserve(struct object_writer *writer, uint32_t stripe)
{
    int rc;

    (void)pthread_mutex_lock(&writer->lock);
    rc = reserve_locked(writer, stripe);
    (void)pthread_mutex_unlock(&writer->lock);
    return rc;
}

static void record(struct put *put)
{
    struct object_writer *writer = put->writer;
    uint32_t missing = bit_mask(writer->n_blocks) & ~put->stored;
    struct placed *placed;

    (void)pthread_mutex_lock(&writer->lock);
    placed = writer->placed + (size_t)put->stripe * writer->n_blocks;
    for (uint32_t i = 0; i < writer->n_blocks; i++) {
        placed[i].state = missing & 1u << i ? PLACED_NOWHERE : PLACED_STORED;
        placed[i].node = put->nodes[i];
        placed[i].instance = put->instances[i];
    }
    writer->is_put[put->stripe] = true;
    __atomic_store_n(&writer->missing, writer->missing | missing,
                     __ATOMIC_RELAXED);
    (void)pthread_mutex_unlock(&writer->lock);
    if (missing != 0) {
        OBJIO_COUNT(writer->objio, writes_degraded);
    }
}

static void encode(struct put *put, size_t length)
{
    const struct object_writer *writer = put->writer;
    uint32_t k = writer->policy.k;
    size_t block_size = put->block_size;
    uint8_t *blocks[EC_BLOCKS_MAX];

    memset(put->buf->data + length, 0, k * block_size - length);
    for (uint32_t i = 0; i < writer->n_blocks; i++) {
        blocks[i] = put->buf->data + i * block_size;
    }
    ec_encode(writer->codec, blocks, blocks + k, block_size);
    for (uint32_t i = 0; i < writer->n_blocks; i++) {
        checksum_compute(blocks[i], block_size,
                         put->checksums + (size_t)i * put->n_units);
    }
}

static void put_done(struct block_op *op)
{
    struct put *put = op->context;
    uint32_t bit = 1u << op->key.index;
    uint32_t node = put->nodes[op->key.index];

    assert(put->running & bit);
    put->running &= ~bit;
    if (op->rc == 0) {
        put->stored |= bit;
        put->full &= ~bit;
        put->instances[op->key.index] = op->result_instance;
        OBJIO_COUNT(put->writer->objio, blocks_put);
        return;
    }
    put->failed |= 1u << node;
    put->taken &= ~(1u << node);
    put->full = op->rc == -ENOSPC ? put->full | bit : put->full & ~bit;
    put->rc = op->rc;
}

static void start_put(struct put *put, uint32_t index, uint32_t node)
{
    struct object_writer *writer = put->writer;
    struct block_io *io = writer->objio->config.io;
    struct block_op *op = &put->ops[index];

    memset(op, 0, sizeof *op);
    op->type = BLOCK_PUT;
    op->node = writer->nodes[node];
    op->key.object = writer->id;
    op->key.stripe = put->stripe;
    op->key.index = index;
    op->buf = put->buf;
    op->buf_offset = (size_t)index * put->block_size;
    op->checksums = put->checksums + (size_t)index * put->n_units;
    op->length = put->block_size;
    op->deadline_ms = put->deadline_ms;
    op->done = put_done;
    op->context = put;
    put->nodes[index] = (uint8_t)node;
    put->taken |= 1u << node;
    put->running |= 1u << index;
    io->start(io, put->queue, op);
}

static bool can_take(const struct put *put, uint32_t node, bool even_down)
{
    const struct object_writer *writer = put->writer;
    struct block_io *io = writer->objio->config.io;

    return node < writer->n_nodes &&
           ((put->failed | put->taken) & 1u << node) == 0 &&
           (even_down || io->is_up(io, writer->nodes[node]));
}

/* The node to try for block `index`: its home, else the first free spare. */
static uint32_t choose_node(const struct put *put,
                            uint32_t index,
                            bool even_down)
{
    const struct object_writer *writer = put->writer;

    if (can_take(put, index, even_down)) {
        return index;
    }
    for (uint32_t i = writer->n_blocks; i < writer->n_nodes; i++) {
        if (can_take(put, i, even_down)) {
            return i;
        }
    }
    return NO_NODE;
}

/* Start a put of every block that is neither stored nor under way and for which
 * there is a node. */
static void start_puts(struct put *put, bool even_down)
{
    for (uint32_t i = 0; i < put->writer->n_blocks; i++) {
        if (((put->stored | put->running) & 1u << i) == 0) {
            uint32_t node = choose_node(put, i, even_down);

            if (node != NO_NODE) {
                start_put(put, i, node);
            }
        }
    }
}

static bool is_enough(const struct put *put)
{
    return count_bits(put->stored) >= put->writer->policy.min_write;
}

static bool has_free_spare(const struct put *put)
{
    const struct object_writer *writer = put->writer;

    for (uint32_t i = writer->n_blocks; i < writer->n_nodes; i++) {
        if (can_take(put, i, false)) {
            return true;
        }
    }
    return false;
}

/* Whether to give up the transfers that still run: time is up, or they hold up
 * a stripe which the others have long stored and which can do without them or
 * has another node for them. */
static bool is_held_up(struct put *put, int64_t now_ms)
{
    if (now_ms >= put->deadline_ms) {
        return true;
    }
    if (count_bits(put->stored) < put->writer->policy.k) {
        return false;
    }
    if (put->straggler_ms == INT64_MAX) {
        put->straggler_ms = now_ms + PUT_GRACE_MS;
    }
    if (now_ms < put->straggler_ms) {
        return false;
    }
    put->straggler_ms = INT64_MAX;
    return is_enough(put) || has_free_spare(put);
}

static void cancel_running(struct put *put)
{
    struct block_io *io = put->writer->objio->config.io;

    for (uint32_t i = 0; i < put->writer->n_blocks; i++) {
        if (put->running & 1u << i) {
            io->cancel(io, &put->ops[i]);
        }
    }
}

/* Plan to try again those that failed if the stripe needs them. */
static void plan_retry(struct put *put, int64_t now_ms)
{
    if (put->failed != 0 && put->retry_ms == INT64_MAX && !is_enough(put)) {
        put->retry_ms = now_ms + put->pause_ms;
        put->pause_ms = objio_longer_pause(put->pause_ms);
    }
}

static void allow_all(struct put *put)
{
    put->failed = 0;
    put->retry_ms = INT64_MAX;
}

/* Returns the time afterwards. */
static int64_t wait_for_puts(struct put *put, int64_t now_ms)
{
    struct block_io *io = put->writer->objio->config.io;
    int64_t until_ms = earlier(put->straggler_ms, put->deadline_ms);

    plan_retry(put, now_ms);
    until_ms = earlier(until_ms, put->retry_ms);
    if (until_ms <= now_ms) {
        until_ms = now_ms + RETRY_MS_MAX; /* for cancelled ones to come back */
    }
    (void)io->wait(io, put->queue, until_ms);
    now_ms = clock_mono_ms();
    if (put->running != 0 && is_held_up(put, now_ms)) {
        cancel_running(put);
    }
    if (now_ms >= put->retry_ms) {
        allow_all(put);
    }
    return now_ms;
}

/* Too many nodes are full for min_write, whatever the others do. */
static bool is_full(const struct put *put)
{
    uint32_t n_possible = put->writer->n_blocks - count_bits(put->full);

    return n_possible < put->writer->policy.min_write;
}

static int put_error(const struct put *put)
{
    return put->full != 0 ? -ENOSPC : object_writer_error(put->rc);
}

/* Wait for nodes to come back, then allow all of them again. Returns the time
 * afterwards. */
static int64_t next_round(struct put *put, int64_t now_ms)
{
    struct block_io *io = put->writer->objio->config.io;

    (void)io->wait(io, put->queue,
                   earlier(now_ms + put->pause_ms, put->deadline_ms));
    put->pause_ms = objio_longer_pause(put->pause_ms);
    put->full = 0;
    allow_all(put);
    return clock_mono_ms();
}

static int store(struct put *put)
{
    int64_t now_ms = clock_mono_ms();

    for (;;) {
        if (now_ms < put->deadline_ms) {
            start_puts(put, false);
        }
        if (now_ms < put->deadline_ms && put->running == 0 && !is_enough(put)) {
            start_puts(put, true);
        }
        if (put->running != 0) {
            now_ms = wait_for_puts(put, now_ms);
        } else if (is_enough(put)) {
            return 0;
        } else if (is_full(put) || now_ms >= put->deadline_ms) {
            return put_error(put);
        } else {
            now_ms = next_round(put, now_ms);
        }
    }
}

int object_writer_put(struct object_writer *writer,
                      uint32_t stripe,
                      struct buf *buf,
                      size_t length)
{
    const struct objio_config *config = &writer->objio->config;
    size_t capacity = (size_t)writer->policy.k * writer->policy.unit;
    struct put put; /* big: arrays are set when used */
    int rc;

    if (length == 0 || length > capacity ||
        stripe * (uint64_t)capacity + length > OBJECT_SIZE_MAX ||
        buf->size < objio_stripe_buf_size(&writer->policy)) {
        return -EINVAL;
    }
    memset(&put, 0, offsetof(struct put, ops));
    put.writer = writer;
    put.queue = config->io->queue(config->io);
    put.buf = buf;
    put.stripe = stripe;
    put.block_size = stripe_block_size((uint32_t)length, writer->policy.k);
    put.n_units = (uint32_t)checksum_units(put.block_size);
    put.deadline_ms = clock_mono_ms() + config->timeout_ms;
    put.pause_ms = RETRY_MS_MIN;
    put.straggler_ms = INT64_MAX;
    put.retry_ms = INT64_MAX;
    put.rc = -EHOSTUNREACH;
    put.checksums =
        malloc((size_t)put.n_units * writer->n_blocks * sizeof *put.checksums);
    if (put.queue == NULL || put.checksums == NULL) {
        free(put.checksums);
        return -ENOMEM;
    }
    rc = reserve(writer, stripe);
    if (rc == 0) {
        encode(&put, length);
        rc = store(&put);
    }
    if (rc == 0) {
        record(&put);
    }
    free(put.checksums);
    return rc;
}
