/* Addresses of nodes, as people write them and as gRPC wants them. */
#pragma once

#include <stddef.h>

#include "common/err.h"

/* Room for every target, its NUL included. */
#define RPC_TARGET_SIZE_MAX 320

/* The gRPC target of a server to call: "host:port" with a name, an IPv4
 * address, or an IPv6 address in brackets and a port of 1..65535, or
 * "unix:/path". `target` has room for RPC_TARGET_SIZE_MAX bytes.
 * Errors: -EINVAL none of these. */
MUST_CHECK int rpc_address_target(const char *address, char *target);

/* Whether one can listen there: "host:port", port 0 included.
 * Errors: -EINVAL one cannot. */
MUST_CHECK int rpc_address_check_listen(const char *address);

/* Find out why one cannot listen at `address`, by trying to bind it. What is
 * wrong, in words, goes to `msg`.
 * Errors: the errno of the first step that failed (-EADDRINUSE, -EACCES,
 * -EADDRNOTAVAIL, ...); -EIO none did, whatever it was has gone. Never 0. */
MUST_CHECK int rpc_address_diagnose(const char *address, struct errmsg *msg);
