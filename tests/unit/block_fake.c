#include "tests/unit/block_fake.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/checksum.h"
#include "common/clock.h"

#define N_BUCKETS   256u
#define N_SCHEDULED 8u

struct fake_block {
    struct fake_block *next; /* of the bucket */
    struct block_key key;
    uint32_t length;
    bool is_synced;
    uint8_t *data;       /* owned */
    uint32_t *checksums; /* owned */
};

struct fake_node {
    enum fake_mode mode;
    int64_t delay_ms;
    uint64_t instance;
    uint32_t n_blocks;
    struct fake_block *buckets[N_BUCKETS]; /* owned */
};

/* A transfer under way. */
struct pending {
    struct pending *next;
    struct block_op *op; /* borrowed */
    int64_t ready_ms;
    bool is_cancelled;
    bool is_hung;
};

struct scheduled {
    int64_t at_ms; /* 0: unused */
    uint32_t node;
    enum fake_mode mode;
};

struct block_fake {
    struct block_io io; /* first: the vtable leads back here */
    uint64_t random;
    uint32_t n_nodes;
    struct fake_node nodes[FAKE_NODES_MAX + 1]; /* by id */
    struct pending *pending;                    /* owned */
    struct scheduled scheduled[N_SCHEDULED];
    uint64_t started[BLOCK_SYNC + 1];
};

static struct block_fake *fake_of(struct block_io *io)
{
    return (struct block_fake *)(void *)io;
}

static uint64_t next_random(struct block_fake *fake)
{
    fake->random ^= fake->random << 13;
    fake->random ^= fake->random >> 7;
    fake->random ^= fake->random << 17;
    return fake->random;
}

static struct fake_block **find(struct fake_node *node,
                                const struct block_key *key)
{
    uint64_t hash =
        key->object.serial * 31 + (uint64_t)key->stripe * 7 + key->index;
    struct fake_block **link = &node->buckets[hash % N_BUCKETS];

    while (*link != NULL && block_key_compare(&(*link)->key, key) != 0) {
        link = &(*link)->next;
    }
    return link;
}

static void remove_block(struct fake_node *node, struct fake_block **link)
{
    struct fake_block *block = *link;

    *link = block->next;
    free(block->data);
    free(block->checksums);
    free(block);
    node->n_blocks--;
}

static void remove_blocks(struct fake_node *node, bool even_synced)
{
    for (uint32_t i = 0; i < N_BUCKETS; i++) {
        struct fake_block **link = &node->buckets[i];

        while (*link != NULL) {
            if (even_synced || !(*link)->is_synced) {
                remove_block(node, link);
            } else {
                link = &(*link)->next;
            }
        }
    }
}

static void *duplicate(const void *bytes, size_t size)
{
    void *copy = malloc(size);

    assert(copy != NULL);
    memcpy(copy, bytes, size);
    return copy;
}

static int do_put(struct fake_node *node, const struct block_op *op)
{
    const uint8_t *data = op->buf->data + op->buf_offset;
    struct fake_block **link = find(node, &op->key);
    struct fake_block *block = *link;

    assert(op->buf_offset + op->length <= op->buf->size);
    if (checksum_verify(data, op->length, op->checksums) >= 0) {
        return -EBADMSG;
    }
    if (block != NULL) {
        return block->length == op->length &&
                       memcmp(block->data, data, op->length) == 0
                   ? 0
                   : -EEXIST;
    }
    block = calloc(1, sizeof *block);
    assert(block != NULL);
    block->key = op->key;
    block->length = op->length;
    block->data = duplicate(data, op->length);
    block->checksums =
        duplicate(op->checksums, checksum_units(op->length) * sizeof(uint32_t));
    *link = block;
    node->n_blocks++;
    return 0;
}

static int do_get(struct fake_node *node, struct block_op *op)
{
    const struct fake_block *block = *find(node, &op->key);
    uint32_t length = op->length;

    assert(op->offset % CHECKSUM_UNIT == 0);
    if (block == NULL) {
        return -ENOENT;
    }
    if (op->offset >= block->length) {
        return -EPROTO;
    }
    if (length > block->length - op->offset) {
        length = block->length - op->offset;
    }
    assert(length % CHECKSUM_UNIT == 0 || op->offset + length == block->length);
    memcpy(op->target, block->data + op->offset, length);
    op->result_length = length;
    return checksum_verify(op->target, length,
                           block->checksums + op->offset / CHECKSUM_UNIT) < 0
               ? 0
               : -EBADMSG;
}

