#include "storaged/block/segment.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Parts given to one pwritev(2), and bytes looked at in one step of a search or
 * verification. */
#define WINDOW_PARTS 64
#define STEP_SIZE    65536u

void segment_name(uint64_t number,
                  uint64_t salt,
                  char ret_name[SEGMENT_NAME_SIZE])
{
    (void)snprintf(ret_name, SEGMENT_NAME_SIZE,
                   "%016" PRIx64 "-%016" PRIx64 ".seg", number, salt);
}

bool segment_parse_name(const char *name,
                        uint64_t *ret_number,
                        uint64_t *ret_salt)
{
    char again[SEGMENT_NAME_SIZE];
    uint64_t number;
    uint64_t salt;

    if (strlen(name) != SEGMENT_NAME_SIZE - 1) {
        return false;
    }
    number = strtoull(name, NULL, 16);
    salt = strtoull(name + 17, NULL, 16);
    segment_name(number, salt, again);
    if (number == 0 || number >> (63 - PLACE_BITS) != 0 ||
        strcmp(name, again) != 0) {
        return false;
    }
    *ret_number = number;
    *ret_salt = salt;
    return true;
}

/* Fill `window` with what is left of header and payload behind the first `skip`
 * bytes. Returns the number of parts. */
static int fill_window(struct iovec window[WINDOW_PARTS],
                       const struct iovec *header,
                       const struct block_payload *payload,
                       size_t skip)
{
    int n = 0;

    for (size_t i = 0; i <= payload->n_iov && n < WINDOW_PARTS; i++) {
        struct iovec part = i == 0 ? *header : payload->iov[i - 1];

        if (skip >= part.iov_len) {
            skip -= part.iov_len;
            continue;
        }
        part.iov_base = (uint8_t *)part.iov_base + skip;
        part.iov_len -= skip;
        skip = 0;
        window[n++] = part;
    }
    return n;
}

int segment_write(struct disk *disk,
                  const struct segment *segment,
                  uint32_t offset,
                  const struct record *record,
                  const struct block_payload *payload)
{
    struct record_place place = { segment->salt, offset };
    uint8_t bytes[RECORD_HEADER_MAX];
    struct iovec header = { bytes, record_header_size(record->length) };
    struct iovec window[WINDOW_PARTS];
    size_t size = header.iov_len + record->length;
    size_t done = 0;

    assert(record->length == payload->length);
    record_encode(record, &place, bytes);
    while (done < size) {
        int n_parts = fill_window(window, &header, payload, done);
        ssize_t n = disk->write(disk, segment->fd, window, n_parts,
                                (off_t)(offset + done));

        if (n <= 0) {
            return n < 0 ? (int)n : -EIO;
        }
        done += (size_t)n;
    }
    return 0;
}

ssize_t segment_read(struct disk *disk,
                     const struct segment *segment,
                     uint32_t offset,
                     const struct iovec *iov,
                     int n_iov,
                     int flags)
{
    const struct block_payload target = { iov + 1, (size_t)n_iov - 1, 0, NULL };
    struct iovec window[WINDOW_PARTS];
    size_t size = 0;
    size_t done = 0;

    assert(n_iov > 0 && n_iov <= WINDOW_PARTS);
    for (int i = 0; i < n_iov; i++) {
        size += iov[i].iov_len;
    }
    while (done < size) {
        int n_parts = fill_window(window, iov, &target, done);
        ssize_t n = disk->read(disk, segment->fd, window, n_parts,
                               (off_t)(offset + done), flags);

        if (n < 0) {
            return n;
        }
        if (n == 0) {
            break;
        }
        done += (size_t)n;
        if (flags != 0 && done < size) {
            return -EAGAIN;
        }
    }
    return (ssize_t)done;
}

int segment_read_record(struct disk *disk,
                        const struct segment *segment,
                        uint32_t offset,
                        int flags,
                        struct record *ret_record)
{
    struct record_place place = { segment->salt, offset };
    uint8_t bytes[RECORD_HEADER_MAX];
    struct iovec iov = { bytes, sizeof bytes };
    ssize_t n = disk->read(disk, segment->fd, &iov, 1, (off_t)offset, flags);

