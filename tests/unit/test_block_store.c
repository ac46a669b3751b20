#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <check.h>

#include "common/checksum.h"
#include "storaged/block/block_state.h"
#include "tests/unit/block_fixture.h"

#define N(array) (sizeof(array) / sizeof *(array))

/* ---------------------------------------------------------- puts and gets */

static const uint32_t sizes[] = { 1,      2,       63,      64,     65,
                                  1024,   4095,    4096,    4097,   8191,
                                  8192,   8193,    65535,   65536,  65537,
                                  100000, 262143,  262144,  262145, 262208,
                                  524288, 1000000, 1048575, 1048576 };

START_TEST(block_of_every_size_reads_back)
{
    struct block_store *store = fixture_open();
    struct block_key key = fixture_key(1, (uint32_t)_i, 5);

    ck_assert_int_eq(fixture_check(store, &key, 0, sizes[_i]), -ENOENT);
    ck_assert_int_eq(fixture_put(store, &key, 0, sizes[_i]), 0);
    ck_assert_int_eq(fixture_check(store, &key, 0, sizes[_i]), 0);
    ck_assert_int_eq(block_store_verify(store, &key), 0);
    block_store_close(store);
    store = fixture_open();
    ck_assert_int_eq(fixture_check(store, &key, 0, sizes[_i]), 0);
    block_store_close(store);
}
END_TEST

START_TEST(header_costs_little)
{
    ck_assert_uint_le(record_size(1024), 1024 + 64);
    ck_assert_uint_le(record_size(262144), 262144 + 2621);
}
END_TEST

static const struct {
    uint32_t offset;
    uint32_t length;
    uint32_t ret_offset;
    uint32_t ret_length;
} ranges[] = {
    { 0, 1, 0, 4096 },
    { 0, 4096, 0, 4096 },
    { 0, 4097, 0, 8192 },
    { 1, 4096, 0, 8192 },
    { 4095, 1, 0, 4096 },
    { 4096, 1, 4096, 4096 },
    { 4096, 4096, 4096, 4096 },
    { 5000, 10000, 4096, 12288 },
    { 98304, 1, 98304, 1696 },
    { 99999, 1, 98304, 1696 },
    { 99999, 4000000000u, 98304, 1696 },
    { 1, UINT32_MAX, 0, 100000 },
    { 0, 100000, 0, 100000 },
    { 90000, 9000, 86016, 13984 },
};

START_TEST(range_is_widened_to_units)
{
    struct block_store *store = fixture_open();
    struct block_key key = fixture_key(1, 0, 0);
    uint8_t bytes[100000];
    struct block_piece piece;

    ck_assert_int_eq(fixture_put(store, &key, 0, sizeof bytes), 0);
    fixture_fill(&key, 0, sizeof bytes, bytes);
    ck_assert_int_eq(block_store_get(store, &key, ranges[_i].offset,
                                     ranges[_i].length, false, &piece),
                     0);
    ck_assert_uint_eq(piece.block_length, sizeof bytes);
    ck_assert_uint_eq(piece.offset, ranges[_i].ret_offset);
    ck_assert_uint_eq(piece.length, ranges[_i].ret_length);
    ck_assert_mem_eq(piece.buf->data, bytes + piece.offset, piece.length);
    ck_assert_int_eq(
        checksum_verify(piece.buf->data, piece.length, piece.checksums), -1);
    buf_unref(piece.buf);
    block_store_close(store);
}
END_TEST

START_TEST(range_outside_is_refused)
{
    struct block_store *store = fixture_open();
    struct block_key key = fixture_key(1, 0, 0);
    struct block_piece piece;

    ck_assert_int_eq(fixture_put(store, &key, 0, 5000), 0);
    ck_assert_int_eq(block_store_get(store, &key, 5000, 1, false, &piece),
                     -EINVAL);
    ck_assert_int_eq(block_store_get(store, &key, 0, 0, false, &piece),
                     -EINVAL);
    block_store_close(store);
}
END_TEST

