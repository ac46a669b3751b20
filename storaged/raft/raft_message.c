/* From and to libraft's structs, and frames. The checks are in
 * raft_message_check.c. */
#include "storaged/raft/raft_message.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ encoding
 */

static int encode_request_vote(const struct raft_request_vote *in,
                               Gabion__RaftMessage *out)
{
    Gabion__RaftRequestVote *body = malloc(sizeof *body);

    if (body == NULL) {
        return -ENOMEM;
    }
    gabion__raft_request_vote__init(body);
    body->version = in->version;
    body->term = in->term;
    body->last_log_index = in->last_log_index;
    body->last_log_term = in->last_log_term;
    body->disrupt_leader = in->disrupt_leader;
    body->pre_vote = in->pre_vote;
    out->request_vote = body;
    out->body_case = GABION__RAFT_MESSAGE__BODY_REQUEST_VOTE;
    return 0;
}

static int encode_request_vote_result(const struct raft_request_vote_result *in,
                                      Gabion__RaftMessage *out)
{
    Gabion__RaftRequestVoteResult *body = malloc(sizeof *body);

    if (body == NULL) {
        return -ENOMEM;
    }
    gabion__raft_request_vote_result__init(body);
    body->version = in->version;
    body->term = in->term;
    body->vote_granted = in->vote_granted;
    body->pre_vote = in->pre_vote;
    body->features = in->features;
    body->capacity = in->capacity;
    out->request_vote_result = body;
    out->body_case = GABION__RAFT_MESSAGE__BODY_REQUEST_VOTE_RESULT;
    return 0;
}

static Gabion__RaftEntry *encode_entry(const struct log_entry *entry)
{
    Gabion__RaftEntry *out = malloc(sizeof *out);

    if (out == NULL) {
        return NULL;
    }
    gabion__raft_entry__init(out);
    out->term = entry->term;
    out->kind = entry->kind;
    out->data.len = entry->data->size;
    if (out->data.len > 0) {
        out->data.data = malloc(out->data.len);
        if (out->data.data == NULL) {
            free(out);
            return NULL;
        }
        memcpy(out->data.data, entry->data->data, out->data.len);
    }
    return out;
}

static int encode_entries(const struct raft_sender *sender,
                          const struct raft_append_entries *in,
                          Gabion__RaftAppendEntries *body)
{
    if (in->n_entries == 0) {
        return 0;
    }
    body->entry = calloc(in->n_entries, sizeof(Gabion__RaftEntry *));
    if (body->entry == NULL) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < in->n_entries; i++) {
        const struct log_entry *entry =
            entry_list_get(sender->log, in->prev_log_index + 1 + i);

        if (entry == NULL) {
            return -EBADMSG;
        }
        body->entry[i] = encode_entry(entry);
        if (body->entry[i] == NULL) {
            return -ENOMEM;
        }
        body->n_entry++;
    }
    return 0;
}

static int encode_append_entries(const struct raft_sender *sender,
                                 const struct raft_append_entries *in,
                                 Gabion__RaftMessage *out)
{
    Gabion__RaftAppendEntries *body = malloc(sizeof *body);

    if (body == NULL) {
        return -ENOMEM;
    }
    gabion__raft_append_entries__init(body);
    out->append_entries = body;
    out->body_case = GABION__RAFT_MESSAGE__BODY_APPEND_ENTRIES;
    body->version = in->version;
    body->term = in->term;
    body->prev_log_index = in->prev_log_index;
    body->prev_log_term = in->prev_log_term;
    body->leader_commit = in->leader_commit;
    return encode_entries(sender, in, body);
}

static int encode_append_entries_result(
    const struct raft_append_entries_result *in,
    Gabion__RaftMessage *out)
{
    Gabion__RaftAppendEntriesResult *body = malloc(sizeof *body);

    if (body == NULL) {
        return -ENOMEM;
    }
    gabion__raft_append_entries_result__init(body);
    body->version = in->version;
    body->term = in->term;
    body->rejected = in->rejected;
    body->last_log_index = in->last_log_index;
    body->features = in->features;
    body->capacity = in->capacity;
    out->append_entries_result = body;
    out->body_case = GABION__RAFT_MESSAGE__BODY_APPEND_ENTRIES_RESULT;
    return 0;
}

