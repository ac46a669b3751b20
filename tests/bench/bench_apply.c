/* How many operations per second the metadata state machine applies, in batches
 * of 1, 16 and 128 ops per entry. Not a test: figures to tune by. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <check.h>

#include "common/object_id.h"
#include "tests/unit/meta_fixture.h"

#define N_FILES       20000u
#define N_BIG_EXTENTS 16384u
#define BATCH_MAX     128u
#define DIRECTORIES   100u

static double now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void report(const char *what, unsigned batch, size_t n, double seconds)
{
    printf("%-24s batch=%-4u ops/s=%-9.0f us/op=%.1f\n", what, batch,
           (double)n / seconds, seconds * 1e6 / (double)n);
}

/* A batch being gathered. */
struct gathering {
    struct meta_fixture *f;
    Gabion__Op ops[BATCH_MAX];
    Gabion__Op *pointers[BATCH_MAX];
    unsigned n;
    unsigned batch;
};

static void flush(struct gathering *g)
{
    Gabion__Batch batch = GABION__BATCH__INIT;

    if (g->n == 0) {
        return;
    }
    batch.n_op = g->n;
    batch.op = g->pointers;
    meta_fixture_apply_batch(g->f, &batch);
    for (unsigned i = 0; i < g->n; i++) {
        ck_assert_int_eq(g->f->results.results[i]->error, 0);
    }
    g->n = 0;
    if (meta_db_wal_pages(g->f->db) > 16384) {
        ck_assert_int_eq(meta_db_checkpoint(g->f->db), 0);
    }
}

/* `body` must stay until the batch is full. */
static void gather(struct gathering *g, Gabion__Op__BodyCase which, void *body)
{
    Gabion__Op *op = &g->ops[g->n];

    gabion__op__init(op);
    op->session = g->f->session;
    op->sequence = ++g->f->sequence;
    op->acked = op->sequence > 2 * BATCH_MAX ? op->sequence - 2 * BATCH_MAX : 0;
    op->now_ns = ++g->f->now_ns;
    op->body_case = which;
    op->create = body;
    g->pointers[g->n++] = op;
    if (g->n == g->batch) {
        flush(g);
    }
}

static char names[BATCH_MAX][24];

static ProtobufCBinaryData name_of(unsigned slot, unsigned i)
{
    (void)snprintf(names[slot], sizeof names[slot], "file-%u", i);
    return meta_fixture_bytes(names[slot]);
}

static void bench_create(struct gathering *g, const uint64_t *directories)
{
    static Gabion__Create bodies[BATCH_MAX];
    double start = now();

    for (unsigned i = 0; i < N_FILES; i++) {
        Gabion__Create *create = &bodies[g->n];

        gabion__create__init(create);
        create->parent = directories[i / (N_FILES / DIRECTORIES)];
        create->name = name_of(g->n, i);
        create->ino = g->f->next_ino++;
        create->mode = S_IFREG | 0644;
        gather(g, GABION__OP__BODY_CREATE, create);
    }
    flush(g);
    report("create", g->batch, N_FILES, now() - start);
}

/* One small file each: one object, one extent. */
static void bench_commit_small(struct gathering *g, uint64_t first_ino)
{
    static Gabion__CommitWrites bodies[BATCH_MAX];
    static Gabion__FileWrite files[BATCH_MAX];
    static Gabion__FileWrite *file_pointers[BATCH_MAX];
    static Gabion__Extent extents[BATCH_MAX];
    static Gabion__Extent *extent_pointers[BATCH_MAX];
    static Gabion__ObjectInfo infos[BATCH_MAX];
    static Gabion__ObjectInfo *info_pointers[BATCH_MAX];
    static uint8_t ids[BATCH_MAX][16];
    double start = now();

    for (unsigned i = 0; i < N_FILES; i++) {
        unsigned slot = g->n;

        infos[slot] = meta_fixture_object(g->f, 100000, ids[slot]);
        info_pointers[slot] = &infos[slot];
        gabion__extent__init(&extents[slot]);
        extents[slot].length = 100000;
        extents[slot].object = 1;
        extent_pointers[slot] = &extents[slot];
        gabion__file_write__init(&files[slot]);
        files[slot].ino = first_ino + i;
        files[slot].end = 100000;
        files[slot].n_extent = 1;
        files[slot].extent = &extent_pointers[slot];
        file_pointers[slot] = &files[slot];
        gabion__commit_writes__init(&bodies[slot]);
        bodies[slot].n_object = 1;
        bodies[slot].object = &info_pointers[slot];
        bodies[slot].n_file = 1;
        bodies[slot].file = &file_pointers[slot];
        gather(g, GABION__OP__BODY_COMMIT_WRITES, &bodies[slot]);
    }
    flush(g);
    report("commit of one extent", g->batch, N_FILES, now() - start);
}

static void bench_setattr(struct gathering *g, uint64_t first_ino)
{
    static Gabion__SetAttr bodies[BATCH_MAX];
    double start = now();

    for (unsigned i = 0; i < N_FILES; i++) {
        Gabion__SetAttr *set = &bodies[g->n];

        gabion__set_attr__init(set);
        set->ino = first_ino + i;
        set->valid = 32;
        set->mtime_ns = i;
        gather(g, GABION__OP__BODY_SET_ATTR, set);
    }
    flush(g);
    report("setattr", g->batch, N_FILES, now() - start);
}

