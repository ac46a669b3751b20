/* `gabion status` against servers that answer as a node would. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <check.h>

#include "common/clock.h"
#include "common/rpc_server.h"
#include "ctl/status.h"
#include "proto/block.pb-c.h"
#include "proto/metadata.pb-c.h"

#define CLUSTER 0x0123456789abcdefu

/* A node as the test wants it. */
struct fake {
    struct rpc_server *server;
    uint32_t id;        /* as told in NodeStats */
    int error;          /* of all answers */
    const char *detail; /* likewise */
};

static struct fake fakes[3];
static struct rpc_client *rpc;
static struct cluster_map *map;

static void answer_node(struct rpc_request *request, void *context)
{
    const Gabion__NodeStatsRequest *question =
        (const Gabion__NodeStatsRequest *)rpc_request_message(request);
    struct fake *fake = context;
    Gabion__NodeStatsReply reply;

    gabion__node_stats_reply__init(&reply);
    reply.error = question->cluster == CLUSTER ? fake->error : ESTALE;
    reply.detail = (char *)(uintptr_t)fake->detail;
    reply.node = fake->id;
    reply.total = 1000000;
    reply.available = (uint64_t)3 << 29;
    reply.used = 2048 * fake->id;
    reply.n_blocks = 10 + fake->id;
    reply.block_bytes = 77;
    rpc_reply(request, &reply.base, NULL, 0, 0);
}

static void answer_shard(struct rpc_request *request, void *context)
{
    struct fake *fake = context;
    Gabion__ShardStatsReply reply;

    gabion__shard_stats_reply__init(&reply);
    reply.error = fake->error;
    reply.detail = (char *)(uintptr_t)fake->detail;
    reply.n_inodes = 11;
    reply.n_objects = 22;
    reply.n_garbage = 33;
    reply.n_sessions = 44;
    reply.applied = 55;
    rpc_reply(request, &reply.base, NULL, 0, 0);
}

static void start_fake(struct fake *fake, uint32_t id)
{
    const struct rpc_method methods[] = {
        { "/gabion.Block/NodeStats", &gabion__node_stats_request__descriptor,
          answer_node, fake },
        { "/gabion.Meta/ShardStats", &gabion__shard_stats_request__descriptor,
          answer_shard, fake },
    };
    struct errmsg msg = { "" };

    *fake = (struct fake){ .id = id, .detail = "" };
    ck_assert_msg(
        rpc_server_new("127.0.0.1:0", methods, 2, 1, &fake->server, &msg) == 0,
        "%s", msg.text);
    ck_assert_int_eq(rpc_server_start(fake->server), 0);
}

static void stop_fake(struct fake *fake)
{
    if (fake->server != NULL) {
        rpc_server_stop(fake->server, 0);
        rpc_server_free(fake->server);
        fake->server = NULL;
    }
}

static void load_map(void)
{
    char path[] = "/tmp/gabion-test-status-XXXXXX";
    int fd = mkstemp(path);
    FILE *file = fdopen(fd, "w");
    struct errmsg msg = { "" };

    ck_assert_ptr_nonnull(file);
    (void)fprintf(file, "[cluster]\nid=0123456789abcdef\npolicy=ec:2+1\n"
                        "metadata_node=2\n");
    for (uint32_t i = 0; i < 3; i++) {
        (void)fprintf(file, "[node %u]\naddress=127.0.0.1:%d\n", i + 1,
                      rpc_server_port(fakes[i].server));
    }
    ck_assert_int_eq(fclose(file), 0);
    ck_assert_msg(cluster_map_load(path, &map, &msg) == 0, "%s", msg.text);
    (void)unlink(path);
}

static void start_all(void)
{
    for (uint32_t i = 0; i < 3; i++) {
        start_fake(&fakes[i], i + 1);
    }
    load_map();
    ck_assert_int_eq(rpc_client_new(true, &rpc), 0);
}

static void stop_all(void)
{
    rpc_client_free(rpc);
    cluster_map_unref(map);
    for (uint32_t i = 0; i < 3; i++) {
        stop_fake(&fakes[i]);
    }
}

static void collect(struct cluster_status *status)
{
    ck_assert_int_eq(status_collect(rpc, map, clock_mono_ms() + 5000, status),
                     0);
}

/* What a printer says; free(3) it. */
static char *printed(const struct cluster_status *status,
                     void (*print)(const struct cluster_status *, FILE *))
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);

    ck_assert_ptr_nonnull(file);
    print(status, file);
    ck_assert_int_eq(fclose(file), 0);
    return text;
}

