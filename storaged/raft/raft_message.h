/* Raft's messages: between libraft's structs and those of proto/raft.proto, and
 * the frames that carry those of many groups.
 *
 * Nothing from a peer reaches libraft unchecked: its packages are built without
 * assertions, so that what it "knows" cannot happen goes on silently. */
#pragma once

#include <raft.h>

#include "proto/raft.pb-c.h"
#include "storaged/raft/entry_list.h"
#include "storaged/raft/raft_members.h"
#include "storaged/raft/raft_types.h"

#define RAFT_MESSAGE_ENTRIES_MAX 1024u
#define RAFT_FRAME_MESSAGES_MAX  4096u
#define RAFT_NUMBER_MAX          ((uint64_t)INT64_MAX) /* terms, indexes */

/* Who sends, and what the bodies of messages are filled from. */
struct raft_sender {
    uint32_t group;
    uint64_t replica;
    uint32_t node;
    const struct entry_list *log;        /* borrowed */
    const struct raft_pointer *snapshot; /* borrowed */
};

/* Encode what libraft wants sent. Of APPEND_ENTRIES and INSTALL_SNAPSHOT it
 * leaves the entries and the members to us: they come from the sender's log and
 * snapshot. On success `*ret_message` is the caller's to free by
 * gabion__raft_message__free_unpacked(), and `*ret_node` the node it is for.
 * Errors: -ENOMEM; -EBADMSG libraft wants to send what the sender does not
 * have: they do not agree any more, the replica must stop. */
MUST_CHECK int raft_message_encode(const struct raft_sender *sender,
                                   const struct raft_message *message,
                                   Gabion__RaftMessage **ret_message,
                                   uint32_t *ret_node);

/* Check the form of what a peer says: ranges, what must be there, and that the
 * numbers of a message agree. 0 or -EINVAL with the reason in `msg`. */
MUST_CHECK int raft_message_validate(const Gabion__RaftMessage *message,
                                     struct errmsg *msg);

/* A message in libraft's form, and what it borrows. */
struct raft_incoming {
    struct raft_message message;
    char address[RAFT_ADDRESS_MAX];
};

/* Decode a message that has passed raft_message_validate(). Of APPEND_ENTRIES
 * only the entries at `skip`..skip+n-1 are taken, with what stands before them
 * as the previous one, so that a message can be delivered in parts. For other
 * types skip and n are 0.
 *
 * Ownership is that of libraft 0.22: raft_step() takes over the one batch with
 * the data of all entries, or the members of a snapshot; the array of entries
 * stays ours, must live until the update has been handled, and is freed by
 * raft_incoming_close(). What is not given to raft_step() is freed by
 * raft_incoming_discard() instead. Errors: -ENOMEM */
MUST_CHECK int raft_message_decode(const Gabion__RaftMessage *message,
                                   size_t skip,
                                   size_t n,
                                   struct raft_incoming *ret_incoming);
void raft_incoming_close(struct raft_incoming *incoming);
void raft_incoming_discard(struct raft_incoming *incoming);

/* Entries as libraft takes them: one array and one batch, both from
 * raft_calloc() and raft_malloc(), the data at offsets that are multiples of 8.
 * `*ret_entries` is NULL when n is 0. Errors: -ENOMEM */
MUST_CHECK int raft_message_entries(Gabion__RaftEntry *const *entries,
                                    size_t n,
                                    struct raft_entry **ret_entries);

/* Members as libraft takes them; the caller closes it by
 * raft_configuration_close() unless raft_step() takes it over. Errors: -ENOMEM
 */
MUST_CHECK int raft_message_members(const struct raft_members *members,
                                    struct raft_configuration *ret_conf);

/* Pack messages, which stay the caller's, into one frame. `*ret_data` has one
 * reference. Errors: -ENOMEM */
MUST_CHECK int raft_frame_pack(uint64_t cluster,
                               Gabion__RaftMessage *const *messages,
                               size_t n,
                               struct buf **ret_data);

/* Unpack a frame and check all of it. `*ret_frame` is the caller's to free by
 * gabion__raft_frame__free_unpacked(). Errors, told in `msg`: -EBADMSG not a
 * frame; -EINVAL a message has not the right form; -ESTALE another cluster */
MUST_CHECK int raft_frame_unpack(const void *bytes,
                                 size_t size,
                                 uint64_t cluster,
                                 Gabion__RaftFrame **ret_frame,
                                 struct errmsg *msg);
