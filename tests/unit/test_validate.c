/* Form checks: each valid message passes, each broken field is refused, and
 * random bytes never do harm. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <check.h>

#include "proto/validate.h"

static const uint8_t good_id[16] = { 0, 0, 0, 0, 0, 0, 0, 5,
                                     0, 0, 0, 0, 0, 0, 0, 1 };
static const uint8_t zero_id[16];
static uint8_t bytes_of_a[XATTR_VALUE_MAX + 1]; /* filled with 'a' */

static ProtobufCBinaryData data_of(const void *bytes, size_t size)
{
    return (ProtobufCBinaryData){ .len = size,
                                  .data = (uint8_t *)(uintptr_t)bytes };
}

static ProtobufCBinaryData text(const char *string)
{
    return data_of(string, strlen(string));
}

static ProtobufCBinaryData many_a(size_t n)
{
    return data_of(bytes_of_a, n);
}

static void fill_bytes(void)
{
    memset(bytes_of_a, 'a', sizeof bytes_of_a);
}

/* ------------------------------------------------------------------- names */

START_TEST(names_are_those_of_posix)
{
    static const struct {
        const char *name;
        size_t size;
        int rc;
    } names[] = {
        { "a", 1, 0 },        { "...", 3, 0 },       { ".a", 2, 0 },
        { "..a", 3, 0 },      { "\xff\xfe", 2, 0 },  { " \n", 2, 0 },
        { "", 0, -EINVAL },   { ".", 1, -EINVAL },   { "..", 2, -EINVAL },
        { "/", 1, -EINVAL },  { "a/b", 3, -EINVAL }, { "a\0b", 3, -EINVAL },
        { "\0", 1, -EINVAL },
    };
    ProtobufCBinaryData name;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        name = data_of(names[i].name, names[i].size);
        ck_assert_int_eq(validate_name(&name, NULL), names[i].rc);
    }
    name = many_a(NAME_LENGTH_MAX);
    ck_assert_int_eq(validate_name(&name, NULL), 0);
    name = many_a(NAME_LENGTH_MAX + 1);
    ck_assert_int_eq(validate_name(&name, NULL), -EINVAL);
    name = data_of(NULL, 0);
    ck_assert_int_eq(validate_name(&name, NULL), -EINVAL);
}
END_TEST

START_TEST(block_keys_are_decoded_or_refused)
{
    Gabion__BlockKey key;
    struct block_key decoded;
    struct errmsg msg = { "" };

    gabion__block_key__init(&key);
    key.object = data_of(good_id, 16);
    key.stripe = STRIPES_MAX - 1;
    key.index = 23;
    ck_assert_int_eq(validate_block_key(&key, &decoded, &msg), 0);
    ck_assert_uint_eq(decoded.object.session, 5);
    ck_assert_uint_eq(decoded.object.serial, 1);
    ck_assert_uint_eq(decoded.stripe, STRIPES_MAX - 1);
    ck_assert_uint_eq(decoded.index, 23);
    key.stripe = STRIPES_MAX;
    ck_assert_int_eq(validate_block_key(&key, &decoded, &msg), -EINVAL);
    key.stripe = 0;
    key.index = 24;
    ck_assert_int_eq(validate_block_key(&key, &decoded, &msg), -EINVAL);
    key.index = 0;
    key.object.len = 15;
    ck_assert_int_eq(validate_block_key(&key, &decoded, &msg), -EINVAL);
    key.object = data_of(zero_id, 16);
    ck_assert_int_eq(validate_block_key(&key, &decoded, &msg), -EINVAL);
    ck_assert_int_eq(validate_block_key(NULL, &decoded, &msg), -EINVAL);
    ck_assert_str_ne(msg.text, "");
}
END_TEST

/* --------------------------------------------------------------------- ops */

/* One message of each kind, linked together; valid as op_init() leaves it. */
struct fixture {
    Gabion__Op op;
    Gabion__Create create;
    Gabion__Link link;
    Gabion__Unlink unlink;
    Gabion__Rename rename;
    Gabion__SetAttr set_attr;
    Gabion__SetXattr set_xattr;
    Gabion__RemoveXattr remove_xattr;
    Gabion__CommitWrites commit;
    Gabion__ObjectInfo object[2];
    Gabion__ObjectInfo *objects[2];
    Gabion__FileWrite file;
    Gabion__SetAttr file_set;
    Gabion__FileWrite *files[1];
    Gabion__Extent extent[3];
    Gabion__Extent *extents[3];
    Gabion__Allocate allocate;
    Gabion__Clone clone;
    Gabion__OpenSession open;
    Gabion__CloseSession close;
    Gabion__ReserveInodes reserve;
    Gabion__ReapOrphans reap;
    Gabion__ForgetObjects forget;
    uint64_t inodes[2];
    ProtobufCBinaryData ids[2];
};

