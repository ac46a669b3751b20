/* The metadata service over a real RPC server and client, with fake block
 * services that only record which objects they are told to delete. */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <check.h>
#include <sqlite3.h>

#include "common/clock.h"
#include "common/rpc_client.h"
#include "common/rpc_server.h"
#include "proto/block.pb-c.h"
#include "storaged/meta/meta_reads.h"
#include "storaged/meta/meta_service.h"
#include "tests/unit/meta_ops.h"

#define CLUSTER 0x1234u
#define NODES   4u
#define WIDTH   3u

static char dir[64];
static char path[96];
static struct cluster_map *map;
static struct rpc_client *client;
static struct meta_service *service;
static struct rpc_server *server;
static struct rpc_peer *peer;
static int64_t clock_offset_ms; /* atomic */
static bool holds_syncs;        /* atomic: the shard's syncs wait */
static uint64_t reserve;        /* of the next start_service() */
static int64_t expiry_ms;       /* likewise */

static int64_t test_mono_ms(void)
{
    return clock_mono_ms() +
           __atomic_load_n(&clock_offset_ms, __ATOMIC_SEQ_CST);
}

static int test_sync(struct meta_db *db)
{
    while (__atomic_load_n(&holds_syncs, __ATOMIC_SEQ_CST)) {
        (void)usleep(1000);
    }
    return meta_db_sync(db);
}

/* --------------------------------------------------------- block services */

struct fake_node {
    struct rpc_server *server;
    struct rpc_method method;
    char address[32];
    pthread_mutex_t lock;
    struct object_id deleted[64]; /* under lock */
    size_t n_deleted;
};

static struct fake_node fakes[NODES];

static void delete_objects(struct rpc_request *rpc, void *context)
{
    const Gabion__DeleteObjectsRequest *request =
        (const Gabion__DeleteObjectsRequest *)rpc_request_message(rpc);
    struct fake_node *fake = context;
    Gabion__DeleteObjectsReply reply;

    gabion__delete_objects_reply__init(&reply);
    (void)pthread_mutex_lock(&fake->lock);
    for (size_t i = 0; i < request->n_object; i++) {
        if (request->cluster != CLUSTER || request->object[i].len != 16 ||
            fake->n_deleted == 64) {
            reply.error = EINVAL;
        } else {
            object_id_decode(request->object[i].data,
                             &fake->deleted[fake->n_deleted++]);
        }
    }
    (void)pthread_mutex_unlock(&fake->lock);
    rpc_reply(rpc, &reply.base, NULL, 0, 0);
}

static void fake_start(struct fake_node *fake)
{
    struct errmsg msg;

    ck_assert_int_eq(
        rpc_server_new(fake->address, &fake->method, 1, 1, &fake->server, &msg),
        0);
    (void)snprintf(fake->address, sizeof fake->address, "127.0.0.1:%d",
                   rpc_server_port(fake->server));
    ck_assert_int_eq(rpc_server_start(fake->server), 0);
}

static void fake_stop(struct fake_node *fake)
{
    if (fake->server != NULL) {
        rpc_server_stop(fake->server, 0);
        rpc_server_free(fake->server);
        fake->server = NULL;
    }
}

static void fake_init(struct fake_node *fake)
{
    *fake = (struct fake_node){ 0 };
    (void)pthread_mutex_init(&fake->lock, NULL);
    (void)snprintf(fake->address, sizeof fake->address, "127.0.0.1:0");
    fake->method = (struct rpc_method){
        .path = "/gabion.Block/DeleteObjects",
        .request_type = &gabion__delete_objects_request__descriptor,
        .handler = delete_objects,
        .context = fake,
    };
    fake_start(fake);
}

/* How often the node was told to delete the object. */
static unsigned times_deleted(struct fake_node *fake,
                              const struct object_id *object)
{
    unsigned n = 0;

    (void)pthread_mutex_lock(&fake->lock);
    for (size_t i = 0; i < fake->n_deleted; i++) {
        n += object_id_compare(&fake->deleted[i], object) == 0;
    }
    (void)pthread_mutex_unlock(&fake->lock);
    return n;
}

/* ---------------------------------------------------------------- fixture */

static struct cluster_map *make_map(void)
{
    Gabion__ClusterMap message;
    Gabion__Policy policy = GABION__POLICY__INIT;
    Gabion__Shard shard = GABION__SHARD__INIT;
    Gabion__Shard *shards = &shard;
    Gabion__Node nodes[NODES];
    Gabion__Node *pointers[NODES];
    struct placement_node places[NODES];
    struct placement *placement;
    struct cluster_map *made;
    struct errmsg msg = { "" };

    for (unsigned i = 0; i < NODES; i++) {
        gabion__node__init(&nodes[i]);
        nodes[i].id = i + 1;
        nodes[i].weight = 1;
        nodes[i].address = fakes[i].address;
        pointers[i] = &nodes[i];
        places[i] = (struct placement_node){ .id = i + 1, .weight = 1 };
    }
    ck_assert_int_eq(placement_new(places, NODES, WIDTH, &placement), 0);
    policy.k = 2;
    policy.m = 1;
    policy.unit = 32768;
    policy.min_write = 2;
    shard.node = 1;
    shard.last_slot = 1023;
    gabion__cluster_map__init(&message);
    message.id = CLUSTER;
    message.version = 1;
    message.policy = &policy;
    message.node = pointers;
    message.n_node = NODES;
    message.shard = &shards;
    message.n_shard = 1;
    message.placement_width = WIDTH;
    message.n_placement = (size_t)WIDTH * PLACEMENT_PARTITIONS;
    message.placement = calloc(message.n_placement, sizeof(uint32_t));
    memcpy(message.placement, placement_table(placement),
           message.n_placement * sizeof(uint32_t));
    ck_assert_msg(cluster_map_decode(&message, &made, &msg) == 0, "%s",
                  msg.text);
    free(message.placement);
    placement_free(placement);
    return made;
}

