/* Placement: shape of the lists, balance, zones, and what changes move. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <check.h>

#include "common/placement.h"

#define ROWS PLACEMENT_PARTITIONS

static uint32_t entry(const struct placement *p,
                      uint32_t row,
                      uint32_t position)
{
    return placement_table(p)[(size_t)row * placement_width(p) + position];
}

/* Rows in which the node holds one of the positions first..end-1. */
static uint32_t count(const struct placement *p,
                      uint32_t id,
                      uint32_t first,
                      uint32_t end)
{
    uint32_t n = 0;

    for (uint32_t row = 0; row < ROWS; row++) {
        for (uint32_t position = first; position < end; position++) {
            n += entry(p, row, position) == id;
        }
    }
    return n;
}

static void plain_nodes(struct placement_node *nodes, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        nodes[i] = (struct placement_node){ .id = i + 1, .weight = 100 };
    }
}

static struct placement *new_placement(const struct placement_node *nodes,
                                       size_t n,
                                       uint32_t width)
{
    struct placement *placement = NULL;

    ck_assert_int_eq(placement_new(nodes, n, width, &placement), 0);
    return placement;
}

static struct placement *edit(const struct placement *old,
                              const struct placement_node *nodes,
                              size_t n)
{
    struct placement *placement = NULL;

    ck_assert_int_eq(placement_edit(old, nodes, n, &placement), 0);
    return placement;
}

/* Whether every list names nodes of `nodes`, each once. Check takes its time
 * for an assertion, so the loops here assert nothing. */
static bool lists_are_right(const struct placement *p,
                            const struct placement_node *nodes,
                            size_t n_nodes)
{
    bool known[UINT16_MAX + 1] = { false };

    for (size_t i = 0; i < n_nodes; i++) {
        known[nodes[i].id] = true;
    }
    for (uint32_t row = 0; row < ROWS; row++) {
        for (uint32_t i = 0; i < placement_width(p); i++) {
            if (!known[entry(p, row, i)]) {
                return false;
            }
            for (uint32_t j = 0; j < i; j++) {
                if (entry(p, row, i) == entry(p, row, j)) {
                    return false;
                }
            }
        }
    }
    return true;
}

static uint32_t zone_of(const struct placement_node *nodes, uint32_t id)
{
    while (nodes->id != id) {
        nodes++;
    }
    return nodes->zone != 0 ? nodes->zone : UINT32_MAX - id;
}

/* Whether the first `n` of every list are in distinct zones. */
static bool zones_are_distinct(const struct placement *p,
                               const struct placement_node *nodes,
                               uint32_t n)
{
    for (uint32_t row = 0; row < ROWS; row++) {
        for (uint32_t i = 1; i < n; i++) {
            for (uint32_t j = 0; j < i; j++) {
                if (zone_of(nodes, entry(p, row, i)) ==
                    zone_of(nodes, entry(p, row, j))) {
                    return false;
                }
            }
        }
    }
    return true;
}

static const struct {
    uint32_t n_nodes, width;
} plain[] = { { 1, 1 }, { 1, 32 },  { 2, 32 },  { 3, 2 },  { 6, 6 },  { 6, 32 },
              { 7, 6 }, { 12, 12 }, { 40, 32 }, { 40, 6 }, { 100, 8 } };
#define N_PLAIN (sizeof plain / sizeof *plain)

START_TEST(equal_nodes_share_every_position_equally)
{
    struct placement_node nodes[100] = { 0 };
    uint32_t n = plain[_i].n_nodes;
    struct placement *p;

    plain_nodes(nodes, n);
    p = new_placement(nodes, n, plain[_i].width);
    ck_assert_uint_eq(placement_width(p),
                      n < plain[_i].width ? n : plain[_i].width);
    ck_assert(lists_are_right(p, nodes, n));
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t position = 0; position < placement_width(p); position++) {
            double share = count(p, i + 1, position, position + 1);

            ck_assert_double_ge(share, 0.96 * ROWS / n - 1);
            ck_assert_double_le(share, 1.04 * ROWS / n + 1);
        }
    }
    placement_free(p);
}
END_TEST

