#include "storaged/meta/meta_extent.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "storaged/meta/meta_db_internal.h"

/* What one collection may hold. */
#define COLLECT_EXTENTS_MAX 16384u
#define COLLECT_INLINE_MAX  (4u << 20)

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Read a row of META_EXTENT_BELOW or META_EXTENT_FROM. Only the latter carries
 * the inline bytes. */
static void read_row(sqlite3_stmt *row, struct meta_extent *ret_extent)
{
    ret_extent->offset = (uint64_t)sqlite3_column_int64(row, 0);
    ret_extent->length = (uint64_t)sqlite3_column_int64(row, 1);
    ret_extent->object.session = (uint64_t)sqlite3_column_int64(row, 2);
    ret_extent->object.serial = (uint64_t)sqlite3_column_int64(row, 3);
    ret_extent->object_offset = (uint64_t)sqlite3_column_int64(row, 4);
    ret_extent->data = NULL;
}

static int tally_bytes(struct meta_db *db,
                       const struct meta_extent *extent,
                       int64_t live)
{
    if (extent->object.session == 0) {
        return 0; /* inline */
    }
    return meta_object_tally_add(&db->tally, &extent->object, live);
}

/* What a scan of a range for trimming has found. */
struct trim_scan {
    uint64_t bytes; /* covered within the range */
    bool inside;    /* extents start in the range */
    bool left;      /* one starts before it and reaches into it: left_offset */
    bool right;     /* one reaches beyond it: right_offset is its start */
    uint64_t left_offset;
    uint64_t right_offset;
};

/* Walk down from the range's end: extents do not overlap, so the first one that
 * ends before the range also ends the walk. */
static int scan_range(struct meta_db *db,
                      uint64_t ino,
                      uint64_t from,
                      uint64_t to,
                      struct trim_scan *ret_scan)
{
    sqlite3_stmt *rows = meta_db_statement(db, META_EXTENT_BELOW);
    struct meta_extent extent;
    int rc;

    *ret_scan = (struct trim_scan){ 0 };
    meta_sql_bind(rows, (int64_t[]){ (int64_t)ino, (int64_t)to }, 2);
    while ((rc = meta_sql_row(rows)) == 0) {
        uint64_t end;
        uint64_t bytes;

        read_row(rows, &extent);
        end = extent.offset + extent.length;
        if (end <= from) {
            break;
        }
        bytes = min_u64(end, to) - max_u64(extent.offset, from);
        ret_scan->bytes += bytes;
        rc = tally_bytes(db, &extent, -(int64_t)bytes);
        if (rc != 0) {
            break;
        }
        if (end > to) {
            ret_scan->right = true;
            ret_scan->right_offset = extent.offset;
        }
        if (extent.offset < from) {
            ret_scan->left = true;
            ret_scan->left_offset = extent.offset;
            break;
        }
        ret_scan->inside = true;
    }
    (void)sqlite3_reset(rows);
    return rc == -ENOENT ? 0 : rc;
}

/* Run a statement with the parameters (ino, a, b). */
static int run_on_range(struct meta_db *db,
                        enum meta_statement which,
                        uint64_t ino,
                        uint64_t a,
                        uint64_t b)
{
    sqlite3_stmt *statement = meta_db_statement(db, which);

    meta_sql_bind(statement,
                  (int64_t[]){ (int64_t)ino, (int64_t)a, (int64_t)b }, 3);
    return meta_sql_run(statement);
}

int meta_extent_trim(struct meta_db *db,
                     uint64_t ino,
                     uint64_t from,
                     uint64_t to,
                     uint64_t *ret_bytes)
{
    struct trim_scan scan;
    int rc = scan_range(db, ino, from, to, &scan);

    *ret_bytes = scan.bytes;
    if (rc == 0 && scan.right) {
        rc = run_on_range(db, META_EXTENT_SPLIT, ino, scan.right_offset, to);
    }
    if (rc == 0 && scan.left) {
        rc = run_on_range(db, META_EXTENT_CUT, ino, scan.left_offset, from);
    }
    if (rc == 0 && scan.inside) {
        rc = run_on_range(db, META_EXTENT_DELETE, ino, from, to);
    }
    return rc;
}

int meta_extent_drop_tail(struct meta_db *db,
                          uint64_t ino,
                          uint64_t *budget,
                          uint64_t *ret_bytes)
{
    sqlite3_stmt *rows = meta_db_statement(db, META_EXTENT_BELOW);
    struct meta_extent extent = { .offset = INT64_MAX };
    int rc = 0;

    *ret_bytes = 0;
    meta_sql_bind(rows, (int64_t[]){ (int64_t)ino, INT64_MAX }, 2);
    while (*budget > 0 && (rc = meta_sql_row(rows)) == 0) {
        read_row(rows, &extent);
        *ret_bytes += extent.length;
        rc = tally_bytes(db, &extent, -(int64_t)extent.length);
        if (rc != 0) {
            break;
        }
        --*budget;
    }
    (void)sqlite3_reset(rows);
    if ((rc == 0 || rc == -ENOENT) && *ret_bytes > 0) {
        rc =
            run_on_range(db, META_EXTENT_DELETE, ino, extent.offset, INT64_MAX);
    }
    return rc == -ENOENT ? 0 : rc;
}

