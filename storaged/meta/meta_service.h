/* The metadata service of one shard, "/gabion.Meta/...": its RPC handlers and
 * everything behind them (shard, sessions, reaper, garbage collector).
 *
 * Order of life: new, the methods into an rpc_server, start, the server's
 * start; the server's stop, stop, free.
 *
 * A session's number is chosen here and told in the result of OpenSession
 * (OpResult.ino); what the client put into Op.session does not matter. An
 * OpenSession comes alone in its Submit. A Submit without ops waits, if
 * durable, until all ops before it are durable. Sessions and inode numbers are
 * always given out durably.
 *
 * When the filesystem is full, up to the reserve, ops that add something are
 * refused with ENOSPC; those that take away go on, or there would be no way out
 * of it: an SQLite that finds no room stops the shard. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/rpc_client.h"
#include "common/rpc_server.h"
#include "proto/cluster_map.h"
#include "storaged/meta/shard.h"

#define META_EXPIRY_MS 15000

/* Orphans told in one heartbeat. */
#define META_ORPHANS_MAX 65536u

struct meta_service;

struct meta_service_config {
    /* path, cluster, slot; `applied` and `context` are set by the service. */
    struct shard_config shard;
    int64_t expiry_ms;        /* of a silent session; 0: META_EXPIRY_MS */
    uint64_t reserve;         /* bytes that are left free on the filesystem for
                                 ops that take away */
    struct rpc_client *rpc;   /* borrowed: to tell nodes of garbage */
    struct cluster_map *map;  /* counted */
    int64_t (*mono_ms)(void); /* clock of the sessions; NULL: clock_mono_ms */
    int64_t (*real_ns)(void); /* clock of own ops; NULL: clock_real_ns */
};

/* Errors: those of meta_db_open(), told in `msg`; -EINVAL an address of the map
 * is not one; -ENOMEM */
MUST_CHECK int meta_service_new(const struct meta_service_config *config,
                                struct meta_service **ret_service,
                                struct errmsg *msg);

/* The methods, for rpc_server_new(); borrowed. */
const struct rpc_method *meta_service_methods(struct meta_service *service,
                                              size_t *ret_n);

/* Start the threads. Errors: -EAGAIN, -ENOMEM; then stop and free. */
MUST_CHECK int meta_service_start(struct meta_service *service);

/* No request is being served any more. Applies and syncs what waits. */
void meta_service_stop(struct meta_service *service);
void meta_service_free(struct meta_service *service); /* NULL is allowed */

/* Borrowed; for tests and status. */
struct shard *meta_service_shard(struct meta_service *service);
