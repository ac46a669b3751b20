#include "common/config.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <ini.h>

#define FRACTION_DIGITS_MAX 6 /* of a number: 10^6 * 1 TiB fits 64 bits */

/* A key that has been set, to find duplicates. */
struct seen_key {
    struct seen_key *next; /* owned */
    char text[];           /* section, '\n', name */
};

struct reader {
    const char *path;              /* borrowed */
    const struct config_key *keys; /* borrowed */
    size_t n_keys;
    void *target;          /* borrowed */
    struct errmsg *msg;    /* borrowed */
    FILE *file;            /* owned */
    struct seen_key *seen; /* owned list */
    unsigned line;         /* the one that libinih works on, from 1 */
    int rc;                /* first failure: nothing is told after it */
};

/* Tell the first failure, in front of which the place goes. */
static void fail_at(struct reader *reader, int rc, const char *what)
{
    if (reader->rc == 0) {
        reader->rc = rc;
        errmsg_set(reader->msg, "%s:%u: %s", reader->path, reader->line, what);
    }
}

/* ------------------------------------------------------------------ lines */

/* Feed libinih a line, as fgets() would. It is told no blanks at the start of
 * a line, which it takes for a continuation of the value before, and no line
 * that it would cut in two. */
static char *next_line(char *buffer, int size, void *context)
{
    struct reader *reader = context;
    char *line = NULL;
    char what[64];
    size_t capacity = 0;
    ssize_t length;
    size_t skip;

    if (reader->rc != 0) {
        return NULL;
    }
    length = getline(&line, &capacity, reader->file);
    if (length < 0) {
        if (ferror(reader->file)) {
            reader->rc = -EIO;
            errmsg_set(reader->msg, "%s: cannot be read: %s", reader->path,
                       err_text(errno));
        }
        free(line);
        return NULL;
    }
    reader->line++;
    skip = strspn(line, " \t");
    if (strlen(line) != (size_t)length) {
        fail_at(reader, -EINVAL, "not text: the line contains a NUL byte");
    } else if ((size_t)length - skip >= (size_t)size) {
        (void)snprintf(what, sizeof what, "longer than %d characters",
                       size - 2);
        fail_at(reader, -EINVAL, what);
    } else {
        memcpy(buffer, line + skip, (size_t)length - skip + 1);
    }
    free(line);
    return reader->rc == 0 ? buffer : NULL;
}

/* ------------------------------------------------------------------- keys */

/* Whether `name` is the section of the key, or one of its numbered sections;
 * `*ret_suffix` then is what follows the prefix. */
static bool is_section(const char *section,
                       const char *name,
                       const char **ret_suffix)
{
    size_t length = strlen(section);

    if (length > 0 && section[length - 1] == ' ') {
        *ret_suffix = name + strnlen(name, length);
        return strncmp(section, name, length) == 0 && **ret_suffix != '\0';
    }
    *ret_suffix = "";
    return strcmp(section, name) == 0;
}

/* The key of this name, or NULL after having told what is unknown. */
static const struct config_key *find_key(struct reader *reader,
                                         const char *section,
                                         const char *name,
                                         const char **ret_suffix)
{
    char what[256];
    bool has_section = false;

    for (size_t i = 0; i < reader->n_keys; i++) {
        if (!is_section(reader->keys[i].section, section, ret_suffix)) {
            continue;
        }
        has_section = true;
        if (strcmp(reader->keys[i].name, name) == 0) {
            return &reader->keys[i];
        }
    }
    if (has_section) {
        (void)snprintf(what, sizeof what, "unknown key '%s' in section [%s]",
                       name, section);
    } else if (*section == '\0') {
        (void)snprintf(what, sizeof what, "key '%s' before any [section]",
                       name);
    } else {
        (void)snprintf(what, sizeof what, "unknown section [%s]", section);
    }
    fail_at(reader, -EINVAL, what);
    return NULL;
}

