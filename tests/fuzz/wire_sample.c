#include "tests/fuzz/wire_sample.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/block.pb-c.h"
#include "proto/cluster.pb-c.h"
#include "proto/metadata.pb-c.h"
#include "tests/fuzz/fuzz.h"

#define N_OPS_MAX   4u
#define N_LIST_MAX  3u
#define N_NODES     6u
#define PARTITIONS  4096u
#define OBJECT_SIZE 65536u

static uint8_t bytes[20000]; /* where all bytes of samples come from */

static ProtobufCBinaryData some_bytes(size_t length)
{
    return (ProtobufCBinaryData){ length, bytes };
}

static ProtobufCBinaryData object_id(void)
{
    static uint8_t id[16];

    memset(id, 1 + (int)fuzz_below(250), sizeof id);
    return (ProtobufCBinaryData){ sizeof id, id };
}

/* A name of this length: pieces of one long text. */
static ProtobufCBinaryData name(void)
{
    memset(bytes, 'n', sizeof bytes);
    return some_bytes(1 + fuzz_below(fuzz_one_in(3) ? 255 : 9));
}

static uint64_t ino(void)
{
    return fuzz_one_in(4) ? INT64_MAX - fuzz_below(2) : 1 + fuzz_below(100);
}

/* ------------------------------------------------------------------ extents */

/* Objects, and extents of them and of inline bytes in file order. */
struct layout {
    Gabion__ObjectInfo object[N_LIST_MAX], *objects[N_LIST_MAX];
    Gabion__Extent extent[N_LIST_MAX], *extents[N_LIST_MAX];
    size_t n_objects;
    size_t n_extents;
};

static void fill_layout(struct layout *layout)
{
    uint64_t end = fuzz_below(100000);

    layout->n_objects = fuzz_below(N_LIST_MAX + 1);
    layout->n_extents = 1 + fuzz_below(N_LIST_MAX);
    for (size_t i = 0; i < layout->n_objects; i++) {
        Gabion__ObjectInfo *object = &layout->object[i];

        gabion__object_info__init(object);
        object->id = object_id();
        object->size = OBJECT_SIZE;
        object->k = 1 + (uint32_t)fuzz_below(16);
        object->m = (uint32_t)fuzz_below(9);
        object->unit = 4096 * (1 + (uint32_t)fuzz_below(256));
        object->missing = (uint32_t)fuzz_below(2);
        layout->objects[i] = object;
    }
    for (size_t i = 0; i < layout->n_extents; i++) {
        Gabion__Extent *extent = &layout->extent[i];

        gabion__extent__init(extent);
        extent->offset = end + fuzz_below(2) * 512;
        extent->object = (uint32_t)fuzz_below(layout->n_objects + 1);
        extent->length = 1 + fuzz_below(16384);
        if (extent->object == 0) {
            extent->data = some_bytes(extent->length);
        } else {
            extent->object_offset = OBJECT_SIZE - extent->length;
        }
        end = extent->offset + extent->length;
        layout->extents[i] = extent;
    }
}

size_t wire_sample_layout(uint8_t *ret_data)
{
    Gabion__GetLayoutReply reply;
    Gabion__Attr attr = GABION__ATTR__INIT;
    struct layout layout;

    gabion__get_layout_reply__init(&reply);
    fill_layout(&layout);
    attr.ino = ino();
    attr.mode = 0100644;
    attr.size = fuzz_draw() >> 1;
    reply.attr = &attr;
    reply.object = layout.objects;
    reply.n_object = layout.n_objects;
    reply.extent = layout.extents;
    reply.n_extent = layout.n_extents;
    reply.end = fuzz_one_in(2);
    return protobuf_c_message_pack(&reply.base, ret_data);
}

/* ---------------------------------------------------------------------- ops */

/* The parts of an op's body. */
struct body {
    Gabion__FileWrite file, *files[1];
    struct layout layout;
    uint64_t inos[N_LIST_MAX];
    ProtobufCBinaryData ids[N_LIST_MAX];
    union {
        Gabion__Create create;
        Gabion__Link link;
        Gabion__Unlink unlink;
        Gabion__Rename rename;
        Gabion__SetAttr set_attr;
        Gabion__SetXattr set_xattr;
        Gabion__RemoveXattr remove_xattr;
        Gabion__CommitWrites commit;
        Gabion__Allocate allocate;
        Gabion__Clone clone;
        Gabion__OpenSession open;
        Gabion__CloseSession close;
        Gabion__ReserveInodes reserve;
        Gabion__ReapOrphans reap;
        Gabion__ForgetObjects forget;
    } as;
};