static void init_objects(struct fixture *f)
{
    for (size_t i = 0; i < 2; i++) {
        gabion__object_info__init(&f->object[i]);
        f->object[i].id = data_of(good_id, 16);
        f->object[i].size = 1 << 20;
        f->object[i].k = 4;
        f->object[i].m = 2;
        f->object[i].unit = 262144;
        f->object[i].missing = 0x21;
        f->objects[i] = &f->object[i];
    }
    for (size_t i = 0; i < 3; i++) {
        gabion__extent__init(&f->extent[i]);
        f->extents[i] = &f->extent[i];
    }
    f->extent[0].length = 1 << 20;
    f->extent[0].object = 1;
    f->extent[1].offset = 1 << 20;
    f->extent[1].length = 10;
    f->extent[1].data = many_a(10);
    f->extent[2].offset = INT64_MAX - 100;
    f->extent[2].length = 100;
    f->extent[2].object = 2;
    f->extent[2].object_offset = (1 << 20) - 100;
}

static void init_commit(struct fixture *f)
{
    init_objects(f);
    gabion__commit_writes__init(&f->commit);
    gabion__file_write__init(&f->file);
    f->files[0] = &f->file;
    f->file.ino = 7;
    f->file.n_extent = 3;
    f->file.extent = f->extents;
    f->file.end = INT64_MAX;
    gabion__set_attr__init(&f->file_set);
    f->file_set.ino = 7;
    f->file_set.valid = 1 | 2 | 4 | 16;
    f->file_set.mode = 07777;
    f->file.set = &f->file_set;
    f->commit.n_object = 2;
    f->commit.object = f->objects;
    f->commit.n_file = 1;
    f->commit.file = f->files;
}

static void init_names(struct fixture *f)
{
    gabion__create__init(&f->create);
    f->create.parent = 1;
    f->create.name = text("name");
    f->create.ino = 9;
    f->create.mode = S_IFREG | 0644;
    f->create.umask = 022;
    gabion__link__init(&f->link);
    f->link.ino = INT64_MAX;
    f->link.parent = 1;
    f->link.name = text("name");
    gabion__unlink__init(&f->unlink);
    f->unlink.parent = 1;
    f->unlink.name = text("name");
    gabion__rename__init(&f->rename);
    f->rename.parent = 1;
    f->rename.name = text("name");
    f->rename.new_parent = 1;
    f->rename.new_name = text("other");
    f->rename.flags = 2;
}

static void init_attributes(struct fixture *f)
{
    gabion__set_attr__init(&f->set_attr);
    f->set_attr.ino = 3;
    f->set_attr.valid = 63;
    f->set_attr.mode = 07777;
    f->set_attr.size = INT64_MAX;
    f->set_attr.atime_ns = INT64_MIN;
    f->set_attr.mtime_ns = INT64_MAX;
    gabion__set_xattr__init(&f->set_xattr);
    f->set_xattr.ino = 3;
    f->set_xattr.name = text("user.a/b");
    f->set_xattr.value = many_a(XATTR_VALUE_MAX);
    f->set_xattr.flags = 2;
    gabion__remove_xattr__init(&f->remove_xattr);
    f->remove_xattr.ino = 3;
    f->remove_xattr.name = text("user.a");
    gabion__allocate__init(&f->allocate);
    f->allocate.ino = 3;
    f->allocate.length = INT64_MAX;
    f->allocate.how = 4;
    gabion__clone__init(&f->clone);
    f->clone.source = 3;
    f->clone.ino = 4;
    f->clone.offset = INT64_MAX - 5;
    f->clone.length = 5;
}

static void init_sessions(struct fixture *f)
{
    gabion__open_session__init(&f->open);
    f->open.host = (char *)(uintptr_t) "host-1.example";
    gabion__close_session__init(&f->close);
    gabion__reserve_inodes__init(&f->reserve);
    f->reserve.count = 1048576;
    gabion__reap_orphans__init(&f->reap);
    f->inodes[0] = 1;
    f->inodes[1] = INT64_MAX;
    f->reap.n_ino = 2;
    f->reap.ino = f->inodes;
    gabion__forget_objects__init(&f->forget);
    f->ids[0] = data_of(good_id, 16);
    f->ids[1] = data_of(good_id, 16);
    f->forget.n_id = 2;
    f->forget.id = f->ids;
}

