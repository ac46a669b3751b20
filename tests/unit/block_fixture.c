#include "tests/unit/block_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <check.h>

#include "common/checksum.h"

char fixture_dir[64];
struct block_store_options fixture_options;

/* Counts down; true when it reaches its end. */
static bool hits(int *countdown)
{
    return __atomic_load_n(countdown, __ATOMIC_RELAXED) > 0 &&
           __atomic_sub_fetch(countdown, 1, __ATOMIC_RELAXED) == 0;
}

static void note_call(struct fault_disk *fault, char call)
{
    if (fault->n_calls < sizeof fault->calls - 1) {
        fault->calls[fault->n_calls++] = call;
    }
}

static void fault_expect(struct disk *disk, int fd, off_t offset, off_t size)
{
    struct fault_disk *fault = (struct fault_disk *)disk;
    struct disk *real = disk_system();

    (void)pthread_mutex_lock(&fault->lock);
    note_call(fault, 'e');
    fault->expected_at = offset;
    fault->expected_size = size;
    (void)pthread_mutex_unlock(&fault->lock);
    real->expect(real, fd, offset, size);
}

static ssize_t fault_read(struct disk *disk,
                          int fd,
                          const struct iovec *iov,
                          int n_iov,
                          off_t offset,
                          int flags)
{
    struct fault_disk *fault = (struct fault_disk *)disk;
    struct disk *real = disk_system();
    off_t end = offset;

    for (int i = 0; i < n_iov; i++) {
        end += (off_t)iov[i].iov_len;
    }
    (void)pthread_mutex_lock(&fault->lock);
    note_call(fault, (flags & RWF_NOWAIT) != 0 ? 'n' : 'r');
    fault->read_at = offset;
    (void)pthread_mutex_unlock(&fault->lock);
    if (fault->fail_read != 0) {
        return fault->fail_read;
    }
    if (fault->nowait_error != 0 && (flags & RWF_NOWAIT) != 0) {
        return fault->nowait_error;
    }
    if (fault->bad_place >= offset && fault->bad_place < end &&
        fault->bad_place > 0) {
        return -EIO;
    }
    return real->read(real, fd, iov, n_iov, offset, flags);
}

static ssize_t fault_write(struct disk *disk,
                           int fd,
                           const struct iovec *iov,
                           int n_iov,
                           off_t offset)
{
    struct fault_disk *fault = (struct fault_disk *)disk;
    struct disk *real = disk_system();

    if (hits(&fault->skip_write_in)) {
        while (true) {
            (void)pause();
        }
    }
    if (hits(&fault->fail_write_in)) {
        struct iovec part = iov[0];

        if (fault->write_first > 0) {
            /* A short write first, the error next time. */
            ck_assert_int_gt(n_iov, 0);
            if (part.iov_len > (size_t)fault->write_first) {
                part.iov_len = (size_t)fault->write_first;
            }
            fault->fail_write_in = 1;
            fault->write_first = 0;
            return real->write(real, fd, &part, 1, offset);
        }
        return fault->write_error;
    }
    return real->write(real, fd, iov, n_iov, offset);
}

static int fault_sync(struct disk *disk, int fd)
{
    struct fault_disk *fault = (struct fault_disk *)disk;
    struct disk *real = disk_system();
    const struct timespec time = { 0, fault->sync_ms * 1000000L };
    struct stat status;

    (void)__atomic_add_fetch(&fault->n_syncs, 1, __ATOMIC_RELAXED);
    if (fstat(fd, &status) == 0 && S_ISDIR(status.st_mode)) {
        (void)__atomic_add_fetch(&fault->n_directory_syncs, 1,
                                 __ATOMIC_RELAXED);
    }
    if (fault->sync_ms > 0) {
        (void)nanosleep(&time, NULL);
    }
    (void)pthread_mutex_lock(&fault->lock);
    fault->n_held++;
    (void)pthread_cond_broadcast(&fault->changed);
    while (fault->holds_syncs) {
        (void)pthread_cond_wait(&fault->changed, &fault->lock);
    }
    fault->n_held--;
    (void)pthread_mutex_unlock(&fault->lock);
    if (hits(&fault->fail_sync_in)) {
        return fault->sync_error != 0 ? fault->sync_error : -EIO;
    }
    return real->sync(real, fd);
}

void fault_disk_init(struct fault_disk *disk)
{
    memset(disk, 0, sizeof *disk);
    disk->disk =
        (struct disk){ fault_read, fault_expect, fault_write, fault_sync };
    (void)pthread_mutex_init(&disk->lock, NULL);
    (void)pthread_cond_init(&disk->changed, NULL);
}

void fault_disk_hold_syncs(struct fault_disk *disk)
{
    (void)pthread_mutex_lock(&disk->lock);
    disk->holds_syncs = true;
    (void)pthread_mutex_unlock(&disk->lock);
}

void fault_disk_await_held(struct fault_disk *disk)
{
    (void)pthread_mutex_lock(&disk->lock);
    while (disk->n_held == 0) {
        (void)pthread_cond_wait(&disk->changed, &disk->lock);
    }
    (void)pthread_mutex_unlock(&disk->lock);
}

void fault_disk_release(struct fault_disk *disk)
{
    (void)pthread_mutex_lock(&disk->lock);
    disk->holds_syncs = false;
    (void)pthread_cond_broadcast(&disk->changed);
    (void)pthread_mutex_unlock(&disk->lock);
}

