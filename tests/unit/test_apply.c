#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <check.h>

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

static uint64_t symlink_at(uint64_t parent, const char *name)
{
    uint64_t ino;

    ck_assert_int_eq(
        meta_fixture_create(&f, parent, name, S_IFLNK | 0777, &ino), 0);
    return ino;
}

/* ---------------------------------------------------------------- create */

static const uint32_t types[] = { S_IFREG, S_IFDIR, S_IFLNK, S_IFCHR,
                                  S_IFBLK, S_IFIFO, S_IFSOCK };

START_TEST(create_makes_every_type)
{
    Gabion__Create create = GABION__CREATE__INIT;
    bool is_directory = types[_i] == S_IFDIR;
    bool is_link = types[_i] == S_IFLNK;
    bool is_device = types[_i] == S_IFCHR || types[_i] == S_IFBLK;
    const Gabion__OpResult *result;
    const Gabion__Attr *attr;

    create.parent = ROOT;
    create.name = meta_fixture_bytes("new");
    create.ino = f.next_ino;
    create.mode = types[_i] | 0666;
    create.umask = 022;
    create.uid = 12;
    create.gid = 34;
    create.rdev = 0x1234567890;
    create.target = meta_fixture_bytes("a/b");
    result = meta_fixture_run(&f, GABION__OP__BODY_CREATE, &create);
    ck_assert_int_eq(result->error, 0);
    ck_assert_uint_eq(result->n_attr, 2);
    attr = result->attr[0];
    ck_assert_uint_eq(attr->ino, create.ino);
    ck_assert_uint_eq(attr->mode, types[_i] | (is_link ? 0777u : 0644u));
    ck_assert_uint_eq(attr->nlink, is_directory ? 2 : 1);
    ck_assert_uint_eq(attr->uid, 12);
    ck_assert_uint_eq(attr->gid, 34);
    ck_assert_uint_eq(attr->rdev, is_device ? create.rdev : 0);
    ck_assert_uint_eq(attr->size, is_link ? 3 : 0);
    ck_assert_uint_eq(attr->parent, is_directory ? ROOT : 0);
    ck_assert_int_eq(attr->atime_ns, f.now_ns);
    ck_assert_int_eq(attr->mtime_ns, f.now_ns);
    ck_assert_int_eq(attr->ctime_ns, f.now_ns);
    attr = result->attr[1];
    ck_assert_uint_eq(attr->ino, ROOT);
    ck_assert_uint_eq(attr->nlink, is_directory ? 3 : 2);
    ck_assert_uint_eq(attr->size, 1);
    ck_assert_int_eq(attr->mtime_ns, f.now_ns);
    ck_assert_int_eq(attr->ctime_ns, f.now_ns);
    ck_assert_uint_eq(meta_fixture_resolve(&f, "new"), create.ino);
}
END_TEST

START_TEST(setgid_directory_hands_down_its_group)
{
    uint64_t shared = meta_fixture_directory(&f, ROOT, "shared");
    Gabion__SetAttr set = GABION__SET_ATTR__INIT;
    uint64_t ino;

    set.ino = shared;
    set.valid = 1 | 4;
    set.mode = 02775;
    set.gid = 777;
    ck_assert_int_eq(
        meta_fixture_run(&f, GABION__OP__BODY_SET_ATTR, &set)->error, 0);
    ino = meta_fixture_file(&f, shared, "file");
    ck_assert_uint_eq(meta_fixture_attr(&f, ino).gid, 777);
    ck_assert_uint_eq(meta_fixture_attr(&f, ino).mode, S_IFREG | 0644);
    ino = meta_fixture_directory(&f, shared, "directory");
    ck_assert_uint_eq(meta_fixture_attr(&f, ino).gid, 777);
    ck_assert_uint_eq(meta_fixture_attr(&f, ino).mode, S_IFDIR | 02755);
}
END_TEST

START_TEST(create_takes_an_existing_file_unless_exclusive)
{
    uint64_t ino = meta_fixture_file(&f, ROOT, "file");
    Gabion__Create create = GABION__CREATE__INIT;
    const Gabion__OpResult *result;
    uint64_t unused;

    create.parent = ROOT;
    create.name = meta_fixture_bytes("file");
    create.ino = f.next_ino++;
    create.mode = S_IFREG | 0600;
    result = meta_fixture_run(&f, GABION__OP__BODY_CREATE, &create);
    ck_assert_int_eq(result->error, 0);
    ck_assert(result->existed);
    ck_assert_uint_eq(result->n_attr, 2);
    ck_assert_uint_eq(result->attr[0]->ino, ino);
    ck_assert_uint_eq(result->attr[0]->mode, S_IFREG | 0644);
    ck_assert_uint_eq(result->attr[1]->size, 1);

    ck_assert_int_eq(
        meta_fixture_create(&f, ROOT, "file", S_IFREG | 0600, &unused), EEXIST);
    create.mode = S_IFDIR | 0700;
    ck_assert_int_eq(
        meta_fixture_run(&f, GABION__OP__BODY_CREATE, &create)->error, EEXIST);
    (void)meta_fixture_directory(&f, ROOT, "directory");
    create.mode = S_IFREG | 0600;
    create.name = meta_fixture_bytes("directory");
    ck_assert_int_eq(
        meta_fixture_run(&f, GABION__OP__BODY_CREATE, &create)->error, EEXIST);
}
END_TEST

static const struct {
    const char *what;
    uint64_t parent; /* 0: a file's; 1 the root */
    uint64_t ino;    /* 0: the next; 2: one in use */
    uint32_t mode;
    int error;
} bad_creates[] = {
    { "no parent", 99, 0, S_IFREG, ENOENT },
    { "parent is a file", 0, 0, S_IFREG, ENOTDIR },
    { "number in use", 1, 2, S_IFREG, EEXIST },
    { "number of the root", 1, 1, S_IFREG, EEXIST },
    { "number not reserved", 1, 100002, S_IFREG, EINVAL },
    { "another slot's", 1, 1ull << META_SLOT_SHIFT | 9, S_IFREG, EINVAL },
    { "negative", 1, 1ull << 63 | 9, S_IFREG, EINVAL },
    { "no type", 1, 0, 0, EINVAL },
    { "strange type", 1, 0, 0170000, EINVAL },
    { "symlink without target", 1, 0, S_IFLNK, EINVAL },
};

