#include "storaged/block/block_get.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/log.h"
#include "storaged/block/block_state.h"

/* Find where a block lies, by asking those who know for sure. */
static int look_up_row(struct block_store *store,
                       const struct block_key *key,
                       struct index_row *ret_row)
{
    int rc = pending_find(&store->pending, key, ret_row);

    if (rc == -ENOENT) {
        rc = block_store_check_index(
            store, block_index_lookup(store->index, key, ret_row));
    }
    if (rc == 0) {
        row_cache_put(&store->rows, ret_row);
    }
    return rc;
}

static int find_row(struct block_store *store,
                    const struct block_key *key,
                    struct index_row *ret_row)
{
    return row_cache_find(&store->rows, key, ret_row)
               ? 0
               : look_up_row(store, key, ret_row);
}

static bool is_record_of(const struct record *record,
                         const struct index_row *row)
{
    return record->type == RECORD_BLOCK && record->length == row->length &&
           block_key_compare(&record->key, &row->key) == 0;
}

int block_get_verify_row(struct block_store *store,
                         const struct index_row *row,
                         struct record *ret_record)
{
    uint32_t offset = place_offset(row->place);
    struct segment *segment;
    int rc = segment_set_use(&store->set, place_segment(row->place), &segment);

    if (rc < 0) {
        return rc;
    }
    rc = segment_read_record(store->disk, segment, offset, 0, ret_record);
    if (rc == 0 && !is_record_of(ret_record, row)) {
        rc = -EBADMSG;
    }
    if (rc == 0) {
        rc = segment_verify(store->disk, segment, offset, ret_record);
    }
    segment_set_release(&store->set, segment);
    return rc;
}

void block_get_report(struct block_store *store,
                      const struct index_row *row,
                      int error)
{
    if (block_store_may_report(store, row->place)) {
        log_warn("damaged block object=%016" PRIx64 "-%" PRIx64
                 " stripe=%u index=%u segment=%" PRIx64 " offset=%u error=%s",
                 row->key.object.session, row->key.object.serial,
                 row->key.stripe, row->key.index, place_segment(row->place),
                 place_offset(row->place), err_text(error));
    }
}

/* Read header and payload into `iov`: bytes read or a negative errno. Where
 * they do not lie together, the disk is to fetch both at the same time, so that
 * who must wait waits once: also when it is another thread that waits. */
static ssize_t read_parts(struct block_store *store,
                          const struct segment *segment,
                          uint32_t offset,
                          const struct iovec iov[2],
                          int flags,
                          const struct block_piece *piece)
{
    struct disk *disk = store->disk;
    uint32_t data_at = offset + (uint32_t)iov[0].iov_len + piece->offset;
    ssize_t n_data;
    ssize_t n;

    if (piece->offset == 0) {
        return segment_read(disk, segment, offset, iov, 2, flags);
    }
    if (flags == 0) {
        disk->expect(disk, segment->fd, (off_t)data_at, piece->length);
    }
    n = segment_read(disk, segment, offset, iov, 1, flags);
    if (n == -EAGAIN) {
        disk->expect(disk, segment->fd, (off_t)data_at, piece->length);
    }
    if (n < 0) {
        return n;
    }
    n_data = segment_read(disk, segment, data_at, &iov[1], 1, flags);
    return n_data < 0 ? n_data : n + n_data;
}

/* Read what was asked of the block at `row`. */
static int read_piece(struct block_store *store,
                      const struct index_row *row,
                      int flags,
                      struct block_piece *piece)
{
    uint32_t offset = place_offset(row->place);
    uint32_t header_size = record_header_size(row->length);
    struct record_place place = { 0, offset };
    uint8_t header[RECORD_HEADER_MAX];
    struct iovec iov[2] = { { header, header_size },
                            { piece->buf->data, piece->length } };
    struct segment *segment;
    struct record record;
    ssize_t n;
    int rc = segment_set_use(&store->set, place_segment(row->place), &segment);

