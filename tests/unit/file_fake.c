#include "tests/unit/file_fake.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/checksum.h"
#include "common/clock.h"
#include "common/placement.h"
#include "fusefs/pending.h"

#define N_BUCKETS   65536u
#define INO_MAX     4096u
#define OBJECTS_MAX 65536u

#define SKIP_EXTENTS_MIN 256u

/* A block on a node. */
struct block {
    struct block *next;
    struct block_key key;
    uint32_t node;
    uint32_t length;
    bool is_synced;
    uint8_t data[];
};

struct queue {
    struct block_op *first; /* linked by impl, newest first */
    struct queue *next;     /* of all queues */
};

struct fake_object {
    struct object_info info;
    uint64_t live; /* bytes that extents refer to */
    bool is_known; /* committed and not yet reaped */
};

struct fake_extent {
    uint64_t offset, length, object_offset;
    uint32_t object; /* index into objects; 0: inline */
    uint8_t *data;   /* owned */
};

struct fake_inode {
    struct file_attr attr;
    struct file_set set;         /* latest of each that was committed */
    struct fake_extent *extents; /* ascending */
    size_t n, max;
    bool is_gone;
};

/* One mount's view of the shard: object ids are its own. */
struct fake_mount {
    struct file_meta meta; /* first */
    struct file_fake *fake;
    struct file_store *store;
    uint64_t session;
    uint64_t serial; /* atomic */
};

struct file_fake {
    struct block_io io; /* first */
    struct file_fake_config config;
    struct placement *placement;
    struct objio *objio;
    struct fake_mount mounts[2];
    pthread_key_t key; /* the thread's queue */
    pthread_mutex_t node_lock;
    struct block *buckets[N_BUCKETS];
    struct queue *queues;
    enum file_fake_mode modes[FAKE_FILE_NODES + 1];
    pthread_mutex_t meta_lock;
    struct fake_inode inodes[INO_MAX];
    struct fake_object objects[OBJECTS_MAX];
    uint32_t n_objects;
    unsigned n_failures;
    int failure_rc;
    bool failure_applied;
    int clone_error;
    bool reaping;
    uint64_t n_restarts[FAKE_FILE_NODES + 1]; /* by node id: node_lock */
    size_t page;
    struct file_fake_counts counts; /* puts, gets, block syncs: node_lock */
};

/* -------------------------------------------------------------------- nodes */

static struct block **bucket(struct file_fake *fake,
                             const struct block_key *key,
                             uint32_t node)
{
    uint64_t h = key->object.session * 7 + key->object.serial;

    h = (h * 131 + key->stripe) * 31 + key->index * 8 + node;
    h *= 0x9e3779b97f4a7c15u;
    return &fake->buckets[(h >> 32) % N_BUCKETS];
}

static struct block **find_block(struct file_fake *fake,
                                 const struct block_key *key,
                                 uint32_t node)
{
    struct block **at = bucket(fake, key, node);

    while (*at != NULL &&
           ((*at)->node != node || block_key_compare(&(*at)->key, key) != 0)) {
        at = &(*at)->next;
    }
    return at;
}

static int put_block(struct file_fake *fake, struct block_op *op)
{
    struct block **at = find_block(fake, &op->key, op->node);
    struct block *block;

    fake->counts.n_puts++;
    if (fake->modes[op->node] == FAKE_NOSPC) {
        return -ENOSPC;
    }
    if (fake->config.discard) {
        return 0;
    }
    if (checksum_verify(op->buf->data + op->buf_offset, op->length,
                        op->checksums) >= 0) {
        fake->counts.n_errors++; /* the buffer changed under way */
        return -EBADMSG;
    }
    block = malloc(sizeof *block + op->length);
    assert(block != NULL);
    block->key = op->key;
    block->node = op->node;
    block->length = op->length;
    block->is_synced = false;
    memcpy(block->data, op->buf->data + op->buf_offset, op->length);
    if (*at != NULL) {
        block->next = (*at)->next;
        free(*at);
    } else {
        block->next = NULL;
    }
    *at = block;
    return 0;
}

