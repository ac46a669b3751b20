#include "fusefs/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "proto/cluster_client.h"

#define ROOT_INO UINT64_C(1)

/* A program that mounts at boot may be ahead of the nodes, but not for ever. */
#define CONNECT_MS 10000

/* A block that takes longer is also rebuilt from others. */
#define HEDGE_MS 500

/* Files that nobody has open keep their extents, up to this many. */
#define IDLE_FILES 512u

/* A listing fetched ahead answers for that part of the time for which
 * attributes are believed: what it answers is believed from then on. */
#define AHEAD_LIFE_PART 4

static bool is_open(void *context, uint64_t ino)
{
    struct client *client = context;

    return inode_orphaned(client->inodes, ino);
}

static int find_cluster(struct client *client, struct errmsg *msg)
{
    const struct options *options = client->options;
    int64_t wait_ms =
        options->timeout_ms < CONNECT_MS ? options->timeout_ms : CONNECT_MS;
    struct cluster_query query = {
        .seeds = (const char *const *)options->seeds,
        .n_seeds = options->n_seeds,
        .deadline_ms = clock_mono_ms() + wait_ms,
    };
    int rc = rpc_client_new(true, &client->rpc);

    return rc != 0
               ? rc
               : cluster_client_get_map(client->rpc, &query, &client->map, msg);
}

static int open_metadata(struct client *client,
                         bool (*is_interrupted)(void),
                         struct errmsg *msg)
{
    const struct options *options = client->options;
    struct meta_client_config config = {
        .rpc = client->rpc,
        .map = client->map,
        .timeout_ms = options->timeout_ms,
        .hard = options->hard,
        .is_interrupted = is_interrupted,
    };
    char host[256] = "";
    struct session_config session = {
        .host = host,
        .is_open = is_open,
        .context = client,
        .always_durable = options->sync_names,
    };
    int rc = meta_client_new(&config, &client->meta);

    if (rc != 0) {
        return rc;
    }
    (void)gethostname(host, sizeof host - 1);
    session.meta = client->meta;
    return session_open(&session, &client->session, msg);
}

static int open_data(struct client *client)
{
    const struct options *options = client->options;
    struct objio_config objio = {
        .placement = client->map->placement,
        .timeout_ms = options->timeout_ms,
        .hedge_ms = HEDGE_MS,
    };
    struct file_store_config files = {
        .policy = client->map->policy,
        .cache_size = options->cache_size,
    };
    int rc = block_client_new(client->rpc, client->map, &client->blocks);

    if (rc != 0) {
        return rc;
    }
    objio.io = block_client_io(client->blocks);
    rc = objio_new(&objio, &client->objio);
    if (rc != 0) {
        return rc;
    }
    files.objio = client->objio;
    files.meta = &client->file_meta.base;
    return file_store_new(&files, &client->files);
}

/* Tables that need nothing of the network. The inode table is there before the
 * session, whose keeper asks it. */
static int make_tables(struct client *client)
{
    int64_t attr_ms = client->options->attr_ms;
    int rc = name_hints_new(&client->hints);

    if (rc == 0) {
        rc = inode_table_new(attr_ms, IDLE_FILES, &client->inodes);
    }
    if (rc == 0) {
        rc = dir_ahead_new(client->inodes, attr_ms / AHEAD_LIFE_PART,
                           &client->ahead);
    }
    return rc;
}

static int find_root(struct client *client, struct errmsg *msg)
{
    char *path = strdup(client->options->subdir);
    char *rest = path;
    uint64_t ino = ROOT_INO;
    int rc = path == NULL ? -ENOMEM : 0;

    while (rc == 0 && rest != NULL && *rest != '\0') {
        const char *name = strsep(&rest, "/");
        Gabion__Attr attr;

        rc = meta_client_lookup(client->meta, ino, name, &attr);
        if (rc == 0 && !S_ISDIR(attr.mode)) {
            rc = -ENOTDIR;
        }
        ino = rc == 0 ? attr.ino : ino;
    }
    if (rc != 0) {
        errmsg_set(msg, "cannot mount directory '/%s' of the filesystem: %s",
                   client->options->subdir, err_text(rc));
    }
    client->root = ino;
    free(path);
    return rc;
}

static int connect_all(struct client *client,
                       bool (*is_interrupted)(void),
                       struct errmsg *msg)
{
    int rc = find_cluster(client, msg);

    if (rc == 0) {
        rc = open_metadata(client, is_interrupted, msg);
    }
    if (rc == 0) {
        rc = find_root(client, msg);
    }
    if (rc == 0) {
        file_meta_rpc_init(&client->file_meta, client->meta, client->session,
                           client->inodes);
        rc = open_data(client);
    }
    if (rc == 0) {
        inode_table_set_store(client->inodes, client->files);
        rc = statfs_cache_new(client->rpc, client->map, client->meta,
                              &client->statfs);
    }
    return rc;
}

int client_new(const struct options *options,
               bool (*is_interrupted)(void),
               struct client **ret_client,
               struct errmsg *msg)
{
    struct client *client = calloc(1, sizeof *client);
    int rc;

    if (client == NULL) {
        return -ENOMEM;
    }
    client->options = options;
    rc = make_tables(client);
    if (rc == 0) {
        rc = connect_all(client, is_interrupted, msg);
    }
    if (rc != 0) {
        if (msg->text[0] == '\0') {
            errmsg_set(msg, "cannot set up the mount: %s", err_text(rc));
        }
        (void)client_free(client);
        return rc;
    }
    *ret_client = client;
    return 0;
}

static int save_all(struct client *client)
{
    uint64_t lost = 0;
    int rc;

    if (client->files == NULL) {
        return 0;
    }
    rc = file_store_sync(client->files, &lost);
    if (rc != 0 && lost > 0) {
        log_error("unmounted with data that could not be saved bytes=%llu "
                  "error=%s",
                  (unsigned long long)lost, err_text(rc));
    } else if (rc != 0) {
        log_error("unmounted, but the last changes are not known to be durable "
                  "error=%s",
                  err_text(rc));
    }
    return rc;
}

/* In the reverse order of connect_all(). A file store that could not save
 * everything is left to the end of the process: it must not be freed. */
int client_free(struct client *client)
{
    int rc;
    int bye;

    if (client == NULL) {
        return 0;
    }
    rc = save_all(client);
    if (client->meta != NULL) {
        meta_client_stop_retrying(client->meta);
    }
    bye = session_close(client->session);
    if (bye != 0) {
        log_warn("the metadata service did not hear the session's end error=%s",
                 err_text(bye));
    }
    if (rc != 0) {
        return rc;
    }
    inode_table_free(client->inodes);
    file_store_free(client->files);
    objio_free(client->objio);
    block_client_free(client->blocks);
    statfs_cache_free(client->statfs);
    meta_client_free(client->meta);
    cluster_map_unref(client->map);
    rpc_client_free(client->rpc);
    name_hints_free(client->hints);
    dir_ahead_free(client->ahead);
    free(client);
    return 0;
}
