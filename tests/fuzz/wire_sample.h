/* Valid requests for fuzz_wire, packed; and changes of single fields. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

/* A random SubmitRequest within all limits, of 1..4 ops of one session. */
size_t wire_sample_submit(uint8_t *ret_data);

/* Likewise a GetLayoutReply, a ClusterMap, and any request with a block key, a
 * list of objects, or a name: they are small. */
size_t wire_sample_layout(uint8_t *ret_data);
size_t wire_sample_map(uint8_t *ret_data);
size_t wire_sample_put_block(uint8_t *ret_data);
size_t wire_sample_get_block(uint8_t *ret_data);
size_t wire_sample_list_blocks(uint8_t *ret_data);
size_t wire_sample_delete_objects(uint8_t *ret_data);
size_t wire_sample_lookup(uint8_t *ret_data);

/* Most bytes of a sample. */
#define WIRE_SAMPLE_MAX (512u << 10)

/* Change one field, anywhere in an unpacked message: a number, the length of
 * bytes or text, a list, or whether a part is there at all. */
void wire_mutate_field(ProtobufCMessage *message);
