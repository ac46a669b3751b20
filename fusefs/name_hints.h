/* Which inode a name of a directory was last known to stand for.
 *
 * The kernel asks by name to remove or to rename; a hint tells without an RPC
 * what that will hit. A small table of fixed size: a hint may be missing, and
 * another mount may have made it wrong, but no answer that is older than a
 * change of this mount replaces what that change has left. Thread-safe. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "fusefs/inode.h"

struct name_hints;

/* Errors: -ENOMEM */
MUST_CHECK int name_hints_new(struct name_hints **ret_hints);
void name_hints_free(struct name_hints *hints); /* NULL is allowed */

/* `ino` 0: the name is free. `when`: the time before the question was asked, or
 * after the change was made. */
void name_hints_set(struct name_hints *hints,
                    uint64_t parent,
                    const char *name,
                    uint64_t ino,
                    inode_stamp when);

/* False when nothing is known of the name. */
bool name_hints_get(struct name_hints *hints,
                    uint64_t parent,
                    const char *name,
                    uint64_t *ret_ino);
