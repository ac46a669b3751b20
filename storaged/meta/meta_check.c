#include "storaged/meta/meta_check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "storaged/meta/meta_db_internal.h"

#define CACHE_KIB 16384u

/* SQLite asks whether to go on after that many of its steps. */
#define STEPS_PER_LOOK 100000

/* File types, as in `mode & S_IFMT`. */
#define IS_DIRECTORY(mode) "((" mode ") & 61440 = 16384)"
#define IS_REGULAR(mode)   "((" mode ") & 61440 = 32768)"
#define IS_SYMLINK(mode)   "((" mode ") & 61440 = 40960)"

#define ROOT "1" /* META_ROOT_INO */

/* Each finds what is wrong and says it in its one column. */
static const char *const rules[] = {
    "SELECT 'sqlite: ' || integrity_check FROM pragma_integrity_check(100)"
    " WHERE integrity_check <> 'ok'",

    /* Names lead to inodes and lie in directories. */
    "SELECT printf('directory %d: a name leads to inode %d, which is not "
    "there', d.parent, d.ino)"
    " FROM dentry d LEFT JOIN inode i ON i.ino = d.ino WHERE i.ino IS NULL",
    "SELECT printf('directory %d: a name says type %o of inode %d with mode "
    "%o', d.parent, d.type, d.ino, i.mode)"
    " FROM dentry d JOIN inode i ON i.ino = d.ino"
    " WHERE d.type <> i.mode & 61440",
    "SELECT printf('inode %d: has names in it but is no directory', d.parent)"
    " FROM (SELECT DISTINCT parent FROM dentry) d"
    " LEFT JOIN inode i ON i.ino = d.parent"
    " WHERE i.ino IS NULL OR NOT " IS_DIRECTORY("i.mode"),
    "SELECT printf('directory %d: cookie %d given out twice or ahead of %d',"
    " d.parent, d.cookie, i.next_cookie)"
    " FROM dentry d JOIN inode i ON i.ino = d.parent"
    " WHERE d.cookie >= i.next_cookie",

    /* nlink and size are what is counted. */
    "SELECT printf('inode %d: nlink %d, names %d', i.ino, i.nlink,"
    " coalesce(n.n, 0)) FROM inode i"
    " LEFT JOIN (SELECT ino, count(*) AS n FROM dentry GROUP BY ino) n"
    " ON n.ino = i.ino WHERE NOT " IS_DIRECTORY(
        "i.mode") " AND i.nlink <> coalesce(n.n, 0)",
    "SELECT printf('directory %d: nlink %d size %d, subdirectories %d entries "
    "%d', i.ino, i.nlink, i.size, coalesce(n.dirs, 0), coalesce(n.n, 0))"
    " FROM inode i LEFT JOIN (SELECT parent, count(*) AS n,"
    " sum(" IS_DIRECTORY(
        "type") ") AS dirs FROM dentry GROUP BY parent) n"
                " ON n.parent = i.ino WHERE " IS_DIRECTORY(
                    "i.mode") " AND (i.size <> coalesce(n.n, 0) OR i.nlink <>"
                              " CASE WHEN i.nlink = 0 THEN coalesce(n.n, 0)"
                              " ELSE 2 + coalesce(n.dirs, 0) END)",

    /* Directories have one name, where they say, and form a tree. */
    "SELECT printf('directory %d: parent %d, but %d names, one of them in %d',"
    " i.ino, i.parent, count(d.ino), max(d.parent)) FROM inode i"
    " LEFT JOIN (SELECT ino, parent FROM dentry"
    " WHERE " IS_DIRECTORY(
        "type") ") d ON d.ino = i.ino"
                " WHERE " IS_DIRECTORY(
                    "i.mode") " AND i.ino <> " ROOT " GROUP BY i.ino"
                              " HAVING count(d.ino) <> (i.nlink > 0)"
                              " OR (i.nlink > 0 AND max(d.parent) <> i.parent)",
    "SELECT printf('directory %d: cannot be reached from the root', ino)"
    " FROM inode WHERE " IS_DIRECTORY(
        "mode") " AND nlink > 0 AND ino NOT IN"
                " (WITH RECURSIVE tree(ino) AS (VALUES (" ROOT ") UNION"
                " SELECT d.ino FROM tree JOIN dentry d ON d.parent = tree.ino"
                " WHERE " IS_DIRECTORY("d.type") ") SELECT ino FROM tree)",

    /* Extents lie in files, side by side, and on objects. */
    "SELECT printf('inode %d: extents at %d and %d overlap', ino, before,"
    " offset) FROM (SELECT ino, offset,"
    " lag(offset) OVER file AS before, lag(offset + length) OVER file AS end"
    " FROM extent WINDOW file AS (PARTITION BY ino ORDER BY offset))"
    " WHERE end > offset",
    "SELECT printf('inode %d: mode %o size %d allocated %d, extents of %d "
    "bytes up to %d', e.ino, i.mode, i.size, i.allocated, e.bytes, e.end)"
    " FROM (SELECT ino, sum(length) AS bytes, max(offset + length) AS end"
    " FROM extent GROUP BY ino) e LEFT JOIN inode i ON i.ino = e.ino"
    " WHERE i.ino IS NULL OR NOT " IS_REGULAR(
        "i.mode") " OR e.end > i.size OR e.bytes <> i.allocated",
    "SELECT printf('inode %d: allocated %d, no extents', ino, allocated)"
    " FROM inode WHERE allocated <> 0"
    " AND NOT EXISTS (SELECT 1 FROM extent e WHERE e.ino = inode.ino)",
    "SELECT printf('inode %d: the extent at %d has %d inline bytes, not %d',"
    " ino, offset, length(data), length) FROM extent"
    " WHERE data IS NOT NULL AND length(data) <> length",
    "SELECT printf('inode %d: the extent at %d is behind the end of object "
    "%x/%x, or that is not there', e.ino, e.offset, e.session, e.serial)"
    " FROM extent e LEFT JOIN object o"
    " ON o.session = e.session AND o.serial = e.serial"
    " WHERE e.data IS NULL"
    " AND (o.size IS NULL OR e.object_offset + e.length > o.size)",
    "SELECT printf('object %x/%x: live %d, extents of %d bytes', o.session,"
    " o.serial, o.live, coalesce(e.bytes, 0)) FROM object o"
    " LEFT JOIN (SELECT session, serial, sum(length) AS bytes FROM extent"
    " WHERE data IS NULL GROUP BY session, serial) e"
    " ON e.session = o.session AND e.serial = o.serial"
    " WHERE o.live <> coalesce(e.bytes, 0)",

    /* What else an inode has. */
    "SELECT printf('inode %d: nlink %d, orphan %d', i.ino, i.nlink, i.orphan)"
    " FROM inode i LEFT JOIN orphan o"
    " ON o.number = i.orphan AND o.ino = i.ino"
    " WHERE (i.nlink = 0) <> (o.number IS NOT NULL)"
    " OR (i.orphan <> 0) <> (o.number IS NOT NULL)",
    "SELECT printf('orphan %d: inode %d is none', o.number, o.ino)"
    " FROM orphan o LEFT JOIN inode i ON i.ino = o.ino"
    " WHERE i.orphan IS NOT o.number",
    "SELECT printf('inode %d: n_xattrs %d, but %d', i.ino, i.n_xattrs,"
    " coalesce(x.n, 0)) FROM inode i"
    " LEFT JOIN (SELECT ino, count(*) AS n FROM xattr GROUP BY ino) x"
    " ON x.ino = i.ino WHERE i.n_xattrs <> coalesce(x.n, 0)",
    "SELECT printf('inode %d: has extended attributes, but is not there', ino)"
    " FROM (SELECT DISTINCT ino FROM xattr)"
    " WHERE ino NOT IN (SELECT ino FROM inode)",
    "SELECT printf('inode %d: mode %o and a target do not go together',"
    " coalesce(i.ino, s.ino), i.mode)"
    " FROM inode i FULL JOIN symlink s ON s.ino = i.ino"
    " WHERE i.ino IS NULL OR " IS_SYMLINK("i.mode") " <> (s.ino IS NOT NULL)",

    /* Counters. */
    "SELECT printf('counters: inodes %d, but %d; objects %d, but %d',"
    " n_inodes, i, n_objects, o) FROM (SELECT n_inodes, n_objects,"
    " (SELECT count(*) FROM inode) AS i, (SELECT count(*) FROM object) AS o"
    " FROM counter) WHERE n_inodes <> i OR n_objects <> o",
    "SELECT printf('counters: next inode %d, session %d, orphan %d are in "
    "use', next_sequence, next_session, next_orphan) FROM counter"
    " WHERE next_sequence <= (SELECT max(ino & ((1 << 53) - 1)) FROM inode)"
    " OR next_session <= (SELECT max(id) FROM session)"
    " OR next_orphan <= (SELECT max(number) FROM orphan)",
};

