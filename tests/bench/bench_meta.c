/* How long a Create takes: straight to the shard, and over RPC.
 *
 * usage: bench_meta DIR [SECONDS]
 *
 * Each line: how, clients, operations per second, latency p50 and p99 in
 * microseconds. Every client waits for its answer before it sends again. */
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/rpc_client.h"
#include "common/rpc_server.h"
#include "storaged/meta/meta_service.h"
#include "tests/unit/meta_ops.h"

#define CLUSTER     1u
#define CLIENTS_MAX 8u
#define SAMPLES_MAX (1u << 20)

static struct meta_service *service;
static struct rpc_client *client;
static struct rpc_peer *peer;
static int64_t end_ns;
static unsigned run_number;

struct worker {
    pthread_t thread;
    unsigned number;
    bool rpc;
    bool durable;
    uint64_t session;
    uint64_t sequence;
    int64_t *samples_ns; /* owned */
    size_t n;
};

static void die(const char *what)
{
    (void)fprintf(stderr, "bench_meta: %s\n", what);
    _exit(1);
}

struct direct {
    struct shard_request request;
    sem_t done;
    int error;
    uint64_t ino;
};

static void direct_done(struct shard_request *request)
{
    struct direct *direct = request->context;

    direct->error = request->rc < 0 ? -request->rc : request->results[0]->error;
    direct->ino = request->rc < 0 ? 0 : request->results[0]->ino;
    (void)sem_post(&direct->done);
}

static uint64_t submit_direct(struct op_box *box, bool durable)
{
    struct direct direct = { .request = { .ops = &box->pointer,
                                          .n_ops = 1,
                                          .durable = durable,
                                          .done = direct_done } };

    direct.request.context = &direct;
    (void)sem_init(&direct.done, 0, 0);
    shard_submit(meta_service_shard(service), &direct.request);
    (void)sem_wait(&direct.done);
    (void)sem_destroy(&direct.done);
    if (direct.error != 0) {
        die(err_text(direct.error));
    }
    return direct.ino;
}

static uint64_t submit_rpc(struct op_box *box, bool durable)
{
    Gabion__SubmitRequest request = GABION__SUBMIT_REQUEST__INIT;
    struct rpc_call call = {
        .method = "/gabion.Meta/Submit",
        .request = &request.base,
        .reply_type = &gabion__submit_reply__descriptor,
        .deadline_ms = clock_mono_ms() + 10000,
    };
    const Gabion__SubmitReply *reply;
    uint64_t ino;

    request.cluster = CLUSTER;
    request.durable = durable;
    request.op = &box->pointer;
    request.n_op = 1;
    if (rpc_call_sync(client, peer, &call) < 0) {
        die("the call failed");
    }
    reply = (const Gabion__SubmitReply *)call.reply;
    if (reply->error != 0 || reply->result[0]->error != 0) {
        die("the op failed");
    }
    ino = reply->result[0]->ino;
    rpc_call_clear(&call);
    return ino;
}

static void *work(void *context)
{
    struct worker *worker = context;
    uint64_t (*submit)(struct op_box *, bool) =
        worker->rpc ? submit_rpc : submit_direct;
    struct op_box box;
    uint64_t first;
    char name[64];

    op_reserve(&box, worker->session, ++worker->sequence, SAMPLES_MAX);
    first = submit(&box, false);
    while (worker->n < SAMPLES_MAX && clock_mono_ns() < end_ns) {
        int64_t start_ns = clock_mono_ns();

        (void)snprintf(name, sizeof name, "file-%u-%u-%zu", run_number,
                       worker->number, worker->n);
        op_create(&box, worker->session, ++worker->sequence, name,
                  first + worker->n);
        box.op.acked = worker->sequence - 1;
        (void)submit(&box, worker->durable);
        worker->samples_ns[worker->n++] = clock_mono_ns() - start_ns;
    }
    return NULL;
}

static int compare(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a;
    int64_t right = *(const int64_t *)b;

    return (left > right) - (left < right);
}

