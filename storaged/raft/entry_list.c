#include "storaged/raft/entry_list.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CAPACITY_MIN 16u

void entry_list_init(struct entry_list *list, uint64_t first)
{
    *list = (struct entry_list){ .first = first };
}

void entry_list_close(struct entry_list *list)
{
    entry_list_restart(list, 1);
    free(list->entries);
    *list = (struct entry_list){ 0 };
}

uint64_t entry_list_last(const struct entry_list *list)
{
    return list->first + list->n - 1;
}

const struct log_entry *entry_list_get(const struct entry_list *list,
                                       uint64_t index)
{
    if (index < list->first || index - list->first >= list->n) {
        return NULL;
    }
    return &list->entries[list->start + (index - list->first)];
}

uint64_t entry_list_term(const struct entry_list *list, uint64_t index)
{
    const struct log_entry *entry = entry_list_get(list, index);

    return entry != NULL ? entry->term : 0;
}

/* Make room behind the last entry: by moving all to the front when at least
 * half of the array is free there, else by a bigger array. */
static int make_room(struct entry_list *list)
{
    size_t capacity;
    struct log_entry *entries;

    if (list->start + list->n < list->capacity) {
        return 0;
    }
    if (list->start > 0 && list->start >= list->capacity / 2) {
        memmove(list->entries, list->entries + list->start,
                list->n * sizeof *list->entries);
        list->start = 0;
        return 0;
    }
    capacity = list->capacity > 0 ? 2 * list->capacity : CAPACITY_MIN;
    entries = reallocarray(list->entries, capacity, sizeof *entries);
    if (entries == NULL) {
        return -ENOMEM;
    }
    list->entries = entries;
    list->capacity = capacity;
    return 0;
}

int entry_list_append(struct entry_list *list, const struct log_entry *entry)
{
    int rc = make_room(list);

    assert(entry->index == entry_list_last(list) + 1);
    if (rc != 0) {
        return rc;
    }
    list->entries[list->start + list->n] = *entry;
    list->n++;
    list->bytes += entry->data->size;
    return 0;
}

static void release(struct entry_list *list, struct log_entry *entry)
{
    list->bytes -= entry->data->size;
    buf_unref(entry->data);
    entry->data = NULL;
}

void entry_list_truncate(struct entry_list *list, uint64_t index)
{
    while (list->n > 0 && entry_list_last(list) >= index) {
        list->n--;
        release(list, &list->entries[list->start + list->n]);
    }
}

void entry_list_drop_to(struct entry_list *list, uint64_t index)
{
    while (list->n > 0 && list->first <= index) {
        release(list, &list->entries[list->start]);
        list->start++;
        list->first++;
        list->n--;
    }
    if (list->n == 0) {
        list->start = 0;
    }
}

void entry_list_restart(struct entry_list *list, uint64_t first)
{
    entry_list_truncate(list, 0);
    list->start = 0;
    list->first = first;
}

const struct log_entry *entry_list_change(const struct entry_list *list,
                                          uint64_t index)
{
    const struct log_entry *entry;

    for (; (entry = entry_list_get(list, index)) != NULL; index--) {
        if (entry->kind == ENTRY_CHANGE) {
            return entry;
        }
    }
    return NULL;
}