START_TEST(create_refuses)
{
    uint64_t file = meta_fixture_file(&f, ROOT, "file");
    Gabion__Create create = GABION__CREATE__INIT;

    ck_assert_uint_eq(file, 2);
    create.parent = bad_creates[_i].parent != 0 ? bad_creates[_i].parent : file;
    create.ino = bad_creates[_i].ino != 0 ? bad_creates[_i].ino : f.next_ino;
    create.name = meta_fixture_bytes("new");
    create.mode = bad_creates[_i].mode | 0600;
    ck_assert_msg(
        meta_fixture_run(&f, GABION__OP__BODY_CREATE, &create)->error ==
            bad_creates[_i].error,
        "%s: %d", bad_creates[_i].what, last()->error);
    ck_assert_uint_eq(last()->n_attr, 0);
    ck_assert_int_eq(meta_fixture_query(&f, "SELECT count(*) FROM inode"), 2);
    ck_assert_int_eq(meta_fixture_query(&f, "SELECT count(*) FROM dentry"), 1);
}
END_TEST

START_TEST(removed_directory_takes_no_new_names)
{
    uint64_t directory = meta_fixture_directory(&f, ROOT, "gone");
    uint64_t file = meta_fixture_file(&f, ROOT, "file");
    uint64_t unused;

    f.held_open = true;
    ck_assert_int_eq(meta_fixture_unlink(&f, ROOT, "gone", true), 0);
    ck_assert_int_eq(
        meta_fixture_create(&f, directory, "a", S_IFREG | 0600, &unused),
        ENOENT);
    ck_assert_int_eq(meta_fixture_link(&f, file, directory, "a"), ENOENT);
    ck_assert_int_eq(meta_fixture_rename(&f, ROOT, "file", directory, "a", 0),
                     ENOENT);
}
END_TEST

/* ---------------------------------------------------------------- link */

START_TEST(link_adds_a_name)
{
    uint64_t ino = meta_fixture_file(&f, ROOT, "one");
    uint64_t directory = meta_fixture_directory(&f, ROOT, "d");

    ck_assert_int_eq(meta_fixture_link(&f, ino, directory, "two"), 0);
    ck_assert_uint_eq(last()->n_attr, 2);
    ck_assert_uint_eq(last()->attr[0]->ino, ino);
    ck_assert_uint_eq(last()->attr[0]->nlink, 2);
    ck_assert_int_eq(last()->attr[0]->ctime_ns, f.now_ns);
    ck_assert_int_ne(last()->attr[0]->mtime_ns, f.now_ns);
    ck_assert_uint_eq(last()->attr[1]->ino, directory);
    ck_assert_int_eq(last()->attr[1]->mtime_ns, f.now_ns);
    ck_assert_uint_eq(meta_fixture_resolve(&f, "d/two"), ino);
}
END_TEST

START_TEST(link_refuses)
{
    uint64_t ino = meta_fixture_file(&f, ROOT, "one");
    uint64_t directory = meta_fixture_directory(&f, ROOT, "d");

    ck_assert_int_eq(meta_fixture_link(&f, directory, ROOT, "x"), EPERM);
    ck_assert_int_eq(meta_fixture_link(&f, ino, ROOT, "d"), EEXIST);
    ck_assert_int_eq(meta_fixture_link(&f, 999, ROOT, "x"), ENOENT);
    ck_assert_int_eq(meta_fixture_link(&f, ino, ino, "x"), ENOTDIR);
    f.held_open = true;
    ck_assert_int_eq(meta_fixture_unlink(&f, ROOT, "one", false), 0);
    ck_assert_uint_eq(meta_fixture_attr(&f, ino).ino, ino);
    ck_assert_int_eq(meta_fixture_link(&f, ino, ROOT, "x"), ENOENT);
}
END_TEST

START_TEST(link_stops_at_the_limit)
{
    uint64_t ino = meta_fixture_file(&f, ROOT, "one");
    Gabion__Link *links = calloc(65000, sizeof *links);
    Gabion__Op *ops = calloc(65000, sizeof *ops);
    Gabion__Op **pointers = calloc(65000, sizeof *pointers);
    char(*names)[16] = calloc(65000, sizeof *names);
    Gabion__Batch batch = GABION__BATCH__INIT;

    for (size_t i = 0; i < 65000; i++) {
        gabion__link__init(&links[i]);
        gabion__op__init(&ops[i]);
        (void)snprintf(names[i], sizeof names[i], "l%zu", i);
        links[i].ino = ino;
        links[i].parent = ROOT;
        links[i].name = meta_fixture_bytes(names[i]);
        ops[i].session = f.session;
        ops[i].sequence = ++f.sequence;
        ops[i].acked = f.sequence - 1;
        ops[i].body_case = GABION__OP__BODY_LINK;
        ops[i].link = &links[i];
        pointers[i] = &ops[i];
    }
    batch.n_op = 65000;
    batch.op = pointers;
    meta_fixture_apply_batch(&f, &batch);
    ck_assert_int_eq(f.results.results[64998]->error, 0);
    ck_assert_int_eq(f.results.results[64999]->error, EMLINK);
    ck_assert_uint_eq(meta_fixture_attr(&f, ino).nlink, 65000);
    free(names);
    free(pointers);
    free(ops);
    free(links);
}
END_TEST

/* ---------------------------------------------------------------- unlink */

