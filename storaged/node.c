/* What lies in a data directory:
 *
 *   superblock, lock       superblock.h
 *   blocks/                block_store.h
 *   meta/shard-0.db        meta_db.h: on the node that serves slot 0
 */
#include "storaged/node.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/rpc_client.h"
#include "common/rpc_server.h"
#include "storaged/block/block_service.h"
#include "storaged/block/block_store.h"
#include "storaged/cluster_service.h"
#include "storaged/meta/meta_service.h"
#include "storaged/superblock.h"

#define RESERVE_MAX ((uint64_t)1 << 30) /* of the default */

#define CORES_PER_POLLER 4
#define POLLERS_MAX      4

/* Pages of the metadata's log after which it is checkpointed. */
#define META_PAGE_SIZE 4096u
#define LOG_PAGES_MIN  256u
#define LOG_PAGES_MAX  16384u
#define STOP_GRACE_MS  5000
#define METHODS_MAX    64u

/* In the order of their making; released in reverse. */
struct node {
    struct cluster_map *map;         /* counted */
    struct superblock *superblock;   /* owned */
    struct block_store *store;       /* owned */
    struct block_service *blocks;    /* owned */
    struct rpc_client *rpc;          /* owned; NULL without meta */
    struct meta_service *meta;       /* owned; NULL: another node's duty */
    struct cluster_service *cluster; /* owned */
    struct rpc_server *server;       /* owned */
    struct rpc_method methods[METHODS_MAX]; /* of all services */
    size_t n_methods;
    bool is_started;
};

/* The path of an entry of the data directory. Errors: -ENOMEM */
static int join(const char *dir, const char *name, char **ret_path)
{
    return asprintf(ret_path, "%s/%s", dir, name) >= 0 ? 0 : -ENOMEM;
}

/* Make a directory below the data directory, if need be, durably: also one that
 * was made by a start that was cut short. */
