/* Metadata ops for tests, without the heap. */
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "common/object_id.h"
#include "proto/metadata.pb-c.h"

/* An op with its body. Stays where it is: the op points into the box. */
struct op_box {
    Gabion__Op op;
    union {
        Gabion__Create create;
        Gabion__Unlink unlink;
        Gabion__CommitWrites commit;
        Gabion__OpenSession open;
        Gabion__CloseSession close;
        Gabion__ReserveInodes reserve;
        Gabion__ReapOrphans reap;
    } body;
    Gabion__Op *pointer; /* to op: a list of one */
    char name[64];
    /* CommitWrites of one object with one extent. */
    Gabion__ObjectInfo object, *objects;
    Gabion__Extent extent, *extents;
    Gabion__FileWrite file, *files;
    uint8_t object_id[16];
};

static inline void op_init(struct op_box *box,
                           uint64_t session,
                           uint64_t sequence)
{
    memset(box, 0, sizeof *box);
    gabion__op__init(&box->op);
    box->op.session = session;
    box->op.sequence = sequence;
    box->op.now_ns = 1000000000 + (int64_t)sequence;
    box->pointer = &box->op;
}

static inline void op_open(struct op_box *box)
{
    op_init(box, 0, 1);
    gabion__open_session__init(&box->body.open);
    (void)snprintf(box->name, sizeof box->name, "test");
    box->body.open.host = box->name;
    box->op.body_case = GABION__OP__BODY_OPEN_SESSION;
    box->op.open_session = &box->body.open;
}

static inline void op_close(struct op_box *box,
                            uint64_t session,
                            uint64_t sequence)
{
    op_init(box, session, sequence);
    gabion__close_session__init(&box->body.close);
    box->op.body_case = GABION__OP__BODY_CLOSE_SESSION;
    box->op.close_session = &box->body.close;
}

static inline void op_reserve(struct op_box *box,
                              uint64_t session,
                              uint64_t sequence,
                              uint32_t count)
{
    op_init(box, session, sequence);
    gabion__reserve_inodes__init(&box->body.reserve);
    box->body.reserve.count = count;
    box->op.body_case = GABION__OP__BODY_RESERVE_INODES;
    box->op.reserve_inodes = &box->body.reserve;
}

static inline ProtobufCBinaryData op_set_name(struct op_box *box,
                                              const char *name)
{
    (void)snprintf(box->name, sizeof box->name, "%s", name);
    return (ProtobufCBinaryData){ strlen(box->name), (uint8_t *)box->name };
}

/* A regular file in the root directory. */
static inline void op_create(struct op_box *box,
                             uint64_t session,
                             uint64_t sequence,
                             const char *name,
                             uint64_t ino)
{
    op_init(box, session, sequence);
    gabion__create__init(&box->body.create);
    box->body.create.parent = 1;
    box->body.create.name = op_set_name(box, name);
    box->body.create.ino = ino;
    box->body.create.mode = 0100644;
    box->body.create.exclusive = true;
    box->op.body_case = GABION__OP__BODY_CREATE;
    box->op.create = &box->body.create;
}

static inline void op_unlink(struct op_box *box,
                             uint64_t session,
                             uint64_t sequence,
                             const char *name)
{
    op_init(box, session, sequence);
    gabion__unlink__init(&box->body.unlink);
    box->body.unlink.parent = 1;
    box->body.unlink.name = op_set_name(box, name);
    box->op.body_case = GABION__OP__BODY_UNLINK;
    box->op.unlink = &box->body.unlink;
}

/* The whole content of a file: one new object of 64 KiB. */
static inline void op_commit(struct op_box *box,
                             uint64_t session,
                             uint64_t sequence,
                             uint64_t ino,
                             const struct object_id *object)
{
    op_init(box, session, sequence);
    object_id_encode(object, box->object_id);
    gabion__object_info__init(&box->object);
    box->object.id = (ProtobufCBinaryData){ OBJECT_ID_SIZE, box->object_id };
    box->object.size = 65536;
    box->object.k = 2;
    box->object.m = 1;
    box->object.unit = 32768;
    gabion__extent__init(&box->extent);
    box->extent.length = 65536;
    box->extent.object = 1;
    gabion__file_write__init(&box->file);
    box->file.ino = ino;
    box->extents = &box->extent;
    box->file.extent = &box->extents;
    box->file.n_extent = 1;
    box->file.end = 65536;
    gabion__commit_writes__init(&box->body.commit);
    box->objects = &box->object;
    box->body.commit.object = &box->objects;
    box->body.commit.n_object = 1;
    box->files = &box->file;
    box->body.commit.file = &box->files;
    box->body.commit.n_file = 1;
    box->op.body_case = GABION__OP__BODY_COMMIT_WRITES;
    box->op.commit_writes = &box->body.commit;
}
