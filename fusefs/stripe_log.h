/* Objects in the making, and the log that appends a file's bytes to them.
 *
 * Bytes appended get a place (object, offset) at once and go to a stripe
 * buffer. A full stripe is queued to the I/O pool and stored while the writer
 * goes on; its bytes stay readable in memory until they are stored, and stay
 * in memory when they could not be.
 *
 *   FILLING ──full──────────▶ QUEUED ──▶ STORED   (memory given back)
 *      └─seal─▶ READY ─push──▶  ▲ └────▶ FAILED ──push again──▶ QUEUED
 *
 * The owner of a log (a file) serialises calls that append, overwrite and seal
 * with its own lock; the other functions are thread-safe. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/objio.h"
#include "fusefs/io_pool.h"
#include "fusefs/source.h"
#include "fusefs/write_memory.h"

struct file_meta;

/* The last stripe that no nodes could be found for. Its members are atomic and
 * may be of different failures: they only decide whether to try at all.
 * Zero-initialise. */
struct log_outage {
    int64_t failed_ms; /* when it failed, clock_mono_ms(); 0: a later stripe was
                          stored */
    int64_t lasted_ms; /* how long it was tried */
    int rc;            /* why */
};

/* What all logs of a mount share. */
struct log_env {
    struct objio *objio;         /* borrowed */
    struct file_meta *meta;      /* borrowed: gives object ids */
    struct io_pool *pool;        /* borrowed */
    struct write_memory *memory; /* borrowed */
    struct log_outage *outage;   /* borrowed */
    struct objio_policy policy;  /* of new objects */
    size_t stripe_length;        /* data bytes of a full stripe */
    size_t stripe_buf_size;      /* with parity */
    uint64_t object_size_max;    /* whole stripes */
};

struct log_object;

/* ---------------------------------------------------------------- objects */

/* Begin an object with an id of its own. `failed(context, rc)` is called from
 * an I/O thread when a stripe could not be stored; `context` must live as long
 * as stripes are on their way. The caller owns a reference of the object's
 * source. Errors: of new_object_id(), object_writer_new(); -ENOMEM */
MUST_CHECK int log_object_new(const struct log_env *env,
                              void (*failed)(void *context, int rc),
                              void *context,
                              struct log_object **ret_object);

struct source *log_object_source(struct log_object *object);
struct log_object *log_object_ref(struct log_object *object);
void log_object_unref(struct log_object *object);

/* Append bytes that may exceed the memory limit. `*ret_offset` is where they
 * begin. The object must have room. Errors: -ENOMEM */
MUST_CHECK int log_object_append(struct log_object *object,
                                 const uint8_t *data,
                                 size_t length,
                                 uint64_t *ret_offset);

uint64_t log_object_size(struct log_object *object);

/* No more appends. The short last stripe waits for a push. */
void log_object_seal(struct log_object *object);

/* Queue every stripe of the sealed object that is not stored nor on its way.
 * `help`: this thread stores one of them itself, which spares the way to
 * another thread and back when it is the only one. */
void log_object_push(struct log_object *object, bool help);

/* Wait until nothing of the object is on its way. Returns 0 when all that was
 * pushed is stored, else why a stripe is not. */
MUST_CHECK int log_object_wait(struct log_object *object);

/* Whether the sealed object is one short stripe that was never sent: its bytes,
 * which are then in `*ret_data`, may as well be stored elsewhere. */
bool log_object_is_short(struct log_object *object,
                         const uint8_t **ret_data,
                         size_t *ret_length);

/* A number for whoever flushes the object, guarded by what serialises that. */
void log_object_set_tag(struct log_object *object, uint32_t tag);
uint32_t log_object_tag(const struct log_object *object);

/* The shard knows the object now. */
void log_object_set_committed(struct log_object *object);

/* Make the object durable; doing it again costs nothing. All its stripes must
 * be stored. Errors as object_writer_sync(). */
MUST_CHECK int log_object_sync(struct log_object *object);
bool log_object_is_synced(struct log_object *object);

/* As a reader must know it now. False: the object is not committed, so do not
 * cache what is read from it. */
bool log_object_info(struct log_object *object, struct object_info *ret_info);

/* What of `length` bytes from `offset` lies in memory. `*ret_buf` is then a new
 * reference of the buffer that holds the first `*ret_length` bytes at
 * `*ret_data`; it is NULL when the first `*ret_length` bytes are to be read
 * from the nodes. Bytes of a stripe that is still filling may only be looked at
 * under the owner's lock. */
void log_object_look(struct log_object *object,
                     uint64_t offset,
                     size_t length,
                     struct buf **ret_buf,
                     const uint8_t **ret_data,
                     size_t *ret_length);

/* -------------------------------------------------------------------- log */

struct stripe_log {
    const struct log_env *env;             /* borrowed */
    void (*failed)(void *context, int rc); /* see log_object_new() */
    void *context;                         /* borrowed */
    struct log_object *current; /* counted: bytes are appended to it; may be
                                   NULL */
    struct log_object *next;    /* counted: comes when current is full; may be
                                   NULL */
};

/* Where appended bytes went. */
struct log_range {
    struct log_object *object; /* borrowed */
    uint64_t offset;
    size_t length;
};

/* Let appends of `length` bytes, at most object_size_max, succeed. `force`:
 * beyond the memory limit.
 * Errors: -EAGAIN no memory now; -ENOMEM; as log_object_new() */
MUST_CHECK int stripe_log_reserve(struct stripe_log *log,
                                  size_t length,
                                  bool force);

/* Append reserved bytes, as many as go to one object. */
void stripe_log_append(struct stripe_log *log,
                       const uint8_t *data,
                       size_t length,
                       struct log_range *ret_range);

/* Overwrite bytes in place when all of them still lie in the stripe being
 * filled. */
bool stripe_log_overwrite(struct stripe_log *log,
                          const struct source *source,
                          uint64_t offset,
                          const uint8_t *data,
                          size_t length);

/* Seal what is in the making; appends go to a new object. */
void stripe_log_seal(struct stripe_log *log);