static void check_prints(const struct cluster_status *status,
                         void (*print)(const struct cluster_status *, FILE *),
                         const char *expected)
{
    char *text = printed(status, print);

    ck_assert_msg(strstr(text, expected) != NULL, "%s", text);
    free(text);
}

START_TEST(a_healthy_cluster_is_told_in_full)
{
    struct cluster_status status;

    collect(&status);
    ck_assert(status_is_healthy(&status));
    ck_assert_uint_eq(status.n_shards, 1);
    check_prints(&status, status_print,
                 "cluster 0123456789abcdef, policy 2+1, 3 of 3 nodes up\n");
    check_prints(&status, status_print,
                 " up      6.00 KiB   1.50 GiB        13\n");
    check_prints(&status, status_print,
                 "metadata on node 2: up, 11 inodes, 22 objects, 33 objects to "
                 "delete, 44 sessions, 55 batches applied\n");
    check_prints(&status, status_print_json, "\"healthy\":true");
    check_prints(&status, status_print_json,
                 "\"up\":true,\"total\":1000000,\"available\":1610612736,"
                 "\"used\":6144,\"blocks\":13,\"block_bytes\":77}]");
    check_prints(&status, status_print_json,
                 "\"shards\":[{\"node\":2,\"up\":true,\"inodes\":11,"
                 "\"objects\":22,\"garbage\":33,\"sessions\":44,"
                 "\"applied\":55}]}\n");
    status_clear(&status);
}
END_TEST

START_TEST(a_dead_node_is_told_and_the_others_answer)
{
    struct cluster_status status;

    stop_fake(&fakes[2]);
    collect(&status);
    ck_assert(!status_is_healthy(&status));
    ck_assert(status.nodes[0].up);
    ck_assert(status.nodes[1].up);
    ck_assert(!status.nodes[2].up);
    ck_assert(status.shards[0].up);
    check_prints(&status, status_print, "2 of 3 nodes up");
    check_prints(&status, status_print, " down ");
    check_prints(&status, status_print_json, "\"healthy\":false");
    check_prints(&status, status_print_json, "\"up\":false,\"error\":\"");
    status_clear(&status);
}
END_TEST

START_TEST(a_shard_without_its_node_is_down)
{
    struct cluster_status status;

    stop_fake(&fakes[1]);
    collect(&status);
    ck_assert(!status.shards[0].up);
    check_prints(&status, status_print, "metadata on node 2: down, ");
    status_clear(&status);
}
END_TEST

START_TEST(another_node_in_its_place_is_not_up)
{
    struct cluster_status status;

    fakes[0].id = 9;
    collect(&status);
    ck_assert(!status.nodes[0].up);
    ck_assert_str_eq(status.nodes[0].trouble.text, "node 9 answers there");
    status_clear(&status);
}
END_TEST

START_TEST(foreign_words_cannot_forge_lines_or_json)
{
    struct cluster_status status;

    fakes[0].error = EIO;
    fakes[0].detail = "disk \"x\"\nnode 7\x1b[0m";
    collect(&status);
    ck_assert(!status.nodes[0].up);
    check_prints(&status, status_print, "down   disk \"x\"?node 7?[0m\n");
    check_prints(&status, status_print_json, "disk \\\"x\\\"?node 7?[0m");
    status_clear(&status);
}
END_TEST

START_TEST(sizes_have_three_digits)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } sizes[] = {
        { 0, " 0 B " },
        { 999, " 999 B " },
        { 1000, " 0.98 KiB " },
        { 10240, " 10.0 KiB " },
        { 1023 * 1024, " 1.00 MiB " },
        { (uint64_t)150 << 30, " 150 GiB " },
        { UINT64_MAX, " 16.0 EiB " },
    };
    struct cluster_status status;

    collect(&status);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        status.nodes[0].used = sizes[i].bytes;
        check_prints(&status, status_print, sizes[i].text);
    }
    status_clear(&status);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("status");
    TCase *tcase = tcase_create("status");
    SRunner *runner;
    int failed;

    tcase_set_timeout(tcase, 30);
    tcase_add_checked_fixture(tcase, start_all, stop_all);
    tcase_add_test(tcase, a_healthy_cluster_is_told_in_full);
    tcase_add_test(tcase, a_dead_node_is_told_and_the_others_answer);
    tcase_add_test(tcase, a_shard_without_its_node_is_down);
    tcase_add_test(tcase, another_node_in_its_place_is_not_up);
    tcase_add_test(tcase, foreign_words_cannot_forge_lines_or_json);
    tcase_add_test(tcase, sizes_have_three_digits);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
