#include "fusefs/file_meta.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "fusefs/wire.h"

/* Extents asked for at a time. */
#define LAYOUT_PAGE 2048u

#define ANY_INO UINT64_C(1)

/* SetAttr.valid */
#define VALID_SIZE  8u
#define VALID_MTIME 32u

static struct file_meta_rpc *of(struct file_meta *meta)
{
    return (struct file_meta_rpc *)meta;
}

/* NULL: the inode is gone; then all zeros. */
static void to_file_attr(const Gabion__Attr *attr, struct file_attr *ret_attr)
{
    memset(ret_attr, 0, sizeof *ret_attr);
    if (attr != NULL) {
        ret_attr->size = attr->size;
        ret_attr->allocated = attr->allocated;
        ret_attr->mtime_ns = attr->mtime_ns;
        ret_attr->data_version = attr->data_version;
    }
}

/* ------------------------------------------------------------------ layouts */

/* Memory of a layout: its arrays, and the reply that its inline bytes are in.
 */
struct layout_memory {
    Gabion__GetLayoutReply *reply; /* owned */
    struct extent *extents;        /* owned */
    struct object_info *objects;   /* owned */
};

static void free_layout_memory(struct layout_memory *memory)
{
    if (memory != NULL) {
        gabion__get_layout_reply__free_unpacked(memory->reply, NULL);
        free(memory->extents);
        free(memory->objects);
        free(memory);
    }
}

static void release_layout(struct layout *layout)
{
    free_layout_memory(layout->memory);
    memset(layout, 0, sizeof *layout);
}

/* The reply has been validated: ids are 16 bytes, indices are in range. */
static void fill_layout(const Gabion__GetLayoutReply *reply,
                        struct layout_memory *memory)
{
    for (size_t i = 0; i < reply->n_object; i++) {
        const Gabion__ObjectInfo *from = reply->object[i];
        struct object_info *to = &memory->objects[i];

        object_id_decode(from->id.data, &to->id);
        to->size = from->size;
        to->k = from->k;
        to->m = from->m;
        to->unit = from->unit;
        to->missing = from->missing;
    }
    for (size_t i = 0; i < reply->n_extent; i++) {
        const Gabion__Extent *from = reply->extent[i];
        struct extent *to = &memory->extents[i];

        to->offset = from->offset;
        to->length = from->length;
        to->object_offset = from->object_offset;
        to->object = from->object > 0 ? from->object - 1 : 0;
        to->data = from->object > 0 ? NULL : from->data.data;
    }
}

static int get_layout(struct file_meta *base,
                      uint64_t ino,
                      uint64_t offset,
                      struct layout *ret_layout)
{
    struct file_meta_rpc *meta = of(base);
    struct layout_memory *memory = calloc(1, sizeof *memory);
    Gabion__GetLayoutReply *reply;
    int rc;

    if (memory == NULL) {
        return -ENOMEM;
    }
    rc = meta_client_get_layout(meta->meta, ino, offset, LAYOUT_PAGE, &reply);
    if (rc != 0) {
        free(memory);
        return rc;
    }
    memory->reply = reply;
    memory->extents = calloc(reply->n_extent + 1, sizeof *memory->extents);
    memory->objects = calloc(reply->n_object + 1, sizeof *memory->objects);
    if (memory->extents == NULL || memory->objects == NULL) {
        free_layout_memory(memory);
        return -ENOMEM;
    }
    fill_layout(reply, memory);
    to_file_attr(reply->attr, &ret_layout->attr);
    ret_layout->extents = memory->extents;
    ret_layout->n_extents = reply->n_extent;
    ret_layout->objects = memory->objects;
    ret_layout->n_objects = reply->n_object;
    ret_layout->end = reply->end;
    ret_layout->memory = memory;
    ret_layout->release = release_layout;
    return 0;
}

/* ------------------------------------------------------------------ commits */

/* The messages of one commit, in one piece of memory each. */
struct commit {
    Gabion__CommitWrites body;
    Gabion__ObjectInfo *objects;      /* owned */
    Gabion__ObjectInfo **object_list; /* owned */
    uint8_t (*ids)[OBJECT_ID_SIZE];   /* owned */
    Gabion__FileWrite *files;         /* owned */
    Gabion__FileWrite **file_list;    /* owned */
    Gabion__SetAttr *sets;            /* owned, by file */
    Gabion__Extent *extents;          /* owned, of all files */
    Gabion__Extent **extent_list;     /* owned */
    struct inode_change *changes;     /* owned, by file */
};

static size_t count_extents(const struct file_write *writes, size_t n)
{
    size_t n_extents = 0;

    for (size_t i = 0; i < n; i++) {
        n_extents += writes[i].n_extents;
    }
    return n_extents;
}

