/* Whole nodes, several in one process, asked over RPC. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <check.h>

#include "common/checksum.h"
#include "common/clock.h"
#include "ctl/status.h"
#include "proto/block.pb-c.h"
#include "proto/cluster_client.h"
#include "proto/metadata.pb-c.h"
#include "storaged/node.h"

#define N_NODES 3u
#define ID      0x0123456789abcdefu

static char dir[64];
static struct cluster_map *map;
static struct rpc_client *rpc;
static struct node *nodes[N_NODES]; /* by id - 1 */

/* ----------------------------------------------------------------- cluster */

/* Ports that are free now. All are held until all are known. */
static void find_ports(int ports[N_NODES])
{
    int fds[N_NODES];

    for (size_t i = 0; i < N_NODES; i++) {
        struct sockaddr_in address = { .sin_family = AF_INET };
        socklen_t size = sizeof address;

        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ck_assert_int_eq(
            bind(fds[i], (struct sockaddr *)&address, sizeof address), 0);
        ck_assert_int_eq(
            getsockname(fds[i], (struct sockaddr *)&address, &size), 0);
        ports[i] = ntohs(address.sin_port);
    }
    for (size_t i = 0; i < N_NODES; i++) {
        (void)close(fds[i]);
    }
}

static const char *in_dir(const char *format, uint32_t number)
{
    static char path[128];
    int n = snprintf(path, sizeof path, "%s/", dir);

    /* The formats are of this file. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    (void)snprintf(path + n, sizeof path - (size_t)n, format, number);
#pragma GCC diagnostic pop
    return path;
}

static void make_map(void)
{
    struct errmsg msg = { "" };
    int ports[N_NODES];
    FILE *file = fopen(in_dir("cluster.conf", 0), "w");

    ck_assert_ptr_nonnull(file);
    find_ports(ports);
    (void)fprintf(file, "[cluster]\nid=0123456789abcdef\npolicy=ec:2+1\n");
    for (uint32_t i = 0; i < N_NODES; i++) {
        (void)fprintf(file, "[node %u]\naddress=127.0.0.1:%d\n", i + 1,
                      ports[i]);
    }
    ck_assert_int_eq(fclose(file), 0);
    ck_assert_msg(cluster_map_load(in_dir("cluster.conf", 0), &map, &msg) == 0,
                  "%s", msg.text);
}

static int new_node(uint32_t id, struct node **ret_node, struct errmsg *msg)
{
    struct node_config config = { .id = id,
                                  .data = in_dir("node%u", id),
                                  .reserve = NODE_RESERVE_DEFAULT,
                                  .map = map };

    return node_new(&config, ret_node, msg);
}

static void start(uint32_t id)
{
    struct errmsg msg = { "" };

    ck_assert_msg(new_node(id, &nodes[id - 1], &msg) == 0, "%s", msg.text);
    ck_assert_int_eq(node_start(nodes[id - 1]), 0);
}

static void stop(uint32_t id)
{
    if (nodes[id - 1] != NULL) {
        node_stop(nodes[id - 1]);
    }
    node_free(nodes[id - 1]);
    nodes[id - 1] = NULL;
}

static void start_all(void)
{
    (void)snprintf(dir, sizeof dir, "/tmp/gabion-test-node-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    make_map();
    ck_assert_int_eq(rpc_client_new(true, &rpc), 0);
    for (uint32_t id = 1; id <= N_NODES; id++) {
        ck_assert_int_eq(mkdir(in_dir("node%u", id), 0700), 0);
        start(id);
    }
}

static void stop_all(void)
{
    char command[128];

    rpc_client_free(rpc);
    for (uint32_t id = 1; id <= N_NODES; id++) {
        stop(id);
    }
    cluster_map_unref(map);
    (void)snprintf(command, sizeof command, "rm -rf %s", dir);
    ck_assert_int_eq(system(command), 0);
}

/* ------------------------------------------------------------------- calls */

static struct rpc_peer *peer_of(uint32_t id)
{
    struct rpc_peer *peer = NULL;

    ck_assert_int_eq(
        rpc_client_peer(rpc, cluster_map_node(map, id)->address, &peer), 0);
    return peer;
}

/* Call until the connection is up again: a peer that was down counts as down
 * for a moment. */
static int call_node(uint32_t id, struct rpc_call *call)
{
    int64_t end = clock_mono_ms() + 20000;
    int rc;

    do {
        rpc_call_clear(call);
        call->deadline_ms = clock_mono_ms() + 5000;
        rc = rpc_call_sync(rpc, peer_of(id), call);
    } while (rc == -EHOSTUNREACH && clock_mono_ms() < end);
    return rc;
}

static uint8_t object_id[16] = { [7] = 1, [15] = 9 };

static void set_key(Gabion__BlockKey *key)
{
    gabion__block_key__init(key);
    key->object.len = sizeof object_id;
    key->object.data = object_id;
}

/* Errno of the answer. */
static int put_block(uint32_t id, const char *text)
{
    Gabion__BlockKey key;
    Gabion__PutBlockRequest request;
    struct buf *buf = buf_new(strlen(text));
    uint32_t checksum = checksum_crc32c(text, strlen(text));
    struct rpc_call call = { .method = "/gabion.Block/PutBlock",
                             .lane = RPC_DATA,
                             .request = &request.base,
                             .payload = buf,
                             .payload_size = strlen(text),
                             .reply_type =
                                 &gabion__put_block_reply__descriptor };
    int error;

    set_key(&key);
    gabion__put_block_request__init(&request);
    request.cluster = ID;
    request.key = &key;
    request.length = (uint32_t)strlen(text);
    request.n_checksum = 1;
    request.checksum = &checksum;
    memcpy(buf->data, text, strlen(text));
    ck_assert_int_eq(call_node(id, &call), 0);
    error = ((Gabion__PutBlockReply *)call.reply)->error;
    rpc_call_clear(&call);
    buf_unref(buf);
    return error;
}

/* Errno of the answer; the block's bytes as a string. */
static int get_block(uint32_t id, char text[64])
{
    Gabion__BlockKey key;
    Gabion__GetBlockRequest request;
    struct rpc_call call = { .method = "/gabion.Block/GetBlock",
                             .lane = RPC_DATA,
                             .request = &request.base,
                             .reply_type =
                                 &gabion__get_block_reply__descriptor };
    int error;

    set_key(&key);
    gabion__get_block_request__init(&request);
    request.cluster = ID;
    request.key = &key;
    request.length = 63;
    ck_assert_int_eq(call_node(id, &call), 0);
    error = ((Gabion__GetBlockReply *)call.reply)->error;
    memset(text, 0, 64);
    if (error == 0) {
        ck_assert_uint_lt(rpc_call_payload_size(&call), 64);
        rpc_call_copy_payload(&call, text);
    }
    rpc_call_clear(&call);
    return error;
}

/* ------------------------------------------------------------------- tests */

/* A peer that was down counts as down for a moment: ask until it is not. */
static void collect_healthy(struct cluster_status *status)
{
    int64_t end = clock_mono_ms() + 20000;

    ck_assert_int_eq(status_collect(rpc, map, clock_mono_ms() + 5000, status),
                     0);
    while (!status_is_healthy(status) && clock_mono_ms() < end) {
        status_clear(status);
        ck_assert_int_eq(
            status_collect(rpc, map, clock_mono_ms() + 5000, status), 0);
    }
    ck_assert(status_is_healthy(status));
}

START_TEST(a_cluster_in_one_process_is_up)
{
    struct cluster_status status;

    ck_assert_int_eq(status_collect(rpc, map, clock_mono_ms() + 10000, &status),
                     0);
    for (size_t i = 0; i < N_NODES; i++) {
        ck_assert_msg(status.nodes[i].up, "%s", status.nodes[i].trouble.text);
        ck_assert_uint_gt(status.nodes[i].total, 0);
    }
    ck_assert(status_is_healthy(&status));
    ck_assert_uint_eq(status.n_shards, 1);
    ck_assert_uint_eq(status.shards[0].node, 1);
    ck_assert_uint_eq(status.shards[0].n_inodes, 1);
    status_clear(&status);
}
END_TEST

START_TEST(every_node_tells_the_map)
{
    for (uint32_t id = 1; id <= N_NODES; id++) {
        const char *seed = cluster_map_node(map, id)->address;
        struct cluster_query query = { .seeds = &seed,
                                       .n_seeds = 1,
                                       .cluster = ID,
                                       .deadline_ms = clock_mono_ms() + 5000 };
        struct cluster_map *copy = NULL;
        struct errmsg msg = { "" };

        ck_assert_msg(cluster_client_get_map(rpc, &query, &copy, &msg) == 0,
                      "%s", msg.text);
        ck_assert_uint_eq(copy->id, ID);
        ck_assert_uint_eq(copy->n_nodes, N_NODES);
        ck_assert_mem_eq(placement_table(copy->placement),
                         placement_table(map->placement),
                         sizeof(uint32_t) * PLACEMENT_PARTITIONS * N_NODES);
        cluster_map_unref(copy);
    }
}
END_TEST

static const struct {
    uint32_t protocol;
    uint64_t cluster;
    int error;
} questions[] = {
    { 1, 0, 0 },
    { 1, ID, 0 },
    { 1, ID + 1, ESTALE },
    { 2, ID, EPROTONOSUPPORT },
    { 0, 0, EPROTONOSUPPORT },
};

START_TEST(the_map_is_only_for_those_who_understand_it)
{
    Gabion__GetMapRequest request;
    struct rpc_call call = { .method = "/gabion.Cluster/GetMap",
                             .lane = RPC_CONTROL,
                             .request = &request.base,
                             .reply_type = &gabion__get_map_reply__descriptor };
    const Gabion__GetMapReply *reply;

    gabion__get_map_request__init(&request);
    request.protocol = questions[_i].protocol;
    request.cluster = questions[_i].cluster;
    ck_assert_int_eq(call_node(2, &call), 0);
    reply = (const Gabion__GetMapReply *)call.reply;
    ck_assert_int_eq(reply->error, questions[_i].error);
    ck_assert_int_eq(reply->map != NULL, reply->error == 0);
    ck_assert_int_eq(reply->detail[0] != '\0', reply->error != 0);
    rpc_call_clear(&call);
}
END_TEST

START_TEST(only_the_metadata_node_serves_metadata)
{
    Gabion__ShardStatsRequest request;
    struct rpc_call call = { .method = "/gabion.Meta/ShardStats",
                             .lane = RPC_CONTROL,
                             .request = &request.base,
                             .reply_type =
                                 &gabion__shard_stats_reply__descriptor };

    gabion__shard_stats_request__init(&request);
    request.cluster = ID;
    ck_assert_int_eq(call_node(2, &call), -ENOSYS);
    rpc_call_clear(&call);
    ck_assert_int_eq(call_node(1, &call), 0);
    rpc_call_clear(&call);
    ck_assert_int_eq(access(in_dir("node%u/meta", 2), F_OK), -1);
}
END_TEST

START_TEST(blocks_survive_a_restart_of_their_node)
{
    char text[64];

    ck_assert_int_eq(get_block(2, text), ENOENT);
    ck_assert_int_eq(put_block(2, "a stone"), 0);
    ck_assert_int_eq(get_block(2, text), 0);
    ck_assert_str_eq(text, "a stone");
    ck_assert_int_eq(get_block(3, text), ENOENT);
    stop(2);
    start(2);
    ck_assert_int_eq(get_block(2, text), 0);
    ck_assert_str_eq(text, "a stone");
}
END_TEST

START_TEST(the_metadata_node_restarts)
{
    struct cluster_status status;

    stop(1);
    start(1);
    collect_healthy(&status);
    ck_assert_uint_eq(status.shards[0].n_inodes, 1);
    status_clear(&status);
}
END_TEST

START_TEST(a_data_directory_has_one_user)
{
    struct node *node = NULL;
    struct errmsg msg = { "" };

    ck_assert_int_eq(new_node(3, &node, &msg), -EBUSY);
    ck_assert_ptr_null(node);
    ck_assert_ptr_nonnull(strstr(msg.text, in_dir("node%u", 3)));
}
END_TEST

START_TEST(a_taken_port_is_told_and_the_directory_given_back)
{
    struct node_config config = { .id = 3,
                                  .data = in_dir("node%u", 3),
                                  .listen = cluster_map_node(map, 1)->address,
                                  .map = map };
    struct node *node = NULL;
    struct errmsg msg = { "" };

    stop(3);
    ck_assert_int_eq(node_new(&config, &node, &msg), -EADDRINUSE);
    ck_assert_ptr_null(node);
    ck_assert_ptr_nonnull(strstr(msg.text, cluster_map_node(map, 1)->address));
    start(3);
}
END_TEST

START_TEST(a_node_that_is_not_in_the_map_is_refused)
{
    struct node *node = NULL;
    struct errmsg msg = { "" };

    ck_assert_int_eq(new_node(4, &node, &msg), -EINVAL);
    ck_assert_str_eq(msg.text, "node 4 is not in the cluster map");
}
END_TEST

START_TEST(a_node_that_never_served_is_freed)
{
    struct node *node = NULL;
    struct errmsg msg = { "" };

    stop(1);
    ck_assert_msg(new_node(1, &node, &msg) == 0, "%s", msg.text);
    ck_assert_int_gt(node_port(node), 0);
    node_stop(node);
    node_free(node);
    node_free(NULL);
}
END_TEST

START_TEST(a_file_in_the_place_of_the_blocks_is_told)
{
    struct node *node = NULL;
    struct errmsg msg = { "" };
    char command[128];

    stop(2);
    (void)snprintf(command, sizeof command,
                   "cd %s/node2 && rm -r blocks && touch blocks", dir);
    ck_assert_int_eq(system(command), 0);
    ck_assert_int_ne(new_node(2, &node, &msg), 0);
    ck_assert_ptr_null(node);
    ck_assert_msg(strstr(msg.text, "node2/blocks") != NULL, "%s", msg.text);
}
END_TEST

#define N(table) ((int)(sizeof(table) / sizeof *(table)))

int main(void)
{
    Suite *suite = suite_create("node");
    TCase *tcase = tcase_create("node");
    SRunner *runner;
    int failed;

    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, start_all, stop_all);
    tcase_add_test(tcase, a_cluster_in_one_process_is_up);
    tcase_add_test(tcase, every_node_tells_the_map);
    tcase_add_loop_test(tcase, the_map_is_only_for_those_who_understand_it, 0,
                        N(questions));
    tcase_add_test(tcase, only_the_metadata_node_serves_metadata);
    tcase_add_test(tcase, blocks_survive_a_restart_of_their_node);
    tcase_add_test(tcase, the_metadata_node_restarts);
    tcase_add_test(tcase, a_data_directory_has_one_user);
    tcase_add_test(tcase, a_taken_port_is_told_and_the_directory_given_back);
    tcase_add_test(tcase, a_node_that_is_not_in_the_map_is_refused);
    tcase_add_test(tcase, a_node_that_never_served_is_freed);
    tcase_add_test(tcase, a_file_in_the_place_of_the_blocks_is_told);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
