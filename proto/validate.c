#include "proto/validate.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "common/ec.h"
#include "proto/validate_internal.h"

/* ------------------------------------------------------------------ pieces */

static bool is_inode_number(uint64_t ino)
{
    return ino > 0 && ino <= INT64_MAX;
}

/* Whether bytes offset..offset+length-1 lie below the largest file offset. */
static bool is_file_range(uint64_t offset, uint64_t length)
{
    return length > 0 && offset <= FILE_OFFSET_MAX &&
           length <= FILE_OFFSET_MAX - offset;
}

static bool is_owner(uint32_t id)
{
    return id != UINT32_MAX; /* chown(2): no change */
}

static bool is_file_type(uint32_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG:
    case S_IFDIR:
    case S_IFLNK:
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
    case S_IFSOCK:
        return (mode & ~(uint32_t)(S_IFMT | 07777)) == 0;
    default:
        return false;
    }
}

static bool has_nul(const ProtobufCBinaryData *bytes)
{
    return bytes->len > 0 && memchr(bytes->data, '\0', bytes->len) != NULL;
}

static bool equals(const ProtobufCBinaryData *bytes, const char *text)
{
    return bytes->len == strlen(text) &&
           memcmp(bytes->data, text, bytes->len) == 0;
}

int check(bool is_right, struct errmsg *msg, const char *what)
{
    if (is_right) {
        return 0;
    }
    errmsg_set(msg, "%s", what);
    return -EINVAL;
}

int validate_name(const ProtobufCBinaryData *name, struct errmsg *msg)
{
    if (name->len == 0 || name->len > NAME_LENGTH_MAX) {
        errmsg_set(msg, "a name of %zu bytes", name->len);
        return -EINVAL;
    }
    return check(!has_nul(name) && memchr(name->data, '/', name->len) == NULL &&
                     !equals(name, ".") && !equals(name, ".."),
                 msg, "a name that no entry can have");
}

int validate_object_id(const ProtobufCBinaryData *bytes,
                       struct object_id *ret_id,
                       struct errmsg *msg)
{
    if (bytes->len != OBJECT_ID_SIZE) {
        errmsg_set(msg, "an object id of %zu bytes", bytes->len);
        return -EINVAL;
    }
    object_id_decode(bytes->data, ret_id);
    return check(ret_id->session != 0 && ret_id->serial != 0, msg,
                 "an object id with a zero half");
}

int validate_block_key(const Gabion__BlockKey *key,
                       struct block_key *ret_key,
                       struct errmsg *msg)
{
    int rc;

    if (key == NULL) {
        return check(false, msg, "the block key is missing");
    }
    rc = validate_object_id(&key->object, &ret_key->object, msg);
    if (rc != 0) {
        return rc;
    }
    if (key->stripe >= STRIPES_MAX || key->index >= EC_BLOCKS_MAX) {
        errmsg_set(msg, "stripe %" PRIu32 ", block %" PRIu32 " out of range",
                   key->stripe, key->index);
        return -EINVAL;
    }
    ret_key->stripe = key->stripe;
    ret_key->index = key->index;
    return 0;
}

int validate_coding(uint32_t k, uint32_t m, uint32_t unit, struct errmsg *msg)
{
    if (k == 0 || k > EC_K_MAX || m > EC_M_MAX) {
        errmsg_set(msg, "code %" PRIu32 "+%" PRIu32 " out of range", k, m);
        return -EINVAL;
    }
    if (unit == 0 || unit > BLOCK_LENGTH_MAX || unit % BLOCK_UNIT_STEP != 0) {
        errmsg_set(msg, "unit of %" PRIu32 " bytes", unit);
        return -EINVAL;
    }
    return 0;
}

/* ------------------------------------------------------- objects, extents */

static int validate_object(const Gabion__ObjectInfo *object, struct errmsg *msg)
{
    struct object_id id;
    int rc = validate_object_id(&object->id, &id, msg);

    if (rc == 0) {
        rc = validate_coding(object->k, object->m, object->unit, msg);
    }
    if (rc != 0) {
        return rc;
    }
    if (object->size == 0 || object->size > OBJECT_SIZE_MAX) {
        errmsg_set(msg, "object of %" PRIu64 " bytes", object->size);
        return -EINVAL;
    }
    return check(object->missing >> (object->k + object->m) == 0, msg,
                 "missing blocks that the object never had");
}

static int validate_objects(Gabion__ObjectInfo *const *objects,
                            size_t n_objects,
                            struct errmsg *msg)
{
    int rc = 0;

