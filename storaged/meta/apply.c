/* Dispatch, and exactly once.
 *
 * Results are kept by (session, sequence) until the session has acknowledged
 * them; up to its mark ops are refused, were they applied or given up. The mark
 * is kept with each result. Acknowledged results are deleted when it passes a
 * multiple of ACK_STEP: what decides about it is the mark alone, so that every
 * replica does it at the same op. */
#include "storaged/meta/apply.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "storaged/meta/apply_internal.h"

#define ACK_STEP 64u

bool apply_is_fatal(int rc)
{
    return rc == -EIO || rc == -ENOSPC || rc == -EBADMSG || rc == -ENOMEM;
}

static void result_free(Gabion__OpResult *result)
{
    if (result != NULL) {
        gabion__op_result__free_unpacked(result, NULL);
    }
}

void apply_results_free(struct apply_results *results)
{
    for (size_t i = 0; i < results->n; i++) {
        result_free(results->results[i]);
    }
    free(results->results);
    *results = (struct apply_results){ 0 };
}

int apply_add_attr(struct apply *apply, const struct meta_inode *inode)
{
    static const struct meta_inode gone = { .ino = 0 };
    Gabion__OpResult *result = apply->result;

    if (result->n_attr == apply->attr_capacity) {
        size_t capacity =
            apply->attr_capacity > 0 ? 2 * apply->attr_capacity : 4;
        Gabion__Attr **attrs =
            reallocarray(result->attr, capacity, sizeof(Gabion__Attr *));

        if (attrs == NULL) {
            return -ENOMEM;
        }
        result->attr = attrs;
        apply->attr_capacity = capacity;
    }
    result->attr[result->n_attr] =
        meta_inode_attr(inode != NULL ? inode : &gone);
    if (result->attr[result->n_attr] == NULL) {
        return -ENOMEM;
    }
    result->n_attr++;
    return 0;
}

int apply_get_directory(struct apply *apply,
                        uint64_t ino,
                        struct meta_inode *ret_inode)
{
    int rc = meta_inode_get(apply->db, ino, ret_inode);

    if (rc != 0) {
        return rc;
    }
    if (!meta_inode_is_directory(ret_inode)) {
        return -ENOTDIR;
    }
    return ret_inode->nlink > 0 ? 0 : -ENOENT;
}

/* Ops of mounts. */
static int dispatch(struct apply *apply)
{
    const Gabion__Op *op = apply->op;

    switch (op->body_case) {
    case GABION__OP__BODY_CREATE:
        return apply_create(apply, op->create);
    case GABION__OP__BODY_LINK:
        return apply_link(apply, op->link);
    case GABION__OP__BODY_UNLINK:
        return apply_unlink(apply, op->unlink);
    case GABION__OP__BODY_RENAME:
        return apply_rename(apply, op->rename);
    case GABION__OP__BODY_SET_ATTR:
        return apply_set_attr(apply, op->set_attr);
    case GABION__OP__BODY_SET_XATTR:
        return apply_set_xattr(apply, op->set_xattr);
    case GABION__OP__BODY_REMOVE_XATTR:
        return apply_remove_xattr(apply, op->remove_xattr);
    case GABION__OP__BODY_COMMIT_WRITES:
        return apply_commit_writes(apply, op->commit_writes);
    case GABION__OP__BODY_ALLOCATE:
        return apply_allocate(apply, op->allocate);
    case GABION__OP__BODY_CLONE:
        return apply_clone(apply, op->clone);
    case GABION__OP__BODY_OPEN_SESSION:
        return apply_open_session(apply, op->open_session);
    case GABION__OP__BODY_CLOSE_SESSION:
        return apply_close_session(apply);
    case GABION__OP__BODY_RESERVE_INODES:
        return apply_reserve_inodes(apply, op->reserve_inodes);
    default:
        return -EINVAL; /* also of a newer version: all replicas agree */
    }
}

/* Ops of the shard itself: repeating them does no harm, nothing is kept. */
static int dispatch_own(struct apply *apply)
{
    const Gabion__Op *op = apply->op;

    switch (op->body_case) {
    case GABION__OP__BODY_REAP_ORPHANS:
        return apply_reap_orphans(apply, op->reap_orphans);
    case GABION__OP__BODY_FORGET_OBJECTS:
        return apply_forget_objects(apply, op->forget_objects);
    default:
        return -ESTALE;
    }
}

/* Run a handler and settle its changes; a logical failure goes to the result.
 */
static int run_handler(struct apply *apply, int (*handler)(struct apply *apply))
{
    struct meta_db *db = apply->db;
    int64_t before = sqlite3_total_changes64(db->writer.handle);
    int rc = handler(apply);

    if (rc == 0) {
        return meta_object_settle(db);
    }
    meta_object_tally_reset(&db->tally);
    if (apply_is_fatal(rc)) {
        return rc;
    }
    assert(sqlite3_total_changes64(db->writer.handle) == before);
    assert(apply->result->n_attr == 0);
    (void)before;
    apply->result->error = -rc;
    return 0;
}

