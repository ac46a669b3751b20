#include "storaged/block/segment_set.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"

/* Open files of segments: a quarter of what the process may have. */
static unsigned open_files_max(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur < 64) {
        return 16;
    }
    return limit.rlim_cur > 16384 ? 4096 : (unsigned)limit.rlim_cur / 4;
}

void segment_set_init(struct segment_set *set,
                      int dir_fd,
                      uint32_t size_max,
                      struct disk *disk)
{
    assert(size_max <= SEGMENT_SIZE_MAX &&
           size_max >= record_size(RECORD_PAYLOAD_MAX));
    memset(set, 0, sizeof *set);
    (void)pthread_mutex_init(&set->lock, NULL);
    set->dir_fd = dir_fd;
    set->disk = disk;
    set->size_max = size_max;
    set->n_open_max = open_files_max();
}

static void segment_free(struct segment *segment)
{
    if (segment->fd >= 0) {
        (void)close(segment->fd);
    }
    free(segment);
}

void segment_set_close(struct segment_set *set)
{
    assert(set->oldest == NULL);
    for (size_t i = 0; i < set->n_segments; i++) {
        assert(set->segments[i]->n_users == 0);
        segment_free(set->segments[i]);
    }
    free(set->segments);
    (void)close(set->dir_fd);
    (void)pthread_mutex_destroy(&set->lock);
}

/* Put a new segment at the end of the list. */
static int append_locked(struct segment_set *set,
                         uint64_t number,
                         uint64_t salt,
                         struct segment **ret_segment)
{
    struct segment *segment;

    if (set->n_segments == set->capacity) {
        size_t capacity = set->capacity > 0 ? 2 * set->capacity : 16;
        struct segment **grown =
            reallocarray(set->segments, capacity, sizeof(struct segment *));

        if (grown == NULL) {
            return -ENOMEM;
        }
        set->segments = grown;
        set->capacity = capacity;
    }
    segment = calloc(1, sizeof *segment);
    if (segment == NULL) {
        return -ENOMEM;
    }
    segment->number = number;
    segment->salt = salt;
    segment->fd = -1;
    set->segments[set->n_segments++] = segment;
    *ret_segment = segment;
    return 0;
}

int segment_set_add(struct segment_set *set,
                    uint64_t number,
                    uint64_t salt,
                    uint32_t tail)
{
    struct segment *segment;
    int rc = 0;

    (void)pthread_mutex_lock(&set->lock);
    if (set->n_segments > 0 &&
        set->segments[set->n_segments - 1]->number >= number) {
        rc = -EEXIST;
    } else {
        rc = append_locked(set, number, salt, &segment);
    }
    if (rc == 0) {
        segment->tail = tail;
        segment->written_out = tail;
        set->dir_dirty = true;
        set->active = tail < set->size_max ? segment : NULL;
    }
    (void)pthread_mutex_unlock(&set->lock);
    return rc;
}

