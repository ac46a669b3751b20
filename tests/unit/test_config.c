/* INI files: what is taken, what is refused and where the message points. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <check.h>

#include "common/config.h"

/* What the setters of the test's keys saw: "suffix:name=value;" each. */
struct seen {
    char text[512];
};

static char path[64];

static void note(struct seen *seen, const char *suffix, const char *pair)
{
    size_t n = strlen(seen->text);

    (void)snprintf(seen->text + n, sizeof seen->text - n, "%s:%s;", suffix,
                   pair);
}

static int set_colour(void *target,
                      const char *suffix,
                      const char *value,
                      struct errmsg *msg)
{
    char pair[256];

    if (strcmp(value, "mauve") == 0) {
        errmsg_set(msg, "'%s' is not a colour", value);
        return -EINVAL;
    }
    (void)snprintf(pair, sizeof pair, "colour=%s", value);
    note(target, suffix, pair);
    return 0;
}

static int set_size(void *target,
                    const char *suffix,
                    const char *value,
                    struct errmsg *msg)
{
    char pair[256];
    uint64_t size;
    int rc = config_parse_size(value, &size);

    (void)msg;
    if (rc != 0) {
        return rc;
    }
    (void)snprintf(pair, sizeof pair, "size=%llu", (unsigned long long)size);
    note(target, suffix, pair);
    return 0;
}

static const struct config_key keys[] = {
    { "paint", "colour", set_colour },
    { "paint", "size", set_size },
    { "node ", "colour", set_colour },
};

static void write_file(const char *text, size_t size)
{
    FILE *file = fopen(path, "w");

    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(text, 1, size, file), size);
    ck_assert_int_eq(fclose(file), 0);
}

static int read_text(const char *text, struct seen *seen, struct errmsg *msg)
{
    memset(seen, 0, sizeof *seen);
    msg->text[0] = '\0';
    write_file(text, strlen(text));
    return config_read(path, keys, sizeof keys / sizeof *keys, seen, msg);
}

static const struct {
    const char *text;
    const char *seen;
} good[] = {
    { "", "" },
    { "# nothing\n; at all\n\n", "" },
    { "[paint]\ncolour = red\nsize=4K\n", ":colour=red;:size=4096;" },
    { "[paint]\r\ncolour = red\r\n", ":colour=red;" },
    { "[paint]\n  colour = dark red  \n\tsize : 1\n",
      ":colour=dark red;:size=1;" },
    { "[node 3]\ncolour=a\n[node 4]\ncolour=b", "3:colour=a;4:colour=b;" },
    { "[paint]\ncolour=\n", ":colour=;" },
    { "\xef\xbb\xbf[paint]\ncolour=red ; why not\n", ":colour=red;" },
    { "[paint]\ncolour=a=b\n", ":colour=a=b;" },
    { "[paint]\n[node 1]\n[paint]\nsize=1M\n", ":size=1048576;" },
};

START_TEST(good_files_are_taken)
{
    struct seen seen;
    struct errmsg msg;

    ck_assert_int_eq(read_text(good[_i].text, &seen, &msg), 0);
    ck_assert_str_eq(seen.text, good[_i].seen);
    ck_assert_str_eq(msg.text, "");
}
END_TEST

static const struct {
    const char *text;
    unsigned line;
    const char *says;
} bad[] = {
    { "[paint]\ncolor = red\n", 2, "unknown key 'color' in section [paint]" },
    { "[paint]\nsize=1\n\n[pant]\ncolour=red\n", 5, "unknown section [pant]" },
    { "colour=red\n", 1, "key 'colour' before any [section]" },
    { "[node]\ncolour=red\n", 2, "unknown section [node]" },
    { "[node ]\ncolour=red\n", 2, "unknown section [node ]" },
    { "[nod]\ncolour=red\n", 2, "unknown section [nod]" },
    { "[paint]\ncolour=red\n# x\ncolour=blue\n", 4,
      "key 'colour' is given twice in [paint]" },
    { "[paint]\ncolour=red\n[node 1]\n[paint]\ncolour=red\n", 5,
      "given twice" },
    { "[paint]\ncolour=mauve\n", 2, "colour: 'mauve' is not a colour" },
    { "[paint]\nsize=much\n", 2, "size: Invalid argument" },
    { "[paint]\nsize\n", 2, "neither [section]" },
    { "[paint\ncolour=red\n", 1, "neither [section]" },
    { "[paint]\nsize\ncolour=mauve\n", 2, "neither [section]" },
    { "[paint]\ncolour=mauve\nsize\n", 2, "not a colour" },
};

