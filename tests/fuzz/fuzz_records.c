/* Damaged segment files and indexes against the block store's recovery:
 * `fuzz_records SEED SECONDS`.
 *
 * Segments are changed, cut, mixed up, renamed or lost, the index is lost, old
 * or damaged. Then the store opens or gives an errno and a word. Open, it never
 * returns bytes that pass their checksums and are not those put under that key;
 * lists no block that was never put; works; and can be closed and opened again
 * without losing what was readable. Untouched, it returns every block. */
#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/checksum.h"
#include "common/log.h"
#include "storaged/block/block_store.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/records_world.h"

static char dir[64];

/* The system's, except that nothing waits for the disk. */
static struct disk fast_disk;

static int skip_sync(struct disk *disk, int fd)
{
    (void)disk;
    (void)fd;
    return 0;
}

/* --------------------------------------------------------------- judgements */

static bool is_read_error(int rc)
{
    return rc == -ENOENT || rc == -EBADMSG || rc == -EIO;
}

/* Whether a piece, if it passes its checksums, is of the block. Sets
 * `*ret_is_sound` when it passes. */
static bool is_right(const struct block_piece *piece,
                     const struct records_block *block,
                     bool *ret_is_sound)
{
    static uint8_t wanted[RECORDS_LENGTH_MAX];

    *ret_is_sound =
        checksum_verify(piece->buf->data, piece->length, piece->checksums) < 0;
    if (!*ret_is_sound) {
        return true;
    }
    records_fill(&block->key, block->length, wanted);
    return piece->block_length == block->length &&
           piece->offset + piece->length <= block->length &&
           memcmp(piece->buf->data, wanted + piece->offset, piece->length) == 0;
}

/* Read a block from `offset`. `*ret_is_sound`: it is there and right. */
static bool check_range(struct block_store *store,
                        const struct records_block *block,
                        uint32_t offset,
                        bool is_forged,
                        bool *ret_is_sound)
{
    struct block_piece piece = { 0 };
    int rc = block_store_get(store, &block->key, offset, RECORD_PAYLOAD_MAX,
                             false, &piece);
    bool is_ok;

    *ret_is_sound = false;
    if (rc != 0) {
        /* a forged length may end before the offset */
        return is_read_error(rc) || (is_forged && rc == -EINVAL) ||
               fuzz_fail("a get answers %d", rc);
    }
    is_ok = is_right(&piece, block, ret_is_sound) || is_forged;
    buf_unref(piece.buf);
    return is_ok || fuzz_fail("wrong bytes of object %d, stripe %u, index %u",
                              (int)block->key.object.serial, block->key.stripe,
                              block->key.index);
}

static bool check_block(struct block_store *store,
                        const struct records_block *block,
                        bool is_forged,
                        bool *ret_is_sound)
{
    uint32_t offset = (uint32_t)fuzz_below(block->length);
    bool is_range_sound;

    return check_range(store, block, 0, is_forged, ret_is_sound) &&
           (!fuzz_one_in(4) ||
            check_range(store, block, offset, is_forged, &is_range_sound));
}

static bool check_blocks(struct block_store *store,
                         const struct records_world *world,
                         bool *ret_sound)
{
    for (size_t i = 0; i < RECORDS_BLOCKS; i++) {
        const struct records_block *block = &records_blocks[i];

        if (!check_block(store, block, world->is_forged, &ret_sound[i])) {
            return false;
        }
        if (!world->is_touched && ret_sound[i] == block->is_deleted) {
            return fuzz_fail("sound, but block %zu is %s", i,
                             block->is_deleted ? "back" : "lost");
        }
        if (fuzz_one_in(8) && !is_read_error(block_store_verify(
                                  store, &block->key)) != ret_sound[i]) {
            return world->is_forged || fuzz_fail("verify disagrees");
        }
    }
    return true;
}

static bool was_put(const struct block_info *info)
{
    for (size_t i = 0; i < RECORDS_BLOCKS; i++) {
        if (block_key_compare(&info->key, &records_blocks[i].key) == 0) {
            return info->length == records_blocks[i].length;
        }
    }
    return false;
}

static bool check_list(struct block_store *store,
                       const struct records_world *world)
{
    struct block_info infos[RECORDS_BLOCKS + 8];
    size_t n = 0;
    int rc = block_store_list(store, NULL, RECORDS_BLOCKS + 8, infos, &n);

    if (rc != 0) {
        return world->is_forged || fuzz_fail("list answers %d", rc);
    }
    for (size_t i = 0; i < n && !world->is_forged; i++) {
        if (!was_put(&infos[i])) {
            return fuzz_fail("a block is listed that was never put");
        }
    }
    return true;
}

