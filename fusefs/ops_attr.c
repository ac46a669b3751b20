/* getattr and setattr. */
#include <errno.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "fusefs/ops.h"

#define NS_PER_S INT64_C(1000000000)

/* SetAttr.valid has the kernel's bits for these. */
#define PLAIN_BITS                                                         \
    (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID |          \
     FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME_NOW | \
     FUSE_SET_ATTR_MTIME_NOW)

_Static_assert(FUSE_SET_ATTR_MODE == 1 && FUSE_SET_ATTR_UID == 2 &&
                   FUSE_SET_ATTR_GID == 4 && FUSE_SET_ATTR_SIZE == 8 &&
                   FUSE_SET_ATTR_ATIME == 16 && FUSE_SET_ATTR_MTIME == 32,
               "metadata.proto's SetAttr.valid has the bits of FUSE");

static void reply_attr(fuse_req_t req,
                       struct inode *inode,
                       const struct ops_attr *attr)
{
    struct stat stat;

    ops_fill_stat(inode, &attr->attr, &stat);
    (void)fuse_reply_attr(ops_end(req), &stat, (double)attr->fresh_ms / 1000);
}

/* An inode that is gone although the kernel has it: its name has to be looked
 * up again. */
static int stale(int rc)
{
    return rc == -ENOENT ? -ESTALE : rc;
}

void ops_getattr(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct client *client = ops_begin(req);
    struct ops_attr attr;
    struct inode *inode;
    int rc = inode_get(client->inodes, ops_ino(client, node), &inode);

    (void)fi;
    if (rc != 0) {
        ops_reply_error(req, rc);
        return;
    }
    rc = ops_get_attr(client, inode, false, &attr);
    if (rc == 0) {
        reply_attr(req, inode, &attr);
    } else {
        ops_reply_error(req, stale(rc));
    }
    inode_put(inode);
}

static int64_t to_ns(struct timespec time)
{
    return time.tv_sec * NS_PER_S + time.tv_nsec;
}

static int truncate_file(fuse_req_t req, struct inode *inode, uint64_t size)
{
    struct file *file;
    int rc = ops_kill_priv(req, inode, channel_must_kill_suidgid());

    if (rc == 0) {
        rc = inode_open(inode, true, &file);
    }
    if (rc == 0) {
        rc = file_truncate(file, size, clock_real_ns());
        inode_close(inode);
    }
    return rc;
}

/* A change of the owner takes set-user-ID and set-group-ID along: the kernel
 * leaves it to us. */
static int kill_for_chown(fuse_req_t req, struct inode *inode, int to_set)
{
    struct ops_attr attr;
    int rc;

    if ((to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) == 0 ||
        (to_set & FUSE_SET_ATTR_MODE) != 0) {
        return 0;
    }
    rc = ops_get_attr(ops_context(req)->client, inode, false, &attr);
    if (rc != 0 || S_ISDIR(attr.attr.mode)) {
        return rc;
    }
    return ops_kill_priv(req, inode, true);
}

static void fill_times(const struct stat *stat, int to_set, Gabion__Op *op)
{
    Gabion__SetAttr *body = op->set_attr;

    body->atime_ns = to_ns(stat->st_atim);
    body->mtime_ns = to_ns(stat->st_mtim);
    if ((to_set & FUSE_SET_ATTR_ATIME_NOW) != 0) {
        body->valid |= FUSE_SET_ATTR_ATIME;
        body->atime_ns = op->now_ns;
    }
    if ((to_set & FUSE_SET_ATTR_MTIME_NOW) != 0) {
        body->valid |= FUSE_SET_ATTR_MTIME;
        body->mtime_ns = op->now_ns;
    }
}

/* Privileges are not held: what becomes of them hangs on what is done next. An
 * mtime of 0 has no place in a commit. */
static bool hold(struct inode *inode,
                 const Gabion__SetAttr *body,
                 int64_t now_ns)
{
    const struct file_set set = { .valid = body->valid,
                                  .mode = body->mode,
                                  .uid = body->uid,
                                  .gid = body->gid,
                                  .atime_ns = body->atime_ns,
                                  .mtime_ns = body->mtime_ns,
                                  .ctime_ns = now_ns };
    bool sets_privileges = (body->valid & FUSE_SET_ATTR_MODE) != 0 &&
                           (body->mode & (S_ISUID | S_ISGID)) != 0;
    bool sets_zero =
        (body->valid & FUSE_SET_ATTR_MTIME) != 0 && body->mtime_ns == 0;
    struct file *file =
        sets_privileges || sets_zero ? NULL : inode_file_pin(inode);
    bool is_held = false;

    if (file != NULL) {
        is_held = file_hold(file, &set);
        inode_file_unpin(inode);
    }
    return is_held;
}

static int set_plain(fuse_req_t req,
                     struct inode *inode,
                     const struct stat *stat,
                     int to_set,
                     struct ops_attr *ret_attr)
{
    Gabion__SetAttr body = GABION__SET_ATTR__INIT;
    Gabion__Op op = GABION__OP__INIT;
    struct file *file;
    int rc = kill_for_chown(req, inode, to_set);

    if (rc != 0) {
        return rc;
    }
    op.now_ns = clock_real_ns();
    op.body_case = GABION__OP__BODY_SET_ATTR;
    op.set_attr = &body;
    body.ino = inode_number(inode);
    body.valid = (uint32_t)to_set & (PLAIN_BITS & 63);
    body.mode = stat->st_mode & 07777u;
    body.uid = stat->st_uid;
    body.gid = stat->st_gid;
    fill_times(stat, to_set, &op);
    if (body.valid != 0 && hold(inode, &body, op.now_ns)) {
        return ops_get_attr(ops_context(req)->client, inode, false, ret_attr);
    }

    /* Before the op: bytes that are flushed meanwhile must not move the time
     * again. */
    file =
        (body.valid & FUSE_SET_ATTR_MTIME) != 0 ? inode_file_pin(inode) : NULL;
    if (file != NULL) {
        file_mtime_was_set(file);
    }
    rc = ops_change(ops_context(req)->client, inode, &op, ret_attr);
    if (file != NULL) {
        inode_file_unpin(inode);
    }
    return rc;
}

static int set_attr(fuse_req_t req,
                    struct inode *inode,
                    const struct stat *stat,
                    int to_set,
                    struct ops_attr *ret_attr)
{
    int rc = 0;

    if ((to_set & FUSE_SET_ATTR_SIZE) != 0) {
        rc = truncate_file(req, inode, (uint64_t)stat->st_size);
    }
    if (rc == 0 && (to_set & PLAIN_BITS) != 0) {
        return set_plain(req, inode, stat, to_set, ret_attr);
    }
    return rc != 0
               ? rc
               : ops_get_attr(ops_context(req)->client, inode, false, ret_attr);
}

void ops_setattr(fuse_req_t req,
                 fuse_ino_t node,
                 struct stat *stat,
                 int to_set,
                 struct fuse_file_info *fi)
{
    struct client *client = ops_begin(req);
    struct ops_attr attr;
    struct inode *inode;
    int rc = inode_get(client->inodes, ops_ino(client, node), &inode);

    (void)fi;
    if (rc != 0) {
        ops_reply_error(req, rc);
        return;
    }
    rc = set_attr(req, inode, stat, to_set, &attr);
    if (rc == 0) {
        reply_attr(req, inode, &attr);
    } else {
        ops_reply_error(req, stale(rc));
    }
    inode_put(inode);
}
