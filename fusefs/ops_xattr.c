/* Extended attributes, POSIX ACLs among them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "fusefs/ops.h"
#include "fusefs/wire.h"
#include "proto/validate.h"

static bool has_prefix(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

static bool is_access_acl(const char *name)
{
    return strcmp(name, "system.posix_acl_access") == 0;
}

static bool is_acl(const char *name)
{
    return is_access_acl(name) || strcmp(name, "system.posix_acl_default") == 0;
}

/* Errors: -ERANGE, -EINVAL, -EOPNOTSUPP as local filesystems answer. */
static int check_xattr_name(const char *name)
{
    static const char *const spaces[] = { "user.", "trusted.", "security." };

    if (strlen(name) > NAME_LENGTH_MAX) {
        return -ERANGE;
    }
    for (size_t i = 0; i < sizeof spaces / sizeof *spaces; i++) {
        if (has_prefix(name, spaces[i])) {
            return name[strlen(spaces[i])] != '\0' ? 0 : -EINVAL;
        }
    }
    return is_acl(name) ? 0 : -EOPNOTSUPP;
}

/* An access ACL changes the mode, and as with chmod(2) set-group-ID does not
 * survive that for who is not in the group. The kernel leaves this to us. */
static int drop_sgid_for_acl(fuse_req_t req, struct inode *inode)
{
    struct client *client = ops_context(req)->client;
    struct ops_attr attr;
    int rc = ops_get_attr(client, inode, false, &attr);

    if (rc != 0 || (attr.attr.mode & S_ISGID) == 0 || ops_is_privileged(req) ||
        ops_is_in_group(req, attr.attr.gid)) {
        return rc;
    }
    return ops_clear_mode(client, inode, S_ISGID);
}

/* Run `op`, which concerns the attribute `name`, on the inode. */
static int change(fuse_req_t req,
                  struct inode *inode,
                  const char *name,
                  Gabion__Op *op)
{
    struct ops_attr attr;
    int rc = ops_change(ops_context(req)->client, inode, op, &attr);

    if (op->body_case == GABION__OP__BODY_REMOVE_XATTR) {
        /* To take an ACL away where there is none is no error. */
        return rc == -ENODATA && is_acl(name) ? 0 : rc;
    }
    return rc == 0 && is_access_acl(name) ? drop_sgid_for_acl(req, inode) : rc;
}

static void change_and_reply(fuse_req_t req,
                             fuse_ino_t node,
                             const char *name,
                             Gabion__Op *op)
{
    struct client *client = ops_context(req)->client;
    struct inode *inode;
    int rc = inode_get(client->inodes, ops_ino(client, node), &inode);

    if (rc == 0) {
        rc = change(req, inode, name, op);
        inode_put(inode);
    }
    ops_reply_error(req, rc);
}

void ops_setxattr(fuse_req_t req,
                  fuse_ino_t node,
                  const char *name,
                  const char *value,
                  size_t size,
                  int flags)
{
    struct client *client = ops_begin(req);
    Gabion__SetXattr body = GABION__SET_XATTR__INIT;
    Gabion__Op op = GABION__OP__INIT;
    int rc = check_xattr_name(name);

    if (rc == 0 && size > XATTR_VALUE_MAX) {
        rc = -E2BIG;
    }
    if (rc == 0 && (flags & ~(XATTR_CREATE | XATTR_REPLACE)) != 0) {
        rc = -EINVAL;
    }
    if (rc != 0) {
        ops_reply_error(req, rc);
        return;
    }
    body.ino = ops_ino(client, node);
    body.name = wire_text(name);
    body.value = wire_bytes(value, size);
    body.flags = (uint32_t)flags;
    op.body_case = GABION__OP__BODY_SET_XATTR;
    op.set_xattr = &body;
    change_and_reply(req, node, name, &op);
}

void ops_removexattr(fuse_req_t req, fuse_ino_t node, const char *name)
{
    struct client *client = ops_begin(req);
    Gabion__RemoveXattr body = GABION__REMOVE_XATTR__INIT;
    Gabion__Op op = GABION__OP__INIT;
    int rc = check_xattr_name(name);

    if (rc != 0) {
        ops_reply_error(req, rc);
        return;
    }
    body.ino = ops_ino(client, node);
    body.name = wire_text(name);
    op.body_case = GABION__OP__BODY_REMOVE_XATTR;
    op.remove_xattr = &body;
    change_and_reply(req, node, name, &op);
}

/* getxattr(2) and listxattr(2): `size` 0 asks for the length. */
static void reply_value(fuse_req_t req,
                        const void *value,
                        size_t length,
                        size_t size)
{
    if (size == 0) {
        (void)fuse_reply_xattr(ops_end(req), length);
    } else if (length > size) {
        ops_reply_error(req, -ERANGE);
    } else {
        (void)fuse_reply_buf(ops_end(req), value, length);
    }
}

