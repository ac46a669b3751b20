#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <check.h>

#include "fusefs/dir_ahead.h"

#define DIRECTORY UINT64_C(100)
#define LIFE_MS   60000

static struct inode_table *inodes;
static struct dir_ahead *ahead;

static void setup(void)
{
    ck_assert_int_eq(inode_table_new(1000, 1, &inodes), 0);
    ck_assert_int_eq(dir_ahead_new(inodes, LIFE_MS, &ahead), 0);
}

static void teardown(void)
{
    dir_ahead_free(ahead);
    inode_table_free(inodes);
}

/* Entries "f0", "f1"..., whose inodes follow the directory's. */
static Gabion__ReadDirReply *page_of(unsigned n, bool end)
{
    Gabion__ReadDirReply *page = malloc(sizeof *page);

    ck_assert_ptr_nonnull(page);
    gabion__read_dir_reply__init(page);
    page->end = end;
    page->n_entry = n;
    page->entry = calloc(n + 1, sizeof(Gabion__DirEntry *));
    ck_assert_ptr_nonnull(page->entry);
    for (unsigned i = 0; i < n; i++) {
        Gabion__DirEntry *entry = malloc(sizeof *entry);

        ck_assert_ptr_nonnull(entry);
        gabion__dir_entry__init(entry);
        entry->name.data = malloc(16);
        ck_assert_ptr_nonnull(entry->name.data);
        entry->name.len =
            (size_t)snprintf((char *)entry->name.data, 16, "f%u", i);
        entry->ino = DIRECTORY + 1 + i;
        entry->attr = malloc(sizeof *entry->attr);
        ck_assert_ptr_nonnull(entry->attr);
        gabion__attr__init(entry->attr);
        entry->attr->ino = entry->ino;
        entry->attr->size = i;
        page->entry[i] = entry;
    }
    return page;
}

static bool get(const char *name, uint64_t *ret_size)
{
    Gabion__Attr attr;
    inode_stamp asked;
    bool found = dir_ahead_get(ahead, DIRECTORY, name, &attr, &asked);

    if (found) {
        *ret_size = attr.size;
    }
    return found;
}

static bool knows(const char *name)
{
    uint64_t size;

    return get(name, &size);
}

static void become_wanted(void)
{
    while (!dir_ahead_is_wanted(ahead, DIRECTORY)) {
    }
}

static void put(Gabion__ReadDirReply *page)
{
    become_wanted();
    dir_ahead_put(ahead, DIRECTORY, page, inode_table_now(inodes));
}

START_TEST(some_lookups_make_a_listing_wanted_once)
{
    ck_assert(!knows("f0"));
    ck_assert(!dir_ahead_is_wanted(ahead, DIRECTORY));
    become_wanted();
    for (unsigned i = 0; i < 100; i++) {
        ck_assert_msg(!dir_ahead_is_wanted(ahead, DIRECTORY), "it is fetched");
    }
    dir_ahead_put(ahead, DIRECTORY, NULL, inode_table_now(inodes));
    ck_assert(!knows("f0"));
    become_wanted();
}
END_TEST

START_TEST(every_entry_is_answered_in_any_order)
{
    uint64_t size;

    put(page_of(100, true));
    for (unsigned i = 0; i < 100; i++) {
        char name[16];

        (void)snprintf(name, sizeof name, "f%u", i * 37 % 100);
        ck_assert(get(name, &size));
        ck_assert_uint_eq(size, i * 37 % 100);
    }
    ck_assert(!knows("f100"));
    ck_assert(!knows("f"));
}
END_TEST

START_TEST(an_empty_listing_knows_nothing)
{
    put(page_of(0, true));
    ck_assert(!knows("f0"));
}
END_TEST

START_TEST(what_this_mount_changes_is_not_answered)
{
    struct inode_change change;

    put(page_of(3, true));
    inode_change_begin(inodes, DIRECTORY + 2, &change);
    ck_assert_msg(!knows("f1"), "its inode changes");
    ck_assert(knows("f0"));
    inode_change_end(&change, NULL, 1);
    ck_assert_msg(!knows("f1"), "its inode has changed");
    inode_change_begin(inodes, DIRECTORY, &change);
    inode_change_end(&change, NULL, 2);
    ck_assert_msg(!knows("f0"), "a name has changed");
    put(page_of(3, true));
    ck_assert(knows("f0") && knows("f1"));
}
END_TEST

START_TEST(a_large_directory_is_fetched_once)
{
    put(page_of(DIR_AHEAD_ENTRIES, false));
    ck_assert(knows("f511"));
    for (unsigned i = 0; i < 100; i++) {
        ck_assert(!dir_ahead_is_wanted(ahead, DIRECTORY));
    }
}
END_TEST

START_TEST(a_listing_does_not_live_long)
{
    dir_ahead_free(ahead);
    ck_assert_int_eq(dir_ahead_new(inodes, 1, &ahead), 0);
    put(page_of(1, true));
    (void)usleep(2000);
    ck_assert(!knows("f0"));
    dir_ahead_free(ahead);
    ck_assert_int_eq(dir_ahead_new(inodes, 0, &ahead), 0);
    for (unsigned i = 0; i < 100; i++) {
        ck_assert_msg(!dir_ahead_is_wanted(ahead, DIRECTORY),
                      "nothing may be believed");
    }
}
END_TEST

START_TEST(listings_that_have_misled_are_forgotten)
{
    put(page_of(1, true));
    ck_assert(knows("f0"));
    dir_ahead_clear(ahead);
    ck_assert(!knows("f0"));
    put(page_of(1, true));
    ck_assert(knows("f0"));
}
END_TEST

START_TEST(directories_push_each_other_out)
{
    put(page_of(1, true));
    for (uint64_t i = 1; i < 100; i++) {
        (void)dir_ahead_is_wanted(ahead, DIRECTORY + i);
    }
    ck_assert(!knows("f0"));
    /* A listing that nobody watches any more is simply freed. */
    dir_ahead_put(ahead, DIRECTORY, page_of(1, true), inode_table_now(inodes));
    ck_assert(!knows("f0"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dir_ahead");
    TCase *tcase = tcase_create("dir_ahead");
    SRunner *runner;
    int n_failed;

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, some_lookups_make_a_listing_wanted_once);
    tcase_add_test(tcase, every_entry_is_answered_in_any_order);
    tcase_add_test(tcase, an_empty_listing_knows_nothing);
    tcase_add_test(tcase, what_this_mount_changes_is_not_answered);
    tcase_add_test(tcase, a_large_directory_is_fetched_once);
    tcase_add_test(tcase, a_listing_does_not_live_long);
    tcase_add_test(tcase, listings_that_have_misled_are_forgotten);
    tcase_add_test(tcase, directories_push_each_other_out);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? 0 : 1;
}