static int get_block(struct file_fake *fake, struct block_op *op)
{
    struct block *block = *find_block(fake, &op->key, op->node);

    fake->counts.n_gets++;
    if (fake->config.discard) {
        op->result_length = op->length;
        return 0;
    }
    if (block == NULL) {
        return -ENOENT;
    }
    if (op->offset >= block->length) {
        return -EIO;
    }
    op->result_length = op->length < block->length - op->offset
                            ? op->length
                            : block->length - op->offset;
    memcpy(op->target, block->data + op->offset, op->result_length);
    return 0;
}

static void sync_node(struct file_fake *fake, uint32_t node)
{
    for (size_t i = 0; i < N_BUCKETS; i++) {
        for (struct block *b = fake->buckets[i]; b != NULL; b = b->next) {
            b->is_synced = b->is_synced || b->node == node;
        }
    }
}

static void start(struct block_io *io,
                  struct block_queue *block_queue,
                  struct block_op *op)
{
    struct file_fake *fake = (struct file_fake *)io;
    struct queue *queue = (struct queue *)block_queue;

    (void)pthread_mutex_lock(&fake->node_lock);
    op->result_instance = 1 + fake->n_restarts[op->node];
    if (fake->modes[op->node] == FAKE_GONE) {
        op->rc = -EHOSTUNREACH;
    } else if (op->type == BLOCK_PUT) {
        op->rc = put_block(fake, op);
    } else if (op->type == BLOCK_GET) {
        op->rc = get_block(fake, op);
    } else {
        fake->counts.n_block_syncs++;
        sync_node(fake, op->node);
        op->rc = 0;
    }
    (void)pthread_mutex_unlock(&fake->node_lock);
    op->impl = queue->first;
    queue->first = op;
}

static int wait_done(struct block_io *io,
                     struct block_queue *block_queue,
                     int64_t until)
{
    struct queue *queue = (struct queue *)block_queue;
    struct block_op *op = queue->first;
    struct timespec pause = { 0, 1000000 };

    (void)io;
    if (op == NULL) {
        /* Nothing will come; the caller wants to pass the time. */
        while (clock_mono_ms() < until) {
            (void)nanosleep(&pause, NULL);
        }
        return -ETIMEDOUT;
    }
    queue->first = op->impl;
    op->done(op);
    return 0;
}

static void cancel(struct block_io *io, struct block_op *op)
{
    (void)io;
    (void)op;
}

static bool is_up(struct block_io *io, uint32_t node)
{
    struct file_fake *fake = (struct file_fake *)io;
    bool up;

    (void)pthread_mutex_lock(&fake->node_lock);
    up = fake->modes[node] != FAKE_GONE;
    (void)pthread_mutex_unlock(&fake->node_lock);
    return up;
}

static struct block_queue *get_queue(struct block_io *io)
{
    struct file_fake *fake = (struct file_fake *)io;
    struct queue *queue = pthread_getspecific(fake->key);

    if (queue == NULL) {
        queue = calloc(1, sizeof *queue);
        assert(queue != NULL);
        (void)pthread_mutex_lock(&fake->node_lock);
        queue->next = fake->queues;
        fake->queues = queue;
        (void)pthread_mutex_unlock(&fake->node_lock);
        (void)pthread_setspecific(fake->key, queue);
    }
    return (struct block_queue *)queue;
}

/* Delete the blocks of the object; NULL: all that are not synced. */
static void delete_blocks_locked(struct file_fake *fake,
                                 const struct object_id *id)
{
    for (size_t i = 0; i < N_BUCKETS; i++) {
        struct block **at = &fake->buckets[i];

        while (*at != NULL) {
            struct block *block = *at;

            if (id != NULL ? object_id_compare(&block->key.object, id) == 0
                           : !block->is_synced) {
                *at = block->next;
                free(block);
            } else {
                at = &block->next;
            }
        }
    }
}

static void delete_blocks(struct file_fake *fake, const struct object_id *id)
{
    (void)pthread_mutex_lock(&fake->node_lock);
    delete_blocks_locked(fake, id);
    (void)pthread_mutex_unlock(&fake->node_lock);
}

void file_fake_set_node(struct file_fake *fake,
                        uint32_t node,
                        enum file_fake_mode mode)
{
    (void)pthread_mutex_lock(&fake->node_lock);
    fake->modes[node] = mode;
    (void)pthread_mutex_unlock(&fake->node_lock);
}