START_TEST(cached_block_is_read_without_waiting)
{
    struct block_store *store = fixture_open();
    struct block_key key = fixture_key(1, 0, 0);
    struct block_piece piece;
    int rc;

    ck_assert_int_eq(fixture_put(store, &key, 0, 50000), 0);
    rc = block_store_get(store, &key, 0, 50000, true, &piece);
    /* Not every filesystem can tell: then it says so. */
    ck_assert(rc == 0 || rc == -EAGAIN);
    if (rc == 0) {
        buf_unref(piece.buf);
    }
    block_store_close(store);
}
END_TEST

static void forget_calls(struct fault_disk *disk)
{
    memset(disk->calls, 0, sizeof disk->calls);
    disk->n_calls = 0;
    disk->expected_at = disk->expected_size = disk->read_at = 0;
}

/* The disk finds header and payload at the same time: the payload is asked for
 * before anybody waits for the header. */
START_TEST(cold_read_waits_for_the_disk_once)
{
    struct block_key key = fixture_key(1, 0, 0);
    struct block_store *store;
    struct block_piece piece;
    struct fault_disk disk;

    fault_disk_init(&disk);
    fixture_options.disk = &disk.disk;
    store = fixture_open();
    ck_assert_int_eq(fixture_put(store, &key, 0, 50000), 0);
    forget_calls(&disk);
    disk.nowait_error = -EAGAIN;
    ck_assert_int_eq(block_store_get(store, &key, 9000, 4000, true, &piece),
                     -EAGAIN);
    ck_assert_str_eq(disk.calls, "ne");
    ck_assert_int_eq(disk.expected_at,
                     disk.read_at + record_header_size(50000) + 8192);
    ck_assert_int_eq(disk.expected_size, 8192);
    forget_calls(&disk);
    ck_assert_int_eq(block_store_get(store, &key, 9000, 4000, false, &piece),
                     0);
    ck_assert_str_eq(disk.calls, "err");
    ck_assert_int_eq(disk.expected_at, disk.read_at);
    ck_assert_int_eq(disk.expected_size, 8192);
    ck_assert_int_lt(
        checksum_verify(piece.buf->data, piece.length, piece.checksums), 0);
    buf_unref(piece.buf);
    /* From the block's start, one read is enough. */
    forget_calls(&disk);
    ck_assert_int_eq(block_store_get(store, &key, 0, 4000, false, &piece), 0);
    ck_assert_str_eq(disk.calls, "r");
    buf_unref(piece.buf);
    block_store_close(store);
}
END_TEST

/* Not every filesystem knows RWF_NOWAIT: then somebody must wait. */
START_TEST(cached_read_waits_where_the_filesystem_cannot_tell)
{
    static const int errors[] = { -EOPNOTSUPP, -EINVAL, -EIO };
    struct block_key key = fixture_key(1, 0, 0);
    struct block_store *store;
    struct block_piece piece;
    struct fault_disk disk;

    fault_disk_init(&disk);
    fixture_options.disk = &disk.disk;
    store = fixture_open();
    ck_assert_int_eq(fixture_put(store, &key, 0, 50000), 0);
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        disk.nowait_error = errors[i];
        ck_assert_int_eq(block_store_get(store, &key, 9000, 4000, true, &piece),
                         -EAGAIN);
        ck_assert_int_eq(fixture_check(store, &key, 0, 50000), 0);
    }
    block_store_close(store);
}
END_TEST

/* The cache of rows may be wrong: it is believed in nothing. */
START_TEST(wrong_row_in_the_cache_changes_no_answer)
{
    struct block_store *store = fixture_open();
    struct block_key key = fixture_key(1, 0, 0);
    struct block_key other = fixture_key(1, 1, 0);
    struct block_key none = fixture_key(1, 2, 0);
    struct index_row row;
    struct block_piece piece;

    ck_assert_int_eq(fixture_put(store, &key, 0, 50000), 0);
    ck_assert_int_eq(fixture_put(store, &other, 0, 300), 0);
    ck_assert(row_cache_find(&store->rows, &other, &row));
    row.key = key;
    row_cache_put(&store->rows, &row);
    ck_assert_int_eq(fixture_check(store, &key, 0, 50000), 0);
    row_cache_put(&store->rows, &row);
    ck_assert_int_eq(block_store_get(store, &key, 9000, 9, true, &piece),
                     -EAGAIN);
    ck_assert_int_eq(block_store_get(store, &key, 9000, 9, false, &piece), 0);
    ck_assert_uint_eq(piece.block_length, 50000);
    buf_unref(piece.buf);
    ck_assert_int_eq(block_store_get(store, &key, 50000, 9, false, &piece),
                     -EINVAL);
    row.key = none;
    row_cache_put(&store->rows, &row);
    ck_assert_int_eq(block_store_get(store, &none, 0, 9, false, &piece),
                     -ENOENT);
    ck_assert_int_eq(block_store_get(store, &none, 9000, 9, false, &piece),
                     -ENOENT);
    ck_assert_int_eq(block_store_verify(store, &none), -ENOENT);
    block_store_close(store);
}
END_TEST

