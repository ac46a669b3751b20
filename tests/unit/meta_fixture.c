#include "tests/unit/meta_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <check.h>
#include <sqlite3.h>

#include "common/object_id.h"

static void open_database(struct meta_fixture *f)
{
    struct errmsg msg = { "" };
    int rc =
        meta_db_open(f->path, FIXTURE_CLUSTER, 0, FIXTURE_NOW_NS, &f->db, &msg);

    ck_assert_msg(rc == 0, "%s", msg.text);
    ck_assert_int_eq(meta_reader_open(f->db, &f->reader), 0);
    ck_assert_int_eq(sqlite3_open(f->path, &f->sqlite), SQLITE_OK);
    f->index = meta_db_applied(f->db);
}

void meta_fixture_open(struct meta_fixture *f)
{
    Gabion__ReserveInodes reserve = GABION__RESERVE_INODES__INIT;

    *f = (struct meta_fixture){ .session = 1, .now_ns = FIXTURE_NOW_NS };
    (void)snprintf(f->directory, sizeof f->directory,
                   "/tmp/gabion-meta-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(f->directory));
    (void)snprintf(f->path, sizeof f->path, "%s/shard.db", f->directory);
    open_database(f);
    meta_fixture_open_session(f, f->session);
    f->sequence = 1;
    reserve.count = 100000;
    f->next_ino =
        meta_fixture_run(f, GABION__OP__BODY_RESERVE_INODES, &reserve)->ino;
    ck_assert_uint_eq(f->next_ino, 2);
}

static void close_database(struct meta_fixture *f)
{
    apply_results_free(&f->results);
    (void)sqlite3_close(f->sqlite);
    meta_reader_close(f->reader);
    meta_db_close(f->db);
}

void meta_fixture_close(struct meta_fixture *f)
{
    static const char *const suffixes[] = { "", "-wal", "-shm", "-journal" };
    char name[128];

    close_database(f);
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        (void)snprintf(name, sizeof name, "%s%s", f->path, suffixes[i]);
        (void)unlink(name);
    }
    ck_assert_int_eq(rmdir(f->directory), 0);
}

void meta_fixture_reopen(struct meta_fixture *f)
{
    close_database(f);
    open_database(f);
}

void meta_fixture_apply_batch(struct meta_fixture *f,
                              const Gabion__Batch *batch)
{
    apply_results_free(&f->results);
    f->index++;
    ck_assert_int_eq(meta_db_begin(f->db), 0);
    ck_assert_int_eq(apply_entry(f->db, f->index, batch, &f->results), 0);
    ck_assert_int_eq(meta_db_commit(f->db), 0);
    ck_assert_uint_eq(f->results.n, batch->n_op);
}

const Gabion__OpResult *meta_fixture_apply(struct meta_fixture *f,
                                           Gabion__Op *op)
{
    Gabion__Batch batch = GABION__BATCH__INIT;

    batch.version = 1;
    batch.n_op = 1;
    batch.op = &op;
    meta_fixture_apply_batch(f, &batch);
    return f->results.results[0];
}

const Gabion__OpResult *meta_fixture_run(struct meta_fixture *f,
                                         Gabion__Op__BodyCase which,
                                         void *body)
{
    Gabion__Op op = GABION__OP__INIT;

    f->now_ns += 1000;
    op.session = f->session;
    op.sequence = ++f->sequence;
    op.acked = f->acked;
    op.now_ns = f->now_ns;
    op.held_open = f->held_open;
    op.body_case = which;
    op.create = body; /* the members of the union are all pointers */
    return meta_fixture_apply(f, &op);
}

ProtobufCBinaryData meta_fixture_bytes(const char *text)
{
    return (ProtobufCBinaryData){ strlen(text), (uint8_t *)(uintptr_t)text };
}

int meta_fixture_create(struct meta_fixture *f,
                        uint64_t parent,
                        const char *name,
                        uint32_t mode,
                        uint64_t *ret_ino)
{
    Gabion__Create create = GABION__CREATE__INIT;
    const Gabion__OpResult *result;

    create.parent = parent;
    create.name = meta_fixture_bytes(name);
    create.ino = f->next_ino++;
    create.mode = mode;
    create.exclusive = true;
    create.uid = 1000;
    create.gid = 100;
    if (S_ISLNK(mode)) {
        create.target = meta_fixture_bytes("target");
    }
    result = meta_fixture_run(f, GABION__OP__BODY_CREATE, &create);
    *ret_ino = create.ino;
    return result->error;
}

