#include "fusefs/inode.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"

#define BUCKETS_MIN     1024u
#define XATTRS_MAX      8u
#define XATTR_NAME_ROOM 64u

/* An open belongs to the lookup before it when it comes this soon after. */
#define LOOKUP_TO_OPEN_MS 20

struct xattr_entry {
    char name[XATTR_NAME_ROOM];           /* NUL-terminated */
    uint8_t value[INODE_XATTR_VALUE_MAX]; /* `size` bytes */
    uint16_t size;                        /* of the value */
    bool exists;                          /* false: a cached ENODATA */
};

/* Guarded by the table's lock, but for `table` and `ino`, which never change.
 */
struct inode {
    struct inode_table *table; /* borrowed */
    uint64_t ino;
    struct inode *next;          /* in the bucket */
    struct inode *idle_previous; /* in the list of idle files: older */
    struct inode *idle_next;     /* newer */
    struct file *file;           /* counted: one reference, or NULL */
    struct xattr_entry *xattrs;  /* owned: XATTRS_MAX of them, or NULL */
    uint64_t lookups;            /* that the kernel will forget */
    uint32_t refs;               /* inode_get() less inode_put() */
    uint32_t n_open;             /* handles */
    uint32_t n_pins;             /* of file */
    uint32_t n_changing;         /* own changes under way */
    uint32_t n_removing;         /* of them: removals of a name */
    uint32_t n_xattrs;           /* entries in use */
    int32_t lookup_pid;          /* whose lookup was last; 0: consumed */
    int64_t lookup_ms;           /* and when */
    inode_stamp touched;         /* when an own change last began or ended */
    uint64_t op_mark;            /* latest change, for syncs */
    uint64_t pages_version;      /* of the pages that the kernel may cache */
    int64_t fresh_until_ms;      /* of attr */
    bool has_attr;               /* attr has been set at all */
    bool has_pages;              /* pages_version has been set */
    bool is_idle;                /* in the list of idle files */
    Gabion__Attr attr;           /* as last heard */
};

struct inode_table {
    pthread_mutex_t lock;
    pthread_cond_t removed;   /* some inode's n_removing has gone down */
    struct file_store *store; /* borrowed; NULL until something is opened */
    int64_t attr_ms;          /* how long attributes are fresh */
    size_t idle_max;          /* idle files to keep */
    /* The rest is guarded by lock. */
    struct inode **buckets; /* owned */
    size_t n_buckets;       /* a power of two */
    size_t n_inodes;
    struct inode *idle_oldest;
    struct inode *idle_newest;
    size_t n_idle;
    size_t n_open; /* handles of all inodes */
    inode_stamp clock;
    inode_stamp forgotten_touched; /* latest `touched` of the freed ones */
};

/* ------------------------------------------------------------- hash table */

static size_t bucket_of(const struct inode_table *table, uint64_t ino)
{
    return (size_t)((ino * 0x9e3779b97f4a7c15u) >> 32) & (table->n_buckets - 1);
}

static struct inode *find_locked(struct inode_table *table, uint64_t ino)
{
    struct inode *inode = table->buckets[bucket_of(table, ino)];

    while (inode != NULL && inode->ino != ino) {
        inode = inode->next;
    }
    return inode;
}

/* More buckets for more inodes; without memory the chains just grow. */
static void grow_locked(struct inode_table *table)
{
    size_t n_old = table->n_buckets;
    struct inode **old = table->buckets;
    struct inode **buckets = calloc(n_old * 2, sizeof(struct inode *));

    if (buckets == NULL) {
        return;
    }
    table->buckets = buckets;
    table->n_buckets = n_old * 2;
    for (size_t i = 0; i < n_old; i++) {
        while (old[i] != NULL) {
            struct inode *inode = old[i];
            struct inode **bucket = &buckets[bucket_of(table, inode->ino)];

            old[i] = inode->next;
            inode->next = *bucket;
            *bucket = inode;
        }
    }
    free(old);
}

