#include "tests/unit/meta_model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <check.h>

#include "common/object_id.h"
#include "storaged/meta/apply.h"

struct model *model_new(int64_t now_ns)
{
    struct model *model = calloc(1, sizeof *model);
    struct model_inode *root;

    ck_assert_ptr_nonnull(model);
    root = &model->inodes[META_ROOT_INO];
    gabion__attr__init(&root->attr);
    root->attr.ino = META_ROOT_INO;
    root->attr.mode = S_IFDIR | 0755;
    root->attr.nlink = 2;
    root->attr.parent = META_ROOT_INO;
    root->attr.atime_ns = root->attr.mtime_ns = root->attr.ctime_ns = now_ns;
    root->attr.data_version = 1;
    model->next_sequence = 2;
    model->next_session = 1;
    return model;
}

void model_free(struct model *model)
{
    for (size_t i = 0; i < MODEL_INODES_MAX; i++) {
        free(model->inodes[i].bytes);
    }
    free(model);
}

struct model_inode *model_inode(struct model *model, uint64_t ino)
{
    return ino > 0 && ino < MODEL_INODES_MAX && model->inodes[ino].attr.ino != 0
               ? &model->inodes[ino]
               : NULL;
}

uint8_t model_object_byte(uint64_t session, uint64_t serial, uint64_t offset)
{
    return (uint8_t)((session * 31 + serial) * 131 + offset * 7 + offset / 256);
}

void model_live(const struct model *model, uint64_t ret_live[MODEL_OBJECTS_MAX])
{
    memset(ret_live, 0, MODEL_OBJECTS_MAX * sizeof ret_live[0]);
    for (size_t i = 0; i < MODEL_INODES_MAX; i++) {
        const struct model_inode *inode = &model->inodes[i];

        for (size_t j = 0; inode->bytes != NULL && j < MODEL_FILE_MAX; j++) {
            if (inode->bytes[j].object != 0) {
                ret_live[inode->bytes[j].object - 1]++;
            }
        }
    }
}

/* ---------------------------------------------------------------- helpers */

static int refuse(struct model_result *result, int error)
{
    *result = (struct model_result){ .error = error };
    return error;
}

static void answer(struct model_result *result, const struct model_inode *inode)
{
    result->attr[result->n_attr++] = inode->attr;
}

static struct model_entry *find(struct model_inode *directory,
                                const ProtobufCBinaryData *name)
{
    for (size_t i = 0; i < directory->n_entries; i++) {
        if (strlen(directory->entries[i].name) == name->len &&
            memcmp(directory->entries[i].name, name->data, name->len) == 0) {
            return &directory->entries[i];
        }
    }
    return NULL;
}

/* An inode that is there. */
static struct model_inode *inode_of(struct model *model, uint64_t ino)
{
    ck_assert_ptr_nonnull(model_inode(model, ino));
    return &model->inodes[ino];
}

static bool is_directory(const struct model_inode *inode)
{
    return S_ISDIR(inode->attr.mode);
}

/* The directory to be changed, or NULL with the error in the result. */
static struct model_inode *directory_of(struct model *model,
                                        uint64_t ino,
                                        struct model_result *result)
{
    struct model_inode *inode = model_inode(model, ino);

    if (inode == NULL) {
        (void)refuse(result, ENOENT);
        return NULL;
    }
    if (!is_directory(inode)) {
        (void)refuse(result, ENOTDIR);
        return NULL;
    }
    if (inode->attr.nlink == 0) {
        (void)refuse(result, ENOENT);
        return NULL;
    }
    return inode;
}

/* A directory's counts follow from its entries. */
static void recount(struct model *model,
                    struct model_inode *directory,
                    int64_t now_ns)
{
    directory->attr.size = directory->n_entries;
    directory->attr.nlink = 2;
    for (size_t i = 0; i < directory->n_entries; i++) {
        struct model_inode *child = inode_of(model, directory->entries[i].ino);

        if (is_directory(child)) {
            directory->attr.nlink++;
            child->attr.parent = directory->attr.ino;
        }
    }
    directory->attr.mtime_ns = directory->attr.ctime_ns = now_ns;
}