START_TEST(positions_are_shared_by_weight)
{
    static const struct placement_node nodes[] = {
        { 1, 0, 100 }, { 2, 0, 200 }, { 3, 0, 300 },   { 4, 0, 100 },
        { 5, 0, 200 }, { 6, 0, 300 }, { 7, 0, 20 },    { 8, 0, 100 },
        { 9, 0, 300 }, { 10, 0, 50 }, { 500, 0, 200 },
    };
    struct placement *p = new_placement(nodes, 11, 5);

    ck_assert(lists_are_right(p, nodes, 11));
    for (uint32_t i = 0; i < 11; i++) {
        double want = (double)ROWS * nodes[i].weight / 1870;

        for (uint32_t position = 0; position < 5; position++) {
            double share = count(p, nodes[i].id, position, position + 1);

            ck_assert_double_ge(share, 0.97 * want - 2);
            ck_assert_double_le(share, 1.03 * want + 2);
        }
    }
    placement_free(p);
}
END_TEST

START_TEST(a_giant_node_is_in_every_list_and_the_rest_share_what_is_left)
{
    static const struct placement_node nodes[] = {
        { 1, 0, 1000000 }, { 2, 0, 1 }, { 3, 0, 1 }, { 4, 0, 1 }, { 5, 0, 1 },
    };
    struct placement *p = new_placement(nodes, 5, 3);

    ck_assert_uint_eq(count(p, 1, 0, 3), ROWS);
    for (uint32_t id = 2; id <= 5; id++) {
        ck_assert_uint_ge(count(p, id, 0, 3), ROWS / 2 - ROWS / 32);
        ck_assert_uint_le(count(p, id, 0, 3), ROWS / 2 + ROWS / 32);
    }
    placement_free(p);
}
END_TEST

START_TEST(the_same_input_gives_the_same_table_in_any_order_of_nodes)
{
    struct placement_node nodes[12];
    struct placement_node reversed[12];
    struct placement *a;
    struct placement *b;

    plain_nodes(nodes, 12);
    for (uint32_t i = 0; i < 12; i++) {
        nodes[i].zone = i % 4;
        reversed[11 - i] = nodes[i];
    }
    a = new_placement(nodes, 12, 8);
    b = new_placement(reversed, 12, 8);
    ck_assert_mem_eq(placement_table(a), placement_table(b),
                     (size_t)ROWS * 8 * sizeof(uint32_t));
    placement_free(a);
    placement_free(b);
}
END_TEST

static const struct {
    struct placement_node nodes[12];
    uint32_t n_nodes, n_zones;
} zoned[] = {
    { { { 1, 1, 9 },
        { 2, 1, 9 },
        { 3, 2, 9 },
        { 4, 2, 9 },
        { 5, 3, 9 },
        { 6, 3, 9 } },
      6,
      3 },
    { { { 1, 1, 9 }, { 2, 1, 9 }, { 3, 1, 9 }, { 4, 2, 9 } }, 4, 2 },
    { { { 1, 1, 5 },
        { 2, 1, 9 },
        { 3, 2, 9 },
        { 4, 2, 7 },
        { 5, 3, 9 },
        { 6, 3, 2 },
        { 7, 0, 9 },
        { 8, 0, 30 },
        { 9, 4, 9 } },
      9,
      6 },
    { { { 1, 7, 9 }, { 2, 7, 9 }, { 3, 7, 9 } }, 3, 1 },
};
#define N_ZONED (sizeof zoned / sizeof *zoned)

START_TEST(the_first_positions_are_in_distinct_zones)
{
    const struct placement_node *nodes = zoned[_i].nodes;
    struct placement *p = new_placement(nodes, zoned[_i].n_nodes, 32);

    ck_assert(lists_are_right(p, nodes, zoned[_i].n_nodes));
    ck_assert(zones_are_distinct(p, nodes, zoned[_i].n_zones));
    placement_free(p);
}
END_TEST

