#include "fusefs/meta_client.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "common/clock.h"
#include "common/log.h"
#include "fusefs/wire.h"
#include "proto/validate.h"

#define SLOT_SHIFT 53

/* One attempt ends after this, so that a request given up by its program does
 * not hold it for the whole timeout. */
#define ATTEMPT_MS    5000
#define PAUSE_MIN_MS  10
#define PAUSE_MAX_MS  1000
#define STATS_MS      2000 /* df(1) does not wait for longer */
#define PAUSE_STEP_MS 50   /* how often a pause looks for an interruption */

struct meta_client {
    struct rpc_client *rpc;                      /* borrowed */
    struct cluster_map *map;                     /* counted */
    struct rpc_peer *slot_peers[METADATA_SLOTS]; /* borrowed from rpc */
    int64_t timeout_ms;                          /* see the config */
    bool hard;                                   /* see the config */
    bool stopping;                               /* atomic: no more retries */
    bool (*is_interrupted)(void);                /* see the config */
};

/* What every reply of the service begins with. */
struct reply_head {
    ProtobufCMessage base;
    int32_t error;
    char *detail;
};

#define ASSERT_REPLY_HEAD(type)                                            \
    _Static_assert(                                                        \
        offsetof(type, error) == offsetof(struct reply_head, error) &&     \
            offsetof(type, detail) == offsetof(struct reply_head, detail), \
        "every reply begins with error and detail")

ASSERT_REPLY_HEAD(Gabion__SubmitReply);
ASSERT_REPLY_HEAD(Gabion__HeartbeatReply);
ASSERT_REPLY_HEAD(Gabion__AttrReply);
ASSERT_REPLY_HEAD(Gabion__ReadDirReply);
ASSERT_REPLY_HEAD(Gabion__ReadLinkReply);
ASSERT_REPLY_HEAD(Gabion__GetXattrReply);
ASSERT_REPLY_HEAD(Gabion__GetLayoutReply);
ASSERT_REPLY_HEAD(Gabion__ShardStatsReply);

/* One request to the shard of `ino`. */
struct meta_call {
    uint64_t ino;
    const char *method;              /* static */
    const ProtobufCMessage *request; /* borrowed */
    const ProtobufCMessageDescriptor *reply_type;
    int64_t deadline_ms; /* when to give up */
    bool once;           /* no retries */
    unsigned attempts;   /* out */
};

