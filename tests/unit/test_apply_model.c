/* Random ops against the model: every answer must be the model's, and so must
 * the database at the end, byte for byte. The same ops applied to a second
 * database in other batches give the same tables; ops that come again change
 * nothing.
 *
 * APPLY_MODEL_SEED and APPLY_MODEL_OPS choose another run. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <check.h>

#include "common/object_id.h"
#include "storaged/meta/meta_check.h"
#include "tests/unit/meta_fixture.h"
#include "tests/unit/meta_model.h"

#define N_OPS 4000u

/* Inodes that may be there at once; files are 320 KiB each in the model. */
#define LIVING_MAX 90u

struct run {
    struct meta_fixture f;
    struct model *model; /* owned */
    uint64_t random;
    Gabion__Op **ops;           /* owned: all that have been applied */
    Gabion__OpResult **results; /* owned: of each */
    size_t n_ops;
    uint64_t sequences[MODEL_SESSIONS_MAX]; /* by session number */
    uint64_t acked[MODEL_SESSIONS_MAX];
    uint64_t next_ino; /* of those reserved */
    uint64_t serial;
};

static struct run r;

/* xorshift64* */
static uint64_t random_below(uint64_t limit)
{
    r.random ^= r.random >> 12;
    r.random ^= r.random << 25;
    r.random ^= r.random >> 27;
    return ((r.random * 0x2545f4914f6cdd1du) >> 16) % limit;
}

static bool one_in(uint64_t n)
{
    return random_below(n) == 0;
}

static ProtobufCBinaryData copy_bytes(const void *bytes, size_t size)
{
    ProtobufCBinaryData copy = { size, size > 0 ? malloc(size) : NULL };

    if (size > 0) {
        memcpy(copy.data, bytes, size);
    }
    return copy;
}

static ProtobufCBinaryData random_name(void)
{
    char name[2] = { (char)('a' + random_below(12)), '2' };

    return copy_bytes(name, 1 + random_below(2));
}

static bool wants_any(const struct model_inode *inode)
{
    (void)inode;
    return true;
}

static bool wants_directory(const struct model_inode *inode)
{
    return S_ISDIR(inode->attr.mode);
}

static bool wants_file(const struct model_inode *inode)
{
    return S_ISREG(inode->attr.mode);
}

/* An inode of the wanted kind, now and then any, or one that is not there. */
static uint64_t random_ino(bool (*wants)(const struct model_inode *inode))
{
    uint64_t chosen = META_ROOT_INO;
    uint64_t n = 0;

    if (one_in(60)) {
        return random_below(MODEL_INODES_MAX);
    }
    if (one_in(40)) {
        wants = wants_any;
    }
    for (uint64_t ino = 1; ino < r.next_ino; ino++) {
        const struct model_inode *inode = model_inode(r.model, ino);

        if (inode != NULL && wants(inode) && one_in(++n)) {
            chosen = ino;
        }
    }
    return chosen;
}

static size_t n_living(void)
{
    size_t n = 0;

    for (uint64_t ino = 1; ino < r.next_ino; ino++) {
        n += model_inode(r.model, ino) != NULL;
    }
    return n;
}

/* ---------------------------------------------------------------- generator */

#define NEW(type, name) type *name = malloc(sizeof *name)

static void make_create(Gabion__Op *op)
{
    static const uint32_t types[] = { S_IFREG, S_IFREG, S_IFREG, S_IFREG,
                                      S_IFDIR, S_IFDIR, S_IFLNK, S_IFIFO };
    NEW(Gabion__Create, body);

    gabion__create__init(body);
    body->parent = random_ino(wants_directory);
    body->name = random_name();
    body->ino = one_in(50) ? random_below(r.next_ino + 2) : r.next_ino;
    if (body->ino >= r.next_ino) {
        r.next_ino = body->ino + 1;
    }
    body->mode = types[random_below(8)] | (uint32_t)random_below(010000);
    body->umask = one_in(2) ? 022 : 0;
    body->uid = (uint32_t)random_below(3);
    body->gid = (uint32_t)random_below(3);
    body->exclusive = one_in(2);
    if (S_ISLNK(body->mode)) {
        body->target = copy_bytes("somewhere/else", 1 + random_below(14));
    }
    op->body_case = GABION__OP__BODY_CREATE;
    op->create = body;
}