void file_fake_restart_all(struct file_fake *fake, bool lose)
{
    (void)pthread_mutex_lock(&fake->node_lock);
    if (lose) {
        delete_blocks_locked(fake, NULL);
    }
    for (uint32_t i = 1; i <= FAKE_FILE_NODES; i++) {
        fake->n_restarts[i]++;
    }
    (void)pthread_mutex_unlock(&fake->node_lock);
}

void file_fake_set_all(struct file_fake *fake, enum file_fake_mode mode)
{
    for (uint32_t i = 1; i <= FAKE_FILE_NODES; i++) {
        file_fake_set_node(fake, i, mode);
    }
}

/* ----------------------------------------------------------------- the shard
 */

static struct file_fake *fake_of(struct file_meta *meta)
{
    return ((struct fake_mount *)meta)->fake;
}

static void unref_object(struct file_fake *fake, uint32_t index, uint64_t bytes)
{
    struct fake_object *object = &fake->objects[index];

    if (index == 0) {
        return;
    }
    assert(object->live >= bytes);
    object->live -= bytes;
}

static void reap(struct file_fake *fake)
{
    for (uint32_t i = 1; fake->reaping && i <= fake->n_objects; i++) {
        struct fake_object *object = &fake->objects[i];

        if (object->is_known && object->live == 0) {
            object->is_known = false;
            delete_blocks(fake, &object->info.id);
        }
    }
}

static void add_extent(struct file_fake *fake,
                       struct fake_inode *inode,
                       size_t at,
                       const struct fake_extent *extent)
{
    if (inode->n == inode->max) {
        inode->max = inode->max * 2 + 16;
        inode->extents =
            realloc(inode->extents, inode->max * sizeof *inode->extents);
        assert(inode->extents != NULL);
    }
    memmove(&inode->extents[at + 1], &inode->extents[at],
            (inode->n - at) * sizeof *extent);
    inode->extents[at] = *extent;
    inode->n++;
    inode->attr.allocated += extent->length;
    fake->objects[extent->object].live += extent->length;
}

static uint8_t *copy_of(const uint8_t *data, uint64_t length)
{
    uint8_t *copy = malloc(length);

    assert(copy != NULL);
    memcpy(copy, data, length);
    return copy;
}

/* The part from..to-1 of an extent, with inline bytes of its own. */
static struct fake_extent part(const struct fake_extent *extent,
                               uint64_t from,
                               uint64_t to)
{
    struct fake_extent result = *extent;
    uint64_t skip = from - extent->offset;

    result.offset = from;
    result.length = to - from;
    if (extent->data != NULL) {
        result.data = copy_of(extent->data + skip, result.length);
    } else {
        result.object_offset += skip;
    }
    return result;
}

/* Remove from..to-1. Returns where an extent at `from` would be inserted. */
static size_t punch(struct file_fake *fake,
                    struct fake_inode *inode,
                    uint64_t from,
                    uint64_t to)
{
    size_t at = 0;
    size_t high = inode->n;

    while (at < high) {
        size_t middle = (at + high) / 2;
        const struct fake_extent *e = &inode->extents[middle];

        if (e->offset + e->length <= from) {
            at = middle + 1;
        } else {
            high = middle;
        }
    }
    while (at < inode->n && inode->extents[at].offset < to) {
        struct fake_extent old = inode->extents[at];
        uint64_t end = old.offset + old.length;

        memmove(&inode->extents[at], &inode->extents[at + 1],
                (inode->n - at - 1) * sizeof old);
        inode->n--;
        inode->attr.allocated -= old.length;
        unref_object(fake, old.object, old.length);
        if (end > to) {
            struct fake_extent right = part(&old, to, end);

            add_extent(fake, inode, at, &right);
        }
        if (old.offset < from) {
            struct fake_extent left = part(&old, old.offset, from);

            add_extent(fake, inode, at++, &left);
        }
        free(old.data);
        if (end > to) {
            break;
        }
    }
    return at;
}

static uint32_t find_object(struct file_fake *fake, const struct object_id *id)
{
    for (uint32_t i = fake->n_objects; i > 0; i--) {
        if (object_id_compare(&fake->objects[i].info.id, id) == 0) {
            return i;
        }
    }
    return 0;
}

