/* The records of a segment: what lies on the disk, byte by byte.
 *
 * A record starts at a multiple of RECORD_ALIGN and is a header followed by its
 * payload. All numbers are little-endian:
 *
 *    0  u32      magic "GBRC"
 *    4  u8       format version, 1
 *    5  u8       enum record_type
 *    6  u16      number of checksums, n = ceil(length / 4096)
 *    8  u64      salt of the segment
 *   16  16 bytes object id (block)
 *   32  u32      stripe (block)
 *   36  u32      index (block)
 *   40  u32      length of the payload
 *   44  u32      place in the segment, in units of RECORD_ALIGN
 *   48  u32[n]   CRC32C of each 4 KiB unit of the payload
 *       u32      CRC32C of all of the header before it
 *
 * The salt is random and part of the segment's file name, and the header says
 * where it lies: bytes that a user stores can therefore never pass for a record
 * of ours when a scan looks for the next one behind a damaged header.
 *
 * The payload of a tombstone is a list of object ids, 16 bytes each: all blocks
 * of these objects, wherever they are, are deleted.
 *
 * Pure functions. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/checksum.h"
#include "common/err.h"
#include "common/object_id.h"

#define RECORD_ALIGN       64u
#define RECORD_PAYLOAD_MAX (1u << 20)
#define RECORD_UNITS_MAX   (RECORD_PAYLOAD_MAX / CHECKSUM_UNIT)
#define RECORD_HEADER_MIN  52u
#define RECORD_HEADER_MAX  (RECORD_HEADER_MIN + 4 * RECORD_UNITS_MAX)

enum record_type {
    RECORD_BLOCK = 1,
    RECORD_TOMBSTONE = 2,
};

struct record {
    enum record_type type;
    struct block_key key; /* zero in a tombstone */
    uint32_t length;      /* of the payload: 1..RECORD_PAYLOAD_MAX */
    uint32_t checksums[RECORD_UNITS_MAX]; /* checksum_units(length) are used */
};

/* Where a record starts, in its segment. */
struct record_place {
    uint64_t salt;   /* of the segment */
    uint32_t offset; /* bytes, a multiple of RECORD_ALIGN */
};

/* Bytes of the header of a record with `length` bytes of payload. */
static inline uint32_t record_header_size(uint32_t length)
{
    return RECORD_HEADER_MIN + 4 * (uint32_t)checksum_units(length);
}

static inline uint32_t record_align(uint32_t offset)
{
    return (offset + RECORD_ALIGN - 1) & ~(RECORD_ALIGN - 1);
}

/* Bytes from the start of such a record to where the next one may start. */
static inline uint32_t record_size(uint32_t length)
{
    return record_align(record_header_size(length) + length);
}

/* Write the header, record_header_size(record->length) bytes. */
void record_encode(const struct record *record,
                   const struct record_place *place,
                   uint8_t ret_header[RECORD_HEADER_MAX]);

/* Whether a header of that segment may start with these RECORD_HEADER_MIN
 * bytes: a quick look at magic and salt. */
int record_is_likely(const uint8_t *bytes, uint64_t salt);

/* Read a header from the `size` bytes found at a place.
 * Errors: -EBADMSG not a header, a damaged one, one of another place, or cut
 * off. */
MUST_CHECK int record_decode(const uint8_t *bytes,
                             size_t size,
                             const struct record_place *place,
                             struct record *ret_record);
