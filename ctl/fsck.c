#include "ctl/fsck.h"

#include <errno.h>
#include <inttypes.h>
#include <time.h>

#include "common/clock.h"
#include "common/err.h"
#include "ctl/json.h"
#include "proto/metadata.pb-c.h"

#define CALL_TIMEOUT_MS 10000
#define POLL_NS         100000000

/* Ask about a check (CheckShardRequest.check). On success the reply, which may
 * tell of an error, is the caller's. */
static int ask(struct rpc_client *rpc,
               const struct cluster_map *map,
               const struct cluster_node *node,
               uint64_t check,
               Gabion__CheckShardReply **ret_reply)
{
    Gabion__CheckShardRequest request = GABION__CHECK_SHARD_REQUEST__INIT;
    struct rpc_call call = { .method = "/gabion.Meta/CheckShard",
                             .lane = RPC_CONTROL,
                             .request = &request.base,
                             .reply_type =
                                 &gabion__check_shard_reply__descriptor,
                             .deadline_ms = clock_mono_ms() + CALL_TIMEOUT_MS };
    struct rpc_peer *peer;
    int rc = rpc_client_peer(rpc, node->address, &peer);

    if (rc != 0) {
        return rc;
    }
    request.cluster = map->id;
    request.check = check;
    rc = rpc_call_sync(rpc, peer, &call);
    if (rc == 0) {
        *ret_reply = (Gabion__CheckShardReply *)rpc_call_take_reply(&call);
    }
    rpc_call_clear(&call);
    return rc;
}

/* Begin a check and wait for its end. A node that is restarted meanwhile knows
 * nothing of it: then it is begun anew. */
static int check_shard(struct rpc_client *rpc,
                       const struct cluster_map *map,
                       const struct cluster_node *node,
                       Gabion__CheckShardReply **ret_reply)
{
    const struct timespec pause = { .tv_nsec = POLL_NS };
    uint64_t check = 0;

    for (;;) {
        Gabion__CheckShardReply *reply;
        int rc = ask(rpc, map, node, check, &reply);

        if (rc != 0) {
            return rc;
        }
        if (reply->error == ESTALE && check != 0) {
            check = 0;
        } else if (reply->error != 0 || reply->done) {
            *ret_reply = reply;
            return 0;
        } else {
            check = reply->check;
        }
        gabion__check_shard_reply__free_unpacked(reply, NULL);
        (void)nanosleep(&pause, NULL);
    }
}

/* ----------------------------------------------------------------- printing */

/* What came of one shard. */
struct outcome {
    uint32_t node;
    const char *trouble;                  /* why it was not checked, or NULL */
    const Gabion__CheckShardReply *reply; /* NULL when it was not */
};

static void print_foreign(const char *text, FILE *file)
{
    for (const char *c = text; *c != '\0'; c++) {
        (void)fputc((unsigned char)*c < ' ' || (unsigned char)*c > '~' ? '?'
                                                                       : *c,
                    file);
    }
}

static void print_outcome(const struct outcome *outcome, FILE *file)
{
    const Gabion__CheckShardReply *reply = outcome->reply;

    (void)fprintf(file, "metadata on node %" PRIu32 ": ", outcome->node);
    if (reply == NULL) {
        (void)fputs("not checked, ", file);
        print_foreign(outcome->trouble, file);
        (void)fputc('\n', file);
        return;
    }
    if (reply->n_findings == 0) {
        (void)fputs("sound\n", file);
        return;
    }
    (void)fprintf(file, "%" PRIu64 " findings\n", reply->n_findings);
    for (size_t i = 0; i < reply->n_finding; i++) {
        (void)fputs("  ", file);
        print_foreign(reply->finding[i], file);
        (void)fputc('\n', file);
    }
    if (reply->n_findings > reply->n_finding) {
        (void)fputs("  ...\n", file);
    }
}

static void print_outcome_json(const struct outcome *outcome, FILE *file)
{
    const Gabion__CheckShardReply *reply = outcome->reply;

    (void)fprintf(file, "{\"node\":%" PRIu32, outcome->node);
    if (reply == NULL) {
        (void)fputs(",\"checked\":false,\"error\":", file);
        json_print_string(outcome->trouble, file);
        (void)fputc('}', file);
        return;
    }
    (void)fprintf(file,
                  ",\"checked\":true,\"n_findings\":%" PRIu64 ",\"findings\":[",
                  reply->n_findings);
    for (size_t i = 0; i < reply->n_finding; i++) {
        (void)fputs(i > 0 ? "," : "", file);
        json_print_string(reply->finding[i], file);
    }
    (void)fputs("]}", file);
}

/* --------------------------------------------------------------------- all */

static enum fsck_result fsck_shard(struct rpc_client *rpc,
                                   const struct cluster_map *map,
                                   const struct cluster_node *node,
                                   bool json,
                                   FILE *file)
{
    struct outcome outcome = { .node = node->id };
    enum fsck_result result = FSCK_INCOMPLETE;
    Gabion__CheckShardReply *reply = NULL;
    int rc = check_shard(rpc, map, node, &reply);

    if (rc != 0) {
        outcome.trouble = err_text(rc);
    } else if (reply->error != 0) {
        outcome.trouble =
            *reply->detail != '\0' ? reply->detail : err_text(reply->error);
    } else {
        outcome.reply = reply;
        result = reply->n_findings > 0 ? FSCK_FINDINGS : FSCK_SOUND;
    }
    (json ? print_outcome_json : print_outcome)(&outcome, file);
    if (reply != NULL) {
        gabion__check_shard_reply__free_unpacked(reply, NULL);
    }
    return result;
}

static bool has_shard(const struct cluster_map *map, uint32_t node)
{
    for (size_t slot = 0; slot < sizeof map->slot_node / sizeof *map->slot_node;
         slot++) {
        if (map->slot_node[slot] == node) {
            return true;
        }
    }
    return false;
}

enum fsck_result fsck_metadata(struct rpc_client *rpc,
                               const struct cluster_map *map,
                               bool json,
                               FILE *file)
{
    enum fsck_result worst = FSCK_SOUND;
    bool is_first = true;

    (void)fputs(json ? "{\"shards\":[" : "", file);
    for (size_t i = 0; i < map->n_nodes; i++) {
        const struct cluster_node *node = &map->nodes[i];
        enum fsck_result result;

        if (!has_shard(map, node->id)) {
            continue;
        }
        (void)fputs(json && !is_first ? "," : "", file);
        is_first = false;
        result = fsck_shard(rpc, map, node, json, file);
        worst = result > worst ? result : worst;
    }
    (void)fputs(json ? "]}\n" : "", file);
    return worst;
}
