/* The operations of libfuse's low-level API, and what they share.
 *
 * A worker thread serves one request from decoding to its single reply. It
 * begins with ops_begin() and passes the request to its reply through
 * ops_end(). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <fuse_lowlevel.h>

#include "common/log.h"
#include "fusefs/channel.h"
#include "fusefs/client.h"

/* The user data of the FUSE session. */
struct ops_context {
    struct client *client;        /* borrowed */
    struct fuse_session *session; /* borrowed: for notifications */
    struct channel channel;
    struct log_limit io_errors; /* failed reads and writes are logged here */
};

/* An open regular file: fuse_file_info.fh. */
struct handle {
    struct inode *inode; /* pinned by inode_open() */
    struct file *file;   /* borrowed from inode */
};

/* All operations. */
extern const struct fuse_lowlevel_ops ops_table;

/* Whether the request that this thread serves has been given up. */
bool ops_is_interrupted(void);

/* ------------------------------------------------------- for the ops only */

struct client *ops_begin(fuse_req_t req);
fuse_req_t ops_end(fuse_req_t req);
struct ops_context *ops_context(fuse_req_t req);

/* Reply with 0 or a negative errno of ours, as programs expect it. */
void ops_reply_error(fuse_req_t req, int rc);

/* The inode number of a FUSE node id, and back: the root of the mount is always
 * node 1. */
uint64_t ops_ino(const struct client *client, fuse_ino_t node);
fuse_ino_t ops_node(const struct client *client, uint64_t ino);

/* Errors: -ENAMETOOLONG */
MUST_CHECK int ops_check_name(const char *name);

/* What is known of an inode for one reply. */
struct ops_attr {
    Gabion__Attr attr;
    int64_t fresh_ms; /* how long the kernel may keep it */
};

/* What attributes say about the bytes. */
void ops_file_attr(const Gabion__Attr *attr, struct file_attr *ret_attr);

/* Take in an answer of the shard, asked for at `asked`, of the inode. */
void ops_learn(struct client *client,
               struct inode *inode,
               inode_stamp asked,
               const Gabion__Attr *attr,
               struct ops_attr *ret_attr);

/* The inode's attributes, from the table when fresh unless `ask`, else from the
 * shard. */
MUST_CHECK int ops_get_attr(struct client *client,
                            struct inode *inode,
                            bool ask,
                            struct ops_attr *ret_attr);

/* The attributes with what is pending here on top. */
void ops_fill_stat(struct inode *inode,
                   const Gabion__Attr *attr,
                   struct stat *ret_stat);
void ops_fill_entry(const struct client *client,
                    struct inode *inode,
                    const struct ops_attr *attr,
                    struct fuse_entry_param *ret_entry);

/* Tell the kernel of the inode; it is forgotten again if the kernel does not
 * listen any more. */
void ops_reply_entry(fuse_req_t req,
                     struct inode *inode,
                     const struct ops_attr *attr);

/* Create an inode and its name as `body` says, whose `ino`, `umask`, `uid`,
 * `gid` and `exclusive` are filled in here. On success the caller has a
 * reference to `*ret_inode`. */
MUST_CHECK int ops_create(fuse_req_t req,
                          Gabion__Create *body,
                          const char *name,
                          struct inode **ret_inode,
                          struct ops_attr *ret_attr);

/* Bring to the shard what file_hold() has kept of the inode: due before an op
 * that changes it or gives it names. */
MUST_CHECK int ops_settle(struct inode *inode);

/* Submit an op that changes the one inode, and take in what it is now. */
MUST_CHECK int ops_change(struct client *client,
                          struct inode *inode,
                          Gabion__Op *op,
                          struct ops_attr *ret_attr);

/* Whether the caller may keep set-user-ID and set-group-ID where others may
 * not: the superuser, as far as a FUSE server can tell (CAP_FSETID). */
bool ops_is_privileged(fuse_req_t req);

/* Whether the caller is a member of the group. */
bool ops_is_in_group(fuse_req_t req, gid_t gid);