static void enter(struct model_inode *directory,
                  const ProtobufCBinaryData *name,
                  uint64_t ino)
{
    struct model_entry *entry = &directory->entries[directory->n_entries++];

    ck_assert_uint_le(directory->n_entries, MODEL_ENTRIES_MAX);
    memset(entry, 0, sizeof *entry);
    memcpy(entry->name, name->data, name->len);
    entry->ino = ino;
}

static void leave(struct model_inode *directory, struct model_entry *entry)
{
    ck_assert_ptr_nonnull(entry);
    *entry = directory->entries[--directory->n_entries];
}

static void wipe(struct model_inode *inode)
{
    free(inode->bytes);
    memset(inode, 0, sizeof *inode);
}

/* An inode may have lost its last name. */
static void settle(struct model *model,
                   const Gabion__Op *op,
                   struct model_inode *inode)
{
    if (inode->attr.nlink > 0) {
        return;
    }
    if (!op->held_open && model->n_sessions == 1) {
        wipe(inode);
        return;
    }
    inode->orphan = true;
    model->orphans[model->n_orphans++] = inode->attr.ino;
}

static void drop(struct model_inode *inode, int64_t now_ns)
{
    if (is_directory(inode)) {
        inode->attr.nlink = 0;
        inode->attr.parent = 0;
    } else {
        inode->attr.nlink--;
    }
    inode->attr.ctime_ns = now_ns;
}

/* ---------------------------------------------------------------- names */

static void create(struct model *model,
                   const Gabion__Op *op,
                   struct model_result *result)
{
    const Gabion__Create *body = op->create;
    struct model_inode *parent = directory_of(model, body->parent, result);
    struct model_entry *entry;
    struct model_inode *inode;

    if (parent == NULL) {
        return;
    }
    entry = find(parent, &body->name);
    if (entry != NULL) {
        inode = inode_of(model, entry->ino);
        if (body->exclusive || !S_ISREG(body->mode) ||
            !S_ISREG(inode->attr.mode)) {
            (void)refuse(result, EEXIST);
            return;
        }
        result->existed = true;
        answer(result, inode);
        answer(result, parent);
        return;
    }
    if (body->ino == 0 || body->ino >= model->next_sequence) {
        (void)refuse(result, EINVAL);
        return;
    }
    if (model_inode(model, body->ino) != NULL) {
        (void)refuse(result, EEXIST);
        return;
    }
    inode = &model->inodes[body->ino];
    gabion__attr__init(&inode->attr);
    inode->attr.ino = body->ino;
    inode->attr.mode = body->mode & ~body->umask;
    inode->attr.nlink = S_ISDIR(body->mode) ? 2 : 1;
    inode->attr.uid = body->uid;
    inode->attr.gid = body->gid;
    inode->attr.data_version = 1;
    inode->attr.atime_ns = inode->attr.mtime_ns = inode->attr.ctime_ns =
        op->now_ns;
    if (S_ISLNK(body->mode)) {
        inode->attr.mode = S_IFLNK | 0777;
        inode->attr.size = body->target.len;
        memcpy(inode->target, body->target.data, body->target.len);
    }
    if (S_ISREG(body->mode)) {
        inode->bytes = calloc(MODEL_FILE_MAX, sizeof *inode->bytes);
    }
    if ((parent->attr.mode & S_ISGID) != 0) {
        inode->attr.gid = parent->attr.gid;
        inode->attr.mode |= S_ISDIR(body->mode) ? (uint32_t)S_ISGID : 0;
    }
    enter(parent, &body->name, body->ino);
    recount(model, parent, op->now_ns);
    answer(result, inode);
    answer(result, parent);
}

