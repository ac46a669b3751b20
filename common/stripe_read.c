#include "common/stripe_read.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"

#define NEVER_MS     INT64_MAX
#define EC_MEM_ALIGN 16u /* what ec.h asks of block pointers */
#define SLOT_ALIGN   64u

/* Reads up to this size have their own average. */
#define SMALL_READ_MAX (16u << 10)

#define HEDGE_FACTOR 4 /* slow: this many times the average */

static uint32_t n_blocks(const struct stripe_read *read)
{
    const struct object_info *object = read->context->object;

    return object->k + object->m;
}

static struct block_io *io_of(const struct stripe_read *read)
{
    return read->context->objio->config.io;
}

static uint64_t *average_of(const struct stripe_read *read)
{
    return &read->context->objio->latency_us[read->length > SMALL_READ_MAX];
}

/* The range of a data block that the caller wants. */
static struct block_range wanted_range(const struct stripe_read *read,
                                       uint32_t index)
{
    return stripe_block_range(read->block_size, index, read->start,
                              read->length);
}

/* Where the wanted bytes of a data block go. */
static uint8_t *wanted_target(const struct stripe_read *read,
                              uint32_t index,
                              struct block_range range)
{
    return read->target +
           ((size_t)index * read->block_size + range.start - read->start);
}

static bool is_same_range(struct block_range a, struct block_range b)
{
    return a.start == b.start && a.length == b.length;
}

/* How many nodes may hold block `index`: its home and the spares. */
static uint32_t n_places(const struct stripe_read *read, uint32_t index)
{
    uint32_t n_nodes = read->context->n_nodes;
    uint32_t n_spares = n_nodes > n_blocks(read) ? n_nodes - n_blocks(read) : 0;

    return index < n_nodes ? 1 + n_spares : 0;
}

/* The node at the block's next place. */
static uint32_t place_node(const struct stripe_read *read, uint32_t index)
{
    uint32_t place = read->places[index];

    return read->context
        ->nodes[place == 0 ? index : n_blocks(read) + place - 1];
}

static bool is_place_up(const struct stripe_read *read, uint32_t index)
{
    struct block_io *io = io_of(read);

    return io->is_up(io, place_node(read, index));
}

static uint8_t *slot_of(struct stripe_read *read, uint32_t index)
{
    if (read->slots[index] == NULL) {
        size_t size = (read->hull.length + SLOT_ALIGN - 1) / SLOT_ALIGN;

        read->slots[index] = aligned_alloc(SLOT_ALIGN, size * SLOT_ALIGN);
    }
    return read->slots[index];
}

static void cancel_running(struct stripe_read *read)
{
    struct block_io *io = io_of(read);

    for (uint32_t i = 0; i < n_blocks(read); i++) {
        if (read->running & 1u << i) {
            io->cancel(io, &read->ops[i]);
        }
    }
}

static void end_fetching(struct stripe_read *read, int rc)
{
    read->phase = STRIPE_READ_ENDING;
    read->rc = rc;
    cancel_running(read);
}

static void take_bytes(struct stripe_read *read, const struct block_op *op)
{
    uint32_t index = op->key.index;
    uint32_t bit = 1u << index;
    struct block_range got = { op->offset, op->length };

    if (is_same_range(got, read->hull)) {
        read->have |= bit;
        read->sources[index] = op->target;
    }
    if (read->wanted & ~read->delivered & bit) {
        struct block_range range = wanted_range(read, index);
        uint8_t *target = wanted_target(read, index, range);

        if (op->target != target) {
            memcpy(target, op->target + (range.start - op->offset),
                   range.length);
        }
        read->delivered |= bit;
    }
    OBJIO_COUNT(read->context->objio, blocks_got);
}