static void start_service(void)
{
    struct meta_service_config config = {
        .shard = { .path = path, .cluster = CLUSTER, .sync = test_sync },
        .rpc = client,
        .map = map,
        .mono_ms = test_mono_ms,
        .reserve = reserve,
        .expiry_ms = expiry_ms,
    };
    const struct rpc_method *methods;
    struct errmsg msg = { "" };
    char address[32];
    size_t n;

    ck_assert_msg(meta_service_new(&config, &service, &msg) == 0, "%s",
                  msg.text);
    methods = meta_service_methods(service, &n);
    ck_assert_int_eq(
        rpc_server_new("127.0.0.1:0", methods, n, 2, &server, &msg), 0);
    ck_assert_int_eq(meta_service_start(service), 0);
    ck_assert_int_eq(rpc_server_start(server), 0);
    (void)snprintf(address, sizeof address, "127.0.0.1:%d",
                   rpc_server_port(server));
    ck_assert_int_eq(rpc_client_peer(client, address, &peer), 0);
}

static void stop_service(void)
{
    rpc_server_stop(server, 1000);
    meta_service_stop(service);
    rpc_server_free(server);
    meta_service_free(service);
}

static void setup(void)
{
    __atomic_store_n(&clock_offset_ms, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&holds_syncs, false, __ATOMIC_SEQ_CST);
    reserve = 0;
    expiry_ms = 0;
    (void)snprintf(dir, sizeof dir, "/tmp/gabion-meta-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    (void)snprintf(path, sizeof path, "%s/shard.db", dir);
    ck_assert_int_eq(rpc_client_new(true, &client), 0);
    for (unsigned i = 0; i < NODES; i++) {
        fake_init(&fakes[i]);
    }
    map = make_map();
    start_service();
}

static void teardown(void)
{
    static const char *const suffixes[] = { "", "-wal", "-shm" };
    char name[128];

    __atomic_store_n(&holds_syncs, false, __ATOMIC_SEQ_CST);
    stop_service();
    for (unsigned i = 0; i < NODES; i++) {
        fake_stop(&fakes[i]);
    }
    cluster_map_unref(map);
    rpc_client_free(client);
    for (unsigned i = 0; i < 3; i++) {
        (void)snprintf(name, sizeof name, "%s%s", path, suffixes[i]);
        (void)unlink(name);
    }
    (void)rmdir(dir);
}

/* ------------------------------------------------------------------ calls */

/* A copy of the reply, for free_reply(). */
static void *call(const char *method,
                  const ProtobufCMessage *request,
                  const ProtobufCMessageDescriptor *reply_type)
{
    struct rpc_call rpc = {
        .method = method,
        .request = request,
        .reply_type = reply_type,
        .deadline_ms = clock_mono_ms() + 20000,
    };
    ProtobufCMessage *reply;
    uint8_t *packed;
    size_t size;

    ck_assert_int_eq(rpc_call_sync(client, peer, &rpc), 0);
    size = protobuf_c_message_get_packed_size(rpc.reply);
    packed = malloc(size + 1);
    ck_assert_uint_eq(protobuf_c_message_pack(rpc.reply, packed), size);
    reply = protobuf_c_message_unpack(reply_type, NULL, size, packed);
    ck_assert_ptr_nonnull(reply);
    free(packed);
    rpc_call_clear(&rpc);
    return reply;
}

static void free_reply(void *reply)
{
    protobuf_c_message_free_unpacked(reply, NULL);
}

static Gabion__SubmitReply *submit(Gabion__Op **ops, size_t n, bool durable)
{
    Gabion__SubmitRequest request = GABION__SUBMIT_REQUEST__INIT;

    request.cluster = CLUSTER;
    request.durable = durable;
    request.op = ops;
    request.n_op = n;
    return call("/gabion.Meta/Submit", &request.base,
                &gabion__submit_reply__descriptor);
}

/* Submit one op; the error of the request or of the op, negative. */
static int submit_op(struct op_box *box, uint64_t *ret_ino)
{
    Gabion__SubmitReply *reply = submit(&box->pointer, 1, false);
    int rc = -reply->error;

    if (rc == 0) {
        ck_assert_uint_eq(reply->n_result, 1);
        rc = -reply->result[0]->error;
        if (ret_ino != NULL) {
            *ret_ino = reply->result[0]->ino;
        }
    }
    free_reply(reply);
    return rc;
}

/* A session as the tests use it. */
struct mount {
    uint64_t session;
    uint64_t sequence; /* last used */
    uint64_t next_ino;
};

static struct mount open_mount(void)
{
    struct mount mount = { .sequence = 1 };
    struct op_box box;

    op_open(&box);
    ck_assert_int_eq(submit_op(&box, &mount.session), 0);
    ck_assert_uint_ne(mount.session, 0);
    op_reserve(&box, mount.session, ++mount.sequence, 10000);
    ck_assert_int_eq(submit_op(&box, &mount.next_ino), 0);
    return mount;
}

static uint64_t create(struct mount *mount, const char *name)
{
    struct op_box box;

    op_create(&box, mount->session, ++mount->sequence, name, mount->next_ino);
    ck_assert_int_eq(submit_op(&box, NULL), 0);
    return mount->next_ino++;
}

static int get_attr(uint64_t ino)
{
    Gabion__GetAttrRequest request = GABION__GET_ATTR_REQUEST__INIT;
    Gabion__AttrReply *reply;
    int rc;

    request.cluster = CLUSTER;
    request.ino = ino;
    reply = call("/gabion.Meta/GetAttr", &request.base,
                 &gabion__attr_reply__descriptor);
    rc = -reply->error;
    free_reply(reply);
    return rc;
}

static Gabion__HeartbeatReply *heartbeat(const struct mount *mount,
                                         uint64_t seen,
                                         uint64_t *held,
                                         size_t n)
{
    Gabion__HeartbeatRequest request = GABION__HEARTBEAT_REQUEST__INIT;

    request.cluster = CLUSTER;
    request.session = mount->session;
    request.orphans_seen = seen;
    request.held = held;
    request.n_held = n;
    return call("/gabion.Meta/Heartbeat", &request.base,
                &gabion__heartbeat_reply__descriptor);
}

static int beat(const struct mount *mount,
                uint64_t seen,
                uint64_t *held,
                size_t n)
{
    Gabion__HeartbeatReply *reply = heartbeat(mount, seen, held, n);
    int rc = -reply->error;

    free_reply(reply);
    return rc;
}

static Gabion__ShardStatsReply stats(void)
{
    Gabion__ShardStatsRequest request = GABION__SHARD_STATS_REQUEST__INIT;
    Gabion__ShardStatsReply *reply;
    Gabion__ShardStatsReply copy;

    request.cluster = CLUSTER;
    reply = call("/gabion.Meta/ShardStats", &request.base,
                 &gabion__shard_stats_reply__descriptor);
    ck_assert_int_eq(reply->error, 0);
    copy = *reply;
    free_reply(reply);
    return copy;
}

/* Pause between looks at a state that another thread changes. */
static bool look_again(int64_t deadline_ms)
{
    struct timespec pause = { .tv_nsec = 10000000 };

    (void)nanosleep(&pause, NULL);
    return clock_mono_ms() < deadline_ms;
}

/* ------------------------------------------------------------------ tests */

START_TEST(names_and_attributes_can_be_written_and_read)
{
    Gabion__LookupRequest lookup = GABION__LOOKUP_REQUEST__INIT;
    Gabion__ReadDirRequest read_dir = GABION__READ_DIR_REQUEST__INIT;
    struct mount mount = open_mount();
    uint64_t ino = create(&mount, "file");
    Gabion__AttrReply *attr;
    Gabion__ReadDirReply *entries;
    char name[] = "file";

    lookup.cluster = CLUSTER;
    lookup.parent = 1;
    lookup.name = (ProtobufCBinaryData){ 4, (uint8_t *)name };
    attr = call("/gabion.Meta/Lookup", &lookup.base,
                &gabion__attr_reply__descriptor);
    ck_assert_int_eq(attr->error, 0);
    ck_assert_uint_eq(attr->attr->ino, ino);
    free_reply(attr);
    ck_assert_int_eq(get_attr(ino), 0);
    ck_assert_int_eq(get_attr(ino + 1), -ENOENT);

    read_dir.cluster = CLUSTER;
    read_dir.ino = 1;
    read_dir.limit = UINT32_MAX;
    read_dir.plus = true;
    entries = call("/gabion.Meta/ReadDir", &read_dir.base,
                   &gabion__read_dir_reply__descriptor);
    ck_assert_int_eq(entries->error, 0);
    ck_assert_uint_eq(entries->n_entry, 1);
    ck_assert_uint_eq(entries->entry[0]->attr->ino, ino);
    ck_assert(entries->end);
    free_reply(entries);
}
END_TEST

START_TEST(symlinks_and_xattrs_can_be_written_and_read)
{
    Gabion__ReadLinkRequest read_link = GABION__READ_LINK_REQUEST__INIT;
    Gabion__GetXattrRequest get_xattr = GABION__GET_XATTR_REQUEST__INIT;
    struct mount mount = open_mount();
    uint64_t ino = mount.next_ino++;
    Gabion__ReadLinkReply *target;
    Gabion__GetXattrReply *xattr;
    Gabion__SetXattr body = GABION__SET_XATTR__INIT;
    struct op_box box;
    char bytes[] = "user.some value";

    op_create(&box, mount.session, ++mount.sequence, "link", ino);
    box.body.create.mode = S_IFLNK | 0777;
    box.body.create.target = (ProtobufCBinaryData){ 4, (uint8_t *)bytes };
    ck_assert_int_eq(submit_op(&box, NULL), 0);
    read_link.cluster = CLUSTER;
    read_link.ino = ino;
    target = call("/gabion.Meta/ReadLink", &read_link.base,
                  &gabion__read_link_reply__descriptor);
    ck_assert_int_eq(target->error, 0);
    ck_assert_uint_eq(target->target.len, 4);
    ck_assert_mem_eq(target->target.data, "user", 4);
    free_reply(target);

    ino = create(&mount, "file");
    op_init(&box, mount.session, ++mount.sequence);
    body.ino = ino;
    body.name = (ProtobufCBinaryData){ 9, (uint8_t *)bytes };
    body.value = (ProtobufCBinaryData){ 5, (uint8_t *)bytes + 10 };
    box.op.body_case = GABION__OP__BODY_SET_XATTR;
    box.op.set_xattr = &body;
    ck_assert_int_eq(submit_op(&box, NULL), 0);
    get_xattr.cluster = CLUSTER;
    get_xattr.ino = ino;
    get_xattr.name = body.name;
    xattr = call("/gabion.Meta/GetXattr", &get_xattr.base,
                 &gabion__get_xattr_reply__descriptor);
    ck_assert_int_eq(xattr->error, 0);
    ck_assert_mem_eq(xattr->value.data, "value", 5);
    free_reply(xattr);
}
END_TEST

static Gabion__GetLayoutReply *get_layout(uint64_t ino, uint64_t offset)
{
    Gabion__GetLayoutRequest request = GABION__GET_LAYOUT_REQUEST__INIT;
    Gabion__GetLayoutReply *reply;

    request.cluster = CLUSTER;
    request.ino = ino;
    request.offset = offset;
    request.limit = UINT32_MAX;
    reply = call("/gabion.Meta/GetLayout", &request.base,
                 &gabion__get_layout_reply__descriptor);
    ck_assert_int_eq(reply->error, 0);
    return reply;
}

/* Give the file an object of its own. */
static void write_object(struct mount *mount,
                         uint64_t ino,
                         const struct object_id *object)
{
    struct op_box box;

    op_commit(&box, mount->session, ++mount->sequence, ino, object);
    ck_assert_int_eq(submit_op(&box, NULL), 0);
}

START_TEST(committed_extents_are_in_the_layout)
{
    struct mount mount = open_mount();
    uint64_t ino = create(&mount, "file");
    struct object_id object = { mount.session, 1 };
    Gabion__GetLayoutReply *layout;

    write_object(&mount, ino, &object);
    layout = get_layout(ino, 0);
    ck_assert_uint_eq(layout->n_extent, 1);
    ck_assert_uint_eq(layout->n_object, 1);
    ck_assert_uint_eq(layout->extent[0]->length, 65536);
    ck_assert(layout->end);
    free_reply(layout);
}
END_TEST

START_TEST(a_layout_reply_of_inline_bytes_stays_below_4_mib)
{
    enum {
        EXTENTS = 400,
        SIZE = 16384
    };
    static uint8_t bytes[SIZE];
    struct mount mount = open_mount();
    uint64_t ino = create(&mount, "file");
    Gabion__GetLayoutReply *layout;
    uint64_t offset = 0;
    unsigned n = 0;
    struct op_box box;
    bool end;

    for (unsigned i = 0; i < EXTENTS; i++) {
        op_commit(&box, mount.session, ++mount.sequence, ino,
                  &(struct object_id){ 1, 1 });
        box.body.commit.n_object = 0;
        box.extent.object = 0;
        /* Holes between them: they are not one extent. */
        box.extent.offset = i * 2ull * SIZE;
        box.extent.length = SIZE;
        box.extent.data = (ProtobufCBinaryData){ SIZE, bytes };
        box.file.end = box.extent.offset + SIZE;
        ck_assert_int_eq(submit_op(&box, NULL), 0);
    }
    do {
        layout = get_layout(ino, offset);
        ck_assert_uint_gt(layout->n_extent, 0);
        ck_assert_uint_le(gabion__get_layout_reply__get_packed_size(layout),
                          4u << 20);
        n += (unsigned)layout->n_extent;
        offset = layout->extent[layout->n_extent - 1]->offset + SIZE;
        end = layout->end;
        free_reply(layout);
    } while (!end);
    ck_assert_uint_eq(n, EXTENTS);
}
END_TEST

START_TEST(a_reply_lists_no_more_entries_than_the_limit)
{
    Gabion__ReadDirRequest request = GABION__READ_DIR_REQUEST__INIT;
    struct mount mount = open_mount();
    struct op_box *boxes = calloc(500, sizeof *boxes);
    Gabion__Op *ops[500];
    Gabion__ReadDirReply *reply;
    unsigned n = 0;
    char name[32];

    for (unsigned i = 0; i < 5000; i++) {
        (void)snprintf(name, sizeof name, "f%u", i);
        op_create(&boxes[i % 500], mount.session, ++mount.sequence, name,
                  mount.next_ino++);
        ops[i % 500] = &boxes[i % 500].op;
        if (i % 500 == 499) {
            Gabion__SubmitReply *done = submit(ops, 500, false);

            ck_assert_int_eq(done->error, 0);
            ck_assert_uint_eq(done->n_result, 500);
            ck_assert_int_eq(done->result[499]->error, 0);
            free_reply(done);
        }
    }
    request.cluster = CLUSTER;
    request.ino = 1;
    request.limit = 100000;
    do {
        reply = call("/gabion.Meta/ReadDir", &request.base,
                     &gabion__read_dir_reply__descriptor);
        ck_assert_int_eq(reply->error, 0);
        ck_assert_uint_le(reply->n_entry, META_DIR_LIMIT);
        ck_assert_uint_gt(reply->n_entry, 0);
        n += (unsigned)reply->n_entry;
        request.after = reply->entry[reply->n_entry - 1]->cookie;
        if (reply->end) {
            request.limit = 0;
        }
        free_reply(reply);
    } while (request.limit > 0);
    ck_assert_uint_eq(n, 5000);
    free(boxes);
}
END_TEST

/* Every method with its types; all have the cluster as field 1. */
static const struct {
    const char *method;
    const ProtobufCMessageDescriptor *request, *reply;
} methods_table[] = {
    { "/gabion.Meta/Submit", &gabion__submit_request__descriptor,
      &gabion__submit_reply__descriptor },
    { "/gabion.Meta/Heartbeat", &gabion__heartbeat_request__descriptor,
      &gabion__heartbeat_reply__descriptor },
    { "/gabion.Meta/Lookup", &gabion__lookup_request__descriptor,
      &gabion__attr_reply__descriptor },
    { "/gabion.Meta/GetAttr", &gabion__get_attr_request__descriptor,
      &gabion__attr_reply__descriptor },
    { "/gabion.Meta/ReadDir", &gabion__read_dir_request__descriptor,
      &gabion__read_dir_reply__descriptor },
    { "/gabion.Meta/ReadLink", &gabion__read_link_request__descriptor,
      &gabion__read_link_reply__descriptor },
    { "/gabion.Meta/GetXattr", &gabion__get_xattr_request__descriptor,
      &gabion__get_xattr_reply__descriptor },
    { "/gabion.Meta/GetLayout", &gabion__get_layout_request__descriptor,
      &gabion__get_layout_reply__descriptor },
    { "/gabion.Meta/ShardStats", &gabion__shard_stats_request__descriptor,
      &gabion__shard_stats_reply__descriptor },
    { "/gabion.Meta/CheckShard", &gabion__check_shard_request__descriptor,
      &gabion__check_shard_reply__descriptor },
};

/* Errors are field 1 of every reply: read it through any type. */
static int reply_error(const char *method,
                       const ProtobufCMessage *request,
                       const ProtobufCMessageDescriptor *type)
{
    char *reply = call(method, request, type);
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(type, "error");
    int32_t error;

    memcpy(&error, reply + field->offset, sizeof error);
    free_reply(reply);
    return error;
}

START_TEST(requests_for_another_cluster_are_refused)
{
    union {
        ProtobufCMessage base;
        char bytes[512];
    } request;
    int error;

    protobuf_c_message_init(methods_table[_i].request, &request);
    error = reply_error(methods_table[_i].method, &request.base,
                        methods_table[_i].reply);
    ck_assert_int_eq(error, ESTALE);
}
END_TEST

START_TEST(reads_out_of_range_are_refused)
{
    Gabion__GetAttrRequest attr = GABION__GET_ATTR_REQUEST__INIT;
    Gabion__LookupRequest lookup = GABION__LOOKUP_REQUEST__INIT;
    Gabion__ReadDirRequest dir_request = GABION__READ_DIR_REQUEST__INIT;
    Gabion__GetLayoutRequest layout = GABION__GET_LAYOUT_REQUEST__INIT;
    static uint8_t long_name[256] = { 'a' };
    const struct {
        const char *method;
        const ProtobufCMessage *request;
        const ProtobufCMessageDescriptor *reply;
    } bad[] = {
        { "/gabion.Meta/GetAttr", &attr.base, &gabion__attr_reply__descriptor },
        { "/gabion.Meta/Lookup", &lookup.base,
          &gabion__attr_reply__descriptor },
        { "/gabion.Meta/ReadDir", &dir_request.base,
          &gabion__read_dir_reply__descriptor },
        { "/gabion.Meta/GetLayout", &layout.base,
          &gabion__get_layout_reply__descriptor },
    };

    attr.cluster = lookup.cluster = CLUSTER;
    dir_request.cluster = layout.cluster = CLUSTER;
    attr.ino = UINT64_MAX;
    lookup.parent = 1;
    lookup.name = (ProtobufCBinaryData){ 256, long_name };
    dir_request.ino = 1; /* limit 0 */
    layout.ino = 1;
    layout.limit = 1;
    layout.offset = UINT64_MAX;
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_int_eq(
            reply_error(bad[i].method, bad[i].request, bad[i].reply), EINVAL);
    }
}
END_TEST

