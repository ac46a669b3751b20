/* Object I/O: immutable objects as stripes, stripes as erasure-coded blocks on
 * nodes.
 *
 * A stripe holds up to k * unit bytes of the object. Only the last stripe of
 * an object may be shorter; its blocks are then ceil(length / k) bytes rounded
 * up to EC_BLOCK_ALIGN, the rest is zeros. Data block i holds the contiguous
 * bytes i * block_size .. of the stripe, so a small read touches one node.
 *
 * Thread-safe. Calls block; each thread has several transfers in flight. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/block_io.h"
#include "common/ec.h"
#include "common/placement.h"

struct objio_policy {
    uint32_t k;    /* data blocks, 1..EC_K_MAX */
    uint32_t m;    /* parity blocks, 0..EC_M_MAX */
    uint32_t unit; /* bytes of a full block: a multiple of 4096 up to 1 MiB */
    uint32_t min_write; /* blocks that must be stored, k..k+m */
};

/* An object as a reader must know it. */
struct object_info {
    struct object_id id;
    uint64_t size;    /* 1..OBJECT_SIZE_MAX */
    uint32_t k, m;    /* as written */
    uint32_t unit;    /* as written */
    uint32_t missing; /* bit i: block i of some stripe could not be stored */
};

struct objio;

struct objio_config {
    struct block_io *io;               /* borrowed for the life of the objio */
    const struct placement *placement; /* borrowed likewise */
    int64_t timeout_ms; /* a put, get or sync ends after this at the latest */
    int64_t hedge_ms;   /* a block that takes longer, and several times longer
                           than reads took lately, is also rebuilt from
                           others; 0: never hedge */
};

/* Errors: -ENOMEM */
MUST_CHECK int objio_new(const struct objio_config *config,
                         struct objio **ret_objio);
void objio_free(struct objio *objio);

/* Bytes that the buffer of objio_put_stripe() needs: data, then parity. */
size_t objio_stripe_buf_size(const struct objio_policy *policy);

/* An object being written: which nodes took which of its blocks. Its functions
 * may be called by several threads at once, for different stripes. */
struct object_writer;

/* Begin an object. Nothing is sent.
 * Errors: -EINVAL the policy is out of range; -ENOMEM */
MUST_CHECK int object_writer_new(struct objio *objio,
                                 const struct objio_policy *policy,
                                 const struct object_id *id,
                                 struct object_writer **ret_writer);
void object_writer_free(struct object_writer *writer);

/* Encode and store one stripe.
 *
 * `buf` is at least objio_stripe_buf_size(): its first `length` bytes are the
 * stripe's data, the rest is scratch that this call overwrites (padding,
 * parity). The buffer must not change until its last reference goes: gRPC may
 * hold it for longer than the call. A block whose home is down goes to a spare
 * of the partition; without a spare it is recorded as missing.
 *
 * Errors: -EIO, -ETIMEDOUT, -EHOSTUNREACH  fewer than min_write blocks stored;
 *                  calling again with the same bytes is allowed
 *         -ENOSPC  the same, because nodes are full: at once when no node that
 *                  might come back could change it
 *         -EINVAL  length 0 or above k * unit, or stripe beyond OBJECT_SIZE_MAX
 *         -ENOMEM */
MUST_CHECK int object_writer_put(struct object_writer *writer,
                                 uint32_t stripe,
                                 struct buf *buf,
                                 size_t length);

/* Make all stored blocks durable: SYNC to every node that took one. A node that
 * restarted since is asked whether it still has its blocks; a node that fails
 * or lost some counts as missing. No put may be running.
 *
 * Errors: -EIO, -ETIMEDOUT, -EHOSTUNREACH, -ENOSPC  some stripe has fewer than
 *         min_write durable blocks; calling again is allowed
 *         -ENOMEM */
MUST_CHECK int object_writer_sync(struct object_writer *writer);

/* Bit i set: block i of at least one stripe is not stored. */
uint32_t object_writer_missing(const struct object_writer *writer);

/* Read `length` bytes of the object from `offset` into `target`: from the data
 * blocks, or from any k when some are missing, damaged or slow. Never returns
 * bytes that fail their checksum. Several stripes are in flight at once.
 *
 * Errors: -EIO     more than m blocks of a stripe are lost or damaged
 *         -ETIMEDOUT, -EHOSTUNREACH  too many nodes cannot be reached now
 *         -EINVAL  the range leaves the object
 *         -ENOMEM */
MUST_CHECK int objio_read(struct objio *objio,
                          const struct object_info *object,
                          uint64_t offset,
                          size_t length,
                          uint8_t *target);

/* Counters since objio_new(), for logs and metrics. */
struct objio_stats {
    uint64_t blocks_put, blocks_got;
    uint64_t reads_degraded;  /* stripes read with at least one block rebuilt */
    uint64_t blocks_damaged;  /* answers that failed a checksum */
    uint64_t writes_degraded; /* stripes stored with blocks missing */
};
void objio_get_stats(struct objio *objio, struct objio_stats *ret_stats);