static void next_place(struct stripe_read *read, const struct block_op *op)
{
    uint32_t index = op->key.index;
    uint32_t bit = 1u << index;

    if (objio_is_passing(op->rc)) {
        read->unsure |= bit;
        read->away_rc = op->rc;
    } else if (op->rc != -ENOENT) {
        OBJIO_COUNT(read->context->objio, blocks_damaged);
        log_debug("unreadable block object=%016llx:%llx stripe=%u index=%u "
                  "node=%u error=%s",
                  (unsigned long long)op->key.object.session,
                  (unsigned long long)op->key.object.serial, op->key.stripe,
                  index, op->node, err_text(op->rc));
    }
    read->places[index]++;
    if (read->places[index] >= n_places(read, index)) {
        *(read->unsure & bit ? &read->away : &read->lost) |= bit;
    }
}

static void fetch_done(struct block_op *op)
{
    struct stripe_read *read = op->context;
    uint32_t bit = 1u << op->key.index;

    assert(read->running & bit);
    read->running &= ~bit;
    read->slow &= ~bit;
    read->context->n_running--;
    if (op->rc == 0 && op->result_length != op->length) {
        op->rc = -EBADMSG; /* the block is shorter than the stripe's are */
    }
    if (op->rc == 0) {
        take_bytes(read, op);
    } else if (read->phase == STRIPE_READ_FETCHING) {
        next_place(read, op);
    }
}

/* Start fetching `range` of a block from its next place. */
static void fetch(struct stripe_read *read,
                  uint32_t index,
                  struct block_range range)
{
    struct read_context *context = read->context;
    struct block_io *io = io_of(read);
    struct block_op *op = &read->ops[index];
    uint32_t bit = 1u << index;
    uint8_t *target;

    if ((read->wanted & bit) &&
        is_same_range(range, wanted_range(read, index))) {
        target = wanted_target(read, index, range);
    } else {
        target = slot_of(read, index);
        if (target == NULL) {
            end_fetching(read, -ENOMEM);
            return;
        }
        target += range.start - read->hull.start;
    }
    memset(op, 0, sizeof *op);
    op->type = BLOCK_GET;
    op->node = place_node(read, index);
    op->key.object = context->object->id;
    op->key.stripe = read->stripe;
    op->key.index = index;
    op->offset = range.start;
    op->length = range.length;
    op->target = target;
    op->deadline_ms = context->deadline_ms;
    op->done = fetch_done;
    op->context = read;
    read->running |= bit;
    read->whole &= ~bit;
    read->whole |= is_same_range(range, read->hull) ? bit : 0;
    context->n_running++;
    io->start(io, context->queue, op);
}

/* The block to ask next for a rebuild, or -1: homes before spares, nodes that
 * are up before those that are not, wanted blocks before others. */
static int next_candidate(const struct stripe_read *read)
{
    uint32_t out = read->have | read->running | read->away | read->lost;
    uint32_t missing = read->wanted & ~read->delivered;
    int best = -1;
    int best_cost = 8;

    for (uint32_t i = 0; i < n_blocks(read); i++) {
        int cost;

        if (out & 1u << i) {
            continue;
        }
        cost = (is_place_up(read, i) ? 0 : 4) + (read->places[i] > 0 ? 2 : 0) +
               (missing & 1u << i ? 0 : 1);
        if (cost < best_cost) {
            best = (int)i;
            best_cost = cost;
        }
    }
    return best;
}

static void set_slow_time(struct stripe_read *read, int64_t now_ms)
{
    int64_t hedge_ms = read->context->objio->config.hedge_ms;
    uint64_t average_us = __atomic_load_n(average_of(read), __ATOMIC_RELAXED);
    int64_t usual_ms = (int64_t)(average_us / 1000) * HEDGE_FACTOR;

    read->slow_ms = hedge_ms <= 0
                        ? NEVER_MS
                        : now_ms + (hedge_ms > usual_ms ? hedge_ms : usual_ms);
}

/* Fetch as many more hulls as a rebuild needs, if there are that many. */
static void fetch_for_rebuild(struct stripe_read *read, int64_t now_ms)
{
    uint32_t k = read->context->object->k;
    uint32_t coming = read->have | (read->running & read->whole & ~read->slow);

    for (uint32_t n = count_bits(coming); n < k; n++) {
        int index = next_candidate(read);

        if (index < 0) {
            break;
        }
        fetch(read, (uint32_t)index, read->hull);
        if (read->phase != STRIPE_READ_FETCHING) {
            break;
        }
        set_slow_time(read, now_ms);
    }
}

