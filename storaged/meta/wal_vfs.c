#include "storaged/meta/wal_vfs.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <sqlite3.h>

#define NAME "gabion-wal"

/* The file is written in pieces that end where a page of it ends. */
#define FILE_PAGE 4096u

/* What is collected at most; a larger transaction takes several writes. With
 * the padding it stays below the 128 KiB that SQLite's own files can write at a
 * time. */
#define COLLECT_MAX ((size_t)30 * FILE_PAGE)

/* An open log. `bytes` is the content of the file from `start` on. */
struct wal_file {
    sqlite3_file file;  /* what SQLite sees */
    sqlite3_file *disk; /* what it would see without us; lies behind this */
    uint8_t *bytes;     /* owned; room for COLLECT_MAX and one page */
    sqlite3_int64 start;
    size_t size;
    size_t n_written;      /* of them, the first ones: on disk as well */
    sqlite3_int64 end;     /* behind all that was written since the start */
    bool is_starting_over; /* nothing but the log's header was written yet */
};

static struct {
    sqlite3_vfs vfs;
    sqlite3_vfs *base; /* borrowed: SQLite's own */
    bool is_registered;
} wal_vfs;

static struct wal_file *wal_file(sqlite3_file *file)
{
    return (struct wal_file *)file;
}

/* ------------------------------------------------------------- collecting */

/* Go on behind what is on disk, with the page that it ends in: the next write
 * shall hold the whole of that page. */
static void keep_last_page(struct wal_file *wal)
{
    size_t tail = (size_t)(wal->start + (sqlite3_int64)wal->size) % FILE_PAGE;

    if (tail < wal->size) {
        memmove(wal->bytes, wal->bytes + wal->size - tail, tail);
        wal->start += (sqlite3_int64)(wal->size - tail);
        wal->size = tail;
    }
    wal->n_written = wal->size;
}

/* Bytes by which to lengthen the write so that it ends with a page. What lies
 * behind the end is left from an older log, and no frame of this one. */
static size_t padding(const struct wal_file *wal)
{
    sqlite3_int64 end = wal->start + (sqlite3_int64)wal->size;

    return end < wal->end ? 0 : (size_t)(-end & (FILE_PAGE - 1));
}

/* After a failure nothing is left: the transaction will be rolled back. */
static int write_collected(struct wal_file *wal)
{
    size_t pad = padding(wal);
    int code;

    if (wal->size == wal->n_written) {
        return SQLITE_OK;
    }
    memset(wal->bytes + wal->size, 0, pad);
    code = wal->disk->pMethods->xWrite(wal->disk, wal->bytes,
                                       (int)(wal->size + pad), wal->start);
    if (code != SQLITE_OK) {
        wal->size = wal->n_written = 0;
        return code;
    }
    if (wal->end < wal->start + (sqlite3_int64)wal->size) {
        wal->end = wal->start + (sqlite3_int64)wal->size;
    }
    keep_last_page(wal);
    return SQLITE_OK;
}

/* Be ready to collect `n` bytes that belong at `offset`. */
static int make_ready(struct wal_file *wal, size_t n, sqlite3_int64 offset)
{
    bool is_append = offset == wal->start + (sqlite3_int64)wal->size;

    if (!is_append || wal->size + n > COLLECT_MAX) {
        int code = write_collected(wal);

        if (code != SQLITE_OK) {
            return code;
        }
    }
    if (!is_append) {
        wal->start = offset;
        wal->size = wal->n_written = 0;
    }
    if (offset == 0) {
        wal->end = 0;
    }
    wal->is_starting_over = offset == 0;
    return SQLITE_OK;
}

static int wal_write(sqlite3_file *file,
                     const void *bytes,
                     int n,
                     sqlite3_int64 offset)
{
    struct wal_file *wal = wal_file(file);
    int code = make_ready(wal, (size_t)n, offset);

    if (code == SQLITE_OK) {
        memcpy(wal->bytes + wal->size, bytes, (size_t)n);
        wal->size += (size_t)n;
    }
    return code;
}

static int wal_sync(sqlite3_file *file, int flags)
{
    struct wal_file *wal = wal_file(file);
    int code = write_collected(wal);

    if (code == SQLITE_OK && wal->is_starting_over) {
        code = wal->disk->pMethods->xSync(wal->disk, flags);
    }
    return code;
}

/* ------------------------------------ what is first written, then passed on */

static int wal_close(sqlite3_file *file)
{
    struct wal_file *wal = wal_file(file);

    /* What is collected now belongs to no commit. */
    free(wal->bytes);
    return wal->disk->pMethods->xClose(wal->disk);
}

