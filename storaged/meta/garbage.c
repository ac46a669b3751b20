#include "storaged/meta/garbage.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "proto/block.pb-c.h"
#include "storaged/meta/keeper.h"
#include "storaged/meta/meta_read.h"

#define CALL_DEADLINE_MS 10000
/* How often a stop is looked for while calls are under way. */
#define CALL_WAIT_MS 100
/* Waiting objects whose answers are remembered; the nodes of others are told
 * again in each pass. */
#define WAITING_MAX (1u << 18)

/* What we know of a node; while a portion is told, also its call. */
struct target {
    struct rpc_peer *peer; /* borrowed from the client */
    int64_t retry_ms;      /* left alone until a pass after that; 0: not so */
    int64_t back_off_ms;
    struct garbage *garbage; /* borrowed: the owner */
    struct rpc_call call;
    bool calling;                                 /* the call is under way */
    ProtobufCBinaryData objects[GARBAGE_PORTION]; /* point into the portion */
    size_t n_objects; /* of this portion; 0: nothing to tell */
};

/* An object that some nodes have not answered for. */
struct waiting {
    struct meta_garbage garbage;
    uint32_t answered; /* bit i: the i-th node of the partition's list has */
};

/* Ascending object ids. */
struct waiting_list {
    struct waiting *items; /* owned */
    size_t n;
    size_t capacity;
};

struct garbage {
    struct garbage_config config;
    struct meta_reader *reader; /* owned */
    struct keeper *keeper;      /* owned */
    struct rpc_queue *queue;    /* owned; the keeper thread's */
    struct target *targets;     /* owned: one for each node of the map */
    size_t n_calls;             /* under way */

    struct waiting_list waiting; /* after the last pass */
    struct waiting_list next;    /* being gathered by this one */
    size_t waiting_index;        /* this pass has come so far in `waiting` */

    struct meta_garbage objects[GARBAGE_PORTION]; /* the portion at hand */
    uint32_t answered[GARBAGE_PORTION];           /* as in struct waiting */
    size_t n_objects;
};

/* The target at a place of the object's list, or NULL when the map knows no
 * such node any more. */
static struct target *target_at(struct garbage *garbage,
                                const struct meta_garbage *object,
                                unsigned place)
{
    const struct cluster_map *map = garbage->config.map;
    const struct cluster_node *node;
    struct object_id id;

    object_id_decode(object->object, &id);
    node = cluster_map_node(map, placement_nodes(map->placement, &id)[place]);
    return node == NULL ? NULL : &garbage->targets[node - map->nodes];
}

/* ------------------------------------------------------- waiting objects */

static int waiting_append(struct waiting_list *list,
                          const struct waiting *waiting)
{
    if (list->n == list->capacity) {
        size_t capacity = list->capacity == 0 ? 256 : 2 * list->capacity;
        struct waiting *items =
            reallocarray(list->items, capacity, sizeof *items);

        if (items == NULL) {
            return -ENOMEM;
        }
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->n++] = *waiting;
    return 0;
}

/* What is remembered of the object. Asked for in ascending order. */
static uint32_t waiting_answers(struct garbage *garbage,
                                const struct meta_garbage *object)
{
    const struct waiting_list *list = &garbage->waiting;
    int order = -1;

    while (garbage->waiting_index < list->n) {
        order = memcmp(&list->items[garbage->waiting_index].garbage, object,
                       sizeof *object);
        if (order >= 0) {
            break;
        }
        garbage->waiting_index++;
    }
    return order == 0 ? list->items[garbage->waiting_index].answered : 0;
}

static void waiting_swap(struct garbage *garbage)
{
    struct waiting_list old = garbage->waiting;

    garbage->waiting = garbage->next;
    garbage->next = old;
    garbage->next.n = 0;
    garbage->waiting_index = 0;
}

/* ------------------------------------------------------- telling the nodes */

static void target_failed(struct target *target, int rc)
{
    target->back_off_ms *= 2;
    if (target->back_off_ms < GARBAGE_BACK_OFF_MIN_MS) {
        target->back_off_ms = GARBAGE_BACK_OFF_MIN_MS;
        log_warn("node does not delete garbage, trying on address=%s "
                 "error=\"%s\"",
                 rpc_peer_address(target->peer), err_text(rc));
    }
    if (target->back_off_ms > GARBAGE_BACK_OFF_MAX_MS) {
        target->back_off_ms = GARBAGE_BACK_OFF_MAX_MS;
    }
    target->retry_ms = clock_mono_ms() + target->back_off_ms;
}

static void call_done(struct rpc_call *call)
{
    struct target *target = call->context;
    int rc = call->rc;

    if (rc == 0) {
        const Gabion__DeleteObjectsReply *reply =
            (const Gabion__DeleteObjectsReply *)call->reply;

        rc = -reply->error;
    }
    if (rc == 0) {
        target->back_off_ms = 0;
        target->retry_ms = 0;
    } else {
        target_failed(target, rc);
    }
    rpc_call_clear(call);
    target->calling = false;
    target->garbage->n_calls--;
}