/* An object may be committed again: when the answer to its first commit was
 * lost. One that is gone already must not come back. */
static uint32_t commit_object(struct file_fake *fake,
                              const struct object_info *info)
{
    uint32_t index = find_object(fake, &info->id);

    if (index != 0) {
        struct fake_object *object = &fake->objects[index];

        if (!object->is_known || object->info.size != info->size) {
            fake->counts.n_errors++;
        }
        return index;
    }
    index = ++fake->n_objects;
    assert(index < OBJECTS_MAX);
    fake->objects[index].info = *info;
    fake->objects[index].is_known = true;
    fake->counts.n_objects_committed++;
    return index;
}

static void apply_write(struct file_fake *fake,
                        const struct file_write *write,
                        const uint32_t *objects,
                        size_t n_objects)
{
    struct fake_inode *inode = &fake->inodes[write->ino];
    struct file_set set;
    uint64_t last = 0;
    /* Measuring is not for this array's insertions. */
    bool skip = fake->config.discard && write->n_extents > SKIP_EXTENTS_MIN;

    for (size_t i = 0; i < write->n_extents && !skip; i++) {
        const struct extent *e = &write->extents[i];
        struct fake_extent new = { .offset = e->offset,
                                   .length = e->length,
                                   .object_offset = e->object_offset };

        if (e->offset < last || e->length == 0 ||
            e->offset + e->length > write->end) {
            fake->counts.n_errors++;
        }
        last = e->offset + e->length;
        if (e->data != NULL) {
            new.data = copy_of(e->data, e->length);
            fake->counts.n_errors += e->length > FILE_INLINE_MAX;
            new.object_offset = 0;
        } else if (e->object >= n_objects) {
            fake->counts.n_errors++;
            continue;
        } else {
            new.object = objects[e->object];
            fake->counts.n_errors += e->object_offset + e->length >
                                     fake->objects[new.object].info.size;
        }
        add_extent(fake, inode,
                   punch(fake, inode, e->offset, e->offset + e->length), &new);
    }
    if (write->n_extents > 0 || write->end > inode->attr.size) {
        inode->attr.data_version++;
    }
    if (write->end > inode->attr.size) {
        inode->attr.size = write->end;
    }
    if (write->mtime_ns != 0) {
        inode->attr.mtime_ns = write->mtime_ns;
    }
    set = write->set;
    file_set_add_older(&set, &inode->set);
    inode->set = set;
}

static void apply_commit(struct file_fake *fake,
                         const struct file_commit *commit)
{
    size_t n_objects = commit->n_objects;
    uint32_t *indexes = calloc(n_objects + 1, sizeof *indexes);

    assert(indexes != NULL);
    for (size_t i = 0; i < n_objects; i++) {
        indexes[i] = commit_object(fake, &commit->objects[i]);
        fake->objects[indexes[i]].live++; /* not to be reaped half-way */
    }
    for (size_t i = 0; i < commit->n_writes; i++) {
        apply_write(fake, &commit->writes[i], indexes, n_objects);
    }
    for (size_t i = 0; i < n_objects; i++) {
        fake->objects[indexes[i]].live--;
    }
    free(indexes);
    reap(fake);
}

static int commit(struct file_meta *meta,
                  const struct file_commit *what,
                  struct file_attr *ret_attrs)
{
    struct file_fake *fake = fake_of(meta);
    size_t n = what->n_writes;
    int rc = 0;
    bool apply = true;

    (void)pthread_mutex_lock(&fake->meta_lock);
    fake->counts.n_commits++;
    fake->counts.n_commits_durable += what->durable;
    fake->counts.n_files_committed += n;
    for (size_t i = 0; i < n; i++) {
        if (fake->inodes[what->writes[i].ino].is_gone) {
            rc = -ENOENT;
            apply = false;
        }
    }
    if (rc == 0 && fake->n_failures > 0) {
        fake->n_failures--;
        rc = fake->failure_rc;
        apply = fake->failure_applied;
    }
    if (apply) {
        apply_commit(fake, what);
    }
    for (size_t i = 0; i < n && rc == 0; i++) {
        ret_attrs[i] = fake->inodes[what->writes[i].ino].attr;
    }
    (void)pthread_mutex_unlock(&fake->meta_lock);
    return rc;
}

