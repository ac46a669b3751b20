/* Making an object's blocks durable.
 *
 * Every node that took blocks is asked to sync. If it is the same process that
 * took them, they are durable then. If it has started anew since, each block is
 * asked for: what it still has is durable, for SYNC covers all that it has. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/checksum.h"
#include "common/clock.h"
#include "common/object_writer.h"

#define CHECKS_IN_FLIGHT 16u

/* One call of object_writer_sync(). Masks have bit i set for node i of the
 * object's list. */
struct sync {
    struct object_writer *writer; /* borrowed */
    struct block_queue *queue;    /* borrowed */
    int64_t deadline_ms;
    int64_t straggler_ms; /* when nodes still busy are given up */
    uint32_t running;     /* nodes, while they sync */
    uint32_t failed;      /* nodes that did not, in this round */
    uint32_t restarted;   /* have another instance than when they took blocks */
    int rc;               /* the last failure */
    struct block_op ops[PLACEMENT_WIDTH_MAX];
};

/* Asks one node whether it has one block. */
struct check {
    struct sync *sync;     /* borrowed */
    struct placed *placed; /* borrowed */
    struct block_op op;
    uint8_t bytes[CHECKSUM_UNIT];
};

static size_t n_placed(const struct object_writer *writer)
{
    return (size_t)writer->n_stripes * writer->n_blocks;
}

/* Whether entry `i` of writer->placed waits to become durable. */
static bool is_waiting(const struct object_writer *writer, size_t i)
{
    return writer->is_put[i / writer->n_blocks] &&
           writer->placed[i].state == PLACED_STORED;
}

/* The fewest blocks of any stripe whose state is one of the bits `states`. */
static uint32_t fewest_blocks(const struct object_writer *writer,
                              uint32_t states)
{
    uint32_t fewest = writer->n_blocks;

    for (uint32_t stripe = 0; stripe < writer->n_stripes; stripe++) {
        const struct placed *placed =
            writer->placed + (size_t)stripe * writer->n_blocks;
        uint32_t n = 0;

        if (!writer->is_put[stripe]) {
            continue;
        }
        for (uint32_t i = 0; i < writer->n_blocks; i++) {
            n += states >> placed[i].state & 1;
        }
        if (n < fewest) {
            fewest = n;
        }
    }
    return fewest;
}

static bool is_enough(const struct object_writer *writer)
{
    return fewest_blocks(writer, 1u << PLACED_DURABLE) >=
           writer->policy.min_write;
}

static bool is_hopeless(const struct object_writer *writer)
{
    return fewest_blocks(writer, 1u << PLACED_DURABLE | 1u << PLACED_STORED) <
           writer->policy.min_write;
}

/* Bit i set: block i of some stripe has one of the states. */
static uint32_t blocks_in(const struct object_writer *writer, uint32_t states)
{
    uint32_t blocks = 0;

    for (size_t i = 0; i < n_placed(writer); i++) {
        if (writer->is_put[i / writer->n_blocks] &&
            (states >> writer->placed[i].state & 1)) {
            blocks |= 1u << i % writer->n_blocks;
        }
    }
    return blocks;
}

/* The node has synced: its blocks are durable if it is still the process that
 * took them. */
static void note_synced(struct sync *sync, uint32_t node, uint64_t instance)
{
    struct object_writer *writer = sync->writer;

    for (size_t i = 0; i < n_placed(writer); i++) {
        struct placed *placed = &writer->placed[i];

        if (!is_waiting(writer, i) || placed->node != node) {
            continue;
        }
        if (placed->instance == instance) {
            placed->state = PLACED_DURABLE;
        } else {
            sync->restarted |= 1u << node;
        }
    }
}