/* A Submit of these ops is refused as a whole. */
static void refused(Gabion__Op **ops, size_t n, int error)
{
    Gabion__SubmitReply *reply = submit(ops, n, false);

    ck_assert_int_eq(reply->error, error);
    ck_assert_str_ne(reply->detail, "");
    ck_assert_uint_eq(reply->n_result, 0);
    free_reply(reply);
}

START_TEST(ops_that_a_mount_may_not_send_are_refused)
{
    struct mount mount = open_mount();
    struct mount other = open_mount();
    static Gabion__Op *many[SHARD_OPS_MAX + 1];
    struct op_box box[2];
    Gabion__Op *two[2] = { &box[0].op, &box[1].op };

    op_create(&box[0], mount.session, 3, "a", mount.next_ino);
    op_create(&box[1], other.session, 3, "b", other.next_ino);
    refused(two, 2, EINVAL); /* of two sessions */
    op_open(&box[1]);
    refused(two, 2, EINVAL); /* OpenSession among others */
    op_create(&box[0], 0, 3, "a", mount.next_ino);
    refused(two, 1, EINVAL); /* of no session */
    op_init(&box[0], mount.session, 3);
    refused(two, 1, EINVAL); /* nothing in it */
    op_close(&box[0], mount.session, 3);
    box[0].body.close.expired = true;
    refused(two, 1, EINVAL); /* not the mount's to say */
    op_init(&box[0], mount.session, 3);
    gabion__reap_orphans__init(&box[0].body.reap);
    box[0].op.body_case = GABION__OP__BODY_REAP_ORPHANS;
    box[0].op.reap_orphans = &box[0].body.reap;
    refused(two, 1, EINVAL);
    op_create(&box[0], mount.session, 3, "a/b", mount.next_ino);
    refused(two, 1, EINVAL); /* no such name */
    op_create(&box[0], 999999, 3, "a", mount.next_ino);
    refused(two, 1, ESTALE); /* unknown session */
    op_create(&box[0], mount.session, 3, "a", mount.next_ino);
    for (unsigned i = 0; i <= SHARD_OPS_MAX; i++) {
        many[i] = &box[0].op;
    }
    refused(many, SHARD_OPS_MAX + 1, EINVAL);
    (void)create(&mount, "a");
}
END_TEST

