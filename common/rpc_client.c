#include "common/rpc_client.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <grpc/byte_buffer.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/time.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/rpc_address.h"
#include "common/rpc_args.h"
#include "common/rpc_message.h"

/* How long a peer counts as down after a failure to reach it. */
#define DOWN_MS 1000

/* See keep_polling(). */
#define NAP_NS         50000000
#define KEEPER_POLL_MS 2

struct rpc_peer {
    struct rpc_peer *next;  /* in the client's list; owned by the list */
    char *address;          /* owned: as given */
    grpc_channel *lanes[2]; /* owned, by enum rpc_lane */
    int64_t down_since_ms;  /* atomic, clock_mono_ms(); 0: up */
};

struct rpc_client {
    pthread_key_t thread_queue;  /* struct rpc_queue, owned by its thread */
    grpc_completion_queue *idle; /* owned: where the keeper polls; NULL: there
                                    is no keeper */
    pthread_t keeper;
    uint64_t waits; /* atomic: threads in rpc_queue_wait() now (low half) and
                       how often it was entered (high half) */

    pthread_mutex_t lock;   /* guards what follows */
    struct rpc_peer *peers; /* owned; only ever grows */
    size_t n_queues;
    bool is_stopping;    /* the keeper shall end */
    pthread_cond_t stop; /* is_stopping was set */
};

/* Only its thread touches a queue, so nothing here is locked. */
struct rpc_queue {
    struct rpc_client *client;       /* borrowed */
    grpc_completion_queue *cq;       /* owned */
    struct rpc_call_impl *in_flight; /* doubly linked; borrowed */
    struct rpc_call *unstarted; /* failed before gRPC, first in first out; */
    struct rpc_call **unstarted_end; /* borrowed */
};

struct rpc_call_impl {
    struct rpc_call *call;      /* borrowed */
    struct rpc_queue *queue;    /* borrowed */
    struct rpc_peer *peer;      /* borrowed */
    struct rpc_call_impl *prev; /* in queue->in_flight */
    struct rpc_call_impl *next;
    grpc_call *grpc; /* owned until the batch has completed */
    bool is_cancelled;
    struct rpc_message reply; /* its header is call->reply meanwhile */

    /* gRPC writes these until the batch has completed. */
    grpc_byte_buffer *sent;     /* owned */
    grpc_byte_buffer *received; /* owned; NULL when no message came */
    grpc_metadata_array initial_metadata;
    grpc_metadata_array trailing_metadata;
    grpc_status_code status;
    grpc_slice details;
};

/* ------------------------------------------------------------------- client */

static gpr_timespec to_deadline(int64_t mono_ms)
{
    return gpr_time_from_millis(mono_ms, GPR_CLOCK_MONOTONIC);
}

/* Returns whether the client is being freed. */
static bool nap(struct rpc_client *client, int64_t deadline_ns)
{
    const struct timespec deadline = { .tv_sec = deadline_ns / 1000000000,
                                       .tv_nsec = deadline_ns % 1000000000 };
    bool is_stopping;
    int rc = 0;

    (void)pthread_mutex_lock(&client->lock);
    while (!client->is_stopping && rc == 0) {
        rc = pthread_cond_clockwait(&client->stop, &client->lock,
                                    CLOCK_MONOTONIC, &deadline);
    }
    is_stopping = client->is_stopping;
    (void)pthread_mutex_unlock(&client->lock);
    return is_stopping;
}

/* gRPC moves bytes, connects and answers pings only while some thread polls,
 * and one polling thread serves all. While callers wait on their queues, they
 * poll; a keeper beside them would catch their events and have to wake them,
 * which doubles the cost of a small call. So the keeper naps nearly all of the
 * time: pings have seconds, and who waits for a connection polls. It polls for
 * a moment between its naps, unless somebody has waited since the last one. */
static void *keep_polling(void *context)
{
    struct rpc_client *client = context;
    uint64_t seen = 0;
    bool is_stopping = false;

    while (!is_stopping) {
        uint64_t waits = __atomic_load_n(&client->waits, __ATOMIC_RELAXED);

        if (waits == seen && (uint32_t)waits == 0) {
            is_stopping =
                grpc_completion_queue_next(
                    client->idle, to_deadline(clock_mono_ms() + KEEPER_POLL_MS),
                    NULL)
                    .type == GRPC_QUEUE_SHUTDOWN;
        }
        seen = waits;
        is_stopping = is_stopping || nap(client, clock_mono_ns() + NAP_NS);
    }
    return NULL;
}

