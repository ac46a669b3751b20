/* CRC32C (Castagnoli, RFC 3720) of 4 KiB units, by ISA-L's vectorised code. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define CHECKSUM_UNIT 4096u

/* Units that `size` bytes take: the last one may be shorter. */
static inline size_t checksum_units(size_t size)
{
    return (size + CHECKSUM_UNIT - 1) / CHECKSUM_UNIT;
}

/* CRC32C of `size` bytes, standard form (initial value and final xor ~0): the
 * checksum of "123456789" is 0xe3069283. */
uint32_t checksum_crc32c(const void *data, size_t size);

/* Checksums of each unit of `data`: checksum_units(size) values. */
void checksum_compute(const void *data, size_t size, uint32_t *ret_checksums);

/* Index of the first unit that does not match its checksum, or -1. */
long checksum_verify(const void *data, size_t size, const uint32_t *checksums);
