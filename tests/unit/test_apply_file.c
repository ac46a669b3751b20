#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <check.h>

#include "common/object_id.h"
#include "storaged/meta/acl.h"
#include "tests/unit/meta_fixture.h"

#define ROOT META_ROOT_INO

static struct meta_fixture f;

static void setup(void)
{
    meta_fixture_open(&f);
}

static void teardown(void)
{
    meta_fixture_close(&f);
}

static const Gabion__OpResult *last(void)
{
    return f.results.results[0];
}

static int set_attr(uint64_t ino, uint32_t valid, uint32_t value, int64_t time)
{
    Gabion__SetAttr set = GABION__SET_ATTR__INIT;

    set.ino = ino;
    set.valid = valid;
    set.mode = value;
    set.uid = value;
    set.gid = value;
    set.size = value;
    set.atime_ns = time;
    set.mtime_ns = time;
    return meta_fixture_run(&f, GABION__OP__BODY_SET_ATTR, &set)->error;
}

/* The file's extents in words, like "0+4096@1:0 8192+3=abc". */
static const char *layout(uint64_t ino)
{
    static char text[4096];
    Gabion__GetLayoutRequest request = GABION__GET_LAYOUT_REQUEST__INIT;
    Gabion__GetLayoutReply *reply;
    size_t used = 0;

    request.ino = ino;
    request.limit = 8192;
    ck_assert_int_eq(meta_read_layout(f.reader, &request, &reply), 0);
    ck_assert_int_eq(reply->error, 0);
    ck_assert(reply->end);
    text[0] = '\0';
    for (size_t i = 0; i < reply->n_extent; i++) {
        const Gabion__Extent *extent = reply->extent[i];
        struct object_id id;

        used += (size_t)snprintf(text + used, sizeof text - used, "%s%d+%d",
                                 i > 0 ? " " : "", (int)extent->offset,
                                 (int)extent->length);
        if (extent->object == 0) {
            used += (size_t)snprintf(text + used, sizeof text - used, "=%.*s",
                                     (int)extent->data.len,
                                     (const char *)extent->data.data);
            continue;
        }
        ck_assert_uint_le(extent->object, reply->n_object);
        object_id_decode(reply->object[extent->object - 1]->id.data, &id);
        used += (size_t)snprintf(text + used, sizeof text - used, "@%d:%d",
                                 (int)id.serial, (int)extent->object_offset);
    }
    gabion__get_layout_reply__free_unpacked(reply, NULL);
    return text;
}

static int64_t live(uint64_t serial)
{
    char sql[64];

    (void)snprintf(sql, sizeof sql, "SELECT live FROM object WHERE serial=%d",
                   (int)serial);
    return meta_fixture_query(&f, sql);
}

/* ---------------------------------------------------------------- setattr */

START_TEST(setattr_changes_what_it_names_and_ctime)
{
    uint64_t ino = meta_fixture_file(&f, ROOT, "file");
    Gabion__Attr before = meta_fixture_attr(&f, ino);

    ck_assert_int_eq(set_attr(ino, 0, 1, 1), 0);
    ck_assert_uint_eq(last()->n_attr, 1);
    ck_assert_int_eq(meta_fixture_attr(&f, ino).ctime_ns, before.ctime_ns);
    ck_assert_int_eq(set_attr(ino, 1, 07601, 0), 0);
    ck_assert_uint_eq(last()->attr[0]->mode, S_IFREG | 07601);
    ck_assert_int_eq(last()->attr[0]->ctime_ns, f.now_ns);
    ck_assert_int_eq(last()->attr[0]->mtime_ns, before.mtime_ns);
    ck_assert_int_eq(set_attr(ino, 2, 55, 0), 0);
    ck_assert_uint_eq(last()->attr[0]->uid, 55);
    ck_assert_uint_eq(last()->attr[0]->gid, 100);
    ck_assert_int_eq(set_attr(ino, 4, UINT32_MAX, 0), 0);
    ck_assert_uint_eq(last()->attr[0]->gid, UINT32_MAX);
    ck_assert_int_eq(set_attr(ino, 16, 0, -5), 0);
    ck_assert_int_eq(last()->attr[0]->atime_ns, -5);
    ck_assert_int_eq(set_attr(ino, 32, 0, 123456789), 0);
    ck_assert_int_eq(last()->attr[0]->mtime_ns, 123456789);
    ck_assert_int_eq(last()->attr[0]->ctime_ns, f.now_ns);
    ck_assert_uint_eq(last()->attr[0]->data_version, before.data_version);
}
END_TEST

START_TEST(setattr_keeps_the_type)
{
    ck_assert_int_eq(set_attr(ROOT, 1, S_IFREG | 0700, 0), 0);
    ck_assert_uint_eq(last()->attr[0]->mode, S_IFDIR | 0700);
}
END_TEST

START_TEST(setattr_refuses)
{
    uint64_t fifo;
    uint64_t file = meta_fixture_file(&f, ROOT, "file");

    ck_assert_int_eq(
        meta_fixture_create(&f, ROOT, "fifo", S_IFIFO | 0600, &fifo), 0);
    ck_assert_int_eq(set_attr(ROOT, 8, 5, 0), EISDIR);
    ck_assert_int_eq(set_attr(fifo, 8, 5, 0), EINVAL);
    ck_assert_int_eq(set_attr(999, 1, 5, 0), ENOENT);
    ck_assert_int_eq(set_attr(file, 64, 5, 0), EINVAL);
    ck_assert_int_eq(meta_fixture_set_size(&f, file, 1ull << 63), EFBIG);
    ck_assert_int_eq(meta_fixture_set_size(&f, file, INT64_MAX), 0);
}
END_TEST

START_TEST(truncate_trims_and_growing_shows_a_hole)
{
    uint64_t ino = meta_fixture_file(&f, ROOT, "file");
    uint64_t version;

    ck_assert_int_eq(meta_fixture_write(&f, ino, 0, 10000), 0);
    ck_assert_int_eq(meta_fixture_write(&f, ino, 10000, 5000), 0);
    version = last()->attr[0]->data_version;
    ck_assert_int_eq(meta_fixture_set_size(&f, ino, 7001), 0);
    ck_assert_uint_gt(last()->attr[0]->data_version, version);
    ck_assert_uint_eq(last()->attr[0]->size, 7001);
    ck_assert_uint_eq(last()->attr[0]->allocated, 7001);
    ck_assert_int_eq(last()->attr[0]->mtime_ns, f.now_ns);
    ck_assert_str_eq(layout(ino), "0+7001@1:0");
    ck_assert_int_eq(live(1), 7001);
    ck_assert_int_eq(live(2), 0);
    ck_assert_int_eq(meta_fixture_set_size(&f, ino, 20000), 0);
    ck_assert_uint_eq(last()->attr[0]->allocated, 7001);
    ck_assert_str_eq(layout(ino), "0+7001@1:0");
    version = last()->attr[0]->data_version;
    ck_assert_int_eq(meta_fixture_set_size(&f, ino, 20000), 0);
    ck_assert_uint_eq(last()->attr[0]->data_version, version);
    ck_assert_int_eq(last()->attr[0]->mtime_ns, f.now_ns);
    ck_assert_int_eq(meta_fixture_set_size(&f, ino, 0), 0);
    ck_assert_uint_eq(last()->attr[0]->allocated, 0);
    ck_assert_int_eq(live(1), 0);
}
END_TEST