static void op_init(struct fixture *f, Gabion__Op__BodyCase body)
{
    /* in the order of the numbers of Op's body */
    void *const bodies[] = {
        &f->create,   &f->link,      &f->unlink,       &f->rename,
        &f->set_attr, &f->set_xattr, &f->remove_xattr, &f->commit,
        &f->allocate, &f->clone,     &f->open,         &f->close,
        &f->reserve,  &f->reap,      &f->forget,
    };

    memset(f, 0, sizeof *f);
    init_names(f);
    init_attributes(f);
    init_commit(f);
    init_sessions(f);
    gabion__op__init(&f->op);
    f->op.session = 5;
    f->op.sequence = 2;
    f->op.acked = 1;
    f->op.body_case = body;
    f->op.create = bodies[body - GABION__OP__BODY_CREATE];
}

START_TEST(every_kind_of_op_has_a_valid_form)
{
    struct fixture f;
    struct errmsg msg = { "" };

    op_init(&f, (Gabion__Op__BodyCase)_i);
    ck_assert_msg(validate_op(&f.op, &msg) == 0, "%s", msg.text);
}
END_TEST

/* Each breaks one thing of a valid op of its kind. */
#define BREAK(name, statement)          \
    static void name(struct fixture *f) \
    {                                   \
        statement;                      \
    }

BREAK(no_body, f->op.body_case = GABION__OP__BODY__NOT_SET)
BREAK(null_body, f->op.create = NULL)
BREAK(unknown_body, f->op.body_case = (Gabion__Op__BodyCase)99)
BREAK(no_sequence, f->op.sequence = 0)
BREAK(acked_itself, f->op.acked = 2)
BREAK(create_parent_0, f->create.parent = 0)
BREAK(create_parent_big, f->create.parent = (uint64_t)1 << 63)
BREAK(create_name, f->create.name = text("a/b"))
BREAK(create_ino_0, f->create.ino = 0)
BREAK(create_no_type, f->create.mode = 0644)
BREAK(create_two_types, f->create.mode = S_IFMT | 0644)
BREAK(create_high_bits, f->create.mode |= 1u << 16)
BREAK(create_umask, f->create.umask = 01000)
BREAK(create_uid, f->create.uid = UINT32_MAX)
BREAK(create_gid, f->create.gid = UINT32_MAX)
BREAK(create_rdev, f->create.rdev = 5)
BREAK(create_target, f->create.target = text("x"))
BREAK(symlink_no_target, f->create.mode = S_IFLNK | 0777)
BREAK(symlink_long, f->create.mode = S_IFLNK | 0777;
      f->create.target = many_a(SYMLINK_LENGTH_MAX + 1))
BREAK(symlink_nul, f->create.mode = S_IFLNK | 0777;
      f->create.target = data_of("a\0b", 3))