static void sync_done(struct block_op *op)
{
    struct sync *sync = op->context;
    uint32_t node = (uint32_t)(op - sync->ops);

    assert(sync->running & 1u << node);
    sync->running &= ~(1u << node);
    if (op->rc == 0) {
        note_synced(sync, node, op->result_instance);
    } else {
        sync->failed |= 1u << node;
        sync->rc = op->rc;
    }
}

static void start_syncs(struct sync *sync)
{
    struct object_writer *writer = sync->writer;
    struct block_io *io = writer->objio->config.io;

    for (size_t i = 0; i < n_placed(writer); i++) {
        uint32_t node;
        struct block_op *op;

        if (!is_waiting(writer, i)) {
            continue;
        }
        node = writer->placed[i].node;
        op = &sync->ops[node];
        if (sync->running & 1u << node) {
            continue;
        }
        memset(op, 0, sizeof *op);
        op->type = BLOCK_SYNC;
        op->node = writer->nodes[node];
        op->deadline_ms = sync->deadline_ms;
        op->done = sync_done;
        op->context = sync;
        sync->running |= 1u << node;
        io->start(io, sync->queue, op);
    }
}

static void cancel_syncs(struct sync *sync)
{
    struct block_io *io = sync->writer->objio->config.io;

    for (uint32_t node = 0; node < sync->writer->n_nodes; node++) {
        if (sync->running & 1u << node) {
            io->cancel(io, &sync->ops[node]);
        }
    }
}

/* SYNC to every node with blocks that are not durable. Wait for all, but for
 * stragglers only so long when the object can do without them. When it cannot,
 * and others failed or have started anew, leave those that still run after
 * `pause_ms`, so that something is done about the others. */
static void sync_nodes(struct sync *sync, int64_t pause_ms)
{
    struct block_io *io = sync->writer->objio->config.io;
    int64_t now_ms = clock_mono_ms();
    int64_t leave_ms = now_ms + pause_ms;

    sync->failed = 0;
    start_syncs(sync);
    while (sync->running != 0) {
        int64_t until_ms;
        bool may_leave;

        if (sync->straggler_ms == INT64_MAX && is_enough(sync->writer)) {
            sync->straggler_ms = now_ms + SYNC_GRACE_MS;
        }
        until_ms = earlier(sync->straggler_ms, sync->deadline_ms);
        may_leave = sync->straggler_ms == INT64_MAX &&
                    (sync->failed | sync->restarted) != 0;
        if (now_ms >= until_ms) {
            cancel_syncs(sync);
            until_ms = now_ms + RETRY_MS_MAX;
        } else if (may_leave && now_ms >= leave_ms) {
            break;
        } else if (may_leave) {
            until_ms = earlier(until_ms, leave_ms);
        }
        (void)io->wait(io, sync->queue, until_ms);
        now_ms = clock_mono_ms();
    }
}

/* Give up the nodes that still sync. */
static void end_syncs(struct sync *sync)
{
    struct block_io *io = sync->writer->objio->config.io;

    cancel_syncs(sync);
    while (sync->running != 0) {
        (void)io->wait(io, sync->queue, clock_mono_ms() + RETRY_MS_MAX);
    }
}

static void check_done(struct block_op *op)
{
    struct check *check = op->context;
    struct placed *placed = check->placed;

    if (op->rc == 0) {
        placed->state = PLACED_DURABLE;
    } else if (objio_is_passing(op->rc)) {
        check->sync->rc = op->rc;
    } else {
        placed->state = PLACED_LOST;
    }
    check->placed = NULL;
}

static void start_check(struct sync *sync, struct check *check, size_t i)
{
    struct object_writer *writer = sync->writer;
    struct block_io *io = writer->objio->config.io;
    struct block_op *op = &check->op;

    check->sync = sync;
    check->placed = &writer->placed[i];
    memset(op, 0, sizeof *op);
    op->type = BLOCK_GET;
    op->node = writer->nodes[check->placed->node];
    op->key.object = writer->id;
    op->key.stripe = (uint32_t)(i / writer->n_blocks);
    op->key.index = (uint32_t)(i % writer->n_blocks);
    op->length = sizeof check->bytes;
    op->target = check->bytes;
    op->deadline_ms =
        earlier(clock_mono_ms() + SYNC_GRACE_MS, sync->deadline_ms);
    op->done = check_done;
    op->context = check;
    io->start(io, sync->queue, op);
}

