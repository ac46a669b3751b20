/* Cluster maps: from files, from messages, and back. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <check.h>

#include "proto/cluster_map.h"
#include "proto/validate.h"

#define SIX_NODES                        \
    "[node 1]\naddress=127.0.0.1:7001\n" \
    "[node 2]\naddress=127.0.0.1:7002\n" \
    "[node 3]\naddress=127.0.0.1:7003\n" \
    "[node 4]\naddress=127.0.0.1:7004\n" \
    "[node 5]\naddress=127.0.0.1:7005\n" \
    "[node 6]\naddress=127.0.0.1:7006\n"
#define ID "[cluster]\nid = 0123456789abcdef\n"

static char path[64];

static void make_path(void)
{
    int fd;

    (void)snprintf(path, sizeof path, "/tmp/gabion-test-map-XXXXXX");
    fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    (void)close(fd);
}

static void remove_path(void)
{
    (void)unlink(path);
}

static int load(const char *text,
                struct cluster_map **ret_map,
                struct errmsg *msg)
{
    FILE *file = fopen(path, "w");

    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(text, file), 0);
    ck_assert_int_eq(fclose(file), 0);
    msg->text[0] = '\0';
    return cluster_map_load(path, ret_map, msg);
}

static struct cluster_map *load_good(const char *text)
{
    struct cluster_map *map = NULL;
    struct errmsg msg;

    ck_assert_msg(load(text, &map, &msg) == 0, "%s", msg.text);
    return map;
}

START_TEST(a_short_file_gets_the_defaults)
{
    struct cluster_map *map = load_good(ID SIX_NODES);

    ck_assert_uint_eq(map->id, 0x0123456789abcdef);
    ck_assert_uint_eq(map->version, 1);
    ck_assert_uint_eq(map->policy.k, 4);
    ck_assert_uint_eq(map->policy.m, 2);
    ck_assert_uint_eq(map->policy.unit, 256 * 1024);
    ck_assert_uint_eq(map->policy.min_write, 5);
    ck_assert_uint_eq(map->n_nodes, 6);
    ck_assert_uint_eq(placement_width(map->placement), 6);
    for (size_t slot = 0; slot < METADATA_SLOTS; slot++) {
        ck_assert_uint_eq(map->slot_node[slot], 1);
    }
    for (uint32_t id = 1; id <= 6; id++) {
        const struct cluster_node *node = cluster_map_node(map, id);

        ck_assert_ptr_nonnull(node);
        ck_assert_uint_eq(node->id, id);
        ck_assert_uint_eq(node->zone, 0);
        ck_assert_uint_eq(node->weight, 100);
    }
    ck_assert_str_eq(cluster_map_node(map, 4)->address, "127.0.0.1:7004");
    ck_assert_ptr_null(cluster_map_node(map, 7));
    ck_assert_ptr_null(cluster_map_node(map, 0));
    cluster_map_unref(map);
}
END_TEST

START_TEST(every_key_is_taken)
{
    struct cluster_map *map =
        load_good(ID "policy=ec:1+2\nunit=64K\nmin_write=3\nmetadata_node=300\n"
                     "[node 300]\naddress=[::1]:5\nzone=9\nweight=250\n"
                     "[node 20]\naddress=host.example:65535\n"
                     "[node 7]\naddress=10.0.0.1:1\n");

    ck_assert_uint_eq(map->policy.k, 1);
    ck_assert_uint_eq(map->policy.m, 2);
    ck_assert_uint_eq(map->policy.unit, 64 * 1024);
    ck_assert_uint_eq(map->policy.min_write, 3);
    ck_assert_uint_eq(map->slot_node[1023], 300);
    ck_assert_uint_eq(map->nodes[0].id, 7);
    ck_assert_uint_eq(map->nodes[2].id, 300);
    ck_assert_uint_eq(map->nodes[2].zone, 9);
    ck_assert_uint_eq(map->nodes[2].weight, 250);
    cluster_map_unref(map);
}
END_TEST

static const struct {
    const char *policy;
    uint32_t k, m, min_write;
} policies[] = {
    { "copies:1", 1, 0, 1 }, { "copies:3", 1, 2, 2 }, { "ec:2+1", 2, 1, 3 },
    { "ec:6+0", 6, 0, 6 },   { "ec:2+4", 2, 4, 3 },
};

START_TEST(policies_have_two_spellings)
{
    char text[1024];
    struct cluster_map *map;

    (void)snprintf(text, sizeof text, ID "policy = %s\n" SIX_NODES,
                   policies[_i].policy);
    map = load_good(text);
    ck_assert_uint_eq(map->policy.k, policies[_i].k);
    ck_assert_uint_eq(map->policy.m, policies[_i].m);
    ck_assert_uint_eq(map->policy.min_write, policies[_i].min_write);
    cluster_map_unref(map);
}
END_TEST

static const struct {
    const char *text;
    const char *says;
} bad[] = {
    { "[cluster]\npolicy=ec:1+0\n" SIX_NODES, "section [cluster] has no id" },
    { "[cluster]\nid=123\n", ":2: id: '123' is not 16 hex digits" },
    { "[cluster]\nid=0123456789abcdeg\n", "is not 16 hex digits" },
    { "[cluster]\nid=0123456789abcdef0\n", "is not 16 hex digits" },
    { "[cluster]\nid=0000000000000000\n", "other than 0" },
    { "[cluster]\nid=0x23456789abcdef\n", "is not 16 hex digits" },
    { ID, "there is no section [node 1]" },
    { ID "policy=raid5\n", ":3: policy: 'raid5' is neither ec:K+M" },
    { ID "policy=ec:4\n", "neither" },
    { ID "policy=ec:17+2\n", "neither" },
    { ID "policy=ec:4+9\n", "neither" },
    { ID "policy=ec:0+2\n", "neither" },
    { ID "policy=ec:4+2x\n", "neither" },
    { ID "policy=ec:00000000000004+2\n", "neither" },
    { ID "policy=copies:0\n", "neither" },
    { ID "policy=copies:10\n", "neither" },
    { ID "policy=copies:\n", "neither" },
    { ID "unit=5000\n", "multiple of 4K" },
    { ID "unit=2M\n", "multiple of 4K" },
    { ID "unit=0\n", "multiple of 4K" },
    { ID "min_write=3\n" SIX_NODES, "min_write is not in 4..6" },
    { ID "min_write=7\n" SIX_NODES, "min_write is not in 4..6" },
    { ID "metadata_node=9\n" SIX_NODES, "node 9, which is not there" },
    { ID "[node 1]\naddress=127.0.0.1:1\n", "need as many nodes, there are 1" },
    { ID "[node 1]\nzone=4\n", "[node 1] has no address" },
    { ID "[node 0]\naddress=127.0.0.1:1\n", ":4: address: '0' is not" },
    { ID "[node 65536]\naddress=127.0.0.1:1\n", "'65536' is not" },
    { ID "[node x]\naddress=127.0.0.1:1\n", "'x' is not" },
    { ID "[node 01]\naddress=127.0.0.1:1\n", "without a leading 0" },
    { ID "policy=copies:1\n[node 1]\naddress=127.0.0.1\n", "not host:port" },
    { ID "policy=copies:1\n[node 1]\naddress=127.0.0.1:0\n", "not host:port" },
    { ID "policy=copies:1\n[node 1]\naddress=unix:/x\n", "not host:port" },
    { ID "[node 1]\naddress=a:1\n[node 2]\naddress=a:1\n",
      ":6: address: node 1 has the address a:1, too" },
    { ID "[node 1]\naddress=a:1\nweight=0\n", "weight: '0' is not" },
    { ID "[node 1]\naddress=a:1\nweight=1000001\n", "is not a number of" },
    { ID "[node 1]\naddress=a:1\nzone=-1\n", "zone: '-1' is not" },
    { ID "colour=red\n", ":3: unknown key 'colour'" },
};

START_TEST(a_wrong_file_is_refused_with_the_reason)
{
    struct cluster_map *map = NULL;
    struct errmsg msg;

    ck_assert_int_eq(load(bad[_i].text, &map, &msg), -EINVAL);
    ck_assert_ptr_null(map);
    ck_assert_msg(strncmp(msg.text, path, strlen(path)) == 0, "%s", msg.text);
    ck_assert_msg(strstr(msg.text, bad[_i].says) != NULL, "%s", msg.text);
}
END_TEST

START_TEST(a_missing_file_is_told)
{
    struct cluster_map *map = NULL;
    struct errmsg msg;

    ck_assert_int_eq(cluster_map_load("/nonexistent/x", &map, &msg), -ENOENT);
    ck_assert_ptr_nonnull(strstr(msg.text, "/nonexistent/x"));
}
END_TEST

static struct cluster_map *decode_good(const Gabion__ClusterMap *message)
{
    struct cluster_map *map = NULL;
    struct errmsg msg = { "" };

    ck_assert_msg(cluster_map_decode(message, &map, &msg) == 0, "%s", msg.text);
    return map;
}

START_TEST(a_map_survives_the_wire)
{
    struct cluster_map *map = load_good(
        ID
        "metadata_node=3\n[node 9]\naddress=a:1\nzone=2\nweight=7\n" SIX_NODES);
    Gabion__ClusterMap *message;
    Gabion__ClusterMap *unpacked;
    struct cluster_map *copy;
    uint8_t *bytes;
    size_t size;

    map->version = 77;
    map->slot_node[0] = 2; /* three shards */
    map->slot_node[1023] = 2;
    message = cluster_map_encode(map);
    ck_assert_uint_eq(message->n_shard, 3);
    size = gabion__cluster_map__get_packed_size(message);
    bytes = malloc(size);
    ck_assert_uint_eq(gabion__cluster_map__pack(message, bytes), size);
    unpacked = gabion__cluster_map__unpack(NULL, size, bytes);
    ck_assert_ptr_nonnull(unpacked);
    copy = decode_good(unpacked);
    ck_assert_uint_eq(copy->id, map->id);
    ck_assert_uint_eq(copy->version, 77);
    ck_assert_mem_eq(&copy->policy, &map->policy, sizeof copy->policy);
    ck_assert_mem_eq(copy->slot_node, map->slot_node, sizeof copy->slot_node);
    ck_assert_uint_eq(copy->n_nodes, 7);
    ck_assert_str_eq(cluster_map_node(copy, 9)->address, "a:1");
    ck_assert_uint_eq(cluster_map_node(copy, 9)->zone, 2);
    ck_assert_uint_eq(cluster_map_node(copy, 9)->weight, 7);
    ck_assert_mem_eq(placement_table(copy->placement),
                     placement_table(map->placement),
                     (size_t)PLACEMENT_PARTITIONS * 7 * sizeof(uint32_t));
    gabion__cluster_map__free_unpacked(message, NULL);
    gabion__cluster_map__free_unpacked(unpacked, NULL);
    free(bytes);
    cluster_map_unref(copy);
    cluster_map_unref(map);
}
END_TEST

