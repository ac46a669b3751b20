/* The inode table: life, what may be kept of an answer, removals and opens;
 * name hints. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <check.h>

#include "fusefs/inode.h"
#include "fusefs/name_hints.h"

#define ATTR_MS 60000

static struct inode_table *table;
static struct inode *inode;

static void set_up(void)
{
    ck_assert_int_eq(inode_table_new(ATTR_MS, 4, &table), 0);
    ck_assert_int_eq(inode_get(table, 7, &inode), 0);
}

static void tear_down(void)
{
    inode_table_free(table);
}

static Gabion__Attr some_attr(uint64_t version)
{
    Gabion__Attr attr = GABION__ATTR__INIT;

    attr.ino = 7;
    attr.mode = S_IFREG | 0644;
    attr.nlink = 1;
    attr.data_version = version;
    return attr;
}

static bool is_fresh(uint64_t *ret_version)
{
    Gabion__Attr attr;
    int64_t fresh_ms;
    bool fresh = inode_attr(inode, &attr, &fresh_ms);

    *ret_version = fresh ? attr.data_version : 0;
    ck_assert(!fresh || (fresh_ms > 0 && fresh_ms <= ATTR_MS));
    return fresh;
}

START_TEST(inode_lives_while_anybody_has_it)
{
    ck_assert_ptr_null(inode_find(table, 8));
    ck_assert_ptr_eq(inode_find(table, 7), inode);
    inode_put(inode);
    inode_lookup_add(inode);
    inode_lookup_add(inode);
    inode_put(inode); /* the kernel's two are left */
    inode_forget(table, 7, 1);
    ck_assert_ptr_eq(inode_find(table, 7), inode);
    inode_put(inode);
    inode_forget(table, 7, 1);
    ck_assert_ptr_null(inode_find(table, 7));
    inode_forget(table, 7, 1); /* of what is not known: nothing happens */
}
END_TEST

START_TEST(many_inodes_are_found)
{
    for (uint64_t ino = 100; ino < 20100; ino++) {
        struct inode *one;

        ck_assert_int_eq(inode_get(table, ino, &one), 0);
        ck_assert_uint_eq(inode_number(one), ino);
    }
    for (uint64_t ino = 100; ino < 20100; ino++) {
        struct inode *one = inode_find(table, ino);

        ck_assert_ptr_nonnull(one);
        inode_put(one);
        inode_put(one);
        ck_assert_ptr_null(inode_find(table, ino));
    }
}
END_TEST

START_TEST(answer_is_kept_when_nothing_happened)
{
    inode_stamp asked = inode_table_now(table);
    Gabion__Attr attr = some_attr(3);
    uint64_t version;

    ck_assert(!is_fresh(&version));
    ck_assert_uint_eq(inode_mode(inode), 0);
    ck_assert(inode_attr_answer(inode, asked, &attr));
    ck_assert(is_fresh(&version));
    ck_assert_uint_eq(version, 3);
    ck_assert_uint_eq(inode_mode(inode), S_IFREG | 0644);
    inode_put(inode);
}
END_TEST

START_TEST(answer_is_dropped_when_a_change_overlapped)
{
    Gabion__Attr old = some_attr(3);
    Gabion__Attr new = some_attr(4);
    struct inode_change change;
    inode_stamp before = inode_table_now(table);
    inode_stamp during;
    uint64_t version;

    inode_change_begin(table, 7, &change);
    during = inode_table_now(table);
    ck_assert(!inode_attr_answer(inode, before, &old));
    ck_assert(!inode_attr_answer(inode, during, &old));
    ck_assert(!inode_is_untouched(table, 7, during));
    inode_change_end(&change, &new, 1);
    ck_assert(!inode_attr_answer(inode, before, &old));
    ck_assert(!inode_attr_answer(inode, during, &old));
    ck_assert(is_fresh(&version));
    ck_assert_uint_eq(version, 4);
    ck_assert(inode_attr_answer(inode, inode_table_now(table), &new));
    ck_assert_uint_eq(inode_op_mark(inode), 1);
    inode_put(inode);
}
END_TEST

START_TEST(overlapping_changes_leave_nothing_fresh)
{
    Gabion__Attr attr = some_attr(4);
    struct inode_change one;
    struct inode_change two;
    uint64_t version;

    inode_change_begin(table, 7, &one);
    inode_change_begin(table, 7, &two);
    inode_change_end(&two, &attr, 2);
    ck_assert(!is_fresh(&version));
    inode_change_end(&one, &attr, 1);
    ck_assert(!is_fresh(&version));
    ck_assert_uint_eq(inode_op_mark(inode), 2);
    inode_put(inode);
}
END_TEST