/* Append inline bytes to the inline extent that ends where they begin, if there
 * is one with room: a file that grows by small appends stays one extent. */
static int grow_inline(struct meta_db *db,
                       uint64_t ino,
                       const struct meta_extent *extent,
                       bool *ret_grown)
{
    sqlite3_stmt *statement = meta_db_statement(db, META_EXTENT_GROW);
    int rc;

    meta_sql_bind(statement,
                  (int64_t[]){ (int64_t)ino, (int64_t)extent->offset,
                               (int64_t)extent->length },
                  3);
    meta_sql_bind_bytes(statement, 4, extent->data, extent->length);
    rc = meta_sql_run(statement);
    (void)sqlite3_bind_null(statement, 4);
    *ret_grown = rc == 0 && sqlite3_changes(db->writer.handle) > 0;
    return rc;
}

int meta_extent_insert(struct meta_db *db,
                       uint64_t ino,
                       const struct meta_extent *extent)
{
    sqlite3_stmt *statement = meta_db_statement(db, META_EXTENT_INSERT);
    bool is_grown = false;
    int rc;

    assert(extent->length > 0);
    assert(extent->data == NULL || extent->object.session == 0);
    rc = tally_bytes(db, extent, (int64_t)extent->length);
    if (rc == 0 && extent->data != NULL && extent->offset > 0) {
        rc = grow_inline(db, ino, extent, &is_grown);
    }
    if (rc != 0 || is_grown) {
        return rc;
    }
    meta_sql_bind(statement,
                  (int64_t[]){ (int64_t)ino, (int64_t)extent->offset,
                               (int64_t)extent->length,
                               (int64_t)extent->object.session,
                               (int64_t)extent->object.serial,
                               (int64_t)extent->object_offset },
                  6);
    if (extent->data != NULL) {
        meta_sql_bind_bytes(statement, 7, extent->data, extent->length);
        rc = meta_sql_run(statement);
        (void)sqlite3_bind_null(statement, 7);
        return rc;
    }
    return meta_sql_run(statement);
}

void meta_extent_list_close(struct meta_extent_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        free((void *)(uintptr_t)list->extents[i].data);
    }
    free(list->extents);
    *list = (struct meta_extent_list){ 0 };
}

/* Append the part of the row's extent that lies in [from, to). */
static int list_add(struct meta_extent_list *list,
                    sqlite3_stmt *row,
                    uint64_t from,
                    uint64_t to)
{
    struct meta_extent extent;
    const uint8_t *bytes = sqlite3_column_blob(row, 5);
    uint64_t skip;

    read_row(row, &extent);
    skip = max_u64(extent.offset, from) - extent.offset;
    extent.length = min_u64(extent.offset + extent.length, to) -
                    max_u64(extent.offset, from);
    extent.offset += skip;
    if (bytes != NULL) {
        uint8_t *copy = malloc(extent.length);

        if (copy == NULL) {
            return -ENOMEM;
        }
        extent.data = memcpy(copy, bytes + skip, extent.length);
        list->inline_bytes += extent.length;
    } else {
        extent.object_offset += skip;
    }
    if (list->n == list->capacity) {
        size_t capacity = list->capacity > 0 ? 2 * list->capacity : 16;
        struct meta_extent *extents =
            reallocarray(list->extents, capacity, sizeof *extents);

        if (extents == NULL) {
            free((void *)(uintptr_t)extent.data);
            return -ENOMEM;
        }
        list->extents = extents;
        list->capacity = capacity;
    }
    list->extents[list->n++] = extent;
    return 0;
}

int meta_extent_collect(struct meta_db *db,
                        uint64_t ino,
                        uint64_t from,
                        uint64_t to,
                        struct meta_extent_list *ret_list,
                        uint64_t *ret_to)
{
    sqlite3_stmt *rows = meta_db_statement(db, META_EXTENT_FROM);
    int rc;

    *ret_to = to;
    meta_sql_bind(rows, (int64_t[]){ (int64_t)ino, (int64_t)from, (int64_t)to },
                  3);
    while ((rc = meta_sql_row(rows)) == 0) {
        uint64_t offset = (uint64_t)sqlite3_column_int64(rows, 0);

        if (ret_list->n == COLLECT_EXTENTS_MAX ||
            ret_list->inline_bytes >= COLLECT_INLINE_MAX) {
            *ret_to = max_u64(offset, from);
            break;
        }
        rc = list_add(ret_list, rows, from, to);
        if (rc != 0) {
            break;
        }
    }
    (void)sqlite3_reset(rows);
    return rc == -ENOENT ? 0 : rc;
}