START_TEST(row_cache_knows_what_was_put_and_nothing_else)
{
    struct row_cache cache;
    struct index_row row;
    unsigned n_known = 0;

    ck_assert_int_eq(row_cache_init(&cache), 0);
    for (uint32_t i = 0; i < 100000; i++) {
        row = (struct index_row){ fixture_key(i / 64 + 1, i % 64, i % 6), i + 1,
                                  i + 2 };
        row_cache_put(&cache, &row);
    }
    for (uint32_t i = 0; i < 100000; i++) {
        struct block_key key = fixture_key(i / 64 + 1, i % 64, i % 6);

        if (row_cache_find(&cache, &key, &row)) {
            ck_assert_int_eq(block_key_compare(&row.key, &key), 0);
            ck_assert_uint_eq(row.place, i + 1);
            ck_assert_uint_eq(row.length, i + 2);
            n_known++;
        }
        key.object.session++;
        ck_assert(!row_cache_find(&cache, &key, &row));
    }
    ck_assert_uint_ge(n_known, 90000);
    row_cache_close(&cache);
}
END_TEST

START_TEST(same_bytes_again_succeed_other_bytes_do_not)
{
    struct block_store *store = fixture_open();
    struct block_key key = fixture_key(1, 0, 0);
    struct block_store_stats stats;

    for (int round = 0; round < 2; round++) {
        ck_assert_int_eq(fixture_put(store, &key, 0, 5000), 0);
        ck_assert_int_eq(fixture_put(store, &key, 0, 5000), 0);
        ck_assert_int_eq(fixture_put(store, &key, 1, 5000), -EEXIST);
        ck_assert_int_eq(fixture_put(store, &key, 0, 4999), -EEXIST);
        ck_assert_int_eq(fixture_check(store, &key, 0, 5000), 0);
        ck_assert_int_eq(block_store_stats(store, &stats), 0);
        ck_assert_uint_eq(stats.n_blocks, 1);
        ck_assert_uint_eq(stats.block_bytes, 5000);
        block_store_close(store);
        store = fixture_open();
    }
    block_store_close(store);
}
END_TEST

START_TEST(bytes_that_fail_their_checksum_are_refused)
{
    static const uint8_t bytes[10000];
    struct block_store *store = fixture_open();
    struct block_key key = fixture_key(1, 0, 0);
    uint32_t checksums[3];
    struct iovec iov = { malloc(sizeof bytes), sizeof bytes };
    struct block_payload payload = { &iov, 1, sizeof bytes, checksums };

    memcpy(iov.iov_base, bytes, sizeof bytes);
    checksum_compute(bytes, sizeof bytes, checksums);
    checksums[_i] ^= 1u << _i;
    ck_assert_int_eq(block_store_put(store, &key, &payload), -EBADMSG);
    ck_assert_int_eq(fixture_check(store, &key, 0, 10000), -ENOENT);
    checksums[_i] ^= 1u << _i;
    payload.length = 9999;
    ck_assert_int_eq(block_store_put(store, &key, &payload), -EINVAL);
    payload.length = sizeof bytes;
    ck_assert_int_eq(block_store_put(store, &key, &payload), 0);
    free(iov.iov_base);
    block_store_close(store);
}
END_TEST

START_TEST(many_segments_are_used)
{
    struct block_store *store;
    char path[128];

    fixture_options.segment_size = 2 << 20;
    store = fixture_open();
    for (uint32_t i = 0; i < 40; i++) {
        struct block_key key = fixture_key(1, i, 0);

        ck_assert_int_eq(fixture_put(store, &key, 0, 262144), 0);
    }
    ck_assert(fixture_segment(5, path));
    for (int round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < 40; i++) {
            struct block_key key = fixture_key(1, i, 0);

            ck_assert_int_eq(fixture_check(store, &key, 0, 262144), 0);
        }
        block_store_close(store);
        store = fixture_open();
    }
    block_store_close(store);
}
END_TEST

