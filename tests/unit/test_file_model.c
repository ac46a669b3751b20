/* Random operations on several files, through a file store over faulty nodes
 * and a faulty shard, against plain byte arrays: never a difference. */
#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <check.h>

#include "fusefs/file.h"
#include "tests/unit/file_fake.h"

#define N_FILES    5u
#define SPACE      (6u << 20)
#define N_OPS      3000u
#define FIRST_INO  10u
#define LENGTH_MAX (700u << 10)

/* With faults, and how often to try again where nothing should fail. */
#define TIMEOUT_MS 60
#define RETRIES    50u

/* What a file should be. */
struct model {
    uint8_t *bytes; /* SPACE of them; zeros beyond size */
    uint64_t size;
    struct file *file; /* NULL: closed */
};

struct world {
    struct file_fake *fake;
    struct model models[N_FILES];
    uint64_t random;
    bool with_faults;
    bool has_fault;    /* nodes or commits may fail now: errors are allowed */
    bool must_succeed; /* reads are tried until they do */
    uint8_t *scratch;
};

static const struct objio_policy small42 = { 4, 2, 16384, 5 };
static const struct objio_policy ec42 = { 4, 2, 256u << 10, 5 };

static uint64_t next(struct world *w, uint64_t below)
{
    w->random = w->random * 6364136223846793005u + 1442695040888963407u;
    return (w->random >> 24) % below;
}

static struct file *opened(struct world *w, struct model *model)
{
    uint64_t ino = FIRST_INO + (uint64_t)(model - w->models);

    if (model->file == NULL) {
        struct file_attr attr;

        ck_assert_int_eq(file_get(file_fake_store(w->fake), ino, &model->file),
                         0);
        file_fake_attr(w->fake, ino, &attr);
        file_revalidate(model->file, &attr);
    }
    return model->file;
}

/* With faults an operation may fail; without it must not. Where there are
 * faults the timeout is so short that a busy machine may miss it. */
static bool went_well(struct world *w, const char *what, int rc)
{
    if (rc != 0 && !w->has_fault && !(w->with_faults && rc == -ETIMEDOUT)) {
        ck_abort_msg("%s: %d", what, rc);
    }
    return rc == 0;
}

static uint64_t choose_offset(struct world *w, const struct model *model)
{
    switch (next(w, 4)) {
    case 0:
        return model->size;
    case 1:
        return next(w, 20000);
    case 2:
        return next(w, model->size + 1);
    default:
        return next(w, SPACE);
    }
}

static size_t choose_length(struct world *w, uint64_t offset)
{
    uint64_t length =
        next(w, 3) != 0 ? 1 + next(w, 9000) : 1 + next(w, LENGTH_MAX);

    return (size_t)(length < SPACE - offset ? length : SPACE - offset);
}

static void op_write(struct world *w, struct model *model)
{
    uint64_t offset = choose_offset(w, model);
    size_t length = choose_length(w, offset);
    bool append = next(w, 8) == 0;
    int rc;

    if (append) {
        offset = model->size;
        length = choose_length(w, offset);
    }
    if (length == 0) {
        return;
    }
    for (size_t i = 0; i < length; i += 512) {
        memset(w->scratch + i, (int)next(w, 256),
               length - i < 512 ? length - i : 512);
    }
    rc = file_write(opened(w, model), append ? 0 : offset, length, w->scratch,
                    append);
    if (went_well(w, "write", rc)) {
        memcpy(model->bytes + offset, w->scratch, length);
        if (offset + length > model->size) {
            model->size = offset + length;
        }
    }
}

static void read_and_compare(struct world *w,
                             struct model *model,
                             uint64_t offset,
                             size_t length)
{
    uint64_t want =
        offset < model->size
            ? (length < model->size - offset ? length : model->size - offset)
            : 0;
    size_t got = 0;
    int rc = file_read(opened(w, model), offset, length, w->scratch, &got);

    for (unsigned i = 0; rc != 0 && w->must_succeed && i < RETRIES; i++) {
        rc = file_read(opened(w, model), offset, length, w->scratch, &got);
    }
    if (!went_well(w, "read", rc)) {
        return;
    }
    ck_assert_uint_eq(got, want);
    for (size_t i = 0; i < got; i++) {
        if (w->scratch[i] != model->bytes[offset + i]) {
            ck_abort_msg("file %d differs at %llu: 0x%x, not 0x%x",
                         (int)(model - w->models),
                         (unsigned long long)(offset + i), w->scratch[i],
                         model->bytes[offset + i]);
        }
    }
}