START_TEST(unlink_takes_one_name)
{
    uint64_t ino = meta_fixture_file(&f, ROOT, "one");

    ck_assert_int_eq(meta_fixture_link(&f, ino, ROOT, "two"), 0);
    ck_assert_int_eq(meta_fixture_unlink(&f, ROOT, "one", false), 0);
    ck_assert_uint_eq(last()->n_attr, 2);
    ck_assert_uint_eq(last()->attr[0]->ino, ino);
    ck_assert_uint_eq(last()->attr[0]->nlink, 1);
    ck_assert_int_eq(last()->attr[0]->ctime_ns, f.now_ns);
    ck_assert_uint_eq(last()->attr[1]->size, 1);
    ck_assert_int_eq(last()->attr[1]->mtime_ns, f.now_ns);
    ck_assert_uint_eq(meta_fixture_resolve(&f, "one"), 0);
    ck_assert_uint_eq(meta_fixture_resolve(&f, "two"), ino);
    ck_assert_int_eq(meta_fixture_unlink(&f, ROOT, "two", false), 0);
    ck_assert_uint_eq(last()->attr[0]->nlink, 0);
    ck_assert_uint_eq(meta_fixture_attr(&f, ino).ino, 0);
}
END_TEST

START_TEST(unlink_and_rmdir_refuse)
{
    uint64_t d = meta_fixture_directory(&f, ROOT, "d");
    uint64_t file = meta_fixture_file(&f, d, "file");

    ck_assert_int_eq(meta_fixture_unlink(&f, ROOT, "d", false), EISDIR);
    ck_assert_int_eq(meta_fixture_unlink(&f, ROOT, "d", true), ENOTEMPTY);
    ck_assert_int_eq(meta_fixture_unlink(&f, d, "file", true), ENOTDIR);
    ck_assert_int_eq(meta_fixture_unlink(&f, ROOT, "none", false), ENOENT);
    ck_assert_int_eq(meta_fixture_unlink(&f, ROOT, "none", true), ENOENT);
    ck_assert_int_eq(meta_fixture_unlink(&f, file, "x", false), ENOTDIR);
    ck_assert_int_eq(meta_fixture_unlink(&f, 999, "x", false), ENOENT);
    ck_assert_uint_eq(meta_fixture_resolve(&f, "d/file"), file);
}
END_TEST

START_TEST(rmdir_gives_the_link_of_dot_dot_back)
{
    uint64_t d = meta_fixture_directory(&f, ROOT, "d");

    ck_assert_uint_eq(meta_fixture_attr(&f, ROOT).nlink, 3);
    ck_assert_int_eq(meta_fixture_unlink(&f, ROOT, "d", true), 0);
    ck_assert_uint_eq(last()->attr[0]->ino, d);
    ck_assert_uint_eq(last()->attr[0]->nlink, 0);
    ck_assert_uint_eq(last()->attr[1]->nlink, 2);
    ck_assert_uint_eq(meta_fixture_attr(&f, ROOT).nlink, 2);
}
END_TEST

/* ---------------------------------------------------------------- orphans */

static size_t orphans(struct meta_orphan ret_orphans[16])
{
    size_t n;

    ck_assert_int_eq(meta_read_orphans(f.reader, 0, 16, ret_orphans, &n), 0);
    return n;
}

static void reap(uint64_t ino)
{
    Gabion__ReapOrphans body = GABION__REAP_ORPHANS__INIT;
    Gabion__Op op = GABION__OP__INIT;

    body.n_ino = 1;
    body.ino = &ino;
    op.body_case = GABION__OP__BODY_REAP_ORPHANS;
    op.reap_orphans = &body;
    ck_assert_int_eq(meta_fixture_apply(&f, &op)->error, 0);
}

START_TEST(unlinked_inode_is_an_orphan_while_anybody_may_hold_it)
{
    struct meta_orphan found[16];
    uint64_t held = meta_fixture_file(&f, ROOT, "held");
    uint64_t shared = meta_fixture_file(&f, ROOT, "shared");
    uint64_t lonely = meta_fixture_file(&f, ROOT, "lonely");

    f.held_open = true;
    ck_assert_int_eq(meta_fixture_unlink(&f, ROOT, "held", false), 0);
    f.held_open = false;
    ck_assert_int_eq(meta_fixture_unlink(&f, ROOT, "lonely", false), 0);
    meta_fixture_open_session(&f, 2);
    ck_assert_int_eq(meta_fixture_unlink(&f, ROOT, "shared", false), 0);

    ck_assert_uint_eq(meta_fixture_attr(&f, lonely).ino, 0);
    ck_assert_uint_eq(orphans(found), 2);
    ck_assert_uint_eq(found[0].ino, held);
    ck_assert_uint_eq(found[1].ino, shared);
    ck_assert_uint_gt(found[1].number, found[0].number);
    reap(shared);
    reap(shared);
    ck_assert_uint_eq(meta_fixture_attr(&f, shared).ino, 0);
    ck_assert_uint_eq(orphans(found), 1);
}
END_TEST

START_TEST(reaping_passes_over_what_has_a_name)
{
    uint64_t ino = meta_fixture_file(&f, ROOT, "file");

    reap(ino);
    reap(ROOT);
    reap(12345);
    ck_assert_uint_eq(meta_fixture_attr(&f, ino).ino, ino);
}
END_TEST

/* A file of `n` extents of one byte each, with holes between them. */
static uint64_t scattered_file(const char *name, size_t n)
{
    uint64_t ino = meta_fixture_file(&f, ROOT, name);
    Gabion__Extent *extents = calloc(n, sizeof *extents);
    Gabion__Extent **pointers = calloc(n, sizeof *pointers);
    Gabion__CommitWrites commit = GABION__COMMIT_WRITES__INIT;
    Gabion__FileWrite file = GABION__FILE_WRITE__INIT;
    Gabion__FileWrite *files = &file;
    Gabion__ObjectInfo info;
    Gabion__ObjectInfo *infos = &info;
    uint8_t id[16];

    info = meta_fixture_object(&f, n, id);
    for (size_t i = 0; i < n; i++) {
        gabion__extent__init(&extents[i]);
        extents[i].offset = 2 * i;
        extents[i].length = 1;
        extents[i].object = 1;
        extents[i].object_offset = i;
        pointers[i] = &extents[i];
    }
    file.ino = ino;
    file.n_extent = n;
    file.extent = pointers;
    commit.n_object = 1;
    commit.object = &infos;
    commit.n_file = 1;
    commit.file = &files;
    ck_assert_int_eq(
        meta_fixture_run(&f, GABION__OP__BODY_COMMIT_WRITES, &commit)->error,
        0);
    free(pointers);
    free(extents);
    return ino;
}

