/* One flush of one or several files together: only file_flush.c uses it.
 *
 * A batch goes through the same steps together: take the pending generation of
 * each file, pack those that have written little into one shared object, store,
 * sync if asked, commit all in one call, settle. Bytes that take the place of
 * committed ones are synced in any case: a loss of power may leave the old ones
 * or the new, not neither. Packing copies bytes: until
 * the commit the files keep their own, so a failed batch leaves nothing behind
 * that ties the files to each other. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "fusefs/file_impl.h"

/* One file of the batch. Zero it and set `file`. */
struct flush_item {
    struct file *file;   /* borrowed; its flush_lock is held */
    bool is_clean;       /* result: nothing is pending any more, and the caller
                            puts a reference of the file, once flush_lock is
                            released */
    bool is_taken;       /* the batch's own */
    size_t first_extent; /* the batch's own */
    size_t n_extents;    /* the batch's own */
    int rc;              /* result: 0; -ENOENT, -ESTALE: the file is gone, its
                            bytes have been dropped if it was alone, else they
                            are pending; other errors: they are pending */
};

/* Flush the files. Returns the first error of making blocks durable, which does
 * not keep their bytes from being committed; the other outcomes are in the
 * items. `*ret_durable`: something was committed durably, and with it all that
 * was committed before. */
MUST_CHECK int flush_batch_run(struct file_store *store,
                               struct flush_item *items,
                               size_t n,
                               enum flush_how how,
                               bool *ret_durable);
