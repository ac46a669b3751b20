/* The index of a block store: which block lies where. A SQLite database that
 * can be rebuilt from the segments at any time.
 *
 * It knows for each segment up to where it covers it. Below `covered`,
 * everything is on stable storage and every live block is in the index; above
 * it, start-up believes only the segment itself. `covered` is written in the
 * transaction that makes it true.
 *
 * Writing functions are for one thread at a time (the store's index lock);
 * block_index_lookup() and block_index_list() may be called by any thread at
 * any time and see the last commit.
 *
 * Unless said otherwise errors are -ENOSPC the disk is full; -EBADMSG the index
 * is damaged; -EMFILE a file of it could not be opened, mostly because too many
 * are open; -EIO; -ENOMEM. Never open the file by other means in the same
 * process: POSIX locks would be dropped. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/object_id.h"

struct block_index;

struct index_row {
    struct block_key key;
    uint64_t place;  /* see segment.h; not 0 */
    uint32_t length; /* of the payload */
};

struct index_segment {
    uint64_t number;
    uint64_t salt;
    uint32_t covered;    /* bytes */
    uint64_t n_live;     /* rows in the segment */
    uint64_t live_bytes; /* their lengths */
};

/* Open the index `path`, or make an empty one. One that was not closed
 * properly, or that is small, is checked thoroughly. Errors: also -EBADMSG
 * damaged, or of another format. */
MUST_CHECK int block_index_open(const char *path,
                                struct block_index **ret_index,
                                struct errmsg *msg);

/* With `clean` the next start may trust the file without checking it. No other
 * call may be under way. NULL is allowed. */
void block_index_close(struct block_index *index, bool clean);

/* Remove the files of an index that nobody has open, or, with `aside`, move the
 * main one to `path`.damaged. Errors: those of rename(2) and unlink(2). */
MUST_CHECK int block_index_discard(const char *path, bool aside);

MUST_CHECK int block_index_begin(struct block_index *index);
MUST_CHECK int block_index_commit(struct block_index *index);
void block_index_rollback(struct block_index *index);

/* Insert a row, or let it replace that of the same key, which is then in
 * `*ret_old`, else the place there is 0. */
MUST_CHECK int block_index_insert(struct block_index *index,
                                  const struct index_row *row,
                                  struct index_row *ret_old);

/* Remove all rows of an object. `*ret_rows` is the caller's to free. */
MUST_CHECK int block_index_remove_object(struct block_index *index,
                                         const struct object_id *object,
                                         struct index_row **ret_rows,
                                         size_t *ret_n);

/* Remove the rows with places from..end-1. */
MUST_CHECK int block_index_remove_range(struct block_index *index,
                                        uint64_t from,
                                        uint64_t end);

/* Count the rows with places from..end-1 and sum up their lengths. */
MUST_CHECK int block_index_count(struct block_index *index,
                                 uint64_t from,
                                 uint64_t end,
                                 uint64_t *ret_n,
                                 uint64_t *ret_bytes);

/* The rows next to `place`, below and above; a place of 0 where there is none.
 */
MUST_CHECK int block_index_neighbours(struct block_index *index,
                                      uint64_t place,
                                      struct index_row *ret_below,
                                      struct index_row *ret_above);

/* Store or replace what is known of a segment; forget it; read all. `*ret_list`
 * is the caller's to free. */
MUST_CHECK int block_index_put_segment(struct block_index *index,
                                       const struct index_segment *segment);
MUST_CHECK int block_index_remove_segment(struct block_index *index,
                                          uint64_t number);
MUST_CHECK int block_index_segments(struct block_index *index,
                                    struct index_segment **ret_list,
                                    size_t *ret_n);

/* Make all commits so far durable. Waits some seconds for readers that have
 * begun earlier. Errors: also -EAGAIN they have not ended. */
MUST_CHECK int block_index_sync(struct block_index *index);

/* Errors: also -ENOENT. Any thread. */
MUST_CHECK int block_index_lookup(struct block_index *index,
                                  const struct block_key *key,
                                  struct index_row *ret_row);

/* Up to `limit` rows in key order behind `after`, NULL: from the first. Any
 * thread. */
MUST_CHECK int block_index_list(struct block_index *index,
                                const struct block_key *after,
                                size_t limit,
                                struct index_row *ret_rows,
                                size_t *ret_n);
