#include "proto/cluster_client.h"

#include <errno.h>
#include <time.h>

#include "common/clock.h"
#include "common/log.h"

/* A seed that does not answer for this long is left for the next one. */
#define SEED_MS  1500
#define PAUSE_MS 200

static int decode_reply(const Gabion__GetMapReply *reply,
                        const char *seed,
                        struct cluster_map **ret_map,
                        struct errmsg *msg)
{
    struct errmsg why = { "" };
    int rc;

    if (reply->error != 0) {
        rc = reply->error > 0 && reply->error < 4096 ? -reply->error : -EPROTO;
        errmsg_set(msg, "%s refuses: %s", seed,
                   reply->detail[0] != '\0' ? reply->detail : err_text(rc));
        return rc;
    }
    if (reply->map == NULL) {
        errmsg_set(msg, "%s answers without a cluster map", seed);
        return -EINVAL;
    }
    rc = cluster_map_decode(reply->map, ret_map, &why);
    if (rc != 0) {
        errmsg_set(msg, "%s has a cluster map that makes no sense: %s", seed,
                   why.text);
    }
    return rc;
}

static void say_no_answer(const struct cluster_query *query,
                          const char *seed,
                          int rc,
                          struct errmsg *msg)
{
    if (query->n_seeds == 1) {
        errmsg_set(msg, "%s does not answer as a Gabion node: %s", seed,
                   err_text(rc));
    } else {
        errmsg_set(msg,
                   "none of %zu nodes answers as a Gabion node; the last tried "
                   "is %s: %s",
                   query->n_seeds, seed, err_text(rc));
    }
}

static int ask_seed(struct rpc_client *rpc,
                    const struct cluster_query *query,
                    const char *seed,
                    struct cluster_map **ret_map,
                    struct errmsg *msg)
{
    Gabion__GetMapRequest request = GABION__GET_MAP_REQUEST__INIT;
    struct rpc_call call = {
        .method = "/gabion.Cluster/GetMap",
        .lane = RPC_CONTROL,
        .request = &request.base,
        .reply_type = &gabion__get_map_reply__descriptor,
        .deadline_ms = clock_mono_ms() + SEED_MS,
    };
    struct rpc_peer *peer;
    int rc;

    if (call.deadline_ms > query->deadline_ms) {
        call.deadline_ms = query->deadline_ms;
    }
    request.protocol = CLUSTER_PROTOCOL;
    request.cluster = query->cluster;
    rc = rpc_client_peer(rpc, seed, &peer);
    if (rc != 0) {
        errmsg_set(msg, "'%s' is not an address", seed);
        return rc;
    }
    rc = rpc_call_sync(rpc, peer, &call);
    if (rc == 0) {
        rc = decode_reply((const Gabion__GetMapReply *)call.reply, seed,
                          ret_map, msg);
    } else {
        say_no_answer(query, seed, rc, msg);
    }
    rpc_call_clear(&call);
    return rc;
}

static bool may_get_better(int rc)
{
    return rc == -EHOSTUNREACH || rc == -ETIMEDOUT;
}

int cluster_client_get_map(struct rpc_client *rpc,
                           const struct cluster_query *query,
                           struct cluster_map **ret_map,
                           struct errmsg *msg)
{
    const struct timespec pause = { .tv_nsec = PAUSE_MS * 1000000L };
    int rc = -EINVAL;

    for (size_t i = 0; query->n_seeds > 0; i++) {
        const char *seed = query->seeds[i % query->n_seeds];

        rc = ask_seed(rpc, query, seed, ret_map, msg);
        if (!may_get_better(rc)) {
            return rc;
        }
        log_debug("cannot get the cluster map seed=%s error=%s", seed,
                  err_text(rc));
        if (clock_mono_ms() + PAUSE_MS >= query->deadline_ms) {
            return rc;
        }
        if ((i + 1) % query->n_seeds == 0) {
            (void)nanosleep(&pause, NULL);
        }
    }
    return rc;
}