static int start_keeper(struct rpc_client *client)
{
    client->idle = grpc_completion_queue_create_for_next(NULL);
    if (pthread_create(&client->keeper, NULL, keep_polling, client) != 0) {
        grpc_completion_queue_shutdown(client->idle);
        (void)keep_polling(client);
        grpc_completion_queue_destroy(client->idle);
        client->idle = NULL;
        return -ENOMEM;
    }
    return 0;
}

static void stop_keeper(struct rpc_client *client)
{
    if (client->idle == NULL) {
        return;
    }
    grpc_completion_queue_shutdown(client->idle);
    (void)pthread_join(client->keeper, NULL);
    while (grpc_completion_queue_next(client->idle,
                                      gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL)
               .type != GRPC_QUEUE_SHUTDOWN) {
    }
    grpc_completion_queue_destroy(client->idle);
}

static void free_thread_queue(void *queue)
{
    rpc_queue_free(queue);
}

static void destroy(struct rpc_client *client)
{
    (void)pthread_cond_destroy(&client->stop);
    (void)pthread_mutex_destroy(&client->lock);
    (void)pthread_key_delete(client->thread_queue);
    rpc_grpc_unref();
    free(client);
}

int rpc_client_new(bool polls, struct rpc_client **ret_client)
{
    struct rpc_client *client = calloc(1, sizeof *client);

    if (client == NULL) {
        return -ENOMEM;
    }
    if (pthread_key_create(&client->thread_queue, free_thread_queue) != 0) {
        free(client);
        return -ENOMEM;
    }
    rpc_grpc_ref();
    (void)pthread_mutex_init(&client->lock, NULL);
    (void)pthread_cond_init(&client->stop, NULL);
    if (polls && start_keeper(client) != 0) {
        destroy(client);
        return -ENOMEM;
    }
    *ret_client = client;
    return 0;
}

static void free_peer(struct rpc_peer *peer)
{
    for (size_t i = 0; i < 2; i++) {
        if (peer->lanes[i] != NULL) {
            grpc_channel_destroy(peer->lanes[i]);
        }
    }
    free(peer->address);
    free(peer);
}

void rpc_client_free(struct rpc_client *client)
{
    struct rpc_peer *peer;

    if (client == NULL) {
        return;
    }
    rpc_queue_free(pthread_getspecific(client->thread_queue));
    (void)pthread_mutex_lock(&client->lock);
    assert(client->n_queues == 0);
    client->is_stopping = true;
    (void)pthread_cond_signal(&client->stop);
    (void)pthread_mutex_unlock(&client->lock);
    while ((peer = client->peers) != NULL) {
        client->peers = peer->next;
        free_peer(peer);
    }
    stop_keeper(client);
    destroy(client);
}

/* -------------------------------------------------------------------- peers */

static int new_peer(const char *address, struct rpc_peer **ret_peer)
{
    char target[RPC_TARGET_SIZE_MAX];
    grpc_channel_credentials *credentials;
    struct rpc_peer *peer;
    int rc = rpc_address_target(address, target);

    if (rc != 0) {
        return rc;
    }
    peer = calloc(1, sizeof *peer);
    if (peer == NULL) {
        return -ENOMEM;
    }
    peer->address = strdup(address);
    if (peer->address == NULL) {
        free(peer);
        return -ENOMEM;
    }
    credentials = grpc_insecure_credentials_create();
    peer->lanes[RPC_CONTROL] =
        grpc_channel_create(target, credentials, rpc_args_control());
    peer->lanes[RPC_DATA] =
        grpc_channel_create(target, credentials, rpc_args_data());
    grpc_channel_credentials_release(credentials);
    *ret_peer = peer;
    return 0;
}

int rpc_client_peer(struct rpc_client *client,
                    const char *address,
                    struct rpc_peer **ret_peer)
{
    struct rpc_peer *peer;
    int rc = 0;

