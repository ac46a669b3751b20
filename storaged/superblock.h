/* Whose data directory this is: the file `superblock` says which node of which
 * cluster owns it, the lock on the file `lock` that no other process uses it.
 */
#pragma once

#include <stdint.h>

#include "common/err.h"

/* Of the data directory as a whole; raised when an older daemon must not touch
 * what a newer one has written. */
#define SUPERBLOCK_FORMAT 1u

struct superblock;

/* Take the data directory `dir` for this node. A directory that is empty (but
 * for lost+found) becomes the node's: the superblock is made durable before
 * this returns.
 *
 * Errors, told in `msg` in one line:
 *   -ENOENT, -ENOTDIR, -EACCES ...  the directory cannot be used
 *   -ENOTEMPTY  it has no superblock, but something else
 *   -EBUSY      another process uses it; its pid is in `msg`
 *   -ESTALE     it is of another cluster or another node
 *   -EINVAL     its format is newer than SUPERBLOCK_FORMAT
 *   -EBADMSG    the superblock is damaged
 *   -EIO, -ENOSPC, -ENOMEM */
MUST_CHECK int superblock_open(const char *dir,
                               uint64_t cluster,
                               uint32_t node,
                               struct superblock **ret_superblock,
                               struct errmsg *msg);

/* Give up the lock. NULL is allowed. */
void superblock_close(struct superblock *superblock);