static void break_id(Gabion__ClusterMap *m)
{
    m->id = 0;
}

static void break_version(Gabion__ClusterMap *m)
{
    m->version = 0;
}

static void drop_policy(Gabion__ClusterMap *m)
{
    free(m->policy);
    m->policy = NULL;
}

static void widen_policy(Gabion__ClusterMap *m)
{
    m->policy->k = 5;
    m->policy->min_write = 6;
}

static void break_unit(Gabion__ClusterMap *m)
{
    m->policy->unit = 4097;
}

static void break_min_write(Gabion__ClusterMap *m)
{
    m->policy->min_write = 3;
}

static void repeat_node(Gabion__ClusterMap *m)
{
    m->node[5]->id = 1;
}

static void renumber_node(Gabion__ClusterMap *m)
{
    m->node[5]->id = 70000;
}

static void lose_node(Gabion__ClusterMap *m)
{
    m->node[5]->id = 60; /* the placement still names 6 */
}

static void break_address(Gabion__ClusterMap *m)
{
    m->node[0]->address[0] = '\0';
}

static void break_weight(Gabion__ClusterMap *m)
{
    m->node[0]->weight = 0;
}

static void gap_in_slots(Gabion__ClusterMap *m)
{
    m->shard[0]->last_slot = 1022;
}