    for (size_t i = 0; i < n_objects && rc == 0; i++) {
        rc = validate_object(objects[i], msg);
    }
    return rc;
}

static int validate_extent(const Gabion__Extent *extent,
                           Gabion__ObjectInfo *const *objects,
                           size_t n_objects,
                           struct errmsg *msg)
{
    const Gabion__ObjectInfo *object;

    if (!is_file_range(extent->offset, extent->length)) {
        return check(false, msg, "an extent outside of any file");
    }
    if (extent->object == 0) {
        return check(extent->data.len == extent->length &&
                         extent->length <= INLINE_LENGTH_MAX &&
                         extent->object_offset == 0,
                     msg, "an inline extent without exactly its bytes");
    }
    if (extent->object > n_objects) {
        return check(false, msg, "an extent of no object");
    }
    object = objects[extent->object - 1];
    return check(extent->data.len == 0 && extent->length <= object->size &&
                     extent->object_offset <= object->size - extent->length,
                 msg, "an extent outside of its object");
}

/* Valid each, ascending, not overlapping. */
static int validate_extents(Gabion__Extent *const *extents,
                            size_t n_extents,
                            Gabion__ObjectInfo *const *objects,
                            size_t n_objects,
                            struct errmsg *msg)
{
    uint64_t end = 0;

    for (size_t i = 0; i < n_extents; i++) {
        int rc = validate_extent(extents[i], objects, n_objects, msg);

        if (rc != 0) {
            return rc;
        }
        if (extents[i]->offset < end) {
            return check(false, msg, "extents that overlap or go back");
        }
        end = extents[i]->offset + extents[i]->length;
    }
    return 0;
}

static int validate_attr(const Gabion__Attr *attr, struct errmsg *msg)
{
    int rc = check(is_inode_number(attr->ino), msg, "an inode number of 0");

    if (rc == 0) {
        rc = check(is_file_type(attr->mode), msg, "an unknown type of file");
    }
    if (rc == 0) {
        rc = check(attr->size <= FILE_OFFSET_MAX &&
                       attr->allocated <= FILE_OFFSET_MAX,
                   msg, "an impossible file size");
    }
    if (rc == 0) {
        rc = check(attr->parent <= INT64_MAX, msg, "an impossible parent");
    }
    return rc;
}

int validate_layout_reply(const Gabion__GetLayoutReply *reply,
                          struct errmsg *msg)
{
    int rc;

    if (reply->error != 0) {
        return check(reply->error > 0 && reply->error <= ERRNO_MAX, msg,
                     "an error that is none");
    }
    if (reply->attr == NULL) {
        return check(false, msg, "a layout without attributes");
    }
    rc = validate_attr(reply->attr, msg);
    if (rc == 0) {
        rc = validate_objects(reply->object, reply->n_object, msg);
    }
    if (rc == 0) {
        rc = validate_extents(reply->extent, reply->n_extent, reply->object,
                              reply->n_object, msg);
    }
    if (rc == 0) {
        /* who asks for the rest would ask for ever */
        rc = check(reply->end || reply->n_extent > 0, msg,
                   "a layout that neither ends nor goes on");
    }
    return rc;
}

/* --------------------------------------------------------------------- ops */

static int validate_inode(uint64_t ino, struct errmsg *msg)
{
    return check(is_inode_number(ino), msg, "an inode number out of range");
}

/* An entry of a directory. */
static int validate_entry(uint64_t parent,
                          const ProtobufCBinaryData *name,
                          struct errmsg *msg)
{
    int rc = validate_inode(parent, msg);

    return rc != 0 ? rc : validate_name(name, msg);
}

static int validate_create(const Gabion__Create *op, struct errmsg *msg)
{
    bool is_link = S_ISLNK(op->mode);
    bool is_device = S_ISCHR(op->mode) || S_ISBLK(op->mode);
    int rc = validate_entry(op->parent, &op->name, msg);

    if (rc == 0) {
        rc = validate_inode(op->ino, msg);
    }
    if (rc == 0) {
        rc = check(is_file_type(op->mode) && op->umask <= 0777, msg,
                   "an unknown type of file or permission");
    }
    if (rc == 0) {
        rc = check(is_owner(op->uid) && is_owner(op->gid), msg,
                   "an owner that nobody can be");
    }
    if (rc == 0) {
        rc = check(is_device || op->rdev == 0, msg,
                   "a device number for what is no device");
    }
    if (rc == 0) {
        rc = check(is_link ? op->target.len > 0 &&
                                 op->target.len <= SYMLINK_LENGTH_MAX &&
                                 !has_nul(&op->target)
                           : op->target.len == 0,
                   msg, "a target that no symbolic link can have");
    }
    return rc;
}