START_TEST(change_of_unknown_outcome_leaves_nothing_fresh)
{
    Gabion__Attr attr = some_attr(4);
    struct inode_change change;
    uint64_t version;

    ck_assert(inode_attr_answer(inode, inode_table_now(table), &attr));
    inode_change_begin(table, 7, &change);
    inode_change_end(&change, NULL, 1);
    ck_assert(!is_fresh(&version));
    inode_put(inode);
}
END_TEST

START_TEST(changes_outlive_being_forgotten)
{
    struct inode_change change;
    inode_stamp asked = inode_table_now(table);

    ck_assert(inode_is_untouched(table, 99, asked));
    inode_change_begin(table, 99, &change);
    inode_change_end(&change, NULL, 1);
    ck_assert_ptr_null(inode_find(table, 99));
    ck_assert(!inode_is_untouched(table, 99, asked));
    ck_assert(inode_is_untouched(table, 99, inode_table_now(table)));
    inode_put(inode);
}
END_TEST

START_TEST(pages_stay_valid_through_own_changes_only)
{
    Gabion__Attr attr = some_attr(6);
    struct inode_change change;
    bool changed;

    ck_assert(!inode_pages_valid(inode, 5, &changed));
    ck_assert(!changed);
    ck_assert(inode_pages_valid(inode, 5, &changed));
    inode_change_begin(table, 7, &change);
    inode_change_end(&change, &attr, 1);
    ck_assert(inode_pages_valid(inode, 6, &changed));

    attr.data_version = 8; /* another mount's 7 came in between */
    inode_change_begin(table, 7, &change);
    inode_change_end(&change, &attr, 1);
    ck_assert(!inode_pages_valid(inode, 8, &changed));
    ck_assert(changed);
    ck_assert(inode_pages_valid(inode, 8, &changed));
    inode_put(inode);
}
END_TEST

START_TEST(lookup_serves_one_open_of_its_thread)
{
    inode_note_lookup(inode, 42);
    ck_assert(!inode_take_lookup(inode, 43));
    ck_assert(!inode_take_lookup(inode, 42));
    inode_note_lookup(inode, 42);
    ck_assert(inode_take_lookup(inode, 42));
    ck_assert(!inode_take_lookup(inode, 42));
    inode_put(inode);
}
END_TEST

START_TEST(xattrs_are_kept_with_fresh_attributes)
{
    Gabion__Attr attr = some_attr(1);
    uint8_t value[INODE_XATTR_VALUE_MAX];
    struct inode_change change;
    inode_stamp now = inode_table_now(table);
    size_t size;

    ck_assert_int_eq(inode_xattr(inode, "user.a", value, &size), -EAGAIN);
    ck_assert(inode_attr_answer(inode, now, &attr));
    ck_assert_int_eq(inode_xattr(inode, "user.a", value, &size), -ENODATA);
    attr.has_xattrs = true;
    ck_assert(inode_attr_answer(inode, now, &attr));
    ck_assert(inode_has_xattrs(inode));
    ck_assert_int_eq(inode_xattr(inode, "user.a", value, &size), -EAGAIN);
    inode_xattr_answer(inode, now, "user.a", (const uint8_t *)"xyz", 3);
    inode_xattr_answer(inode, now, "user.b", NULL, 0);
    ck_assert_int_eq(inode_xattr(inode, "user.a", value, &size), 0);
    ck_assert_uint_eq(size, 3);
    ck_assert_mem_eq(value, "xyz", 3);
    ck_assert_int_eq(inode_xattr(inode, "user.b", value, &size), -ENODATA);

    attr.ctime_ns = 5; /* somebody changed something */
    ck_assert(inode_attr_answer(inode, now, &attr));
    ck_assert_int_eq(inode_xattr(inode, "user.a", value, &size), -EAGAIN);

    inode_change_begin(table, 7, &change);
    inode_xattr_answer(inode, now, "user.a", (const uint8_t *)"old", 3);
    inode_change_end(&change, &attr, 1);
    ck_assert_int_eq(inode_xattr(inode, "user.a", value, &size), -EAGAIN);
    inode_put(inode);
}
END_TEST

