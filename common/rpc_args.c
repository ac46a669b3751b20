#include "common/rpc_args.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

#include <grpc/support/log.h>

#include "common/log.h"
#include "common/rpc_message.h"

/* gRPC declares keys as `char *` but does not write to them. */
#define ARG(name, number)                                           \
    {                                                               \
        .type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t)(name), \
        .value.integer = (number)                                   \
    }

#define DATA_FRAME_SIZE (1 << 20)
#define LOOKAHEAD_BYTES (4 << 20)

/* What both sides want. Retries and channelz cost CPU per call and serve
 * nothing here; a compressed message would inflate behind the size limit. */
#define ARGS_COMMON                                                    \
    ARG("grpc.max_receive_message_length", (int)RPC_MESSAGE_SIZE_MAX), \
        ARG("grpc.http2.lookahead_bytes", LOOKAHEAD_BYTES),            \
        ARG("grpc.enable_retries", 0), ARG("grpc.enable_channelz", 0), \
        ARG("grpc.per_message_compression", 0),                        \
        ARG("grpc.per_message_decompression", 0),                      \
        ARG("grpc.keepalive_permit_without_calls", 1),                 \
        ARG("grpc.http2.max_pings_without_data", 0)

/* A peer that answers no ping within four seconds counts as dead. The minimum
 * backoff is also the time a connection attempt may take. */
#define ARGS_CLIENT                                            \
    ARGS_COMMON, ARG("grpc.use_local_subchannel_pool", 1),     \
        ARG("grpc.keepalive_time_ms", 2000),                   \
        ARG("grpc.keepalive_timeout_ms", 2000),                \
        ARG("grpc.initial_reconnect_backoff_ms", 100),         \
        ARG("grpc.min_reconnect_backoff_ms", 1000),            \
        ARG("grpc.max_reconnect_backoff_ms", 1000),            \
        ARG("grpc.dns_min_time_between_resolutions_ms", 1000), \
        ARG("grpc.service_config_disable_resolution", 1),      \
        ARG("grpc.enable_http_proxy", 0)

#define N_ARGS(args) (sizeof(args) / sizeof *(args))

static grpc_arg control_args[] = { ARGS_CLIENT };

static grpc_arg data_args[] = { ARGS_CLIENT, ARG("grpc.http2.max_frame_size",
                                                 DATA_FRAME_SIZE) };

static grpc_arg server_args[] = {
    ARGS_COMMON,
    ARG("grpc.http2.max_frame_size", DATA_FRAME_SIZE),
    ARG("grpc.so_reuseport", 0),
    ARG("grpc.http2.max_ping_strikes", 0),
    ARG("grpc.http2.min_ping_interval_without_data_ms", 500),
    ARG("grpc.max_concurrent_streams", 128),
    ARG("grpc.keepalive_time_ms", 10000),
    ARG("grpc.keepalive_timeout_ms", 5000),
};

const grpc_channel_args *rpc_args_control(void)
{
    static const grpc_channel_args args = { N_ARGS(control_args),
                                            control_args };

    return &args;
}

const grpc_channel_args *rpc_args_data(void)
{
    static const grpc_channel_args args = { N_ARGS(data_args), data_args };

    return &args;
}

const grpc_channel_args *rpc_args_server(void)
{
    static const grpc_channel_args args = { N_ARGS(server_args), server_args };

    return &args;
}

static void on_grpc_log(gpr_log_func_args *args)
{
    log_debug("grpc %s file=%s:%d", args->message, args->file, args->line);
}

/* Debian 12 builds Abseil, on which gRPC stands, with the search for lock
 * cycles on, at a tenth of the CPU of a small call. Its switch is a C++
 * function, absl::SetMutexDeadlockDetectionMode(kIgnore), found by its mangled
 * name; a build that has no such name keeps the search. */
static void stop_lock_search(void)
{
    static const char name[] = "_ZN4absl7debian329SetMutexDeadlockDetectionMode"
                               "ENS0_15OnDeadlockCycleE";
    void *symbol = dlsym(RTLD_DEFAULT, name);
    void (*set_mode)(int mode);

    if (symbol != NULL) {
        memcpy(&set_mode, &symbol, sizeof set_mode);
        set_mode(0);
    }
}

static void set_up_once(void)
{
    gpr_set_log_function(on_grpc_log);
    gpr_set_log_verbosity(GPR_LOG_SEVERITY_ERROR);
    stop_lock_search();
}

void rpc_grpc_ref(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    (void)pthread_once(&once, set_up_once);
    grpc_init();
}

void rpc_grpc_unref(void)
{
    grpc_shutdown_blocking();
}