static int encode_install_snapshot(const struct raft_sender *sender,
                                   const struct raft_install_snapshot *in,
                                   Gabion__RaftMessage *out)
{
    const struct raft_pointer *snapshot = sender->snapshot;
    Gabion__RaftInstallSnapshot *body;
    struct buf *members;

    if (snapshot->index != in->last_index || snapshot->term != in->last_term) {
        return -EBADMSG;
    }
    body = malloc(sizeof *body);
    if (body == NULL) {
        return -ENOMEM;
    }
    gabion__raft_install_snapshot__init(body);
    out->install_snapshot = body;
    out->body_case = GABION__RAFT_MESSAGE__BODY_INSTALL_SNAPSHOT;
    body->version = in->version;
    body->term = in->term;
    body->last_index = in->last_index;
    body->last_term = in->last_term;
    body->members_index = snapshot->members_index;
    if (raft_members_encode(&snapshot->members, &members) != 0) {
        return -ENOMEM;
    }
    body->members.data = malloc(members->size);
    if (body->members.data != NULL) {
        body->members.len = members->size;
        memcpy(body->members.data, members->data, members->size);
    }
    buf_unref(members);
    return body->members.data != NULL ? 0 : -ENOMEM;
}

static int encode_timeout_now(const struct raft_timeout_now *in,
                              Gabion__RaftMessage *out)
{
    Gabion__RaftTimeoutNow *body = malloc(sizeof *body);

    if (body == NULL) {
        return -ENOMEM;
    }
    gabion__raft_timeout_now__init(body);
    body->version = in->version;
    body->term = in->term;
    body->last_log_index = in->last_log_index;
    body->last_log_term = in->last_log_term;
    out->timeout_now = body;
    out->body_case = GABION__RAFT_MESSAGE__BODY_TIMEOUT_NOW;
    return 0;
}

static int encode_body(const struct raft_sender *sender,
                       const struct raft_message *in,
                       Gabion__RaftMessage *out)
{
    switch (in->type) {
    case RAFT_REQUEST_VOTE:
        return encode_request_vote(&in->request_vote, out);
    case RAFT_REQUEST_VOTE_RESULT:
        return encode_request_vote_result(&in->request_vote_result, out);
    case RAFT_APPEND_ENTRIES:
        return encode_append_entries(sender, &in->append_entries, out);
    case RAFT_APPEND_ENTRIES_RESULT:
        return encode_append_entries_result(&in->append_entries_result, out);
    case RAFT_INSTALL_SNAPSHOT:
        return encode_install_snapshot(sender, &in->install_snapshot, out);
    case RAFT_TIMEOUT_NOW:
        return encode_timeout_now(&in->timeout_now, out);
    default:
        return -EBADMSG;
    }
}

int raft_message_encode(const struct raft_sender *sender,
                        const struct raft_message *message,
                        Gabion__RaftMessage **ret_message,
                        uint32_t *ret_node)
{
    Gabion__RaftMessage *out = malloc(sizeof *out);
    int rc;

    if (out == NULL) {
        return -ENOMEM;
    }
    gabion__raft_message__init(out);
    out->group = sender->group;
    out->from = sender->replica;
    out->to = message->server_id;
    out->from_node = sender->node;
    rc = encode_body(sender, message, out);
    if (rc != 0) {
        gabion__raft_message__free_unpacked(out, NULL);
        return rc;
    }
    /* The address is ours, "NODE/ID". */
    *ret_node = (uint32_t)strtoul(message->server_address, NULL, 10);
    *ret_message = out;
    return 0;
}

/* ------------------------------------------------------------------ decoding
 */

static size_t aligned(size_t size)
{
    return (size + 7) & ~(size_t)7;
}

int raft_message_entries(Gabion__RaftEntry *const *entries,
                         size_t n,
                         struct raft_entry **ret_entries)
{
    struct raft_entry *out;
    size_t size = 8; /* a batch is never empty: raft_step() may free it */
    uint8_t *batch;
    size_t at = 0;

