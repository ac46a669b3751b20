/* Object I/O over nodes in memory with faults. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <check.h>

#include "common/clock.h"
#include "common/objio.h"
#include "common/stripe.h"
#include "tests/unit/block_fake.h"

#define UNIT       (256u << 10)
#define STRIPE     ((uint64_t)4 * UNIT)
#define GUARD      64u
#define GUARD_BYTE 0xa5
/* Of objects that are to run into it, and of all others. What must not take the
 * long one has to end well before it, on a busy machine too. */
#define SHORT_MS 400
#define LONG_MS  20000
#define SOON_MS  (LONG_MS / 2)

static const struct objio_policy ec42 = { 4, 2, UNIT, 5 };
static const struct objio_policy small42 = { 4, 2, 4096, 5 };

/* Nodes, what talks to them, and one object with the bytes it should have. */
struct cluster {
    struct block_fake *fake;
    struct placement *placement;
    struct objio *objio;
    struct objio_policy policy;
    const uint32_t *nodes; /* of the object, in placement order */
    struct object_writer *writer;
    struct object_info info;
    uint8_t *bytes; /* owned: info.size */
};

static uint64_t random_state = 1;

static uint64_t next_random(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return random_state >> 24;
}

static struct cluster *new_cluster_with(uint32_t n_nodes,
                                        const struct objio_policy *policy,
                                        int64_t timeout_ms,
                                        int64_t hedge_ms)
{
    struct cluster *c = calloc(1, sizeof *c);
    struct placement_node nodes[FAKE_NODES_MAX];
    struct objio_config config = { 0 };

    for (uint32_t i = 0; i < n_nodes; i++) {
        nodes[i].id = i + 1;
        nodes[i].zone = 0;
        nodes[i].weight = 100;
    }
    assert(c != NULL);
    ck_assert_int_eq(placement_new(nodes, n_nodes, n_nodes, &c->placement), 0);
    c->fake = block_fake_new(n_nodes, n_nodes);
    config.io = block_fake_io(c->fake);
    config.placement = c->placement;
    config.timeout_ms = timeout_ms;
    config.hedge_ms = hedge_ms;
    ck_assert_int_eq(objio_new(&config, &c->objio), 0);
    c->policy = *policy;
    return c;
}

static struct cluster *new_cluster(uint32_t n_nodes,
                                   const struct objio_policy *policy)
{
    return new_cluster_with(n_nodes, policy, LONG_MS, 0);
}

static void forget_object(struct cluster *c)
{
    object_writer_free(c->writer);
    free(c->bytes);
    c->writer = NULL;
    c->bytes = NULL;
}

static void free_cluster(struct cluster *c)
{
    forget_object(c);
    objio_free(c->objio);
    block_fake_free(c->fake);
    placement_free(c->placement);
    free(c);
}

/* Begin another object of random bytes. */
static void begin_object(struct cluster *c, uint64_t size)
{
    forget_object(c);
    c->info.id.session = 7;
    c->info.id.serial++;
    c->info.size = size;
    c->info.k = c->policy.k;
    c->info.m = c->policy.m;
    c->info.unit = c->policy.unit;
    c->info.missing = 0;
    c->nodes = placement_nodes(c->placement, &c->info.id);
    c->bytes = malloc(size);
    assert(c->bytes != NULL);
    for (uint64_t i = 0; i + 8 <= size; i += 8) {
        uint64_t word = next_random();

        memcpy(c->bytes + i, &word, 8);
    }
    memset(c->bytes + size / 8 * 8, 0x5a, size % 8);
    ck_assert_int_eq(
        object_writer_new(c->objio, &c->policy, &c->info.id, &c->writer), 0);
}

static int put_stripe(struct cluster *c, uint32_t stripe)
{
    struct buf *buf = buf_new(objio_stripe_buf_size(&c->policy));
    uint32_t length =
        stripe_length(c->info.size, c->policy.k, c->policy.unit, stripe);
    int rc;

    assert(buf != NULL);
    memset(buf->data, 0xee, buf->size);
    memcpy(buf->data, c->bytes + (size_t)stripe * c->policy.k * c->policy.unit,
           length);
    rc = object_writer_put(c->writer, stripe, buf, length);
    buf_unref(buf);
    return rc;
}

static void put_all(struct cluster *c)
{
    uint32_t n = stripe_count(c->info.size, c->policy.k, c->policy.unit);

    for (uint32_t stripe = 0; stripe < n; stripe++) {
        ck_assert_int_eq(put_stripe(c, stripe), 0);
    }
}

static void write_object(struct cluster *c, uint64_t size)
{
    begin_object(c, size);
    put_all(c);
    ck_assert_int_eq(object_writer_sync(c->writer), 0);
    c->info.missing = object_writer_missing(c->writer);
}