START_TEST(no_zone_holds_more_of_a_stripe_than_it_must)
{
    const struct placement_node *nodes = zoned[0].nodes;
    struct placement *p = new_placement(nodes, 6, 6);
    bool too_many = false;

    for (uint32_t row = 0; row < ROWS; row++) {
        uint32_t n[4] = { 0 };

        for (uint32_t position = 0; position < 6; position++) {
            uint32_t zone = zone_of(nodes, entry(p, row, position));

            n[zone]++;
            too_many = too_many || n[zone] > position / 3 + 1;
        }
    }
    ck_assert(!too_many);
    placement_free(p);
}
END_TEST

/* Entries that differ, over the positions that both tables have; each must
 * concern node `id`. */
static uint32_t count_moves(const struct placement *a,
                            const struct placement *b,
                            uint32_t id)
{
    uint32_t width = placement_width(a) < placement_width(b)
                         ? placement_width(a)
                         : placement_width(b);
    uint32_t n = 0;
    uint32_t n_others = 0;

    for (uint32_t row = 0; row < ROWS; row++) {
        for (uint32_t position = 0; position < width; position++) {
            uint32_t before = entry(a, row, position);
            uint32_t after = entry(b, row, position);

            n_others += before != after && before != id && after != id;
            n += before != after;
        }
    }
    ck_assert_uint_eq(n_others, 0);
    return n;
}

START_TEST(adding_a_node_moves_its_share_and_nothing_else)
{
    struct placement_node nodes[101] = { 0 };
    uint32_t n = plain[_i].n_nodes;
    struct placement *before;
    struct placement *after;
    double moves;
    double want;

    plain_nodes(nodes, n + 1);
    before = new_placement(nodes, n, plain[_i].width);
    after = edit(before, nodes, n + 1);
    ck_assert(lists_are_right(after, nodes, n + 1));
    moves = count_moves(before, after, n + 1);
    want = (double)ROWS * placement_width(before) / (n + 1);
    ck_assert_double_le(moves, 1.02 * want + 8);
    ck_assert_double_ge(moves, 0.95 * want - 8);
    for (uint32_t i = 0; i <= n; i++) {
        double share = count(after, i + 1, 0, placement_width(after));
        double fair = (double)ROWS * placement_width(after) / (n + 1);

        ck_assert_double_ge(share, 0.97 * fair - 2);
        ck_assert_double_le(share, 1.03 * fair + 2);
    }
    placement_free(before);
    placement_free(after);
}
END_TEST

START_TEST(removing_a_node_moves_only_its_own)
{
    struct placement_node nodes[100] = { 0 };
    uint32_t n = plain[_i].n_nodes;
    struct placement *before;
    struct placement *after;

    if (n == 1) {
        return;
    }
    plain_nodes(nodes, n);
    before = new_placement(nodes, n, plain[_i].width);
    after = edit(before, nodes + 1, n - 1);
    ck_assert(lists_are_right(after, nodes + 1, n - 1));
    ck_assert_uint_eq(count_moves(before, after, 1),
                      count(before, 1, 0, placement_width(after)));
    for (uint32_t i = 1; i < n; i++) {
        double fair = (double)ROWS / (n - 1);

        for (uint32_t p = 0; p < placement_width(after); p++) {
            double share = count(after, i + 1, p, p + 1);

            ck_assert_double_ge(share, 0.93 * fair - 10);
            ck_assert_double_le(share, 1.07 * fair + 10);
        }
    }
    placement_free(before);
    placement_free(after);
}
END_TEST

START_TEST(a_node_joining_a_zone_moves_its_share_and_keeps_the_rule)
{
    static const struct placement_node nodes[] = {
        { 1, 1, 10 }, { 2, 1, 10 }, { 3, 2, 10 }, { 4, 2, 10 },
        { 5, 3, 10 }, { 6, 3, 10 }, { 7, 3, 10 },
    };
    struct placement *before = new_placement(nodes, 6, 3);
    struct placement *after = edit(before, nodes, 7);
    uint32_t moves = count_moves(before, after, 7);

    /* zone 3 now has more weight, but is in every list already */
    ck_assert_uint_ge(moves, ROWS / 3 - 40);
    ck_assert_uint_le(moves, ROWS / 3 + 40);
    ck_assert(zones_are_distinct(after, nodes, 3));
    placement_free(before);
    placement_free(after);
}
END_TEST