static struct inode *add_locked(struct inode_table *table, uint64_t ino)
{
    struct inode *inode = calloc(1, sizeof *inode);
    struct inode **bucket;

    if (inode == NULL) {
        return NULL;
    }
    inode->table = table;
    inode->ino = ino;
    /* It may have been known before, and changed then. */
    inode->touched = table->forgotten_touched;
    if (table->n_inodes >= table->n_buckets) {
        grow_locked(table);
    }
    bucket = &table->buckets[bucket_of(table, ino)];
    inode->next = *bucket;
    *bucket = inode;
    table->n_inodes++;
    return inode;
}

static void unlink_locked(struct inode *inode)
{
    struct inode_table *table = inode->table;
    struct inode **link = &table->buckets[bucket_of(table, inode->ino)];

    while (*link != inode) {
        link = &(*link)->next;
    }
    *link = inode->next;
    table->n_inodes--;
}

/* -------------------------------------------------------------- idle files */

static void idle_add_locked(struct inode *inode)
{
    struct inode_table *table = inode->table;

    inode->idle_previous = table->idle_newest;
    inode->idle_next = NULL;
    if (table->idle_newest != NULL) {
        table->idle_newest->idle_next = inode;
    } else {
        table->idle_oldest = inode;
    }
    table->idle_newest = inode;
    table->n_idle++;
    inode->is_idle = true;
}

static void idle_remove_locked(struct inode *inode)
{
    struct inode_table *table = inode->table;

    if (!inode->is_idle) {
        return;
    }
    if (inode->idle_previous != NULL) {
        inode->idle_previous->idle_next = inode->idle_next;
    } else {
        table->idle_oldest = inode->idle_next;
    }
    if (inode->idle_next != NULL) {
        inode->idle_next->idle_previous = inode->idle_previous;
    } else {
        table->idle_newest = inode->idle_previous;
    }
    table->n_idle--;
    inode->is_idle = false;
}

static struct file *take_file_locked(struct inode *inode)
{
    struct file *file = inode->file;

    idle_remove_locked(inode);
    inode->file = NULL;
    return file;
}

/* Files are let go of with the lock released. */
static void put_file(struct file *file)
{
    if (file != NULL) {
        file_put(file);
    }
}

/* Nobody uses the file any more: keep it for the next open, at the cost of the
 * one that has been idle for longest. Returns what the caller must put. */
static struct file *retire_file_locked(struct inode *inode)
{
    struct inode_table *table = inode->table;

    if (inode->file == NULL || inode->n_open > 0 || inode->n_pins > 0) {
        return NULL;
    }
    if (inode->has_attr && inode->attr.nlink == 0) {
        return take_file_locked(inode);
    }
    if (!inode->is_idle) {
        idle_add_locked(inode);
    }
    return table->n_idle > table->idle_max
               ? take_file_locked(table->idle_oldest)
               : NULL;
}

/* ------------------------------------------------------------------- life */

int inode_table_new(int64_t attr_ms,
                    size_t n_idle_files,
                    struct inode_table **ret_table)
{
    struct inode_table *table = calloc(1, sizeof *table);

    if (table == NULL) {
        return -ENOMEM;
    }
    table->buckets = calloc(BUCKETS_MIN, sizeof(struct inode *));
    if (table->buckets == NULL) {
        free(table);
        return -ENOMEM;
    }
    table->n_buckets = BUCKETS_MIN;
    table->attr_ms = attr_ms;
    table->idle_max = n_idle_files;
    table->clock = 1;
    (void)pthread_mutex_init(&table->lock, NULL);
    (void)pthread_cond_init(&table->removed, NULL);
    *ret_table = table;
    return 0;
}

void inode_table_set_store(struct inode_table *table, struct file_store *store)
{
    table->store = store;
}

