/* Mutated ops against the state machine of a metadata shard: `fuzz_apply SEED
 * SECONDS`.
 *
 * Ops that proto/validate lets pass, sensible or not, are applied to a real
 * database. Whatever they ask for is a result, never a failure of apply, which
 * would stop the shard; and the tables agree with each other afterwards. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sqlite3.h>

#include "proto/validate.h"
#include "storaged/meta/apply.h"
#include "storaged/meta/meta_db.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/wire_sample.h"

#define CLUSTER   7u
#define N_BATCHES 60u
#define N_INODES  9u /* to begin with */
#define NOW_NS    1000000000

/* A shard at work. */
struct world {
    struct meta_db *db; /* owned */
    uint64_t index;     /* of the last entry */
    uint64_t sequence;  /* of session 1 */
    uint64_t next_ino;  /* of the reserved ones */
    uint64_t serial;    /* of the last object */
    uint64_t n_done;    /* ops that succeeded */
};

static char dir[64];
static char path[96];

static void remove_database(void)
{
    static const char *const suffixes[] = { "", "-wal", "-shm", "-journal" };
    char name[128];

    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        (void)snprintf(name, sizeof name, "%s%s", path, suffixes[i]);
        (void)unlink(name);
    }
}

/* ---------------------------------------------------------------- invariants
 */

/* Each counts what may not be. */
static const char *const wrongs[] = {
    "object WHERE live <> (SELECT coalesce(sum(length), 0) FROM extent AS e"
    " WHERE e.session = object.session AND e.serial = object.serial)",
    "extent AS e WHERE data IS NULL AND NOT EXISTS (SELECT 1 FROM object AS o"
    " WHERE o.session = e.session AND o.serial = e.serial)",
    "extent AS a JOIN extent AS b ON a.ino = b.ino AND b.offset > a.offset AND"
    " b.offset < a.offset + a.length",
    "extent WHERE length <= 0 OR (data NOTNULL AND length(data) <> length)",
    "inode WHERE allocated <> (SELECT coalesce(sum(length), 0) FROM extent AS e"
    " WHERE e.ino = inode.ino)",
    "inode WHERE n_xattrs <> (SELECT count(*) FROM xattr AS x"
    " WHERE x.ino = inode.ino)",
    "extent WHERE ino NOT IN (SELECT ino FROM inode)",
    "xattr WHERE ino NOT IN (SELECT ino FROM inode)",
    "dentry WHERE ino NOT IN (SELECT ino FROM inode)",
    "dentry WHERE parent NOT IN"
    " (SELECT ino FROM inode WHERE mode / 4096 = 4 AND nlink > 0)",
    "inode WHERE mode / 4096 <> 4 AND nlink <> (SELECT count(*) FROM dentry"
    " AS d WHERE d.ino = inode.ino)",
    "inode WHERE mode / 4096 = 4 AND nlink > 0 AND nlink <> 2 + (SELECT "
    "count(*)"
    " FROM dentry AS d JOIN inode AS c ON c.ino = d.ino"
    " WHERE d.parent = inode.ino AND c.mode / 4096 = 4)",
    "inode WHERE (nlink = 0) <> (ino IN (SELECT ino FROM orphan))",
    "inode WHERE (mode / 4096 = 10) <> (ino IN (SELECT ino FROM symlink))",
    "counter WHERE n_inodes <> (SELECT count(*) FROM inode)"
    " OR n_objects <> (SELECT count(*) FROM object)",
};