static void run(bool rpc, bool durable, unsigned n_workers, int seconds)
{
    static struct worker workers[CLIENTS_MAX];
    int64_t *all = calloc((size_t)n_workers * SAMPLES_MAX, sizeof *all);
    int64_t start_ns = clock_mono_ns();
    size_t n = 0;

    if (all == NULL) {
        die("out of memory");
    }
    run_number++;
    end_ns = start_ns + seconds * 1000000000ll;
    for (unsigned i = 0; i < n_workers; i++) {
        struct op_box box;

        workers[i] = (struct worker){
            .number = i, .rpc = rpc, .durable = durable, .sequence = 1
        };
        workers[i].samples_ns = calloc(SAMPLES_MAX, sizeof(int64_t));
        op_open(&box);
        workers[i].session = submit_rpc(&box, false);
        (void)pthread_create(&workers[i].thread, NULL, work, &workers[i]);
    }
    for (unsigned i = 0; i < n_workers; i++) {
        (void)pthread_join(workers[i].thread, NULL);
        memcpy(all + n, workers[i].samples_ns, workers[i].n * sizeof(int64_t));
        n += workers[i].n;
        free(workers[i].samples_ns);
    }
    qsort(all, n, sizeof *all, compare);
    (void)printf("%-6s %-7s clients %u  %7.0f/s  p50 %5ld us  p99 %6ld us\n",
                 rpc ? "rpc" : "direct", durable ? "durable" : "", n_workers,
                 (double)n / seconds, all[n / 2] / 1000,
                 all[n * 99 / 100] / 1000);
    free(all);
}

/* A cluster of this process alone. */
static struct cluster_map *make_map(void)
{
    struct placement_node place = { .id = 1, .weight = 1 };
    struct cluster_map *map = calloc(1, sizeof *map);

    if (map == NULL || placement_new(&place, 1, 1, &map->placement) < 0) {
        die("out of memory");
    }
    map->id = CLUSTER;
    map->refs = 1;
    map->nodes = calloc(1, sizeof *map->nodes);
    map->n_nodes = 1;
    map->nodes[0].id = 1;
    map->nodes[0].address = strdup("127.0.0.1:1");
    return map;
}

int main(int argc, char **argv)
{
    struct meta_service_config config = { .shard = { .cluster = CLUSTER } };
    const struct rpc_method *methods;
    struct rpc_server *server;
    struct cluster_map *map;
    struct errmsg msg = { "" };
    int seconds = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 3;
    char path[256];
    char address[32];
    size_t n;

    mem_tune();
    if (argc < 2) {
        die("usage: bench_meta DIR [SECONDS]");
    }
    (void)snprintf(path, sizeof path, "%s/bench.db", argv[1]);
    map = make_map();
    if (rpc_client_new(true, &client) < 0) {
        die("no client");
    }
    config.shard.path = path;
    config.rpc = client;
    config.map = map;
    if (meta_service_new(&config, &service, &msg) < 0) {
        die(msg.text);
    }
    methods = meta_service_methods(service, &n);
    if (rpc_server_new("127.0.0.1:0", methods, n, 2, &server, &msg) < 0 ||
        meta_service_start(service) < 0 || rpc_server_start(server) < 0) {
        die(msg.text);
    }
    (void)snprintf(address, sizeof address, "127.0.0.1:%d",
                   rpc_server_port(server));
    if (rpc_client_peer(client, address, &peer) < 0) {
        die("no peer");
    }
    for (unsigned rpc = 0; rpc < 2; rpc++) {
        for (unsigned durable = 0; durable < 2; durable++) {
            run(rpc, durable, 1, seconds);
            run(rpc, durable, 8, seconds);
        }
    }
    rpc_server_stop(server, 1000);
    meta_service_stop(service);
    rpc_server_free(server);
    meta_service_free(service);
    cluster_map_unref(map);
    rpc_client_free(client);
    return 0;
}
