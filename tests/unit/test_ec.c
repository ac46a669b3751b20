/* The codec against a plain GF(2^8) reference, and every pattern of loss. */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <check.h>

#include "common/ec.h"

/* A stripe of up to EC_BLOCKS_MAX blocks and a copy of the truth. */
struct stripe {
    uint8_t *blocks[EC_BLOCKS_MAX];
    uint8_t *truth[EC_BLOCKS_MAX];
    unsigned n;
    size_t size; /* of a block */
};

static uint32_t seed = 12345;

static uint32_t next_random(void)
{
    seed = seed * 1664525 + 1013904223;
    return seed >> 8;
}

static void stripe_init(struct stripe *stripe, unsigned n, size_t size)
{
    stripe->n = n;
    stripe->size = size;
    for (unsigned i = 0; i < n; i++) {
        stripe->blocks[i] = aligned_alloc(64, size + 64);
        stripe->truth[i] = aligned_alloc(64, size + 64);
        for (size_t b = 0; b < size; b++) {
            stripe->blocks[i][b] = (uint8_t)next_random();
        }
    }
}

static void stripe_encode(struct stripe *stripe, const struct ec *ec)
{
    ec_encode(ec, stripe->blocks, stripe->blocks + ec_k(ec), stripe->size);
    for (unsigned i = 0; i < stripe->n; i++) {
        memcpy(stripe->truth[i], stripe->blocks[i], stripe->size);
    }
}

static void stripe_close(struct stripe *stripe)
{
    for (unsigned i = 0; i < stripe->n; i++) {
        free(stripe->blocks[i]);
        free(stripe->truth[i]);
    }
}

static struct ec *new_codec(unsigned k, unsigned m)
{
    struct ec *ec = NULL;

    ck_assert_int_eq(ec_new(k, m, &ec), 0);
    return ec;
}

/* Lose the blocks outside `present`, decode, compare with the truth. */
static void check_loss(struct stripe *stripe,
                       const struct ec *ec,
                       uint32_t present,
                       uint32_t wanted)
{
    uint8_t *blocks[EC_BLOCKS_MAX];

    for (unsigned i = 0; i < stripe->n; i++) {
        bool has = (present >> i & 1) != 0;
        bool wants = (wanted >> i & 1) != 0;

        blocks[i] = has || wants ? stripe->blocks[i] : NULL;
        if (!has) {
            memset(stripe->blocks[i], 0xee, stripe->size);
        }
    }
    ck_assert_int_eq(ec_decode(ec, blocks, present, wanted, stripe->size), 0);
    for (unsigned i = 0; i < stripe->n; i++) {
        if ((present >> i & 1) != 0 || (wanted >> i & 1) != 0) {
            ck_assert_mem_eq(stripe->blocks[i], stripe->truth[i], stripe->size);
        }
        memcpy(stripe->blocks[i], stripe->truth[i], stripe->size);
    }
}

static unsigned count_bits(uint32_t bits)
{
    return (unsigned)__builtin_popcount(bits);
}

static const struct {
    unsigned k, m;
    size_t size;
} shapes[] = {
    { 1, 0, 64 },    { 1, 1, 64 },    { 1, 2, 4096 },  { 1, 8, 128 },
    { 2, 1, 320 },   { 2, 2, 192 },   { 3, 2, 16448 }, { 4, 2, 64 },
    { 4, 2, 20480 }, { 4, 2, 65536 }, { 4, 4, 640 },   { 6, 3, 64 },
    { 8, 3, 64 },    { 8, 4, 128 },   { 10, 4, 64 },   { 16, 2, 128 },
    { 5, 0, 64 },
};
#define N_SHAPES (sizeof shapes / sizeof *shapes)

START_TEST(any_k_blocks_give_back_all_others)
{
    unsigned k = shapes[_i].k;
    unsigned n = k + shapes[_i].m;
    uint32_t all = ((uint32_t)1 << n) - 1;
    struct ec *ec = new_codec(k, shapes[_i].m);
    struct stripe stripe;

    stripe_init(&stripe, n, shapes[_i].size);
    stripe_encode(&stripe, ec);
    for (uint32_t present = 0; present <= all; present++) {
        if (count_bits(present) >= k) {
            check_loss(&stripe, ec, present, all & ~present);
        }
    }
    stripe_close(&stripe);
    ec_free(ec);
}
END_TEST