static int64_t garbage_count(void)
{
    return meta_fixture_query(&f, "SELECT count(*) FROM object WHERE live = 0");
}

START_TEST(reaping_goes_in_portions)
{
    struct meta_orphan found[16];
    uint64_t ino = scattered_file("big", 20000);

    ck_assert_int_eq(meta_fixture_unlink(&f, ROOT, "big", false), 0);
    ck_assert_uint_eq(orphans(found), 1);
    ck_assert_int_eq(meta_fixture_query(&f, "SELECT count(*) FROM extent"),
                     20000 - 8192);
    reap(ino);
    ck_assert_uint_eq(orphans(found), 1);
    ck_assert_int_eq(meta_fixture_query(&f, "SELECT live FROM object"),
                     20000 - 2 * 8192);
    ck_assert_uint_eq(meta_fixture_attr(&f, ino).allocated, 20000 - 2 * 8192);
    ck_assert_int_eq(garbage_count(), 0);
    reap(ino);
    ck_assert_uint_eq(orphans(found), 0);
    ck_assert_int_eq(garbage_count(), 1);
    ck_assert_uint_eq(meta_fixture_attr(&f, ino).ino, 0);
}
END_TEST

START_TEST(freeing_an_inode_frees_all_it_had)
{
    uint64_t ino = meta_fixture_file(&f, ROOT, "file");

    ck_assert_int_eq(meta_fixture_write(&f, ino, 0, 5000), 0);
    ck_assert_int_eq(meta_fixture_set_xattr(&f, ino, "user.a", "1", 1, 0), 0);
    (void)symlink_at(ROOT, "link");
    ck_assert_int_eq(meta_fixture_unlink(&f, ROOT, "file", false), 0);
    ck_assert_int_eq(meta_fixture_unlink(&f, ROOT, "link", false), 0);
    ck_assert_int_eq(meta_fixture_query(&f, "SELECT count(*) FROM inode"), 1);
    ck_assert_int_eq(meta_fixture_query(&f, "SELECT count(*) FROM extent"), 0);
    ck_assert_int_eq(meta_fixture_query(&f, "SELECT count(*) FROM xattr"), 0);
    ck_assert_int_eq(meta_fixture_query(&f, "SELECT count(*) FROM symlink"), 0);
    ck_assert_int_eq(garbage_count(), 1);
}
END_TEST

/* ---------------------------------------------------------------- rename */

/* A tree for renames: files f g, directories d (empty), e (with file e/x and
 * directory e/s), h1 and h2 two names of one file. */
static void plant(void)
{
    uint64_t e;
    uint64_t h;

    (void)meta_fixture_file(&f, ROOT, "f");
    (void)meta_fixture_file(&f, ROOT, "g");
    (void)meta_fixture_directory(&f, ROOT, "d");
    e = meta_fixture_directory(&f, ROOT, "e");
    (void)meta_fixture_file(&f, e, "x");
    (void)meta_fixture_directory(&f, e, "s");
    h = meta_fixture_file(&f, ROOT, "h1");
    ck_assert_int_eq(meta_fixture_link(&f, h, ROOT, "h2"), 0);
}

static const struct {
    const char *from_parent;
    const char *from;
    const char *to_parent;
    const char *to;
    uint32_t flags;
    int error;
} renames[] = {
    { ".", "none", ".", "n", 0, ENOENT }, { ".", "f", ".", "d", 0, EISDIR },
    { ".", "d", ".", "f", 0, ENOTDIR },   { ".", "d", ".", "e", 0, ENOTEMPTY },
    { ".", "f", ".", "g", 1, EEXIST },    { ".", "h1", ".", "h2", 1, EEXIST },
    { ".", "f", ".", "none", 2, ENOENT }, { ".", "f", ".", "n", 3, EINVAL },
    { ".", "f", ".", "n", 4, EINVAL },    { ".", "e", "e", "n", 0, EINVAL },
    { ".", "e", "e/s", "n", 0, EINVAL },  { ".", "e", "e", "s", 2, EINVAL },
    { "e", "s", ".", "e", 2, EINVAL },    { "e", "s", ".", "e", 0, ENOTEMPTY },
    { "e", "x", ".", "e", 0, EISDIR },    { "f", "x", ".", "n", 0, ENOTDIR },
    { ".", "f", "g", "n", 0, ENOTDIR },
};

START_TEST(rename_refuses)
{
    char *before;
    char *after;
    int error;

    plant();
    before = meta_fixture_dump(&f);
    error = meta_fixture_rename(
        &f, meta_fixture_resolve(&f, renames[_i].from_parent), renames[_i].from,
        meta_fixture_resolve(&f, renames[_i].to_parent), renames[_i].to,
        renames[_i].flags);
    ck_assert_int_eq(error, renames[_i].error);
    after = meta_fixture_dump(&f);
    /* Nothing but the kept result is new; results come before orphans, which
     * are none, so the old dump is the start of the new one. */
    ck_assert_int_eq(strncmp(before, after, strlen(before)), 0);
    free(before);
    free(after);
}
END_TEST

START_TEST(rename_replaces_a_file)
{
    uint64_t moved;
    uint64_t victim;

    plant();
    moved = meta_fixture_resolve(&f, "f");
    victim = meta_fixture_resolve(&f, "e/x");
    ck_assert_int_eq(meta_fixture_rename(&f, ROOT, "f",
                                         meta_fixture_resolve(&f, "e"), "x", 0),
                     0);
    ck_assert_uint_eq(last()->n_attr, 4);
    ck_assert_uint_eq(last()->attr[0]->ino, moved);
    ck_assert_int_eq(last()->attr[0]->ctime_ns, f.now_ns);
    ck_assert_uint_eq(last()->attr[1]->ino, ROOT);
    ck_assert_int_eq(last()->attr[1]->mtime_ns, f.now_ns);
    ck_assert_uint_eq(last()->attr[2]->ino, meta_fixture_resolve(&f, "e"));
    ck_assert_int_eq(last()->attr[2]->mtime_ns, f.now_ns);
    ck_assert_uint_eq(last()->attr[2]->size, 2);
    ck_assert_uint_eq(last()->attr[3]->ino, victim);
    ck_assert_uint_eq(last()->attr[3]->nlink, 0);
    ck_assert_uint_eq(meta_fixture_resolve(&f, "f"), 0);
    ck_assert_uint_eq(meta_fixture_resolve(&f, "e/x"), moved);
    ck_assert_uint_eq(meta_fixture_attr(&f, victim).ino, 0);
}
END_TEST

