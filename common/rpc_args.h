/* gRPC as Gabion sets it up: life cycle, log, channel arguments.
 *
 * For the rpc_* modules only: gRPC stays inside them. */
#pragma once

#include <grpc/grpc.h>

/* Start gRPC, or count one more user of it. Its log goes to log_debug(). */
void rpc_grpc_ref(void);

/* One user less; the last one ends gRPC's threads before this returns. */
void rpc_grpc_unref(void);

/* The arguments of a channel for small calls, of one for blocks, of a server.
 * Static. */
const grpc_channel_args *rpc_args_control(void);
const grpc_channel_args *rpc_args_data(void);
const grpc_channel_args *rpc_args_server(void);