START_TEST(random_losses_of_the_widest_code_are_rebuilt)
{
    struct ec *ec = new_codec(EC_K_MAX, EC_M_MAX);
    uint32_t all = ((uint32_t)1 << EC_BLOCKS_MAX) - 1;
    struct stripe stripe;

    stripe_init(&stripe, EC_BLOCKS_MAX, 64);
    stripe_encode(&stripe, ec);
    for (int round = 0; round < 3000; round++) {
        uint32_t present = all;

        while (count_bits(present) > EC_K_MAX) {
            present &= ~((uint32_t)1 << (next_random() % EC_BLOCKS_MAX));
        }
        check_loss(&stripe, ec, present, all & ~present);
    }
    stripe_close(&stripe);
    ec_free(ec);
}
END_TEST

START_TEST(sizes_around_the_cache_step_decode)
{
    struct ec *ec = new_codec(4, 2);

    for (int round = 0; round < 60; round++) {
        size_t size = EC_BLOCK_ALIGN * (1 + next_random() % 1100);
        struct stripe stripe;

        stripe_init(&stripe, 6, size);
        stripe_encode(&stripe, ec);
        check_loss(&stripe, ec, 0x3c, 0x03);
        check_loss(&stripe, ec, 0x1b, 0x24);
        stripe_close(&stripe);
    }
    ec_free(ec);
}
END_TEST

START_TEST(only_wanted_blocks_are_touched)
{
    struct ec *ec = new_codec(4, 2);
    struct stripe stripe;

    stripe_init(&stripe, 6, 4096);
    stripe_encode(&stripe, ec);
    for (unsigned want = 0; want < 6; want++) {
        uint32_t lost = (uint32_t)1 << want | (uint32_t)1 << (want + 1) % 6;

        check_loss(&stripe, ec, 0x3f & ~lost, (uint32_t)1 << want);
    }
    check_loss(&stripe, ec, 0x3f, 0x3f);
    check_loss(&stripe, ec, 0x0f, 0);
    stripe_close(&stripe);
    ec_free(ec);
}
END_TEST

START_TEST(fewer_than_k_blocks_are_an_error)
{
    struct ec *ec = new_codec(4, 2);
    struct stripe stripe;

    stripe_init(&stripe, 6, 64);
    for (uint32_t present = 0; present < 64; present++) {
        if (count_bits(present) < 4) {
            ck_assert_int_eq(ec_decode(ec, stripe.blocks, present, 0x3f, 64),
                             -EIO);
        }
    }
    /* bits beyond the code do not count as blocks */
    ck_assert_int_eq(ec_decode(ec, stripe.blocks, 0xffffffc7, 0x3f, 64), -EIO);
    stripe_close(&stripe);
    ec_free(ec);
}
END_TEST

/* Product in GF(2^8) with the polynomial x^8+x^4+x^3+x^2+1. */
static uint8_t multiply(uint8_t a, uint8_t b)
{
    unsigned product = 0;

    for (unsigned bit = 0; bit < 8; bit++) {
        if ((b >> bit & 1) != 0) {
            product ^= (unsigned)a << bit;
        }
    }
    for (unsigned bit = 15; bit >= 8; bit--) {
        if ((product >> bit & 1) != 0) {
            product ^= 0x11dU << (bit - 8);
        }
    }
    return (uint8_t)product;
}

/* The code is linear: unit vectors give its matrix, and any other stripe must
 * be the combination of them that the field's arithmetic says. */
START_TEST(encoding_equals_plain_field_arithmetic)
{
    unsigned k = shapes[_i].k;
    unsigned m = shapes[_i].m;
    uint8_t matrix[EC_M_MAX][EC_K_MAX];
    struct ec *ec = new_codec(k, m);
    struct stripe stripe;

    stripe_init(&stripe, k + m, 64);
    for (unsigned j = 0; j < k; j++) {
        for (unsigned i = 0; i < k; i++) {
            memset(stripe.blocks[i], i == j, 64);
        }
        stripe_encode(&stripe, ec);
        for (unsigned i = 0; i < m; i++) {
            matrix[i][j] = stripe.blocks[k + i][0];
            ck_assert_uint_ne(matrix[i][j], 0);
        }
    }
    stripe_close(&stripe);

    stripe_init(&stripe, k + m, shapes[_i].size);
    stripe_encode(&stripe, ec);
    for (unsigned i = 0; i < m; i++) {
        for (size_t b = 0; b < stripe.size; b++) {
            uint8_t sum = 0;

            for (unsigned j = 0; j < k; j++) {
                sum ^= multiply(matrix[i][j], stripe.blocks[j][b]);
            }
            ck_assert_uint_eq(stripe.blocks[k + i][b], sum);
        }
    }
    stripe_close(&stripe);
    ec_free(ec);
}
END_TEST

