/* `gabion fsck`: whether what the cluster keeps contradicts itself. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "common/rpc_client.h"
#include "proto/cluster_map.h"

enum fsck_result {
    FSCK_SOUND,      /* everything was checked, nothing found */
    FSCK_FINDINGS,   /* something was found */
    FSCK_INCOMPLETE, /* something could not be checked */
};

/* Let each metadata shard check its database, one after the other, and print
 * what is found, for people or as one JSON object. Takes as long as it takes,
 * while the shards answer. */
enum fsck_result fsck_metadata(struct rpc_client *rpc,
                               const struct cluster_map *map,
                               bool json,
                               FILE *file);