START_TEST(refused_requests_are_logged_once)
{
    Gabion__GetAttrRequest request = GABION__GET_ATTR_REQUEST__INIT;
    char text[4096] = "";
    int saved = dup(STDERR_FILENO);
    FILE *log = tmpfile();
    const char *found;

    ck_assert_ptr_nonnull(log);
    (void)dup2(fileno(log), STDERR_FILENO);
    request.cluster = CLUSTER;
    for (unsigned i = 0; i < 3; i++) { /* inode 0 is none */
        free_reply(call("/gabion.Meta/GetAttr", &request.base,
                        &gabion__attr_reply__descriptor));
    }
    (void)dup2(saved, STDERR_FILENO);
    (void)close(saved);
    rewind(log);
    ck_assert_uint_gt(fread(text, 1, sizeof text - 1, log), 0);
    (void)fclose(log);
    found = strstr(text, "request refused");
    ck_assert_ptr_nonnull(found);
    ck_assert_ptr_null(strstr(found + 1, "request refused"));
}
END_TEST

START_TEST(a_submit_without_ops_waits_for_durability)
{
    struct mount mount = open_mount();
    Gabion__SubmitReply *reply;

    (void)create(&mount, "a");
    reply = submit(NULL, 0, true);
    ck_assert_int_eq(reply->error, 0);
    free_reply(reply);
}
END_TEST