BREAK(link_ino, f->link.ino = (uint64_t)INT64_MAX + 1)
BREAK(link_parent, f->link.parent = 0)
BREAK(link_name, f->link.name = text(""))
BREAK(unlink_parent, f->unlink.parent = 0)
BREAK(unlink_name, f->unlink.name = text(".."))
BREAK(rename_parent, f->rename.parent = 0)
BREAK(rename_name, f->rename.name = text("."))
BREAK(rename_new_parent, f->rename.new_parent = 0)
BREAK(rename_new_name, f->rename.new_name = text("/"))
BREAK(rename_flags, f->rename.flags = 3)
BREAK(attr_ino, f->set_attr.ino = 0)
BREAK(attr_valid, f->set_attr.valid = 64)
BREAK(attr_mode, f->set_attr.mode = 010000)
BREAK(attr_uid, f->set_attr.uid = UINT32_MAX)
BREAK(attr_gid, f->set_attr.gid = UINT32_MAX)
BREAK(attr_size, f->set_attr.size = (uint64_t)INT64_MAX + 1)
BREAK(xattr_ino, f->set_xattr.ino = 0)
BREAK(xattr_name, f->set_xattr.name = text(""))
BREAK(xattr_name_long, f->set_xattr.name = many_a(NAME_LENGTH_MAX + 1))
BREAK(xattr_name_nul, f->set_xattr.name = data_of("a\0", 2))
BREAK(xattr_value, f->set_xattr.value = many_a(XATTR_VALUE_MAX + 1))
BREAK(xattr_flags, f->set_xattr.flags = 3)
BREAK(remove_ino, f->remove_xattr.ino = 0)
BREAK(remove_name, f->remove_xattr.name = text(""))
BREAK(file_set_ino, f->file_set.ino = 8)
BREAK(file_set_size, f->file_set.valid = 8)
BREAK(file_set_mtime, f->file_set.valid = 32)
BREAK(file_set_mode, f->file_set.mode = 010000)
BREAK(object_id_short, f->object[1].id.len = 15)
BREAK(object_id_zero, f->object[1].id = data_of(zero_id, 16))
BREAK(object_empty, f->object[0].size = 0)
BREAK(object_big, f->object[0].size = OBJECT_SIZE_MAX + 1)
BREAK(object_k0, f->object[0].k = 0)
BREAK(object_k17, f->object[0].k = 17)
BREAK(object_m9, f->object[0].m = 9)
BREAK(object_huge_code, f->object[0].k = UINT32_MAX; f->object[0].m = 5)
BREAK(object_unit_0, f->object[0].unit = 0)
BREAK(object_unit_odd, f->object[0].unit = 4095)
BREAK(object_unit_big, f->object[0].unit = (1 << 20) + 4096)
BREAK(object_missing, f->object[0].missing = 0x40)
BREAK(file_ino, f->file.ino = 0)
BREAK(file_end, f->file.end = (uint64_t)1 << 63)
BREAK(extent_empty, f->extent[0].length = 0)
BREAK(extent_of_no_object, f->extent[0].object = 3)
BREAK(extent_past_object, f->extent[0].object_offset = 1)
BREAK(extent_far_past_object, f->extent[0].object_offset = UINT64_MAX - 5)
BREAK(extent_long, f->extent[2].length = 101)
BREAK(extent_wraps, f->extent[2].offset = UINT64_MAX - 50)
BREAK(extent_past_files, f->extent[2].offset = INT64_MAX - 99)
BREAK(extent_overlaps, f->extent[1].offset--)
BREAK(extent_goes_back, f->extent[2].offset = 0)
BREAK(extent_both, f->extent[0].data = many_a(5))
BREAK(inline_short, f->extent[1].data = many_a(9))
BREAK(inline_long, f->extent[1].length = 16385;
      f->extent[1].data = many_a(16385))
BREAK(inline_offset, f->extent[1].object_offset = 1)
BREAK(allocate_ino, f->allocate.ino = 0)
BREAK(allocate_nothing, f->allocate.length = 0)
BREAK(allocate_far, f->allocate.offset = 1)
BREAK(allocate_wraps, f->allocate.offset = UINT64_MAX)
BREAK(allocate_how_0, f->allocate.how = 0)
BREAK(allocate_how_5, f->allocate.how = 5)
BREAK(clone_source, f->clone.source = 0)
BREAK(clone_ino, f->clone.ino = 0)
BREAK(clone_nothing, f->clone.length = 0)
BREAK(clone_far, f->clone.offset++)
BREAK(clone_source_far, f->clone.source_offset = INT64_MAX - 4)
BREAK(host_newline, f->open.host = (char *)(uintptr_t) "a\nerror forged")
BREAK(host_quote, f->open.host = (char *)(uintptr_t) "a\" b=\"")
BREAK(host_space, f->open.host = (char *)(uintptr_t) "a b")
BREAK(host_binary, f->open.host = (char *)(uintptr_t) "a\x80")
BREAK(reserve_none, f->reserve.count = 0)
BREAK(reserve_many, f->reserve.count = 1048577)
BREAK(reap_0, f->inodes[1] = 0)
BREAK(forget_short, f->ids[1].len = 3)

