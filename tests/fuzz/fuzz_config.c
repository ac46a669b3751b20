/* Mutated storaged.conf, cluster.conf and client.conf, and numbers with units,
 * against their parsers: `fuzz_config SEED SECONDS`.
 *
 * What is accepted lies within its documented limits; what is refused is
 * refused in one line that names the place: the file, and where one line of a
 * sound file was spoilt, this line. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/config.h"
#include "fusefs/options.h"
#include "proto/cluster_map.h"
#include "storaged/daemon_options.h"
#include "tests/fuzz/fuzz.h"

#define TEXT_SIZE 4096

static const char *const words[] = {
    "[node]",
    "[node 1]",
    "[node 65535]",
    "[cluster]",
    "[client]",
    "[node 0]",
    "id",
    "=",
    ":",
    "\n",
    "\n ",
    ";",
    "#",
    " ; ",
    "]",
    "[",
    "reserve",
    "1G",
    "0",
    "-1",
    "18446744073709551616",
    "1.5T",
    "9999999P",
    "policy",
    "ec:4+2",
    "ec:16+8",
    "copies:9",
    "unit",
    "1M",
    "weight",
    "address",
    "127.0.0.1:7",
    "[::1]:7",
    "min_write",
    "zone",
    "timeout",
    "500ms",
    "hard",
    "yes",
    "cache_size",
    "log_level",
    "debug",
    "data",
    "\xef\xbb\xbf",
    "\r\n",
    "\t",
    "metadata_node",
};
#define N_WORDS (sizeof words / sizeof *words)

static char path[64];

static bool write_file(const char *text)
{
    FILE *file = fopen(path, "w");

    if (file == NULL) {
        return fuzz_fail("%s: %s", path, err_text(errno));
    }
    (void)fputs(text, file);
    return fclose(file) == 0 || fuzz_fail("%s: %s", path, err_text(errno));
}

/* Whether a refusal is one line that starts with the file, and with its line
 * number where one is given. */
static bool names_place(const struct errmsg *msg, unsigned line)
{
    char place[96];

    (void)snprintf(place, sizeof place, line > 0 ? "%s:%u: " : "%s:", path,
                   line);
    return (strncmp(msg->text, place, strlen(place)) == 0 &&
            strchr(msg->text, '\n') == NULL) ||
           fuzz_fail("'%s' does not start with '%s'", msg->text, place);
}

/* -------------------------------------------------------------------- files */

static const char storaged_conf[] = "# a node\n"
                                    "[node]\n"
                                    "id = 3\n"
                                    "data = /var/lib/gabion/data\n"
                                    "cluster = /etc/gabion/cluster.conf\n"
                                    "listen = 0.0.0.0:7703\n"
                                    "reserve = 1.5G ; kept free\n"
                                    "log_level = info\n";

static const char cluster_conf[] = "[cluster]\n"
                                   "id = 0123456789abcdef\n"
                                   "policy = ec:2+1\n"
                                   "unit = 256K\n"
                                   "min_write = 3\n"
                                   "metadata_node = 1\n"
                                   "[node 1]\n"
                                   "address = 127.0.0.1:7001\n"
                                   "[node 30]\n"
                                   "address = host.example:7003\n"
                                   "weight = 250\n"
                                   "[node 2]\n"
                                   "address = [::1]:7002\n"
                                   "zone = 5\n";

static const char client_conf[] = "[client]\n"
                                  "timeout = 10s\n"
                                  "hard = yes\n"
                                  "cache_size = 64M\n"
                                  "attr_timeout = 500ms\n"
                                  "entry_timeout = 1\n"
                                  "negative_timeout = 0\n"
                                  "log_level = warn\n";

/* Read the file; `msg` says why not. */
typedef int reader(struct errmsg *msg, bool *ret_is_within);

static int read_storaged(struct errmsg *msg, bool *ret_is_within)
{
    struct daemon_options options;
    int rc = daemon_options_read(path, &options, msg);

    *ret_is_within =
        options.id >= 1 && options.id <= 65535 && options.data != NULL &&
        options.cluster != NULL &&
        (options.reserve <= INT64_MAX || options.reserve == UINT64_MAX) &&
        options.log_level <= LOG_DEBUG;
    daemon_options_clear(&options);
    return rc;
}

static int read_cluster(struct errmsg *msg, bool *ret_is_within)
{
    struct cluster_map *map = NULL;
    int rc = cluster_map_load(path, &map, msg);

    if (rc != 0) {
        return rc;
    }
    *ret_is_within = map->id != 0 && map->n_nodes >= 1 &&
                     map->policy.k + map->policy.m <= map->n_nodes &&
                     map->policy.min_write >= map->policy.k &&
                     map->policy.unit % 4096 == 0 &&
                     cluster_map_node(map, map->slot_node[1023]) != NULL;
    for (size_t i = 1; i < map->n_nodes; i++) {
        *ret_is_within &= map->nodes[i - 1].id < map->nodes[i].id;
    }
    cluster_map_unref(map);
    return 0;
}

