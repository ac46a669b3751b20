/* Identifiers of objects and blocks. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define OBJECT_ID_SIZE  16u
#define OBJECT_SIZE_MAX (64u << 20)

/* A 128-bit object id, never used twice: the session that made it, which no
 * other session ever shares, and a serial number of that session. */
struct object_id {
    uint64_t session; /* not 0 */
    uint64_t serial;  /* from 1 */
};

/* Write the id as 16 bytes: both halves big-endian, so that byte order is
 * numeric order. */
void object_id_encode(const struct object_id *id, uint8_t ret_bytes[16]);
void object_id_decode(const uint8_t bytes[16], struct object_id *ret_id);

/* <0, 0, >0 like memcmp(3) on the encoded ids. */
int object_id_compare(const struct object_id *a, const struct object_id *b);

/* Names one block: piece `index` of stripe `stripe` of `object`. */
struct block_key {
    struct object_id object;
    uint32_t stripe; /* from 0 */
    uint32_t index;  /* 0..k-1 data, k..k+m-1 parity */
};

int block_key_compare(const struct block_key *a, const struct block_key *b);
