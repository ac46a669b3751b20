/* A group's log in memory: entries first..last without gaps. One thread. */
#pragma once

#include "storaged/raft/raft_types.h"

struct entry_list {
    struct log_entry
        *entries; /* owned, capacity; entry `first` is at `start` */
    size_t capacity;
    size_t start;
    size_t n;
    uint64_t first; /* index of the first entry, or that a first would have */
    uint64_t bytes; /* sizes of all data */
};

/* An empty list whose first entry will be `first`. */
void entry_list_init(struct entry_list *list, uint64_t first);
void entry_list_close(struct entry_list *list);

/* Index of the last entry; first - 1 when there is none. */
uint64_t entry_list_last(const struct entry_list *list);

/* The entry and those behind it up to the last; NULL when it is not here.
 * Borrowed until the list changes. */
const struct log_entry *entry_list_get(const struct entry_list *list,
                                       uint64_t index);

/* Its term, 0 when it is not here. */
uint64_t entry_list_term(const struct entry_list *list, uint64_t index);

/* Append a copy of `entry`, whose index is that behind the last; the list takes
 * over the reference to its data unless it fails. Errors: -ENOMEM */
MUST_CHECK int entry_list_append(struct entry_list *list,
                                 const struct log_entry *entry);

/* Drop entries >= index. */
void entry_list_truncate(struct entry_list *list, uint64_t index);

/* Drop entries <= index; at most all that are here. */
void entry_list_drop_to(struct entry_list *list, uint64_t index);

/* Drop all; the next one will be `first`. */
void entry_list_restart(struct entry_list *list, uint64_t first);

/* The newest entry of kind ENTRY_CHANGE at or below `index`, or NULL. */
const struct log_entry *entry_list_change(const struct entry_list *list,
                                          uint64_t index);
