#include "fusefs/unsynced.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/log.h"

/* Failures of the kind that waiting does not mend, after which an entry is left
 * to those who ask for it. */
#define TRIES_MAX 10u

struct entry {
    struct entry *next;        /* NULL: the last */
    uint64_t ino;              /* of the file */
    struct log_object *object; /* counted */
    int64_t since_ms;          /* when it was added, clock_mono_ms() */
    unsigned tries;            /* of writing back that ended in -EIO */
};

struct unsynced {
    struct file_meta *meta; /* borrowed */
    pthread_mutex_t lock;   /* guards all below */
    struct entry *first;    /* oldest; NULL: empty */
    struct entry **last;    /* where the next entry is linked */
    size_t count;           /* entries */
};

int unsynced_new(struct file_meta *meta, struct unsynced **ret_list)
{
    struct unsynced *list = calloc(1, sizeof *list);

    if (list == NULL) {
        return -ENOMEM;
    }
    (void)pthread_mutex_init(&list->lock, NULL);
    list->meta = meta;
    list->last = &list->first;
    *ret_list = list;
    return 0;
}

/* Unlink the entry at `*at` and free it. */
static void remove_locked(struct unsynced *list, struct entry **at)
{
    struct entry *entry = *at;

    *at = entry->next;
    if (list->last == &entry->next) {
        list->last = at;
    }
    list->count--;
    log_object_unref(entry->object);
    free(entry);
}

void unsynced_free(struct unsynced *list)
{
    if (list == NULL) {
        return;
    }
    while (list->first != NULL) {
        remove_locked(list, &list->first);
    }
    (void)pthread_mutex_destroy(&list->lock);
    free(list);
}

static int add_locked(struct unsynced *list,
                      uint64_t ino,
                      struct log_object *object,
                      int64_t since_ms)
{
    struct entry *entry = calloc(1, sizeof *entry);

    if (entry == NULL) {
        return -ENOMEM;
    }
    entry->ino = ino;
    entry->object = log_object_ref(object);
    entry->since_ms = since_ms;
    *list->last = entry;
    list->last = &entry->next;
    list->count++;
    return 0;
}

int unsynced_add(struct unsynced *list, uint64_t ino, struct log_object *object)
{
    int64_t now_ms = clock_mono_ms();
    int rc;

    (void)pthread_mutex_lock(&list->lock);
    rc = add_locked(list, ino, object, now_ms);
    (void)pthread_mutex_unlock(&list->lock);
    return rc;
}

/* Where the entry is linked, or the end of the list. */
static struct entry **find_locked(struct unsynced *list,
                                  uint64_t ino,
                                  const struct log_object *object)
{
    struct entry **at = &list->first;

    while (*at != NULL && ((*at)->object != object || (*at)->ino != ino)) {
        at = &(*at)->next;
    }
    return at;
}

int unsynced_share(struct unsynced *list, uint64_t source, uint64_t ino)
{
    int rc = 0;

    (void)pthread_mutex_lock(&list->lock);
    for (struct entry *e = list->first; e != NULL && rc == 0; e = e->next) {
        if (e->ino == source && *find_locked(list, ino, e->object) == NULL) {
            rc = add_locked(list, ino, e->object, e->since_ms);
        }
    }
    (void)pthread_mutex_unlock(&list->lock);
    return rc;
}

/* ----------------------------------------------------------------- one entry
 */

/* An entry to sync, looked at without the lock. */
struct todo {
    uint64_t ino;
    struct log_object *object; /* counted */
};

/* Whether the file's layout names the object. Errors: of get_layout() */
static int refers(struct file_meta *meta,
                  uint64_t ino,
                  const struct object_id *id,
                  bool *ret_refers)
{
    uint64_t offset = 0;
    bool end = false;

    *ret_refers = false;
    while (!end && !*ret_refers) {
        struct layout page = { 0 };
        int rc = meta->get_layout(meta, ino, offset, &page);

        if (rc != 0) {
            return rc == -ENOENT || rc == -ESTALE ? 0 : rc;
        }
        for (size_t i = 0; i < page.n_objects; i++) {
            *ret_refers =
                *ret_refers || object_id_compare(&page.objects[i].id, id) == 0;
        }
        end = page.end || page.n_extents == 0;
        if (!end) {
            const struct extent *last = &page.extents[page.n_extents - 1];

            offset = last->offset + last->length;
        }
        page.release(&page);
    }
    return 0;
}

