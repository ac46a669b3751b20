/* rename(2).
 *
 * Programs write a new file and rename it over the old one without fsync(2);
 * after a crash the name must lead to the old bytes or to the new ones, never
 * to a file without its bytes. So the bytes of a file that takes over a name
 * are made durable first; a rename to a free name need not wait for that. What
 * the name stands for is known by a hint; if it is not, the rename is tried
 * without replacing first. */
#include <errno.h>
#include <sys/stat.h>

#include "fusefs/ops.h"
#include "fusefs/wire.h"

#define FLAG_NOREPLACE 1u
#define FLAG_EXCHANGE  2u

struct rename {
    uint64_t parent;
    const char *name;
    uint64_t new_parent;
    const char *new_name;
    uint64_t source; /* inode that the name stands for, as far as is known; 0 */
    uint64_t target; /* inode of the new name; 0: free or not known */
};

static void renamed(struct client *client,
                    const struct rename *rename,
                    uint32_t flags,
                    const Gabion__OpResult *result)
{
    inode_stamp now = inode_table_now(client->inodes);
    uint64_t moved = result->n_attr > 0 ? result->attr[0]->ino : 0;

    if (moved == rename->target) {
        return; /* two names of one inode: nothing has happened */
    }
    name_hints_set(client->hints, rename->new_parent, rename->new_name, moved,
                   now);
    if (flags == FLAG_EXCHANGE || rename->target != 0) {
        name_hints_set(
            client->hints, rename->parent, rename->name,
            flags == FLAG_EXCHANGE ? result->attr[result->n_attr - 1]->ino : 0,
            now);
    }
}

/* What changes with a rename. */
struct rename_changes {
    struct inode_change parent;
    struct inode_change new_parent; /* unless it is the same */
    struct inode_change source;
    struct inode_change target;
};

/* Returns whether the victim is, or may be, open here. */
static bool begin_changes(struct client *client,
                          const struct rename *rename,
                          uint32_t flags,
                          struct rename_changes *changes)
{
    bool is_open = false;

    *changes = (struct rename_changes){ .parent = { .inode = NULL } };
    if (rename->target != 0 && flags != FLAG_EXCHANGE) {
        inode_removal_begin(client->inodes, rename->target, &changes->target,
                            &is_open);
    } else if (rename->target != 0) {
        inode_change_begin(client->inodes, rename->target, &changes->target);
    } else {
        is_open = inode_any_open(client->inodes);
    }
    if (rename->source != 0 && rename->source != rename->target) {
        inode_change_begin(client->inodes, rename->source, &changes->source);
    }
    inode_change_begin(client->inodes, rename->parent, &changes->parent);
    if (rename->new_parent != rename->parent) {
        inode_change_begin(client->inodes, rename->new_parent,
                           &changes->new_parent);
    }
    return is_open;
}

static void end_change(struct inode_change *change,
                       const struct session_result *result)
{
    if (change->inode != NULL) {
        uint64_t ino = inode_number(change->inode);

        inode_change_end(change, session_result_attr(result, ino),
                         result->mark);
    }
}

/* A victim that no hint had told of. */
static void note_victim(struct client *client,
                        const struct rename *rename,
                        const struct session_result *result)
{
    const Gabion__OpResult *op = result->op;
    struct inode_change change;

    if (rename->target == 0 && op->n_attr == 4) {
        inode_change_begin(client->inodes, op->attr[3]->ino, &change);
        inode_change_end(&change, op->attr[3], result->mark);
    }
}