    (void)pthread_mutex_lock(&client->lock);
    for (peer = client->peers; peer != NULL; peer = peer->next) {
        if (strcmp(peer->address, address) == 0) {
            break;
        }
    }
    if (peer == NULL) {
        rc = new_peer(address, &peer);
        if (rc == 0) {
            peer->next = client->peers;
            client->peers = peer;
        }
    }
    (void)pthread_mutex_unlock(&client->lock);
    if (rc == 0) {
        *ret_peer = peer;
    }
    return rc;
}

bool rpc_peer_is_up(const struct rpc_peer *peer)
{
    int64_t since = __atomic_load_n(&peer->down_since_ms, __ATOMIC_RELAXED);

    return since == 0 || clock_mono_ms() - since >= DOWN_MS;
}

const char *rpc_peer_address(const struct rpc_peer *peer)
{
    return peer->address;
}

/* Learn from how a call ended. A missed deadline says nothing about the
 * connection: keepalive tells. */
static void note_status(struct rpc_peer *peer, grpc_status_code status)
{
    if (status == GRPC_STATUS_UNAVAILABLE) {
        __atomic_store_n(&peer->down_since_ms, clock_mono_ms(),
                         __ATOMIC_RELAXED);
    } else if (status != GRPC_STATUS_DEADLINE_EXCEEDED &&
               status != GRPC_STATUS_CANCELLED &&
               __atomic_load_n(&peer->down_since_ms, __ATOMIC_RELAXED) != 0) {
        __atomic_store_n(&peer->down_since_ms, 0, __ATOMIC_RELAXED);
    }
}

/* ------------------------------------------------------------------- queues */

int rpc_queue_new(struct rpc_client *client, struct rpc_queue **ret_queue)
{
    struct rpc_queue *queue = calloc(1, sizeof *queue);

    if (queue == NULL) {
        return -ENOMEM;
    }
    queue->client = client;
    queue->cq = grpc_completion_queue_create_for_next(NULL);
    queue->unstarted_end = &queue->unstarted;
    (void)pthread_mutex_lock(&client->lock);
    client->n_queues++;
    (void)pthread_mutex_unlock(&client->lock);
    *ret_queue = queue;
    return 0;
}

void rpc_queue_free(struct rpc_queue *queue)
{
    if (queue == NULL) {
        return;
    }
    /* A `done` may start further calls; those go the same way. */
    while (queue->in_flight != NULL || queue->unstarted != NULL) {
        for (struct rpc_call_impl *impl = queue->in_flight; impl != NULL;
             impl = impl->next) {
            rpc_call_cancel(impl->call);
        }
        (void)rpc_queue_wait(queue, INT64_MAX);
    }
    grpc_completion_queue_shutdown(queue->cq);
    while (grpc_completion_queue_next(queue->cq,
                                      gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL)
               .type != GRPC_QUEUE_SHUTDOWN) {
    }
    grpc_completion_queue_destroy(queue->cq);
    (void)pthread_mutex_lock(&queue->client->lock);
    queue->client->n_queues--;
    (void)pthread_mutex_unlock(&queue->client->lock);
    free(queue);
}

struct rpc_queue *rpc_client_thread_queue(struct rpc_client *client)
{
    struct rpc_queue *queue = pthread_getspecific(client->thread_queue);

    if (queue == NULL && rpc_queue_new(client, &queue) == 0 &&
        pthread_setspecific(client->thread_queue, queue) != 0) {
        rpc_queue_free(queue);
        queue = NULL;
    }
    return queue;
}

/* --------------------------------------------------------- starting a call */

static void start_batch(struct rpc_call_impl *impl)
{
    grpc_op ops[6];
    grpc_call_error error;

    memset(ops, 0, sizeof ops);
    ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
    ops[1].op = GRPC_OP_SEND_MESSAGE;
    ops[1].data.send_message.send_message = impl->sent;
    ops[2].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
    ops[3].op = GRPC_OP_RECV_INITIAL_METADATA;
    ops[3].data.recv_initial_metadata.recv_initial_metadata =
        &impl->initial_metadata;
    ops[4].op = GRPC_OP_RECV_MESSAGE;
    ops[4].data.recv_message.recv_message = &impl->received;
    ops[5].op = GRPC_OP_RECV_STATUS_ON_CLIENT;
    ops[5].data.recv_status_on_client.trailing_metadata =
        &impl->trailing_metadata;
    ops[5].data.recv_status_on_client.status = &impl->status;
    ops[5].data.recv_status_on_client.status_details = &impl->details;
    error = grpc_call_start_batch(impl->grpc, ops, sizeof ops / sizeof *ops,
                                  impl, NULL);
    assert(error == GRPC_CALL_OK);
    (void)error;
}