    if (n < 0) {
        return (int)n;
    }
    return record_decode(bytes, (size_t)n, &place, ret_record);
}

int segment_verify(struct disk *disk,
                   const struct segment *segment,
                   uint32_t offset,
                   const struct record *record)
{
    uint32_t start = offset + record_header_size(record->length);
    uint8_t bytes[STEP_SIZE];

    for (uint32_t done = 0; done < record->length; done += STEP_SIZE) {
        uint32_t left = record->length - done;
        uint32_t step = left < STEP_SIZE ? left : STEP_SIZE;
        struct iovec iov = { bytes, step };
        ssize_t n = segment_read(disk, segment, start + done, &iov, 1, 0);

        if (n < 0) {
            return (int)n;
        }
        if ((size_t)n < step ||
            checksum_verify(bytes, step,
                            record->checksums + done / CHECKSUM_UNIT) >= 0) {
            return -EBADMSG;
        }
    }
    return 0;
}

/* Skip a hole: the first multiple of RECORD_ALIGN at or behind `from` that may
 * hold data, or `end`. */
static uint32_t skip_hole(const struct segment *segment,
                          uint32_t from,
                          uint32_t end)
{
    off_t data = lseek(segment->fd, (off_t)from, SEEK_DATA);
    uint32_t found;

    if (data < 0) {
        return errno == ENXIO ? end : from;
    }
    if (data >= (off_t)end) {
        return end;
    }
    found = (uint32_t)data & ~(RECORD_ALIGN - 1);
    return found > from ? found : from;
}

/* Look through from..from+STEP_SIZE-1. Returns true when a header was found;
 * `*from` is where, or where to go on. */
static bool search_step(struct disk *disk,
                        const struct segment *segment,
                        uint32_t *from,
                        uint32_t end,
                        struct record *ret_record)
{
    uint8_t bytes[STEP_SIZE];
    uint32_t size = end - *from < STEP_SIZE ? end - *from : STEP_SIZE;
    struct iovec iov = { bytes, size };
    ssize_t n = segment_read(disk, segment, *from, &iov, 1, 0);

    if (n < 0) {
        *from += CHECKSUM_UNIT;
        return false;
    }
    for (uint32_t at = 0; at + RECORD_HEADER_MIN <= (size_t)n;
         at += RECORD_ALIGN) {
        if (record_is_likely(bytes + at, segment->salt) &&
            segment_read_record(disk, segment, *from + at, 0, ret_record) ==
                0) {
            *from += at;
            return true;
        }
    }
    *from += STEP_SIZE;
    return false;
}

int segment_find_record(struct disk *disk,
                        const struct segment *segment,
                        uint32_t from,
                        uint32_t end,
                        uint32_t *ret_offset,
                        struct record *ret_record)
{
    assert(from % RECORD_ALIGN == 0);
    if (from < end &&
        segment_read_record(disk, segment, from, 0, ret_record) == 0) {
        *ret_offset = from;
        return 0;
    }
    while (from < end) {
        from = skip_hole(segment, from, end);
        if (from < end && search_step(disk, segment, &from, end, ret_record)) {
            *ret_offset = from;
            return 0;
        }
    }
    return -ENOENT;
}

static int erase_headers(struct disk *disk,
                         const struct segment *segment,
                         uint32_t from,
                         uint32_t end)
{
    static const uint8_t zeros[RECORD_HEADER_MIN];
    struct iovec iov = { NULL, sizeof zeros };
    struct record record;

    memcpy(&iov.iov_base, &(const void *){ zeros }, sizeof iov.iov_base);
    while (segment_find_record(disk, segment, from, end, &from, &record) == 0) {
        ssize_t n = disk->write(disk, segment->fd, &iov, 1, (off_t)from);

        if (n < 0) {
            return (int)n;
        }
        from += record_size(record.length);
    }
    return 0;
}

int segment_erase(struct disk *disk,
                  const struct segment *segment,
                  uint32_t from,
                  uint32_t end)
{
    assert(from < end);
    if (fallocate(segment->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                  (off_t)from, (off_t)(end - from)) == 0) {
        return 0;
    }
    if (errno != EOPNOTSUPP) {
        return -errno;
    }
    return erase_headers(disk, segment, from, end);
}