/* ---------------------------------------------------------------- getxattr */

/* Ask the shard; fresh attributes have said that there are some at all. */
static void ask_value(fuse_req_t req,
                      struct inode *inode,
                      const char *name,
                      size_t size)
{
    struct client *client = ops_context(req)->client;
    inode_stamp asked = inode_table_now(client->inodes);
    Gabion__GetXattrReply *reply;
    int rc =
        meta_client_get_xattr(client->meta, inode_number(inode), name, &reply);

    if (rc == -ENODATA) {
        inode_xattr_answer(inode, asked, name, NULL, 0);
    }
    if (rc != 0) {
        ops_reply_error(req, rc);
        return;
    }
    inode_xattr_answer(inode, asked, name,
                       reply->value.len > 0 ? reply->value.data
                                            : (const uint8_t *)"",
                       reply->value.len);
    reply_value(req, reply->value.data, reply->value.len, size);
    gabion__get_xattr_reply__free_unpacked(reply, NULL);
}

static void get_value(fuse_req_t req,
                      struct inode *inode,
                      const char *name,
                      size_t size)
{
    uint8_t value[INODE_XATTR_VALUE_MAX];
    size_t length;
    struct ops_attr attr;
    int rc = ops_get_attr(ops_context(req)->client, inode, false, &attr);

    if (rc == 0 && !attr.attr.has_xattrs) {
        rc = -ENODATA;
    }
    if (rc != 0) {
        ops_reply_error(req, rc);
        return;
    }
    rc = inode_xattr(inode, name, value, &length);
    if (rc == 0) {
        reply_value(req, value, length, size);
    } else if (rc == -ENODATA) {
        ops_reply_error(req, rc);
    } else {
        ask_value(req, inode, name, size);
    }
}

void ops_getxattr(fuse_req_t req,
                  fuse_ino_t node,
                  const char *name,
                  size_t size)
{
    struct client *client = ops_begin(req);
    struct inode *inode = NULL;
    int rc = check_xattr_name(name);

    if (rc == 0) {
        rc = inode_get(client->inodes, ops_ino(client, node), &inode);
    }
    if (rc != 0) {
        ops_reply_error(req, rc);
        return;
    }
    get_value(req, inode, name, size);
    inode_put(inode);
}

/* --------------------------------------------------------------- listxattr */

/* "trusted." names are for the privileged only. */
static bool is_listed(const ProtobufCBinaryData *name, bool is_privileged)
{
    static const char trusted[] = "trusted.";
    size_t n = sizeof trusted - 1;

    return is_privileged || name->len < n ||
           memcmp(name->data, trusted, n) != 0;
}

/* Names as listxattr(2) has them, each with its NUL. Owned by the caller; NULL
 * when out of memory. */
static char *join_names(const Gabion__GetXattrReply *reply,
                        bool is_privileged,
                        size_t *ret_length)
{
    size_t capacity = 1;
    size_t length = 0;
    char *list;

    for (size_t i = 0; i < reply->n_name; i++) {
        capacity += reply->name[i].len + 1;
    }
    list = malloc(capacity);
    for (size_t i = 0; list != NULL && i < reply->n_name; i++) {
        if (is_listed(&reply->name[i], is_privileged)) {
            memcpy(list + length, reply->name[i].data, reply->name[i].len);
            length += reply->name[i].len;
            list[length++] = '\0';
        }
    }
    *ret_length = length;
    return list;
}

static void list_names(fuse_req_t req, struct inode *inode, size_t size)
{
    struct client *client = ops_context(req)->client;
    Gabion__GetXattrReply *reply;
    struct ops_attr attr;
    size_t length;
    char *list;
    int rc = ops_get_attr(client, inode, false, &attr);

    if (rc == 0 && !attr.attr.has_xattrs) {
        reply_value(req, "", 0, size);
        return;
    }
    if (rc == 0) {
        rc = meta_client_get_xattr(client->meta, inode_number(inode), NULL,
                                   &reply);
    }
    if (rc != 0) {
        ops_reply_error(req, rc);
        return;
    }
    list = join_names(reply, fuse_req_ctx(req)->uid == 0, &length);
    gabion__get_xattr_reply__free_unpacked(reply, NULL);
    if (list == NULL) {
        ops_reply_error(req, -ENOMEM);
        return;
    }
    reply_value(req, list, length, size);
    free(list);
}

void ops_listxattr(fuse_req_t req, fuse_ino_t node, size_t size)
{
    struct client *client = ops_begin(req);
    struct inode *inode;
    int rc = inode_get(client->inodes, ops_ino(client, node), &inode);

    if (rc != 0) {
        ops_reply_error(req, rc);
        return;
    }
    list_names(req, inode, size);
    inode_put(inode);
}
