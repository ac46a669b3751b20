/* Which reads of a file are sequential, and how far to read ahead of them.
 *
 * Pure bookkeeping; the file's lock guards it. Several readers of one file are
 * told apart. The kernel hands the pieces of one sequential read to several
 * threads, so pieces of a stream may come in any order. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define READAHEAD_STREAMS 4u

/* Reads of this size are part of something sequential more often than not. */
#define READAHEAD_BIG (64u << 10)

struct readahead_stream {
    uint64_t next;   /* end of the furthest read */
    uint64_t ahead;  /* read ahead up to here */
    uint64_t window; /* bytes to be ahead; 0: not sequential so far */
    unsigned run;    /* reads that continued the stream */
};

/* Zero-initialise. */
struct readahead {
    struct readahead_stream streams[READAHEAD_STREAMS]; /* latest first */
};

/* What to do about a read. */
struct readahead_advice {
    bool is_sequential;  /* use the chunk cache */
    uint64_t ahead_from; /* read this range ahead, when not empty */
    uint64_t ahead_to;
};

/* Note a read of `length` bytes at `offset`; be at most `window_max` bytes
 * ahead. */
void readahead_note(struct readahead *readahead,
                    uint64_t offset,
                    size_t length,
                    uint64_t window_max,
                    struct readahead_advice *ret_advice);
