/* Opening, transactions, syncing and checkpoints.
 *
 * Three connections share the database file. The *writer* appends commits to
 * the WAL, each by one write (wal_vfs.h). The *checkpointer* copies the WAL to
 * the main file. The *syncer* does nothing but hold the WAL open: SQLite keeps
 * one sqlite3_file per connection, the WAL's lives as long as the connection
 * does, and syncing through it touches nothing that another thread uses.
 * (Opening the WAL by open(2) instead and closing it would drop the process's
 * POSIX locks.)
 *
 * What a commit was before meta_db_sync() began is, when it returns, either in
 * the WAL, which has been synced, or in the main file: the checkpointer syncs
 * that before it lets the WAL be overwritten. */
#include "storaged/meta/meta_db.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/log.h"
#include "storaged/meta/meta_db_internal.h"
#include "storaged/meta/meta_inode.h"
#include "storaged/meta/wal_vfs.h"

#define WRITER_CACHE_KIB 65536u
#define OTHER_CACHE_KIB  256u

/* How long the last stretch of a checkpoint waits for readers, the writer
 * waiting with it. */
#define CHECKPOINT_BUSY_MS 100

/* Sessions that fit at first. */
#define SESSIONS_CAPACITY_MIN 16u

/* Place of the session, or where it belongs. */
static size_t find_session(const struct meta_db *db, uint64_t id)
{
    size_t low = 0;
    size_t high = db->n_sessions;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (db->sessions[middle].id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct meta_session *meta_db_session(struct meta_db *db, uint64_t id)
{
    size_t i = find_session(db, id);

    return i < db->n_sessions && db->sessions[i].id == id ? &db->sessions[i]
                                                          : NULL;
}

struct meta_session *meta_db_session_add(struct meta_db *db, uint64_t id)
{
    size_t i = find_session(db, id);

    if (db->n_sessions == db->sessions_capacity) {
        size_t capacity = db->sessions_capacity > 0 ? 2 * db->sessions_capacity
                                                    : SESSIONS_CAPACITY_MIN;
        struct meta_session *sessions =
            reallocarray(db->sessions, capacity, sizeof *sessions);

        if (sessions == NULL) {
            return NULL;
        }
        db->sessions = sessions;
        db->sessions_capacity = capacity;
    }
    memmove(&db->sessions[i + 1], &db->sessions[i],
            (db->n_sessions - i) * sizeof db->sessions[0]);
    db->n_sessions++;
    db->sessions[i] = (struct meta_session){ .id = id };
    return &db->sessions[i];
}

void meta_db_session_remove(struct meta_db *db, struct meta_session *session)
{
    size_t i = (size_t)(session - db->sessions);

    db->n_sessions--;
    memmove(session, session + 1,
            (db->n_sessions - i) * sizeof db->sessions[0]);
}

static int load_counters(struct meta_db *db)
{
    sqlite3_stmt *row = meta_db_statement(db, META_COUNTERS_GET);
    int rc = meta_sql_row(row);

    if (rc != 0) {
        return rc == -ENOENT ? -EBADMSG : rc;
    }
    db->counters = (struct meta_counters){
        .applied = (uint64_t)sqlite3_column_int64(row, 0),
        .next_sequence = (uint64_t)sqlite3_column_int64(row, 1),
        .next_session = (uint64_t)sqlite3_column_int64(row, 2),
        .next_orphan = (uint64_t)sqlite3_column_int64(row, 3),
        .n_inodes = (uint64_t)sqlite3_column_int64(row, 4),
        .n_objects = (uint64_t)sqlite3_column_int64(row, 5),
    };
    (void)sqlite3_reset(row);
    return 0;
}

static int load_sessions(struct meta_db *db)
{
    sqlite3_stmt *rows = meta_db_statement(db, META_SESSION_ALL);
    int rc;

    db->n_sessions = 0;
    while ((rc = meta_sql_row(rows)) == 0) {
        struct meta_session *session =
            meta_db_session_add(db, (uint64_t)sqlite3_column_int64(rows, 0));

        if (session == NULL) {
            (void)sqlite3_reset(rows);
            return -ENOMEM;
        }
        session->acked = (uint64_t)sqlite3_column_int64(rows, 1);
        session->highest = (uint64_t)sqlite3_column_int64(rows, 2);
    }
    return rc == -ENOENT ? 0 : rc;
}

/* Bring what is kept in memory to the state of the last commit. */
static int load_memory(struct meta_db *db)
{
    int rc = load_counters(db);

    if (rc == 0) {
        rc = load_sessions(db);
    }
    meta_inode_cache_clear(db);
    meta_object_tally_reset(&db->tally);
    return rc;
}

/* The WAL hook: runs at the end of each commit. */
static int note_wal_pages(void *context,
                          sqlite3 *handle,
                          const char *name,
                          int n_pages)
{
    struct meta_db *db = context;

    (void)handle;
    (void)name;
    atomic_store(&db->wal_pages, (uint64_t)n_pages);
    return SQLITE_OK;
}

/* The writer as wal_vfs.h wants it: to SQLite each commit looks synced, and
 * checkpoints are the checkpointer's alone. */
static int open_writer_handle(struct meta_db *db, struct errmsg *msg)
{
    const char *vfs = wal_vfs_name();
    int rc;

    if (vfs == NULL) {
        return -ENOMEM;
    }
    rc = meta_sql_open(db->path, vfs, WRITER_CACHE_KIB, &db->writer, msg);
    if (rc == 0) {
        rc = meta_sql_exec(&db->writer, "PRAGMA synchronous=FULL");
    }
    if (rc == 0) {
        rc = meta_sql_errno(sqlite3_db_config(
            db->writer.handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL));
    }
    return rc;
}

static int open_writer(struct meta_db *db,
                       uint64_t cluster,
                       uint32_t slot,
                       struct errmsg *msg)
{
    int rc = open_writer_handle(db, msg);

    if (rc != 0) {
        return rc;
    }
    rc = meta_schema_check(&db->writer, db->path, cluster, slot, msg);
    if (rc != 0) {
        return rc;
    }
    rc = meta_sql_prepare(&db->writer, meta_statement_texts, META_STATEMENTS);
    if (rc == 0) {
        rc = load_memory(db);
    }
    if (rc != 0) {
        errmsg_set(msg, "cannot use the metadata database %s: %s", db->path,
                   sqlite3_errmsg(db->writer.handle));
    }
    (void)sqlite3_wal_hook(db->writer.handle, note_wal_pages, db);
    return rc;
}

static int open_syncer(struct meta_db *db, struct errmsg *msg)
{
    int rc = meta_sql_open(db->path, NULL, OTHER_CACHE_KIB, &db->syncer, msg);

    if (rc == 0) { /* the first read opens the WAL */
        rc = meta_sql_exec(&db->syncer, "SELECT applied FROM counter");
    }
    if (rc == 0) {
        rc = meta_sql_errno(sqlite3_file_control(
            db->syncer.handle, "main", SQLITE_FCNTL_JOURNAL_POINTER, &db->wal));
    }
    if (rc == 0 && (db->wal == NULL || db->wal->pMethods == NULL)) {
        errmsg_set(msg, "%s: no write-ahead log on this filesystem", db->path);
        return -EIO;
    }
    return rc;
}

/* A path that does not exist is created; what is there is left alone. */
static int create_if_missing(const char *path,
                             uint64_t cluster,
                             uint32_t slot,
                             int64_t now_ns,
                             struct errmsg *msg)
{
    struct stat st;
    char *wal;
    int found;

    if (stat(path, &st) == 0) {
        if (st.st_size > 0) {
            return 0;
        }
        errmsg_set(msg, "the metadata database %s is empty: truncated?", path);
        return -EBADMSG;
    }
    if (errno != ENOENT) {
        errmsg_set(msg, "cannot open the metadata database %s: %s", path,
                   err_text(errno));
        return -EIO;
    }
    wal = sqlite3_mprintf("%s-wal", path);
    if (wal == NULL) {
        return -ENOMEM;
    }
    found = stat(wal, &st);
    sqlite3_free(wal);
    if (found == 0) {
        errmsg_set(msg, "the metadata database %s is missing, its log is there",
                   path);
        return -EBADMSG;
    }
    return meta_schema_create(path, cluster, slot, now_ns, msg);
}

static struct meta_db *db_new(const char *path, uint32_t slot)
{
    struct meta_db *db = calloc(1, sizeof *db);

    if (db == NULL) {
        return NULL;
    }
    (void)pthread_mutex_init(&db->writer_lock, NULL);
    (void)pthread_mutex_init(&db->sync_lock, NULL);
    db->slot = slot;
    db->path = strdup(path);
    db->inodes = calloc(META_INODE_CACHE_SIZE, sizeof *db->inodes);
    if (db->path == NULL || db->inodes == NULL) {
        meta_db_close(db);
        return NULL;
    }
    return db;
}

int meta_db_open(const char *path,
                 uint64_t cluster,
                 uint32_t slot,
                 int64_t now_ns,
                 struct meta_db **ret_db,
                 struct errmsg *msg)
{
    struct meta_db *db = db_new(path, slot);
    int rc;

    if (db == NULL) {
        errmsg_set(msg, "out of memory");
        return -ENOMEM;
    }
    rc = create_if_missing(path, cluster, slot, now_ns, msg);
    if (rc == 0) {
        rc = open_writer(db, cluster, slot, msg);
    }
    if (rc == 0) {
        rc = meta_sql_open(path, NULL, OTHER_CACHE_KIB, &db->checkpointer, msg);
        (void)sqlite3_busy_timeout(db->checkpointer.handle, CHECKPOINT_BUSY_MS);
    }
    if (rc == 0) {
        rc = open_syncer(db, msg);
    }
    if (rc == 0) { /* a WAL that an earlier process has left */
        rc = meta_db_checkpoint(db);
    }
    if (rc != 0) {
        if (msg != NULL && msg->text[0] == '\0') {
            errmsg_set(msg, "cannot open the metadata database %s: %s", path,
                       err_text(rc));
        }
        meta_db_close(db);
        return rc;
    }
    *ret_db = db;
    return 0;
}

void meta_db_close(struct meta_db *db)
{
    if (db == NULL) {
        return;
    }
    if (db->in_transaction) {
        meta_db_rollback(db);
    }
    meta_sql_close(&db->writer);
    meta_sql_close(&db->syncer);
    meta_sql_close(&db->checkpointer);
    meta_object_tally_close(&db->tally);
    (void)pthread_mutex_destroy(&db->sync_lock);
    (void)pthread_mutex_destroy(&db->writer_lock);
    free(db->sessions);
    free(db->inodes);
    free(db->path);
    free(db);
}

int meta_db_open_directory(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *directory =
        slash == NULL ? strdup(".") : strndup(path, (size_t)(slash - path) + 1);
    int fd;

    if (directory == NULL) {
        return -ENOMEM;
    }
    fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        fd = -errno;
    }
    free(directory);
    return fd;
}

uint64_t meta_db_applied(const struct meta_db *db)
{
    return db->counters.applied;
}

uint64_t meta_db_next_session(const struct meta_db *db)
{
    return db->counters.next_session;
}

int meta_db_begin(struct meta_db *db)
{
    int rc;

    assert(!db->in_transaction);
    (void)pthread_mutex_lock(&db->writer_lock);
    rc = meta_sql_run(meta_db_statement(db, META_BEGIN));
    if (rc != 0) {
        (void)pthread_mutex_unlock(&db->writer_lock);
        return rc;
    }
    db->in_transaction = true;
    return 0;
}

int meta_db_commit(struct meta_db *db)
{
    sqlite3_stmt *put = meta_db_statement(db, META_COUNTERS_PUT);
    const struct meta_counters *counters = &db->counters;
    int rc;

    assert(db->in_transaction);
    meta_sql_bind(
        put,
        (int64_t[]){
            (int64_t)counters->applied, (int64_t)counters->next_sequence,
            (int64_t)counters->next_session, (int64_t)counters->next_orphan,
            (int64_t)counters->n_inodes, (int64_t)counters->n_objects },
        6);
    rc = meta_sql_run(put);
    if (rc == 0) {
        rc = meta_sql_run(meta_db_statement(db, META_COMMIT));
    }
    if (rc == 0) {
        db->in_transaction = false;
        (void)pthread_mutex_unlock(&db->writer_lock);
    }
    return rc;
}

void meta_db_rollback(struct meta_db *db)
{
    assert(db->in_transaction);
    /* After some errors SQLite has rolled back by itself. */
    if (sqlite3_get_autocommit(db->writer.handle) == 0) {
        int rc = meta_sql_run(meta_db_statement(db, META_ROLLBACK));

        (void)rc; /* logged; the file is as before in any case */
    }
    if (load_memory(db) != 0) {
        log_error("metadata database not readable after rollback file=%s",
                  db->path);
    }
    db->in_transaction = false;
    (void)pthread_mutex_unlock(&db->writer_lock);
}

int meta_db_sync(struct meta_db *db)
{
    int code;

    (void)pthread_mutex_lock(&db->sync_lock);
    code = db->wal->pMethods->xSync(db->wal, SQLITE_SYNC_NORMAL);
    (void)pthread_mutex_unlock(&db->sync_lock);
    if (code != SQLITE_OK) {
        log_error("metadata log not synced file=%s code=%d", db->path, code);
    }
    return meta_sql_errno(code);
}

/* Run a checkpoint; a lock held by a reader is no failure. */
static int checkpoint(struct meta_db *db, int mode, bool *ret_complete)
{
    sqlite3 *handle = db->checkpointer.handle;
    int n_pages = 0;
    int n_copied = 0;
    int code =
        sqlite3_wal_checkpoint_v2(handle, NULL, mode, &n_pages, &n_copied);

    *ret_complete = code == SQLITE_OK && n_pages == n_copied;
    if (code != SQLITE_OK && (code & 0xff) != SQLITE_BUSY) {
        return meta_sql_fail(handle, code);
    }
    return 0;
}

/* The bulk is copied while the writer goes on. What it has added meanwhile is
 * little; that is copied while it waits, and then the WAL is empty of news and
 * the writer starts it over: without this step a busy writer would let the WAL
 * grow for ever. */
int meta_db_checkpoint(struct meta_db *db)
{
    bool complete;
    int rc = checkpoint(db, SQLITE_CHECKPOINT_PASSIVE, &complete);

    if (rc != 0) {
        return rc;
    }
    (void)pthread_mutex_lock(&db->writer_lock);
    rc = checkpoint(db, SQLITE_CHECKPOINT_RESTART, &complete);
    if (rc == 0 && complete) {
        atomic_store(&db->wal_pages, 0);
    }
    (void)pthread_mutex_unlock(&db->writer_lock);
    return rc;
}

uint64_t meta_db_wal_pages(struct meta_db *db)
{
    return atomic_load(&db->wal_pages);
}
