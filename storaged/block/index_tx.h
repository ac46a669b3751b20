/* One transaction on the index of a store. The caller holds the index lock.
 *
 * Every transaction begins by inserting the rows that were pending, so that it
 * sees all blocks; it counts what lives in each segment; at its end it erases
 * what it has killed. Erasing comes before the commit: a crash between the two
 * finds the deletion in the log, above what the index covers, and repeats it.
 * It comes after all changes: what is erased around a dead record reaches to
 * the next live one, and those must all be known. Tombstones stay until their
 * segment goes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "storaged/block/block_index.h"
#include "storaged/block/segment.h"

struct block_store;

struct index_tx {
    struct block_store *store; /* borrowed */
    struct segment **segments; /* owned list, by number */
    size_t n_segments;
    struct index_row *pending; /* owned: rows that are inserted */
    size_t n_pending;
    struct index_row *dead; /* owned: places to erase */
    size_t n_dead;
    size_t dead_capacity;
};

/* Errors of all functions: -EIO, -ENOSPC, -ENOMEM. After a failure of another
 * one than index_tx_begin() or index_tx_commit() the caller calls
 * index_tx_abort(). */
MUST_CHECK int index_tx_begin(struct block_store *store, struct index_tx *tx);
MUST_CHECK int index_tx_commit(struct index_tx *tx);
void index_tx_abort(struct index_tx *tx);

/* The segment that a place lies in; NULL: none that is known. Borrowed. */
struct segment *index_tx_segment(const struct index_tx *tx, uint64_t number);

/* Insert a row. That of the same key dies. */
MUST_CHECK int index_tx_insert(struct index_tx *tx,
                               const struct index_row *row);

/* Remove all rows of an object. */
MUST_CHECK int index_tx_remove_object(struct index_tx *tx,
                                      const struct object_id *object,
                                      uint64_t *ret_n_blocks);

/* Remove the rows of a segment from `offset` on, without erasing. */
MUST_CHECK int index_tx_forget(struct index_tx *tx,
                               struct segment *segment,
                               uint32_t offset);

/* A transaction of nothing but the pending rows. Takes the index lock. */
int index_tx_flush(struct block_store *store);