START_TEST(truncate_with_mtime_takes_that_mtime)
{
    uint64_t ino = meta_fixture_file(&f, ROOT, "file");

    ck_assert_int_eq(set_attr(ino, 8 | 32, 10, 42), 0);
    ck_assert_int_eq(last()->attr[0]->mtime_ns, 42);
    ck_assert_uint_eq(last()->attr[0]->size, 10);
}
END_TEST

/* ---------------------------------------------------------------- commit */

#define EXTENTS_MAX 4

/* One file's part of a commit, in short. */
struct piece {
    uint64_t offset;
    uint64_t length;
    uint32_t object; /* 1 or 2: the new objects; 0: inline */
    uint64_t object_offset;
};

/* A commit with up to two new objects of 10000 bytes. */
struct commit {
    Gabion__CommitWrites body;
    Gabion__ObjectInfo infos[2];
    Gabion__ObjectInfo *info_pointers[2];
    uint8_t ids[2][16];
    Gabion__FileWrite files[2];
    Gabion__FileWrite *file_pointers[2];
    Gabion__Extent extents[2][EXTENTS_MAX];
    Gabion__Extent *extent_pointers[2][EXTENTS_MAX];
};

static void commit_init(struct commit *c, size_t n_objects)
{
    gabion__commit_writes__init(&c->body);
    for (size_t i = 0; i < n_objects; i++) {
        c->infos[i] = meta_fixture_object(&f, 10000, c->ids[i]);
        c->info_pointers[i] = &c->infos[i];
    }
    c->body.n_object = n_objects;
    c->body.object = c->info_pointers;
    c->body.file = c->file_pointers;
}

static void commit_add(struct commit *c,
                       uint64_t ino,
                       const struct piece *pieces,
                       size_t n,
                       uint64_t end)
{
    static uint8_t letters[] = "abcdefghijklmnopqrstuvwxyz";
    size_t file = c->body.n_file++;

    gabion__file_write__init(&c->files[file]);
    for (size_t i = 0; i < n; i++) {
        Gabion__Extent *extent = &c->extents[file][i];

        gabion__extent__init(extent);
        extent->offset = pieces[i].offset;
        extent->length = pieces[i].length;
        extent->object = pieces[i].object;
        extent->object_offset = pieces[i].object_offset;
        if (extent->object == 0) {
            extent->data = (ProtobufCBinaryData){ pieces[i].length, letters };
        }
        c->extent_pointers[file][i] = extent;
    }
    c->files[file].ino = ino;
    c->files[file].n_extent = n;
    c->files[file].extent = c->extent_pointers[file];
    c->files[file].end = end;
    c->file_pointers[file] = &c->files[file];
}

static int commit_run(struct commit *c)
{
    return meta_fixture_run(&f, GABION__OP__BODY_COMMIT_WRITES, &c->body)
        ->error;
}

static int write_pieces(uint64_t ino, const struct piece *pieces, size_t n)
{
    struct commit c;

    commit_init(&c, 1);
    commit_add(&c, ino, pieces, n, 0);
    return commit_run(&c);
}

/* What is written over "0+1000@1:0 1000+20=abcdefghijklmnopqrst
 * 2000+1000@1:2000" and what is there then. */
static const struct {
    size_t n;
    struct piece pieces[EXTENTS_MAX];
    const char *expected;
    int64_t live; /* of the old object */
} overwrites[] = {
    { 1,
      { { 0, 1000, 1, 0 } },
      "0+1000@2:0 1000+20=abcdefghijklmnopqrst 2000+1000@1:2000",
      1000 },
    { 1,
      { { 100, 200, 1, 5 } },
      "0+100@1:0 100+200@2:5 300+700@1:300 "
      "1000+20=abcdefghijklmnopqrst 2000+1000@1:2000",
      1800 },
    { 1,
      { { 990, 20, 1, 0 } },
      "0+990@1:0 990+20@2:0 1010+10=klmnopqrst 2000+1000@1:2000",
      1990 },
    { 1,
      { { 1005, 3, 1, 7 } },
      "0+1000@1:0 1000+5=abcde 1005+3@2:7 1008+12=ijklmnopqrst "
      "2000+1000@1:2000",
      2000 },
    { 1,
      { { 1019, 2, 0, 0 } },
      "0+1000@1:0 1000+21=abcdefghijklmnopqrsab 2000+1000@1:2000",
      2000 },
    { 1,
      { { 500, 2000, 1, 0 } },
      "0+500@1:0 500+2000@2:0 2500+500@1:2500",
      1000 },
    { 1, { { 0, 3000, 1, 0 } }, "0+3000@2:0", 0 },
    { 1, { { 0, 5000, 1, 0 } }, "0+5000@2:0", 0 },
    { 1,
      { { 3000, 10, 0, 0 } },
      "0+1000@1:0 1000+20=abcdefghijklmnopqrst 2000+1000@1:2000 "
      "3000+10=abcdefghij",
      2000 },
    { 1,
      { { 1500, 100, 1, 0 } },
      "0+1000@1:0 1000+20=abcdefghijklmnopqrst 1500+100@2:0 2000+1000@1:2000",
      2000 },
    { 3,
      { { 10, 10, 1, 0 }, { 20, 10, 1, 500 }, { 2999, 5, 1, 100 } },
      "0+10@1:0 10+10@2:0 20+10@2:500 30+970@1:30 "
      "1000+20=abcdefghijklmnopqrst 2000+999@1:2000 2999+5@2:100",
      1979 },
    { 2,
      { { 1, 1, 1, 1 }, { 3, 1, 1, 3 } },
      "0+1@1:0 1+1@2:1 2+1@1:2 3+1@2:3 4+996@1:4 "
      "1000+20=abcdefghijklmnopqrst 2000+1000@1:2000",
      1998 },
};

