#include "tests/unit/meta_fake.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <check.h>

#include "proto/validate.h"

#define CLUSTER UINT64_C(0x1122334455667788)

/* ---------------------------------------------------------------- handlers */

static int apply_op(struct meta_fake *fake,
                    const Gabion__Op *op,
                    Gabion__OpResult *result)
{
    struct meta_fake_op *noted;

    if (op->body_case == GABION__OP__BODY_OPEN_SESSION) {
        result->ino = 100 + ++fake->n_sessions;
        return 0;
    }
    if (op->session <= fake->lost_session) {
        return ESTALE;
    }
    for (size_t i = 0; i < fake->n_ops; i++) {
        noted = &fake->ops[i];
        if (noted->session == op->session && noted->sequence == op->sequence) {
            noted->times++;
            return fake->op_error;
        }
    }
    ck_assert_uint_lt(fake->n_ops, META_FAKE_OPS_MAX);
    fake->ops[fake->n_ops++] =
        (struct meta_fake_op){ op->session, op->sequence, op->acked, 1 };
    if (op->body_case == GABION__OP__BODY_RESERVE_INODES) {
        result->ino = fake->next_ino;
        fake->next_ino += op->reserve_inodes->count;
        return 0;
    }
    return fake->op_error;
}

static void handle_submit(struct rpc_request *request, void *context)
{
    struct meta_fake *fake = context;
    const Gabion__SubmitRequest *submit =
        (const Gabion__SubmitRequest *)rpc_request_message(request);
    Gabion__OpResult result;
    Gabion__OpResult *results[1] = { &result };
    Gabion__SubmitReply reply;

    gabion__op_result__init(&result);
    gabion__submit_reply__init(&reply);
    (void)pthread_mutex_lock(&fake->lock);
    ck_assert_uint_eq(submit->cluster, CLUSTER);
    if (submit->n_op == 0) {
        ck_assert(submit->durable);
        fake->n_syncs++;
    } else {
        ck_assert_uint_eq(submit->n_op, 1);
        result.error = apply_op(fake, submit->op[0], &result);
        reply.result = results;
        reply.n_result = 1;
    }
    if (fake->holds_answers) {
        fake->waiting = request;
        (void)pthread_cond_broadcast(&fake->changed);
    } else {
        rpc_reply(request, &reply.base, NULL, 0, 0);
    }
    (void)pthread_mutex_unlock(&fake->lock);
}

static void handle_heartbeat(struct rpc_request *request, void *context)
{
    struct meta_fake *fake = context;
    const Gabion__HeartbeatRequest *beat =
        (const Gabion__HeartbeatRequest *)rpc_request_message(request);
    Gabion__Orphan orphan;
    Gabion__Orphan *orphans[1] = { &orphan };
    Gabion__HeartbeatReply reply;

    gabion__orphan__init(&orphan);
    gabion__heartbeat_reply__init(&reply);
    (void)pthread_mutex_lock(&fake->lock);
    fake->n_heartbeats++;
    fake->orphans_seen = beat->orphans_seen;
    fake->held = beat->n_held > 0 ? beat->held[0] : 0;
    reply.expiry_ms = 50;
    if (beat->session <= fake->lost_session) {
        reply.error = ESTALE;
    } else if (fake->orphan != 0 && beat->orphans_seen == 0) {
        orphan.number = 1;
        orphan.ino = fake->orphan;
        reply.orphan = orphans;
        reply.n_orphan = 1;
    }
    (void)pthread_cond_broadcast(&fake->changed);
    (void)pthread_mutex_unlock(&fake->lock);
    rpc_reply(request, &reply.base, NULL, 0, 0);
}

/* Attributes by inode number: 1 a directory, 404 is not there, 13 nonsense. */
static void handle_get_attr(struct rpc_request *request, void *context)
{
    const Gabion__GetAttrRequest *get =
        (const Gabion__GetAttrRequest *)rpc_request_message(request);
    Gabion__Attr attr = GABION__ATTR__INIT;
    Gabion__AttrReply reply;

    (void)context;
    gabion__attr_reply__init(&reply);
    attr.ino = get->ino;
    attr.mode = get->ino == 13 ? 0 : S_IFDIR | 0755;
    reply.attr = &attr;
    reply.error = get->ino == 404 ? ENOENT : get->ino == 666 ? -5 : 0;
    rpc_reply(request, &reply.base, NULL, 0, 0);
}