/* Read a range; on success it must be right, and nothing beyond be touched. */
static int read_range(struct cluster *c, uint64_t offset, size_t length)
{
    uint8_t *memory = malloc(length + 2 * (size_t)GUARD);
    int rc;

    assert(memory != NULL);
    memset(memory, GUARD_BYTE, length + 2 * (size_t)GUARD);
    rc = objio_read(c->objio, &c->info, offset, length, memory + GUARD);
    if (rc == 0) {
        ck_assert(memcmp(memory + GUARD, c->bytes + offset, length) == 0);
    }
    for (size_t i = 0; i < GUARD; i++) {
        ck_assert_uint_eq(memory[i], GUARD_BYTE);
        ck_assert_uint_eq(memory[GUARD + length + i], GUARD_BYTE);
    }
    free(memory);
    return rc;
}

static void expect_readable(struct cluster *c)
{
    ck_assert_int_eq(read_range(c, 0, c->info.size), 0);
}

static uint64_t n_degraded(struct cluster *c)
{
    struct objio_stats stats;

    objio_get_stats(c->objio, &stats);
    return stats.reads_degraded;
}

static const uint64_t sizes[] = {
    1,
    63,
    64,
    65,
    4095,
    4096,
    4097,
    16384,
    16385,
    UNIT - 1,
    UNIT,
    UNIT + 1,
    STRIPE - 1,
    STRIPE,
    STRIPE + 1,
    2 * STRIPE,
    5 * STRIPE + 12345,
};

START_TEST(objects_of_every_size_read_back)
{
    struct cluster *c = new_cluster(6, &ec42);

    write_object(c, sizes[_i]);
    ck_assert_uint_eq(c->info.missing, 0);
    expect_readable(c);
    ck_assert_uint_eq(n_degraded(c), 0);
    free_cluster(c);
}
END_TEST

START_TEST(the_largest_objects_read_back)
{
    struct cluster *c = new_cluster(6, &ec42);

    write_object(c, OBJECT_SIZE_MAX - (uint64_t)_i);
    block_fake_set_mode(c->fake, c->nodes[1], FAKE_DOWN);
    expect_readable(c);
    free_cluster(c);
}
END_TEST

START_TEST(arguments_out_of_range_are_refused)
{
    static const struct objio_policy wrong[] = {
        { 0, 2, UNIT, 1 },       { 17, 2, UNIT, 17 },   { 4, 9, UNIT, 5 },
        { 4, 2, UNIT, 3 },       { 4, 2, UNIT, 7 },     { 4, 2, 0, 5 },
        { 4, 2, UNIT + 512, 5 }, { 4, 2, UNIT * 8, 5 },
    };
    struct cluster *c = new_cluster(6, &ec42);
    struct object_id id = { 1, 1 };
    struct object_writer *writer = NULL;
    struct buf *buf = buf_new(objio_stripe_buf_size(&ec42));
    struct object_info info;
    uint8_t byte[1];

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        ck_assert_int_eq(object_writer_new(c->objio, &wrong[i], &id, &writer),
                         -EINVAL);
    }
    begin_object(c, STRIPE);
    ck_assert_int_eq(object_writer_put(c->writer, 0, buf, 0), -EINVAL);
    ck_assert_int_eq(object_writer_put(c->writer, 0, buf, STRIPE + 1), -EINVAL);
    ck_assert_int_eq(object_writer_put(c->writer, 64, buf, 1), -EINVAL);
    ck_assert_int_eq(object_writer_put(c->writer, UINT32_MAX, buf, 1), -EINVAL);
    ck_assert_int_eq(objio_read(c->objio, &c->info, STRIPE, 1, byte), -EINVAL);
    ck_assert_int_eq(objio_read(c->objio, &c->info, UINT64_MAX, 2, byte),
                     -EINVAL);
    info = c->info;
    info.k = 0;
    ck_assert_int_eq(objio_read(c->objio, &info, 0, 1, byte), -EINVAL);
    info = c->info;
    info.m = 200;
    ck_assert_int_eq(objio_read(c->objio, &info, 0, 1, byte), -EINVAL);
    info = c->info;
    info.unit = 100;
    ck_assert_int_eq(objio_read(c->objio, &info, 0, 1, byte), -EINVAL);
    info = c->info;
    info.size = 0;
    ck_assert_int_eq(objio_read(c->objio, &info, 0, 0, byte), -EINVAL);
    ck_assert_int_eq(objio_read(c->objio, &c->info, STRIPE, 0, byte), 0);
    buf_unref(buf);
    free_cluster(c);
}
END_TEST

