/* Mutated requests against the form checks of proto/validate and the cluster
 * map's decoder: `fuzz_wire SEED SECONDS`.
 *
 * A valid request is changed field by field, packed, and changed byte by byte.
 * What the checkers then accept must lie within the documented limits
 * (wire_limits.h); what has not been changed must be accepted. Requests without
 * anything to check are not here. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/cluster_map.h"
#include "proto/validate.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/wire_limits.h"
#include "tests/fuzz/wire_sample.h"

/* What a checker says, and whether the limits are kept. */
struct verdict {
    int rc;
    bool is_within;
};

/* One type of message. */
struct subject {
    const ProtobufCMessageDescriptor *type;
    size_t (*sample)(uint8_t *ret_data);
    struct verdict (*judge)(void *message, struct errmsg *msg);
};

static struct verdict judge_submit(void *message, struct errmsg *msg)
{
    return (struct verdict){ validate_submit(message, msg),
                             wire_is_submit(message) };
}

static struct verdict judge_layout(void *message, struct errmsg *msg)
{
    return (struct verdict){ validate_layout_reply(message, msg),
                             wire_is_layout(message) };
}

static struct verdict judge_key(const Gabion__BlockKey *key, struct errmsg *msg)
{
    struct block_key parsed;
    struct verdict verdict = { validate_block_key(key, &parsed, msg),
                               wire_is_key(key) };

    if (verdict.rc == 0 && verdict.is_within) {
        verdict.is_within =
            parsed.stripe == key->stripe && parsed.index == key->index;
    }
    return verdict;
}

static struct verdict judge_put_block(void *message, struct errmsg *msg)
{
    return judge_key(((Gabion__PutBlockRequest *)message)->key, msg);
}

static struct verdict judge_get_block(void *message, struct errmsg *msg)
{
    return judge_key(((Gabion__GetBlockRequest *)message)->key, msg);
}

static struct verdict judge_list_blocks(void *message, struct errmsg *msg)
{
    return judge_key(((Gabion__ListBlocksRequest *)message)->after, msg);
}

static struct verdict judge_delete_objects(void *message, struct errmsg *msg)
{
    const Gabion__DeleteObjectsRequest *request = message;
    struct verdict verdict = { 0, true };
    struct object_id id;

    for (size_t i = 0; i < request->n_object && verdict.rc == 0; i++) {
        verdict.rc = validate_object_id(&request->object[i], &id, msg);
        verdict.is_within = wire_is_object_id(&request->object[i]);
    }
    return verdict;
}

static struct verdict judge_lookup(void *message, struct errmsg *msg)
{
    const Gabion__LookupRequest *request = message;

    return (struct verdict){ validate_name(&request->name, msg),
                             wire_is_name(&request->name) };
}

/* The map that comes out must be one itself. */
static struct verdict judge_map(void *message, struct errmsg *msg)
{
    struct cluster_map *map = NULL;
    struct verdict verdict = { cluster_map_decode(message, &map, msg),
                               wire_is_map(message) };
    Gabion__ClusterMap *again;

    if (verdict.rc != 0) {
        return verdict;
    }
    again = cluster_map_encode(map);
    verdict.is_within =
        verdict.is_within && again != NULL && wire_is_map(again) &&
        again->id == ((Gabion__ClusterMap *)message)->id &&
        again->n_node == ((Gabion__ClusterMap *)message)->n_node;
    if (again != NULL) {
        gabion__cluster_map__free_unpacked(again, NULL);
    }
    cluster_map_unref(map);
    return verdict;
}

/* Those with the most checks more than once. */
static const struct subject subjects[] = {
    { &gabion__submit_request__descriptor, wire_sample_submit, judge_submit },
    { &gabion__submit_request__descriptor, wire_sample_submit, judge_submit },
    { &gabion__submit_request__descriptor, wire_sample_submit, judge_submit },
    { &gabion__submit_request__descriptor, wire_sample_submit, judge_submit },
    { &gabion__get_layout_reply__descriptor, wire_sample_layout, judge_layout },
    { &gabion__get_layout_reply__descriptor, wire_sample_layout, judge_layout },
    { &gabion__cluster_map__descriptor, wire_sample_map, judge_map },
    { &gabion__put_block_request__descriptor, wire_sample_put_block,
      judge_put_block },
    { &gabion__get_block_request__descriptor, wire_sample_get_block,
      judge_get_block },
    { &gabion__list_blocks_request__descriptor, wire_sample_list_blocks,
      judge_list_blocks },
    { &gabion__delete_objects_request__descriptor, wire_sample_delete_objects,
      judge_delete_objects },
    { &gabion__lookup_request__descriptor, wire_sample_lookup, judge_lookup },
};

/* ------------------------------------------------------------------- rounds */

static uint8_t data[WIRE_SAMPLE_MAX];

/* Unpack from memory that ends where the message does. */
static ProtobufCMessage *unpack(const ProtobufCMessageDescriptor *type,
                                size_t size)
{
    uint8_t *exact = malloc(size + 1);
    ProtobufCMessage *message;

    if (exact == NULL) {
        abort();
    }
    memcpy(exact + 1, data, size);
    message = protobuf_c_message_unpack(type, NULL, size, exact + 1);
    free(exact);
    return message;
}

/* Change up to `n` fields of the packed message. */
static size_t mutate_fields(const ProtobufCMessageDescriptor *type,
                            size_t size,
                            size_t n)
{
    ProtobufCMessage *message = unpack(type, size);

    if (message == NULL) {
        abort(); /* the sample is wrong */
    }
    for (size_t i = 0; i < n; i++) {
        wire_mutate_field(message);
    }
    if (protobuf_c_message_get_packed_size(message) <= sizeof data) {
        size = protobuf_c_message_pack(message, data);
    }
    protobuf_c_message_free_unpacked(message, NULL);
    return size;
}

static bool judge(const struct subject *subject,
                  ProtobufCMessage *message,
                  bool is_valid)
{
    struct errmsg msg = { "" };
    struct verdict verdict = subject->judge(message, &msg);

    if (verdict.rc == 0 && !verdict.is_within) {
        return fuzz_fail("%s: accepted beyond its limits", subject->type->name);
    }
    if (verdict.rc != 0 && (verdict.rc != -EINVAL || msg.text[0] == '\0')) {
        return fuzz_fail("%s: %d without a word", subject->type->name,
                         verdict.rc);
    }
    return verdict.rc == 0 || !is_valid ||
           fuzz_fail("%s: valid, but refused: %s", subject->type->name,
                     msg.text);
}

static bool run_round(void)
{
    const struct subject *subject =
        &subjects[fuzz_below(sizeof subjects / sizeof *subjects)];
    size_t size = subject->sample(data);
    size_t n_fields = fuzz_below(4);
    size_t n_bytes = fuzz_one_in(2) ? 0 : fuzz_below(3);
    ProtobufCMessage *message;
    bool is_ok;

    size = mutate_fields(subject->type, size, n_fields);
    for (size_t i = 0; i < n_bytes; i++) {
        size = fuzz_mutate(data, size, sizeof data, 60);
    }
    message = unpack(subject->type, size);
    if (message == NULL) {
        return n_bytes > 0 ||
               fuzz_fail("%s: does not unpack", subject->type->name);
    }
    is_ok = judge(subject, message, n_fields + n_bytes == 0);
    protobuf_c_message_free_unpacked(message, NULL);
    return is_ok;
}

int main(int argc, char **argv)
{
    return fuzz_main(argc, argv, run_round);
}