static void make_link(struct model *model,
                      const Gabion__Op *op,
                      struct model_result *result)
{
    const Gabion__Link *body = op->link;
    struct model_inode *parent = directory_of(model, body->parent, result);
    struct model_inode *inode = model_inode(model, body->ino);

    if (parent == NULL) {
        return;
    }
    if (inode == NULL) {
        (void)refuse(result, ENOENT);
    } else if (find(parent, &body->name) != NULL) {
        (void)refuse(result, EEXIST);
    } else if (is_directory(inode)) {
        (void)refuse(result, EPERM);
    } else if (inode->attr.nlink == 0) {
        (void)refuse(result, ENOENT);
    } else {
        inode->attr.nlink++;
        inode->attr.ctime_ns = op->now_ns;
        enter(parent, &body->name, body->ino);
        recount(model, parent, op->now_ns);
        answer(result, inode);
        answer(result, parent);
    }
}

static void make_unlink(struct model *model,
                        const Gabion__Op *op,
                        struct model_result *result)
{
    const Gabion__Unlink *body = op->unlink;
    struct model_inode *parent = directory_of(model, body->parent, result);
    struct model_entry *entry;
    struct model_inode *inode;

    if (parent == NULL) {
        return;
    }
    entry = find(parent, &body->name);
    if (entry == NULL) {
        (void)refuse(result, ENOENT);
        return;
    }
    inode = inode_of(model, entry->ino);
    if (is_directory(inode) != (body->directory != 0)) {
        (void)refuse(result, body->directory ? ENOTDIR : EISDIR);
        return;
    }
    if (is_directory(inode) && inode->n_entries > 0) {
        (void)refuse(result, ENOTEMPTY);
        return;
    }
    leave(parent, entry);
    recount(model, parent, op->now_ns);
    drop(inode, op->now_ns);
    answer(result, inode);
    answer(result, parent);
    settle(model, op, inode);
}

/* Whether `below` is `above` or lies below it. */
static bool is_within(struct model *model,
                      const struct model_inode *below,
                      uint64_t above)
{
    while (below->attr.ino != above && below->attr.ino != META_ROOT_INO) {
        below = inode_of(model, below->attr.parent);
    }
    return below->attr.ino == above;
}

static int check_rename(struct model *model,
                        const Gabion__Rename *body,
                        struct model_entry *from,
                        struct model_entry *to)
{
    struct model_inode *parent = inode_of(model, body->parent);
    struct model_inode *new_parent = inode_of(model, body->new_parent);
    struct model_inode *moved;
    struct model_inode *victim;

    if (from == NULL) {
        return ENOENT;
    }
    if (to != NULL && body->flags == 1) {
        return EEXIST;
    }
    if (to == NULL && body->flags == 2) {
        return ENOENT;
    }
    moved = inode_of(model, from->ino);
    if (is_directory(moved) && is_within(model, new_parent, from->ino)) {
        return EINVAL;
    }
    if (to == NULL || to->ino == from->ino) {
        return 0;
    }
    victim = inode_of(model, to->ino);
    if (body->flags == 2) {
        return is_directory(victim) && is_within(model, parent, to->ino)
                   ? EINVAL
                   : 0;
    }
    if (is_directory(moved) && !is_directory(victim)) {
        return ENOTDIR;
    }
    if (!is_directory(moved) && is_directory(victim)) {
        return EISDIR;
    }
    return victim->n_entries > 0 ? ENOTEMPTY : 0;
}

static void make_rename(struct model *model,
                        const Gabion__Op *op,
                        struct model_result *result)
{
    const Gabion__Rename *body = op->rename;
    struct model_inode *parent;
    struct model_inode *new_parent;
    struct model_inode *moved;
    struct model_inode *other = NULL;
    struct model_entry *from;
    struct model_entry *to;
    int error;