START_TEST(rename_moves_a_directory_and_its_dot_dot)
{
    uint64_t e;
    uint64_t d;

    plant();
    e = meta_fixture_resolve(&f, "e");
    d = meta_fixture_resolve(&f, "d");
    ck_assert_int_eq(meta_fixture_rename(&f, ROOT, "e", d, "e2", 0), 0);
    ck_assert_uint_eq(last()->n_attr, 3);
    ck_assert_uint_eq(meta_fixture_resolve(&f, "d/e2"), e);
    ck_assert_uint_eq(meta_fixture_resolve(&f, "d/e2/.."), d);
    ck_assert_uint_eq(meta_fixture_attr(&f, e).parent, d);
    ck_assert_uint_eq(meta_fixture_attr(&f, d).nlink, 3);
    ck_assert_uint_eq(meta_fixture_attr(&f, ROOT).nlink, 3);
}
END_TEST

START_TEST(rename_replaces_an_empty_directory)
{
    uint64_t e;

    plant();
    e = meta_fixture_resolve(&f, "e");
    ck_assert_int_eq(meta_fixture_rename(&f, ROOT, "e", ROOT, "d", 0), 0);
    ck_assert_uint_eq(meta_fixture_resolve(&f, "d"), e);
    ck_assert_uint_eq(meta_fixture_resolve(&f, "e"), 0);
    ck_assert_uint_eq(meta_fixture_attr(&f, ROOT).nlink, 3);
    ck_assert_uint_eq(last()->attr[3]->nlink, 0);
}
END_TEST

START_TEST(rename_onto_another_name_of_the_inode_does_nothing)
{
    plant();
    ck_assert_int_eq(meta_fixture_rename(&f, ROOT, "h1", ROOT, "h2", 0), 0);
    ck_assert_uint_eq(last()->n_attr, 3);
    ck_assert_uint_eq(last()->attr[0]->nlink, 2);
    ck_assert_int_ne(last()->attr[0]->ctime_ns, f.now_ns);
    ck_assert_uint_ne(meta_fixture_resolve(&f, "h1"), 0);
    ck_assert_int_eq(meta_fixture_rename(&f, ROOT, "f", ROOT, "f", 0), 0);
    ck_assert_uint_ne(meta_fixture_resolve(&f, "f"), 0);
}
END_TEST

START_TEST(exchange_swaps_a_file_and_a_directory)
{
    uint64_t e;
    uint64_t x;
    uint64_t d;

    plant();
    e = meta_fixture_resolve(&f, "e");
    x = meta_fixture_resolve(&f, "e/x");
    d = meta_fixture_resolve(&f, "d");
    ck_assert_int_eq(meta_fixture_rename(&f, ROOT, "d", e, "x", 2), 0);
    ck_assert_uint_eq(last()->n_attr, 4);
    ck_assert_uint_eq(last()->attr[3]->ino, x);
    ck_assert_uint_eq(meta_fixture_resolve(&f, "d"), x);
    ck_assert_uint_eq(meta_fixture_resolve(&f, "e/x"), d);
    ck_assert_uint_eq(meta_fixture_attr(&f, d).parent, e);
    ck_assert_uint_eq(meta_fixture_attr(&f, ROOT).nlink, 3);
    ck_assert_uint_eq(meta_fixture_attr(&f, e).nlink, 4);
    ck_assert_uint_eq(meta_fixture_attr(&f, e).size, 2);
}
END_TEST

START_TEST(noreplace_moves_to_a_free_name)
{
    uint64_t ino;

    plant();
    ino = meta_fixture_resolve(&f, "f");
    ck_assert_int_eq(meta_fixture_rename(&f, ROOT, "f", ROOT, "n", 1), 0);
    ck_assert_uint_eq(meta_fixture_resolve(&f, "n"), ino);
}
END_TEST

/* ---------------------------------------------------------------- readdir */

/* Names of a page of the root, and the cookie to go on from. */
static Gabion__ReadDirReply *read_page(uint64_t after, uint32_t limit)
{
    Gabion__ReadDirRequest request = GABION__READ_DIR_REQUEST__INIT;
    Gabion__ReadDirReply *reply;

    request.ino = ROOT;
    request.after = after;
    request.limit = limit;
    ck_assert_int_eq(meta_read_dir(f.reader, &request, &reply), 0);
    ck_assert_int_eq(reply->error, 0);
    return reply;
}

START_TEST(readdir_neither_skips_nor_doubles_what_stays)
{
    char name[16];
    unsigned seen[40] = { 0 };
    uint64_t after = 0;
    bool end = false;

    for (int i = 0; i < 40; i++) {
        (void)snprintf(name, sizeof name, "n%02d", i);
        (void)meta_fixture_file(&f, ROOT, name);
    }
    (void)meta_fixture_file(&f, ROOT, "other");
    for (int page = 0; !end; page++) {
        Gabion__ReadDirReply *reply = read_page(after, 3);

        for (size_t i = 0; i < reply->n_entry; i++) {
            const Gabion__DirEntry *entry = reply->entry[i];

            ck_assert_uint_gt(entry->cookie, after);
            after = entry->cookie;
            if (entry->name.data[0] == 'n') {
                seen[(entry->name.data[1] - '0') * 10 + entry->name.data[2] -
                     '0']++;
            }
        }
        end = reply->end;
        gabion__read_dir_reply__free_unpacked(reply, NULL);
        /* Odd ones go; names come; what stays is replaced and exchanged. */
        (void)snprintf(name, sizeof name, "n%02d", 2 * page + 1);
        ck_assert_int_eq(meta_fixture_unlink(&f, ROOT, name, false), 0);
        (void)snprintf(name, sizeof name, "x%02d", page);
        if (page < 10) {
            (void)meta_fixture_file(&f, ROOT, name);
            ck_assert_int_eq(
                meta_fixture_rename(&f, ROOT, name, ROOT, "n38", 0), 0);
            ck_assert_int_eq(
                meta_fixture_rename(&f, ROOT, "n00", ROOT, "n38", 2), 0);
        }
    }
    for (int i = 0; i < 40; i += 2) {
        ck_assert_msg(seen[i] == 1, "n%02d was seen %u times", i, seen[i]);
    }
}
END_TEST