static int do_sync(struct fake_node *node)
{
    for (uint32_t i = 0; i < N_BUCKETS; i++) {
        for (struct fake_block *b = node->buckets[i]; b != NULL; b = b->next) {
            b->is_synced = true;
        }
    }
    return 0;
}

static int act(struct fake_node *node, struct block_op *op)
{
    op->result_instance = node->instance;
    switch (node->mode) {
    case FAKE_DOWN:
    case FAKE_UNSEEN:
        return -EHOSTUNREACH;
    case FAKE_HUNG:
        return -ETIMEDOUT;
    case FAKE_BROKEN:
        return -EIO;
    case FAKE_FULL:
        if (op->type == BLOCK_PUT) {
            return -ENOSPC;
        }
        break;
    case FAKE_UP:
        break;
    }
    switch (op->type) {
    case BLOCK_PUT:
        return do_put(node, op);
    case BLOCK_GET:
        return do_get(node, op);
    default:
        return do_sync(node);
    }
}

static void finish(struct block_fake *fake, struct pending **link)
{
    struct pending *pending = *link;
    struct block_op *op = pending->op;
    struct fake_node *node = &fake->nodes[op->node];

    *link = pending->next;
    if (pending->is_hung) {
        op->rc = -ETIMEDOUT;
    } else if (!pending->is_cancelled || next_random(fake) % 2 == 0) {
        op->rc = act(node, op);
    }
    if (pending->is_cancelled && next_random(fake) % 2 == 0) {
        op->rc = -ECANCELED; /* though it may have been done */
    }
    if (op->type == BLOCK_PUT) {
        buf_unref(op->buf);
    }
    free(pending);
    op->done(op);
}

static void fake_start(struct block_io *io,
                       struct block_queue *queue,
                       struct block_op *op)
{
    struct block_fake *fake = fake_of(io);
    struct fake_node *node = &fake->nodes[op->node];
    struct pending *pending = calloc(1, sizeof *pending);

    (void)queue;
    assert(pending != NULL && op->node >= 1 && op->node <= fake->n_nodes);
    pending->op = op;
    pending->is_hung = node->mode == FAKE_HUNG;
    pending->ready_ms = clock_mono_ms() + node->delay_ms;
    if (pending->is_hung || pending->ready_ms > op->deadline_ms) {
        pending->is_hung = true;
        pending->ready_ms = op->deadline_ms;
    }
    op->rc = -ECANCELED;
    op->impl = pending;
    pending->next = fake->pending;
    fake->pending = pending;
    if (op->type == BLOCK_PUT) {
        (void)buf_ref(op->buf);
    }
    fake->started[op->type]++;
}

static void apply_schedule(struct block_fake *fake, int64_t now_ms)
{
    for (uint32_t i = 0; i < N_SCHEDULED; i++) {
        struct scheduled *scheduled = &fake->scheduled[i];

        if (scheduled->at_ms != 0 && scheduled->at_ms <= now_ms) {
            fake->nodes[scheduled->node].mode = scheduled->mode;
            scheduled->at_ms = 0;
        }
    }
}