static int connect_slots(struct meta_client *client)
{
    for (unsigned slot = 0; slot < METADATA_SLOTS; slot++) {
        const struct cluster_node *node =
            cluster_map_node(client->map, client->map->slot_node[slot]);
        int rc;

        if (node == NULL) {
            return -EINVAL;
        }
        rc = rpc_client_peer(client->rpc, node->address,
                             &client->slot_peers[slot]);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

int meta_client_new(const struct meta_client_config *config,
                    struct meta_client **ret_client)
{
    struct meta_client *client = calloc(1, sizeof *client);
    int rc;

    if (client == NULL) {
        return -ENOMEM;
    }
    client->rpc = config->rpc;
    client->map = cluster_map_ref(config->map);
    client->timeout_ms = config->timeout_ms;
    client->hard = config->hard;
    client->is_interrupted = config->is_interrupted;
    rc = connect_slots(client);
    if (rc != 0) {
        meta_client_free(client);
        return rc;
    }
    *ret_client = client;
    return 0;
}

void meta_client_free(struct meta_client *client)
{
    if (client != NULL) {
        cluster_map_unref(client->map);
        free(client);
    }
}

void meta_client_stop_retrying(struct meta_client *client)
{
    __atomic_store_n(&client->stopping, true, __ATOMIC_RELAXED);
}

/* ------------------------------------------------------------ one request */

static bool is_interrupted(const struct meta_client *client)
{
    return client->is_interrupted != NULL && client->is_interrupted();
}

/* Errors: -EINTR the request was given up during the pause. */
static int pause_before_retry(const struct meta_client *client,
                              int64_t pause_ms)
{
    int64_t end_ms = clock_mono_ms() + pause_ms;

    for (int64_t now = clock_mono_ms(); now < end_ms; now = clock_mono_ms()) {
        int64_t step_ms =
            end_ms - now < PAUSE_STEP_MS ? end_ms - now : PAUSE_STEP_MS;
        struct timespec step = { .tv_nsec = step_ms * 1000000 };

        if (is_interrupted(client)) {
            return -EINTR;
        }
        (void)nanosleep(&step, NULL);
    }
    return 0;
}

static int attempt(struct meta_client *client,
                   const struct meta_call *meta,
                   int64_t deadline_ms,
                   ProtobufCMessage **ret_reply)
{
    struct rpc_call call = {
        .method = meta->method,
        .lane = RPC_CONTROL,
        .request = meta->request,
        .reply_type = meta->reply_type,
        .deadline_ms = deadline_ms,
    };
    int rc = rpc_call_sync(
        client->rpc,
        client->slot_peers[(meta->ino >> SLOT_SHIFT) & (METADATA_SLOTS - 1)],
        &call);

    if (rc == 0) {
        *ret_reply = rpc_call_take_reply(&call);
    }
    rpc_call_clear(&call);
    return rc;
}

static bool is_worth_a_retry(struct meta_client *client,
                             const struct meta_call *call,
                             int rc)
{
    if (rc != -EHOSTUNREACH && rc != -ETIMEDOUT) {
        return false;
    }
    if (call->once || __atomic_load_n(&client->stopping, __ATOMIC_RELAXED)) {
        return false;
    }
    return client->hard || clock_mono_ms() < call->deadline_ms;
}

static int call_until_answered(struct meta_client *client,
                               struct meta_call *call,
                               ProtobufCMessage **ret_reply)
{
    int64_t pause_ms = PAUSE_MIN_MS;

    for (;;) {
        int64_t deadline_ms = clock_mono_ms() + ATTEMPT_MS;
        int rc;

        if (!client->hard && deadline_ms > call->deadline_ms) {
            deadline_ms = call->deadline_ms;
        }
        call->attempts++;
        rc = attempt(client, call, deadline_ms, ret_reply);
        if (!is_worth_a_retry(client, call, rc)) {
            return rc;
        }
        log_debug("metadata call failed, trying again method=%s error=%s",
                  call->method, err_text(rc));
        rc = pause_before_retry(client, pause_ms);
        if (rc != 0) {
            return rc;
        }
        pause_ms = pause_ms * 2 < PAUSE_MAX_MS ? pause_ms * 2 : PAUSE_MAX_MS;
    }
}

/* Errno that a shard sends: positive, in the kernel's range. */
static int decode_error(int32_t error)
{
    return error > 0 && error < 4096 ? -error : -EPROTO;
}

static int call_shard(struct meta_client *client,
                      struct meta_call *call,
                      ProtobufCMessage **ret_reply)
{
    ProtobufCMessage *reply = NULL;
    const struct reply_head *head;
    int rc;

    if (call->deadline_ms == 0) {
        call->deadline_ms = clock_mono_ms() + client->timeout_ms;
    }
    rc = call_until_answered(client, call, &reply);
    if (rc != 0) {
        return rc;
    }
    head = (const struct reply_head *)reply;
    if (head->error != 0) {
        rc = decode_error(head->error);
        assert(rc < 0);
        log_debug(
            "metadata call refused method=%s ino=%#llx error=%s detail=%s",
            call->method, (unsigned long long)call->ino, err_text(rc),
            head->detail);
        protobuf_c_message_free_unpacked(reply, NULL);
        return rc;
    }
    *ret_reply = reply;
    return 0;
}

/* ------------------------------------------------------------- attributes */

static bool is_attr_sane(const Gabion__Attr *attr)
{
    switch (attr->mode & S_IFMT) {
    case S_IFREG:
    case S_IFDIR:
    case S_IFLNK:
    case S_IFIFO:
    case S_IFSOCK:
    case S_IFCHR:
    case S_IFBLK:
        return attr->ino != 0 && attr->size <= INT64_MAX;
    default:
        return false;
    }
}

static void copy_attr(const Gabion__Attr *attr, Gabion__Attr *ret_attr)
{
    *ret_attr = *attr;
    ret_attr->base.n_unknown_fields = 0;
    ret_attr->base.unknown_fields = NULL;
}

static int call_for_attr(struct meta_client *client,
                         struct meta_call *call,
                         Gabion__Attr *ret_attr)
{
    ProtobufCMessage *message;
    const Gabion__AttrReply *reply;
    int rc;

    call->reply_type = &gabion__attr_reply__descriptor;
    rc = call_shard(client, call, &message);
    if (rc != 0) {
        return rc;
    }
    reply = (const Gabion__AttrReply *)message;
    if (reply->attr == NULL || !is_attr_sane(reply->attr)) {
        rc = -EPROTO;
    } else {
        copy_attr(reply->attr, ret_attr);
    }
    protobuf_c_message_free_unpacked(message, NULL);
    return rc;
}

int meta_client_lookup(struct meta_client *client,
                       uint64_t parent,
                       const char *name,
                       Gabion__Attr *ret_attr)
{
    Gabion__LookupRequest request = GABION__LOOKUP_REQUEST__INIT;
    struct meta_call call = { .ino = parent,
                              .method = "/gabion.Meta/Lookup",
                              .request = &request.base };

    request.cluster = client->map->id;
    request.parent = parent;
    request.name = wire_text(name);
    return call_for_attr(client, &call, ret_attr);
}

int meta_client_get_attr(struct meta_client *client,
                         uint64_t ino,
                         Gabion__Attr *ret_attr)
{
    Gabion__GetAttrRequest request = GABION__GET_ATTR_REQUEST__INIT;
    struct meta_call call = { .ino = ino,
                              .method = "/gabion.Meta/GetAttr",
                              .request = &request.base };

    request.cluster = client->map->id;
    request.ino = ino;
    return call_for_attr(client, &call, ret_attr);
}

/* ------------------------------------------------------------ other reads */

/* Entries in ascending order, with names that the kernel can take. */
static bool is_dir_page_sane(const Gabion__ReadDirReply *reply,
                             const Gabion__ReadDirRequest *query)
{
    uint64_t last = query->after;

    if (reply->n_entry > query->limit || (reply->n_entry == 0 && !reply->end)) {
        return false;
    }
    for (size_t i = 0; i < reply->n_entry; i++) {
        const Gabion__DirEntry *entry = reply->entry[i];

        if (entry->cookie <= last || entry->cookie > INT64_MAX - 2 ||
            entry->ino == 0 || validate_name(&entry->name, NULL) != 0) {
            return false;
        }
        if (entry->attr != NULL &&
            (!is_attr_sane(entry->attr) || entry->attr->ino != entry->ino)) {
            return false;
        }
        last = entry->cookie;
    }
    return true;
}

int meta_client_read_dir(struct meta_client *client,
                         const Gabion__ReadDirRequest *query,
                         Gabion__ReadDirReply **ret_reply)
{
    Gabion__ReadDirRequest request = *query;
    struct meta_call call = { .ino = query->ino,
                              .method = "/gabion.Meta/ReadDir",
                              .request = &request.base,
                              .reply_type =
                                  &gabion__read_dir_reply__descriptor };
    ProtobufCMessage *message;
    Gabion__ReadDirReply *reply;
    int rc;

    request.cluster = client->map->id;
    rc = call_shard(client, &call, &message);
    if (rc != 0) {
        return rc;
    }
    reply = (Gabion__ReadDirReply *)message;
    if (!is_dir_page_sane(reply, query)) {
        protobuf_c_message_free_unpacked(message, NULL);
        return -EPROTO;
    }
    *ret_reply = reply;
    return 0;
}

int meta_client_read_link(struct meta_client *client,
                          uint64_t ino,
                          Gabion__ReadLinkReply **ret_reply)
{
    Gabion__ReadLinkRequest request = GABION__READ_LINK_REQUEST__INIT;
    struct meta_call call = { .ino = ino,
                              .method = "/gabion.Meta/ReadLink",
                              .request = &request.base,
                              .reply_type =
                                  &gabion__read_link_reply__descriptor };
    ProtobufCMessage *message;
    Gabion__ReadLinkReply *reply;
    int rc;

    request.cluster = client->map->id;
    request.ino = ino;
    rc = call_shard(client, &call, &message);
    if (rc != 0) {
        return rc;
    }
    reply = (Gabion__ReadLinkReply *)message;
    if (reply->target.len == 0 || reply->target.len > SYMLINK_LENGTH_MAX ||
        memchr(reply->target.data, '\0', reply->target.len) != NULL) {
        protobuf_c_message_free_unpacked(message, NULL);
        return -EPROTO;
    }
    *ret_reply = reply;
    return 0;
}

static bool is_xattr_sane(const Gabion__GetXattrReply *reply)
{
    for (size_t i = 0; i < reply->n_name; i++) {
        const ProtobufCBinaryData *name = &reply->name[i];

        if (name->len == 0 || name->len > NAME_LENGTH_MAX ||
            memchr(name->data, '\0', name->len) != NULL) {
            return false;
        }
    }
    return reply->value.len <= XATTR_VALUE_MAX;
}

int meta_client_get_xattr(struct meta_client *client,
                          uint64_t ino,
                          const char *name,
                          Gabion__GetXattrReply **ret_reply)
{
    Gabion__GetXattrRequest request = GABION__GET_XATTR_REQUEST__INIT;
    struct meta_call call = { .ino = ino,
                              .method = "/gabion.Meta/GetXattr",
                              .request = &request.base,
                              .reply_type =
                                  &gabion__get_xattr_reply__descriptor };
    ProtobufCMessage *message;
    int rc;

    request.cluster = client->map->id;
    request.ino = ino;
    if (name != NULL) {
        request.name = wire_text(name);
    }
    rc = call_shard(client, &call, &message);
    if (rc != 0) {
        return rc;
    }
    if (!is_xattr_sane((const Gabion__GetXattrReply *)message)) {
        protobuf_c_message_free_unpacked(message, NULL);
        return -EPROTO;
    }
    *ret_reply = (Gabion__GetXattrReply *)message;
    return 0;
}

int meta_client_get_layout(struct meta_client *client,
                           uint64_t ino,
                           uint64_t offset,
                           uint32_t limit,
                           Gabion__GetLayoutReply **ret_reply)
{
    Gabion__GetLayoutRequest request = GABION__GET_LAYOUT_REQUEST__INIT;
    struct meta_call call = { .ino = ino,
                              .method = "/gabion.Meta/GetLayout",
                              .request = &request.base,
                              .reply_type =
                                  &gabion__get_layout_reply__descriptor };
    ProtobufCMessage *message;
    Gabion__GetLayoutReply *reply;
    int rc;

    request.cluster = client->map->id;
    request.ino = ino;
    request.offset = offset;
    request.limit = limit;
    rc = call_shard(client, &call, &message);
    if (rc != 0) {
        return rc;
    }
    reply = (Gabion__GetLayoutReply *)message;
    if (validate_layout_reply(reply, NULL) != 0 || reply->attr == NULL ||
        !is_attr_sane(reply->attr) || reply->n_extent > limit ||
        (reply->n_extent == 0 && !reply->end)) {
        protobuf_c_message_free_unpacked(message, NULL);
        return -EPROTO;
    }
    *ret_reply = reply;
    return 0;
}

int meta_client_stats(struct meta_client *client,
                      uint64_t ino,
                      Gabion__ShardStatsReply **ret_reply)
{
    Gabion__ShardStatsRequest request = GABION__SHARD_STATS_REQUEST__INIT;
    struct meta_call call = { .ino = ino,
                              .method = "/gabion.Meta/ShardStats",
                              .request = &request.base,
                              .reply_type =
                                  &gabion__shard_stats_reply__descriptor,
                              .deadline_ms = clock_mono_ms() + STATS_MS,
                              .once = true };
    ProtobufCMessage *message;
    int rc;

    request.cluster = client->map->id;
    rc = call_shard(client, &call, &message);
    if (rc == 0) {
        *ret_reply = (Gabion__ShardStatsReply *)message;
    }
    return rc;
}

/* ------------------------------------------------------ session and changes */

int meta_client_heartbeat(struct meta_client *client,
                          Gabion__HeartbeatRequest *request,
                          int64_t deadline_ms,
                          Gabion__HeartbeatReply **ret_reply)
{
    struct meta_call call = { .ino = 0,
                              .method = "/gabion.Meta/Heartbeat",
                              .request = &request->base,
                              .reply_type =
                                  &gabion__heartbeat_reply__descriptor,
                              .deadline_ms = deadline_ms,
                              .once = true };
    ProtobufCMessage *message;
    int rc;

    request->cluster = client->map->id;
    rc = call_shard(client, &call, &message);
    if (rc == 0) {
        *ret_reply = (Gabion__HeartbeatReply *)message;
    }
    return rc;
}

static bool is_submit_reply_sane(const Gabion__SubmitReply *reply, size_t n_ops)
{
    if (reply->n_result != n_ops) {
        return false;
    }
    for (size_t i = 0; i < n_ops; i++) {
        const Gabion__OpResult *result = reply->result[i];

        if (result->error < 0 || result->error >= 4096) {
            return false;
        }
        for (size_t j = 0; j < result->n_attr; j++) {
            /* All zeros: the inode is gone. */
            if (result->attr[j]->ino != 0 && !is_attr_sane(result->attr[j])) {
                return false;
            }
        }
    }
    return true;
}

int meta_client_submit(struct meta_client *client,
                       uint64_t ino,
                       Gabion__SubmitRequest *request,
                       Gabion__SubmitReply **ret_reply,
                       unsigned *ret_attempts)
{
    struct meta_call call = { .ino = ino,
                              .method = "/gabion.Meta/Submit",
                              .request = &request->base,
                              .reply_type = &gabion__submit_reply__descriptor };
    ProtobufCMessage *message;
    int rc;

    request->cluster = client->map->id;
    rc = call_shard(client, &call, &message);
    *ret_attempts = call.attempts;
    if (rc != 0) {
        return rc;
    }
    if (!is_submit_reply_sane((const Gabion__SubmitReply *)message,
                              request->n_op)) {
        protobuf_c_message_free_unpacked(message, NULL);
        return -EPROTO;
    }
    *ret_reply = (Gabion__SubmitReply *)message;
    return 0;
}
