/* Names: create, link, unlink, rename (POSIX.1-2017 mkdir(), link(), unlink(),
 * rmdir(), rename(); Linux renameat2(2)). Permissions and sticky bits are the
 * kernel's business (default_permissions). */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "storaged/meta/apply_internal.h"

#define LINKS_MAX 65000u

#define FLAG_NOREPLACE 1u
#define FLAG_EXCHANGE  2u

/* More directories above one another than any tree has. */
#define DEPTH_MAX 1000000u

/* The directory has got or lost an entry, a subdirectory if `is_directory`. */
static void count_entry(const struct apply *apply,
                        struct meta_inode *directory,
                        bool is_directory,
                        int change)
{
    directory->size += (uint64_t)(int64_t)change;
    if (is_directory) {
        directory->nlink += (uint32_t)change;
    }
    directory->mtime_ns = apply->op->now_ns;
    directory->ctime_ns = apply->op->now_ns;
}

static int add_attrs(struct apply *apply,
                     const struct meta_inode *const inodes[],
                     size_t n)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = apply_add_attr(apply, inodes[i]);
    }
    return rc;
}

/* A new name for the inode in the directory, which is written too. */
static int add_name(struct apply *apply,
                    struct meta_inode *directory,
                    const ProtobufCBinaryData *name,
                    const struct meta_inode *inode)
{
    struct meta_dentry dentry = { .parent = directory->ino,
                                  .name = *name,
                                  .ino = inode->ino,
                                  .type = inode->mode & S_IFMT,
                                  .cookie = directory->next_cookie };
    int rc = meta_dentry_insert(apply->db, &dentry);

    directory->next_cookie++;
    count_entry(apply, directory, meta_inode_is_directory(inode), 1);
    return rc != 0 ? rc : meta_inode_put(apply->db, directory);
}

/* ---------------------------------------------------------------- create */

/* open(2) with O_CREAT takes a regular file that is there. */
static int create_existing(struct apply *apply,
                           const Gabion__Create *op,
                           const struct meta_inode *parent,
                           const struct meta_dentry *dentry)
{
    struct meta_inode inode;
    int rc;

    if (op->exclusive || !S_ISREG(op->mode) || !S_ISREG(dentry->type)) {
        return -EEXIST;
    }
    rc = meta_inode_get(apply->db, dentry->ino, &inode);
    if (rc != 0) {
        return rc == -ENOENT ? -EBADMSG : rc;
    }
    apply->result->existed = true;
    return add_attrs(apply, (const struct meta_inode *[]){ &inode, parent }, 2);
}

/* A number that has been handed out. Whether it is in use shows later. */
static bool is_reserved(const struct meta_db *db, uint64_t ino)
{
    uint64_t sequence = ino & META_SEQUENCE_MAX;

    return ino >> META_SLOT_SHIFT == db->slot && sequence > 0 &&
           sequence < db->counters.next_sequence;
}

static int check_create(const struct apply *apply, const Gabion__Create *op)
{
    if (!is_reserved(apply->db, op->ino)) {
        return -EINVAL;
    }
    switch (op->mode & S_IFMT) {
    case S_IFLNK:
        return op->target.len > 0 ? 0 : -EINVAL;
    case S_IFREG:
    case S_IFDIR:
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
    case S_IFSOCK:
        return 0;
    default:
        return -EINVAL;
    }
}

static struct meta_inode new_inode(const struct apply *apply,
                                   const Gabion__Create *op,
                                   const struct meta_inode *parent)
{
    int64_t now_ns = apply->op->now_ns;
    struct meta_inode inode = { .ino = op->ino,
                                .mode = op->mode & (S_IFMT | 07777u),
                                .nlink = 1,
                                .uid = op->uid,
                                .gid = op->gid,
                                .atime_ns = now_ns,
                                .mtime_ns = now_ns,
                                .ctime_ns = now_ns,
                                .data_version = 1 };

    if (S_ISCHR(op->mode) || S_ISBLK(op->mode)) {
        inode.rdev = op->rdev;
    }
    if (S_ISLNK(op->mode)) {
        inode.mode = S_IFLNK | 0777u;
        inode.size = op->target.len;
    }
    if (S_ISDIR(op->mode)) {
        inode.nlink = 2;
        inode.parent = parent->ino;
        inode.next_cookie = 1;
    }
    if ((parent->mode & S_ISGID) != 0) {
        inode.gid = parent->gid;
        inode.mode |= S_ISDIR(op->mode) ? (uint32_t)S_ISGID : 0;
    }
    return inode;
}