void inode_table_free(struct inode_table *table)
{
    if (table == NULL) {
        return;
    }
    for (size_t i = 0; i < table->n_buckets; i++) {
        while (table->buckets[i] != NULL) {
            struct inode *inode = table->buckets[i];

            table->buckets[i] = inode->next;
            put_file(inode->file);
            free(inode->xattrs);
            free(inode);
        }
    }
    (void)pthread_cond_destroy(&table->removed);
    (void)pthread_mutex_destroy(&table->lock);
    free(table->buckets);
    free(table);
}

inode_stamp inode_table_now(struct inode_table *table)
{
    inode_stamp now;

    (void)pthread_mutex_lock(&table->lock);
    now = table->clock;
    (void)pthread_mutex_unlock(&table->lock);
    return now;
}

int inode_get(struct inode_table *table, uint64_t ino, struct inode **ret_inode)
{
    struct inode *inode;

    (void)pthread_mutex_lock(&table->lock);
    inode = find_locked(table, ino);
    if (inode == NULL) {
        inode = add_locked(table, ino);
    }
    if (inode != NULL) {
        inode->refs++;
    }
    (void)pthread_mutex_unlock(&table->lock);
    *ret_inode = inode;
    return inode != NULL ? 0 : -ENOMEM;
}

struct inode *inode_find(struct inode_table *table, uint64_t ino)
{
    struct inode *inode;

    (void)pthread_mutex_lock(&table->lock);
    inode = find_locked(table, ino);
    if (inode != NULL) {
        inode->refs++;
    }
    (void)pthread_mutex_unlock(&table->lock);
    return inode;
}

/* Free the inode when nobody has it any more. Releases the lock; `file` is put
 * afterwards. */
static void settle_and_unlock(struct inode *inode, struct file *file)
{
    struct inode_table *table = inode->table;
    struct file *last = NULL;
    bool is_free =
        inode->refs == 0 && inode->lookups == 0 && inode->n_open == 0;

    if (is_free) {
        last = take_file_locked(inode);
        unlink_locked(inode);
        if (inode->touched > table->forgotten_touched) {
            table->forgotten_touched = inode->touched;
        }
    }
    (void)pthread_mutex_unlock(&table->lock);
    put_file(file);
    put_file(last);
    if (is_free) {
        free(inode->xattrs);
        free(inode);
    }
}

void inode_put(struct inode *inode)
{
    if (inode == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&inode->table->lock);
    assert(inode->refs > 0);
    inode->refs--;
    settle_and_unlock(inode, NULL);
}

uint64_t inode_number(const struct inode *inode)
{
    return inode->ino;
}

void inode_lookup_add(struct inode *inode)
{
    (void)pthread_mutex_lock(&inode->table->lock);
    inode->lookups++;
    (void)pthread_mutex_unlock(&inode->table->lock);
}

void inode_forget(struct inode_table *table, uint64_t ino, uint64_t n)
{
    struct inode *inode;

    (void)pthread_mutex_lock(&table->lock);
    inode = find_locked(table, ino);
    if (inode == NULL) {
        (void)pthread_mutex_unlock(&table->lock);
        return;
    }
    inode->lookups -= n < inode->lookups ? n : inode->lookups;
    settle_and_unlock(inode, NULL);
}

/* -------------------------------------------------------------- attributes */

static bool is_fresh_locked(const struct inode *inode, int64_t now_ms)
{
    return inode->has_attr && now_ms < inode->fresh_until_ms;
}

bool inode_attr(struct inode *inode,
                Gabion__Attr *ret_attr,
                int64_t *ret_fresh_ms)
{
    int64_t now_ms = clock_mono_ms();
    bool is_fresh;

    (void)pthread_mutex_lock(&inode->table->lock);
    is_fresh = is_fresh_locked(inode, now_ms);
    if (is_fresh) {
        *ret_attr = inode->attr;
        *ret_fresh_ms = inode->fresh_until_ms - now_ms;
    }
    (void)pthread_mutex_unlock(&inode->table->lock);
    return is_fresh;
}

