#include "storaged/block/block_index.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sqlite3.h>

/* Kept in PRAGMA user_version. */
#define FORMAT 1

/* Below this size the file is always checked thoroughly when opened. */
#define SMALL_SIZE (64 << 20)

#define KEY_SIZE   24
#define BUSY_MS    5000
#define PATH_LIMIT 4096

static const char schema[] =
    "CREATE TABLE block(key BLOB PRIMARY KEY, place INTEGER NOT NULL,"
    " length INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE UNIQUE INDEX block_place ON block(place);"
    "CREATE TABLE segment(number INTEGER PRIMARY KEY, salt INTEGER NOT NULL,"
    " covered INTEGER NOT NULL, n_live INTEGER NOT NULL,"
    " live_bytes INTEGER NOT NULL);"
    "CREATE TABLE state(clean INTEGER NOT NULL);"
    "INSERT INTO state VALUES(0);"
    "PRAGMA user_version=1";

static_assert(FORMAT == 1, "the schema sets the format too");

enum statement {
    BEGIN,
    COMMIT,
    ROLLBACK,
    INSERT,
    FIND,
    UPDATE,
    REMOVE_OBJECT,
    REMOVE_RANGE,
    COUNT,
    BELOW,
    ABOVE,
    PUT_SEGMENT,
    REMOVE_SEGMENT,
    SEGMENTS,
    N_STATEMENTS
};

static const char *const statement_text[N_STATEMENTS] = {
    [BEGIN] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [ROLLBACK] = "ROLLBACK",
    [INSERT] = "INSERT INTO block VALUES(?1,?2,?3) ON CONFLICT(key) DO NOTHING",
    [FIND] = "SELECT key,place,length FROM block WHERE key=?1",
    [UPDATE] = "UPDATE block SET place=?2,length=?3 WHERE key=?1",
    [REMOVE_OBJECT] = "DELETE FROM block WHERE key>=?1 AND key<=?2"
                      " RETURNING key,place,length",
    [REMOVE_RANGE] = "DELETE FROM block WHERE place>=?1 AND place<?2",
    [COUNT] = "SELECT count(*),total(length) FROM block"
              " WHERE place>=?1 AND place<?2",
    [BELOW] = "SELECT key,place,length FROM block WHERE place<?1"
              " ORDER BY place DESC LIMIT 1",
    [ABOVE] = "SELECT key,place,length FROM block WHERE place>?1"
              " ORDER BY place LIMIT 1",
    [PUT_SEGMENT] = "INSERT OR REPLACE INTO segment VALUES(?1,?2,?3,?4,?5)",
    [REMOVE_SEGMENT] = "DELETE FROM segment WHERE number=?1",
    [SEGMENTS] = "SELECT number,salt,covered,n_live,live_bytes FROM segment"
                 " ORDER BY number",
};

/* A connection for lookups, used by one thread at a time. */
struct reader {
    sqlite3 *db;          /* owned */
    sqlite3_stmt *lookup; /* owned */
    sqlite3_stmt *list;   /* owned */
    struct reader *next;  /* owned: next idle one */
};

struct block_index {
    char *path;                             /* owned */
    sqlite3 *db;                            /* owned: the writer's */
    sqlite3_stmt *statements[N_STATEMENTS]; /* owned */
    pthread_mutex_t lock;                   /* guards what follows */
    struct reader *idle;                    /* owned: readers not in use */
};

static int error_from(int sqlite_rc)
{
    switch (sqlite_rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_DONE:
    case SQLITE_ROW:
        return 0;
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_NOMEM:
        return -ENOMEM;
    case SQLITE_CANTOPEN:
        return -EMFILE;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_CONSTRAINT:
    case SQLITE_ERROR:
        return -EBADMSG;
    default:
        return -EIO;
    }
}

/* SQLite knows a full disk only where it writes its files; where it makes room
 * in them, that is an I/O error. */
static int error_of(sqlite3 *db, int sqlite_rc)
{
    bool is_full = (sqlite_rc & 0xff) == SQLITE_IOERR &&
                   sqlite3_system_errno(db) == ENOSPC;

    return is_full ? -ENOSPC : error_from(sqlite_rc);
}

static void encode_key(const struct block_key *key, uint8_t ret_bytes[KEY_SIZE])
{
    uint32_t piece[2] = { htobe32(key->stripe), htobe32(key->index) };

    object_id_encode(&key->object, ret_bytes);
    memcpy(ret_bytes + OBJECT_ID_SIZE, piece, sizeof piece);
}

