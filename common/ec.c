/* Every block that is computed here, parity or rebuilt, is a linear combination
 * of k other blocks. Encoding takes the coefficients from the coding matrix;
 * decoding from that matrix times the inverse of the rows of the k blocks it
 * starts from.
 *
 * GF-Complete multiplies one source region into one target region per call. So
 * that k sources and all targets stay in the processor's cache between those
 * calls, blocks are walked in steps of STEP_BYTES. */
#include "common/ec.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <gf_complete.h>
#include <jerasure.h>
#include <jerasure/galois.h>
#include <jerasure/reed_sol.h>

#define WORD_BITS  8
#define STEP_BYTES ((size_t)16 << 10)

struct ec {
    unsigned k;  /* data blocks per stripe */
    unsigned m;  /* parity blocks per stripe */
    gf_t *field; /* borrowed: Jerasure's own, never freed */
    int coding[EC_M_MAX]
              [EC_K_MAX]; /* parity i = sum of coding[i][j] * data j */
};

/* Blocks to compute and how. */
struct combination {
    unsigned n_targets;
    uint8_t *targets[EC_BLOCKS_MAX];      /* borrowed */
    int factors[EC_BLOCKS_MAX][EC_K_MAX]; /* per target and source */
    const uint8_t *sources[EC_K_MAX];     /* borrowed: k of them */
};

/* Jerasure keeps its fields in a table without a lock and fills it on first
 * use. Filling it here, once, makes it constant for everyone else. */
static gf_t *shared_field(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static bool ready;
    gf_t *field = NULL;

    (void)pthread_mutex_lock(&lock);
    if (!ready) {
        ready = galois_init_default_field(WORD_BITS) == 0;
    }
    if (ready) {
        field = galois_get_field_ptr(WORD_BITS);
    }
    (void)pthread_mutex_unlock(&lock);
    return field;
}

int ec_new(unsigned k, unsigned m, struct ec **ret_ec)
{
    struct ec *ec = NULL;
    int *matrix = NULL;

    if (k == 0 || k > EC_K_MAX || m > EC_M_MAX) {
        return -EINVAL;
    }
    ec = calloc(1, sizeof *ec);
    if (ec == NULL) {
        return -ENOMEM;
    }
    ec->k = k;
    ec->m = m;
    ec->field = shared_field();
    if (ec->field == NULL) {
        goto fail;
    }
    if (m > 0) {
        matrix = reed_sol_vandermonde_coding_matrix((int)k, (int)m, WORD_BITS);
        if (matrix == NULL) {
            goto fail;
        }
    }
    for (unsigned i = 0; i < m; i++) {
        memcpy(ec->coding[i], matrix + (size_t)i * k, k * sizeof *matrix);
    }
    free(matrix);
    *ret_ec = ec;
    return 0;

fail:
    free(ec);
    return -ENOMEM;
}

void ec_free(struct ec *ec)
{
    free(ec);
}

unsigned ec_k(const struct ec *ec)
{
    return ec->k;
}

unsigned ec_m(const struct ec *ec)
{
    return ec->m;
}

/* Compute bytes offset..offset+size-1 of one target. */
static void combine_step(const struct ec *ec,
                         const struct combination *c,
                         unsigned target,
                         size_t offset,
                         size_t size)
{
    uint8_t *to = c->targets[target] + offset;
    bool add = false;

    for (unsigned j = 0; j < ec->k; j++) {
        int factor = c->factors[target][j];
        /* GF-Complete takes sources without const but only reads them. */
        void *from = (void *)(uintptr_t)(c->sources[j] + offset);

        if (factor == 0) {
            continue;
        }
        ec->field->multiply_region.w32(ec->field, from, to, (gf_val_32_t)factor,
                                       (int)size, add);
        add = true;
    }
    assert(add); /* a row of zeros would make the code singular */
}

static void combine(const struct ec *ec,
                    const struct combination *c,
                    size_t block_size)
{
    for (size_t offset = 0; offset < block_size; offset += STEP_BYTES) {
        size_t left = block_size - offset;
        size_t size = left < STEP_BYTES ? left : STEP_BYTES;

        for (unsigned i = 0; i < c->n_targets; i++) {
            combine_step(ec, c, i, offset, size);
        }
    }
}