static void slots_beyond_the_end(Gabion__ClusterMap *m)
{
    m->shard[0]->last_slot = 1024;
}

static void slots_backwards(Gabion__ClusterMap *m)
{
    m->shard[0]->first_slot = 1023;
    m->shard[0]->last_slot = 0;
}

/* As many slots as there are, but one of them twice. */
static void overlapping_shards(Gabion__ClusterMap *m)
{
    Gabion__Shard *shard = malloc(sizeof *shard);

    gabion__shard__init(shard);
    *shard = *m->shard[0];
    shard->last_slot = 0;
    m->shard[0]->last_slot = 1022;
    m->shard = reallocarray(m->shard, 2, sizeof(void *));
    m->shard[m->n_shard++] = shard;
}

static void shard_nowhere(Gabion__ClusterMap *m)
{
    m->shard[0]->node = 66;
}

static void zero_width(Gabion__ClusterMap *m)
{
    m->placement_width = 0;
}

static void huge_width(Gabion__ClusterMap *m)
{
    m->placement_width = UINT32_MAX;
}

static void narrow_width(Gabion__ClusterMap *m)
{
    m->placement_width = 3;
    m->n_placement = PLACEMENT_PARTITIONS * 3;
}

static void short_placement(Gabion__ClusterMap *m)
{
    m->n_placement--;
}