    if (n == 0) {
        *ret_entries = NULL;
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        size += aligned(entries[i]->data.len);
    }
    out = raft_calloc(n, sizeof *out);
    batch = raft_malloc(size);
    if (out == NULL || batch == NULL) {
        raft_free(out);
        raft_free(batch);
        return -ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        out[i].term = entries[i]->term;
        out[i].type = (enum raft_entry_type)entries[i]->kind;
        out[i].buf.base = batch + at;
        out[i].buf.len = entries[i]->data.len;
        out[i].batch = batch;
        if (out[i].buf.len > 0) {
            memcpy(out[i].buf.base, entries[i]->data.data, out[i].buf.len);
        }
        at += aligned(out[i].buf.len);
    }
    *ret_entries = out;
    return 0;
}

int raft_message_members(const struct raft_members *members,
                         struct raft_configuration *ret_conf)
{
    struct raft_configuration conf;

    raft_configuration_init(&conf);
    for (size_t i = 0; i < members->n; i++) {
        const struct raft_member *member = &members->member[i];
        char address[RAFT_ADDRESS_MAX];

        raft_members_address(member->id, member->node, address);
        if (raft_configuration_add(&conf, member->id, address,
                                   (int)member->role) != 0) {
            raft_configuration_close(&conf);
            return -ENOMEM;
        }
    }
    *ret_conf = conf;
    return 0;
}

static void decode_request_vote(const Gabion__RaftMessage *message,
                                struct raft_message *out)
{
    const Gabion__RaftRequestVote *in = message->request_vote;

    out->type = RAFT_REQUEST_VOTE;
    out->request_vote = (struct raft_request_vote){
        .version = (unsigned char)in->version,
        .term = in->term,
        .candidate_id = message->from,
        .last_log_index = in->last_log_index,
        .last_log_term = in->last_log_term,
        .disrupt_leader = in->disrupt_leader,
        .pre_vote = in->pre_vote,
    };
}

static void decode_request_vote_result(const Gabion__RaftRequestVoteResult *in,
                                       struct raft_message *out)
{
    out->type = RAFT_REQUEST_VOTE_RESULT;
    out->request_vote_result = (struct raft_request_vote_result){
        .version = (unsigned char)in->version,
        .term = in->term,
        .vote_granted = in->vote_granted,
        .pre_vote = in->pre_vote,
        .features = (unsigned short)in->features,
        .capacity = (unsigned short)in->capacity,
    };
}

static int decode_append_entries(const Gabion__RaftAppendEntries *in,
                                 size_t skip,
                                 size_t n,
                                 struct raft_message *out)
{
    out->type = RAFT_APPEND_ENTRIES;
    out->append_entries = (struct raft_append_entries){
        .version = (unsigned char)in->version,
        .term = in->term,
        .prev_log_index = in->prev_log_index + skip,
        .prev_log_term =
            skip > 0 ? in->entry[skip - 1]->term : in->prev_log_term,
        .leader_commit = in->leader_commit,
        .n_entries = (unsigned)n,
    };
    return raft_message_entries(in->entry + skip, n,
                                &out->append_entries.entries);
}

static void decode_append_entries_result(
    const Gabion__RaftAppendEntriesResult *in,
    struct raft_message *out)
{
    out->type = RAFT_APPEND_ENTRIES_RESULT;
    out->append_entries_result = (struct raft_append_entries_result){
        .version = (unsigned char)in->version,
        .term = in->term,
        .rejected = in->rejected,
        .last_log_index = in->last_log_index,
        .features = (unsigned short)in->features,
        .capacity = (unsigned short)in->capacity,
    };
}

/* The data is not used: the pointer's index says it all. */
static int decode_install_snapshot(const Gabion__RaftInstallSnapshot *in,
                                   struct raft_message *out)
{
    struct raft_members members;
    int rc = raft_members_decode(in->members.data, in->members.len, &members);

    if (rc != 0) {
        return rc;
    }
    out->type = RAFT_INSTALL_SNAPSHOT;
    out->install_snapshot = (struct raft_install_snapshot){
        .version = (unsigned char)in->version,
        .term = in->term,
        .last_index = in->last_index,
        .last_term = in->last_term,
        .conf_index = in->members_index,
    };
    return raft_message_members(&members, &out->install_snapshot.conf);
}

static void decode_timeout_now(const Gabion__RaftTimeoutNow *in,
                               struct raft_message *out)
{
    out->type = RAFT_TIMEOUT_NOW;
    out->timeout_now = (struct raft_timeout_now){
        .version = (unsigned char)in->version,
        .term = in->term,
        .last_log_index = in->last_log_index,
        .last_log_term = in->last_log_term,
    };
}

