/* Liveness of the sessions of a shard: when each was last heard of, which
 * orphans it has looked at and which unlinked inodes it holds open.
 *
 * In memory only. The database says which sessions exist; after a restart each
 * of them is added anew, with a full period of grace, having seen nothing: it
 * tells the rest in its next heartbeat. Thread-safe; nothing blocks.
 *
 * Why an orphan that a session has seen and does not hold may be reaped: from
 * the moment a mount reports an orphan number it refuses to open that inode
 * again, even if its kernel still caches the name. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

struct sessions;

/* A session silent for `expiry_ms` expires. `mono_ms` is the clock, normally
 * clock_mono_ms(). Errors: -ENOMEM */
MUST_CHECK int sessions_new(int64_t expiry_ms,
                            int64_t (*mono_ms)(void),
                            struct sessions **ret_sessions);
void sessions_free(struct sessions *sessions); /* NULL is allowed */

/* The session lives from now on. Errors: -ENOMEM; -EEXIST it did already. */
MUST_CHECK int sessions_add(struct sessions *sessions, uint64_t id);

/* The session is closed. One that is not known is ignored. */
void sessions_remove(struct sessions *sessions, uint64_t id);

/* A sign of life. Errors: -ESTALE unknown or expired */
MUST_CHECK int sessions_touch(struct sessions *sessions, uint64_t id);

/* A sign of life with the state of the mount, which replaces the last one: the
 * highest orphan number it has looked at and the `n_held` unlinked inodes that
 * it has open (copied). Errors: -ESTALE unknown or expired; -ENOMEM */
MUST_CHECK int sessions_heartbeat(struct sessions *sessions,
                                  uint64_t id,
                                  uint64_t orphans_seen,
                                  const uint64_t *held,
                                  size_t n_held);

/* Nobody could be heard for a while: all living sessions count as heard of just
 * now. */
void sessions_pardon(struct sessions *sessions);

/* Mark the sessions whose time is over and list up to `max` of all so marked,
 * ascending; the answer is their number. A marked session is refused from then
 * on but still counts in the survey, until sessions_remove(). */
size_t sessions_expired(struct sessions *sessions,
                        uint64_t *ret_ids,
                        size_t max);

/* Milliseconds until the next session may expire, 0 when one is due; -1 when
 * there is no session. */
int64_t sessions_next_expiry_ms(struct sessions *sessions);

/* What all sessions together still need. */
struct sessions_survey {
    uint64_t seen_min; /* every session has seen the orphans up to this number;
                          UINT64_MAX without sessions */
    uint64_t *held;    /* owned, ascending: inodes that some session has open */
    size_t n_held;
};

/* Release with sessions_survey_clear(). Errors: -ENOMEM */
MUST_CHECK int sessions_survey_get(struct sessions *sessions,
                                   struct sessions_survey *ret_survey);
void sessions_survey_clear(struct sessions_survey *survey);

/* Whether nobody needs the orphan any more. */
bool sessions_survey_allows(const struct sessions_survey *survey,
                            uint64_t number,
                            uint64_t ino);
