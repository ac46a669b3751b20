#include "storaged/raft/raft_types.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "storaged/raft/raft_members.h"

/* Whether the entry can stand behind one of `term`. */
static int check_entry(const struct log_entry *entry,
                       uint64_t term,
                       struct errmsg *msg)
{
    struct raft_members members;

    if (entry->term == 0 || entry->term < term) {
        errmsg_set(msg, "entry %" PRIu64 " has term %" PRIu64 " after %" PRIu64,
                   entry->index, entry->term, term);
        return -EBADMSG;
    }
    if (entry->kind != ENTRY_OPS && entry->kind != ENTRY_NOOP &&
        entry->kind != ENTRY_CHANGE) {
        errmsg_set(msg, "entry %" PRIu64 " is of unknown kind %d", entry->index,
                   (int)entry->kind);
        return -EBADMSG;
    }
    if (entry->kind == ENTRY_CHANGE &&
        raft_members_decode(entry->data->data, entry->data->size, &members) !=
            0) {
        errmsg_set(msg, "entry %" PRIu64 " names no valid members",
                   entry->index);
        return -EBADMSG;
    }
    return 0;
}

static int check_snapshot(const struct raft_saved *saved, struct errmsg *msg)
{
    const struct raft_pointer *snapshot = &saved->snapshot;
    uint64_t first = saved->n_entries > 0 ? saved->entries[0].index : 0;

    if (snapshot->index == 0) {
        if (first > 1 ||
            (first == 1 && saved->entries[0].kind != ENTRY_CHANGE)) {
            errmsg_set(msg,
                       "the log begins at entry %" PRIu64
                       " and there is no snapshot",
                       first);
            return -EBADMSG;
        }
        return 0;
    }
    if (snapshot->term == 0 || snapshot->term > saved->term ||
        snapshot->members_index == 0 ||
        snapshot->members_index > snapshot->index) {
        errmsg_set(msg, "snapshot %" PRIu64 " contradicts itself",
                   snapshot->index);
        return -EBADMSG;
    }
    if (first == 0) {
        return 0;
    }
    if (first > snapshot->index + 1 ||
        first + saved->n_entries <= snapshot->index ||
        (first <= snapshot->index &&
         saved->entries[snapshot->index - first].term != snapshot->term) ||
        (first > snapshot->index && saved->entries[0].term < snapshot->term)) {
        errmsg_set(msg,
                   "the log %" PRIu64 "..%" PRIu64
                   " does not go with snapshot %" PRIu64,
                   first, first + saved->n_entries - 1, snapshot->index);
        return -EBADMSG;
    }
    return 0;
}

int raft_saved_check(const struct raft_saved *saved, struct errmsg *msg)
{
    uint64_t term = 0;

    if (saved->replica == 0) {
        errmsg_set(msg, "the replica has no id");
        return -EBADMSG;
    }
    for (size_t i = 0; i < saved->n_entries; i++) {
        const struct log_entry *entry = &saved->entries[i];
        int rc;

        if (entry->index == 0 || entry->index != saved->entries[0].index + i) {
            errmsg_set(msg,
                       "entry %" PRIu64 " stands where %" PRIu64 " belongs",
                       entry->index, saved->entries[0].index + i);
            return -EBADMSG;
        }
        rc = check_entry(entry, term, msg);
        if (rc != 0) {
            return rc;
        }
        term = entry->term;
    }
    if (term > saved->term) {
        errmsg_set(
            msg, "entries are of term %" PRIu64 ", the replica is in %" PRIu64,
            term, saved->term);
        return -EBADMSG;
    }
    if (saved->term == 0 && saved->vote != 0) {
        errmsg_set(msg, "there is a vote in no term");
        return -EBADMSG;
    }
    return check_snapshot(saved, msg);
}

void raft_saved_close(struct raft_saved *saved)
{
    for (size_t i = 0; i < saved->n_entries; i++) {
        buf_unref(saved->entries[i].data);
    }
    free(saved->entries);
    *saved = (struct raft_saved){ 0 };
}

int raft_saved_bootstrap(uint64_t replica,
                         const struct raft_members *members,
                         struct raft_saved *ret_saved)
{
    struct raft_saved saved = { .replica = replica, .term = 1 };
    int rc;

    if (replica == 0 || raft_members_voters(members) == 0) {
        return -EINVAL;
    }
    saved.entries = calloc(1, sizeof *saved.entries);
    if (saved.entries == NULL) {
        return -ENOMEM;
    }
    saved.entries[0] =
        (struct log_entry){ .index = 1, .term = 1, .kind = ENTRY_CHANGE };
    rc = raft_members_encode(members, &saved.entries[0].data);
    if (rc != 0) {
        free(saved.entries);
        return rc;
    }
    saved.n_entries = 1;
    *ret_saved = saved;
    return 0;
}