static void make_link(Gabion__Op *op)
{
    NEW(Gabion__Link, body);

    gabion__link__init(body);
    body->ino = random_ino(one_in(8) ? wants_any : wants_file);
    body->parent = random_ino(wants_directory);
    body->name = random_name();
    op->body_case = GABION__OP__BODY_LINK;
    op->link = body;
}

static void make_unlink(Gabion__Op *op)
{
    NEW(Gabion__Unlink, body);

    gabion__unlink__init(body);
    body->parent = random_ino(wants_directory);
    body->name = random_name();
    body->directory = one_in(3);
    op->body_case = GABION__OP__BODY_UNLINK;
    op->unlink = body;
}

static void make_rename(Gabion__Op *op)
{
    NEW(Gabion__Rename, body);

    gabion__rename__init(body);
    body->parent = random_ino(wants_directory);
    body->name = random_name();
    body->new_parent = one_in(3) ? body->parent : random_ino(wants_directory);
    body->new_name = random_name();
    body->flags = one_in(2) ? 0 : (uint32_t)random_below(4);
    op->body_case = GABION__OP__BODY_RENAME;
    op->rename = body;
}

static Gabion__SetAttr *random_set_attr(uint32_t valid, uint64_t ino)
{
    NEW(Gabion__SetAttr, body);

    gabion__set_attr__init(body);
    body->valid = valid;
    body->ino = ino;
    body->mode = (uint32_t)random_below(010000);
    body->uid = (uint32_t)random_below(100);
    body->gid = (uint32_t)random_below(100);
    body->size = random_below(MODEL_FILE_MAX);
    body->atime_ns = (int64_t)random_below(1000000) - 500000;
    body->mtime_ns = (int64_t)random_below(1000000) - 500000;
    return body;
}

static void make_set_attr(Gabion__Op *op)
{
    uint32_t valid = (uint32_t)random_below(64);
    Gabion__SetAttr *body = random_set_attr(
        valid, random_ino((valid & 8) != 0 ? wants_file : wants_any));

    op->body_case = GABION__OP__BODY_SET_ATTR;
    op->set_attr = body;
}

static ProtobufCBinaryData random_xattr_name(void)
{
    static const char *const names[MODEL_XATTRS_MAX] = { "user.a", "user.b",
                                                         "trusted.c",
                                                         "security.d" };
    const char *name = names[random_below(MODEL_XATTRS_MAX)];

    return copy_bytes(name, strlen(name));
}

static void make_set_xattr(Gabion__Op *op)
{
    NEW(Gabion__SetXattr, body);

    gabion__set_xattr__init(body);
    body->ino = random_ino(wants_any);
    body->name = random_xattr_name();
    body->value = copy_bytes("0123456789abcdef", random_below(17));
    body->flags = (uint32_t)random_below(3);
    op->body_case = GABION__OP__BODY_SET_XATTR;
    op->set_xattr = body;
}

static void make_remove_xattr(Gabion__Op *op)
{
    NEW(Gabion__RemoveXattr, body);

    gabion__remove_xattr__init(body);
    body->ino = random_ino(wants_any);
    body->name = random_xattr_name();
    op->body_case = GABION__OP__BODY_REMOVE_XATTR;
    op->remove_xattr = body;
}

static Gabion__ObjectInfo *random_object(uint64_t session)
{
    struct object_id id = { session, ++r.serial };
    uint8_t bytes[16];
    NEW(Gabion__ObjectInfo, info);

    gabion__object_info__init(info);
    object_id_encode(&id, bytes);
    info->id = copy_bytes(bytes, 16);
    info->size = 1 + random_below(20000);
    info->k = 4;
    info->m = 2;
    info->unit = 262144;
    return info;
}

