#include "storaged/meta/meta_reply.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "common/err.h"

/* Where a field lies in the message. */
static unsigned field_offset(const ProtobufCMessageDescriptor *type,
                             const char *name)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(type, name);

    assert(field != NULL);
    return field->offset;
}

bool meta_request_is_for(struct rpc_request *request,
                         uint64_t cluster,
                         const ProtobufCMessageDescriptor *reply_type)
{
    const ProtobufCMessage *message = rpc_request_message(request);
    uint64_t asked;

    memcpy(&asked,
           (const char *)message + field_offset(message->descriptor, "cluster"),
           sizeof asked);
    if (asked == cluster) {
        return true;
    }
    meta_reply_error(request, reply_type, ESTALE,
                     "this node belongs to another cluster");
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
    memcpy(reply.bytes + field_offset(reply_type, "error"), &number,
           sizeof number);
    memcpy(reply.bytes + field_offset(reply_type, "detail"), &text_start,
           sizeof text_start);
    rpc_reply(request, &reply.base, NULL, 0, 0);
}
