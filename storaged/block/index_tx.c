#include "storaged/block/index_tx.h"

#include <errno.h>
#include <stdlib.h>

#include "common/log.h"
#include "storaged/block/block_state.h"

static void tx_release(struct index_tx *tx)
{
    for (size_t i = 0; i < tx->n_segments; i++) {
        tx->segments[i]->delta_live = 0;
        tx->segments[i]->delta_bytes = 0;
    }
    free(tx->segments);
    free(tx->pending);
    free(tx->dead);
}

void index_tx_abort(struct index_tx *tx)
{
    block_index_rollback(tx->store->index);
    tx_release(tx);
}

/* The order matters: a put leaves its row with the pending before it settles,
 * so all rows of settled places are among those taken after the snapshot; and
 * the list of segments, taken last, has the segments of all these rows. */
static int tx_load(struct index_tx *tx)
{
    struct block_store *store = tx->store;
    int rc;

    segment_set_snapshot(&store->set);
    rc = pending_rows(&store->pending, &tx->pending, &tx->n_pending);
    if (rc == 0) {
        rc = segment_set_list(&store->set, &tx->segments, &tx->n_segments);
    }
    return rc;
}

int index_tx_begin(struct block_store *store, struct index_tx *tx)
{
    int rc;

    *tx = (struct index_tx){ .store = store };
    rc = tx_load(tx);
    if (rc == 0) {
        rc = block_store_check_index(store, block_index_begin(store->index));
    }
    for (size_t i = 0; i < tx->n_pending && rc == 0; i++) {
        rc = index_tx_insert(tx, &tx->pending[i]);
    }
    if (rc < 0) {
        index_tx_abort(tx);
    }
    return rc;
}