static uint64_t n_syncs(void)
{
    struct shard_stats figures;

    shard_get_stats(meta_service_shard(service), &figures);
    return figures.syncs;
}

/* Numbers that a loss of power took back would be given out twice. */
START_TEST(numbers_are_given_out_durably)
{
    uint64_t before = n_syncs();
    struct op_box box;
    uint64_t session;

    op_open(&box);
    ck_assert_int_eq(submit_op(&box, &session), 0);
    ck_assert_uint_gt(n_syncs(), before);
    before = n_syncs();
    op_reserve(&box, session, 2, 10);
    ck_assert_int_eq(submit_op(&box, NULL), 0);
    ck_assert_uint_gt(n_syncs(), before);
}
END_TEST

static Gabion__CheckShardReply *ask_check(uint64_t check)
{
    Gabion__CheckShardRequest request = GABION__CHECK_SHARD_REQUEST__INIT;

    request.cluster = CLUSTER;
    request.check = check;
    return call("/gabion.Meta/CheckShard", &request.base,
                &gabion__check_shard_reply__descriptor);
}

/* Begin a check and wait until it is done. */
static Gabion__CheckShardReply *check_shard(void)
{
    int64_t deadline_ms = clock_mono_ms() + 20000;
    Gabion__CheckShardReply *reply = ask_check(0);

    while (reply->error == 0 && !reply->done) {
        uint64_t check = reply->check;

        ck_assert_uint_ne(check, 0);
        ck_assert(look_again(deadline_ms));
        free_reply(reply);
        reply = ask_check(check);
    }
    return reply;
}

