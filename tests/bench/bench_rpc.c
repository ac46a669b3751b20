/* What RPCs cost on loopback: `bench_rpc [seconds per figure]`.
 *
 * Servers run as processes of their own, so that CPU time can be told apart.
 * Not a test: nothing is judged. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/rpc_client.h"
#include "common/rpc_server.h"
#include "proto/block.pb-c.h"

#define N_SERVERS     6
#define UNIT          (256u << 10)
#define WINDOW        4
#define N_CHECKSUMS   (UNIT / 4096)
#define N_SAMPLES_MAX 1000000

/* ------------------------------------------------------------------- server */

static struct buf *block; /* what every GetBlock answers */

static void on_put(struct rpc_request *request, void *context)
{
    Gabion__PutBlockReply reply;

    (void)context;
    gabion__put_block_reply__init(&reply);
    rpc_reply(request, &reply.base, NULL, 0, 0);
}

static void on_get(struct rpc_request *request, void *context)
{
    const Gabion__GetBlockRequest *message =
        (const void *)rpc_request_message(request);
    Gabion__GetBlockReply reply;
    uint32_t checksums[N_CHECKSUMS] = { 0 };
    size_t size = message->length < UNIT ? message->length : UNIT;

    (void)context;
    gabion__get_block_reply__init(&reply);
    reply.n_checksum = size / 4096;
    reply.checksum = checksums;
    rpc_reply(request, &reply.base, block, 0, size);
}

static void on_ping(struct rpc_request *request, void *context)
{
    Gabion__SyncBlocksReply reply;

    (void)context;
    gabion__sync_blocks_reply__init(&reply);
    reply.instance = 1;
    rpc_reply(request, &reply.base, NULL, 0, 0);
}

/* Serve until stdin ends. */
static int serve(unsigned n_pollers)
{
    static const struct rpc_method methods[] = {
        { "/gabion.Block/PutBlock", &gabion__put_block_request__descriptor,
          on_put, NULL },
        { "/gabion.Block/GetBlock", &gabion__get_block_request__descriptor,
          on_get, NULL },
        { "/gabion.Block/SyncBlocks", &gabion__sync_blocks_request__descriptor,
          on_ping, NULL },
    };
    struct rpc_server *server;
    struct errmsg msg;
    char byte;

    block = buf_new(UNIT);
    if (block == NULL ||
        rpc_server_new("127.0.0.1:0", methods, 3, n_pollers, &server, &msg) !=
            0 ||
        rpc_server_start(server) != 0) {
        return 1;
    }
    memset(block->data, 'x', UNIT);
    printf("%d\n", rpc_server_port(server));
    (void)fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
    rpc_server_stop(server, 0);
    rpc_server_free(server);
    buf_unref(block);
    return 0;
}

struct server {
    pid_t pid;
    int stop_fd; /* closing it ends the server */
    clockid_t cpu;
    struct rpc_peer *peer;
};

static int spawn_server(const char *n_pollers, struct server *server, int *port)
{
    char *argv[] = { strdup("bench_rpc"), strdup("serve"), strdup(n_pollers),
                     NULL };
    posix_spawn_file_actions_t actions;
    int in[2];
    int out[2];
    char line[16] = "";
    ssize_t n;
    int rc;

    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) {
        return -errno;
    }
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
    (void)posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    rc = posix_spawn(&server->pid, "/proc/self/exe", &actions, NULL, argv,
                     environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(in[0]);
    (void)close(out[1]);
    for (size_t i = 0; i < 3; i++) {
        free(argv[i]);
    }
    server->stop_fd = in[1];
    n = read(out[0], line, sizeof line - 1);
    (void)close(out[0]);
    if (rc != 0 || n <= 0) {
        return -EIO;
    }
    *port = (int)strtol(line, NULL, 10);
    return -clock_getcpuclockid(server->pid, &server->cpu);
}

/* ------------------------------------------------------------------ measuring
 */

struct bench {
    struct rpc_client *client;
    struct rpc_queue *queue;
    struct server servers[N_SERVERS];
    int64_t duration_ms;
    int64_t client_ns; /* CPU clocks and time at the start of a figure */
    int64_t server_ns;
    int64_t start_ns;
    int64_t *samples; /* latencies, ns */
    size_t n_samples;
    struct buf *payload;
    uint8_t *target; /* where gets copy to */
};