    if (body->flags > 2) {
        (void)refuse(result, EINVAL);
        return;
    }
    parent = directory_of(model, body->parent, result);
    new_parent =
        parent != NULL ? directory_of(model, body->new_parent, result) : NULL;
    if (parent == NULL || new_parent == NULL) {
        return;
    }
    from = find(parent, &body->name);
    to = find(new_parent, &body->new_name);
    error = check_rename(model, body, from, to);
    if (error != 0) {
        (void)refuse(result, error);
        return;
    }
    moved = inode_of(model, from->ino);
    if (to != NULL && to->ino != from->ino) {
        other = inode_of(model, to->ino);
        other->attr.ctime_ns = op->now_ns;
    }
    if (to == NULL || other != NULL) {
        moved->attr.ctime_ns = op->now_ns;
        if (body->flags == 2) {
            ck_assert_ptr_nonnull(to);
            ck_assert_ptr_nonnull(other);
            to->ino = moved->attr.ino;
            from->ino = other->attr.ino;
        } else {
            uint64_t ino = from->ino;

            if (other != NULL) {
                drop(other, op->now_ns);
                to->ino = ino;
            } else {
                enter(new_parent, &body->new_name, ino);
            }
            leave(parent, find(parent, &body->name));
        }
        recount(model, parent, op->now_ns);
        recount(model, new_parent, op->now_ns);
    }
    answer(result, moved);
    answer(result, parent);
    answer(result, new_parent);
    if (other != NULL) {
        answer(result, other);
        settle(model, op, other);
    }
}

/* ---------------------------------------------------------------- bytes */

/* What the bytes say about the inode. */
static void recount_bytes(struct model_inode *inode)
{
    inode->attr.allocated = 0;
    for (size_t i = 0; i < MODEL_FILE_MAX; i++) {
        inode->attr.allocated += inode->bytes[i].covered;
    }
}

static void clear_bytes(struct model_inode *inode, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i < to && i < MODEL_FILE_MAX; i++) {
        inode->bytes[i] = (struct model_byte){ 0 };
    }
    recount_bytes(inode);
}

static int regular_error(const struct model_inode *inode, int other)
{
    if (S_ISREG(inode->attr.mode)) {
        return 0;
    }
    return is_directory(inode) ? EISDIR : other;
}

/* Everything but the size. */
static void set_plain(struct model_inode *inode, const Gabion__SetAttr *body)
{
    if ((body->valid & 1) != 0) {
        inode->attr.mode = (inode->attr.mode & S_IFMT) | (body->mode & 07777u);
    }
    if ((body->valid & 2) != 0) {
        inode->attr.uid = body->uid;
    }
    if ((body->valid & 4) != 0) {
        inode->attr.gid = body->gid;
    }
    if ((body->valid & 16) != 0) {
        inode->attr.atime_ns = body->atime_ns;
    }
    if ((body->valid & 32) != 0) {
        inode->attr.mtime_ns = body->mtime_ns;
    }
}

static void set_attr(struct model *model,
                     const Gabion__Op *op,
                     struct model_result *result)
{
    const Gabion__SetAttr *body = op->set_attr;
    struct model_inode *inode = model_inode(model, body->ino);

    if (inode == NULL) {
        (void)refuse(result, ENOENT);
        return;
    }
    if ((body->valid & 8) != 0) {
        int error = regular_error(inode, EINVAL);

        if (error != 0) {
            (void)refuse(result, error);
            return;
        }
        inode->attr.data_version += body->size != inode->attr.size;
        inode->attr.size = body->size;
        inode->attr.mtime_ns = op->now_ns;
        clear_bytes(inode, body->size, MODEL_FILE_MAX);
    }
    set_plain(inode, body);
    if (body->valid != 0) {
        inode->attr.ctime_ns = op->now_ns;
    }
    answer(result, inode);
}