static const uint64_t lossy_sizes[] = { 1, 5000, UNIT + 1, STRIPE,
                                        3 * STRIPE + 77 };

START_TEST(any_two_lost_nodes_of_six_do_no_harm)
{
    for (uint32_t a = 0; a < 6; a++) {
        for (uint32_t b = a + 1; b < 6; b++) {
            struct cluster *c = new_cluster(6, &ec42);

            write_object(c, lossy_sizes[_i]);
            block_fake_lose(c->fake, c->nodes[a]);
            block_fake_lose(c->fake, c->nodes[b]);
            expect_readable(c);
            free_cluster(c);
        }
    }
}
END_TEST

START_TEST(any_two_nodes_of_six_may_be_down)
{
    for (uint32_t a = 0; a < 6; a++) {
        for (uint32_t b = a + 1; b < 6; b++) {
            struct cluster *c = new_cluster(6, &ec42);

            write_object(c, lossy_sizes[_i]);
            block_fake_set_mode(c->fake, c->nodes[a], FAKE_DOWN);
            block_fake_set_mode(c->fake, c->nodes[b], FAKE_UNSEEN);
            expect_readable(c);
            free_cluster(c);
        }
    }
}
END_TEST

START_TEST(three_lost_nodes_end_in_eio_at_once)
{
    for (uint32_t set = 0; set < 64; set++) {
        struct cluster *c;
        int64_t begin_ms;

        if (__builtin_popcount(set) != 3) {
            continue;
        }
        c = new_cluster_with(6, &ec42, LONG_MS, 50);
        write_object(c, STRIPE + 1);
        for (uint32_t i = 0; i < 6; i++) {
            if (set & 1u << i) {
                block_fake_lose(c->fake, c->nodes[i]);
            }
        }
        begin_ms = clock_mono_ms();
        ck_assert_int_eq(read_range(c, 0, STRIPE + 1), -EIO);
        ck_assert_int_lt(clock_mono_ms() - begin_ms, SOON_MS);
        free_cluster(c);
    }
}
END_TEST

START_TEST(a_flipped_bit_is_read_around)
{
    struct cluster *c = new_cluster(6, &small42);
    struct objio_stats stats;

    for (uint32_t i = 0; i < 400; i++) {
        struct block_key key;

        write_object(c, 1 + next_random() % 40000);
        key.object = c->info.id;
        key.stripe =
            (uint32_t)(next_random() % stripe_count(c->info.size, 4, 4096));
        key.index = i % 6;
        ck_assert(
            block_fake_flip(c->fake, c->nodes[key.index], &key, next_random()));
        expect_readable(c);
    }
    objio_get_stats(c->objio, &stats);
    ck_assert_uint_gt(stats.blocks_damaged, 100);
    free_cluster(c);
}
END_TEST

START_TEST(more_damage_than_parity_is_eio_not_other_bytes)
{
    struct cluster *c = new_cluster(6, &small42);
    struct block_key key = { { 0, 0 }, 0, 0 };

    write_object(c, 16384);
    key.object = c->info.id;
    for (uint32_t i = 0; i < 3; i++) {
        key.index = i;
        ck_assert(block_fake_flip(c->fake, c->nodes[i], &key, 9999 + i));
    }
    ck_assert_int_eq(read_range(c, 0, 16384), -EIO);
    ck_assert_int_eq(read_range(c, 12288, 4096), 0);
    free_cluster(c);
}
END_TEST

/* Whatever state the nodes are in that leaves k blocks: ranges match. */
static void read_random_ranges(struct cluster *c, unsigned n)
{
    assert(c->info.size > 0);
    for (unsigned i = 0; i < n; i++) {
        uint64_t offset = next_random() % c->info.size;
        uint64_t length = next_random() % (c->info.size - offset) + 1;

        if (i % 2 == 0 && length > 5000) {
            length = next_random() % 5000 + 1;
        }
        if (i % 3 == 0) {
            offset = offset / 4096 * 4096;
        }
        ck_assert_int_eq(read_range(c, offset, length), 0);
    }
}

START_TEST(random_ranges_match_healthy_and_degraded)
{
    struct cluster *c = new_cluster(6, &ec42);

    write_object(c, 6 * STRIPE + 54321);
    read_random_ranges(c, 100);
    ck_assert_uint_eq(n_degraded(c), 0);
    block_fake_set_mode(c->fake, c->nodes[2], FAKE_DOWN);
    read_random_ranges(c, 100);
    block_fake_lose(c->fake, c->nodes[0]);
    read_random_ranges(c, 100);
    free_cluster(c);
}
END_TEST