/* Stored parity must stay readable by later releases: the matrix never changes.
 * These are the rows of Jerasure's reed_sol_van for k=4 m=2 w=8. */
START_TEST(the_default_code_is_what_it_always_was)
{
    static const uint8_t second_row[4] = { 1, 70, 143, 200 };
    struct ec *ec = new_codec(4, 2);
    struct stripe stripe;

    stripe_init(&stripe, 6, 64);
    for (unsigned j = 0; j < 4; j++) {
        for (unsigned i = 0; i < 4; i++) {
            memset(stripe.blocks[i], i == j, 64);
        }
        stripe_encode(&stripe, ec);
        ck_assert_uint_eq(stripe.blocks[4][63], 1);
        ck_assert_uint_eq(stripe.blocks[5][63], second_row[j]);
    }
    stripe_close(&stripe);
    ec_free(ec);
}
END_TEST

START_TEST(one_data_block_makes_copies)
{
    struct ec *ec = new_codec(1, 3);
    struct stripe stripe;

    stripe_init(&stripe, 4, 4096);
    stripe_encode(&stripe, ec);
    for (unsigned i = 1; i < 4; i++) {
        ck_assert_mem_eq(stripe.blocks[i], stripe.blocks[0], 4096);
    }
    stripe_close(&stripe);
    ec_free(ec);
}
END_TEST

START_TEST(shapes_out_of_range_are_refused)
{
    struct ec *ec = NULL;

    ck_assert_int_eq(ec_new(0, 2, &ec), -EINVAL);
    ck_assert_int_eq(ec_new(EC_K_MAX + 1, 2, &ec), -EINVAL);
    ck_assert_int_eq(ec_new(4, EC_M_MAX + 1, &ec), -EINVAL);
    ck_assert_ptr_null(ec);
    ec_free(NULL);
}
END_TEST

static void *code_alone(void *unused)
{
    struct ec *ec = new_codec(4, 2);
    uint8_t data[6][64] __attribute__((aligned(64)));
    uint8_t *blocks[6];
    static const uint8_t expected[6] = { 1, 2, 3, 4, 0, 0 };

    (void)unused;
    for (unsigned i = 0; i < 6; i++) {
        memset(data[i], expected[i], 64);
        blocks[i] = data[i];
    }
    ec_encode(ec, blocks, blocks + 4, 64);
    memset(data[0], 0, 64);
    memset(data[2], 0, 64);
    ck_assert_int_eq(ec_decode(ec, blocks, 0x3a, 0x05, 64), 0);
    ck_assert_uint_eq(data[0][63], 1);
    ck_assert_uint_eq(data[2][63], 3);
    ec_free(ec);
    return NULL;
}

START_TEST(first_use_by_many_threads_at_once_is_safe)
{
    pthread_t threads[8];

    for (unsigned i = 0; i < 8; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, code_alone, NULL),
                         0);
    }
    for (unsigned i = 0; i < 8; i++) {
        (void)pthread_join(threads[i], NULL);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ec");
    TCase *tcase = tcase_create("ec");
    SRunner *runner;
    int failed;

    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, first_use_by_many_threads_at_once_is_safe);
    tcase_add_loop_test(tcase, any_k_blocks_give_back_all_others, 0, N_SHAPES);
    tcase_add_test(tcase, random_losses_of_the_widest_code_are_rebuilt);
    tcase_add_test(tcase, sizes_around_the_cache_step_decode);
    tcase_add_test(tcase, only_wanted_blocks_are_touched);
    tcase_add_test(tcase, fewer_than_k_blocks_are_an_error);
    tcase_add_loop_test(tcase, encoding_equals_plain_field_arithmetic, 0,
                        N_SHAPES);
    tcase_add_test(tcase, the_default_code_is_what_it_always_was);
    tcase_add_test(tcase, one_data_block_makes_copies);
    tcase_add_test(tcase, shapes_out_of_range_are_refused);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
