/* What a disk or a system in trouble does to a block store. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include <check.h>
#include <sqlite3.h>

#include "tests/unit/block_fixture.h"

#define N_BLOCKS 30u

static void put_blocks(struct block_store *store, uint64_t serial)
{
    for (uint32_t i = 0; i < N_BLOCKS; i++) {
        struct block_key key = fixture_key(serial, i, 0);

        ck_assert_int_eq(fixture_put(store, &key, 0, 5000), 0);
    }
}

/* How many blocks of an object answer as wanted. */
static unsigned count_blocks(struct block_store *store,
                             uint64_t serial,
                             int wanted)
{
    unsigned n = 0;

    for (uint32_t i = 0; i < N_BLOCKS; i++) {
        struct block_key key = fixture_key(serial, i, 0);

        n += fixture_check(store, &key, 0, 5000) == wanted;
    }
    return n;
}

/* -------------------------------------------------- reads that fail at start
 */

static void put_and_sync(struct block_store *store, int fd)
{
    (void)fd;
    put_blocks(store, 1);
    ck_assert_int_eq(block_store_sync(store), 0);
}

START_TEST(disk_unreadable_at_start_loses_nothing)
{
    struct object_id other = { 7, 2 };
    struct block_store *store;
    struct fault_disk disk;
    uint64_t n_blocks;
    uint8_t none[1];

    fault_disk_init(&disk);
    fixture_options.disk = &disk.disk;
    (void)fixture_run_and_kill(put_and_sync, none, sizeof none);
    if (_i == 1) {
        fixture_lose_index();
    }
    disk.fail_read = -EIO;
    store = fixture_open();
    ck_assert_uint_eq(count_blocks(store, 1, 0), 0);
    disk.fail_read = 0;
    put_blocks(store, 2);
    ck_assert_uint_eq(count_blocks(store, 2, 0), N_BLOCKS);
    ck_assert_int_eq(block_store_delete_objects(store, &other, 1, &n_blocks),
                     0);
    ck_assert_int_eq(block_store_sync(store), 0);
    block_store_close(store);
    store = fixture_open();
    ck_assert_uint_eq(count_blocks(store, 1, 0), N_BLOCKS);
    ck_assert_uint_eq(count_blocks(store, 2, -ENOENT), N_BLOCKS);
    block_store_close(store);
}
END_TEST

/* A place of the header, or of the payload, of the tenth block. */
static const uint32_t bad_places[] = { 20, 3000 };

START_TEST(unreadable_place_costs_no_other_block)
{
    uint32_t at = 10 * record_size(5000) + bad_places[_i % 2];
    struct block_store *store;
    struct fault_disk disk;
    uint8_t none[1];

    fault_disk_init(&disk);
    fixture_options.disk = &disk.disk;
    (void)fixture_run_and_kill(put_and_sync, none, sizeof none);
    if (_i >= 2) {
        fixture_lose_index();
    }
    disk.bad_place = at;
    store = fixture_open();
    /* Reading goes on a page behind the place: a neighbour's header may be
     * in it. */
    ck_assert_uint_ge(count_blocks(store, 1, 0), N_BLOCKS - 2);
    put_blocks(store, 2);
    block_store_close(store);
    disk.bad_place = 0;
    store = fixture_open();
    ck_assert_uint_eq(count_blocks(store, 1, 0), N_BLOCKS);
    ck_assert_uint_eq(count_blocks(store, 2, 0), N_BLOCKS);
    block_store_close(store);
}
END_TEST

/* -------------------------------------------------------- too many open files
 */

START_TEST(want_of_files_passes)
{
    struct block_store *store = fixture_open();
    struct rlimit before;
    struct rlimit none;
    int next_fd;

    put_blocks(store, 1);
    block_store_close(store);
    store = fixture_open();
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    next_fd = dup(0);
    (void)close(next_fd);
    none = before;
    none.rlim_cur = (rlim_t)next_fd;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    ck_assert_uint_eq(count_blocks(store, 1, -EIO), N_BLOCKS);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    ck_assert_uint_eq(count_blocks(store, 1, 0), N_BLOCKS);
    put_blocks(store, 2);
    ck_assert_int_eq(block_store_sync(store), 0);
    block_store_close(store);
}
END_TEST

/* ---------------------------------------------------------------- full disks
 */

/* Take all room of the filesystem of the test. */
static void fill_disk(void)
{
    static const uint8_t bytes[4096] = { 1 };
    char path[128];
    int fd;

    (void)snprintf(path, sizeof path, "%s/filler", fixture_dir);
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    ck_assert_int_ge(fd, 0);
    while (write(fd, bytes, sizeof bytes) > 0) {
    }
    ck_assert_int_eq(errno, ENOSPC);
    (void)close(fd);
}