/* ------------------------------------------------------------------ running */

struct check {
    struct meta_sql sql;
    bool (*is_stopping)(void *context);
    void *context;
    bool was_stopped;
    struct meta_findings *findings; /* borrowed */
};

/* SQLite's progress handler: whether to stop. */
static int look(void *context)
{
    struct check *check = context;

    check->was_stopped = check->is_stopping(check->context);
    return check->was_stopped;
}

static int add(struct meta_findings *findings, const char *text)
{
    findings->n++;
    if (findings->n_texts < META_FINDINGS_MAX) {
        char *copy = strdup(text);

        if (copy == NULL) {
            return -ENOMEM;
        }
        findings->texts[findings->n_texts++] = copy;
    }
    return 0;
}

static int run_rule(struct check *check, const char *rule)
{
    sqlite3_stmt *rows;
    int code = sqlite3_prepare_v2(check->sql.handle, rule, -1, &rows, NULL);
    int rc = 0;

    while (code == SQLITE_OK || code == SQLITE_ROW) {
        code = sqlite3_step(rows);
        if (code == SQLITE_ROW) {
            const char *text = (const char *)sqlite3_column_text(rows, 0);

            rc = text == NULL ? -ENOMEM : add(check->findings, text);
        }
        if (rc != 0) {
            break;
        }
    }
    if (check->was_stopped) {
        rc = -ECANCELED;
    } else if (rc == 0 && code != SQLITE_DONE) {
        rc = meta_sql_fail(check->sql.handle, code);
    }
    (void)sqlite3_finalize(rows);
    return rc;
}