START_TEST(readdir_gives_types_and_on_demand_attributes)
{
    Gabion__ReadDirRequest request = GABION__READ_DIR_REQUEST__INIT;
    Gabion__ReadDirReply *reply;

    plant();
    request.ino = ROOT;
    request.limit = 4096;
    for (int plus = 0; plus < 2; plus++) {
        request.plus = plus != 0;
        ck_assert_int_eq(meta_read_dir(f.reader, &request, &reply), 0);
        ck_assert_uint_eq(reply->n_entry, 6);
        ck_assert(reply->end);
        ck_assert_uint_eq(reply->entry[2]->mode, S_IFDIR);
        ck_assert_mem_eq(reply->entry[2]->name.data, "d", 1);
        ck_assert((reply->entry[2]->attr != NULL) == request.plus);
        if (request.plus) {
            ck_assert_uint_eq(reply->entry[2]->attr->ino, reply->entry[2]->ino);
        }
        gabion__read_dir_reply__free_unpacked(reply, NULL);
    }
    request.limit = 6;
    ck_assert_int_eq(meta_read_dir(f.reader, &request, &reply), 0);
    ck_assert(reply->end);
    gabion__read_dir_reply__free_unpacked(reply, NULL);
    request.limit = 0;
    ck_assert_int_eq(meta_read_dir(f.reader, &request, &reply), 0);
    ck_assert_int_eq(reply->error, EINVAL);
    gabion__read_dir_reply__free_unpacked(reply, NULL);
    request.limit = 10;
    request.ino = meta_fixture_resolve(&f, "f");
    ck_assert_int_eq(meta_read_dir(f.reader, &request, &reply), 0);
    ck_assert_int_eq(reply->error, ENOTDIR);
    gabion__read_dir_reply__free_unpacked(reply, NULL);
}
END_TEST

static int lookup_error(uint64_t parent, const char *name)
{
    Gabion__LookupRequest request = GABION__LOOKUP_REQUEST__INIT;
    Gabion__AttrReply *reply;
    int error;

    request.parent = parent;
    request.name = meta_fixture_bytes(name);
    ck_assert_int_eq(meta_read_lookup(f.reader, &request, &reply), 0);
    error = reply->error;
    gabion__attr_reply__free_unpacked(reply, NULL);
    return error;
}

START_TEST(lookup_tells_why_not)
{
    plant();
    ck_assert_int_eq(lookup_error(ROOT, "none"), ENOENT);
    ck_assert_int_eq(lookup_error(999, "none"), ENOENT);
    ck_assert_int_eq(lookup_error(meta_fixture_resolve(&f, "f"), "x"), ENOTDIR);
    ck_assert_int_eq(lookup_error(meta_fixture_resolve(&f, "f"), "."), ENOTDIR);
    ck_assert_int_eq(lookup_error(UINT64_MAX, "x"), ENOENT);
    ck_assert_uint_eq(meta_fixture_resolve(&f, ".."), ROOT);
    ck_assert_uint_eq(meta_fixture_resolve(&f, "e/s/../."),
                      meta_fixture_resolve(&f, "e"));
}
END_TEST

START_TEST(readlink_gives_the_target)
{
    Gabion__ReadLinkRequest request = GABION__READ_LINK_REQUEST__INIT;
    Gabion__ReadLinkReply *reply;

    request.ino = symlink_at(ROOT, "link");
    ck_assert_int_eq(meta_read_link(f.reader, &request, &reply), 0);
    ck_assert_uint_eq(reply->target.len, 6);
    ck_assert_mem_eq(reply->target.data, "target", 6);
    gabion__read_link_reply__free_unpacked(reply, NULL);
    request.ino = ROOT;
    ck_assert_int_eq(meta_read_link(f.reader, &request, &reply), 0);
    ck_assert_int_eq(reply->error, EINVAL);
    gabion__read_link_reply__free_unpacked(reply, NULL);
}
END_TEST

/* ---------------------------------------------------------------- sessions */

/* A create with a sequence of its own choice. */
static const Gabion__OpResult *create_with(uint64_t session,
                                           uint64_t sequence,
                                           uint64_t acked,
                                           const char *name)
{
    Gabion__Create create = GABION__CREATE__INIT;
    Gabion__Op op = GABION__OP__INIT;

    create.parent = ROOT;
    create.name = meta_fixture_bytes(name);
    create.ino = f.next_ino++;
    create.mode = S_IFREG | 0644;
    create.exclusive = true;
    op.session = session;
    op.sequence = sequence;
    op.acked = acked;
    op.now_ns = 77;
    op.body_case = GABION__OP__BODY_CREATE;
    op.create = &create;
    return meta_fixture_apply(&f, &op);
}

START_TEST(repeated_op_gives_its_first_result)
{
    uint64_t ino = f.next_ino;

    ck_assert_int_eq(create_with(1, 50, 0, "a")->error, 0);
    ck_assert_int_eq(create_with(1, 49, 0, "b")->error, 0);
    ck_assert_int_eq(create_with(1, 51, 0, "a")->error, EEXIST);
    ck_assert_int_eq(meta_fixture_unlink(&f, ROOT, "a", false), 0);
    meta_fixture_reopen(&f);
    ck_assert_int_eq(create_with(1, 50, 0, "a")->error, 0);
    ck_assert_uint_eq(last()->n_attr, 2);
    ck_assert_uint_eq(last()->attr[0]->ino, ino);
    ck_assert_int_eq(create_with(1, 49, 0, "b")->error, 0);
    ck_assert_uint_eq(last()->attr[0]->ino, ino + 1);
    ck_assert_int_eq(create_with(1, 51, 0, "a")->error, EEXIST);
    ck_assert_uint_eq(meta_fixture_resolve(&f, "a"), 0);
}
END_TEST

