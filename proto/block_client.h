/* struct block_io over gRPC: the client of the block service. */
#pragma once

#include "common/block_io.h"
#include "common/rpc_client.h"
#include "proto/cluster_map.h"

struct block_client;

/* Both borrowed for the life of the client. Errors: -ENOMEM, -EINVAL an
 * address of the map is not one. */
MUST_CHECK int block_client_new(struct rpc_client *rpc,
                                struct cluster_map *map,
                                struct block_client **ret_client);

/* No transfer may be under way. */
void block_client_free(struct block_client *client);

/* The vtable; borrowed. */
struct block_io *block_client_io(struct block_client *client);