/* ---------------------------------------------------------------- threads */

#define N_THREADS 4
#define N_ROUNDS  150u

struct worker {
    struct block_store *store;
    pthread_t thread;
    uint64_t number;
    int rc;
};

/* Puts blocks, some of them the same as other threads', reads some, deletes
 * some objects of its own. */
static void *work(void *context)
{
    struct worker *worker = context;
    struct block_store *store = worker->store;
    uint64_t n_blocks;

    for (uint32_t i = 0; i < N_ROUNDS && worker->rc == 0; i++) {
        struct block_key own =
            fixture_key(100 + worker->number * 10 + i % 5, i, 0);
        struct block_key shared = fixture_key(1, i, 0);
        uint32_t length = 1 + i * 731 % 30000;

        worker->rc = fixture_put(store, &own, 0, length);
        if (worker->rc == 0) {
            worker->rc = fixture_put(store, &shared, 0, length);
        }
        if (worker->rc == 0) {
            worker->rc = fixture_check(store, &shared, 0, length);
        }
        if (worker->rc == 0) {
            worker->rc = fixture_check(store, &own, 0, length);
        }
        if (worker->rc == 0 && i % 50 == 49) {
            worker->rc =
                block_store_delete_objects(store, &own.object, 1, &n_blocks);
        }
        if (worker->rc == 0 && i % 40 == 39) {
            worker->rc = block_store_sync(store);
        }
    }
    return NULL;
}