static void release_layout(struct layout *layout)
{
    free(layout->memory);
    free(layout->objects);
    for (size_t i = 0; i < layout->n_extents; i++) {
        free((void *)(uintptr_t)layout->extents[i].data);
    }
    free(layout->extents);
}

static int get_layout(struct file_meta *meta,
                      uint64_t ino,
                      uint64_t offset,
                      struct layout *ret)
{
    struct file_fake *fake = fake_of(meta);
    struct fake_inode *inode = &fake->inodes[ino];
    size_t from = 0;

    (void)pthread_mutex_lock(&fake->meta_lock);
    fake->counts.n_layouts++;
    if (inode->is_gone) {
        (void)pthread_mutex_unlock(&fake->meta_lock);
        return -ENOENT;
    }
    memset(ret, 0, sizeof *ret);
    ret->attr = inode->attr;
    ret->release = release_layout;
    while (from < inode->n &&
           inode->extents[from].offset + inode->extents[from].length <=
               offset) {
        from++;
    }
    ret->n_extents = inode->n - from;
    ret->end = ret->n_extents <= fake->page;
    ret->n_extents = ret->end ? ret->n_extents : fake->page;
    ret->extents = calloc(ret->n_extents + 1, sizeof *ret->extents);
    ret->objects = calloc(ret->n_extents + 1, sizeof *ret->objects);
    assert(ret->extents != NULL && ret->objects != NULL);
    for (size_t i = 0; i < ret->n_extents; i++) {
        const struct fake_extent *e = &inode->extents[from + i];
        struct extent *out = &ret->extents[i];

        out->offset = e->offset;
        out->length = e->length;
        out->object_offset = e->object_offset;
        if (e->data != NULL) {
            out->data = copy_of(e->data, e->length);
        } else {
            out->object = (uint32_t)ret->n_objects;
            ret->objects[ret->n_objects++] = fake->objects[e->object].info;
        }
    }
    (void)pthread_mutex_unlock(&fake->meta_lock);
    return 0;
}

static int sync_meta(struct file_meta *meta)
{
    struct file_fake *fake = fake_of(meta);

    (void)pthread_mutex_lock(&fake->meta_lock);
    fake->counts.n_syncs++;
    (void)pthread_mutex_unlock(&fake->meta_lock);
    return 0;
}

static int set_size(struct file_meta *meta,
                    uint64_t ino,
                    uint64_t size,
                    int64_t mtime_ns,
                    struct file_attr *ret_attr)
{
    struct file_fake *fake = fake_of(meta);
    struct fake_inode *inode = &fake->inodes[ino];

    (void)pthread_mutex_lock(&fake->meta_lock);
    fake->counts.n_set_sizes++;
    if (inode->attr.size != size) {
        (void)punch(fake, inode, size, UINT64_MAX);
        inode->attr.data_version++;
    }
    inode->attr.size = size;
    inode->attr.mtime_ns = mtime_ns;
    reap(fake);
    *ret_attr = inode->attr;
    (void)pthread_mutex_unlock(&fake->meta_lock);
    return 0;
}

static int allocate(struct file_meta *meta,
                    uint64_t ino,
                    uint64_t offset,
                    uint64_t length,
                    unsigned how,
                    struct file_attr *ret_attr)
{
    struct file_fake *fake = fake_of(meta);
    struct fake_inode *inode = &fake->inodes[ino];
    uint64_t end = offset + length;
    bool changes = false;

    (void)pthread_mutex_lock(&fake->meta_lock);
    if (how != 1) {
        uint64_t before = inode->attr.allocated;

        (void)punch(fake, inode, offset, end);
        changes = inode->attr.allocated != before;
    }
    if ((how == 1 || how == 4) && end > inode->attr.size) {
        inode->attr.size = end;
        changes = true;
    }
    inode->attr.data_version += changes;
    reap(fake);
    *ret_attr = inode->attr;
    (void)pthread_mutex_unlock(&fake->meta_lock);
    return 0;
}

