#include "storaged/block/record.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <string.h>

#define MAGIC   0x43524247u /* "GBRC" */
#define VERSION 1u

/* Where the checksums start. */
#define CHECKSUMS_AT 48u

static void put_u16(uint8_t *target, uint16_t value)
{
    value = htole16(value);
    memcpy(target, &value, sizeof value);
}

static void put_u32(uint8_t *target, uint32_t value)
{
    value = htole32(value);
    memcpy(target, &value, sizeof value);
}

static void put_u64(uint8_t *target, uint64_t value)
{
    value = htole64(value);
    memcpy(target, &value, sizeof value);
}

static uint32_t get_u16(const uint8_t *source)
{
    uint16_t value;

    memcpy(&value, source, sizeof value);
    return le16toh(value);
}

static uint32_t get_u32(const uint8_t *source)
{
    uint32_t value;

    memcpy(&value, source, sizeof value);
    return le32toh(value);
}

static uint64_t get_u64(const uint8_t *source)
{
    uint64_t value;

    memcpy(&value, source, sizeof value);
    return le64toh(value);
}

/* Where the header's own checksum lies, behind those of the payload. */
static size_t header_crc_at(size_t units)
{
    return CHECKSUMS_AT + 4 * units;
}

void record_encode(const struct record *record,
                   const struct record_place *place,
                   uint8_t ret_header[RECORD_HEADER_MAX])
{
    uint32_t units = (uint32_t)checksum_units(record->length);
    uint8_t *at = ret_header + CHECKSUMS_AT;

    assert(record->length > 0 && record->length <= RECORD_PAYLOAD_MAX);
    assert(place->offset % RECORD_ALIGN == 0);
    put_u32(ret_header, MAGIC);
    ret_header[4] = VERSION;
    ret_header[5] = (uint8_t)record->type;
    put_u16(ret_header + 6, (uint16_t)units);
    put_u64(ret_header + 8, place->salt);
    object_id_encode(&record->key.object, ret_header + 16);
    put_u32(ret_header + 32, record->key.stripe);
    put_u32(ret_header + 36, record->key.index);
    put_u32(ret_header + 40, record->length);
    put_u32(ret_header + 44, place->offset / RECORD_ALIGN);
    for (size_t i = 0; i < units; i++, at += 4) {
        put_u32(at, record->checksums[i]);
    }
    put_u32(at, checksum_crc32c(ret_header, (size_t)(at - ret_header)));
}

int record_is_likely(const uint8_t *bytes, uint64_t salt)
{
    return get_u32(bytes) == MAGIC && get_u64(bytes + 8) == salt;
}

int record_decode(const uint8_t *bytes,
                  size_t size,
                  const struct record_place *place,
                  struct record *ret_record)
{
    uint32_t length;
    uint32_t units;
    uint32_t type;

    if (size < RECORD_HEADER_MIN || !record_is_likely(bytes, place->salt) ||
        bytes[4] != VERSION) {
        return -EBADMSG;
    }
    type = bytes[5];
    units = get_u16(bytes + 6);
    length = get_u32(bytes + 40);
    if ((type != RECORD_BLOCK && type != RECORD_TOMBSTONE) || length == 0 ||
        length > RECORD_PAYLOAD_MAX || units != checksum_units(length) ||
        size < record_header_size(length) ||
        get_u32(bytes + 44) != place->offset / RECORD_ALIGN ||
        get_u32(bytes + header_crc_at(units)) !=
            checksum_crc32c(bytes, header_crc_at(units))) {
        return -EBADMSG;
    }
    ret_record->type = (enum record_type)type;
    object_id_decode(bytes + 16, &ret_record->key.object);
    ret_record->key.stripe = get_u32(bytes + 32);
    ret_record->key.index = get_u32(bytes + 36);
    ret_record->length = length;
    for (size_t i = 0; i < units; i++) {
        ret_record->checksums[i] = get_u32(bytes + CHECKSUMS_AT + 4 * i);
    }
    return 0;
}