/* 0: the object is durable, or not the file's any more. */
static int sync_one(struct unsynced *list,
                    const struct todo *todo,
                    bool *ret_unused)
{
    struct object_info info;
    bool is_used;
    int rc = log_object_sync(todo->object);

    *ret_unused = false;
    if (rc != -EIO) {
        return rc;
    }
    (void)log_object_info(todo->object, &info);
    rc = refers(list->meta, todo->ino, &info.id, &is_used);
    if (rc == 0 && is_used) {
        rc = -EIO;
    }
    *ret_unused = rc == 0;
    return rc;
}

/* ---------------------------------------------------------------- many entries
 */

static bool is_wanted(const struct entry *entry,
                      uint64_t ino,
                      int64_t before_ms,
                      unsigned tries_max)
{
    return (ino == UNSYNCED_ALL || entry->ino == ino) &&
           entry->since_ms <= before_ms && entry->tries < tries_max;
}

/* What to sync. It stays in the list meanwhile, so that another caller waits
 * for it too. */
static int collect(struct unsynced *list,
                   uint64_t ino,
                   int64_t before_ms,
                   unsigned tries_max,
                   struct todo **ret_todos,
                   size_t *ret_n)
{
    struct todo *todos;
    size_t n = 0;

    (void)pthread_mutex_lock(&list->lock);
    todos = calloc(list->count + 1, sizeof *todos);
    if (todos == NULL) {
        (void)pthread_mutex_unlock(&list->lock);
        return -ENOMEM;
    }
    for (struct entry *e = list->first; e != NULL; e = e->next) {
        if (is_wanted(e, ino, before_ms, tries_max)) {
            todos[n].ino = e->ino;
            todos[n++].object = log_object_ref(e->object);
        }
    }
    (void)pthread_mutex_unlock(&list->lock);
    *ret_todos = todos;
    *ret_n = n;
    return 0;
}

static void forget(struct unsynced *list, const struct todo *todo)
{
    struct entry **at;

    (void)pthread_mutex_lock(&list->lock);
    at = find_locked(list, todo->ino, todo->object);
    if (*at != NULL) {
        remove_locked(list, at);
    }
    (void)pthread_mutex_unlock(&list->lock);
}

/* Count a failure. True: that was the last try. */
static bool count_try(struct unsynced *list, const struct todo *todo)
{
    struct entry **at;
    bool was_last = false;

    (void)pthread_mutex_lock(&list->lock);
    at = find_locked(list, todo->ino, todo->object);
    if (*at != NULL && (*at)->tries < TRIES_MAX) {
        was_last = ++(*at)->tries == TRIES_MAX;
    }
    (void)pthread_mutex_unlock(&list->lock);
    return was_last;
}

static void forget_durable(struct unsynced *list)
{
    struct entry **at = &list->first;

    (void)pthread_mutex_lock(&list->lock);
    while (*at != NULL) {
        if (log_object_is_synced((*at)->object)) {
            remove_locked(list, at);
        } else {
            at = &(*at)->next;
        }
    }
    (void)pthread_mutex_unlock(&list->lock);
}

/* Sync until the first failure: after one, the others would most likely wait as
 * long for nothing. `*ret_failed`: which one failed; `n`: none. */
static int sync_all(struct unsynced *list,
                    const struct todo *todos,
                    size_t n,
                    size_t *ret_failed)
{
    int rc = 0;
    size_t i;

    for (i = 0; i < n; i++) {
        bool is_unused;

        rc = sync_one(list, &todos[i], &is_unused);
        if (rc != 0) {
            break;
        }
        if (is_unused) {
            forget(list, &todos[i]);
        }
    }
    if (n > 0) {
        forget_durable(list);
    }
    *ret_failed = i;
    return rc;
}

static void free_todos(struct todo *todos, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        log_object_unref(todos[i].object);
    }
    free(todos);
}

int unsynced_sync(struct unsynced *list, uint64_t ino)
{
    struct todo *todos = NULL;
    size_t n = 0;
    size_t failed = 0;
    int rc = collect(list, ino, INT64_MAX, UINT_MAX, &todos, &n);

    if (rc != 0) {
        return rc;
    }
    rc = sync_all(list, todos, n, &failed);
    if (rc == -EIO) {
        forget(list, &todos[failed]); /* the caller is told */
    }
    free_todos(todos, n);
    return rc;
}

int unsynced_write_back(struct unsynced *list, int64_t before_ms)
{
    struct todo *todos = NULL;
    size_t n = 0;
    size_t failed = 0;
    int rc = collect(list, UNSYNCED_ALL, before_ms, TRIES_MAX, &todos, &n);

    if (rc != 0) {
        return rc;
    }
    rc = sync_all(list, todos, n, &failed);
    if (rc == -EIO && count_try(list, &todos[failed])) {
        log_error("data may not be durable, the next fsync tells ino=%#llx",
                  (unsigned long long)todos[failed].ino);
    }
    free_todos(todos, n);
    return rc;
}
