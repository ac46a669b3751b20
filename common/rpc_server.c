/* A request's life; all steps but the handler's run on the poller that owns the
 * completion queue, so that the pollers share nothing:
 *
 *   arm ──▶ ARMED ──call arrives──▶ SERVING ──rpc_reply, rpc_refuse──▶ ANSWERED
 *              ▲              (decoded, with its handler)                 │
 *              └───────── recycle ◀──── batch completed ◀─────────────────┘
 *
 * Each poller keeps ARMED_PER_METHOD requests armed for each method, until
 * SERVING_MAX of the method are in service: further calls then wait inside
 * gRPC with their messages, of each connection as many as it may have streams.
 * One more, of no method, is armed for calls that name none of ours. */
#include "common/rpc_server.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <grpc/byte_buffer.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/rpc_address.h"
#include "common/rpc_args.h"
#include "common/rpc_message.h"

#define ARMED_PER_METHOD 32
#define SERVING_MAX      256

/* Garbage is logged at most this often. */
#define GARBAGE_PERIOD_MS 60000

struct poller;

/* A method as one poller sees it. */
struct lane {
    struct poller *poller;           /* borrowed */
    const struct rpc_method *method; /* borrowed; NULL: unknown methods */
    void *handle;                    /* gRPC's name of the method */
    unsigned armed_max;
    unsigned n_armed;
    unsigned n_serving;        /* SERVING and ANSWERED */
    struct rpc_request *spare; /* owned: recycled requests, by next */
};

enum request_state {
    REQUEST_ARMED,
    REQUEST_SERVING,
    REQUEST_ANSWERED
};

struct rpc_request {
    struct lane *lane;        /* borrowed */
    struct rpc_request *next; /* in lane->spare */
    enum request_state state;
    grpc_call *call; /* owned from arrival until the answer is complete */
    struct rpc_message message; /* decoded; empty once answered */

    /* gRPC writes these while armed. */
    grpc_byte_buffer *received; /* owned until decoded; NULL: no message */
    grpc_metadata_array metadata;
    grpc_call_details details; /* unknown methods only */
    gpr_timespec deadline;

    /* gRPC uses these while answered. */
    grpc_byte_buffer *sent; /* owned; NULL: none */
    grpc_slice text;        /* of the status */
    int was_cancelled;
};

struct poller {
    struct rpc_server *server; /* borrowed */
    grpc_completion_queue *cq; /* owned */
    struct lane *lanes;        /* owned: n_methods + 1, the last for unknown */
    pthread_t thread;
    bool is_running; /* thread is to be joined */
};

struct rpc_server {
    grpc_server *grpc;          /* owned */
    struct rpc_method *methods; /* owned */
    size_t n_methods;
    struct poller *pollers; /* owned */
    unsigned n_pollers;
    int port;
    bool is_started;
    struct log_limit garbage;

    /* Stopping. The count and the flag are atomic, see enter_service(). */
    size_t n_serving;
    bool is_closed; /* calls that still arrive are dropped */
    pthread_mutex_t lock;
    pthread_cond_t idle; /* with lock: n_serving fell to 0, or is_shut_down */
    bool is_shut_down;   /* under lock: gRPC has ended its listeners */
};

/* ------------------------------------------------------------ being in service
 *
 * rpc_server_stop() must not close a queue on which an answer may still be
 * started. A poller counts a call and then looks at is_closed; stop sets
 * is_closed and then looks at the count: one of them sees the other. */

static void leave_service(struct rpc_server *server)
{
    if (__atomic_sub_fetch(&server->n_serving, 1, __ATOMIC_SEQ_CST) == 0 &&
        __atomic_load_n(&server->is_closed, __ATOMIC_SEQ_CST)) {
        (void)pthread_mutex_lock(&server->lock);
        (void)pthread_cond_broadcast(&server->idle);
        (void)pthread_mutex_unlock(&server->lock);
    }
}

static bool enter_service(struct rpc_server *server)
{
    (void)__atomic_add_fetch(&server->n_serving, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&server->is_closed, __ATOMIC_SEQ_CST)) {
        leave_service(server);
        return false;
    }
    return true;
}

/* ---------------------------------------------------------------- requests */

