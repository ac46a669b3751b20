#include "storaged/raft/raft_members.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define FORM_VERSION 1

/* Bytes yet to be read; what is short leaves `data` NULL. */
struct reader {
    const uint8_t *data; /* borrowed */
    size_t size;
};

static const uint8_t *take(struct reader *reader, size_t size)
{
    const uint8_t *at = reader->data;

    if (at == NULL || size > reader->size) {
        reader->data = NULL;
        return NULL;
    }
    reader->data += size;
    reader->size -= size;
    return at;
}

static uint8_t take_byte(struct reader *reader)
{
    const uint8_t *at = take(reader, 1);

    return at != NULL ? *at : 0xff;
}

static uint64_t take_number(struct reader *reader)
{
    const uint8_t *at = take(reader, 8);
    uint64_t value = 0;

    if (at != NULL) {
        memcpy(&value, at, sizeof value);
    }
    return le64toh(value);
}

/* Read an address, which must be the one that `id` has on some node. */
static bool take_address(struct reader *reader, uint64_t id, uint32_t *ret_node)
{
    char wanted[RAFT_ADDRESS_MAX];
    const uint8_t *end =
        reader->data != NULL ? memchr(reader->data, '\0', reader->size) : NULL;
    const char *text =
        end != NULL
            ? (const char *)take(reader, (size_t)(end - reader->data) + 1)
            : NULL;
    uint64_t node = 0;

    if (text == NULL) {
        return false;
    }
    for (const char *c = text; *c >= '0' && *c <= '9' && node <= UINT32_MAX;
         c++) {
        node = node * 10 + (uint64_t)(*c - '0');
    }
    if (node > UINT32_MAX) {
        return false;
    }
    *ret_node = (uint32_t)node;
    raft_members_address(id, *ret_node, wanted);
    return strcmp(text, wanted) == 0;
}

static bool take_member(struct reader *reader, struct raft_members *members)
{
    struct raft_member *member = &members->member[members->n];
    uint8_t role;

    member->id = take_number(reader);
    if (member->id == 0 || raft_members_find(members, member->id) != NULL ||
        !take_address(reader, member->id, &member->node)) {
        return false;
    }
    role = take_byte(reader);
    if (reader->data == NULL || role > MEMBER_SPARE) {
        return false;
    }
    member->role = (enum member_role)role;
    members->n++;
    return true;
}

int raft_members_decode(const void *bytes,
                        size_t size,
                        struct raft_members *ret_members)
{
    struct reader reader = { bytes, size };
    struct raft_members members = { .n = 0 };
    uint64_t n;

    if (take_byte(&reader) != FORM_VERSION) {
        return -EBADMSG;
    }
    n = take_number(&reader);
    if (reader.data == NULL || n == 0 || n > RAFT_MEMBERS_MAX) {
        return -EBADMSG;
    }
    while (members.n < n) {
        if (!take_member(&reader, &members)) {
            return -EBADMSG;
        }
    }
    if (raft_members_voters(&members) == 0 || reader.size >= 8 ||
        size % 8 != 0) {
        return -EBADMSG;
    }
    while (reader.size > 0) {
        if (take_byte(&reader) != 0) {
            return -EBADMSG;
        }
    }
    *ret_members = members;
    return 0;
}

static uint8_t *put_number(uint8_t *at, uint64_t value)
{
    value = htole64(value);
    memcpy(at, &value, sizeof value);
    return at + sizeof value;
}

int raft_members_encode(const struct raft_members *members,
                        struct buf **ret_data)
{
    uint8_t bytes[16 + RAFT_MEMBERS_MAX * (9 + RAFT_ADDRESS_MAX)] = { 0 };
    uint8_t *at = bytes;
    struct buf *data;

    *at++ = FORM_VERSION;
    at = put_number(at, members->n);
    for (size_t i = 0; i < members->n; i++) {
        const struct raft_member *member = &members->member[i];
        char address[RAFT_ADDRESS_MAX];
        size_t length;

        at = put_number(at, member->id);
        raft_members_address(member->id, member->node, address);
        length = strlen(address) + 1;
        memcpy(at, address, length);
        at += length;
        *at++ = (uint8_t)member->role;
    }
    data = buf_new(((size_t)(at - bytes) + 7) & ~(size_t)7);
    if (data == NULL) {
        return -ENOMEM;
    }
    memcpy(data->data, bytes, data->size);
    *ret_data = data;
    return 0;
}

const struct raft_member *raft_members_find(const struct raft_members *members,
                                            uint64_t id)
{
    for (size_t i = 0; i < members->n; i++) {
        if (members->member[i].id == id) {
            return &members->member[i];
        }
    }
    return NULL;
}

size_t raft_members_voters(const struct raft_members *members)
{
    size_t n = 0;

    for (size_t i = 0; i < members->n; i++) {
        if (members->member[i].role == MEMBER_VOTER) {
            n++;
        }
    }
    return n;
}

void raft_members_address(uint64_t id,
                          uint32_t node,
                          char ret_address[RAFT_ADDRESS_MAX])
{
    (void)snprintf(ret_address, RAFT_ADDRESS_MAX, "%" PRIu32 "/%016" PRIx64,
                   node, id);
}
