#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/wire_sample.h"

static void *member(ProtobufCMessage *message, unsigned offset)
{
    return (uint8_t *)message + offset;
}

static bool is_wide(ProtobufCType type)
{
    return type == PROTOBUF_C_TYPE_UINT64 || type == PROTOBUF_C_TYPE_INT64 ||
           type == PROTOBUF_C_TYPE_SINT64 || type == PROTOBUF_C_TYPE_FIXED64;
}

/* Another number, often a near one. */
static void mutate_number(void *at, ProtobufCType type)
{
    uint64_t number = 0;
    uint32_t narrow;

    if (type != PROTOBUF_C_TYPE_BOOL && fuzz_one_in(2)) {
        memcpy(&number, at, is_wide(type) ? 8 : 4);
        number += fuzz_below(2049) - 1024;
    } else {
        number = fuzz_number();
    }
    narrow = (uint32_t)number;
    if (type == PROTOBUF_C_TYPE_BOOL) {
        narrow = narrow & 1;
        memcpy(at, &narrow, sizeof(protobuf_c_boolean));
    } else if (is_wide(type)) {
        memcpy(at, &number, sizeof number);
    } else {
        memcpy(at, &narrow, sizeof narrow);
    }
}

/* Another length at which limits lie, or another byte. */
static void mutate_bytes(ProtobufCBinaryData *bytes)
{
    static const size_t lengths[] = { 0,    1,    2,     15,    16,    17,
                                      255,  256,  4095,  4096,  16384, 16385,
                                      8192, 1024, 65536, 65537, 70000 };
    size_t length = lengths[fuzz_below(sizeof lengths / sizeof *lengths)];
    uint8_t *grown;

    if (bytes->len > 0 && fuzz_one_in(2)) {
        bytes->data[fuzz_below(bytes->len)] =
            fuzz_one_in(3) ? (uint8_t) "/.\0"[fuzz_below(3)] : fuzz_byte();
        return;
    }
    grown = realloc(bytes->data, length + 1);
    if (grown == NULL) {
        abort();
    }
    if (length > bytes->len) {
        memset(grown + bytes->len, 'x', length - bytes->len);
    }
    bytes->data = grown;
    bytes->len = length;
    if (length == 0) {
        free(grown);
        bytes->data = NULL;
    }
}

/* Strings may be the default, which is not ours to change. */
static void mutate_string(char **text, const char *fallback)
{
    size_t length = fuzz_one_in(3) ? 250 + fuzz_below(10) : fuzz_below(30);
    char *fresh = malloc(length + 1);

    if (fresh == NULL) {
        abort();
    }
    memset(fresh, 'h', length);
    fresh[length] = '\0';
    if (length > 0) {
        fresh[fuzz_below(length)] = (char)fuzz_byte();
    }
    if (*text != fallback) {
        free(*text);
    }
    *text = fresh;
}

static void mutate_value(const ProtobufCFieldDescriptor *field, void *at)
{
    ProtobufCMessage **part = at;

    switch (field->type) {
    case PROTOBUF_C_TYPE_MESSAGE:
        if (*part != NULL) {
            wire_mutate_field(*part);
        }
        break;
    case PROTOBUF_C_TYPE_BYTES:
        mutate_bytes(at);
        break;
    case PROTOBUF_C_TYPE_STRING:
        mutate_string(at, field->default_value);
        break;
    default:
        mutate_number(at, field->type);
        break;
    }
}

static size_t value_size(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_MESSAGE:
    case PROTOBUF_C_TYPE_STRING:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    default:
        return is_wide(type) ? 8 : 4;
    }
}

/* Change one value of a list, or the order of two. */
static void mutate_list(const ProtobufCFieldDescriptor *field,
                        ProtobufCMessage *message)
{
    size_t n = *(size_t *)member(message, field->quantifier_offset);
    uint8_t *list = *(uint8_t **)member(message, field->offset);
    size_t size = value_size(field->type);
    uint8_t kept[sizeof(ProtobufCBinaryData)];
    size_t i;
    size_t j;

    if (n == 0) {
        return;
    }
    i = fuzz_below(n);
    j = fuzz_below(n);
    if (!fuzz_one_in(4)) {
        mutate_value(field, list + i * size);
        return;
    }
    memcpy(kept, list + i * size, size);
    memmove(list + i * size, list + j * size, size);
    memcpy(list + j * size, kept, size);
}

/* Take a part away: only whole ones, of which NULL is the absence. */
static bool drop_part(const ProtobufCFieldDescriptor *field, void *at)
{
    ProtobufCMessage **part = at;

    if (field->type != PROTOBUF_C_TYPE_MESSAGE || *part == NULL ||
        (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0 || !fuzz_one_in(8)) {
        return false;
    }
    protobuf_c_message_free_unpacked(*part, NULL);
    *part = NULL;
    return true;
}

void wire_mutate_field(ProtobufCMessage *message)
{
    const ProtobufCMessageDescriptor *type = message->descriptor;
    const ProtobufCFieldDescriptor *field;
    void *at;

    if (type->n_fields == 0) {
        return;
    }
    do {
        field = &type->fields[fuzz_below(type->n_fields)];
        at = member(message, field->offset);
        /* of a oneof, the member that is there */
    } while ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0 &&
             *(uint32_t *)member(message, field->quantifier_offset) !=
                 field->id);
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        mutate_list(field, message);
    } else if (!drop_part(field, at)) {
        mutate_value(field, at);
    }
}
