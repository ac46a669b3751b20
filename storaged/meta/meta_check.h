/* Whether the database of a shard contradicts itself: the invariants that
 * meta_db_internal.h lists, and SQLite's own. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "storaged/meta/meta_db.h"

/* Findings that are told in words. */
#define META_FINDINGS_MAX 100u

struct meta_findings {
    char *texts[META_FINDINGS_MAX]; /* owned: a line each */
    size_t n_texts;
    uint64_t n; /* of all findings */
};

/* Check the database as it is at one moment, through a connection of its own;
 * everybody else goes on, but the WAL cannot be started over meanwhile. Takes a
 * time in the order of the database's size; `is_stopping` (called with
 * `context` now and then; may be NULL) ends it. Any thread. On success the
 * caller clears `*ret_findings`. Errors: -ECANCELED; -EIO, -ENOMEM, -EBADMSG
 * not even readable */
MUST_CHECK int meta_check(struct meta_db *db,
                          bool (*is_stopping)(void *context),
                          void *context,
                          struct meta_findings *ret_findings);
void meta_findings_clear(struct meta_findings *findings);
