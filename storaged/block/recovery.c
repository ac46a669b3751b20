#include "storaged/block/recovery.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "storaged/block/block_state.h"
#include "storaged/block/index_tx.h"

/* A segment file of the directory. */
struct found {
    uint64_t number;
    uint64_t salt;
    uint32_t size; /* bytes, cut to SEGMENT_SIZE_MAX */
};

struct recovery {
    struct block_store *store; /* borrowed */
    bool is_new;               /* the index is */
    struct index_tx tx;        /* all that is done, in one */
    struct object_id *deleted; /* owned: objects that tombstones name */
    size_t n_deleted;
    size_t deleted_capacity;
    uint64_t n_found;   /* blocks added to the index */
    uint64_t n_dropped; /* incomplete ones */
    uint64_t n_gaps;    /* places where a header should have been */
};

/* The disk as a scan reads it: counts what could not be read. */
struct watch {
    struct disk disk;  /* first */
    struct disk *real; /* borrowed: the store's */
    uint64_t n_failed;
};

/* The scan of one segment. */
struct scan {
    struct watch watch;
    struct recovery *recovery; /* borrowed */
    struct segment *segment;   /* borrowed, in use */
    uint32_t size;             /* of the file, bytes */
    uint32_t end;              /* of the last sound record */
    bool check_payload;        /* believe only what passes its checksums */
};

static int compare_found(const void *a, const void *b)
{
    uint64_t first = ((const struct found *)a)->number;
    uint64_t second = ((const struct found *)b)->number;

    return (first > second) - (first < second);
}

static int push_found(DIR *dir,
                      const char *name,
                      struct found **list,
                      size_t *n)
{
    struct found found;
    struct stat status;

    if (!segment_parse_name(name, &found.number, &found.salt)) {
        return 0;
    }
    if (fstatat(dirfd(dir), name, &status, 0) < 0) {
        return -errno;
    }
    found.size = status.st_size < (off_t)SEGMENT_SIZE_MAX
                     ? (uint32_t)status.st_size
                     : SEGMENT_SIZE_MAX;
    if ((*n & (*n - 1)) == 0) {
        struct found *grown =
            reallocarray(*list, *n > 0 ? 2 * *n : 1, sizeof *grown);

        if (grown == NULL) {
            return -ENOMEM;
        }
        *list = grown;
    }
    (*list)[(*n)++] = found;
    return 0;
}

/* All segment files by number. Frees nothing on failure: the caller does. */
static int read_directory(int dir_fd, struct found **list, size_t *n)
{
    const struct dirent *entry;
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    int rc = 0;

    if (dir == NULL) {
        rc = -errno;
        if (fd >= 0) {
            (void)close(fd);
        }
        return rc;
    }
    errno = 0;
    /* Each stream is read by one thread. */
    while (rc == 0 && (entry = readdir(dir)) != NULL) { /* NOLINT */
        rc = push_found(dir, entry->d_name, list, n);
        errno = 0;
    }
    if (rc == 0) {
        rc = -errno;
    }
    (void)closedir(dir);
    if (*n > 0) {
        qsort(*list, *n, sizeof **list, compare_found);
    }
    return rc;
}

int recovery_find_segments(struct block_store *store, struct errmsg *msg)
{
    struct found *list = NULL;
    size_t n = 0;
    int rc = read_directory(store->set.dir_fd, &list, &n);

    if (rc < 0) {
        errmsg_set(msg, "cannot read the directory of segments: %s",
                   err_text(rc));
    }
    for (size_t i = 0; i < n && rc == 0; i++) {
        rc = segment_set_add(&store->set, list[i].number, list[i].salt,
                             record_align(list[i].size));
        if (rc == -EEXIST) {
            errmsg_set(msg,
                       "two segments have the number %016" PRIx64
                       ": remove the one that does not belong here",
                       list[i].number);
            rc = -EBADMSG;
        }
    }
    free(list);
    return rc;
}

/* Take over what the index knows of a segment, or forget it if its file is gone
 * or another one. */
static int match_segment(struct recovery *recovery,
                         const struct index_segment *known)
{
    struct segment lost = { .number = known->number };
    struct segment *segment = index_tx_segment(&recovery->tx, known->number);
    int rc;

    if (segment != NULL && segment->salt == known->salt) {
        segment->covered = known->covered;
        segment->n_live = known->n_live;
        segment->live_bytes = known->live_bytes;
        return 0;
    }
    if (known->n_live > 0) {
        log_error("a segment is missing, its blocks are lost segment=%" PRIx64
                  " blocks=%" PRIu64,
                  known->number, known->n_live);
    }
    rc = index_tx_forget(&recovery->tx, &lost, 0);
    if (rc == 0) {
        rc = block_store_check_index(
            recovery->store,
            block_index_remove_segment(recovery->store->index, known->number));
    }
    return rc;
}

static int match_segments(struct recovery *recovery)
{
    struct index_segment *list = NULL;
    size_t n = 0;
    int rc = block_store_check_index(
        recovery->store,
        block_index_segments(recovery->store->index, &list, &n));

    for (size_t i = 0; i < n && rc == 0; i++) {
        rc = match_segment(recovery, &list[i]);
    }
    free(list);
    return rc;
}