START_TEST(an_aligned_small_read_is_one_transfer)
{
    struct cluster *c = new_cluster_with(6, &ec42, LONG_MS, 50);
    uint64_t before;

    write_object(c, 2 * STRIPE);
    before = block_fake_started(c->fake, BLOCK_GET);
    ck_assert_int_eq(read_range(c, STRIPE + UNIT + 8192, 4096), 0);
    ck_assert_int_eq(read_range(c, 100, 1), 0);
    ck_assert_uint_eq(block_fake_started(c->fake, BLOCK_GET) - before, 2);
    free_cluster(c);
}
END_TEST

struct policy_case {
    struct objio_policy policy;
    uint32_t n_nodes;
};

static const struct policy_case policies[] = {
    { { 1, 0, 4096, 1 }, 1 },    { { 1, 2, 4096, 2 }, 3 },
    { { 2, 1, 8192, 2 }, 3 },    { { 8, 3, 4096, 9 }, 11 },
    { { 16, 8, 4096, 17 }, 24 }, { { 4, 2, 4096, 5 }, 9 },
    { { 4, 0, 4096, 4 }, 4 },
};

START_TEST(every_policy_survives_m_lost_nodes)
{
    const struct policy_case *p = &policies[_i];
    struct cluster *c = new_cluster(p->n_nodes, &p->policy);
    uint64_t capacity = (uint64_t)p->policy.k * p->policy.unit;
    uint64_t edges[] = {
        1, 64, 4096, capacity - 1, capacity, capacity + 1, 3 * capacity + 5
    };

    for (size_t i = 0; i < sizeof edges / sizeof edges[0]; i++) {
        for (unsigned round = 0; round < 6; round++) {
            uint32_t n_lost = 0;

            write_object(c, edges[i]);
            expect_readable(c);
            while (n_lost < p->policy.m) {
                uint32_t node =
                    c->nodes[next_random() % (p->policy.k + p->policy.m)];

                n_lost += block_fake_count(c->fake, node) > 0;
                block_fake_lose(c->fake, node);
            }
            expect_readable(c);
            read_random_ranges(c, 10);
            for (uint32_t j = 0; j < p->n_nodes; j++) {
                block_fake_lose(c->fake, j + 1);
            }
            ck_assert_int_eq(read_range(c, 0, 1), -EIO);
        }
    }
    free_cluster(c);
}
END_TEST

START_TEST(a_write_with_one_of_six_down_records_the_missing_block)
{
    struct cluster *c = new_cluster(6, &ec42);
    struct objio_stats stats;

    begin_object(c, 2 * STRIPE);
    block_fake_set_mode(c->fake, c->nodes[3], _i ? FAKE_DOWN : FAKE_UNSEEN);
    put_all(c);
    ck_assert_int_eq(object_writer_sync(c->writer), 0);
    ck_assert_uint_eq(object_writer_missing(c->writer), 1u << 3);
    objio_get_stats(c->objio, &stats);
    ck_assert_uint_eq(stats.writes_degraded, 2);
    expect_readable(c);
    block_fake_set_mode(c->fake, c->nodes[3], FAKE_UP);
    expect_readable(c);
    free_cluster(c);
}
END_TEST

static const enum fake_mode bad_modes[] = { FAKE_DOWN, FAKE_UNSEEN, FAKE_FULL,
                                            FAKE_BROKEN };

START_TEST(a_write_uses_a_spare_for_a_bad_home)
{
    struct cluster *c = new_cluster(8, &ec42);
    struct block_key key = { { 0, 0 }, 0, 1 };

    begin_object(c, STRIPE);
    block_fake_set_mode(c->fake, c->nodes[1], bad_modes[_i]);
    put_all(c);
    ck_assert_int_eq(object_writer_sync(c->writer), 0);
    ck_assert_uint_eq(object_writer_missing(c->writer), 0);
    key.object = c->info.id;
    ck_assert(block_fake_has(c->fake, c->nodes[6], &key));
    block_fake_set_mode(c->fake, c->nodes[1], FAKE_UP);
    expect_readable(c);
    /* Only with the spare are there enough. */
    block_fake_lose(c->fake, c->nodes[0]);
    block_fake_lose(c->fake, c->nodes[5]);
    expect_readable(c);
    block_fake_lose(c->fake, c->nodes[6]);
    ck_assert_int_eq(read_range(c, 0, STRIPE), -EIO);
    free_cluster(c);
}
END_TEST

