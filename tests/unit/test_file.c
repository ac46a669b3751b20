/* What file.h promises, over a shard and nodes in memory. */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <check.h>

#include "common/clock.h"
#include "fusefs/file.h"
#include "tests/unit/file_fake.h"

#define INO   7u
#define KIB   1024u
#define MIB   (1024u * 1024u)
#define CACHE (32u * MIB)
#define PIECE (128u * KIB)

/* How long to wait for what the background should do within about a second. */
#define PATIENCE_MS 20000

/* Of the nodes, where the time that things take counts. */
#define SLOW_MS 1000

static const struct objio_policy ec42 = { 4, 2, 256u * KIB, 5 };

static struct file_fake *fake;
static uint8_t *bytes;  /* 8 MiB that differ everywhere */
static uint8_t *buffer; /* 8 MiB */

static void start(int64_t timeout_ms)
{
    struct file_fake_config config = { .policy = &ec42,
                                       .cache_size = CACHE,
                                       .timeout_ms = timeout_ms };

    fake = file_fake_new(&config);
    bytes = malloc(8 * MIB);
    buffer = malloc(8 * MIB);
    assert(bytes != NULL && buffer != NULL);
    for (uint32_t i = 0; i < 8 * MIB / 4; i++) {
        uint32_t word = i * 2654435761u + 1;

        memcpy(bytes + (size_t)i * 4, &word, 4);
    }
}

static void setup(void)
{
    start(0);
}

/* For tests in which nodes do not answer. */
static void setup_impatient(void)
{
    start(50);
}

static void setup_slow(void)
{
    start(SLOW_MS);
}

static void teardown(void)
{
    struct file_fake_counts counts;

    file_fake_counts(fake, &counts);
    ck_assert_uint_eq(counts.n_errors, 0);
    file_fake_free(fake);
    free(bytes);
    free(buffer);
}

static struct file *open_in(struct file_store *store, uint64_t ino)
{
    struct file_attr attr;
    struct file *file;

    ck_assert_int_eq(file_get(store, ino, &file), 0);
    file_fake_attr(fake, ino, &attr);
    file_revalidate(file, &attr);
    return file;
}

static struct file *open_file(uint64_t ino)
{
    return open_in(file_fake_store(fake), ino);
}

static struct file *create_file(uint64_t ino)
{
    struct file_attr attr = { 0 };
    struct file *file;

    ck_assert_int_eq(file_get(file_fake_store(fake), ino, &file), 0);
    file_created(file, &attr);
    return file;
}

static int write_at(struct file *file, uint64_t offset, size_t length)
{
    return file_write(file, offset, length, bytes + offset % MIB, false);
}

/* Whether the file reads back as write_at() has left it. */
static bool reads_back(struct file *file, uint64_t offset, size_t length)
{
    size_t got = 0;

    return file_read(file, offset, length, buffer, &got) == 0 &&
           got == length && memcmp(buffer, bytes + offset % MIB, length) == 0;
}

static struct file_fake_counts counts_now(void)
{
    struct file_fake_counts counts;

    file_fake_counts(fake, &counts);
    return counts;
}

static struct file_attr shard_attr(uint64_t ino)
{
    struct file_attr attr;

    file_fake_attr(fake, ino, &attr);
    return attr;
}

static void pause_ms(long ms)
{
    struct timespec pause = { 0, ms * 1000000 };

    (void)nanosleep(&pause, NULL);
}

/* ------------------------------------------------------------------- writing
 */

START_TEST(a_small_file_is_committed_inline)
{
    struct file *file = create_file(INO);

    ck_assert_int_eq(write_at(file, 0, 5000), 0);
    ck_assert_int_eq(write_at(file, 5000, 11384), 0);
    ck_assert_int_eq(file_flush(file), 0);
    ck_assert_uint_eq(counts_now().n_puts, 0);
    ck_assert_uint_eq(counts_now().n_layouts, 0);
    ck_assert_uint_eq(counts_now().n_commits, 1);
    ck_assert_uint_eq(file_fake_extents(fake, INO), 1);
    ck_assert_uint_eq(shard_attr(INO).size, FILE_INLINE_MAX);
    file_put(file);

    file = open_file(INO);
    ck_assert(reads_back(file, 0, FILE_INLINE_MAX));
    /* One byte more does not fit. */
    ck_assert_int_eq(write_at(file, FILE_INLINE_MAX, 1), 0);
    ck_assert_int_eq(file_flush(file), 0);
    ck_assert_uint_eq(counts_now().n_objects_committed, 1);
    file_put(file);
}
END_TEST

START_TEST(a_small_file_that_grows_moves_to_an_object)
{
    struct file *file = create_file(INO);

    for (uint64_t offset = 0; offset < 50000; offset += 10000) {
        ck_assert_int_eq(write_at(file, offset, 10000), 0);
    }
    ck_assert_int_eq(file_flush(file), 0);
    ck_assert_uint_eq(file_fake_extents(fake, INO), 1);
    ck_assert_uint_eq(counts_now().n_objects_committed, 1);
    ck_assert(reads_back(file, 0, 50000));
    file_put(file);
}
END_TEST

START_TEST(an_append_to_a_small_file_commits_what_is_new)
{
    struct file *file;

    for (uint64_t offset = 0; offset < 1000; offset += 100) {
        file = open_file(INO);
        ck_assert_int_eq(file_write(file, 0, 100, bytes + offset, true), 0);
        ck_assert_int_eq(file_flush(file), 0);
        file_put(file);
    }
    ck_assert_uint_eq(file_fake_extents(fake, INO), 10);
    ck_assert_uint_eq(shard_attr(INO).size, 1000);
    ck_assert_uint_eq(counts_now().n_puts, 0);
    file = open_file(INO);
    ck_assert(reads_back(file, 0, 1000));
    file_put(file);
}
END_TEST

