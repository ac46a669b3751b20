/* What the parts of apply share.
 *
 * A handler (apply_create(), ...) answers 0 or a negative errno, which becomes
 * the op's result, except for those that mean that the database has failed:
 * see apply_is_fatal(). A handler looks first and changes afterwards: when it
 * answers a logical failure it must not have changed anything. The dispatcher
 * asserts that. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "proto/metadata.pb-c.h"
#include "storaged/meta/apply.h"
#include "storaged/meta/meta_db_internal.h"
#include "storaged/meta/meta_dentry.h"
#include "storaged/meta/meta_extent.h"
#include "storaged/meta/meta_inode.h"

/* An op being applied. */
struct apply {
    struct meta_db *db;       /* borrowed */
    const Gabion__Op *op;     /* borrowed */
    Gabion__OpResult *result; /* borrowed: being filled */
    size_t attr_capacity;     /* of result->attr */
};

/* Whether an errno is SQLite's or malloc's and stops the replica. */
bool apply_is_fatal(int rc);

/* Append the inode's attributes to the result; NULL: an attribute message with
 * ino 0, for an inode that is gone. Errors: -ENOMEM */
MUST_CHECK int apply_add_attr(struct apply *apply,
                              const struct meta_inode *inode);

/* The live directory `ino`, to be changed. Errors: -ENOENT, -ENOTDIR */
MUST_CHECK int apply_get_directory(struct apply *apply,
                                   uint64_t ino,
                                   struct meta_inode *ret_inode);

/* Write an inode whose nlink has fallen to 0: free it, or make it an orphan
 * while some session may have it open. */
MUST_CHECK int apply_release(struct apply *apply, struct meta_inode *inode);

/* Free an inode with nlink 0 and all it has, as far as `*budget` extents go.
 * `*ret_done` is false when more is left: the inode lives on then. */
MUST_CHECK int apply_free_inode(struct apply *apply,
                                struct meta_inode *inode,
                                uint64_t *budget,
                                bool *ret_done);

/* Give a new inode the ACLs its parent prescribes: sets the permissions of
 * `inode->mode` and `inode->n_xattrs`. apply_write_acl() stores the ACLs once
 * the inode is there. */
struct apply_acl {
    uint8_t *bytes;     /* owned: default ACL of the parent, or NULL */
    uint8_t *access;    /* owned: access ACL of the new inode, or NULL */
    size_t size;        /* of each */
    bool store_default; /* the new inode is a directory */
};
MUST_CHECK int apply_inherit_acl(struct apply *apply,
                                 const struct meta_inode *parent,
                                 uint32_t umask,
                                 struct meta_inode *inode,
                                 struct apply_acl *ret_acl);
MUST_CHECK int apply_write_acl(struct apply *apply,
                               uint64_t ino,
                               const struct apply_acl *acl);
void apply_acl_close(struct apply_acl *acl);

/* Bring the access ACL of an inode, if any, to its new mode. */
MUST_CHECK int apply_chmod_acl(struct apply *apply,
                               const struct meta_inode *inode);

/* Handlers (apply_namespace.c). */
MUST_CHECK int apply_create(struct apply *apply, const Gabion__Create *op);
MUST_CHECK int apply_link(struct apply *apply, const Gabion__Link *op);
MUST_CHECK int apply_unlink(struct apply *apply, const Gabion__Unlink *op);
MUST_CHECK int apply_rename(struct apply *apply, const Gabion__Rename *op);

/* Handlers (apply_file.c). */
MUST_CHECK int apply_set_attr(struct apply *apply, const Gabion__SetAttr *op);
MUST_CHECK int apply_commit_writes(struct apply *apply,
                                   const Gabion__CommitWrites *op);
MUST_CHECK int apply_allocate(struct apply *apply, const Gabion__Allocate *op);
MUST_CHECK int apply_clone(struct apply *apply, const Gabion__Clone *op);

/* Handlers (apply_xattr.c). */
MUST_CHECK int apply_set_xattr(struct apply *apply, const Gabion__SetXattr *op);
MUST_CHECK int apply_remove_xattr(struct apply *apply,
                                  const Gabion__RemoveXattr *op);

/* Handlers (apply_session.c). */
MUST_CHECK int apply_open_session(struct apply *apply,
                                  const Gabion__OpenSession *op);
MUST_CHECK int apply_close_session(struct apply *apply);
MUST_CHECK int apply_reserve_inodes(struct apply *apply,
                                    const Gabion__ReserveInodes *op);
MUST_CHECK int apply_reap_orphans(struct apply *apply,
                                  const Gabion__ReapOrphans *op);
MUST_CHECK int apply_forget_objects(struct apply *apply,
                                    const Gabion__ForgetObjects *op);