static void fill_create(Gabion__Create *create)
{
    static const uint32_t modes[] = { 0100644, 0040755, 0120777, 0020600,
                                      0060600, 0010600, 0140600 };

    create->parent = ino();
    create->name = name();
    create->ino = ino();
    create->mode = modes[fuzz_below(sizeof modes / sizeof *modes)];
    create->umask = (uint32_t)fuzz_below(01000);
    if (create->mode == 0120777) {
        create->target = some_bytes(1 + fuzz_below(4095));
    }
    create->exclusive = fuzz_one_in(2);
}

static void fill_commit(struct body *body)
{
    fill_layout(&body->layout);
    gabion__file_write__init(&body->file);
    body->file.ino = ino();
    body->file.extent = body->layout.extents;
    body->file.n_extent = body->layout.n_extents;
    body->file.end = fuzz_draw() >> 1;
    body->files[0] = &body->file;
    body->as.commit.object = body->layout.objects;
    body->as.commit.n_object = body->layout.n_objects;
    body->as.commit.file = body->files;
    body->as.commit.n_file = 1;
}

static void fill_lists(struct body *body, bool is_reap)
{
    size_t n = fuzz_below(N_LIST_MAX + 1);

    for (size_t i = 0; i < N_LIST_MAX; i++) {
        body->inos[i] = ino();
        body->ids[i] = object_id();
    }
    if (is_reap) {
        body->as.reap.ino = body->inos;
        body->as.reap.n_ino = n;
    } else {
        body->as.forget.id = body->ids;
        body->as.forget.n_id = n;
    }
}

static void fill_names(struct body *body, Gabion__Op__BodyCase which)
{
    switch (which) {
    case GABION__OP__BODY_LINK:
        body->as.link.ino = ino();
        body->as.link.parent = ino();
        body->as.link.name = name();
        break;
    case GABION__OP__BODY_UNLINK:
        body->as.unlink.parent = ino();
        body->as.unlink.name = name();
        break;
    case GABION__OP__BODY_RENAME:
        body->as.rename.parent = ino();
        body->as.rename.name = name();
        body->as.rename.new_parent = ino();
        body->as.rename.new_name = name();
        body->as.rename.flags = (uint32_t)fuzz_below(3);
        break;
    case GABION__OP__BODY_SET_XATTR:
        body->as.set_xattr.ino = ino();
        body->as.set_xattr.name = name();
        body->as.set_xattr.value = some_bytes(fuzz_below(sizeof bytes));
        break;
    default:
        body->as.remove_xattr.ino = ino();
        body->as.remove_xattr.name = name();
        break;
    }
}

static void fill_body(struct body *body, Gabion__Op__BodyCase which)
{
    switch (which) {
    case GABION__OP__BODY_CREATE:
        fill_create(&body->as.create);
        break;
    case GABION__OP__BODY_SET_ATTR:
        body->as.set_attr.ino = ino();
        body->as.set_attr.valid = (uint32_t)fuzz_below(64);
        break;
    case GABION__OP__BODY_COMMIT_WRITES:
        fill_commit(body);
        break;
    case GABION__OP__BODY_ALLOCATE:
        body->as.allocate.ino = ino();
        body->as.allocate.length = 1 + fuzz_below(100000);
        body->as.allocate.how = 1 + (uint32_t)fuzz_below(4);
        break;
    case GABION__OP__BODY_CLONE:
        body->as.clone.source = ino();
        body->as.clone.ino = ino();
        body->as.clone.length = 1 + fuzz_below(100000);
        break;
    case GABION__OP__BODY_OPEN_SESSION:
    case GABION__OP__BODY_CLOSE_SESSION:
        break;
    case GABION__OP__BODY_RESERVE_INODES:
        body->as.reserve.count = 1 + (uint32_t)fuzz_below(1048576);
        break;
    case GABION__OP__BODY_REAP_ORPHANS:
    case GABION__OP__BODY_FORGET_OBJECTS:
        fill_lists(body, which == GABION__OP__BODY_REAP_ORPHANS);
        break;
    default:
        fill_names(body, which);
        break;
    }
}

static void fill_op(Gabion__Op *op, struct body *body)
{
    const ProtobufCFieldDescriptor *field;
    uint32_t which = GABION__OP__BODY_CREATE + (uint32_t)fuzz_below(15);

    field =
        protobuf_c_message_descriptor_get_field(&gabion__op__descriptor, which);
    memset(body, 0, sizeof *body);
    protobuf_c_message_init(field->descriptor, &body->as);
    fill_body(body, (Gabion__Op__BodyCase)which);
    op->body_case = (Gabion__Op__BodyCase)which;
    op->create = &body->as.create; /* all members are pointers */
}