START_TEST(repeated_op_in_one_entry_is_applied_once)
{
    Gabion__ReserveInodes reserve = GABION__RESERVE_INODES__INIT;
    Gabion__Op op = GABION__OP__INIT;
    Gabion__Op *ops[] = { &op, &op };
    Gabion__Batch batch = GABION__BATCH__INIT;

    reserve.count = 10;
    op.session = 1;
    op.sequence = 90;
    op.body_case = GABION__OP__BODY_RESERVE_INODES;
    op.reserve_inodes = &reserve;
    batch.n_op = 2;
    batch.op = ops;
    meta_fixture_apply_batch(&f, &batch);
    ck_assert_uint_eq(f.results.results[0]->ino, 100002);
    ck_assert_uint_eq(f.results.results[1]->ino, 100002);
    ck_assert_int_eq(
        meta_fixture_query(&f, "SELECT next_sequence FROM counter"), 100012);
}
END_TEST

START_TEST(acknowledged_results_are_dropped_in_bulk)
{
    char name[16];

    for (uint64_t i = 10; i < 200; i++) {
        (void)snprintf(name, sizeof name, "f%d", (int)i);
        ck_assert_int_eq(create_with(1, i, i - 1, name)->error, 0);
    }
    ck_assert_int_lt(meta_fixture_query(&f, "SELECT count(*) FROM result"), 66);
    ck_assert_int_eq(create_with(1, 20, 0, "f20")->error, ESTALE);
    ck_assert_int_eq(create_with(1, 199, 0, "f199")->error, 0);
}
END_TEST

/* The mount has given the op up and told its program so: coming late it must
 * not change what has been done since. */
START_TEST(an_op_that_was_given_up_is_refused_when_it_comes_late)
{
    ck_assert_int_eq(create_with(1, 50, 0, "a")->error, 0);
    ck_assert_int_eq(create_with(1, 52, 51, "b")->error, 0);
    ck_assert_int_eq(create_with(1, 51, 0, "late")->error, ESTALE);
    meta_fixture_reopen(&f);
    ck_assert_int_eq(create_with(1, 51, 0, "late")->error, ESTALE);
    ck_assert_int_eq(create_with(1, 52, 51, "b")->error, 0);
    ck_assert_uint_eq(meta_fixture_resolve(&f, "late"), 0);
}
END_TEST

START_TEST(unknown_session_is_stale)
{
    ck_assert_int_eq(create_with(9, 1, 0, "a")->error, ESTALE);
    ck_assert_int_eq(create_with(0, 1, 0, "a")->error, ESTALE);
    ck_assert_int_eq(create_with(1, 0, 0, "a")->error, EINVAL);
    ck_assert_uint_eq(meta_fixture_resolve(&f, "a"), 0);
}
END_TEST

static int open_session_error(uint64_t session, uint64_t sequence)
{
    Gabion__OpenSession body;
    Gabion__Op op = GABION__OP__INIT;

    gabion__open_session__init(&body);
    op.session = session;
    op.sequence = sequence;
    op.body_case = GABION__OP__BODY_OPEN_SESSION;
    op.open_session = &body;
    return meta_fixture_apply(&f, &op)->error;
}

static int close_session_error(uint64_t session,
                               uint64_t sequence,
                               bool expired)
{
    Gabion__CloseSession body = GABION__CLOSE_SESSION__INIT;
    Gabion__Op op = GABION__OP__INIT;

    body.expired = expired;
    op.session = session;
    op.sequence = sequence;
    op.body_case = GABION__OP__BODY_CLOSE_SESSION;
    op.close_session = &body;
    return meta_fixture_apply(&f, &op)->error;
}

START_TEST(session_numbers_are_never_used_twice)
{
    uint64_t *sessions;
    size_t n;

    ck_assert_uint_eq(meta_db_next_session(f.db), 2);
    ck_assert_int_eq(open_session_error(5, 1), 0);
    ck_assert_uint_eq(last()->ino, 5);
    ck_assert_uint_eq(meta_db_next_session(f.db), 6);
    ck_assert_int_eq(open_session_error(5, 1), 0); /* repeated */
    ck_assert_int_eq(open_session_error(5, 2), EEXIST);
    ck_assert_int_eq(open_session_error(4, 1), ESTALE);
    ck_assert_int_eq(meta_read_sessions(f.reader, &sessions, &n), 0);
    ck_assert_uint_eq(n, 2);
    ck_assert_uint_eq(sessions[0], 1);
    ck_assert_uint_eq(sessions[1], 5);
    free(sessions);
    ck_assert_int_eq(close_session_error(5, 3, false), 0);
    ck_assert_int_eq(open_session_error(5, 1), ESTALE);
    ck_assert_int_eq(open_session_error(UINT64_MAX, 1), EINVAL);
}
END_TEST

START_TEST(closed_session_leaves_no_results)
{
    ck_assert_int_eq(open_session_error(2, 1), 0);
    ck_assert_int_eq(create_with(2, 2, 0, "a")->error, 0);
    ck_assert_int_eq(close_session_error(2, _i == 0 ? 3 : 0, _i != 0), 0);
    ck_assert_int_eq(
        meta_fixture_query(&f, "SELECT count(*) FROM result WHERE session=2"),
        0);
    ck_assert_int_eq(create_with(2, 4, 0, "b")->error, ESTALE);
    ck_assert_int_eq(close_session_error(2, 5, _i != 0), ESTALE);
    ck_assert_uint_ne(meta_fixture_resolve(&f, "a"), 0);
}
END_TEST

