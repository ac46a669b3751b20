/* Reading: what the other parts of a block store need of it. */
#pragma once

#include "common/err.h"
#include "storaged/block/block_index.h"
#include "storaged/block/record.h"

struct block_store;

/* Read and check the block at a row. Its header is in `*ret_record` then.
 * Errors: -ENOENT its segment is gone; -EBADMSG, -EIO */
MUST_CHECK int block_get_verify_row(struct block_store *store,
                                    const struct index_row *row,
                                    struct record *ret_record);

/* Log, once per block, that the block at a row is damaged. */
void block_get_report(struct block_store *store,
                      const struct index_row *row,
                      int error);