/* Remember that the key has been given. Errors: -EEXIST, -ENOMEM */
static int remember(struct reader *reader,
                    const char *section,
                    const char *name)
{
    size_t size = strlen(section) + strlen(name) + 2;
    struct seen_key *key = malloc(sizeof *key + size);

    if (key == NULL) {
        return -ENOMEM;
    }
    (void)snprintf(key->text, size, "%s\n%s", section, name);
    for (const struct seen_key *s = reader->seen; s != NULL; s = s->next) {
        if (strcmp(s->text, key->text) == 0) {
            free(key);
            return -EEXIST;
        }
    }
    key->next = reader->seen;
    reader->seen = key;
    return 0;
}

/* libinih's handler: 1 is success. */
static int take(void *context,
                const char *section,
                const char *name,
                const char *value)
{
    struct reader *reader = context;
    const struct config_key *key;
    const char *suffix = "";
    struct errmsg msg = { "" };
    char what[sizeof msg.text + 64];
    int rc;

    if (reader->rc != 0) {
        return 0;
    }
    key = find_key(reader, section, name, &suffix);
    if (key == NULL) {
        return 0;
    }
    rc = remember(reader, section, name);
    if (rc == -EEXIST) {
        (void)snprintf(what, sizeof what, "key '%s' is given twice in [%s]",
                       name, section);
        fail_at(reader, -EINVAL, what);
        return 0;
    }
    if (rc == 0) {
        rc = key->set(reader->target, suffix, value, &msg);
    }
    if (rc != 0) {
        (void)snprintf(what, sizeof what, "%s: %s", name,
                       msg.text[0] != '\0' ? msg.text : err_text(rc));
        fail_at(reader, rc, what);
        return 0;
    }
    return 1;
}

static void reader_close(struct reader *reader)
{
    while (reader->seen != NULL) {
        struct seen_key *next = reader->seen->next;

        free(reader->seen);
        reader->seen = next;
    }
    if (reader->file != NULL) {
        (void)fclose(reader->file);
    }
}

static int reader_open(struct reader *reader)
{
    struct stat st;
    int rc;

    reader->file = fopen(reader->path, "re");
    if (reader->file == NULL || fstat(fileno(reader->file), &st) != 0) {
        rc = -errno;
    } else {
        rc = S_ISDIR(st.st_mode) ? -EISDIR : 0;
    }
    if (rc != 0) {
        errmsg_set(reader->msg, "%s: cannot be read: %s", reader->path,
                   err_text(rc));
    }
    return rc;
}

int config_read(const char *path,
                const struct config_key *keys,
                size_t n_keys,
                void *target,
                struct errmsg *msg)
{
    struct reader reader = { .path = path,
                             .keys = keys,
                             .n_keys = n_keys,
                             .target = target,
                             .msg = msg };
    int bad_line;
    int rc = reader_open(&reader);

    if (rc == 0) {
        bad_line = ini_parse_stream(next_line, &reader, take, &reader);
        if (bad_line < 0) {
            fail_at(&reader, -ENOMEM, err_text(ENOMEM));
        } else if (bad_line > 0 &&
                   (reader.rc == 0 || (unsigned)bad_line < reader.line)) {
            /* The parser goes on after a line that it cannot make out, and
             * tells its number at the end. */
            reader.rc = 0;
            reader.line = (unsigned)bad_line;
            fail_at(&reader, -EINVAL,
                    "neither [section], 'key = value' nor '# comment'");
        }
        rc = reader.rc;
    }
    reader_close(&reader);
    return rc;
}

/* ----------------------------------------------------------------- values */

/* A number with few digits after the point, as mantissa times 10^-digits;
 * `*ret_end` is what follows. */
static int parse_decimal(const char *text,
                         uint64_t *ret_mantissa,
                         unsigned *ret_digits,
                         const char **ret_end)
{
    const char *c = text;
    bool fraction = false;

    *ret_mantissa = 0;
    *ret_digits = 0;
    if (!isdigit((unsigned char)*c)) {
        return -EINVAL;
    }
    for (; isdigit((unsigned char)*c) || (*c == '.' && !fraction); c++) {
        if (*c == '.') {
            fraction = true;
            if (!isdigit((unsigned char)c[1])) {
                return -EINVAL;
            }
            continue;
        }
        if (fraction && ++*ret_digits > FRACTION_DIGITS_MAX) {
            return -EINVAL;
        }
        if (__builtin_mul_overflow(*ret_mantissa, 10U, ret_mantissa) ||
            __builtin_add_overflow(*ret_mantissa, (unsigned)(*c - '0'),
                                   ret_mantissa)) {
            return -ERANGE;
        }
    }
    *ret_end = c;
    return 0;
}

