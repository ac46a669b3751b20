/* Reads of a metadata shard. Each call sees one consistent state, the last
 * commit. Reply messages are heap-built: free them with
 * protobuf_c_message_free_unpacked(&reply->base, NULL). Logical failure
 * (ENOENT, ENOTDIR, ENODATA, ESTALE...) is the reply's `error`, positive; the
 * function itself fails only when no reply could be built.
 *
 * Errors of all: -EIO, -EBADMSG the database failed; -ENOMEM. */
#pragma once

#include "common/err.h"
#include "proto/metadata.pb-c.h"
#include "storaged/meta/meta_db.h"

MUST_CHECK int meta_read_lookup(struct meta_reader *reader,
                                const Gabion__LookupRequest *request,
                                Gabion__AttrReply **ret_reply);
MUST_CHECK int meta_read_attr(struct meta_reader *reader,
                              const Gabion__GetAttrRequest *request,
                              Gabion__AttrReply **ret_reply);
MUST_CHECK int meta_read_dir(struct meta_reader *reader,
                             const Gabion__ReadDirRequest *request,
                             Gabion__ReadDirReply **ret_reply);
MUST_CHECK int meta_read_link(struct meta_reader *reader,
                              const Gabion__ReadLinkRequest *request,
                              Gabion__ReadLinkReply **ret_reply);
MUST_CHECK int meta_read_xattr(struct meta_reader *reader,
                               const Gabion__GetXattrRequest *request,
                               Gabion__GetXattrReply **ret_reply);
MUST_CHECK int meta_read_layout(struct meta_reader *reader,
                                const Gabion__GetLayoutRequest *request,
                                Gabion__GetLayoutReply **ret_reply);
MUST_CHECK int meta_read_stats(struct meta_reader *reader,
                               Gabion__ShardStatsReply **ret_reply);

/* Unlinked inodes with a number above `after`, ascending, at most `limit`; and
 * for the reaper: objects without live bytes, ascending from the one after
 * `after` (NULL: from the first). */
struct meta_orphan {
    uint64_t number;
    uint64_t ino;
};
MUST_CHECK int meta_read_orphans(struct meta_reader *reader,
                                 uint64_t after,
                                 size_t limit,
                                 struct meta_orphan *ret_orphans,
                                 size_t *ret_n);

struct meta_garbage {
    uint8_t object[16];
};
MUST_CHECK int meta_read_garbage(struct meta_reader *reader,
                                 const struct meta_garbage *after,
                                 size_t limit,
                                 struct meta_garbage *ret_objects,
                                 size_t *ret_n);

/* Sessions the shard knows, live or not, ascending; for the expiry keeper. The
 * caller frees the array. */
MUST_CHECK int meta_read_sessions(struct meta_reader *reader,
                                  uint64_t **ret_sessions,
                                  size_t *ret_n);