static void link_impl(struct rpc_queue *queue, struct rpc_call_impl *impl)
{
    impl->next = queue->in_flight;
    if (impl->next != NULL) {
        impl->next->prev = impl;
    }
    queue->in_flight = impl;
}

static void unlink_impl(struct rpc_queue *queue, struct rpc_call_impl *impl)
{
    if (impl->prev != NULL) {
        impl->prev->next = impl->next;
    } else {
        queue->in_flight = impl->next;
    }
    if (impl->next != NULL) {
        impl->next->prev = impl->prev;
    }
}

static int try_start(struct rpc_queue *queue,
                     struct rpc_peer *peer,
                     struct rpc_call *call)
{
    struct rpc_call_impl *impl = calloc(1, sizeof *impl);
    int rc;

    if (impl == NULL) {
        return -ENOMEM;
    }
    rc = rpc_message_pack(call->request, call->payload, call->payload_offset,
                          call->payload_size, &impl->sent);
    if (rc != 0) {
        free(impl);
        return rc;
    }
    impl->call = call;
    impl->queue = queue;
    impl->peer = peer;
    grpc_metadata_array_init(&impl->initial_metadata);
    grpc_metadata_array_init(&impl->trailing_metadata);
    impl->details = grpc_empty_slice();
    impl->grpc = grpc_channel_create_call(
        peer->lanes[call->lane], NULL, GRPC_PROPAGATE_DEFAULTS, queue->cq,
        grpc_slice_from_static_string(call->method), NULL,
        to_deadline(call->deadline_ms), NULL);
    call->impl = impl;
    link_impl(queue, impl);
    start_batch(impl);
    return 0;
}

void rpc_call_start(struct rpc_queue *queue,
                    struct rpc_peer *peer,
                    struct rpc_call *call)
{
    call->rc = 0;
    call->reply = NULL;
    call->impl = NULL;
    call->next = NULL;
    call->is_finished = false;
    call->rc = try_start(queue, peer, call);
    if (call->rc != 0) {
        *queue->unstarted_end = call;
        queue->unstarted_end = &call->next;
    }
}

void rpc_call_cancel(struct rpc_call *call)
{
    struct rpc_call_impl *impl = call->impl;

    if (impl != NULL && impl->grpc != NULL && !impl->is_cancelled) {
        impl->is_cancelled = true;
        (void)grpc_call_cancel(impl->grpc, NULL);
    }
}

/* -------------------------------------------------------- finishing a call */

/* What gRPC's own layers and rpc_server.c mean by a status. */
static int status_error(const struct rpc_call_impl *impl)
{
    switch (impl->status) {
    case GRPC_STATUS_OK:
        return 0;
    case GRPC_STATUS_CANCELLED:
        return impl->is_cancelled ? -ECANCELED : -EHOSTUNREACH;
    case GRPC_STATUS_DEADLINE_EXCEEDED:
        return -ETIMEDOUT;
    case GRPC_STATUS_UNAVAILABLE:
        return -EHOSTUNREACH;
    case GRPC_STATUS_UNIMPLEMENTED:
        return -ENOSYS;
    case GRPC_STATUS_RESOURCE_EXHAUSTED:
        return -EMSGSIZE;
    case GRPC_STATUS_PERMISSION_DENIED:
    case GRPC_STATUS_UNAUTHENTICATED:
        return -EACCES;
    case GRPC_STATUS_INVALID_ARGUMENT:
        return -EINVAL;
    case GRPC_STATUS_ABORTED:
        return -EAGAIN;
    default:
        return -EPROTO;
    }
}