static Gabion__Extent *random_extent(const Gabion__CommitWrites *body,
                                     uint64_t from,
                                     uint64_t room)
{
    uint8_t bytes[64];
    NEW(Gabion__Extent, extent);

    gabion__extent__init(extent);
    extent->offset = from;
    extent->object = (uint32_t)random_below(body->n_object + 1);
    if (extent->object == 0) {
        extent->length = 1 + random_below(room < 64 ? room : 64);
        for (size_t i = 0; i < extent->length; i++) {
            bytes[i] = (uint8_t)(1 + random_below(255));
        }
        extent->data = copy_bytes(bytes, extent->length);
    } else {
        uint64_t size = body->object[extent->object - 1]->size;

        extent->length = 1 + random_below(size < room ? size : room);
        extent->object_offset = random_below(size - extent->length + 1);
    }
    return extent;
}

static Gabion__FileWrite *random_file_write(const Gabion__CommitWrites *body)
{
    size_t n = random_below(6);
    uint64_t at = one_in(3) ? 0 : random_below(MODEL_FILE_MAX);
    NEW(Gabion__FileWrite, file);

    gabion__file_write__init(file);
    file->ino = random_ino(wants_file);
    file->extent = calloc(n + 1, sizeof(Gabion__Extent *));
    while (file->n_extent < n && at < MODEL_FILE_MAX) {
        Gabion__Extent *extent = random_extent(body, at, MODEL_FILE_MAX - at);

        file->extent[file->n_extent++] = extent;
        at = extent->offset + extent->length;
        at += one_in(2) ? 0 : random_below(2000);
    }
    file->end = one_in(4) ? random_below(MODEL_FILE_MAX) : 0;
    file->mtime_ns = one_in(2) ? 0 : (int64_t)random_below(1000);
    if (one_in(3)) { /* mode, uid, gid, atime */
        file->set =
            random_set_attr((uint32_t)random_below(32) & ~8u, file->ino);
    }
    return file;
}

static void make_commit_writes(Gabion__Op *op)
{
    size_t n_objects = random_below(3);
    size_t n_files = 1 + random_below(3);
    NEW(Gabion__CommitWrites, body);

    gabion__commit_writes__init(body);
    body->object = calloc(n_objects + 1, sizeof(Gabion__ObjectInfo *));
    while (body->n_object < n_objects) {
        body->object[body->n_object++] = random_object(op->session);
    }
    body->file = calloc(n_files, sizeof(Gabion__FileWrite *));
    while (body->n_file < n_files) {
        body->file[body->n_file++] = random_file_write(body);
    }
    op->body_case = GABION__OP__BODY_COMMIT_WRITES;
    op->commit_writes = body;
}

static void make_allocate(Gabion__Op *op)
{
    NEW(Gabion__Allocate, body);

    gabion__allocate__init(body);
    body->ino = random_ino(wants_file);
    body->offset = random_below(MODEL_FILE_MAX);
    body->length = random_below(MODEL_FILE_MAX - body->offset);
    body->how = (uint32_t)random_below(6);
    op->body_case = GABION__OP__BODY_ALLOCATE;
    op->allocate = body;
}

static void make_clone(Gabion__Op *op)
{
    uint64_t length = 1 + random_below(MODEL_FILE_MAX / 2);
    NEW(Gabion__Clone, body);

    gabion__clone__init(body);
    body->source = random_ino(wants_file);
    body->ino = one_in(4) ? body->source : random_ino(wants_file);
    body->source_offset = one_in(3) ? 0 : random_below(MODEL_FILE_MAX);
    body->offset = one_in(3) ? 0 : random_below(MODEL_FILE_MAX - length);
    body->length = length;
    op->body_case = GABION__OP__BODY_CLONE;
    op->clone = body;
}