static void bench_unlink(struct gathering *g, const uint64_t *directories)
{
    static Gabion__Unlink bodies[BATCH_MAX];
    double start = now();

    for (unsigned i = 0; i < N_FILES; i++) {
        Gabion__Unlink *unlink = &bodies[g->n];

        gabion__unlink__init(unlink);
        unlink->parent = directories[i / (N_FILES / DIRECTORIES)];
        unlink->name = name_of(g->n, i);
        gather(g, GABION__OP__BODY_UNLINK, unlink);
    }
    flush(g);
    report("unlink and free", g->batch, N_FILES, now() - start);
}

static void bench_reads(struct meta_fixture *f, const uint64_t *directories)
{
    Gabion__ReadDirRequest list = GABION__READ_DIR_REQUEST__INIT;
    double start = now();
    size_t n = 0;

    for (unsigned i = 0; i < N_FILES; i++) {
        Gabion__LookupRequest lookup = GABION__LOOKUP_REQUEST__INIT;
        Gabion__AttrReply *reply;

        lookup.parent = directories[i / (N_FILES / DIRECTORIES)];
        lookup.name = name_of(0, i);
        ck_assert_int_eq(meta_read_lookup(f->reader, &lookup, &reply), 0);
        ck_assert_int_eq(reply->error, 0);
        gabion__attr_reply__free_unpacked(reply, NULL);
    }
    report("lookup", 1, N_FILES, now() - start);

    for (int plus = 0; plus < 2; plus++) {
        start = now();
        n = 0;
        list.plus = plus != 0;
        list.limit = 1024;
        for (unsigned d = 0; d < DIRECTORIES; d++) {
            Gabion__ReadDirReply *reply;

            list.ino = directories[d];
            ck_assert_int_eq(meta_read_dir(f->reader, &list, &reply), 0);
            n += reply->n_entry;
            gabion__read_dir_reply__free_unpacked(reply, NULL);
        }
        report(plus ? "readdirplus, per entry" : "readdir, per entry", 1, n,
               now() - start);
    }
}

/* One commit of many extents, onto nothing and then again over the same. */
static void bench_big_commit(struct meta_fixture *f)
{
    static Gabion__Extent extents[N_BIG_EXTENTS];
    static Gabion__Extent *pointers[N_BIG_EXTENTS];
    Gabion__CommitWrites commit = GABION__COMMIT_WRITES__INIT;
    Gabion__FileWrite file = GABION__FILE_WRITE__INIT;
    Gabion__FileWrite *files = &file;
    Gabion__ObjectInfo info;
    Gabion__ObjectInfo *infos = &info;
    Gabion__GetLayoutRequest request = GABION__GET_LAYOUT_REQUEST__INIT;
    Gabion__GetLayoutReply *reply;
    uint8_t id[16];
    double start;

    file.ino = meta_fixture_file(f, META_ROOT_INO, "big");
    for (unsigned i = 0; i < N_BIG_EXTENTS; i++) {
        gabion__extent__init(&extents[i]);
        extents[i].offset = i * 8192ull;
        extents[i].length = 4096;
        extents[i].object = 1;
        extents[i].object_offset = i * 4096ull;
        pointers[i] = &extents[i];
    }
    file.n_extent = N_BIG_EXTENTS;
    file.extent = pointers;
    file.end = N_BIG_EXTENTS * 8192ull;
    commit.n_object = 1;
    commit.object = &infos;
    commit.n_file = 1;
    commit.file = &files;
    for (int round = 0; round < 3; round++) {
        info = meta_fixture_object(f, OBJECT_SIZE_MAX, id);
        for (unsigned i = 0; round == 2 && i < N_BIG_EXTENTS; i++) {
            extents[i].offset += 2048;
        }
        start = now();
        ck_assert_int_eq(
            meta_fixture_run(f, GABION__OP__BODY_COMMIT_WRITES, &commit)->error,
            0);
        report(round == 0   ? "extents of one commit"
               : round == 1 ? "overwritten extents"
                            : "split extents",
               1, N_BIG_EXTENTS, now() - start);
    }
    request.ino = file.ino;
    request.limit = 8192;
    start = now();
    ck_assert_int_eq(meta_read_layout(f->reader, &request, &reply), 0);
    report("layout, per extent", 1, reply->n_extent, now() - start);
    gabion__get_layout_reply__free_unpacked(reply, NULL);
}

START_TEST(bench)
{
    static const unsigned batches[] = { 1, 16, 128 };
    static struct meta_fixture f;
    static struct gathering g;
    uint64_t directories[DIRECTORIES];
    char name[24];

    meta_fixture_open(&f);
    for (unsigned i = 0; i < DIRECTORIES; i++) {
        (void)snprintf(name, sizeof name, "d%u", i);
        directories[i] = meta_fixture_directory(&f, META_ROOT_INO, name);
    }
    for (size_t i = 0; i < sizeof batches / sizeof batches[0]; i++) {
        uint64_t first_ino = f.next_ino;

        g.f = &f;
        g.batch = batches[i];
        bench_create(&g, directories);
        bench_commit_small(&g, first_ino);
        bench_setattr(&g, first_ino);
        if (i == 0) {
            bench_reads(&f, directories);
        }
        bench_unlink(&g, directories);
    }
    bench_big_commit(&f);
    meta_fixture_close(&f);
}
END_TEST

/* The fixture asserts by Check, which wants to be running a test. */
int main(void)
{
    Suite *suite = suite_create("bench_apply");
    TCase *tcase = tcase_create("bench_apply");
    SRunner *runner;
    int n_failed;

    tcase_set_timeout(tcase, 0);
    tcase_add_test(tcase, bench);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_ENV);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? 0 : 1;
}