START_TEST(commit_replaces_extents_to_the_byte)
{
    static const struct piece old[] = { { 0, 1000, 1, 0 },
                                        { 1000, 20, 0, 0 },
                                        { 2000, 1000, 1, 2000 } };
    uint64_t ino = meta_fixture_file(&f, ROOT, "file");

    ck_assert_int_eq(write_pieces(ino, old, 3), 0);
    ck_assert_str_eq(
        layout(ino),
        "0+1000@1:0 1000+20=abcdefghijklmnopqrst 2000+1000@1:2000");
    ck_assert_int_eq(write_pieces(ino, overwrites[_i].pieces, overwrites[_i].n),
                     0);
    ck_assert_str_eq(layout(ino), overwrites[_i].expected);
    ck_assert_int_eq(live(1), overwrites[_i].live);
    ck_assert_int_eq((int64_t)meta_fixture_attr(&f, ino).allocated,
                     meta_fixture_query(&f, "SELECT sum(length) FROM extent"));
}
END_TEST

/* Bytes of any value, NUL included; a full extent is followed by another. */
START_TEST(small_appends_grow_one_inline_extent)
{
    uint64_t ino = meta_fixture_file(&f, ROOT, "a");
    static const uint8_t bytes[41] = { 0, 255, 'a', 0xc3, 0, '\n' };
    struct commit c;

    for (uint64_t at = 0; at < 401 * sizeof bytes; at += sizeof bytes) {
        commit_init(&c, 0);
        commit_add(&c, ino, (struct piece[]){ { at, sizeof bytes, 0, 0 } }, 1,
                   0);
        c.extents[0][0].data =
            (ProtobufCBinaryData){ sizeof bytes, (uint8_t *)(uintptr_t)bytes };
        ck_assert_int_eq(commit_run(&c), 0);
    }
    ck_assert_int_eq(meta_fixture_query(&f, "SELECT count(*) FROM extent"), 2);
    ck_assert_int_eq(meta_fixture_query(&f, "SELECT count(*) FROM extent WHERE "
                                            "length = length(data) AND "
                                            "typeof(data) = 'blob'"),
                     2);
    ck_assert_int_eq(
        meta_fixture_query(
            &f, "SELECT replace(hex(data), '00FF61C3000A' || "
                "hex(zeroblob(35)), '') = '' FROM extent WHERE offset = 0"),
        1);
    ck_assert_int_eq((int64_t)meta_fixture_attr(&f, ino).allocated, 401 * 41);
}
END_TEST

START_TEST(commit_writes_several_files_at_once)
{
    uint64_t a = meta_fixture_file(&f, ROOT, "a");
    uint64_t b = meta_fixture_file(&f, ROOT, "b");
    struct commit c;

    commit_init(&c, 2);
    commit_add(&c, a, (struct piece[]){ { 0, 100, 1, 0 } }, 1, 100);
    commit_add(&c, b, (struct piece[]){ { 50, 100, 1, 100 } }, 1, 4000);
    c.files[1].mtime_ns = 99;
    ck_assert_int_eq(commit_run(&c), 0);
    ck_assert_uint_eq(last()->n_attr, 2);
    ck_assert_uint_eq(last()->attr[0]->ino, a);
    ck_assert_uint_eq(last()->attr[0]->size, 100);
    ck_assert_int_ne(last()->attr[0]->mtime_ns, f.now_ns);
    ck_assert_int_eq(last()->attr[0]->ctime_ns, f.now_ns);
    ck_assert_uint_eq(last()->attr[1]->ino, b);
    ck_assert_uint_eq(last()->attr[1]->size, 4000);
    ck_assert_uint_eq(last()->attr[1]->allocated, 100);
    ck_assert_int_eq(last()->attr[1]->mtime_ns, 99);
    ck_assert_int_eq(live(1), 200);
    ck_assert_int_eq(live(2), 0); /* named, but not used: garbage */
}
END_TEST

START_TEST(later_part_of_a_commit_wins)
{
    uint64_t a = meta_fixture_file(&f, ROOT, "a");
    struct commit c;

    commit_init(&c, 2);
    commit_add(&c, a, (struct piece[]){ { 0, 100, 1, 0 } }, 1, 0);
    commit_add(&c, a, (struct piece[]){ { 0, 100, 2, 0 } }, 1, 0);
    ck_assert_int_eq(commit_run(&c), 0);
    ck_assert_str_eq(layout(a), "0+100@2:0");
    ck_assert_int_eq(live(1), 0);
    ck_assert_int_eq(live(2), 100);
}
END_TEST

START_TEST(commit_passes_over_vanished_files)
{
    uint64_t a = meta_fixture_file(&f, ROOT, "a");
    struct meta_garbage garbage[4];
    struct commit c;
    size_t n;

    commit_init(&c, 2);
    commit_add(&c, 999, (struct piece[]){ { 0, 100, 2, 0 } }, 1, 100);
    commit_add(&c, a, (struct piece[]){ { 0, 100, 1, 100 } }, 1, 100);
    ck_assert_int_eq(commit_run(&c), 0);
    ck_assert_uint_eq(last()->n_attr, 2);
    ck_assert_uint_eq(last()->attr[0]->ino, 0);
    ck_assert_uint_eq(last()->attr[1]->ino, a);
    ck_assert_int_eq(live(1), 100);
    ck_assert_int_eq(meta_read_garbage(f.reader, NULL, 4, garbage, &n), 0);
    ck_assert_uint_eq(n, 1);
    ck_assert_mem_eq(garbage[0].object, c.ids[1], 16);
    ck_assert_int_eq(
        meta_read_garbage(f.reader, &garbage[0], 3, garbage + 1, &n), 0);
    ck_assert_uint_eq(n, 0);
}
END_TEST

START_TEST(object_may_be_named_again_while_it_lives)
{
    uint64_t a = meta_fixture_file(&f, ROOT, "a");
    struct commit c;

    commit_init(&c, 1);
    commit_add(&c, a, (struct piece[]){ { 0, 100, 1, 0 } }, 1, 0);
    ck_assert_int_eq(commit_run(&c), 0);
    c.extents[0][0].offset = 100;
    ck_assert_int_eq(commit_run(&c), 0);
    ck_assert_int_eq(live(1), 200);
    c.infos[0].missing = 32; /* known since the first commit */
    ck_assert_int_eq(commit_run(&c), 0);
    c.infos[0].size = 9999;
    ck_assert_int_eq(commit_run(&c), EINVAL);
    c.infos[0].size = 10000;
    ck_assert_int_eq(meta_fixture_set_size(&f, a, 0), 0);
    ck_assert_int_eq(live(1), 0);
    ck_assert_int_eq(commit_run(&c), ESTALE); /* may be deleted by now */
}
END_TEST

/* A mount that was away for so long that its session has expired goes on under
 * another number, with objects that it made under the old one. */
