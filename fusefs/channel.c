#include "fusefs/channel.h"

#include <linux/fuse.h>
#include <stddef.h>
#include <unistd.h>

/* A thread of libfuse reads a request and serves it before it reads the next.
 */
static _Thread_local bool must_kill_suidgid;

/* The argument of a request, if it is long enough to be one. */
static const void *argument(const void *buf, size_t size, size_t wanted)
{
    return size >= sizeof(struct fuse_in_header) + wanted
               ? (const uint8_t *)buf + sizeof(struct fuse_in_header)
               : NULL;
}

static void look_at_init(struct channel *channel,
                         const void *buf,
                         size_t size,
                         uint64_t unique)
{
    /* Older kernels send a shorter fuse_init_in. */
    const struct fuse_init_in *init =
        argument(buf, size, offsetof(struct fuse_init_in, flags2));

    channel->init_unique = unique;
    channel->offers_killpriv =
        init != NULL && (init->flags & FUSE_HANDLE_KILLPRIV_V2) != 0;
}

static bool wants_kill(uint32_t opcode, const void *buf, size_t size)
{
    const struct fuse_write_in *write;
    const struct fuse_setattr_in *setattr;
    const struct fuse_open_in *open;

    switch (opcode) {
    case FUSE_WRITE:
        write = argument(buf, size, sizeof *write);
        return write != NULL &&
               (write->write_flags & FUSE_WRITE_KILL_SUIDGID) != 0;
    case FUSE_SETATTR:
        setattr = argument(buf, size, sizeof *setattr);
        return setattr != NULL && (setattr->valid & FATTR_KILL_SUIDGID) != 0;
    case FUSE_OPEN:
        open = argument(buf, size, sizeof *open);
        return open != NULL && (open->open_flags & FUSE_OPEN_KILL_SUIDGID) != 0;
    default:
        return false;
    }
}

ssize_t channel_read(struct channel *channel, int fd, void *buf, size_t size)
{
    ssize_t n = read(fd, buf, size);
    const struct fuse_in_header *header = buf;

    if (n < (ssize_t)sizeof *header) {
        return n;
    }
    if (header->opcode == FUSE_INIT) {
        look_at_init(channel, buf, (size_t)n, header->unique);
    }
    must_kill_suidgid =
        channel->kills_priv && wants_kill(header->opcode, buf, (size_t)n);
    return n;
}

static bool is_init_reply(const struct channel *channel,
                          const struct iovec *iov,
                          int n_iov)
{
    const struct fuse_out_header *header = iov[0].iov_base;

    return channel->init_unique != 0 && n_iov == 2 &&
           iov[0].iov_len == sizeof *header &&
           header->unique == channel->init_unique && header->error == 0 &&
           iov[1].iov_len >= offsetof(struct fuse_init_out, max_background);
}

ssize_t channel_writev(struct channel *channel,
                       int fd,
                       struct iovec *iov,
                       int n_iov)
{
    bool is_init = is_init_reply(channel, iov, n_iov);
    ssize_t n;

    if (is_init && channel->offers_killpriv) {
        struct fuse_init_out *init = iov[1].iov_base;

        init->flags |= FUSE_HANDLE_KILLPRIV_V2;
        channel->kills_priv = true;
    }
    n = writev(fd, iov, n_iov);
    if (is_init) {
        channel->init_unique = 0;
        if (n >= 0 && channel->ready != NULL) {
            channel->ready(channel->context);
        }
    }
    return n;
}

bool channel_must_kill_suidgid(void)
{
    return must_kill_suidgid;
}