static int push_deleted(struct recovery *recovery, const uint8_t *id)
{
    if (recovery->n_deleted == recovery->deleted_capacity) {
        size_t capacity =
            recovery->n_deleted > 0 ? 2 * recovery->n_deleted : 1024;
        struct object_id *grown =
            reallocarray(recovery->deleted, capacity, sizeof *grown);

        if (grown == NULL) {
            return -ENOMEM;
        }
        recovery->deleted = grown;
        recovery->deleted_capacity = capacity;
    }
    object_id_decode(id, &recovery->deleted[recovery->n_deleted++]);
    return 0;
}

static ssize_t watched_read(struct disk *disk,
                            int fd,
                            const struct iovec *iov,
                            int n_iov,
                            off_t offset,
                            int flags)
{
    struct watch *watch = (struct watch *)disk;
    ssize_t n = watch->real->read(watch->real, fd, iov, n_iov, offset, flags);

    watch->n_failed += n < 0;
    return n;
}

/* Remember what a tombstone names. Errors: -EBADMSG it is not sound; -ENOMEM */
static int read_tombstone(struct scan *scan,
                          uint32_t offset,
                          const struct record *record)
{
    uint8_t *ids = malloc(record->length);
    struct iovec iov = { ids, record->length };
    ssize_t n;
    int rc = 0;

    if (ids == NULL) {
        return -ENOMEM;
    }
    n = segment_read(&scan->watch.disk, scan->segment,
                     offset + record_header_size(record->length), &iov, 1, 0);
    if (n >= 0 &&
        (n != (ssize_t)record->length ||
         checksum_verify(ids, record->length, record->checksums) >= 0)) {
        rc = -EBADMSG;
    }
    for (uint32_t at = 0; at + OBJECT_ID_SIZE <= n && rc == 0;
         at += OBJECT_ID_SIZE) {
        rc = push_deleted(scan->recovery, ids + at);
    }
    free(ids);
    return rc;
}

/* Whether a record is all there. One that cannot be read may be. */
static int check_record(struct scan *scan,
                        uint32_t offset,
                        const struct record *record)
{
    uint32_t size = record_header_size(record->length) + record->length;

    if (size > scan->size - offset) {
        return -EBADMSG;
    }
    return scan->check_payload &&
                   segment_verify(&scan->watch.disk, scan->segment, offset,
                                  record) == -EBADMSG
               ? -EBADMSG
               : 0;
}

/* Take in a record. Errors: -EBADMSG it is not sound; -EIO the index failed;
 * -ENOSPC, -ENOMEM */
static int take_record(struct scan *scan,
                       uint32_t offset,
                       const struct record *record)
{
    struct index_row row = { record->key, place_make(scan->segment, offset),
                             record->length };
    int rc = check_record(scan, offset, record);

    if (rc < 0) {
        return rc;
    }
    if (record->type == RECORD_TOMBSTONE) {
        return read_tombstone(scan, offset, record);
    }
    rc = index_tx_insert(&scan->recovery->tx, &row);
    scan->recovery->n_found += rc == 0;
    return rc;
}

/* What the last process was writing when it ended goes, so that it cannot come
 * back by a scan that does not look at payloads. */
static int drop_record(struct scan *scan, uint32_t offset, uint32_t end)
{
    struct block_store *store = scan->recovery->store;

    scan->recovery->n_dropped++;
    log_warn("dropping an incomplete block segment=%" PRIx64 " offset=%u",
             scan->segment->number, offset);
    return segment_set_erase(&store->set, scan->segment, offset, end);
}

/* Whether something other than a hole lies at a place. */
static bool has_bytes(struct scan *scan, uint32_t offset)
{
    uint8_t bytes[RECORD_ALIGN] = { 0 };
    struct iovec iov = { bytes, sizeof bytes };

    if (segment_read(&scan->watch.disk, scan->segment, offset, &iov, 1, 0) <
        0) {
        return true;
    }
    for (size_t i = 0; i < sizeof bytes; i++) {
        if (bytes[i] != 0) {
            return true;
        }
    }
    return false;
}

static int scan_records(struct scan *scan, uint32_t from)
{
    struct record record;
    uint32_t offset;
    int rc = 0;

    while (rc == 0 &&
           segment_find_record(&scan->watch.disk, scan->segment, from,
                               scan->size, &offset, &record) == 0) {
        uint32_t end = offset + record_size(record.length);

        if (offset != from && has_bytes(scan, from)) {
            scan->recovery->n_gaps++;
        }
        rc = take_record(scan, offset, &record);
        if (rc == 0) {
            scan->end = end;
        } else if (rc == -EBADMSG) {
            rc = drop_record(scan, offset, end);
        }
        from = end;
    }
    return rc;
}

/* Behind the last sound record of the last segment there may be a part of
 * another one. */
static int cut_tail(struct scan *scan)
{
    struct block_store *store = scan->recovery->store;

    if (scan->end < scan->size && has_bytes(scan, scan->end)) {
        log_warn("dropping an incomplete record at the end segment=%" PRIx64
                 " offset=%u bytes=%u",
                 scan->segment->number, scan->end, scan->size - scan->end);
    }
    return segment_set_cut(&store->set, scan->segment, scan->end);
}

