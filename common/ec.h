/* Erasure coding of stripes: Reed-Solomon over GF(2^8), Jerasure's
 * reed_sol_van matrix, any k data and m parity blocks.
 *
 * A codec is immutable after ec_new() and may be used by many threads at once.
 * Blocks of a stripe are of one size, a multiple of EC_BLOCK_ALIGN, at memory
 * aligned to 16 bytes. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

#define EC_K_MAX       16u
#define EC_M_MAX       8u
#define EC_BLOCKS_MAX  (EC_K_MAX + EC_M_MAX)
#define EC_BLOCK_ALIGN 64u

struct ec;

/* Create a codec with `k` data and `m` parity blocks per stripe.
 *
 * On success `*ret_ec` is a new codec that the caller owns and releases with
 * ec_free(). On failure `*ret_ec` is left alone. `m` may be 0 (no parity).
 *
 * Errors: -EINVAL  `k` is 0 or above EC_K_MAX, or `m` is above EC_M_MAX.
 *         -ENOMEM  Out of memory. */
MUST_CHECK int ec_new(unsigned k, unsigned m, struct ec **ret_ec);

void ec_free(struct ec *ec);

unsigned ec_k(const struct ec *ec);
unsigned ec_m(const struct ec *ec);

/* Compute the m parity blocks from the k data blocks. */
void ec_encode(const struct ec *ec,
               uint8_t *const *data,
               uint8_t *const *parity,
               size_t block_size);

/* Rebuild every block of `blocks` (k+m pointers, data first) whose bit is not
 * set in `present`, in place, and only those whose bit is set in `wanted`.
 * Blocks neither present nor wanted may be NULL.
 *
 * Errors: -EIO     Fewer than k blocks are present.
 *         -ENOMEM  Out of memory. */
MUST_CHECK int ec_decode(const struct ec *ec,
                         uint8_t *const *blocks,
                         uint32_t present,
                         uint32_t wanted,
                         size_t block_size);