static int validate_link(const Gabion__Link *op, struct errmsg *msg)
{
    int rc = validate_inode(op->ino, msg);

    return rc != 0 ? rc : validate_entry(op->parent, &op->name, msg);
}

static int validate_rename(const Gabion__Rename *op, struct errmsg *msg)
{
    int rc = validate_entry(op->parent, &op->name, msg);

    if (rc == 0) {
        rc = validate_entry(op->new_parent, &op->new_name, msg);
    }
    if (rc == 0) {
        rc = check(op->flags <= RENAME_FLAG_MAX, msg, "unknown rename flags");
    }
    return rc;
}

static int validate_set_attr(const Gabion__SetAttr *op, struct errmsg *msg)
{
    int rc = validate_inode(op->ino, msg);

    if (rc == 0) {
        rc = check((op->valid & ~SET_ATTR_ALL) == 0, msg,
                   "attributes that cannot be set");
    }
    if (rc == 0) {
        rc = check((op->valid & SET_ATTR_MODE) == 0 || op->mode <= 07777, msg,
                   "unknown permissions");
    }
    if (rc == 0) {
        rc = check(((op->valid & SET_ATTR_UID) == 0 || is_owner(op->uid)) &&
                       ((op->valid & SET_ATTR_GID) == 0 || is_owner(op->gid)),
                   msg, "an owner that nobody can be");
    }
    if (rc == 0) {
        rc = check((op->valid & SET_ATTR_SIZE) == 0 ||
                       op->size <= FILE_OFFSET_MAX,
                   msg, "an impossible file size");
    }
    return rc;
}

static int validate_xattr_name(uint64_t ino,
                               const ProtobufCBinaryData *name,
                               struct errmsg *msg)
{
    int rc = validate_inode(ino, msg);

    if (rc == 0) {
        rc = check(name->len > 0 && name->len <= NAME_LENGTH_MAX &&
                       !has_nul(name),
                   msg, "a name that no extended attribute can have");
    }
    return rc;
}

static int validate_set_xattr(const Gabion__SetXattr *op, struct errmsg *msg)
{
    int rc = validate_xattr_name(op->ino, &op->name, msg);

    if (rc == 0) {
        rc = check(op->value.len <= XATTR_VALUE_MAX &&
                       op->flags <= XATTR_FLAG_MAX,
                   msg, "an extended attribute out of range");
    }
    return rc;
}

static int validate_file_set(const Gabion__FileWrite *file, struct errmsg *msg)
{
    int rc =
        check(file->set->ino == file->ino, msg, "attributes of another file");

    if (rc == 0) {
        rc = check((file->set->valid & (SET_ATTR_SIZE | SET_ATTR_MTIME)) == 0,
                   msg, "attributes that come with the bytes");
    }
    return rc != 0 ? rc : validate_set_attr(file->set, msg);
}

static int validate_commit(const Gabion__CommitWrites *op, struct errmsg *msg)
{
    int rc = validate_objects(op->object, op->n_object, msg);

    for (size_t i = 0; i < op->n_file && rc == 0; i++) {
        const Gabion__FileWrite *file = op->file[i];

        rc = validate_inode(file->ino, msg);
        if (rc == 0) {
            rc = check(file->end <= FILE_OFFSET_MAX, msg,
                       "an impossible file size");
        }
        if (rc == 0) {
            rc = validate_extents(file->extent, file->n_extent, op->object,
                                  op->n_object, msg);
        }
        if (rc == 0 && file->set != NULL) {
            rc = validate_file_set(file, msg);
        }
    }
    return rc;
}

static int validate_allocate(const Gabion__Allocate *op, struct errmsg *msg)
{
    int rc = validate_inode(op->ino, msg);

    if (rc == 0) {
        rc = check(is_file_range(op->offset, op->length), msg,
                   "a range outside of any file");
    }
    if (rc == 0) {
        rc = check(op->how >= 1 && op->how <= ALLOCATE_HOW_MAX, msg,
                   "an unknown way to allocate");
    }
    return rc;
}

static int validate_clone(const Gabion__Clone *op, struct errmsg *msg)
{
    int rc = validate_inode(op->source, msg);

    if (rc == 0) {
        rc = validate_inode(op->ino, msg);
    }
    if (rc == 0) {
        rc = check(is_file_range(op->source_offset, op->length) &&
                       is_file_range(op->offset, op->length),
                   msg, "a range outside of any file");
    }
    return rc;
}