static void bind_key(sqlite3_stmt *statement,
                     int at,
                     const struct block_key *key)
{
    uint8_t bytes[KEY_SIZE];

    encode_key(key, bytes);
    (void)sqlite3_bind_blob(statement, at, bytes, sizeof bytes,
                            SQLITE_TRANSIENT);
}

static void bind_number(sqlite3_stmt *statement, int at, uint64_t number)
{
    (void)sqlite3_bind_int64(statement, at, (sqlite3_int64)number);
}

/* The row (key, place, length) of a statement that has one. */
static int read_row(sqlite3_stmt *statement, struct index_row *ret_row)
{
    const uint8_t *bytes = sqlite3_column_blob(statement, 0);
    uint32_t piece[2];

    if (bytes == NULL || sqlite3_column_bytes(statement, 0) != KEY_SIZE) {
        return -EBADMSG;
    }
    object_id_decode(bytes, &ret_row->key.object);
    memcpy(piece, bytes + OBJECT_ID_SIZE, sizeof piece);
    ret_row->key.stripe = be32toh(piece[0]);
    ret_row->key.index = be32toh(piece[1]);
    ret_row->place = (uint64_t)sqlite3_column_int64(statement, 1);
    ret_row->length = (uint32_t)sqlite3_column_int64(statement, 2);
    return 0;
}

/* Run a statement that answers no rows. */
static int run(struct block_index *index, enum statement which)
{
    sqlite3_stmt *statement = index->statements[which];
    int rc = error_of(index->db, sqlite3_step(statement));

    (void)sqlite3_reset(statement);
    return rc;
}

/* Run a statement that answers at most one row; the place is 0 without one. */
static int run_row(sqlite3_stmt *statement, struct index_row *ret_row)
{
    int step = sqlite3_step(statement);
    int rc = error_of(sqlite3_db_handle(statement), step);

    memset(ret_row, 0, sizeof *ret_row);
    if (step == SQLITE_ROW) {
        rc = read_row(statement, ret_row);
    }
    (void)sqlite3_reset(statement);
    return rc;
}

/* Opening. */

static int connect_db(const char *path, int flags, sqlite3 **ret_db)
{
    sqlite3 *db = NULL;
    int rc = sqlite3_open_v2(path, &db, flags | SQLITE_OPEN_NOMUTEX, NULL);

    if (rc != SQLITE_OK) {
        (void)sqlite3_close(db);
        return error_from(rc);
    }
    (void)sqlite3_busy_timeout(db, BUSY_MS);
    *ret_db = db;
    return 0;
}

static int query_number(sqlite3 *db, const char *text, int64_t *ret_number)
{
    sqlite3_stmt *statement = NULL;
    int rc = sqlite3_prepare_v2(db, text, -1, &statement, NULL);

    if (rc == SQLITE_OK) {
        rc = sqlite3_step(statement);
    }
    *ret_number = rc == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
    (void)sqlite3_finalize(statement);
    return rc == SQLITE_DONE ? -EBADMSG : error_from(rc);
}

/* Whether `check`, a pragma that answers "ok", does so. */
static int run_check(sqlite3 *db, const char *check)
{
    sqlite3_stmt *statement = NULL;
    int rc = sqlite3_prepare_v2(db, check, -1, &statement, NULL);
    bool ok = false;

    if (rc == SQLITE_OK) {
        rc = sqlite3_step(statement);
    }
    if (rc == SQLITE_ROW) {
        const unsigned char *text = sqlite3_column_text(statement, 0);

        ok = text != NULL && memcmp(text, "ok", 3) == 0;
    }
    (void)sqlite3_finalize(statement);
    if (rc == SQLITE_ROW) {
        return ok ? 0 : -EBADMSG;
    }
    return error_from(rc);
}

/* Make the tables of a new database, or check those of an old one. */
static int check_content(struct block_index *index)
{
    struct stat status;
    int64_t format;
    int64_t clean;
    int rc = query_number(index->db, "PRAGMA user_version", &format);

    if (rc < 0) {
        return rc;
    }
    if (format == 0) {
        int64_t n_tables;

        rc = query_number(index->db, "SELECT count(*) FROM sqlite_schema",
                          &n_tables);
        if (rc == 0 && n_tables > 0) {
            rc = -EBADMSG;
        }
        return rc < 0 ? rc
                      : error_from(
                            sqlite3_exec(index->db, schema, NULL, NULL, NULL));
    }
    if (format != FORMAT) {
        return -EBADMSG;
    }
    rc = query_number(index->db, "SELECT clean FROM state", &clean);
    if (rc == 0 && stat(index->path, &status) == 0) {
        if (status.st_size <= SMALL_SIZE) {
            rc = run_check(index->db, "PRAGMA integrity_check(1)");
        } else if (clean == 0) {
            rc = run_check(index->db, "PRAGMA quick_check(1)");
        }
    }
    return rc;
}

