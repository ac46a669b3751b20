#include "storaged/meta/meta_object.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "storaged/meta/meta_db_internal.h"

#define TALLY_CAPACITY_MIN  64u
#define TALLY_CAPACITY_KEPT 4096u

void meta_object_tally_close(struct meta_object_tally *tally)
{
    free(tally->changes);
    free(tally->buckets);
    *tally = (struct meta_object_tally){ 0 };
}

void meta_object_tally_reset(struct meta_object_tally *tally)
{
    if (tally->capacity > TALLY_CAPACITY_KEPT) {
        meta_object_tally_close(tally);
        return;
    }
    for (size_t i = 0; tally->n > 0 && i < tally->n_buckets; i++) {
        tally->buckets[i] = 0;
    }
    tally->n = 0;
}

/* The bucket that holds the object, or the empty one where it belongs. */
static size_t find_bucket(const struct meta_object_tally *tally,
                          const struct object_id *id)
{
    uint64_t hash = (id->session * 0x9e3779b97f4a7c15u) ^ id->serial;
    size_t mask = tally->n_buckets - 1;
    size_t bucket;

    hash *= 0xff51afd7ed558ccdu;
    bucket = (size_t)(hash >> 32) & mask;
    while (tally->buckets[bucket] != 0) {
        const struct meta_object_change *change =
            &tally->changes[tally->buckets[bucket] - 1];

        if (change->id.serial == id->serial &&
            change->id.session == id->session) {
            break;
        }
        bucket = (bucket + 1) & mask;
    }
    return bucket;
}

static int tally_grow(struct meta_object_tally *tally)
{
    size_t capacity =
        tally->capacity > 0 ? 2 * tally->capacity : TALLY_CAPACITY_MIN;
    struct meta_object_change *changes;
    uint32_t *buckets;

    changes = reallocarray(tally->changes, capacity, sizeof *changes);
    if (changes == NULL) {
        return -ENOMEM;
    }
    tally->changes = changes;
    buckets = calloc(2 * capacity, sizeof *buckets);
    if (buckets == NULL) {
        return -ENOMEM;
    }
    free(tally->buckets);
    tally->buckets = buckets;
    tally->n_buckets = 2 * capacity;
    tally->capacity = capacity;
    for (size_t i = 0; i < tally->n; i++) {
        buckets[find_bucket(tally, &changes[i].id)] = (uint32_t)i + 1;
    }
    return 0;
}

int meta_object_tally_find(struct meta_object_tally *tally,
                           const struct object_id *id,
                           size_t *ret_index)
{
    size_t bucket;
    int rc;

    if (tally->n == tally->capacity) {
        rc = tally_grow(tally);
        if (rc != 0) {
            return rc;
        }
    }
    bucket = find_bucket(tally, id);
    if (tally->buckets[bucket] == 0) {
        tally->changes[tally->n] = (struct meta_object_change){ .id = *id };
        tally->n++;
        tally->buckets[bucket] = (uint32_t)tally->n;
    }
    *ret_index = tally->buckets[bucket] - 1;
    return 0;
}

int meta_object_tally_add(struct meta_object_tally *tally,
                          const struct object_id *id,
                          int64_t live)
{
    size_t index;
    int rc = meta_object_tally_find(tally, id, &index);

    if (rc == 0) {
        tally->changes[index].live += live;
    }
    return rc;
}

static int insert(struct meta_db *db, const struct meta_object_change *change)
{
    sqlite3_stmt *statement = meta_db_statement(db, META_OBJECT_INSERT);
    const Gabion__ObjectInfo *info = change->created;

    meta_sql_bind(statement,
                  (int64_t[]){ (int64_t)change->id.session,
                               (int64_t)change->id.serial, (int64_t)info->size,
                               info->k, info->m, info->unit, info->missing,
                               change->live },
                  8);
    db->counters.n_objects++;
    return meta_sql_run(statement);
}

static int add_live(struct meta_db *db, const struct meta_object_change *change)
{
    sqlite3_stmt *statement = meta_db_statement(db, META_OBJECT_ADD_LIVE);
    int rc;

    if (change->live == 0) {
        return 0;
    }
    meta_sql_bind(statement,
                  (int64_t[]){ (int64_t)change->id.session,
                               (int64_t)change->id.serial, change->live },
                  3);
    rc = meta_sql_run(statement);
    if (rc == 0 && sqlite3_changes(db->writer.handle) != 1) {
        return -EBADMSG; /* an extent on an object that is not there */
    }
    return rc;
}

int meta_object_settle(struct meta_db *db)
{
    struct meta_object_tally *tally = &db->tally;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < tally->n; i++) {
        const struct meta_object_change *change = &tally->changes[i];

        rc =
            change->created != NULL ? insert(db, change) : add_live(db, change);
    }
    meta_object_tally_reset(tally);
    return rc;
}

/* Whether the object that META_OBJECT_GET found is the described one. Which
 * blocks are missing is no part of it: when the answer to a commit was lost, a
 * node may have come or gone before the object is named again. */
static int compare_known(sqlite3_stmt *row, const Gabion__ObjectInfo *info)
{
    if ((uint64_t)sqlite3_column_int64(row, 0) != info->size ||
        sqlite3_column_int64(row, 1) != info->k ||
        sqlite3_column_int64(row, 2) != info->m ||
        sqlite3_column_int64(row, 3) != info->unit) {
        return -EINVAL;
    }
    return sqlite3_column_int64(row, 4) > 0 ? 0 : -ESTALE;
}

static bool is_same(const Gabion__ObjectInfo *a, const Gabion__ObjectInfo *b)
{
    return a->size == b->size && a->k == b->k && a->m == b->m &&
           a->unit == b->unit;
}

int meta_object_create(struct meta_db *db, const Gabion__ObjectInfo *info)
{
    sqlite3_stmt *statement = meta_db_statement(db, META_OBJECT_GET);
    struct object_id id;
    size_t index;
    int rc;

    object_id_decode(info->id.data, &id);
    rc = meta_object_tally_find(&db->tally, &id, &index);
    if (rc != 0) {
        return rc;
    }
    if (db->tally.changes[index].created != NULL) {
        return is_same(db->tally.changes[index].created, info) ? 0 : -EINVAL;
    }
    meta_sql_bind(statement,
                  (int64_t[]){ (int64_t)id.session, (int64_t)id.serial }, 2);
    rc = meta_sql_row(statement);
    if (rc == -ENOENT) {
        db->tally.changes[index].created = info;
        return 0;
    }
    if (rc == 0) {
        rc = compare_known(statement, info);
        (void)sqlite3_reset(statement);
    }
    return rc;
}

int meta_object_forget(struct meta_db *db, const struct object_id *id)
{
    sqlite3_stmt *statement = meta_db_statement(db, META_OBJECT_FORGET);
    int rc;

    meta_sql_bind(statement,
                  (int64_t[]){ (int64_t)id->session, (int64_t)id->serial }, 2);
    rc = meta_sql_run(statement);
    if (rc == 0) {
        db->counters.n_objects -= (uint64_t)sqlite3_changes(db->writer.handle);
    }
    return rc;
}
