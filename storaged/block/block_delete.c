#include "storaged/block/block_delete.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "common/log.h"
#include "storaged/block/block_state.h"
#include "storaged/block/index_tx.h"

/* Say in the log that the objects are deleted. */
static int append_tombstone(struct block_store *store,
                            const struct object_id *objects,
                            size_t n_objects)
{
    uint32_t length = (uint32_t)(n_objects * OBJECT_ID_SIZE);
    struct record record = { .type = RECORD_TOMBSTONE, .length = length };
    struct reservation reservation;
    uint8_t *ids = malloc(length);
    struct iovec iov = { ids, length };
    const struct block_payload payload = { &iov, 1, length, record.checksums };
    int rc = -ENOMEM;

    if (ids != NULL) {
        for (size_t i = 0; i < n_objects; i++) {
            object_id_encode(&objects[i], ids + i * OBJECT_ID_SIZE);
        }
        checksum_compute(ids, length, record.checksums);
        rc = block_store_append(store, &record, &payload, &reservation);
    }
    if (rc == 0) {
        (void)segment_set_settle(&store->set, &reservation, true);
    }
    free(ids);
    return rc;
}

static int remove_rows_locked(struct block_store *store,
                              const struct object_id *objects,
                              size_t n_objects,
                              uint64_t *ret_n_blocks)
{
    uint64_t n_blocks = 0;
    struct index_tx tx;
    int rc = index_tx_begin(store, &tx);

    if (rc < 0) {
        return rc;
    }
    for (size_t i = 0; i < n_objects && rc == 0; i++) {
        uint64_t n;

        rc = index_tx_remove_object(&tx, &objects[i], &n);
        n_blocks += n;
    }
    if (rc < 0) {
        index_tx_abort(&tx);
        return rc;
    }
    rc = index_tx_commit(&tx);
    if (rc == 0) {
        *ret_n_blocks = n_blocks;
    }
    return rc;
}

/* Append the tombstone and remove the rows. No other transaction comes between:
 * it could tell the index to cover the tombstone before what that says is done,
 * and a start after a crash would not look at it. `*ret_is_full`: there was no
 * room for the tombstone. */
static int delete_locked(struct block_store *store,
                         const struct object_id *objects,
                         size_t n_objects,
                         bool *ret_is_full,
                         uint64_t *ret_n_blocks)
{
    int rc = append_tombstone(store, objects, n_objects);

    *ret_is_full = rc == -ENOSPC;
    return rc == 0 || *ret_is_full
               ? remove_rows_locked(store, objects, n_objects, ret_n_blocks)
               : rc;
}

/* Without room for a tombstone the blocks go first: their space makes room. If
 * there is none even then, erased headers and the index must do. */
int block_store_delete_objects(struct block_store *store,
                               const struct object_id *objects,
                               size_t n_objects,
                               uint64_t *ret_n_blocks)
{
    bool is_full;
    int rc;

    *ret_n_blocks = 0;
    if (n_objects > BLOCK_STORE_DELETE_MAX) {
        return -EINVAL;
    }
    if (n_objects == 0) {
        return 0;
    }
    if (block_store_has_failed(store)) {
        return -EIO;
    }
    (void)pthread_mutex_lock(&store->index_lock);
    rc = delete_locked(store, objects, n_objects, &is_full, ret_n_blocks);
    (void)pthread_mutex_unlock(&store->index_lock);
    if (rc == 0 && is_full) {
        rc = append_tombstone(store, objects, n_objects);
        rc = rc == -ENOSPC ? 0 : rc;
    }
    return rc < 0 ? rc : block_delete_empty_segments(store);
}

/* Whether a segment is empty by what the last transaction has seen. */
static bool has_empty_locked(struct block_store *store, int *ret_rc)
{
    struct segment **segments;
    size_t n = 0;
    bool found = false;

    segment_set_snapshot(&store->set);
    *ret_rc = segment_set_list(&store->set, &segments, &n);
    if (*ret_rc < 0) {
        return false;
    }
    for (size_t i = 0; i < n && !found; i++) {
        found = segments[i]->quiet && segments[i]->n_live == 0;
    }
    free(segments);
    return found;
}

/* Forget in the index, then unlink, what is empty and wholly covered. */
static int remove_empty_locked(struct block_store *store)
{
    struct index_tx tx;
    struct segment **empty;
    size_t n_empty = 0;
    int rc = index_tx_begin(store, &tx);

    if (rc < 0) {
        return rc;
    }
    empty = calloc(tx.n_segments + 1, sizeof(struct segment *));
    rc = empty != NULL ? 0 : -ENOMEM;
    for (size_t i = 0; i < tx.n_segments && rc == 0; i++) {
        struct segment *segment = tx.segments[i];

        if (segment->quiet && segment->n_live == 0 &&
            segment->delta_live == 0 && segment->covered == segment->settled) {
            empty[n_empty++] = segment;
            rc = block_store_check_index(
                store,
                block_index_remove_segment(store->index, segment->number));
        }
    }
    if (rc < 0) {
        index_tx_abort(&tx);
    } else {
        rc = index_tx_commit(&tx);
    }
    for (size_t i = 0; i < n_empty && rc == 0; i++) {
        log_debug("removing an empty segment segment=%" PRIx64,
                  empty[i]->number);
        rc = segment_set_remove(&store->set, empty[i]);
    }
    free(empty);
    return rc;
}

int block_delete_empty_segments(struct block_store *store)
{
    bool found;
    int rc;

    (void)pthread_mutex_lock(&store->index_lock);
    found = has_empty_locked(store, &rc);
    (void)pthread_mutex_unlock(&store->index_lock);
    if (!found) {
        return rc;
    }
    rc = block_store_sync(store);
    if (rc == 0) {
        rc = index_tx_flush(store);
    }
    if (rc < 0) {
        return rc;
    }
    (void)pthread_mutex_lock(&store->index_lock);
    rc = block_store_check_index(store, block_index_sync(store->index));
    if (rc == 0) {
        rc = remove_empty_locked(store);
    }
    (void)pthread_mutex_unlock(&store->index_lock);
    return rc == -EAGAIN ? 0 : rc;
}
