/* `gabion fsck` against a server that answers as a node would. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <check.h>

#include "common/rpc_server.h"
#include "ctl/fsck.h"
#include "proto/metadata.pb-c.h"

/* What the node answers, in turn; the last one again and again. */
struct answer {
    int error;
    const char *detail;
    bool done;
    size_t n_findings;
};

static struct rpc_server *server;
static struct rpc_client *rpc;
static struct cluster_map *map;
static const struct answer *answers;
static size_t n_answers;
static uint64_t asked[8]; /* the numbers that came */
static size_t n_asked;

static void answer(struct rpc_request *request, void *context)
{
    const Gabion__CheckShardRequest *question =
        (const Gabion__CheckShardRequest *)rpc_request_message(request);
    const struct answer *now =
        &answers[n_asked < n_answers ? n_asked : n_answers - 1];
    Gabion__CheckShardReply reply;
    char *texts[] = { (char *)(uintptr_t) "inode 1: \"odd\"\n",
                      (char *)(uintptr_t) "inode 2" };

    (void)context;
    gabion__check_shard_reply__init(&reply);
    asked[n_asked++ % 8] = question->check;
    reply.error = now->error;
    reply.detail = (char *)(uintptr_t)now->detail;
    reply.done = now->done;
    reply.check = 40 + n_asked;
    reply.n_findings = now->n_findings;
    reply.n_finding = now->n_findings < 2 ? now->n_findings : 2;
    reply.finding = texts;
    rpc_reply(request, &reply.base, NULL, 0, 0);
}

static void load_map(void)
{
    char path[] = "/tmp/gabion-test-fsck-XXXXXX";
    int fd = mkstemp(path);
    FILE *file = fdopen(fd, "w");
    struct errmsg msg = { "" };

    ck_assert_ptr_nonnull(file);
    (void)fprintf(file,
                  "[cluster]\nid=0123456789abcdef\npolicy=ec:2+1\n"
                  "metadata_node=2\n"
                  "[node 1]\naddress=127.0.0.1:1\n"
                  "[node 2]\naddress=127.0.0.1:%d\n"
                  "[node 3]\naddress=127.0.0.1:2\n",
                  rpc_server_port(server));
    ck_assert_int_eq(fclose(file), 0);
    ck_assert_msg(cluster_map_load(path, &map, &msg) == 0, "%s", msg.text);
    (void)unlink(path);
}

static void setup(void)
{
    const struct rpc_method method = { "/gabion.Meta/CheckShard",
                                       &gabion__check_shard_request__descriptor,
                                       answer, NULL };
    struct errmsg msg = { "" };

    n_asked = 0;
    ck_assert_msg(rpc_server_new("127.0.0.1:0", &method, 1, 1, &server, &msg) ==
                      0,
                  "%s", msg.text);
    ck_assert_int_eq(rpc_server_start(server), 0);
    load_map();
    ck_assert_int_eq(rpc_client_new(true, &rpc), 0);
}

static void teardown(void)
{
    rpc_client_free(rpc);
    cluster_map_unref(map);
    rpc_server_stop(server, 0);
    rpc_server_free(server);
}

static void expect(const struct answer *list,
                   size_t n,
                   bool json,
                   enum fsck_result result,
                   const char *text)
{
    char *said = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&said, &size);

    ck_assert_ptr_nonnull(file);
    answers = list;
    n_answers = n;
    ck_assert_int_eq(fsck_metadata(rpc, map, json, file), result);
    ck_assert_int_eq(fclose(file), 0);
    ck_assert_str_eq(said, text);
    free(said);
}

START_TEST(a_check_is_waited_for)
{
    const struct answer list[] = { { .done = false, .detail = "" },
                                   { .done = false, .detail = "" },
                                   { .done = true, .detail = "" } };

    expect(list, 3, false, FSCK_SOUND, "metadata on node 2: sound\n");
    ck_assert_uint_eq(n_asked, 3);
    ck_assert_uint_eq(asked[0], 0);
    ck_assert_uint_eq(asked[1], 41);
    ck_assert_uint_eq(asked[2], 42);
}
END_TEST

START_TEST(a_check_lost_in_a_restart_is_begun_anew)
{
    const struct answer list[] = { { .done = false, .detail = "" },
                                   { .error = ESTALE, .detail = "" },
                                   { .done = true, .detail = "" } };

    expect(list, 3, true, FSCK_SOUND,
           "{\"shards\":[{\"node\":2,\"checked\":true,\"n_findings\":0,"
           "\"findings\":[]}]}\n");
    ck_assert_uint_eq(asked[2], 0);
}
END_TEST

START_TEST(findings_are_told)
{
    const struct answer list[] = {
        { .done = true, .detail = "", .n_findings = 3 }
    };

    expect(list, 1, false, FSCK_FINDINGS,
           "metadata on node 2: 3 findings\n"
           "  inode 1: \"odd\"?\n  inode 2\n  ...\n");
    expect(list, 1, true, FSCK_FINDINGS,
           "{\"shards\":[{\"node\":2,\"checked\":true,\"n_findings\":3,"
           "\"findings\":[\"inode 1: \\\"odd\\\"\\u000a\",\"inode 2\"]}]}\n");
}
END_TEST

START_TEST(what_cannot_be_checked_is_told)
{
    const struct answer list[] = { { .error = EIO, .detail = "bad disk" } };

    expect(list, 1, false, FSCK_INCOMPLETE,
           "metadata on node 2: not checked, bad disk\n");
    rpc_server_stop(server, 0);
    expect(list, 1, true, FSCK_INCOMPLETE,
           "{\"shards\":[{\"node\":2,\"checked\":false,\"error\":"
           "\"Node cannot be reached\"}]}\n");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fsck");
    TCase *tcase = tcase_create("fsck");
    SRunner *runner;
    int n_failed;

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 30);
    tcase_add_test(tcase, a_check_is_waited_for);
    tcase_add_test(tcase, a_check_lost_in_a_restart_is_begun_anew);
    tcase_add_test(tcase, findings_are_told);
    tcase_add_test(tcase, what_cannot_be_checked_is_told);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? 0 : 1;
}
