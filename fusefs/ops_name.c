/* Names: looking up, creating, linking, removing. */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "fusefs/ops.h"
#include "fusefs/wire.h"

static void reply_negative(fuse_req_t req)
{
    struct client *client = ops_context(req)->client;
    struct fuse_entry_param entry = { .ino = 0 };

    if (client->options->negative_ms == 0) {
        ops_reply_error(req, -ENOENT);
        return;
    }
    entry.entry_timeout = (double)client->options->negative_ms / 1000;
    (void)fuse_reply_entry(ops_end(req), &entry);
}

/* `*ret_ahead`: the shard was asked before there was a question. */
static int look_up(fuse_req_t req,
                   uint64_t parent,
                   const char *name,
                   struct inode **ret_inode,
                   struct ops_attr *ret_attr,
                   bool *ret_ahead)
{
    struct client *client = ops_context(req)->client;
    inode_stamp asked = inode_table_now(client->inodes);
    Gabion__Attr attr;
    int rc = ops_check_name(name);

    *ret_ahead = dir_ahead_get(client->ahead, parent, name, &attr, &asked);
    if (rc == 0 && !*ret_ahead) {
        rc = meta_client_lookup(client->meta, parent, name, &attr);
    }
    if (rc == -ENOENT) {
        name_hints_set(client->hints, parent, name, 0, asked);
    }
    if (rc == 0) {
        rc = inode_get(client->inodes, attr.ino, ret_inode);
    }
    if (rc != 0) {
        return rc;
    }
    ops_learn(client, *ret_inode, asked, &attr, ret_attr);
    if (ret_attr->fresh_ms > 0 && !*ret_ahead) {
        inode_note_lookup(*ret_inode, fuse_req_ctx(req)->pid);
    }
    name_hints_set(client->hints, parent, name, attr.ino, asked);
    return 0;
}

/* After a lookup that has been answered: prepare for those that will follow. */
static void look_ahead(struct client *client, uint64_t parent)
{
    Gabion__ReadDirRequest query = GABION__READ_DIR_REQUEST__INIT;
    Gabion__ReadDirReply *page = NULL;
    inode_stamp asked = inode_table_now(client->inodes);

    if (!dir_ahead_is_wanted(client->ahead, parent)) {
        return;
    }
    query.ino = parent;
    query.limit = DIR_AHEAD_ENTRIES;
    query.plus = true;
    if (meta_client_read_dir(client->meta, &query, &page) != 0) {
        page = NULL; /* who needs it will ask, and be told */
    }
    dir_ahead_put(client->ahead, parent, page, asked);
}

void ops_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct client *client = ops_begin(req);
    uint64_t directory = ops_ino(client, parent);
    struct ops_attr attr;
    struct inode *inode;
    bool is_ahead;
    int rc = look_up(req, directory, name, &inode, &attr, &is_ahead);

    if (rc == -ENOENT) {
        reply_negative(req);
        return;
    }
    if (rc != 0) {
        ops_reply_error(req, rc);
        return;
    }
    ops_reply_entry(req, inode, &attr);
    inode_put(inode);
    if (!is_ahead) {
        look_ahead(client, directory);
    }
}

/* ---------------------------------------------------------------- creating */

/* Submit the op that gives `ino` a name in the directory, and take in what both
 * are afterwards. */
static int submit_name(struct client *client,
                       Gabion__Op *op,
                       uint64_t parent,
                       const char *name,
                       uint64_t ino,
                       struct ops_attr *ret_attr)
{
    struct inode_change directory;
    struct inode_change child;
    struct session_result result;
    const Gabion__Attr *attr;
    int rc;

    inode_change_begin(client->inodes, parent, &directory);
    inode_change_begin(client->inodes, ino, &child);
    rc = session_submit(client->session, parent, op, false, &result);
    attr = session_result_attr(&result, ino);
    inode_change_end(&child, attr, result.mark);
    inode_change_end(&directory, session_result_attr(&result, parent),
                     result.mark);
    if (rc == 0 && attr == NULL) {
        rc = -EPROTO;
    }
    if (rc == 0) {
        ret_attr->attr = *attr;
        ret_attr->fresh_ms = client->options->attr_ms;
        name_hints_set(client->hints, parent, name, ino,
                       inode_table_now(client->inodes));
    }
    session_result_clear(&result);
    return rc;
}

int ops_create(fuse_req_t req,
               Gabion__Create *body,
               const char *name,
               struct inode **ret_inode,
               struct ops_attr *ret_attr)
{
    struct client *client = ops_context(req)->client;
    const struct fuse_ctx *ctx = fuse_req_ctx(req);
    Gabion__Op op = GABION__OP__INIT;
    int rc = ops_check_name(name);

    if (rc == 0) {
        rc = session_new_ino(client->session, &body->ino);
    }
    if (rc == 0) {
        rc = inode_get(client->inodes, body->ino, ret_inode);
    }
    if (rc != 0) {
        return rc;
    }
    body->name = wire_text(name);
    body->umask = ctx->umask & 0777u;
    body->uid = ctx->uid;
    body->gid = ctx->gid;
    body->exclusive = true;
    op.body_case = GABION__OP__BODY_CREATE;
    op.create = body;
    rc = submit_name(client, &op, body->parent, name, body->ino, ret_attr);
    if (rc != 0) {
        inode_put(*ret_inode);
        *ret_inode = NULL;
    }
    return rc;
}

