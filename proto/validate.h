/* Form checks of everything that comes in from a peer, before its use: lengths,
 * ranges, required fields, names. Meaning (does the inode exist?) is checked
 * where the message is applied. */
#pragma once

#include "common/err.h"
#include "common/object_id.h"
#include "proto/block.pb-c.h"
#include "proto/cluster.pb-c.h"
#include "proto/metadata.pb-c.h"

/* Longest name of a directory entry or xattr, and longest xattr value. */
#define NAME_LENGTH_MAX    255u
#define XATTR_VALUE_MAX    65536u
#define SYMLINK_LENGTH_MAX 4095u
#define BLOCK_LENGTH_MAX   (1u << 20)
#define STRIPES_MAX        (OBJECT_SIZE_MAX / 4096u)
#define METADATA_SLOTS     1024u

/* Each answers 0 or -EINVAL, with what is wrong in `msg` (may be NULL). */
MUST_CHECK int validate_block_key(const Gabion__BlockKey *key,
                                  struct block_key *ret_key,
                                  struct errmsg *msg);
MUST_CHECK int validate_object_id(const ProtobufCBinaryData *bytes,
                                  struct object_id *ret_id,
                                  struct errmsg *msg);
MUST_CHECK int validate_op(const Gabion__Op *op, struct errmsg *msg);
MUST_CHECK int validate_submit(const Gabion__SubmitRequest *request,
                               struct errmsg *msg);
MUST_CHECK int validate_cluster_map(const Gabion__ClusterMap *map,
                                    struct errmsg *msg);
MUST_CHECK int validate_layout_reply(const Gabion__GetLayoutReply *reply,
                                     struct errmsg *msg);
MUST_CHECK int validate_name(const ProtobufCBinaryData *name,
                             struct errmsg *msg);
