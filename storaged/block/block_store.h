/* The block store of a node: immutable blocks on a local filesystem.
 *
 *   DIR/segments/   append-only segment files: the truth (segment.h, record.h)
 *   DIR/index.db    which block lies where: rebuilt from the segments when it
 *                   is missing or damaged (block_index.h)
 *
 * Invariants
 *  1. A put that has returned survives the death of the process; after a
 *     block_store_sync() that began later it survives the loss of power.
 *  2. No read returns bytes of another block or from another place: every read
 *     checks the record's header, and hands out the checksums found in it, by
 *     which the reader checks the bytes.
 *  3. A place in a segment is used once. Deleting only erases.
 *  4. A deletion is a record in the log before anything is erased, so that no
 *     rebuild brings a block back. Like a put it survives the loss of power
 *     after the next sync.
 *  5. After a failed write or sync nothing more is written: what the kernel
 *     did with the pages is unknown. Reads go on.
 *
 * All functions may be called by many threads at once. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/object_id.h"
#include "storaged/block/disk.h"
#include "storaged/block/segment.h"

struct block_store;

struct block_store_options {
    const char *dir;       /* borrowed: an existing directory of ours alone */
    uint64_t reserve;      /* bytes of the filesystem that puts leave free */
    uint32_t segment_size; /* bytes, 0: SEGMENT_SIZE_MAX; at least 2 MiB */
    struct disk *disk;     /* borrowed for the life of the store; NULL:
                              disk_system() */
};

/* Open the store, recovering what the last process left. A damaged index is
 * moved aside and rebuilt; the tail of a put that was cut short is dropped.
 * Errors, told in `msg`: -EINVAL segment_size; -EIO, -ENOSPC, -ENOMEM and
 * others of the filesystem */
MUST_CHECK int block_store_open(const struct block_store_options *options,
                                struct block_store **ret_store,
                                struct errmsg *msg);

/* Sync and close. No other call may be under way. NULL is allowed. */
void block_store_close(struct block_store *store);

/* Store a block, after checking it against its checksums. The same key with the
 * same bytes again succeeds; a stored block that is found damaged then is
 * replaced. Nothing of a block that could not be stored is left.
 * Errors: -EINVAL  length not in 1..RECORD_PAYLOAD_MAX or not that of the iov
 *         -EBADMSG the bytes do not match the checksums
 *         -EEXIST  the key is stored with other bytes
 *         -ENOSPC  full up to the reserve
 *         -EIO     the disk failed, now or earlier
 *         -ENOMEM */
MUST_CHECK int block_store_put(struct block_store *store,
                               const struct block_key *key,
                               const struct block_payload *payload);

/* A piece of a block: bytes `offset`..`offset + length - 1` of it, which are
 * those of `buf` from its start. */
struct block_piece {
    struct buf *buf;       /* owned: buf_unref() it */
    uint32_t block_length; /* of the whole block */
    uint32_t offset;       /* a multiple of CHECKSUM_UNIT */
    uint32_t length;       /* to the end of a unit or of the block */
    uint32_t checksums[RECORD_UNITS_MAX]; /* of the units in buf */
};

/* Read the units of a block that hold `length` bytes (at least 1) from
 * `offset`; cut at the block's end. The bytes have NOT been checked: that is
 * the reader's part. With `cached` only what is in the page cache is read; for
 * what is not there the disk is set to work, so that the call without it waits
 * less.
 * Errors: -EINVAL  `offset` is behind the block's end, or `length` 0
 *         -ENOENT  no such block
 *         -EBADMSG its record is damaged or cut off (logged once per block)
 *         -EAGAIN  with `cached`: it would have to wait for the disk
 *         -EIO, -ENOMEM */
MUST_CHECK int block_store_get(struct block_store *store,
                               const struct block_key *key,
                               uint32_t offset,
                               uint32_t length,
                               bool cached,
                               struct block_piece *ret_piece);

/* Read a block from the disk and check it.
 * Errors: -ENOENT, -EBADMSG damaged (logged once per block), -EIO */
MUST_CHECK int block_store_verify(struct block_store *store,
                                  const struct block_key *key);

/* Make all puts and deletions that have returned durable. Callers at the same
 * time share one sync. Errors: -EIO the disk failed, now or earlier: blocks put
 * since the last success may be lost. */
MUST_CHECK int block_store_sync(struct block_store *store);

/* Forget all blocks of these objects, give back their space, and remove
 * segments without live blocks. Works on a full disk. Objects without blocks
 * are no error. `*ret_n_blocks`, also set on failure, counts those removed.
 * Errors: -EINVAL more than BLOCK_STORE_DELETE_MAX objects; -EIO, -ENOSPC,
 * -ENOMEM: some may not be deleted, ask again */
#define BLOCK_STORE_DELETE_MAX 4096u
MUST_CHECK int block_store_delete_objects(struct block_store *store,
                                          const struct object_id *objects,
                                          size_t n_objects,
                                          uint64_t *ret_n_blocks);

struct block_info {
    struct block_key key;
    uint32_t length; /* bytes */
};

/* Up to `limit` blocks in key order behind `after`; NULL: from the first. Fewer
 * than `limit`: there are no more.
 * Errors: -EIO, -ENOMEM */
MUST_CHECK int block_store_list(struct block_store *store,
                                const struct block_key *after,
                                size_t limit,
                                struct block_info *ret_blocks,
                                size_t *ret_n);

struct block_store_stats {
    uint64_t total;       /* bytes of the filesystem */
    uint64_t available;   /* bytes that puts may still take */
    uint64_t used;        /* bytes on the disk of segments and index */
    uint64_t filesystem;  /* equal for stores that share one filesystem */
    uint64_t n_blocks;    /* live */
    uint64_t block_bytes; /* their lengths */
    uint64_t instance;    /* random, of this opening */
};

/* Errors: -EIO and others of fstatvfs(3) */
MUST_CHECK int block_store_stats(struct block_store *store,
                                 struct block_store_stats *ret_stats);

/* See block_store_stats. */
uint64_t block_store_instance(const struct block_store *store);
