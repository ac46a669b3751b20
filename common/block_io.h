/* The seam between object I/O and the network: start block transfers to nodes,
 * wait for them. proto/block_client.h implements it over gRPC; tests put
 * fakes and faults in its place. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/object_id.h"

enum block_op_type {
    BLOCK_PUT,  /* store a block */
    BLOCK_GET,  /* read a range of a block */
    BLOCK_SYNC, /* make all earlier puts of the node durable */
};

/* One transfer. The caller's memory: zero it, fill in the first part, keep it
 * until `done` has run. */
struct block_op {
    enum block_op_type type;
    uint32_t node;             /* id of the node to ask */
    struct block_key key;      /* PUT, GET */
    struct buf *buf;           /* PUT: borrowed, referenced while in flight */
    size_t buf_offset;         /* PUT: where in buf the block starts */
    const uint32_t *checksums; /* PUT: borrowed until done: one per 4 KiB */
    uint32_t offset;     /* GET: first byte wanted in the block, a multiple
                            of CHECKSUM_UNIT */
    uint32_t length;     /* PUT: of the block; GET: bytes wanted */
    uint8_t *target;     /* GET: `length` bytes of the caller's, written
                            only before done */
    int64_t deadline_ms; /* in clock_mono_ms() */

    /* Called exactly once, from block_io_wait() on the same queue, never from
     * inside block_io_start(). */
    void (*done)(struct block_op *op);
    void *context; /* borrowed, for done */

    /* Result. GET: the bytes have passed their checksums.
     * 0, -ENOENT, -EBADMSG, -EIO, -ENOSPC, -EEXIST, -ETIMEDOUT, -EHOSTUNREACH,
     * -ESTALE, -EPROTO, -ENOMEM. */
    int rc;
    uint32_t result_length;   /* GET: bytes written to target; shorter than
                                 asked at the end of the block */
    uint64_t result_instance; /* PUT, SYNC: instance of the node's process; it
                                 changes when the node starts anew */
    void *impl;               /* the implementation's, owned by it */
};

/* Where completions arrive; used by one thread at a time. Opaque here. */
struct block_queue;

struct block_io {
    /* Start a transfer. Never fails by itself: trouble is told through done. */
    void (*start)(struct block_io *io,
                  struct block_queue *queue,
                  struct block_op *op);

    /* Run the `done` of at least one finished transfer of the queue, waiting
     * until `deadline_ms`. Errors: -ETIMEDOUT nothing finished. */
    int (*wait)(struct block_io *io,
                struct block_queue *queue,
                int64_t deadline_ms);

    /* Ask for an early end: `done` still runs, with any rc. */
    void (*cancel)(struct block_io *io, struct block_op *op);

    /* Whether the node answered lately, as far as is known without asking:
     * false lets a reader start with other blocks and a writer with spares. */
    bool (*is_up)(struct block_io *io, uint32_t node);

    /* The queue of the calling thread, made on first use, released when the
     * thread or the io ends. NULL when out of memory. */
    struct block_queue *(*queue)(struct block_io *io);
};