static const struct {
    Gabion__Op__BodyCase body;
    void (*breaks)(struct fixture *f);
} broken[] = {
    { GABION__OP__BODY_CREATE, no_body },
    { GABION__OP__BODY_CREATE, null_body },
    { GABION__OP__BODY_CREATE, unknown_body },
    { GABION__OP__BODY_CREATE, no_sequence },
    { GABION__OP__BODY_CREATE, acked_itself },
    { GABION__OP__BODY_CREATE, create_parent_0 },
    { GABION__OP__BODY_CREATE, create_parent_big },
    { GABION__OP__BODY_CREATE, create_name },
    { GABION__OP__BODY_CREATE, create_ino_0 },
    { GABION__OP__BODY_CREATE, create_no_type },
    { GABION__OP__BODY_CREATE, create_two_types },
    { GABION__OP__BODY_CREATE, create_high_bits },
    { GABION__OP__BODY_CREATE, create_umask },
    { GABION__OP__BODY_CREATE, create_uid },
    { GABION__OP__BODY_CREATE, create_gid },
    { GABION__OP__BODY_CREATE, create_rdev },
    { GABION__OP__BODY_CREATE, create_target },
    { GABION__OP__BODY_CREATE, symlink_no_target },
    { GABION__OP__BODY_CREATE, symlink_long },
    { GABION__OP__BODY_CREATE, symlink_nul },
    { GABION__OP__BODY_LINK, link_ino },
    { GABION__OP__BODY_LINK, link_parent },
    { GABION__OP__BODY_LINK, link_name },
    { GABION__OP__BODY_UNLINK, unlink_parent },
    { GABION__OP__BODY_UNLINK, unlink_name },
    { GABION__OP__BODY_RENAME, rename_parent },
    { GABION__OP__BODY_RENAME, rename_name },
    { GABION__OP__BODY_RENAME, rename_new_parent },
    { GABION__OP__BODY_RENAME, rename_new_name },
    { GABION__OP__BODY_RENAME, rename_flags },
    { GABION__OP__BODY_SET_ATTR, attr_ino },
    { GABION__OP__BODY_SET_ATTR, attr_valid },
    { GABION__OP__BODY_SET_ATTR, attr_mode },
    { GABION__OP__BODY_SET_ATTR, attr_uid },
    { GABION__OP__BODY_SET_ATTR, attr_gid },
    { GABION__OP__BODY_SET_ATTR, attr_size },
    { GABION__OP__BODY_SET_XATTR, xattr_ino },
    { GABION__OP__BODY_SET_XATTR, xattr_name },
    { GABION__OP__BODY_SET_XATTR, xattr_name_long },
    { GABION__OP__BODY_SET_XATTR, xattr_name_nul },
    { GABION__OP__BODY_SET_XATTR, xattr_value },
    { GABION__OP__BODY_SET_XATTR, xattr_flags },
    { GABION__OP__BODY_REMOVE_XATTR, remove_ino },
    { GABION__OP__BODY_REMOVE_XATTR, remove_name },
    { GABION__OP__BODY_COMMIT_WRITES, file_set_ino },
    { GABION__OP__BODY_COMMIT_WRITES, file_set_size },
    { GABION__OP__BODY_COMMIT_WRITES, file_set_mtime },
    { GABION__OP__BODY_COMMIT_WRITES, file_set_mode },
    { GABION__OP__BODY_COMMIT_WRITES, object_id_short },
    { GABION__OP__BODY_COMMIT_WRITES, object_id_zero },
    { GABION__OP__BODY_COMMIT_WRITES, object_empty },
    { GABION__OP__BODY_COMMIT_WRITES, object_big },
    { GABION__OP__BODY_COMMIT_WRITES, object_k0 },
    { GABION__OP__BODY_COMMIT_WRITES, object_k17 },
    { GABION__OP__BODY_COMMIT_WRITES, object_m9 },
    { GABION__OP__BODY_COMMIT_WRITES, object_huge_code },
    { GABION__OP__BODY_COMMIT_WRITES, object_unit_0 },
    { GABION__OP__BODY_COMMIT_WRITES, object_unit_odd },
    { GABION__OP__BODY_COMMIT_WRITES, object_unit_big },
    { GABION__OP__BODY_COMMIT_WRITES, object_missing },
    { GABION__OP__BODY_COMMIT_WRITES, file_ino },
    { GABION__OP__BODY_COMMIT_WRITES, file_end },
    { GABION__OP__BODY_COMMIT_WRITES, extent_empty },
    { GABION__OP__BODY_COMMIT_WRITES, extent_of_no_object },
    { GABION__OP__BODY_COMMIT_WRITES, extent_past_object },
    { GABION__OP__BODY_COMMIT_WRITES, extent_far_past_object },
    { GABION__OP__BODY_COMMIT_WRITES, extent_long },
    { GABION__OP__BODY_COMMIT_WRITES, extent_wraps },
    { GABION__OP__BODY_COMMIT_WRITES, extent_past_files },
    { GABION__OP__BODY_COMMIT_WRITES, extent_overlaps },
    { GABION__OP__BODY_COMMIT_WRITES, extent_goes_back },
    { GABION__OP__BODY_COMMIT_WRITES, extent_both },
    { GABION__OP__BODY_COMMIT_WRITES, inline_short },
    { GABION__OP__BODY_COMMIT_WRITES, inline_long },
    { GABION__OP__BODY_COMMIT_WRITES, inline_offset },
    { GABION__OP__BODY_ALLOCATE, allocate_ino },
    { GABION__OP__BODY_ALLOCATE, allocate_nothing },
    { GABION__OP__BODY_ALLOCATE, allocate_far },
    { GABION__OP__BODY_ALLOCATE, allocate_wraps },
    { GABION__OP__BODY_ALLOCATE, allocate_how_0 },
    { GABION__OP__BODY_ALLOCATE, allocate_how_5 },
    { GABION__OP__BODY_CLONE, clone_source },
    { GABION__OP__BODY_CLONE, clone_ino },
    { GABION__OP__BODY_CLONE, clone_nothing },
    { GABION__OP__BODY_CLONE, clone_far },
    { GABION__OP__BODY_CLONE, clone_source_far },
    { GABION__OP__BODY_OPEN_SESSION, host_newline },
    { GABION__OP__BODY_OPEN_SESSION, host_quote },
    { GABION__OP__BODY_OPEN_SESSION, host_space },
    { GABION__OP__BODY_OPEN_SESSION, host_binary },
    { GABION__OP__BODY_RESERVE_INODES, reserve_none },
    { GABION__OP__BODY_RESERVE_INODES, reserve_many },
    { GABION__OP__BODY_REAP_ORPHANS, reap_0 },
    { GABION__OP__BODY_FORGET_OBJECTS, forget_short },
};

