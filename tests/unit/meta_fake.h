/* A metadata service of one's own for tests: answers over real RPC, notes what
 * it is asked, can die and come back on its port, and forgets nothing then. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/rpc_server.h"
#include "proto/cluster_map.h"
#include "proto/metadata.pb-c.h"

#define META_FAKE_OPS_MAX 4096u

/* An op that has been applied. */
struct meta_fake_op {
    uint64_t session;
    uint64_t sequence;
    uint64_t acked;
    unsigned times; /* that it was submitted */
};

struct meta_fake {
    struct rpc_server *server;
    int port;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Guarded by lock. */
    struct meta_fake_op ops[META_FAKE_OPS_MAX];
    size_t n_ops;
    unsigned n_sessions; /* opened so far; the last one's number less 100 */
    unsigned n_syncs;    /* Submits without ops */
    unsigned n_heartbeats;
    uint64_t next_ino;
    uint64_t lost_session;       /* sessions up to this number are unknown */
    uint64_t orphan;             /* told in heartbeats; 0: none */
    uint64_t orphans_seen;       /* as the last heartbeat says */
    uint64_t held;               /* likewise: the first; 0: none */
    bool holds_answers;          /* apply, but do not answer */
    struct rpc_request *waiting; /* the one that is not answered */
    int op_error;                /* result of ordinary ops */
};

void meta_fake_init(struct meta_fake *fake);
void meta_fake_start(struct meta_fake *fake); /* again on the same port */
void meta_fake_stop(struct meta_fake *fake);
void meta_fake_close(struct meta_fake *fake);

/* A cluster of this one node. The caller's reference. */
struct cluster_map *meta_fake_map(const struct meta_fake *fake);