static int prepare_all(struct block_index *index)
{
    for (int i = 0; i < N_STATEMENTS; i++) {
        int rc = sqlite3_prepare_v3(index->db, statement_text[i], -1,
                                    SQLITE_PREPARE_PERSISTENT,
                                    &index->statements[i], NULL);
        if (rc != SQLITE_OK) {
            return error_from(rc);
        }
    }
    return 0;
}

static int open_writer(struct block_index *index)
{
    static const char pragmas[] = "PRAGMA journal_mode=WAL;"
                                  "PRAGMA synchronous=NORMAL;"
                                  "PRAGMA secure_delete=OFF;"
                                  "PRAGMA cache_size=-16384;"
                                  "PRAGMA wal_autocheckpoint=4000";
    int rc = connect_db(index->path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
                        &index->db);

    if (rc == 0) {
        rc = error_of(index->db,
                      sqlite3_exec(index->db, pragmas, NULL, NULL, NULL));
    }
    if (rc == 0) {
        rc = check_content(index);
    }
    if (rc == 0) {
        rc = error_of(index->db,
                      sqlite3_exec(index->db, "UPDATE state SET clean=0", NULL,
                                   NULL, NULL));
    }
    return rc < 0 ? rc : prepare_all(index);
}

int block_index_open(const char *path,
                     struct block_index **ret_index,
                     struct errmsg *msg)
{
    struct block_index *index = calloc(1, sizeof *index);
    int rc = -ENOMEM;

    if (index != NULL) {
        (void)pthread_mutex_init(&index->lock, NULL);
        index->path = strdup(path);
        rc = index->path != NULL ? open_writer(index) : -ENOMEM;
    }
    if (rc < 0) {
        errmsg_set(msg, "cannot open the block index %s: %s", path,
                   rc != -ENOSPC && index != NULL && index->db != NULL
                       ? sqlite3_errmsg(index->db)
                       : err_text(rc));
        block_index_close(index, false);
        return rc;
    }
    *ret_index = index;
    return 0;
}

static void reader_free(struct reader *reader)
{
    (void)sqlite3_finalize(reader->lookup);
    (void)sqlite3_finalize(reader->list);
    (void)sqlite3_close(reader->db);
    free(reader);
}

void block_index_close(struct block_index *index, bool clean)
{
    if (index == NULL) {
        return;
    }
    while (index->idle != NULL) {
        struct reader *reader = index->idle;

        index->idle = reader->next;
        reader_free(reader);
    }
    if (clean) {
        (void)sqlite3_exec(index->db, "UPDATE state SET clean=1", NULL, NULL,
                           NULL);
    }
    for (int i = 0; i < N_STATEMENTS; i++) {
        (void)sqlite3_finalize(index->statements[i]);
    }
    (void)sqlite3_close(index->db);
    (void)pthread_mutex_destroy(&index->lock);
    free(index->path);
    free(index);
}

int block_index_discard(const char *path, bool aside)
{
    static const char *const suffixes[] = { "", "-wal", "-shm" };
    char name[PATH_LIMIT];

    if (strlen(path) + sizeof ".damaged" > sizeof name) {
        return -ENAMETOOLONG;
    }
    if (aside) {
        (void)snprintf(name, sizeof name, "%s.damaged", path);
        if (rename(path, name) < 0 && errno != ENOENT) {
            return -errno;
        }
    }
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        (void)snprintf(name, sizeof name, "%s%s", path, suffixes[i]);
        if (unlink(name) < 0 && errno != ENOENT) {
            return -errno;
        }
    }
    return 0;
}

/* Writing. */

int block_index_begin(struct block_index *index)
{
    return run(index, BEGIN);
}

int block_index_commit(struct block_index *index)
{
    return run(index, COMMIT);
}

void block_index_rollback(struct block_index *index)
{
    /* A failed COMMIT may have rolled back already. */
    if (sqlite3_get_autocommit(index->db) == 0) {
        (void)run(index, ROLLBACK);
    }
}

static int write_row(struct block_index *index,
                     enum statement which,
                     const struct index_row *row)
{
    sqlite3_stmt *statement = index->statements[which];

    bind_key(statement, 1, &row->key);
    bind_number(statement, 2, row->place);
    bind_number(statement, 3, row->length);
    return run(index, which);
}

