/* One mount, from the parsed options to its end. */
#pragma once

#include "common/err.h"
#include "fusefs/daemon.h"
#include "fusefs/options.h"

/* Connect, mount, serve until it is unmounted or a signal (SIGTERM, SIGINT,
 * SIGHUP) asks to unmount, save everything. Reports to `daemon` as soon as the
 * mount can be used, or why it cannot. The signals must be blocked in all
 * threads. Returns the exit code of the program. */
int mount_run(const struct options *options,
              const char *mountpoint,
              struct daemon *daemon);
