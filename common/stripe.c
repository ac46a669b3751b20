#include "common/stripe.h"

#include <assert.h>

#include "common/checksum.h"
#include "common/ec.h"

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t max_u32(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

bool stripe_is_valid(uint32_t k, uint32_t unit)
{
    return k >= 1 && k <= EC_K_MAX && unit >= CHECKSUM_UNIT &&
           unit <= STRIPE_UNIT_MAX && unit % CHECKSUM_UNIT == 0;
}

uint32_t stripe_count(uint64_t object_size, uint32_t k, uint32_t unit)
{
    uint64_t capacity = (uint64_t)k * unit;

    return (uint32_t)((object_size + capacity - 1) / capacity);
}

uint32_t stripe_length(uint64_t object_size,
                       uint32_t k,
                       uint32_t unit,
                       uint32_t stripe)
{
    uint64_t capacity = (uint64_t)k * unit;
    uint64_t before = stripe * capacity;

    assert(before < object_size);
    return object_size - before < capacity ? (uint32_t)(object_size - before)
                                           : (uint32_t)capacity;
}

uint32_t stripe_block_size(uint32_t length, uint32_t k)
{
    uint32_t share = length / k + (length % k != 0);

    return (share + EC_BLOCK_ALIGN - 1) / EC_BLOCK_ALIGN * EC_BLOCK_ALIGN;
}

struct block_range stripe_block_range(uint32_t block_size,
                                      uint32_t index,
                                      uint32_t start,
                                      uint32_t length)
{
    uint32_t block_start = index * block_size;
    uint32_t from = max_u32(start, block_start);
    uint32_t to = min_u32(start + length, block_start + block_size);
    struct block_range range = { 0, 0 };

    if (from < to) {
        range.start = from - block_start;
        range.length = to - from;
    }
    return range;
}

struct block_range block_range_widen(struct block_range range,
                                     uint32_t block_size)
{
    uint32_t from = range.start / CHECKSUM_UNIT * CHECKSUM_UNIT;
    uint32_t to = (range.start + range.length + CHECKSUM_UNIT - 1) /
                  CHECKSUM_UNIT * CHECKSUM_UNIT;
    struct block_range wide = { from, min_u32(to, block_size) - from };

    return wide;
}
