/* Sessions, inode numbers, and what the keepers of the shard clear away. */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "storaged/meta/apply_internal.h"

#define RESERVE_MAX 1048576u

/* Extents that one op frees; more are left to the next. */
#define REAP_EXTENTS_MAX 8192u

int apply_open_session(struct apply *apply, const Gabion__OpenSession *op)
{
    struct meta_db *db = apply->db;
    sqlite3_stmt *insert = meta_db_statement(db, META_SESSION_INSERT);
    uint64_t id = apply->op->session;
    int rc;

    if (id > INT64_MAX - 1) {
        return -EINVAL;
    }
    if (meta_db_session(db, id) != NULL) {
        return -EEXIST;
    }
    if (id < db->counters.next_session) {
        return -ESTALE;
    }
    meta_sql_bind(insert, (int64_t[]){ (int64_t)id, apply->op->now_ns }, 2);
    meta_sql_bind_bytes(insert, 3, op->host, strlen(op->host));
    rc = meta_sql_run(insert);
    if (rc != 0) {
        return rc;
    }
    if (meta_db_session_add(db, id) == NULL) {
        return -ENOMEM;
    }
    db->counters.next_session = id + 1;
    apply->result->ino = id;
    return 0;
}

int apply_close_session(struct apply *apply)
{
    struct meta_db *db = apply->db;
    struct meta_session *session = meta_db_session(db, apply->op->session);
    sqlite3_stmt *remove = meta_db_statement(db, META_SESSION_DELETE);
    sqlite3_stmt *trim = meta_db_statement(db, META_RESULT_TRIM);
    int rc;

    if (session == NULL) {
        return -ESTALE;
    }
    meta_sql_bind(remove, (int64_t[]){ (int64_t)session->id }, 1);
    rc = meta_sql_run(remove);
    if (rc == 0) {
        meta_sql_bind(trim, (int64_t[]){ (int64_t)session->id, INT64_MAX }, 2);
        rc = meta_sql_run(trim);
    }
    meta_db_session_remove(db, session);
    return rc;
}

int apply_reserve_inodes(struct apply *apply, const Gabion__ReserveInodes *op)
{
    struct meta_db *db = apply->db;
    uint64_t first = db->counters.next_sequence;

    if (op->count == 0 || op->count > RESERVE_MAX) {
        return -EINVAL;
    }
    if (op->count > META_SEQUENCE_MAX - first) {
        return -EOVERFLOW;
    }
    db->counters.next_sequence = first + op->count;
    apply->result->ino = (uint64_t)db->slot << META_SLOT_SHIFT | first;
    return 0;
}

static int run_with_number(struct meta_db *db,
                           enum meta_statement which,
                           uint64_t number)
{
    sqlite3_stmt *statement = meta_db_statement(db, which);

    meta_sql_bind(statement, (int64_t[]){ (int64_t)number }, 1);
    return meta_sql_run(statement);
}

int apply_free_inode(struct apply *apply,
                     struct meta_inode *inode,
                     uint64_t *budget,
                     bool *ret_done)
{
    struct meta_db *db = apply->db;
    uint64_t bytes = 0;
    int rc = 0;

    assert(inode->nlink == 0);
    if (inode->allocated > 0) {
        rc = meta_extent_drop_tail(db, inode->ino, budget, &bytes);
        inode->allocated -= bytes;
    }
    *ret_done = inode->allocated == 0;
    if (rc != 0 || !*ret_done) {
        return rc;
    }
    if (inode->n_xattrs > 0) {
        rc = run_with_number(db, META_XATTR_DELETE_ALL, inode->ino);
    }
    if (rc == 0 && S_ISLNK(inode->mode)) {
        rc = run_with_number(db, META_SYMLINK_DELETE, inode->ino);
    }
    if (rc == 0 && inode->orphan != 0) {
        rc = run_with_number(db, META_ORPHAN_DELETE, inode->orphan);
    }
    return rc != 0 ? rc : meta_inode_delete(db, inode->ino);
}

int apply_release(struct apply *apply, struct meta_inode *inode)
{
    struct meta_db *db = apply->db;
    sqlite3_stmt *insert = meta_db_statement(db, META_ORPHAN_INSERT);
    struct meta_inode freed = *inode; /* the answer shows what it had */
    uint64_t budget = REAP_EXTENTS_MAX;
    bool done = false;
    int rc = 0;

    assert(inode->nlink == 0 && inode->orphan == 0);
    if (!apply->op->held_open && db->n_sessions == 1) {
        rc = apply_free_inode(apply, &freed, &budget, &done);
    }
    if (rc != 0 || done) {
        return rc;
    }
    *inode = freed;
    inode->orphan = db->counters.next_orphan++;
    meta_sql_bind(
        insert, (int64_t[]){ (int64_t)inode->orphan, (int64_t)inode->ino }, 2);
    rc = meta_sql_run(insert);
    return rc != 0 ? rc : meta_inode_put(db, inode);
}

/* Inodes that are no orphans (any more) are passed over. */
int apply_reap_orphans(struct apply *apply, const Gabion__ReapOrphans *op)
{
    struct meta_db *db = apply->db;
    uint64_t budget = REAP_EXTENTS_MAX;

    for (size_t i = 0; budget > 0 && i < op->n_ino; i++) {
        struct meta_inode inode;
        bool done;
        int rc = meta_inode_get(db, op->ino[i], &inode);

        if (rc == -ENOENT || (rc == 0 && inode.orphan == 0)) {
            continue;
        }
        if (rc == 0) {
            rc = apply_free_inode(apply, &inode, &budget, &done);
        }
        if (rc == 0 && !done) {
            rc = meta_inode_put(db, &inode);
        }
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

int apply_forget_objects(struct apply *apply, const Gabion__ForgetObjects *op)
{
    for (size_t i = 0; i < op->n_id; i++) {
        struct object_id id;
        int rc;

        if (op->id[i].len != OBJECT_ID_SIZE) {
            continue;
        }
        object_id_decode(op->id[i].data, &id);
        rc = meta_object_forget(apply->db, &id);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}
