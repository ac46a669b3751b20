/* The inside of a block store, shared by the modules that make it up:
 *
 *   block_store    opening, closing, lists, figures
 *   block_put, block_get
 *   block_delete   deletions, unlinking of empty segments
 *   index_tx       transactions on the index, erasing of what they kill
 *   index_keeper   the thread that writes the index and starts writing out
 *   recovery       what happens at start-up */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/log.h"
#include "storaged/block/block_index.h"
#include "storaged/block/block_store.h"
#include "storaged/block/group_sync.h"
#include "storaged/block/index_keeper.h"
#include "storaged/block/pending.h"
#include "storaged/block/row_cache.h"
#include "storaged/block/segment_set.h"
#include "storaged/block/space.h"

/* Slots for blocks that have been complained about. */
#define REPORTED_SLOTS 1024u

/* Locks, in their order: index_lock; sync's; those of keeper, set, pending and
 * space, none of which is held while another is taken. */
struct block_store {
    int dir_fd;                 /* owned: the data directory */
    char *index_path;           /* owned */
    struct disk *disk;          /* borrowed */
    struct segment_set set;     /* the segments */
    struct pending pending;     /* what the index does not know yet */
    struct row_cache rows;      /* where blocks in use lie */
    struct space space;         /* room on the disk */
    struct group_sync sync;     /* runs segment_set_sync() */
    struct index_keeper keeper; /* the background thread */
    pthread_mutex_t
        index_lock;            /* one writer of the index; see struct segment */
    struct block_index *index; /* owned */
    uint64_t instance;         /* random, of this opening */
    uint64_t filesystem;       /* see space_identity() */
    bool failed;               /* atomic: no more writing */
    bool index_broken;         /* atomic: to be rebuilt at the next start */
    struct log_limit flush_limit;      /* of complaints that the index cannot be
                                          written */
    uint64_t reported[REPORTED_SLOTS]; /* atomic: places that a warning was
                                          given for */
};

/* After a failure of the disk: log it, once, and stop writing. */
void block_store_fail(struct block_store *store, const char *what, int error);

bool block_store_has_failed(const struct block_store *store);

/* Note what a function of block_index.h has answered. An index that is damaged
 * or cannot be read is rebuilt at the next start and stops writing until then.
 * Returns `rc`, with -EIO for these and for want of open files, which passes.
 */
int block_store_check_index(struct block_store *store, int rc);

/* Whether to complain about the block at `place`: true once. */
bool block_store_may_report(struct block_store *store, uint64_t place);

/* Append a record to the log, whatever room is left. After success the caller
 * settles the reservation with segment_set_settle(). Errors: -ENOSPC, -EIO,
 * -ENOMEM */
MUST_CHECK int block_store_append(struct block_store *store,
                                  const struct record *record,
                                  const struct block_payload *payload,
                                  struct reservation *ret_reservation);