START_TEST(streams_of_two_files_do_not_share_objects)
{
    struct file *a = create_file(INO);
    struct file *b = create_file(INO + 1);

    for (uint64_t offset = 0; offset < 8 * MIB; offset += PIECE) {
        ck_assert_int_eq(write_at(a, offset, PIECE), 0);
        ck_assert_int_eq(write_at(b, offset, PIECE), 0);
    }
    ck_assert_int_eq(file_flush(a), 0);
    ck_assert_int_eq(file_flush(b), 0);
    /* More than one only if the background came by. */
    ck_assert_uint_le(file_fake_extents(fake, INO), 4);
    ck_assert_uint_le(file_fake_extents(fake, INO + 1), 4);
    for (uint64_t offset = 0; offset < 8 * MIB; offset += MIB) {
        ck_assert(reads_back(a, offset, MIB));
        ck_assert(reads_back(b, offset, MIB));
    }
    file_put(a);
    file_put(b);
}
END_TEST

START_TEST(a_file_longer_than_an_object_goes_on_in_the_next)
{
    struct file *file = create_file(INO);
    uint64_t size = OBJECT_SIZE_MAX + 3 * (uint64_t)MIB / 2;

    for (uint64_t offset = 0; offset < size; offset += MIB / 2) {
        ck_assert_int_eq(write_at(file, offset, MIB / 2), 0);
    }
    ck_assert_int_eq(file_flush(file), 0);
    ck_assert_uint_ge(counts_now().n_objects_committed, 2);
    ck_assert(reads_back(file, OBJECT_SIZE_MAX - MIB, MIB / 2));
    ck_assert(reads_back(file, size - MIB / 2, MIB / 2));
    file_put(file);
}
END_TEST

START_TEST(an_overwrite_in_memory_costs_no_new_bytes)
{
    struct file *file = create_file(INO);

    ck_assert_int_eq(write_at(file, 0, 40000), 0);
    for (int i = 0; i < 100; i++) {
        ck_assert_int_eq(write_at(file, 4096, 8192), 0);
    }
    ck_assert_int_eq(file_flush(file), 0);
    ck_assert_uint_eq(file_fake_extents(fake, INO), 1);
    ck_assert(reads_back(file, 0, 40000));
    file_put(file);
}
END_TEST

START_TEST(a_write_beyond_the_largest_file_is_refused)
{
    struct file *file = create_file(INO);

    ck_assert_int_eq(file_write(file, INT64_MAX, 1, bytes, false), -EFBIG);
    ck_assert_int_eq(file_write(file, UINT64_MAX, 2, bytes, false), -EFBIG);
    ck_assert_int_eq(file_truncate(file, (uint64_t)INT64_MAX + 1, 0), -EFBIG);
    ck_assert_int_eq(file_flush(file), 0);
    file_put(file);
}
END_TEST

/* ------------------------------------------------------------------ flushing
 */

START_TEST(files_flushed_together_share_one_object_and_one_commit)
{
    struct file_fake_counts counts;
    uint64_t lost;

    for (uint64_t i = 0; i < 20; i++) {
        struct file *file = create_file(INO + i);

        ck_assert_int_eq(write_at(file, 0, 20000 + i), 0);
        file_put(file);
    }
    ck_assert_int_eq(file_store_sync(file_fake_store(fake), &lost), 0);
    ck_assert_uint_eq(lost, 0);
    counts = counts_now();
    ck_assert_uint_eq(counts.n_files_committed, 20);
    /* Two if the background came by. */
    ck_assert_uint_le(counts.n_commits, 2);
    ck_assert_uint_le(counts.n_objects_committed, 2);
    for (uint64_t i = 0; i < 20; i++) {
        struct file *file = open_file(INO + i);

        ck_assert(reads_back(file, 0, 20000 + i));
        file_put(file);
    }
}
END_TEST

START_TEST(the_background_flushes_a_file_and_makes_it_durable)
{
    struct file *file = create_file(INO);
    int64_t start_ms = clock_mono_ms();

    ck_assert_int_eq(write_at(file, 0, 100000), 0);
    file_put(file);
    while ((shard_attr(INO).size == 0 || counts_now().n_block_syncs == 0) &&
           clock_mono_ms() - start_ms < PATIENCE_MS) {
        pause_ms(20);
    }
    ck_assert_uint_eq(shard_attr(INO).size, 100000);
    ck_assert_uint_gt(counts_now().n_block_syncs, 0);
}
END_TEST

START_TEST(fsync_syncs_blocks_then_commits_durably)
{
    struct file *file = create_file(INO);
    struct file_fake_counts counts;

    ck_assert_int_eq(write_at(file, 0, 100000), 0);
    ck_assert_int_eq(file_fsync(file), 0);
    counts = counts_now();
    ck_assert_uint_eq(counts.n_block_syncs, FAKE_FILE_NODES);
    ck_assert_uint_eq(counts.n_commits_durable, 1);
    ck_assert_uint_eq(counts.n_syncs, 0);

    /* Nothing left to do but to ask the shard. */
    ck_assert_int_eq(file_fsync(file), 0);
    counts = counts_now();
    ck_assert_uint_eq(counts.n_block_syncs, FAKE_FILE_NODES);
    ck_assert_uint_eq(counts.n_commits, 1);
    ck_assert_uint_eq(counts.n_syncs, 1);
    file_put(file);
}
END_TEST

START_TEST(fsync_after_close_makes_earlier_commits_durable)
{
    struct file *file = create_file(INO);

    ck_assert_int_eq(write_at(file, 0, 100000), 0);
    ck_assert_int_eq(file_flush(file), 0);
    file_put(file);
    file = open_file(INO);
    if (_i == 0) {
        ck_assert_int_eq(file_fsync(file), 0);
        ck_assert_uint_eq(counts_now().n_syncs, 1);
    } else {
        ck_assert_int_eq(file_sync_data(file), 0);
    }
    ck_assert_uint_eq(counts_now().n_block_syncs, FAKE_FILE_NODES);
    file_put(file);
}
END_TEST

