#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <check.h>

#include "common/checksum.h"
#include "tests/unit/block_fixture.h"

#define N(array) (sizeof(array) / sizeof *(array))

/* --------------------------------------------------------- files by hand */

static uint8_t *read_file(const char *path, size_t *ret_size)
{
    int fd = open(path, O_RDONLY);
    struct stat status;
    uint8_t *bytes;

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fstat(fd, &status), 0);
    bytes = malloc((size_t)status.st_size + 1);
    ck_assert_ptr_nonnull(bytes);
    ck_assert_int_eq(read(fd, bytes, (size_t)status.st_size), status.st_size);
    (void)close(fd);
    *ret_size = (size_t)status.st_size;
    return bytes;
}

static void write_file(const char *path, const void *bytes, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, bytes, size), (ssize_t)size);
    (void)close(fd);
}

/* Xor `mask` to the byte at `offset`. */
static void flip(const char *path, off_t offset, uint8_t mask)
{
    int fd = open(path, O_RDWR);
    uint8_t byte;

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pread(fd, &byte, 1, offset), 1);
    byte ^= mask;
    ck_assert_int_eq(pwrite(fd, &byte, 1, offset), 1);
    (void)close(fd);
}

/* What happens to the index between two runs. */
enum harm {
    UNHARMED,
    LOST,
    OTHER_BYTES, /* all of it */
    HEAD,        /* its first bytes */
    MIDDLE,      /* a page in the middle */
    CUT,         /* to half */
    EMPTY,
    N_HARMS
};

static void harm_index(enum harm harm)
{
    char path[128];
    size_t size;
    uint8_t *bytes = read_file(fixture_index("", path), &size);

    switch (harm) {
    case OTHER_BYTES:
        memset(bytes, 0xa5, size);
        break;
    case HEAD:
        memset(bytes, 0xa5, 50);
        break;
    case MIDDLE:
        memset(bytes + size / 8192 * 4096, 0xa5, 4096);
        break;
    case CUT:
        size /= 2;
        break;
    case EMPTY:
        size = 0;
        break;
    default:
        break;
    }
    if (harm == LOST) {
        fixture_lose_index();
    } else if (harm != UNHARMED) {
        write_file(path, bytes, size);
    }
    free(bytes);
}

/* ------------------------------------------------------------- clean ends */

static uint32_t size_of(uint32_t i)
{
    return 1 + i * 7919 % 20000;
}

static void put_many(struct block_store *store, uint64_t serial, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        struct block_key key = fixture_key(serial, i, i % 6);

        ck_assert_int_eq(fixture_put(store, &key, 0, size_of(i)), 0);
    }
}

static void check_many(struct block_store *store,
                       uint64_t serial,
                       uint32_t n,
                       int wanted)
{
    for (uint32_t i = 0; i < n; i++) {
        struct block_key key = fixture_key(serial, i, i % 6);

        ck_assert_int_eq(fixture_check(store, &key, 0, size_of(i)), wanted);
    }
}

START_TEST(index_is_rebuilt_whatever_happened_to_it)
{
    struct block_store *store;
    struct object_id dead = { 7, 2 };
    struct block_store_stats stats;
    uint64_t n_blocks;

    fixture_options.segment_size = 2 << 20;
    store = fixture_open();
    put_many(store, 1, 200);
    put_many(store, 2, 100);
    put_many(store, 3, 200);
    ck_assert_int_eq(block_store_delete_objects(store, &dead, 1, &n_blocks), 0);
    block_store_close(store);
    harm_index((enum harm)_i);
    store = fixture_open();
    for (int round = 0; round < 2; round++) {
        check_many(store, 1, 200, 0);
        check_many(store, 2, 100, -ENOENT);
        check_many(store, 3, 200, 0);
        ck_assert_int_eq(block_store_stats(store, &stats), 0);
        ck_assert_uint_eq(stats.n_blocks, 400);
        put_many(store, 4, 20);
        check_many(store, 4, 20, 0);
        ck_assert_int_eq(block_store_delete_objects(
                             store, &(struct object_id){ 7, 4 }, 1, &n_blocks),
                         0);
        ck_assert_uint_eq(n_blocks, 20);
        block_store_close(store);
        store = fixture_open();
    }
    block_store_close(store);
}
END_TEST