static int wal_read(sqlite3_file *file, void *to, int n, sqlite3_int64 offset)
{
    struct wal_file *wal = wal_file(file);
    int code = write_collected(wal);

    return code != SQLITE_OK
               ? code
               : wal->disk->pMethods->xRead(wal->disk, to, n, offset);
}

static int wal_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    struct wal_file *wal = wal_file(file);
    int code = write_collected(wal);

    wal->size = wal->n_written = 0;
    return code != SQLITE_OK ? code
                             : wal->disk->pMethods->xTruncate(wal->disk, size);
}

static int wal_file_size(sqlite3_file *file, sqlite3_int64 *ret_size)
{
    struct wal_file *wal = wal_file(file);
    int code = write_collected(wal);

    return code != SQLITE_OK
               ? code
               : wal->disk->pMethods->xFileSize(wal->disk, ret_size);
}

/* -------------------------------------------------------------- passed on */

static int wal_lock(sqlite3_file *file, int level)
{
    sqlite3_file *disk = wal_file(file)->disk;

    return disk->pMethods->xLock(disk, level);
}

static int wal_unlock(sqlite3_file *file, int level)
{
    sqlite3_file *disk = wal_file(file)->disk;

    return disk->pMethods->xUnlock(disk, level);
}

static int wal_check_reserved_lock(sqlite3_file *file, int *ret_is_held)
{
    sqlite3_file *disk = wal_file(file)->disk;

    return disk->pMethods->xCheckReservedLock(disk, ret_is_held);
}

static int wal_file_control(sqlite3_file *file, int op, void *arg)
{
    sqlite3_file *disk = wal_file(file)->disk;

    return disk->pMethods->xFileControl(disk, op, arg);
}

static int wal_sector_size(sqlite3_file *file)
{
    sqlite3_file *disk = wal_file(file)->disk;

    return disk->pMethods->xSectorSize(disk);
}

static int wal_device_characteristics(sqlite3_file *file)
{
    sqlite3_file *disk = wal_file(file)->disk;

    return disk->pMethods->xDeviceCharacteristics(disk);
}

static const sqlite3_io_methods wal_methods = {
    .iVersion = 1,
    .xClose = wal_close,
    .xRead = wal_read,
    .xWrite = wal_write,
    .xTruncate = wal_truncate,
    .xSync = wal_sync,
    .xFileSize = wal_file_size,
    .xLock = wal_lock,
    .xUnlock = wal_unlock,
    .xCheckReservedLock = wal_check_reserved_lock,
    .xFileControl = wal_file_control,
    .xSectorSize = wal_sector_size,
    .xDeviceCharacteristics = wal_device_characteristics,
};

/* -------------------------------------------------------------------- VFS */

static int open_file(sqlite3_vfs *vfs,
                     const char *path,
                     sqlite3_file *file,
                     int flags,
                     int *ret_flags)
{
    struct wal_file *wal = wal_file(file);
    int code;

    (void)vfs;
    if ((flags & SQLITE_OPEN_WAL) == 0) {
        return wal_vfs.base->xOpen(wal_vfs.base, path, file, flags, ret_flags);
    }
    *wal = (struct wal_file){ .disk = (sqlite3_file *)(wal + 1) };
    wal->bytes = malloc(COLLECT_MAX + FILE_PAGE);
    if (wal->bytes == NULL) {
        return SQLITE_NOMEM;
    }
    wal->disk->pMethods = NULL;
    code = wal_vfs.base->xOpen(wal_vfs.base, path, wal->disk, flags, ret_flags);
    if (code != SQLITE_OK) {
        if (wal->disk->pMethods != NULL) {
            (void)wal->disk->pMethods->xClose(wal->disk);
        }
        free(wal->bytes);
        return code;
    }
    wal->file.pMethods = &wal_methods;
    return SQLITE_OK;
}

/* Everything but opening a file is the base's: its functions take ours for
 * their own, as they find in it what they look for. */
static void register_vfs(void)
{
    if (sqlite3_initialize() != SQLITE_OK) {
        return;
    }
    wal_vfs.base = sqlite3_vfs_find(NULL);
    if (wal_vfs.base == NULL) {
        return;
    }
    wal_vfs.vfs = *wal_vfs.base;
    wal_vfs.vfs.pNext = NULL;
    wal_vfs.vfs.zName = NAME;
    wal_vfs.vfs.szOsFile += (int)sizeof(struct wal_file);
    wal_vfs.vfs.xOpen = open_file;
    wal_vfs.is_registered = sqlite3_vfs_register(&wal_vfs.vfs, 0) == SQLITE_OK;
}

const char *wal_vfs_name(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    (void)pthread_once(&once, register_vfs);
    return wal_vfs.is_registered ? NAME : NULL;
}
