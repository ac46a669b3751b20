/* The limits that the .proto files document, written down a second time, apart
 * from proto/validate: what its checkers accept must lie within them. Each
 * answers whether the message does. */
#pragma once

#include <stdbool.h>

#include "proto/block.pb-c.h"
#include "proto/cluster.pb-c.h"
#include "proto/metadata.pb-c.h"

bool wire_is_key(const Gabion__BlockKey *key);
bool wire_is_object_id(const ProtobufCBinaryData *id);
bool wire_is_name(const ProtobufCBinaryData *name);
bool wire_is_submit(const Gabion__SubmitRequest *request);
bool wire_is_layout(const Gabion__GetLayoutReply *reply);
bool wire_is_map(const Gabion__ClusterMap *map);
