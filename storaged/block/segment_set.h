/* All segments of a store: which there are, where the next record goes, what
 * has to be synced. Thread-safe, except where a function says otherwise.
 *
 * Records are appended to one segment, the active one. A writer reserves its
 * place under the lock, writes outside it, and settles. Until then the place
 * belongs to nobody else; below a segment's first unsettled place everything is
 * either a complete record or a hole. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "storaged/block/segment.h"

/* A place being written. The writer's memory. */
struct reservation {
    struct segment *segment;  /* counted by n_users */
    uint32_t offset;          /* bytes */
    uint32_t size;            /* bytes, a multiple of RECORD_ALIGN */
    struct reservation *prev; /* borrowed: older. Guard: the set's lock */
    struct reservation *next; /* borrowed: younger. Guard: the set's lock */
};

struct segment_set {
    pthread_mutex_t lock;      /* guards what follows and parts of segments;
                                  never held while reading or writing data */
    int dir_fd;                /* owned: segments/; never changes */
    struct disk *disk;         /* borrowed; never changes */
    uint32_t size_max;         /* bytes of a segment; never changes */
    struct segment **segments; /* owned, by number */
    size_t n_segments;
    size_t capacity;            /* of `segments` */
    struct segment *active;     /* borrowed; NULL: the next put makes one */
    struct reservation *oldest; /* borrowed: the writers', in order */
    struct reservation *newest; /* borrowed */
    unsigned n_open;            /* segments with an open file */
    unsigned n_open_max;        /* above it idle ones are closed */
    uint64_t tick;              /* counts uses */
    int64_t dirty_since_ms;     /* clock_mono_ms() of the oldest change that no
                                   sync has covered; 0: none */
    bool dir_dirty;             /* a segment was created or unlinked, or found,
                                   and nobody knows whether its name is synced
                                 */
};

/* Takes over `dir_fd`, also on failure. `size_max` is at most SEGMENT_SIZE_MAX
 * and has room for the greatest record. */
void segment_set_init(struct segment_set *set,
                      int dir_fd,
                      uint32_t size_max,
                      struct disk *disk);

/* Nobody may use the set any more. */
void segment_set_close(struct segment_set *set);

/* Add a segment found on the disk, in order of numbers, with `tail` bytes. For
 * start-up. The last one added becomes the active one if it has room.
 * Errors: -ENOMEM; -EEXIST there is one of that number. */
MUST_CHECK int segment_set_add(struct segment_set *set,
                               uint64_t number,
                               uint64_t salt,
                               uint32_t tail);

/* The segment of that number with its file open, until segment_set_release().
 * Errors: -ENOENT there is none, or its file has vanished; -EIO and others of
 * open(2). */
MUST_CHECK int segment_set_use(struct segment_set *set,
                               uint64_t number,
                               struct segment **ret_segment);
void segment_set_release(struct segment_set *set, struct segment *segment);

/* Reserve `size` bytes, a multiple of RECORD_ALIGN, at the end of the active
 * segment, or of a new one.
 * Errors: -ENOSPC, -ENOMEM; -EIO and others of open(2). */
MUST_CHECK int segment_set_reserve(struct segment_set *set,
                                   uint32_t size,
                                   struct reservation *ret_reservation);

/* Writing is over. If the record was not `stored` its place is taken back, so
 * that nothing of it is left. Returns how many bytes have been written that the
 * kernel was not yet asked to bring to the disk: see segment_set_write_out().
 */
uint32_t segment_set_settle(struct segment_set *set,
                            struct reservation *reservation,
                            bool stored);

/* Note in `settled`, `stable` and `quiet` of every segment how far it is. The
 * caller holds the index lock. */
void segment_set_snapshot(struct segment_set *set);

/* All segments by number; the caller frees the list. They stay as long as the
 * index lock is held. Errors: -ENOMEM */
MUST_CHECK int segment_set_list(struct segment_set *set,
                                struct segment ***ret_list,
                                size_t *ret_n);

/* Cut a segment that was added at start-up to `tail` bytes. Errors: those of
 * ftruncate(2). */
MUST_CHECK int segment_set_cut(struct segment_set *set,
                               struct segment *segment,
                               uint32_t tail);

/* All of a segment is on stable storage. For start-up. */
void segment_set_mark_synced(struct segment_set *set, struct segment *segment);

/* No more records go to the active segment. For start-up. */
void segment_set_seal(struct segment_set *set);

/* Parts of a segment could not be read: there may be records in them. For
 * start-up. */
void segment_set_mark_unreadable(struct segment_set *set,
                                 struct segment *segment);

/* Erase from..end-1 of a segment in use. Errors: those of segment_erase(). */
MUST_CHECK int segment_set_erase(struct segment_set *set,
                                 struct segment *segment,
                                 uint32_t from,
                                 uint32_t end);

/* Bring all that has been settled and erased so far to stable storage. One call
 * at a time. Errors: -ENOMEM nothing was done; -EIO, -ENOSPC ...: what was
 * written since the last success may be lost, and asking again would not tell.
 */
MUST_CHECK int segment_set_sync(struct segment_set *set);

/* If at least `size` bytes have been written to the active segment since the
 * last time, ask the kernel to start bringing them to the disk, so that no sync
 * finds a mountain. */
void segment_set_write_out(struct segment_set *set, uint32_t size);

/* Milliseconds since the oldest change that no sync has covered; 0: there is
 * none. */
int64_t segment_set_dirty_ms(struct segment_set *set);

/* Unlink a segment and forget it when its last user is gone. Not the active
 * one; the caller holds the index lock.
 * Errors: those of unlink(2): it stays. */
MUST_CHECK int segment_set_remove(struct segment_set *set,
                                  struct segment *segment);

/* Bytes that the segments take on the disk. */
uint64_t segment_set_allocated(struct segment_set *set);
