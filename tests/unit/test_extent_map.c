#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <check.h>

#include "fusefs/extent_map.h"

#define SPACE     4096u
#define N_SOURCES 5u

/* What the map should say of one byte. */
struct byte {
    struct source *source; /* borrowed; NULL: nothing there */
    uint64_t source_offset;
};

static struct source *sources[N_SOURCES];
static struct byte model[SPACE];
static struct extent_map map;

static void setup(void)
{
    for (size_t i = 0; i < N_SOURCES; i++) {
        sources[i] = source_new_inline((const uint8_t *)"x", 1);
        ck_assert_ptr_nonnull(sources[i]);
    }
    memset(model, 0, sizeof model);
    memset(&map, 0, sizeof map);
}

static void teardown(void)
{
    extent_map_clear(&map);
    for (size_t i = 0; i < N_SOURCES; i++) {
        ck_assert_int_eq(sources[i]->refs, 1);
        source_unref(sources[i]);
    }
}

static void put(uint64_t offset,
                uint64_t length,
                size_t source,
                uint64_t source_offset)
{
    struct map_extent extent = { .offset = offset,
                                 .length = length,
                                 .source = sources[source],
                                 .source_offset = source_offset };

    if (extent_map_put(&map, &extent) != 0) {
        ck_abort_msg("extent_map_put failed");
    }
    for (uint64_t i = 0; i < length; i++) {
        model[offset + i].source = sources[source];
        model[offset + i].source_offset = source_offset + i;
    }
}

static void cut(uint64_t offset, uint64_t length)
{
    if (extent_map_cut(&map, offset, length) != 0) {
        ck_abort_msg("extent_map_cut failed");
    }
    memset(&model[offset], 0, length * sizeof model[0]);
}

static size_t model_extents(void)
{
    size_t n = 0;

    for (size_t i = 0; i < SPACE; i++) {
        const struct byte *b = &model[i];

        if (b->source != NULL &&
            (i == 0 || b[-1].source != b->source ||
             b[-1].source_offset + 1 != b->source_offset)) {
            n++;
        }
    }
    return n;
}

/* Whether the bytes from..to-1 of the model are those of `extent`; NULL: none.
 * (An assertion for each byte would cost minutes.) */
static bool same_bytes(uint64_t from,
                       uint64_t to,
                       const struct map_extent *extent)
{
    for (uint64_t i = from; i < to; i++) {
        if (extent == NULL
                ? model[i].source != NULL
                : model[i].source != extent->source ||
                      model[i].source_offset !=
                          extent->source_offset + i - extent->offset) {
            return false;
        }
    }
    return true;
}

/* Compare map and model, byte for byte. */
static void check_same(void)
{
    struct map_extent extent;
    uint64_t pos = 0;
    uint64_t bytes = 0;
    size_t n = 0;
    bool same = true;

    while (extent_map_find(&map, pos, &extent)) {
        same = same && extent.offset >= pos &&
               same_bytes(pos, extent.offset, NULL) &&
               same_bytes(extent.offset, map_extent_end(&extent), &extent);
        pos = map_extent_end(&extent);
        bytes += extent.length;
        n++;
    }
    ck_assert(same);
    ck_assert_uint_eq(extent_map_end(&map), pos);
    ck_assert(same_bytes(pos, SPACE, NULL));
    ck_assert_uint_eq(map.bytes, bytes);
    ck_assert_uint_eq(map.count, n);
    ck_assert_uint_eq(n, model_extents());
}

START_TEST(an_overwrite_in_the_middle_splits)
{
    put(100, 100, 0, 0);
    put(130, 20, 1, 7);
    check_same();
    ck_assert_uint_eq(map.count, 3);
}
END_TEST

START_TEST(contiguous_ranges_are_one)
{
    put(100, 50, 0, 1000);
    put(200, 50, 0, 1100);
    put(150, 50, 0, 1050);
    check_same();
    ck_assert_uint_eq(map.count, 1);
}
END_TEST