START_TEST(a_file_that_is_gone_does_not_keep_others_from_being_saved)
{
    struct file *files[5];
    uint64_t lost;

    for (uint64_t i = 0; i < 5; i++) {
        files[i] = create_file(INO + i);
        ck_assert_int_eq(write_at(files[i], 0, _i == 0 ? 1000 : 30000), 0);
    }
    file_fake_unlink(fake, INO + 2);
    ck_assert_int_eq(file_store_sync(file_fake_store(fake), &lost), -ENOENT);
    ck_assert_uint_eq(lost, 0);
    for (uint64_t i = 0; i < 5; i++) {
        /* Told once by the file itself. */
        ck_assert_int_eq(file_flush(files[i]), i == 2 ? -ENOENT : 0);
        ck_assert_int_eq(file_flush(files[i]), 0);
        if (i != 2) {
            ck_assert_uint_eq(shard_attr(INO + i).size, _i == 0 ? 1000 : 30000);
        }
        file_put(files[i]);
    }
}
END_TEST

START_TEST(a_commit_without_an_answer_is_made_again)
{
    struct file *file = create_file(INO);
    bool applied = _i % 2 == 1;
    size_t size = _i < 2 ? 3000 : 300000;

    ck_assert_int_eq(write_at(file, 0, size), 0);
    file_fake_fail_commits(fake, 1, -ETIMEDOUT, applied);
    ck_assert_int_eq(file_flush(file), -ETIMEDOUT);
    ck_assert(reads_back(file, 0, size));
    ck_assert_int_eq(write_at(file, size, 100), 0);
    ck_assert_int_eq(file_flush(file), 0);
    ck_assert(reads_back(file, 0, size + 100));
    file_put(file);
    file = open_file(INO);
    ck_assert(reads_back(file, 0, size + 100));
    file_put(file);
}
END_TEST

/* ------------------------------------------------------------------- trouble
 */

START_TEST(full_nodes_fail_the_flush_and_keep_the_bytes)
{
    struct file *file = create_file(INO);

    file_fake_set_all(fake, FAKE_NOSPC);
    ck_assert_int_eq(write_at(file, 0, 100000), 0);
    ck_assert_int_eq(file_flush(file), -ENOSPC);
    ck_assert(reads_back(file, 0, 100000));
    ck_assert_uint_eq(shard_attr(INO).size, 0);
    file_fake_set_all(fake, FAKE_OK);
    ck_assert_int_eq(file_flush(file), 0);
    ck_assert_uint_eq(shard_attr(INO).size, 100000);
    file_put(file);
}
END_TEST

START_TEST(an_error_of_the_background_is_told_once_by_a_write)
{
    struct file *file = create_file(INO);
    int64_t start_ms = clock_mono_ms();
    unsigned n_told = 0;

    file_fake_set_all(fake, FAKE_NOSPC);
    ck_assert_int_eq(write_at(file, 0, MIB), 0);
    while (n_told == 0 && clock_mono_ms() - start_ms < PATIENCE_MS) {
        int rc = write_at(file, 4096, 10);

        ck_assert(rc == 0 || rc == -ENOSPC);
        n_told += rc != 0;
        pause_ms(5);
    }
    ck_assert_uint_eq(n_told, 1);
    file_fake_set_all(fake, FAKE_OK);
    ck_assert_int_eq(file_flush(file), 0);
    ck_assert_int_eq(write_at(file, 4096, 10), 0);
    ck_assert_int_eq(file_flush(file), 0);
    ck_assert(reads_back(file, 0, MIB));
    file_put(file);
}
END_TEST

START_TEST(trouble_that_the_background_has_overcome_is_not_told)
{
    struct file *file = create_file(INO);
    struct file_fake_counts before = counts_now();
    int64_t start_ms = clock_mono_ms();

    ck_assert_int_eq(write_at(file, 0, 100000), 0);
    if (_i == 0) {
        file_fake_set_all(fake, FAKE_NOSPC);
        while (counts_now().n_puts < before.n_puts + 2 * FAKE_FILE_NODES &&
               clock_mono_ms() - start_ms < PATIENCE_MS) {
            pause_ms(20);
        }
        file_fake_set_all(fake, FAKE_OK);
    } else {
        file_fake_fail_commits(fake, 1, -ETIMEDOUT, false);
    }
    while (shard_attr(INO).size == 0 &&
           clock_mono_ms() - start_ms < PATIENCE_MS) {
        pause_ms(20);
    }
    pause_ms(100);
    ck_assert_uint_ge(counts_now().n_commits, 1 + (_i != 0));
    ck_assert_int_eq(write_at(file, 100000, 10), 0);
    ck_assert_int_eq(file_flush(file), 0);
    file_put(file);
}
END_TEST

START_TEST(writes_fail_when_memory_is_full_of_what_cannot_be_stored)
{
    struct file *file = create_file(INO);
    struct file_store_stats stats;
    uint64_t offset = 0;
    int rc = 0;

    file_fake_set_all(fake, FAKE_GONE);
    for (unsigned n_errors = 0; n_errors < 20; n_errors += rc != 0) {
        rc = write_at(file, offset, MIB);
        offset += rc == 0 ? MIB : 0;
        ck_assert_uint_le(offset, CACHE);
        file_store_get_stats(file_fake_store(fake), &stats);
        ck_assert_uint_le(stats.write_bytes, CACHE);
    }
    file_fake_set_all(fake, FAKE_OK);
    ck_assert_int_eq(file_flush(file), 0);
    for (uint64_t at = 0; at < offset; at += MIB) {
        ck_assert(reads_back(file, at, MIB));
    }
    ck_assert_int_eq(write_at(file, offset, MIB), 0);
    ck_assert_int_eq(file_flush(file), 0);
    file_put(file);
}
END_TEST