    if (rc < 0) {
        return rc;
    }
    place.salt = segment->salt;
    n = read_parts(store, segment, offset, iov, flags, piece);
    segment_set_release(&store->set, segment);
    if (n < 0) {
        return (int)n;
    }
    if ((size_t)n < header_size + piece->length) {
        return -EBADMSG;
    }
    rc = record_decode(header, header_size, &place, &record);
    if (rc == 0 && !is_record_of(&record, row)) {
        rc = -EBADMSG;
    }
    if (rc == 0) {
        memcpy(piece->checksums,
               record.checksums + piece->offset / CHECKSUM_UNIT,
               checksum_units(piece->length) * sizeof *piece->checksums);
    }
    return rc;
}

/* Widen what is asked for to whole units. */
static int plan_piece(const struct index_row *row,
                      uint32_t offset,
                      uint32_t length,
                      struct block_piece *ret_piece)
{
    uint32_t end;

    if (row->length == 0 || row->length > RECORD_PAYLOAD_MAX) {
        return -EBADMSG;
    }
    if (length == 0 || offset >= row->length) {
        return -EINVAL;
    }
    end = length < row->length - offset ? offset + length : row->length;
    end = (end + CHECKSUM_UNIT - 1) & ~(CHECKSUM_UNIT - 1);
    ret_piece->offset = offset & ~(CHECKSUM_UNIT - 1);
    ret_piece->length =
        (end < row->length ? end : row->length) - ret_piece->offset;
    ret_piece->block_length = row->length;
    return 0;
}

/* A block that is damaged, or shorter than what was asked for, because it has
 * just been deleted or replaced is no news: look again where it is. */
static int explain_failure(struct block_store *store,
                           const struct index_row *row,
                           int error)
{
    struct index_row now;
    int rc = look_up_row(store, &row->key, &now);

    if (rc < 0) {
        return rc;
    }
    if (now.place != row->place) {
        return -EAGAIN;
    }
    if (error != -EINVAL) {
        block_get_report(store, row, error);
    }
    return error;
}

static int get_once(struct block_store *store,
                    const struct index_row *row,
                    uint32_t offset,
                    uint32_t length,
                    int flags,
                    struct block_piece *ret_piece)
{
    int rc = plan_piece(row, offset, length, ret_piece);

    if (rc < 0) {
        return rc;
    }
    ret_piece->buf = buf_new(ret_piece->length);
    if (ret_piece->buf == NULL) {
        return -ENOMEM;
    }
    rc = read_piece(store, row, flags, ret_piece);
    if (rc < 0) {
        buf_unref(ret_piece->buf);
        ret_piece->buf = NULL;
    }
    return rc;
}

/* Without the index and the disk, and without explaining anything. */
static int get_cached(struct block_store *store,
                      const struct block_key *key,
                      uint32_t offset,
                      uint32_t length,
                      struct block_piece *ret_piece)
{
    struct index_row row;

    if (!row_cache_find(&store->rows, key, &row) ||
        get_once(store, &row, offset, length, RWF_NOWAIT, ret_piece) < 0) {
        return -EAGAIN;
    }
    return 0;
}

int block_store_get(struct block_store *store,
                    const struct block_key *key,
                    uint32_t offset,
                    uint32_t length,
                    bool cached,
                    struct block_piece *ret_piece)
{
    struct index_row row;
    int rc;

    if (cached) {
        return get_cached(store, key, offset, length, ret_piece);
    }
    do {
        rc = find_row(store, key, &row);
        if (rc < 0) {
            return rc;
        }
        rc = get_once(store, &row, offset, length, 0, ret_piece);
        if (rc == 0 || rc == -ENOMEM) {
            return rc;
        }
        rc = explain_failure(store, &row, rc);
    } while (rc == -EAGAIN);
    return rc;
}

int block_store_verify(struct block_store *store, const struct block_key *key)
{
    struct index_row row;
    struct record record;
    int rc;

    do {
        rc = find_row(store, key, &row);
        if (rc == 0) {
            rc = block_get_verify_row(store, &row, &record);
            rc = rc < 0 ? explain_failure(store, &row, rc) : 0;
        }
    } while (rc == -EAGAIN);
    return rc;
}