/* The host's name goes to logs: it must not be able to forge a line. */
static int validate_open_session(const Gabion__OpenSession *op,
                                 struct errmsg *msg)
{
    const char *host = op->host != NULL ? op->host : "";
    size_t length = strnlen(host, NAME_LENGTH_MAX + 1);
    bool is_plain = length <= NAME_LENGTH_MAX;

    for (size_t i = 0; i < length && is_plain; i++) {
        is_plain = isgraph((unsigned char)host[i]) && host[i] != '"';
    }
    return check(is_plain, msg, "a host name of strange characters");
}

static int validate_reap(const Gabion__ReapOrphans *op, struct errmsg *msg)
{
    int rc = 0;

    for (size_t i = 0; i < op->n_ino && rc == 0; i++) {
        rc = validate_inode(op->ino[i], msg);
    }
    return rc;
}

static int validate_forget(const Gabion__ForgetObjects *op, struct errmsg *msg)
{
    struct object_id id;
    int rc = 0;

    for (size_t i = 0; i < op->n_id && rc == 0; i++) {
        rc = validate_object_id(&op->id[i], &id, msg);
    }
    return rc;
}

static int validate_body(const Gabion__Op *op, struct errmsg *msg)
{
    switch (op->body_case) {
    case GABION__OP__BODY_CREATE:
        return validate_create(op->create, msg);
    case GABION__OP__BODY_LINK:
        return validate_link(op->link, msg);
    case GABION__OP__BODY_UNLINK:
        return validate_entry(op->unlink->parent, &op->unlink->name, msg);
    case GABION__OP__BODY_RENAME:
        return validate_rename(op->rename, msg);
    case GABION__OP__BODY_SET_ATTR:
        return validate_set_attr(op->set_attr, msg);
    case GABION__OP__BODY_SET_XATTR:
        return validate_set_xattr(op->set_xattr, msg);
    case GABION__OP__BODY_REMOVE_XATTR:
        return validate_xattr_name(op->remove_xattr->ino,
                                   &op->remove_xattr->name, msg);
    case GABION__OP__BODY_COMMIT_WRITES:
        return validate_commit(op->commit_writes, msg);
    case GABION__OP__BODY_ALLOCATE:
        return validate_allocate(op->allocate, msg);
    case GABION__OP__BODY_CLONE:
        return validate_clone(op->clone, msg);
    case GABION__OP__BODY_OPEN_SESSION:
        return validate_open_session(op->open_session, msg);
    case GABION__OP__BODY_CLOSE_SESSION:
        return 0;
    case GABION__OP__BODY_RESERVE_INODES:
        return check(op->reserve_inodes->count >= 1 &&
                         op->reserve_inodes->count <= RESERVE_INODES_MAX,
                     msg, "a number of inodes out of range");
    case GABION__OP__BODY_REAP_ORPHANS:
        return validate_reap(op->reap_orphans, msg);
    case GABION__OP__BODY_FORGET_OBJECTS:
        return validate_forget(op->forget_objects, msg);
    default:
        return check(false, msg, "an op of an unknown kind");
    }
}

int validate_op(const Gabion__Op *op, struct errmsg *msg)
{
    /* Whoever opens a session has none yet, and the shard needs no sequence
     * for its own ops. */
    bool is_numbered =
        op->session != 0 && op->body_case != GABION__OP__BODY_OPEN_SESSION;

    if (is_numbered && (op->sequence == 0 || op->acked >= op->sequence)) {
        errmsg_set(msg, "op %" PRIu64 " acknowledges %" PRIu64, op->sequence,
                   op->acked);
        return -EINVAL;
    }
    /* All members of the union are pointers. */
    if (op->body_case != GABION__OP__BODY__NOT_SET && op->create == NULL) {
        return check(false, msg, "an op without a body");
    }
    return validate_body(op, msg);
}

int validate_submit(const Gabion__SubmitRequest *request, struct errmsg *msg)
{
    for (size_t i = 0; i < request->n_op; i++) {
        int rc = validate_op(request->op[i], msg);

        if (rc != 0) {
            return rc;
        }
        if (i > 0 &&
            (request->op[i]->session != request->op[0]->session ||
             request->op[i]->sequence <= request->op[i - 1]->sequence)) {
            return check(false, msg,
                         "ops that are not of one session in ascending order");
        }
    }
    return 0;
}
