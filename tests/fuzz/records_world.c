#include "tests/fuzz/records_world.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storaged/block/block_store.h"
#include "tests/fuzz/fuzz.h"

#define N_IN_SEGMENT (RECORDS_BLOCKS / RECORDS_SEGMENTS)
#define N_IN_OBJECT  4u
#define DELETED      2u /* serial of the deleted object */

struct records_block records_blocks[RECORDS_BLOCKS];

static const char *root; /* borrowed */
static struct records_file sound[RECORDS_SEGMENTS];
static struct records_file indexes[RECORDS_INDEX_PART + 1];

void records_fill(const struct block_key *key, uint32_t length, uint8_t *bytes)
{
    uint64_t state = key->object.serial << 20 | key->stripe << 8 | key->index;

    for (uint32_t i = 0; i < length; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        bytes[i] = (uint8_t)(state >> 56);
    }
}

/* -------------------------------------------------------------------- files */

static int remove_one(const char *path,
                      const struct stat *status,
                      int type,
                      struct FTW *ftw)
{
    (void)status;
    (void)type;
    return ftw->level == 0 ? 0 : remove(path);
}

/* The file by its path below the directory, "segments/x" or "index.db". */
static int write_file(const char *name, const uint8_t *data, size_t size)
{
    char path[160];
    FILE *file;
    bool is_ok;

    (void)snprintf(path, sizeof path, "%s/%s", root, name);
    file = fopen(path, "we");
    if (file == NULL) {
        return -errno;
    }
    is_ok = fwrite(data, 1, size, file) == size;
    return fclose(file) == 0 && is_ok ? 0 : -EIO;
}

static int empty_directory(void)
{
    char path[160];

    if (nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS) != 0) {
        return -errno;
    }
    (void)snprintf(path, sizeof path, "%s/segments", root);
    return mkdir(path, 0700) == 0 ? 0 : -errno;
}

static int write_segment(const struct records_file *segment)
{
    char name[SEGMENT_NAME_SIZE + 16];

    (void)snprintf(name, sizeof name, "segments/%.37s", segment->name);
    return write_file(name, segment->data, segment->size);
}

int records_write(const struct records_world *world)
{
    int rc = empty_directory();

    for (size_t i = 0; i < RECORDS_SEGMENTS && rc == 0; i++) {
        if (world->segments[i].name[0] != '\0') {
            rc = write_segment(&world->segments[i]);
        }
    }
    if (rc == 0 && world->has_index) {
        rc = write_file("index.db", world->index.data, world->index.size);
    }
    return rc;
}

/* -------------------------------------------------------------- sound world */

static void append(struct records_file *segment,
                   const struct record *wanted,
                   const uint8_t *payload)
{
    struct record record = *wanted;
    struct record_place place = { segment->salt, (uint32_t)segment->size };
    uint32_t header_size = record_header_size(record.length);
    uint8_t header[RECORD_HEADER_MAX];

    checksum_compute(payload, record.length, record.checksums);
    record_encode(&record, &place, header);
    assert(segment->size + record_size(record.length) < RECORDS_SEGMENT_SIZE);
    memcpy(segment->data + segment->size, header, header_size);
    memcpy(segment->data + segment->size + header_size, payload, record.length);
    segment->offsets[segment->n_offsets++] = (uint32_t)segment->size;
    segment->size += record_size(record.length);
}

static void append_block(struct records_file *segment, size_t i)
{
    static const uint32_t lengths[] = { 1,    100,   4096,  4097,
                                        9000, 20000, 65536, 12288 };
    static uint8_t payload[RECORDS_LENGTH_MAX];
    struct records_block *block = &records_blocks[i];
    struct record record = { .type = RECORD_BLOCK };

    block->key = (struct block_key){ { 7, 1 + i / N_IN_OBJECT },
                                     (uint32_t)(i % 2),
                                     (uint32_t)(i % N_IN_OBJECT) };
    block->length = lengths[i % (sizeof lengths / sizeof *lengths)];
    block->is_deleted = block->key.object.serial == DELETED;
    record.key = block->key;
    record.length = block->length;
    records_fill(&block->key, block->length, payload);
    append(segment, &record, payload);
}

static void make_segments(void)
{
    const struct object_id deleted = { 7, DELETED };
    struct record tombstone = { .type = RECORD_TOMBSTONE, .length = 16 };
    uint8_t id[OBJECT_ID_SIZE];

    for (size_t i = 0; i < RECORDS_SEGMENTS; i++) {
        sound[i].number = 1 + i;
        sound[i].salt = 0x9e3779b97f4a7c15u * (i + 1);
        segment_name(sound[i].number, sound[i].salt, sound[i].name);
    }
    for (size_t i = 0; i < RECORDS_BLOCKS; i++) {
        append_block(&sound[i / N_IN_SEGMENT], i);
        if (i == RECORDS_BLOCKS - 2) {
            object_id_encode(&deleted, id);
            append(&sound[i / N_IN_SEGMENT], &tombstone, id);
        }
    }
}

/* Let a store make the index of the first `n_segments`, and keep it. */
static int make_index(size_t n_segments, struct records_file *ret_index)
{
    struct block_store_options options = { .dir = root };
    struct block_store *store = NULL;
    struct errmsg msg;
    char path[160];
    FILE *file;
    int rc = empty_directory();

    for (size_t i = 0; i < n_segments && rc == 0; i++) {
        rc = write_segment(&sound[i]);
    }
    if (rc == 0) {
        rc = block_store_open(&options, &store, &msg);
    }
    block_store_close(store);
    if (rc != 0) {
        return rc;
    }
    (void)snprintf(path, sizeof path, "%s/index.db", root);
    file = fopen(path, "re");
    if (file == NULL) {
        return -errno;
    }
    ret_index->size = fread(ret_index->data, 1, sizeof ret_index->data, file);
    (void)fclose(file);
    return ret_index->size < sizeof ret_index->data ? 0 : -EFBIG;
}