static void assert_block(const uint8_t *block)
{
    assert(block != NULL && (uintptr_t)block % 16 == 0);
}

void ec_encode(const struct ec *ec,
               uint8_t *const *data,
               uint8_t *const *parity,
               size_t block_size)
{
    struct combination c;

    assert(block_size % EC_BLOCK_ALIGN == 0);
    c.n_targets = ec->m;
    for (unsigned j = 0; j < ec->k; j++) {
        assert_block(data[j]);
        c.sources[j] = data[j];
    }
    for (unsigned i = 0; i < ec->m; i++) {
        assert_block(parity[i]);
        c.targets[i] = parity[i];
        memcpy(c.factors[i], ec->coding[i], sizeof c.factors[i]);
    }
    combine(ec, &c, block_size);
}

/* The blocks that decoding starts from: the first k present. */
static void choose_sources(const struct ec *ec,
                           uint32_t present,
                           unsigned *ret_chosen)
{
    unsigned n = 0;

    for (unsigned i = 0; n < ec->k; i++) {
        if ((present >> i & 1) != 0) {
            ret_chosen[n++] = i;
        }
    }
}

/* Coefficients that give each data block from the chosen blocks: `ret_inverse`
 * is a k by k matrix, rows by data block, columns by chosen block. */
static void invert(const struct ec *ec,
                   const unsigned *chosen,
                   int *ret_inverse)
{
    int rows[EC_K_MAX * EC_K_MAX] = { 0 };
    size_t k = ec->k;
    int rc;

    for (size_t i = 0; i < k; i++) {
        if (chosen[i] < k) {
            rows[i * k + chosen[i]] = 1;
        } else {
            memcpy(&rows[i * k], ec->coding[chosen[i] - k], k * sizeof *rows);
        }
    }
    rc = jerasure_invert_matrix(rows, ret_inverse, (int)k, WORD_BITS);
    assert(rc == 0); /* any k rows of the code are independent */
    (void)rc;
}

/* Coefficients that give block `index` from the chosen blocks. */
static void block_factors(const struct ec *ec,
                          const int *inverse,
                          unsigned index,
                          int *ret_factors)
{
    size_t k = ec->k;

    if (index < k) {
        memcpy(ret_factors, inverse + index * k, k * sizeof *inverse);
        return;
    }
    for (size_t j = 0; j < k; j++) {
        int sum = 0;

        for (size_t i = 0; i < k; i++) {
            sum ^= galois_single_multiply(ec->coding[index - k][i],
                                          inverse[i * k + j], WORD_BITS);
        }
        ret_factors[j] = sum;
    }
}

int ec_decode(const struct ec *ec,
              uint8_t *const *blocks,
              uint32_t present,
              uint32_t wanted,
              size_t block_size)
{
    uint32_t all = ((uint32_t)1 << (ec->k + ec->m)) - 1;
    unsigned chosen[EC_K_MAX];
    int inverse[EC_K_MAX * EC_K_MAX];
    struct combination c;

    assert(block_size % EC_BLOCK_ALIGN == 0);
    present &= all;
    wanted &= all & ~present;
    if ((unsigned)__builtin_popcount(present) < ec->k) {
        return -EIO;
    }
    if (wanted == 0) {
        return 0;
    }
    choose_sources(ec, present, chosen);
    invert(ec, chosen, inverse);
    for (unsigned j = 0; j < ec->k; j++) {
        assert_block(blocks[chosen[j]]);
        c.sources[j] = blocks[chosen[j]];
    }
    c.n_targets = 0;
    for (unsigned i = 0; i < ec->k + ec->m; i++) {
        if ((wanted >> i & 1) != 0) {
            assert_block(blocks[i]);
            block_factors(ec, inverse, i, c.factors[c.n_targets]);
            c.targets[c.n_targets++] = blocks[i];
        }
    }
    combine(ec, &c, block_size);
    return 0;
}
