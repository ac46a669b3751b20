#include <inttypes.h>
#include <string.h>

#include "ctl/json.h"
#include "ctl/status.h"

/* A size with three digits and its unit, such as "1.43 GiB". */
struct size_text {
    char text[24];
};

static struct size_text size_text(uint64_t bytes)
{
    static const char *const units[] = { "B",   "KiB", "MiB", "GiB",
                                         "TiB", "PiB", "EiB" };
    struct size_text size;
    double value = (double)bytes;
    size_t unit = 0;

    while (value >= 999.5 && unit + 1 < sizeof units / sizeof *units) {
        value /= 1024;
        unit++;
    }
    (void)snprintf(size.text, sizeof size.text, "%.*f %s",
                   unit == 0 || value >= 99.95 ? 0
                   : value >= 9.995            ? 1
                                               : 2,
                   value, units[unit]);
    return size;
}

static void print_node(const struct node_status *node,
                       int address_width,
                       FILE *file)
{
    if (!node->up) {
        (void)fprintf(file, "%-5" PRIu32 " %-*s down   %s\n", node->id,
                      address_width, node->address, node->trouble.text);
        return;
    }
    (void)fprintf(file, "%-5" PRIu32 " %-*s up    %10s %10s %9" PRIu64 "\n",
                  node->id, address_width, node->address,
                  size_text(node->used).text, size_text(node->available).text,
                  node->n_blocks);
}

static void print_shard(const struct shard_status *shard, FILE *file)
{
    if (!shard->up) {
        (void)fprintf(file, "metadata on node %" PRIu32 ": down, %s\n",
                      shard->node, shard->trouble.text);
        return;
    }
    (void)fprintf(file,
                  "metadata on node %" PRIu32 ": up, %" PRIu64
                  " inodes, %" PRIu64 " objects, %" PRIu64
                  " objects to delete, %" PRIu64 " sessions, %" PRIu64
                  " batches applied\n",
                  shard->node, shard->n_inodes, shard->n_objects,
                  shard->n_garbage, shard->n_sessions, shard->applied);
}

void status_print(const struct cluster_status *status, FILE *file)
{
    const struct cluster_map *map = status->map;
    int address_width = (int)strlen("address");
    size_t n_up = 0;

    for (size_t i = 0; i < map->n_nodes; i++) {
        int width = (int)strlen(status->nodes[i].address);

        address_width = width > address_width ? width : address_width;
        n_up += status->nodes[i].up;
    }
    (void)fprintf(file,
                  "cluster %016" PRIx64 ", policy %" PRIu32 "+%" PRIu32
                  ", %zu of %zu nodes up\n",
                  map->id, map->policy.k, map->policy.m, n_up, map->n_nodes);
    (void)fprintf(file, "%-5s %-*s %-5s %10s %10s %9s\n", "node", address_width,
                  "address", "state", "used", "available", "blocks");
    for (size_t i = 0; i < map->n_nodes; i++) {
        print_node(&status->nodes[i], address_width, file);
    }
    for (size_t i = 0; i < status->n_shards; i++) {
        print_shard(&status->shards[i], file);
    }
}

/* -------------------------------------------------------------------- JSON */

static void print_node_json(const struct node_status *node, FILE *file)
{
    (void)fprintf(file, "{\"id\":%" PRIu32 ",\"address\":", node->id);
    json_print_string(node->address, file);
    if (node->up) {
        (void)fprintf(file,
                      ",\"up\":true,\"total\":%" PRIu64
                      ",\"available\":%" PRIu64 ",\"used\":%" PRIu64
                      ",\"blocks\":%" PRIu64 ",\"block_bytes\":%" PRIu64 "}",
                      node->total, node->available, node->used, node->n_blocks,
                      node->block_bytes);
        return;
    }
    (void)fputs(",\"up\":false,\"error\":", file);
    json_print_string(node->trouble.text, file);
    (void)fputc('}', file);
}

static void print_shard_json(const struct shard_status *shard, FILE *file)
{
    (void)fprintf(file, "{\"node\":%" PRIu32 ",", shard->node);
    if (shard->up) {
        (void)fprintf(file,
                      "\"up\":true,\"inodes\":%" PRIu64 ",\"objects\":%" PRIu64
                      ",\"garbage\":%" PRIu64 ",\"sessions\":%" PRIu64
                      ",\"applied\":%" PRIu64 "}",
                      shard->n_inodes, shard->n_objects, shard->n_garbage,
                      shard->n_sessions, shard->applied);
        return;
    }
    (void)fputs("\"up\":false,\"error\":", file);
    json_print_string(shard->trouble.text, file);
    (void)fputc('}', file);
}

void status_print_json(const struct cluster_status *status, FILE *file)
{
    const struct cluster_map *map = status->map;

    (void)fprintf(
        file,
        "{\"cluster\":\"%016" PRIx64 "\",\"version\":%" PRIu64
        ",\"healthy\":%s,\"policy\":{\"k\":%" PRIu32 ",\"m\":%" PRIu32
        ",\"unit\":%" PRIu32 ",\"min_write\":%" PRIu32 "},\"nodes\":[",
        map->id, map->version, status_is_healthy(status) ? "true" : "false",
        map->policy.k, map->policy.m, map->policy.unit, map->policy.min_write);
    for (size_t i = 0; i < map->n_nodes; i++) {
        (void)fputs(i > 0 ? "," : "", file);
        print_node_json(&status->nodes[i], file);
    }
    (void)fputs("],\"shards\":[", file);
    for (size_t i = 0; i < status->n_shards; i++) {
        (void)fputs(i > 0 ? "," : "", file);
        print_shard_json(&status->shards[i], file);
    }
    (void)fputs("]}\n", file);
}