static void make_reserve(Gabion__Op *op)
{
    NEW(Gabion__ReserveInodes, body);

    gabion__reserve_inodes__init(body);
    body->count = 1 + (uint32_t)random_below(50);
    op->body_case = GABION__OP__BODY_RESERVE_INODES;
    op->reserve_inodes = body;
}

static void make_open_session(Gabion__Op *op)
{
    NEW(Gabion__OpenSession, body);

    gabion__open_session__init(body);
    op->session = r.model->next_session;
    op->body_case = GABION__OP__BODY_OPEN_SESSION;
    op->open_session = body;
}

static void make_close_session(Gabion__Op *op)
{
    NEW(Gabion__CloseSession, body);

    gabion__close_session__init(body);
    body->expired = one_in(2);
    op->body_case = GABION__OP__BODY_CLOSE_SESSION;
    op->close_session = body;
}

static void make_reap(Gabion__Op *op)
{
    NEW(Gabion__ReapOrphans, body);

    gabion__reap_orphans__init(body);
    body->ino = calloc(r.model->n_orphans + 1, sizeof(uint64_t));
    for (size_t i = 0; i < r.model->n_orphans; i++) {
        if (one_in(2)) {
            body->ino[body->n_ino++] = r.model->orphans[i];
        }
    }
    body->ino[body->n_ino++] = random_ino(wants_any);
    op->session = 0;
    op->body_case = GABION__OP__BODY_REAP_ORPHANS;
    op->reap_orphans = body;
}

static void make_forget(Gabion__Op *op)
{
    NEW(Gabion__ForgetObjects, body);

    gabion__forget_objects__init(body);
    body->id = calloc(8, sizeof(ProtobufCBinaryData));
    while (body->n_id < 8 && r.model->n_objects > 0) {
        const struct model_object *object =
            &r.model->objects[random_below(r.model->n_objects)];
        struct object_id id = { object->session, object->serial };
        uint8_t bytes[16];

        object_id_encode(&id, bytes);
        body->id[body->n_id++] = copy_bytes(bytes, 16);
    }
    op->session = 0;
    op->body_case = GABION__OP__BODY_FORGET_OBJECTS;
    op->forget_objects = body;
}

static const struct {
    unsigned weight;
    void (*make)(Gabion__Op *op);
} kinds[] = {
    { 20, make_create },       { 6, make_link },
    { 14, make_unlink },       { 16, make_rename },
    { 8, make_set_attr },      { 4, make_set_xattr },
    { 2, make_remove_xattr },  { 22, make_commit_writes },
    { 6, make_allocate },      { 8, make_clone },
    { 2, make_reserve },       { 1, make_open_session },
    { 1, make_close_session }, { 2, make_reap },
    { 2, make_forget },
};

static void (*random_kind(void))(Gabion__Op *op)
{
    unsigned total = 0;
    uint64_t at;
    size_t i = 0;

    for (size_t j = 0; j < sizeof kinds / sizeof kinds[0]; j++) {
        total += kinds[j].weight;
    }
    at = random_below(total);
    while (at >= kinds[i].weight) {
        at -= kinds[i].weight;
        i++;
    }
    return kinds[i].make;
}

static Gabion__Op *random_op(void)
{
    void (*make)(Gabion__Op * op) = random_kind();
    NEW(Gabion__Op, op);

    if (r.next_ino >= r.model->next_sequence) {
        make = make_reserve;
    } else if (make == make_create && n_living() >= LIVING_MAX) {
        make = one_in(2) ? make_unlink : make_reap;
    } else if ((make == make_close_session && r.model->n_sessions < 2) ||
               (make == make_open_session && r.model->n_sessions > 3)) {
        make = make_unlink;
    }
    gabion__op__init(op);
    op->session = r.model->sessions[random_below(r.model->n_sessions)];
    op->now_ns = ++r.f.now_ns;
    op->held_open = one_in(3);
    make(op);
    if (op->session != 0) {
        op->sequence = ++r.sequences[op->session];
        op->acked = r.acked[op->session];
    }
    return op;
}

