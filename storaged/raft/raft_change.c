/* Members, transfers, reads. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "storaged/raft/raft_group_internal.h"

void group_members(const struct raft_group *group,
                   struct raft_members *ret_members)
{
    const struct raft_configuration *conf = &group->raft.configuration;

    ret_members->n = 0;
    for (unsigned i = 0; i < conf->n && i < RAFT_MEMBERS_MAX; i++) {
        ret_members->member[ret_members->n++] = (struct raft_member){
            .id = conf->servers[i].id,
            .node = (uint32_t)strtoul(conf->servers[i].address, NULL, 10),
            .role = (enum member_role)conf->servers[i].role,
        };
    }
}

/* ------------------------------------------------------------------- members
 */

bool group_is_lone(const struct raft_group *group,
                   const struct raft_members *members)
{
    const struct raft_member *self = raft_members_find(members, group->replica);

    return self != NULL && self->role == MEMBER_VOTER &&
           raft_members_voters(members) == 1;
}

int raft_group_get_match(const struct raft_group *group,
                         uint64_t replica,
                         uint64_t *ret_index)
{
    raft_index index = 0;
    int rc = group_errno(raft_match_index(&group->raft, replica, &index));

    if (rc == 0) {
        *ret_index = index;
    }
    return rc;
}

/* Whether members may be changed now. */
static int check_changeable(const struct raft_group *group)
{
    uint64_t commit = raft_commit_index(&group->raft);

    if (group->raft.state != RAFT_LEADER) {
        return -EAGAIN;
    }
    if ((group->config.plants & RAFT_PLANT_HASTY_CHANGE) == 0 &&
        entry_list_term(&group->log, commit) !=
            raft_current_term(&group->raft) &&
        !(commit == group->snapshot.index &&
          group->snapshot.term == raft_current_term(&group->raft))) {
        return -EBUSY; /* G5 */
    }
    return 0;
}

static int append_change(struct raft_group *group,
                         const struct raft_members *members,
                         uint64_t *ret_index,
                         uint64_t *ret_term)
{
    uint64_t index = entry_list_last(&group->log) + 1;
    struct buf *data;
    int rc;

    if (raft_members_voters(members) == 0) {
        return -EINVAL;
    }
    rc = raft_members_encode(members, &data);
    if (rc != 0) {
        return rc;
    }
    rc = group_append(group, ENTRY_CHANGE, data);
    buf_unref(data);
    if (rc == 0) {
        *ret_index = index;
        *ret_term = entry_list_term(&group->log, index);
        rc = group_follow_up(group);
    }
    return rc;
}

/* Put `member` into `members`. */
static int set_member(struct raft_members *members,
                      const struct raft_member *member)
{
    for (size_t i = 0; i < members->n; i++) {
        struct raft_member *old = &members->member[i];

        if (old->id != member->id) {
            continue;
        }
        if (old->node != member->node) {
            return -EINVAL;
        }
        if (old->role == member->role) {
            return -EEXIST;
        }
        if (old->role == MEMBER_VOTER) {
            return -EINVAL;
        }
        old->role = member->role;
        return 0;
    }
    if (members->n == RAFT_MEMBERS_MAX) {
        return -EINVAL;
    }
    members->member[members->n++] = *member;
    return 0;
}

int raft_group_set_member(struct raft_group *group,
                          uint64_t now_ms,
                          const struct raft_member *member,
                          uint64_t *ret_index,
                          uint64_t *ret_term)
{
    struct raft_members members;
    int rc = group_enter(group, now_ms);

    if (rc != 0) {
        return rc;
    }
    group_members(group, &members);
    rc = member->id != 0 && (unsigned)member->role <= MEMBER_SPARE
             ? check_changeable(group)
             : -EINVAL;
    if (rc == 0) {
        rc = set_member(&members, member);
    }
    if (rc == 0) {
        rc = append_change(group, &members, ret_index, ret_term);
    }
    return group_leave(group, rc);
}