static int make_dir(const char *data, const char *path, struct errmsg *msg)
{
    int fd = -1;
    int rc = mkdir(path, 0755) == 0 || errno == EEXIST ? 0 : -errno;

    if (rc == 0) {
        fd = open(data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        rc = fd >= 0 && fsync(fd) == 0 ? 0 : -errno;
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    if (rc != 0) {
        errmsg_set(msg, "%s: cannot be made: %s", path, err_text(rc));
    }
    return rc;
}

/* ------------------------------------------------------------- the parts */

static int find_reserve(const struct node_config *config,
                        uint64_t *ret_reserve,
                        struct errmsg *msg)
{
    struct statvfs space;
    uint64_t percent;

    *ret_reserve = config->reserve;
    if (config->reserve != NODE_RESERVE_DEFAULT) {
        return 0;
    }
    if (statvfs(config->data, &space) != 0) {
        int rc = -errno;

        errmsg_set(msg, "%s: %s", config->data, err_text(rc));
        return rc;
    }
    percent = (uint64_t)space.f_blocks * space.f_frsize / 100;
    *ret_reserve = percent < RESERVE_MAX ? percent : RESERVE_MAX;
    return 0;
}

static int open_store(struct node *node,
                      const struct node_config *config,
                      const char *path,
                      struct errmsg *msg)
{
    struct block_store_options options = { .dir = path };
    int rc = make_dir(config->data, path, msg);

    if (rc == 0) {
        rc = find_reserve(config, &options.reserve, msg);
    }
    if (rc == 0) {
        rc = block_store_open(&options, &node->store, msg);
    }
    return rc;
}

static int make_blocks(struct node *node,
                       const struct node_config *config,
                       struct errmsg *msg)
{
    struct block_service_options options = { .cluster = config->map->id,
                                             .node = config->id };
    char *path = NULL;
    int rc = join(config->data, "blocks", &path);

    if (rc != 0) {
        return rc;
    }
    rc = open_store(node, config, path, msg);
    free(path);
    if (rc != 0) {
        return rc;
    }
    options.store = node->store;
    return block_service_new(&options, &node->blocks);
}

/* Metadata goes on for a while when puts have stopped at the reserve: half of
 * it. What is left takes the log of the ops that make room. */
static int open_meta(struct node *node,
                     const struct node_config *config,
                     const char *path,
                     struct errmsg *msg)
{
    struct meta_service_config service = {
        .shard = { .path = path, .cluster = config->map->id, .slot = 0 },
        .map = config->map,
    };
    uint64_t reserve;
    uint64_t log_pages;
    int rc = find_reserve(config, &reserve, msg);

    if (rc == 0) {
        rc = rpc_client_new(false, &node->rpc);
    }
    if (rc != 0) {
        return rc;
    }
    log_pages = reserve / 4 / META_PAGE_SIZE;
    log_pages = log_pages < LOG_PAGES_MAX ? log_pages : LOG_PAGES_MAX;
    service.shard.wal_pages_max =
        log_pages > LOG_PAGES_MIN ? log_pages : LOG_PAGES_MIN;
    service.reserve = reserve / 2;
    service.rpc = node->rpc;
    return meta_service_new(&service, &node->meta, msg);
}

static int make_meta(struct node *node,
                     const struct node_config *config,
                     struct errmsg *msg)
{
    char *dir = NULL;
    char *path = NULL;
    int rc;

    if (config->map->slot_node[0] != config->id) {
        return 0;
    }
    rc = join(config->data, "meta", &dir);
    if (rc == 0) {
        rc = make_dir(config->data, dir, msg);
    }
    if (rc == 0) {
        rc = join(dir, "shard-0.db", &path);
    }
    if (rc == 0) {
        rc = open_meta(node, config, path, msg);
    }
    free(path);
    free(dir);
    return rc;
}

static void add_methods(struct node *node,
                        const struct rpc_method *methods,
                        size_t n)
{
    assert(node->n_methods + n <= METHODS_MAX);
    memcpy(node->methods + node->n_methods, methods, n * sizeof *methods);
    node->n_methods += n;
}

/* A second poller costs every small call a wake-up, which pays only where cores
 * are plenty. */
static unsigned n_pollers(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN) / CORES_PER_POLLER;

    return n < 1 ? 1 : n > POLLERS_MAX ? POLLERS_MAX : (unsigned)n;
}

static int make_server(struct node *node,
                       const struct node_config *config,
                       struct errmsg *msg)
{
    const struct rpc_method *methods;
    size_t n;

    methods = block_service_methods(node->blocks, &n);
    add_methods(node, methods, n);
    methods = cluster_service_methods(node->cluster, &n);
    add_methods(node, methods, n);
    if (node->meta != NULL) {
        methods = meta_service_methods(node->meta, &n);
        add_methods(node, methods, n);
    }
    return rpc_server_new(
        config->listen != NULL
            ? config->listen
            : cluster_map_node(config->map, config->id)->address,
        node->methods, node->n_methods, n_pollers(), &node->server, msg);
}

/* ------------------------------------------------------------------- life */

static int make_parts(struct node *node,
                      const struct node_config *config,
                      struct errmsg *msg)
{
    int rc = superblock_open(config->data, config->map->id, config->id,
                             &node->superblock, msg);

    if (rc == 0) {
        rc = make_blocks(node, config, msg);
    }
    if (rc == 0) {
        rc = make_meta(node, config, msg);
    }
    if (rc == 0) {
        rc = cluster_service_new(config->map, &node->cluster);
    }
    if (rc == 0) {
        rc = make_server(node, config, msg);
    }
    return rc;
}

int node_new(const struct node_config *config,
             struct node **ret_node,
             struct errmsg *msg)
{
    struct errmsg why = { "" };
    struct node *node;
    int rc;

    if (cluster_map_node(config->map, config->id) == NULL) {
        errmsg_set(msg, "node %" PRIu32 " is not in the cluster map",
                   config->id);
        return -EINVAL;
    }
    node = calloc(1, sizeof *node);
    if (node == NULL) {
        errmsg_set(msg, "%s", err_text(ENOMEM));
        return -ENOMEM;
    }
    node->map = cluster_map_ref(config->map);
    rc = make_parts(node, config, &why);
    if (rc != 0) {
        errmsg_set(msg, "%s", why.text[0] != '\0' ? why.text : err_text(rc));
        node_free(node);
        return rc;
    }
    *ret_node = node;
    return 0;
}

int node_start(struct node *node)
{
    int rc = 0;

    node->is_started = true;
    if (node->meta != NULL) {
        rc = meta_service_start(node->meta);
    }
    if (rc == 0) {
        rc = rpc_server_start(node->server);
    }
    return rc;
}

int node_port(const struct node *node)
{
    return rpc_server_port(node->server);
}

void node_stop(struct node *node)
{
    if (!node->is_started) {
        return;
    }
    node->is_started = false;
    rpc_server_stop(node->server, STOP_GRACE_MS);
    if (node->meta != NULL) {
        meta_service_stop(node->meta);
    }
}

void node_free(struct node *node)
{
    if (node == NULL) {
        return;
    }
    assert(!node->is_started);
    rpc_server_free(node->server);
    cluster_service_free(node->cluster);
    meta_service_free(node->meta);
    rpc_client_free(node->rpc);
    block_service_free(node->blocks);
    block_store_close(node->store);
    superblock_close(node->superblock);
    cluster_map_unref(node->map);
    free(node);
}