/* ---------------------------------------------------------------- checks */

/* A failed ck_assert_*() names the member; in the loops over everything one
 * comparison must do, as each assertion is a system call. */
static void check_attr(const Gabion__Attr *real, const Gabion__Attr *model)
{
    if (real->ino == model->ino && real->mode == model->mode &&
        real->nlink == model->nlink && real->uid == model->uid &&
        real->gid == model->gid && real->rdev == model->rdev &&
        real->size == model->size && real->allocated == model->allocated &&
        real->atime_ns == model->atime_ns &&
        real->mtime_ns == model->mtime_ns &&
        real->ctime_ns == model->ctime_ns &&
        real->data_version == model->data_version &&
        real->has_xattrs == model->has_xattrs &&
        real->parent == model->parent) {
        return;
    }
    ck_abort_msg("inode %d: mode %o %o nlink %u %u size %d %d allocated %d %d "
                 "version %d %d parent %d %d times %d %d",
                 (int)real->ino, real->mode, model->mode, real->nlink,
                 model->nlink, (int)real->size, (int)model->size,
                 (int)real->allocated, (int)model->allocated,
                 (int)real->data_version, (int)model->data_version,
                 (int)real->parent, (int)model->parent,
                 (int)(real->mtime_ns - model->mtime_ns),
                 (int)(real->ctime_ns - model->ctime_ns));
}

static void check_result(const Gabion__OpResult *real,
                         const struct model_result *model)
{
    ck_assert_int_eq(real->error, model->error);
    ck_assert_int_eq(real->existed, model->existed);
    ck_assert_uint_eq(real->ino, model->ino);
    ck_assert_uint_eq(real->length, model->length);
    ck_assert_uint_eq(real->n_attr, model->n_attr);
    for (size_t i = 0; i < real->n_attr; i++) {
        check_attr(real->attr[i], &model->attr[i]);
    }
}

static void check_entries(const struct model_inode *inode)
{
    Gabion__ReadDirRequest request = GABION__READ_DIR_REQUEST__INIT;
    Gabion__ReadDirReply *reply;
    size_t n = 0;

    request.ino = inode->attr.ino;
    request.limit = 5;
    request.plus = true;
    do {
        ck_assert_int_eq(meta_read_dir(r.f.reader, &request, &reply), 0);
        ck_assert_int_eq(reply->error, 0);
        for (size_t i = 0; i < reply->n_entry; i++, n++) {
            const Gabion__DirEntry *entry = reply->entry[i];
            size_t j = 0;

            while (strlen(inode->entries[j].name) != entry->name.len ||
                   memcmp(inode->entries[j].name, entry->name.data,
                          entry->name.len) != 0) {
                ck_assert_uint_lt(++j, inode->n_entries);
            }
            ck_assert_uint_eq(entry->ino, inode->entries[j].ino);
            ck_assert_uint_gt(entry->cookie, request.after);
            ck_assert_uint_eq(entry->mode, entry->attr->mode & S_IFMT);
            check_attr(entry->attr, &model_inode(r.model, entry->ino)->attr);
            request.after = entry->cookie;
        }
        if (reply->end) {
            break;
        }
        gabion__read_dir_reply__free_unpacked(reply, NULL);
    } while (true);
    gabion__read_dir_reply__free_unpacked(reply, NULL);
    ck_assert_uint_eq(n, inode->n_entries);
}

/* Fill in the bytes that a page of the layout describes. */
static void read_extents(const Gabion__GetLayoutReply *reply,
                         struct model_byte *bytes)
{
    bool doubled = false;