void fixture_setup(void)
{
    (void)strcpy(fixture_dir, "/tmp/gabion-block-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(fixture_dir));
    fixture_options = (struct block_store_options){ .dir = fixture_dir };
}

static int remove_one(const char *path,
                      const struct stat *status,
                      int type,
                      struct FTW *ftw)
{
    (void)status;
    (void)type;
    (void)ftw;
    return remove(path);
}

void fixture_teardown(void)
{
    (void)nftw(fixture_dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

struct block_store *fixture_open(void)
{
    struct block_store *store = NULL;
    struct errmsg msg = { "" };
    int rc = block_store_open(&fixture_options, &store, &msg);

    ck_assert_msg(rc == 0, "open: %d: %s", rc, msg.text);
    return store;
}

uint64_t fixture_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

struct block_key fixture_key(uint64_t serial, uint32_t stripe, uint32_t index)
{
    return (struct block_key){ { 7, serial }, stripe, index };
}

void fixture_fill(const struct block_key *key,
                  uint32_t seed,
                  uint32_t length,
                  uint8_t *ret_bytes)
{
    uint64_t state = key->object.serial * 1000003 + key->stripe * 257u +
                     key->index + ((uint64_t)seed << 40);

    for (uint32_t i = 0; i < length; i += 8) {
        uint64_t number = fixture_random(&state);

        memcpy(ret_bytes + i, &number, length - i < 8 ? length - i : 8);
    }
    ret_bytes[0] = (uint8_t)(seed + key->stripe); /* never the same */
}

int fixture_put(struct block_store *store,
                const struct block_key *key,
                uint32_t seed,
                uint32_t length)
{
    uint8_t *bytes = malloc(length);
    uint32_t checksums[RECORD_UNITS_MAX];
    uint32_t cut = length / 3;
    struct iovec iov[4] = { { bytes, cut },
                            { bytes + cut, 0 },
                            { bytes + cut, length / 7 },
                            { bytes + cut + length / 7,
                              length - cut - length / 7 } };
    const struct block_payload payload = { iov, 4, length, checksums };
    int rc;

    ck_assert_ptr_nonnull(bytes);
    fixture_fill(key, seed, length, bytes);
    checksum_compute(bytes, length, checksums);
    rc = block_store_put(store, key, &payload);
    free(bytes);
    return rc;
}

int fixture_check(struct block_store *store,
                  const struct block_key *key,
                  uint32_t seed,
                  uint32_t length)
{
    struct block_piece piece;
    uint8_t *wanted;
    int rc = block_store_get(store, key, 0, RECORD_PAYLOAD_MAX, false, &piece);

    if (rc < 0) {
        return rc;
    }
    wanted = malloc(length);
    ck_assert_ptr_nonnull(wanted);
    fixture_fill(key, seed, length, wanted);
    if (checksum_verify(piece.buf->data, piece.length, piece.checksums) >= 0) {
        rc = -EBADMSG;
    } else if (piece.length != length || piece.block_length != length ||
               memcmp(piece.buf->data, wanted, length) != 0) {
        rc = -EILSEQ;
    }
    free(wanted);
    buf_unref(piece.buf);
    return rc;
}

bool fixture_segment(unsigned n, char ret_path[128])
{
    struct dirent **entries;
    char dir[80];
    bool found = false;
    int n_entries;

    (void)snprintf(dir, sizeof dir, "%s/segments", fixture_dir);
    n_entries = scandir(dir, &entries, NULL, alphasort);
    ck_assert_int_ge(n_entries, 2);
    for (int i = 0; i < n_entries; i++) {
        if (entries[i]->d_name[0] != '.' && n-- == 0) {
            (void)snprintf(ret_path, 128, "%s/%.37s", dir, entries[i]->d_name);
            found = true;
        }
        free(entries[i]);
    }
    free(entries);
    return found;
}

const char *fixture_index(const char *suffix, char ret_path[128])
{
    (void)snprintf(ret_path, 128, "%s/index.db%s", fixture_dir, suffix);
    return ret_path;
}

void fixture_lose_index(void)
{
    char path[128];

    (void)unlink(fixture_index("-wal", path));
    (void)unlink(fixture_index("-shm", path));
    ck_assert_int_eq(unlink(fixture_index("", path)), 0);
}

size_t fixture_run_and_kill(void (*work)(struct block_store *store, int fd),
                            uint8_t *ret_bytes,
                            size_t size)
{
    int pipe_fds[2];
    int status;
    size_t n = 0;
    ssize_t step;
    pid_t pid;

    ck_assert_int_eq(pipe(pipe_fds), 0);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        (void)close(pipe_fds[0]);
        work(fixture_open(), pipe_fds[1]);
        (void)kill(getpid(), SIGKILL);
    }
    (void)close(pipe_fds[1]);
    while (n < size &&
           (step = read(pipe_fds[0], ret_bytes + n, size - n)) > 0) {
        n += (size_t)step;
    }
    (void)close(pipe_fds[0]);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    return n;
}

uint64_t fixture_disk_usage(void)
{
    uint64_t bytes = 0;
    struct stat status;
    char path[128];

    for (unsigned i = 0; fixture_segment(i, path); i++) {
        ck_assert_int_eq(stat(path, &status), 0);
        bytes += (uint64_t)status.st_blocks * 512;
    }
    return bytes;
}
