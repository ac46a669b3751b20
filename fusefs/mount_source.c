#include "fusefs/mount_source.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/config.h"

#define NODES_MAX 1024u

static bool is_port(const char *text)
{
    uint64_t port;

    return config_parse_uint(text, 1, UINT16_MAX, &port) == 0;
}

/* Where the host of "host", "host:port", "[v6]" or "[v6]:port" ends, or 0. */
static size_t host_length(const char *text)
{
    if (text[0] == '[') {
        size_t n = strcspn(text, "]");

        return n > 1 && text[n] == ']' ? n + 1 : 0;
    }
    return strcspn(text, ":");
}

/* `text` with the default port if it names none. */
static int complete_address(const char *text,
                            char **ret_address,
                            struct errmsg *msg)
{
    size_t n = host_length(text);
    bool has_port = n > 0 && text[n] == ':';

    if (n == 0 || (text[n] != '\0' && !has_port)) {
        errmsg_set(msg, "'%s' in the source is not an address", text);
        return -EINVAL;
    }
    if (has_port && strchr(text + n + 1, ':') != NULL) {
        errmsg_set(msg, "'%s' in the source: IPv6 addresses go into brackets",
                   text);
        return -EINVAL;
    }
    if (has_port && !is_port(text + n + 1)) {
        errmsg_set(msg, "'%s' in the source: the port is not in 1..65535",
                   text);
        return -EINVAL;
    }
    *ret_address = NULL;
    if (has_port) {
        *ret_address = strdup(text);
    } else if (asprintf(ret_address, "%s:%d", text, MOUNT_SOURCE_DEFAULT_PORT) <
               0) {
        *ret_address = NULL;
    }
    return *ret_address != NULL ? 0 : -ENOMEM;
}

void mount_source_free_seeds(char **seeds, size_t n_seeds)
{
    for (size_t i = 0; i < n_seeds; i++) {
        free(seeds[i]);
    }
    free(seeds);
}

/* `hosts` is cut up. */
static int parse_hosts(char *hosts,
                       char **seeds,
                       size_t *n_seeds,
                       struct errmsg *msg)
{
    char *rest = hosts;

    while (rest != NULL) {
        const char *host = strsep(&rest, ",");
        int rc;

        if (*n_seeds == NODES_MAX) {
            errmsg_set(msg, "the source names more than %u nodes", NODES_MAX);
            return -EINVAL;
        }
        rc = complete_address(host, &seeds[*n_seeds], msg);
        if (rc != 0) {
            return rc;
        }
        ++*n_seeds;
    }
    return 0;
}

/* Components joined by single slashes. */
static int parse_subdir(const char *path, char **ret_subdir, struct errmsg *msg)
{
    char *subdir = calloc(1, strlen(path) + 1);
    size_t length = 0;

    if (subdir == NULL) {
        return -ENOMEM;
    }
    for (;;) {
        size_t n;

        path += strspn(path, "/");
        n = strcspn(path, "/");
        if (n == 0) {
            break;
        }
        if (n == 2 && memcmp(path, "..", 2) == 0) {
            errmsg_set(msg, "the source's directory must not contain '..'");
            free(subdir);
            return -EINVAL;
        }
        if (n != 1 || path[0] != '.') {
            if (length > 0) {
                subdir[length++] = '/';
            }
            memcpy(subdir + length, path, n);
            length += n;
        }
        path += n;
    }
    *ret_subdir = subdir;
    return 0;
}

int mount_source_parse(const char *source,
                       char ***ret_seeds,
                       size_t *ret_n_seeds,
                       char **ret_subdir,
                       struct errmsg *msg)
{
    const char *colon = strstr(source, ":/");
    char **seeds = NULL;
    size_t n_seeds = 0;
    char *hosts = NULL;
    int rc = -ENOMEM;

    if (colon == NULL) {
        errmsg_set(msg,
                   "source '%s' is not HOST[:PORT][,HOST[:PORT]...]:/[SUBDIR]",
                   source);
        return -EINVAL;
    }
    hosts = strndup(source, (size_t)(colon - source));
    seeds = calloc(NODES_MAX, sizeof *seeds);
    if (hosts == NULL || seeds == NULL) {
        goto fail;
    }
    rc = parse_hosts(hosts, seeds, &n_seeds, msg);
    if (rc == 0) {
        rc = parse_subdir(colon + 1, ret_subdir, msg);
    }
    if (rc != 0) {
        goto fail;
    }
    free(hosts);
    *ret_seeds = seeds;
    *ret_n_seeds = n_seeds;
    return 0;
fail:
    free(hosts);
    mount_source_free_seeds(seeds, n_seeds);
    return rc;
}