/* That it fails is as it must be: the index has to be written. */
START_TEST(start_without_any_room_is_told)
{
    struct block_store *store;
    struct errmsg msg = { "" };

    if (mount("tmpfs", fixture_dir, "tmpfs", 0, "size=8m") < 0) {
        return; /* needs privileges */
    }
    store = fixture_open();
    put_blocks(store, 1);
    block_store_close(store);
    fill_disk();
    ck_assert_int_eq(block_store_open(&fixture_options, &store, &msg), -ENOSPC);
    ck_assert_ptr_nonnull(strstr(msg.text, fixture_dir));
    ck_assert_ptr_nonnull(strstr(msg.text, "No space left"));
    ck_assert_int_eq(umount(fixture_dir), 0);
}
END_TEST

/* ------------------------------------------------------------- power losses */

/* The index as it was before: what is left of it when the power goes before the
 * kernel has written what came later. */
struct old_index {
    uint8_t bytes[1 << 20];
    ssize_t size;
};

static void save_index(struct old_index *old)
{
    char path[128];
    int fd = open(fixture_index("", path), O_RDONLY);

    ck_assert_int_ge(fd, 0);
    old->size = read(fd, old->bytes, sizeof old->bytes);
    ck_assert_int_gt(old->size, 0);
    ck_assert_int_lt(old->size, sizeof old->bytes);
    (void)close(fd);
}

static void restore_index(const struct old_index *old)
{
    char path[128];
    int fd;

    fixture_lose_index();
    fd = open(fixture_index("", path), O_WRONLY | O_CREAT, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, old->bytes, (size_t)old->size), old->size);
    (void)close(fd);
}

static void delete_and_sync(struct block_store *store, int fd)
{
    uint64_t n_blocks;

    (void)fd;
    for (uint64_t serial = 2; serial <= 3; serial++) {
        ck_assert_int_eq(
            block_store_delete_objects(store, &(struct object_id){ 7, serial },
                                       1, &n_blocks),
            0);
        ck_assert_uint_eq(n_blocks, N_BLOCKS);
    }
    ck_assert_int_eq(block_store_sync(store), 0);
}

START_TEST(synced_deletion_survives_the_index_of_before)
{
    struct block_store *store = fixture_open();
    struct block_store_stats stats;
    struct block_info list[3 * N_BLOCKS];
    struct old_index old;
    uint8_t none[1];
    size_t n;

    for (uint64_t serial = 1; serial <= 3; serial++) {
        put_blocks(store, serial);
    }
    block_store_close(store);
    save_index(&old);
    (void)fixture_run_and_kill(delete_and_sync, none, sizeof none);
    restore_index(&old);
    store = fixture_open();
    ck_assert_uint_eq(count_blocks(store, 1, 0), N_BLOCKS);
    ck_assert_uint_eq(count_blocks(store, 2, -ENOENT), N_BLOCKS);
    ck_assert_uint_eq(count_blocks(store, 3, -ENOENT), N_BLOCKS);
    ck_assert_int_eq(block_store_list(store, NULL, 3 * N_BLOCKS, list, &n), 0);
    ck_assert_uint_eq(n, N_BLOCKS);
    ck_assert_int_eq(block_store_stats(store, &stats), 0);
    ck_assert_uint_eq(stats.n_blocks, N_BLOCKS);
    block_store_close(store);
}
END_TEST

static void put_only(struct block_store *store, int fd)
{
    (void)fd;
    put_blocks(store, 1);
}

START_TEST(name_of_a_segment_made_before_a_kill_is_synced)
{
    struct block_store *store;
    struct fault_disk disk;
    uint8_t none[1];

    fault_disk_init(&disk);
    fixture_options.disk = &disk.disk;
    (void)fixture_run_and_kill(put_only, none, sizeof none);
    store = fixture_open();
    put_blocks(store, 1);
    ck_assert_int_eq(block_store_sync(store), 0);
    ck_assert_int_gt(disk.n_directory_syncs, 0);
    block_store_close(store);
}
END_TEST

/* A reader of the index, such as a list, keeps SQLite from bringing it to
 * stable storage. */
START_TEST(segment_stays_until_the_index_is_durable)
{
    struct object_id object = { 7, 1 };
    struct block_store *store;
    sqlite3 *reader;
    uint64_t n_blocks;
    char path[128];

    fixture_options.segment_size = 2 << 20;
    store = fixture_open();
    for (uint32_t i = 0; i < 12; i++) {
        struct block_key key = fixture_key(1, i, 0);

        ck_assert_int_eq(fixture_put(store, &key, 0, 262144), 0);
    }
    block_store_close(store);
    store = fixture_open();
    ck_assert_int_eq(sqlite3_open(fixture_index("", path), &reader), SQLITE_OK);
    ck_assert_int_eq(
        sqlite3_exec(reader, "BEGIN; SELECT * FROM block", NULL, NULL, NULL),
        SQLITE_OK);
    ck_assert_int_eq(block_store_delete_objects(store, &object, 1, &n_blocks),
                     0);
    ck_assert_uint_eq(n_blocks, 12);
    ck_assert(fixture_segment(1, path));
    ck_assert_int_eq(sqlite3_exec(reader, "COMMIT", NULL, NULL, NULL),
                     SQLITE_OK);
    ck_assert_int_eq(sqlite3_close(reader), SQLITE_OK);
    ck_assert_int_eq(block_store_delete_objects(store, &object, 1, &n_blocks),
                     0);
    ck_assert(!fixture_segment(1, path));
    block_store_close(store);
}
END_TEST

