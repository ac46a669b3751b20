/* The threads of a mount: libfuse's workers serve requests; the main thread
 * waits for their end; one thread waits for signals, and unmounts while the
 * workers go on serving, so that the kernel can write back the pages that
 * programs have changed through mmap(2). */
#include "fusefs/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "fusefs/mountpoint.h"
#include "fusefs/ops.h"

/* Each worker may wait for the network, and has a buffer of 1 MiB. */
#define WORKERS_MAX 32u

#define READAHEAD_KIB 1024u

/* How often the main thread is told that it is over. */
#define WAKE_MS 50

struct mount {
    const struct options *options; /* borrowed */
    const char *mountpoint;        /* borrowed: absolute */
    struct daemon *daemon;         /* borrowed */
    struct ops_context ops;
    pthread_t main_thread;
    pthread_t signal_thread;
    bool is_unmounted; /* the signal thread has done it */
    bool is_over;      /* atomic: the loop has ended */
};

/* ------------------------------------------------------------------ libfuse */

/* What libfuse complained of last while mounting, for the user. */
static struct errmsg complaint;

static void log_fuse(enum fuse_log_level level,
                     const char *format,
                     va_list args)
{
    char line[256];

    /* The format is libfuse's own. */
    (void)vsnprintf(line, sizeof line, format, args); /* NOLINT */
    line[strcspn(line, "\n")] = '\0';
    if (level <= FUSE_LOG_ERR) {
        errmsg_set(&complaint, "%s", line);
    }
    log_debug("libfuse: %s", line);
}

static int add_options(const struct mount *mount, char **list)
{
    const struct options *options = mount->options;
    bool is_root = geteuid() == 0;
    bool ok = fuse_opt_add_opt(list, "subtype=gabion") == 0 &&
              fuse_opt_add_opt(list, "default_permissions") == 0;
    char *name = NULL;

    if (ok && asprintf(&name, "fsname=%s", options->source) >= 0) {
        ok = fuse_opt_add_opt_escaped(list, name) == 0;
        free(name);
    }
    if (ok && is_root) {
        ok = fuse_opt_add_opt(list, "dev") == 0 &&
             fuse_opt_add_opt(list, "suid") == 0;
    }
    if (ok && options->allow_other) {
        ok = fuse_opt_add_opt(list, "allow_other") == 0;
    }
    if (ok && options->read_only) {
        ok = fuse_opt_add_opt(list, "ro") == 0;
    }
    if (ok && options->mount_flags[0] != '\0') {
        ok = fuse_opt_add_opt(list, options->mount_flags) == 0;
    }
    return ok ? 0 : -ENOMEM;
}

static int new_session(struct mount *mount)
{
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    char *list = NULL;
    int rc = add_options(mount, &list);

    if (rc == 0 && (fuse_opt_add_arg(&args, "gabion-fusefs") != 0 ||
                    fuse_opt_add_arg(&args, "-o") != 0 ||
                    fuse_opt_add_arg(&args, list) != 0)) {
        rc = -ENOMEM;
    }
    if (rc == 0) {
        mount->ops.session =
            fuse_session_new(&args, &ops_table, sizeof ops_table, &mount->ops);
        rc = mount->ops.session != NULL ? 0 : -EINVAL;
    }
    free(list);
    fuse_opt_free_args(&args);
    return rc;
}

static ssize_t read_device(int fd, void *buf, size_t size, void *userdata)
{
    struct ops_context *ops = userdata;

    return channel_read(&ops->channel, fd, buf, size);
}

static ssize_t write_device(int fd, struct iovec *iov, int n, void *userdata)
{
    struct ops_context *ops = userdata;

    return channel_writev(&ops->channel, fd, iov, n);
}

static const struct fuse_custom_io device_io = {
    .read = read_device,
    .writev = write_device,
};

