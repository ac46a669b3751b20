#include "storaged/meta/meta_reads.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "common/log.h"
#include "proto/metadata.pb-c.h"
#include "proto/validate.h"
#include "storaged/meta/meta_read.h"
#include "storaged/meta/meta_reply.h"

/* One call: the read of a request in form. `*ret_reply` is heap-built.
 * Errors: -EINVAL bad form; those of meta_read.h */
typedef int read_fn(struct meta_reader *reader,
                    const ProtobufCMessage *request,
                    ProtobufCMessage **ret_reply);

struct call {
    const char *path;
    const ProtobufCMessageDescriptor *request_type;
    const ProtobufCMessageDescriptor *reply_type;
    read_fn *read;
};

/* What the RPC server hands to the handler. */
struct method {
    const struct call *call;
    struct meta_reads *reads; /* borrowed: the owner */
};

struct meta_reads {
    uint64_t cluster;
    struct reader_pool *pool; /* borrowed */
    struct method methods[META_READS_METHODS];
};

static bool is_ino(uint64_t ino)
{
    return ino > 0 && ino <= INT64_MAX;
}

static uint32_t clamp(uint32_t limit, uint32_t max)
{
    return limit < max ? limit : max;
}

static int read_lookup(struct meta_reader *reader,
                       const ProtobufCMessage *message,
                       ProtobufCMessage **ret_reply)
{
    const Gabion__LookupRequest *request =
        (const Gabion__LookupRequest *)message;
    Gabion__AttrReply *reply;
    int rc;

    if (!is_ino(request->parent) || request->name.len == 0 ||
        request->name.len > NAME_LENGTH_MAX) {
        return -EINVAL;
    }
    rc = meta_read_lookup(reader, request, &reply);
    if (rc == 0) {
        *ret_reply = &reply->base;
    }
    return rc;
}

static int read_attr(struct meta_reader *reader,
                     const ProtobufCMessage *message,
                     ProtobufCMessage **ret_reply)
{
    const Gabion__GetAttrRequest *request =
        (const Gabion__GetAttrRequest *)message;
    Gabion__AttrReply *reply;
    int rc;

    if (!is_ino(request->ino)) {
        return -EINVAL;
    }
    rc = meta_read_attr(reader, request, &reply);
    if (rc == 0) {
        *ret_reply = &reply->base;
    }
    return rc;
}

static int read_dir(struct meta_reader *reader,
                    const ProtobufCMessage *message,
                    ProtobufCMessage **ret_reply)
{
    Gabion__ReadDirRequest request = *(const Gabion__ReadDirRequest *)message;
    Gabion__ReadDirReply *reply;
    int rc;

    if (!is_ino(request.ino) || request.after > INT64_MAX ||
        request.limit == 0) {
        return -EINVAL;
    }
    request.limit = clamp(request.limit, META_DIR_LIMIT);
    rc = meta_read_dir(reader, &request, &reply);
    if (rc == 0) {
        *ret_reply = &reply->base;
    }
    return rc;
}

static int read_link(struct meta_reader *reader,
                     const ProtobufCMessage *message,
                     ProtobufCMessage **ret_reply)
{
    const Gabion__ReadLinkRequest *request =
        (const Gabion__ReadLinkRequest *)message;
    Gabion__ReadLinkReply *reply;
    int rc;

    if (!is_ino(request->ino)) {
        return -EINVAL;
    }
    rc = meta_read_link(reader, request, &reply);
    if (rc == 0) {
        *ret_reply = &reply->base;
    }
    return rc;
}

static int read_xattr(struct meta_reader *reader,
                      const ProtobufCMessage *message,
                      ProtobufCMessage **ret_reply)
{
    const Gabion__GetXattrRequest *request =
        (const Gabion__GetXattrRequest *)message;
    Gabion__GetXattrReply *reply;
    int rc;

    if (!is_ino(request->ino) || request->name.len > NAME_LENGTH_MAX) {
        return -EINVAL;
    }
    rc = meta_read_xattr(reader, request, &reply);
    if (rc == 0) {
        *ret_reply = &reply->base;
    }
    return rc;
}