START_TEST(damaged_index_is_moved_aside)
{
    struct block_store *store = fixture_open();
    char path[128];

    put_many(store, 1, 10);
    block_store_close(store);
    harm_index(OTHER_BYTES);
    store = fixture_open();
    ck_assert_int_eq(access(fixture_index(".damaged", path), F_OK), 0);
    check_many(store, 1, 10, 0);
    block_store_close(store);
}
END_TEST

START_TEST(tombstone_kills_whatever_the_order)
{
    struct block_store *store = fixture_open();
    struct object_id dead = { 7, 1 };
    uint64_t n_blocks;

    ck_assert_int_eq(block_store_delete_objects(store, &dead, 1, &n_blocks), 0);
    put_many(store, 1, 10);
    put_many(store, 2, 10);
    block_store_close(store);
    fixture_lose_index();
    store = fixture_open();
    check_many(store, 1, 10, -ENOENT);
    check_many(store, 2, 10, 0);
    block_store_close(store);
}
END_TEST

START_TEST(removed_segment_takes_no_tombstone_with_it_that_is_needed)
{
    struct block_store *store;
    uint64_t n_blocks;

    fixture_options.segment_size = 2 << 20;
    store = fixture_open();
    /* Objects 1 and 2 lie mixed in the first segment; the tombstone of 2 lies
     * in a later one, which then becomes empty and goes. */
    for (uint32_t i = 0; i < 100; i++) {
        struct block_key key = fixture_key(1 + i % 2, i, 0);

        ck_assert_int_eq(fixture_put(store, &key, 0, 1000), 0);
    }
    put_many(store, 3, 190);
    ck_assert_int_eq(block_store_delete_objects(
                         store, &(struct object_id){ 7, 2 }, 1, &n_blocks),
                     0);
    ck_assert_uint_eq(n_blocks, 50);
    put_many(store, 4, 250);
    ck_assert_int_eq(block_store_delete_objects(
                         store, &(struct object_id){ 7, 3 }, 1, &n_blocks),
                     0);
    block_store_close(store);
    fixture_lose_index();
    store = fixture_open();
    for (uint32_t i = 0; i < 100; i++) {
        struct block_key key = fixture_key(1 + i % 2, i, 0);

        ck_assert_int_eq(fixture_check(store, &key, 0, 1000),
                         i % 2 == 0 ? 0 : -ENOENT);
    }
    check_many(store, 3, 190, -ENOENT);
    check_many(store, 4, 250, 0);
    block_store_close(store);
}
END_TEST

/* ------------------------------------------------------------ abrupt ends */

/* What a killed process has done; a byte each. */
enum event {
    EVENT_PUT = 'p',
    EVENT_DELETED = 'd',
};

/* One putter; its puts are numbered through. */
static void put_until_killed(struct block_store *store, int fd)
{
    for (uint32_t i = 0; i < 400; i++) {
        struct block_key key = fixture_key(i / 10, i % 10, 0);
        uint64_t n_blocks;

        if (fixture_put(store, &key, 0, size_of(i)) < 0 ||
            write(fd, "p", 1) != 1) {
            return;
        }
        if (i % 100 == 99) {
            struct object_id dead = { 7, i / 10 - 5 };

            if (block_store_delete_objects(store, &dead, 1, &n_blocks) < 0 ||
                write(fd, "d", 1) != 1) {
                return;
            }
        }
        if (i == 250 && block_store_sync(store) < 0) {
            return;
        }
    }
}

START_TEST(what_was_acknowledged_survives_being_killed)
{
    struct block_store *store;
    uint8_t events[1000];
    size_t n;
    uint32_t n_put = 0;
    uint64_t n_deleted = 0;

    fixture_options.segment_size = 2 << 20;
    n = fixture_run_and_kill(put_until_killed, events, sizeof events);
    if (_i == 1) {
        harm_index(LOST);
    }
    store = fixture_open();
    for (size_t i = 0; i < n; i++) {
        n_put += events[i] == EVENT_PUT;
        n_deleted += events[i] == EVENT_DELETED;
    }
    ck_assert_uint_eq(n_put, 400);
    ck_assert_uint_eq(n_deleted, 4);
    for (uint32_t i = 0; i < n_put; i++) {
        struct block_key key = fixture_key(i / 10, i % 10, 0);
        bool is_dead = i / 10 % 10 == 4;

        ck_assert_int_eq(fixture_check(store, &key, 0, size_of(i)),
                         is_dead ? -ENOENT : 0);
    }
    block_store_close(store);
}
END_TEST