static void op_read(struct world *w, struct model *model)
{
    uint64_t offset = choose_offset(w, model);

    read_and_compare(w, model, offset, choose_length(w, offset) + 1);
}

static void op_read_all(struct world *w, struct model *model)
{
    for (uint64_t offset = 0; offset < model->size; offset += 128u << 10) {
        read_and_compare(w, model, offset, 128u << 10);
    }
}

static void op_truncate(struct world *w, struct model *model)
{
    uint64_t size = choose_offset(w, model);
    int rc;

    if (next(w, 3) == 0) {
        size = 0;
    }
    rc = file_truncate(opened(w, model), size, 1234567890);
    if (went_well(w, "truncate", rc)) {
        if (size < model->size) {
            memset(model->bytes + size, 0, model->size - size);
        }
        model->size = size;
    }
}

static void op_allocate(struct world *w, struct model *model)
{
    uint64_t offset = choose_offset(w, model);
    size_t length = choose_length(w, offset);
    unsigned how = 1 + (unsigned)next(w, 4);
    int rc;

    if (length == 0) {
        return;
    }
    rc = file_allocate(opened(w, model), offset, length, how);
    if (went_well(w, "allocate", rc)) {
        if (how != 1) {
            memset(model->bytes + offset, 0, length);
        }
        if ((how == 1 || how == 4) && offset + length > model->size) {
            model->size = offset + length;
        }
    }
}

static void op_clone(struct world *w, struct model *model)
{
    struct model *source = &w->models[next(w, N_FILES)];
    uint64_t from = choose_offset(w, source);
    uint64_t to = choose_offset(w, model);
    uint64_t length = choose_length(w, from > to ? from : to);
    uint64_t done = 0;
    int rc;

    if (length == 0 || source == model) {
        return;
    }
    file_fake_set_clone_error(w->fake, next(w, 3) == 0 ? -EOPNOTSUPP : 0);
    rc = file_clone(opened(w, source), from, opened(w, model), to, length,
                    &done);
    if (went_well(w, "clone", rc)) {
        ck_assert_uint_le(done, length);
        if (!w->has_fault) {
            uint64_t left = from < source->size ? source->size - from : 0;

            ck_assert_uint_eq(done, length < left ? length : left);
        }
        memcpy(model->bytes + to, source->bytes + from, done);
        if (done > 0 && to + done > model->size) {
            model->size = to + done;
        }
    }
}

static void op_flush(struct world *w, struct model *model)
{
    struct file *file = opened(w, model);
    struct file_attr attr;
    uint64_t lost;

    switch (next(w, 4)) {
    case 0:
        (void)went_well(w, "fsync", file_fsync(file));
        break;
    case 1:
        (void)went_well(w, "sync",
                        file_store_sync(file_fake_store(w->fake), &lost));
        break;
    case 2:
        (void)went_well(w, "sync_data", file_sync_data(file));
        break;
    default:
        (void)went_well(w, "flush", file_flush(file));
        break;
    }
    file_fake_attr(w->fake, FIRST_INO + (uint64_t)(model - w->models), &attr);
    file_overlay_attr(file, &attr);
    ck_assert_uint_eq(attr.size, model->size);
}

static void op_close(struct world *w, struct model *model)
{
    if (model->file != NULL) {
        if (next(w, 2) == 0) {
            (void)went_well(w, "flush", file_flush(model->file));
        }
        file_put(model->file);
        model->file = NULL;
    }
}

/* Holes may be reported as data, but data never as a hole. */
static void op_seek(struct world *w, struct model *model)
{
    uint64_t offset = choose_offset(w, model);
    uint64_t data = 0;
    int rc = file_seek(opened(w, model), offset, SEEK_DATA, &data);

    if (rc == -ENXIO || (rc == 0 && data > offset)) {
        uint64_t end = rc == 0 ? data : model->size;

        for (uint64_t i = offset; i < end; i++) {
            if (model->bytes[i] != 0) {
                ck_abort_msg("data reported as a hole at %llu",
                             (unsigned long long)i);
            }
        }
        return;
    }
    (void)went_well(w, "seek", rc);
}