START_TEST(bad_files_are_refused_with_their_line)
{
    struct seen seen;
    struct errmsg msg;
    char prefix[96];

    ck_assert_int_eq(read_text(bad[_i].text, &seen, &msg), -EINVAL);
    (void)snprintf(prefix, sizeof prefix, "%s:%u: ", path, bad[_i].line);
    ck_assert_msg(strncmp(msg.text, prefix, strlen(prefix)) == 0, "%s",
                  msg.text);
    ck_assert_msg(strstr(msg.text, bad[_i].says) != NULL, "%s", msg.text);
}
END_TEST

START_TEST(bytes_that_are_not_text_are_refused)
{
    static const char text[] = "[paint]\ncolour=re\0d\n";
    struct seen seen = { "" };
    struct errmsg msg;

    write_file(text, sizeof text - 1);
    ck_assert_int_eq(config_read(path, keys, 3, &seen, &msg), -EINVAL);
    ck_assert_ptr_nonnull(strstr(msg.text, ":2: "));
    ck_assert_ptr_nonnull(strstr(msg.text, "NUL"));
}
END_TEST

START_TEST(a_line_that_is_too_long_is_refused_not_cut)
{
    char text[1024];
    struct seen seen;
    struct errmsg msg;

    memset(text, 'x', sizeof text);
    memcpy(text, "[paint]\ncolour=", 15);
    text[sizeof text - 1] = '\0';
    ck_assert_int_eq(read_text(text, &seen, &msg), -EINVAL);
    ck_assert_ptr_nonnull(strstr(msg.text, ":2: longer than"));
    ck_assert_str_eq(seen.text, "");
}
END_TEST

START_TEST(a_file_that_cannot_be_read_is_told)
{
    struct seen seen = { "" };
    struct errmsg msg;

    ck_assert_int_eq(config_read("/nonexistent/x.conf", keys, 3, &seen, &msg),
                     -ENOENT);
    ck_assert_ptr_nonnull(strstr(msg.text, "/nonexistent/x.conf"));
    ck_assert_int_eq(config_read("/", keys, 3, &seen, &msg), -EISDIR);
    ck_assert_int_eq(config_read("/nonexistent", keys, 3, &seen, NULL),
                     -ENOENT);
}
END_TEST

static const struct {
    const char *text;
    int rc;
    uint64_t bytes;
} size_texts[] = {
    { "0", 0, 0 },
    { "4096", 0, 4096 },
    { "1K", 0, 1024 },
    { "256M", 0, 268435456 },
    { "256MiB", 0, 268435456 },
    { "256 mb", 0, 268435456 },
    { "1.5G", 0, 1610612736 },
    { "0.000001T", 0, 1099511 },
    { "16777215T", 0, UINT64_MAX - ((uint64_t)1 << 40) + 1 },
    { "18446744073709551615", 0, UINT64_MAX },
    { "18446744073709551616", -ERANGE, 0 },
    { "16777216T", -ERANGE, 0 },
    { "", -EINVAL, 0 },
    { "-1", -EINVAL, 0 },
    { "+1", -EINVAL, 0 },
    { "1.", -EINVAL, 0 },
    { ".5G", -EINVAL, 0 },
    { "1..5G", -EINVAL, 0 },
    { "1.0000000005G", -EINVAL, 0 },
    { "12Q", -EINVAL, 0 },
    { "12Mx", -EINVAL, 0 },
    { "M", -EINVAL, 0 },
    { "0x10", -EINVAL, 0 },
};

START_TEST(sizes_are_parsed)
{
    uint64_t bytes = 77;

    ck_assert_int_eq(config_parse_size(size_texts[_i].text, &bytes),
                     size_texts[_i].rc);
    ck_assert_uint_eq(bytes,
                      size_texts[_i].rc == 0 ? size_texts[_i].bytes : 77);
}
END_TEST