START_TEST(two_of_six_down_fail_in_time_and_recover_after)
{
    struct cluster *c = new_cluster_with(6, &ec42, SHORT_MS, 0);
    int64_t begin_ms = clock_mono_ms();
    int rc;

    begin_object(c, STRIPE);
    block_fake_set_mode(c->fake, c->nodes[3], FAKE_DOWN);
    block_fake_set_mode(c->fake, c->nodes[5], FAKE_UNSEEN);
    rc = put_stripe(c, 0);
    ck_assert_int_eq(rc, -EHOSTUNREACH);
    ck_assert_int_ge(clock_mono_ms() - begin_ms, SHORT_MS);
    ck_assert_int_lt(clock_mono_ms() - begin_ms, SOON_MS);
    block_fake_set_mode(c->fake, c->nodes[5], FAKE_UP);
    put_all(c);
    ck_assert_int_eq(object_writer_sync(c->writer), 0);
    ck_assert_uint_eq(object_writer_missing(c->writer), 1u << 3);
    expect_readable(c);
    free_cluster(c);
}
END_TEST

START_TEST(a_put_waits_for_nodes_that_come_back)
{
    struct cluster *c = new_cluster(6, &ec42);

    begin_object(c, STRIPE);
    for (uint32_t node = 1; node <= 6; node++) {
        block_fake_set_mode(c->fake, node, FAKE_DOWN);
        block_fake_schedule(c->fake, clock_mono_ms() + 100 + node, node,
                            FAKE_UP);
    }
    put_all(c);
    ck_assert_int_eq(object_writer_sync(c->writer), 0);
    expect_readable(c);
    free_cluster(c);
}
END_TEST

START_TEST(a_hung_node_does_not_keep_a_put_from_trying_others_again)
{
    struct cluster *c = new_cluster(6, &ec42);
    int64_t begin_ms = clock_mono_ms();

    begin_object(c, STRIPE);
    block_fake_set_mode(c->fake, c->nodes[0], FAKE_HUNG);
    for (uint32_t i = 1; i < 2 + 2 * (uint32_t)_i; i++) {
        block_fake_set_mode(c->fake, c->nodes[i], FAKE_UNSEEN);
        block_fake_schedule(c->fake, begin_ms + 100, c->nodes[i], FAKE_UP);
    }
    ck_assert_int_eq(put_stripe(c, 0), 0);
    ck_assert_uint_eq(object_writer_missing(c->writer), 1u << 0);
    ck_assert_int_lt(clock_mono_ms() - begin_ms, SOON_MS);
    free_cluster(c);
}
END_TEST

START_TEST(full_nodes_end_in_enospc_at_once)
{
    struct cluster *c = new_cluster(6, &ec42);
    int64_t begin_ms = clock_mono_ms();

    begin_object(c, STRIPE);
    block_fake_set_mode(c->fake, c->nodes[0], FAKE_FULL);
    block_fake_set_mode(c->fake, c->nodes[1], FAKE_FULL);
    ck_assert_int_eq(put_stripe(c, 0), -ENOSPC);
    ck_assert_int_lt(clock_mono_ms() - begin_ms, SOON_MS);
    block_fake_set_mode(c->fake, c->nodes[0], FAKE_UP);
    ck_assert_int_eq(put_stripe(c, 0), 0);
    ck_assert_uint_eq(object_writer_missing(c->writer), 1u << 1);
    free_cluster(c);
}
END_TEST

START_TEST(full_homes_whose_blocks_found_spares_are_no_reason_to_give_up)
{
    struct cluster *c = new_cluster(8, &ec42);

    begin_object(c, STRIPE);
    for (uint32_t i = 0; i < 2; i++) {
        block_fake_set_mode(c->fake, c->nodes[i], FAKE_FULL);
        block_fake_set_mode(c->fake, c->nodes[2 + i], FAKE_UNSEEN);
        /* They fail when the blocks of the full ones have the spares. */
        block_fake_set_delay(c->fake, c->nodes[2 + i], 20);
        block_fake_schedule(c->fake, clock_mono_ms() + 200, c->nodes[2 + i],
                            FAKE_UP);
    }
    ck_assert_int_eq(put_stripe(c, 0), 0);
    expect_readable(c);
    free_cluster(c);
}
END_TEST

START_TEST(a_hung_node_does_not_hold_a_put_for_its_whole_timeout)
{
    struct cluster *c = new_cluster(_i ? 7 : 6, &ec42);
    int64_t begin_ms = clock_mono_ms();

    begin_object(c, STRIPE);
    block_fake_set_mode(c->fake, c->nodes[2], FAKE_HUNG);
    put_all(c);
    ck_assert_int_lt(clock_mono_ms() - begin_ms, SOON_MS);
    ck_assert_uint_eq(object_writer_missing(c->writer), _i ? 0 : 1u << 2);
    free_cluster(c);
}
END_TEST