uint64_t meta_fixture_file(struct meta_fixture *f,
                           uint64_t parent,
                           const char *name)
{
    uint64_t ino;

    ck_assert_int_eq(meta_fixture_create(f, parent, name, S_IFREG | 0644, &ino),
                     0);
    return ino;
}

uint64_t meta_fixture_directory(struct meta_fixture *f,
                                uint64_t parent,
                                const char *name)
{
    uint64_t ino;

    ck_assert_int_eq(meta_fixture_create(f, parent, name, S_IFDIR | 0755, &ino),
                     0);
    return ino;
}

int meta_fixture_link(struct meta_fixture *f,
                      uint64_t ino,
                      uint64_t parent,
                      const char *name)
{
    Gabion__Link link = GABION__LINK__INIT;

    link.ino = ino;
    link.parent = parent;
    link.name = meta_fixture_bytes(name);
    return meta_fixture_run(f, GABION__OP__BODY_LINK, &link)->error;
}

int meta_fixture_unlink(struct meta_fixture *f,
                        uint64_t parent,
                        const char *name,
                        bool directory)
{
    Gabion__Unlink unlink = GABION__UNLINK__INIT;

    unlink.parent = parent;
    unlink.name = meta_fixture_bytes(name);
    unlink.directory = directory;
    return meta_fixture_run(f, GABION__OP__BODY_UNLINK, &unlink)->error;
}

int meta_fixture_rename(struct meta_fixture *f,
                        uint64_t parent,
                        const char *name,
                        uint64_t new_parent,
                        const char *new_name,
                        uint32_t flags)
{
    Gabion__Rename rename = GABION__RENAME__INIT;

    rename.parent = parent;
    rename.name = meta_fixture_bytes(name);
    rename.new_parent = new_parent;
    rename.new_name = meta_fixture_bytes(new_name);
    rename.flags = flags;
    return meta_fixture_run(f, GABION__OP__BODY_RENAME, &rename)->error;
}

int meta_fixture_set_xattr(struct meta_fixture *f,
                           uint64_t ino,
                           const char *name,
                           const void *value,
                           size_t size,
                           uint32_t flags)
{
    Gabion__SetXattr set = GABION__SET_XATTR__INIT;

    set.ino = ino;
    set.name = meta_fixture_bytes(name);
    set.value = (ProtobufCBinaryData){ size, (uint8_t *)(uintptr_t)value };
    set.flags = flags;
    return meta_fixture_run(f, GABION__OP__BODY_SET_XATTR, &set)->error;
}

int meta_fixture_set_size(struct meta_fixture *f, uint64_t ino, uint64_t size)
{
    Gabion__SetAttr set = GABION__SET_ATTR__INIT;

    set.ino = ino;
    set.valid = 8;
    set.size = size;
    return meta_fixture_run(f, GABION__OP__BODY_SET_ATTR, &set)->error;
}

void meta_fixture_open_session(struct meta_fixture *f, uint64_t session)
{
    Gabion__OpenSession open;
    Gabion__Op op = GABION__OP__INIT;

    gabion__open_session__init(&open);
    op.session = session;
    op.sequence = 1;
    op.now_ns = f->now_ns;
    op.body_case = GABION__OP__BODY_OPEN_SESSION;
    op.open_session = &open;
    ck_assert_int_eq(meta_fixture_apply(f, &op)->error, 0);
}

Gabion__ObjectInfo meta_fixture_object(struct meta_fixture *f,
                                       uint64_t size,
                                       uint8_t id[16])
{
    Gabion__ObjectInfo info = GABION__OBJECT_INFO__INIT;
    struct object_id object = { f->session, ++f->serial };

    object_id_encode(&object, id);
    info.id = (ProtobufCBinaryData){ 16, id };
    info.size = size;
    info.k = 4;
    info.m = 2;
    info.unit = 262144;
    return info;
}