static void commit_free(struct commit *commit)
{
    free(commit->objects);
    free(commit->object_list);
    free(commit->ids);
    free(commit->files);
    free(commit->file_list);
    free(commit->sets);
    free(commit->extents);
    free(commit->extent_list);
    free(commit->changes);
}

static int commit_alloc(struct commit *commit,
                        size_t n_objects,
                        size_t n_files,
                        size_t n_extents)
{
    /* One more of each: calloc(0) may answer NULL. */
    commit->objects = calloc(n_objects + 1, sizeof *commit->objects);
    commit->object_list = calloc(n_objects + 1, sizeof(Gabion__ObjectInfo *));
    commit->ids = calloc(n_objects + 1, sizeof *commit->ids);
    commit->files = calloc(n_files + 1, sizeof *commit->files);
    commit->file_list = calloc(n_files + 1, sizeof(Gabion__FileWrite *));
    commit->sets = calloc(n_files + 1, sizeof *commit->sets);
    commit->extents = calloc(n_extents + 1, sizeof *commit->extents);
    commit->extent_list = calloc(n_extents + 1, sizeof(Gabion__Extent *));
    commit->changes = calloc(n_files + 1, sizeof *commit->changes);
    if (commit->objects == NULL || commit->object_list == NULL ||
        commit->ids == NULL || commit->files == NULL ||
        commit->file_list == NULL || commit->sets == NULL ||
        commit->extents == NULL || commit->extent_list == NULL ||
        commit->changes == NULL) {
        return -ENOMEM;
    }
    return 0;
}

static void fill_objects(struct commit *commit,
                         const struct object_info *objects,
                         size_t n)
{
    for (size_t i = 0; i < n; i++) {
        Gabion__ObjectInfo *to = &commit->objects[i];

        gabion__object_info__init(to);
        object_id_encode(&objects[i].id, commit->ids[i]);
        to->id = wire_bytes(commit->ids[i], OBJECT_ID_SIZE);
        to->size = objects[i].size;
        to->k = objects[i].k;
        to->m = objects[i].m;
        to->unit = objects[i].unit;
        to->missing = objects[i].missing;
        commit->object_list[i] = to;
    }
    commit->body.object = commit->object_list;
    commit->body.n_object = n;
}

static void fill_extent(const struct extent *from, Gabion__Extent *to)
{
    gabion__extent__init(to);
    to->offset = from->offset;
    to->length = from->length;
    if (from->data != NULL) {
        to->data = wire_bytes(from->data, from->length);
    } else {
        to->object = from->object + 1;
        to->object_offset = from->object_offset;
    }
}

static void fill_set(const struct file_write *write, Gabion__SetAttr *to)
{
    gabion__set_attr__init(to);
    to->ino = write->ino;
    to->valid = write->set.valid & ~FILE_SET_MTIME;
    to->mode = write->set.mode;
    to->uid = write->set.uid;
    to->gid = write->set.gid;
    to->atime_ns = write->set.atime_ns;
}

static void fill_files(struct commit *commit,
                       const struct file_write *writes,
                       size_t n)
{
    size_t next = 0; /* free place in the arrays of extents */

    for (size_t i = 0; i < n; i++) {
        Gabion__FileWrite *to = &commit->files[i];

        gabion__file_write__init(to);
        to->ino = writes[i].ino;
        to->end = writes[i].end;
        to->mtime_ns = writes[i].mtime_ns;
        to->extent = &commit->extent_list[next];
        to->n_extent = writes[i].n_extents;
        for (size_t j = 0; j < writes[i].n_extents; j++, next++) {
            fill_extent(&writes[i].extents[j], &commit->extents[next]);
            commit->extent_list[next] = &commit->extents[next];
        }
        if (writes[i].set.valid != 0) {
            fill_set(&writes[i], &commit->sets[i]);
            to->set = &commit->sets[i];
        }
        commit->file_list[i] = to;
    }
    commit->body.file = commit->file_list;
    commit->body.n_file = n;
}

static int submit_commit(struct file_meta_rpc *meta,
                         struct commit *commit,
                         size_t n,
                         bool durable,
                         struct file_attr *ret_attrs)
{
    Gabion__Op op = GABION__OP__INIT;
    struct session_result result;
    int rc;

