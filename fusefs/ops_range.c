/* Ranges of files: fallocate(2), lseek(2), copy_file_range(2). */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include "fusefs/ops.h"

/* metadata.proto's Allocate.how */
#define HOW_EXTEND      1u
#define HOW_PUNCH       2u
#define HOW_ZERO        3u
#define HOW_ZERO_EXTEND 4u

/* The reply has 32 bits for the length; whole pages of it. */
#define COPY_MAX UINT64_C(0xfffff000)

static struct handle *handle_of(const struct fuse_file_info *fi)
{
    return (struct handle *)(uintptr_t)fi->fh;
}

/* Space is given out when bytes come: to reserve some without extending the
 * file there is nothing to do. `*ret_how` is then 0.
 * Errors: -EOPNOTSUPP */
static int allocate_how(int mode, unsigned *ret_how)
{
    switch (mode) {
    case 0:
        *ret_how = HOW_EXTEND;
        return 0;
    case FALLOC_FL_KEEP_SIZE:
        *ret_how = 0;
        return 0;
    case FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE:
        *ret_how = HOW_PUNCH;
        return 0;
    case FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE:
        *ret_how = HOW_ZERO;
        return 0;
    case FALLOC_FL_ZERO_RANGE:
        *ret_how = HOW_ZERO_EXTEND;
        return 0;
    default:
        return -EOPNOTSUPP;
    }
}

void ops_fallocate(fuse_req_t req,
                   fuse_ino_t node,
                   int mode,
                   off_t offset,
                   off_t length,
                   struct fuse_file_info *fi)
{
    const struct handle *handle = handle_of(fi);
    unsigned how;
    int rc = allocate_how(mode, &how);

    (void)node;
    (void)ops_begin(req);
    if (rc == 0 && how != 0) {
        rc = ops_kill_priv(req, handle->inode, !ops_is_privileged(req));
    }
    if (rc == 0 && how != 0) {
        rc = file_allocate(handle->file, (uint64_t)offset, (uint64_t)length,
                           how);
    }
    ops_reply_error(req, rc);
}

void ops_lseek(fuse_req_t req,
               fuse_ino_t node,
               off_t offset,
               int whence,
               struct fuse_file_info *fi)
{
    const struct handle *handle = handle_of(fi);
    uint64_t found;
    int rc = -EINVAL;

    (void)node;
    (void)ops_begin(req);
    if (offset < 0) {
        rc = -ENXIO;
    } else if (whence == SEEK_DATA || whence == SEEK_HOLE) {
        rc = file_seek(handle->file, (uint64_t)offset, whence, &found);
    }
    if (rc != 0) {
        ops_reply_error(req, rc);
        return;
    }
    (void)fuse_reply_lseek(ops_end(req), (off_t)found);
}

/* The prototype is libfuse's. NOLINTNEXTLINE(readability-function-size) */
void ops_copy_file_range(fuse_req_t req,
                         fuse_ino_t node_in,
                         off_t offset_in,
                         struct fuse_file_info *fi_in,
                         fuse_ino_t node_out,
                         off_t offset_out,
                         struct fuse_file_info *fi_out,
                         size_t length,
                         int flags)
{
    const struct handle *in = handle_of(fi_in);
    const struct handle *out = handle_of(fi_out);
    uint64_t copied = 0;
    int rc = flags != 0 ? -EINVAL : 0;

    (void)node_in;
    (void)node_out;
    (void)ops_begin(req);
    if (rc == 0) {
        rc = ops_kill_priv(req, out->inode, !ops_is_privileged(req));
    }
    if (rc == 0) {
        rc = file_clone(in->file, (uint64_t)offset_in, out->file,
                        (uint64_t)offset_out,
                        length < COPY_MAX ? length : COPY_MAX, &copied);
    }
    if (rc != 0) {
        ops_reply_error(req, rc);
        return;
    }
    (void)fuse_reply_write(ops_end(req), copied);
}
