/* The command line and configuration of gabion-fusefs.
 *
 *     gabion-fusefs SOURCE MOUNTPOINT [-o OPTION[,OPTION...]] [-f] [-d]
 *
 * SOURCE is HOST[:PORT][,HOST[:PORT]...]:/[SUBDIR]: any nodes of the cluster,
 * and the directory of the filesystem to mount. The options of mount(8) are
 * understood, so that a line in /etc/fstab works; defaults of Gabion's own are
 * taken from the section [client] of a configuration file. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/log.h"

#define OPTIONS_DEFAULT_CONF "/etc/gabion/client.conf"

struct options {
    char *source; /* owned: as given, shown by findmnt(8) */
    char **seeds; /* owned: addresses, "host:port" */
    size_t n_seeds;
    char *subdir;      /* owned: "" or path components joined by '/', without a
                          '/' at either end */
    char *mountpoint;  /* owned: as given */
    char *conf;        /* owned: the configuration file, or NULL */
    char *log_file;    /* owned: where messages go, or NULL */
    char *pid_file;    /* owned: where the process id goes, or NULL */
    char *mount_flags; /* owned: options for the kernel, comma-separated; may
                          be "" */

    int64_t timeout_ms;  /* calls end after this */
    bool hard;           /* calls wait until interrupted */
    uint64_t cache_size; /* bytes of memory for file data */
    int64_t attr_ms;     /* attributes may be this old */
    int64_t entry_ms;    /* names may */
    int64_t negative_ms; /* the absence of names may */
    enum log_level log_level;

    bool foreground;  /* -f */
    bool read_only;   /* ro */
    bool sync_data;   /* sync: writes are durable */
    bool sync_names;  /* sync, dirsync: changes of names and attributes are */
    bool allow_other; /* not only the mounting user */
    bool nonempty;    /* mount over a directory with entries */
    bool fake;        /* check everything, mount nothing (mount -f) */
    bool wants_help;
    bool wants_version;
};

/* Read the arguments (argv[0] decides whether -f has the meaning of mount(8)),
 * the configuration file, and once more the arguments, which win. `*options` is
 * always set and wants options_clear().
 *
 * Errors: -EINVAL  what is wrong is in `msg`
 *         -ENOENT, -EACCES ...  the file named by conf= cannot be read
 *         -ENOMEM */
MUST_CHECK int options_parse(struct options *options,
                             int argc,
                             char *const *argv,
                             struct errmsg *msg);
void options_clear(struct options *options);

/* The text of --help. Static. */
const char *options_usage(void);
