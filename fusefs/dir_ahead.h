/* Answers to lookups, fetched ahead.
 *
 * A program that stats file after file of a directory (git status, make, a file
 * manager) asks for each by an RPC. When a directory sees several lookups in a
 * short time its listing is fetched, with all attributes, and answers those
 * that follow for a moment. Nothing that this mount has changed since is
 * answered from it; what another mount changes is seen later by no more than
 * that moment. Says nothing of names that do not exist. Thread-safe. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "fusefs/inode.h"
#include "proto/metadata.pb-c.h"

/* Entries of a listing to fetch: what lies behind them is not worth it. */
#define DIR_AHEAD_ENTRIES 512u

struct dir_ahead;

/* `inodes`: borrowed, what this mount has changed. `life_ms`: for how long a
 * listing answers; 0: never. Errors: -ENOMEM */
MUST_CHECK int dir_ahead_new(struct inode_table *inodes,
                             int64_t life_ms,
                             struct dir_ahead **ret_ahead);
void dir_ahead_free(struct dir_ahead *ahead); /* NULL is allowed */

/* Forget all listings: one has told of an inode that is gone. */
void dir_ahead_clear(struct dir_ahead *ahead);

/* The attributes of what `name` stands for, asked for at `*ret_asked`. */
bool dir_ahead_get(struct dir_ahead *ahead,
                   uint64_t parent,
                   const char *name,
                   Gabion__Attr *ret_attr,
                   inode_stamp *ret_asked);

/* A lookup in the directory had to ask the shard. True: now fetch the listing's
 * first DIR_AHEAD_ENTRIES entries with their attributes, and hand them over by
 * dir_ahead_put() in any case. */
bool dir_ahead_is_wanted(struct dir_ahead *ahead, uint64_t parent);

/* The listing, asked for at `asked`, whose ownership passes; NULL: it could not
 * be had. */
void dir_ahead_put(struct dir_ahead *ahead,
                   uint64_t parent,
                   Gabion__ReadDirReply *page,
                   inode_stamp asked);