size_t wire_sample_submit(uint8_t *ret_data)
{
    static struct body bodies[N_OPS_MAX];
    Gabion__SubmitRequest request = GABION__SUBMIT_REQUEST__INIT;
    Gabion__Op ops[N_OPS_MAX];
    Gabion__Op *list[N_OPS_MAX];
    uint64_t sequence = fuzz_draw() >> 2;

    request.op = list;
    request.n_op = 1 + fuzz_below(N_OPS_MAX);
    request.cluster = fuzz_draw();
    for (size_t i = 0; i < request.n_op; i++) {
        gabion__op__init(&ops[i]);
        sequence += 1 + fuzz_below(3);
        ops[i].session = 7;
        ops[i].sequence = sequence;
        ops[i].acked = sequence - 1;
        fill_op(&ops[i], &bodies[i]);
        list[i] = &ops[i];
    }
    return protobuf_c_message_pack(&request.base, ret_data);
}

/* ------------------------------------------------------------------- others */

size_t wire_sample_map(uint8_t *ret_data)
{
    static uint32_t placement[PARTITIONS * N_NODES];
    Gabion__ClusterMap map = GABION__CLUSTER_MAP__INIT;
    Gabion__Policy policy = GABION__POLICY__INIT;
    Gabion__Node node[N_NODES], *nodes[N_NODES];
    Gabion__Shard shard[2], *shards[2] = { &shard[0], &shard[1] };
    char address[N_NODES][32];

    for (size_t i = 0; i < N_NODES; i++) {
        gabion__node__init(&node[i]);
        (void)snprintf(address[i], sizeof address[i], "127.0.0.1:%zu",
                       7001 + i);
        node[i].id = 1 + (uint32_t)i;
        node[i].weight = 1 + (uint32_t)fuzz_below(1000000);
        node[i].address = address[i];
        nodes[i] = &node[i];
    }
    for (size_t i = 0; i < PARTITIONS * N_NODES; i++) {
        placement[i] = 1 + (uint32_t)((i + i / N_NODES) % N_NODES);
    }
    gabion__shard__init(&shard[0]);
    gabion__shard__init(&shard[1]);
    shard[0].node = 1;
    shard[1].node = 1 + (uint32_t)fuzz_below(N_NODES);
    shard[0].last_slot = (uint32_t)fuzz_below(1023);
    shard[1].first_slot = shard[0].last_slot + 1;
    shard[1].last_slot = 1023;
    policy.k = 1 + (uint32_t)fuzz_below(4);
    policy.m = (uint32_t)fuzz_below(3);
    policy.unit = 262144;
    policy.min_write = policy.k + policy.m;
    map.id = 1 + (fuzz_draw() >> 1);
    map.version = 1;
    map.policy = &policy;
    map.node = nodes;
    map.n_node = N_NODES;
    map.shard = shards;
    map.n_shard = 2;
    map.placement = placement;
    map.n_placement = PARTITIONS * N_NODES;
    map.placement_width = N_NODES;
    return protobuf_c_message_pack(&map.base, ret_data);
}

static void fill_key(Gabion__BlockKey *key)
{
    gabion__block_key__init(key);
    key->object = object_id();
    key->stripe = (uint32_t)fuzz_below(16384);
    key->index = (uint32_t)fuzz_below(24);
}

size_t wire_sample_put_block(uint8_t *ret_data)
{
    Gabion__PutBlockRequest request = GABION__PUT_BLOCK_REQUEST__INIT;
    Gabion__BlockKey key;

    fill_key(&key);
    request.key = &key;
    request.data = some_bytes(fuzz_below(100));
    return protobuf_c_message_pack(&request.base, ret_data);
}

size_t wire_sample_get_block(uint8_t *ret_data)
{
    Gabion__GetBlockRequest request = GABION__GET_BLOCK_REQUEST__INIT;
    Gabion__BlockKey key;

    fill_key(&key);
    request.key = &key;
    request.length = 1;
    return protobuf_c_message_pack(&request.base, ret_data);
}

size_t wire_sample_list_blocks(uint8_t *ret_data)
{
    Gabion__ListBlocksRequest request = GABION__LIST_BLOCKS_REQUEST__INIT;
    Gabion__BlockKey key;

    fill_key(&key);
    request.after = &key;
    request.limit = 1;
    return protobuf_c_message_pack(&request.base, ret_data);
}

size_t wire_sample_delete_objects(uint8_t *ret_data)
{
    Gabion__DeleteObjectsRequest request = GABION__DELETE_OBJECTS_REQUEST__INIT;
    ProtobufCBinaryData ids[2] = { object_id(), object_id() };

    request.object = ids;
    request.n_object = 1 + fuzz_below(2);
    return protobuf_c_message_pack(&request.base, ret_data);
}

size_t wire_sample_lookup(uint8_t *ret_data)
{
    Gabion__LookupRequest request = GABION__LOOKUP_REQUEST__INIT;

    request.parent = ino();
    request.name = name();
    return protobuf_c_message_pack(&request.base, ret_data);
}