int raft_message_decode(const Gabion__RaftMessage *message,
                        size_t skip,
                        size_t n,
                        struct raft_incoming *ret_incoming)
{
    struct raft_message *out = &ret_incoming->message;

    memset(ret_incoming, 0, sizeof *ret_incoming);
    raft_members_address(message->from, message->from_node,
                         ret_incoming->address);
    out->server_id = message->from;
    out->server_address = ret_incoming->address;
    switch (message->body_case) {
    case GABION__RAFT_MESSAGE__BODY_REQUEST_VOTE:
        decode_request_vote(message, out);
        return 0;
    case GABION__RAFT_MESSAGE__BODY_REQUEST_VOTE_RESULT:
        decode_request_vote_result(message->request_vote_result, out);
        return 0;
    case GABION__RAFT_MESSAGE__BODY_APPEND_ENTRIES:
        return decode_append_entries(message->append_entries, skip, n, out);
    case GABION__RAFT_MESSAGE__BODY_APPEND_ENTRIES_RESULT:
        decode_append_entries_result(message->append_entries_result, out);
        return 0;
    case GABION__RAFT_MESSAGE__BODY_INSTALL_SNAPSHOT:
        return decode_install_snapshot(message->install_snapshot, out);
    case GABION__RAFT_MESSAGE__BODY_TIMEOUT_NOW:
        decode_timeout_now(message->timeout_now, out);
        return 0;
    default:
        return -EINVAL;
    }
}

void raft_incoming_close(struct raft_incoming *incoming)
{
    if (incoming->message.type == RAFT_APPEND_ENTRIES) {
        raft_free(incoming->message.append_entries.entries);
    }
}

void raft_incoming_discard(struct raft_incoming *incoming)
{
    struct raft_message *message = &incoming->message;

    if (message->type == RAFT_APPEND_ENTRIES &&
        message->append_entries.n_entries > 0) {
        raft_free(message->append_entries.entries[0].batch);
    } else if (message->type == RAFT_INSTALL_SNAPSHOT) {
        raft_configuration_close(&message->install_snapshot.conf);
    }
    raft_incoming_close(incoming);
}

/* -------------------------------------------------------------------- frames
 */

int raft_frame_pack(uint64_t cluster,
                    Gabion__RaftMessage *const *messages,
                    size_t n,
                    struct buf **ret_data)
{
    Gabion__RaftFrame frame = GABION__RAFT_FRAME__INIT;
    struct buf *data;

    frame.cluster = cluster;
    frame.n_message = n;
    frame.message = calloc(n > 0 ? n : 1, sizeof(Gabion__RaftMessage *));
    if (frame.message == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        frame.message[i] = messages[i];
    }
    data = buf_new(gabion__raft_frame__get_packed_size(&frame));
    if (data != NULL) {
        (void)gabion__raft_frame__pack(&frame, data->data);
        *ret_data = data;
    }
    free(frame.message);
    return data != NULL ? 0 : -ENOMEM;
}

static int check_frame(const Gabion__RaftFrame *frame,
                       uint64_t cluster,
                       struct errmsg *msg)
{
    if (frame->cluster != cluster) {
        errmsg_set(msg,
                   "the frame is of cluster %016" PRIx64
                   ", not of cluster %016" PRIx64,
                   frame->cluster, cluster);
        return -ESTALE;
    }
    if (frame->n_message > RAFT_FRAME_MESSAGES_MAX) {
        errmsg_set(msg, "the frame has %zu messages", frame->n_message);
        return -EINVAL;
    }
    for (size_t i = 0; i < frame->n_message; i++) {
        int rc = raft_message_validate(frame->message[i], msg);

        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

int raft_frame_unpack(const void *bytes,
                      size_t size,
                      uint64_t cluster,
                      Gabion__RaftFrame **ret_frame,
                      struct errmsg *msg)
{
    Gabion__RaftFrame *frame =
        gabion__raft_frame__unpack(NULL, size, (const uint8_t *)bytes);
    int rc;

    if (frame == NULL) {
        errmsg_set(msg, "not a frame of Raft messages");
        return -EBADMSG;
    }
    rc = check_frame(frame, cluster, msg);
    if (rc != 0) {
        gabion__raft_frame__free_unpacked(frame, NULL);
        return rc;
    }
    *ret_frame = frame;
    return 0;
}