/* Three entries; inode 13 has them out of order, 14 with a bad name. */
static void handle_read_dir(struct rpc_request *request, void *context)
{
    static char slash[] = "a/b";
    static char good[] = "abc";
    const Gabion__ReadDirRequest *query =
        (const Gabion__ReadDirRequest *)rpc_request_message(request);
    Gabion__DirEntry entries[3];
    Gabion__DirEntry *list[3];
    Gabion__ReadDirReply reply;

    (void)context;
    gabion__read_dir_reply__init(&reply);
    for (unsigned i = 0; i < 3; i++) {
        gabion__dir_entry__init(&entries[i]);
        entries[i].name.data = (uint8_t *)(query->ino == 14 ? slash : good);
        entries[i].name.len = 3;
        entries[i].ino = 20 + i;
        entries[i].cookie = query->after + (query->ino == 13 ? 3 - i : i + 1);
        list[i] = &entries[i];
    }
    reply.entry = list;
    reply.n_entry = 3;
    reply.end = true;
    rpc_reply(request, &reply.base, NULL, 0, 0);
}

/* -------------------------------------------------------------------- life */

void meta_fake_init(struct meta_fake *fake)
{
    memset(fake, 0, sizeof *fake);
    fake->next_ino = 1000;
    (void)pthread_mutex_init(&fake->lock, NULL);
    (void)pthread_cond_init(&fake->changed, NULL);
    meta_fake_start(fake);
}

void meta_fake_start(struct meta_fake *fake)
{
    const struct rpc_method methods[] = {
        { "/gabion.Meta/Submit", &gabion__submit_request__descriptor,
          handle_submit, fake },
        { "/gabion.Meta/Heartbeat", &gabion__heartbeat_request__descriptor,
          handle_heartbeat, fake },
        { "/gabion.Meta/GetAttr", &gabion__get_attr_request__descriptor,
          handle_get_attr, fake },
        { "/gabion.Meta/ReadDir", &gabion__read_dir_request__descriptor,
          handle_read_dir, fake },
    };
    struct errmsg msg = { "" };
    char listen[64];

    (void)snprintf(listen, sizeof listen, "127.0.0.1:%d", fake->port);
    ck_assert_msg(rpc_server_new(listen, methods,
                                 sizeof methods / sizeof *methods, 1,
                                 &fake->server, &msg) == 0,
                  "%s", msg.text);
    ck_assert_int_eq(rpc_server_start(fake->server), 0);
    fake->port = rpc_server_port(fake->server);
}

void meta_fake_stop(struct meta_fake *fake)
{
    rpc_server_stop(fake->server, 0);
    rpc_server_free(fake->server);
    fake->server = NULL;
}

void meta_fake_close(struct meta_fake *fake)
{
    if (fake->server != NULL) {
        meta_fake_stop(fake);
    }
    (void)pthread_cond_destroy(&fake->changed);
    (void)pthread_mutex_destroy(&fake->lock);
}

struct cluster_map *meta_fake_map(const struct meta_fake *fake)
{
    static uint32_t placement[PLACEMENT_PARTITIONS];
    Gabion__ClusterMap message = GABION__CLUSTER_MAP__INIT;
    Gabion__Policy policy = GABION__POLICY__INIT;
    Gabion__Node node;
    Gabion__Node *nodes[1] = { &node };
    Gabion__Shard shard = GABION__SHARD__INIT;
    Gabion__Shard *shards[1] = { &shard };
    struct cluster_map *map;
    struct errmsg msg = { "" };
    char address[64];

    (void)snprintf(address, sizeof address, "127.0.0.1:%d", fake->port);
    for (size_t i = 0; i < PLACEMENT_PARTITIONS; i++) {
        placement[i] = 1;
    }
    policy.k = 1;
    policy.unit = 4096;
    policy.min_write = 1;
    gabion__node__init(&node);
    node.id = 1;
    node.address = address;
    node.weight = 1;
    shard.node = 1;
    shard.last_slot = METADATA_SLOTS - 1;
    message.id = CLUSTER;
    message.version = 1;
    message.policy = &policy;
    message.node = nodes;
    message.n_node = 1;
    message.shard = shards;
    message.n_shard = 1;
    message.placement_width = 1;
    message.placement = placement;
    message.n_placement = PLACEMENT_PARTITIONS;
    ck_assert_msg(cluster_map_decode(&message, &map, &msg) == 0, "%s",
                  msg.text);
    return map;
}