static int insert_symlink(struct meta_db *db, const Gabion__Create *op)
{
    sqlite3_stmt *insert = meta_db_statement(db, META_SYMLINK_INSERT);

    meta_sql_bind(insert, (int64_t[]){ (int64_t)op->ino }, 1);
    meta_sql_bind_bytes(insert, 2, op->target.data, op->target.len);
    return meta_sql_run(insert);
}

static int create_new(struct apply *apply,
                      const Gabion__Create *op,
                      struct meta_inode *parent)
{
    struct meta_inode inode = new_inode(apply, op, parent);
    struct apply_acl acl;
    int rc = apply_inherit_acl(apply, parent, op->umask, &inode, &acl);

    if (rc != 0) {
        return rc;
    }
    rc = meta_inode_insert(apply->db, &inode);
    if (rc == 0) {
        rc = apply_write_acl(apply, inode.ino, &acl);
    }
    apply_acl_close(&acl);
    if (rc == 0 && S_ISLNK(inode.mode)) {
        rc = insert_symlink(apply->db, op);
    }
    if (rc == 0) {
        rc = add_name(apply, parent, &op->name, &inode);
    }
    if (rc != 0) {
        return rc;
    }
    return add_attrs(apply, (const struct meta_inode *[]){ &inode, parent }, 2);
}

int apply_create(struct apply *apply, const Gabion__Create *op)
{
    struct meta_inode parent;
    struct meta_dentry dentry;
    int rc = apply_get_directory(apply, op->parent, &parent);

    if (rc != 0) {
        return rc;
    }
    rc = meta_dentry_get(apply->db, op->parent, &op->name, &dentry);
    if (rc == 0) {
        return create_existing(apply, op, &parent, &dentry);
    }
    if (rc != -ENOENT) {
        return rc;
    }
    rc = check_create(apply, op);
    return rc != 0 ? rc : create_new(apply, op, &parent);
}

/* ---------------------------------------------------------------- link */

static int check_link(const struct meta_inode *inode)
{
    if (meta_inode_is_directory(inode)) {
        return -EPERM;
    }
    if (inode->nlink == 0) {
        return -ENOENT;
    }
    return inode->nlink < LINKS_MAX ? 0 : -EMLINK;
}

int apply_link(struct apply *apply, const Gabion__Link *op)
{
    struct meta_inode inode;
    struct meta_inode parent;
    struct meta_dentry dentry;
    int rc = apply_get_directory(apply, op->parent, &parent);

    if (rc == 0) {
        rc = meta_inode_get(apply->db, op->ino, &inode);
    }
    if (rc != 0) {
        return rc;
    }
    rc = meta_dentry_get(apply->db, op->parent, &op->name, &dentry);
    if (rc != -ENOENT) {
        return rc == 0 ? -EEXIST : rc;
    }
    rc = check_link(&inode);
    if (rc != 0) {
        return rc;
    }
    inode.nlink++;
    inode.ctime_ns = apply->op->now_ns;
    rc = meta_inode_put(apply->db, &inode);
    if (rc == 0) {
        rc = add_name(apply, &parent, &op->name, &inode);
    }
    if (rc != 0) {
        return rc;
    }
    return add_attrs(apply, (const struct meta_inode *[]){ &inode, &parent },
                     2);
}

/* ---------------------------------------------------------------- unlink */

/* The inode a dentry leads to is in the same shard and must be there. */
static int get_target(struct apply *apply,
                      const struct meta_dentry *dentry,
                      struct meta_inode *ret_inode)
{
    int rc = meta_inode_get(apply->db, dentry->ino, ret_inode);

    return rc == -ENOENT ? -EBADMSG : rc;
}

/* An inode has lost one of its names; a directory its only one. */
static int drop_link(struct apply *apply, struct meta_inode *inode)
{
    inode->ctime_ns = apply->op->now_ns;
    if (meta_inode_is_directory(inode)) {
        inode->nlink = 0;
        inode->parent = 0;
    } else {
        inode->nlink--;
    }
    return inode->nlink > 0 ? meta_inode_put(apply->db, inode)
                            : apply_release(apply, inode);
}

