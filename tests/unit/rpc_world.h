/* A server, a client and calls between them, for the tests of the rpc modules.
 *
 * The server offers three methods. PutBlock answers the sum of the payload.
 * GetBlock answers `length` bytes of a pattern. SyncBlocks obeys its field
 * `cluster`: see enum order. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/rpc_client.h"
#include "common/rpc_server.h"

#define N(array) (sizeof(array) / sizeof *(array))

/* Generous, for machines under load; nothing waits this long when all is well.
 */
#define SOON_MS 10000

enum order {
    ORDER_ANSWER,
    ORDER_HOLD,  /* answer when the test says so */
    ORDER_DEFER, /* answer from another thread, at once */
    ORDER_REFUSE /* and more: -error */
};

#define N_HELD_MAX 16

/* A server and the requests that it holds. */
struct world {
    struct rpc_server *server; /* owned; NULL once stopped */
    char address[32];
    pthread_mutex_t lock; /* guards held and n_held */
    pthread_cond_t changed;
    struct rpc_request *held[N_HELD_MAX];
    size_t n_held;
    int64_t stop_grace_ms; /* for tests that stop it from a thread */
    bool has_stopped;      /* atomic: likewise */
};

/* Serve on a free port. Usable outside of Check's tests. */
MUST_CHECK int world_try_open(struct world *w, struct errmsg *msg);

/* Likewise, inside of a test. */
void world_open(struct world *w);

/* Serve again, at `listen`, after world_stop(). */
MUST_CHECK int world_start(struct world *w,
                           const char *listen,
                           struct errmsg *msg);

void world_stop(struct world *w);

/* Answers what is held, stops, releases. */
void world_close(struct world *w);

/* Wait until `n` requests are held; answer them all. */
void world_await_held(struct world *w, size_t n);
void world_release(struct world *w);

/* The fixture: a world, a client, the world's peer, this thread's queue. */
extern struct world world;
extern struct rpc_client *client;
extern struct rpc_peer *peer;
extern struct rpc_queue *queue;

void rpc_setup(void);
void rpc_teardown(void);

/* The pattern. */
void rpc_fill(uint8_t *data, size_t size);

/* PutBlock of the first `size` bytes of `buf`, GetBlock of `size` bytes, with
 * the answer verified. Returns the call's rc. */
int rpc_put(struct rpc_peer *to,
            enum rpc_lane lane,
            struct buf *buf,
            size_t size);
int rpc_get(struct rpc_peer *from, enum rpc_lane lane, size_t size);

/* Start a SyncBlocks with `order`. */
void rpc_start_sync(struct rpc_queue *on,
                    struct rpc_peer *to,
                    struct rpc_call *call,
                    uint64_t order,
                    int64_t deadline_ms);

/* Wait for a call on the fixture's queue. */
void rpc_await(struct rpc_call *call);

/* SyncBlocks from start to end; returns the call's rc. */
int rpc_sync(uint64_t order, int64_t timeout_ms);

/* Repeat it until it succeeds; fails after `limit_ms`. */
void rpc_sync_until_served(int64_t limit_ms);

/* Drop the last reference, once gRPC has dropped its own: its threads may do so
 * a moment after the call. */
void rpc_unref_last(struct buf *buf);

/* A thread of calls of all sizes: rpc_load() of a struct loader. */
struct loader {
    pthread_t thread;
    unsigned n_calls; /* to make at most */
    unsigned n_ok;    /* how many succeeded */
    int bad_rc;       /* of the first that failed, which is the last */
};

void *rpc_load(void *context);

/* A `done` that counts in the int at call->context. */
void rpc_count_done(struct rpc_call *call);
