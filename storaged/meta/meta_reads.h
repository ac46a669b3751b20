/* The calls of the metadata service that only read: Lookup, GetAttr, ReadDir,
 * ReadLink, GetXattr, GetLayout, ShardStats. They are answered on the poller
 * thread, from the last commit: a read costs microseconds. */
#pragma once

#include <stdint.h>

#include "common/err.h"
#include "common/rpc_server.h"
#include "storaged/meta/reader_pool.h"

#define META_READS_METHODS 7u

/* Most that a reply lists, whatever the request asks for. */
#define META_DIR_LIMIT    4096u
#define META_LAYOUT_LIMIT 8192u

struct meta_reads;

/* `pool` is borrowed. Errors: -ENOMEM */
MUST_CHECK int meta_reads_new(uint64_t cluster,
                              struct reader_pool *pool,
                              struct meta_reads **ret_reads);
void meta_reads_free(struct meta_reads *reads); /* NULL is allowed */

/* The methods, for rpc_server_new(). */
void meta_reads_methods(struct meta_reads *reads,
                        struct rpc_method ret_methods[META_READS_METHODS]);
