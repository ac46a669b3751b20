/* How fast the block store and the block service are, on the filesystem of the
 * directory given. Usage: bench_block DIR [BLOCKS [OUTSTANDING]] */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "common/buf.h"
#include "common/checksum.h"
#include "common/clock.h"
#include "common/rpc_client.h"
#include "common/rpc_server.h"
#include "proto/block.pb-c.h"
#include "storaged/block/block_service.h"
#include "storaged/block/block_store.h"

#define BLOCK_SIZE      262144u
#define OUTSTANDING_MAX 64u
#define CLUSTER         7u

struct bench {
    struct block_store *store;
    struct buf *block;                    /* what is put */
    uint32_t checksums[RECORD_UNITS_MAX]; /* of block */
    uint32_t n_blocks;
    uint32_t n_outstanding;
    int64_t start_ns; /* of the phase */
    int64_t start_cpu_ns;
};

static int64_t cpu_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void begin(struct bench *bench)
{
    bench->start_ns = clock_mono_ns();
    bench->start_cpu_ns = cpu_ns();
}

static void end(const struct bench *bench,
                const char *what,
                uint32_t n,
                uint32_t size)
{
    double wall = (double)(clock_mono_ns() - bench->start_ns);
    double cpu = (double)(cpu_ns() - bench->start_cpu_ns);

    (void)printf("%-28s %8.1f us each, %8.1f us CPU, %8.1f MB/s\n", what,
                 wall / n / 1e3, cpu / n / 1e3, (double)size * n * 1e3 / wall);
}

static void die(const char *what, int rc)
{
    (void)fprintf(stderr, "%s: %s\n", what, err_text(rc));
    exit(EXIT_FAILURE); /* NOLINT(concurrency-mt-unsafe) */
}

static struct block_key key_of(uint64_t serial, uint32_t i)
{
    return (struct block_key){ { 1, serial + i / 64 }, i % 64, 0 };
}

static void put_all(struct bench *bench, uint64_t serial, uint32_t size)
{
    struct iovec iov = { bench->block->data, size };
    const struct block_payload payload = { &iov, 1, size, bench->checksums };

    for (uint32_t i = 0; i < bench->n_blocks; i++) {
        struct block_key key = key_of(serial, i);
        int rc = block_store_put(bench->store, &key, &payload);

        if (rc < 0) {
            die("put", rc);
        }
    }
}

static void get_all(struct bench *bench, uint64_t serial, uint32_t size)
{
    uint32_t n_waits = 0;

    for (uint32_t i = 0; i < bench->n_blocks; i++) {
        struct block_key key = key_of(serial, i * 7919 % bench->n_blocks);
        struct block_piece piece;
        uint32_t offset = size < BLOCK_SIZE ? i % 64 * 4096 : 0;
        int rc =
            block_store_get(bench->store, &key, offset, size, true, &piece);

        if (rc == -EAGAIN) {
            n_waits++;
            rc = block_store_get(bench->store, &key, offset, size, false,
                                 &piece);
        }
        if (rc < 0) {
            die("get", rc);
        }
        buf_unref(piece.buf);
    }
    if (n_waits > 0) {
        (void)printf("%u reads were not cached\n", n_waits);
    }
}

static void bench_store(struct bench *bench)
{
    int rc;

    begin(bench);
    put_all(bench, 1000000, BLOCK_SIZE);
    end(bench, "store put 256 KiB", bench->n_blocks, BLOCK_SIZE);
    begin(bench);
    rc = block_store_sync(bench->store);
    if (rc < 0) {
        die("sync", rc);
    }
    end(bench, "store sync", 1, BLOCK_SIZE * bench->n_blocks);
    begin(bench);
    get_all(bench, 1000000, BLOCK_SIZE);
    end(bench, "store get 256 KiB", bench->n_blocks, BLOCK_SIZE);
    begin(bench);
    get_all(bench, 1000000, 4096);
    end(bench, "store get 4 KiB", bench->n_blocks, 4096);
    begin(bench);
    put_all(bench, 2000000, 4096);
    end(bench, "store put 4 KiB", bench->n_blocks, 4096);
}

/* One call of the service, reused until all are done. */
struct slot {
    struct rpc_call call;
    bool is_busy;
    uint8_t object[OBJECT_ID_SIZE];
    Gabion__BlockKey key;
    Gabion__PutBlockRequest put;
    Gabion__GetBlockRequest get;
};

static void done(struct rpc_call *call)
{
    struct slot *slot = call->context;
    const Gabion__PutBlockReply *reply = (const void *)call->reply;

    if (call->rc < 0 || reply->error != 0) {
        die("call", call->rc < 0 ? call->rc : -reply->error);
    }
    rpc_call_clear(call);
    slot->is_busy = false;
}