START_TEST(objects_of_a_session_that_has_ended_are_taken)
{
    uint64_t a = meta_fixture_file(&f, ROOT, "a");
    Gabion__CloseSession end = GABION__CLOSE_SESSION__INIT;
    struct commit c;

    commit_init(&c, 1);
    commit_add(&c, a, (struct piece[]){ { 0, 100, 1, 0 } }, 1, 100);
    meta_fixture_open_session(&f, 2);
    f.session = 2;
    ck_assert_int_eq(commit_run(&c), EINVAL); /* the other one lives */
    f.session = 1;
    ck_assert_int_eq(
        meta_fixture_run(&f, GABION__OP__BODY_CLOSE_SESSION, &end)->error, 0);
    f.session = 2;
    ck_assert_int_eq(commit_run(&c), 0);
    ck_assert_int_eq(live(1), 100);
    c.ids[0][0] = 3;
    ck_assert_int_eq(commit_run(&c), EINVAL); /* there was none */
}
END_TEST

static void spoil_set(struct commit *c)
{
    static Gabion__SetAttr set;

    gabion__set_attr__init(&set);
    set.valid = 8; /* size */
    c->files[0].set = &set;
}

static void spoil_session(struct commit *c)
{
    c->ids[0][7] ^= 1;
}
static void spoil_id_length(struct commit *c)
{
    c->infos[0].id.len = 15;
}
static void spoil_object_index(struct commit *c)
{
    c->extents[0][0].object = 3;
}
static void spoil_object_end(struct commit *c)
{
    c->extents[0][0].object_offset = 9901;
}
static void spoil_object_offset(struct commit *c)
{
    c->extents[0][0].object_offset = UINT64_MAX - 50;
}
static void spoil_length(struct commit *c)
{
    c->extents[0][0].length = 0;
}
static void spoil_offset(struct commit *c)
{
    c->extents[0][0].offset = INT64_MAX;
}
static void spoil_order(struct commit *c)
{
    c->extents[0][1].offset = 99;
}
static void spoil_data(struct commit *c)
{
    c->extents[0][1].data.len--;
}
static void spoil_data_too(struct commit *c)
{
    c->extents[0][0].data = c->extents[0][1].data;
}
static void spoil_type(struct commit *c)
{
    c->files[0].ino = ROOT;
}
static void spoil_end(struct commit *c)
{
    c->files[0].end = UINT64_MAX;
}
static void spoil_twin(struct commit *c)
{
    memcpy(c->ids[1], c->ids[0], 16);
    c->infos[1].size = 7;
}
static void spoil_second_file(struct commit *c)
{
    commit_add(c, ROOT, (struct piece[]){ { 0, 5, 1, 0 } }, 1, 0);
}

static const struct {
    void (*spoil)(struct commit *c);
    int error;
} bad_commits[] = {
    { spoil_set, EINVAL },         { spoil_session, EINVAL },
    { spoil_id_length, EINVAL },   { spoil_object_index, EINVAL },
    { spoil_object_end, EINVAL },  { spoil_object_offset, EINVAL },
    { spoil_length, EINVAL },      { spoil_offset, EINVAL },
    { spoil_order, EINVAL },       { spoil_data, EINVAL },
    { spoil_data_too, EINVAL },    { spoil_type, EISDIR },
    { spoil_end, EFBIG },          { spoil_twin, EINVAL },
    { spoil_second_file, EISDIR },
};

START_TEST(commit_refuses_all_or_nothing)
{
    uint64_t a = meta_fixture_file(&f, ROOT, "a");
    struct commit c;

    commit_init(&c, 2);
    commit_add(&c, a, (struct piece[]){ { 0, 100, 1, 0 }, { 100, 20, 0, 0 } },
               2, 0);
    bad_commits[_i].spoil(&c);
    ck_assert_int_eq(commit_run(&c), bad_commits[_i].error);
    ck_assert_int_eq(meta_fixture_query(&f, "SELECT count(*) FROM object"), 0);
    ck_assert_str_eq(layout(a), "");
}
END_TEST

START_TEST(garbage_is_forgotten_and_nothing_else)
{
    uint64_t a = meta_fixture_file(&f, ROOT, "a");
    Gabion__ForgetObjects body = GABION__FORGET_OBJECTS__INIT;
    Gabion__Op op = GABION__OP__INIT;
    uint8_t ids[3][16];
    ProtobufCBinaryData list[4];

    ck_assert_int_eq(meta_fixture_write(&f, a, 0, 100), 0);
    ck_assert_int_eq(meta_fixture_write(&f, a, 0, 100), 0);
    for (uint64_t i = 0; i < 3; i++) {
        struct object_id id = { 1, i + 1 };

        object_id_encode(&id, ids[i]);
        list[i] = (ProtobufCBinaryData){ 16, ids[i] };
    }
    list[3] = (ProtobufCBinaryData){ 0, NULL };
    body.n_id = 4;
    body.id = list;
    op.body_case = GABION__OP__BODY_FORGET_OBJECTS;
    op.forget_objects = &body;
    ck_assert_int_eq(meta_fixture_apply(&f, &op)->error, 0);
    ck_assert_int_eq(meta_fixture_query(&f, "SELECT count(*) FROM object"), 1);
    ck_assert_int_eq(live(2), 100);
    ck_assert_int_eq(meta_fixture_query(&f, "SELECT n_objects FROM counter"),
                     1);
}
END_TEST

START_TEST(layout_comes_in_pages)
{
    Gabion__GetLayoutRequest request = GABION__GET_LAYOUT_REQUEST__INIT;
    Gabion__GetLayoutReply *reply;
    uint64_t ino = meta_fixture_file(&f, ROOT, "a");

    for (uint64_t i = 0; i < 5; i++) {
        ck_assert_int_eq(meta_fixture_write(&f, ino, i * 100, 50), 0);
    }
    request.ino = ino;
    request.offset = 149;
    request.limit = 2;
    ck_assert_int_eq(meta_read_layout(f.reader, &request, &reply), 0);
    ck_assert_uint_eq(reply->n_extent, 2);
    ck_assert_uint_eq(reply->n_object, 2);
    ck_assert_uint_eq(reply->extent[0]->offset, 100);
    ck_assert_uint_eq(reply->attr->size, 450);
    ck_assert(!reply->end);
    gabion__get_layout_reply__free_unpacked(reply, NULL);
    request.offset = 150;
    request.limit = 3;
    ck_assert_int_eq(meta_read_layout(f.reader, &request, &reply), 0);
    ck_assert_uint_eq(reply->extent[0]->offset, 200);
    ck_assert(reply->end);
    gabion__get_layout_reply__free_unpacked(reply, NULL);
    request.ino = ROOT;
    ck_assert_int_eq(meta_read_layout(f.reader, &request, &reply), 0);
    ck_assert_int_eq(reply->error, EISDIR);
    gabion__get_layout_reply__free_unpacked(reply, NULL);
}
END_TEST