uint32_t inode_mode(struct inode *inode)
{
    uint32_t mode;

    (void)pthread_mutex_lock(&inode->table->lock);
    mode = inode->has_attr ? inode->attr.mode : 0;
    (void)pthread_mutex_unlock(&inode->table->lock);
    return mode;
}

bool inode_has_xattrs(struct inode *inode)
{
    bool has_xattrs;

    (void)pthread_mutex_lock(&inode->table->lock);
    has_xattrs = inode->has_attr && inode->attr.has_xattrs;
    (void)pthread_mutex_unlock(&inode->table->lock);
    return has_xattrs;
}

static void set_attr_locked(struct inode *inode, const Gabion__Attr *attr)
{
    if (inode->has_attr && inode->attr.ctime_ns != attr->ctime_ns) {
        inode->n_xattrs = 0;
    }
    inode->attr = *attr;
    inode->attr.base.n_unknown_fields = 0;
    inode->attr.base.unknown_fields = NULL;
    inode->has_attr = true;
    inode->fresh_until_ms = clock_mono_ms() + inode->table->attr_ms;
}

static bool is_untouched_locked(const struct inode *inode, inode_stamp asked)
{
    return inode->n_changing == 0 && inode->touched <= asked;
}

bool inode_attr_answer(struct inode *inode,
                       inode_stamp asked,
                       const Gabion__Attr *attr)
{
    bool is_kept;

    (void)pthread_mutex_lock(&inode->table->lock);
    is_kept = is_untouched_locked(inode, asked);
    if (is_kept) {
        set_attr_locked(inode, attr);
    }
    (void)pthread_mutex_unlock(&inode->table->lock);
    return is_kept;
}

bool inode_is_untouched(struct inode_table *table,
                        uint64_t ino,
                        inode_stamp asked)
{
    const struct inode *inode;
    bool is_untouched;

    (void)pthread_mutex_lock(&table->lock);
    inode = find_locked(table, ino);
    is_untouched = inode != NULL ? is_untouched_locked(inode, asked)
                                 : table->forgotten_touched <= asked;
    (void)pthread_mutex_unlock(&table->lock);
    return is_untouched;
}

static void change_begin_locked(struct inode_table *table,
                                uint64_t ino,
                                struct inode_change *ret_change)
{
    struct inode *inode = find_locked(table, ino);

    if (inode == NULL) {
        inode = add_locked(table, ino);
    }
    *ret_change = (struct inode_change){ .inode = inode };
    if (inode != NULL) {
        inode->refs++;
        inode->n_changing++;
        inode->touched = ++table->clock;
        ret_change->began = inode->touched;
    }
}

void inode_change_begin(struct inode_table *table,
                        uint64_t ino,
                        struct inode_change *ret_change)
{
    (void)pthread_mutex_lock(&table->lock);
    change_begin_locked(table, ino, ret_change);
    (void)pthread_mutex_unlock(&table->lock);
}

void inode_removal_begin(struct inode_table *table,
                         uint64_t ino,
                         struct inode_change *ret_change,
                         bool *ret_open)
{
    (void)pthread_mutex_lock(&table->lock);
    change_begin_locked(table, ino, ret_change);
    *ret_open = true;
    if (ret_change->inode != NULL) {
        ret_change->is_removal = true;
        ret_change->inode->n_removing++;
        *ret_open = ret_change->inode->n_open > 0;
    }
    (void)pthread_mutex_unlock(&table->lock);
}

/* The bytes are the kernel's own if this change is the only one since it knew
 * them: versions go up by one with each change. */
static void follow_version_locked(struct inode *inode, uint64_t data_version)
{
    if (inode->has_pages && inode->pages_version + 1 == data_version) {
        inode->pages_version = data_version;
    }
}