/* What cannot be read now may be read at the next start: keep it all. */
static void keep_unreadable(struct scan *scan)
{
    log_error("parts of a segment cannot be read, the next start tries again: "
              "check the disk segment=%" PRIx64 " failed_reads=%" PRIu64,
              scan->segment->number, scan->watch.n_failed);
    segment_set_mark_unreadable(&scan->recovery->store->set, scan->segment);
}

/* After a sync that failed the kernel may keep pages as clean that the disk has
 * never seen. A scan must not believe them, so let it read from the disk.
 * Whether this sync succeeds does not matter: what it cannot write is not
 * found. */
static void drop_cached(const struct scan *scan)
{
    const struct segment *segment = scan->segment;
    off_t from = (off_t)(segment->covered & ~(PAGE_LIMIT - 1));

    (void)scan->watch.real->sync(scan->watch.real, segment->fd);
    (void)posix_fadvise(segment->fd, from, 0, POSIX_FADV_DONTNEED);
}

static int scan_segment(struct scan *scan, bool is_last)
{
    struct block_store *store = scan->recovery->store;
    struct segment *segment = scan->segment;
    int rc = index_tx_forget(&scan->recovery->tx, segment, segment->covered);

    scan->end = segment->covered;
    drop_cached(scan);
    if (rc == 0) {
        rc = scan_records(scan, segment->covered);
    }
    if (rc == 0 && scan->watch.n_failed > 0) {
        keep_unreadable(scan);
    } else if (rc == 0 && is_last) {
        rc = cut_tail(scan);
    }
    if (rc == 0) {
        rc = store->disk->sync(store->disk, segment->fd);
    }
    return rc;
}

static int recover_segment(struct recovery *recovery,
                           struct segment *segment,
                           bool is_last)
{
    struct block_store *store = recovery->store;
    struct scan scan = { .watch = { *store->disk, store->disk, 0 },
                         .recovery = recovery };
    struct stat status;
    int rc;

    if (segment->covered >= segment->tail) {
        segment_set_mark_synced(&store->set, segment);
        if (segment->covered == segment->tail) {
            return 0;
        }
        log_error("a segment has been cut off, blocks are lost segment=%" PRIx64
                  " bytes=%u expected=%u",
                  segment->number, segment->tail, segment->covered);
        segment->covered = segment->tail;
        segment_set_seal(&store->set);
        return 0;
    }
    rc = segment_set_use(&store->set, segment->number, &scan.segment);
    if (rc < 0) {
        return rc;
    }
    if (fstat(segment->fd, &status) < 0) {
        rc = -errno;
    } else {
        scan.size = status.st_size < (off_t)segment->tail
                        ? (uint32_t)status.st_size
                        : segment->tail;
        scan.watch.disk.read = watched_read;
        scan.check_payload = is_last || !recovery->is_new;
        rc = scan_segment(&scan, is_last);
    }
    if (rc == 0) {
        segment_set_mark_synced(&store->set, segment);
    }
    segment_set_release(&store->set, segment);
    return rc;
}

static int recover_all(struct recovery *recovery)
{
    struct index_tx *tx = &recovery->tx;
    int rc;

    for (size_t i = 0; i < tx->n_segments; i++) {
        tx->segments[i]->covered = 0;
        tx->segments[i]->n_live = 0;
        tx->segments[i]->live_bytes = 0;
    }
    rc = match_segments(recovery);
    for (size_t i = 0; i < tx->n_segments && rc == 0; i++) {
        rc =
            recover_segment(recovery, tx->segments[i], i + 1 == tx->n_segments);
    }
    for (size_t i = 0; i < recovery->n_deleted && rc == 0; i++) {
        uint64_t n_blocks;

        rc = index_tx_remove_object(tx, &recovery->deleted[i], &n_blocks);
    }
    segment_set_snapshot(&recovery->store->set);
    return rc;
}

int recovery_run(struct block_store *store, bool is_new, struct errmsg *msg)
{
    struct recovery recovery = { .store = store, .is_new = is_new };
    int rc;

    (void)pthread_mutex_lock(&store->index_lock);
    rc = index_tx_begin(store, &recovery.tx);
    if (rc == 0) {
        rc = recover_all(&recovery);
        if (rc < 0) {
            index_tx_abort(&recovery.tx);
        } else {
            rc = index_tx_commit(&recovery.tx);
        }
    }
    (void)pthread_mutex_unlock(&store->index_lock);
    free(recovery.deleted);
    if (rc < 0) {
        errmsg_set(msg, "cannot bring the block index up to date: %s",
                   err_text(rc));
    } else if (recovery.n_found + recovery.n_dropped + recovery.n_gaps > 0) {
        log_info("block store recovered found=%" PRIu64 " dropped=%" PRIu64
                 " damaged=%" PRIu64 " deleted_objects=%zu",
                 recovery.n_found, recovery.n_dropped, recovery.n_gaps,
                 recovery.n_deleted);
    }
    return rc;
}