/* ---------------------------------------------------------------- allocate */

static int allocate(uint64_t ino,
                    uint64_t offset,
                    uint64_t length,
                    uint32_t how)
{
    Gabion__Allocate body = GABION__ALLOCATE__INIT;

    body.ino = ino;
    body.offset = offset;
    body.length = length;
    body.how = how;
    return meta_fixture_run(&f, GABION__OP__BODY_ALLOCATE, &body)->error;
}

static const struct {
    uint64_t offset;
    uint64_t length;
    uint32_t how;
    uint64_t size;
    const char *expected;
} allocations[] = {
    { 500, 100, 1, 1000, "0+1000@1:0" },
    { 500, 1000, 1, 1500, "0+1000@1:0" },
    { 500, 100, 2, 1000, "0+500@1:0 600+400@1:600" },
    { 500, 1000, 2, 1000, "0+500@1:0" },
    { 0, 10, 3, 1000, "10+990@1:10" },
    { 900, 1000, 3, 1000, "0+900@1:0" },
    { 900, 1000, 4, 1900, "0+900@1:0" },
    { 0, 1000, 4, 1000, "" },
};

START_TEST(allocate_extends_punches_and_zeroes)
{
    uint64_t ino = meta_fixture_file(&f, ROOT, "file");

    ck_assert_int_eq(meta_fixture_write(&f, ino, 0, 1000), 0);
    ck_assert_int_eq(allocate(ino, allocations[_i].offset,
                              allocations[_i].length, allocations[_i].how),
                     0);
    ck_assert_uint_eq(last()->n_attr, 1);
    ck_assert_uint_eq(last()->attr[0]->size, allocations[_i].size);
    ck_assert_int_eq(last()->attr[0]->mtime_ns, f.now_ns);
    ck_assert_int_eq(last()->attr[0]->ctime_ns, f.now_ns);
    ck_assert_str_eq(layout(ino), allocations[_i].expected);
    ck_assert_int_eq((int64_t)last()->attr[0]->allocated, live(1));
}
END_TEST

START_TEST(allocate_refuses)
{
    uint64_t ino = meta_fixture_file(&f, ROOT, "file");
    uint64_t fifo;

    ck_assert_int_eq(
        meta_fixture_create(&f, ROOT, "fifo", S_IFIFO | 0600, &fifo), 0);
    ck_assert_int_eq(allocate(ino, 0, 0, 1), EINVAL);
    ck_assert_int_eq(allocate(ino, 0, 1, 0), EINVAL);
    ck_assert_int_eq(allocate(ino, 0, 1, 5), EINVAL);
    ck_assert_int_eq(allocate(ino, INT64_MAX, 1, 1), EFBIG);
    ck_assert_int_eq(allocate(ino, 1, UINT64_MAX, 2), EFBIG);
    ck_assert_int_eq(allocate(ROOT, 0, 1, 1), EISDIR);
    ck_assert_int_eq(allocate(fifo, 0, 1, 1), ENODEV);
    ck_assert_int_eq(allocate(999, 0, 1, 1), ENOENT);
}
END_TEST

/* ---------------------------------------------------------------- clone */

static int clone_range(uint64_t source,
                       uint64_t source_offset,
                       uint64_t ino,
                       uint64_t offset,
                       uint64_t length)
{
    Gabion__Clone body = GABION__CLONE__INIT;

    body.source = source;
    body.source_offset = source_offset;
    body.ino = ino;
    body.offset = offset;
    body.length = length;
    return meta_fixture_run(&f, GABION__OP__BODY_CLONE, &body)->error;
}

/* From "10+100@1:0 200+5=abcde", size 300, onto "0+500@2:0". */
static const struct {
    uint64_t source_offset;
    uint64_t offset;
    uint64_t length;
    uint64_t shared;
    uint64_t size;
    const char *expected;
} clones[] = {
    { 0, 0, UINT64_MAX, 300, 500, "10+100@1:0 200+5=abcde 300+200@2:300" },
    { 0, 600, 300, 300, 900, "0+500@2:0 610+100@1:0 800+5=abcde" },
    { 50, 0, 10, 10, 500, "0+10@1:40 10+490@2:10" },
    { 202, 7, 2, 2, 500, "0+7@2:0 7+2=cd 9+491@2:9" },
    { 120, 100, 50, 50, 500, "0+100@2:0 150+350@2:150" },
    { 120, 480, 50, 50, 530, "0+480@2:0" },
    { 300, 0, 10, 0, 500, "0+500@2:0" },
    { 1000, 0, 10, 0, 500, "0+500@2:0" },
    { 299, 499, 10, 1, 500, "0+499@2:0" },
    { 0, 0, 0, 0, 500, "0+500@2:0" },
};

START_TEST(clone_shares_extents)
{
    static const struct piece pieces[] = { { 10, 100, 1, 0 },
                                           { 200, 5, 0, 0 } };
    uint64_t a = meta_fixture_file(&f, ROOT, "a");
    uint64_t b = meta_fixture_file(&f, ROOT, "b");

    ck_assert_int_eq(write_pieces(a, pieces, 2), 0);
    ck_assert_int_eq(meta_fixture_set_size(&f, a, 300), 0);
    ck_assert_int_eq(meta_fixture_write(&f, b, 0, 500), 0);
    ck_assert_int_eq(clone_range(a, clones[_i].source_offset, b,
                                 clones[_i].offset, clones[_i].length),
                     0);
    ck_assert_uint_eq(last()->length, clones[_i].shared);
    ck_assert_uint_eq(last()->n_attr, 2);
    ck_assert_uint_eq(last()->attr[0]->ino, b);
    ck_assert_uint_eq(last()->attr[0]->size, clones[_i].size);
    ck_assert((last()->attr[0]->mtime_ns == f.now_ns) ==
              (clones[_i].shared > 0));
    ck_assert_uint_eq(last()->attr[1]->ino, a);
    ck_assert_str_eq(layout(b), clones[_i].expected);
    ck_assert_str_eq(layout(a), "10+100@1:0 200+5=abcde");
    ck_assert_int_eq(
        live(1) + live(2),
        meta_fixture_query(
            &f, "SELECT sum(length) FROM extent WHERE session <> 0"));
}
END_TEST

