/* Idle readers of a shard's database, so that a request need not open one.
 * Thread-safe. */
#pragma once

#include "common/err.h"
#include "storaged/meta/meta_db.h"

struct reader_pool;

/* `db` is borrowed for the pool's life. Errors: -ENOMEM */
MUST_CHECK int reader_pool_new(struct meta_db *db,
                               struct reader_pool **ret_pool);

/* Every reader has been given back. NULL is allowed. */
void reader_pool_free(struct reader_pool *pool);

/* A reader for the caller alone; hand it back with reader_pool_give(). A new
 * one is opened when all are in use: as many as there are threads that read.
 * Errors: -EIO, -ENOMEM */
MUST_CHECK int reader_pool_take(struct reader_pool *pool,
                                struct meta_reader **ret_reader);
void reader_pool_give(struct reader_pool *pool, struct meta_reader *reader);
