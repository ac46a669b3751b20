/* The registration of this mount with the metadata service: its number, the
 * ops it submits, the numbers it may give to inodes and objects.
 *
 * A thread of its own (the keeper) tells the shard that the session lives, asks
 * which inodes have lost their last name, answers which of them are open here,
 * and fetches inode numbers ahead of need. When the shard has forgotten the
 * session, a new one is opened: the mount goes on, but what other sessions
 * unlinked while this one was lost may be gone although it is open here.
 * Thread-safe. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "common/object_id.h"
#include "fusefs/meta_client.h"
#include "proto/metadata.pb-c.h"

struct session;

struct session_config {
    struct meta_client *meta; /* borrowed for the life of the session */
    const char *host;         /* for people; copied */
    /* The inode has no name any more: is it open here? If not, it must not be
     * opened again without asking the shard. Called by the keeper, often. */
    bool (*is_open)(void *context, uint64_t ino);
    void *context;       /* borrowed, for is_open */
    bool always_durable; /* treat every submit as durable */
};

/* Register the mount and start the keeper.
 * Errors: those of meta_client_submit(), -EAGAIN no thread; with the reason in
 * `msg` */
MUST_CHECK int session_open(const struct session_config *config,
                            struct session **ret_session,
                            struct errmsg *msg);

/* Take leave of the shard, end the keeper, free. No op may be running. Returns
 * what the leave-taking met: the shard expires the session anyway. NULL is
 * allowed. */
int session_close(struct session *session);

/* The current number. */
uint64_t session_number(struct session *session);

/* What came of an op. */
struct session_result {
    Gabion__SubmitReply *reply; /* owned; NULL after an error */
    const Gabion__OpResult *op; /* borrowed from reply; NULL after an error */
    uint64_t mark;              /* orders the op against session_sync(); set
                                   after an error, too: the op may have been
                                   applied nevertheless */
};

/* Submit one op to the shard of `ino`, applied exactly once. Fills in the op's
 * session, sequence, acked and (where it is 0) time. `ret_result` is always
 * set; the caller ends with session_result_clear(), which is harmless on
 * errors.
 *
 * Errors: those of meta_client_submit() and of the op; -EIO the session was
 * lost while the op was under way, which may have been applied or not. */
MUST_CHECK int session_submit(struct session *session,
                              uint64_t ino,
                              Gabion__Op *op,
                              bool durable,
                              struct session_result *ret_result);
void session_result_clear(struct session_result *result);

/* The attributes that the op's result has of the inode, or NULL. Borrowed. */
const Gabion__Attr *session_result_attr(const struct session_result *result,
                                        uint64_t ino);

/* A mark that stands for all ops answered so far. */
uint64_t session_mark(struct session *session);

/* Return once everything up to `mark` on the shard of `ino` is durable; at once
 * when it is known to be. Errors: those of meta_client_submit() */
MUST_CHECK int session_sync(struct session *session,
                            uint64_t ino,
                            uint64_t mark);

/* A number for a new inode. Errors: those of session_submit() when the numbers
 * at hand have run out. */
MUST_CHECK int session_new_ino(struct session *session, uint64_t *ret_ino);

/* An id for a new object. Never waits, never fails. */
void session_new_object(struct session *session, struct object_id *ret_id);
