/* Calls to the metadata service: finds the node that serves an inode, retries
 * while it cannot be reached, checks what comes back.
 *
 * A call that finds its node unreachable or silent is repeated, unchanged, with
 * growing pauses until `timeout_ms` has passed, or for ever when `hard`. That
 * is safe: reads change nothing, and ops carry (session, sequence), by which
 * the shard applies them once. Thread-safe; calls block.
 *
 * Common errors: -ETIMEDOUT, -EHOSTUNREACH  no answer within the timeout
 *                -EINTR   the calling thread's request has been given up
 *                -EPROTO  an answer that makes no sense
 *                -ESTALE  the node is of another cluster
 *                -ENOMEM; and the shard's own: -ENOENT, -EIO, ... */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "common/rpc_client.h"
#include "proto/cluster_map.h"
#include "proto/metadata.pb-c.h"

struct meta_client;

struct meta_client_config {
    struct rpc_client *rpc;  /* borrowed for the life of the client */
    struct cluster_map *map; /* a reference is taken */
    int64_t timeout_ms;      /* a call ends after this, unless hard */
    bool hard;               /* retry until interrupted */
    /* Whether the request that the calling thread serves has been given up by
     * who asked for it. NULL: never. */
    bool (*is_interrupted)(void);
};

/* Errors: -ENOMEM; -EINVAL an address of the map is not one */
MUST_CHECK int meta_client_new(const struct meta_client_config *config,
                               struct meta_client **ret_client);

/* No call may be running. NULL is allowed. */
void meta_client_free(struct meta_client *client);

/* From now on no call is repeated: what fails ends at once. */
void meta_client_stop_retrying(struct meta_client *client);

/* The answers of all of these but attributes are messages that the caller frees
 * with protobuf_c_message_free_unpacked(&reply->base, NULL). Attributes are
 * copied by value. */

MUST_CHECK int meta_client_lookup(struct meta_client *client,
                                  uint64_t parent,
                                  const char *name,
                                  Gabion__Attr *ret_attr);
MUST_CHECK int meta_client_get_attr(struct meta_client *client,
                                    uint64_t ino,
                                    Gabion__Attr *ret_attr);

/* At most `limit` entries whose cookies are above `after`. */
MUST_CHECK int meta_client_read_dir(struct meta_client *client,
                                    const Gabion__ReadDirRequest *query,
                                    Gabion__ReadDirReply **ret_reply);
MUST_CHECK int meta_client_read_link(struct meta_client *client,
                                     uint64_t ino,
                                     Gabion__ReadLinkReply **ret_reply);

/* `name` NULL: list the names. Errors also: -ENODATA */
MUST_CHECK int meta_client_get_xattr(struct meta_client *client,
                                     uint64_t ino,
                                     const char *name,
                                     Gabion__GetXattrReply **ret_reply);
MUST_CHECK int meta_client_get_layout(struct meta_client *client,
                                      uint64_t ino,
                                      uint64_t offset,
                                      uint32_t limit,
                                      Gabion__GetLayoutReply **ret_reply);

/* Of the shard that serves `ino`. */
MUST_CHECK int meta_client_stats(struct meta_client *client,
                                 uint64_t ino,
                                 Gabion__ShardStatsReply **ret_reply);

/* One attempt only, ending at `deadline_ms`: the caller has its own rhythm.
 * `request->cluster` is filled in. Errors also: -ESTALE the session expired */
MUST_CHECK int meta_client_heartbeat(struct meta_client *client,
                                     Gabion__HeartbeatRequest *request,
                                     int64_t deadline_ms,
                                     Gabion__HeartbeatReply **ret_reply);

/* Submit the ops, or with none and `durable` just wait until all before are
 * durable, to the shard that serves `ino`. `*ret_reply` has as many results as
 * there are ops; their own errors are not looked at here. `*ret_attempts`
 * counts how often the request was sent, also on failure: after the first an
 * op may have been applied although the answer says nothing of it.
 * Errors also: -ESTALE the session is unknown or expired */
MUST_CHECK int meta_client_submit(struct meta_client *client,
                                  uint64_t ino,
                                  Gabion__SubmitRequest *request,
                                  Gabion__SubmitReply **ret_reply,
                                  unsigned *ret_attempts);