int block_index_insert(struct block_index *index,
                       const struct index_row *row,
                       struct index_row *ret_old)
{
    int rc = write_row(index, INSERT, row);

    assert(row->place != 0);
    memset(ret_old, 0, sizeof *ret_old);
    if (rc < 0 || sqlite3_changes(index->db) > 0) {
        return rc;
    }
    bind_key(index->statements[FIND], 1, &row->key);
    rc = run_row(index->statements[FIND], ret_old);
    return rc < 0 ? rc : write_row(index, UPDATE, row);
}

/* Append to a growing array. */
static int push_row(struct index_row **rows,
                    size_t *n,
                    const struct index_row *row)
{
    if ((*n & (*n - 1)) == 0) {
        size_t capacity = *n > 0 ? 2 * *n : 1;
        struct index_row *grown = reallocarray(*rows, capacity, sizeof *grown);

        if (grown == NULL) {
            return -ENOMEM;
        }
        *rows = grown;
    }
    (*rows)[(*n)++] = *row;
    return 0;
}

int block_index_remove_object(struct block_index *index,
                              const struct object_id *object,
                              struct index_row **ret_rows,
                              size_t *ret_n)
{
    struct block_key from = { .object = *object };
    struct block_key end = { *object, UINT32_MAX, UINT32_MAX };
    sqlite3_stmt *statement = index->statements[REMOVE_OBJECT];
    struct index_row *rows = NULL;
    struct index_row row;
    size_t n = 0;
    int step;
    int rc;

    bind_key(statement, 1, &from);
    bind_key(statement, 2, &end);
    do {
        step = sqlite3_step(statement);
        rc = error_from(step);
        if (step == SQLITE_ROW) {
            rc = read_row(statement, &row);
        }
        if (step == SQLITE_ROW && rc == 0) {
            rc = push_row(&rows, &n, &row);
        }
    } while (step == SQLITE_ROW && rc == 0);
    (void)sqlite3_reset(statement);
    if (rc < 0) {
        free(rows);
        return rc;
    }
    *ret_rows = rows;
    *ret_n = n;
    return 0;
}

int block_index_remove_range(struct block_index *index,
                             uint64_t from,
                             uint64_t end)
{
    bind_number(index->statements[REMOVE_RANGE], 1, from);
    bind_number(index->statements[REMOVE_RANGE], 2, end);
    return run(index, REMOVE_RANGE);
}

int block_index_count(struct block_index *index,
                      uint64_t from,
                      uint64_t end,
                      uint64_t *ret_n,
                      uint64_t *ret_bytes)
{
    sqlite3_stmt *statement = index->statements[COUNT];
    int step;

    bind_number(statement, 1, from);
    bind_number(statement, 2, end);
    step = sqlite3_step(statement);
    *ret_n = (uint64_t)sqlite3_column_int64(statement, 0);
    *ret_bytes = (uint64_t)sqlite3_column_int64(statement, 1);
    (void)sqlite3_reset(statement);
    return error_from(step);
}

int block_index_neighbours(struct block_index *index,
                           uint64_t place,
                           struct index_row *ret_below,
                           struct index_row *ret_above)
{
    int rc;

    bind_number(index->statements[BELOW], 1, place);
    bind_number(index->statements[ABOVE], 1, place);
    rc = run_row(index->statements[BELOW], ret_below);
    return rc < 0 ? rc : run_row(index->statements[ABOVE], ret_above);
}

int block_index_put_segment(struct block_index *index,
                            const struct index_segment *segment)
{
    sqlite3_stmt *statement = index->statements[PUT_SEGMENT];

    bind_number(statement, 1, segment->number);
    bind_number(statement, 2, segment->salt);
    bind_number(statement, 3, segment->covered);
    bind_number(statement, 4, segment->n_live);
    bind_number(statement, 5, segment->live_bytes);
    return run(index, PUT_SEGMENT);
}

int block_index_remove_segment(struct block_index *index, uint64_t number)
{
    bind_number(index->statements[REMOVE_SEGMENT], 1, number);
    return run(index, REMOVE_SEGMENT);
}

