#include "storaged/cluster_service.h"

#include <errno.h>
#include <stdlib.h>

#include "proto/cluster.pb-c.h"

#define PROTOCOL 1u /* major version of the wire */

struct cluster_service {
    Gabion__ClusterMap *map; /* owned: the answer */
    struct rpc_method method;
};

/* What is wrong with the question: a positive errno, with words in `msg`. */
static int judge(const struct cluster_service *service,
                 const Gabion__GetMapRequest *request,
                 struct errmsg *msg)
{
    if (request->protocol != PROTOCOL) {
        errmsg_set(msg,
                   "this node speaks version %u of the protocol, not %u: "
                   "upgrade the older side",
                   PROTOCOL, request->protocol);
        return EPROTONOSUPPORT;
    }
    if (request->cluster != 0 && request->cluster != service->map->id) {
        errmsg_set(msg, "this node is of another cluster");
        return ESTALE;
    }
    return 0;
}

static void handle_get_map(struct rpc_request *rpc, void *context)
{
    const Gabion__GetMapRequest *request =
        (const Gabion__GetMapRequest *)rpc_request_message(rpc);
    const struct cluster_service *service = context;
    Gabion__GetMapReply reply;
    struct errmsg msg = { "" };

    gabion__get_map_reply__init(&reply);
    reply.error = judge(service, request, &msg);
    reply.detail = msg.text;
    if (reply.error == 0) {
        reply.map = service->map;
    }
    rpc_reply(rpc, &reply.base, NULL, 0, 0);
}

int cluster_service_new(const struct cluster_map *map,
                        struct cluster_service **ret_service)
{
    struct cluster_service *service = calloc(1, sizeof *service);

    if (service == NULL) {
        return -ENOMEM;
    }
    service->map = cluster_map_encode(map);
    if (service->map == NULL) {
        free(service);
        return -ENOMEM;
    }
    service->method = (struct rpc_method){
        .path = "/gabion.Cluster/GetMap",
        .request_type = &gabion__get_map_request__descriptor,
        .handler = handle_get_map,
        .context = service,
    };
    *ret_service = service;
    return 0;
}

void cluster_service_free(struct cluster_service *service)
{
    if (service == NULL) {
        return;
    }
    gabion__cluster_map__free_unpacked(service->map, NULL);
    free(service);
}

const struct rpc_method *cluster_service_methods(
    struct cluster_service *service,
    size_t *ret_n)
{
    *ret_n = 1;
    return &service->method;
}