    op.body_case = GABION__OP__BODY_COMMIT_WRITES;
    op.commit_writes = &commit->body;
    for (size_t i = 0; meta->inodes != NULL && i < n; i++) {
        inode_change_begin(meta->inodes, commit->files[i].ino,
                           &commit->changes[i]);
    }
    rc = session_submit(meta->session, commit->files[0].ino, &op, durable,
                        &result);
    for (size_t i = 0; i < n; i++) {
        const Gabion__Attr *attr =
            session_result_attr(&result, commit->files[i].ino);

        inode_change_end(&commit->changes[i], attr, result.mark);
        if (rc == 0) {
            to_file_attr(attr, &ret_attrs[i]);
        }
    }
    session_result_clear(&result);
    return rc;
}

static int commit(struct file_meta *base,
                  const struct file_commit *what,
                  struct file_attr *ret_attrs)
{
    struct file_meta_rpc *meta = of(base);
    struct commit commit = { .body = GABION__COMMIT_WRITES__INIT };
    size_t n = what->n_writes;
    int rc = commit_alloc(&commit, what->n_objects, n,
                          count_extents(what->writes, n));

    if (rc == 0 && n > 0) {
        fill_objects(&commit, what->objects, what->n_objects);
        fill_files(&commit, what->writes, n);
        rc = submit_commit(meta, &commit, n, what->durable, ret_attrs);
    }
    commit_free(&commit);
    return rc;
}

static int sync_all(struct file_meta *base)
{
    struct file_meta_rpc *meta = of(base);

    return session_sync(meta->session, ANY_INO, session_mark(meta->session));
}

/* ------------------------------------------------------------ other changes */

/* Submit an op that changes the bytes of one file. */
static int submit_change(struct file_meta_rpc *meta,
                         uint64_t ino,
                         Gabion__Op *op,
                         uint64_t *ret_length,
                         struct file_attr *ret_attr)
{
    struct inode_change change = { .inode = NULL };
    struct session_result result;
    const Gabion__Attr *attr;
    int rc;

    if (meta->inodes != NULL) {
        inode_change_begin(meta->inodes, ino, &change);
    }
    rc = session_submit(meta->session, ino, op, false, &result);
    attr = session_result_attr(&result, ino);
    inode_change_end(&change, attr, result.mark);
    if (rc == 0) {
        to_file_attr(attr, ret_attr);
        if (ret_length != NULL) {
            *ret_length = result.op->length;
        }
    }
    session_result_clear(&result);
    return rc;
}

static int set_size(struct file_meta *base,
                    uint64_t ino,
                    uint64_t size,
                    int64_t mtime_ns,
                    struct file_attr *ret_attr)
{
    Gabion__SetAttr body = GABION__SET_ATTR__INIT;
    Gabion__Op op = GABION__OP__INIT;

    body.ino = ino;
    body.valid = VALID_SIZE | VALID_MTIME;
    body.size = size;
    body.mtime_ns = mtime_ns;
    op.body_case = GABION__OP__BODY_SET_ATTR;
    op.set_attr = &body;
    return submit_change(of(base), ino, &op, NULL, ret_attr);
}

static int allocate(struct file_meta *base,
                    uint64_t ino,
                    uint64_t offset,
                    uint64_t length,
                    unsigned how,
                    struct file_attr *ret_attr)
{
    Gabion__Allocate body = GABION__ALLOCATE__INIT;
    Gabion__Op op = GABION__OP__INIT;

    body.ino = ino;
    body.offset = offset;
    body.length = length;
    body.how = how;
    op.body_case = GABION__OP__BODY_ALLOCATE;
    op.allocate = &body;
    return submit_change(of(base), ino, &op, NULL, ret_attr);
}

static int clone_range(struct file_meta *base,
                       const struct file_clone_range *range,
                       uint64_t *ret_length,
                       struct file_attr *ret_attr)
{
    Gabion__Clone body = GABION__CLONE__INIT;
    Gabion__Op op = GABION__OP__INIT;

    body.source = range->source;
    body.source_offset = range->source_offset;
    body.ino = range->ino;
    body.offset = range->offset;
    body.length = range->length;
    op.body_case = GABION__OP__BODY_CLONE;
    op.clone = &body;
    return submit_change(of(base), range->ino, &op, ret_length, ret_attr);
}

static int new_object_id(struct file_meta *base, struct object_id *ret_id)
{
    session_new_object(of(base)->session, ret_id);
    return 0;
}

void file_meta_rpc_init(struct file_meta_rpc *meta,
                        struct meta_client *client,
                        struct session *session,
                        struct inode_table *inodes)
{
    meta->base.get_layout = get_layout;
    meta->base.commit = commit;
    meta->base.sync = sync_all;
    meta->base.set_size = set_size;
    meta->base.allocate = allocate;
    meta->base.clone = clone_range;
    meta->base.new_object_id = new_object_id;
    meta->meta = client;
    meta->session = session;
    meta->inodes = inodes;
}
