/* Mutated command lines, mount sources, addresses and lines of mountinfo
 * against their parsers: `fuzz_mount SEED SECONDS`.
 *
 * What is accepted lies within its documented limits; what is refused is
 * refused with a word; a path that the kernel escaped comes out as it was. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/rpc_address.h"
#include "fusefs/mount_source.h"
#include "fusefs/mountpoint.h"
#include "fusefs/options.h"
#include "tests/fuzz/fuzz.h"

#define TEXT_SIZE 4096

/* ------------------------------------------------------------ command lines */

static bool are_within(const struct options *options)
{
    return options->timeout_ms >= 1000 && options->cache_size >= 32u << 20 &&
           options->attr_ms >= 0 && options->entry_ms >= 0 &&
           options->negative_ms >= 0 && options->log_level <= LOG_DEBUG &&
           options->n_seeds >= 1 && options->source != NULL &&
           options->mountpoint != NULL && options->mount_flags != NULL;
}

static bool round_of_options(void)
{
    static const char *const pieces[] = {
        "timeout=5s",
        "hard",
        "cache_size=64M",
        "ro",
        "nosuid",
        "_netdev",
        "x-foo=1",
        "log_level=info",
        ",",
        "\"",
        "=",
        "timeout=",
        "attr_timeout=1",
        "context=\"a,b\"",
        "sync",
        "conf=",
    };
    char list[TEXT_SIZE] = "timeout=30s,_netdev,nosuid,context=\"s:c0,c1\"";
    char conf[] = "conf=/dev/null"; /* not that of this machine */
    char program[] = "gabion-fusefs";
    char source[] = "a,[::1]:7701:/x";
    char mountpoint[] = "/mnt";
    char letter[] = "-o";
    char *argv[] = { program, source, mountpoint, letter,
                     conf,    letter, list,       NULL };
    size_t n_mutations = fuzz_below(5);
    struct errmsg msg = { "" };
    struct options options;
    bool is_ok;
    int rc;

    for (size_t i = 0; i < n_mutations; i++) {
        fuzz_mutate_text(list, sizeof list, pieces,
                         sizeof pieces / sizeof *pieces);
    }
    rc = options_parse(&options, 7, argv, &msg);
    is_ok =
        rc == 0 ? are_within(&options) : n_mutations > 0 && msg.text[0] != '\0';
    options_clear(&options);
    return is_ok || fuzz_fail("-o %s: %d %s", list, rc, msg.text);
}

/* Components with a single slash between them, none of them "." or "..". */
static bool is_subdir(const char *subdir)
{
    char framed[TEXT_SIZE + 8];

    (void)snprintf(framed, sizeof framed, "/%s/", subdir);
    return *subdir == '\0' ||
           (strstr(framed, "//") == NULL && strstr(framed, "/./") == NULL &&
            strstr(framed, "/../") == NULL);
}

static bool is_target(const char *target)
{
    static const char *const schemes[] = { "ipv4:", "ipv6:[",
                                           "dns:", "unix:/" };

    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        if (strncmp(target, schemes[i], strlen(schemes[i])) == 0) {
            return true;
        }
    }
    return false;
}

static bool check_address(const char *address)
{
    char *target = malloc(RPC_TARGET_SIZE_MAX);
    bool is_ok = target != NULL;

    if (is_ok && rpc_address_target(address, target) == 0) {
        const char *colon = strrchr(address, ':');

        is_ok = is_target(target) &&
                (strncmp(target, "unix:", 5) == 0 ||
                 (atoi(colon + 1) >= 1 && atoi(colon + 1) <= 65535 &&
                  rpc_address_check_listen(address) == 0));
    }
    free(target);
    return is_ok || fuzz_fail("address '%s'", address);
}