/* Put a block, read it back, delete an object. */
static bool check_use(struct block_store *store, bool is_forged)
{
    const struct records_block fresh = { { { 9, 1 }, 3, 2 }, 5000, false };
    const struct object_id gone = records_blocks[0].key.object;
    uint8_t bytes[5000];
    uint32_t checksums[2];
    struct iovec iov = { bytes, sizeof bytes };
    const struct block_payload payload = { &iov, 1, sizeof bytes, checksums };
    uint64_t n_blocks;
    bool is_sound;
    int rc;

    records_fill(&fresh.key, fresh.length, bytes);
    checksum_compute(bytes, sizeof bytes, checksums);
    rc = block_store_put(store, &fresh.key, &payload);
    if (rc == 0) {
        rc = block_store_sync(store);
    }
    if (rc != 0) {
        return is_forged || fuzz_fail("a put answers %d", rc);
    }
    if (!check_block(store, &fresh, is_forged, &is_sound)) {
        return false;
    }
    if (!is_sound) {
        return is_forged || fuzz_fail("what was put is not there");
    }
    rc = block_store_delete_objects(store, &gone, 1, &n_blocks);
    if (rc != 0) {
        return is_forged || fuzz_fail("a deletion answers %d", rc);
    }
    return is_forged ||
           (check_block(store, &records_blocks[0], false, &is_sound) &&
            (!is_sound || fuzz_fail("what was deleted is there")));
}

/* ------------------------------------------------------------------- rounds */

static int open_store(struct block_store **ret_store, struct errmsg *msg)
{
    const struct block_store_options options = { .dir = dir,
                                                 .segment_size = 2 << 20,
                                                 .disk = &fast_disk };

    msg->text[0] = '\0';
    return block_store_open(&options, ret_store, msg);
}

/* Open again: what was sound still is, but for the object that check_use() has
 * deleted, and those that a tombstone names which was out of sight before. */
static bool check_again(const struct records_world *world, const bool *before)
{
    const uint64_t gone = records_blocks[0].key.object.serial;
    struct block_store *store = NULL;
    bool now[RECORDS_BLOCKS];
    struct errmsg msg;
    bool is_ok;
    int rc = open_store(&store, &msg);

    if (rc != 0) {
        return world->is_forged ||
               fuzz_fail("it does not open again: %d %s", rc, msg.text);
    }
    is_ok = true;
    for (size_t i = 0; i < RECORDS_BLOCKS && is_ok; i++) {
        const struct records_block *block = &records_blocks[i];

        is_ok = check_block(store, block, world->is_forged, &now[i]);
        if (block->key.object.serial == gone || block->is_deleted) {
            continue;
        }
        if (is_ok && before[i] && !now[i] && !world->is_forged) {
            is_ok = fuzz_fail("block %zu is lost by closing", i);
        }
    }
    block_store_close(store);
    return is_ok;
}

static bool check_world(const struct records_world *world)
{
    struct block_store *store = NULL;
    bool sound[RECORDS_BLOCKS];
    struct errmsg msg;
    bool is_ok;
    int rc = open_store(&store, &msg);

    if (rc != 0) {
        return (world->is_touched && rc < 0 && rc > -4096 &&
                msg.text[0] != '\0' && strchr(msg.text, '\n') == NULL) ||
               fuzz_fail("open answers %d: '%s'", rc, msg.text);
    }
    is_ok = check_blocks(store, world, sound) && check_list(store, world) &&
            check_use(store, world->is_forged);
    block_store_close(store);
    return is_ok && check_again(world, sound);
}

static bool run_round(void)
{
    static struct records_world world;
    size_t n_mutations = fuzz_below(4);
    int rc;

    records_reset(&world, (enum records_index)fuzz_below(3));
    for (size_t i = 0; i < n_mutations; i++) {
        records_mutate(&world);
    }
    rc = records_write(&world);
    if (rc != 0) {
        return fuzz_fail("the target itself: %s", err_text(rc));
    }
    return check_world(&world);
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

int main(int argc, char **argv)
{
    int status = EXIT_FAILURE;
    int rc;

    /* in memory, where there is such a place */
    (void)strcpy(dir, access("/dev/shm", W_OK) == 0
                          ? "/dev/shm/gabion-fuzz-records-XXXXXX"
                          : "/tmp/gabion-fuzz-records-XXXXXX");
    if (mkdtemp(dir) == NULL) {
        perror(dir);
        return EXIT_FAILURE;
    }
    fast_disk = *disk_system();
    fast_disk.sync = skip_sync;
    log_set_level((enum log_level) - 1); /* not even errors: they are wanted */
    rc = records_init(dir);
    if (rc == 0) {
        status = fuzz_main(argc, argv, run_round);
    } else {
        (void)fprintf(stderr, "%s: %s\n", dir, err_text(rc));
    }
    (void)nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    return status;
}