struct putter {
    struct block_store *store;
    int fd;
    uint32_t number;
};

static void *put_for_ever(void *context)
{
    struct putter *putter = context;

    for (uint32_t i = 0; i < 16000; i++) {
        struct block_key key = fixture_key(putter->number, i, 0);
        uint32_t event = putter->number << 16 | i;

        if (fixture_put(putter->store, &key, 0, size_of(i)) < 0 ||
            write(putter->fd, &event, sizeof event) != sizeof event) {
            return NULL;
        }
    }
    return NULL;
}

START_TEST(threads_killed_in_the_middle_lose_nothing)
{
    struct block_store *store;
    uint32_t event;
    uint8_t seen[3][16000] = { { 0 } };
    uint32_t n = 0;
    int pipe_fds[2];
    int status;
    pid_t pid;

    fixture_options.segment_size = 4 << 20;
    ck_assert_int_eq(pipe(pipe_fds), 0);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        struct putter putters[3];
        pthread_t threads[3];

        store = fixture_open();
        for (uint32_t i = 0; i < 3; i++) {
            putters[i] = (struct putter){ store, pipe_fds[1], i };
            (void)pthread_create(&threads[i], NULL, put_for_ever, &putters[i]);
        }
        (void)pause();
        _exit(1);
    }
    (void)close(pipe_fds[1]);
    while (read(pipe_fds[0], &event, sizeof event) == (ssize_t)sizeof event) {
        seen[event >> 16][event & 0xffff] = 1;
        if (++n == 300 + 700 * (uint32_t)_i) {
            (void)kill(pid, SIGKILL);
        }
    }
    (void)close(pipe_fds[0]);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    if (_i % 2 == 1) {
        harm_index(LOST);
    }
    store = fixture_open();
    for (uint32_t i = 0; i < 3; i++) {
        for (uint32_t j = 0; j < 16000; j++) {
            struct block_key key = fixture_key(i, j, 0);

            if (seen[i][j] != 0) {
                ck_assert_int_eq(fixture_check(store, &key, 0, size_of(j)), 0);
            }
        }
    }
    block_store_close(store);
}
END_TEST

static void *put_one(void *context)
{
    struct putter *putter = context;
    struct block_key key = fixture_key(1, putter->number, 0);

    (void)fixture_put(putter->store, &key, 0, size_of(putter->number));
    return NULL;
}

/* One put never comes back from its write; those behind it are acknowledged. */
static void leave_hole(struct block_store *store, int fd)
{
    struct putter putter = { store, fd, 0 };
    struct putter late = { store, fd, 5 };
    struct fault_disk *disk = (struct fault_disk *)fixture_options.disk;
    pthread_t thread;

    for (uint32_t i = 0; i < 10; i++) {
        if (i != 5) {
            putter.number = i;
            (void)put_one(&putter);
            continue;
        }
        disk->skip_write_in = 1;
        (void)pthread_create(&thread, NULL, put_one, &late);
        while (__atomic_load_n(&disk->skip_write_in, __ATOMIC_ACQUIRE) > 0) {
            (void)sched_yield();
        }
    }
    ck_assert_int_eq(block_store_sync(store), 0);
}

START_TEST(hole_left_by_a_crash_is_skipped)
{
    struct block_store *store;
    struct fault_disk disk;
    uint8_t none[1];

    fault_disk_init(&disk);
    fixture_options.disk = &disk.disk;
    (void)fixture_run_and_kill(leave_hole, none, sizeof none);
    if (_i == 1) {
        harm_index(LOST);
    }
    store = fixture_open();
    for (uint32_t i = 0; i < 10; i++) {
        struct block_key key = fixture_key(1, i, 0);

        ck_assert_int_eq(fixture_check(store, &key, 0, size_of(i)),
                         i == 5 ? -ENOENT : 0);
    }
    put_many(store, 2, 10);
    check_many(store, 2, 10, 0);
    block_store_close(store);
}
END_TEST

/* ------------------------------------------------------------------ tails */

static const uint32_t last_sizes[] = { 1, 300, 5000 };