START_TEST(clone_within_a_file)
{
    uint64_t a = meta_fixture_file(&f, ROOT, "a");

    ck_assert_int_eq(meta_fixture_write(&f, a, 0, 100), 0);
    ck_assert_int_eq(clone_range(a, 0, a, 100, 100), 0);
    ck_assert_str_eq(layout(a), "0+100@1:0 100+100@1:0");
    ck_assert_uint_eq(last()->attr[1]->size, 200);
    ck_assert_int_eq(clone_range(a, 0, a, 99, 100), EINVAL);
    ck_assert_int_eq(clone_range(a, 0, a, 0, 1), EINVAL);
    /* Cut at the end of the file they do not overlap. */
    ck_assert_int_eq(clone_range(a, 150, a, 50, 1000), 0);
    ck_assert_uint_eq(last()->length, 50);
}
END_TEST

START_TEST(clone_refuses)
{
    uint64_t a = meta_fixture_file(&f, ROOT, "a");

    ck_assert_int_eq(meta_fixture_set_size(&f, a, 100), 0);
    ck_assert_int_eq(clone_range(a, 0, ROOT, 0, 10), EISDIR);
    ck_assert_int_eq(clone_range(ROOT, 0, a, 0, 10), EISDIR);
    ck_assert_int_eq(clone_range(a, 0, 999, 0, 10), ENOENT);
    ck_assert_int_eq(clone_range(999, 0, a, 0, 10), ENOENT);
    ck_assert_int_eq(clone_range(a, 0, a, INT64_MAX - 5, 10), EFBIG);
    ck_assert_int_eq(clone_range(a, 0, a, UINT64_MAX, 10), EFBIG);
}
END_TEST

START_TEST(clone_of_very_many_extents_is_cut_short)
{
    uint64_t a = meta_fixture_file(&f, ROOT, "a");
    uint64_t b = meta_fixture_file(&f, ROOT, "b");
    uint64_t done = 0;
    int calls = 0;

    /* 3 MiB of 16 KiB inline extents, twice: more than one call takes. */
    for (uint64_t i = 0; i < 384; i++) {
        static uint8_t bytes[16384];
        struct commit c;

        memset(bytes, 'x', sizeof bytes);
        commit_init(&c, 0);
        commit_add(&c, a, (struct piece[]){ { i * 16384, 16384, 0, 0 } }, 1, 0);
        c.extents[0][0].data.data = bytes;
        ck_assert_int_eq(commit_run(&c), 0);
    }
    while (done < 384ull * 16384) {
        ck_assert_int_eq(clone_range(a, done, b, done, UINT64_MAX), 0);
        ck_assert_uint_gt(last()->length, 0);
        done += last()->length;
        calls++;
    }
    ck_assert_int_eq(calls, 2);
    ck_assert_uint_eq(meta_fixture_attr(&f, b).allocated, 384ull * 16384);
}
END_TEST

/* ---------------------------------------------------------------- xattrs */

/* The value as a string, "-" when absent. */
static const char *get_xattr(uint64_t ino, const char *name)
{
    static char text[256];
    Gabion__GetXattrRequest request = GABION__GET_XATTR_REQUEST__INIT;
    Gabion__GetXattrReply *reply;

    request.ino = ino;
    request.name = meta_fixture_bytes(name);
    ck_assert_int_eq(meta_read_xattr(f.reader, &request, &reply), 0);
    if (reply->error != 0) {
        ck_assert_int_eq(reply->error, ENODATA);
        (void)strcpy(text, "-");
    } else {
        ck_assert_uint_lt(reply->value.len, sizeof text);
        (void)snprintf(text, sizeof text, "%.*s", (int)reply->value.len,
                       (const char *)reply->value.data);
    }
    gabion__get_xattr_reply__free_unpacked(reply, NULL);
    return text;
}

static int remove_xattr(uint64_t ino, const char *name)
{
    Gabion__RemoveXattr body = GABION__REMOVE_XATTR__INIT;

    body.ino = ino;
    body.name = meta_fixture_bytes(name);
    return meta_fixture_run(&f, GABION__OP__BODY_REMOVE_XATTR, &body)->error;
}

START_TEST(xattrs_are_set_replaced_and_removed)
{
    uint64_t ino = meta_fixture_file(&f, ROOT, "a");

    ck_assert_str_eq(get_xattr(ino, "user.a"), "-");
    ck_assert_int_eq(
        meta_fixture_set_xattr(&f, ino, "user.a", "1", 1, XATTR_REPLACE),
        ENODATA);
    ck_assert_int_eq(
        meta_fixture_set_xattr(&f, ino, "user.a", "1", 1, XATTR_CREATE), 0);
    ck_assert(last()->attr[0]->has_xattrs);
    ck_assert_int_eq(last()->attr[0]->ctime_ns, f.now_ns);
    ck_assert_str_eq(get_xattr(ino, "user.a"), "1");
    ck_assert_int_eq(
        meta_fixture_set_xattr(&f, ino, "user.a", "2", 1, XATTR_CREATE),
        EEXIST);
    ck_assert_int_eq(
        meta_fixture_set_xattr(&f, ino, "user.a", "22", 2, XATTR_REPLACE), 0);
    ck_assert_str_eq(get_xattr(ino, "user.a"), "22");
    ck_assert_int_eq(meta_fixture_set_xattr(&f, ino, "user.b", NULL, 0, 0), 0);
    ck_assert_str_eq(get_xattr(ino, "user.b"), "");
    ck_assert_int_eq(remove_xattr(ino, "user.a"), 0);
    ck_assert(last()->attr[0]->has_xattrs);
    ck_assert_int_eq(remove_xattr(ino, "user.a"), ENODATA);
    ck_assert_int_eq(remove_xattr(ino, "user.b"), 0);
    ck_assert(!last()->attr[0]->has_xattrs);
}
END_TEST

START_TEST(xattr_refuses)
{
    ck_assert_int_eq(meta_fixture_set_xattr(&f, 999, "user.a", "1", 1, 0),
                     ENOENT);
    ck_assert_int_eq(meta_fixture_set_xattr(&f, ROOT, "user.a", "1", 1, 3),
                     EINVAL);
    ck_assert_int_eq(meta_fixture_set_xattr(&f, ROOT, "system.x", "1", 1, 0),
                     EOPNOTSUPP);
    ck_assert_int_eq(remove_xattr(999, "user.a"), ENOENT);
}
END_TEST

START_TEST(an_inode_has_no_more_xattrs_than_can_be_listed)
{
    uint64_t ino = meta_fixture_file(&f, ROOT, "a");
    char name[16];

    for (unsigned i = 0; i < 256; i++) {
        (void)snprintf(name, sizeof name, "user.%u", i);
        ck_assert_int_eq(meta_fixture_set_xattr(&f, ino, name, "1", 1, 0), 0);
    }
    ck_assert_int_eq(meta_fixture_set_xattr(&f, ino, "user.x", "1", 1, 0),
                     EDQUOT);
    ck_assert_int_eq(meta_fixture_set_xattr(&f, ino, "user.0", "2", 1, 0), 0);
}
END_TEST