START_TEST(an_unreadable_range_is_an_error_never_zeros)
{
    struct file *file = create_file(INO);
    size_t got;

    ck_assert_int_eq(write_at(file, 0, MIB), 0);
    ck_assert_int_eq(file_flush(file), 0);
    for (uint32_t node = 1; node <= 3; node++) {
        ck_assert(reads_back(file, 0, MIB / 4));
        file_fake_set_node(fake, node, FAKE_GONE);
    }
    file_put(file);
    file = open_file(INO);
    ck_assert_int_lt(file_read(file, MIB / 2, 4096, buffer, &got) |
                         file_read(file, 100, 4096, buffer, &got) |
                         file_read(file, MIB / 4, 4096, buffer, &got) |
                         file_read(file, 3 * MIB / 4, 4096, buffer, &got),
                     0);
    file_put(file);
}
END_TEST

START_TEST(a_flush_of_many_stripes_ends_with_the_timeout)
{
    struct file *file = create_file(INO);

    file_fake_set_all(fake, FAKE_GONE);
    for (uint64_t offset = 0; offset < 7 * MIB; offset += MIB) {
        ck_assert_int_eq(write_at(file, offset, MIB), 0);
    }
    for (int i = 0; i < 2; i++) {
        int64_t start_ms = clock_mono_ms();

        ck_assert_int_lt(_i == 0 ? file_flush(file) : file_fsync(file), 0);
        ck_assert_int_lt(clock_mono_ms() - start_ms, 2 * SLOW_MS - 100);
    }
    file_fake_set_all(fake, FAKE_OK);
    ck_assert_int_eq(file_flush(file), 0);
    for (uint64_t offset = 0; offset < 7 * MIB; offset += MIB) {
        ck_assert(reads_back(file, offset, MIB));
    }
    file_put(file);
}
END_TEST

START_TEST(thousands_of_dirty_files_stay_within_the_memory)
{
    enum {
        N = 3000
    };
    struct file_store_stats stats;
    static struct file *files[N];
    size_t size = _i == 0 ? 10000 : 40000;
    uint64_t lost;
    uint64_t most = 0;

    for (uint64_t i = 0; i < N; i++) {
        files[i] = create_file(INO + i);
        if (write_at(files[i], 0, size) != 0) {
            ck_abort_msg("write failed");
        }
        file_store_get_stats(file_fake_store(fake), &stats);
        most = stats.write_bytes > most ? stats.write_bytes : most;
    }
    /* The pool, the pack and full stripes may force a few buffers. */
    ck_assert_uint_le(most, CACHE / 2);
    ck_assert_int_eq(file_store_sync(file_fake_store(fake), &lost), 0);
    for (uint64_t i = 0; i < N; i++) {
        if (!reads_back(files[i], 0, size)) {
            ck_abort_msg("differs");
        }
        file_put(files[i]);
    }
    ck_assert_uint_lt(counts_now().n_commits, N / 10);
}
END_TEST

/* --------------------------------------------------------- truncation and all
 */

START_TEST(a_truncation_to_the_same_size_is_one_call)
{
    struct file *file = create_file(INO);
    struct file_fake_counts before;
    struct file_fake_counts after;

    ck_assert_int_eq(write_at(file, 0, 100000), 0);
    ck_assert_int_eq(file_flush(file), 0);
    before = counts_now();
    ck_assert_int_eq(file_truncate(file, 100000, 42), 0);
    ck_assert(reads_back(file, 0, 100000));
    after = counts_now();
    ck_assert_uint_eq(after.n_set_sizes, before.n_set_sizes + 1);
    ck_assert_uint_eq(after.n_commits, before.n_commits);
    ck_assert_uint_eq(after.n_layouts, before.n_layouts);
    ck_assert_int_eq(shard_attr(INO).mtime_ns, 42);
    file_put(file);
}
END_TEST

START_TEST(what_was_cut_off_comes_back_as_zeros)
{
    static const size_t sizes[] = { 1000, 100000, 3 * MIB };
    size_t size = sizes[_i % 3];
    struct file *file = create_file(INO);
    size_t got;

    ck_assert_int_eq(write_at(file, 0, size), 0);
    if (_i >= 3) {
        ck_assert_int_eq(file_flush(file), 0);
    }
    ck_assert_int_eq(file_truncate(file, size / 2, 1), 0);
    ck_assert_int_eq(file_truncate(file, size, 1), 0);
    ck_assert(reads_back(file, 0, size / 2));
    ck_assert_int_eq(file_read(file, size / 2, size, buffer, &got), 0);
    ck_assert_uint_eq(got, size - size / 2);
    for (size_t i = 0; i < got; i++) {
        if (buffer[i] != 0) {
            ck_abort_msg("not zero at %zu", i);
        }
    }
    ck_assert_int_eq(file_flush(file), 0);
    ck_assert_uint_eq(shard_attr(INO).size, size);
    file_put(file);
}
END_TEST

START_TEST(holes_are_told_apart_from_data)
{
    struct file *file = create_file(INO);
    struct file_attr attr;
    uint64_t at;

    ck_assert_int_eq(write_at(file, 10 * MIB, 50000), 0);
    ck_assert_int_eq(file_truncate(file, 20 * MIB, 1), 0);
    for (int flushed = 0; flushed < 2; flushed++) {
        attr = shard_attr(INO);
        file_overlay_attr(file, &attr);
        ck_assert_uint_eq(attr.size, 20 * MIB);
        ck_assert_uint_eq(attr.allocated, 50000);
        ck_assert_int_eq(file_seek(file, 0, SEEK_DATA, &at), 0);
        ck_assert_uint_eq(at, 10 * MIB);
        ck_assert_int_eq(file_seek(file, at, SEEK_HOLE, &at), 0);
        ck_assert_uint_eq(at, 10 * MIB + 50000);
        ck_assert_int_eq(file_seek(file, at, SEEK_DATA, &at), -ENXIO);
        ck_assert_int_eq(file_seek(file, 20 * MIB, SEEK_HOLE, &at), -ENXIO);
        ck_assert_int_eq(file_flush(file), 0);
    }
    file_put(file);
}
END_TEST