START_TEST(the_rule_of_zones_survives_any_history_of_edits)
{
    struct placement_node nodes[16];
    uint32_t n = 6;
    uint32_t next_id = 1;
    uint32_t state = (uint32_t)_i + 1;
    struct placement *p;

    for (uint32_t i = 0; i < n; i++) {
        nodes[i] = (struct placement_node){ next_id++, 1 + i % 3, 10 };
    }
    p = new_placement(nodes, n, 6);
    for (int round = 0; round < 12; round++) {
        struct placement *edited;
        uint32_t n_zones = 0;
        uint32_t seen = 0;

        state = state * 1664525 + 1013904223;
        if (n == 3 || (n < 16 && (state >> 16 & 1) != 0)) {
            nodes[n++] =
                (struct placement_node){ next_id++, 1 + (state >> 20) % 5,
                                         5 + (state >> 24) % 10 };
        } else {
            nodes[(state >> 20) % n] = nodes[n - 1];
            n--;
        }
        edited = edit(p, nodes, n);
        placement_free(p);
        p = edited;
        for (uint32_t i = 0; i < n; i++) {
            n_zones += (seen >> nodes[i].zone & 1) == 0;
            seen |= (uint32_t)1 << nodes[i].zone;
        }
        ck_assert(lists_are_right(p, nodes, n));
        ck_assert(zones_are_distinct(
            p, nodes,
            n_zones < placement_width(p) ? n_zones : placement_width(p)));
    }
    placement_free(p);
}
END_TEST

START_TEST(a_table_survives_decoding)
{
    struct placement_node nodes[8];
    struct placement *p;
    struct placement *decoded = NULL;
    struct placement *a;
    struct placement *b;

    plain_nodes(nodes, 8);
    p = new_placement(nodes, 7, 32);
    ck_assert_int_eq(placement_decode(placement_table(p), 7, &decoded), 0);
    ck_assert_uint_eq(placement_width(decoded), 7);
    a = edit(p, nodes, 8);
    b = edit(decoded, nodes, 8);
    ck_assert_uint_eq(placement_width(b), 8);
    ck_assert_mem_eq(placement_table(a), placement_table(b),
                     (size_t)ROWS * 8 * sizeof(uint32_t));
    placement_free(p);
    placement_free(decoded);
    placement_free(a);
    placement_free(b);
}
END_TEST

START_TEST(bad_tables_are_refused)
{
    uint32_t *table = calloc((size_t)ROWS * 2, sizeof *table);
    struct placement *p = NULL;

    for (size_t i = 0; i < (size_t)ROWS * 2; i++) {
        table[i] = 1 + i % 2;
    }
    ck_assert_int_eq(placement_decode(table, 0, &p), -EINVAL);
    ck_assert_int_eq(placement_decode(table, PLACEMENT_WIDTH_MAX + 1, &p),
                     -EINVAL);
    table[5000] = 2;
    ck_assert_int_eq(placement_decode(table, 2, &p), -EINVAL);
    table[5000] = 0;
    ck_assert_int_eq(placement_decode(table, 2, &p), -EINVAL);
    table[5000] = 65536;
    ck_assert_int_eq(placement_decode(table, 2, &p), -EINVAL);
    table[5000] = 65535;
    ck_assert_int_eq(placement_decode(table, 2, &p), 0);
    placement_free(p);
    free(table);
}
END_TEST

