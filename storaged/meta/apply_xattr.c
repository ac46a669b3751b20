/* Extended attributes, and ACLs as two of them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "storaged/meta/acl.h"
#include "storaged/meta/apply_internal.h"

/* Of one inode: with names of the greatest length, and a NUL each, they fill
 * the 64 KiB that listxattr(2) can give. */
#define XATTRS_MAX 256u

enum xattr_kind {
    XATTR_PLAIN,
    XATTR_ACL_ACCESS,
    XATTR_ACL_DEFAULT,
    XATTR_UNKNOWN /* of the system's namespace, but none of ours */
};

static const ProtobufCBinaryData access_name = {
    sizeof ACL_XATTR_ACCESS - 1, (uint8_t *)(uintptr_t)ACL_XATTR_ACCESS
};
static const ProtobufCBinaryData default_name = {
    sizeof ACL_XATTR_DEFAULT - 1, (uint8_t *)(uintptr_t)ACL_XATTR_DEFAULT
};

static bool is_same(const ProtobufCBinaryData *a, const ProtobufCBinaryData *b)
{
    return a->len == b->len && memcmp(a->data, b->data, a->len) == 0;
}

static enum xattr_kind kind_of(const ProtobufCBinaryData *name)
{
    static const char system[] = "system.";

    if (is_same(name, &access_name)) {
        return XATTR_ACL_ACCESS;
    }
    if (is_same(name, &default_name)) {
        return XATTR_ACL_DEFAULT;
    }
    if (name->len >= sizeof system - 1 &&
        memcmp(name->data, system, sizeof system - 1) == 0) {
        return XATTR_UNKNOWN;
    }
    return XATTR_PLAIN;
}

/* Bind (ino, name) and step to the value. Errors: -ENOENT */
static int find_row(struct meta_db *db,
                    uint64_t ino,
                    const ProtobufCBinaryData *name,
                    sqlite3_stmt **ret_row)
{
    sqlite3_stmt *row = meta_db_statement(db, META_XATTR_GET);

    meta_sql_bind(row, (int64_t[]){ (int64_t)ino }, 1);
    meta_sql_bind_bytes(row, 2, name->data, name->len);
    *ret_row = row;
    return meta_sql_row(row);
}

static int is_there(struct meta_db *db,
                    const struct meta_inode *inode,
                    const ProtobufCBinaryData *name,
                    bool *ret_there)
{
    sqlite3_stmt *row;
    int rc;

    *ret_there = false;
    if (inode->n_xattrs == 0) {
        return 0;
    }
    rc = find_row(db, inode->ino, name, &row);
    *ret_there = rc == 0;
    (void)sqlite3_reset(row);
    return rc == -ENOENT ? 0 : rc;
}

/* A copy of the value, owned by the caller; NULL when there is none. */
static int get_copy(struct meta_db *db,
                    const struct meta_inode *inode,
                    const ProtobufCBinaryData *name,
                    uint8_t **ret_value,
                    size_t *ret_size)
{
    sqlite3_stmt *row;
    int rc;

    *ret_value = NULL;
    *ret_size = 0;
    if (inode->n_xattrs == 0) {
        return 0;
    }
    rc = find_row(db, inode->ino, name, &row);
    if (rc == 0) {
        size_t size = (size_t)sqlite3_column_bytes(row, 0);

        *ret_value = malloc(size > 0 ? size : 1);
        if (*ret_value == NULL) {
            rc = -ENOMEM;
        } else if (size > 0) {
            memcpy(*ret_value, sqlite3_column_blob(row, 0), size);
            *ret_size = size;
        }
        (void)sqlite3_reset(row);
    }
    return rc == -ENOENT ? 0 : rc;
}

static int put(struct meta_db *db,
               uint64_t ino,
               const ProtobufCBinaryData *name,
               const uint8_t *value,
               size_t size)
{
    sqlite3_stmt *statement = meta_db_statement(db, META_XATTR_PUT);

    meta_sql_bind(statement, (int64_t[]){ (int64_t)ino }, 1);
    meta_sql_bind_bytes(statement, 2, name->data, name->len);
    meta_sql_bind_bytes(statement, 3, value, size);
    return meta_sql_run(statement);
}

static int remove_value(struct meta_db *db,
                        uint64_t ino,
                        const ProtobufCBinaryData *name)
{
    sqlite3_stmt *statement = meta_db_statement(db, META_XATTR_DELETE);

    meta_sql_bind(statement, (int64_t[]){ (int64_t)ino }, 1);
    meta_sql_bind_bytes(statement, 2, name->data, name->len);
    return meta_sql_run(statement);
}

/* Write an inode whose xattrs have changed, and answer with it. */
static int finish(struct apply *apply, struct meta_inode *inode)
{
    int rc;

    inode->ctime_ns = apply->op->now_ns;
    rc = meta_inode_put(apply->db, inode);
    return rc != 0 ? rc : apply_add_attr(apply, inode);
}

/* Check an ACL for the inode. Errors: -EINVAL malformed; -EOPNOTSUPP symlinks;
 * -EACCES a default ACL, but no directory */
static int check_acl(const Gabion__SetXattr *op,
                     enum xattr_kind kind,
                     const struct meta_inode *inode)
{
    if (S_ISLNK(inode->mode)) {
        return -EOPNOTSUPP;
    }
    if (acl_is_empty(op->value.data, op->value.len)) {
        return 0;
    }
    if (kind == XATTR_ACL_DEFAULT && !meta_inode_is_directory(inode)) {
        return -EACCES;
    }
    return acl_check(op->value.data, op->value.len);
}