    for (size_t i = 0; i < reply->n_extent; i++) {
        const Gabion__Extent *extent = reply->extent[i];
        struct object_id id = { 0, 0 };

        if (extent->object != 0) {
            object_id_decode(reply->object[extent->object - 1]->id.data, &id);
        }
        ck_assert_uint_le(extent->offset + extent->length, reply->attr->size);
        for (uint64_t j = 0; j < extent->length; j++) {
            struct model_byte *byte = &bytes[extent->offset + j];

            doubled = doubled || byte->covered != 0;
            byte->covered = 1;
            byte->value = extent->object == 0
                              ? extent->data.data[j]
                              : model_object_byte(id.session, id.serial,
                                                  extent->object_offset + j);
        }
    }
    ck_assert(!doubled);
}

static void check_bytes(const struct model_inode *inode)
{
    struct model_byte *bytes = calloc(MODEL_FILE_MAX, sizeof *bytes);
    Gabion__GetLayoutRequest request = GABION__GET_LAYOUT_REQUEST__INIT;
    bool end = false;

    request.ino = inode->attr.ino;
    request.limit = 7;
    while (!end) {
        Gabion__GetLayoutReply *reply;

        ck_assert_int_eq(meta_read_layout(r.f.reader, &request, &reply), 0);
        ck_assert_int_eq(reply->error, 0);
        read_extents(reply, bytes);
        end = reply->end;
        if (!end) {
            const Gabion__Extent *last = reply->extent[reply->n_extent - 1];

            request.offset = last->offset + last->length;
        }
        gabion__get_layout_reply__free_unpacked(reply, NULL);
    }
    for (size_t i = 0; i < MODEL_FILE_MAX; i++) {
        if (bytes[i].covered != inode->bytes[i].covered ||
            bytes[i].value != inode->bytes[i].value) {
            ck_abort_msg("byte %zu of inode %d differs", i,
                         (int)inode->attr.ino);
        }
    }
    free(bytes);
}

static void check_xattrs(const struct model_inode *inode)
{
    Gabion__GetXattrRequest request = GABION__GET_XATTR_REQUEST__INIT;
    Gabion__GetXattrReply *reply;

    request.ino = inode->attr.ino;
    ck_assert_int_eq(meta_read_xattr(r.f.reader, &request, &reply), 0);
    ck_assert_uint_eq(reply->n_name, inode->n_xattrs);
    gabion__get_xattr_reply__free_unpacked(reply, NULL);
    for (size_t i = 0; i < inode->n_xattrs; i++) {
        request.name = meta_fixture_bytes(inode->xattrs[i].name);
        ck_assert_int_eq(meta_read_xattr(r.f.reader, &request, &reply), 0);
        ck_assert_int_eq(reply->error, 0);
        ck_assert_uint_eq(reply->value.len, inode->xattrs[i].size);
        ck_assert(reply->value.len == 0 ||
                  memcmp(reply->value.data, inode->xattrs[i].value,
                         reply->value.len) == 0);
        gabion__get_xattr_reply__free_unpacked(reply, NULL);
    }
}

static void check_inode(const struct model_inode *inode)
{
    Gabion__Attr attr = meta_fixture_attr(&r.f, inode->attr.ino);

    check_attr(&attr, &inode->attr);
    check_xattrs(inode);
    if (S_ISDIR(attr.mode)) {
        check_entries(inode);
    } else if (S_ISREG(attr.mode)) {
        check_bytes(inode);
    } else if (S_ISLNK(attr.mode)) {
        Gabion__ReadLinkRequest request = GABION__READ_LINK_REQUEST__INIT;
        Gabion__ReadLinkReply *reply;

        request.ino = attr.ino;
        ck_assert_int_eq(meta_read_link(r.f.reader, &request, &reply), 0);
        ck_assert_uint_eq(reply->target.len, strlen(inode->target));
        ck_assert_mem_eq(reply->target.data, inode->target, reply->target.len);
        gabion__read_link_reply__free_unpacked(reply, NULL);
    }
}

