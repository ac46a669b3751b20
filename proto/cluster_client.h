/* Fetching the cluster map from the nodes. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/rpc_client.h"
#include "proto/cluster_map.h"

/* The wire's major version, as spoken here. */
#define CLUSTER_PROTOCOL 1u

struct cluster_query {
    const char *const *seeds; /* borrowed: addresses, "host:port" */
    size_t n_seeds;
    uint64_t cluster;    /* id of the cluster that is expected; 0: any */
    int64_t deadline_ms; /* when to give up, in clock_mono_ms() */
};

/* Ask the seeds for the map, one after the other and over again, until one of
 * them answers or the time is over. On success the caller owns a reference to
 * `*ret_map`; on failure `msg` says what was wrong with the last one asked.
 *
 * Errors: -EHOSTUNREACH, -ETIMEDOUT  nobody answers
 *         -ESTALE  a node of another cluster
 *         -EPROTONOSUPPORT  a node of another protocol version
 *         -EINVAL  an address is not one, or a map that makes no sense
 *         -ENOMEM */
MUST_CHECK int cluster_client_get_map(struct rpc_client *rpc,
                                      const struct cluster_query *query,
                                      struct cluster_map **ret_map,
                                      struct errmsg *msg);