static int submit_rename(struct client *client,
                         const struct rename *rename,
                         uint32_t flags)
{
    Gabion__Rename body = GABION__RENAME__INIT;
    Gabion__Op op = GABION__OP__INIT;
    struct rename_changes changes;
    struct session_result result;
    int rc;

    body.parent = rename->parent;
    body.name = wire_text(rename->name);
    body.new_parent = rename->new_parent;
    body.new_name = wire_text(rename->new_name);
    body.flags = flags;
    op.held_open = begin_changes(client, rename, flags, &changes);
    op.body_case = GABION__OP__BODY_RENAME;
    op.rename = &body;
    rc = session_submit(client->session, rename->parent, &op, false, &result);
    end_change(&changes.source, &result);
    end_change(&changes.target, &result);
    end_change(&changes.parent, &result);
    end_change(&changes.new_parent, &result);
    if (rc == 0) {
        note_victim(client, rename, &result);
        renamed(client, rename, flags, result.op);
    }
    session_result_clear(&result);
    return rc;
}

/* Make the bytes of the file that is renamed durable. */
static int sync_source(struct client *client, uint64_t ino)
{
    struct inode *inode;
    struct file *file;
    int rc = inode_get(client->inodes, ino, &inode);

    if (rc != 0) {
        return rc;
    }
    rc = inode_open(inode, true, &file);
    if (rc == 0) {
        rc = file_sync_data(file);
        inode_close(inode);
    }
    inode_put(inode);
    return rc;
}

/* The inode that a name stands for, by hint or from the shard. */
static int find_source(struct client *client,
                       struct rename *rename,
                       bool *ret_regular)
{
    inode_stamp asked = inode_table_now(client->inodes);
    Gabion__Attr attr;
    struct inode *inode;
    uint32_t mode = 0;
    int rc;

    if (name_hints_get(client->hints, rename->parent, rename->name,
                       &rename->source) &&
        rename->source != 0) {
        inode = inode_find(client->inodes, rename->source);
        mode = inode != NULL ? inode_mode(inode) : 0;
        inode_put(inode);
    }
    if (mode == 0) {
        rc = meta_client_lookup(client->meta, rename->parent, rename->name,
                                &attr);
        if (rc != 0) {
            return rc;
        }
        rename->source = attr.ino;
        mode = attr.mode;
        name_hints_set(client->hints, rename->parent, rename->name, attr.ino,
                       asked);
    }
    *ret_regular = S_ISREG(mode);
    return 0;
}

static int rename_and_replace(struct client *client, struct rename *rename)
{
    bool is_regular;
    int rc = find_source(client, rename, &is_regular);

    if (rc != 0) {
        return rc;
    }
    if (is_regular && rename->target == 0) {
        rc = submit_rename(client, rename, FLAG_NOREPLACE);
        if (rc != -EEXIST) {
            return rc;
        }
        rc = 0;
    }
    if (is_regular) {
        rc = sync_source(client, rename->source);
    }
    return rc != 0 ? rc : submit_rename(client, rename, 0);
}

static int do_rename(struct client *client,
                     struct rename *rename,
                     unsigned flags)
{
    int rc = ops_check_name(rename->name);

    if (rc == 0) {
        rc = ops_check_name(rename->new_name);
    }
    if (rc != 0) {
        return rc;
    }
    if (flags > FLAG_EXCHANGE) {
        return -EINVAL;
    }
    if (!name_hints_get(client->hints, rename->new_parent, rename->new_name,
                        &rename->target)) {
        rename->target = 0;
    }
    if (flags == 0) {
        return rename_and_replace(client, rename);
    }
    if (!name_hints_get(client->hints, rename->parent, rename->name,
                        &rename->source)) {
        rename->source = 0;
    }
    return submit_rename(client, rename, flags);
}

void ops_rename(fuse_req_t req,
                fuse_ino_t parent,
                const char *name,
                fuse_ino_t new_parent,
                const char *new_name,
                unsigned flags)
{
    struct client *client = ops_begin(req);
    struct rename rename = {
        .parent = ops_ino(client, parent),
        .name = name,
        .new_parent = ops_ino(client, new_parent),
        .new_name = new_name,
    };

    ops_reply_error(req, do_rename(client, &rename, flags));
}
