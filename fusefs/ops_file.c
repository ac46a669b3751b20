/* Open files.
 *
 * Close-to-open: an open asks the shard for the file's data version (unless the
 * lookup just before it has), so it sees what was written and closed on any
 * other mount before. The kernel keeps its cached pages when the version is the
 * one they are of. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "fusefs/ops.h"

#define LOG_PERIOD_MS 5000

static struct handle *handle_of(const struct fuse_file_info *fi)
{
    return (struct handle *)(uintptr_t)fi->fh;
}

static bool is_writable(const struct fuse_file_info *fi)
{
    return (fi->flags & O_ACCMODE) != O_RDONLY;
}

/* Data or service lost: say so, but not for each of a flood of requests. */
static void log_failure(fuse_req_t req,
                        const char *what,
                        const struct handle *handle,
                        int rc)
{
    uint64_t dropped;

    if (log_limit_pass(&ops_context(req)->io_errors, LOG_PERIOD_MS, &dropped)) {
        log_error("cannot %s ino=%#llx error=%s more=%llu", what,
                  (unsigned long long)inode_number(handle->inode), err_text(rc),
                  (unsigned long long)dropped);
    }
}

/* ------------------------------------------------------------- open, create */

/* A handle for the inode, whose opening has been counted. */
static int new_handle(struct inode *inode, struct handle **ret_handle)
{
    struct handle *handle = calloc(1, sizeof *handle);
    int rc;

    if (handle == NULL) {
        return -ENOMEM;
    }
    handle->inode = inode;
    rc = inode_open(inode, true, &handle->file);
    if (rc != 0) {
        free(handle);
        return rc;
    }
    *ret_handle = handle;
    return 0;
}

static void free_handle(struct handle *handle)
{
    inode_close(handle->inode);
    free(handle);
}

static void fill_reply(struct handle *handle,
                       struct fuse_file_info *fi,
                       bool keep_cache)
{
    fi->fh = (uint64_t)(uintptr_t)handle;
    fi->keep_cache = keep_cache;
    fi->noflush = !is_writable(fi);
}

/* What an open must know: the attributes of now. An inode without a name is
 * only opened again while it is open here: the shard may free it. */
static int ask_at_open(fuse_req_t req,
                       struct inode *inode,
                       struct ops_attr *ret_attr)
{
    bool just_asked = inode_take_lookup(inode, fuse_req_ctx(req)->pid);
    int rc =
        ops_get_attr(ops_context(req)->client, inode, !just_asked, ret_attr);

    if (rc == -ENOENT) {
        return -ESTALE;
    }
    if (rc == 0 && ret_attr->attr.nlink == 0 && inode_n_open(inode) == 1) {
        return -ESTALE;
    }
    return rc;
}

/* Whether the kernel may keep its pages. It learns that the file has changed by
 * asking for the attributes again. */
static bool check_pages(fuse_req_t req,
                        fuse_ino_t node,
                        struct inode *inode,
                        const struct ops_attr *attr)
{
    bool changed;
    bool is_valid = inode_pages_valid(inode, attr->attr.data_version, &changed);

    if (changed) {
        (void)fuse_lowlevel_notify_inval_inode(ops_context(req)->session, node,
                                               -1, 0);
    }
    return is_valid;
}

static int open_handle(fuse_req_t req,
                       fuse_ino_t node,
                       struct inode *inode,
                       struct fuse_file_info *fi)
{
    struct handle *handle;
    struct ops_attr attr;
    bool keep_cache = false;
    int rc = new_handle(inode, &handle);

    if (rc != 0) {
        return rc;
    }
    rc = ask_at_open(req, inode, &attr);
    if (rc == 0) {
        keep_cache = check_pages(req, node, inode, &attr);
    }
    if (rc == 0 && (fi->flags & O_TRUNC) != 0) {
        rc = ops_kill_priv(req, inode, channel_must_kill_suidgid());
    }
    if (rc == 0 && (fi->flags & O_TRUNC) != 0) {
        rc = file_truncate(handle->file, 0, clock_real_ns());
    }
    if (rc != 0) {
        free_handle(handle);
        return rc;
    }
    fill_reply(handle, fi, keep_cache);
    return 0;
}

void ops_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct client *client = ops_begin(req);
    struct inode *inode;
    int rc = inode_get(client->inodes, ops_ino(client, node), &inode);

    if (rc != 0) {
        ops_reply_error(req, rc);
        return;
    }
    rc = open_handle(req, node, inode, fi);
    if (rc != 0) {
        ops_reply_error(req, rc);
    } else if (fuse_reply_open(ops_end(req), fi) != 0) {
        free_handle(handle_of(fi));
    }
    inode_put(inode);
}

static void reply_create(fuse_req_t req,
                         struct inode *inode,
                         const struct ops_attr *attr,
                         struct fuse_file_info *fi)
{
    struct client *client = ops_context(req)->client;
    struct fuse_entry_param entry;

    ops_fill_entry(client, inode, attr, &entry);
    inode_lookup_add(inode);
    if (fuse_reply_create(ops_end(req), &entry, fi) != 0) {
        inode_forget(client->inodes, attr->attr.ino, 1);
        free_handle(handle_of(fi));
    }
}