static void check_objects(void)
{
    static uint64_t live[MODEL_OBJECTS_MAX];
    char sql[128];
    size_t n = 0;
    size_t n_garbage = 0;
    Gabion__ShardStatsReply *stats;

    model_live(r.model, live);
    for (size_t i = 0; i < r.model->n_objects; i++) {
        const struct model_object *object = &r.model->objects[i];

        if (object->forgotten) {
            continue;
        }
        n++;
        n_garbage += live[i] == 0;
        (void)snprintf(sql, sizeof sql,
                       "SELECT live FROM object WHERE session=%d AND serial=%d",
                       (int)object->session, (int)object->serial);
        ck_assert_int_eq(meta_fixture_query(&r.f, sql), (int64_t)live[i]);
    }
    ck_assert_int_eq(meta_read_stats(r.f.reader, &stats), 0);
    ck_assert_uint_eq(stats->n_objects, n);
    ck_assert_uint_eq(stats->n_garbage, n_garbage);
    ck_assert_uint_eq(stats->n_inodes, n_living());
    ck_assert_uint_eq(stats->n_sessions, r.model->n_sessions);
    gabion__shard_stats_reply__free_unpacked(stats, NULL);
    ck_assert_int_eq(meta_fixture_query(&r.f, "SELECT count(*) FROM object"),
                     (int64_t)n);
}

static void check_soundness(void)
{
    struct meta_findings findings;

    ck_assert_int_eq(meta_check(r.f.db, NULL, NULL, &findings), 0);
    ck_assert_msg(findings.n == 0, "%s", findings.texts[0]);
    meta_findings_clear(&findings);
}

static void check_all(void)
{
    static struct meta_orphan orphans[MODEL_INODES_MAX];
    size_t n;

    for (uint64_t ino = 1; ino < r.next_ino; ino++) {
        const struct model_inode *inode = model_inode(r.model, ino);

        if (inode != NULL) {
            check_inode(inode);
        }
    }
    check_objects();
    check_soundness();
    ck_assert_int_eq(
        meta_read_orphans(r.f.reader, 0, MODEL_INODES_MAX, orphans, &n), 0);
    ck_assert_uint_eq(n, r.model->n_orphans);
    for (size_t i = 0; i < n; i++) {
        ck_assert_uint_eq(orphans[i].ino, r.model->orphans[i]);
    }
    ck_assert_int_eq(
        meta_fixture_query(&r.f, "SELECT count(*) FROM extent WHERE ino NOT IN"
                                 " (SELECT ino FROM inode)"),
        0);
    ck_assert_int_eq(
        meta_fixture_query(&r.f, "SELECT count(*) FROM xattr WHERE ino NOT IN"
                                 " (SELECT ino FROM inode)"),
        0);
}

/* ---------------------------------------------------------------- the runs */

static bool has_same_bytes(const Gabion__OpResult *a, const Gabion__OpResult *b)
{
    uint8_t packed[2][4096];
    size_t size = gabion__op_result__get_packed_size(a);

    ck_assert_uint_le(size, sizeof packed[0]);
    if (size != gabion__op_result__get_packed_size(b)) {
        return false;
    }
    (void)gabion__op_result__pack(a, packed[0]);
    (void)gabion__op_result__pack(b, packed[1]);
    return memcmp(packed[0], packed[1], size) == 0;
}

static Gabion__OpResult *take_result(void)
{
    Gabion__OpResult *result = r.f.results.results[0];

    r.f.results.results[0] = NULL;
    return result;
}

static void apply_random_op(void)
{
    struct model_result expected;
    Gabion__Op *op = random_op();
    const Gabion__OpResult *result;

    model_apply(r.model, op, &expected);
    result = meta_fixture_apply(&r.f, op);
    check_result(result, &expected);
    r.ops[r.n_ops] = op;
    r.results[r.n_ops] = take_result();
    r.n_ops++;
    if (op->session != 0 && one_in(100)) {
        r.acked[op->session] = op->sequence;
    }
}

