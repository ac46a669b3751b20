#include "tests/fuzz/wire_limits.h"

#include <string.h>

#define KIB ((uint64_t)1 << 10)

static bool in(uint64_t value, uint64_t min, uint64_t max)
{
    return value >= min && value <= max;
}

static bool is_ino(uint64_t ino)
{
    return in(ino, 1, INT64_MAX);
}

/* Non-empty and wholly below the largest off_t. */
static bool is_range(uint64_t offset, uint64_t length)
{
    return in(length, 1, INT64_MAX) && offset <= INT64_MAX - length;
}

static bool has_byte(const ProtobufCBinaryData *bytes, uint8_t byte)
{
    for (size_t i = 0; i < bytes->len; i++) {
        if (bytes->data[i] == byte) {
            return true;
        }
    }
    return false;
}

bool wire_is_object_id(const ProtobufCBinaryData *id)
{
    static const uint8_t zeros[8];

    return id->len == 16 && memcmp(id->data, zeros, 8) != 0 &&
           memcmp(id->data + 8, zeros, 8) != 0;
}

bool wire_is_key(const Gabion__BlockKey *key)
{
    /* 64 MiB in stripes of at least one unit of 4 KiB; 16 + 8 blocks */
    return key != NULL && wire_is_object_id(&key->object) &&
           key->stripe < 16384 && key->index < 24;
}

bool wire_is_name(const ProtobufCBinaryData *name)
{
    bool is_dots = (name->len == 1 && name->data[0] == '.') ||
                   (name->len == 2 && memcmp(name->data, "..", 2) == 0);

    return in(name->len, 1, 255) && !is_dots && !has_byte(name, '/') &&
           !has_byte(name, '\0');
}

static bool is_xattr_name(const ProtobufCBinaryData *name)
{
    return in(name->len, 1, 255) && !has_byte(name, '\0');
}

/* ------------------------------------------------------- objects, extents */

static bool is_coding(uint32_t k, uint32_t m, uint32_t unit)
{
    return in(k, 1, 16) && m <= 8 && in(unit, 4096, 1024 * KIB) &&
           unit % 4096 == 0;
}

static bool is_object(const Gabion__ObjectInfo *object)
{
    return wire_is_object_id(&object->id) &&
           in(object->size, 1, 64 * 1024 * KIB) &&
           is_coding(object->k, object->m, object->unit) &&
           object->missing < (uint64_t)1 << (object->k + object->m);
}

static bool are_objects(Gabion__ObjectInfo *const *objects, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!is_object(objects[i])) {
            return false;
        }
    }
    return true;
}

static bool is_extent(const Gabion__Extent *extent,
                      Gabion__ObjectInfo *const *objects,
                      size_t n_objects)
{
    if (!is_range(extent->offset, extent->length) ||
        extent->object > n_objects) {
        return false;
    }
    if (extent->object == 0) {
        return extent->length <= 16 * KIB && extent->data.len == extent->length;
    }
    return extent->data.len == 0 && extent->object_offset <= 64 * 1024 * KIB &&
           extent->object_offset + extent->length <=
               objects[extent->object - 1]->size;
}

static bool are_extents(Gabion__Extent *const *extents,
                        size_t n,
                        Gabion__ObjectInfo *const *objects,
                        size_t n_objects)
{
    for (size_t i = 0; i < n; i++) {
        if (!is_extent(extents[i], objects, n_objects)) {
            return false;
        }
        if (i > 0 && extents[i]->offset <
                         extents[i - 1]->offset + extents[i - 1]->length) {
            return false;
        }
    }
    return true;
}

bool wire_is_layout(const Gabion__GetLayoutReply *reply)
{
    const Gabion__Attr *attr = reply->attr;

    if (reply->error != 0) {
        return in((uint64_t)(int64_t)reply->error, 1, 4095);
    }
    return attr != NULL && is_ino(attr->ino) && attr->size <= INT64_MAX &&
           attr->parent <= INT64_MAX && (attr->mode & ~0177777u) == 0 &&
           are_objects(reply->object, reply->n_object) &&
           are_extents(reply->extent, reply->n_extent, reply->object,
                       reply->n_object) &&
           (reply->end || reply->n_extent > 0);
}