int meta_fixture_write(struct meta_fixture *f,
                       uint64_t ino,
                       uint64_t offset,
                       uint64_t length)
{
    Gabion__CommitWrites commit = GABION__COMMIT_WRITES__INIT;
    Gabion__FileWrite file = GABION__FILE_WRITE__INIT;
    Gabion__FileWrite *files = &file;
    Gabion__Extent extent = GABION__EXTENT__INIT;
    Gabion__Extent *extents = &extent;
    Gabion__ObjectInfo info;
    Gabion__ObjectInfo *infos = &info;
    uint8_t id[16];

    info = meta_fixture_object(f, length, id);
    extent.offset = offset;
    extent.length = length;
    extent.object = 1;
    file.ino = ino;
    file.n_extent = 1;
    file.extent = &extents;
    file.end = offset + length;
    commit.n_object = 1;
    commit.object = &infos;
    commit.n_file = 1;
    commit.file = &files;
    return meta_fixture_run(f, GABION__OP__BODY_COMMIT_WRITES, &commit)->error;
}

Gabion__Attr meta_fixture_attr(struct meta_fixture *f, uint64_t ino)
{
    Gabion__GetAttrRequest request = GABION__GET_ATTR_REQUEST__INIT;
    Gabion__Attr attr = GABION__ATTR__INIT;
    Gabion__AttrReply *reply;

    request.ino = ino;
    ck_assert_int_eq(meta_read_attr(f->reader, &request, &reply), 0);
    if (reply->error == 0) {
        attr = *reply->attr;
    }
    gabion__attr_reply__free_unpacked(reply, NULL);
    return attr;
}

uint64_t meta_fixture_resolve(struct meta_fixture *f, const char *path)
{
    Gabion__LookupRequest request = GABION__LOOKUP_REQUEST__INIT;
    char copy[256];
    char *rest = copy;
    char *name;
    uint64_t ino = META_ROOT_INO;

    (void)snprintf(copy, sizeof copy, "%s", path);
    while (ino != 0 && (name = strsep(&rest, "/")) != NULL) {
        Gabion__AttrReply *reply;

        request.parent = ino;
        request.name = meta_fixture_bytes(name);
        ck_assert_int_eq(meta_read_lookup(f->reader, &request, &reply), 0);
        ino = reply->error == 0 ? reply->attr->ino : 0;
        gabion__attr_reply__free_unpacked(reply, NULL);
    }
    return ino;
}

int64_t meta_fixture_query(const struct meta_fixture *f, const char *sql)
{
    sqlite3_stmt *statement;
    int64_t result;

    ck_assert_int_eq(sqlite3_prepare_v2(f->sqlite, sql, -1, &statement, NULL),
                     SQLITE_OK);
    ck_assert_int_eq(sqlite3_step(statement), SQLITE_ROW);
    result = sqlite3_column_int64(statement, 0);
    (void)sqlite3_finalize(statement);
    return result;
}

static void dump_table(sqlite3 *handle, const char *table, FILE *out)
{
    char *sql = sqlite3_mprintf("SELECT * FROM %s ORDER BY 1, 2", table);
    sqlite3_stmt *rows;

    ck_assert_int_eq(sqlite3_prepare_v2(handle, sql, -1, &rows, NULL),
                     SQLITE_OK);
    while (sqlite3_step(rows) == SQLITE_ROW) {
        (void)fprintf(out, "%s", table);
        for (int i = 0; i < sqlite3_column_count(rows); i++) {
            const uint8_t *bytes = sqlite3_column_blob(rows, i);

            if (strcmp(sqlite3_column_name(rows, i), "applied") == 0) {
                continue;
            }
            (void)fputc('|', out);
            for (int j = 0; j < sqlite3_column_bytes(rows, i); j++) {
                (void)fprintf(out, "%02x", bytes[j]);
            }
        }
        (void)fputc('\n', out);
    }
    (void)sqlite3_finalize(rows);
    sqlite3_free(sql);
}

char *meta_fixture_dump(const struct meta_fixture *f)
{
    static const char *const tables[] = {
        "meta",   "counter", "inode",   "dentry", "symlink", "xattr",
        "extent", "object",  "session", "result", "orphan",
    };
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    ck_assert_ptr_nonnull(out);
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        dump_table(f->sqlite, tables[i], out);
    }
    (void)fclose(out);
    return text;
}
