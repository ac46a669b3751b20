/* Bytes and attributes of files: setattr, commits of written objects,
 * fallocate(2), clones.
 *
 * Extents end at or before the file's size; whatever shortens a file trims
 * them, so that growing it again shows zeros. */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "storaged/meta/apply_internal.h"

/* SetAttr.valid */
#define VALID_MODE  1u
#define VALID_UID   2u
#define VALID_GID   4u
#define VALID_SIZE  8u
#define VALID_ATIME 16u
#define VALID_MTIME 32u
#define VALID_ALL   63u
/* What may come with a commit. */
#define VALID_WITH_BYTES (VALID_MODE | VALID_UID | VALID_GID | VALID_ATIME)

/* Allocate.how */
#define HOW_EXTEND      1u
#define HOW_PUNCH       2u
#define HOW_ZERO        3u
#define HOW_ZERO_EXTEND 4u

/* Largest file: offsets are signed 64-bit numbers. */
#define FILE_SIZE_MAX ((uint64_t)INT64_MAX)

/* The bytes of the file have changed. */
static void touch_data(const struct apply *apply, struct meta_inode *inode)
{
    inode->data_version++;
    inode->mtime_ns = apply->op->now_ns;
    inode->ctime_ns = apply->op->now_ns;
}

static int trim(struct apply *apply,
                struct meta_inode *inode,
                uint64_t from,
                uint64_t to)
{
    uint64_t bytes = 0;
    int rc = 0;

    if (inode->allocated > 0 && from < to) {
        rc = meta_extent_trim(apply->db, inode->ino, from, to, &bytes);
    }
    if (bytes > inode->allocated) {
        return -EBADMSG;
    }
    inode->allocated -= bytes;
    return rc;
}

static int insert(struct apply *apply,
                  struct meta_inode *inode,
                  const struct meta_extent *extent)
{
    inode->allocated += extent->length;
    return meta_extent_insert(apply->db, inode->ino, extent);
}

/* Write the inode and answer with it. */
static int finish(struct apply *apply, const struct meta_inode *inode)
{
    int rc = meta_inode_put(apply->db, inode);

    return rc != 0 ? rc : apply_add_attr(apply, inode);
}

/* Errors: -EISDIR, and `other` for what is no regular file */
static int check_regular(const struct meta_inode *inode, int other)
{
    if (S_ISREG(inode->mode)) {
        return 0;
    }
    return meta_inode_is_directory(inode) ? -EISDIR : other;
}

/* ---------------------------------------------------------------- setattr */

static int check_set_attr(const Gabion__SetAttr *op,
                          const struct meta_inode *inode)
{
    if ((op->valid & ~VALID_ALL) != 0) {
        return -EINVAL;
    }
    if ((op->valid & VALID_SIZE) == 0) {
        return 0;
    }
    if (op->size > FILE_SIZE_MAX) {
        return -EFBIG;
    }
    return check_regular(inode, -EINVAL);
}

static int set_size(struct apply *apply,
                    struct meta_inode *inode,
                    uint64_t size)
{
    int rc = 0;

    if (size < inode->size) {
        rc = trim(apply, inode, size, inode->size);
    }
    if (size != inode->size) {
        inode->data_version++;
    }
    inode->size = size;
    inode->mtime_ns = apply->op->now_ns;
    return rc;
}

static int set_mode(struct apply *apply,
                    struct meta_inode *inode,
                    uint32_t mode)
{
    inode->mode = (inode->mode & S_IFMT) | (mode & 07777u);
    return apply_chmod_acl(apply, inode);
}

/* Everything but the size. */
static int set_plain(struct apply *apply,
                     const Gabion__SetAttr *op,
                     struct meta_inode *inode)
{
    int rc = 0;

    if ((op->valid & VALID_MODE) != 0) {
        rc = set_mode(apply, inode, op->mode);
    }
    if ((op->valid & VALID_UID) != 0) {
        inode->uid = op->uid;
    }
    if ((op->valid & VALID_GID) != 0) {
        inode->gid = op->gid;
    }
    if ((op->valid & VALID_ATIME) != 0) {
        inode->atime_ns = op->atime_ns;
    }
    if ((op->valid & VALID_MTIME) != 0) {
        inode->mtime_ns = op->mtime_ns;
    }
    return rc;
}

int apply_set_attr(struct apply *apply, const Gabion__SetAttr *op)
{
    struct meta_inode inode;
    int rc = meta_inode_get(apply->db, op->ino, &inode);

    if (rc == 0) {
        rc = check_set_attr(op, &inode);
    }
    if (rc == 0 && (op->valid & VALID_SIZE) != 0) {
        rc = set_size(apply, &inode, op->size);
    }
    if (rc == 0) {
        rc = set_plain(apply, op, &inode);
    }
    if (rc != 0) {
        return rc;
    }
    if (op->valid != 0) {
        inode.ctime_ns = apply->op->now_ns;
    }
    return finish(apply, &inode);
}

/* ---------------------------------------------------------------- commit */