static void start(struct bench *bench,
                  struct rpc_queue *queue,
                  struct rpc_peer *peer,
                  struct slot *slot,
                  uint32_t i,
                  uint32_t get_size)
{
    struct block_key key = key_of(get_size > 0 ? 1000000 : 3000000, i);

    memset(slot, 0, sizeof *slot);
    gabion__block_key__init(&slot->key);
    object_id_encode(&key.object, slot->object);
    slot->key.object.data = slot->object;
    slot->key.object.len = sizeof slot->object;
    slot->key.stripe = key.stripe;
    slot->call.lane = RPC_DATA;
    slot->call.deadline_ms = clock_mono_ms() + 30000;
    slot->call.done = done;
    slot->call.context = slot;
    slot->is_busy = true;
    if (get_size > 0) {
        gabion__get_block_request__init(&slot->get);
        slot->get.cluster = CLUSTER;
        slot->get.key = &slot->key;
        slot->get.length = get_size;
        slot->call.method = "/gabion.Block/GetBlock";
        slot->call.request = &slot->get.base;
        slot->call.reply_type = &gabion__get_block_reply__descriptor;
    } else {
        gabion__put_block_request__init(&slot->put);
        slot->put.cluster = CLUSTER;
        slot->put.key = &slot->key;
        slot->put.length = BLOCK_SIZE;
        slot->put.checksum = bench->checksums;
        slot->put.n_checksum = checksum_units(BLOCK_SIZE);
        slot->call.method = "/gabion.Block/PutBlock";
        slot->call.request = &slot->put.base;
        slot->call.payload = bench->block;
        slot->call.payload_size = BLOCK_SIZE;
        slot->call.reply_type = &gabion__put_block_reply__descriptor;
    }
    rpc_call_start(queue, peer, &slot->call);
}

static void call_all(struct bench *bench,
                     struct rpc_client *client,
                     struct rpc_peer *peer,
                     uint32_t get_size)
{
    static struct slot slots[OUTSTANDING_MAX];
    struct rpc_queue *queue = rpc_client_thread_queue(client);
    uint32_t n_started = 0;
    bool is_busy;

    do {
        is_busy = false;
        for (uint32_t i = 0; i < bench->n_outstanding; i++) {
            if (!slots[i].is_busy && n_started < bench->n_blocks) {
                start(bench, queue, peer, &slots[i], n_started++, get_size);
            }
            is_busy = is_busy || slots[i].is_busy;
        }
    } while (is_busy && rpc_queue_wait(queue, clock_mono_ms() + 30000) == 0);
}

static void bench_service(struct bench *bench)
{
    const struct block_service_options options = { bench->store, CLUSTER, 1,
                                                   0 };
    struct block_service *service = NULL;
    const struct rpc_method *methods;
    struct rpc_server *server = NULL;
    struct rpc_client *client = NULL;
    struct rpc_peer *peer = NULL;
    struct errmsg msg = { "" };
    char address[64];
    size_t n;
    int rc = block_service_new(&options, &service);

    if (rc == 0) {
        methods = block_service_methods(service, &n);
        rc = rpc_server_new("127.0.0.1:0", methods, n, 2, &server, &msg);
    }
    if (rc == 0) {
        rc = rpc_server_start(server);
    }
    if (rc == 0) {
        rc = rpc_client_new(true, &client);
    }
    if (rc == 0) {
        (void)snprintf(address, sizeof address, "127.0.0.1:%d",
                       rpc_server_port(server));
        rc = rpc_client_peer(client, address, &peer);
    }
    if (rc < 0) {
        die(msg.text, rc);
    }
    begin(bench);
    call_all(bench, client, peer, 0);
    end(bench, "service put 256 KiB", bench->n_blocks, BLOCK_SIZE);
    begin(bench);
    call_all(bench, client, peer, BLOCK_SIZE);
    end(bench, "service get 256 KiB", bench->n_blocks, BLOCK_SIZE);
    begin(bench);
    call_all(bench, client, peer, 4096);
    end(bench, "service get 4 KiB", bench->n_blocks, 4096);
    rpc_server_stop(server, 1000);
    rpc_server_free(server);
    block_service_free(service);
}

int main(int argc, char **argv)
{
    struct bench bench = { .n_blocks = 2000, .n_outstanding = 4 };
    struct block_store_options options = { .reserve = 1 << 30 };
    struct errmsg msg = { "" };
    int rc;

    mem_tune();
    if (argc < 2) {
        (void)fprintf(stderr, "usage: %s DIR [BLOCKS [OUTSTANDING]]\n",
                      argv[0]);
        return EXIT_FAILURE;
    }
    if (argc > 2) {
        bench.n_blocks = (uint32_t)strtoul(argv[2], NULL, 10);
    }
    if (argc > 3) {
        bench.n_outstanding = (uint32_t)strtoul(argv[3], NULL, 10);
    }
    if (bench.n_blocks == 0 || bench.n_outstanding == 0 ||
        bench.n_outstanding > OUTSTANDING_MAX) {
        return EXIT_FAILURE;
    }
    options.dir = argv[1];
    bench.block = buf_new(BLOCK_SIZE);
    if (bench.block == NULL) {
        return EXIT_FAILURE;
    }
    memset(bench.block->data, 0x5c, BLOCK_SIZE);
    checksum_compute(bench.block->data, BLOCK_SIZE, bench.checksums);
    rc = block_store_open(&options, &bench.store, &msg);
    if (rc < 0) {
        die(msg.text, rc);
    }
    bench_store(&bench);
    bench_service(&bench);
    block_store_close(bench.store);
    buf_unref(bench.block);
    return EXIT_SUCCESS;
}
