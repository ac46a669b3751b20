/* Reference-counted byte buffers, shared between threads and with gRPC.
 *
 * The counting is atomic; the bytes are not guarded: whoever shares a buffer
 * agrees not to write to it any more. Big buffers are recycled through malloc
 * as main() has tuned it (see mem_tune()). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

struct buf {
    uint8_t *data; /* owned, aligned to 64 bytes; not zeroed */
    size_t size;   /* bytes at data */
    /* Called by the last buf_unref() before the memory goes; may be NULL. Runs
     * on any thread, gRPC's included: it must be short and not block. */
    void (*on_free)(struct buf *buf, void *context);
    void *context; /* borrowed by on_free */
    int refs;      /* atomic; use buf_ref() and buf_unref() */
};

/* A new buffer with one reference. NULL when out of memory. */
MUST_CHECK struct buf *buf_new(size_t size);

struct buf *buf_ref(struct buf *buf);

/* Drop a reference; NULL is allowed. */
void buf_unref(struct buf *buf);

/* Tune malloc for large messages: keep freed memory, two arenas. Call first
 * thing in main(), before any thread: glibc's defaults cost ten times the CPU
 * on bulk data. */
void mem_tune(void);