START_TEST(threads_do_not_disturb_each_other)
{
    struct worker workers[N_THREADS];
    struct block_store *store;

    fixture_options.segment_size = 2 << 20;
    store = fixture_open();
    for (uint64_t i = 0; i < N_THREADS; i++) {
        workers[i] = (struct worker){ .store = store, .number = i };
        ck_assert_int_eq(
            pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (size_t i = 0; i < N_THREADS; i++) {
        (void)pthread_join(workers[i].thread, NULL);
        ck_assert_int_eq(workers[i].rc, 0);
    }
    for (int round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < N_ROUNDS; i++) {
            struct block_key shared = fixture_key(1, i, 0);

            ck_assert_int_eq(
                fixture_check(store, &shared, 0, 1 + i * 731 % 30000), 0);
        }
        block_store_close(store);
        store = fixture_open();
    }
    block_store_close(store);
}
END_TEST

static void *sync_once(void *context)
{
    struct worker *worker = context;

    worker->rc = block_store_sync(worker->store);
    return NULL;
}

START_TEST(waiting_callers_share_one_sync)
{
    struct worker workers[16];
    struct fault_disk disk;
    struct block_store *store;
    struct block_key key = fixture_key(1, 0, 0);
    int n_before;

    fault_disk_init(&disk);
    fixture_options.disk = &disk.disk;
    store = fixture_open();
    ck_assert_int_eq(fixture_put(store, &key, 0, 5000), 0);
    n_before = disk.n_syncs;
    disk.sync_ms = 50;
    for (size_t i = 0; i < N(workers); i++) {
        workers[i] = (struct worker){ .store = store };
        ck_assert_int_eq(
            pthread_create(&workers[i].thread, NULL, sync_once, &workers[i]),
            0);
    }
    for (size_t i = 0; i < N(workers); i++) {
        (void)pthread_join(workers[i].thread, NULL);
        ck_assert_int_eq(workers[i].rc, 0);
    }
    /* The segment and the directory, once: later rounds find nothing to do. */
    ck_assert_int_eq(disk.n_syncs - n_before, 2);
    disk.sync_ms = 0;
    block_store_close(store);
}
END_TEST

/* --------------------------------------------------------------- deleting */

START_TEST(deleted_objects_are_gone_others_stay)
{
    struct block_store *store = fixture_open();
    struct object_id dead[2] = { { 7, 2 }, { 7, 3 } };
    uint64_t n_blocks;

    for (uint64_t serial = 1; serial <= 4; serial++) {
        for (uint32_t i = 0; i < 10; i++) {
            struct block_key key = fixture_key(serial, i, 3);

            ck_assert_int_eq(fixture_put(store, &key, 0, 3000), 0);
        }
    }
    ck_assert_int_eq(block_store_delete_objects(store, dead, 2, &n_blocks), 0);
    ck_assert_uint_eq(n_blocks, 20);
    ck_assert_int_eq(block_store_delete_objects(store, dead, 2, &n_blocks), 0);
    ck_assert_uint_eq(n_blocks, 0);
    for (int round = 0; round < 2; round++) {
        for (uint64_t serial = 1; serial <= 4; serial++) {
            struct block_key key = fixture_key(serial, 9, 3);

            ck_assert_int_eq(fixture_check(store, &key, 0, 3000),
                             serial == 2 || serial == 3 ? -ENOENT : 0);
        }
        block_store_close(store);
        store = fixture_open();
    }
    block_store_close(store);
}
END_TEST

/* Deletes every second object, then the others, from records of one size. */
static const uint32_t delete_sizes[] = { 100, 1024, 3000, 5000, 262144 };

START_TEST(deleting_gives_space_back)
{
    struct block_store *store = fixture_open();
    uint32_t size = delete_sizes[_i];
    uint32_t n_objects = size > 10000 ? 40 : 2000;
    uint64_t full;
    uint64_t n_blocks;
    struct block_key last = fixture_key(n_objects, 0, 0);

    for (uint64_t serial = 1; serial <= n_objects; serial++) {
        struct block_key key = fixture_key(serial, 0, 0);

        ck_assert_int_eq(fixture_put(store, &key, 0, size), 0);
    }
    ck_assert_int_eq(block_store_sync(store), 0);
    full = fixture_disk_usage();
    ck_assert_uint_ge(full, (uint64_t)n_objects * size);
    for (uint64_t start = 1; start <= 2; start++) {
        for (uint64_t serial = start; serial < n_objects; serial += 2) {
            struct object_id object = { 7, serial };

            ck_assert_int_eq(
                block_store_delete_objects(store, &object, 1, &n_blocks), 0);
            ck_assert_uint_eq(n_blocks, 1);
        }
    }
    ck_assert_int_eq(block_store_sync(store), 0);
    /* What is left: the last object, its neighbours' pages, and tombstones. */
    ck_assert_uint_le(fixture_disk_usage(),
                      size + 16384 + n_objects * record_size(16));
    ck_assert_int_eq(fixture_check(store, &last, 0, size), 0);
    block_store_close(store);
}
END_TEST

START_TEST(segment_without_live_blocks_is_removed)
{
    struct block_store *store;
    struct object_id object = { 7, 1 };
    struct block_store_stats stats;
    struct block_key last = fixture_key(2, 0, 0);
    uint64_t n_blocks;
    char path[128];

    fixture_options.segment_size = 2 << 20;
    store = fixture_open();
    for (uint32_t i = 0; i < 40; i++) {
        struct block_key key = fixture_key(1, i, 0);

        ck_assert_int_eq(fixture_put(store, &key, 0, 262144), 0);
    }
    ck_assert_int_eq(fixture_put(store, &last, 0, 262144), 0);
    ck_assert(fixture_segment(5, path));
    ck_assert_int_eq(block_store_delete_objects(store, &object, 1, &n_blocks),
                     0);
    ck_assert_uint_eq(n_blocks, 40);
    ck_assert(fixture_segment(0, path));
    ck_assert(!fixture_segment(1, path));
    ck_assert_int_eq(block_store_stats(store, &stats), 0);
    ck_assert_uint_eq(stats.n_blocks, 1);
    ck_assert_uint_le(stats.used, 1 << 20);
    for (int round = 0; round < 2; round++) {
        struct block_key key = fixture_key(1, 39, 0);

        ck_assert_int_eq(fixture_check(store, &key, 0, 262144), -ENOENT);
        ck_assert_int_eq(fixture_check(store, &last, 0, 262144), 0);
        block_store_close(store);
        store = fixture_open();
    }
    block_store_close(store);
}
END_TEST

START_TEST(too_many_objects_at_once_are_refused)
{
    struct block_store *store = fixture_open();
    struct object_id *objects =
        calloc(BLOCK_STORE_DELETE_MAX + 1, sizeof *objects);
    uint64_t n_blocks;

    ck_assert_int_eq(block_store_delete_objects(
                         store, objects, BLOCK_STORE_DELETE_MAX + 1, &n_blocks),
                     -EINVAL);
    ck_assert_int_eq(block_store_delete_objects(
                         store, objects, BLOCK_STORE_DELETE_MAX, &n_blocks),
                     0);
    ck_assert_int_eq(block_store_delete_objects(store, objects, 0, &n_blocks),
                     0);
    free(objects);
    block_store_close(store);
}
END_TEST

/* ------------------------------------------------------- lists and figures */

START_TEST(list_is_in_key_order_and_can_be_continued)
{
    struct block_store *store = fixture_open();
    struct block_info list[10];
    struct block_key after;
    const struct block_key *from = NULL;
    size_t n_all = 0;
    size_t n;

    for (uint32_t i = 0; i < 47; i++) {
        struct block_key key = fixture_key(i * 31 % 47, i % 3, i % 5);

        ck_assert_int_eq(fixture_put(store, &key, 0, 100 + i), 0);
    }
    do {
        ck_assert_int_eq(block_store_list(store, from, N(list), list, &n), 0);
        for (size_t i = 0; i < n; i++) {
            if (from != NULL) {
                ck_assert_int_lt(block_key_compare(&after, &list[i].key), 0);
            }
            after = list[i].key;
            from = &after;
            n_all++;
        }
    } while (n == N(list));
    ck_assert_uint_eq(n_all, 47);
    block_store_close(store);
}
END_TEST

START_TEST(figures_add_up)
{
    struct block_store *store = fixture_open();
    struct block_store_stats before;
    struct block_store_stats after;

    ck_assert_int_eq(block_store_stats(store, &before), 0);
    ck_assert_uint_eq(before.n_blocks, 0);
    for (uint32_t i = 0; i < 10; i++) {
        struct block_key key = fixture_key(1, i, 0);

        ck_assert_int_eq(fixture_put(store, &key, 0, 100000), 0);
    }
    ck_assert_int_eq(block_store_stats(store, &after), 0);
    ck_assert_uint_eq(after.n_blocks, 10);
    ck_assert_uint_eq(after.block_bytes, 1000000);
    ck_assert_uint_ge(after.used, before.used + 1000000);
    ck_assert_uint_le(after.used, before.used + 1200000);
    ck_assert_uint_gt(after.total, after.available);
    ck_assert_uint_eq(after.filesystem, before.filesystem);
    ck_assert_uint_eq(after.instance, block_store_instance(store));
    block_store_close(store);
    store = fixture_open();
    ck_assert_int_eq(block_store_stats(store, &before), 0);
    ck_assert_uint_eq(before.n_blocks, 10);
    ck_assert_uint_eq(before.block_bytes, 1000000);
    ck_assert_uint_eq(before.filesystem, after.filesystem);
    ck_assert_uint_ne(before.instance, after.instance);
    block_store_close(store);
}
END_TEST

/* -------------------------------------------------------------- full disks */

START_TEST(put_is_refused_at_the_reserve)
{
    struct block_store *store = fixture_open();
    struct block_key key = fixture_key(1, 0, 0);
    struct block_key other = fixture_key(2, 0, 0);
    struct block_store_stats stats;
    uint64_t n_blocks;

    ck_assert_int_eq(fixture_put(store, &key, 0, 5000), 0);
    block_store_close(store);
    fixture_options.reserve = UINT64_MAX / 2;
    store = fixture_open();
    ck_assert_int_eq(fixture_put(store, &other, 0, 5000), -ENOSPC);
    ck_assert_int_eq(fixture_put(store, &key, 0, 5000), 0);
    ck_assert_int_eq(fixture_check(store, &key, 0, 5000), 0);
    ck_assert_int_eq(block_store_stats(store, &stats), 0);
    ck_assert_uint_eq(stats.available, 0);
    ck_assert_int_eq(
        block_store_delete_objects(store, &key.object, 1, &n_blocks), 0);
    ck_assert_uint_eq(n_blocks, 1);
    block_store_close(store);
}
END_TEST

/* How much of the record is written before the disk says that it is full. */
static const int written_before[] = { 0, 1, 40, 308 };

START_TEST(put_that_fills_the_disk_leaves_nothing)
{
    struct block_store *store;
    struct fault_disk disk;
    struct block_key key = fixture_key(1, 0, 0);
    struct block_key other = fixture_key(2, 0, 0);
    struct stat status;
    char path[128];

    fault_disk_init(&disk);
    fixture_options.disk = &disk.disk;
    store = fixture_open();
    ck_assert_int_eq(fixture_put(store, &key, 0, 5000), 0);
    disk.write_error = -ENOSPC;
    disk.write_first = written_before[_i];
    disk.fail_write_in = 1;
    ck_assert_int_eq(fixture_put(store, &other, 0, 262144), -ENOSPC);
    ck_assert_int_eq(fixture_check(store, &other, 0, 262144), -ENOENT);
    ck_assert(fixture_segment(0, path));
    ck_assert_int_eq(stat(path, &status), 0);
    ck_assert_int_le(status.st_size, record_size(5000));
    ck_assert_int_eq(fixture_put(store, &other, 0, 262144), 0);
    for (int round = 0; round < 2; round++) {
        ck_assert_int_eq(fixture_check(store, &key, 0, 5000), 0);
        ck_assert_int_eq(fixture_check(store, &other, 0, 262144), 0);
        block_store_close(store);
        store = fixture_open();
    }
    block_store_close(store);
}
END_TEST

START_TEST(really_full_disk_refuses_puts_and_can_be_emptied)
{
    struct block_store *store;
    struct object_id object = { 7, 1 };
    uint64_t n_blocks = 0;
    uint32_t n_put = 0;
    int rc = 0;

    if (mount("tmpfs", fixture_dir, "tmpfs", 0, "size=16m") < 0) {
        return; /* needs privileges */
    }
    store = fixture_open();
    for (int round = 0; round < 3; round++) {
        for (n_put = 0; n_put < 200 && rc == 0; n_put++) {
            struct block_key key = fixture_key(1, n_put, 0);

            rc = fixture_put(store, &key, 0, 200000);
        }
        ck_assert_int_eq(rc, -ENOSPC);
        n_put--;
        ck_assert_uint_gt(n_put, 60);
        for (uint32_t i = 0; i < n_put; i++) {
            struct block_key key = fixture_key(1, i, 0);

            ck_assert_int_eq(fixture_check(store, &key, 0, 200000), 0);
        }
        rc = block_store_delete_objects(store, &object, 1, &n_blocks);
        ck_assert_int_eq(rc, 0);
        ck_assert_uint_eq(n_blocks, n_put);
        block_store_close(store);
        store = fixture_open();
    }
    block_store_close(store);
    ck_assert_int_eq(umount(fixture_dir), 0);
}
END_TEST

/* ------------------------------------------------------------ broken disks */

START_TEST(write_error_stops_writing_but_not_reading)
{
    struct block_store *store;
    struct fault_disk disk;
    struct block_key key = fixture_key(1, 0, 0);
    struct block_key other = fixture_key(2, 0, 0);
    uint64_t n_blocks;

    fault_disk_init(&disk);
    fixture_options.disk = &disk.disk;
    store = fixture_open();
    ck_assert_int_eq(fixture_put(store, &key, 0, 5000), 0);
    disk.write_error = -EIO;
    disk.fail_write_in = 1;
    ck_assert_int_eq(fixture_put(store, &other, 0, 5000), -EIO);
    ck_assert_int_eq(fixture_put(store, &other, 0, 5000), -EIO);
    ck_assert_int_eq(block_store_sync(store), -EIO);
    ck_assert_int_eq(
        block_store_delete_objects(store, &key.object, 1, &n_blocks), -EIO);
    ck_assert_int_eq(fixture_check(store, &key, 0, 5000), 0);
    block_store_close(store);
    store = fixture_open();
    ck_assert_int_eq(fixture_put(store, &other, 0, 5000), 0);
    ck_assert_int_eq(fixture_check(store, &key, 0, 5000), 0);
    block_store_close(store);
}
END_TEST

static const int sync_errors[] = { -EIO, -ENOSPC, -ENOMEM };

START_TEST(sync_error_is_never_forgotten)
{
    struct block_store *store;
    struct fault_disk disk;
    struct block_key key = fixture_key(1, 0, 0);

    fault_disk_init(&disk);
    fixture_options.disk = &disk.disk;
    store = fixture_open();
    ck_assert_int_eq(fixture_put(store, &key, 0, 5000), 0);
    disk.sync_error = sync_errors[_i];
    disk.fail_sync_in = 1;
    ck_assert_int_eq(block_store_sync(store), -EIO);
    ck_assert_int_eq(block_store_sync(store), -EIO);
    ck_assert_int_eq(fixture_check(store, &key, 0, 5000), 0);
    block_store_close(store);
}
END_TEST

START_TEST(read_error_is_told_and_passes)
{
    struct block_store *store;
    struct fault_disk disk;
    struct block_key key = fixture_key(1, 0, 0);

    fault_disk_init(&disk);
    fixture_options.disk = &disk.disk;
    store = fixture_open();
    ck_assert_int_eq(fixture_put(store, &key, 0, 5000), 0);
    disk.fail_read = -EIO;
    ck_assert_int_eq(fixture_check(store, &key, 0, 5000), -EIO);
    disk.fail_read = 0;
    ck_assert_int_eq(fixture_check(store, &key, 0, 5000), 0);
    ck_assert_int_eq(block_store_sync(store), 0);
    block_store_close(store);
}
END_TEST

static Suite *block_store_suite(void)
{
    Suite *suite = suite_create("block_store");
    TCase *basic = tcase_create("basic");
    TCase *deleting = tcase_create("deleting");
    TCase *trouble = tcase_create("trouble");

    tcase_add_checked_fixture(basic, fixture_setup, fixture_teardown);
    tcase_add_checked_fixture(deleting, fixture_setup, fixture_teardown);
    tcase_add_checked_fixture(trouble, fixture_setup, fixture_teardown);
    tcase_set_timeout(basic, 60);
    tcase_set_timeout(deleting, 60);
    tcase_set_timeout(trouble, 60);
    tcase_add_loop_test(basic, block_of_every_size_reads_back, 0, N(sizes));
    tcase_add_test(basic, header_costs_little);
    tcase_add_loop_test(basic, range_is_widened_to_units, 0, N(ranges));
    tcase_add_test(basic, range_outside_is_refused);
    tcase_add_test(basic, cached_block_is_read_without_waiting);
    tcase_add_test(basic, cold_read_waits_for_the_disk_once);
    tcase_add_test(basic, wrong_row_in_the_cache_changes_no_answer);
    tcase_add_test(basic, row_cache_knows_what_was_put_and_nothing_else);
    tcase_add_test(basic, cached_read_waits_where_the_filesystem_cannot_tell);
    tcase_add_test(basic, same_bytes_again_succeed_other_bytes_do_not);
    tcase_add_loop_test(basic, bytes_that_fail_their_checksum_are_refused, 0,
                        3);
    tcase_add_test(basic, many_segments_are_used);
    tcase_add_test(basic, threads_do_not_disturb_each_other);
    tcase_add_test(basic, waiting_callers_share_one_sync);
    tcase_add_test(basic, list_is_in_key_order_and_can_be_continued);
    tcase_add_test(basic, figures_add_up);
    tcase_add_test(deleting, deleted_objects_are_gone_others_stay);
    tcase_add_loop_test(deleting, deleting_gives_space_back, 0,
                        N(delete_sizes));
    tcase_add_test(deleting, segment_without_live_blocks_is_removed);
    tcase_add_test(deleting, too_many_objects_at_once_are_refused);
    tcase_add_test(trouble, put_is_refused_at_the_reserve);
    tcase_add_loop_test(trouble, put_that_fills_the_disk_leaves_nothing, 0,
                        N(written_before));
    tcase_add_test(trouble, really_full_disk_refuses_puts_and_can_be_emptied);
    tcase_add_test(trouble, write_error_stops_writing_but_not_reading);
    tcase_add_loop_test(trouble, sync_error_is_never_forgotten, 0,
                        N(sync_errors));
    tcase_add_test(trouble, read_error_is_told_and_passes);
    suite_add_tcase(suite, basic);
    suite_add_tcase(suite, deleting);
    suite_add_tcase(suite, trouble);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(block_store_suite());
    int n_failed;

    srunner_run_all(runner, CK_NORMAL);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