int raft_group_remove_member(struct raft_group *group,
                             uint64_t now_ms,
                             uint64_t replica,
                             uint64_t *ret_index,
                             uint64_t *ret_term)
{
    struct raft_members members;
    struct raft_member *end;
    struct raft_member *at;
    int rc = group_enter(group, now_ms);

    if (rc != 0) {
        return rc;
    }
    group_members(group, &members);
    rc = check_changeable(group);
    end = members.member + members.n;
    for (at = members.member; at < end && at->id != replica; at++) {
    }
    if (rc == 0 && at == end) {
        rc = -ENOENT;
    }
    if (rc == 0 && replica == group->replica) {
        rc = -EINVAL;
    }
    if (rc == 0) {
        memmove(at, at + 1, (size_t)(end - at - 1) * sizeof *at);
        members.n--;
        rc = append_change(group, &members, ret_index, ret_term);
    }
    return group_leave(group, rc);
}

/* ------------------------------------------------------ catching up, transfer
 */

static int catch_up(struct raft_group *group, uint64_t replica)
{
    struct raft_event event = { .type = RAFT_CATCH_UP };
    const struct raft_member *member;
    struct raft_members members;

    if (group->raft.state != RAFT_LEADER) {
        return -EAGAIN;
    }
    group_members(group, &members);
    member = raft_members_find(&members, replica);
    if (member == NULL) {
        return -ENOENT;
    }
    if (member->role == MEMBER_VOTER) {
        return -EINVAL;
    }
    if (group->raft.leader_state.promotee_id != 0 ||
        group->raft.configuration_uncommitted_index != 0) {
        return -EBUSY;
    }
    event.catch_up.server_id = replica;
    return group_step(group, &event, false);
}

int raft_group_catch_up(struct raft_group *group,
                        uint64_t now_ms,
                        uint64_t replica)
{
    int rc = group_enter(group, now_ms);

    return rc != 0 ? rc : group_leave(group, catch_up(group, replica));
}

enum catch_up raft_group_catch_up_state(const struct raft_group *group,
                                        uint64_t replica)
{
    int state = RAFT_CATCH_UP_NONE;

    if (raft_catch_up(&group->raft, replica, &state) != 0) {
        return CATCH_UP_NONE;
    }
    switch (state) {
    case RAFT_CATCH_UP_RUNNING:
        return CATCH_UP_RUNNING;
    case RAFT_CATCH_UP_ABORTED:
        return CATCH_UP_ABORTED;
    case RAFT_CATCH_UP_FINISHED:
        return CATCH_UP_FINISHED;
    default:
        return CATCH_UP_NONE;
    }
}

int raft_group_transfer(struct raft_group *group,
                        uint64_t now_ms,
                        uint64_t replica)
{
    struct raft_event event = { .type = RAFT_TRANSFER };
    int rc = group_enter(group, now_ms);

    if (rc != 0) {
        return rc;
    }
    event.transfer.server_id = replica;
    return group_leave(group, group_step(group, &event, true));
}

bool raft_group_is_transferring(const struct raft_group *group)
{
    return raft_transferee(&group->raft) != 0;
}

/* --------------------------------------------------------------------- reads
 */

int raft_group_read_begin(const struct raft_group *group,
                          struct raft_read *ret_read)
{
    uint64_t commit = raft_commit_index(&group->raft);

    if (!raft_group_is_leader(group)) {
        return -EAGAIN;
    }
    ret_read->term = raft_current_term(&group->raft);
    ret_read->index = commit > group->floor ? commit : group->floor;
    return 0;
}

/* Whether the member, not this one, has answered. */
static bool has_answered(uint64_t replica,
                         const struct raft_answer answers[],
                         size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (answers[i].replica == replica) {
            return true;
        }
    }
    return false;
}

int raft_group_read_check(const struct raft_group *group,
                          const struct raft_read *read,
                          const struct raft_answer answers[],
                          size_t n)
{
    const struct raft_configuration *conf = &group->raft.configuration;
    size_t n_voters = 0;
    size_t n_answers = 0;

    if (!raft_group_is_leader(group) ||
        raft_current_term(&group->raft) != read->term) {
        return -EAGAIN;
    }
    for (size_t i = 0; i < n; i++) {
        if (answers[i].term > read->term) {
            return -EAGAIN;
        }
    }
    for (unsigned i = 0; i < conf->n; i++) {
        uint64_t id = conf->servers[i].id;

        if (conf->servers[i].role != RAFT_VOTER) {
            continue;
        }
        n_voters++;
        if (id == group->replica || has_answered(id, answers, n)) {
            n_answers++;
        }
    }
    return n_answers > n_voters / 2 ? 0 : -EINPROGRESS;
}
