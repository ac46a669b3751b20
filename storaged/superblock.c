/* The superblock is text, so that a person who finds a disk can read it:
 *
 *   format = 1
 *   cluster = 0123456789abcdef
 *   node = 3
 *   checksum = 89abcdef        CRC32C of the lines before
 *
 * The first line keeps its form in all formats to come. The file appears by
 * rename(2), so it is whole or absent. */
#include "storaged/superblock.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "common/checksum.h"

#define NAME      "superblock"
#define TEMP_NAME "superblock.tmp"
#define LOCK_NAME "lock"
#define TEXT_MAX  256u

struct superblock {
    int dir;  /* the data directory */
    int lock; /* the lock file: flock(2) held while open */
};

/* What a superblock says. */
struct content {
    uint64_t format;
    uint64_t cluster;
    uint64_t node;
};

/* ------------------------------------------------------------------- files */

/* Read all of a file that fits `text` with a NUL. Errors: -EBADMSG it does
 * not fit; -ENOENT and others of open(2) and read(2). */
static int read_text(int dir, const char *name, char text[TEXT_MAX])
{
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    ssize_t n;
    int rc = 0;

    if (fd < 0) {
        return -errno;
    }
    n = read(fd, text, TEXT_MAX);
    if (n < 0) {
        rc = -errno;
    } else if (n == TEXT_MAX) {
        rc = -EBADMSG;
    } else {
        text[n] = '\0';
    }
    (void)close(fd);
    return rc;
}

static int write_all(int fd, const char *text, size_t size)
{
    ssize_t n = write(fd, text, size);

    if (n < 0) {
        return -errno;
    }
    return (size_t)n == size ? 0 : -ENOSPC; /* a few bytes: all or none */
}

