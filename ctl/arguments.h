/* The command line of `gabion`. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"

enum command {
    COMMAND_HELP,
    COMMAND_VERSION,
    COMMAND_STATUS,
    COMMAND_FSCK,
};

struct arguments {
    enum command command;
    char **seeds; /* owned, as each of its strings: addresses of nodes */
    size_t n_seeds;
    bool json;     /* answer for programs */
    bool metadata; /* fsck: of the metadata */
};

/* Understand the command line. `*ret_arguments` is always set and wants
 * arguments_clear().
 * Errors, told in `msg`: -EINVAL, -ENOMEM */
MUST_CHECK int arguments_parse(int argc,
                               char *const *argv,
                               struct arguments *ret_arguments,
                               struct errmsg *msg);

void arguments_clear(struct arguments *arguments);

/* The text of --help; static. */
const char *arguments_usage(void);