/* Index of the object, which is added when it is new. */
static size_t object_index(struct model *model, const Gabion__ObjectInfo *info)
{
    struct object_id id;

    object_id_decode(info->id.data, &id);
    for (size_t i = 0; i < model->n_objects; i++) {
        if (model->objects[i].session == id.session &&
            model->objects[i].serial == id.serial) {
            return i;
        }
    }
    ck_assert_uint_lt(model->n_objects, MODEL_OBJECTS_MAX);
    model->objects[model->n_objects] = (struct model_object){
        .session = id.session, .serial = id.serial, .size = info->size
    };
    return model->n_objects++;
}

static void write_extent(struct model_inode *inode,
                         const Gabion__Extent *extent,
                         const struct model *model,
                         size_t object)
{
    for (uint64_t i = 0; i < extent->length; i++) {
        struct model_byte *byte = &inode->bytes[extent->offset + i];

        byte->covered = 1;
        if (extent->object == 0) {
            byte->object = 0;
            byte->value = extent->data.data[i];
        } else {
            byte->object = (uint32_t)object + 1;
            byte->value = model_object_byte(model->objects[object].session,
                                            model->objects[object].serial,
                                            extent->object_offset + i);
        }
    }
}

/* The op is well-formed and its objects are new: that is the generator's part.
 */
static void commit_writes(struct model *model,
                          const Gabion__Op *op,
                          struct model_result *result)
{
    const Gabion__CommitWrites *body = op->commit_writes;

    for (size_t i = 0; i < body->n_file; i++) {
        struct model_inode *inode = model_inode(model, body->file[i]->ino);
        int error = inode != NULL ? regular_error(inode, EINVAL) : 0;

        if (error != 0) {
            (void)refuse(result, error);
            return;
        }
    }
    for (size_t i = 0; i < body->n_object; i++) {
        (void)object_index(model, body->object[i]);
    }
    for (size_t i = 0; i < body->n_file; i++) {
        const Gabion__FileWrite *file = body->file[i];
        struct model_inode *inode = model_inode(model, file->ino);
        uint64_t end = file->end;

        if (inode == NULL) {
            gabion__attr__init(&result->attr[result->n_attr++]);
            continue;
        }
        for (size_t j = 0; j < file->n_extent; j++) {
            const Gabion__Extent *extent = file->extent[j];

            write_extent(
                inode, extent, model,
                extent->object == 0
                    ? 0
                    : object_index(model, body->object[extent->object - 1]));
            if (extent->offset + extent->length > end) {
                end = extent->offset + extent->length;
            }
        }
        inode->attr.data_version +=
            file->n_extent > 0 || end > inode->attr.size;
        if (end > inode->attr.size) {
            inode->attr.size = end;
        }
        recount_bytes(inode);
        if (file->set != NULL) {
            set_plain(inode, file->set);
        }
        inode->attr.ctime_ns = op->now_ns;
        if (file->mtime_ns != 0) {
            inode->attr.mtime_ns = file->mtime_ns;
        }
        answer(result, inode);
    }
}

static void touch(struct model_inode *inode, int64_t now_ns)
{
    inode->attr.data_version++;
    inode->attr.mtime_ns = inode->attr.ctime_ns = now_ns;
}

static void allocate(struct model *model,
                     const Gabion__Op *op,
                     struct model_result *result)
{
    const Gabion__Allocate *body = op->allocate;
    struct model_inode *inode = model_inode(model, body->ino);
    uint64_t end = body->offset + body->length;
    int error;

    if (inode == NULL) {
        (void)refuse(result, ENOENT);
        return;
    }
    error = body->how < 1 || body->how > 4 || body->length == 0
                ? EINVAL
                : regular_error(inode, ENODEV);
    if (error != 0) {
        (void)refuse(result, error);
        return;
    }
    if (body->how != 1) {
        clear_bytes(inode, body->offset, end);
    }
    if ((body->how == 1 || body->how == 4) && end > inode->attr.size) {
        inode->attr.size = end;
    }
    touch(inode, op->now_ns);
    answer(result, inode);
}

