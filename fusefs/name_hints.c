#include "fusefs/name_hints.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

/* Two places per name; 512 KiB in all. */
#define N_SETS 8192u
#define N_WAYS 2u

struct hint {
    uint64_t parent; /* 0: unused */
    uint64_t hash;   /* of the name */
    uint64_t ino;
    inode_stamp when;
};

struct name_hints {
    pthread_mutex_t lock;
    struct hint sets[N_SETS][N_WAYS]; /* guarded by lock */
};

int name_hints_new(struct name_hints **ret_hints)
{
    struct name_hints *hints = calloc(1, sizeof *hints);

    if (hints == NULL) {
        return -ENOMEM;
    }
    (void)pthread_mutex_init(&hints->lock, NULL);
    *ret_hints = hints;
    return 0;
}

void name_hints_free(struct name_hints *hints)
{
    if (hints != NULL) {
        (void)pthread_mutex_destroy(&hints->lock);
        free(hints);
    }
}

/* 64 bits, so that two names of a directory that share a hash need not be
 * feared (FNV-1a, then mixed). */
static uint64_t hash_name(uint64_t parent, const char *name)
{
    uint64_t hash = 0xcbf29ce484222325u ^ parent;

    for (; *name != '\0'; name++) {
        hash = (hash ^ (uint8_t)*name) * 0x100000001b3u;
    }
    hash = (hash ^ hash >> 32) * 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 29;
}

static struct hint *find_locked(struct hint *set,
                                uint64_t parent,
                                uint64_t hash)
{
    for (unsigned way = 0; way < N_WAYS; way++) {
        if (set[way].parent == parent && set[way].hash == hash) {
            return &set[way];
        }
    }
    return NULL;
}

static struct hint *oldest_locked(struct hint *set)
{
    struct hint *oldest = &set[0];

    for (unsigned way = 1; way < N_WAYS; way++) {
        if (set[way].when < oldest->when) {
            oldest = &set[way];
        }
    }
    return oldest;
}

void name_hints_set(struct name_hints *hints,
                    uint64_t parent,
                    const char *name,
                    uint64_t ino,
                    inode_stamp when)
{
    uint64_t hash = hash_name(parent, name);
    struct hint *set = hints->sets[hash % N_SETS];
    struct hint *hint;

    (void)pthread_mutex_lock(&hints->lock);
    hint = find_locked(set, parent, hash);
    if (hint == NULL) {
        hint = oldest_locked(set);
    } else if (hint->when > when) {
        hint = NULL;
    }
    if (hint != NULL) {
        *hint = (struct hint){ parent, hash, ino, when };
    }
    (void)pthread_mutex_unlock(&hints->lock);
}

bool name_hints_get(struct name_hints *hints,
                    uint64_t parent,
                    const char *name,
                    uint64_t *ret_ino)
{
    uint64_t hash = hash_name(parent, name);
    const struct hint *hint;

    (void)pthread_mutex_lock(&hints->lock);
    hint = find_locked(hints->sets[hash % N_SETS], parent, hash);
    if (hint != NULL) {
        *ret_ino = hint->ino;
    }
    (void)pthread_mutex_unlock(&hints->lock);
    return hint != NULL;
}
