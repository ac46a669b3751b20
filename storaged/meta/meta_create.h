/* Making a SQLite database that is there whole or not at all. */
#pragma once

#include "common/err.h"

/* Make the database `path`, which is not there, and run `sql` on it in a
 * transaction; all is durable on return. It is made under another name, so that
 * whoever finds `path` finds a whole one; what an interrupted creation has left
 * is removed. `what` names it in `msg`: "metadata database".
 * Errors, told in `msg`: -EEXIST something is there; -ENOSPC, -EIO, -ENOMEM */
MUST_CHECK int meta_create(const char *path,
                           const char *what,
                           const char *sql,
                           struct errmsg *msg);