/* A file with privileges or an ACL is not for file_hold(): what its mode is to
 * be hangs on more than the mode that is set. */
static void note_created(struct file *file, const Gabion__Attr *attr)
{
    struct file_attr bytes;

    if ((attr->mode & (S_ISUID | S_ISGID)) == 0 && !attr->has_xattrs) {
        ops_file_attr(attr, &bytes);
        file_created(file, &bytes);
    }
}

/* The kernel asks for this when it does not know the name. If it exists all the
 * same (another mount was quicker), the kernel must look it up and check the
 * permissions: ESTALE makes it do so. */
void ops_create_file(fuse_req_t req,
                     fuse_ino_t parent,
                     const char *name,
                     mode_t mode,
                     struct fuse_file_info *fi)
{
    struct client *client = ops_begin(req);
    Gabion__Create body = GABION__CREATE__INIT;
    struct handle *handle;
    struct ops_attr attr;
    struct inode *inode;
    bool changed;
    int rc;

    body.parent = ops_ino(client, parent);
    body.mode = S_IFREG | (mode & 07777u);
    rc = ops_create(req, &body, name, &inode, &attr);
    if (rc != 0) {
        bool is_there = rc == -EEXIST && (fi->flags & O_EXCL) == 0;

        ops_reply_error(req, is_there ? -ESTALE : rc);
        return;
    }
    rc = new_handle(inode, &handle);
    if (rc != 0) {
        ops_reply_error(req, rc);
    } else {
        note_created(handle->file, &attr.attr);
        (void)inode_pages_valid(inode, attr.attr.data_version, &changed);
        fill_reply(handle, fi, false);
        reply_create(req, inode, &attr, fi);
    }
    inode_put(inode);
}

/* -------------------------------------------------------------- read, write */

void ops_read(fuse_req_t req,
              fuse_ino_t node,
              size_t size,
              off_t offset,
              struct fuse_file_info *fi)
{
    const struct handle *handle = handle_of(fi);
    uint8_t *data = malloc(size);
    size_t length;
    int rc;

    (void)node;
    (void)ops_begin(req);
    rc = data == NULL
             ? -ENOMEM
             : file_read(handle->file, (uint64_t)offset, size, data, &length);
    if (rc != 0) {
        log_failure(req, "read", handle, rc);
        ops_reply_error(req, rc);
    } else {
        (void)fuse_reply_buf(ops_end(req), (const char *)data, length);
    }
    free(data);
}

static bool is_synchronous(const struct client *client,
                           const struct fuse_file_info *fi)
{
    return client->options->sync_data || (fi->flags & (O_SYNC | O_DSYNC)) != 0;
}

void ops_write(fuse_req_t req,
               fuse_ino_t node,
               const char *data,
               size_t size,
               off_t offset,
               struct fuse_file_info *fi)
{
    struct client *client = ops_begin(req);
    const struct handle *handle = handle_of(fi);
    /* Pages that come back late have their places already. */
    bool is_append = (fi->flags & O_APPEND) != 0 && !fi->writepage;
    int rc = ops_kill_priv(req, handle->inode, channel_must_kill_suidgid());

    (void)node;
    if (rc == 0) {
        rc = file_write(handle->file, (uint64_t)offset, size,
                        (const uint8_t *)data, is_append);
    }
    if (rc == 0 && is_synchronous(client, fi)) {
        rc = file_fsync(handle->file);
    }
    if (rc != 0) {
        log_failure(req, "write", handle, rc);
        ops_reply_error(req, rc);
        return;
    }
    (void)fuse_reply_write(ops_end(req), size);
}

/* --------------------------------------------------- flush, fsync, release */

void ops_flush(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    const struct handle *handle = handle_of(fi);
    int rc = 0;

    (void)node;
    (void)ops_begin(req);
    if (is_writable(fi)) {
        rc = file_flush(handle->file);
    }
    if (rc != 0) {
        log_failure(req, "flush", handle, rc);
    }
    ops_reply_error(req, rc);
}

void ops_fsync(fuse_req_t req,
               fuse_ino_t node,
               int datasync,
               struct fuse_file_info *fi)
{
    struct client *client = ops_begin(req);
    const struct handle *handle = handle_of(fi);
    int rc = file_fsync(handle->file);

    (void)node;
    (void)datasync;
    if (rc == 0) {
        rc = session_sync(client->session, inode_number(handle->inode),
                          inode_op_mark(handle->inode));
    }
    if (rc != 0) {
        log_failure(req, "fsync", handle, rc);
    }
    ops_reply_error(req, rc);
}

/* Pages that a program has mapped are written between its last close and here:
 * nobody is left to be told of an error. */
void ops_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct handle *handle = handle_of(fi);
    int rc = 0;

    (void)node;
    (void)ops_begin(req);
    if (is_writable(fi)) {
        rc = file_flush(handle->file);
    }
    if (rc != 0) {
        log_failure(req, "save after close", handle, rc);
    }
    ops_reply_error(req, 0);
    free_handle(handle);
}
