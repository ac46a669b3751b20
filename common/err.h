/* The error vocabulary.
 *
 * A fallible function returns 0 or a negative errno, with these meanings
 * everywhere in Gabion:
 *
 *   -EINVAL        The caller's argument is out of its documented range.
 *   -ENOMEM        Out of memory.
 *   -ENOENT        No such block, object, name or inode.
 *   -EEXIST        It is there already.
 *   -EBADMSG       Bytes from a disk or a peer fail their checksum or format.
 *   -EIO           The device failed, or too many blocks of a stripe are lost.
 *   -ENOSPC        Not enough space on the nodes that would have to store it.
 *   -ETIMEDOUT     No answer within the deadline.
 *   -EHOSTUNREACH  The peer cannot be reached now.
 *   -ESTALE        Of another cluster, or of a session that has expired.
 *   -EPROTO        The peer answered with something that makes no sense.
 *   -ECANCELED     Given up on request of the caller.
 *
 * Start-up and command-line code also fills a `struct errmsg`, which tells a
 * person what is wrong, where, and what to do. */
#pragma once

#include <stdarg.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(format_index, first_index) \
    __attribute__((format(printf, format_index, first_index)))

/* One line for a person, without a newline. */
struct errmsg {
    char text[512]; /* NUL-terminated; "" when nothing has been said */
};

/* Format the message, cutting it when it does not fit, and make it plain.
 * `msg` may be NULL. */
void errmsg_set(struct errmsg *msg, const char *format, ...) PRINTF_LIKE(2, 3);

/* Replace control characters: what a peer says must not begin a line of its own
 * in a log, or move the cursor of a terminal. */
void err_make_plain(char *text);

/* Text of a negative or positive errno, as this vocabulary means it.
 * Thread-safe; never NULL; static. */
const char *err_text(int error);
