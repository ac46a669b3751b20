#include "common/buf.h"

#include <malloc.h>
#include <stdlib.h>

struct buf *buf_new(size_t size)
{
    struct buf *buf;

    if (size > SIZE_MAX - 63) {
        return NULL; /* would wrap when rounded up */
    }
    buf = calloc(1, sizeof *buf);
    if (buf == NULL) {
        return NULL;
    }
    buf->data = aligned_alloc(64, (size + 63) & ~(size_t)63);
    if (buf->data == NULL && size > 0) {
        free(buf);
        return NULL;
    }
    buf->size = size;
    buf->refs = 1;
    return buf;
}

struct buf *buf_ref(struct buf *buf)
{
    (void)__atomic_fetch_add(&buf->refs, 1, __ATOMIC_RELAXED);
    return buf;
}

void buf_unref(struct buf *buf)
{
    if (buf == NULL ||
        __atomic_sub_fetch(&buf->refs, 1, __ATOMIC_ACQ_REL) > 0) {
        return;
    }
    if (buf->on_free != NULL) {
        buf->on_free(buf, buf->context);
    }
    free(buf->data);
    free(buf);
}

void mem_tune(void)
{
    // NOLINTBEGIN(concurrency-mt-unsafe): there are no threads yet
    (void)mallopt(M_ARENA_MAX, 2);
    (void)mallopt(M_TRIM_THRESHOLD, 256 << 20);
    (void)mallopt(M_TOP_PAD, 16 << 20);
    (void)mallopt(M_MMAP_THRESHOLD, 32 << 20);
    // NOLINTEND(concurrency-mt-unsafe)
}