START_TEST(every_broken_field_is_refused)
{
    struct fixture f;
    struct errmsg msg = { "" };

    op_init(&f, broken[_i].body);
    broken[_i].breaks(&f);
    ck_assert_int_eq(validate_op(&f.op, &msg), -EINVAL);
    ck_assert_str_ne(msg.text, "");
}
END_TEST

START_TEST(who_opens_a_session_needs_no_number)
{
    struct fixture f;

    op_init(&f, GABION__OP__BODY_OPEN_SESSION);
    f.op.sequence = 0;
    f.op.acked = 0;
    ck_assert_int_eq(validate_op(&f.op, NULL), 0);
    f.op.session = 0;
    ck_assert_int_eq(validate_op(&f.op, NULL), 0);
}
END_TEST

START_TEST(a_symlink_and_a_device_have_their_fields)
{
    struct fixture f;

    op_init(&f, GABION__OP__BODY_CREATE);
    f.create.mode = S_IFLNK | 0777;
    f.create.target = many_a(SYMLINK_LENGTH_MAX);
    ck_assert_int_eq(validate_op(&f.op, NULL), 0);
    op_init(&f, GABION__OP__BODY_CREATE);
    f.create.mode = S_IFBLK | 0600;
    f.create.rdev = 0x801;
    ck_assert_int_eq(validate_op(&f.op, NULL), 0);
}
END_TEST

START_TEST(fields_not_set_by_set_attr_do_not_matter)
{
    struct fixture f;

    op_init(&f, GABION__OP__BODY_SET_ATTR);
    f.set_attr.valid = 0;
    f.set_attr.mode = UINT32_MAX;
    f.set_attr.uid = UINT32_MAX;
    f.set_attr.gid = UINT32_MAX;
    f.set_attr.size = UINT64_MAX;
    ck_assert_int_eq(validate_op(&f.op, NULL), 0);
}
END_TEST

/* ------------------------------------------------------- submit and layout */

