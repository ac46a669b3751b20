#include "fusefs/dir_ahead.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"

/* Directories that are watched at a time. */
#define N_WATCHED 16u

/* That many lookups within PERIOD_MS make a listing worth its while. */
#define LOOKUPS_MIN 4u
#define PERIOD_MS   1000

struct watched {
    uint64_t parent;  /* 0: unused */
    int64_t since_ms; /* of the period */
    unsigned n_lookups;
    bool is_fetching;           /* somebody does */
    bool is_large;              /* the listing had more than it may have */
    Gabion__ReadDirReply *page; /* owned, or NULL */
    inode_stamp asked;          /* of page */
    int64_t until_ms;           /* page may be used */
    size_t next;                /* in page: where to look first */
};

struct dir_ahead {
    struct inode_table *inodes; /* borrowed */
    int64_t life_ms;
    pthread_mutex_t lock;              /* guards what follows */
    struct watched watched[N_WATCHED]; /* last used first */
};

int dir_ahead_new(struct inode_table *inodes,
                  int64_t life_ms,
                  struct dir_ahead **ret_ahead)
{
    struct dir_ahead *ahead = calloc(1, sizeof *ahead);

    if (ahead == NULL) {
        return -ENOMEM;
    }
    ahead->inodes = inodes;
    ahead->life_ms = life_ms;
    (void)pthread_mutex_init(&ahead->lock, NULL);
    *ret_ahead = ahead;
    return 0;
}

static void drop_page(struct watched *watched)
{
    if (watched->page != NULL) {
        gabion__read_dir_reply__free_unpacked(watched->page, NULL);
        watched->page = NULL;
    }
}

void dir_ahead_free(struct dir_ahead *ahead)
{
    if (ahead == NULL) {
        return;
    }
    for (unsigned i = 0; i < N_WATCHED; i++) {
        drop_page(&ahead->watched[i]);
    }
    (void)pthread_mutex_destroy(&ahead->lock);
    free(ahead);
}

void dir_ahead_clear(struct dir_ahead *ahead)
{
    (void)pthread_mutex_lock(&ahead->lock);
    for (unsigned i = 0; i < N_WATCHED; i++) {
        drop_page(&ahead->watched[i]);
    }
    (void)pthread_mutex_unlock(&ahead->lock);
}

/* The directory's place, or NULL. */
static struct watched *find_locked(struct dir_ahead *ahead, uint64_t parent)
{
    for (unsigned i = 0; i < N_WATCHED; i++) {
        if (ahead->watched[i].parent == parent) {
            return &ahead->watched[i];
        }
    }
    return NULL;
}

/* The directory's place, brought to the front: a new one takes that of the
 * directory not used for longest. */
static struct watched *watch_locked(struct dir_ahead *ahead, uint64_t parent)
{
    struct watched *place = find_locked(ahead, parent);
    struct watched watched;

    if (place == NULL) {
        place = &ahead->watched[N_WATCHED - 1];
        drop_page(place);
        *place = (struct watched){ .parent = parent };
    }
    watched = *place;
    memmove(&ahead->watched[1], &ahead->watched[0],
            (size_t)(place - ahead->watched) * sizeof *place);
    ahead->watched[0] = watched;
    return &ahead->watched[0];
}

/* The page's entry of that name, or NULL. Programs ask in the order of the
 * listing, more often than not. */
static const Gabion__DirEntry *find_entry(struct watched *watched,
                                          const char *name)
{
    const Gabion__ReadDirReply *page = watched->page;
    size_t length = strlen(name);

    for (size_t i = 0; i < page->n_entry; i++) {
        size_t at = (watched->next + i) % page->n_entry;
        const Gabion__DirEntry *entry = page->entry[at];

        if (entry->name.len == length &&
            memcmp(entry->name.data, name, length) == 0) {
            watched->next = at + 1;
            return entry;
        }
    }
    return NULL;
}

bool dir_ahead_get(struct dir_ahead *ahead,
                   uint64_t parent,
                   const char *name,
                   Gabion__Attr *ret_attr,
                   inode_stamp *ret_asked)
{
    const Gabion__DirEntry *entry = NULL;
    struct watched *watched;

    (void)pthread_mutex_lock(&ahead->lock);
    watched = find_locked(ahead, parent);
    if (watched != NULL && watched->page != NULL &&
        clock_mono_ms() < watched->until_ms &&
        inode_is_untouched(ahead->inodes, parent, watched->asked)) {
        entry = find_entry(watched, name);
    }
    if (entry != NULL &&
        (entry->attr == NULL ||
         !inode_is_untouched(ahead->inodes, entry->ino, watched->asked))) {
        entry = NULL;
    }
    if (entry != NULL) {
        *ret_attr = *entry->attr;
        ret_attr->base.n_unknown_fields = 0;
        ret_attr->base.unknown_fields = NULL;
        *ret_asked = watched->asked;
    }
    (void)pthread_mutex_unlock(&ahead->lock);
    return entry != NULL;
}

bool dir_ahead_is_wanted(struct dir_ahead *ahead, uint64_t parent)
{
    int64_t now_ms = clock_mono_ms();
    struct watched *watched;
    bool is_wanted;

    if (ahead->life_ms == 0) {
        return false;
    }
    (void)pthread_mutex_lock(&ahead->lock);
    watched = watch_locked(ahead, parent);
    if (now_ms - watched->since_ms > PERIOD_MS) {
        watched->since_ms = now_ms;
        watched->n_lookups = 0;
    }
    watched->n_lookups++;
    is_wanted = watched->n_lookups >= LOOKUPS_MIN && !watched->is_fetching &&
                !watched->is_large;
    if (is_wanted) {
        watched->is_fetching = true;
        watched->n_lookups = 0;
    }
    (void)pthread_mutex_unlock(&ahead->lock);
    return is_wanted;
}

void dir_ahead_put(struct dir_ahead *ahead,
                   uint64_t parent,
                   Gabion__ReadDirReply *page,
                   inode_stamp asked)
{
    struct watched *watched;

    (void)pthread_mutex_lock(&ahead->lock);
    watched = find_locked(ahead, parent);
    if (watched != NULL) {
        drop_page(watched);
        watched->is_fetching = false;
        watched->is_large = page != NULL && !page->end;
        watched->page = page;
        watched->asked = asked;
        watched->until_ms = clock_mono_ms() + ahead->life_ms;
        watched->next = 0;
        page = NULL;
    }
    (void)pthread_mutex_unlock(&ahead->lock);
    if (page != NULL) {
        gabion__read_dir_reply__free_unpacked(page, NULL);
    }
}