static struct segment *find_locked(const struct segment_set *set,
                                   uint64_t number)
{
    size_t low = 0;
    size_t high = set->n_segments;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (set->segments[middle]->number < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < set->n_segments && set->segments[low]->number == number
               ? set->segments[low]
               : NULL;
}

/* Close the file that has been idle longest. One with changes that were never
 * synced stays open: closing it could lose the news of a write error. */
static void close_idle_locked(struct segment_set *set)
{
    struct segment *idle = NULL;

    for (size_t i = 0; i < set->n_segments; i++) {
        struct segment *segment = set->segments[i];

        if (segment->fd >= 0 && segment->n_users == 0 && !segment->dirty &&
            segment != set->active &&
            (idle == NULL || segment->used_at < idle->used_at)) {
            idle = segment;
        }
    }
    if (idle != NULL) {
        (void)close(idle->fd);
        idle->fd = -1;
        set->n_open--;
    }
}

static int open_locked(struct segment_set *set,
                       struct segment *segment,
                       int flags)
{
    char name[SEGMENT_NAME_SIZE];

    if (set->n_open >= set->n_open_max) {
        close_idle_locked(set);
    }
    segment_name(segment->number, segment->salt, name);
    segment->fd = openat(set->dir_fd, name, O_RDWR | O_CLOEXEC | flags, 0600);
    if (segment->fd < 0) {
        return -errno;
    }
    set->n_open++;
    return 0;
}

static int use_locked(struct segment_set *set, struct segment *segment)
{
    int rc = segment->fd < 0 ? open_locked(set, segment, 0) : 0;

    if (rc == 0) {
        segment->n_users++;
        segment->used_at = ++set->tick;
    }
    return rc;
}

int segment_set_use(struct segment_set *set,
                    uint64_t number,
                    struct segment **ret_segment)
{
    struct segment *segment;
    int rc;

    (void)pthread_mutex_lock(&set->lock);
    segment = find_locked(set, number);
    rc = segment != NULL ? use_locked(set, segment) : -ENOENT;
    (void)pthread_mutex_unlock(&set->lock);
    if (rc == 0) {
        *ret_segment = segment;
    }
    return rc;
}

static void release_locked(struct segment_set *set, struct segment *segment)
{
    assert(segment->n_users > 0);
    segment->n_users--;
    if (segment->removed && segment->n_users == 0) {
        set->n_open -= segment->fd >= 0;
        segment_free(segment);
    }
}

void segment_set_release(struct segment_set *set, struct segment *segment)
{
    (void)pthread_mutex_lock(&set->lock);
    release_locked(set, segment);
    (void)pthread_mutex_unlock(&set->lock);
}

static void mark_dirty_locked(struct segment_set *set, struct segment *segment)
{
    segment->dirty = true;
    segment->measured = false;
    if (set->dirty_since_ms == 0) {
        set->dirty_since_ms = clock_mono_ms();
    }
}

/* Make a new active segment. */
static int roll_locked(struct segment_set *set)
{
    uint64_t number = 1;
    struct segment *segment;
    uint64_t salt;
    int rc;

    if (set->n_segments > 0) {
        number = set->segments[set->n_segments - 1]->number + 1;
    }
    if (getrandom(&salt, sizeof salt, 0) != (ssize_t)sizeof salt) {
        return -EIO;
    }
    rc = append_locked(set, number, salt, &segment);
    if (rc < 0) {
        return rc;
    }
    rc = open_locked(set, segment, O_CREAT | O_EXCL);
    if (rc < 0) {
        set->n_segments--;
        free(segment);
        return rc;
    }
    set->active = segment;
    set->dir_dirty = true;
    return 0;
}

int segment_set_reserve(struct segment_set *set,
                        uint32_t size,
                        struct reservation *ret_reservation)
{
    struct segment *segment;
    int rc = 0;

    assert(size % RECORD_ALIGN == 0);
    (void)pthread_mutex_lock(&set->lock);
    if (set->active == NULL || set->size_max - set->active->tail < size) {
        rc = roll_locked(set);
    }
    if (rc == 0) {
        rc = use_locked(set, set->active);
    }
    if (rc == 0) {
        segment = set->active;
        *ret_reservation = (struct reservation){ .segment = segment,
                                                 .offset = segment->tail,
                                                 .size = size,
                                                 .prev = set->newest };
        segment->tail += size;
        *(set->newest != NULL ? &set->newest->next : &set->oldest) =
            ret_reservation;
        set->newest = ret_reservation;
    }
    (void)pthread_mutex_unlock(&set->lock);
    return rc;
}

/* Take a place back. At the end of the segment the file is cut, else a hole is
 * left. */
static void take_back_locked(struct segment_set *set,
                             struct reservation *reservation)
{
    struct segment *segment = reservation->segment;
    uint32_t offset = reservation->offset;
    uint32_t end = offset + reservation->size;
    int rc;

    if (end == segment->tail && ftruncate(segment->fd, (off_t)offset) == 0) {
        segment->tail = offset;
        return;
    }
    rc = segment_erase(set->disk, segment, offset, end);
    if (rc < 0) {
        log_warn("cannot erase what is left of a failed put segment=%" PRIx64
                 " offset=%u error=%s",
                 segment->number, offset, err_text(rc));
    }
}

static void unlink_locked(struct segment_set *set,
                          const struct reservation *reservation)
{
    struct reservation *prev = reservation->prev;
    struct reservation *next = reservation->next;

    *(prev != NULL ? &prev->next : &set->oldest) = next;
    *(next != NULL ? &next->prev : &set->newest) = prev;
}

uint32_t segment_set_settle(struct segment_set *set,
                            struct reservation *reservation,
                            bool stored)
{
    struct segment *segment = reservation->segment;
    uint32_t backlog;

    (void)pthread_mutex_lock(&set->lock);
    if (!stored) {
        take_back_locked(set, reservation);
    }
    unlink_locked(set, reservation);
    mark_dirty_locked(set, segment);
    backlog = segment->tail - segment->written_out;
    release_locked(set, segment);
    (void)pthread_mutex_unlock(&set->lock);
    return backlog;
}

static uint32_t settled_locked(const struct segment_set *set,
                               const struct segment *segment)
{
    for (struct reservation *r = set->oldest; r != NULL; r = r->next) {
        if (r->segment == segment) {
            return r->offset;
        }
    }
    return segment->tail;
}

void segment_set_snapshot(struct segment_set *set)
{
    (void)pthread_mutex_lock(&set->lock);
    for (size_t i = 0; i < set->n_segments; i++) {
        struct segment *segment = set->segments[i];

        segment->settled = settled_locked(set, segment);
        segment->stable = segment->settled < segment->synced ? segment->settled
                                                             : segment->synced;
        segment->quiet =
            segment->settled == segment->tail && segment != set->active;
        if (segment->unreadable) {
            segment->stable = 0;
            segment->quiet = false;
        }
    }
    (void)pthread_mutex_unlock(&set->lock);
}

int segment_set_list(struct segment_set *set,
                     struct segment ***ret_list,
                     size_t *ret_n)
{
    struct segment **list;
    int rc = -ENOMEM;

    (void)pthread_mutex_lock(&set->lock);
    list = calloc(set->n_segments + 1, sizeof(struct segment *));
    if (list != NULL) {
        for (size_t i = 0; i < set->n_segments; i++) {
            list[i] = set->segments[i];
        }
        *ret_list = list;
        *ret_n = set->n_segments;
        rc = 0;
    }
    (void)pthread_mutex_unlock(&set->lock);
    return rc;
}

int segment_set_cut(struct segment_set *set,
                    struct segment *segment,
                    uint32_t tail)
{
    int rc = 0;

    (void)pthread_mutex_lock(&set->lock);
    if (ftruncate(segment->fd, (off_t)tail) < 0) {
        rc = -errno;
    } else {
        segment->tail = tail;
        segment->written_out = tail;
    }
    (void)pthread_mutex_unlock(&set->lock);
    return rc;
}

void segment_set_mark_synced(struct segment_set *set, struct segment *segment)
{
    (void)pthread_mutex_lock(&set->lock);
    segment->synced = segment->tail;
    (void)pthread_mutex_unlock(&set->lock);
}

void segment_set_seal(struct segment_set *set)
{
    (void)pthread_mutex_lock(&set->lock);
    set->active = NULL;
    (void)pthread_mutex_unlock(&set->lock);
}

void segment_set_mark_unreadable(struct segment_set *set,
                                 struct segment *segment)
{
    (void)pthread_mutex_lock(&set->lock);
    segment->unreadable = true;
    if (set->active == segment) {
        set->active = NULL;
    }
    (void)pthread_mutex_unlock(&set->lock);
}

int segment_set_erase(struct segment_set *set,
                      struct segment *segment,
                      uint32_t from,
                      uint32_t end)
{
    int rc = segment_erase(set->disk, segment, from, end);

    (void)pthread_mutex_lock(&set->lock);
    mark_dirty_locked(set, segment);
    (void)pthread_mutex_unlock(&set->lock);
    return rc;
}

/* What one segment needs to be synced. */
struct sync_target {
    struct segment *segment; /* counted by n_users */
    uint32_t settled;        /* when the sync began */
};

static int collect_dirty(struct segment_set *set,
                         struct sync_target **ret_targets,
                         size_t *ret_n)
{
    struct sync_target *targets;
    size_t n = 0;
    int rc = 0;

    (void)pthread_mutex_lock(&set->lock);
    targets = calloc(set->n_segments + 1, sizeof *targets);
    if (targets == NULL) {
        rc = -ENOMEM;
    }
    for (size_t i = 0; i < set->n_segments && rc == 0; i++) {
        struct segment *segment = set->segments[i];

        if (segment->dirty && (rc = use_locked(set, segment)) == 0) {
            segment->dirty = false;
            targets[n].segment = segment;
            targets[n++].settled = settled_locked(set, segment);
        }
    }
    if (rc == 0) {
        set->dirty_since_ms = 0;
    }
    (void)pthread_mutex_unlock(&set->lock);
    *ret_targets = targets;
    *ret_n = n;
    return rc;
}

/* A disk that lacks memory has failed like any other: -ENOMEM would say that
 * nothing was tried. */
static int sync_file(struct segment_set *set, int fd)
{
    int rc = set->disk->sync(set->disk, fd);

    return rc == -ENOMEM ? -EIO : rc;
}

static int sync_directory(struct segment_set *set)
{
    bool dirty;

    (void)pthread_mutex_lock(&set->lock);
    dirty = set->dir_dirty;
    set->dir_dirty = false;
    (void)pthread_mutex_unlock(&set->lock);
    return dirty ? sync_file(set, set->dir_fd) : 0;
}

int segment_set_sync(struct segment_set *set)
{
    struct sync_target *targets = NULL;
    size_t n_targets = 0;
    int rc = collect_dirty(set, &targets, &n_targets);
    int sync_rc;

    for (size_t i = 0; i < n_targets; i++) {
        struct segment *segment = targets[i].segment;

        sync_rc = sync_file(set, segment->fd);
        (void)pthread_mutex_lock(&set->lock);
        if (sync_rc < 0) {
            rc = sync_rc;
        } else if (targets[i].settled > segment->synced) {
            segment->synced = targets[i].settled;
        }
        release_locked(set, segment);
        (void)pthread_mutex_unlock(&set->lock);
    }
    free(targets);
    sync_rc = sync_directory(set);
    return rc < 0 ? rc : sync_rc;
}

int64_t segment_set_dirty_ms(struct segment_set *set)
{
    int64_t since;

    (void)pthread_mutex_lock(&set->lock);
    since = set->dirty_since_ms;
    (void)pthread_mutex_unlock(&set->lock);
    return since != 0 ? clock_mono_ms() - since + 1 : 0;
}

void segment_set_write_out(struct segment_set *set, uint32_t size)
{
    struct segment *active;
    uint32_t from = 0;
    uint32_t end;

    (void)pthread_mutex_lock(&set->lock);
    active = set->active;
    end = active != NULL ? settled_locked(set, active) : 0;
    if (active == NULL || end < size || active->written_out > end - size ||
        use_locked(set, active) < 0) {
        (void)pthread_mutex_unlock(&set->lock);
        return;
    }
    from = active->written_out;
    active->written_out = end;
    (void)pthread_mutex_unlock(&set->lock);
    (void)sync_file_range(active->fd, (off_t)from, (off_t)(end - from),
                          SYNC_FILE_RANGE_WRITE);
    segment_set_release(set, active);
}

int segment_set_remove(struct segment_set *set, struct segment *segment)
{
    char name[SEGMENT_NAME_SIZE];
    size_t at = 0;
    int rc = 0;

    assert(segment != set->active);
    segment_name(segment->number, segment->salt, name);
    (void)pthread_mutex_lock(&set->lock);
    if (unlinkat(set->dir_fd, name, 0) < 0 && errno != ENOENT) {
        rc = -errno;
    } else {
        while (set->segments[at] != segment) {
            at++;
        }
        set->n_segments--;
        memmove(set->segments + at, set->segments + at + 1,
                (set->n_segments - at) * sizeof(struct segment *));
        set->dir_dirty = true;
        segment->removed = true;
        segment->n_users++;
        release_locked(set, segment);
    }
    (void)pthread_mutex_unlock(&set->lock);
    return rc;
}

static uint64_t measure_locked(struct segment_set *set, struct segment *segment)
{
    char name[SEGMENT_NAME_SIZE];
    struct stat status;

    if (!segment->measured) {
        segment_name(segment->number, segment->salt, name);
        if (fstatat(set->dir_fd, name, &status, 0) == 0) {
            segment->allocated = (uint64_t)status.st_blocks * 512;
            segment->measured = !segment->dirty;
        }
    }
    return segment->allocated;
}

uint64_t segment_set_allocated(struct segment_set *set)
{
    uint64_t bytes = 0;

    (void)pthread_mutex_lock(&set->lock);
    for (size_t i = 0; i < set->n_segments; i++) {
        bytes += measure_locked(set, set->segments[i]);
    }
    (void)pthread_mutex_unlock(&set->lock);
    return bytes;
}