START_TEST(a_late_flush_does_not_move_an_mtime_that_was_set)
{
    struct file *file = create_file(INO);
    struct file_attr attr = { 0 };

    ck_assert_int_eq(write_at(file, 0, 100), 0);
    file_overlay_attr(file, &attr);
    ck_assert_int_ne(attr.mtime_ns, 0);
    file_mtime_was_set(file);
    ck_assert_int_eq(file_flush(file), 0);
    ck_assert_int_eq(shard_attr(INO).mtime_ns, 0);
    ck_assert_int_eq(write_at(file, 0, 100), 0);
    ck_assert_int_eq(file_flush(file), 0);
    ck_assert_int_ne(shard_attr(INO).mtime_ns, 0);
    file_put(file);
}
END_TEST

START_TEST(a_clone_shares_or_copies)
{
    struct file *source = create_file(INO);
    struct file *file = create_file(INO + 1);
    size_t size = _i == 0 ? 9000 : 3 * MIB;
    uint64_t done;
    uint64_t n_puts;

    file_fake_set_clone_error(fake, _i == 2 ? -EOPNOTSUPP : 0);
    ck_assert_int_eq(write_at(source, 0, size), 0);
    ck_assert_int_eq(file_flush(source), 0);
    n_puts = counts_now().n_puts;
    ck_assert_int_eq(file_clone(source, 0, file, 0, INT64_MAX, &done), 0);
    ck_assert_uint_eq(done, size);
    ck_assert(reads_back(file, 0, size));
    ck_assert_int_eq(file_flush(file), 0);
    ck_assert_uint_eq(shard_attr(INO + 1).size, size);
    ck_assert_uint_eq(counts_now().n_clones, _i == 0 ? 0 : 1);
    if (_i < 2) {
        ck_assert_uint_eq(counts_now().n_puts, n_puts);
    }
    ck_assert_int_eq(file_clone(source, size, file, 0, INT64_MAX, &done), 0);
    ck_assert_uint_eq(done, 0);
    file_put(source);
    file_put(file);
}
END_TEST

START_TEST(fsync_of_a_clone_syncs_the_blocks_that_it_shares)
{
    struct file *source = create_file(INO);
    struct file *file = create_file(INO + 1);
    uint64_t done;

    ck_assert_int_eq(write_at(source, 0, MIB), 0);
    if (_i == 0) {
        ck_assert_int_eq(file_flush(source), 0);
    }
    ck_assert_int_eq(file_clone(source, 0, file, 0, MIB, &done), 0);
    ck_assert_uint_eq(done, MIB);
    ck_assert_uint_eq(counts_now().n_clones, 1);
    ck_assert_uint_eq(counts_now().n_block_syncs, 0);
    ck_assert_int_eq(file_fsync(file), 0);
    ck_assert_uint_eq(counts_now().n_block_syncs, FAKE_FILE_NODES);
    file_put(source);
    file_put(file);
}
END_TEST

/* ------------------------------------------------------------------- reading
 */

static void make_committed(uint64_t ino, size_t size)
{
    struct file *file = create_file(ino);

    for (size_t offset = 0; offset < size; offset += MIB) {
        ck_assert_int_eq(write_at(file, offset, MIB), 0);
    }
    ck_assert_int_eq(file_fsync(file), 0);
    file_put(file);
}

START_TEST(a_sequential_read_gets_each_block_once)
{
    static const size_t pieces[] = { 4 * KIB, 32 * KIB, PIECE, MIB };
    size_t piece = pieces[_i];
    uint64_t n_blocks = 8 * 4;
    struct file *file;

    make_committed(INO, 8 * MIB);
    file = open_file(INO);
    for (uint64_t offset = 0; offset < 8 * MIB; offset += piece) {
        if (!reads_back(file, offset, piece)) {
            ck_abort_msg("differs");
        }
    }
    /* The first small reads do not know yet that they are sequential. */
    ck_assert_uint_le(counts_now().n_gets, n_blocks + 4);
    ck_assert_uint_ge(counts_now().n_gets, n_blocks);
    file_put(file);
}
END_TEST

START_TEST(a_random_small_read_gets_one_range)
{
    struct file *file;

    make_committed(INO, 8 * MIB);
    file = open_file(INO);
    for (uint64_t i = 0; i < 50; i++) {
        ck_assert(reads_back(file, i * 37 % 50 * 40 * 4096, 4096));
    }
    ck_assert_uint_eq(counts_now().n_gets, 50);
    ck_assert_uint_eq(counts_now().n_layouts, 1);
    file_put(file);
}
END_TEST

START_TEST(own_commits_keep_the_layout_of_others_are_seen)
{
    struct file *file;
    struct file *other;
    struct file_attr attr;
    size_t got;

    make_committed(INO, 2 * MIB);
    file = open_file(INO);
    ck_assert(reads_back(file, 4096, 4096));
    ck_assert_int_eq(write_at(file, MIB, 30000), 0);
    ck_assert_int_eq(file_flush(file), 0);
    attr = shard_attr(INO);
    file_revalidate(file, &attr);
    ck_assert(reads_back(file, MIB, 30000));
    ck_assert_uint_eq(counts_now().n_layouts, 1);

    other = open_in(file_fake_second_store(fake), INO);
    memset(buffer, 0xee, 5000);
    ck_assert_int_eq(file_write(other, 4096, 5000, buffer, false), 0);
    ck_assert_int_eq(file_flush(other), 0);
    file_put(other);
    attr = shard_attr(INO);
    file_revalidate(file, &attr);
    memset(buffer, 0, 5000);
    ck_assert_int_eq(file_read(file, 4096, 5000, buffer, &got), 0);
    ck_assert_uint_eq(buffer[0], 0xee);
    ck_assert_uint_eq(buffer[4999], 0xee);
    file_put(file);
}
END_TEST