static const struct placement_node bad_nodes[][2] = {
    { { 0, 0, 1 }, { 2, 0, 1 } },       { { 1, 0, 0 }, { 2, 0, 1 } },
    { { 7, 0, 20 }, { 7, 1, 1 } },      { { 65536, 0, 1 }, { 2, 0, 1 } },
    { { 1, 0, 1000001 }, { 2, 0, 1 } },
};
#define N_BAD (sizeof bad_nodes / sizeof *bad_nodes)

START_TEST(bad_nodes_are_refused)
{
    struct placement_node good[2];
    struct placement *p = NULL;
    struct placement *q = NULL;

    ck_assert_int_eq(placement_new(bad_nodes[_i], 2, 2, &p), -EINVAL);
    plain_nodes(good, 2);
    ck_assert_int_eq(placement_new(good, 0, 2, &p), -EINVAL);
    ck_assert_int_eq(placement_new(good, 2, 0, &p), -EINVAL);
    ck_assert_int_eq(placement_new(good, 2, PLACEMENT_WIDTH_MAX + 1, &p),
                     -EINVAL);
    ck_assert_ptr_null(p);
    p = new_placement(good, 2, 2);
    ck_assert_int_eq(placement_edit(p, bad_nodes[_i], 2, &q), -EINVAL);
    ck_assert_ptr_null(q);
    placement_free(p);
}
END_TEST

START_TEST(objects_of_few_sessions_spread_over_all_partitions)
{
    uint32_t hits[ROWS] = { 0 };
    uint32_t most = 0;
    uint32_t least = UINT32_MAX;

    for (uint64_t session = 1; session <= 4; session++) {
        for (uint64_t serial = 1; serial <= 64 * ROWS / 4; serial++) {
            struct object_id id = { session, serial };

            hits[placement_partition(&id)]++;
        }
    }
    for (uint32_t i = 0; i < ROWS; i++) {
        most = hits[i] > most ? hits[i] : most;
        least = hits[i] < least ? hits[i] : least;
    }
    ck_assert_uint_ge(least, 20); /* 64 on average */
    ck_assert_uint_le(most, 120);
}
END_TEST

START_TEST(an_object_is_where_its_partition_says)
{
    struct placement_node nodes[6];
    struct object_id id = { 3, 77 };
    struct placement *p;

    plain_nodes(nodes, 6);
    p = new_placement(nodes, 6, 6);
    ck_assert_ptr_eq(placement_nodes(p, &id),
                     placement_table(p) + placement_partition(&id) * 6);
    /* written objects must be found by later releases */
    ck_assert_uint_eq(placement_partition(&id), 1806);
    placement_free(p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("placement");
    TCase *tcase = tcase_create("placement");
    SRunner *runner;
    int failed;

    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, equal_nodes_share_every_position_equally, 0,
                        N_PLAIN);
    tcase_add_test(tcase, positions_are_shared_by_weight);
    tcase_add_test(
        tcase, a_giant_node_is_in_every_list_and_the_rest_share_what_is_left);
    tcase_add_test(tcase,
                   the_same_input_gives_the_same_table_in_any_order_of_nodes);
    tcase_add_loop_test(tcase, the_first_positions_are_in_distinct_zones, 0,
                        N_ZONED);
    tcase_add_test(tcase, no_zone_holds_more_of_a_stripe_than_it_must);
    tcase_add_loop_test(tcase, adding_a_node_moves_its_share_and_nothing_else,
                        0, N_PLAIN);
    tcase_add_loop_test(tcase, removing_a_node_moves_only_its_own, 0, N_PLAIN);
    tcase_add_test(tcase,
                   a_node_joining_a_zone_moves_its_share_and_keeps_the_rule);
    tcase_add_loop_test(tcase, the_rule_of_zones_survives_any_history_of_edits,
                        0, 20);
    tcase_add_test(tcase, a_table_survives_decoding);
    tcase_add_test(tcase, bad_tables_are_refused);
    tcase_add_loop_test(tcase, bad_nodes_are_refused, 0, N_BAD);
    tcase_add_test(tcase, objects_of_few_sessions_spread_over_all_partitions);
    tcase_add_test(tcase, an_object_is_where_its_partition_says);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