START_TEST(opens_are_counted)
{
    struct file *file;

    ck_assert(!inode_any_open(table));
    ck_assert(!inode_orphaned(table, 7));
    ck_assert_int_eq(inode_open(inode, false, &file), 0);
    ck_assert_int_eq(inode_open(inode, false, &file), 0);
    ck_assert_uint_eq(inode_n_open(inode), 2);
    ck_assert(inode_any_open(table));
    ck_assert(inode_orphaned(table, 7));
    inode_close(inode);
    inode_put(inode);
    ck_assert(inode_orphaned(table, 7));
    inode_close(inode); /* the last of everything */
    ck_assert_ptr_null(inode_find(table, 7));
    ck_assert(!inode_any_open(table));
}
END_TEST

START_TEST(orphan_must_be_asked_for_again)
{
    Gabion__Attr attr = some_attr(1);
    uint64_t version;

    ck_assert(inode_attr_answer(inode, inode_table_now(table), &attr));
    inode_note_lookup(inode, 42);
    ck_assert(!inode_orphaned(table, 7));
    ck_assert(!is_fresh(&version));
    ck_assert(!inode_take_lookup(inode, 42));
    inode_put(inode);
}
END_TEST

static void *open_it(void *context)
{
    struct file *file;

    ck_assert_int_eq(inode_open(inode, false, &file), 0);
    __atomic_store_n((bool *)context, true, __ATOMIC_RELEASE);
    return NULL;
}

START_TEST(open_waits_for_a_removal)
{
    const struct timespec moment = { .tv_nsec = 30000000 };
    struct inode_change change;
    bool is_open;
    bool opened = false;
    pthread_t thread;

    inode_removal_begin(table, 7, &change, &is_open);
    ck_assert(!is_open);
    ck_assert_int_eq(pthread_create(&thread, NULL, open_it, &opened), 0);
    (void)nanosleep(&moment, NULL);
    ck_assert(!__atomic_load_n(&opened, __ATOMIC_ACQUIRE));
    inode_change_end(&change, NULL, 1);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert(opened);
    inode_removal_begin(table, 7, &change, &is_open);
    ck_assert(is_open);
    inode_change_end(&change, NULL, 2);
    inode_put(inode);
}
END_TEST

START_TEST(hints_do_not_go_back_in_time)
{
    struct name_hints *hints;
    uint64_t ino = 0;

    ck_assert_int_eq(name_hints_new(&hints), 0);
    ck_assert(!name_hints_get(hints, 1, "a", &ino));
    name_hints_set(hints, 1, "a", 5, 10);
    name_hints_set(hints, 2, "a", 6, 10);
    name_hints_set(hints, 1, "b", 7, 10);
    ck_assert(name_hints_get(hints, 1, "a", &ino) && ino == 5);
    ck_assert(name_hints_get(hints, 2, "a", &ino) && ino == 6);
    ck_assert(name_hints_get(hints, 1, "b", &ino) && ino == 7);
    name_hints_set(hints, 1, "a", 8, 12);
    name_hints_set(hints, 1, "a", 5, 11); /* asked before the change */
    ck_assert(name_hints_get(hints, 1, "a", &ino) && ino == 8);
    name_hints_set(hints, 1, "a", 0, 13);
    ck_assert(name_hints_get(hints, 1, "a", &ino) && ino == 0);
    name_hints_free(hints);
    inode_put(inode);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("inode");
    TCase *tcase = tcase_create("inode");
    SRunner *runner;
    int n_failed;

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, inode_lives_while_anybody_has_it);
    tcase_add_test(tcase, many_inodes_are_found);
    tcase_add_test(tcase, answer_is_kept_when_nothing_happened);
    tcase_add_test(tcase, answer_is_dropped_when_a_change_overlapped);
    tcase_add_test(tcase, overlapping_changes_leave_nothing_fresh);
    tcase_add_test(tcase, change_of_unknown_outcome_leaves_nothing_fresh);
    tcase_add_test(tcase, changes_outlive_being_forgotten);
    tcase_add_test(tcase, pages_stay_valid_through_own_changes_only);
    tcase_add_test(tcase, lookup_serves_one_open_of_its_thread);
    tcase_add_test(tcase, xattrs_are_kept_with_fresh_attributes);
    tcase_add_test(tcase, opens_are_counted);
    tcase_add_test(tcase, orphan_must_be_asked_for_again);
    tcase_add_test(tcase, open_waits_for_a_removal);
    tcase_add_test(tcase, hints_do_not_go_back_in_time);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