void inode_change_end(struct inode_change *change,
                      const Gabion__Attr *attr,
                      uint64_t op_mark)
{
    struct inode *inode = change->inode;
    struct file *file = NULL;
    bool is_alone;

    if (inode == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&inode->table->lock);
    assert(inode->n_changing > 0);
    inode->n_changing--;
    if (change->is_removal) {
        inode->n_removing--;
        (void)pthread_cond_broadcast(&inode->table->removed);
    }
    is_alone = inode->n_changing == 0 && inode->touched == change->began;
    inode->touched = ++inode->table->clock;
    inode->n_xattrs = 0;
    if (op_mark > inode->op_mark) {
        inode->op_mark = op_mark;
    }
    if (attr != NULL) {
        set_attr_locked(inode, attr);
        follow_version_locked(inode, attr->data_version);
        file = attr->nlink == 0 ? retire_file_locked(inode) : NULL;
    }
    if (attr == NULL || !is_alone) {
        inode->fresh_until_ms = 0;
    }
    inode->refs--;
    settle_and_unlock(inode, file);
    change->inode = NULL;
}

uint64_t inode_op_mark(struct inode *inode)
{
    uint64_t mark;

    (void)pthread_mutex_lock(&inode->table->lock);
    mark = inode->op_mark;
    (void)pthread_mutex_unlock(&inode->table->lock);
    return mark;
}

void inode_note_lookup(struct inode *inode, int32_t pid)
{
    (void)pthread_mutex_lock(&inode->table->lock);
    inode->lookup_pid = pid;
    inode->lookup_ms = clock_mono_ms();
    (void)pthread_mutex_unlock(&inode->table->lock);
}

bool inode_take_lookup(struct inode *inode, int32_t pid)
{
    bool is_recent;

    (void)pthread_mutex_lock(&inode->table->lock);
    is_recent = pid != 0 && inode->lookup_pid == pid &&
                clock_mono_ms() - inode->lookup_ms <= LOOKUP_TO_OPEN_MS;
    inode->lookup_pid = 0;
    (void)pthread_mutex_unlock(&inode->table->lock);
    return is_recent;
}

bool inode_pages_valid(struct inode *inode,
                       uint64_t data_version,
                       bool *ret_changed)
{
    bool is_valid;

    (void)pthread_mutex_lock(&inode->table->lock);
    is_valid = inode->has_pages && inode->pages_version == data_version;
    *ret_changed = inode->has_pages && !is_valid;
    inode->has_pages = true;
    inode->pages_version = data_version;
    (void)pthread_mutex_unlock(&inode->table->lock);
    return is_valid;
}

/* ------------------------------------------------------------------ xattrs */

static struct xattr_entry *find_xattr_locked(struct inode *inode,
                                             const char *name)
{
    for (uint32_t i = 0; i < inode->n_xattrs; i++) {
        if (strcmp(inode->xattrs[i].name, name) == 0) {
            return &inode->xattrs[i];
        }
    }
    return NULL;
}

int inode_xattr(struct inode *inode,
                const char *name,
                uint8_t *value,
                size_t *ret_size)
{
    const struct xattr_entry *entry;
    int rc = -EAGAIN;

    (void)pthread_mutex_lock(&inode->table->lock);
    if (!is_fresh_locked(inode, clock_mono_ms())) {
        goto out;
    }
    if (!inode->attr.has_xattrs) {
        rc = -ENODATA;
        goto out;
    }
    entry = find_xattr_locked(inode, name);
    if (entry != NULL && entry->exists) {
        memcpy(value, entry->value, entry->size);
        *ret_size = entry->size;
        rc = 0;
    } else if (entry != NULL) {
        rc = -ENODATA;
    }
out:
    (void)pthread_mutex_unlock(&inode->table->lock);
    return rc;
}