START_TEST(a_submit_is_of_one_session_in_order)
{
    struct fixture a;
    struct fixture b;
    Gabion__Op *ops[] = { &a.op, &b.op };
    Gabion__SubmitRequest request;

    gabion__submit_request__init(&request);
    ck_assert_int_eq(validate_submit(&request, NULL), 0);
    request.n_op = 2;
    request.op = ops;
    op_init(&a, GABION__OP__BODY_LINK);
    op_init(&b, GABION__OP__BODY_UNLINK);
    b.op.sequence = 3;
    ck_assert_int_eq(validate_submit(&request, NULL), 0);
    b.op.sequence = 2;
    ck_assert_int_eq(validate_submit(&request, NULL), -EINVAL);
    b.op.sequence = 3;
    b.op.session = 6;
    ck_assert_int_eq(validate_submit(&request, NULL), -EINVAL);
    b.op.session = 5;
    b.unlink.parent = 0;
    ck_assert_int_eq(validate_submit(&request, NULL), -EINVAL);
}
END_TEST

static void layout_init(struct fixture *f,
                        Gabion__Attr *attr,
                        Gabion__GetLayoutReply *reply)
{
    op_init(f, GABION__OP__BODY_COMMIT_WRITES);
    gabion__attr__init(attr);
    attr->ino = 7;
    attr->mode = S_IFREG | 0644;
    attr->size = INT64_MAX;
    gabion__get_layout_reply__init(reply);
    reply->attr = attr;
    reply->n_object = 2;
    reply->object = f->objects;
    reply->n_extent = 3;
    reply->extent = f->extents;
    reply->end = true;
}

START_TEST(a_layout_is_checked_like_a_commit)
{
    struct fixture f;
    Gabion__Attr attr;
    Gabion__GetLayoutReply reply;

    layout_init(&f, &attr, &reply);
    ck_assert_int_eq(validate_layout_reply(&reply, NULL), 0);
    f.extent[0].object_offset = 1;
    ck_assert_int_eq(validate_layout_reply(&reply, NULL), -EINVAL);
    layout_init(&f, &attr, &reply);
    f.object[1].k = 0;
    ck_assert_int_eq(validate_layout_reply(&reply, NULL), -EINVAL);
    layout_init(&f, &attr, &reply);
    attr.ino = 0;
    ck_assert_int_eq(validate_layout_reply(&reply, NULL), -EINVAL);
    layout_init(&f, &attr, &reply);
    attr.mode = 0;
    ck_assert_int_eq(validate_layout_reply(&reply, NULL), -EINVAL);
    layout_init(&f, &attr, &reply);
    attr.size = UINT64_MAX;
    ck_assert_int_eq(validate_layout_reply(&reply, NULL), -EINVAL);
    layout_init(&f, &attr, &reply);
    reply.attr = NULL;
    ck_assert_int_eq(validate_layout_reply(&reply, NULL), -EINVAL);
    layout_init(&f, &attr, &reply);
    reply.n_extent = 0;
    ck_assert_int_eq(validate_layout_reply(&reply, NULL), 0);
    reply.end = false;
    ck_assert_int_eq(validate_layout_reply(&reply, NULL), -EINVAL);
}
END_TEST

START_TEST(an_error_of_a_layout_is_an_errno)
{
    Gabion__GetLayoutReply reply;

    gabion__get_layout_reply__init(&reply);
    reply.error = ENOENT;
    ck_assert_int_eq(validate_layout_reply(&reply, NULL), 0);
    reply.error = -ENOENT;
    ck_assert_int_eq(validate_layout_reply(&reply, NULL), -EINVAL);
    reply.error = 4096;
    ck_assert_int_eq(validate_layout_reply(&reply, NULL), -EINVAL);
}
END_TEST

/* ------------------------------------------------------------ random bytes */

/* The extents that passed must be safe to use. */
static bool extents_are_safe(Gabion__Extent *const *extents,
                             size_t n,
                             Gabion__ObjectInfo *const *objects,
                             size_t n_objects)
{
    uint64_t end = 0;

    for (size_t i = 0; i < n; i++) {
        const Gabion__Extent *e = extents[i];

        if (e->offset < end || e->object > n_objects ||
            e->offset + e->length > INT64_MAX ||
            e->offset + e->length <= e->offset) {
            return false;
        }
        end = e->offset + e->length;
        if (e->object == 0
                ? e->data.len != e->length
                : e->object_offset + e->length > objects[e->object - 1]->size) {
            return false;
        }
    }
    return true;
}