static void repeat_in_list(Gabion__ClusterMap *m)
{
    m->placement[601] = m->placement[602];
}

static void zero_in_list(Gabion__ClusterMap *m)
{
    m->placement[601] = 0;
}

static void (*const breakers[])(Gabion__ClusterMap *message) = {
    break_id,           break_version, drop_policy,
    widen_policy,       break_unit,    break_min_write,
    repeat_node,        renumber_node, lose_node,
    break_address,      break_weight,  gap_in_slots,
    slots_backwards,    shard_nowhere, zero_width,
    huge_width,         narrow_width,  short_placement,
    repeat_in_list,     zero_in_list,  slots_beyond_the_end,
    overlapping_shards,
};

START_TEST(a_wrong_message_is_refused)
{
    struct cluster_map *map = load_good(ID SIX_NODES);
    Gabion__ClusterMap *message = cluster_map_encode(map);
    struct cluster_map *copy = NULL;
    struct errmsg msg = { "" };

    breakers[_i](message);
    ck_assert_int_eq(cluster_map_decode(message, &copy, &msg), -EINVAL);
    ck_assert_int_eq(cluster_map_decode(message, &copy, NULL), -EINVAL);
    ck_assert_ptr_null(copy);
    ck_assert_str_ne(msg.text, "");
    gabion__cluster_map__free_unpacked(message, NULL);
    cluster_map_unref(map);
}
END_TEST

START_TEST(mutated_maps_are_refused_or_safe)
{
    struct cluster_map *map =
        load_good(ID "policy=copies:1\n[node 1]\naddress=a:1\n");
    Gabion__ClusterMap *message = cluster_map_encode(map);
    size_t size = gabion__cluster_map__get_packed_size(message);
    uint8_t *good = malloc(size);
    uint8_t *bytes = malloc(size);
    uint32_t state = 1;
    unsigned n_passed = 0;

    ck_assert_uint_eq(gabion__cluster_map__pack(message, good), size);
    for (int round = 0; round < 5000; round++) {
        Gabion__ClusterMap *mutant;
        struct cluster_map *decoded = NULL;

        memcpy(bytes, good, size);
        for (int change = 0; change <= round % 3; change++) {
            state = state * 1664525 + 1013904223;
            /* mostly in front of the placement */
            bytes[(state >> 12) % (round % 8 == 0 ? size : 60)] =
                (uint8_t)(state >> 4);
        }
        mutant = gabion__cluster_map__unpack(
            NULL, round % 5 == 0 ? state % size : size, bytes);
        if (mutant != NULL && cluster_map_decode(mutant, &decoded, NULL) == 0) {
            n_passed++;
            cluster_map_unref(decoded);
        }
        gabion__cluster_map__free_unpacked(mutant, NULL);
    }
    ck_assert_uint_gt(n_passed, 0);
    free(good);
    free(bytes);
    gabion__cluster_map__free_unpacked(message, NULL);
    cluster_map_unref(map);
}
END_TEST

START_TEST(a_map_is_counted)
{
    struct cluster_map *map = load_good(ID SIX_NODES);

    ck_assert_ptr_eq(cluster_map_ref(map), map);
    cluster_map_unref(map);
    ck_assert_uint_eq(map->n_nodes, 6);
    cluster_map_unref(map);
    cluster_map_unref(NULL);
}
END_TEST

#define N(table) ((int)(sizeof(table) / sizeof *(table)))

int main(void)
{
    Suite *suite = suite_create("cluster_map");
    TCase *tcase = tcase_create("cluster_map");
    SRunner *runner;
    int failed;

    tcase_add_checked_fixture(tcase, make_path, remove_path);
    tcase_add_test(tcase, a_short_file_gets_the_defaults);
    tcase_add_test(tcase, every_key_is_taken);
    tcase_add_loop_test(tcase, policies_have_two_spellings, 0, N(policies));
    tcase_add_loop_test(tcase, a_wrong_file_is_refused_with_the_reason, 0,
                        N(bad));
    tcase_add_test(tcase, a_missing_file_is_told);
    tcase_add_test(tcase, a_map_survives_the_wire);
    tcase_add_loop_test(tcase, a_wrong_message_is_refused, 0, N(breakers));
    tcase_add_test(tcase, mutated_maps_are_refused_or_safe);
    tcase_add_test(tcase, a_map_is_counted);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
