/* What the file*.c modules share; nobody else includes it.
 *
 * A byte of a file is, newest first, in `active` (written lately), in
 * `flushing` (being committed right now), or in `layout` (committed). A flush
 * moves active to flushing, stores and commits it and lays it over the layout;
 * when that fails it goes back beneath active.
 *
 * Locks, in their order: a file's flush_lock (one flush, truncation, clone...
 * at a time), a file's lock (all else of it), the store's lock, then those of
 * the lower modules. Nobody who holds a flush_lock waits for another one: the
 * second is only tried. No RPC is made under a file's lock. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fusefs/extent_map.h"
#include "fusefs/file.h"
#include "fusefs/io_pool.h"
#include "fusefs/pending.h"
#include "fusefs/read_cache.h"
#include "fusefs/readahead.h"
#include "fusefs/stripe_log.h"
#include "fusefs/unsynced.h"
#include "fusefs/write_memory.h"

#define FILE_SIZE_MAX   ((uint64_t)INT64_MAX)
#define FILE_BUCKETS    4096u
#define FLUSH_FILES_MAX 256u

/* Pending extents of a file at which the background flushes it at once, and at
 * which its writers must. */
#define EXTENTS_MANY     8192u
#define EXTENTS_TOO_MANY 32768u

/* How far a flush goes. */
enum flush_how {
    FLUSH_COMMIT,  /* other mounts see the bytes */
    FLUSH_SYNC,    /* and the blocks are durable */
    FLUSH_DURABLE, /* and so is the commit */
};

struct file {
    struct file_store *store; /* borrowed */
    uint64_t ino;
    unsigned refs;             /* guarded by the store's lock */
    struct file *bucket_next;  /* guarded by the store's lock */
    struct file *dirty_next;   /* guarded by the store's lock */
    struct file *dirty_before; /* guarded by the store's lock */
    int64_t dirty_since_ms;    /* guarded by the store's lock; 0: flush soon */

    pthread_mutex_t flush_lock; /* see the head of this file */

    pthread_mutex_t lock;     /* guards all below */
    pthread_cond_t changed;   /* is_loading ended */
    struct pending active;    /* newest bytes */
    struct pending flushing;  /* on their way to the shard */
    struct stripe_log log;    /* where bytes of `active` are appended */
    struct extent_map layout; /* committed extents, when layout_valid */
    struct file_attr attr;    /* latest of the shard, when attr_known */
    uint64_t layout_version;  /* data version of layout */
    bool layout_valid;        /* layout is whole */
    bool attr_known;          /* attr says something */
    bool is_new;              /* in the making: see file_hold() */
    bool is_flushing;         /* `flushing` may be non-empty */
    bool is_loading;          /* somebody fetches the layout */
    bool is_dirty;            /* in the store's list, which holds a reference */
    int lost_error;           /* bytes were dropped: tell once; or 0 */
    int put_error;            /* atomic: bytes could not be stored so far: tell
                                 once; or 0 */
    struct readahead readahead;
};

struct file_store {
    struct file_store_config config;
    struct log_env env;
    struct log_outage outage;    /* for env */
    struct io_pool *pool;        /* owned */
    struct write_memory *memory; /* owned */
    struct read_cache *cache;    /* owned */
    struct unsynced *unsynced;   /* owned */
    uint64_t ahead_max;          /* bytes of read-ahead per stream */
    pthread_t writeback;         /* runs run_writeback() */
    pthread_mutex_t lock;        /* guards all below */
    pthread_cond_t wake;         /* writeback has something to do at once */
    bool stopping;               /* writeback ends */
    bool hurry;                  /* a file is to be flushed at once */
    struct file *dirty_first;    /* dirty for longest */
    struct file *dirty_last;     /* dirty since lately */
    struct file *buckets[FILE_BUCKETS];
};

/* file.c --------------------------------------------------------------------
 */

/* There is something to flush: put the file in the store's list of dirty ones,
 * where it stays, with a reference, until nothing is pending or being flushed.
 * The file's lock is held. */
void file_set_dirty_locked(struct file *file);

/* Count the dirty file's age from now on. The file's lock is held. */
void file_restart_age_locked(struct file *file);

/* Take the file out of the list of dirty ones; the list's reference is the
 * caller's when true is returned. The file's lock is held. */
bool file_take_dirty_locked(struct file *file);

/* Size as this mount's programs see it. attr must be known, or the answer is
 * what is pending. */
uint64_t file_size_locked(const struct file *file);

/* The error to tell now, or 0; it is told once. */
int file_take_error_locked(struct file *file);

/* The shard said this of the file, in answer to a change made by this mount. */
void file_set_attr_locked(struct file *file, const struct file_attr *attr);

/* file_layout.c -------------------------------------------------------------
 */

/* Have the layout; the file's lock is held, and dropped meanwhile. Errors: of
 * get_layout(); -EPROTO; -ENOMEM */
MUST_CHECK int file_load_layout_locked(struct file *file);

void file_drop_layout_locked(struct file *file);

/* What is at a place of a file. */
struct file_piece {
    uint64_t length;        /* bytes that are of this kind */
    struct source *source;  /* borrowed; NULL: `data`, or a hole */
    uint64_t source_offset; /* of the first byte */
    uint64_t run;           /* bytes in the whole extent of the source */
    const uint8_t *data;    /* bytes in memory; NULL: `source`, or a hole */
    bool is_unknown;        /* the layout must be loaded first */
};

/* Look up the byte at `offset` and those like it until `end`. */
void file_find_locked(const struct file *file,
                      uint64_t offset,
                      uint64_t end,
                      struct file_piece *ret_piece);

/* file_flush.c --------------------------------------------------------------
 */

/* Flush the files, whose flush_locks are held by nobody in this thread. Files
 * flushed together share objects and commits. Returns the first error; `note`:
 * each file's error is noted for its next caller, else it is only returned. */
MUST_CHECK int file_flush_many(struct file_store *store,
                               struct file **files,
                               size_t n,
                               enum flush_how how,
                               bool note);

/* Flush one file whose flush_lock is held. */
MUST_CHECK int file_flush_held(struct file *file, enum flush_how how);

/* file_store.c --------------------------------------------------------------
 */

/* Wait until write memory may be had, making some free by flushing if need be.
 * No lock is held. Errors: of the flush, when it freed nothing */
MUST_CHECK int file_store_wait_memory(struct file_store *store,
                                      uint64_t changes);

/* Let the background flush the file at once. */
void file_store_hurry(struct file_store *store, struct file *file);