struct segment *index_tx_segment(const struct index_tx *tx, uint64_t number)
{
    size_t low = 0;
    size_t high = tx->n_segments;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (tx->segments[middle]->number < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < tx->n_segments && tx->segments[low]->number == number
               ? tx->segments[low]
               : NULL;
}

static void count_row(const struct index_tx *tx,
                      const struct index_row *row,
                      int sign)
{
    struct segment *segment = index_tx_segment(tx, place_segment(row->place));

    if (segment != NULL) {
        segment->delta_live += sign;
        segment->delta_bytes += sign * (int64_t)row->length;
    }
}

/* A row has gone: count that, and remember to erase the place. */
static int kill_row(struct index_tx *tx, const struct index_row *row)
{
    if (tx->n_dead == tx->dead_capacity) {
        size_t capacity = tx->dead_capacity > 0 ? 2 * tx->dead_capacity : 64;
        struct index_row *grown =
            reallocarray(tx->dead, capacity, sizeof *grown);

        if (grown == NULL) {
            return -ENOMEM;
        }
        tx->dead = grown;
        tx->dead_capacity = capacity;
    }
    tx->dead[tx->n_dead++] = *row;
    count_row(tx, row, -1);
    return 0;
}

int index_tx_insert(struct index_tx *tx, const struct index_row *row)
{
    struct index_row old;
    int rc = block_store_check_index(
        tx->store, block_index_insert(tx->store->index, row, &old));

    if (rc == 0) {
        count_row(tx, row, 1);
    }
    if (rc == 0 && old.place != 0 && old.place != row->place) {
        rc = kill_row(tx, &old);
    }
    return rc;
}

int index_tx_remove_object(struct index_tx *tx,
                           const struct object_id *object,
                           uint64_t *ret_n_blocks)
{
    struct index_row *rows = NULL;
    size_t n = 0;
    int rc = block_store_check_index(
        tx->store,
        block_index_remove_object(tx->store->index, object, &rows, &n));

    for (size_t i = 0; i < n && rc == 0; i++) {
        rc = kill_row(tx, &rows[i]);
    }
    free(rows);
    *ret_n_blocks = n;
    return rc;
}

int index_tx_forget(struct index_tx *tx,
                    struct segment *segment,
                    uint32_t offset)
{
    struct block_index *index = tx->store->index;
    uint64_t from = place_make(segment, offset);
    uint64_t end = (segment->number + 1) << PLACE_BITS;
    uint64_t n = 0;
    uint64_t bytes = 0;
    int rc = block_index_count(index, from, end, &n, &bytes);

    if (rc == 0) {
        rc = block_index_remove_range(index, from, end);
    }
    segment->delta_live -= (int64_t)n;
    segment->delta_bytes -= (int64_t)bytes;
    return block_store_check_index(tx->store, rc);
}

/* Widen from..end-1, dead records that lie side by side, to whole pages as far
 * as the live records next to them allow, so that a page goes with the last
 * record that touched it. Beyond the first unsettled place nothing is known
 * about the neighbours. Returns false when a live record overlaps: the index is
 * not to be trusted then. */
static bool widen(const struct segment *segment,
                  const struct index_row *below,
                  const struct index_row *above,
                  uint32_t *from,
                  uint32_t *end)
{
    uint32_t low = 0;
    uint32_t high = segment->settled;
    uint32_t page_from = *from & ~(PAGE_LIMIT - 1);
    uint32_t page_end = (*end + PAGE_LIMIT - 1) & ~(PAGE_LIMIT - 1);

    if (place_segment(below->place) == segment->number) {
        low = place_offset(below->place) + record_size(below->length);
    }
    if (place_segment(above->place) == segment->number &&
        (place_offset(above->place) < high || *end > high)) {
        high = place_offset(above->place);
    } else if (*end > high) {
        high = *end;
    }
    if (low > *from || high < *end) {
        return false;
    }
    if (segment->unreadable) {
        return true;
    }
    if (*from <= segment->settled) {
        *from = page_from > low ? page_from : low;
    }
    if (*end <= segment->settled) {
        *end = page_end < high ? page_end : high;
    }
    return true;
}

/* Give up of what was added around from..end-1 what has records. Those are
 * tombstones, which no index knows: until the index is on stable storage they
 * are all that keeps a deletion from being undone. */
static void spare_tombstones(struct disk *disk,
                             const struct segment *segment,
                             uint32_t from,
                             uint32_t end,
                             uint32_t *wide_from,
                             uint32_t *wide_end)
{
    uint32_t at = *wide_from;
    struct record record;

    while (segment_find_record(disk, segment, at, from, &at, &record) == 0) {
        at += record_size(record.length);
        *wide_from = at < from ? at : from;
    }
    if (segment_find_record(disk, segment, end, *wide_end, &at, &record) == 0) {
        *wide_end = at;
    }
}

/* Erase `n` dead records that lie side by side. */
static int erase_run(struct index_tx *tx,
                     const struct index_row *rows,
                     size_t n)
{
    struct block_store *store = tx->store;
    uint32_t from = place_offset(rows[0].place);
    uint32_t end =
        place_offset(rows[n - 1].place) + record_size(rows[n - 1].length);
    uint32_t wide_from = from;
    uint32_t wide_end = end;
    struct index_row below;
    struct index_row above;
    struct segment *segment;
    int rc = block_store_check_index(
        store,
        block_index_neighbours(store->index, rows[0].place, &below, &above));

    if (rc < 0) {
        return rc;
    }
    rc = segment_set_use(&store->set, place_segment(rows[0].place), &segment);
    if (rc < 0) {
        return rc == -ENOENT ? 0 : rc;
    }
    if (widen(segment, &below, &above, &wide_from, &wide_end)) {
        spare_tombstones(store->disk, segment, from, end, &wide_from,
                         &wide_end);
        rc = segment_set_erase(&store->set, segment, wide_from, wide_end);
    } else {
        rc = block_store_check_index(store, -EBADMSG);
    }
    segment_set_release(&store->set, segment);
    return rc;
}

static int compare_places(const void *a, const void *b)
{
    uint64_t first = ((const struct index_row *)a)->place;
    uint64_t second = ((const struct index_row *)b)->place;

    return (first > second) - (first < second);
}

static bool is_next(const struct index_row *row, const struct index_row *next)
{
    return row->place + record_size(row->length) / RECORD_ALIGN == next->place;
}

static int erase_dead(struct index_tx *tx)
{
    struct index_row *rows = tx->dead;
    size_t start = 0;
    int rc = 0;

    if (tx->n_dead > 0) {
        qsort(rows, tx->n_dead, sizeof *rows, compare_places);
    }
    for (size_t i = 1; i <= tx->n_dead && rc == 0; i++) {
        if (i == tx->n_dead || !is_next(&rows[i - 1], &rows[i])) {
            rc = erase_run(tx, rows + start, i - start);
            start = i;
        }
    }
    if (rc == -EIO) {
        block_store_fail(tx->store, "erase", rc);
    }
    return rc;
}

/* The counts come from the index, which may be damaged. */
static uint64_t add_signed(uint64_t value, int64_t delta)
{
    if (delta < 0 && value < (uint64_t)-delta) {
        return 0;
    }
    return value + (uint64_t)delta;
}

static int write_segments(struct index_tx *tx)
{
    int rc = 0;

    for (size_t i = 0; i < tx->n_segments && rc == 0; i++) {
        const struct segment *s = tx->segments[i];
        struct index_segment row = {
            s->number, s->salt, s->stable > s->covered ? s->stable : s->covered,
            add_signed(s->n_live, s->delta_live),
            add_signed(s->live_bytes, s->delta_bytes)
        };

        if (s->delta_live != 0 || s->delta_bytes != 0 ||
            row.covered != s->covered) {
            rc = block_index_put_segment(tx->store->index, &row);
        }
    }
    return block_store_check_index(tx->store, rc);
}

int index_tx_commit(struct index_tx *tx)
{
    struct block_store *store = tx->store;
    int rc = erase_dead(tx);

    if (rc == 0) {
        rc = write_segments(tx);
    }
    if (rc == 0) {
        rc = block_store_check_index(store, block_index_commit(store->index));
    }
    if (rc < 0) {
        index_tx_abort(tx);
        return rc;
    }
    for (size_t i = 0; i < tx->n_segments; i++) {
        struct segment *s = tx->segments[i];

        s->n_live = add_signed(s->n_live, s->delta_live);
        s->live_bytes = add_signed(s->live_bytes, s->delta_bytes);
        if (s->stable > s->covered) {
            s->covered = s->stable;
        }
    }
    pending_forget(&store->pending, tx->pending, tx->n_pending);
    tx_release(tx);
    return 0;
}

int index_tx_flush(struct block_store *store)
{
    uint64_t n_dropped;
    struct index_tx tx;
    int rc;

    (void)pthread_mutex_lock(&store->index_lock);
    rc = index_tx_begin(store, &tx);
    if (rc == 0) {
        rc = index_tx_commit(&tx);
    }
    (void)pthread_mutex_unlock(&store->index_lock);
    if (rc < 0 && log_limit_pass(&store->flush_limit, 60000, &n_dropped) != 0) {
        log_warn("cannot write the block index, will try again error=%s",
                 err_text(rc));
    }
    return rc;
}