static int read_client(struct errmsg *msg, bool *ret_is_within)
{
    struct options options;
    char conf[80];
    char program[] = "gabion-fusefs";
    char source[] = "a:/";
    char mountpoint[] = "/mnt";
    char letter[] = "-o";
    char *argv[] = { program, source, mountpoint, letter, conf, NULL };
    int rc;

    (void)snprintf(conf, sizeof conf, "conf=%s", path);
    rc = options_parse(&options, 5, argv, msg);
    *ret_is_within = options.timeout_ms >= 1000 &&
                     options.cache_size >= 32u << 20 && options.attr_ms >= 0 &&
                     options.entry_ms >= 0 && options.negative_ms >= 0 &&
                     options.log_level <= LOG_DEBUG;
    options_clear(&options);
    return rc;
}

/* ------------------------------------------------------------------- rounds */

static bool check_file(const char *text, reader *read, bool is_valid)
{
    struct errmsg msg = { "" };
    bool is_within = false;
    int rc;

    if (!write_file(text)) {
        return false;
    }
    rc = read(&msg, &is_within);
    if (rc == 0) {
        return is_within || fuzz_fail("accepted beyond its limits");
    }
    return names_place(&msg, 0) &&
           (!is_valid || fuzz_fail("valid, but refused: %s", msg.text));
}

/* A sound file with one line more that is wrong whatever stands before it. */
static bool check_spoilt_line(const char *text, reader *read)
{
    static const char *const wrong[] = { "nonsense\n", "frob = 1\n",
                                         "[sektion]\nx = 1\n", "[half\n" };
    char spoilt[TEXT_SIZE];
    struct errmsg msg = { "" };
    bool is_within;
    size_t which = fuzz_below(sizeof wrong / sizeof *wrong);
    unsigned line = which == 2 ? 2 : 1;
    size_t at = 0;

    for (size_t n = fuzz_below(12); n > 0; n--) {
        const char *end = strchr(text + at, '\n');

        if (end == NULL) {
            break;
        }
        at = (size_t)(end + 1 - text);
        line++;
    }
    (void)snprintf(spoilt, sizeof spoilt, "%.*s%s%s", (int)at, text,
                   wrong[which], text + at);
    if (!write_file(spoilt)) {
        return false;
    }
    return read(&msg, &is_within) == -EINVAL
               ? names_place(&msg, line)
               : fuzz_fail("a wrong line is accepted:\n%s", spoilt);
}

static bool round_of_file(void)
{
    static const struct {
        const char *text;
        reader *read;
    } files[] = { { storaged_conf, read_storaged },
                  { cluster_conf, read_cluster },
                  { client_conf, read_client } };
    size_t which = fuzz_below(sizeof files / sizeof *files);
    size_t n_mutations = fuzz_below(5);
    char text[TEXT_SIZE];

    if (fuzz_one_in(4)) {
        return check_spoilt_line(files[which].text, files[which].read);
    }
    (void)snprintf(text, sizeof text, "%s", files[which].text);
    for (size_t i = 0; i < n_mutations; i++) {
        fuzz_mutate_text(text, sizeof text, words, N_WORDS);
    }
    return check_file(text, files[which].read, n_mutations == 0);
}

/* ------------------------------------------------------------------ numbers */

static bool round_of_numbers(void)
{
    static const char *const pieces[] = { "K", "MiB", "ms", ".", "00",
                                          " ", "-",   "s",  "e", "99999999" };
    uint64_t number = fuzz_number() >> 10;
    char text[TEXT_SIZE];
    uint64_t parsed = 0;
    int64_t ms = 0;
    bool is_yes;

    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    if (config_parse_uint(text, 0, UINT64_MAX, &parsed) != 0 ||
        parsed != number) {
        return fuzz_fail("number '%s'", text);
    }
    (void)strcat(text, "KiB");
    if (config_parse_size(text, &parsed) != 0 || parsed != number << 10) {
        return fuzz_fail("size '%s'", text);
    }
    for (size_t i = 0; i < 1 + fuzz_below(4); i++) {
        fuzz_mutate_text(text, sizeof text, pieces,
                         sizeof pieces / sizeof *pieces);
    }
    if (config_parse_duration(text, &ms) == 0 && ms < 0) {
        return fuzz_fail("duration '%s': %lld", text, (long long)ms);
    }
    if (config_parse_uint(text, 3, 70, &parsed) == 0 &&
        (parsed < 3 || parsed > 70)) {
        return fuzz_fail("number '%s' in 3..70", text);
    }
    if (config_parse_bool(text, &is_yes) == 0 && strlen(text) > 5) {
        return fuzz_fail("bool '%s'", text);
    }
    return config_parse_size(text, &parsed) != 0 ||
           (text[0] >= '0' && text[0] <= '9') || fuzz_fail("size '%s'", text);
}

static bool run_round(void)
{
    return fuzz_one_in(4) ? round_of_numbers() : round_of_file();
}

int main(int argc, char **argv)
{
    int fd;
    int status;

    (void)strcpy(path, "/tmp/gabion-fuzz-config-XXXXXX");
    fd = mkstemp(path);
    if (fd < 0) {
        perror(path);
        return EXIT_FAILURE;
    }
    (void)close(fd);
    status = fuzz_main(argc, argv, run_round);
    (void)unlink(path);
    return status;
}