static int read_layout(struct meta_reader *reader,
                       const ProtobufCMessage *message,
                       ProtobufCMessage **ret_reply)
{
    Gabion__GetLayoutRequest request =
        *(const Gabion__GetLayoutRequest *)message;
    Gabion__GetLayoutReply *reply;
    int rc;

    if (!is_ino(request.ino) || request.offset > INT64_MAX ||
        request.limit == 0) {
        return -EINVAL;
    }
    request.limit = clamp(request.limit, META_LAYOUT_LIMIT);
    rc = meta_read_layout(reader, &request, &reply);
    if (rc == 0) {
        *ret_reply = &reply->base;
    }
    return rc;
}

static int read_stats(struct meta_reader *reader,
                      const ProtobufCMessage *message,
                      ProtobufCMessage **ret_reply)
{
    Gabion__ShardStatsReply *reply;
    int rc = meta_read_stats(reader, &reply);

    (void)message;
    if (rc == 0) {
        *ret_reply = &reply->base;
    }
    return rc;
}

static const struct call calls[META_READS_METHODS] = {
    { "/gabion.Meta/Lookup", &gabion__lookup_request__descriptor,
      &gabion__attr_reply__descriptor, read_lookup },
    { "/gabion.Meta/GetAttr", &gabion__get_attr_request__descriptor,
      &gabion__attr_reply__descriptor, read_attr },
    { "/gabion.Meta/ReadDir", &gabion__read_dir_request__descriptor,
      &gabion__read_dir_reply__descriptor, read_dir },
    { "/gabion.Meta/ReadLink", &gabion__read_link_request__descriptor,
      &gabion__read_link_reply__descriptor, read_link },
    { "/gabion.Meta/GetXattr", &gabion__get_xattr_request__descriptor,
      &gabion__get_xattr_reply__descriptor, read_xattr },
    { "/gabion.Meta/GetLayout", &gabion__get_layout_request__descriptor,
      &gabion__get_layout_reply__descriptor, read_layout },
    { "/gabion.Meta/ShardStats", &gabion__shard_stats_request__descriptor,
      &gabion__shard_stats_reply__descriptor, read_stats },
};

static void handle_read(struct rpc_request *request, void *context)
{
    static struct log_limit limit;
    const struct method *method = context;
    struct meta_reads *reads = method->reads;
    const struct call *call = method->call;
    struct meta_reader *reader;
    ProtobufCMessage *reply = NULL;
    uint64_t dropped;
    int rc;

    if (!meta_request_is_for(request, reads->cluster, call->reply_type)) {
        return;
    }
    rc = reader_pool_take(reads->pool, &reader);
    if (rc == 0) {
        rc = call->read(reader, rpc_request_message(request), &reply);
        reader_pool_give(reads->pool, reader);
    }
    if (rc == 0) {
        rpc_reply(request, reply, NULL, 0, 0);
        protobuf_c_message_free_unpacked(reply, NULL);
        return;
    }
    if (rc != -EINVAL && log_limit_pass(&limit, 60000, &dropped)) {
        log_error("metadata read failed method=%s error=\"%s\"", call->path,
                  err_text(rc));
    }
    meta_reply_error(request, call->reply_type, -rc,
                     rc == -EINVAL ? "a field is out of its range" : NULL);
}

int meta_reads_new(uint64_t cluster,
                   struct reader_pool *pool,
                   struct meta_reads **ret_reads)
{
    struct meta_reads *reads = calloc(1, sizeof *reads);

    if (reads == NULL) {
        return -ENOMEM;
    }
    reads->cluster = cluster;
    reads->pool = pool;
    for (unsigned i = 0; i < META_READS_METHODS; i++) {
        reads->methods[i] = (struct method){ &calls[i], reads };
    }
    *ret_reads = reads;
    return 0;
}

void meta_reads_free(struct meta_reads *reads)
{
    free(reads);
}

void meta_reads_methods(struct meta_reads *reads,
                        struct rpc_method ret_methods[META_READS_METHODS])
{
    for (unsigned i = 0; i < META_READS_METHODS; i++) {
        ret_methods[i] = (struct rpc_method){
            .path = calls[i].path,
            .request_type = calls[i].request_type,
            .handler = handle_read,
            .context = &reads->methods[i],
        };
    }
}
