/* The device between kernel and libfuse, with a look at what passes.
 *
 * libfuse 3.14 keeps two things to itself that this filesystem needs: the
 * offer FUSE_HANDLE_KILLPRIV_V2 at INIT, without which the kernel asks for
 * security.capability before every write, and the flags of single requests that
 * go with it. So requests and replies are read and written here
 * (fuse_session_custom_io), unchanged but for that flag of the INIT reply. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct channel {
    uint64_t init_unique; /* of the INIT request; 0 before it */
    bool offers_killpriv; /* the kernel knows FUSE_HANDLE_KILLPRIV_V2 */
    bool kills_priv;      /* and has been told that we do, too */
    /* Called once, when the kernel has got the INIT reply: from then on the
     * mount can be used. May be NULL. */
    void (*ready)(void *context);
    void *context; /* borrowed, for ready */
};

/* As read(2) and writev(2) on the device, for struct fuse_custom_io. */
ssize_t channel_read(struct channel *channel, int fd, void *buf, size_t size);
ssize_t channel_writev(struct channel *channel,
                       int fd,
                       struct iovec *iov,
                       int n_iov);

/* Of the request that the calling thread has read last: the kernel leaves it to
 * us to clear set-user-ID, set-group-ID (if the group may execute) and
 * security.capability for this write, truncation or open. */
bool channel_must_kill_suidgid(void);