START_TEST(mounts_write_one_small_file_side_by_side)
{
    struct file *file = create_file(INO);
    struct file *other;
    struct file_attr attr;
    size_t got;

    ck_assert_int_eq(write_at(file, 0, 1000), 0);
    ck_assert_int_eq(file_fsync(file), 0);
    other = open_in(file_fake_second_store(fake), INO);
    ck_assert(reads_back(other, 0, 1000));

    memset(buffer, 0x11, 2000);
    ck_assert_int_eq(file_write(file, 0, 100, buffer, false), 0);
    if (_i == 1) {
        ck_assert_int_eq(file_truncate(file, 600, 1), 0);
    }
    ck_assert_int_eq(file_fsync(file), 0);
    /* Nobody has told the other one. */
    memset(buffer, 0x22, 2000);
    ck_assert_int_eq(file_write(other, 500, 20, buffer, false), 0);
    ck_assert_int_eq(file_write(other, 10, 20, buffer, false), 0);
    attr = shard_attr(INO);
    file_revalidate(other, &attr);
    ck_assert_int_eq(file_read(other, 95, 1, buffer, &got), 0);
    ck_assert_uint_eq(buffer[0], 0x11);
    ck_assert_int_eq(file_fsync(other), 0);
    file_put(file);
    file_put(other);

    file = open_file(INO);
    ck_assert_int_eq(file_read(file, 0, 2000, buffer, &got), 0);
    ck_assert_uint_eq(got, _i == 1 ? 600 : 1000);
    for (size_t i = 0; i < got; i++) {
        uint8_t old = i < 100 ? 0x11 : bytes[i];
        bool is_other = (i >= 10 && i < 30) || (i >= 500 && i < 520);

        ck_assert_uint_eq(buffer[i], is_other ? 0x22 : old);
    }
    file_put(file);
}
END_TEST

START_TEST(an_object_that_was_replaced_and_reaped_is_not_missed)
{
    struct file *file;
    struct file *other;

    file_fake_set_reaping(fake, true);
    make_committed(INO, MIB);
    file = open_file(INO);
    ck_assert(reads_back(file, 40960, 4096));
    other = open_in(file_fake_second_store(fake), INO);
    ck_assert_int_eq(write_at(other, 0, MIB), 0);
    ck_assert_int_eq(file_fsync(other), 0);
    file_put(other);
    /* Nobody has told this mount. */
    ck_assert(reads_back(file, 8192, 4096));
    file_put(file);
}
END_TEST

/* Its blocks are gone because it is garbage, not because a node lost them. */
/* ---------------------------------------------------- files in the making */

static struct file_set shard_set(uint64_t ino)
{
    struct file_set set;

    file_fake_set(fake, ino, &set);
    return set;
}

START_TEST(what_is_set_of_a_new_file_comes_with_its_bytes)
{
    struct file *file = create_file(1);
    struct file_set set = { .valid = FILE_SET_MODE | FILE_SET_MTIME,
                            .mode = 0640,
                            .mtime_ns = 22,
                            .ctime_ns = 1 };

    ck_assert_int_eq(write_at(file, 0, 100), 0);
    ck_assert(file_hold(file, &set));
    set = (struct file_set){ .valid = FILE_SET_UID, .uid = 7, .ctime_ns = 2 };
    ck_assert(file_hold(file, &set));
    ck_assert_uint_eq(counts_now().n_commits, 0);
    file_held(file, &set);
    ck_assert_uint_eq(set.mode, 0640);
    ck_assert_uint_eq(set.uid, 7);
    ck_assert_int_eq(set.ctime_ns, 2);
    ck_assert_int_eq(file_flush(file), 0);
    ck_assert_uint_eq(counts_now().n_commits, 1);
    ck_assert_uint_eq(shard_set(1).mode, 0640);
    ck_assert_uint_eq(shard_set(1).uid, 7);
    ck_assert_int_eq(shard_attr(1).mtime_ns, 22);
    file_held(file, &set);
    ck_assert_uint_eq(set.valid, 0);
    ck_assert_msg(!file_hold(file, &set), "it is made");
    file_put(file);
}
END_TEST

START_TEST(a_write_after_utimes_moves_the_time)
{
    struct file *file = create_file(1);
    const struct file_set set = { .valid = FILE_SET_MTIME, .mtime_ns = 22 };

    ck_assert(file_hold(file, &set));
    ck_assert_int_eq(write_at(file, 0, 100), 0);
    ck_assert_int_eq(file_flush(file), 0);
    ck_assert_int_gt(shard_attr(1).mtime_ns, 22);
    file_put(file);
}
END_TEST

START_TEST(what_is_set_of_an_empty_file_is_committed)
{
    struct file *file = create_file(1);
    const struct file_set set = { .valid = FILE_SET_MODE, .mode = 0604 };
    uint64_t lost;

    ck_assert(file_hold(file, &set));
    ck_assert_int_eq(file_store_sync(file_fake_store(fake), &lost), 0);
    ck_assert_uint_eq(shard_set(1).mode, 0604);
    ck_assert_uint_eq(shard_attr(1).data_version, 0);
    file_put(file);
}
END_TEST

START_TEST(a_close_ends_the_making_of_an_empty_file)
{
    struct file *file = create_file(1);
    const struct file_set set = { .valid = FILE_SET_MODE, .mode = 0600 };

    ck_assert_int_eq(file_flush(file), 0);
    ck_assert(!file_hold(file, &set));
    ck_assert_uint_eq(counts_now().n_commits, 0);
    file_put(file);
}
END_TEST

