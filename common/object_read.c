#include <assert.h>
#include <errno.h>
#include <stddef.h>

#include "common/clock.h"
#include "common/stripe_read.h"

/* Bounds of what one call has under way. */
#define STRIPES_IN_FLIGHT 4u
#define BLOCKS_IN_FLIGHT  24u

/* One call of objio_read(): a window of stripes moves over the range. */
struct object_read {
    struct read_context context;
    uint64_t next;   /* offset in the object where the next stripe begins */
    uint64_t end;    /* of the range */
    uint8_t *target; /* borrowed: where byte `next` goes */
    int rc;          /* the first failure */
    uint32_t active; /* bit i: stripes[i] is in use */
    struct stripe_read stripes[STRIPES_IN_FLIGHT];
};

static bool is_info_valid(const struct object_info *object)
{
    return stripe_is_valid(object->k, object->unit) && object->m <= EC_M_MAX &&
           object->size >= 1 && object->size <= OBJECT_SIZE_MAX;
}

static bool has_room(const struct object_read *read)
{
    return read->active == 0 ||
           (read->active != bit_mask(STRIPES_IN_FLIGHT) &&
            read->context.n_running + read->context.object->k <=
                BLOCKS_IN_FLIGHT);
}

static void begin_stripe(struct object_read *read, int64_t now_ms)
{
    const struct object_info *object = read->context.object;
    uint32_t slot = (uint32_t)__builtin_ctz(~read->active);
    struct stripe_read *stripe = &read->stripes[slot];
    uint32_t capacity = object->k * object->unit;
    uint32_t start = (uint32_t)(read->next % capacity);
    uint64_t length = read->end - read->next;

    if (length > capacity - start) {
        length = capacity - start;
    }
    stripe->stripe = (uint32_t)(read->next / capacity);
    stripe->start = start;
    stripe->length = (uint32_t)length;
    stripe->target = read->target;
    read->active |= 1u << slot;
    read->next += length;
    read->target += length;
    stripe_read_begin(stripe, &read->context, now_ms);
}

static void fail(struct object_read *read, int rc)
{
    read->rc = rc;
    read->next = read->end;
    for (uint32_t i = 0; i < STRIPES_IN_FLIGHT; i++) {
        if (read->active & 1u << i) {
            stripe_read_abort(&read->stripes[i], rc);
        }
    }
}

/* Step the active stripes; release those that are done. */
static void step_stripes(struct object_read *read, int64_t now_ms)
{
    for (uint32_t i = 0; i < STRIPES_IN_FLIGHT; i++) {
        struct stripe_read *stripe = &read->stripes[i];

        if ((read->active & 1u << i) && stripe_read_step(stripe, now_ms)) {
            read->active &= ~(1u << i);
            stripe_read_close(stripe);
            if (stripe->rc != 0 && read->rc == 0) {
                fail(read, stripe->rc);
            }
        }
    }
}

static void wait_for_transfers(struct object_read *read, int64_t now_ms)
{
    struct block_io *io = read->context.objio->config.io;
    int64_t wake_ms = read->context.deadline_ms;

    if (wake_ms <= now_ms) {
        wake_ms = now_ms + RETRY_MS_MAX; /* only cancelled transfers are left */
    }
    for (uint32_t i = 0; i < STRIPES_IN_FLIGHT; i++) {
        if (read->active & 1u << i) {
            wake_ms = earlier(wake_ms, stripe_read_wake_ms(&read->stripes[i]));
        }
    }
    (void)io->wait(io, read->context.queue, wake_ms);
}

static int run(struct object_read *read, int64_t now_ms)
{
    while (read->next < read->end || read->active != 0) {
        while (read->next < read->end && has_room(read)) {
            begin_stripe(read, now_ms);
        }
        wait_for_transfers(read, now_ms);
        now_ms = clock_mono_ms();
        step_stripes(read, now_ms);
    }
    assert(read->context.n_running == 0);
    return read->rc;
}

int objio_read(struct objio *objio,
               const struct object_info *object,
               uint64_t offset,
               size_t length,
               uint8_t *target)
{
    const struct objio_config *config = &objio->config;
    int64_t now_ms = clock_mono_ms();
    struct object_read read; /* big: only what is used is set */
    int rc;

    if (!is_info_valid(object) || offset > object->size ||
        length > object->size - offset) {
        return -EINVAL;
    }
    rc = objio_codec(objio, object->k, object->m, &read.context.codec);
    if (rc != 0) {
        return rc;
    }
    read.context.objio = objio;
    read.context.object = object;
    read.context.nodes = placement_nodes(config->placement, &object->id);
    read.context.n_nodes = placement_width(config->placement);
    read.context.n_running = 0;
    read.context.queue = config->io->queue(config->io);
    read.context.deadline_ms = now_ms + config->timeout_ms;
    read.next = offset;
    read.end = offset + length;
    read.target = target;
    read.rc = 0;
    read.active = 0;
    if (read.context.queue == NULL) {
        return -ENOMEM;
    }
    return run(&read, now_ms);
}
