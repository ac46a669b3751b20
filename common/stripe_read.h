/* Reading a range of one stripe from any k of its blocks; for object_read.c.
 *
 *            all wanted bytes there, or any k blocks, or hopeless
 *   FETCHING ------------------------------------------------> ENDING
 *                                                                 | last
 *   DONE <--------------------------------------------------------+ transfer
 *                     rebuild what is still wanted                  is back
 *
 * While FETCHING, the wanted ranges of the data blocks are fetched directly. As
 * soon as one of them fails, is slow or has a home that is down, the *hull* of
 * the wanted ranges is fetched of as many other blocks as a rebuild needs:
 * coding is bytewise, so that the same range of any k blocks yields the rest.
 * ENDING cancels what still runs and waits for it: nobody writes into the
 * caller's memory after DONE. */
#pragma once

#include "common/objio_impl.h"
#include "common/stripe.h"

/* What the stripes of one objio_read() share. */
struct read_context {
    struct objio *objio;              /* borrowed */
    const struct object_info *object; /* borrowed */
    const struct ec *codec;           /* borrowed */
    const uint32_t *nodes;            /* borrowed: ids in placement order */
    uint32_t n_nodes;
    uint32_t n_running;        /* transfers under way, of all stripes */
    struct block_queue *queue; /* borrowed: the calling thread's */
    int64_t deadline_ms;       /* of the whole read */
};

enum stripe_read_phase {
    STRIPE_READ_FETCHING,
    STRIPE_READ_ENDING,
    STRIPE_READ_DONE
};

/* On the caller's storage. Masks have bit i set for block i. */
struct stripe_read {
    struct read_context *context; /* borrowed */
    enum stripe_read_phase phase;
    int rc;                  /* outcome, when DONE */
    uint8_t *target;         /* borrowed: of the whole range */
    uint32_t stripe;         /* in the object */
    uint32_t start;          /* of the range, in the stripe */
    uint32_t length;         /* of the range */
    uint32_t block_size;     /* of this stripe */
    struct block_range hull; /* of the widened wanted ranges, in a block */

    uint32_t wanted;    /* data blocks that hold wanted bytes */
    uint32_t delivered; /* wanted bytes are in target */
    uint32_t have;      /* the hull is at sources[i] */
    uint32_t running;   /* a transfer is under way */
    uint32_t whole;     /* the last transfer started asks for the hull */
    uint32_t slow;      /* it has been running for too long */
    uint32_t away;      /* every place failed, some only for now */
    uint32_t lost;      /* every place failed for good */
    uint32_t unsure;    /* some place failed only for now */
    int away_rc;        /* the last failure that may pass, 0: none yet */

    int64_t begin_ms;
    int64_t slow_ms;  /* when running transfers become slow */
    int64_t retry_ms; /* when blocks that are away are tried again */
    int64_t pause_ms; /* before the retry after that one */

    uint8_t places[EC_BLOCKS_MAX];   /* 0: home, p: spare p - 1 is next */
    uint8_t *slots[EC_BLOCKS_MAX];   /* owned: room for the hull, or NULL */
    uint8_t *sources[EC_BLOCKS_MAX]; /* borrowed: slot or part of target */
    struct block_op ops[EC_BLOCKS_MAX];
};

/* Start reading `length` bytes from `start` of the stripe into `target`. The
 * fields stripe, start, length and target are filled in by the caller. */
void stripe_read_begin(struct stripe_read *read,
                       struct read_context *context,
                       int64_t now_ms);

/* Go on as far as finished transfers and the time allow. Whether it is DONE. */
bool stripe_read_step(struct stripe_read *read, int64_t now_ms);

/* Give up with `rc`; keep stepping until DONE. */
void stripe_read_abort(struct stripe_read *read, int rc);

/* When to step next even if no transfer finishes. */
int64_t stripe_read_wake_ms(const struct stripe_read *read);

/* Release what a DONE read holds. */
void stripe_read_close(struct stripe_read *read);
