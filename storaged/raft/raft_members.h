/* The members of a group, and their form in entries of kind ENTRY_CHANGE.
 *
 * libraft reads such entries itself, so the form is its own (version 1: a byte
 * 1, the number of servers, then id, address and role of each; integers of 64
 * bits, little-endian; addresses end with a zero byte; padded with zeros to a
 * multiple of 8). It reads without looking where the bytes end: whatever comes
 * from a disk or a peer must pass raft_members_decode() first. The address is
 * "NODE/ID", so that no two are equal, which libraft wants. */
#pragma once

#include "storaged/raft/raft_types.h"

/* Bytes of an address with its zero. */
#define RAFT_ADDRESS_MAX 32u

/* Errors: -EBADMSG not in the form above, no members, too many, ids or
 * addresses that are not valid, no voter, something after the last one. */
MUST_CHECK int raft_members_decode(const void *bytes,
                                   size_t size,
                                   struct raft_members *ret_members);

/* `*ret_data` has one reference, the caller's. Errors: -ENOMEM */
MUST_CHECK int raft_members_encode(const struct raft_members *members,
                                   struct buf **ret_data);

/* The member, or NULL; borrowed. */
const struct raft_member *raft_members_find(const struct raft_members *members,
                                            uint64_t id);

/* How many are voters. */
size_t raft_members_voters(const struct raft_members *members);

void raft_members_address(uint64_t id,
                          uint32_t node,
                          char ret_address[RAFT_ADDRESS_MAX]);