START_TEST(xattrs_are_listed)
{
    Gabion__GetXattrRequest request = GABION__GET_XATTR_REQUEST__INIT;
    Gabion__GetXattrReply *reply;

    request.ino = meta_fixture_file(&f, ROOT, "a");
    ck_assert_int_eq(meta_read_xattr(f.reader, &request, &reply), 0);
    ck_assert_int_eq(reply->error, 0);
    ck_assert_uint_eq(reply->n_name, 0);
    gabion__get_xattr_reply__free_unpacked(reply, NULL);
    ck_assert_int_eq(
        meta_fixture_set_xattr(&f, request.ino, "user.b", "1", 1, 0), 0);
    ck_assert_int_eq(
        meta_fixture_set_xattr(&f, request.ino, "user.a", "1", 1, 0), 0);
    ck_assert_int_eq(meta_read_xattr(f.reader, &request, &reply), 0);
    ck_assert_uint_eq(reply->n_name, 2);
    ck_assert_mem_eq(reply->name[0].data, "user.a", 6);
    ck_assert_mem_eq(reply->name[1].data, "user.b", 6);
    gabion__get_xattr_reply__free_unpacked(reply, NULL);
}
END_TEST

/* ---------------------------------------------------------------- ACLs */

/* u::rwx,u:1:rwx,g::r-x,m::PERM,o::--- */
static const uint8_t *extended_acl(uint8_t mask)
{
    static uint8_t acl[4 + 5 * 8] = "\2\0\0\0"
                                    "\1\0\7\0\377\377\377\377"
                                    "\2\0\7\0\1\0\0\0"
                                    "\4\0\5\0\377\377\377\377"
                                    "\20\0\0\0\377\377\377\377"
                                    "\40\0\0\0\377\377\377";

    acl[sizeof acl - 1] = 0xff;
    acl[4 + 3 * 8 + 2] = mask;
    return acl;
}
#define EXTENDED_SIZE (4 + 5 * 8)

/* u::rw-,g::r--,o::r-- */
static const uint8_t minimal_acl[4 + 3 * 8] = {
    2,  0, 0, 0,                         /* version */
    1,  0, 6, 0, 0xff, 0xff, 0xff, 0xff, /* owner */
    4,  0, 4, 0, 0xff, 0xff, 0xff, 0xff, /* group */
    32, 0, 4, 0, 0xff, 0xff, 0xff, 0xff, /* others */
};

static int64_t n_xattrs(void)
{
    return meta_fixture_query(&f, "SELECT count(*) FROM xattr");
}

START_TEST(access_acl_sets_the_mode)
{
    uint64_t ino = meta_fixture_file(&f, ROOT, "a");

    ck_assert_int_eq(meta_fixture_set_xattr(&f, ino, ACL_XATTR_ACCESS,
                                            extended_acl(6), EXTENDED_SIZE, 0),
                     0);
    ck_assert_uint_eq(last()->attr[0]->mode, S_IFREG | 0760);
    ck_assert(last()->attr[0]->has_xattrs);
    ck_assert_int_eq(n_xattrs(), 1);
    /* A minimal one is a chmod, and takes the other away. */
    ck_assert_int_eq(meta_fixture_set_xattr(&f, ino, ACL_XATTR_ACCESS,
                                            minimal_acl, sizeof minimal_acl, 0),
                     0);
    ck_assert_uint_eq(last()->attr[0]->mode, S_IFREG | 0644);
    ck_assert(!last()->attr[0]->has_xattrs);
    ck_assert_int_eq(n_xattrs(), 0);
    ck_assert_str_eq(get_xattr(ino, ACL_XATTR_ACCESS), "-");
}
END_TEST

START_TEST(chmod_moves_the_mask)
{
    uint64_t ino = meta_fixture_file(&f, ROOT, "a");

    ck_assert_int_eq(meta_fixture_set_xattr(&f, ino, ACL_XATTR_ACCESS,
                                            extended_acl(6), EXTENDED_SIZE, 0),
                     0);
    ck_assert_int_eq(set_attr(ino, 1, 0710, 0), 0);
    ck_assert_int_eq(
        meta_fixture_query(&f, "SELECT hex(substr(value, 31, 1)) FROM xattr"),
        1);
    ck_assert_int_eq(
        meta_fixture_query(&f, "SELECT hex(substr(value, 23, 1)) FROM xattr"),
        5);
}
END_TEST

START_TEST(attributes_may_come_with_a_commit)
{
    uint64_t ino = meta_fixture_file(&f, ROOT, "a");
    Gabion__SetAttr set = GABION__SET_ATTR__INIT;
    const Gabion__Attr *attr;
    struct commit c;

    ck_assert_int_eq(meta_fixture_set_xattr(&f, ino, ACL_XATTR_ACCESS,
                                            extended_acl(6), EXTENDED_SIZE, 0),
                     0);
    set.ino = ino;
    set.valid = 1 | 2 | 4 | 16;
    set.mode = 0710;
    set.uid = 5;
    set.gid = 6;
    set.atime_ns = 7;
    commit_init(&c, 0);
    commit_add(&c, ino, NULL, 0, 0);
    c.files[0].set = &set;
    c.files[0].mtime_ns = 8;
    ck_assert_int_eq(commit_run(&c), 0);
    attr = last()->attr[0];
    ck_assert_uint_eq(attr->mode, S_IFREG | 0710);
    ck_assert_uint_eq(attr->uid, 5);
    ck_assert_uint_eq(attr->gid, 6);
    ck_assert_int_eq(attr->atime_ns, 7);
    ck_assert_int_eq(attr->mtime_ns, 8);
    ck_assert_msg(attr->data_version == 1, "no byte has changed");
    ck_assert_int_eq(
        meta_fixture_query(&f, "SELECT hex(substr(value, 23, 1)) FROM xattr"),
        5);
}
END_TEST

START_TEST(empty_acl_takes_the_acl_away)
{
    uint64_t ino = meta_fixture_directory(&f, ROOT, "a");

    ck_assert_int_eq(meta_fixture_set_xattr(&f, ino, ACL_XATTR_DEFAULT,
                                            minimal_acl, sizeof minimal_acl, 0),
                     0);
    ck_assert_int_eq(n_xattrs(), 1);
    ck_assert_uint_eq(last()->attr[0]->mode, S_IFDIR | 0755);
    ck_assert_int_eq(meta_fixture_set_xattr(&f, ino, ACL_XATTR_DEFAULT,
                                            minimal_acl, _i == 0 ? 0 : 4, 0),
                     0);
    ck_assert_int_eq(n_xattrs(), 0);
    ck_assert_int_eq(remove_xattr(ino, ACL_XATTR_DEFAULT), ENODATA);
}
END_TEST