START_TEST(reads_wait_for_nodes_that_come_back)
{
    struct cluster *c = new_cluster(6, &ec42);

    write_object(c, STRIPE + 5);
    for (uint32_t node = 1; node <= 3; node++) {
        block_fake_set_mode(c->fake, node, FAKE_DOWN);
    }
    block_fake_schedule(c->fake, clock_mono_ms() + 100, 2, FAKE_UP);
    expect_readable(c);
    free_cluster(c);
}
END_TEST

START_TEST(a_hung_node_does_not_keep_a_read_from_trying_others_again)
{
    struct cluster *c = new_cluster_with(6, &ec42, LONG_MS, 30);
    int64_t begin_ms;

    write_object(c, STRIPE);
    begin_ms = clock_mono_ms();
    block_fake_set_mode(c->fake, c->nodes[0], FAKE_HUNG);
    for (uint32_t i = 1; i < 3; i++) {
        block_fake_set_mode(c->fake, c->nodes[i], FAKE_UNSEEN);
        block_fake_schedule(c->fake, begin_ms + 200, c->nodes[i], FAKE_UP);
    }
    expect_readable(c);
    ck_assert_int_lt(clock_mono_ms() - begin_ms, SOON_MS);
    free_cluster(c);
}
END_TEST

START_TEST(reads_with_too_many_nodes_away_end_in_time)
{
    struct cluster *c = new_cluster_with(6, &ec42, SHORT_MS, 50);
    int64_t begin_ms;
    int rc;

    write_object(c, STRIPE);
    for (uint32_t node = 1; node <= 3; node++) {
        block_fake_set_mode(c->fake, node, _i ? FAKE_HUNG : FAKE_DOWN);
    }
    begin_ms = clock_mono_ms();
    rc = read_range(c, 0, STRIPE);
    ck_assert_int_eq(rc, _i ? -ETIMEDOUT : -EHOSTUNREACH);
    ck_assert_int_ge(clock_mono_ms() - begin_ms, SHORT_MS - 10);
    ck_assert_int_lt(clock_mono_ms() - begin_ms, SOON_MS);
    for (uint32_t node = 1; node <= 3; node++) {
        block_fake_set_mode(c->fake, node, FAKE_UP);
    }
    expect_readable(c);
    free_cluster(c);
}
END_TEST

START_TEST(a_hung_or_slow_node_is_hedged)
{
    struct cluster *c = new_cluster_with(6, &ec42, LONG_MS, 30);
    int64_t begin_ms;

    write_object(c, 4 * STRIPE);
    if (_i) {
        block_fake_set_mode(c->fake, c->nodes[1], FAKE_HUNG);
    } else {
        block_fake_set_delay(c->fake, c->nodes[1], LONG_MS - 1000);
    }
    begin_ms = clock_mono_ms();
    ck_assert_int_eq(read_range(c, UNIT, 4096), 0);
    ck_assert_int_eq(read_range(c, UNIT + 100, 50), 0);
    expect_readable(c);
    ck_assert_int_ge(clock_mono_ms() - begin_ms, 90);
    ck_assert_int_lt(clock_mono_ms() - begin_ms, SOON_MS);
    ck_assert_uint_ge(n_degraded(c), 3);
    free_cluster(c);
}
END_TEST

START_TEST(two_hung_nodes_are_hedged)
{
    struct cluster *c = new_cluster_with(6, &ec42, LONG_MS, 30);
    int64_t begin_ms;

    write_object(c, 2 * STRIPE + 1);
    block_fake_set_mode(c->fake, c->nodes[1], FAKE_HUNG);
    block_fake_set_mode(c->fake, c->nodes[4], FAKE_HUNG);
    begin_ms = clock_mono_ms();
    expect_readable(c);
    ck_assert_int_lt(clock_mono_ms() - begin_ms, SOON_MS);
    free_cluster(c);
}
END_TEST

START_TEST(sync_counts_a_node_that_lost_its_blocks_as_missing)
{
    struct cluster *c = new_cluster(6, &ec42);

    begin_object(c, 3 * STRIPE);
    put_all(c);
    block_fake_restart(c->fake, c->nodes[4], true);
    ck_assert_int_eq(object_writer_sync(c->writer), 0);
    ck_assert_uint_eq(object_writer_missing(c->writer), 1u << 4);
    expect_readable(c);
    free_cluster(c);
}
END_TEST

START_TEST(sync_finds_the_blocks_that_outlived_a_restart)
{
    struct cluster *c = new_cluster(6, &ec42);

    begin_object(c, 30 * STRIPE);
    put_all(c);
    for (uint32_t node = 1; node <= 6; node++) {
        block_fake_restart(c->fake, node, false);
    }
    ck_assert_int_eq(object_writer_sync(c->writer), 0);
    ck_assert_uint_eq(object_writer_missing(c->writer), 0);
    for (uint32_t node = 1; node <= 6; node++) {
        block_fake_restart(c->fake, node, true);
    }
    expect_readable(c);
    ck_assert_uint_eq(n_degraded(c), 0);
    free_cluster(c);
}
END_TEST