START_TEST(tail_torn_anywhere_is_dropped)
{
    uint32_t last = last_sizes[_i];
    uint32_t step = last > 1000 ? 61 : 1;
    struct block_key kept = fixture_key(1, 0, 0);
    struct block_key torn = fixture_key(1, 1, 0);
    struct block_key next = fixture_key(1, 2, 0);
    struct block_store *store = fixture_open();
    uint32_t full = record_header_size(last) + last;
    char path[128];
    uint8_t *bytes;
    size_t size;

    ck_assert_int_eq(fixture_put(store, &kept, 0, 100), 0);
    ck_assert_int_eq(fixture_put(store, &torn, 0, last), 0);
    block_store_close(store);
    ck_assert(fixture_segment(0, path));
    bytes = read_file(path, &size);
    ck_assert_uint_eq(size, record_size(100) + full);
    for (uint32_t cut = 0; cut <= full; cut += step) {
        fixture_lose_index();
        write_file(path, bytes, record_size(100) + cut);
        store = fixture_open();
        ck_assert_int_eq(fixture_check(store, &kept, 0, 100), 0);
        ck_assert_int_eq(fixture_check(store, &torn, 0, last),
                         cut < full ? -ENOENT : 0);
        ck_assert_int_eq(fixture_put(store, &next, 0, 200), 0);
        ck_assert_int_eq(fixture_check(store, &next, 0, 200), 0);
        if (cut < full) {
            ck_assert_int_eq(fixture_put(store, &torn, 1, last), 0);
            ck_assert_int_eq(fixture_check(store, &torn, 1, last), 0);
        }
        block_store_close(store);
    }
    free(bytes);
}
END_TEST

START_TEST(tail_with_a_wrong_byte_is_dropped)
{
    struct block_key kept = fixture_key(1, 0, 0);
    struct block_key torn = fixture_key(1, 1, 0);
    struct block_store *store = fixture_open();
    uint32_t full = record_header_size(300) + 300;
    char path[128];

    ck_assert_int_eq(fixture_put(store, &kept, 0, 100), 0);
    ck_assert_int_eq(fixture_put(store, &torn, 0, 300), 0);
    block_store_close(store);
    ck_assert(fixture_segment(0, path));
    fixture_lose_index();
    flip(path, (off_t)(record_size(100) + (uint32_t)_i * full / 10), 4);
    store = fixture_open();
    ck_assert_int_eq(fixture_check(store, &kept, 0, 100), 0);
    ck_assert_int_eq(fixture_check(store, &torn, 0, 300), -ENOENT);
    ck_assert_int_eq(fixture_put(store, &torn, 1, 300), 0);
    ck_assert_int_eq(fixture_check(store, &torn, 1, 300), 0);
    block_store_close(store);
}
END_TEST

/* ----------------------------------------------------------------- damage */

START_TEST(flipped_bit_never_gives_wrong_bytes)
{
    struct block_store *store = fixture_open();
    uint64_t state = (uint64_t)_i;
    char path[128];
    size_t size;
    uint8_t *bytes;
    unsigned n_damaged = 0;

    put_many(store, 1, 50);
    block_store_close(store);
    ck_assert(fixture_segment(0, path));
    bytes = read_file(path, &size);
    flip(path, (off_t)(fixture_random(&state) % size),
         (uint8_t)(1 << fixture_random(&state) % 8));
    if (_i % 2 == 1) {
        fixture_lose_index();
    }
    store = fixture_open();
    for (uint32_t i = 0; i < 50; i++) {
        struct block_key key = fixture_key(1, i, i % 6);
        int rc = fixture_check(store, &key, 0, size_of(i));

        ck_assert(rc == 0 || rc == -EBADMSG || rc == -ENOENT);
        ck_assert_int_eq(rc, block_store_verify(store, &key));
        n_damaged += rc != 0;
    }
    /* None when the bit was between two records. */
    ck_assert_uint_le(n_damaged, 1);
    free(bytes);
    block_store_close(store);
}
END_TEST

START_TEST(blocks_behind_a_damaged_header_are_found)
{
    struct block_store *store = fixture_open();
    char path[128];
    off_t at = (off_t)record_size(size_of(0));

    put_many(store, 1, 30);
    block_store_close(store);
    ck_assert(fixture_segment(0, path));
    fixture_lose_index();
    flip(path, at + _i, 0x10);
    store = fixture_open();
    for (uint32_t i = 0; i < 30; i++) {
        struct block_key key = fixture_key(1, i, i % 6);

        ck_assert_int_eq(fixture_check(store, &key, 0, size_of(i)),
                         i == 1 ? -ENOENT : 0);
    }
    block_store_close(store);
}
END_TEST