static void call_start(struct garbage *garbage, struct target *target)
{
    Gabion__DeleteObjectsRequest request = GABION__DELETE_OBJECTS_REQUEST__INIT;

    request.cluster = garbage->config.map->id;
    request.n_object = target->n_objects;
    request.object = target->objects;
    target->call = (struct rpc_call){
        .method = "/gabion.Block/DeleteObjects",
        .lane = RPC_CONTROL,
        .request = &request.base,
        .reply_type = &gabion__delete_objects_reply__descriptor,
        .deadline_ms = clock_mono_ms() + CALL_DEADLINE_MS,
        .done = call_done,
        .context = target,
    };
    target->calling = true;
    garbage->n_calls++;
    rpc_call_start(garbage->queue, target->peer, &target->call);
}

/* List for each node that may be asked now the objects that it has not answered
 * for. False when there is nothing to tell. */
static bool list_objects(struct garbage *garbage)
{
    uint32_t width = placement_width(garbage->config.map->placement);
    bool any = false;

    for (size_t i = 0; i < garbage->config.map->n_nodes; i++) {
        garbage->targets[i].n_objects = 0;
    }
    for (size_t i = 0; i < garbage->n_objects; i++) {
        for (unsigned place = 0; place < width; place++) {
            struct target *target =
                target_at(garbage, &garbage->objects[i], place);

            if (target != NULL && target->retry_ms == 0 &&
                (garbage->answered[i] & 1u << place) == 0) {
                target->objects[target->n_objects++] = (ProtobufCBinaryData){
                    .len = sizeof garbage->objects[i].object,
                    .data = garbage->objects[i].object,
                };
                any = true;
            }
        }
    }
    return any;
}

static void tell_nodes(struct garbage *garbage)
{
    size_t n_nodes = garbage->config.map->n_nodes;

    for (size_t i = 0; i < n_nodes; i++) {
        if (garbage->targets[i].n_objects > 0) {
            call_start(garbage, &garbage->targets[i]);
        }
    }
    while (garbage->n_calls > 0) {
        (void)rpc_queue_wait(garbage->queue, clock_mono_ms() + CALL_WAIT_MS);
        for (size_t i = 0; keeper_is_stopping(garbage->keeper) && i < n_nodes;
             i++) {
            if (garbage->targets[i].calling) {
                rpc_call_cancel(&garbage->targets[i].call);
            }
        }
    }
}

/* ------------------------------------------------------------- the portion */

/* Note who has answered for object `i`. True when all have. */
static bool note_answers(struct garbage *garbage, size_t i)
{
    uint32_t width = placement_width(garbage->config.map->placement);
    bool all = true;

    for (unsigned place = 0; place < width; place++) {
        const struct target *target =
            target_at(garbage, &garbage->objects[i], place);

        if (target == NULL ||
            (target->n_objects > 0 && target->retry_ms == 0)) {
            garbage->answered[i] |= 1u << place;
        }
        all = all && (garbage->answered[i] & 1u << place) != 0;
    }
    return all;
}

static int forget_objects(struct garbage *garbage,
                          ProtobufCBinaryData *ids,
                          size_t n_ids)
{
    Gabion__ForgetObjects body = GABION__FORGET_OBJECTS__INIT;
    Gabion__Op op = GABION__OP__INIT;
    int error;
    int rc;

    body.id = ids;
    body.n_id = n_ids;
    op.now_ns = garbage->config.real_ns();
    op.body_case = GABION__OP__BODY_FORGET_OBJECTS;
    op.forget_objects = &body;
    rc = shard_run(garbage->config.shard, &op, &error);
    return rc < 0 ? rc : -error;
}

/* Forget the objects of the portion that all nodes have answered for; remember
 * the others. */
static int settle_portion(struct garbage *garbage)
{
    ProtobufCBinaryData ids[GARBAGE_PORTION];
    size_t n_ids = 0;
    int rc = 0;

    for (size_t i = 0; i < garbage->n_objects && rc == 0; i++) {
        struct waiting waiting = { .garbage = garbage->objects[i] };

        if (note_answers(garbage, i)) {
            ids[n_ids++] = (ProtobufCBinaryData){
                .len = sizeof garbage->objects[i].object,
                .data = garbage->objects[i].object,
            };
        } else if (garbage->next.n < WAITING_MAX) {
            waiting.answered = garbage->answered[i];
            rc = waiting_append(&garbage->next, &waiting);
        }
    }
    if (rc == 0 && n_ids > 0) {
        rc = forget_objects(garbage, ids, n_ids);
    }
    return rc;
}