/* Put `text` under `name`, whole or not at all, durably. */
static int write_durably(int dir, const char *name, const char *text)
{
    int fd =
        openat(dir, TEMP_NAME, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    int rc;

    if (fd < 0) {
        return -errno;
    }
    rc = write_all(fd, text, strlen(text));
    if (rc == 0 && fsync(fd) != 0) {
        rc = -errno;
    }
    if (close(fd) != 0 && rc == 0) {
        rc = -errno;
    }
    if (rc == 0 && renameat(dir, TEMP_NAME, dir, name) != 0) {
        rc = -errno;
    }
    if (rc == 0 && fsync(dir) != 0) {
        rc = -errno;
    }
    return rc;
}

/* ----------------------------------------------------------------- content */

/* Take a line "NAME = NUMBER"; `*text` moves behind it. */
static bool take_line(const char **text,
                      const char *name,
                      int base,
                      uint64_t *ret_number)
{
    const char *c = *text;
    size_t length = strlen(name);
    char *end;

    if (strncmp(c, name, length) != 0 || strncmp(c + length, " = ", 3) != 0) {
        return false;
    }
    c += length + 3;
    if (*c == '-' || *c == '+' || *c == ' ') {
        return false;
    }
    errno = 0;
    *ret_number = strtoull(c, &end, base);
    if (end == c || errno != 0 || *end != '\n') {
        return false;
    }
    *text = end + 1;
    return true;
}

/* Errors: -EINVAL a newer format; -EBADMSG */
static int parse(const char *text, struct content *ret_content)
{
    const char *next = text;
    uint64_t checksum;
    size_t size;

    if (!take_line(&next, "format", 10, &ret_content->format)) {
        return -EBADMSG;
    }
    if (ret_content->format > SUPERBLOCK_FORMAT) {
        return -EINVAL;
    }
    if (!take_line(&next, "cluster", 16, &ret_content->cluster) ||
        !take_line(&next, "node", 10, &ret_content->node)) {
        return -EBADMSG;
    }
    size = (size_t)(next - text);
    if (!take_line(&next, "checksum", 16, &checksum) || *next != '\0' ||
        checksum != checksum_crc32c(text, size)) {
        return -EBADMSG;
    }
    return 0;
}

static void print(uint64_t cluster, uint32_t node, char text[TEXT_MAX])
{
    int n =
        snprintf(text, TEXT_MAX,
                 "format = %u\ncluster = %016" PRIx64 "\nnode = %" PRIu32 "\n",
                 SUPERBLOCK_FORMAT, cluster, node);
    uint32_t checksum = checksum_crc32c(text, (size_t)n);

    assert(n > 0 && (size_t)n < TEXT_MAX - 32);
    (void)snprintf(text + n, TEXT_MAX - (size_t)n, "checksum = %08" PRIx32 "\n",
                   checksum);
}

/* ------------------------------------------------------------------- steps */

/* Whether an entry may be in a directory that is not yet anybody's. */
static bool is_harmless(const char *name)
{
    static const char *const harmless[] = { ".", "..", LOCK_NAME, TEMP_NAME,
                                            "lost+found" };

    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++) {
        if (strcmp(name, harmless[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* Whether the directory has a superblock or may get one. */
static int check_directory(int dir, const char *path, struct errmsg *msg)
{
    const struct dirent *entry;
    DIR *stream;
    int fd;
    int rc = 0;

    if (faccessat(dir, NAME, F_OK, 0) == 0) {
        return 0;
    }
    fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    stream = fd >= 0 ? fdopendir(fd) : NULL;
    if (stream == NULL) {
        rc = -errno;
        errmsg_set(msg, "%s: cannot be listed: %s", path, err_text(rc));
        if (fd >= 0) {
            (void)close(fd);
        }
        return rc;
    }
    /* The stream is this call's own. */
    while (rc == 0 &&
           (entry = readdir(stream)) != NULL) { // NOLINT(concurrency-mt-unsafe)
        if (!is_harmless(entry->d_name)) {
            errmsg_set(msg,
                       "%s: not a data directory of Gabion, and not empty "
                       "('%s' is in it): give an empty directory",
                       path, entry->d_name);
            rc = -ENOTEMPTY;
        }
    }
    (void)closedir(stream);
    return rc;
}

static int take_lock(struct superblock *superblock,
                     const char *path,
                     struct errmsg *msg)
{
    char pid[TEXT_MAX];
    int rc;

    superblock->lock =
        openat(superblock->dir, LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (superblock->lock < 0) {
        rc = -errno;
        errmsg_set(msg, "%s/%s: %s", path, LOCK_NAME, err_text(rc));
        return rc;
    }
    if (flock(superblock->lock, LOCK_EX | LOCK_NB) != 0) {
        rc = errno == EWOULDBLOCK ? -EBUSY : -errno;
        if (read_text(superblock->dir, LOCK_NAME, pid) != 0 || pid[0] == '\0') {
            (void)snprintf(pid, sizeof pid, "unknown");
        }
        pid[strcspn(pid, "\n")] = '\0';
        errmsg_set(msg,
                   rc == -EBUSY
                       ? "%s: in use by another gabion-storaged, pid %s"
                       : "%s: cannot be locked (last pid %s)",
                   path, pid);
        return rc;
    }
    /* For the message above; nothing depends on it. */
    (void)snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    rc = ftruncate(superblock->lock, 0) == 0
             ? write_all(superblock->lock, pid, strlen(pid))
             : -errno;
    if (rc != 0) {
        errmsg_set(msg, "%s/%s: cannot be written: %s", path, LOCK_NAME,
                   err_text(rc));
        return rc;
    }
    return 0;
}

/* Create the superblock, or check what it says. */
static int claim(const struct superblock *superblock,
                 const char *path,
                 uint64_t cluster,
                 uint32_t node,
                 struct errmsg *msg)
{
    struct content content = { 0 };
    char text[TEXT_MAX];
    int rc = read_text(superblock->dir, NAME, text);

    if (rc == -ENOENT) {
        print(cluster, node, text);
        rc = write_durably(superblock->dir, NAME, text);
        if (rc != 0) {
            errmsg_set(msg, "%s/%s: cannot be written: %s", path, NAME,
                       err_text(rc));
        }
        return rc;
    }
    if (rc == 0) {
        rc = parse(text, &content);
    }
    if (rc == -EINVAL) {
        errmsg_set(msg,
                   "%s: written by a newer Gabion (format %" PRIu64
                   ", this one knows %u): upgrade this node",
                   path, content.format, SUPERBLOCK_FORMAT);
    } else if (rc != 0) {
        errmsg_set(msg, "%s/%s: damaged or unreadable: %s", path, NAME,
                   err_text(rc));
    } else if (content.cluster != cluster) {
        errmsg_set(msg,
                   "%s: of another cluster, %016" PRIx64
                   " instead of %016" PRIx64,
                   path, content.cluster, cluster);
        rc = -ESTALE;
    } else if (content.node != node) {
        errmsg_set(msg, "%s: of node %" PRIu64 ", not of node %" PRIu32, path,
                   content.node, node);
        rc = -ESTALE;
    }
    return rc;
}

int superblock_open(const char *dir,
                    uint64_t cluster,
                    uint32_t node,
                    struct superblock **ret_superblock,
                    struct errmsg *msg)
{
    struct superblock *superblock = calloc(1, sizeof *superblock);
    int rc;

    if (superblock == NULL) {
        return -ENOMEM;
    }
    superblock->lock = -1;
    superblock->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (superblock->dir < 0) {
        rc = -errno;
        errmsg_set(msg, "data directory %s: %s", dir, err_text(rc));
        goto fail;
    }
    rc = check_directory(superblock->dir, dir, msg);
    if (rc == 0) {
        rc = take_lock(superblock, dir, msg);
    }
    if (rc == 0) {
        rc = claim(superblock, dir, cluster, node, msg);
    }
    if (rc != 0) {
        goto fail;
    }
    *ret_superblock = superblock;
    return 0;

fail:
    superblock_close(superblock);
    return rc;
}

void superblock_close(struct superblock *superblock)
{
    if (superblock == NULL) {
        return;
    }
    if (superblock->lock >= 0) {
        (void)close(superblock->lock);
    }
    if (superblock->dir >= 0) {
        (void)close(superblock->dir);
    }
    free(superblock);
}