/* Unpack and validate what may be anything. */
static void try_submit(const uint8_t *bytes, size_t size, unsigned *n_passed)
{
    Gabion__SubmitRequest *request =
        gabion__submit_request__unpack(NULL, size, bytes);

    if (request == NULL) {
        return;
    }
    if (validate_submit(request, NULL) == 0) {
        ++*n_passed;
        for (size_t i = 0; i < request->n_op; i++) {
            const Gabion__CommitWrites *commit = request->op[i]->commit_writes;

            if (request->op[i]->body_case != GABION__OP__BODY_COMMIT_WRITES) {
                continue;
            }
            for (size_t j = 0; j < commit->n_file; j++) {
                ck_assert(extents_are_safe(commit->file[j]->extent,
                                           commit->file[j]->n_extent,
                                           commit->object, commit->n_object));
            }
        }
    }
    gabion__submit_request__free_unpacked(request, NULL);
}

static void try_layout(const uint8_t *bytes, size_t size, unsigned *n_passed)
{
    Gabion__GetLayoutReply *reply =
        gabion__get_layout_reply__unpack(NULL, size, bytes);

    if (reply == NULL) {
        return;
    }
    if (validate_layout_reply(reply, NULL) == 0) {
        ++*n_passed;
        ck_assert(reply->error != 0 ||
                  extents_are_safe(reply->extent, reply->n_extent,
                                   reply->object, reply->n_object));
    }
    gabion__get_layout_reply__free_unpacked(reply, NULL);
}

/* Every truncation, then thousands of random changes of one to four bytes. */
static void mutate(const ProtobufCMessage *message,
                   void (*try)(const uint8_t *bytes,
                               size_t size,
                               unsigned *n_passed))
{
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *good = malloc(size);
    uint8_t *bytes = malloc(size);
    uint32_t state = 1;
    unsigned n_passed = 0;

    ck_assert_uint_eq(protobuf_c_message_pack(message, good), size);
    for (size_t length = 0; length <= size; length++) {
        memcpy(bytes, good, length);
        try(bytes, length, &n_passed);
    }
    ck_assert_uint_ge(n_passed, 1); /* the whole message at least */
    for (int round = 0; round < 20000; round++) {
        memcpy(bytes, good, size);
        for (int change = 0; change <= round % 4; change++) {
            state = state * 1664525 + 1013904223;
            bytes[(state >> 12) % size] = (uint8_t)(state >> 4);
        }
        try(bytes, size, &n_passed);
    }
    free(good);
    free(bytes);
}

START_TEST(mutated_submits_are_refused_or_safe)
{
    struct fixture f;
    Gabion__Op *ops[] = { &f.op };
    Gabion__SubmitRequest request;

    gabion__submit_request__init(&request);
    op_init(&f, (Gabion__Op__BodyCase)_i);
    f.set_xattr.value.len = 100;
    request.n_op = 1;
    request.op = ops;
    mutate(&request.base, try_submit);
}
END_TEST

START_TEST(mutated_layouts_are_refused_or_safe)
{
    struct fixture f;
    Gabion__Attr attr;
    Gabion__GetLayoutReply reply;

    layout_init(&f, &attr, &reply);
    mutate(&reply.base, try_layout);
}
END_TEST

#define N(table) ((int)(sizeof(table) / sizeof *(table)))

int main(void)
{
    Suite *suite = suite_create("validate");
    TCase *tcase = tcase_create("validate");
    SRunner *runner;
    int failed;

    tcase_set_timeout(tcase, 60);
    tcase_add_unchecked_fixture(tcase, fill_bytes, NULL);
    tcase_add_test(tcase, names_are_those_of_posix);
    tcase_add_test(tcase, block_keys_are_decoded_or_refused);
    tcase_add_loop_test(tcase, every_kind_of_op_has_a_valid_form,
                        GABION__OP__BODY_CREATE,
                        GABION__OP__BODY_FORGET_OBJECTS + 1);
    tcase_add_loop_test(tcase, every_broken_field_is_refused, 0, N(broken));
    tcase_add_test(tcase, who_opens_a_session_needs_no_number);
    tcase_add_test(tcase, a_symlink_and_a_device_have_their_fields);
    tcase_add_test(tcase, fields_not_set_by_set_attr_do_not_matter);
    tcase_add_test(tcase, a_submit_is_of_one_session_in_order);
    tcase_add_test(tcase, a_layout_is_checked_like_a_commit);
    tcase_add_test(tcase, an_error_of_a_layout_is_an_errno);
    tcase_add_loop_test(tcase, mutated_submits_are_refused_or_safe,
                        GABION__OP__BODY_CREATE,
                        GABION__OP__BODY_FORGET_OBJECTS + 1);
    tcase_add_test(tcase, mutated_layouts_are_refused_or_safe);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
