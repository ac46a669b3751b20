/* What all messages of the metadata service have in common: a request's first
 * field is the cluster, a reply's first two are error and detail. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "common/rpc_server.h"

/* Whether the request is for this cluster. If not, it has been answered with
 * ESTALE in a reply of type `reply_type`, and is gone; now and then one is
 * logged. */
bool meta_request_is_for(struct rpc_request *request,
                         uint64_t cluster,
                         const ProtobufCMessageDescriptor *reply_type);

/* Answer with a reply that has nothing but the error (positive errno) and the
 * detail; NULL: its usual text. Consumes the request. EINVAL, which no mount of
 * ours gets, is logged now and then. */
void meta_reply_error(struct rpc_request *request,
                      const ProtobufCMessageDescriptor *reply_type,
                      int error,
                      const char *detail);