static int64_t read_cpu_ns(clockid_t id)
{
    struct timespec now = { 0 };

    (void)clock_gettime(id, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int64_t servers_cpu_ns(const struct bench *bench)
{
    int64_t sum = 0;

    for (size_t i = 0; i < N_SERVERS; i++) {
        sum += read_cpu_ns(bench->servers[i].cpu);
    }
    return sum;
}

static void begin(struct bench *bench)
{
    bench->n_samples = 0;
    bench->client_ns = read_cpu_ns(CLOCK_PROCESS_CPUTIME_ID);
    bench->server_ns = servers_cpu_ns(bench);
    bench->start_ns = clock_mono_ns();
}

static bool is_over(const struct bench *bench)
{
    return clock_mono_ns() - bench->start_ns >= bench->duration_ms * 1000000;
}

static void sample(struct bench *bench, int64_t ns)
{
    if (bench->n_samples < N_SAMPLES_MAX) {
        bench->samples[bench->n_samples++] = ns;
    }
}

static int compare(const void *a, const void *b)
{
    const int64_t *x = a;
    const int64_t *y = b;

    return (*x > *y) - (*x < *y);
}

static void report(struct bench *bench,
                   const char *name,
                   size_t n_ops,
                   size_t n_bytes)
{
    double seconds = (double)(clock_mono_ns() - bench->start_ns) / 1e9;
    double client_s =
        (double)(read_cpu_ns(CLOCK_PROCESS_CPUTIME_ID) - bench->client_ns) /
        1e9;
    double server_s = (double)(servers_cpu_ns(bench) - bench->server_ns) / 1e9;
    double gib = (double)n_bytes / (1 << 30);
    double n = (double)n_ops;
    size_t median = bench->n_samples / 2;
    size_t p99 = bench->n_samples * 99 / 100;

    printf("%-22s %8.0f /s  CPU us/op client %6.1f servers %6.1f", name,
           n / seconds, client_s * 1e6 / n, server_s * 1e6 / n);
    if (bench->n_samples > 0) {
        qsort(bench->samples, bench->n_samples, sizeof *bench->samples,
              compare);
        printf("  p50 %.1f us p99 %.1f us",
               (double)bench->samples[median] / 1e3,
               (double)bench->samples[p99] / 1e3);
    }
    if (n_bytes > 0) {
        printf("  %.0f MB/s  CPU-s/GiB %.2f + %.2f",
               (double)n_bytes / seconds / 1e6, client_s / gib, server_s / gib);
    }
    printf("\n");
    (void)fflush(stdout);
}

/* ------------------------------------------------------------------ workloads
 */

static void must(const struct rpc_call *call)
{
    if (call->rc != 0) {
        (void)fprintf(stderr, "%s: %s\n", call->method, err_text(call->rc));
        abort();
    }
}

static void bench_ping(struct bench *bench)
{
    size_t n = 0;

    begin(bench);
    while (!is_over(bench)) {
        Gabion__SyncBlocksRequest request = GABION__SYNC_BLOCKS_REQUEST__INIT;
        struct rpc_call call = { .method = "/gabion.Block/SyncBlocks",
                                 .request = &request.base,
                                 .reply_type =
                                     &gabion__sync_blocks_reply__descriptor,
                                 .deadline_ms = clock_mono_ms() + 5000 };
        int64_t start = clock_mono_ns();
        int rc = rpc_call_sync(bench->client, bench->servers[0].peer, &call);

        (void)rc;
        must(&call);
        sample(bench, clock_mono_ns() - start);
        rpc_call_clear(&call);
        n++;
    }
    report(bench, "ping", n, 0);
}

static void start_put(struct bench *bench,
                      struct rpc_peer *peer,
                      struct rpc_call *call)
{
    Gabion__PutBlockRequest request = GABION__PUT_BLOCK_REQUEST__INIT;
    Gabion__BlockKey key = GABION__BLOCK_KEY__INIT;
    uint32_t checksums[N_CHECKSUMS] = { 0 };

    request.key = &key;
    request.length = UNIT;
    request.n_checksum = N_CHECKSUMS;
    request.checksum = checksums;
    call->method = "/gabion.Block/PutBlock";
    call->lane = RPC_DATA;
    call->request = &request.base;
    call->payload = bench->payload;
    call->payload_size = UNIT;
    call->reply_type = &gabion__put_block_reply__descriptor;
    call->deadline_ms = clock_mono_ms() + 5000;
    rpc_call_start(bench->queue, peer, call);
}

static void start_get(struct bench *bench,
                      struct rpc_peer *peer,
                      struct rpc_call *call)
{
    Gabion__GetBlockRequest request = GABION__GET_BLOCK_REQUEST__INIT;

    request.length = UNIT;
    call->method = "/gabion.Block/GetBlock";
    call->lane = RPC_DATA;
    call->request = &request.base;
    call->reply_type = &gabion__get_block_reply__descriptor;
    call->deadline_ms = clock_mono_ms() + 5000;
    rpc_call_start(bench->queue, peer, call);
}

typedef void starter(struct bench *bench,
                     struct rpc_peer *peer,
                     struct rpc_call *call);

static void finish(struct bench *bench, struct rpc_call *call)
{
    must(call);
    if (rpc_call_payload_size(call) > 0) {
        rpc_call_copy_payload(call, bench->target);
    }
    rpc_call_clear(call);
    memset(call, 0, sizeof *call);
}

/* WINDOW calls to one server under way at any time. */
static void bench_bulk(struct bench *bench, const char *name, starter *start)
{
    struct rpc_call calls[WINDOW] = { 0 };
    size_t n = 0;

    begin(bench);
    for (size_t i = 0; i < WINDOW; i++) {
        start(bench, bench->servers[0].peer, &calls[i]);
    }
    while (!is_over(bench)) {
        (void)rpc_queue_wait(bench->queue, INT64_MAX);
        for (size_t i = 0; i < WINDOW; i++) {
            if (calls[i].is_finished) {
                n++;
                finish(bench, &calls[i]);
                start(bench, bench->servers[0].peer, &calls[i]);
            }
        }
    }
    for (size_t i = 0; i < WINDOW; i++) {
        while (!calls[i].is_finished) {
            (void)rpc_queue_wait(bench->queue, INT64_MAX);
        }
        finish(bench, &calls[i]);
        n++;
    }
    report(bench, name, n, n * UNIT);
}

/* One call to each server, all awaited. */
static void bench_fan_out(struct bench *bench, const char *name, starter *start)
{
    struct rpc_call calls[N_SERVERS] = { 0 };
    size_t n = 0;

    begin(bench);
    while (!is_over(bench)) {
        int64_t started = clock_mono_ns();

        for (size_t i = 0; i < N_SERVERS; i++) {
            start(bench, bench->servers[i].peer, &calls[i]);
        }
        for (size_t i = 0; i < N_SERVERS; i++) {
            while (!calls[i].is_finished) {
                (void)rpc_queue_wait(bench->queue, INT64_MAX);
            }
            finish(bench, &calls[i]);
        }
        sample(bench, clock_mono_ns() - started);
        n++;
    }
    report(bench, name, n, n * UNIT * N_SERVERS);
}

static void set_up(struct bench *bench, const char *n_pollers)
{
    char address[64];
    int port = 0;

    bench->samples = calloc(N_SAMPLES_MAX, sizeof *bench->samples);
    bench->target = malloc(UNIT);
    bench->payload = buf_new(UNIT);
    if (bench->samples == NULL || bench->target == NULL ||
        bench->payload == NULL || rpc_client_new(true, &bench->client) != 0) {
        abort();
    }
    memset(bench->payload->data, 'y', UNIT);
    bench->queue = rpc_client_thread_queue(bench->client);
    for (size_t i = 0; i < N_SERVERS; i++) {
        if (spawn_server(n_pollers, &bench->servers[i], &port) != 0) {
            abort();
        }
        (void)snprintf(address, sizeof address, "127.0.0.1:%d", port);
        if (rpc_client_peer(bench->client, address, &bench->servers[i].peer) !=
            0) {
            abort();
        }
    }
}

static void tear_down(struct bench *bench)
{
    rpc_client_free(bench->client);
    for (size_t i = 0; i < N_SERVERS; i++) {
        (void)close(bench->servers[i].stop_fd);
        (void)waitpid(bench->servers[i].pid, NULL, 0);
    }
    buf_unref(bench->payload);
    free(bench->target);
    free(bench->samples);
}

int main(int argc, char **argv)
{
    struct bench bench = { .duration_ms = 2000 };

    mem_tune();
    if (argc == 3 && strcmp(argv[1], "serve") == 0) {
        return serve((unsigned)strtoul(argv[2], NULL, 10));
    }
    if (argc > 1) {
        bench.duration_ms = (int64_t)strtoul(argv[1], NULL, 10) * 1000;
    }
    set_up(&bench, argc > 2 ? argv[2] : "1");
    bench_ping(&bench);
    bench_bulk(&bench, "put 256K, 4 at a time", start_put);
    bench_bulk(&bench, "get 256K, 4 at a time", start_get);
    bench_fan_out(&bench, "put 6 x 256K", start_put);
    bench_fan_out(&bench, "get 6 x 256K", start_get);
    tear_down(&bench);
    return EXIT_SUCCESS;
}