START_TEST(what_is_set_survives_a_failed_commit)
{
    struct file *file = create_file(1);
    struct file_set set = { .valid = FILE_SET_MODE | FILE_SET_GID,
                            .mode = 0640,
                            .gid = 3 };

    ck_assert_int_eq(write_at(file, 0, 100), 0);
    ck_assert(file_hold(file, &set));
    file_fake_fail_commits(fake, 1, -EIO, false);
    ck_assert_int_eq(file_settle(file), -EIO);
    file_held(file, &set);
    ck_assert_uint_eq(set.valid, FILE_SET_MODE | FILE_SET_GID);
    ck_assert_int_eq(file_settle(file), 0);
    ck_assert_uint_eq(shard_set(1).gid, 3);
    ck_assert_int_eq(file_settle(file), 0);
    ck_assert_uint_eq(counts_now().n_commits, 2);
    file_put(file);
}
END_TEST

START_TEST(who_shares_extents_is_no_longer_in_the_making)
{
    struct file *source = create_file(1);
    struct file *file = create_file(2);
    const struct file_set set = { .valid = FILE_SET_MODE, .mode = 0600 };
    uint64_t length;

    ck_assert_int_eq(write_at(source, 0, MIB), 0);
    ck_assert_int_eq(file_clone(source, 0, file, 0, MIB, &length), 0);
    ck_assert(!file_hold(file, &set));
    file_put(source);
    file_put(file);
}
END_TEST

START_TEST(a_reaped_object_fails_no_fsync)
{
    struct file *file = create_file(INO);

    file_fake_set_reaping(fake, true);
    ck_assert_int_eq(write_at(file, 0, MIB), 0);
    ck_assert_int_eq(file_flush(file), 0);
    ck_assert_int_eq(write_at(file, 0, MIB), 0);
    ck_assert_int_eq(file_flush(file), 0);
    file_fake_restart_all(fake, false);
    ck_assert_int_eq(file_fsync(file), 0);
    ck_assert(reads_back(file, 0, MIB));
    file_put(file);
}
END_TEST

/* Nobody asked for the overwrite to be durable, but what it replaced was. */
START_TEST(an_overwrite_puts_no_synced_byte_at_risk)
{
    struct file *file = create_file(INO);
    uint64_t n_syncs;

    ck_assert_int_eq(write_at(file, 0, 2 * MIB), 0);
    ck_assert_int_eq(file_fsync(file), 0);
    ck_assert_int_eq(write_at(file, MIB, MIB), 0);
    ck_assert_int_eq(file_flush(file), 0);
    file_fake_restart_all(fake, true);
    ck_assert(reads_back(file, 0, MIB));
    ck_assert(reads_back(file, MIB, MIB));
    /* What comes after the end costs no sync. */
    n_syncs = counts_now().n_block_syncs;
    ck_assert_int_eq(write_at(file, 2 * MIB, MIB), 0);
    ck_assert_int_eq(file_flush(file), 0);
    ck_assert_uint_eq(counts_now().n_block_syncs, n_syncs);
    file_put(file);
}
END_TEST

START_TEST(fsync_tells_once_of_bytes_that_nodes_have_lost)
{
    struct file *file = create_file(INO);

    ck_assert_int_eq(write_at(file, 0, MIB), 0);
    ck_assert_int_eq(file_flush(file), 0);
    file_fake_restart_all(fake, true);
    ck_assert_int_eq(file_fsync(file), -EIO);
    ck_assert_int_eq(file_fsync(file), 0);
    file_put(file);
}
END_TEST

/* --------------------------------------------------------------- concurrency
 */

#define N_THREADS  4u
#define REGION     (2u * MIB)
#define N_ROUNDS   150u
#define FLUSH_RATE 20u

/* A thread writes and reads its region of a file that all share; every other
 * region may change at any time. */
struct worker {
    pthread_t thread;
    struct file *file;
    uint64_t start;  /* of the region */
    uint64_t random; /* state */
    uint8_t *model;  /* owned: REGION bytes */
    uint8_t *read;   /* owned: REGION bytes */
    const char *failure;
};

static uint64_t next_random(struct worker *w)
{
    w->random = w->random * 6364136223846793005u + 1442695040888963407u;
    return w->random >> 33;
}

static const char *work_once(struct worker *w)
{
    uint64_t offset = next_random(w) % REGION;
    size_t length = 1 + next_random(w) % (100 * KIB);
    size_t got = 0;

    length = length < REGION - offset ? length : REGION - offset;
    memset(w->model + offset, (int)next_random(w), length);
    if (file_write(w->file, w->start + offset, length, w->model + offset,
                   false) != 0) {
        return "write";
    }
    if (next_random(w) % FLUSH_RATE == 0 && file_flush(w->file) != 0) {
        return "flush";
    }
    if (next_random(w) % FLUSH_RATE == 0 && file_fsync(w->file) != 0) {
        return "fsync";
    }
    offset = next_random(w) % REGION;
    length = 1 + next_random(w) % (300 * KIB);
    length = length < REGION - offset ? length : REGION - offset;
    if (file_read(w->file, w->start + offset, length, w->read, &got) != 0) {
        return "read";
    }
    /* Short if nothing was written so far behind it. */
    return memcmp(w->read, w->model + offset, got) == 0 ? NULL : "differs";
}

static void *work(void *argument)
{
    struct worker *w = argument;

    for (unsigned i = 0; i < N_ROUNDS && w->failure == NULL; i++) {
        w->failure = work_once(w);
    }
    return NULL;
}

