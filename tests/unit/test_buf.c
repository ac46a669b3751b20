#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <check.h>

#include "common/buf.h"

static void count_free(struct buf *buf, void *context)
{
    ck_assert_ptr_nonnull(buf->data); /* still there for the callback */
    ++*(int *)context;
}

START_TEST(the_last_reference_frees_and_tells)
{
    struct buf *buf = buf_new(1000);
    int freed = 0;

    ck_assert_ptr_nonnull(buf);
    buf->on_free = count_free;
    buf->context = &freed;
    ck_assert_ptr_eq(buf_ref(buf), buf);
    buf_unref(buf);
    ck_assert_int_eq(freed, 0);
    buf_unref(buf);
    ck_assert_int_eq(freed, 1);
}
END_TEST

START_TEST(memory_is_aligned_and_all_of_it_usable)
{
    static const size_t sizes[] = { 0, 1, 63, 64, 65, 4096, 1 << 20 };

    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct buf *buf = buf_new(sizes[i]);

        ck_assert_ptr_nonnull(buf);
        ck_assert_uint_eq(buf->size, sizes[i]);
        ck_assert_uint_eq((uintptr_t)buf->data % 64, 0);
        memset(buf->data, 0xaa, sizes[i]);
        buf_unref(buf);
    }
}
END_TEST

START_TEST(a_size_that_would_wrap_is_out_of_memory)
{
    volatile size_t size = SIZE_MAX;

    ck_assert_ptr_null(buf_new(size));
    size = SIZE_MAX - 62;
    ck_assert_ptr_null(buf_new(size));
}
END_TEST

static void *ref_and_unref(void *context)
{
    for (int i = 0; i < 100000; i++) {
        buf_unref(buf_ref(context));
    }
    buf_unref(context);
    return NULL;
}

START_TEST(threads_may_share)
{
    struct buf *buf = buf_new(64);
    pthread_t threads[4];
    int freed = 0;

    buf->on_free = count_free;
    buf->context = &freed;
    for (int i = 0; i < 4; i++) {
        (void)buf_ref(buf);
        ck_assert_int_eq(pthread_create(&threads[i], NULL, ref_and_unref, buf),
                         0);
    }
    for (int i = 0; i < 4; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    ck_assert_int_eq(freed, 0);
    buf_unref(buf);
    ck_assert_int_eq(freed, 1);
    buf_unref(NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("buf");
    TCase *tcase = tcase_create("buf");
    SRunner *runner;
    int failed;

    tcase_add_test(tcase, the_last_reference_frees_and_tells);
    tcase_add_test(tcase, memory_is_aligned_and_all_of_it_usable);
    tcase_add_test(tcase, a_size_that_would_wrap_is_out_of_memory);
    tcase_add_test(tcase, threads_may_share);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
