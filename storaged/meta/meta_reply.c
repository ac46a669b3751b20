#include "storaged/meta/meta_reply.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include "common/err.h"
#include "common/log.h"

/* Refusals of malformed requests are logged once in this time. */
#define REFUSED_PERIOD_MS 60000

/* Where a field lies in the message. */
static unsigned field_offset(const ProtobufCMessageDescriptor *type,
                             const char *name)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(type, name);

    assert(field != NULL);
    return field->offset;
}

static void log_refusal(const ProtobufCMessageDescriptor *reply_type,
                        const char *detail)
{
    static struct log_limit limit;
    uint64_t n_dropped;

    if (log_limit_pass(&limit, REFUSED_PERIOD_MS, &n_dropped)) {
        log_warn("request refused reply=%s detail=\"%s\" more=%" PRIu64,
                 reply_type->short_name, detail, n_dropped);
    }
}

bool meta_request_is_for(struct rpc_request *request,
                         uint64_t cluster,
                         const ProtobufCMessageDescriptor *reply_type)
{
    const ProtobufCMessage *message = rpc_request_message(request);
    static const char detail[] = "this node belongs to another cluster";
    uint64_t asked;

    memcpy(&asked,
           (const char *)message + field_offset(message->descriptor, "cluster"),
           sizeof asked);
    if (asked == cluster) {
        return true;
    }
    log_refusal(reply_type, detail);
    meta_reply_error(request, reply_type, ESTALE, detail);
    return false;
}

void meta_reply_error(struct rpc_request *request,
                      const ProtobufCMessageDescriptor *reply_type,
                      int error,
                      const char *detail)
{
    union {
        ProtobufCMessage base;
        max_align_t align;
        char bytes[512]; /* the largest reply struct has 100 */
    } reply;
    struct errmsg text;
    char *text_start = text.text;
    int32_t number = error;

    assert(reply_type->sizeof_message <= sizeof reply);
    protobuf_c_message_init(reply_type, &reply);
    errmsg_set(&text, "%s", detail != NULL ? detail : err_text(error));
    if (error == EINVAL) {
        log_refusal(reply_type, text.text);
    }
    memcpy(reply.bytes + field_offset(reply_type, "error"), &number,
           sizeof number);
    memcpy(reply.bytes + field_offset(reply_type, "detail"), &text_start,
           sizeof text_start);
    rpc_reply(request, &reply.base, NULL, 0, 0);
}