START_TEST(threads_write_read_and_flush_one_file_at_once)
{
    struct worker workers[N_THREADS];
    struct file *file = create_file(INO);
    size_t got;

    memset(workers, 0, sizeof workers);
    for (unsigned i = 0; i < N_THREADS; i++) {
        struct worker *w = &workers[i];

        w->file = file;
        w->start = (uint64_t)i * REGION;
        w->random = i + 1;
        w->model = calloc(REGION, 1);
        w->read = calloc(REGION, 1);
        assert(w->model != NULL && w->read != NULL);
        ck_assert_int_eq(pthread_create(&w->thread, NULL, work, w), 0);
    }
    for (unsigned i = 0; i < N_THREADS; i++) {
        (void)pthread_join(workers[i].thread, NULL);
        ck_assert_ptr_null(workers[i].failure);
    }
    ck_assert_int_eq(file_fsync(file), 0);
    file_put(file);
    file = open_file(INO);
    for (unsigned i = 0; i < N_THREADS; i++) {
        struct worker *w = &workers[i];

        ck_assert_int_eq(file_read(file, w->start, REGION, w->read, &got), 0);
        ck_assert(memcmp(w->read, w->model, got) == 0);
        free(w->model);
        free(w->read);
    }
    file_put(file);
}
END_TEST

static TCase *new_case(Suite *suite, const char *name, void (*fixture)(void))
{
    TCase *tcase = tcase_create(name);

    tcase_add_checked_fixture(tcase, fixture, teardown);
    tcase_set_timeout(tcase, 60);
    suite_add_tcase(suite, tcase);
    return tcase;
}

static void add_writing(Suite *suite)
{
    TCase *tcase = new_case(suite, "writing", setup);

    tcase_add_test(tcase, a_small_file_is_committed_inline);
    tcase_add_test(tcase, a_small_file_that_grows_moves_to_an_object);
    tcase_add_test(tcase, an_append_to_a_small_file_commits_what_is_new);
    tcase_add_test(tcase, streams_of_two_files_do_not_share_objects);
    tcase_add_test(tcase, a_file_longer_than_an_object_goes_on_in_the_next);
    tcase_add_test(tcase, an_overwrite_in_memory_costs_no_new_bytes);
    tcase_add_test(tcase, a_write_beyond_the_largest_file_is_refused);
    tcase_add_test(tcase,
                   files_flushed_together_share_one_object_and_one_commit);
    tcase_add_test(tcase, the_background_flushes_a_file_and_makes_it_durable);
    tcase_add_test(tcase, fsync_syncs_blocks_then_commits_durably);
    tcase_add_loop_test(tcase, fsync_after_close_makes_earlier_commits_durable,
                        0, 2);
    tcase_add_loop_test(
        tcase, a_file_that_is_gone_does_not_keep_others_from_being_saved, 0, 2);
    tcase_add_loop_test(tcase, a_commit_without_an_answer_is_made_again, 0, 4);
    tcase_add_loop_test(tcase, thousands_of_dirty_files_stay_within_the_memory,
                        0, 2);
}

static void add_trouble(Suite *suite)
{
    TCase *tcase = new_case(suite, "trouble", setup_impatient);

    tcase_add_test(tcase, full_nodes_fail_the_flush_and_keep_the_bytes);
    tcase_add_test(tcase, an_error_of_the_background_is_told_once_by_a_write);
    tcase_add_test(tcase,
                   writes_fail_when_memory_is_full_of_what_cannot_be_stored);
    tcase_add_loop_test(
        tcase, trouble_that_the_background_has_overcome_is_not_told, 0, 2);
    tcase_add_test(tcase, an_unreadable_range_is_an_error_never_zeros);
}

static void add_slow(Suite *suite)
{
    TCase *tcase = new_case(suite, "slow", setup_slow);

    tcase_add_loop_test(tcase, a_flush_of_many_stripes_ends_with_the_timeout, 0,
                        2);
}

static void add_changing(Suite *suite)
{
    TCase *tcase = new_case(suite, "changing", setup);

    tcase_add_test(tcase, a_truncation_to_the_same_size_is_one_call);
    tcase_add_loop_test(tcase, what_was_cut_off_comes_back_as_zeros, 0, 6);
    tcase_add_test(tcase, holes_are_told_apart_from_data);
    tcase_add_test(tcase, a_late_flush_does_not_move_an_mtime_that_was_set);
    tcase_add_loop_test(tcase, a_clone_shares_or_copies, 0, 3);
    tcase_add_loop_test(tcase, fsync_of_a_clone_syncs_the_blocks_that_it_shares,
                        0, 2);
}

static void add_reading(Suite *suite)
{
    TCase *tcase = new_case(suite, "reading", setup);

    tcase_add_loop_test(tcase, a_sequential_read_gets_each_block_once, 0, 4);
    tcase_add_test(tcase, a_random_small_read_gets_one_range);
    tcase_add_test(tcase, own_commits_keep_the_layout_of_others_are_seen);
    tcase_add_loop_test(tcase, mounts_write_one_small_file_side_by_side, 0, 2);
    tcase_add_test(tcase, an_object_that_was_replaced_and_reaped_is_not_missed);
    tcase_add_test(tcase, threads_write_read_and_flush_one_file_at_once);
}

static void add_durability(Suite *suite)
{
    TCase *tcase = new_case(suite, "durability", setup);

    tcase_add_test(tcase, an_overwrite_puts_no_synced_byte_at_risk);
    tcase_add_test(tcase, a_reaped_object_fails_no_fsync);
    tcase_add_test(tcase, what_is_set_of_a_new_file_comes_with_its_bytes);
    tcase_add_test(tcase, a_write_after_utimes_moves_the_time);
    tcase_add_test(tcase, what_is_set_of_an_empty_file_is_committed);
    tcase_add_test(tcase, a_close_ends_the_making_of_an_empty_file);
    tcase_add_test(tcase, what_is_set_survives_a_failed_commit);
    tcase_add_test(tcase, who_shares_extents_is_no_longer_in_the_making);
    tcase_add_test(tcase, fsync_tells_once_of_bytes_that_nodes_have_lost);
}

int main(void)
{
    Suite *suite = suite_create("file");
    SRunner *runner;
    int n_failed;

    add_writing(suite);
    add_trouble(suite);
    add_slow(suite);
    add_changing(suite);
    add_reading(suite);
    add_durability(suite);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