/* A user may store anything, also a copy of a segment. */
START_TEST(record_inside_a_block_is_not_taken_for_one)
{
    struct block_store *store = fixture_open();
    struct block_key inner = fixture_key(1, 0, 0);
    struct block_key outer = fixture_key(2, 0, 0);
    uint32_t checksums[RECORD_UNITS_MAX];
    struct iovec iov;
    struct block_payload payload = { &iov, 1, 0, checksums };
    char path[128];
    size_t size;

    ck_assert_int_eq(fixture_put(store, &inner, 0, 1000), 0);
    block_store_close(store);
    ck_assert(fixture_segment(0, path));
    iov.iov_base = read_file(path, &size);
    iov.iov_len = size;
    payload.length = (uint32_t)size;
    fixture_teardown();
    fixture_setup();
    store = fixture_open();
    checksum_compute(iov.iov_base, size, checksums);
    ck_assert_int_eq(block_store_put(store, &outer, &payload), 0);
    ck_assert_int_eq(fixture_put(store, &inner, 9, 2000), 0);
    block_store_close(store);
    free(iov.iov_base);
    ck_assert(fixture_segment(0, path));
    fixture_lose_index();
    flip(path, 20, 1);
    store = fixture_open();
    ck_assert_int_eq(fixture_check(store, &inner, 9, 2000), 0);
    block_store_close(store);
}
END_TEST

START_TEST(damaged_block_is_replaced_by_putting_it_again)
{
    struct block_store *store = fixture_open();
    struct block_store_stats stats;
    struct block_key key = fixture_key(1, 3, 3);
    char path[128];

    put_many(store, 1, 10);
    block_store_close(store);
    ck_assert(fixture_segment(0, path));
    flip(path,
         (off_t)(record_size(size_of(0)) + record_size(size_of(1)) +
                 record_size(size_of(2)) + (_i == 0 ? 20 : 1000)),
         1);
    store = fixture_open();
    ck_assert_int_eq(fixture_check(store, &key, 0, size_of(3)), -EBADMSG);
    ck_assert_int_eq(fixture_put(store, &key, 0, size_of(3)), 0);
    for (int round = 0; round < 3; round++) {
        check_many(store, 1, 10, 0);
        ck_assert_int_eq(block_store_stats(store, &stats), 0);
        ck_assert_uint_eq(stats.n_blocks, 10);
        block_store_close(store);
        if (round == 1) {
            fixture_lose_index();
        }
        store = fixture_open();
    }
    block_store_close(store);
}
END_TEST

START_TEST(lost_segment_loses_its_blocks_only)
{
    struct block_store *store;
    char path[128];
    unsigned n_lost = 0;

    fixture_options.segment_size = 2 << 20;
    store = fixture_open();
    put_many(store, 1, 600);
    block_store_close(store);
    ck_assert(fixture_segment(2, path));
    ck_assert_int_eq(_i == 0 ? unlink(path) : truncate(path, 1000000), 0);
    store = fixture_open();
    for (int round = 0; round < 2; round++) {
        n_lost = 0;
        for (uint32_t i = 0; i < 600; i++) {
            struct block_key key = fixture_key(1, i, i % 6);
            int rc = fixture_check(store, &key, 0, size_of(i));

            ck_assert(rc == 0 || rc == -ENOENT || rc == -EBADMSG);
            n_lost += rc != 0;
        }
        ck_assert_uint_gt(n_lost, 60);
        ck_assert_uint_lt(n_lost, 230);
        block_store_close(store);
        store = fixture_open();
    }
    put_many(store, 1, 600);
    check_many(store, 1, 600, 0);
    block_store_close(store);
}
END_TEST