void inode_xattr_answer(struct inode *inode,
                        inode_stamp asked,
                        const char *name,
                        const uint8_t *value,
                        size_t size)
{
    struct xattr_entry *entry;

    if (strlen(name) >= XATTR_NAME_ROOM || size > INODE_XATTR_VALUE_MAX) {
        return;
    }
    (void)pthread_mutex_lock(&inode->table->lock);
    if (inode->xattrs == NULL) {
        inode->xattrs = calloc(XATTRS_MAX, sizeof *inode->xattrs);
    }
    if (inode->xattrs == NULL || !is_untouched_locked(inode, asked)) {
        goto out;
    }
    entry = find_xattr_locked(inode, name);
    if (entry == NULL) {
        if (inode->n_xattrs == XATTRS_MAX) {
            inode->n_xattrs = 0;
        }
        entry = &inode->xattrs[inode->n_xattrs++];
    }
    memset(entry, 0, sizeof *entry);
    memcpy(entry->name, name, strlen(name));
    entry->exists = value != NULL;
    if (value != NULL) {
        memcpy(entry->value, value, size);
        entry->size = (uint16_t)size;
    }
out:
    (void)pthread_mutex_unlock(&inode->table->lock);
}

/* -------------------------------------------------------------- open files */

int inode_open(struct inode *inode, bool with_file, struct file **ret_file)
{
    struct inode_table *table = inode->table;
    struct file *file;
    struct file *surplus = NULL;
    int rc;

    (void)pthread_mutex_lock(&table->lock);
    inode->n_open++;
    table->n_open++;
    while (inode->n_removing > 0) {
        (void)pthread_cond_wait(&table->removed, &table->lock);
    }
    idle_remove_locked(inode);
    file = inode->file;
    (void)pthread_mutex_unlock(&table->lock);
    *ret_file = file;
    if (file != NULL || !with_file) {
        return 0;
    }
    rc = file_get(table->store, inode->ino, &file);
    if (rc != 0) {
        inode_close(inode);
        return rc;
    }
    (void)pthread_mutex_lock(&table->lock);
    if (inode->file == NULL) {
        inode->file = file;
    } else {
        surplus = file;
    }
    *ret_file = inode->file;
    (void)pthread_mutex_unlock(&table->lock);
    put_file(surplus);
    return 0;
}

void inode_close(struct inode *inode)
{
    (void)pthread_mutex_lock(&inode->table->lock);
    assert(inode->n_open > 0);
    inode->n_open--;
    inode->table->n_open--;
    settle_and_unlock(inode, retire_file_locked(inode));
}

uint32_t inode_n_open(struct inode *inode)
{
    uint32_t n_open;

    (void)pthread_mutex_lock(&inode->table->lock);
    n_open = inode->n_open;
    (void)pthread_mutex_unlock(&inode->table->lock);
    return n_open;
}

bool inode_any_open(struct inode_table *table)
{
    bool any;

    (void)pthread_mutex_lock(&table->lock);
    any = table->n_open > 0;
    (void)pthread_mutex_unlock(&table->lock);
    return any;
}

bool inode_orphaned(struct inode_table *table, uint64_t ino)
{
    struct inode *inode;
    bool is_open;

    (void)pthread_mutex_lock(&table->lock);
    inode = find_locked(table, ino);
    is_open = inode != NULL && inode->n_open > 0;
    if (inode != NULL && !is_open) {
        inode->fresh_until_ms = 0;
        inode->lookup_pid = 0;
    }
    (void)pthread_mutex_unlock(&table->lock);
    return is_open;
}

struct file *inode_file_pin(struct inode *inode)
{
    struct file *file;

    (void)pthread_mutex_lock(&inode->table->lock);
    file = inode->file;
    if (file != NULL) {
        inode->n_pins++;
        idle_remove_locked(inode);
    }
    (void)pthread_mutex_unlock(&inode->table->lock);
    return file;
}

void inode_file_unpin(struct inode *inode)
{
    (void)pthread_mutex_lock(&inode->table->lock);
    assert(inode->n_pins > 0);
    inode->n_pins--;
    settle_and_unlock(inode, retire_file_locked(inode));
}