START_TEST(sync_refuses_when_too_many_blocks_are_lost)
{
    struct cluster *c = new_cluster(6, &ec42);

    begin_object(c, 2 * STRIPE);
    ck_assert_int_eq(put_stripe(c, 0), 0);
    block_fake_restart(c->fake, c->nodes[0], true);
    ck_assert_int_eq(put_stripe(c, 1), 0);
    ck_assert_int_eq(object_writer_sync(c->writer), 0);
    ck_assert_uint_eq(object_writer_missing(c->writer), 1u << 0);
    begin_object(c, 2 * STRIPE);
    put_all(c);
    block_fake_restart(c->fake, c->nodes[0], true);
    block_fake_restart(c->fake, c->nodes[5], true);
    ck_assert_int_eq(object_writer_sync(c->writer), -EIO);
    ck_assert_uint_eq(object_writer_missing(c->writer), 1u << 0 | 1u << 5);
    free_cluster(c);
}
END_TEST

START_TEST(sync_does_without_one_node_but_not_two)
{
    struct cluster *c = new_cluster_with(6, &ec42, SHORT_MS, 0);

    begin_object(c, 2 * STRIPE);
    put_all(c);
    block_fake_set_mode(c->fake, c->nodes[1], FAKE_DOWN);
    block_fake_set_mode(c->fake, c->nodes[2], FAKE_DOWN);
    ck_assert_int_eq(object_writer_sync(c->writer), -EHOSTUNREACH);
    block_fake_set_mode(c->fake, c->nodes[1], FAKE_UP);
    ck_assert_int_eq(object_writer_sync(c->writer), 0);
    ck_assert_uint_eq(object_writer_missing(c->writer), 1u << 2);
    block_fake_set_mode(c->fake, c->nodes[2], FAKE_UP);
    ck_assert_int_eq(object_writer_sync(c->writer), 0);
    ck_assert_uint_eq(object_writer_missing(c->writer), 0);
    free_cluster(c);
}
END_TEST

START_TEST(a_hung_node_does_not_keep_sync_from_trying_others_again)
{
    struct cluster *c = new_cluster(6, &ec42);
    int64_t begin_ms;

    begin_object(c, 2 * STRIPE);
    put_all(c);
    begin_ms = clock_mono_ms();
    block_fake_set_mode(c->fake, c->nodes[0], FAKE_HUNG);
    block_fake_set_mode(c->fake, c->nodes[1], FAKE_UNSEEN);
    block_fake_schedule(c->fake, begin_ms + 100, c->nodes[1], FAKE_UP);
    if (_i) {
        block_fake_restart(c->fake, c->nodes[1], false);
    }
    ck_assert_int_eq(object_writer_sync(c->writer), 0);
    ck_assert_uint_eq(object_writer_missing(c->writer), 1u << 0);
    ck_assert_int_lt(clock_mono_ms() - begin_ms, SOON_MS);
    free_cluster(c);
}
END_TEST

START_TEST(what_sync_promised_outlives_a_power_cut)
{
    struct cluster *c = new_cluster(7, &small42);

    for (unsigned round = 0; round < 200; round++) {
        uint32_t bad = 1 + (uint32_t)(next_random() % 7);
        int rc;

        begin_object(c, 1 + next_random() % 60000);
        block_fake_set_mode(c->fake, bad, bad_modes[round % 4]);
        put_all(c);
        block_fake_set_mode(c->fake, bad, FAKE_UP);
        block_fake_restart(c->fake, 1 + (uint32_t)(next_random() % 7),
                           next_random() % 2);
        rc = object_writer_sync(c->writer);
        ck_assert(rc == 0);
        for (uint32_t node = 1; node <= 7; node++) {
            block_fake_restart(c->fake, node, true);
        }
        if (object_writer_missing(c->writer) == 0) {
            block_fake_lose(c->fake, 1 + (uint32_t)(next_random() % 7));
        }
        block_fake_lose(c->fake, 1 + (uint32_t)(next_random() % 7));
        expect_readable(c);
    }
    free_cluster(c);
}
END_TEST

/* Nodes fail, hang, are slow or have lost their blocks while objects are read:
 * at most two of them at a time. */
