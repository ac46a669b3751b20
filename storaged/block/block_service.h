/* The block service of a node, "/gabion.Block/...": its RPC handlers.
 *
 * Pollers do not wait for the disk: reads whose bytes are in memory and, while
 * the disk keeps up, puts are served by them; everything else is done by
 * threads of the service. Syncs have one of their own, lists and deletions
 * another, so that puts and gets wait for neither.
 *
 * Order of life: new, the methods into an rpc_server, the server's start and
 * stop, free. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/rpc_server.h"
#include "storaged/block/block_store.h"

/* Threads for puts and gets when nothing else is said. */
#define BLOCK_SERVICE_THREADS 4u

struct block_service;

struct block_service_options {
    struct block_store *store; /* borrowed for the life of the service */
    uint64_t cluster;          /* id: requests for another one are refused */
    uint32_t node;             /* id: told in NodeStats */
    unsigned n_threads;        /* for puts and gets; 0: BLOCK_SERVICE_THREADS */
};

/* Errors: -EAGAIN, -ENOMEM */
MUST_CHECK int block_service_new(const struct block_service_options *options,
                                 struct block_service **ret_service);

/* The methods, for rpc_server_new(); borrowed. */
const struct rpc_method *block_service_methods(struct block_service *service,
                                               size_t *ret_n);

/* The server has stopped. NULL is allowed. */
void block_service_free(struct block_service *service);