/* The kernel has got the reply to INIT. */
static void ready(void *context)
{
    struct mount *mount = context;

    mountpoint_set_readahead(mount->mountpoint, READAHEAD_KIB);
    log_info("mounted source=%s mountpoint=%s", mount->options->source,
             mount->mountpoint);
    daemon_ready(mount->daemon, mount->options->log_file != NULL);
}

/* Take the last line of what has been written to the file for a complaint. */
static void read_complaint(int fd)
{
    char said[sizeof complaint.text];
    ssize_t n = pread(fd, said, sizeof said - 1, 0);
    char *line;

    said[n > 0 ? n : 0] = '\0';
    while (n > 0 && said[n - 1] == '\n') {
        said[--n] = '\0';
    }
    line = strrchr(said, '\n');
    line = line != NULL ? line + 1 : said;
    if (*line != '\0') {
        errmsg_set(&complaint, "%s", line);
    }
}

/* libfuse calls fusermount3 for who may not mount, and that program tells
 * stderr, not us, what is wrong: listen to it. */
static int mount_session(struct mount *mount)
{
    int heard = memfd_create("complaint", MFD_CLOEXEC);
    int saved = heard >= 0 ? fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3) : -1;
    int rc;

    if (saved >= 0) {
        (void)dup2(heard, STDERR_FILENO);
    }
    rc = fuse_session_mount(mount->ops.session, mount->mountpoint);
    if (saved >= 0) {
        (void)dup2(saved, STDERR_FILENO);
        (void)close(saved);
    }
    if (rc != 0 && complaint.text[0] == '\0' && heard >= 0) {
        read_complaint(heard);
    }
    if (heard >= 0) {
        (void)close(heard);
    }
    return rc == 0 ? 0 : -EIO;
}

static int attach(struct mount *mount, struct errmsg *msg)
{
    int rc;

    fuse_set_log_func(log_fuse);
    rc = new_session(mount);
    if (rc == 0) {
        rc = mount_session(mount);
    }
    if (rc == 0) {
        mount->ops.channel.ready = ready;
        mount->ops.channel.context = mount;
        rc = fuse_session_custom_io(mount->ops.session, &device_io,
                                    fuse_session_fd(mount->ops.session));
    }
    if (rc != 0) {
        errmsg_set(msg, "cannot mount on %s: %s", mount->mountpoint,
                   complaint.text[0] != '\0' ? complaint.text : err_text(rc));
    }
    return rc;
}

static void detach(struct mount *mount)
{
    if (mount->ops.session != NULL) {
        if (!mount->is_unmounted) {
            fuse_session_unmount(mount->ops.session);
        }
        fuse_session_destroy(mount->ops.session);
        mount->ops.session = NULL;
    }
}

/* ------------------------------------------------------------------ signals */

/* Run fusermount3, for who may not unmount. Returns its success. */
static bool run_fusermount(const char *mountpoint, bool lazy)
{
    char name[] = "fusermount3";
    char unmount[] = "-u";
    char and_lazy[] = "-uz";
    char end[] = "--";
    char *path = strdup(mountpoint);
    char *argv[] = { name, lazy ? and_lazy : unmount, end, path, NULL };
    int status = -1;
    pid_t pid;

    if (path != NULL &&
        posix_spawnp(&pid, name, NULL, NULL, argv, environ) == 0) {
        (void)waitpid(pid, &status, 0);
    }
    free(path);
    return status == 0;
}

static bool unmount(const char *mountpoint, bool lazy)
{
    int flags = UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0);

    return geteuid() == 0 ? umount2(mountpoint, flags) == 0
                          : run_fusermount(mountpoint, lazy);
}

/* Somebody still uses the mount: what its programs have mapped is written back,
 * then they are left with a mount that is gone. */
