#include "fusefs/unsynced.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "common/clock.h"

struct entry {
    struct entry *next;        /* NULL: the last */
    uint64_t ino;              /* of the file */
    struct log_object *object; /* counted */
    int64_t since_ms;          /* when it was added, clock_mono_ms() */
    unsigned tries;            /* that failed */
};

struct unsynced {
    pthread_mutex_t lock; /* guards all below */
    struct entry *first;  /* oldest; NULL: empty */
    struct entry **last;  /* where the next entry is linked */
    size_t count;         /* entries */
};

int unsynced_new(struct unsynced **ret_list)
{
    struct unsynced *list = calloc(1, sizeof *list);

    if (list == NULL) {
        return -ENOMEM;
    }
    (void)pthread_mutex_init(&list->lock, NULL);
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

static bool has_locked(const struct unsynced *list,
                       uint64_t ino,
                       const struct log_object *object)
{
    for (const struct entry *e = list->first; e != NULL; e = e->next) {
        if (e->ino == ino && e->object == object) {
            return true;
        }
    }
    return false;
}

int unsynced_share(struct unsynced *list, uint64_t source, uint64_t ino)
{
    int rc = 0;

    (void)pthread_mutex_lock(&list->lock);
    for (struct entry *e = list->first; e != NULL && rc == 0; e = e->next) {
        if (e->ino == source && !has_locked(list, ino, e->object)) {
            rc = add_locked(list, ino, e->object, e->since_ms);
        }
    }
    (void)pthread_mutex_unlock(&list->lock);
    return rc;
}

static bool is_wanted(const struct entry *entry,
                      uint64_t ino,
                      int64_t before_ms)
{
    return (ino == UNSYNCED_ALL || entry->ino == ino) &&
           entry->since_ms <= before_ms;
}

/* The objects to sync, each counted. They stay in the list meanwhile, so that
 * another caller waits for them too. */
static int collect(struct unsynced *list,
                   uint64_t ino,
                   int64_t before_ms,
                   struct log_object ***ret_objects,
                   size_t *ret_n)
{
    struct log_object **objects = NULL;
    size_t n = 0;

    (void)pthread_mutex_lock(&list->lock);
    if (list->count > 0) {
        objects = malloc(list->count * sizeof *objects);
        if (objects == NULL) {
            (void)pthread_mutex_unlock(&list->lock);
            return -ENOMEM;
        }
    }
    for (struct entry *e = list->first; e != NULL; e = e->next) {
        if (is_wanted(e, ino, before_ms)) {
            objects[n++] = log_object_ref(e->object);
        }
    }
    (void)pthread_mutex_unlock(&list->lock);
    *ret_objects = objects;
    *ret_n = n;
    return 0;
}

/* Forget what is durable now; count a try for `failed`, which may be NULL. */
static void settle(struct unsynced *list, const struct log_object *failed)
{
    struct entry **at = &list->first;

    (void)pthread_mutex_lock(&list->lock);
    while (*at != NULL) {
        if (log_object_is_synced((*at)->object)) {
            remove_locked(list, at);
            continue;
        }
        if ((*at)->object == failed) {
            (*at)->tries++;
        }
        at = &(*at)->next;
    }
    (void)pthread_mutex_unlock(&list->lock);
}

int unsynced_sync(struct unsynced *list, uint64_t ino, int64_t before_ms)
{
    struct log_object **objects;
    size_t n;
    size_t i;
    int rc = collect(list, ino, before_ms, &objects, &n);

    if (rc != 0) {
        return rc;
    }
    /* After a failure the others would most likely wait as long for nothing. */
    for (i = 0; i < n; i++) {
        rc = log_object_sync(objects[i]);
        if (rc != 0) {
            break;
        }
    }
    if (n > 0) {
        settle(list, rc != 0 ? objects[i] : NULL);
    }
    for (i = 0; i < n; i++) {
        log_object_unref(objects[i]);
    }
    free(objects);
    return rc;
}

size_t unsynced_give_up(struct unsynced *list,
                        unsigned tries_max,
                        uint64_t *ret_inos,
                        size_t max)
{
    struct entry **at = &list->first;
    size_t n = 0;

    (void)pthread_mutex_lock(&list->lock);
    while (*at != NULL && n < max) {
        if ((*at)->tries >= tries_max) {
            ret_inos[n++] = (*at)->ino;
            remove_locked(list, at);
        } else {
            at = &(*at)->next;
        }
    }
    (void)pthread_mutex_unlock(&list->lock);
    return n;
}
