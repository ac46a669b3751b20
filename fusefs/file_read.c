/* Reading: pending bytes from memory, the rest from objects. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/fetch.h"
#include "fusefs/file_impl.h"

/* Shorter runs of an object are read by themselves even when the file is read
 * sequentially: of a chunk around them most would be wasted. */
#define RUN_MIN ((size_t)64 << 10)

/* Chunks that one read sends ahead at most. */
#define AHEAD_CHUNKS_MAX 64u

/* One file_read() under way. */
struct read {
    struct file *file;
    uint64_t offset;
    size_t length;              /* cut at the end of the file */
    uint8_t *target;            /* borrowed */
    bool use_cache;             /* the read is part of something sequential */
    struct fetch_piece *pieces; /* owned: what must come from nodes */
    size_t n_pieces;            /* in use */
    size_t pieces_max;          /* allocated */
    struct source **sources;    /* owned, each counted: so that no object of
                                   this mount goes meanwhile */
    /* What to read ahead, one chunk each. */
    struct object_info ahead[AHEAD_CHUNKS_MAX];
    uint64_t ahead_offsets[AHEAD_CHUNKS_MAX];
    size_t n_ahead;
};

/* Bytes of a file that lie together in a source. */
struct run {
    struct source *source; /* borrowed */
    bool is_long;          /* worth reading whole chunks */
};

static struct fetch_piece *add_piece(struct read *read, struct source *source)
{
    if (read->n_pieces == read->pieces_max) {
        size_t max = read->pieces_max * 2 + 8;
        struct fetch_piece *pieces =
            realloc(read->pieces, max * sizeof *pieces);
        struct source **sources;

        if (pieces == NULL) {
            return NULL;
        }
        read->pieces = pieces;
        sources = realloc(read->sources, max * sizeof(struct source *));
        if (sources == NULL) {
            return NULL;
        }
        read->sources = sources;
        read->pieces_max = max;
    }
    read->sources[read->n_pieces] = source_ref(source);
    return &read->pieces[read->n_pieces++];
}

/* The object behind the source. False: not to be cached yet. */
static bool get_info(const struct source *source, struct object_info *ret_info)
{
    if (source->log != NULL) {
        return log_object_info(source->log, ret_info);
    }
    *ret_info = source->info;
    return true;
}

/* Want `length` bytes of an object: in one piece, or chunk by chunk. */
static int want_object(struct read *read,
                       const struct run *run,
                       uint64_t offset,
                       size_t length,
                       uint8_t *target)
{
    struct source *source = run->source;
    struct object_info info;
    bool committed = get_info(source, &info);
    bool use_cache = read->use_cache && committed && run->is_long;
    uint64_t chunk = read_cache_chunk_size(&info);

    while (length > 0) {
        struct fetch_piece *piece = add_piece(read, source);
        size_t n = length;

        if (piece == NULL) {
            return -ENOMEM;
        }
        if (use_cache && n > chunk - offset % chunk) {
            n = (size_t)(chunk - offset % chunk);
        }
        piece->object = info;
        piece->offset = offset;
        piece->length = n;
        piece->target = target;
        piece->use_cache = use_cache;
        offset += n;
        target += n;
        length -= n;
    }
    return 0;
}

/* Bytes of a source: from memory at once as far as they are there. */
static int take_source(struct read *read,
                       const struct run *run,
                       uint64_t offset,
                       size_t length,
                       uint8_t *target)
{
    struct log_object *log = run->source->log;
    int rc = 0;

    if (log == NULL) {
        return want_object(read, run, offset, length, target);
    }
    while (rc == 0 && length > 0) {
        struct buf *buf;
        const uint8_t *data = NULL;
        size_t n;

        log_object_look(log, offset, length, &buf, &data, &n);
        if (buf != NULL) {
            memcpy(target, data, n);
            buf_unref(buf);
        } else {
            rc = want_object(read, run, offset, n, target);
        }
        offset += n;
        target += n;
        length -= n;
    }
    return rc;
}

/* Copy what is in memory, collect what is not. */
static int resolve_locked(struct read *read)
{
    size_t done = 0;
    int rc = 0;

    while (rc == 0 && done < read->length) {
        uint8_t *target = read->target + done;
        struct file_piece piece;

        file_find_locked(read->file, read->offset + done,
                         read->offset + read->length, &piece);
        assert(!piece.is_unknown);
        if (piece.source != NULL) {
            struct run run = { .source = piece.source,
                               .is_long = piece.run >= RUN_MIN };

            rc = take_source(read, &run, piece.source_offset, piece.length,
                             target);
        } else if (piece.data != NULL) {
            memcpy(target, piece.data, piece.length);
        } else {
            memset(target, 0, piece.length);
        }
        done += piece.length;
    }
    return rc;
}

