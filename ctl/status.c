#include "ctl/status.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "proto/block.pb-c.h"
#include "proto/metadata.pb-c.h"

/* One question and where its answer goes. */
struct question {
    struct rpc_call call;
    Gabion__NodeStatsRequest node_request;
    Gabion__ShardStatsRequest shard_request;
    struct node_status *node;   /* borrowed, or NULL */
    struct shard_status *shard; /* borrowed, or NULL */
    size_t *n_open;             /* borrowed: questions without an answer */
};

/* ------------------------------------------------------------------ answers */

/* The text of an error in an answer, for people; `detail` is foreign. */
static void tell(struct errmsg *trouble, int error, const char *detail)
{
    errmsg_set(trouble, "%s",
               detail != NULL && *detail != '\0' ? detail : err_text(error));
    for (char *c = trouble->text; *c != '\0'; c++) {
        if ((unsigned char)*c < ' ' || (unsigned char)*c > '~') {
            *c = '?';
        }
    }
}

static void take_node(struct node_status *node,
                      const Gabion__NodeStatsReply *reply)
{
    if (reply->error != 0) {
        tell(&node->trouble, reply->error, reply->detail);
        return;
    }
    if (reply->node != node->id) {
        errmsg_set(&node->trouble, "node %" PRIu32 " answers there",
                   reply->node);
        return;
    }
    node->up = true;
    node->total = reply->total;
    node->available = reply->available;
    node->used = reply->used;
    node->n_blocks = reply->n_blocks;
    node->block_bytes = reply->block_bytes;
}

static void take_shard(struct shard_status *shard,
                       const Gabion__ShardStatsReply *reply)
{
    if (reply->error != 0) {
        tell(&shard->trouble, reply->error, reply->detail);
        return;
    }
    shard->up = true;
    shard->n_inodes = reply->n_inodes;
    shard->n_objects = reply->n_objects;
    shard->n_garbage = reply->n_garbage;
    shard->n_sessions = reply->n_sessions;
    shard->applied = reply->applied;
}

static void take_answer(struct rpc_call *call)
{
    struct question *question = call->context;

    --*question->n_open;
    if (call->rc != 0) {
        tell(question->node != NULL ? &question->node->trouble
                                    : &question->shard->trouble,
             call->rc, NULL);
    } else if (question->node != NULL) {
        take_node(question->node, (const Gabion__NodeStatsReply *)call->reply);
    } else {
        take_shard(question->shard,
                   (const Gabion__ShardStatsReply *)call->reply);
    }
}

/* ---------------------------------------------------------------- questions */

static int ask(struct question *question,
               struct rpc_client *rpc,
               struct rpc_queue *queue,
               const struct cluster_status *status,
               int64_t deadline_ms)
{
    struct rpc_call *call = &question->call;
    const struct cluster_node *to;
    struct rpc_peer *peer;
    int rc;

    assert((question->node == NULL) != (question->shard == NULL));
    to = cluster_map_node(status->map, question->node != NULL
                                           ? question->node->id
                                           : question->shard->node);
    rc = rpc_client_peer(rpc, to->address, &peer);

    if (rc != 0) {
        return rc;
    }
    gabion__node_stats_request__init(&question->node_request);
    gabion__shard_stats_request__init(&question->shard_request);
    question->node_request.cluster = status->map->id;
    question->shard_request.cluster = status->map->id;
    call->lane = RPC_CONTROL;
    call->deadline_ms = deadline_ms;
    call->done = take_answer;
    call->context = question;
    if (question->node != NULL) {
        call->method = "/gabion.Block/NodeStats";
        call->request = &question->node_request.base;
        call->reply_type = &gabion__node_stats_reply__descriptor;
    } else {
        call->method = "/gabion.Meta/ShardStats";
        call->request = &question->shard_request.base;
        call->reply_type = &gabion__shard_stats_reply__descriptor;
    }
    ++*question->n_open;
    rpc_call_start(queue, peer, call);
    return 0;
}

/* Ask everybody, wait for all answers: each call ends by its deadline. */
static int ask_all(struct rpc_client *rpc,
                   const struct cluster_status *status,
                   int64_t deadline_ms)
{
    size_t n = status->map->n_nodes + status->n_shards;
    struct question *questions = calloc(n, sizeof *questions);
    struct rpc_queue *queue = NULL;
    size_t n_open = 0;
    int rc = questions != NULL ? rpc_queue_new(rpc, &queue) : -ENOMEM;

    for (size_t i = 0; i < n && rc == 0; i++) {
        if (i < status->map->n_nodes) {
            questions[i].node = &status->nodes[i];
        } else {
            questions[i].shard = &status->shards[i - status->map->n_nodes];
        }
        questions[i].n_open = &n_open;
        rc = ask(&questions[i], rpc, queue, status, deadline_ms);
    }
    while (n_open > 0) {
        (void)rpc_queue_wait(queue, INT64_MAX);
    }
    for (size_t i = 0; i < n && questions != NULL; i++) {
        rpc_call_clear(&questions[i].call);
    }
    if (queue != NULL) {
        rpc_queue_free(queue);
    }
    free(questions);
    return rc;
}

/* The nodes that serve metadata, each once. */
static void find_shards(struct cluster_status *status)
{
    for (size_t slot = 0;
         slot < sizeof status->map->slot_node / sizeof *status->map->slot_node;
         slot++) {
        uint32_t node = status->map->slot_node[slot];
        size_t i = 0;

        while (i < status->n_shards && status->shards[i].node != node) {
            i++;
        }
        if (i == status->n_shards) {
            status->shards[status->n_shards++].node = node;
        }
    }
}

int status_collect(struct rpc_client *rpc,
                   struct cluster_map *map,
                   int64_t deadline_ms,
                   struct cluster_status *ret_status)
{
    struct cluster_status status = { .map = cluster_map_ref(map) };
    int rc = -ENOMEM;

    status.nodes = calloc(map->n_nodes, sizeof *status.nodes);
    status.shards = calloc(map->n_nodes, sizeof *status.shards);
    if (status.nodes == NULL || status.shards == NULL) {
        goto fail;
    }
    for (size_t i = 0; i < map->n_nodes; i++) {
        status.nodes[i].id = map->nodes[i].id;
        status.nodes[i].address = map->nodes[i].address;
    }
    find_shards(&status);
    rc = ask_all(rpc, &status, deadline_ms);
    if (rc != 0) {
        goto fail;
    }
    *ret_status = status;
    return 0;

fail:
    status_clear(&status);
    return rc;
}

void status_clear(struct cluster_status *status)
{
    free(status->nodes);
    free(status->shards);
    cluster_map_unref(status->map);
    memset(status, 0, sizeof *status);
}

bool status_is_healthy(const struct cluster_status *status)
{
    bool healthy = true;

    for (size_t i = 0; i < status->map->n_nodes; i++) {
        healthy = healthy && status->nodes[i].up;
    }
    for (size_t i = 0; i < status->n_shards; i++) {
        healthy = healthy && status->shards[i].up;
    }
    return healthy;
}
