/* Bytes of ours as protobuf-c wants them: its type is not const, although
 * packing never writes to it. Nothing is copied: the bytes must outlive the
 * message. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <protobuf-c/protobuf-c.h>

static inline ProtobufCBinaryData wire_bytes(const void *data, size_t size)
{
    union {
        const void *in;
        uint8_t *out;
    } cast = { .in = data };

    return (ProtobufCBinaryData){ .len = size, .data = cast.out };
}

static inline ProtobufCBinaryData wire_text(const char *text)
{
    return wire_bytes(text, strlen(text));
}