static struct rpc_request *take_request(struct lane *lane)
{
    struct rpc_request *request = lane->spare;

    if (request != NULL) {
        lane->spare = request->next;
        return request;
    }
    request = calloc(1, sizeof *request);
    if (request != NULL) {
        request->lane = lane;
    }
    return request;
}

static void put_request(struct rpc_request *request)
{
    struct lane *lane = request->lane;

    request->next = lane->spare;
    lane->spare = request;
}

static int arm_one(struct lane *lane)
{
    struct poller *poller = lane->poller;
    grpc_server *server = poller->server->grpc;
    struct rpc_request *request = take_request(lane);
    grpc_call_error error;

    if (request == NULL) {
        return -ENOMEM;
    }
    request->state = REQUEST_ARMED;
    request->call = NULL;
    request->received = NULL;
    request->sent = NULL;
    grpc_metadata_array_init(&request->metadata);
    if (lane->method != NULL) {
        error = grpc_server_request_registered_call(
            server, lane->handle, &request->call, &request->deadline,
            &request->metadata, &request->received, poller->cq, poller->cq,
            request);
    } else {
        grpc_call_details_init(&request->details);
        error = grpc_server_request_call(server, &request->call,
                                         &request->details, &request->metadata,
                                         poller->cq, poller->cq, request);
    }
    assert(error == GRPC_CALL_OK);
    (void)error;
    lane->n_armed++;
    return 0;
}

/* Arm what is missing. Out of memory, less is armed until the next try. */
static int arm(struct lane *lane)
{
    int rc = 0;

    while (rc == 0 && lane->n_armed < lane->armed_max &&
           lane->n_serving + lane->n_armed < SERVING_MAX) {
        rc = arm_one(lane);
    }
    return rc;
}

/* ----------------------------------------------------------------- answers */

/* The last touch of the request by whoever answers: the poller may recycle it
 * before this returns. */
static void start_answer(struct rpc_request *request,
                         grpc_status_code status,
                         const char *text)
{
    grpc_op ops[4];
    grpc_call_error error;
    size_t n = 0;

    assert(request->state == REQUEST_SERVING);
    rpc_message_close(&request->message);
    request->state = REQUEST_ANSWERED;
    request->text =
        text != NULL ? grpc_slice_from_copied_string(text) : grpc_empty_slice();
    memset(ops, 0, sizeof ops);
    ops[n++].op = GRPC_OP_SEND_INITIAL_METADATA;
    if (request->sent != NULL) {
        ops[n].op = GRPC_OP_SEND_MESSAGE;
        ops[n++].data.send_message.send_message = request->sent;
    }
    ops[n].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
    ops[n].data.send_status_from_server.status = status;
    if (text != NULL) {
        ops[n].data.send_status_from_server.status_details = &request->text;
    }
    n++;
    ops[n].op = GRPC_OP_RECV_CLOSE_ON_SERVER;
    ops[n++].data.recv_close_on_server.cancelled = &request->was_cancelled;
    error = grpc_call_start_batch(request->call, ops, n, request, NULL);
    assert(error == GRPC_CALL_OK);
    (void)error;
}

void rpc_reply(struct rpc_request *request,
               const ProtobufCMessage *reply,
               struct buf *payload,
               size_t payload_offset,
               size_t payload_size)
{
    int rc = rpc_message_pack(reply, payload, payload_offset, payload_size,
                              &request->sent);

    if (rc == 0) {
        start_answer(request, GRPC_STATUS_OK, NULL);
    } else {
        request->sent = NULL;
        start_answer(request, GRPC_STATUS_RESOURCE_EXHAUSTED,
                     "the answer is too long");
    }
}

static grpc_status_code refusal_status(int error)
{
    switch (error) {
    case -EINVAL:
        return GRPC_STATUS_INVALID_ARGUMENT;
    case -EACCES:
        return GRPC_STATUS_PERMISSION_DENIED;
    case -ENOSYS:
        return GRPC_STATUS_UNIMPLEMENTED;
    case -ENOMEM:
    case -EAGAIN:
        return GRPC_STATUS_ABORTED;
    default:
        return GRPC_STATUS_INTERNAL;
    }
}

