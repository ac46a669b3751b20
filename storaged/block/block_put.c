#include <errno.h>
#include <string.h>

#include "storaged/block/block_get.h"
#include "storaged/block/block_state.h"

/* Checksum of the unit that starts at `skip` in part `*at` of the iov; both go
 * on to the next unit. A unit that is torn between parts is put together
 * first. */
static uint32_t unit_checksum(const struct block_payload *payload,
                              size_t *at,
                              size_t *skip,
                              size_t size)
{
    uint8_t whole[CHECKSUM_UNIT];
    size_t done = 0;

    while (payload->iov[*at].iov_len == *skip) {
        ++*at;
        *skip = 0;
    }
    if (payload->iov[*at].iov_len - *skip >= size) {
        const uint8_t *bytes =
            (const uint8_t *)payload->iov[*at].iov_base + *skip;

        *skip += size;
        return checksum_crc32c(bytes, size);
    }
    while (done < size) {
        size_t left = payload->iov[*at].iov_len - *skip;
        size_t step = left < size - done ? left : size - done;

        memcpy(whole + done,
               (const uint8_t *)payload->iov[*at].iov_base + *skip, step);
        done += step;
        *skip += step;
        if (*skip == payload->iov[*at].iov_len && done < size) {
            ++*at;
            *skip = 0;
        }
    }
    return checksum_crc32c(whole, size);
}

static int check_payload(const struct block_payload *payload)
{
    size_t size = 0;
    size_t at = 0;
    size_t skip = 0;

    for (size_t i = 0; i < payload->n_iov; i++) {
        size += payload->iov[i].iov_len;
    }
    if (size != payload->length || size == 0 || size > RECORD_PAYLOAD_MAX) {
        return -EINVAL;
    }
    for (size_t i = 0; size > 0; i++) {
        size_t unit = size < CHECKSUM_UNIT ? size : CHECKSUM_UNIT;

        if (unit_checksum(payload, &at, &skip, unit) != payload->checksums[i]) {
            return -EBADMSG;
        }
        size -= unit;
    }
    return 0;
}

int block_store_append(struct block_store *store,
                       const struct record *record,
                       const struct block_payload *payload,
                       struct reservation *ret_reservation)
{
    int rc = segment_set_reserve(&store->set, record_size(record->length),
                                 ret_reservation);

    if (rc == 0) {
        rc = segment_write(store->disk, ret_reservation->segment,
                           ret_reservation->offset, record, payload);
        if (rc < 0) {
            (void)segment_set_settle(&store->set, ret_reservation, false);
        }
    }
    switch (rc) {
    case 0:
    case -ENOSPC:
    case -ENOMEM:
        return rc;
    case -EDQUOT:
        return -ENOSPC;
    case -EMFILE:
    case -ENFILE:
        return -EIO;
    default:
        block_store_fail(store, "write", rc);
        return -EIO;
    }
}

/* Whether the block to be put is there already. Errors: -ENOENT no, or it is
 * damaged; -EEXIST with other bytes; -EIO, -ENOMEM */
static int compare_stored(struct block_store *store,
                          const struct index_row *row,
                          const struct block_payload *payload)
{
    struct record record;
    int rc = block_get_verify_row(store, row, &record);

    if (rc == 0) {
        return record.length == payload->length &&
                       memcmp(record.checksums, payload->checksums,
                              checksum_units(record.length) *
                                  sizeof *payload->checksums) == 0
                   ? 0
                   : -EEXIST;
    }
    if (rc == -ENOMEM) {
        return rc;
    }
    block_get_report(store, row, rc);
    return -ENOENT;
}

/* Store a block whose key is claimed. `row` is what pending knows of it. On
 * success `*ret_reservation` is to be settled, unless its segment is NULL: the
 * block was there. */
static int put_claimed(struct block_store *store,
                       const struct block_payload *payload,
                       struct index_row *row,
                       struct reservation *ret_reservation)
{
    struct record record = { .type = RECORD_BLOCK,
                             .key = row->key,
                             .length = payload->length };
    struct block_key key = row->key;
    int rc = 0;

    if (row->place == 0) {
        rc = block_store_check_index(
            store, block_index_lookup(store->index, &key, row));
    }
    if (rc == 0) {
        rc = compare_stored(store, row, payload);
    }
    if (rc != -ENOENT) {
        return rc;
    }
    rc = space_take(&store->space, record_size(payload->length));
    if (rc < 0) {
        return rc;
    }
    memcpy(record.checksums, payload->checksums,
           checksum_units(payload->length) * sizeof *payload->checksums);
    rc = block_store_append(store, &record, payload, ret_reservation);
    if (rc == 0) {
        *row = (struct index_row){
            key, place_make(ret_reservation->segment, ret_reservation->offset),
            payload->length
        };
    }
    return rc;
}

int block_store_put(struct block_store *store,
                    const struct block_key *key,
                    const struct block_payload *payload)
{
    struct reservation reservation = { .segment = NULL };
    struct index_row row;
    bool is_new;
    size_t n_rows;
    int rc = check_payload(payload);

    if (rc < 0) {
        return rc;
    }
    if (block_store_has_failed(store)) {
        return -EIO;
    }
    rc = pending_claim(&store->pending, key, &row);
    if (rc < 0) {
        return rc;
    }
    rc = put_claimed(store, payload, &row, &reservation);
    is_new = rc == 0 && reservation.segment != NULL;
    n_rows = pending_release(&store->pending, key, is_new ? &row : NULL);
    if (is_new) {
        uint32_t backlog = segment_set_settle(&store->set, &reservation, true);

        row_cache_put(&store->rows, &row);
        index_keeper_note(&store->keeper, n_rows, backlog);
    }
    return rc;
}