/* Ask the nodes again that have been left alone for long enough. */
static void end_back_offs(struct garbage *garbage)
{
    int64_t now_ms = clock_mono_ms();

    for (size_t i = 0; i < garbage->config.map->n_nodes; i++) {
        if (garbage->targets[i].retry_ms <= now_ms) {
            garbage->targets[i].retry_ms = 0;
        }
    }
}

/* When nodes that have been left alone are to be asked again, in milliseconds
 * from now; -1: there is nothing to ask them. */
static int64_t next_retry_ms(const struct garbage *garbage)
{
    int64_t now_ms = clock_mono_ms();
    int64_t wait_ms = -1;

    for (size_t i = 0; i < garbage->config.map->n_nodes; i++) {
        const struct target *target = &garbage->targets[i];
        int64_t left_ms = target->retry_ms - now_ms;

        if (target->retry_ms > 0 && (wait_ms < 0 || left_ms < wait_ms)) {
            wait_ms = left_ms > 0 ? left_ms : 0;
        }
    }
    return garbage->waiting.n > 0 ? wait_ms : -1;
}

/* Go through all garbage once. */
static int pass(struct garbage *garbage)
{
    const struct meta_garbage *after = NULL;
    struct meta_garbage last;
    int rc = 0;

    end_back_offs(garbage);
    do {
        rc = meta_read_garbage(garbage->reader, after, GARBAGE_PORTION,
                               garbage->objects, &garbage->n_objects);
        if (rc < 0 || garbage->n_objects == 0) {
            break;
        }
        last = garbage->objects[garbage->n_objects - 1];
        after = &last;
        for (size_t i = 0; i < garbage->n_objects; i++) {
            garbage->answered[i] =
                waiting_answers(garbage, &garbage->objects[i]);
        }
        if (list_objects(garbage)) {
            rc = shard_sync(garbage->config.shard);
        }
        if (rc == 0) {
            tell_nodes(garbage);
            rc = settle_portion(garbage);
        }
    } while (rc == 0 && !keeper_is_stopping(garbage->keeper));
    waiting_swap(garbage);
    return rc;
}

static int64_t garbage_step(void *context)
{
    static struct log_limit limit;
    struct garbage *garbage = context;
    uint64_t dropped;
    int rc = pass(garbage);

    /* A shard that stopped has said so itself. */
    if (rc < 0 && rc != -EIO && rc != -ECANCELED &&
        log_limit_pass(&limit, 60000, &dropped)) {
        log_warn("garbage not collected error=\"%s\"", err_text(rc));
    }
    return rc < 0 ? GARBAGE_BACK_OFF_MAX_MS : next_retry_ms(garbage);
}

/* ----------------------------------------------------------------- life */

static int targets_new(struct garbage *garbage)
{
    const struct cluster_map *map = garbage->config.map;
    int rc = 0;

    garbage->targets = calloc(map->n_nodes, sizeof *garbage->targets);
    if (garbage->targets == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < map->n_nodes && rc == 0; i++) {
        garbage->targets[i].garbage = garbage;
        rc = rpc_client_peer(garbage->config.rpc, map->nodes[i].address,
                             &garbage->targets[i].peer);
    }
    return rc;
}

int garbage_new(const struct garbage_config *config,
                struct garbage **ret_garbage)
{
    struct garbage *garbage = calloc(1, sizeof *garbage);
    int rc;

    if (garbage == NULL) {
        return -ENOMEM;
    }
    garbage->config = *config;
    garbage->config.map = cluster_map_ref(config->map);
    rc = targets_new(garbage);
    if (rc == 0) {
        rc = keeper_new(garbage_step, garbage, GARBAGE_PERIOD_MS,
                        &garbage->keeper);
    }
    if (rc == 0) {
        rc = rpc_queue_new(config->rpc, &garbage->queue);
    }
    if (rc == 0) {
        rc = meta_reader_open(shard_db(config->shard), &garbage->reader);
    }
    if (rc < 0) {
        garbage_free(garbage);
        return rc;
    }
    *ret_garbage = garbage;
    return 0;
}

void garbage_free(struct garbage *garbage)
{
    if (garbage == NULL) {
        return;
    }
    if (garbage->reader != NULL) {
        meta_reader_close(garbage->reader);
    }
    if (garbage->queue != NULL) {
        rpc_queue_free(garbage->queue);
    }
    keeper_free(garbage->keeper);
    free(garbage->waiting.items);
    free(garbage->next.items);
    free(garbage->targets);
    cluster_map_unref(garbage->config.map);
    free(garbage);
}

int garbage_start(struct garbage *garbage)
{
    return keeper_start(garbage->keeper);
}

void garbage_stop(struct garbage *garbage)
{
    keeper_stop(garbage->keeper);
}

void garbage_wake(struct garbage *garbage)
{
    keeper_wake(garbage->keeper);
}
