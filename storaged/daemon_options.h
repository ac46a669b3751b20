/* What gabion-storaged is told: command line and storaged.conf. */
#pragma once

#include <stdint.h>

#include "common/err.h"
#include "common/log.h"

enum daemon_action {
    DAEMON_RUN,
    DAEMON_HELP,
    DAEMON_VERSION,
};

/* The command line. */
struct daemon_command {
    enum daemon_action action;
    const char *config; /* DAEMON_RUN: storaged.conf; borrowed from argv */
};

/* Understand the command line. Errors: -EINVAL, told in `msg`. */
MUST_CHECK int daemon_command_parse(int argc,
                                    char *const *argv,
                                    struct daemon_command *ret_command,
                                    struct errmsg *msg);

/* The text of --help; static. */
const char *daemon_usage(void);

/* storaged.conf:
 *
 *   [node]
 *   id = 3                          of this node, as in cluster.conf
 *   data = /var/lib/gabion/data     directory of this node alone
 *   cluster = /etc/gabion/cluster.conf
 *   listen = 0.0.0.0:7703           default: the node's address in cluster.conf
 *   reserve = 1G                    kept free on the disk
 *   log_level = info                error, warn, info or debug */
struct daemon_options {
    uint32_t id;
    char *data;       /* owned */
    char *cluster;    /* owned */
    char *listen;     /* owned; NULL: the node's address */
    uint64_t reserve; /* bytes, or NODE_RESERVE_DEFAULT of node.h */
    enum log_level log_level;
};

/* Read the file into `*ret_options`, which is always set and wants
 * daemon_options_clear(). Errors: those of config_read(), also -EINVAL for a
 * key that is missing; told in `msg`. */
MUST_CHECK int daemon_options_read(const char *path,
                                   struct daemon_options *ret_options,
                                   struct errmsg *msg);

void daemon_options_clear(struct daemon_options *options);