static int clone_range(struct file_meta *meta,
                       const struct file_clone_range *range,
                       uint64_t *ret_length,
                       struct file_attr *ret_attr)
{
    struct file_fake *fake = fake_of(meta);
    struct fake_inode *from = &fake->inodes[range->source];
    struct fake_inode *to = &fake->inodes[range->ino];
    uint64_t source_offset = range->source_offset;
    uint64_t offset = range->offset;
    struct fake_extent *copies;
    uint64_t end;
    size_t n = 0;
    int rc;

    (void)pthread_mutex_lock(&fake->meta_lock);
    fake->counts.n_clones++;
    rc = fake->clone_error;
    if (rc != 0) {
        (void)pthread_mutex_unlock(&fake->meta_lock);
        return rc;
    }
    end = source_offset < from->attr.size &&
                  range->length < from->attr.size - source_offset
              ? source_offset + range->length
              : from->attr.size;
    end = end > source_offset ? end : source_offset;
    copies = calloc(from->n + 1, sizeof *copies);
    assert(copies != NULL);
    for (size_t i = 0; i < from->n; i++) {
        const struct fake_extent *e = &from->extents[i];
        uint64_t e_end = e->offset + e->length;

        if (e->offset < end && e_end > source_offset) {
            copies[n] =
                part(e, e->offset > source_offset ? e->offset : source_offset,
                     e_end < end ? e_end : end);
            copies[n].offset = copies[n].offset - source_offset + offset;
            fake->objects[copies[n++].object].live++;
        }
    }
    (void)punch(fake, to, offset, offset + (end - source_offset));
    for (size_t i = 0; i < n; i++) {
        fake->objects[copies[i].object].live--;
        add_extent(fake, to,
                   punch(fake, to, copies[i].offset, copies[i].offset + 1),
                   &copies[i]);
    }
    free(copies);
    *ret_length = end - source_offset;
    if (end > source_offset && offset + (end - source_offset) > to->attr.size) {
        to->attr.size = offset + (end - source_offset);
    }
    to->attr.data_version++;
    reap(fake);
    *ret_attr = to->attr;
    (void)pthread_mutex_unlock(&fake->meta_lock);
    return 0;
}

static int new_object_id(struct file_meta *meta, struct object_id *ret_id)
{
    struct fake_mount *mount = (struct fake_mount *)meta;

    ret_id->session = mount->session;
    ret_id->serial = __atomic_add_fetch(&mount->serial, 1, __ATOMIC_RELAXED);
    return 0;
}

/* ---------------------------------------------------------------------- life
 */

static struct file_store *open_mount(struct file_fake *fake, unsigned index)
{
    struct fake_mount *mount = &fake->mounts[index];
    struct file_store_config config = { .objio = fake->objio,
                                        .meta = &mount->meta,
                                        .policy = *fake->config.policy,
                                        .cache_size = fake->config.cache_size };

    if (mount->store != NULL) {
        return mount->store;
    }
    mount->fake = fake;
    mount->session = index + 1;
    mount->meta.get_layout = get_layout;
    mount->meta.commit = commit;
    mount->meta.sync = sync_meta;
    mount->meta.set_size = set_size;
    mount->meta.allocate = allocate;
    mount->meta.clone = clone_range;
    mount->meta.new_object_id = new_object_id;
    if (file_store_new(&config, &mount->store) != 0) {
        abort();
    }
    return mount->store;
}

struct file_fake *file_fake_new(const struct file_fake_config *config)
{
    struct file_fake *fake = calloc(1, sizeof *fake);
    struct placement_node nodes[FAKE_FILE_NODES];
    struct objio_config objio = { 0 };
    int rc;

    assert(fake != NULL);
    fake->config = *config;
    fake->page = 8192;
    (void)pthread_key_create(&fake->key, NULL);
    (void)pthread_mutex_init(&fake->node_lock, NULL);
    (void)pthread_mutex_init(&fake->meta_lock, NULL);
    fake->io.start = start;
    fake->io.wait = wait_done;
    fake->io.cancel = cancel;
    fake->io.is_up = is_up;
    fake->io.queue = get_queue;
    for (uint32_t i = 0; i < FAKE_FILE_NODES; i++) {
        nodes[i].id = i + 1;
        nodes[i].zone = 0;
        nodes[i].weight = 100;
    }
    rc = placement_new(nodes, FAKE_FILE_NODES, FAKE_FILE_NODES,
                       &fake->placement);
    assert(rc == 0);
    objio.io = &fake->io;
    objio.placement = fake->placement;
    objio.timeout_ms = config->timeout_ms != 0 ? config->timeout_ms : 20000;
    rc = objio_new(&objio, &fake->objio);
    assert(rc == 0);
    (void)open_mount(fake, 0);
    return fake;
}