/* Nothing runs as it should and nothing could be started: hopeless, or wait for
 * nodes. */
static void pause_or_fail(struct stripe_read *read, int64_t now_ms)
{
    if (n_blocks(read) - count_bits(read->lost) < read->context->object->k) {
        end_fetching(read, -EIO);
    } else if (read->retry_ms == NEVER_MS) {
        read->retry_ms = now_ms + read->pause_ms;
        read->pause_ms = objio_longer_pause(read->pause_ms);
    }
}

static void retry_away(struct stripe_read *read)
{
    for (uint32_t i = 0; i < n_blocks(read); i++) {
        if (read->away & 1u << i) {
            read->places[i] = 0;
        }
    }
    read->unsure &= ~read->away;
    read->away = 0;
    read->retry_ms = NEVER_MS;
}

static int away_error(const struct stripe_read *read)
{
    switch (read->away_rc) {
    case -EHOSTUNREACH:
    case -ENOMEM:
        return read->away_rc;
    case -ESTALE:
        return -EHOSTUNREACH;
    default:
        return -ETIMEDOUT;
    }
}

static void advance(struct stripe_read *read, int64_t now_ms)
{
    uint32_t missing = read->wanted & ~read->delivered;

    if (missing == 0 || count_bits(read->have) >= read->context->object->k) {
        end_fetching(read, 0);
        return;
    }
    if (now_ms >= read->context->deadline_ms) {
        end_fetching(read, away_error(read));
        return;
    }
    if (now_ms >= read->slow_ms) {
        read->slow |= read->running;
        read->slow_ms = NEVER_MS;
    }
    if (now_ms >= read->retry_ms) {
        retry_away(read);
    }
    if (missing & (~read->running | read->slow)) {
        fetch_for_rebuild(read, now_ms);
    }
    if ((read->running & ~read->slow) == 0 &&
        read->phase == STRIPE_READ_FETCHING) {
        pause_or_fail(read, now_ms);
    }
}

/* A pointer to the hull of a block that ec may use; NULL when out of memory. */
static uint8_t *aligned_source(struct stripe_read *read, uint32_t index)
{
    uint8_t *source = read->sources[index];

    if ((uintptr_t)source % EC_MEM_ALIGN != 0) {
        uint8_t *slot = slot_of(read, index);

        if (slot != NULL) {
            memcpy(slot, source, read->hull.length);
        }
        source = slot;
    }
    return source;
}

/* Where to rebuild the hull of a wanted block: in place where that fits. */
static uint8_t *rebuild_target(struct stripe_read *read, uint32_t index)
{
    struct block_range range = wanted_range(read, index);
    uint8_t *target = wanted_target(read, index, range);

    if (is_same_range(range, read->hull) &&
        (uintptr_t)target % EC_MEM_ALIGN == 0) {
        return target;
    }
    return slot_of(read, index);
}

static int rebuild(struct stripe_read *read, uint32_t missing)
{
    uint8_t *blocks[EC_BLOCKS_MAX] = { NULL };
    int rc;

    for (uint32_t i = 0; i < n_blocks(read); i++) {
        uint32_t bit = 1u << i;

        if ((read->have | missing) & bit) {
            blocks[i] = read->have & bit ? aligned_source(read, i)
                                         : rebuild_target(read, i);
            if (blocks[i] == NULL) {
                return -ENOMEM;
            }
        }
    }
    rc = ec_decode(read->context->codec, blocks, read->have, missing,
                   read->hull.length);
    if (rc != 0) {
        return rc;
    }
    for (uint32_t i = 0; i < read->context->object->k; i++) {
        if ((missing & 1u << i) && blocks[i] == read->slots[i]) {
            struct block_range range = wanted_range(read, i);

            memcpy(wanted_target(read, i, range),
                   blocks[i] + (range.start - read->hull.start), range.length);
        }
    }
    OBJIO_COUNT(read->context->objio, reads_degraded);
    return 0;
}