void rpc_refuse(struct rpc_request *request, int error, const char *detail)
{
    start_answer(request, refusal_status(error), detail);
}

const ProtobufCMessage *rpc_request_message(const struct rpc_request *request)
{
    return request->message.header;
}

size_t rpc_request_payload_size(const struct rpc_request *request)
{
    return request->message.payload_size;
}

size_t rpc_request_payload_iov(const struct rpc_request *request,
                               const struct iovec **ret_iov)
{
    *ret_iov = request->message.iov;
    return request->message.n_iov;
}

/* ----------------------------------------------------------------- pollers */

static void log_garbage(const struct rpc_request *request)
{
    struct rpc_server *server = request->lane->poller->server;
    uint64_t n_dropped;
    char *peer;

    if (log_limit_pass(&server->garbage, GARBAGE_PERIOD_MS, &n_dropped) == 0) {
        return;
    }
    peer = grpc_call_get_peer(request->call);
    log_warn("malformed request refused method=%s peer=%s more=%llu",
             request->lane->method->path, peer, (unsigned long long)n_dropped);
    gpr_free(peer);
}

static void serve(struct rpc_request *request)
{
    const struct rpc_method *method = request->lane->method;
    grpc_byte_buffer *received = request->received;
    int rc;

    if (method == NULL) {
        rpc_refuse(request, -ENOSYS, "no such method");
        return;
    }
    if (received == NULL) {
        /* The caller gave up before its message was complete. */
        start_answer(request, GRPC_STATUS_CANCELLED, NULL);
        return;
    }
    request->received = NULL;
    rc = rpc_message_unpack(method->request_type, received, &request->message);
    if (rc == -ENOMEM) {
        rpc_refuse(request, rc, "out of memory");
    } else if (rc != 0) {
        log_garbage(request);
        rpc_refuse(request, -EINVAL, "malformed request");
    } else {
        method->handler(request, method->context);
    }
}

/* Give back what gRPC wrote while the request was armed. */
static void release_arrival(struct rpc_request *request)
{
    grpc_metadata_array_destroy(&request->metadata);
    if (request->lane->method == NULL) {
        grpc_call_details_destroy(&request->details);
    }
}

static void release_call(struct rpc_request *request)
{
    if (request->received != NULL) {
        grpc_byte_buffer_destroy(request->received);
        request->received = NULL;
    }
    if (request->call != NULL) {
        grpc_call_unref(request->call);
        request->call = NULL;
    }
}

static void on_arrival(struct rpc_request *request, bool is_ok)
{
    struct lane *lane = request->lane;

    lane->n_armed--;
    if (!is_ok || !enter_service(lane->poller->server)) {
        /* Shutting down: not armed again. */
        release_arrival(request);
        release_call(request);
        put_request(request);
        return;
    }
    lane->n_serving++;
    (void)arm(lane);
    release_arrival(request);
    request->state = REQUEST_SERVING;
    serve(request);
}

static void on_answered(struct rpc_request *request)
{
    struct lane *lane = request->lane;

    grpc_slice_unref(request->text);
    if (request->sent != NULL) {
        grpc_byte_buffer_destroy(request->sent);
        request->sent = NULL;
    }
    release_call(request);
    put_request(request);
    lane->n_serving--;
    (void)arm(lane);
    leave_service(lane->poller->server);
}

static void on_shut_down(struct rpc_server *server)
{
    (void)pthread_mutex_lock(&server->lock);
    server->is_shut_down = true;
    (void)pthread_cond_broadcast(&server->idle);
    (void)pthread_mutex_unlock(&server->lock);
}