/* An access ACL sets the mode as well, and is kept only if it says more than
 * the mode. One without entries takes the ACL away. */
static int set_acl(struct apply *apply,
                   const Gabion__SetXattr *op,
                   enum xattr_kind kind,
                   struct meta_inode *inode)
{
    bool store = !acl_is_empty(op->value.data, op->value.len);
    bool there;
    int rc = check_acl(op, kind, inode);

    if (rc == 0) {
        rc = is_there(apply->db, inode, &op->name, &there);
    }
    if (rc != 0) {
        return rc;
    }
    if (store && kind == XATTR_ACL_ACCESS) {
        inode->mode =
            (inode->mode & ~0777u) | acl_mode(op->value.data, op->value.len);
        store = !acl_is_minimal(op->value.data, op->value.len);
    }
    if (store) {
        rc = put(apply->db, inode->ino, &op->name, op->value.data,
                 op->value.len);
        inode->n_xattrs += !there;
    } else if (there) {
        rc = remove_value(apply->db, inode->ino, &op->name);
        inode->n_xattrs--;
    }
    return rc != 0 ? rc : finish(apply, inode);
}

static int set_plain(struct apply *apply,
                     const Gabion__SetXattr *op,
                     struct meta_inode *inode)
{
    bool there;
    int rc;

    if (op->flags > XATTR_REPLACE) {
        return -EINVAL;
    }
    rc = is_there(apply->db, inode, &op->name, &there);
    if (rc != 0) {
        return rc;
    }
    if (there && op->flags == XATTR_CREATE) {
        return -EEXIST;
    }
    if (!there && op->flags == XATTR_REPLACE) {
        return -ENODATA;
    }
    if (!there && inode->n_xattrs >= XATTRS_MAX) {
        return -EDQUOT; /* ENOSPC would be the database's */
    }
    rc = put(apply->db, inode->ino, &op->name, op->value.data, op->value.len);
    inode->n_xattrs += !there;
    return rc != 0 ? rc : finish(apply, inode);
}

int apply_set_xattr(struct apply *apply, const Gabion__SetXattr *op)
{
    enum xattr_kind kind = kind_of(&op->name);
    struct meta_inode inode;
    int rc = meta_inode_get(apply->db, op->ino, &inode);

    if (rc != 0) {
        return rc;
    }
    switch (kind) {
    case XATTR_ACL_ACCESS:
    case XATTR_ACL_DEFAULT:
        return set_acl(apply, op, kind, &inode);
    case XATTR_PLAIN:
        return set_plain(apply, op, &inode);
    default:
        return -EOPNOTSUPP;
    }
}

int apply_remove_xattr(struct apply *apply, const Gabion__RemoveXattr *op)
{
    struct meta_inode inode;
    bool there;
    int rc = meta_inode_get(apply->db, op->ino, &inode);

    if (rc == 0) {
        rc = is_there(apply->db, &inode, &op->name, &there);
    }
    if (rc != 0) {
        return rc;
    }
    if (!there) {
        return -ENODATA;
    }
    rc = remove_value(apply->db, inode.ino, &op->name);
    inode.n_xattrs--;
    return rc != 0 ? rc : finish(apply, &inode);
}

int apply_inherit_acl(struct apply *apply,
                      const struct meta_inode *parent,
                      uint32_t umask,
                      struct meta_inode *inode,
                      struct apply_acl *ret_acl)
{
    int rc;

    *ret_acl = (struct apply_acl){ 0 };
    if (S_ISLNK(inode->mode)) {
        return 0;
    }
    rc = get_copy(apply->db, parent, &default_name, &ret_acl->bytes,
                  &ret_acl->size);
    if (rc != 0) {
        return rc;
    }
    if (ret_acl->bytes == NULL || ret_acl->size == 0) {
        inode->mode &= ~(umask & 0777u);
        return 0;
    }
    ret_acl->access = malloc(ret_acl->size);
    if (ret_acl->access == NULL) {
        apply_acl_close(ret_acl);
        return -ENOMEM;
    }
    memcpy(ret_acl->access, ret_acl->bytes, ret_acl->size);
    inode->mode = acl_inherit(ret_acl->access, ret_acl->size, inode->mode);
    if (acl_is_minimal(ret_acl->access, ret_acl->size)) {
        free(ret_acl->access);
        ret_acl->access = NULL;
    }
    ret_acl->store_default = S_ISDIR(inode->mode);
    inode->n_xattrs +=
        (uint32_t)(ret_acl->access != NULL) + ret_acl->store_default;
    return 0;
}

int apply_write_acl(struct apply *apply,
                    uint64_t ino,
                    const struct apply_acl *acl)
{
    int rc = 0;

    if (acl->access != NULL) {
        rc = put(apply->db, ino, &access_name, acl->access, acl->size);
    }
    if (rc == 0 && acl->store_default) {
        rc = put(apply->db, ino, &default_name, acl->bytes, acl->size);
    }
    return rc;
}

void apply_acl_close(struct apply_acl *acl)
{
    free(acl->bytes);
    free(acl->access);
    *acl = (struct apply_acl){ 0 };
}

int apply_chmod_acl(struct apply *apply, const struct meta_inode *inode)
{
    uint8_t *value;
    size_t size;
    int rc = get_copy(apply->db, inode, &access_name, &value, &size);

    if (rc == 0 && value != NULL) {
        acl_chmod(value, size, inode->mode);
        rc = put(apply->db, inode->ino, &access_name, value, size);
    }
    free(value);
    return rc;
}
