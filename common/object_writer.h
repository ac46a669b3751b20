/* The object writer's record of which node took which block; for
 * object_write.c and object_sync.c. */
#pragma once

#include "common/objio_impl.h"
#include "common/stripe.h"

/* How long the last transfers may take once enough others are done. */
#define PUT_GRACE_MS  2000
#define SYNC_GRACE_MS 5000

enum placed_state {
    PLACED_NOWHERE = 0, /* no node took it */
    PLACED_STORED,      /* a node took it */
    PLACED_DURABLE,     /* and has synced it */
    PLACED_LOST         /* it was taken, but the node lost it */
};

/* Where a block of a stripe is. */
struct placed {
    uint64_t instance; /* of the node when it took the block */
    uint8_t node;      /* index into object_writer.nodes */
    uint8_t state;     /* enum placed_state */
};

struct object_writer {
    struct objio *objio;        /* borrowed */
    struct objio_policy policy; /* as checked */
    struct object_id id;
    const struct ec *codec; /* borrowed */
    const uint32_t *nodes;  /* borrowed: ids in placement order */
    uint32_t n_nodes;
    uint32_t n_blocks; /* k + m */

    pthread_mutex_t lock;  /* guards what follows */
    struct placed *placed; /* owned: n_blocks for each stripe below n_stripes */
    bool *is_put;          /* owned: by stripe, put with success */
    uint32_t n_stripes;    /* that the arrays have room for */
    uint32_t missing;      /* bit i: block i of some stripe is not stored */
};

/* The error that a caller may see for the `rc` of a put or sync. */
int object_writer_error(int rc);