/* Handle one event; false when the queue has ended. */
static bool poll_once(struct poller *poller)
{
    grpc_event event = grpc_completion_queue_next(
        poller->cq, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    struct rpc_request *request = event.tag;

    if (event.type == GRPC_QUEUE_SHUTDOWN) {
        return false;
    }
    if (event.tag == poller->server) {
        on_shut_down(poller->server);
    } else if (request->state == REQUEST_ARMED) {
        on_arrival(request, event.success != 0);
    } else {
        on_answered(request);
    }
    return true;
}

static void *poll_queue(void *context)
{
    while (poll_once(context)) {
    }
    return NULL;
}

/* -------------------------------------------------------------- life cycle */

static int bind_port(struct rpc_server *server,
                     const char *listen,
                     struct errmsg *msg)
{
    grpc_server_credentials *credentials =
        grpc_insecure_server_credentials_create();

    server->port =
        grpc_server_add_http2_port(server->grpc, listen, credentials);
    grpc_server_credentials_release(credentials);
    return server->port > 0 ? 0 : rpc_address_diagnose(listen, msg);
}

static int init_poller(struct rpc_server *server, struct poller *poller)
{
    poller->server = server;
    poller->cq = grpc_completion_queue_create_for_next(NULL);
    grpc_server_register_completion_queue(server->grpc, poller->cq, NULL);
    poller->lanes = calloc(server->n_methods + 1, sizeof *poller->lanes);
    return poller->lanes != NULL ? 0 : -ENOMEM;
}

static void init_lanes(struct rpc_server *server, size_t i, void *handle)
{
    for (unsigned p = 0; p < server->n_pollers; p++) {
        struct lane *lane = &server->pollers[p].lanes[i];

        lane->poller = &server->pollers[p];
        lane->handle = handle;
        lane->armed_max = 1;
        if (i < server->n_methods) {
            lane->method = &server->methods[i];
            lane->armed_max = ARMED_PER_METHOD;
        }
    }
}

/* Errors: -EINVAL a method twice. */
static int register_methods(struct rpc_server *server)
{
    for (size_t i = 0; i < server->n_methods; i++) {
        void *handle = grpc_server_register_method(
            server->grpc, server->methods[i].path, NULL,
            GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER, 0);

        if (handle == NULL) {
            return -EINVAL;
        }
        init_lanes(server, i, handle);
    }
    init_lanes(server, server->n_methods, NULL);
    return 0;
}

static int copy_methods(struct rpc_server *server,
                        const struct rpc_method *methods,
                        size_t n_methods)
{
    server->methods = calloc(n_methods + 1, sizeof *methods);
    if (server->methods == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < n_methods; i++) {
        server->methods[i] = methods[i];
    }
    server->n_methods = n_methods;
    return 0;
}

static struct rpc_server *alloc_server(unsigned n_pollers)
{
    struct rpc_server *server = calloc(1, sizeof *server);

    if (server == NULL) {
        return NULL;
    }
    server->pollers = calloc(n_pollers, sizeof *server->pollers);
    if (server->pollers == NULL) {
        free(server);
        return NULL;
    }
    server->n_pollers = n_pollers;
    (void)pthread_mutex_init(&server->lock, NULL);
    (void)pthread_cond_init(&server->idle, NULL);
    rpc_grpc_ref();
    server->grpc = grpc_server_create(rpc_args_server(), NULL);
    return server;
}

int rpc_server_new(const char *listen,
                   const struct rpc_method *methods,
                   size_t n_methods,
                   unsigned n_pollers,
                   struct rpc_server **ret_server,
                   struct errmsg *msg)
{
    struct rpc_server *server;
    int rc = rpc_address_check_listen(listen);

    if (rc != 0 || n_pollers == 0) {
        errmsg_set(msg, "cannot listen at %s: %s", listen,
                   rc != 0 ? "not an address like host:port" : "no pollers");
        return -EINVAL;
    }
    server = alloc_server(n_pollers);
    if (server == NULL) {
        errmsg_set(msg, "cannot listen at %s: out of memory", listen);
        return -ENOMEM;
    }
    rc = copy_methods(server, methods, n_methods);
    for (unsigned i = 0; rc == 0 && i < n_pollers; i++) {
        rc = init_poller(server, &server->pollers[i]);
    }
    if (rc == 0) {
        rc = register_methods(server);
    }
    if (rc != 0) {
        errmsg_set(msg, "cannot listen at %s: %s", listen, err_text(rc));
    } else {
        rc = bind_port(server, listen, msg);
    }
    if (rc != 0) {
        rpc_server_free(server);
        return rc;
    }
    *ret_server = server;
    return 0;
}

int rpc_server_start(struct rpc_server *server)
{
    int rc = 0;

    assert(!server->is_started);
    server->is_started = true;
    grpc_server_start(server->grpc);
    for (unsigned p = 0; rc == 0 && p < server->n_pollers; p++) {
        struct poller *poller = &server->pollers[p];

        for (size_t i = 0; rc == 0 && i <= server->n_methods; i++) {
            rc = arm(&poller->lanes[i]);
        }
    }
    for (unsigned p = 0; rc == 0 && p < server->n_pollers; p++) {
        struct poller *poller = &server->pollers[p];

        rc = -pthread_create(&poller->thread, NULL, poll_queue, poller);
        poller->is_running = rc == 0;
    }
    if (rc != 0) {
        rpc_server_stop(server, 0);
        return -ENOMEM;
    }
    return 0;
}

int rpc_server_port(const struct rpc_server *server)
{
    return server->port;
}

/* Wait until gRPC has shut down, `deadline_ms` at most. */
static void await_shut_down(struct rpc_server *server, int64_t deadline_ms)
{
    const struct timespec deadline = { .tv_sec = (time_t)(deadline_ms / 1000),
                                       .tv_nsec = (long)(deadline_ms % 1000) *
                                                  1000000 };
    int rc = 0;

    (void)pthread_mutex_lock(&server->lock);
    while (!server->is_shut_down && rc == 0) {
        rc = pthread_cond_clockwait(&server->idle, &server->lock,
                                    CLOCK_MONOTONIC, &deadline);
    }
    (void)pthread_mutex_unlock(&server->lock);
}

/* Wait until gRPC has shut down and every request has been answered. */
static void await_idle(struct rpc_server *server)
{
    __atomic_store_n(&server->is_closed, true, __ATOMIC_SEQ_CST);
    (void)pthread_mutex_lock(&server->lock);
    while (!server->is_shut_down ||
           __atomic_load_n(&server->n_serving, __ATOMIC_SEQ_CST) > 0) {
        (void)pthread_cond_wait(&server->idle, &server->lock);
    }
    (void)pthread_mutex_unlock(&server->lock);
}

/* Let the pollers end, once nothing can be started on their queues any more. */
static void end_pollers(struct rpc_server *server)
{
    for (unsigned p = 0; p < server->n_pollers; p++) {
        struct poller *poller = &server->pollers[p];

        if (poller->cq == NULL) {
            continue;
        }
        grpc_completion_queue_shutdown(poller->cq);
        if (poller->is_running) {
            (void)pthread_join(poller->thread, NULL);
        } else {
            (void)poll_queue(poller);
        }
    }
}

void rpc_server_stop(struct rpc_server *server, int64_t grace_ms)
{
    struct poller *first = &server->pollers[0];

    if (server->is_closed) {
        return;
    }
    grpc_server_shutdown_and_notify(server->grpc, first->cq, server);
    if (first->is_running) {
        await_shut_down(server, clock_mono_ms() + grace_ms);
    }
    grpc_server_cancel_all_calls(server->grpc);
    /* Without a poller nobody but this thread handles the event. */
    while (!first->is_running && !server->is_shut_down) {
        (void)poll_once(first);
    }
    await_idle(server);
    end_pollers(server);
}

static void free_poller(struct rpc_server *server, struct poller *poller)
{
    struct rpc_request *request;

    if (poller->cq != NULL) {
        grpc_completion_queue_destroy(poller->cq);
    }
    for (size_t i = 0; poller->lanes != NULL && i <= server->n_methods; i++) {
        while ((request = poller->lanes[i].spare) != NULL) {
            poller->lanes[i].spare = request->next;
            free(request);
        }
    }
    free(poller->lanes);
}

void rpc_server_free(struct rpc_server *server)
{
    if (server == NULL) {
        return;
    }
    assert(!server->is_started || server->is_closed);
    if (server->pollers[0].cq != NULL) {
        rpc_server_stop(server, 0);
    }
    grpc_server_destroy(server->grpc);
    for (unsigned p = 0; p < server->n_pollers; p++) {
        free_poller(server, &server->pollers[p]);
    }
    rpc_grpc_unref();
    (void)pthread_cond_destroy(&server->idle);
    (void)pthread_mutex_destroy(&server->lock);
    free(server->pollers);
    free(server->methods);
    free(server);
}