/* The kept result of the op. Errors: -ENOENT not applied yet */
static int get_kept(struct meta_db *db,
                    const struct meta_session *session,
                    uint64_t sequence,
                    Gabion__OpResult **ret_result)
{
    sqlite3_stmt *row = meta_db_statement(db, META_RESULT_GET);
    int rc;

    if (sequence > session->highest) {
        return -ENOENT;
    }
    meta_sql_bind(row, (int64_t[]){ (int64_t)session->id, (int64_t)sequence },
                  2);
    rc = meta_sql_row(row);
    if (rc != 0) {
        return rc;
    }
    *ret_result =
        gabion__op_result__unpack(NULL, (size_t)sqlite3_column_bytes(row, 0),
                                  sqlite3_column_blob(row, 0));
    (void)sqlite3_reset(row);
    return *ret_result != NULL ? 0 : -EBADMSG;
}

static int keep(struct meta_db *db,
                struct meta_session *session,
                uint64_t sequence,
                const Gabion__OpResult *result)
{
    sqlite3_stmt *insert = meta_db_statement(db, META_RESULT_INSERT);
    uint8_t space[1024];
    uint8_t *packed = space;
    size_t size = gabion__op_result__get_packed_size(result);
    int rc;

    if (size > sizeof space) {
        packed = malloc(size);
        if (packed == NULL) {
            return -ENOMEM;
        }
    }
    (void)gabion__op_result__pack(result, packed);
    meta_sql_bind(insert,
                  (int64_t[]){ (int64_t)session->id, (int64_t)sequence,
                               (int64_t)session->acked },
                  3);
    meta_sql_bind_bytes(insert, 4, packed, size);
    rc = meta_sql_run(insert);
    if (sequence > session->highest) {
        session->highest = sequence;
    }
    if (packed != space) {
        free(packed);
    }
    return rc;
}

/* The session has seen the results up to `acked`, or waits for them no more. */
static int acknowledge(struct meta_db *db,
                       struct meta_session *session,
                       uint64_t acked)
{
    sqlite3_stmt *trim = meta_db_statement(db, META_RESULT_TRIM);
    bool is_step = acked / ACK_STEP > session->acked / ACK_STEP;

    if (acked <= session->acked) {
        return 0;
    }
    session->acked = acked;
    if (!is_step) {
        return 0;
    }
    meta_sql_bind(trim, (int64_t[]){ (int64_t)session->id, (int64_t)acked }, 2);
    return meta_sql_run(trim);
}

static bool is_close_by_shard(const Gabion__Op *op)
{
    return op->body_case == GABION__OP__BODY_CLOSE_SESSION &&
           op->close_session->expired;
}

/* Apply an op of a session once. `apply->result` may be replaced. */
static int apply_once(struct apply *apply)
{
    struct meta_db *db = apply->db;
    const Gabion__Op *op = apply->op;
    struct meta_session *session = meta_db_session(db, op->session);
    Gabion__OpResult *kept;
    int rc;

    if (session == NULL && op->body_case != GABION__OP__BODY_OPEN_SESSION) {
        apply->result->error = ESTALE;
        return 0;
    }
    if (op->sequence == 0 || op->sequence > INT64_MAX) {
        apply->result->error = EINVAL;
        return 0;
    }
    if (session != NULL) {
        if (op->sequence <= session->acked) {
            apply->result->error = ESTALE;
            return 0;
        }
        rc = get_kept(db, session, op->sequence, &kept);
        if (rc == 0) {
            result_free(apply->result);
            apply->result = kept;
            return 0;
        }
        if (rc == -ENOENT) {
            rc = acknowledge(db, session,
                             op->acked < op->sequence ? op->acked : 0);
        }
        if (rc != 0) {
            return rc;
        }
    }
    rc = run_handler(apply, dispatch);
    session = meta_db_session(db, op->session);
    if (rc == 0 && session != NULL) { /* not closed, or opened at all */
        rc = keep(db, session, op->sequence, apply->result);
    }
    return rc;
}

static int apply_op(struct meta_db *db,
                    const Gabion__Op *op,
                    Gabion__OpResult **ret_result)
{
    struct apply apply = { .db = db, .op = op };
    int rc;

    apply.result = malloc(sizeof *apply.result);
    if (apply.result == NULL) {
        return -ENOMEM;
    }
    gabion__op_result__init(apply.result);
    if (op->session == 0) {
        rc = run_handler(&apply, dispatch_own);
    } else if (is_close_by_shard(op)) {
        rc = run_handler(&apply, dispatch);
    } else {
        rc = apply_once(&apply);
    }
    *ret_result = apply.result;
    return rc;
}

int apply_entry(struct meta_db *db,
                uint64_t index,
                const Gabion__Batch *batch,
                struct apply_results *ret_results)
{
    int rc = 0;

    assert(db->in_transaction);
    *ret_results = (struct apply_results){ 0 };
    if (index <= db->counters.applied) {
        return 0;
    }
    if (batch->n_op > 0) {
        ret_results->results = calloc(batch->n_op, sizeof(Gabion__OpResult *));
        if (ret_results->results == NULL) {
            return -ENOMEM;
        }
    }
    for (size_t i = 0; rc == 0 && i < batch->n_op; i++) {
        rc = apply_op(db, batch->op[i], &ret_results->results[i]);
        ret_results->n = i + 1;
    }
    if (rc != 0) {
        apply_results_free(ret_results);
        return rc;
    }
    db->counters.applied = index;
    return 0;
}
