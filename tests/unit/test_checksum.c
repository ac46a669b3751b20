/* Checksums against published values and a bitwise reference. */
#include <stdlib.h>
#include <string.h>

#include <check.h>

#include "common/checksum.h"

static uint32_t reference_crc32c(const uint8_t *data, size_t size)
{
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (0x82f63b78 & (0 - (crc & 1)));
        }
    }
    return ~crc;
}

static void fill(uint8_t *bytes, size_t size)
{
    uint32_t state = 1;

    for (size_t i = 0; i < size; i++) {
        state = state * 1664525 + 1013904223;
        bytes[i] = (uint8_t)(state >> 24);
    }
}

START_TEST(gives_the_published_values)
{
    uint8_t zeros[32] = { 0 };

    ck_assert_uint_eq(checksum_crc32c("123456789", 9), 0xe3069283);
    ck_assert_uint_eq(checksum_crc32c("", 0), 0);
    /* RFC 3720, appendix B.4 */
    ck_assert_uint_eq(checksum_crc32c(zeros, sizeof zeros), 0x8a9136aa);
}
END_TEST

START_TEST(equals_the_bitwise_reference_at_any_size_and_alignment)
{
    uint8_t bytes[5000];

    fill(bytes, sizeof bytes);
    for (size_t start = 0; start < 17; start++) {
        for (size_t size = 0; size < 4900; size += 1 + size / 3) {
            ck_assert_uint_eq(checksum_crc32c(bytes + start, size),
                              reference_crc32c(bytes + start, size));
        }
    }
}
END_TEST

static const size_t sizes[] = { 0, 1, 4095, 4096, 4097, 8192, 12345 };

START_TEST(every_unit_has_its_own_checksum)
{
    size_t size = sizes[_i];
    uint8_t *bytes = calloc(1, size + 1);
    uint32_t checksums[4] = { 0 };

    fill(bytes, size);
    checksum_compute(bytes, size, checksums);
    for (size_t i = 0; i < checksum_units(size); i++) {
        size_t left = size - i * CHECKSUM_UNIT;

        ck_assert_uint_eq(
            checksums[i],
            reference_crc32c(bytes + i * CHECKSUM_UNIT,
                             left < CHECKSUM_UNIT ? left : CHECKSUM_UNIT));
    }
    ck_assert_int_eq(checksum_verify(bytes, size, checksums), -1);
    free(bytes);
}
END_TEST

START_TEST(a_flipped_bit_is_found_in_its_unit)
{
    uint8_t bytes[3 * CHECKSUM_UNIT + 100];
    uint32_t checksums[4];

    fill(bytes, sizeof bytes);
    checksum_compute(bytes, sizeof bytes, checksums);
    for (size_t at = 0; at < sizeof bytes; at += 97) {
        bytes[at] ^= (uint8_t)(1 << (at % 8));
        ck_assert_int_eq(checksum_verify(bytes, sizeof bytes, checksums),
                         (long)(at / CHECKSUM_UNIT));
        bytes[at] ^= (uint8_t)(1 << (at % 8));
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("checksum");
    TCase *tcase = tcase_create("checksum");
    SRunner *runner;
    int failed;

    tcase_add_test(tcase, gives_the_published_values);
    tcase_add_test(tcase,
                   equals_the_bitwise_reference_at_any_size_and_alignment);
    tcase_add_loop_test(tcase, every_unit_has_its_own_checksum, 0,
                        sizeof sizes / sizeof *sizes);
    tcase_add_test(tcase, a_flipped_bit_is_found_in_its_unit);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