static void unmount_busy(struct mount *mount)
{
    int fd = open(mount->mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    log_warn("unmounting although programs use the mount mountpoint=%s",
             mount->mountpoint);
    if (fd >= 0) {
        (void)syncfs(fd);
        (void)close(fd);
    }
    mount->is_unmounted = unmount(mount->mountpoint, true);
}

/* Wakes the main thread out of its wait. */
static void do_nothing(int signal)
{
    (void)signal;
}

static void end_loop(struct mount *mount)
{
    const struct timespec pause = { .tv_nsec = WAKE_MS * 1000000L };

    fuse_session_exit(mount->ops.session);
    while (!__atomic_load_n(&mount->is_over, __ATOMIC_ACQUIRE)) {
        (void)pthread_kill(mount->main_thread, SIGUSR1);
        (void)nanosleep(&pause, NULL);
    }
}

static void exit_signals(sigset_t *ret_set)
{
    (void)sigemptyset(ret_set);
    (void)sigaddset(ret_set, SIGTERM);
    (void)sigaddset(ret_set, SIGINT);
    (void)sigaddset(ret_set, SIGHUP);
    (void)sigaddset(ret_set, SIGUSR2); /* from ourselves: the loop has ended */
}

static void *wait_for_signals(void *context)
{
    struct mount *mount = context;
    sigset_t set;
    int signal = 0;

    exit_signals(&set);
    if (sigwait(&set, &signal) != 0 || signal == SIGUSR2) {
        return NULL;
    }
    log_info("unmounting on a signal signal=%s", sigabbrev_np(signal));
    mount->is_unmounted = unmount(mount->mountpoint, false);
    if (!mount->is_unmounted) {
        unmount_busy(mount);
    }
    end_loop(mount);
    return NULL;
}

static int start_signal_thread(struct mount *mount)
{
    struct sigaction action = { .sa_handler = do_nothing };
    sigset_t set;

    exit_signals(&set);
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL);
    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(SIGUSR1, &action, NULL);
    (void)sigaction(SIGUSR2, &action, NULL);
    mount->main_thread = pthread_self();
    return -pthread_create(&mount->signal_thread, NULL, wait_for_signals,
                           mount);
}

static void stop_signal_thread(struct mount *mount)
{
    __atomic_store_n(&mount->is_over, true, __ATOMIC_RELEASE);
    (void)pthread_kill(mount->signal_thread, SIGUSR2);
    (void)pthread_join(mount->signal_thread, NULL);
}

/* --------------------------------------------------------------------- life */

static int serve(struct mount *mount, struct errmsg *msg)
{
    struct fuse_loop_config *config = fuse_loop_cfg_create();
    int rc;

    if (config == NULL) {
        return -ENOMEM;
    }
    fuse_loop_cfg_set_max_threads(config, WORKERS_MAX);
    rc = start_signal_thread(mount);
    if (rc == 0) {
        rc = fuse_session_loop_mt(mount->ops.session, config);
        stop_signal_thread(mount);
    } else {
        errmsg_set(msg, "cannot start a thread: %s", err_text(rc));
    }
    fuse_loop_cfg_destroy(config);
    return rc < 0 ? rc : 0;
}

static int fail(struct mount *mount, const struct errmsg *msg)
{
    detach(mount);
    (void)client_free(mount->ops.client);
    daemon_failed(mount->daemon, DAEMON_EXIT_MOUNT, msg->text);
    return DAEMON_EXIT_MOUNT;
}

int mount_run(const struct options *options,
              const char *mountpoint,
              struct daemon *daemon)
{
    struct mount mount = { .options = options,
                           .mountpoint = mountpoint,
                           .daemon = daemon };
    struct errmsg msg = { "" };
    int rc = client_new(options, ops_is_interrupted, &mount.ops.client, &msg);

    if (rc == 0) {
        rc = attach(&mount, &msg);
    }
    if (rc != 0) {
        return fail(&mount, &msg);
    }
    rc = serve(&mount, &msg);
    detach(&mount);
    if (rc != 0) {
        log_error("serving the mount failed error=%s", err_text(rc));
    }
    rc = client_free(mount.ops.client) != 0 || rc != 0;
    log_info("unmounted mountpoint=%s", mountpoint);
    return rc;
}