START_TEST(acl_refuses)
{
    uint64_t file = meta_fixture_file(&f, ROOT, "a");
    uint64_t link;

    ck_assert_int_eq(meta_fixture_create(&f, ROOT, "l", S_IFLNK | 0777, &link),
                     0);
    ck_assert_int_eq(meta_fixture_set_xattr(&f, file, ACL_XATTR_DEFAULT,
                                            minimal_acl, sizeof minimal_acl, 0),
                     EACCES);
    ck_assert_int_eq(meta_fixture_set_xattr(&f, file, ACL_XATTR_ACCESS,
                                            minimal_acl, sizeof minimal_acl - 1,
                                            0),
                     EINVAL);
    ck_assert_int_eq(meta_fixture_set_xattr(&f, link, ACL_XATTR_ACCESS,
                                            minimal_acl, sizeof minimal_acl, 0),
                     EOPNOTSUPP);
    ck_assert_int_eq(n_xattrs(), 0);
}
END_TEST

START_TEST(default_acl_is_inherited_instead_of_the_umask)
{
    uint64_t d = meta_fixture_directory(&f, ROOT, "d");
    Gabion__Create create = GABION__CREATE__INIT;

    ck_assert_int_eq(meta_fixture_set_xattr(&f, d, ACL_XATTR_DEFAULT,
                                            extended_acl(7), EXTENDED_SIZE, 0),
                     0);
    create.parent = d;
    create.umask = 077;
    create.mode = S_IFREG | 0664;
    create.name = meta_fixture_bytes("file");
    create.ino = f.next_ino++;
    ck_assert_int_eq(
        meta_fixture_run(&f, GABION__OP__BODY_CREATE, &create)->error, 0);
    ck_assert_uint_eq(last()->attr[0]->mode, S_IFREG | 0660);
    ck_assert(last()->attr[0]->has_xattrs);
    ck_assert_int_eq(n_xattrs(), 2);

    create.mode = S_IFDIR | 0777;
    create.name = meta_fixture_bytes("directory");
    create.ino = f.next_ino++;
    ck_assert_int_eq(
        meta_fixture_run(&f, GABION__OP__BODY_CREATE, &create)->error, 0);
    ck_assert_uint_eq(last()->attr[0]->mode, S_IFDIR | 0770);
    ck_assert_int_eq(n_xattrs(), 4); /* access and default */

    create.mode = S_IFLNK | 0777;
    create.target = meta_fixture_bytes("x");
    create.name = meta_fixture_bytes("link");
    create.ino = f.next_ino++;
    ck_assert_int_eq(
        meta_fixture_run(&f, GABION__OP__BODY_CREATE, &create)->error, 0);
    ck_assert_uint_eq(last()->attr[0]->mode, S_IFLNK | 0777);
    ck_assert_int_eq(n_xattrs(), 4);
}
END_TEST

START_TEST(minimal_default_acl_gives_modes_and_no_access_acl)
{
    uint64_t d = meta_fixture_directory(&f, ROOT, "d");
    Gabion__Create create = GABION__CREATE__INIT;

    ck_assert_int_eq(meta_fixture_set_xattr(&f, d, ACL_XATTR_DEFAULT,
                                            minimal_acl, sizeof minimal_acl, 0),
                     0);
    create.parent = d;
    create.umask = 077;
    create.mode = S_IFREG | 0666;
    create.name = meta_fixture_bytes("file");
    create.ino = f.next_ino++;
    ck_assert_int_eq(
        meta_fixture_run(&f, GABION__OP__BODY_CREATE, &create)->error, 0);
    ck_assert_uint_eq(last()->attr[0]->mode, S_IFREG | 0644);
    ck_assert(!last()->attr[0]->has_xattrs);
    ck_assert_int_eq(n_xattrs(), 1);
}
END_TEST

static void add_tests(TCase *tcase)
{
    tcase_add_test(tcase, setattr_changes_what_it_names_and_ctime);
    tcase_add_test(tcase, setattr_keeps_the_type);
    tcase_add_test(tcase, setattr_refuses);
    tcase_add_test(tcase, truncate_trims_and_growing_shows_a_hole);
    tcase_add_test(tcase, truncate_with_mtime_takes_that_mtime);
    tcase_add_loop_test(tcase, commit_replaces_extents_to_the_byte, 0,
                        sizeof overwrites / sizeof overwrites[0]);
    tcase_add_test(tcase, small_appends_grow_one_inline_extent);
    tcase_add_test(tcase, commit_writes_several_files_at_once);
    tcase_add_test(tcase, later_part_of_a_commit_wins);
    tcase_add_test(tcase, commit_passes_over_vanished_files);
    tcase_add_test(tcase, object_may_be_named_again_while_it_lives);
    tcase_add_test(tcase, objects_of_a_session_that_has_ended_are_taken);
    tcase_add_loop_test(tcase, commit_refuses_all_or_nothing, 0,
                        sizeof bad_commits / sizeof bad_commits[0]);
    tcase_add_test(tcase, garbage_is_forgotten_and_nothing_else);
    tcase_add_test(tcase, layout_comes_in_pages);
    tcase_add_loop_test(tcase, allocate_extends_punches_and_zeroes, 0,
                        sizeof allocations / sizeof allocations[0]);
    tcase_add_test(tcase, allocate_refuses);
    tcase_add_loop_test(tcase, clone_shares_extents, 0,
                        sizeof clones / sizeof clones[0]);
    tcase_add_test(tcase, clone_within_a_file);
    tcase_add_test(tcase, clone_refuses);
    tcase_add_test(tcase, clone_of_very_many_extents_is_cut_short);
    tcase_add_test(tcase, xattrs_are_set_replaced_and_removed);
    tcase_add_test(tcase, xattr_refuses);
    tcase_add_test(tcase, an_inode_has_no_more_xattrs_than_can_be_listed);
    tcase_add_test(tcase, xattrs_are_listed);
    tcase_add_test(tcase, access_acl_sets_the_mode);
    tcase_add_test(tcase, chmod_moves_the_mask);
    tcase_add_test(tcase, attributes_may_come_with_a_commit);
    tcase_add_loop_test(tcase, empty_acl_takes_the_acl_away, 0, 2);
    tcase_add_test(tcase, acl_refuses);
    tcase_add_test(tcase, default_acl_is_inherited_instead_of_the_umask);
    tcase_add_test(tcase, minimal_default_acl_gives_modes_and_no_access_acl);
}

int main(void)
{
    Suite *suite = suite_create("apply_file");
    TCase *tcase = tcase_create("apply_file");
    SRunner *runner;
    int n_failed;

    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    add_tests(tcase);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? 0 : 1;
}
