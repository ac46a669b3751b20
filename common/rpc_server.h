/* Unary RPCs over gRPC C-core, server side.
 *
 * A few poller threads decode requests and run handlers. A handler must not
 * block for long: it answers at once or hands the request to another thread,
 * which answers later. Malformed requests never reach a handler: they are
 * refused and logged once per period. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <protobuf-c/protobuf-c.h>

#include "common/buf.h"
#include "common/err.h"

struct rpc_server;
struct rpc_request; /* one call being served; owned by the handler until
                       rpc_reply() or rpc_refuse() */

typedef void rpc_handler(struct rpc_request *request, void *context);

struct rpc_method {
    const char *path; /* "/gabion.Block/PutBlock"; static */
    const ProtobufCMessageDescriptor *request_type;
    rpc_handler *handler;
    void *context; /* borrowed, for the handler */
};

/* Bind `listen` ("host:port", port 0 picks one) and prepare to serve `methods`
 * (copied). Nothing is served before rpc_server_start(). A port in use is an
 * error, told in `msg`. `n_pollers` threads poll and run handlers: one is best
 * up to about two cores; a second costs every small call a wake-up.
 * Errors: -EADDRINUSE or another bind error, -EINVAL, -ENOMEM */
MUST_CHECK int rpc_server_new(const char *listen,
                              const struct rpc_method *methods,
                              size_t n_methods,
                              unsigned n_pollers,
                              struct rpc_server **ret_server,
                              struct errmsg *msg);

MUST_CHECK int rpc_server_start(struct rpc_server *server);

/* The port bound. */
int rpc_server_port(const struct rpc_server *server);

/* Stop taking calls, wait up to `grace_ms` for those being served, cancel the
 * rest, wait until every request has been answered by its owner, end the
 * pollers. Not from a handler. */
void rpc_server_stop(struct rpc_server *server, int64_t grace_ms);

/* After rpc_server_stop(), or never started. NULL is allowed. */
void rpc_server_free(struct rpc_server *server);

/* The decoded request, valid until it is answered. Its bytes field 15, if any,
 * is empty here: see the payload. */
const ProtobufCMessage *rpc_request_message(const struct rpc_request *request);

/* The payload (bytes field number 15) as it lies in memory; valid until the
 * request is answered. The pieces, none empty, number RPC_PAYLOAD_IOV_MAX
 * (common/rpc_message.h, 1024) at most. */
size_t rpc_request_payload_size(const struct rpc_request *request);
size_t rpc_request_payload_iov(const struct rpc_request *request,
                               const struct iovec **ret_iov);

/* Answer. `reply` is packed before the call returns. `payload`, may be NULL, is
 * sent by reference as the reply's bytes field 15; a reference is taken. Any
 * thread; consumes the request. */
void rpc_reply(struct rpc_request *request,
               const ProtobufCMessage *reply,
               struct buf *payload,
               size_t payload_offset,
               size_t payload_size);

/* Refuse the call. `error` is -EINVAL, -EACCES, -ENOSYS, -ENOMEM or -EAGAIN;
 * the client sees it as it is, but -EAGAIN for -ENOMEM. `detail` is for the
 * client's debug log. Any thread; consumes the request. */
void rpc_refuse(struct rpc_request *request, int error, const char *detail);