int block_index_segments(struct block_index *index,
                         struct index_segment **ret_list,
                         size_t *ret_n)
{
    sqlite3_stmt *statement = index->statements[SEGMENTS];
    struct index_segment *list = NULL;
    size_t capacity = 0;
    size_t n = 0;
    int step;
    int rc = 0;

    while ((step = sqlite3_step(statement)) == SQLITE_ROW) {
        if (n == capacity) {
            struct index_segment *grown;

            capacity = capacity > 0 ? 2 * capacity : 64;
            grown = reallocarray(list, capacity, sizeof *grown);
            if (grown == NULL) {
                rc = -ENOMEM;
                break;
            }
            list = grown;
        }
        list[n++] = (struct index_segment){
            .number = (uint64_t)sqlite3_column_int64(statement, 0),
            .salt = (uint64_t)sqlite3_column_int64(statement, 1),
            .covered = (uint32_t)sqlite3_column_int64(statement, 2),
            .n_live = (uint64_t)sqlite3_column_int64(statement, 3),
            .live_bytes = (uint64_t)sqlite3_column_int64(statement, 4),
        };
    }
    if (rc == 0) {
        rc = error_from(step);
    }
    (void)sqlite3_reset(statement);
    if (rc < 0) {
        free(list);
        return rc;
    }
    *ret_list = list;
    *ret_n = n;
    return 0;
}

int block_index_sync(struct block_index *index)
{
    /* A passive checkpoint would leave out, and say nothing of, what readers
     * are in the way of. */
    int rc = sqlite3_wal_checkpoint_v2(index->db, NULL, SQLITE_CHECKPOINT_FULL,
                                       NULL, NULL);

    return (rc & 0xff) == SQLITE_BUSY ? -EAGAIN : error_from(rc);
}

/* Reading. */

static int reader_new(const char *path, struct reader **ret_reader)
{
    static const char list[] = "SELECT key,place,length FROM block"
                               " WHERE key>?1 ORDER BY key LIMIT ?2";
    struct reader *reader = calloc(1, sizeof *reader);
    int rc;

    if (reader == NULL) {
        return -ENOMEM;
    }
    rc = connect_db(path, SQLITE_OPEN_READONLY, &reader->db);
    if (rc == 0) {
        rc = error_from(sqlite3_exec(reader->db, "PRAGMA cache_size=-4096",
                                     NULL, NULL, NULL));
    }
    if (rc == 0) {
        rc = error_from(sqlite3_prepare_v3(reader->db, statement_text[FIND], -1,
                                           SQLITE_PREPARE_PERSISTENT,
                                           &reader->lookup, NULL));
    }
    if (rc == 0) {
        rc = error_from(sqlite3_prepare_v3(reader->db, list, -1,
                                           SQLITE_PREPARE_PERSISTENT,
                                           &reader->list, NULL));
    }
    if (rc < 0) {
        reader_free(reader);
        return rc;
    }
    *ret_reader = reader;
    return 0;
}

static int take_reader(struct block_index *index, struct reader **ret_reader)
{
    struct reader *reader;

    (void)pthread_mutex_lock(&index->lock);
    reader = index->idle;
    if (reader != NULL) {
        index->idle = reader->next;
    }
    (void)pthread_mutex_unlock(&index->lock);
    if (reader == NULL) {
        return reader_new(index->path, ret_reader);
    }
    *ret_reader = reader;
    return 0;
}

static void give_reader(struct block_index *index, struct reader *reader)
{
    (void)pthread_mutex_lock(&index->lock);
    reader->next = index->idle;
    index->idle = reader;
    (void)pthread_mutex_unlock(&index->lock);
}

int block_index_lookup(struct block_index *index,
                       const struct block_key *key,
                       struct index_row *ret_row)
{
    struct reader *reader;
    int rc = take_reader(index, &reader);

    if (rc < 0) {
        return rc;
    }
    bind_key(reader->lookup, 1, key);
    rc = run_row(reader->lookup, ret_row);
    give_reader(index, reader);
    if (rc == 0 && ret_row->place == 0) {
        rc = -ENOENT;
    }
    return rc;
}

int block_index_list(struct block_index *index,
                     const struct block_key *after,
                     size_t limit,
                     struct index_row *ret_rows,
                     size_t *ret_n)
{
    struct reader *reader;
    size_t n = 0;
    int step = SQLITE_ROW;
    int rc = take_reader(index, &reader);

    if (rc < 0) {
        return rc;
    }
    if (after != NULL) {
        bind_key(reader->list, 1, after);
    } else {
        (void)sqlite3_bind_zeroblob(reader->list, 1, 0);
    }
    bind_number(reader->list, 2, limit);
    while (rc == 0 && n < limit && step == SQLITE_ROW) {
        step = sqlite3_step(reader->list);
        rc = error_from(step);
        if (step == SQLITE_ROW) {
            rc = read_row(reader->list, &ret_rows[n++]);
        }
    }
    (void)sqlite3_reset(reader->list);
    give_reader(index, reader);
    if (rc == 0) {
        *ret_n = n;
    }
    return rc;
}