/* A suffix and what it multiplies by. */
struct unit {
    const char *suffix;
    uint64_t factor;
};

/* A decimal with one of the units after it, rounded down. */
static int parse_with_unit(const char *text,
                           const struct unit *units,
                           size_t n_units,
                           uint64_t *ret_value)
{
    uint64_t mantissa;
    uint64_t power = 1;
    uint64_t whole;
    unsigned digits;
    const char *end;
    int rc = parse_decimal(text, &mantissa, &digits, &end);

    if (rc != 0) {
        return rc;
    }
    while (*end == ' ') {
        end++;
    }
    while (digits-- > 0) {
        power *= 10;
    }
    for (size_t i = 0; i < n_units; i++) {
        if (strcasecmp(end, units[i].suffix) != 0) {
            continue;
        }
        /* With so few digits only the whole part can overflow. */
        if (__builtin_mul_overflow(mantissa / power, units[i].factor, &whole) ||
            __builtin_add_overflow(
                whole, mantissa % power * units[i].factor / power, ret_value)) {
            return -ERANGE;
        }
        return 0;
    }
    return -EINVAL;
}

int config_parse_size(const char *text, uint64_t *ret_bytes)
{
    static const struct unit units[] = {
        { "", 1 },
        { "B", 1 },
        { "K", (uint64_t)1 << 10 },
        { "KB", (uint64_t)1 << 10 },
        { "KiB", (uint64_t)1 << 10 },
        { "M", (uint64_t)1 << 20 },
        { "MB", (uint64_t)1 << 20 },
        { "MiB", (uint64_t)1 << 20 },
        { "G", (uint64_t)1 << 30 },
        { "GB", (uint64_t)1 << 30 },
        { "GiB", (uint64_t)1 << 30 },
        { "T", (uint64_t)1 << 40 },
        { "TB", (uint64_t)1 << 40 },
        { "TiB", (uint64_t)1 << 40 },
    };
    uint64_t bytes;
    int rc = parse_with_unit(text, units, sizeof units / sizeof *units, &bytes);

    if (rc == 0) {
        *ret_bytes = bytes;
    }
    return rc;
}

int config_parse_duration(const char *text, int64_t *ret_ms)
{
    static const struct unit units[] = {
        { "", 1000 },     { "ms", 1 },      { "s", 1000 },
        { "min", 60000 }, { "h", 3600000 }, { "d", 86400000 },
    };
    uint64_t ms;
    int rc = parse_with_unit(text, units, sizeof units / sizeof *units, &ms);

    if (rc == 0 && ms > CONFIG_DURATION_MS_MAX) {
        rc = -ERANGE;
    }
    if (rc == 0) {
        *ret_ms = (int64_t)ms;
    }
    return rc;
}

int config_parse_uint(const char *text,
                      uint64_t min,
                      uint64_t max,
                      uint64_t *ret_number)
{
    uint64_t number;
    unsigned digits;
    const char *end;
    int rc = parse_decimal(text, &number, &digits, &end);

    if (rc != 0) {
        return rc;
    }
    if (*end != '\0' || digits > 0) {
        return -EINVAL;
    }
    if (number < min || number > max) {
        return -ERANGE;
    }
    *ret_number = number;
    return 0;
}

int config_parse_bool(const char *text, bool *ret_value)
{
    static const struct {
        const char *text;
        bool value;
    } words[] = {
        { "yes", true }, { "true", true },   { "on", true },   { "1", true },
        { "no", false }, { "false", false }, { "off", false }, { "0", false },
    };

    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcasecmp(text, words[i].text) == 0) {
            *ret_value = words[i].value;
            return 0;
        }
    }
    return -EINVAL;
}