/* All that do not open what they create. */
static void create_and_reply(fuse_req_t req,
                             Gabion__Create *body,
                             const char *name)
{
    struct ops_attr attr;
    struct inode *inode;
    int rc = ops_create(req, body, name, &inode, &attr);

    if (rc != 0) {
        ops_reply_error(req, rc);
        return;
    }
    ops_reply_entry(req, inode, &attr);
    inode_put(inode);
}

void ops_mknod(fuse_req_t req,
               fuse_ino_t parent,
               const char *name,
               mode_t mode,
               dev_t rdev)
{
    Gabion__Create body = GABION__CREATE__INIT;

    body.parent = ops_ino(ops_begin(req), parent);
    body.mode = mode;
    body.rdev = rdev;
    create_and_reply(req, &body, name);
}

void ops_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    Gabion__Create body = GABION__CREATE__INIT;

    body.parent = ops_ino(ops_begin(req), parent);
    body.mode = S_IFDIR | (mode & 07777u);
    create_and_reply(req, &body, name);
}

void ops_symlink(fuse_req_t req,
                 const char *target,
                 fuse_ino_t parent,
                 const char *name)
{
    Gabion__Create body = GABION__CREATE__INIT;

    body.parent = ops_ino(ops_begin(req), parent);
    body.mode = S_IFLNK | 0777u;
    body.target = wire_text(target);
    create_and_reply(req, &body, name);
}

void ops_readlink(fuse_req_t req, fuse_ino_t node)
{
    struct client *client = ops_begin(req);
    char target[PATH_MAX + 1];
    Gabion__ReadLinkReply *reply;
    int rc = meta_client_read_link(client->meta, ops_ino(client, node), &reply);

    if (rc != 0) {
        ops_reply_error(req, rc);
        return;
    }
    memcpy(target, reply->target.data, reply->target.len);
    target[reply->target.len] = '\0';
    gabion__read_link_reply__free_unpacked(reply, NULL);
    (void)fuse_reply_readlink(ops_end(req), target);
}

void ops_link(fuse_req_t req,
              fuse_ino_t node,
              fuse_ino_t new_parent,
              const char *new_name)
{
    struct client *client = ops_begin(req);
    uint64_t ino = ops_ino(client, node);
    Gabion__Link body = GABION__LINK__INIT;
    Gabion__Op op = GABION__OP__INIT;
    struct ops_attr attr;
    struct inode *inode;
    int rc = ops_check_name(new_name);

    if (rc == 0) {
        rc = inode_get(client->inodes, ino, &inode);
    }
    if (rc != 0) {
        ops_reply_error(req, rc);
        return;
    }
    body.ino = ino;
    body.parent = ops_ino(client, new_parent);
    body.name = wire_text(new_name);
    op.body_case = GABION__OP__BODY_LINK;
    op.link = &body;
    rc = ops_settle(inode);
    if (rc == 0) {
        rc = submit_name(client, &op, body.parent, new_name, ino, &attr);
    }
    if (rc == 0) {
        ops_reply_entry(req, inode, &attr);
    } else {
        ops_reply_error(req, rc);
    }
    inode_put(inode);
}

/* ---------------------------------------------------------------- removing */

static int remove_name(struct client *client,
                       uint64_t parent,
                       const char *name,
                       bool is_directory)
{
    Gabion__Unlink body = GABION__UNLINK__INIT;
    Gabion__Op op = GABION__OP__INIT;
    struct inode_change directory;
    struct inode_change victim = { .inode = NULL };
    struct session_result result;
    uint64_t ino = 0;
    bool is_open;
    int rc = ops_check_name(name);

    if (rc != 0) {
        return rc;
    }
    if (name_hints_get(client->hints, parent, name, &ino) && ino != 0) {
        inode_removal_begin(client->inodes, ino, &victim, &is_open);
    } else {
        is_open = inode_any_open(client->inodes);
    }
    inode_change_begin(client->inodes, parent, &directory);
    body.parent = parent;
    body.name = wire_text(name);
    body.directory = is_directory;
    op.held_open = is_open;
    op.body_case = GABION__OP__BODY_UNLINK;
    op.unlink = &body;
    rc = session_submit(client->session, parent, &op, false, &result);
    inode_change_end(&victim, session_result_attr(&result, ino), result.mark);
    inode_change_end(&directory, session_result_attr(&result, parent),
                     result.mark);
    if (rc == 0) {
        name_hints_set(client->hints, parent, name, 0,
                       inode_table_now(client->inodes));
    }
    session_result_clear(&result);
    return rc;
}

void ops_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct client *client = ops_begin(req);

    ops_reply_error(req,
                    remove_name(client, ops_ino(client, parent), name, false));
}

void ops_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct client *client = ops_begin(req);

    ops_reply_error(req,
                    remove_name(client, ops_ino(client, parent), name, true));
}