static int count(sqlite3 *sqlite, const char *what)
{
    sqlite3_stmt *statement = NULL;
    char sql[512];
    int n = -1;

    (void)snprintf(sql, sizeof sql, "SELECT count(*) FROM %s", what);
    if (sqlite3_prepare_v2(sqlite, sql, -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW) {
        n = sqlite3_column_int(statement, 0);
    }
    (void)sqlite3_finalize(statement);
    return n;
}

/* Of the closed database. */
static bool check_tables(void)
{
    sqlite3 *sqlite = NULL;
    bool is_ok = sqlite3_open(path, &sqlite) == SQLITE_OK;

    for (size_t i = 0; i < sizeof wrongs / sizeof *wrongs && is_ok; i++) {
        int n = count(sqlite, wrongs[i]);

        is_ok = n == 0 || fuzz_fail("%d of %s", n, wrongs[i]);
    }
    (void)sqlite3_close(sqlite);
    return is_ok;
}

/* ----------------------------------------------------------------------- ops
 */

/* Files that exist, and objects of the session that are new. */
static void aim_commit(struct world *world, Gabion__CommitWrites *commit)
{
    for (size_t i = 0; i < commit->n_file; i++) {
        commit->file[i]->ino = 1 + fuzz_below(12);
    }
    for (size_t i = 0; i < commit->n_object; i++) {
        const struct object_id id = { 1, ++world->serial };

        if (commit->object[i]->id.len == OBJECT_ID_SIZE) {
            object_id_encode(&id, commit->object[i]->id.data);
        }
    }
}

/* Let most inode numbers of the body be those of few inodes, so that ops
 * meet. */
static void aim(struct world *world, Gabion__Op *op)
{
    ProtobufCMessage *body = (ProtobufCMessage *)op->create;
    const ProtobufCMessageDescriptor *type = body->descriptor;

    for (unsigned i = 0; i < type->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &type->fields[i];
        uint64_t *value = (uint64_t *)((void *)((char *)body + field->offset));
        bool is_ino = strcmp(field->name, "ino") == 0 ||
                      strcmp(field->name, "source") == 0 ||
                      strstr(field->name, "parent") != NULL;

        if (is_ino && field->label == PROTOBUF_C_LABEL_NONE &&
            !fuzz_one_in(8)) {
            *value = 1 + fuzz_below(fuzz_one_in(3) ? 3 : 12);
        }
    }
    if (op->body_case == GABION__OP__BODY_CREATE && !fuzz_one_in(8)) {
        op->create->ino = world->next_ino++;
    }
    if (op->body_case == GABION__OP__BODY_COMMIT_WRITES) {
        aim_commit(world, op->commit_writes);
    }
}

static void address(struct world *world, Gabion__Op *op)
{
    bool is_own = op->body_case == GABION__OP__BODY_REAP_ORPHANS ||
                  op->body_case == GABION__OP__BODY_FORGET_OBJECTS;

    op->session = is_own ? 0 : 1;
    if (op->body_case == GABION__OP__BODY_CLOSE_SESSION) {
        op->session = fuzz_one_in(30) ? 1 : 2 + fuzz_below(3);
    } else if (op->body_case == GABION__OP__BODY_OPEN_SESSION) {
        op->session = meta_db_next_session(world->db); /* as the shard does */
    } else if (fuzz_one_in(30)) {
        op->session = fuzz_below(5);
    }
    if (!fuzz_one_in(20)) {
        world->sequence++;
    }
    op->sequence = world->sequence;
    op->acked = fuzz_one_in(8) ? fuzz_below(world->sequence) : 0;
    op->now_ns = NOW_NS + (int64_t)world->sequence;
    op->held_open = fuzz_one_in(2);
}

/* Apply as the next entry. */
static bool apply(struct world *world, Gabion__Op **ops, size_t n)
{
    Gabion__Batch batch = GABION__BATCH__INIT;
    struct apply_results results = { 0 };
    bool is_ok;
    int rc = meta_db_begin(world->db);

    batch.version = 1;
    batch.op = ops;
    batch.n_op = n;
    if (rc == 0) {
        rc = apply_entry(world->db, ++world->index, &batch, &results);
    }
    if (rc == 0) {
        rc = meta_db_commit(world->db);
    }
    is_ok = rc == 0 && results.n == n;
    for (size_t i = 0; i < results.n && is_ok; i++) {
        is_ok =
            results.results[i]->error >= 0 && results.results[i]->error < 4096;
        world->n_done += results.results[i]->error == 0;
    }
    apply_results_free(&results);
    return is_ok ||
           fuzz_fail("apply: %d, body %d first", rc, (int)ops[0]->body_case);
}

static bool run_batch(struct world *world)
{
    static uint8_t data[WIRE_SAMPLE_MAX];
    Gabion__SubmitRequest *request =
        gabion__submit_request__unpack(NULL, wire_sample_submit(data), data);
    Gabion__Op *valid[8];
    size_t n_valid = 0;
    bool is_ok;

    if (request == NULL) {
        return fuzz_fail("the target itself");
    }
    for (size_t i = 0; i < request->n_op; i++) {
        for (size_t n = fuzz_one_in(2) ? fuzz_below(3) : 0; n > 0; n--) {
            wire_mutate_field(&request->op[i]->base);
        }
        aim(world, request->op[i]);
        address(world, request->op[i]);
        if (validate_op(request->op[i], NULL) == 0) {
            valid[n_valid++] = request->op[i];
        }
    }
    is_ok = n_valid == 0 || apply(world, valid, n_valid);
    gabion__submit_request__free_unpacked(request, NULL);
    return is_ok;
}

/* Files and directories in turn in the root, under the names that the samples
 * use: n, nn, ... */
static bool populate(struct world *world)
{
    for (size_t i = 0; i < N_INODES; i++) {
        uint8_t name[N_INODES];
        Gabion__Create create = GABION__CREATE__INIT;
        Gabion__Op op = GABION__OP__INIT;
        Gabion__Op *list = &op;

        memset(name, 'n', sizeof name);
        create.parent = META_ROOT_INO;
        create.name = (ProtobufCBinaryData){ i + 1, name };
        create.ino = world->next_ino++;
        create.mode = i % 2 == 0 ? 0100644 : 0040755;
        op.session = 1;
        op.sequence = ++world->sequence;
        op.body_case = GABION__OP__BODY_CREATE;
        op.create = &create;
        if (!apply(world, &list, 1)) {
            return false;
        }
    }
    /* ops that all fail would prove nothing */
    return world->n_done >= N_INODES ||
           fuzz_fail("the target itself: no inodes");
}

/* Session 1, its inode numbers, 2 and up, and some inodes. */
static bool begin(struct world *world)
{
    Gabion__OpenSession open;
    Gabion__ReserveInodes reserve = GABION__RESERVE_INODES__INIT;
    Gabion__Op op = GABION__OP__INIT;
    Gabion__Op *list = &op;

    gabion__open_session__init(&open);
    op.session = 1;
    op.sequence = 1;
    op.body_case = GABION__OP__BODY_OPEN_SESSION;
    op.open_session = &open;
    if (!apply(world, &list, 1)) {
        return false;
    }
    reserve.count = 10000;
    op.sequence = 2;
    op.body_case = GABION__OP__BODY_RESERVE_INODES;
    op.reserve_inodes = &reserve;
    world->sequence = 2;
    world->next_ino = 2;
    return apply(world, &list, 1) && populate(world);
}

static bool run_round(void)
{
    struct world world = { 0 };
    struct errmsg msg = { "" };
    bool is_ok;

    remove_database();
    if (meta_db_open(path, CLUSTER, 0, NOW_NS, &world.db, &msg) != 0) {
        return fuzz_fail("%s", msg.text);
    }
    is_ok = begin(&world);
    for (size_t i = 0; i < N_BATCHES && is_ok; i++) {
        is_ok = run_batch(&world);
    }
    meta_db_close(world.db);
    return is_ok && check_tables();
}

int main(int argc, char **argv)
{
    int status;

    (void)strcpy(dir, access("/dev/shm", W_OK) == 0
                          ? "/dev/shm/gabion-fuzz-apply-XXXXXX"
                          : "/tmp/gabion-fuzz-apply-XXXXXX");
    if (mkdtemp(dir) == NULL) {
        perror(dir);
        return EXIT_FAILURE;
    }
    (void)snprintf(path, sizeof path, "%s/shard.db", dir);
    status = fuzz_main(argc, argv, run_round);
    remove_database();
    (void)rmdir(dir);
    return status;
}
