#include "storaged/meta/meta_create.h"

#include <errno.h>
#include <stddef.h>
#include <unistd.h>

#include <sqlite3.h>

#include "storaged/meta/meta_db.h"
#include "storaged/meta/meta_sql.h"

static void remove_files(const char *path)
{
    static const char *const suffixes[] = { "", "-journal", "-wal", "-shm" };

    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        char *name = sqlite3_mprintf("%s%s", path, suffixes[i]);

        if (name != NULL) {
            (void)unlink(name);
        }
        sqlite3_free(name);
    }
}

static int fill(const char *path, const char *sql)
{
    static const char *const steps[] = { "PRAGMA synchronous=FULL;"
                                         "BEGIN IMMEDIATE",
                                         NULL, "COMMIT" };
    sqlite3 *handle = NULL;
    int code = sqlite3_open_v2(
        path, &handle,
        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);

    for (size_t i = 0; i < 3 && code == SQLITE_OK; i++) {
        code = sqlite3_exec(handle, steps[i] != NULL ? steps[i] : sql, NULL,
                            NULL, NULL);
    }
    (void)sqlite3_close(handle);
    return meta_sql_errno(code);
}

/* link(2) refuses to replace what is there. */
static int publish(const char *temporary, const char *path)
{
    int fd;
    int rc;

    if (link(temporary, path) != 0) {
        return errno == EEXIST ? -EEXIST : errno == ENOSPC ? -ENOSPC : -EIO;
    }
    fd = meta_db_open_directory(path);
    if (fd < 0) {
        return fd == -ENOMEM ? fd : -EIO;
    }
    rc = fsync(fd) == 0 ? 0 : -EIO;
    (void)close(fd);
    return rc;
}

int meta_create(const char *path,
                const char *what,
                const char *sql,
                struct errmsg *msg)
{
    char *temporary = sqlite3_mprintf("%s.new", path);
    int rc = -ENOMEM;

    if (temporary != NULL) {
        remove_files(temporary);
        rc = fill(temporary, sql);
    }
    if (rc == 0) {
        rc = publish(temporary, path);
    }
    if (rc != 0) {
        errmsg_set(msg, "cannot create the %s %s: %s", what, path,
                   err_text(rc));
    }
    if (temporary != NULL) {
        remove_files(temporary);
        sqlite3_free(temporary);
    }
    return rc;
}
