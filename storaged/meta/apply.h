/* The state machine of a metadata shard: apply(db, batch) -> results.
 *
 * Deterministic: the same entries give the same database. Knows nothing of
 * networks, clocks or randomness: ops carry every choice. A logical failure
 * (ENOENT, EEXIST, ...) is a result; an error of SQLite is an error of
 * apply_entry(), and the replica must stop without committing. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "proto/metadata.pb-c.h"
#include "storaged/meta/meta_db.h"

/* Inode numbers: a zero bit, 10 bits of slot, 53 bits of sequence. */
#define META_SLOT_SHIFT 53
#define META_ROOT_INO   1u /* slot 0, sequence 1 */

/* Results of one entry, in the order of its ops. */
struct apply_results {
    Gabion__OpResult **results; /* owned: n of them */
    size_t n;
};

void apply_results_free(struct apply_results *results);

/* Apply the entry with this index inside a transaction of meta_db_begin(). An
 * entry at or below meta_db_applied() is skipped: no result is given (n = 0).
 * The batch has been validated for form (proto/validate.h); apply checks
 * meaning.
 *
 * An op whose (session, sequence) has been applied before is not applied again:
 * its kept result is returned. An op of a session that does not exist gets
 * ESTALE; one at or below the session's acked mark gets ESTALE too.
 *
 * Errors: -EIO, -ENOSPC, -EBADMSG, -ENOMEM of SQLite: stop the replica. */
MUST_CHECK int apply_entry(struct meta_db *db,
                           uint64_t index,
                           const Gabion__Batch *batch,
                           struct apply_results *ret_results);