static void sleep_until(int64_t at_ms)
{
    struct timespec at = { at_ms / 1000, at_ms % 1000 * 1000000 };

    (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
}

/* When something may happen next. */
static int64_t next_event(const struct block_fake *fake, int64_t deadline_ms)
{
    int64_t at_ms = deadline_ms;

    for (const struct pending *p = fake->pending; p != NULL; p = p->next) {
        at_ms = p->ready_ms < at_ms ? p->ready_ms : at_ms;
    }
    for (uint32_t i = 0; i < N_SCHEDULED; i++) {
        int64_t scheduled_ms = fake->scheduled[i].at_ms;

        at_ms =
            scheduled_ms != 0 && scheduled_ms < at_ms ? scheduled_ms : at_ms;
    }
    return at_ms;
}

/* A random one of the transfers that are ready, or NULL. */
static struct pending **pick_ready(struct block_fake *fake, int64_t now_ms)
{
    struct pending **picked = NULL;
    uint64_t n = 0;

    for (struct pending **link = &fake->pending; *link != NULL;
         link = &(*link)->next) {
        if ((*link)->ready_ms <= now_ms && next_random(fake) % ++n == 0) {
            picked = link;
        }
    }
    return picked;
}

static int fake_wait(struct block_io *io,
                     struct block_queue *queue,
                     int64_t deadline_ms)
{
    struct block_fake *fake = fake_of(io);

    (void)queue;
    for (;;) {
        int64_t now_ms = clock_mono_ms();
        struct pending **ready;

        apply_schedule(fake, now_ms);
        ready = pick_ready(fake, now_ms);
        if (ready != NULL) {
            finish(fake, ready);
            return 0;
        }
        if (now_ms >= deadline_ms) {
            return -ETIMEDOUT;
        }
        sleep_until(next_event(fake, deadline_ms));
    }
}

static void fake_cancel(struct block_io *io, struct block_op *op)
{
    struct pending *pending = op->impl;

    (void)io;
    pending->is_cancelled = true;
    pending->ready_ms = 0;
}

static bool fake_is_up(struct block_io *io, uint32_t node)
{
    return fake_of(io)->nodes[node].mode != FAKE_DOWN;
}

static struct block_queue *fake_queue(struct block_io *io)
{
    return (struct block_queue *)(void *)io;
}

struct block_fake *block_fake_new(uint32_t n_nodes, uint64_t seed)
{
    struct block_fake *fake = calloc(1, sizeof *fake);

    assert(fake != NULL && n_nodes <= FAKE_NODES_MAX);
    fake->io.start = fake_start;
    fake->io.wait = fake_wait;
    fake->io.cancel = fake_cancel;
    fake->io.is_up = fake_is_up;
    fake->io.queue = fake_queue;
    fake->random = seed * 2654435769u + 1;
    fake->n_nodes = n_nodes;
    for (uint32_t node = 1; node <= n_nodes; node++) {
        fake->nodes[node].instance = (uint64_t)node * 1000;
    }
    return fake;
}

void block_fake_free(struct block_fake *fake)
{
    assert(fake->pending == NULL);
    for (uint32_t node = 1; node <= fake->n_nodes; node++) {
        remove_blocks(&fake->nodes[node], true);
    }
    free(fake);
}

struct block_io *block_fake_io(struct block_fake *fake)
{
    return &fake->io;
}

void block_fake_set_mode(struct block_fake *fake,
                         uint32_t node,
                         enum fake_mode mode)
{
    fake->nodes[node].mode = mode;
}

void block_fake_schedule(struct block_fake *fake,
                         int64_t at_ms,
                         uint32_t node,
                         enum fake_mode mode)
{
    for (uint32_t i = 0; i < N_SCHEDULED; i++) {
        if (fake->scheduled[i].at_ms == 0) {
            fake->scheduled[i].at_ms = at_ms;
            fake->scheduled[i].node = node;
            fake->scheduled[i].mode = mode;
            return;
        }
    }
    assert(!"room in the schedule");
}

void block_fake_set_delay(struct block_fake *fake, uint32_t node, int64_t ms)
{
    fake->nodes[node].delay_ms = ms;
}

void block_fake_restart(struct block_fake *fake,
                        uint32_t node,
                        bool lose_unsynced)
{
    fake->nodes[node].instance++;
    if (lose_unsynced) {
        remove_blocks(&fake->nodes[node], false);
    }
}

void block_fake_lose(struct block_fake *fake, uint32_t node)
{
    remove_blocks(&fake->nodes[node], true);
}

bool block_fake_flip(struct block_fake *fake,
                     uint32_t node,
                     const struct block_key *key,
                     uint64_t bit)
{
    struct fake_block *block = *find(&fake->nodes[node], key);

    if (block == NULL) {
        return false;
    }
    bit %= (uint64_t)block->length * 8;
    block->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    return true;
}

bool block_fake_has(const struct block_fake *fake,
                    uint32_t node,
                    const struct block_key *key)
{
    struct block_fake *unconst = (struct block_fake *)(uintptr_t)fake;

    return *find(&unconst->nodes[node], key) != NULL;
}

uint32_t block_fake_count(const struct block_fake *fake, uint32_t node)
{
    return fake->nodes[node].n_blocks;
}

uint64_t block_fake_started(const struct block_fake *fake,
                            enum block_op_type type)
{
    return fake->started[type];
}
