#include "common/object_id.h"

#include <endian.h>
#include <string.h>

static int compare_u64(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

void object_id_encode(const struct object_id *id, uint8_t ret_bytes[16])
{
    uint64_t halves[2] = { htobe64(id->session), htobe64(id->serial) };

    memcpy(ret_bytes, halves, sizeof halves);
}

void object_id_decode(const uint8_t bytes[16], struct object_id *ret_id)
{
    uint64_t halves[2];

    memcpy(halves, bytes, sizeof halves);
    ret_id->session = be64toh(halves[0]);
    ret_id->serial = be64toh(halves[1]);
}

int object_id_compare(const struct object_id *a, const struct object_id *b)
{
    int order = compare_u64(a->session, b->session);

    return order != 0 ? order : compare_u64(a->serial, b->serial);
}

int block_key_compare(const struct block_key *a, const struct block_key *b)
{
    int order = object_id_compare(&a->object, &b->object);

    if (order == 0) {
        order = compare_u64(a->stripe, b->stripe);
    }
    return order != 0 ? order : compare_u64(a->index, b->index);
}