/* Learn how long a read takes that nothing had to be rebuilt for. Rebuilt ones
 * would teach a hung node's slowness as the usual. */
static void learn_latency(struct stripe_read *read, int64_t now_ms)
{
    uint64_t *average = average_of(read);
    int64_t old = (int64_t)__atomic_load_n(average, __ATOMIC_RELAXED);
    int64_t took_us = (now_ms - read->begin_ms) * 1000;
    int64_t new = old + (took_us - old) / 8;

    __atomic_store_n(average, (uint64_t) new, __ATOMIC_RELAXED);
}

static void finish(struct stripe_read *read, int64_t now_ms)
{
    uint32_t missing = read->wanted & ~read->delivered;

    if (read->rc == 0 && missing != 0) {
        read->rc = rebuild(read, missing);
    } else if (read->rc == 0) {
        learn_latency(read, now_ms);
    }
    read->phase = STRIPE_READ_DONE;
}

bool stripe_read_step(struct stripe_read *read, int64_t now_ms)
{
    if (read->phase == STRIPE_READ_FETCHING) {
        advance(read, now_ms);
    }
    if (read->phase == STRIPE_READ_ENDING && read->running == 0) {
        finish(read, now_ms);
    }
    return read->phase == STRIPE_READ_DONE;
}

void stripe_read_abort(struct stripe_read *read, int rc)
{
    if (read->phase == STRIPE_READ_FETCHING) {
        end_fetching(read, rc);
    }
}

int64_t stripe_read_wake_ms(const struct stripe_read *read)
{
    if (read->phase == STRIPE_READ_FETCHING) {
        return earlier(read->slow_ms, read->retry_ms);
    }
    return read->running == 0 ? 0 : NEVER_MS;
}

/* Find the wanted blocks, their hull and the blocks without any place. */
static void plan(struct stripe_read *read)
{
    const struct object_info *object = read->context->object;
    uint32_t first, last;

    read->block_size = stripe_block_size(
        stripe_length(object->size, object->k, object->unit, read->stripe),
        object->k);
    first = read->start / read->block_size;
    last = (read->start + read->length - 1) / read->block_size;
    read->wanted = bit_mask(last + 1) & ~bit_mask(first);
    if (first == last) {
        read->hull =
            block_range_widen(wanted_range(read, first), read->block_size);
    } else {
        read->hull.start = 0;
        read->hull.length = read->block_size;
    }
    for (uint32_t i = 0; i < n_blocks(read); i++) {
        read->lost |= n_places(read, i) == 0 ? 1u << i : 0;
    }
}

void stripe_read_begin(struct stripe_read *read,
                       struct read_context *context,
                       int64_t now_ms)
{
    read->context = context;
    read->phase = STRIPE_READ_FETCHING;
    read->rc = 0;
    read->delivered = read->have = read->running = read->whole = 0;
    read->slow = read->away = read->lost = read->unsure = 0;
    read->away_rc = 0;
    read->begin_ms = now_ms;
    read->retry_ms = NEVER_MS;
    read->pause_ms = RETRY_MS_MIN;
    memset(read->places, 0, sizeof read->places);
    memset(read->slots, 0, sizeof read->slots);
    plan(read);
    set_slow_time(read, now_ms);
    for (uint32_t i = 0; i < context->object->k; i++) {
        if ((read->wanted & ~read->lost & 1u << i) &&
            read->phase == STRIPE_READ_FETCHING && is_place_up(read, i)) {
            fetch(read, i,
                  block_range_widen(wanted_range(read, i), read->block_size));
        }
    }
    (void)stripe_read_step(read, now_ms);
}

void stripe_read_close(struct stripe_read *read)
{
    assert(read->phase == STRIPE_READ_DONE);
    for (uint32_t i = 0; i < n_blocks(read); i++) {
        free(read->slots[i]);
    }
}