static void forget_pieces(struct read *read)
{
    for (size_t i = 0; i < read->n_pieces; i++) {
        source_unref(read->sources[i]);
    }
    read->n_pieces = 0;
}

/* Note the chunks of one object run as to be read ahead. */
static void add_ahead(struct read *read, const struct file_piece *piece)
{
    struct object_info info;
    uint64_t chunk;
    uint64_t end = piece->source_offset + piece->length;

    if (piece->run < RUN_MIN || !get_info(piece->source, &info)) {
        return;
    }
    chunk = read_cache_chunk_size(&info);
    for (uint64_t offset = piece->source_offset / chunk * chunk;
         offset < end && read->n_ahead < AHEAD_CHUNKS_MAX; offset += chunk) {
        read->ahead[read->n_ahead] = info;
        read->ahead_offsets[read->n_ahead++] = offset;
    }
}

/* Find out how the file is read, and what to read ahead. */
static void plan_locked(struct read *read)
{
    struct file *file = read->file;
    uint64_t size = file_size_locked(file);
    struct readahead_advice advice;
    uint64_t offset;

    readahead_note(&file->readahead, read->offset, read->length,
                   file->store->ahead_max, &advice);
    read->use_cache = advice.is_sequential;
    if (advice.ahead_to > size) {
        advice.ahead_to = size;
    }
    for (offset = advice.ahead_from; offset < advice.ahead_to;) {
        struct file_piece piece;

        file_find_locked(file, offset, advice.ahead_to, &piece);
        if (piece.is_unknown) {
            break;
        }
        if (piece.source != NULL) {
            add_ahead(read, &piece);
        }
        offset += piece.length;
    }
}

/* Cut the read at the end of the file. */
static void cut_locked(struct read *read, size_t length)
{
    uint64_t size = file_size_locked(read->file);

    read->length = 0;
    if (read->offset < size) {
        read->length = length < size - read->offset
                           ? length
                           : (size_t)(size - read->offset);
    }
}

/* Whether some of the range can only be found with the layout. */
static bool needs_layout_locked(const struct read *read)
{
    uint64_t offset = read->offset;
    uint64_t end = offset + read->length;

    while (offset < end) {
        struct file_piece piece;

        file_find_locked(read->file, offset, end, &piece);
        if (piece.is_unknown) {
            return true;
        }
        offset += piece.length;
    }
    return false;
}

/* Copy what is in memory, collect what to read and what to read ahead. */
static int prepare(struct read *read, size_t length)
{
    struct file *file = read->file;
    int rc = 0;

    (void)pthread_mutex_lock(&file->lock);
    if (!file->attr_known) {
        rc = file_load_layout_locked(file);
    }
    cut_locked(read, length);
    while (rc == 0 && needs_layout_locked(read)) {
        rc = file_load_layout_locked(file);
        cut_locked(read, length);
    }
    if (rc == 0 && read->length > 0) {
        plan_locked(read);
        rc = resolve_locked(read);
    }
    (void)pthread_mutex_unlock(&file->lock);
    return rc;
}

static int fetch(struct read *read)
{
    struct file_store *store = read->file->store;
    struct fetch_env env = { .objio = store->config.objio,
                             .pool = store->pool,
                             .cache = store->cache };

    for (size_t i = 0; i < read->n_ahead; i++) {
        read_cache_ahead(store->cache, &read->ahead[i], read->ahead_offsets[i]);
    }
    read->n_ahead = 0;
    return fetch_pieces(&env, read->pieces, read->n_pieces);
}

/* Objects that cannot be read may have been replaced by another mount, and
 * reaped: whether the layout is another one now. */
static bool has_changed(struct file *file, uint64_t version)
{
    bool changed = false;

    (void)pthread_mutex_lock(&file->lock);
    if (!file->layout_valid || file->layout_version == version) {
        file_drop_layout_locked(file);
        if (file_load_layout_locked(file) == 0) {
            changed = file->layout_version != version;
        }
    } else {
        changed = true;
    }
    (void)pthread_mutex_unlock(&file->lock);
    return changed;
}

int file_read(struct file *file,
              uint64_t offset,
              size_t length,
              uint8_t *target,
              size_t *ret_length)
{
    struct read read = { .file = file, .offset = offset };
    uint64_t version = 0;
    int rc = 0;

    read.target = target;
    for (unsigned attempt = 0; attempt < 2; attempt++) {
        (void)pthread_mutex_lock(&file->lock);
        version = file->layout_version;
        (void)pthread_mutex_unlock(&file->lock);
        rc = prepare(&read, length);
        if (rc == 0) {
            rc = fetch(&read);
        }
        forget_pieces(&read);
        if (rc != -EIO || !has_changed(file, version)) {
            break;
        }
    }
    free(read.pieces);
    free(read.sources);
    if (rc == 0) {
        *ret_length = read.length;
    }
    return rc;
}