/* --------------------------------------------------------------------- ops */

static bool is_create(const Gabion__Create *op)
{
    static const char types[] = "\1\2\4\6\10\12\14"; /* S_IFIFO .. S_IFSOCK */
    uint32_t type = op->mode >> 12;
    bool is_link = type == 012;

    return is_ino(op->parent) && wire_is_name(&op->name) && is_ino(op->ino) &&
           in(type, 1, 14) && strchr(types, (int)type) != NULL &&
           op->umask <= 0777 && op->uid != UINT32_MAX &&
           op->gid != UINT32_MAX &&
           (op->rdev == 0 || type == 02 || type == 06) &&
           (is_link ? in(op->target.len, 1, 4095) : op->target.len == 0) &&
           !has_byte(&op->target, '\0');
}

static bool is_rename(const Gabion__Rename *op)
{
    return is_ino(op->parent) && wire_is_name(&op->name) &&
           is_ino(op->new_parent) && wire_is_name(&op->new_name) &&
           op->flags <= 2;
}

static bool is_set_attr(const Gabion__SetAttr *op)
{
    return is_ino(op->ino) && op->valid < 64 &&
           ((op->valid & 1) == 0 || op->mode <= 07777) &&
           ((op->valid & 2) == 0 || op->uid != UINT32_MAX) &&
           ((op->valid & 4) == 0 || op->gid != UINT32_MAX) &&
           ((op->valid & 8) == 0 || op->size <= INT64_MAX);
}

static bool is_commit(const Gabion__CommitWrites *op)
{
    for (size_t i = 0; i < op->n_file; i++) {
        const Gabion__FileWrite *file = op->file[i];

        if (!is_ino(file->ino) || file->end > INT64_MAX ||
            !are_extents(file->extent, file->n_extent, op->object,
                         op->n_object)) {
            return false;
        }
    }
    return are_objects(op->object, op->n_object);
}

/* Of the kernel's hostnames and more, but nothing that splits a line of a log
 * or a value in it. */
static bool is_open(const Gabion__OpenSession *op)
{
    for (const char *c = op->host; *c != '\0'; c++) {
        if (*c <= ' ' || *c > '~' || *c == '"') {
            return false;
        }
    }
    return strlen(op->host) <= 255;
}

static bool are_inos(const Gabion__ReapOrphans *op)
{
    for (size_t i = 0; i < op->n_ino; i++) {
        if (!is_ino(op->ino[i])) {
            return false;
        }
    }
    return true;
}

static bool are_ids(const Gabion__ForgetObjects *op)
{
    for (size_t i = 0; i < op->n_id; i++) {
        if (!wire_is_object_id(&op->id[i])) {
            return false;
        }
    }
    return true;
}