/* All rules see the same state. Sorting may take more than memory. */
static int run_rules(struct check *check)
{
    int rc = meta_sql_exec(&check->sql,
                           "PRAGMA temp_store=FILE; PRAGMA query_only=ON;"
                           "BEGIN");

    if (rc == 0 && check->is_stopping != NULL) {
        sqlite3_progress_handler(check->sql.handle, STEPS_PER_LOOK, look,
                                 check);
    }
    for (size_t i = 0; i < sizeof rules / sizeof rules[0] && rc == 0; i++) {
        rc = run_rule(check, rules[i]);
    }
    return rc;
}

int meta_check(struct meta_db *db,
               bool (*is_stopping)(void *context),
               void *context,
               struct meta_findings *ret_findings)
{
    struct check check = { .is_stopping = is_stopping,
                           .context = context,
                           .findings = ret_findings };
    int rc = meta_sql_open(db->path, NULL, CACHE_KIB, &check.sql, NULL);

    memset(ret_findings, 0, sizeof *ret_findings);
    if (rc == 0) {
        rc = run_rules(&check);
    }
    meta_sql_close(&check.sql);
    if (rc != 0) {
        meta_findings_clear(ret_findings);
    }
    return rc;
}

void meta_findings_clear(struct meta_findings *findings)
{
    for (size_t i = 0; i < findings->n_texts; i++) {
        free(findings->texts[i]);
    }
    memset(findings, 0, sizeof *findings);
}