void file_fake_free(struct file_fake *fake)
{
    for (unsigned i = 0; i < 2; i++) {
        file_store_free(fake->mounts[i].store);
    }
    objio_free(fake->objio);
    placement_free(fake->placement);
    for (size_t i = 0; i < N_BUCKETS; i++) {
        while (fake->buckets[i] != NULL) {
            struct block *block = fake->buckets[i];

            fake->buckets[i] = block->next;
            free(block);
        }
    }
    while (fake->queues != NULL) {
        struct queue *queue = fake->queues;

        fake->queues = queue->next;
        free(queue);
    }
    for (size_t i = 0; i < INO_MAX; i++) {
        for (size_t j = 0; j < fake->inodes[i].n; j++) {
            free(fake->inodes[i].extents[j].data);
        }
        free(fake->inodes[i].extents);
    }
    (void)pthread_key_delete(fake->key);
    (void)pthread_mutex_destroy(&fake->node_lock);
    (void)pthread_mutex_destroy(&fake->meta_lock);
    free(fake);
}

struct file_store *file_fake_store(struct file_fake *fake)
{
    return fake->mounts[0].store;
}

struct file_store *file_fake_second_store(struct file_fake *fake)
{
    return open_mount(fake, 1);
}

void file_fake_fail_commits(struct file_fake *fake,
                            unsigned n,
                            int rc,
                            bool applied)
{
    (void)pthread_mutex_lock(&fake->meta_lock);
    fake->n_failures = n;
    fake->failure_rc = rc;
    fake->failure_applied = applied;
    (void)pthread_mutex_unlock(&fake->meta_lock);
}

void file_fake_set_clone_error(struct file_fake *fake, int rc)
{
    (void)pthread_mutex_lock(&fake->meta_lock);
    fake->clone_error = rc;
    (void)pthread_mutex_unlock(&fake->meta_lock);
}

void file_fake_set_reaping(struct file_fake *fake, bool reaping)
{
    (void)pthread_mutex_lock(&fake->meta_lock);
    fake->reaping = reaping;
    (void)pthread_mutex_unlock(&fake->meta_lock);
}

void file_fake_unlink(struct file_fake *fake, uint64_t ino)
{
    (void)pthread_mutex_lock(&fake->meta_lock);
    fake->inodes[ino].is_gone = true;
    (void)pthread_mutex_unlock(&fake->meta_lock);
}

void file_fake_set_page(struct file_fake *fake, size_t n_extents)
{
    (void)pthread_mutex_lock(&fake->meta_lock);
    fake->page = n_extents;
    (void)pthread_mutex_unlock(&fake->meta_lock);
}

void file_fake_attr(struct file_fake *fake,
                    uint64_t ino,
                    struct file_attr *ret_attr)
{
    (void)pthread_mutex_lock(&fake->meta_lock);
    *ret_attr = fake->inodes[ino].attr;
    (void)pthread_mutex_unlock(&fake->meta_lock);
}

void file_fake_set(struct file_fake *fake,
                   uint64_t ino,
                   struct file_set *ret_set)
{
    (void)pthread_mutex_lock(&fake->meta_lock);
    *ret_set = fake->inodes[ino].set;
    (void)pthread_mutex_unlock(&fake->meta_lock);
}

size_t file_fake_extents(struct file_fake *fake, uint64_t ino)
{
    size_t n;

    (void)pthread_mutex_lock(&fake->meta_lock);
    n = fake->inodes[ino].n;
    (void)pthread_mutex_unlock(&fake->meta_lock);
    return n;
}

void file_fake_counts(struct file_fake *fake, struct file_fake_counts *ret)
{
    (void)pthread_mutex_lock(&fake->meta_lock);
    (void)pthread_mutex_lock(&fake->node_lock);
    *ret = fake->counts;
    (void)pthread_mutex_unlock(&fake->node_lock);
    (void)pthread_mutex_unlock(&fake->meta_lock);
}
