#include "storaged/block/pending.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

void pending_init(struct pending *pending)
{
    (void)pthread_mutex_init(&pending->lock, NULL);
    (void)pthread_cond_init(&pending->released, NULL);
    pending->n_rows = 0;
    for (size_t i = 0; i < PENDING_BUCKETS; i++) {
        pending->buckets[i] = NULL;
    }
}

void pending_close(struct pending *pending)
{
    for (size_t i = 0; i < PENDING_BUCKETS; i++) {
        while (pending->buckets[i] != NULL) {
            struct pending_entry *entry = pending->buckets[i];

            pending->buckets[i] = entry->next;
            free(entry);
        }
    }
    (void)pthread_cond_destroy(&pending->released);
    (void)pthread_mutex_destroy(&pending->lock);
}

/* The link that points to the entry of the key, or the NULL at the end. */
static struct pending_entry **find_locked(struct pending *pending,
                                          const struct block_key *key)
{
    uint64_t hash = key->object.session * 0x9e3779b97f4a7c15u;
    struct pending_entry **link;

    hash = (hash ^ key->object.serial) * 0x9e3779b97f4a7c15u;
    hash = (hash ^ ((uint64_t)key->stripe << 8) ^ key->index) *
           0x9e3779b97f4a7c15u;
    link = &pending->buckets[(hash >> 40) % PENDING_BUCKETS];
    while (*link != NULL && block_key_compare(&(*link)->row.key, key) != 0) {
        link = &(*link)->next;
    }
    return link;
}

int pending_claim(struct pending *pending,
                  const struct block_key *key,
                  struct index_row *ret_row)
{
    struct pending_entry *entry;
    int rc = 0;

    (void)pthread_mutex_lock(&pending->lock);
    entry = *find_locked(pending, key);
    while (entry != NULL && entry->claimed) {
        (void)pthread_cond_wait(&pending->released, &pending->lock);
        entry = *find_locked(pending, key);
    }
    if (entry == NULL) {
        entry = calloc(1, sizeof *entry);
        if (entry != NULL) {
            entry->row.key = *key;
            *find_locked(pending, key) = entry;
        }
    }
    if (entry == NULL) {
        rc = -ENOMEM;
    } else {
        entry->claimed = true;
        *ret_row = entry->row;
    }
    (void)pthread_mutex_unlock(&pending->lock);
    return rc;
}

static void unlink_if_idle_locked(struct pending_entry **link)
{
    struct pending_entry *entry = *link;

    if (!entry->claimed && entry->row.place == 0) {
        *link = entry->next;
        free(entry);
    }
}

size_t pending_release(struct pending *pending,
                       const struct block_key *key,
                       const struct index_row *row)
{
    struct pending_entry **link;
    size_t n_rows;

    (void)pthread_mutex_lock(&pending->lock);
    link = find_locked(pending, key);
    assert(*link != NULL && (*link)->claimed);
    if (row != NULL) {
        pending->n_rows += (*link)->row.place == 0;
        (*link)->row = *row;
    }
    (*link)->claimed = false;
    unlink_if_idle_locked(link);
    n_rows = pending->n_rows;
    (void)pthread_cond_broadcast(&pending->released);
    (void)pthread_mutex_unlock(&pending->lock);
    return n_rows;
}

int pending_find(struct pending *pending,
                 const struct block_key *key,
                 struct index_row *ret_row)
{
    const struct pending_entry *entry;
    int rc = -ENOENT;

    (void)pthread_mutex_lock(&pending->lock);
    entry = *find_locked(pending, key);
    if (entry != NULL && entry->row.place != 0) {
        *ret_row = entry->row;
        rc = 0;
    }
    (void)pthread_mutex_unlock(&pending->lock);
    return rc;
}

size_t pending_count(struct pending *pending)
{
    size_t n_rows;

    (void)pthread_mutex_lock(&pending->lock);
    n_rows = pending->n_rows;
    (void)pthread_mutex_unlock(&pending->lock);
    return n_rows;
}

static int compare_places(const void *a, const void *b)
{
    uint64_t first = ((const struct index_row *)a)->place;
    uint64_t second = ((const struct index_row *)b)->place;

    return (first > second) - (first < second);
}

int pending_rows(struct pending *pending,
                 struct index_row **ret_rows,
                 size_t *ret_n)
{
    struct index_row *rows = NULL;
    size_t n = 0;
    int rc = 0;

    (void)pthread_mutex_lock(&pending->lock);
    if (pending->n_rows > 0) {
        rows = calloc(pending->n_rows, sizeof *rows);
        rc = rows != NULL ? 0 : -ENOMEM;
    }
    for (size_t i = 0; i < PENDING_BUCKETS && rows != NULL; i++) {
        const struct pending_entry *entry = pending->buckets[i];

        for (; entry != NULL; entry = entry->next) {
            if (entry->row.place != 0) {
                rows[n++] = entry->row;
            }
        }
    }
    assert(rows == NULL || n == pending->n_rows);
    (void)pthread_mutex_unlock(&pending->lock);
    if (rows != NULL) {
        qsort(rows, n, sizeof *rows, compare_places);
    }
    *ret_rows = rows;
    *ret_n = n;
    return rc;
}

void pending_forget(struct pending *pending,
                    const struct index_row *rows,
                    size_t n_rows)
{
    (void)pthread_mutex_lock(&pending->lock);
    for (size_t i = 0; i < n_rows; i++) {
        struct pending_entry **link = find_locked(pending, &rows[i].key);

        if (*link != NULL && (*link)->row.place == rows[i].place) {
            (*link)->row.place = 0;
            pending->n_rows--;
            unlink_if_idle_locked(link);
        }
    }
    (void)pthread_mutex_unlock(&pending->lock);
}