/* The bytes of the inode are about to be changed, or its owner: clear what must
 * not survive that. `suidgid`: set-user-ID and set-group-ID, too; the latter
 * stays without execution by the group, for members of it (Linux's
 * setattr_should_drop_sgid()). */
MUST_CHECK int ops_kill_priv(fuse_req_t req, struct inode *inode, bool suidgid);

/* Clear these bits of the inode's mode. */
MUST_CHECK int ops_clear_mode(struct client *client,
                              struct inode *inode,
                              uint32_t bits);

/* ops_attr.c */
void ops_getattr(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void ops_setattr(fuse_req_t req,
                 fuse_ino_t node,
                 struct stat *stat,
                 int to_set,
                 struct fuse_file_info *fi);

/* ops_name.c */
void ops_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void ops_mknod(fuse_req_t req,
               fuse_ino_t parent,
               const char *name,
               mode_t mode,
               dev_t rdev);
void ops_mkdir(fuse_req_t req,
               fuse_ino_t parent,
               const char *name,
               mode_t mode);
void ops_symlink(fuse_req_t req,
                 const char *target,
                 fuse_ino_t parent,
                 const char *name);
void ops_readlink(fuse_req_t req, fuse_ino_t node);
void ops_link(fuse_req_t req,
              fuse_ino_t node,
              fuse_ino_t new_parent,
              const char *new_name);
void ops_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void ops_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);

/* ops_rename.c */
void ops_rename(fuse_req_t req,
                fuse_ino_t parent,
                const char *name,
                fuse_ino_t new_parent,
                const char *new_name,
                unsigned flags);

/* ops_file.c */
void ops_create_file(fuse_req_t req,
                     fuse_ino_t parent,
                     const char *name,
                     mode_t mode,
                     struct fuse_file_info *fi);
void ops_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void ops_read(fuse_req_t req,
              fuse_ino_t node,
              size_t size,
              off_t offset,
              struct fuse_file_info *fi);
void ops_write(fuse_req_t req,
               fuse_ino_t node,
               const char *data,
               size_t size,
               off_t offset,
               struct fuse_file_info *fi);
void ops_flush(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void ops_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void ops_fsync(fuse_req_t req,
               fuse_ino_t node,
               int datasync,
               struct fuse_file_info *fi);

/* ops_range.c */
void ops_fallocate(fuse_req_t req,
                   fuse_ino_t node,
                   int mode,
                   off_t offset,
                   off_t length,
                   struct fuse_file_info *fi);
void ops_lseek(fuse_req_t req,
               fuse_ino_t node,
               off_t offset,
               int whence,
               struct fuse_file_info *fi);
void ops_copy_file_range(fuse_req_t req,
                         fuse_ino_t node_in,
                         off_t offset_in,
                         struct fuse_file_info *fi_in,
                         fuse_ino_t node_out,
                         off_t offset_out,
                         struct fuse_file_info *fi_out,
                         size_t length,
                         int flags);

/* ops_dir.c */
void ops_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void ops_readdir(fuse_req_t req,
                 fuse_ino_t node,
                 size_t size,
                 off_t offset,
                 struct fuse_file_info *fi);
void ops_readdirplus(fuse_req_t req,
                     fuse_ino_t node,
                     size_t size,
                     off_t offset,
                     struct fuse_file_info *fi);
void ops_releasedir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void ops_fsyncdir(fuse_req_t req,
                  fuse_ino_t node,
                  int datasync,
                  struct fuse_file_info *fi);

/* ops_xattr.c */
void ops_setxattr(fuse_req_t req,
                  fuse_ino_t node,
                  const char *name,
                  const char *value,
                  size_t size,
                  int flags);
void ops_getxattr(fuse_req_t req,
                  fuse_ino_t node,
                  const char *name,
                  size_t size);
void ops_listxattr(fuse_req_t req, fuse_ino_t node, size_t size);
void ops_removexattr(fuse_req_t req, fuse_ino_t node, const char *name);