/* An idle slot, waiting for one as long as it takes. */
static struct check *idle_check(struct sync *sync, struct check *checks)
{
    struct block_io *io = sync->writer->objio->config.io;

    for (;;) {
        for (uint32_t i = 0; i < CHECKS_IN_FLIGHT; i++) {
            if (checks[i].placed == NULL) {
                return &checks[i];
            }
        }
        (void)io->wait(io, sync->queue, clock_mono_ms() + RETRY_MS_MAX);
    }
}

static void wait_for_checks(struct sync *sync, const struct check *checks)
{
    struct block_io *io = sync->writer->objio->config.io;

    for (uint32_t i = 0; i < CHECKS_IN_FLIGHT; i++) {
        while (checks[i].placed != NULL) {
            (void)io->wait(io, sync->queue, clock_mono_ms() + RETRY_MS_MAX);
        }
    }
}

/* Ask the nodes that have started anew for each block they took before.
 * Errors: -ENOMEM */
static int check_restarted(struct sync *sync)
{
    struct object_writer *writer = sync->writer;
    uint32_t restarted = sync->restarted;
    struct check *checks;

    if (restarted == 0) {
        return 0;
    }
    sync->restarted = 0;
    checks = calloc(CHECKS_IN_FLIGHT, sizeof *checks);
    if (checks == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < n_placed(writer); i++) {
        if (is_waiting(writer, i) &&
            (restarted & 1u << writer->placed[i].node)) {
            start_check(sync, idle_check(sync, checks), i);
        }
    }
    wait_for_checks(sync, checks);
    free(checks);
    return 0;
}

static int run(struct sync *sync)
{
    struct object_writer *writer = sync->writer;
    struct block_io *io = writer->objio->config.io;
    int64_t pause_ms = RETRY_MS_MIN;

    for (;;) {
        sync_nodes(sync, pause_ms);
        if (check_restarted(sync) != 0) {
            return -ENOMEM;
        }
        if (is_hopeless(writer)) {
            return -EIO;
        }
        if (sync->running == 0) {
            if (is_enough(writer)) {
                return 0;
            }
            (void)io->wait(
                io, sync->queue,
                earlier(clock_mono_ms() + pause_ms, sync->deadline_ms));
        }
        pause_ms = objio_longer_pause(pause_ms);
        if (clock_mono_ms() >= sync->deadline_ms) {
            return is_enough(writer) ? 0 : object_writer_error(sync->rc);
        }
    }
}

int object_writer_sync(struct object_writer *writer)
{
    const struct objio_config *config = &writer->objio->config;
    uint32_t states = 1u << PLACED_NOWHERE | 1u << PLACED_LOST;
    struct sync sync; /* big: arrays are set when used */
    int rc;

    sync.writer = writer;
    sync.queue = config->io->queue(config->io);
    sync.deadline_ms = clock_mono_ms() + config->timeout_ms;
    sync.straggler_ms = INT64_MAX;
    sync.running = 0;
    sync.restarted = 0;
    sync.rc = -ETIMEDOUT;
    if (sync.queue == NULL) {
        return -ENOMEM;
    }
    (void)pthread_mutex_lock(&writer->lock); /* no put runs; for visibility */
    (void)pthread_mutex_unlock(&writer->lock);
    rc = run(&sync);
    end_syncs(&sync);
    if (rc == 0) {
        states |= 1u << PLACED_STORED;
    }
    __atomic_store_n(&writer->missing, blocks_in(writer, states),
                     __ATOMIC_RELAXED);
    return rc;
}