static void op_fault(struct world *w)
{
    if (!w->with_faults) {
        return;
    }
    w->has_fault = true;
    switch (next(w, 5)) {
    case 0:
        file_fake_set_node(w->fake, 1 + (uint32_t)next(w, FAKE_FILE_NODES),
                           FAKE_GONE);
        break;
    case 1:
        file_fake_set_node(w->fake, 1 + (uint32_t)next(w, FAKE_FILE_NODES),
                           FAKE_NOSPC);
        break;
    case 2:
        file_fake_fail_commits(w->fake, 1 + (unsigned)next(w, 3), -ETIMEDOUT,
                               true);
        break;
    case 3:
        file_fake_fail_commits(w->fake, 1 + (unsigned)next(w, 3), -ETIMEDOUT,
                               false);
        break;
    default:
        file_fake_set_all(w->fake, FAKE_OK);
        file_fake_fail_commits(w->fake, 0, 0, false);
        break;
    }
}

static void heal(struct world *w)
{
    uint64_t lost;
    int rc;

    file_fake_set_all(w->fake, FAKE_OK);
    file_fake_fail_commits(w->fake, 0, 0, false);
    /* Errors that have not been told are told now. */
    for (size_t i = 0; i < N_FILES; i++) {
        rc = file_flush(opened(w, &w->models[i]));
    }
    w->has_fault = false;
    rc = file_store_sync(file_fake_store(w->fake), &lost);
    for (unsigned i = 0; rc != 0 && i < RETRIES; i++) {
        rc = file_store_sync(file_fake_store(w->fake), &lost);
    }
    ck_assert_int_eq(rc, 0);
    ck_assert_uint_eq(lost, 0);
}

static void run_op(struct world *w)
{
    struct model *model = &w->models[next(w, N_FILES)];
    uint64_t kind = next(w, 100);

    if (kind < 40) {
        op_write(w, model);
    } else if (kind < 65) {
        op_read(w, model);
    } else if (kind < 72) {
        op_truncate(w, model);
    } else if (kind < 78) {
        op_allocate(w, model);
    } else if (kind < 83) {
        op_clone(w, model);
    } else if (kind < 90) {
        op_flush(w, model);
    } else if (kind < 94) {
        op_close(w, model);
    } else if (kind < 96) {
        op_seek(w, model);
    } else if (kind < 97) {
        op_read_all(w, model);
    } else {
        op_fault(w);
    }
}

static void run_world(uint64_t seed,
                      const struct objio_policy *policy,
                      bool with_faults)
{
    struct file_fake_config config = { .policy = policy,
                                       .cache_size = 32u << 20,
                                       .timeout_ms =
                                           with_faults ? TIMEOUT_MS : 0 };
    struct world world = { .random = seed * 7919 + 1,
                           .with_faults = with_faults };
    struct world *w = &world;
    struct file_fake_counts counts;

    w->fake = file_fake_new(&config);
    file_fake_set_reaping(w->fake, true);
    file_fake_set_page(w->fake, 1 + next(w, 20));
    w->scratch = malloc(SPACE + 1);
    assert(w->scratch != NULL);
    for (size_t i = 0; i < N_FILES; i++) {
        w->models[i].bytes = calloc(SPACE, 1);
        assert(w->models[i].bytes != NULL);
    }
    for (unsigned i = 0; i < N_OPS; i++) {
        run_op(w);
        if (with_faults && i % 150 == 149) {
            heal(w);
        }
    }
    heal(w);
    w->must_succeed = true;
    for (size_t i = 0; i < N_FILES; i++) {
        op_read_all(w, &w->models[i]);
        file_put(w->models[i].file);
        w->models[i].file = NULL;
        op_read_all(w, &w->models[i]);
        if (w->models[i].file != NULL) {
            file_put(w->models[i].file);
        }
        free(w->models[i].bytes);
    }
    file_fake_counts(w->fake, &counts);
    ck_assert_uint_eq(counts.n_errors, 0);
    free(w->scratch);
    file_fake_free(w->fake);
}

START_TEST(random_operations_agree_with_byte_arrays)
{
    run_world((uint64_t)_i + 1, _i % 2 == 0 ? &small42 : &ec42, false);
}
END_TEST

START_TEST(random_operations_with_faults_agree_with_byte_arrays)
{
    run_world((uint64_t)_i + 100, _i % 2 == 0 ? &small42 : &ec42, true);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("file_model");
    TCase *tcase = tcase_create("file_model");
    SRunner *runner = srunner_create(suite);
    int n_failed;

    tcase_set_timeout(tcase, 100);
    tcase_add_loop_test(tcase, random_operations_agree_with_byte_arrays, 0, 4);
    tcase_add_loop_test(
        tcase, random_operations_with_faults_agree_with_byte_arrays, 0, 4);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_ENV);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
