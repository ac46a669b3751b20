#include "fusefs/ops.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fusefs/wire.h"
#include "proto/validate.h"

#define NS_PER_S INT64_C(1000000000)

/* Groups of a caller that are looked at. */
#define GROUPS_MAX 1024

/* Read-ahead and asynchronous direct I/O requests in flight. */
#define BACKGROUND_MAX 64u

#define READAHEAD_MAX (1u << 20)

/* The request that the thread serves, for ops_is_interrupted(). */
static _Thread_local fuse_req_t current;

struct ops_context *ops_context(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

struct client *ops_begin(fuse_req_t req)
{
    current = req;
    return ops_context(req)->client;
}

fuse_req_t ops_end(fuse_req_t req)
{
    current = NULL;
    return req;
}

bool ops_is_interrupted(void)
{
    return current != NULL && fuse_req_interrupted(current) != 0;
}

void ops_reply_error(fuse_req_t req, int rc)
{
    switch (rc) {
    case -EHOSTUNREACH:
        rc = -ETIMEDOUT;
        break;
    case -EBADMSG:
    case -EPROTO:
    case -EAGAIN:
        rc = -EIO;
        break;
    case -ECANCELED:
        rc = -EINTR;
        break;
    case -ESTALE: /* the kernel will look the name up again */
        dir_ahead_clear(ops_context(req)->client->ahead);
        break;
    default:
        break;
    }
    (void)fuse_reply_err(ops_end(req), -rc);
}

uint64_t ops_ino(const struct client *client, fuse_ino_t node)
{
    return node == FUSE_ROOT_ID ? client->root : node;
}

fuse_ino_t ops_node(const struct client *client, uint64_t ino)
{
    return ino == client->root ? FUSE_ROOT_ID : ino;
}

int ops_check_name(const char *name)
{
    return strlen(name) <= NAME_LENGTH_MAX ? 0 : -ENAMETOOLONG;
}

/* -------------------------------------------------------------- attributes */

void ops_file_attr(const Gabion__Attr *attr, struct file_attr *ret_attr)
{
    ret_attr->size = attr->size;
    ret_attr->allocated = attr->allocated;
    ret_attr->mtime_ns = attr->mtime_ns;
    ret_attr->data_version = attr->data_version;
}

void ops_learn(struct client *client,
               struct inode *inode,
               inode_stamp asked,
               const Gabion__Attr *attr,
               struct ops_attr *ret_attr)
{
    bool is_kept = inode_attr_answer(inode, asked, attr);
    struct file *file = is_kept ? inode_file_pin(inode) : NULL;

    if (file != NULL) {
        struct file_attr bytes;

        ops_file_attr(attr, &bytes);
        file_revalidate(file, &bytes);
        inode_file_unpin(inode);
    }
    ret_attr->attr = *attr;
    ret_attr->fresh_ms = is_kept ? client->options->attr_ms : 0;
}

int ops_get_attr(struct client *client,
                 struct inode *inode,
                 bool ask,
                 struct ops_attr *ret_attr)
{
    Gabion__Attr attr;
    inode_stamp asked;
    int rc;

    if (!ask && inode_attr(inode, &ret_attr->attr, &ret_attr->fresh_ms)) {
        return 0;
    }
    asked = inode_table_now(client->inodes);
    rc = meta_client_get_attr(client->meta, inode_number(inode), &attr);
    if (rc == 0) {
        ops_learn(client, inode, asked, &attr, ret_attr);
    }
    return rc;
}

static struct timespec to_timespec(int64_t ns)
{
    struct timespec time = { .tv_sec = ns / NS_PER_S,
                             .tv_nsec = ns % NS_PER_S };

    if (time.tv_nsec < 0) {
        time.tv_nsec += NS_PER_S;
        time.tv_sec--;
    }
    return time;
}

static void overlay_set(const struct file_set *set, struct stat *stat)
{
    if ((set->valid & FILE_SET_MODE) != 0) {
        stat->st_mode = (stat->st_mode & S_IFMT) | set->mode;
    }
    if ((set->valid & FILE_SET_UID) != 0) {
        stat->st_uid = set->uid;
    }
    if ((set->valid & FILE_SET_GID) != 0) {
        stat->st_gid = set->gid;
    }
    if ((set->valid & FILE_SET_ATIME) != 0) {
        stat->st_atim = to_timespec(set->atime_ns);
    }
    if (set->valid != 0) {
        stat->st_ctim = to_timespec(set->ctime_ns);
    }
}

/* What is pending of a file, as this mount's programs must see it. */
static void overlay(struct inode *inode,
                    const Gabion__Attr *attr,
                    struct stat *stat)
{
    struct file *file = S_ISREG(attr->mode) ? inode_file_pin(inode) : NULL;
    struct file_set set;
    struct file_attr bytes;

    if (file == NULL) {
        return;
    }
    ops_file_attr(attr, &bytes);
    file_overlay_attr(file, &bytes);
    file_held(file, &set);
    inode_file_unpin(inode);
    stat->st_size = (off_t)bytes.size;
    stat->st_blocks = (blkcnt_t)((bytes.allocated + 511) / 512);
    stat->st_mtim = to_timespec(bytes.mtime_ns);
    if (bytes.mtime_ns > attr->ctime_ns && bytes.mtime_ns != attr->mtime_ns) {
        stat->st_ctim = stat->st_mtim; /* written, not committed yet */
    }
    overlay_set(&set, stat);
}

void ops_fill_stat(struct inode *inode,
                   const Gabion__Attr *attr,
                   struct stat *ret_stat)
{
    memset(ret_stat, 0, sizeof *ret_stat);
    ret_stat->st_ino = attr->ino;
    ret_stat->st_mode = attr->mode;
    ret_stat->st_nlink = attr->nlink;
    ret_stat->st_uid = attr->uid;
    ret_stat->st_gid = attr->gid;
    ret_stat->st_rdev = attr->rdev;
    ret_stat->st_size = (off_t)attr->size;
    ret_stat->st_blksize = 4096;
    ret_stat->st_blocks = (blkcnt_t)((attr->allocated + 511) / 512);
    ret_stat->st_atim = to_timespec(attr->atime_ns);
    ret_stat->st_mtim = to_timespec(attr->mtime_ns);
    ret_stat->st_ctim = to_timespec(attr->ctime_ns);
    overlay(inode, attr, ret_stat);
}

void ops_fill_entry(const struct client *client,
                    struct inode *inode,
                    const struct ops_attr *attr,
                    struct fuse_entry_param *ret_entry)
{
    memset(ret_entry, 0, sizeof *ret_entry);
    ret_entry->ino = ops_node(client, attr->attr.ino);
    ret_entry->attr_timeout = (double)attr->fresh_ms / 1000;
    ret_entry->entry_timeout = (double)client->options->entry_ms / 1000;
    ops_fill_stat(inode, &attr->attr, &ret_entry->attr);
}

void ops_reply_entry(fuse_req_t req,
                     struct inode *inode,
                     const struct ops_attr *attr)
{
    struct client *client = ops_context(req)->client;
    struct fuse_entry_param entry;

    ops_fill_entry(client, inode, attr, &entry);
    inode_lookup_add(inode);
    if (fuse_reply_entry(ops_end(req), &entry) != 0) {
        inode_forget(client->inodes, attr->attr.ino, 1);
    }
}

/* ----------------------------------------------------------------- changes */

int ops_settle(struct inode *inode)
{
    struct file *file = inode_file_pin(inode);
    int rc = 0;

    if (file != NULL) {
        rc = file_settle(file);
        inode_file_unpin(inode);
    }
    return rc;
}

int ops_change(struct client *client,
               struct inode *inode,
               Gabion__Op *op,
               struct ops_attr *ret_attr)
{
    uint64_t ino = inode_number(inode);
    struct inode_change change;
    struct session_result result;
    const Gabion__Attr *attr;
    int rc = ops_settle(inode);

    if (rc != 0) {
        return rc;
    }
    inode_change_begin(client->inodes, ino, &change);
    rc = session_submit(client->session, ino, op, false, &result);
    attr = session_result_attr(&result, ino);
    inode_change_end(&change, attr, result.mark);
    if (rc == 0 && attr == NULL) {
        rc = -EPROTO;
    }
    if (rc == 0 && !inode_attr(inode, &ret_attr->attr, &ret_attr->fresh_ms)) {
        ret_attr->attr = *attr; /* already changed again: not to be kept */
        ret_attr->fresh_ms = 0;
    }
    session_result_clear(&result);
    return rc;
}

static int remove_capability(struct client *client, struct inode *inode)
{
    static const char name[] = "security.capability";
    uint8_t value[INODE_XATTR_VALUE_MAX];
    Gabion__RemoveXattr body = GABION__REMOVE_XATTR__INIT;
    Gabion__Op op = GABION__OP__INIT;
    struct ops_attr attr;
    inode_stamp asked;
    size_t size;
    int rc = inode_xattr(inode, name, value, &size);

    if (rc == -ENODATA) {
        return 0;
    }
    body.ino = inode_number(inode);
    body.name = wire_text(name);
    op.body_case = GABION__OP__BODY_REMOVE_XATTR;
    op.remove_xattr = &body;
    rc = ops_change(client, inode, &op, &attr);
    if (rc != -ENODATA) {
        return rc;
    }
    rc = ops_get_attr(client, inode, false, &attr);
    if (rc == 0) {
        asked = inode_table_now(client->inodes);
        inode_xattr_answer(inode, asked, name, NULL, 0);
    }
    return rc;
}

bool ops_is_privileged(fuse_req_t req)
{
    return fuse_req_ctx(req)->uid == 0;
}

bool ops_is_in_group(fuse_req_t req, gid_t gid)
{
    gid_t groups[GROUPS_MAX];
    int n;

    if (fuse_req_ctx(req)->gid == gid) {
        return true;
    }
    /* Fails when the caller's process is not to be seen from here. */
    n = fuse_req_getgroups(req, GROUPS_MAX, groups);
    for (int i = 0; i < n && i < GROUPS_MAX; i++) {
        if (groups[i] == gid) {
            return true;
        }
    }
    return false;
}

int ops_clear_mode(struct client *client, struct inode *inode, uint32_t bits)
{
    Gabion__SetAttr body = GABION__SET_ATTR__INIT;
    Gabion__Op op = GABION__OP__INIT;
    struct ops_attr attr;

    body.ino = inode_number(inode);
    body.valid = FUSE_SET_ATTR_MODE;
    body.mode = inode_mode(inode) & 07777u & ~bits;
    op.body_case = GABION__OP__BODY_SET_ATTR;
    op.set_attr = &body;
    return ops_change(client, inode, &op, &attr);
}

/* Of a file with set-group-ID that its group may not execute. */
static bool must_drop_sgid(fuse_req_t req, struct inode *inode)
{
    struct ops_attr attr;

    if (ops_is_privileged(req)) {
        return false;
    }
    return ops_get_attr(ops_context(req)->client, inode, false, &attr) != 0 ||
           !ops_is_in_group(req, attr.attr.gid);
}

int ops_kill_priv(fuse_req_t req, struct inode *inode, bool suidgid)
{
    struct client *client = ops_context(req)->client;
    uint32_t mode = suidgid ? inode_mode(inode) : 0;
    uint32_t kill = mode & S_ISUID;

    if ((mode & S_ISGID) != 0 &&
        ((mode & S_IXGRP) != 0 || must_drop_sgid(req, inode))) {
        kill |= S_ISGID;
    }
    if (kill != 0) {
        int rc = ops_clear_mode(client, inode, kill);

        if (rc != 0) {
            return rc;
        }
    }
    return inode_has_xattrs(inode) ? remove_capability(client, inode) : 0;
}

/* ------------------------------------------------------------ life and rest */

static void want(struct fuse_conn_info *conn, unsigned capability)
{
    conn->want |= conn->capable & capability;
}

static void ops_init(void *userdata, struct fuse_conn_info *conn)
{
    (void)userdata;
    want(conn, FUSE_CAP_ASYNC_READ);
    want(conn, FUSE_CAP_ATOMIC_O_TRUNC);
    want(conn, FUSE_CAP_DONT_MASK);
    want(conn, FUSE_CAP_AUTO_INVAL_DATA);
    want(conn, FUSE_CAP_READDIRPLUS);
    want(conn, FUSE_CAP_READDIRPLUS_AUTO);
    want(conn, FUSE_CAP_ASYNC_DIO);
    want(conn, FUSE_CAP_PARALLEL_DIROPS);
    want(conn, FUSE_CAP_POSIX_ACL);
    want(conn, FUSE_CAP_CACHE_SYMLINKS);
    /* What the first version of it asks of a filesystem is vague; the second
     * one is agreed on by the channel. */
    conn->want &= ~(unsigned)FUSE_CAP_HANDLE_KILLPRIV;
    if (conn->max_readahead < READAHEAD_MAX) {
        conn->max_readahead = READAHEAD_MAX;
    }
    conn->max_background = BACKGROUND_MAX;
    conn->congestion_threshold = BACKGROUND_MAX * 3 / 4;
}

static void ops_forget(fuse_req_t req, fuse_ino_t node, uint64_t n)
{
    struct client *client = ops_context(req)->client;

    inode_forget(client->inodes, ops_ino(client, node), n);
    fuse_reply_none(req);
}

static void ops_forget_multi(fuse_req_t req,
                             size_t n,
                             struct fuse_forget_data *forgets)
{
    struct client *client = ops_context(req)->client;

    for (size_t i = 0; i < n; i++) {
        inode_forget(client->inodes, ops_ino(client, forgets[i].ino),
                     forgets[i].nlookup);
    }
    fuse_reply_none(req);
}

static void ops_statfs(fuse_req_t req, fuse_ino_t node)
{
    struct client *client = ops_begin(req);
    struct statvfs stat;
    int rc = statfs_cache_get(client->statfs, &stat);

    (void)node;
    if (rc != 0) {
        ops_reply_error(req, rc);
        return;
    }
    (void)fuse_reply_statfs(ops_end(req), &stat);
}

const struct fuse_lowlevel_ops ops_table = {
    .init = ops_init,
    .lookup = ops_lookup,
    .forget = ops_forget,
    .forget_multi = ops_forget_multi,
    .getattr = ops_getattr,
    .setattr = ops_setattr,
    .readlink = ops_readlink,
    .mknod = ops_mknod,
    .mkdir = ops_mkdir,
    .unlink = ops_unlink,
    .rmdir = ops_rmdir,
    .symlink = ops_symlink,
    .rename = ops_rename,
    .link = ops_link,
    .open = ops_open,
    .create = ops_create_file,
    .read = ops_read,
    .write = ops_write,
    .flush = ops_flush,
    .release = ops_release,
    .fsync = ops_fsync,
    .opendir = ops_opendir,
    .readdir = ops_readdir,
    .readdirplus = ops_readdirplus,
    .releasedir = ops_releasedir,
    .fsyncdir = ops_fsyncdir,
    .statfs = ops_statfs,
    .setxattr = ops_setxattr,
    .getxattr = ops_getxattr,
    .listxattr = ops_listxattr,
    .removexattr = ops_removexattr,
    .fallocate = ops_fallocate,
    .lseek = ops_lseek,
    .copy_file_range = ops_copy_file_range,
};