START_TEST(reserved_numbers_do_not_overlap)
{
    static const uint32_t counts[] = { 1, 1048576, 7 };
    Gabion__ReserveInodes reserve = GABION__RESERVE_INODES__INIT;
    uint64_t expected = 100002;

    for (size_t i = 0; i < 3; i++) {
        reserve.count = counts[i];
        ck_assert_uint_eq(
            meta_fixture_run(&f, GABION__OP__BODY_RESERVE_INODES, &reserve)
                ->ino,
            expected);
        expected += counts[i];
    }
    reserve.count = 0;
    ck_assert_int_eq(
        meta_fixture_run(&f, GABION__OP__BODY_RESERVE_INODES, &reserve)->error,
        EINVAL);
    reserve.count = 1048577;
    ck_assert_int_eq(
        meta_fixture_run(&f, GABION__OP__BODY_RESERVE_INODES, &reserve)->error,
        EINVAL);
}
END_TEST

START_TEST(keepers_ops_are_not_for_sessions)
{
    Gabion__ReapOrphans body = GABION__REAP_ORPHANS__INIT;
    Gabion__ForgetObjects forget = GABION__FORGET_OBJECTS__INIT;

    ck_assert_int_eq(
        meta_fixture_run(&f, GABION__OP__BODY_REAP_ORPHANS, &body)->error,
        EINVAL);
    ck_assert_int_eq(
        meta_fixture_run(&f, GABION__OP__BODY_FORGET_OBJECTS, &forget)->error,
        EINVAL);
    ck_assert_int_eq(
        meta_fixture_run(&f, GABION__OP__BODY__NOT_SET, NULL)->error, EINVAL);
}
END_TEST

START_TEST(entry_is_applied_once)
{
    Gabion__Batch batch = GABION__BATCH__INIT;
    struct apply_results results;
    uint64_t applied = meta_db_applied(f.db);

    ck_assert_int_eq(meta_db_begin(f.db), 0);
    ck_assert_int_eq(apply_entry(f.db, applied, &batch, &results), 0);
    ck_assert_uint_eq(results.n, 0);
    ck_assert_ptr_null(results.results);
    ck_assert_int_eq(apply_entry(f.db, applied + 5, &batch, &results), 0);
    ck_assert_int_eq(meta_db_commit(f.db), 0);
    ck_assert_uint_eq(meta_db_applied(f.db), applied + 5);
}
END_TEST

START_TEST(stats_count)
{
    Gabion__ShardStatsReply *reply;
    uint64_t ino = meta_fixture_file(&f, ROOT, "a");

    ck_assert_int_eq(meta_fixture_write(&f, ino, 0, 100), 0);
    ck_assert_int_eq(meta_fixture_write(&f, ino, 0, 100), 0);
    ck_assert_int_eq(meta_read_stats(f.reader, &reply), 0);
    ck_assert_uint_eq(reply->n_inodes, 2);
    ck_assert_uint_eq(reply->n_objects, 2);
    ck_assert_uint_eq(reply->n_garbage, 1);
    ck_assert_uint_eq(reply->n_sessions, 1);
    ck_assert_uint_eq(reply->applied, f.index);
    gabion__shard_stats_reply__free_unpacked(reply, NULL);
}
END_TEST

static void add_tests(TCase *tcase)
{
    tcase_add_loop_test(tcase, create_makes_every_type, 0,
                        sizeof types / sizeof types[0]);
    tcase_add_test(tcase, setgid_directory_hands_down_its_group);
    tcase_add_test(tcase, create_takes_an_existing_file_unless_exclusive);
    tcase_add_loop_test(tcase, create_refuses, 0,
                        sizeof bad_creates / sizeof bad_creates[0]);
    tcase_add_test(tcase, removed_directory_takes_no_new_names);
    tcase_add_test(tcase, link_adds_a_name);
    tcase_add_test(tcase, link_refuses);
    tcase_add_test(tcase, link_stops_at_the_limit);
    tcase_add_test(tcase, unlink_takes_one_name);
    tcase_add_test(tcase, unlink_and_rmdir_refuse);
    tcase_add_test(tcase, rmdir_gives_the_link_of_dot_dot_back);
    tcase_add_test(tcase,
                   unlinked_inode_is_an_orphan_while_anybody_may_hold_it);
    tcase_add_test(tcase, reaping_passes_over_what_has_a_name);
    tcase_add_test(tcase, reaping_goes_in_portions);
    tcase_add_test(tcase, freeing_an_inode_frees_all_it_had);
    tcase_add_loop_test(tcase, rename_refuses, 0,
                        sizeof renames / sizeof renames[0]);
    tcase_add_test(tcase, rename_replaces_a_file);
    tcase_add_test(tcase, rename_moves_a_directory_and_its_dot_dot);
    tcase_add_test(tcase, rename_replaces_an_empty_directory);
    tcase_add_test(tcase, rename_onto_another_name_of_the_inode_does_nothing);
    tcase_add_test(tcase, exchange_swaps_a_file_and_a_directory);
    tcase_add_test(tcase, noreplace_moves_to_a_free_name);
    tcase_add_test(tcase, readdir_neither_skips_nor_doubles_what_stays);
    tcase_add_test(tcase, readdir_gives_types_and_on_demand_attributes);
    tcase_add_test(tcase, lookup_tells_why_not);
    tcase_add_test(tcase, readlink_gives_the_target);
    tcase_add_test(tcase, repeated_op_gives_its_first_result);
    tcase_add_test(tcase, repeated_op_in_one_entry_is_applied_once);
    tcase_add_test(tcase, acknowledged_results_are_dropped_in_bulk);
    tcase_add_test(tcase,
                   an_op_that_was_given_up_is_refused_when_it_comes_late);
    tcase_add_test(tcase, unknown_session_is_stale);
    tcase_add_test(tcase, session_numbers_are_never_used_twice);
    tcase_add_loop_test(tcase, closed_session_leaves_no_results, 0, 2);
    tcase_add_test(tcase, reserved_numbers_do_not_overlap);
    tcase_add_test(tcase, keepers_ops_are_not_for_sessions);
    tcase_add_test(tcase, entry_is_applied_once);
    tcase_add_test(tcase, stats_count);
}

int main(void)
{
    Suite *suite = suite_create("apply");
    TCase *tcase = tcase_create("apply");
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
