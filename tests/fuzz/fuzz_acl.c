/* Mutated values of system.posix_acl_* against the ACL functions: `fuzz_acl
 * SEED SECONDS`.
 *
 * acl_check() must agree with a second reading of acl(5), written down in
 * another way. What it has passed stays well-formed through acl_chmod() and
 * acl_inherit(), which change permissions alone, and only as documented. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "storaged/meta/acl.h"
#include "tests/fuzz/fuzz.h"

#define HEADER    4u
#define ENTRY     8u
#define N_NAMED   8u
#define VALUE_MAX (HEADER + ENTRY * (2 * N_NAMED + 16) + 8)

static size_t put(uint8_t *value, size_t size, unsigned tag)
{
    uint64_t number = fuzz_draw();

    memcpy(value + size, &(uint64_t){ 0 }, ENTRY);
    value[size] = (uint8_t)tag;
    value[size + 2] = (uint8_t)(number & 7);
    if (tag == 0x02 || tag == 0x08 || fuzz_one_in(4)) {
        memcpy(value + size + 4, &(uint32_t){ (uint32_t)(number >> 32) }, 4);
    }
    return size + ENTRY;
}

static size_t make_valid(uint8_t *value)
{
    size_t n_users = fuzz_one_in(2) ? 0 : fuzz_below(N_NAMED);
    size_t n_groups = fuzz_one_in(2) ? 0 : fuzz_below(N_NAMED);
    size_t size = HEADER;

    memcpy(value, "\2\0\0", HEADER);
    size = put(value, size, 0x01);
    for (size_t i = 0; i < n_users; i++) {
        size = put(value, size, 0x02);
    }
    size = put(value, size, 0x04);
    for (size_t i = 0; i < n_groups; i++) {
        size = put(value, size, 0x08);
    }
    if (n_users + n_groups > 0 || fuzz_one_in(3)) {
        size = put(value, size, 0x10);
    }
    return put(value, size, 0x20);
}

/* Take or change whole entries now and then; else bytes. */
static size_t mutate(uint8_t *value, size_t size)
{
    size_t n = size > HEADER ? (size - HEADER) / ENTRY : 0;
    size_t i = n > 0 ? fuzz_below(n) : 0;
    uint8_t *entry = value + HEADER + ENTRY * i;

    if (n == 0 || fuzz_one_in(3)) {
        return fuzz_mutate(value, size, VALUE_MAX, 0);
    }
    switch (fuzz_below(4)) {
    case 0: /* remove */
        memmove(entry, entry + ENTRY, size - HEADER - ENTRY * (i + 1));
        return size - ENTRY;
    case 1: /* repeat */
        if (size + ENTRY > VALUE_MAX) {
            return size;
        }
        memmove(entry + ENTRY, entry, size - HEADER - ENTRY * i);
        return size + ENTRY;
    case 2:
        entry[0] = (uint8_t)(1u << fuzz_below(8));
        return size;
    default: /* permissions */
        entry[2 + fuzz_below(2)] = fuzz_byte();
        return size;
    }
}

/* ---------------------------------------------------------------- judgement */

/* The letter of an entry: the whole must match `Ou*Gg*M?T`; '?' is wrong. */
static char letter(const uint8_t *entry)
{
    if (entry[1] != 0 || entry[2] > 7 || entry[3] != 0) {
        return '?';
    }
    switch (entry[0]) {
    case 0x01:
        return 'O';
    case 0x02:
        return 'u';
    case 0x04:
        return 'G';
    case 0x08:
        return 'g';
    case 0x10:
        return 'M';
    case 0x20:
        return 'T';
    default:
        return '?';
    }
}

static bool is_well_formed(const uint8_t *value, size_t size)
{
    char text[VALUE_MAX / ENTRY + 2] = "";
    size_t n = size >= HEADER ? (size - HEADER) / ENTRY : 0;
    const char *c = text;
    bool has_named;

    if (size < HEADER || (size - HEADER) % ENTRY != 0 ||
        memcmp(value, "\2\0\0", HEADER) != 0) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        text[i] = letter(value + HEADER + ENTRY * i);
    }
    has_named = strpbrk(text, "ug") != NULL;
    if (*c++ != 'O') {
        return false;
    }
    c += strspn(c, "u");
    if (*c++ != 'G') {
        return false;
    }
    c += strspn(c, "g");
    if (*c == 'M') {
        c++;
    } else if (has_named) {
        return false;
    }
    return strcmp(c, "T") == 0;
}

/* Whether the values are the same but for the permissions of their entries. */
static bool is_same_but_permissions(const uint8_t *a,
                                    const uint8_t *b,
                                    size_t size)
{
    for (size_t i = 0; i < size; i++) {
        bool is_permissions = i >= HEADER && (i - HEADER) % ENTRY == 2;

        if (a[i] != b[i] && !is_permissions) {
            return false;
        }
    }
    return true;
}

static bool check_chmod(const uint8_t *value, size_t size)
{
    uint8_t changed[VALUE_MAX];
    uint32_t mode = (uint32_t)fuzz_below(010000) | 0100000;

    memcpy(changed, value, size);
    acl_chmod(changed, size, mode);
    return acl_check(changed, size) == 0 &&
           acl_mode(changed, size) == (mode & 0777) &&
           is_same_but_permissions(changed, value, size);
}

static bool check_inherit(const uint8_t *value, size_t size)
{
    uint8_t changed[VALUE_MAX];
    uint32_t mode = (uint32_t)fuzz_below(010000) | 0100000;
    uint32_t left;

    memcpy(changed, value, size);
    left = acl_inherit(changed, size, mode);
    return acl_check(changed, size) == 0 &&
           left == (mode & (~0777u | acl_mode(value, size))) &&
           acl_mode(changed, size) == (left & 0777) &&
           is_same_but_permissions(changed, value, size);
}

static bool check(const uint8_t *value, size_t size)
{
    bool is_right = is_well_formed(value, size);
    bool is_header = size == HEADER && memcmp(value, "\2\0\0", HEADER) == 0;

    if (acl_check(value, size) != (is_right ? 0 : -EINVAL)) {
        return fuzz_fail("acl_check: %d", acl_check(value, size));
    }
    if (acl_is_empty(value, size) != (size == 0 || is_header)) {
        return fuzz_fail("acl_is_empty");
    }
    if (!is_right) {
        return true;
    }
    if (acl_is_minimal(value, size) != (size == HEADER + 3 * ENTRY)) {
        return fuzz_fail("acl_is_minimal");
    }
    if (acl_mode(value, size) > 0777) {
        return fuzz_fail("acl_mode: %o", acl_mode(value, size));
    }
    if (!check_chmod(value, size)) {
        return fuzz_fail("acl_chmod");
    }
    return check_inherit(value, size) || fuzz_fail("acl_inherit");
}

static bool run_round(void)
{
    uint8_t value[VALUE_MAX];
    size_t size = make_valid(value);
    size_t n_mutations = fuzz_below(4);
    uint8_t *exact;
    bool is_ok;

    if (!is_well_formed(value, size)) {
        return fuzz_fail("the target itself");
    }
    for (size_t i = 0; i < n_mutations; i++) {
        size = mutate(value, size);
    }
    /* no room behind it: the sanitizer sees each byte read too many */
    exact = malloc(size > 0 ? size : 1);
    if (exact == NULL) {
        return fuzz_fail("out of memory");
    }
    memcpy(exact, value, size);
    is_ok = check(exact, size);
    free(exact);
    return is_ok;
}

int main(int argc, char **argv)
{
    return fuzz_main(argc, argv, run_round);
}