START_TEST(cut_last_segment_is_not_written_to_again)
{
    struct block_store *store = fixture_open();
    char path[128];

    put_many(store, 1, 30);
    block_store_close(store);
    ck_assert(fixture_segment(0, path));
    ck_assert_int_eq(truncate(path, 20000), 0);
    store = fixture_open();
    put_many(store, 2, 30);
    check_many(store, 2, 30, 0);
    for (uint32_t i = 0; i < 30; i++) {
        struct block_key key = fixture_key(1, i, i % 6);
        int rc = fixture_check(store, &key, 0, size_of(i));

        ck_assert(rc == 0 || rc == -EBADMSG);
    }
    put_many(store, 1, 30);
    check_many(store, 1, 30, 0);
    block_store_close(store);
}
END_TEST

START_TEST(foreign_files_are_left_alone)
{
    struct block_store *store = fixture_open();
    char path[128];

    put_many(store, 1, 3);
    block_store_close(store);
    (void)snprintf(path, sizeof path, "%s/segments/lost+found", fixture_dir);
    write_file(path, "hello", 5);
    store = fixture_open();
    check_many(store, 1, 3, 0);
    block_store_close(store);
    ck_assert_int_eq(access(path, F_OK), 0);
}
END_TEST

START_TEST(two_segments_of_one_number_are_refused)
{
    struct block_store *store = fixture_open();
    struct errmsg msg = { "" };
    char path[128];

    put_many(store, 1, 3);
    block_store_close(store);
    (void)snprintf(path, sizeof path, "%s/segments/%016x-%016x.seg",
                   fixture_dir, 1, 12);
    write_file(path, "hello", 5);
    ck_assert_int_eq(block_store_open(&fixture_options, &store, &msg),
                     -EBADMSG);
    ck_assert_ptr_nonnull(strstr(msg.text, "0000000000000001"));
}
END_TEST

START_TEST(directory_that_is_not_there_is_told)
{
    struct block_store *store;
    struct errmsg msg = { "" };

    fixture_options.dir = "/tmp/gabion-no-such-directory";
    ck_assert_int_eq(block_store_open(&fixture_options, &store, &msg), -ENOENT);
    ck_assert_ptr_nonnull(strstr(msg.text, fixture_options.dir));
}
END_TEST

static Suite *block_recovery_suite(void)
{
    Suite *suite = suite_create("block_recovery");
    TCase *ends = tcase_create("ends");
    TCase *damage = tcase_create("damage");

    tcase_add_checked_fixture(ends, fixture_setup, fixture_teardown);
    tcase_add_checked_fixture(damage, fixture_setup, fixture_teardown);
    tcase_set_timeout(ends, 90);
    tcase_set_timeout(damage, 90);
    tcase_add_loop_test(ends, index_is_rebuilt_whatever_happened_to_it, 0,
                        N_HARMS);
    tcase_add_test(ends, damaged_index_is_moved_aside);
    tcase_add_test(ends, tombstone_kills_whatever_the_order);
    tcase_add_test(ends,
                   removed_segment_takes_no_tombstone_with_it_that_is_needed);
    tcase_add_loop_test(ends, what_was_acknowledged_survives_being_killed, 0,
                        2);
    tcase_add_loop_test(ends, threads_killed_in_the_middle_lose_nothing, 0, 6);
    tcase_add_loop_test(ends, hole_left_by_a_crash_is_skipped, 0, 2);
    tcase_add_loop_test(ends, tail_torn_anywhere_is_dropped, 0, N(last_sizes));
    tcase_add_loop_test(ends, tail_with_a_wrong_byte_is_dropped, 0, 10);
    tcase_add_loop_test(damage, flipped_bit_never_gives_wrong_bytes, 0, 100);
    tcase_add_loop_test(damage, blocks_behind_a_damaged_header_are_found, 0,
                        56);
    tcase_add_test(damage, record_inside_a_block_is_not_taken_for_one);
    tcase_add_loop_test(damage, damaged_block_is_replaced_by_putting_it_again,
                        0, 2);
    tcase_add_loop_test(damage, lost_segment_loses_its_blocks_only, 0, 2);
    tcase_add_test(damage, cut_last_segment_is_not_written_to_again);
    tcase_add_test(damage, foreign_files_are_left_alone);
    tcase_add_test(damage, two_segments_of_one_number_are_refused);
    tcase_add_test(damage, directory_that_is_not_there_is_told);
    suite_add_tcase(suite, ends);
    suite_add_tcase(suite, damage);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(block_recovery_suite());
    int n_failed;

    srunner_run_all(runner, CK_NORMAL);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
