/* The cluster service, "/gabion.Cluster/...": tells who asks what the cluster
 * map is. */
#pragma once

#include <stddef.h>

#include "common/err.h"
#include "common/rpc_server.h"
#include "proto/cluster_map.h"

struct cluster_service;

/* `map` is copied. Errors: -ENOMEM */
MUST_CHECK int cluster_service_new(const struct cluster_map *map,
                                   struct cluster_service **ret_service);

/* No request may be under way. NULL is allowed. */
void cluster_service_free(struct cluster_service *service);

/* The methods, for rpc_server_new(); borrowed. */
const struct rpc_method *cluster_service_methods(
    struct cluster_service *service,
    size_t *ret_n);
