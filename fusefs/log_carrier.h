/* Carries what a background process says on stderr to syslog(3). */
#pragma once

#include "common/err.h"

/* Start a thread that sends each line written to `*ret_fd` to syslog, with the
 * priority of its level (common/log.h), for as long as the process lives. The
 * caller owns `*ret_fd`. Errors: -EMFILE ..., -EAGAIN no thread */
MUST_CHECK int log_carrier_start(int *ret_fd);
