/* Geometry of objects: which stripe, which of its blocks and which bytes of
 * them hold a range. Pure functions of their arguments.
 *
 * `k` is 1..EC_K_MAX data blocks, `unit` the bytes of a full block: a multiple
 * of CHECKSUM_UNIT up to STRIPE_UNIT_MAX. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define STRIPE_UNIT_MAX (1u << 20)

/* A run of bytes of one block. */
struct block_range {
    uint32_t start;
    uint32_t length;
};

/* Whether `k` and `unit` are in range. */
bool stripe_is_valid(uint32_t k, uint32_t unit);

/* Stripes of an object of `object_size` bytes. */
uint32_t stripe_count(uint64_t object_size, uint32_t k, uint32_t unit);

/* Bytes of the object in its stripe `stripe`, 1..k * unit. The stripe must be
 * one of the object's. */
uint32_t stripe_length(uint64_t object_size,
                       uint32_t k,
                       uint32_t unit,
                       uint32_t stripe);

/* Size of each block of a stripe that holds `length` bytes: `unit` for a full
 * one, else ceil(length / k) rounded up to EC_BLOCK_ALIGN. */
uint32_t stripe_block_size(uint32_t length, uint32_t k);

/* The part of data block `index` that holds bytes of the stripe's range
 * `start`, `length`; of length 0 when the range does not touch it. */
struct block_range stripe_block_range(uint32_t block_size,
                                      uint32_t index,
                                      uint32_t start,
                                      uint32_t length);

/* The range widened to whole checksum units, but not beyond the block. */
struct block_range block_range_widen(struct block_range range,
                                     uint32_t block_size);
