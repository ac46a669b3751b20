/* The data directory of a block store for fuzz_records: a sound one in memory,
 * mutated copies of it on the disk. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storaged/block/segment.h"

#define RECORDS_BLOCKS       24u
#define RECORDS_SEGMENTS     3u
#define RECORDS_SEGMENT_SIZE (512u << 10) /* most bytes of a mutated one */
#define RECORDS_LENGTH_MAX   70000u

/* A block that was put. */
struct records_block {
    struct block_key key;
    uint32_t length;
    bool is_deleted; /* by a tombstone */
};

/* A file and where its records start. */
struct records_file {
    char name[SEGMENT_NAME_SIZE];
    uint64_t number;
    uint64_t salt;
    uint8_t data[RECORDS_SEGMENT_SIZE];
    size_t size;
    uint32_t offsets[RECORDS_BLOCKS];
    size_t n_offsets;
};

/* How the index of a directory came about. */
enum records_index {
    RECORDS_INDEX_NONE, /* lost */
    RECORDS_INDEX_FULL, /* knows all */
    RECORDS_INDEX_PART, /* knows the first segment only */
};

struct records_world {
    struct records_file segments[RECORDS_SEGMENTS];
    struct records_file index;
    bool has_index;
    bool is_touched; /* something has been changed */
    bool is_forged;  /* a header says something else with a right checksum, or
                        the index something else: not what disks do */
};

/* Make the sound directory: 0 or a negative errno. `dir` is an empty directory
 * that is used meanwhile; it stays in use by the other functions. */
int records_init(const char *dir);

extern struct records_block records_blocks[RECORDS_BLOCKS];

/* The bytes of a block that was put. */
void records_fill(const struct block_key *key, uint32_t length, uint8_t *bytes);

/* A sound world; one change of it; its files, in place of those of the
 * directory. */
void records_reset(struct records_world *world, enum records_index index);
void records_mutate(struct records_world *world);
int records_write(const struct records_world *world);
