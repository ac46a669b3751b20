/* One segment file: reading, writing, erasing and finding records.
 *
 * `segments/<number>-<salt>.seg`, both as 16 hexadecimal digits. Records are
 * appended and never overwritten; what is deleted is erased: its bytes are
 * zeroed and whole pages of them are given back. Between records there may be
 * holes, left by puts that failed or were cut short by a crash.
 *
 * The functions here keep no state and may run in any thread on a segment whose
 * file is open (see segment_set.h, which owns the segments). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "common/err.h"
#include "storaged/block/disk.h"
#include "storaged/block/record.h"

/* Most bytes of a segment. */
#define SEGMENT_SIZE_MAX (256u << 20)

/* "<16 digits>-<16 digits>.seg" and NUL. */
#define SEGMENT_NAME_SIZE 38u

/* At least the page or block of any filesystem. */
#define PAGE_LIMIT 65536u

/* A place in the store: segment and offset in one number; later records have
 * greater places. */
#define PLACE_BITS 22u

struct segment {
    uint64_t number;  /* from 1; never changes */
    uint64_t salt;    /* never changes */
    int fd;           /* owned; -1 while closed. Guard: the set's lock; stays
                         while `n_users` > 0 */
    unsigned n_users; /* guard: the set's lock */
    uint64_t used_at; /* tick of the last use. Guard: the set's lock */
    uint32_t tail;    /* end of the last reservation. Guard: the set's lock */
    uint32_t synced;  /* below it all is on stable storage. Guard: the set's
                         lock */
    uint32_t written_out; /* below it the kernel was asked to write. Guard: the
                             set's lock */
    bool dirty;           /* has changes that no fdatasync has covered. Guard:
                             the set's lock */
    bool removed;         /* unlinked; goes with its last user. Guard: the set's
                             lock */
    bool unreadable;      /* start-up could not read parts of it: it is not
                             appended to, not covered further, not unlinked.
                             Guard: the set's lock */
    bool measured;        /* allocated is right. Guard: the set's lock */
    uint64_t allocated;   /* bytes on the disk. Guard: the set's lock */
    uint32_t settled;     /* below it no put was under way when the open
                             transaction began. Guard: the index lock */
    uint32_t stable;      /* the lesser of `settled` and `synced` then. Guard:
                             the index lock */
    uint32_t covered;     /* what the index says of itself: see block_index.h.
                             Guard: the index lock */
    bool quiet;           /* then nothing was under way, and nothing will be
                             appended again. Guard: the index lock */
    uint64_t n_live;      /* live blocks in the index. Guard: the index lock */
    uint64_t live_bytes;  /* their payloads. Guard: the index lock */
    int64_t delta_live;  /* change of n_live by the open transaction. Guard: the
                            index lock */
    int64_t delta_bytes; /* and of live_bytes. Guard: the index lock */
};

/* Bytes to be stored, as they lie in memory. */
struct block_payload {
    const struct iovec *iov; /* borrowed */
    size_t n_iov;
    uint32_t length;           /* sum of the iov's */
    const uint32_t *checksums; /* borrowed: checksum_units(length) values */
};

static inline uint64_t place_make(const struct segment *segment,
                                  uint32_t offset)
{
    return segment->number << PLACE_BITS | offset / RECORD_ALIGN;
}

static inline uint64_t place_segment(uint64_t place)
{
    return place >> PLACE_BITS;
}

static inline uint32_t place_offset(uint64_t place)
{
    return (uint32_t)(place & ((1u << PLACE_BITS) - 1)) * RECORD_ALIGN;
}

void segment_name(uint64_t number,
                  uint64_t salt,
                  char ret_name[SEGMENT_NAME_SIZE]);

/* Whether `name` is exactly that of a segment. */
bool segment_parse_name(const char *name,
                        uint64_t *ret_number,
                        uint64_t *ret_salt);

/* Write a whole record at `offset`. After an error any part of it may be there.
 * Errors: -ENOSPC, -EIO and others of pwritev(2). */
MUST_CHECK int segment_write(struct disk *disk,
                             const struct segment *segment,
                             uint32_t offset,
                             const struct record *record,
                             const struct block_payload *payload);

/* Read up to `size` bytes into `iov`, as preadv2(2), going on after short reads
 * unless `flags` has RWF_NOWAIT. Returns bytes read, fewer at the end of the
 * file, or a negative errno; -EAGAIN with RWF_NOWAIT when not all is cached. */
ssize_t segment_read(struct disk *disk,
                     const struct segment *segment,
                     uint32_t offset,
                     const struct iovec *iov,
                     int n_iov,
                     int flags);

/* Read the header at `offset`. Errors: -EBADMSG none is there; -EIO; -EAGAIN as
 * segment_read(). */
MUST_CHECK int segment_read_record(struct disk *disk,
                                   const struct segment *segment,
                                   uint32_t offset,
                                   int flags,
                                   struct record *ret_record);

/* Read the payload of the record at `offset` and compare it with its checksums.
 * Errors: -EBADMSG damaged or cut off; -EIO. */
MUST_CHECK int segment_verify(struct disk *disk,
                              const struct segment *segment,
                              uint32_t offset,
                              const struct record *record);

/* Find the first header that starts in from..end-1, `from` a multiple of
 * RECORD_ALIGN. Unreadable parts are skipped.
 * Errors: -ENOENT there is none. */
MUST_CHECK int segment_find_record(struct disk *disk,
                                   const struct segment *segment,
                                   uint32_t from,
                                   uint32_t end,
                                   uint32_t *ret_offset,
                                   struct record *ret_record);

/* Zero the bytes from..end-1 and give their whole pages back. Where the
 * filesystem cannot punch holes, only the headers are zeroed: that of a record
 * at `from` and any others found behind it.
 * Errors: -EIO and others of fallocate(2). */
MUST_CHECK int segment_erase(struct disk *disk,
                             const struct segment *segment,
                             uint32_t from,
                             uint32_t end);