/* ------------------------------------------------------- a disk that forgets
 *
 * An ext4 on a loop device whose file lies on a small tmpfs: writing back fails
 * when that is full, and the kernel then keeps pages as clean which the disk
 * never saw. */

#define FORGETFUL_BLOCKS 80u
#define FORGETFUL_SIZE   200000u

/* Run a command that finds the directory of the test in $DIR. */
static int run_shell(const char *command)
{
    /* Nothing else runs. NOLINTNEXTLINE(cert-env33-c,concurrency-mt-unsafe) */
    return setenv("DIR", fixture_dir, 1) == 0 ? system(command) : -1;
}

static void put_more_than_fits(struct block_store *store, int fd)
{
    (void)fd;
    for (uint32_t i = 0; i < FORGETFUL_BLOCKS; i++) {
        struct block_key key = fixture_key(1, i, 0);

        ck_assert_int_eq(fixture_put(store, &key, 0, FORGETFUL_SIZE), 0);
    }
    ck_assert_int_eq(block_store_sync(store), -EIO);
}

static unsigned count_forgetful(struct block_store *store)
{
    unsigned n = 0;

    for (uint32_t i = 0; i < FORGETFUL_BLOCKS; i++) {
        struct block_key key = fixture_key(1, i, 0);

        n += fixture_check(store, &key, 0, FORGETFUL_SIZE) == 0;
    }
    return n;
}

START_TEST(what_no_sync_could_write_is_never_taken_for_synced)
{
    char dir[80];
    struct block_store *store;
    uint8_t none[1];

    if (run_shell("mount -t tmpfs -o size=8m none $DIR 2>/dev/null") != 0) {
        return; /* needs privileges */
    }
    if (run_shell(
            "cd $DIR && truncate -s 64M image && mkdir disk &&"
            " mkfs.ext4 -q -O ^has_journal -E nodiscard,lazy_itable_init=0"
            " image 2>/dev/null && mount -o loop image disk 2>/dev/null") !=
        0) {
        (void)run_shell("umount $DIR");
        return; /* needs loop devices */
    }
    (void)snprintf(dir, sizeof dir, "%s/disk", fixture_dir);
    fixture_options.dir = dir;
    (void)fixture_run_and_kill(put_more_than_fits, none, sizeof none);
    ck_assert_int_eq(run_shell("mount -o remount,size=80m $DIR"), 0);
    store = fixture_open();
    for (uint32_t i = 0; i < FORGETFUL_BLOCKS; i++) {
        struct block_key key = fixture_key(1, i, 0);

        ck_assert_int_eq(fixture_put(store, &key, 0, FORGETFUL_SIZE), 0);
    }
    ck_assert_int_eq(block_store_sync(store), 0);
    block_store_close(store);
    ck_assert_int_eq(run_shell("umount $DIR/disk && mount -o loop $DIR/image "
                               "$DIR/disk"),
                     0);
    store = fixture_open();
    ck_assert_uint_eq(count_forgetful(store), FORGETFUL_BLOCKS);
    block_store_close(store);
    ck_assert_int_eq(run_shell("umount $DIR/disk $DIR"), 0);
}
END_TEST

static Suite *block_faults_suite(void)
{
    Suite *suite = suite_create("block_faults");
    TCase *reading = tcase_create("reading");
    TCase *power = tcase_create("power");

    tcase_add_checked_fixture(reading, fixture_setup, fixture_teardown);
    tcase_set_timeout(reading, 60);
    tcase_add_loop_test(reading, disk_unreadable_at_start_loses_nothing, 0, 2);
    tcase_add_loop_test(reading, unreadable_place_costs_no_other_block, 0, 4);
    tcase_add_checked_fixture(power, fixture_setup, fixture_teardown);
    tcase_set_timeout(power, 60);
    tcase_add_test(power, synced_deletion_survives_the_index_of_before);
    tcase_add_test(power, name_of_a_segment_made_before_a_kill_is_synced);
    tcase_add_test(reading, want_of_files_passes);
    tcase_add_test(power, what_no_sync_could_write_is_never_taken_for_synced);
    tcase_add_test(power, segment_stays_until_the_index_is_durable);
    tcase_add_test(reading, start_without_any_room_is_told);
    suite_add_tcase(suite, reading);
    suite_add_tcase(suite, power);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(block_faults_suite());
    int n_failed;

    srunner_run_all(runner, CK_NORMAL);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
