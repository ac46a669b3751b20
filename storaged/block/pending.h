/* Blocks that are being put, or are stored but not yet in the index.
 *
 * Answers reads until the index can, and makes puts of one key take turns.
 * Thread-safe. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/object_id.h"
#include "storaged/block/block_index.h"

#define PENDING_BUCKETS 8192u

struct pending_entry {
    struct index_row row; /* row.place is 0 while there is nothing stored that
                             the index would not know */
    bool claimed;         /* a put of this key is under way */
    struct pending_entry *next; /* owned: next of the bucket */
};

struct pending {
    pthread_mutex_t lock;                           /* guards everything */
    pthread_cond_t released;                        /* a claim has ended */
    size_t n_rows;                                  /* entries with a place */
    struct pending_entry *buckets[PENDING_BUCKETS]; /* owned */
};

void pending_init(struct pending *pending);
void pending_close(struct pending *pending);

/* Begin a put of `key`, waiting for the end of another one. If the key is
 * stored and not yet in the index `*ret_row` says where, else its place is 0.
 * Errors: -ENOMEM */
MUST_CHECK int pending_claim(struct pending *pending,
                             const struct block_key *key,
                             struct index_row *ret_row);

/* End a put. `row` tells where the key is stored now; NULL: nothing has
 * changed. Returns the number of rows that wait for the index. */
size_t pending_release(struct pending *pending,
                       const struct block_key *key,
                       const struct index_row *row);

/* Where the key is stored. Errors: -ENOENT not here: ask the index. */
MUST_CHECK int pending_find(struct pending *pending,
                            const struct block_key *key,
                            struct index_row *ret_row);

/* Rows that wait for the index. */
size_t pending_count(struct pending *pending);

/* All rows that wait for the index, by place; they stay until
 * pending_forget(). `*ret_rows` is the caller's to free, NULL when there are
 * none. Errors: -ENOMEM */
MUST_CHECK int pending_rows(struct pending *pending,
                            struct index_row **ret_rows,
                            size_t *ret_n);

/* These rows are in the index now. */
void pending_forget(struct pending *pending,
                    const struct index_row *rows,
                    size_t n_rows);