static void clone_bytes(struct model *model,
                        const Gabion__Op *op,
                        struct model_result *result)
{
    const Gabion__Clone *body = op->clone;
    struct model_inode *source = model_inode(model, body->source);
    struct model_inode *inode = model_inode(model, body->ino);
    uint64_t length = body->length;
    int error;

    if (source == NULL || inode == NULL) {
        (void)refuse(result, ENOENT);
        return;
    }
    error = regular_error(source, EINVAL);
    error = error != 0 ? error : regular_error(inode, EINVAL);
    if (error != 0) {
        (void)refuse(result, error);
        return;
    }
    if (body->source_offset >= source->attr.size) {
        length = 0;
    } else if (length > source->attr.size - body->source_offset) {
        length = source->attr.size - body->source_offset;
    }
    if (source == inode && body->source_offset < body->offset + length &&
        body->offset < body->source_offset + length) {
        (void)refuse(result, EINVAL);
        return;
    }
    if (length > 0) {
        for (uint64_t i = 0; i < length; i++) {
            inode->bytes[body->offset + i] =
                source->bytes[body->source_offset + i];
        }
        if (body->offset + length > inode->attr.size) {
            inode->attr.size = body->offset + length;
        }
        recount_bytes(inode);
        touch(inode, op->now_ns);
    }
    result->length = length;
    answer(result, inode);
    answer(result, source);
}

/* ---------------------------------------------------------------- xattrs */

static struct model_xattr *find_xattr(struct model_inode *inode,
                                      const ProtobufCBinaryData *name)
{
    for (size_t i = 0; i < inode->n_xattrs; i++) {
        if (strlen(inode->xattrs[i].name) == name->len &&
            memcmp(inode->xattrs[i].name, name->data, name->len) == 0) {
            return &inode->xattrs[i];
        }
    }
    return NULL;
}

static void set_xattr(struct model *model,
                      const Gabion__Op *op,
                      struct model_result *result)
{
    const Gabion__SetXattr *body = op->set_xattr;
    struct model_inode *inode = model_inode(model, body->ino);
    struct model_xattr *xattr;

    if (inode == NULL) {
        (void)refuse(result, ENOENT);
        return;
    }
    xattr = find_xattr(inode, &body->name);
    if (xattr != NULL && body->flags == 1) {
        (void)refuse(result, EEXIST);
        return;
    }
    if (xattr == NULL && body->flags == 2) {
        (void)refuse(result, ENODATA);
        return;
    }
    if (xattr == NULL) {
        xattr = &inode->xattrs[inode->n_xattrs++];
        memset(xattr, 0, sizeof *xattr);
        memcpy(xattr->name, body->name.data, body->name.len);
    }
    xattr->size = body->value.len;
    if (xattr->size > 0) {
        memcpy(xattr->value, body->value.data, xattr->size);
    }
    inode->attr.has_xattrs = true;
    inode->attr.ctime_ns = op->now_ns;
    answer(result, inode);
}

static void remove_xattr(struct model *model,
                         const Gabion__Op *op,
                         struct model_result *result)
{
    const Gabion__RemoveXattr *body = op->remove_xattr;
    struct model_inode *inode = model_inode(model, body->ino);
    struct model_xattr *xattr =
        inode != NULL ? find_xattr(inode, &body->name) : NULL;

    if (xattr == NULL) {
        (void)refuse(result, inode == NULL ? ENOENT : ENODATA);
        return;
    }
    *xattr = inode->xattrs[--inode->n_xattrs];
    inode->attr.has_xattrs = inode->n_xattrs > 0;
    inode->attr.ctime_ns = op->now_ns;
    answer(result, inode);
}

/* ---------------------------------------------------------------- the shard */

