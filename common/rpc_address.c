#include "common/rpc_address.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum host_type {
    HOST_IPV4,
    HOST_IPV6,
    HOST_NAME
};

/* "host:port", taken apart. */
struct address {
    enum host_type type;
    char host[256]; /* without brackets */
    char port[6];   /* digits, 0..65535 */
};

static int parse_port(const char *text, char *port)
{
    size_t n = strlen(text);
    unsigned value = 0;

    if (n == 0 || n > 5) {
        return -EINVAL;
    }
    for (size_t i = 0; i < n; i++) {
        if (!isdigit((unsigned char)text[i])) {
            return -EINVAL;
        }
        value = value * 10 + (unsigned)(text[i] - '0');
    }
    if (value > UINT16_MAX) {
        return -EINVAL;
    }
    memcpy(port, text, n + 1);
    return 0;
}

static bool is_name(const char *host)
{
    for (const char *p = host; *p != '\0'; p++) {
        if (!isalnum((unsigned char)*p) && strchr("-._", *p) == NULL) {
            return false;
        }
    }
    return *host != '\0' && *host != '-' && *host != '.';
}

static int parse(const char *text, struct address *ret_address)
{
    const char *colon = strrchr(text, ':');
    struct address address = { 0 };
    struct in6_addr ip;
    size_t n;

    if (colon == NULL || parse_port(colon + 1, address.port) != 0) {
        return -EINVAL;
    }
    n = (size_t)(colon - text);
    if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
        address.type = HOST_IPV6;
        text++;
        n -= 2;
    }
    if (n >= sizeof address.host) {
        return -EINVAL;
    }
    memcpy(address.host, text, n);
    if (address.type == HOST_IPV6) {
        if (inet_pton(AF_INET6, address.host, &ip) != 1) {
            return -EINVAL;
        }
    } else if (inet_pton(AF_INET, address.host, &ip) == 1) {
        address.type = HOST_IPV4;
    } else if (is_name(address.host)) {
        address.type = HOST_NAME;
    } else {
        return -EINVAL;
    }
    *ret_address = address;
    return 0;
}

static int unix_target(const char *path, char *target)
{
    struct sockaddr_un addr;

    if (path[0] != '/' || strlen(path) >= sizeof addr.sun_path) {
        return -EINVAL;
    }
    (void)snprintf(target, RPC_TARGET_SIZE_MAX, "unix:%s", path);
    return 0;
}

int rpc_address_target(const char *text, char *target)
{
    static const char *const formats[] = { [HOST_IPV4] = "ipv4:%s:%s",
                                           [HOST_IPV6] = "ipv6:[%s]:%s",
                                           [HOST_NAME] = "dns:%s:%s" };
    struct address address;
    int rc;

    if (strncmp(text, "unix:", 5) == 0) {
        return unix_target(text + 5, target);
    }
    rc = parse(text, &address);
    if (rc != 0) {
        return rc;
    }
    if (strspn(address.port, "0") == strlen(address.port)) {
        return -EINVAL;
    }
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    (void)snprintf(target, RPC_TARGET_SIZE_MAX, formats[address.type],
                   address.host, address.port);
#pragma GCC diagnostic pop
    return 0;
}

int rpc_address_check_listen(const char *text)
{
    struct address address;

    return parse(text, &address);
}

/* As gRPC does: with SO_REUSEADDR, so that only a live listener is in the way.
 */
static int try_bind(const struct addrinfo *info)
{
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;
    int rc = 0;

    if (fd < 0) {
        return -errno;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, info->ai_addr, info->ai_addrlen) != 0 || listen(fd, 1) != 0) {
        rc = -errno;
    }
    (void)close(fd);
    return rc;
}

int rpc_address_diagnose(const char *text, struct errmsg *msg)
{
    struct addrinfo hints = { .ai_flags = AI_PASSIVE | AI_NUMERICSERV,
                              .ai_socktype = SOCK_STREAM };
    struct addrinfo *infos = NULL;
    struct address address;
    int rc = parse(text, &address);

    if (rc != 0) {
        errmsg_set(msg, "cannot listen at %s: not an address like host:port",
                   text);
        return rc;
    }
    rc = getaddrinfo(address.host, address.port, &hints, &infos);
    if (rc != 0) {
        errmsg_set(msg, "cannot listen at %s: %s", text, gai_strerror(rc));
        return -EADDRNOTAVAIL;
    }
    rc = 0;
    for (struct addrinfo *info = infos; info != NULL && rc == 0;
         info = info->ai_next) {
        rc = try_bind(info);
    }
    freeaddrinfo(infos);
    if (rc == -EADDRINUSE) {
        errmsg_set(msg,
                   "cannot listen at %s: the port is in use by another program",
                   text);
    } else if (rc != 0) {
        errmsg_set(msg, "cannot listen at %s: %s", text, err_text(rc));
    } else {
        errmsg_set(msg, "cannot listen at %s", text);
        rc = -EIO;
    }
    return rc;
}