static void log_failure(const struct rpc_call_impl *impl)
{
    const char *details = (const char *)GRPC_SLICE_START_PTR(impl->details);

    log_debug("rpc failed method=%s peer=%s error=%s status=%d detail=\"%.*s\"",
              impl->call->method, impl->peer->address, err_text(impl->call->rc),
              (int)impl->status, (int)GRPC_SLICE_LENGTH(impl->details),
              details);
}

static void decode_reply(struct rpc_call_impl *impl)
{
    struct rpc_call *call = impl->call;
    grpc_byte_buffer *received = impl->received;

    impl->received = NULL;
    call->rc = rpc_message_unpack(call->reply_type, received, &impl->reply);
    if (call->rc == -EBADMSG) {
        call->rc = -EPROTO;
    }
    call->reply = impl->reply.header;
}

/* Give back all that only the call in flight needs. */
static void end_grpc_call(struct rpc_call_impl *impl)
{
    grpc_metadata_array_destroy(&impl->initial_metadata);
    grpc_metadata_array_destroy(&impl->trailing_metadata);
    grpc_slice_unref(impl->details);
    grpc_byte_buffer_destroy(impl->sent);
    impl->sent = NULL;
    if (impl->received != NULL) {
        grpc_byte_buffer_destroy(impl->received);
        impl->received = NULL;
    }
    grpc_call_unref(impl->grpc);
    impl->grpc = NULL;
}

static void run_done(struct rpc_call *call)
{
    call->is_finished = true;
    if (call->done != NULL) {
        call->done(call);
    }
}

static void finish(struct rpc_call_impl *impl)
{
    struct rpc_call *call = impl->call;

    unlink_impl(impl->queue, impl);
    note_status(impl->peer, impl->status);
    call->rc = status_error(impl);
    if (call->rc == 0) {
        decode_reply(impl);
    }
    if (call->rc != 0) {
        log_failure(impl);
    }
    end_grpc_call(impl);
    run_done(call);
}

int rpc_queue_wait(struct rpc_queue *queue, int64_t deadline_ms)
{
    struct rpc_call *call = queue->unstarted;
    uint64_t *waits = &queue->client->waits;
    grpc_event event;

    if (call != NULL) {
        queue->unstarted = call->next;
        if (queue->unstarted == NULL) {
            queue->unstarted_end = &queue->unstarted;
        }
        run_done(call);
        return 0;
    }
    (void)__atomic_add_fetch(waits, ((uint64_t)1 << 32) + 1, __ATOMIC_RELAXED);
    event =
        grpc_completion_queue_next(queue->cq, to_deadline(deadline_ms), NULL);
    (void)__atomic_sub_fetch(waits, 1, __ATOMIC_RELAXED);
    if (event.type != GRPC_OP_COMPLETE) {
        return -ETIMEDOUT;
    }
    finish(event.tag);
    return 0;
}

int rpc_call_sync(struct rpc_client *client,
                  struct rpc_peer *peer,
                  struct rpc_call *call)
{
    struct rpc_queue *queue = rpc_client_thread_queue(client);

    if (queue == NULL) {
        call->rc = -ENOMEM;
        run_done(call);
        return call->rc;
    }
    rpc_call_start(queue, peer, call);
    while (!call->is_finished) {
        (void)rpc_queue_wait(queue, INT64_MAX);
    }
    return call->rc;
}

/* ----------------------------------------------------------------- results */

size_t rpc_call_payload_size(const struct rpc_call *call)
{
    return call->impl != NULL ? call->impl->reply.payload_size : 0;
}

void rpc_call_copy_payload(const struct rpc_call *call, void *target)
{
    if (call->impl != NULL) {
        rpc_message_copy_payload(&call->impl->reply, target);
    }
}

ProtobufCMessage *rpc_call_take_reply(struct rpc_call *call)
{
    ProtobufCMessage *reply = call->reply;

    if (reply != NULL) {
        assert(call->impl->reply.header == reply);
        call->impl->reply.header = NULL;
        call->reply = NULL;
    }
    return reply;
}

void rpc_call_clear(struct rpc_call *call)
{
    if (call->impl != NULL) {
        assert(call->impl->grpc == NULL);
        rpc_message_close(&call->impl->reply);
        free(call->impl);
        call->impl = NULL;
    }
    call->reply = NULL;
    call->rc = 0;
}