static void reap(struct model *model, const Gabion__ReapOrphans *body)
{
    for (size_t i = 0; i < body->n_ino; i++) {
        struct model_inode *inode = model_inode(model, body->ino[i]);
        size_t at = 0;

        if (inode == NULL || !inode->orphan) {
            continue;
        }
        while (model->orphans[at] != body->ino[i]) {
            at++;
        }
        model->n_orphans--;
        memmove(&model->orphans[at], &model->orphans[at + 1],
                (model->n_orphans - at) * sizeof model->orphans[0]);
        wipe(inode);
    }
}

static void forget(struct model *model, const Gabion__ForgetObjects *body)
{
    static uint64_t live[MODEL_OBJECTS_MAX];

    model_live(model, live);
    for (size_t i = 0; i < body->n_id; i++) {
        struct object_id id;

        object_id_decode(body->id[i].data, &id);
        for (size_t j = 0; j < model->n_objects; j++) {
            struct model_object *object = &model->objects[j];

            if (object->session == id.session && object->serial == id.serial &&
                live[j] == 0) {
                object->forgotten = true;
            }
        }
    }
}

static size_t find_session(const struct model *model, uint64_t session)
{
    size_t i = 0;

    while (i < model->n_sessions && model->sessions[i] != session) {
        i++;
    }
    return i;
}

static void open_session(struct model *model,
                         const Gabion__Op *op,
                         struct model_result *result)
{
    if (find_session(model, op->session) < model->n_sessions) {
        (void)refuse(result, EEXIST);
    } else if (op->session < model->next_session) {
        (void)refuse(result, ESTALE);
    } else {
        model->sessions[model->n_sessions++] = op->session;
        model->next_session = op->session + 1;
        result->ino = op->session;
    }
}

static void apply_own(struct model *model,
                      const Gabion__Op *op,
                      struct model_result *result)
{
    if (op->body_case == GABION__OP__BODY_REAP_ORPHANS) {
        reap(model, op->reap_orphans);
    } else if (op->body_case == GABION__OP__BODY_FORGET_OBJECTS) {
        forget(model, op->forget_objects);
    } else {
        (void)refuse(result, ESTALE);
    }
}

void model_apply(struct model *model,
                 const Gabion__Op *op,
                 struct model_result *ret_result)
{
    static void (*const handlers[])(struct model *, const Gabion__Op *,
                                    struct model_result *) = {
        [GABION__OP__BODY_CREATE] = create,
        [GABION__OP__BODY_LINK] = make_link,
        [GABION__OP__BODY_UNLINK] = make_unlink,
        [GABION__OP__BODY_RENAME] = make_rename,
        [GABION__OP__BODY_SET_ATTR] = set_attr,
        [GABION__OP__BODY_SET_XATTR] = set_xattr,
        [GABION__OP__BODY_REMOVE_XATTR] = remove_xattr,
        [GABION__OP__BODY_COMMIT_WRITES] = commit_writes,
        [GABION__OP__BODY_ALLOCATE] = allocate,
        [GABION__OP__BODY_CLONE] = clone_bytes,
        [GABION__OP__BODY_OPEN_SESSION] = open_session,
    };
    size_t session = find_session(model, op->session);

    *ret_result = (struct model_result){ 0 };
    if (op->session == 0) {
        apply_own(model, op, ret_result);
    } else if (session == model->n_sessions &&
               op->body_case != GABION__OP__BODY_OPEN_SESSION) {
        (void)refuse(ret_result, ESTALE);
    } else if (op->body_case == GABION__OP__BODY_RESERVE_INODES) {
        ret_result->ino = model->next_sequence;
        model->next_sequence += op->reserve_inodes->count;
    } else if (op->body_case == GABION__OP__BODY_CLOSE_SESSION) {
        model->sessions[session] = model->sessions[--model->n_sessions];
    } else {
        handlers[op->body_case](model, op, ret_result);
    }
}
