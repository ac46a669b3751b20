/* The directory to mount on: is it fit, and which device came of it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/err.h"

/* Check that `path` is a directory that can be mounted on, and that FUSE is
 * there. `*ret_path` is then its absolute path without symbolic links, owned by
 * the caller.
 *
 * Errors: -ENOENT, -ENOTDIR, -EACCES ...  of the path
 *         -EBUSY      a Gabion filesystem is mounted there already
 *         -ENOTEMPTY  it has entries, unless `nonempty`
 *         -ENODEV     /dev/fuse is not there
 *         -ENOMEM
 * with the reason in `msg` */
MUST_CHECK int mountpoint_check(const char *path,
                                bool nonempty,
                                char **ret_path,
                                struct errmsg *msg);

/* One line of /proc/self/mountinfo. */
struct mountpoint_line {
    unsigned device_major;
    unsigned device_minor;
    char path[4096]; /* where it is mounted, unescaped */
    char type[64];   /* "fuse.gabion" */
};

/* Errors: -EINVAL not such a line. Pure. */
MUST_CHECK int mountpoint_parse_line(const char *line,
                                     struct mountpoint_line *ret_line);

/* Let the kernel read ahead by `kib` in the filesystem mounted at `path`: FUSE
 * cannot ask for more than its default otherwise. Without the privilege it
 * stays as it is. Does not touch the mount itself. */
void mountpoint_set_readahead(const char *path, unsigned kib);