static const struct {
    const char *text;
    int rc;
    int64_t ms;
} durations[] = {
    { "30", 0, 30000 },
    { "30s", 0, 30000 },
    { "500ms", 0, 500 },
    { "0.25", 0, 250 },
    { "10min", 0, 600000 },
    { "2h", 0, 7200000 },
    { "1d", 0, 86400000 },
    { "1.5 h", 0, 5400000 },
    { "0", 0, 0 },
    { "-3", -EINVAL, 0 },
    { "3 weeks", -EINVAL, 0 },
    { "", -EINVAL, 0 },
    { "36500d", 0, INT64_C(3153600000000) },
    { "9223372036854775ms", -ERANGE, 0 }, /* with the clock, beyond 64 bits */
    { "99999999999999999d", -ERANGE, 0 },
    { "9999999999999999999ms", -ERANGE, 0 },
};

START_TEST(durations_are_parsed)
{
    int64_t ms = 77;

    ck_assert_int_eq(config_parse_duration(durations[_i].text, &ms),
                     durations[_i].rc);
    ck_assert_int_eq(ms, durations[_i].rc == 0 ? durations[_i].ms : 77);
}
END_TEST

START_TEST(numbers_keep_their_range)
{
    uint64_t n = 77;

    ck_assert_int_eq(config_parse_uint("8", 1, 8, &n), 0);
    ck_assert_uint_eq(n, 8);
    ck_assert_int_eq(
        config_parse_uint("18446744073709551615", 0, UINT64_MAX, &n), 0);
    ck_assert_uint_eq(n, UINT64_MAX);
    ck_assert_int_eq(config_parse_uint("9", 1, 8, &n), -ERANGE);
    ck_assert_int_eq(config_parse_uint("0", 1, 8, &n), -ERANGE);
    ck_assert_int_eq(config_parse_uint("99999999999999999999", 1, 8, &n),
                     -ERANGE);
    ck_assert_int_eq(config_parse_uint("3x", 1, 8, &n), -EINVAL);
    ck_assert_int_eq(config_parse_uint("3.0", 1, 8, &n), -EINVAL);
    ck_assert_int_eq(config_parse_uint(" 3", 1, 8, &n), -EINVAL);
    ck_assert_int_eq(config_parse_uint("", 1, 8, &n), -EINVAL);
    ck_assert_int_eq(config_parse_uint("-1", 1, 8, &n), -EINVAL);
    ck_assert_uint_eq(n, UINT64_MAX);
}
END_TEST

START_TEST(words_mean_yes_or_no)
{
    static const char *const yes[] = { "yes", "true", "on", "1", "YES", "On" };
    static const char *const no[] = {
        "no", "false", "off", "0", "No", "FALSE"
    };
    bool value;

    for (unsigned i = 0; i < 6; i++) {
        value = false;
        ck_assert_int_eq(config_parse_bool(yes[i], &value), 0);
        ck_assert(value);
        ck_assert_int_eq(config_parse_bool(no[i], &value), 0);
        ck_assert(!value);
    }
    ck_assert_int_eq(config_parse_bool("maybe", &value), -EINVAL);
    ck_assert_int_eq(config_parse_bool("", &value), -EINVAL);
}
END_TEST

static void make_path(void)
{
    int fd;

    (void)snprintf(path, sizeof path, "/tmp/gabion-test-config-XXXXXX");
    fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    (void)close(fd);
}

static void remove_path(void)
{
    (void)unlink(path);
}

#define N(table) ((int)(sizeof(table) / sizeof *(table)))

int main(void)
{
    Suite *suite = suite_create("config");
    TCase *tcase = tcase_create("config");
    SRunner *runner;
    int failed;

    tcase_add_checked_fixture(tcase, make_path, remove_path);
    tcase_add_loop_test(tcase, good_files_are_taken, 0, N(good));
    tcase_add_loop_test(tcase, bad_files_are_refused_with_their_line, 0,
                        N(bad));
    tcase_add_test(tcase, bytes_that_are_not_text_are_refused);
    tcase_add_test(tcase, a_line_that_is_too_long_is_refused_not_cut);
    tcase_add_test(tcase, a_file_that_cannot_be_read_is_told);
    tcase_add_loop_test(tcase, sizes_are_parsed, 0, N(size_texts));
    tcase_add_loop_test(tcase, durations_are_parsed, 0, N(durations));
    tcase_add_test(tcase, numbers_keep_their_range);
    tcase_add_test(tcase, words_mean_yes_or_no);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