/* An op of a living session that has not been acknowledged comes again. */
static void repeat_an_op(bool check_tables)
{
    size_t i = r.n_ops - 1 - random_below(r.n_ops < 50 ? r.n_ops : 50);
    Gabion__Op *op = r.ops[i];
    bool lives = false;
    char *before;
    char *after;

    for (size_t j = 0; j < r.model->n_sessions; j++) {
        lives = lives || r.model->sessions[j] == op->session;
    }
    if (!lives || op->sequence <= r.acked[op->session]) {
        return;
    }
    before = check_tables ? meta_fixture_dump(&r.f) : NULL;
    ck_assert(has_same_bytes(meta_fixture_apply(&r.f, op), r.results[i]));
    if (check_tables) {
        after = meta_fixture_dump(&r.f);
        ck_assert_str_eq(before, after);
        free(after);
        free(before);
    }
}

/* Apply all ops again to a new database, in batches of random sizes, and with
 * reopening in between. */
static void check_determinism(void)
{
    char *first = meta_fixture_dump(&r.f);
    char *second;
    size_t n;

    meta_fixture_close(&r.f);
    meta_fixture_open(&r.f);
    for (size_t i = 0; i < r.n_ops; i += n) {
        Gabion__Batch batch = GABION__BATCH__INIT;

        n = 1 + random_below(40);
        n = n < r.n_ops - i ? n : r.n_ops - i;
        batch.n_op = n;
        batch.op = &r.ops[i];
        meta_fixture_apply_batch(&r.f, &batch);
        for (size_t j = 0; j < n; j++) {
            ck_assert(has_same_bytes(r.f.results.results[j], r.results[i + j]));
        }
        if (one_in(20)) {
            meta_fixture_reopen(&r.f);
        }
    }
    second = meta_fixture_dump(&r.f);
    ck_assert_str_eq(first, second);
    free(first);
    free(second);
}

static size_t from_environment(const char *name, size_t otherwise)
{
    const char *text = getenv(name);

    return text != NULL ? strtoul(text, NULL, 10) : otherwise;
}

static void setup(void)
{
    size_t n_ops = from_environment("APPLY_MODEL_OPS", N_OPS);

    r = (struct run){ 0 }; /* of the former seed, in the same process */
    meta_fixture_open(&r.f);
    r.model = model_new(FIXTURE_NOW_NS);
    /* What the fixture has done. */
    r.model->n_sessions = 1;
    r.model->sessions[0] = 1;
    r.model->next_session = 2;
    r.model->next_sequence = 100002;
    r.next_ino = r.f.next_ino;
    r.sequences[1] = r.f.sequence;
    r.ops = calloc(n_ops, sizeof(Gabion__Op *));
    r.results = calloc(n_ops, sizeof(Gabion__OpResult *));
}

static void teardown(void)
{
    for (size_t i = 0; i < r.n_ops; i++) {
        gabion__op__free_unpacked(r.ops[i], NULL);
        gabion__op_result__free_unpacked(r.results[i], NULL);
    }
    free(r.ops);
    free(r.results);
    model_free(r.model);
    meta_fixture_close(&r.f);
}

START_TEST(random_ops_answer_as_the_model_does)
{
    size_t n_ops = from_environment("APPLY_MODEL_OPS", N_OPS);
    size_t seed = from_environment("APPLY_MODEL_SEED", 0) + (size_t)_i + 1;

    r.random = seed * 0x9e3779b97f4a7c15u;
    for (size_t i = 0; i < n_ops && r.next_ino < MODEL_INODES_MAX - 2; i++) {
        apply_random_op();
        if (one_in(4)) {
            repeat_an_op(one_in(50));
        }
        if (i % 500 == 499) {
            check_all();
        }
        if (one_in(300)) {
            meta_fixture_reopen(&r.f);
        }
    }
    ck_assert_uint_gt(r.n_ops, n_ops / 2);
    check_all();
    check_determinism();
    check_all();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("apply_model");
    TCase *tcase = tcase_create("apply_model");
    SRunner *runner;
    int n_failed;

    tcase_set_timeout(tcase, 100);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, random_ops_answer_as_the_model_does, 0, 4);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? 0 : 1;
}
