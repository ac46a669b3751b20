/* A struct block_io over storage nodes in memory, with faults on demand. For
 * tests; one thread at a time. Nodes have the ids 1..n. Transfers that are
 * ready finish in random order by the seed. */
#pragma once

#include "common/block_io.h"

#define FAKE_NODES_MAX 32u

struct block_fake;

enum fake_mode {
    FAKE_UP,
    FAKE_DOWN,   /* refuses connections; is_up knows */
    FAKE_UNSEEN, /* refuses connections; is_up does not know yet */
    FAKE_HUNG,   /* takes transfers and never answers */
    FAKE_FULL,   /* puts fail with -ENOSPC */
    FAKE_BROKEN  /* everything fails with -EIO */
};

/* Never fails: asserts. */
struct block_fake *block_fake_new(uint32_t n_nodes, uint64_t seed);
void block_fake_free(struct block_fake *fake);
struct block_io *block_fake_io(struct block_fake *fake);

void block_fake_set_mode(struct block_fake *fake,
                         uint32_t node,
                         enum fake_mode mode);

/* The same when `at_ms` (clock_mono_ms()) has come. */
void block_fake_schedule(struct block_fake *fake,
                         int64_t at_ms,
                         uint32_t node,
                         enum fake_mode mode);

/* Answers of the node take so long. */
void block_fake_set_delay(struct block_fake *fake, uint32_t node, int64_t ms);

/* A new process: another instance, and without its blocks that were not synced
 * if `lose_unsynced`. */
void block_fake_restart(struct block_fake *fake,
                        uint32_t node,
                        bool lose_unsynced);

/* Forget all blocks of the node. */
void block_fake_lose(struct block_fake *fake, uint32_t node);

/* Damage one bit of a block, counted modulo its size. False: no such block. */
bool block_fake_flip(struct block_fake *fake,
                     uint32_t node,
                     const struct block_key *key,
                     uint64_t bit);

bool block_fake_has(const struct block_fake *fake,
                    uint32_t node,
                    const struct block_key *key);
uint32_t block_fake_count(const struct block_fake *fake, uint32_t node);

/* Transfers started so far, of one type. */
uint64_t block_fake_started(const struct block_fake *fake,
                            enum block_op_type type);