START_TEST(ranges_of_different_sources_stay_apart)
{
    put(100, 50, 0, 1000);
    put(150, 50, 1, 1050);
    put(200, 50, 1, 1101);
    check_same();
    ck_assert_uint_eq(map.count, 3);
}
END_TEST

START_TEST(random_operations_agree_with_a_byte_array)
{
    unsigned seed = (unsigned)_i + 1;
    unsigned length_max = _i % 2 == 0 ? 24 : 600;

    for (unsigned i = 0; i < 6000; i++) {
        uint64_t offset = (unsigned)rand_r(&seed) % SPACE;
        uint64_t length = 1 + (unsigned)rand_r(&seed) % length_max;

        length = length < SPACE - offset ? length : SPACE - offset;
        if (rand_r(&seed) % 4 == 0) {
            cut(offset, length);
        } else {
            /* Equal distances of file and source offsets make neighbours
             * that continue each other likely. */
            put(offset, length, (size_t)rand_r(&seed) % N_SOURCES,
                offset + 8 * ((unsigned)rand_r(&seed) % 2));
        }
        if (i % 16 == 0) {
            check_same();
        }
    }
    check_same();
    cut(0, SPACE);
    check_same();
}
END_TEST

START_TEST(single_bytes_fill_many_leaves)
{
    for (uint64_t i = 0; i < SPACE; i += 2) {
        put((i * 1031) % SPACE, 1, i / 2 % N_SOURCES, i);
    }
    check_same();
    ck_assert_uint_gt(map.n_leaves, 4);
    cut(SPACE / 8, SPACE / 2);
    check_same();
    put(1, SPACE - 2, 0, 0);
    check_same();
}
END_TEST

START_TEST(overlay_moves_all)
{
    struct extent_map over = { 0 };
    struct map_extent extent = { .offset = 120,
                                 .length = 10,
                                 .source = sources[1] };

    put(100, 100, 0, 0);
    ck_assert_int_eq(extent_map_put(&over, &extent), 0);
    ck_assert_int_eq(extent_map_overlay(&map, &over), 0);
    put(120, 10, 1, 0);
    check_same();
    ck_assert_uint_eq(over.count, 0);
}
END_TEST

/* A million extents: quadratic work would take minutes. */
START_TEST(a_million_random_extents_take_seconds)
{
    struct timespec start;
    struct timespec end;
    uint64_t n = 1000000;
    uint64_t x = 1;
    int rc = 0;

    (void)clock_gettime(CLOCK_MONOTONIC, &start);
    for (uint64_t i = 0; i < n; i++) {
        struct map_extent extent = { .length = 4096,
                                     .source = sources[0],
                                     .source_offset = i * 8192 };

        x = x * 6364136223846793005u + 1442695040888963407u;
        extent.offset = (x >> 33) % (n * 4) * 4096;
        rc |= extent_map_put(&map, &extent);
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_lt(end.tv_sec - start.tv_sec, 20);
    ck_assert_uint_gt(map.count, n / 2);
    ck_assert_uint_eq(map.bytes, map.count * 4096);
    ck_assert_int_eq(extent_map_cut(&map, 4096, n * 4 * 4096), 0);
    ck_assert_uint_le(map.count, 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("extent_map");
    TCase *tcase = tcase_create("extent_map");
    SRunner *runner = srunner_create(suite);
    int n_failed;

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, an_overwrite_in_the_middle_splits);
    tcase_add_test(tcase, contiguous_ranges_are_one);
    tcase_add_test(tcase, ranges_of_different_sources_stay_apart);
    tcase_add_loop_test(tcase, random_operations_agree_with_a_byte_array, 0, 8);
    tcase_add_test(tcase, single_bytes_fill_many_leaves);
    tcase_add_test(tcase, overlay_moves_all);
    tcase_add_test(tcase, a_million_random_extents_take_seconds);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_ENV);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