static bool is_body(const Gabion__Op *op)
{
    switch (op->body_case) {
    case GABION__OP__BODY_CREATE:
        return is_create(op->create);
    case GABION__OP__BODY_LINK:
        return is_ino(op->link->ino) && is_ino(op->link->parent) &&
               wire_is_name(&op->link->name);
    case GABION__OP__BODY_UNLINK:
        return is_ino(op->unlink->parent) && wire_is_name(&op->unlink->name);
    case GABION__OP__BODY_RENAME:
        return is_rename(op->rename);
    case GABION__OP__BODY_SET_ATTR:
        return is_set_attr(op->set_attr);
    case GABION__OP__BODY_SET_XATTR:
        return is_ino(op->set_xattr->ino) &&
               is_xattr_name(&op->set_xattr->name) &&
               op->set_xattr->value.len <= 64 * KIB &&
               op->set_xattr->flags <= 2;
    case GABION__OP__BODY_REMOVE_XATTR:
        return is_ino(op->remove_xattr->ino) &&
               is_xattr_name(&op->remove_xattr->name);
    case GABION__OP__BODY_COMMIT_WRITES:
        return is_commit(op->commit_writes);
    case GABION__OP__BODY_ALLOCATE:
        return is_ino(op->allocate->ino) &&
               is_range(op->allocate->offset, op->allocate->length) &&
               in(op->allocate->how, 1, 4);
    case GABION__OP__BODY_CLONE:
        return is_ino(op->clone->source) && is_ino(op->clone->ino) &&
               is_range(op->clone->source_offset, op->clone->length) &&
               is_range(op->clone->offset, op->clone->length);
    case GABION__OP__BODY_OPEN_SESSION:
        return is_open(op->open_session);
    case GABION__OP__BODY_CLOSE_SESSION:
        return op->close_session != NULL;
    case GABION__OP__BODY_RESERVE_INODES:
        return in(op->reserve_inodes->count, 1, 1048576);
    case GABION__OP__BODY_REAP_ORPHANS:
        return are_inos(op->reap_orphans);
    case GABION__OP__BODY_FORGET_OBJECTS:
        return are_ids(op->forget_objects);
    default:
        return false;
    }
}

bool wire_is_submit(const Gabion__SubmitRequest *request)
{
    for (size_t i = 0; i < request->n_op; i++) {
        const Gabion__Op *op = request->op[i];
        bool is_free =
            op->session == 0 || op->body_case == GABION__OP__BODY_OPEN_SESSION;

        if (!is_body(op) || (!is_free && op->sequence <= op->acked)) {
            return false;
        }
        if (i > 0 && (op->session != request->op[i - 1]->session ||
                      op->sequence <= request->op[i - 1]->sequence)) {
            return false;
        }
    }
    return true;
}

/* --------------------------------------------------------------------- map */

static const Gabion__Node *find_node(const Gabion__ClusterMap *map, uint32_t id)
{
    for (size_t i = 0; i < map->n_node; i++) {
        if (map->node[i]->id == id) {
            return map->node[i];
        }
    }
    return NULL;
}

static bool are_nodes(const Gabion__ClusterMap *map)
{
    for (size_t i = 0; i < map->n_node; i++) {
        const Gabion__Node *node = map->node[i];

        if (!in(node->id, 1, 65535) || !in(node->weight, 1, 1000000) ||
            strrchr(node->address, ':') == NULL ||
            find_node(map, node->id) != node) {
            return false;
        }
    }
    return map->n_node > 0;
}

/* Slots 0..1023 once each, on nodes that exist. */
static bool are_shards(const Gabion__ClusterMap *map)
{
    for (uint32_t slot = 0; slot < 1024; slot++) {
        size_t n = 0;

        for (size_t i = 0; i < map->n_shard; i++) {
            n += in(slot, map->shard[i]->first_slot, map->shard[i]->last_slot);
        }
        if (n != 1) {
            return false;
        }
    }
    for (size_t i = 0; i < map->n_shard; i++) {
        if (find_node(map, map->shard[i]->node) == NULL ||
            map->shard[i]->last_slot >= 1024) {
            return false;
        }
    }
    return true;
}

static bool is_placement(const Gabion__ClusterMap *map)
{
    size_t width = map->placement_width;

    if (!in(width, map->policy->k + map->policy->m, map->n_node) ||
        map->n_placement != 4096 * width) {
        return false;
    }
    for (size_t i = 0; i < map->n_placement; i++) {
        if (find_node(map, map->placement[i]) == NULL) {
            return false;
        }
        for (size_t j = i - i % width; j < i; j++) {
            if (map->placement[i] == map->placement[j]) {
                return false;
            }
        }
    }
    return true;
}

bool wire_is_map(const Gabion__ClusterMap *map)
{
    const Gabion__Policy *policy = map->policy;

    return map->id != 0 && map->version != 0 && are_nodes(map) &&
           policy != NULL && is_coding(policy->k, policy->m, policy->unit) &&
           in(policy->min_write, policy->k, policy->k + policy->m) &&
           are_shards(map) && is_placement(map);
}