START_TEST(the_database_is_checked_on_request)
{
    struct mount mount = open_mount();
    Gabion__CheckShardReply *reply = ask_check(7);
    uint64_t check;
    sqlite3 *sqlite;

    ck_assert_msg(reply->error == ESTALE, "there is no check yet");
    free_reply(reply);
    (void)create(&mount, "a");
    reply = check_shard();
    ck_assert_int_eq(reply->error, 0);
    ck_assert_uint_eq(reply->n_findings, 0);
    check = reply->check;
    free_reply(reply);

    ck_assert_int_eq(sqlite3_open(path, &sqlite), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(sqlite,
                                  "UPDATE inode SET nlink = 5 WHERE ino > 1",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    (void)sqlite3_close(sqlite);
    reply = ask_check(check);
    ck_assert_msg(reply->done && reply->n_findings == 0, "the result is kept");
    free_reply(reply);
    reply = check_shard();
    ck_assert_uint_eq(reply->check, check + 1);
    ck_assert_uint_eq(reply->n_findings, 1);
    ck_assert_ptr_nonnull(strstr(reply->finding[0], "nlink 5, names 1"));
    free_reply(reply);
}
END_TEST

START_TEST(a_silent_session_expires_and_others_live)
{
    int64_t deadline_ms = clock_mono_ms() + 20000;
    struct mount silent = open_mount();
    struct mount alive = open_mount();
    struct op_box box;

    ck_assert_int_eq(beat(&silent, 0, NULL, 0), 0);
    __atomic_store_n(&clock_offset_ms, META_EXPIRY_MS - 2000, __ATOMIC_SEQ_CST);
    ck_assert_int_eq(beat(&alive, 0, NULL, 0), 0);
    __atomic_store_n(&clock_offset_ms, META_EXPIRY_MS, __ATOMIC_SEQ_CST);
    while (stats().n_sessions > 1) {
        ck_assert(look_again(deadline_ms));
    }
    ck_assert_int_eq(beat(&silent, 0, NULL, 0), -ESTALE);
    op_create(&box, silent.session, ++silent.sequence, "a", silent.next_ino);
    ck_assert_int_eq(submit_op(&box, NULL), -ESTALE);
    ck_assert_int_eq(beat(&alive, 0, NULL, 0), 0);
    (void)create(&alive, "a");
}
END_TEST

/* Stop this process for a while, as a debugger or a frozen machine does. */
static void freeze(unsigned seconds)
{
    pid_t self = getpid();
    pid_t child = fork();

    ck_assert_int_ge(child, 0);
    if (child == 0) {
        (void)kill(self, SIGSTOP);
        (void)sleep(seconds);
        (void)kill(self, SIGCONT);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
}

START_TEST(sessions_outlive_a_time_when_nobody_could_hear_them)
{
    struct mount mount;

    stop_service();
    expiry_ms = 3000;
    start_service();
    mount = open_mount();
    ck_assert_int_eq(beat(&mount, 0, NULL, 0), 0);
    (void)usleep(1500 * 1000); /* the reaper waits for the session */
    freeze(5);
    (void)usleep(500 * 1000);
    ck_assert_int_eq(beat(&mount, 0, NULL, 0), 0);
    (void)create(&mount, "a");
}
END_TEST

START_TEST(a_closed_session_is_gone)
{
    struct mount mount = open_mount();
    struct op_box box;

    op_close(&box, mount.session, ++mount.sequence);
    ck_assert_int_eq(submit_op(&box, NULL), 0);
    ck_assert_int_eq(beat(&mount, 0, NULL, 0), -ESTALE);
    ck_assert_uint_eq(stats().n_sessions, 0);
}
END_TEST

START_TEST(sessions_live_on_over_a_restart_and_then_expire)
{
    int64_t restart_ms = 10ll * META_EXPIRY_MS;
    int64_t deadline_ms;
    struct mount mount = open_mount();
    struct mount silent = open_mount();

    stop_service();
    __atomic_store_n(&clock_offset_ms, restart_ms, __ATOMIC_SEQ_CST);
    start_service();
    ck_assert_uint_gt(open_mount().session, silent.session);
    ck_assert_int_eq(beat(&silent, 0, NULL, 0), 0);
    __atomic_store_n(&clock_offset_ms, restart_ms + META_EXPIRY_MS - 2000,
                     __ATOMIC_SEQ_CST);
    (void)create(&mount, "a");
    ck_assert_uint_eq(stats().n_sessions, 3);
    __atomic_store_n(&clock_offset_ms, restart_ms + META_EXPIRY_MS,
                     __ATOMIC_SEQ_CST);
    deadline_ms = clock_mono_ms() + 10000;
    while (stats().n_sessions > 1) {
        ck_assert(look_again(deadline_ms));
    }
    ck_assert_int_eq(beat(&silent, 0, NULL, 0), -ESTALE);
    ck_assert_int_eq(beat(&mount, 0, NULL, 0), 0);
}
END_TEST

/* The number of the orphan that this inode is, as told to the mount. */
static uint64_t orphan_number(const struct mount *mount, uint64_t ino)
{
    Gabion__HeartbeatReply *reply = heartbeat(mount, 0, NULL, 0);
    uint64_t number = 0;

    for (size_t i = 0; i < reply->n_orphan; i++) {
        if (reply->orphan[i]->ino == ino) {
            number = reply->orphan[i]->number;
        }
    }
    free_reply(reply);
    return number;
}

static void unlink_file(struct mount *mount, const char *name)
{
    struct op_box box;

    op_unlink(&box, mount->session, ++mount->sequence, name);
    ck_assert_int_eq(submit_op(&box, NULL), 0);
}

START_TEST(an_orphan_lives_until_both_sessions_have_seen_and_none_holds_it)
{
    int64_t deadline_ms = clock_mono_ms() + 20000;
    struct mount a = open_mount();
    struct mount b = open_mount();
    uint64_t held = create(&a, "held");
    uint64_t free_now = create(&a, "free now");
    uint64_t unseen = create(&a, "unseen");
    uint64_t number, last;

    unlink_file(&b, "held");
    unlink_file(&b, "free now");
    unlink_file(&b, "unseen");
    number = orphan_number(&a, free_now);
    last = orphan_number(&a, unseen);
    ck_assert_uint_gt(number, orphan_number(&a, held));
    ck_assert_uint_gt(last, number);

    /* Once the one in the middle is gone, the others have been looked at and
     * spared. */
    ck_assert_int_eq(beat(&a, last, &held, 1), 0);
    ck_assert_int_eq(get_attr(free_now), 0);
    ck_assert_int_eq(beat(&b, number, NULL, 0), 0);
    while (get_attr(free_now) == 0) {
        ck_assert(look_again(deadline_ms));
    }
    ck_assert_int_eq(get_attr(held), 0);
    ck_assert_int_eq(get_attr(unseen), 0);

    ck_assert_int_eq(beat(&b, last, NULL, 0), 0);
    while (get_attr(unseen) == 0) {
        ck_assert(look_again(deadline_ms));
    }
    ck_assert_int_eq(get_attr(held), 0);
    ck_assert_int_eq(beat(&a, last, NULL, 0), 0);
    while (get_attr(held) == 0) {
        ck_assert(look_again(deadline_ms));
    }
    ck_assert_uint_eq(stats().n_inodes, 1);
}
END_TEST

START_TEST(orphans_of_an_expired_session_are_reaped)
{
    int64_t deadline_ms = clock_mono_ms() + 20000;
    struct mount a = open_mount();
    struct mount b = open_mount();
    uint64_t ino = create(&a, "file");
    uint64_t number;
    struct op_box box;

    op_unlink(&box, b.session, ++b.sequence, "file");
    ck_assert_int_eq(submit_op(&box, NULL), 0);
    number = orphan_number(&a, ino);
    ck_assert_int_eq(beat(&a, number, &ino, 1), 0);
    __atomic_store_n(&clock_offset_ms, META_EXPIRY_MS - 2000, __ATOMIC_SEQ_CST);
    ck_assert_int_eq(beat(&b, number, NULL, 0), 0);
    __atomic_store_n(&clock_offset_ms, META_EXPIRY_MS, __ATOMIC_SEQ_CST);
    while (get_attr(ino) == 0) {
        ck_assert(look_again(deadline_ms));
    }
    ck_assert_int_eq(beat(&b, number, NULL, 0), 0);
}
END_TEST

START_TEST(a_full_node_takes_only_what_takes_away)
{
    struct mount mount = open_mount();
    uint64_t ino = create(&mount, "a");
    struct op_box box;

    (void)create(&mount, "b");
    stop_service();
    reserve = INT64_MAX;
    start_service();

    op_create(&box, mount.session, ++mount.sequence, "c", mount.next_ino);
    ck_assert_int_eq(submit_op(&box, NULL), -ENOSPC);
    op_commit(&box, mount.session, ++mount.sequence, ino,
              &(struct object_id){ mount.session, 1 });
    ck_assert_int_eq(submit_op(&box, NULL), -ENOSPC);
    ck_assert_int_eq(get_attr(ino), 0);
    unlink_file(&mount, "b");
    (void)open_mount();

    stop_service();
    reserve = 0;
    start_service();
    (void)create(&mount, "c");
}
END_TEST

/* An object of the mount with or without the node in its list. */
static struct object_id find_object(const struct mount *mount,
                                    uint32_t node,
                                    bool with)
{
    struct object_id id = { mount->session, 1 };

    for (;; id.serial++) {
        const uint32_t *nodes = placement_nodes(map->placement, &id);
        bool found = false;

        for (unsigned i = 0; i < WIDTH; i++) {
            found = found || nodes[i] == node;
        }
        if (found == with) {
            return id;
        }
    }
}

/* Whether every node of the object's list but `except` was told to delete it,
 * and no other one. */
static bool is_told(const struct object_id *object, uint32_t except)
{
    const uint32_t *nodes = placement_nodes(map->placement, object);

    for (uint32_t id = 1; id <= NODES; id++) {
        bool listed = false;

        for (unsigned i = 0; i < WIDTH; i++) {
            listed = listed || nodes[i] == id;
        }
        if (!listed) {
            ck_assert_uint_eq(times_deleted(&fakes[id - 1], object), 0);
        } else if (id != except && times_deleted(&fakes[id - 1], object) == 0) {
            return false;
        }
    }
    return true;
}

START_TEST(garbage_is_deleted_once_from_every_node_of_its_list)
{
    int64_t deadline_ms = clock_mono_ms() + 20000;
    struct mount mount = open_mount();
    struct object_id dead = find_object(&mount, 1, true);
    struct object_id alive = find_object(&mount, 1, false);

    write_object(&mount, create(&mount, "dead"), &dead);
    write_object(&mount, create(&mount, "alive"), &alive);
    unlink_file(&mount, "dead");
    while (stats().n_objects > 1 || stats().n_garbage > 0) {
        ck_assert_int_eq(beat(&mount, UINT32_MAX, NULL, 0), 0);
        ck_assert(look_again(deadline_ms));
    }
    ck_assert(is_told(&dead, 0));
    for (unsigned i = 0; i < NODES; i++) {
        ck_assert_uint_le(times_deleted(&fakes[i], &dead), 1);
        ck_assert_uint_eq(times_deleted(&fakes[i], &alive), 0);
    }
}
END_TEST

/* A loss of power would bring the name back, and with it the need for the
 * object. */
START_TEST(garbage_is_kept_until_what_made_it_garbage_is_durable)
{
    int64_t deadline_ms = clock_mono_ms() + 20000;
    struct mount mount = open_mount();
    struct object_id dead = find_object(&mount, 1, true);

    write_object(&mount, create(&mount, "dead"), &dead);
    free_reply(submit(NULL, 0, true));
    __atomic_store_n(&holds_syncs, true, __ATOMIC_SEQ_CST);
    unlink_file(&mount, "dead");
    while (stats().n_garbage == 0) {
        ck_assert_int_eq(beat(&mount, UINT32_MAX, NULL, 0), 0);
        ck_assert(look_again(deadline_ms));
    }
    (void)usleep(1500 * 1000); /* longer than between two passes */
    for (unsigned i = 0; i < NODES; i++) {
        ck_assert_uint_eq(times_deleted(&fakes[i], &dead), 0);
    }
    __atomic_store_n(&holds_syncs, false, __ATOMIC_SEQ_CST);
    while (!is_told(&dead, 0)) {
        ck_assert(look_again(deadline_ms));
    }
}
END_TEST

START_TEST(a_node_that_is_down_holds_up_only_its_own_garbage)
{
    int64_t deadline_ms = clock_mono_ms() + 40000;
    struct mount mount = open_mount();
    struct object_id waiting = find_object(&mount, 2, true);
    struct object_id other = find_object(&mount, 2, false);

    fake_stop(&fakes[1]);
    write_object(&mount, create(&mount, "waiting"), &waiting);
    write_object(&mount, create(&mount, "other"), &other);
    unlink_file(&mount, "waiting");
    while (!is_told(&waiting, 2)) {
        ck_assert_int_eq(beat(&mount, UINT32_MAX, NULL, 0), 0);
        ck_assert(look_again(deadline_ms));
    }
    unlink_file(&mount, "other");
    while (stats().n_objects > 1) {
        ck_assert_int_eq(beat(&mount, UINT32_MAX, NULL, 0), 0);
        ck_assert(look_again(deadline_ms));
    }
    ck_assert(is_told(&other, 0));
    ck_assert_uint_eq(stats().n_garbage, 1);

    fake_start(&fakes[1]);
    while (stats().n_garbage > 0) {
        ck_assert(look_again(deadline_ms));
    }
    ck_assert(is_told(&waiting, 0));
    /* Those that had answered were left in peace. */
    for (unsigned i = 0; i < NODES; i++) {
        ck_assert_uint_le(times_deleted(&fakes[i], &waiting), 1);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("meta_service");
    TCase *tcase = tcase_create("meta_service");
    SRunner *runner = srunner_create(suite);
    int n_failed;

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    /* First, as without forks the others use up its message. */
    tcase_add_test(tcase, refused_requests_are_logged_once);
    tcase_add_test(tcase, names_and_attributes_can_be_written_and_read);
    tcase_add_test(tcase, symlinks_and_xattrs_can_be_written_and_read);
    tcase_add_test(tcase, committed_extents_are_in_the_layout);
    tcase_add_test(tcase, a_layout_reply_of_inline_bytes_stays_below_4_mib);
    tcase_add_test(tcase, a_reply_lists_no_more_entries_than_the_limit);
    tcase_add_test(tcase, the_database_is_checked_on_request);
    tcase_add_loop_test(tcase, requests_for_another_cluster_are_refused, 0,
                        (int)(sizeof methods_table / sizeof *methods_table));
    tcase_add_test(tcase, reads_out_of_range_are_refused);
    tcase_add_test(tcase, ops_that_a_mount_may_not_send_are_refused);
    tcase_add_test(tcase, a_submit_without_ops_waits_for_durability);
    tcase_add_test(tcase, numbers_are_given_out_durably);
    tcase_add_test(tcase, a_silent_session_expires_and_others_live);
    tcase_add_test(tcase, sessions_outlive_a_time_when_nobody_could_hear_them);
    tcase_add_test(tcase, a_closed_session_is_gone);
    tcase_add_test(tcase, sessions_live_on_over_a_restart_and_then_expire);
    tcase_add_test(
        tcase, an_orphan_lives_until_both_sessions_have_seen_and_none_holds_it);
    tcase_add_test(tcase, orphans_of_an_expired_session_are_reaped);
    tcase_add_test(tcase, a_full_node_takes_only_what_takes_away);
    tcase_add_test(tcase, garbage_is_deleted_once_from_every_node_of_its_list);
    tcase_add_test(tcase,
                   garbage_is_kept_until_what_made_it_garbage_is_durable);
    tcase_add_test(tcase, a_node_that_is_down_holds_up_only_its_own_garbage);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_ENV);
    n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