/* Whether the session that runs the op may commit an object of that number: it
 * is its own, or that of a session which has ended. Whoever is registered anew
 * still has objects that were made before. */
static bool is_owner_allowed(const struct apply *apply, uint64_t session)
{
    return session == apply->op->session ||
           (session > 0 && session < apply->db->counters.next_session &&
            meta_db_session(apply->db, session) == NULL);
}

static int check_objects(struct apply *apply, const Gabion__CommitWrites *op)
{
    for (size_t i = 0; i < op->n_object; i++) {
        const Gabion__ObjectInfo *info = op->object[i];
        struct object_id id;
        int rc;

        if (info->id.len != OBJECT_ID_SIZE || info->size == 0 ||
            info->size > OBJECT_SIZE_MAX) {
            return -EINVAL;
        }
        object_id_decode(info->id.data, &id);
        if (!is_owner_allowed(apply, id.session)) {
            return -EINVAL;
        }
        rc = meta_object_create(apply->db, info);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static bool is_extent_valid(const Gabion__CommitWrites *op,
                            const Gabion__Extent *extent)
{
    if (extent->length == 0 || extent->offset > FILE_SIZE_MAX ||
        extent->length > FILE_SIZE_MAX - extent->offset) {
        return false;
    }
    if (extent->object == 0) {
        return extent->data.len == extent->length &&
               extent->length <= META_INLINE_MAX;
    }
    return extent->object <= op->n_object && extent->data.len == 0 &&
           extent->length <= op->object[extent->object - 1]->size &&
           extent->object_offset <=
               op->object[extent->object - 1]->size - extent->length;
}

static int check_file(struct apply *apply,
                      const Gabion__CommitWrites *op,
                      const Gabion__FileWrite *file)
{
    struct meta_inode inode;
    uint64_t end = 0;
    int rc;

    if (file->end > FILE_SIZE_MAX) {
        return -EFBIG;
    }
    if (file->set != NULL && (file->set->valid & ~VALID_WITH_BYTES) != 0) {
        return -EINVAL;
    }
    for (size_t i = 0; i < file->n_extent; i++) {
        const Gabion__Extent *extent = file->extent[i];

        if (!is_extent_valid(op, extent) || extent->offset < end) {
            return -EINVAL;
        }
        end = extent->offset + extent->length;
    }
    rc = meta_inode_get(apply->db, file->ino, &inode);
    if (rc != 0) {
        return rc == -ENOENT ? 0 : rc; /* the file is gone: passed over */
    }
    return check_regular(&inode, -EINVAL);
}

/* End of the run of extents that touch each other, starting with `first`.
 * `*ret_next` is the index of the first one that is not of it. */
static uint64_t run_end(const Gabion__FileWrite *file,
                        size_t first,
                        size_t *ret_next)
{
    uint64_t end = file->extent[first]->offset + file->extent[first]->length;
    size_t i = first + 1;

    while (i < file->n_extent && file->extent[i]->offset == end) {
        end += file->extent[i]->length;
        i++;
    }
    *ret_next = i;
    return end;
}

static struct meta_extent to_meta_extent(const Gabion__CommitWrites *op,
                                         const Gabion__Extent *extent)
{
    struct meta_extent result = { .offset = extent->offset,
                                  .length = extent->length };

    if (extent->object == 0) {
        result.data = extent->data.data;
    } else {
        object_id_decode(op->object[extent->object - 1]->id.data,
                         &result.object);
        result.object_offset = extent->object_offset;
    }
    return result;
}

static int write_extents(struct apply *apply,
                         const Gabion__CommitWrites *op,
                         const Gabion__FileWrite *file,
                         struct meta_inode *inode)
{
    size_t next;
    uint64_t end = 0;

    for (size_t i = 0; i < file->n_extent; i = next) {
        uint64_t from = file->extent[i]->offset;
        int rc;

        end = run_end(file, i, &next);
        rc = trim(apply, inode, from, end < inode->size ? end : inode->size);
        for (size_t j = i; rc == 0 && j < next; j++) {
            struct meta_extent extent = to_meta_extent(op, file->extent[j]);

            rc = insert(apply, inode, &extent);
        }
        if (rc != 0) {
            return rc;
        }
    }
    end = file->end > end ? file->end : end;
    inode->size = end > inode->size ? end : inode->size;
    return 0;
}

static int commit_file(struct apply *apply,
                       const Gabion__CommitWrites *op,
                       const Gabion__FileWrite *file)
{
    struct meta_inode inode;
    int rc = meta_inode_get(apply->db, file->ino, &inode);

    if (rc == -ENOENT) {
        return apply_add_attr(apply, NULL);
    }
    if (rc == 0 && (file->n_extent > 0 || file->end > inode.size)) {
        rc = write_extents(apply, op, file, &inode);
        inode.data_version++;
    }
    if (rc == 0 && file->set != NULL) {
        rc = set_plain(apply, file->set, &inode);
    }
    if (rc != 0) {
        return rc;
    }
    if (file->mtime_ns != 0) {
        inode.mtime_ns = file->mtime_ns;
    }
    inode.ctime_ns = apply->op->now_ns;
    return finish(apply, &inode);
}

int apply_commit_writes(struct apply *apply, const Gabion__CommitWrites *op)
{
    int rc = check_objects(apply, op);

    for (size_t i = 0; rc == 0 && i < op->n_file; i++) {
        rc = check_file(apply, op, op->file[i]);
    }
    for (size_t i = 0; rc == 0 && i < op->n_file; i++) {
        rc = commit_file(apply, op, op->file[i]);
    }
    return rc;
}

/* ---------------------------------------------------------------- allocate */

static int check_allocate(const Gabion__Allocate *op,
                          const struct meta_inode *inode)
{
    if (op->how < HOW_EXTEND || op->how > HOW_ZERO_EXTEND || op->length == 0) {
        return -EINVAL;
    }
    if (op->offset > FILE_SIZE_MAX || op->length > FILE_SIZE_MAX - op->offset) {
        return -EFBIG;
    }
    return check_regular(inode, -ENODEV);
}

int apply_allocate(struct apply *apply, const Gabion__Allocate *op)
{
    uint64_t end = op->offset + op->length;
    struct meta_inode inode;
    int rc = meta_inode_get(apply->db, op->ino, &inode);

    if (rc == 0) {
        rc = check_allocate(op, &inode);
    }
    if (rc == 0 && op->how != HOW_EXTEND) {
        rc = trim(apply, &inode, op->offset, end);
    }
    if (rc != 0) {
        return rc;
    }
    if ((op->how == HOW_EXTEND || op->how == HOW_ZERO_EXTEND) &&
        end > inode.size) {
        inode.size = end;
    }
    touch_data(apply, &inode);
    return finish(apply, &inode);
}

/* ---------------------------------------------------------------- clone */

/* Put the collected extents of a range that began at `source_offset` into the
 * range of the same length at `offset`. */
static int put_clone(struct apply *apply,
                     const Gabion__Clone *op,
                     const struct meta_extent_list *list,
                     uint64_t length,
                     struct meta_inode *inode)
{
    uint64_t end = op->offset + length;
    int rc = trim(apply, inode, op->offset, end);

    for (size_t i = 0; rc == 0 && i < list->n; i++) {
        struct meta_extent extent = list->extents[i];

        extent.offset = extent.offset - op->source_offset + op->offset;
        rc = insert(apply, inode, &extent);
    }
    inode->size = end > inode->size ? end : inode->size;
    touch_data(apply, inode);
    return rc != 0 ? rc : meta_inode_put(apply->db, inode);
}

static int clone_range(struct apply *apply,
                       const Gabion__Clone *op,
                       uint64_t *length,
                       struct meta_inode *inode)
{
    struct meta_extent_list list = { 0 };
    uint64_t to;
    int rc = meta_extent_collect(apply->db, op->source, op->source_offset,
                                 op->source_offset + *length, &list, &to);

    if (rc == 0) {
        *length = to - op->source_offset;
        rc = put_clone(apply, op, &list, *length, inode);
    }
    meta_extent_list_close(&list);
    return rc;
}

/* Errors: -EISDIR, -EINVAL, -EFBIG. `*ret_length` is cut at the source's end.
 */
static int check_clone(const Gabion__Clone *op,
                       const struct meta_inode *source,
                       const struct meta_inode *inode,
                       uint64_t *ret_length)
{
    uint64_t length = op->length;
    int rc = check_regular(source, -EINVAL);

    if (rc == 0) {
        rc = check_regular(inode, -EINVAL);
    }
    if (rc != 0) {
        return rc;
    }
    if (op->source_offset >= source->size) {
        length = 0;
    } else if (length > source->size - op->source_offset) {
        length = source->size - op->source_offset;
    }
    if (op->offset > FILE_SIZE_MAX || length > FILE_SIZE_MAX - op->offset) {
        return -EFBIG;
    }
    if (op->source == op->ino && op->offset < op->source_offset + length &&
        op->source_offset < op->offset + length) {
        return -EINVAL;
    }
    *ret_length = length;
    return 0;
}

int apply_clone(struct apply *apply, const Gabion__Clone *op)
{
    struct meta_inode source;
    struct meta_inode inode;
    uint64_t length = 0;
    int rc = meta_inode_get(apply->db, op->source, &source);

    if (rc == 0) {
        rc = meta_inode_get(apply->db, op->ino, &inode);
    }
    if (rc == 0) {
        rc = check_clone(op, &source, &inode, &length);
    }
    if (rc == 0 && length > 0) {
        rc = clone_range(apply, op, &length, &inode);
    }
    if (rc != 0) {
        return rc;
    }
    apply->result->length = length;
    rc = apply_add_attr(apply, &inode);
    if (rc == 0) {
        rc = apply_add_attr(apply, op->source == op->ino ? &inode : &source);
    }
    return rc;
}