static int check_unlink(const struct meta_inode *victim, bool directory)
{
    if (directory && !meta_inode_is_directory(victim)) {
        return -ENOTDIR;
    }
    if (!directory && meta_inode_is_directory(victim)) {
        return -EISDIR;
    }
    return directory && victim->size > 0 ? -ENOTEMPTY : 0;
}

int apply_unlink(struct apply *apply, const Gabion__Unlink *op)
{
    struct meta_inode parent;
    struct meta_inode victim;
    struct meta_dentry dentry;
    int rc = apply_get_directory(apply, op->parent, &parent);

    if (rc == 0) {
        rc = meta_dentry_get(apply->db, op->parent, &op->name, &dentry);
    }
    if (rc == 0) {
        rc = get_target(apply, &dentry, &victim);
    }
    if (rc == 0) {
        rc = check_unlink(&victim, op->directory);
    }
    if (rc != 0) {
        return rc;
    }
    rc = meta_dentry_delete(apply->db, &dentry);
    if (rc == 0) {
        count_entry(apply, &parent, meta_inode_is_directory(&victim), -1);
        rc = meta_inode_put(apply->db, &parent);
    }
    if (rc == 0) {
        rc = drop_link(apply, &victim);
    }
    if (rc != 0) {
        return rc;
    }
    return add_attrs(apply, (const struct meta_inode *[]){ &victim, &parent },
                     2);
}

/* ---------------------------------------------------------------- rename */

/* One end of a rename: a name, the directory it is in, what it leads to. */
struct rename_end {
    struct meta_inode *directory; /* borrowed: both ends' may be the same */
    const ProtobufCBinaryData *name;
    bool exists; /* dentry and inode are set */
    struct meta_dentry dentry;
    struct meta_inode inode;
};

static int get_end(struct apply *apply, struct rename_end *end)
{
    int rc = meta_dentry_get(apply->db, end->directory->ino, end->name,
                             &end->dentry);

    if (rc == -ENOENT) {
        end->exists = false;
        return 0;
    }
    end->exists = true;
    return rc != 0 ? rc : get_target(apply, &end->dentry, &end->inode);
}

/* Whether `directory` is `ino` or below it. */
static int is_below(struct apply *apply,
                    const struct meta_inode *directory,
                    uint64_t ino,
                    bool *ret_below)
{
    struct meta_inode inode = *directory;

    for (unsigned depth = 0; depth < DEPTH_MAX; depth++) {
        int rc;

        if (inode.ino == ino || inode.ino == META_ROOT_INO) {
            *ret_below = inode.ino == ino;
            return 0;
        }
        rc = meta_inode_get(apply->db, inode.parent, &inode);
        if (rc != 0) {
            return rc == -ENOENT ? -EBADMSG : rc;
        }
    }
    return -EBADMSG; /* a ring */
}

/* A directory must not come to lie below itself. */
static int check_ring(struct apply *apply,
                      const struct rename_end *moved,
                      const struct rename_end *to)
{
    bool below;
    int rc;

    if (!meta_inode_is_directory(&moved->inode) ||
        moved->directory == to->directory) {
        return 0;
    }
    rc = is_below(apply, to->directory, moved->inode.ino, &below);
    if (rc != 0) {
        return rc;
    }
    return below ? -EINVAL : 0;
}

static int check_replace(const struct meta_inode *moved,
                         const struct meta_inode *victim)
{
    if (meta_inode_is_directory(moved)) {
        if (!meta_inode_is_directory(victim)) {
            return -ENOTDIR;
        }
        return victim->size > 0 ? -ENOTEMPTY : 0;
    }
    return meta_inode_is_directory(victim) ? -EISDIR : 0;
}

static int check_rename(struct apply *apply,
                        uint32_t flags,
                        const struct rename_end *from,
                        const struct rename_end *to)
{
    int rc;

    if (!from->exists) {
        return -ENOENT;
    }
    if (flags == FLAG_NOREPLACE && to->exists) {
        return -EEXIST;
    }
    if (flags == FLAG_EXCHANGE && !to->exists) {
        return -ENOENT;
    }
    rc = check_ring(apply, from, to);
    if (rc != 0 || !to->exists || to->inode.ino == from->inode.ino) {
        return rc;
    }
    return flags == FLAG_EXCHANGE ? check_ring(apply, to, from)
                                  : check_replace(&from->inode, &to->inode);
}

