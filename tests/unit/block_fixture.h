/* What the tests of the block store share: a store in a directory of its own,
 * blocks whose bytes follow from their keys, a disk that fails on demand. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storaged/block/block_store.h"

/* Fails on demand; zero-initialise, then fault_disk_init(). All counts are
 * atomic. */
struct fault_disk {
    struct disk disk;   /* the seam; first */
    int fail_write_in;  /* the n-th write from now fails; 0: none */
    int write_error;    /* with this negative errno */
    int write_first;    /* after writing this many bytes of it, then failing */
    int fail_sync_in;   /* the n-th sync from now fails; 0: none */
    int sync_error;     /* with this negative errno; 0: -EIO */
    int fail_read;      /* reads fail with this negative errno; 0: none */
    int nowait_error;   /* so do those with RWF_NOWAIT; 0: none */
    uint32_t bad_place; /* reads of the byte at this offset of any file fail
                           with -EIO; 0: none */
    int skip_write_in;  /* the n-th write from now never comes back; 0: none */
    int sync_ms;        /* how long a sync takes */
    int n_syncs;        /* so far */
    int n_directory_syncs; /* those of a directory */
    pthread_mutex_t lock;  /* guards what follows */
    pthread_cond_t changed;
    bool holds_syncs;  /* syncs wait for fault_disk_release() */
    unsigned n_held;   /* syncs that wait */
    char calls[16];    /* the first ones: 'e' expect, 'n' read with RWF_NOWAIT,
                          'r' other read; cleared by the test */
    size_t n_calls;    /* of them */
    off_t expected_at; /* of the last expect */
    off_t expected_size; /* of it */
    off_t read_at;       /* of the last read */
};

void fault_disk_init(struct fault_disk *disk);

/* Let syncs wait; wait until one does; let them go on. */
void fault_disk_hold_syncs(struct fault_disk *disk);
void fault_disk_await_held(struct fault_disk *disk);
void fault_disk_release(struct fault_disk *disk);

/* Directory and options, made by fixture_setup(). */
extern char fixture_dir[64];
extern struct block_store_options fixture_options;

/* Checked fixtures of Check: a new empty directory; its removal. */
void fixture_setup(void);
void fixture_teardown(void);

/* Open the store of fixture_options; fails the test when that fails. */
struct block_store *fixture_open(void);

/* The bytes of a block: length of them, from key. `seed` makes others. */
void fixture_fill(const struct block_key *key,
                  uint32_t seed,
                  uint32_t length,
                  uint8_t *ret_bytes);

struct block_key fixture_key(uint64_t serial, uint32_t stripe, uint32_t index);

/* Put a block of fixture_fill() bytes, from memory cut into uneven parts. */
int fixture_put(struct block_store *store,
                const struct block_key *key,
                uint32_t seed,
                uint32_t length);

/* Read a whole block. 0 when all its bytes pass their checksums and are those
 * of fixture_fill(); -EBADMSG when a checksum catches them; -EILSEQ when they
 * are wrong and no checksum says so; else what block_store_get() answers. */
int fixture_check(struct block_store *store,
                  const struct block_key *key,
                  uint32_t seed,
                  uint32_t length);

/* Path of the n-th segment file by number, from 0. False: there is none. */
bool fixture_segment(unsigned n, char ret_path[128]);

/* Path of the index, with a suffix. */
const char *fixture_index(const char *suffix, char ret_path[128]);

/* Remove the index. */
void fixture_lose_index(void);

/* Run `work` on a new store in a process that then kills itself. What it
 * writes to `fd`, up to `size` bytes, comes back; returns their number. */
size_t fixture_run_and_kill(void (*work)(struct block_store *store, int fd),
                            uint8_t *ret_bytes,
                            size_t size);

/* Bytes that the segments take on the disk. */
uint64_t fixture_disk_usage(void);

/* A small reproducible generator: the next number from *state. */
uint64_t fixture_random(uint64_t *state);