START_TEST(reads_are_right_with_any_two_bad_nodes)
{
    const uint32_t n_nodes = 6 + (uint32_t)_i % 3;
    struct cluster *c = new_cluster_with(n_nodes, &small42, LONG_MS, 10);

    assert(n_nodes >= 6);
    random_state = 1000 + (uint64_t)_i;
    for (unsigned round = 0; round < 60; round++) {
        static const enum fake_mode modes[] = { FAKE_DOWN, FAKE_UNSEEN,
                                                FAKE_HUNG, FAKE_BROKEN };
        uint32_t a = 1 + (uint32_t)(next_random() % n_nodes);
        uint32_t b = 1 + (uint32_t)(next_random() % n_nodes);

        write_object(c, 1 + next_random() % 100000);
        block_fake_set_mode(c->fake, a, modes[next_random() % 4]);
        block_fake_set_delay(c->fake, b, (int64_t)(next_random() % 40));
        if (next_random() % 2) {
            block_fake_lose(c->fake, b);
        }
        read_random_ranges(c, 3);
        expect_readable(c);
        block_fake_set_mode(c->fake, a, FAKE_UP);
        block_fake_set_delay(c->fake, b, 0);
    }
    free_cluster(c);
}
END_TEST

static Suite *objio_suite(void)
{
    const int n_sizes = sizeof sizes / sizeof sizes[0];
    const int n_lossy = sizeof lossy_sizes / sizeof lossy_sizes[0];
    const int n_policies = sizeof policies / sizeof policies[0];
    Suite *suite = suite_create("objio");
    TCase *shape = tcase_create("sizes and ranges");
    TCase *reads = tcase_create("reads with faults");
    TCase *writes = tcase_create("writes with faults");

    tcase_set_timeout(shape, 60);
    tcase_add_loop_test(shape, objects_of_every_size_read_back, 0, n_sizes);
    tcase_add_loop_test(shape, the_largest_objects_read_back, 0, 2);
    tcase_add_test(shape, arguments_out_of_range_are_refused);
    tcase_add_test(shape, random_ranges_match_healthy_and_degraded);
    tcase_add_test(shape, an_aligned_small_read_is_one_transfer);
    tcase_add_loop_test(shape, every_policy_survives_m_lost_nodes, 0,
                        n_policies);
    suite_add_tcase(suite, shape);

    tcase_set_timeout(reads, 60);
    tcase_add_loop_test(reads, any_two_lost_nodes_of_six_do_no_harm, 0,
                        n_lossy);
    tcase_add_loop_test(reads, any_two_nodes_of_six_may_be_down, 0, n_lossy);
    tcase_add_test(reads, three_lost_nodes_end_in_eio_at_once);
    tcase_add_test(reads, a_flipped_bit_is_read_around);
    tcase_add_test(reads, more_damage_than_parity_is_eio_not_other_bytes);
    tcase_add_test(reads, reads_wait_for_nodes_that_come_back);
    tcase_add_test(reads,
                   a_hung_node_does_not_keep_a_read_from_trying_others_again);
    tcase_add_loop_test(reads, reads_with_too_many_nodes_away_end_in_time, 0,
                        2);
    tcase_add_loop_test(reads, a_hung_or_slow_node_is_hedged, 0, 2);
    tcase_add_test(reads, two_hung_nodes_are_hedged);
    tcase_add_loop_test(reads, reads_are_right_with_any_two_bad_nodes, 0, 6);
    suite_add_tcase(suite, reads);

    tcase_set_timeout(writes, 60);
    tcase_add_loop_test(
        writes, a_write_with_one_of_six_down_records_the_missing_block, 0, 2);
    tcase_add_loop_test(writes, a_write_uses_a_spare_for_a_bad_home, 0, 4);
    tcase_add_test(writes, two_of_six_down_fail_in_time_and_recover_after);
    tcase_add_test(writes, a_put_waits_for_nodes_that_come_back);
    tcase_add_loop_test(
        writes, a_hung_node_does_not_keep_a_put_from_trying_others_again, 0, 2);
    tcase_add_test(writes, full_nodes_end_in_enospc_at_once);
    tcase_add_test(
        writes, full_homes_whose_blocks_found_spares_are_no_reason_to_give_up);
    tcase_add_loop_test(
        writes, a_hung_node_does_not_hold_a_put_for_its_whole_timeout, 0, 2);
    tcase_add_test(writes, sync_counts_a_node_that_lost_its_blocks_as_missing);
    tcase_add_test(writes, sync_finds_the_blocks_that_outlived_a_restart);
    tcase_add_test(writes, sync_refuses_when_too_many_blocks_are_lost);
    tcase_add_test(writes, sync_does_without_one_node_but_not_two);
    tcase_add_loop_test(
        writes, a_hung_node_does_not_keep_sync_from_trying_others_again, 0, 2);
    tcase_add_test(writes, what_sync_promised_outlives_a_power_cut);
    suite_add_tcase(suite, writes);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(objio_suite());
    int n_failed;

    srunner_run_all(runner, CK_ENV);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
