/* Checks of a shard's database on request (meta_check.h), in a thread of their
 * own, one at a time. Who wants one begins it and asks until it is done, so no
 * call waits for it; the last result is kept. */
#pragma once

#include <stdint.h>

#include "common/err.h"
#include "common/rpc_server.h"
#include "storaged/meta/meta_db.h"

struct checker;

/* `db` is borrowed. Errors: -ENOMEM */
MUST_CHECK int checker_new(struct meta_db *db,
                           uint64_t cluster,
                           struct checker **ret_checker);
void checker_free(struct checker *checker); /* NULL is allowed */

/* Start the thread. Errors: -EAGAIN */
MUST_CHECK int checker_start(struct checker *checker);

/* End the thread, and the check that is under way. */
void checker_stop(struct checker *checker);

/* "/gabion.Meta/CheckShard" */
struct rpc_method checker_method(struct checker *checker);