static bool round_of_source(void)
{
    static const char *const pieces[] = {
        ":/",    "[::1]",  ",", ":7700", "/../", "/./", "//",  "a",
        "65536", "unix:/", "[", "]:",    "0",    "..",  "host"
    };
    char source[TEXT_SIZE] = "host,10.0.0.1:7701,[fe80::1]:65535:/a/./b";
    size_t n_mutations = fuzz_below(5);
    struct errmsg msg = { "" };
    char **seeds = NULL;
    size_t n_seeds = 0;
    char *subdir = NULL;
    bool is_ok = true;

    for (size_t i = 0; i < n_mutations; i++) {
        fuzz_mutate_text(source, sizeof source, pieces,
                         sizeof pieces / sizeof *pieces);
    }
    if (!check_address(source) ||
        !check_address(strrchr(source, ',') != NULL ? strrchr(source, ',') + 1
                                                    : source)) {
        return false;
    }
    if (mount_source_parse(source, &seeds, &n_seeds, &subdir, &msg) != 0) {
        return (n_mutations > 0 && msg.text[0] != '\0') ||
               fuzz_fail("source '%s': %s", source, msg.text);
    }
    is_ok = n_seeds >= 1 && is_subdir(subdir);
    for (size_t i = 0; i < n_seeds; i++) {
        is_ok = is_ok && strchr(seeds[i], ',') == NULL &&
                strrchr(seeds[i], ':') != NULL && check_address(seeds[i]);
    }
    mount_source_free_seeds(seeds, n_seeds);
    free(subdir);
    return is_ok || fuzz_fail("source '%s'", source);
}

/* ---------------------------------------------------------------- mountinfo */

/* A random path, and how the kernel writes it. */
static void make_path(char *ret_path, char *ret_escaped)
{
    static const char bytes[] = "ab/-\\ \t\n#0";
    size_t length = 1 + fuzz_below(20);

    ret_path[0] = '/';
    ret_escaped += sprintf(ret_escaped, "/");
    for (size_t i = 1; i <= length; i++) {
        char byte = bytes[fuzz_below(sizeof bytes - 1)];

        ret_path[i] = byte;
        ret_escaped += strchr(" \t\n\\#", byte) != NULL
                           ? sprintf(ret_escaped, "\\%03o", (unsigned)byte)
                           : sprintf(ret_escaped, "%c", byte);
    }
    ret_path[length + 1] = '\0';
}

static bool round_of_mountinfo(void)
{
    static const char *const pieces[] = { " - ",  "\\040", "\\",  "\\777",
                                          " ",    "0:52",  ":",   "-",
                                          "fuse", "\n",    "\\0", "\\134" };
    struct mountpoint_line *parsed = malloc(sizeof *parsed);
    char wanted[64];
    char escaped[128];
    char line[TEXT_SIZE];
    size_t n_mutations = fuzz_below(4);
    bool is_ok = true;
    int rc;

    if (parsed == NULL) {
        return fuzz_fail("out of memory");
    }
    make_path(wanted, escaped);
    (void)snprintf(line, sizeof line,
                   "36 35 0:%u / %s rw,noatime shared:1 - fuse.gabion a:/ rw\n",
                   (unsigned)fuzz_below(1000), escaped);
    for (size_t i = 0; i < n_mutations; i++) {
        fuzz_mutate_text(line, sizeof line, pieces,
                         sizeof pieces / sizeof *pieces);
    }
    rc = mountpoint_parse_line(line, parsed);
    if (rc == 0) {
        is_ok =
            strnlen(parsed->path, sizeof parsed->path) < sizeof parsed->path &&
            strnlen(parsed->type, sizeof parsed->type) < sizeof parsed->type;
    }
    if (n_mutations == 0) {
        is_ok = rc == 0 && strcmp(parsed->path, wanted) == 0 &&
                strcmp(parsed->type, "fuse.gabion") == 0;
    }
    free(parsed);
    return is_ok || fuzz_fail("mountinfo '%s': %d", line, rc);
}

static bool run_round(void)
{
    switch (fuzz_below(3)) {
    case 0:
        return round_of_options();
    case 1:
        return round_of_source();
    default:
        return round_of_mountinfo();
    }
}

int main(int argc, char **argv)
{
    return fuzz_main(argc, argv, run_round);
}