int records_init(const char *dir)
{
    int rc;

    root = dir;
    make_segments();
    rc = make_index(RECORDS_SEGMENTS, &indexes[RECORDS_INDEX_FULL]);
    return rc != 0 ? rc : make_index(1, &indexes[RECORDS_INDEX_PART]);
}

void records_reset(struct records_world *world, enum records_index index)
{
    memcpy(world->segments, sound, sizeof sound);
    world->has_index = index != RECORDS_INDEX_NONE;
    world->index = indexes[index];
    world->is_touched = false;
    world->is_forged = false;
}

/* ---------------------------------------------------------------- mutations */

static struct records_file *any_segment(struct records_world *world)
{
    return &world->segments[fuzz_below(RECORDS_SEGMENTS)];
}

/* The start of a record; now and then any other place. */
static size_t any_place(const struct records_file *segment)
{
    if (segment->size == 0) {
        return 0;
    }
    return fuzz_one_in(4) ? fuzz_below(segment->size)
                          : segment->offsets[fuzz_below(segment->n_offsets)] %
                                segment->size;
}

static void mutate_bytes(struct records_file *segment)
{
    size_t at = any_place(segment);

    segment->size =
        at + fuzz_mutate(segment->data + at, segment->size - at,
                         RECORDS_SEGMENT_SIZE - at, fuzz_one_in(3) ? 0 : 80);
}

/* Zero a range, as if it had been punched or never been written. */
static void punch(struct records_file *segment)
{
    size_t at = any_place(segment);
    size_t n = fuzz_below(segment->size - at + 1);

    memset(segment->data + at, 0, fuzz_one_in(2) && n > 5000 ? 4096 : n);
}

/* Cut, or let zeros or remains of something else follow. */
static void resize(struct records_file *segment)
{
    size_t size = fuzz_below(RECORDS_SEGMENT_SIZE);

    if (fuzz_one_in(2)) {
        segment->size = any_place(segment);
        return;
    }
    if (size > segment->size) {
        memset(segment->data + segment->size, fuzz_one_in(2) ? 0 : 'G',
               size - segment->size);
    }
    segment->size = size;
}

/* Put a piece, most often whole records, in another place, also of another
 * segment. */
static void copy_piece(struct records_world *world)
{
    const struct records_file *from = any_segment(world);
    struct records_file *to = any_segment(world);
    size_t source = any_place(from);
    size_t target = any_place(to);
    size_t n = fuzz_below(from->size - source + 1);

    if (n > RECORDS_SEGMENT_SIZE - target) {
        n = RECORDS_SEGMENT_SIZE - target;
    }
    memmove(to->data + target, from->data + source, n);
    if (target + n > to->size) {
        to->size = target + n;
    }
}

/* Change the names of files: gone, swapped, another number or salt. */
static void rename_segment(struct records_world *world)
{
    struct records_file *a = any_segment(world);
    struct records_file *b = any_segment(world);
    char name[SEGMENT_NAME_SIZE];

    switch (fuzz_below(4)) {
    case 0:
        a->name[0] = '\0';
        break;
    case 1:
        memcpy(name, a->name, sizeof name);
        memcpy(a->name, b->name, sizeof name);
        memcpy(b->name, name, sizeof name);
        break;
    case 2:
        segment_name(fuzz_number(), a->salt, a->name);
        break;
    default:
        segment_name(b->number, fuzz_draw(), a->name);
        break;
    }
}

/* Change a header and make its checksum right again. */
static void forge(struct records_world *world)
{
    struct records_file *segment = any_segment(world);
    size_t i = fuzz_below(segment->n_offsets);
    uint8_t *header = segment->data + segment->offsets[i];
    size_t crc_at;
    uint32_t crc;

    world->is_forged = true;
    for (size_t j = 1 + fuzz_below(3); j > 0; j--) {
        header[fuzz_below(48)] = fuzz_byte();
    }
    crc_at = 48 + 4 * (header[6] | (size_t)header[7] << 8);
    if (segment->offsets[i] + crc_at + 4 <= RECORDS_SEGMENT_SIZE) {
        crc = checksum_crc32c(header, crc_at);
        memcpy(header + crc_at, &crc, sizeof crc); /* little-endian here */
    }
}

static void mutate_index(struct records_world *world)
{
    world->is_forged = true;
    for (size_t i = 1 + fuzz_below(4); i > 0; i--) {
        world->index.size =
            fuzz_mutate(world->index.data, world->index.size,
                        RECORDS_SEGMENT_SIZE, fuzz_one_in(2) ? 0 : 100);
    }
}

void records_mutate(struct records_world *world)
{
    world->is_touched = true;
    switch (fuzz_below(10)) {
    case 0:
        rename_segment(world);
        break;
    case 1:
        punch(any_segment(world));
        break;
    case 2:
        resize(any_segment(world));
        break;
    case 3:
    case 4:
        copy_piece(world);
        break;
    case 5:
        forge(world);
        break;
    case 6:
        mutate_index(world);
        break;
    default:
        mutate_bytes(any_segment(world));
        break;
    }
}