/* The inode now lies in `directory`. */
static void move_inode(const struct apply *apply,
                       struct meta_inode *inode,
                       const struct meta_inode *directory)
{
    inode->ctime_ns = apply->op->now_ns;
    if (meta_inode_is_directory(inode)) {
        inode->parent = directory->ino;
    }
}

/* Let the existing name lead to the inode, at its old place. */
static int repoint(struct apply *apply,
                   struct rename_end *end,
                   const struct meta_inode *inode)
{
    end->dentry.ino = inode->ino;
    end->dentry.type = inode->mode & S_IFMT;
    return meta_dentry_put(apply->db, &end->dentry);
}

static int exchange(struct apply *apply,
                    struct rename_end *from,
                    struct rename_end *to)
{
    bool from_is_directory = meta_inode_is_directory(&from->inode);
    bool to_is_directory = meta_inode_is_directory(&to->inode);
    int rc;

    count_entry(apply, from->directory, from_is_directory, -1);
    count_entry(apply, from->directory, to_is_directory, 1);
    count_entry(apply, to->directory, to_is_directory, -1);
    count_entry(apply, to->directory, from_is_directory, 1);
    move_inode(apply, &from->inode, to->directory);
    move_inode(apply, &to->inode, from->directory);
    rc = repoint(apply, to, &from->inode);
    if (rc == 0) {
        rc = repoint(apply, from, &to->inode);
    }
    return rc != 0 ? rc : meta_inode_put(apply->db, &to->inode);
}

static int replace(struct apply *apply,
                   struct rename_end *from,
                   struct rename_end *to)
{
    bool is_directory = meta_inode_is_directory(&from->inode);
    int rc;

    count_entry(apply, from->directory, is_directory, -1);
    count_entry(apply, to->directory, is_directory, 1);
    move_inode(apply, &from->inode, to->directory);
    rc = meta_dentry_delete(apply->db, &from->dentry);
    if (rc != 0) {
        return rc;
    }
    if (!to->exists) {
        struct meta_dentry dentry = { .parent = to->directory->ino,
                                      .name = *to->name,
                                      .ino = from->inode.ino,
                                      .type = from->dentry.type,
                                      .cookie = to->directory->next_cookie };

        to->directory->next_cookie++;
        return meta_dentry_insert(apply->db, &dentry);
    }
    count_entry(apply, to->directory, meta_inode_is_directory(&to->inode), -1);
    rc = repoint(apply, to, &from->inode);
    return rc != 0 ? rc : drop_link(apply, &to->inode);
}

static int rename_ends(struct apply *apply,
                       uint32_t flags,
                       struct rename_end *from,
                       struct rename_end *to)
{
    int rc = check_rename(apply, flags, from, to);
    bool same;

    if (rc != 0) {
        return rc;
    }
    same = to->exists && to->inode.ino == from->inode.ino;
    if (!same) {
        rc = flags == FLAG_EXCHANGE ? exchange(apply, from, to)
                                    : replace(apply, from, to);
        if (rc == 0) {
            rc = meta_inode_put(apply->db, &from->inode);
        }
        if (rc == 0) {
            rc = meta_inode_put(apply->db, from->directory);
        }
        if (rc == 0 && to->directory != from->directory) {
            rc = meta_inode_put(apply->db, to->directory);
        }
    }
    if (rc != 0) {
        return rc;
    }
    return add_attrs(apply,
                     (const struct meta_inode *[]){ &from->inode,
                                                    from->directory,
                                                    to->directory, &to->inode },
                     to->exists && !same ? 4 : 3);
}

int apply_rename(struct apply *apply, const Gabion__Rename *op)
{
    struct meta_inode directories[2];
    struct rename_end from = { .directory = &directories[0],
                               .name = &op->name };
    struct rename_end to = { .directory = &directories[1],
                             .name = &op->new_name };
    int rc;

    if (op->flags > FLAG_EXCHANGE) {
        return -EINVAL;
    }
    rc = apply_get_directory(apply, op->parent, from.directory);
    if (rc == 0 && op->parent == op->new_parent) {
        to.directory = from.directory;
    } else if (rc == 0) {
        rc = apply_get_directory(apply, op->new_parent, to.directory);
    }
    if (rc == 0) {
        rc = get_end(apply, &from);
    }
    if (rc == 0) {
        rc = get_end(apply, &to);
    }
    return rc != 0 ? rc : rename_ends(apply, op->flags, &from, &to);
}
