/* The bytes of files: pending writes, extents, reads, read-ahead.
 *
 * Knows nothing of FUSE and nothing of RPC: object I/O carries the bytes, a
 * `struct file_meta` (vtable) the extents. A file_store is one mount's; a file
 * is one inode's, shared by all its open handles. Thread-safe; calls block.
 *
 * Writes are log-structured. Bytes written are appended to the stripe buffer of
 * an object in the making, and a pending extent remembers where. A full stripe
 * is encoded and sent while the writer goes on. A flush seals the object and
 * commits its extents to the metadata shard. An overwrite is just a newer
 * extent. What is written to a file of at most FILE_INLINE_MAX bytes gathers in
 * memory and is committed as inline extents instead, no byte more than that:
 * another mount may write next to it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/objio.h"

#define FILE_INLINE_MAX 16384u

/* A range of a file, as the shard knows it. */
struct extent {
    uint64_t offset; /* in the file */
    uint64_t length; /* > 0 */
    uint64_t object_offset;
    uint32_t object;     /* index into the objects of the same list; unused when
                            data is set */
    const uint8_t *data; /* inline bytes, or NULL */
};

/* What a file's attributes say about its bytes. */
struct file_attr {
    uint64_t size;
    uint64_t allocated; /* bytes covered by extents */
    int64_t mtime_ns;
    uint64_t data_version; /* changes with each change of the bytes */
};

/* Bits of metadata.proto's SetAttr.valid. */
#define FILE_SET_MODE  1u
#define FILE_SET_UID   2u
#define FILE_SET_GID   4u
#define FILE_SET_ATIME 16u
#define FILE_SET_MTIME 32u

/* Attributes that programs have set, to be committed with the bytes. */
struct file_set {
    uint32_t valid; /* FILE_SET_* */
    uint32_t mode;  /* permissions only */
    uint32_t uid;
    uint32_t gid;
    int64_t atime_ns;
    int64_t mtime_ns;
    int64_t ctime_ns; /* when the last of them was set */
};

/* A list of extents in file order with the objects they name. */
struct layout {
    struct file_attr attr;
    struct extent *extents;
    size_t n_extents;
    struct object_info *objects;
    size_t n_objects;
    bool end;     /* no extents after these */
    void *memory; /* owned: everything above lies here or is freed with it */
    void (*release)(struct layout *layout);
};

/* New bytes of one file, to be committed. */
struct file_write {
    uint64_t ino;
    const struct extent *extents; /* in file order, not overlapping */
    size_t n_extents;
    uint64_t end;        /* the file is at least this long afterwards */
    int64_t mtime_ns;    /* 0: leave it alone */
    struct file_set set; /* but mtime and ctime */
};

/* New bytes of files, committed together or not at all. */
struct file_commit {
    const struct object_info *objects; /* the new objects that extents name */
    size_t n_objects;
    const struct file_write *writes;
    size_t n_writes;
    bool durable; /* return when the commit is */
};

/* Whose extents become whose. */
struct file_clone_range {
    uint64_t source; /* inode */
    uint64_t source_offset;
    uint64_t ino; /* may be the source */
    uint64_t offset;
    uint64_t length;
};

/* The metadata side, as this module needs it. All calls block; all return 0 or
 * -errno after their own retries and deadline. */
struct file_meta {
    /* Extents that end after `offset`, a page of them. */
    int (*get_layout)(struct file_meta *meta,
                      uint64_t ino,
                      uint64_t offset,
                      struct layout *ret_layout);
    /* `ret_attrs` are the new attributes, one for each write. */
    int (*commit)(struct file_meta *meta,
                  const struct file_commit *commit,
                  struct file_attr *ret_attrs);
    /* Make all earlier commits of this mount durable. */
    int (*sync)(struct file_meta *meta);
    /* truncate(2), fallocate(2) as metadata.proto's Allocate says, clone. */
    int (*set_size)(struct file_meta *meta,
                    uint64_t ino,
                    uint64_t size,
                    int64_t mtime_ns,
                    struct file_attr *ret_attr);
    int (*allocate)(struct file_meta *meta,
                    uint64_t ino,
                    uint64_t offset,
                    uint64_t length,
                    unsigned how,
                    struct file_attr *ret_attr);
    int (*clone)(struct file_meta *meta,
                 const struct file_clone_range *range,
                 uint64_t *ret_length,
                 struct file_attr *ret_attr);
    /* A fresh object id, without an RPC. */
    int (*new_object_id)(struct file_meta *meta, struct object_id *ret_id);
};

struct file_store_config {
    struct objio *objio;        /* borrowed */
    struct file_meta *meta;     /* borrowed */
    struct objio_policy policy; /* of new objects */
    uint64_t cache_size;        /* bytes of memory for data, at least 32 MiB */
    unsigned n_io_threads;      /* stripes in flight; 0: a good default */
};

struct file_store;

/* Errors: -EINVAL cache_size too small; -ENOMEM; -EAGAIN no threads */
MUST_CHECK int file_store_new(const struct file_store_config *config,
                              struct file_store **ret_store);

/* Everything must have been flushed and every file put. */
void file_store_free(struct file_store *store);

/* Flush and make durable everything of the mount (syncfs(2), unmount). The
 * first error is returned, with how many bytes could not be saved in
 * `*ret_lost`; they stay pending and may be tried again. */
MUST_CHECK int file_store_sync(struct file_store *store, uint64_t *ret_lost);

/* Memory in use now, for logs and metrics. */
struct file_store_stats {
    uint64_t write_bytes; /* written and not yet stored, by size of buffers */
    uint64_t read_bytes;  /* of cached chunks */
};
void file_store_get_stats(struct file_store *store,
                          struct file_store_stats *ret_stats);

struct file;

/* The file of an inode, counted: made on first get, freed after the last put
 * when nothing is pending. Errors: -ENOMEM */
MUST_CHECK int file_get(struct file_store *store,
                        uint64_t ino,
                        struct file **ret_file);
void file_put(struct file *file);

/* The file has just been created, empty, by this mount: its layout need not be
 * asked for, and file_hold() works until its first close, fsync or commit. Call
 * after file_get(), before anything else. */
void file_created(struct file *file, const struct file_attr *attr);

/* Tell what the shard said of the file, at lookup, getattr and open: cached
 * extents are dropped when the data version is another, unless it is this
 * mount's own doing. */
void file_revalidate(struct file *file, const struct file_attr *attr);

/* Put what is pending on top of the shard's attributes: size, allocated, mtime
 * as this mount's programs must see them. */
void file_overlay_attr(struct file *file, struct file_attr *attr);

/* pread(2). `*ret_length` is shorter at the end of the file. Holes are zeros;
 * an unreadable range is -EIO, never zeros.
 * Errors: -EIO, -ETIMEDOUT, -EHOSTUNREACH, -ENOENT, -ENOMEM */
MUST_CHECK int file_read(struct file *file,
                         uint64_t offset,
                         size_t length,
                         uint8_t *target,
                         size_t *ret_length);

/* pwrite(2), all or nothing. `append`: at the end of the file, wherever it is
 * (O_APPEND). May wait for memory, that is for stripes to be stored.
 * Errors: -EFBIG, -ENOMEM; -EIO, -ENOSPC, -ETIMEDOUT, -EHOSTUNREACH when
 * earlier bytes of this file could not be stored (told once). */
MUST_CHECK int file_write(struct file *file,
                          uint64_t offset,
                          size_t length,
                          const uint8_t *source,
                          bool append);

/* Commit what is pending: visible to others afterwards. Errors of the
 * background are told here, once, like close(2) on NFS. */
MUST_CHECK int file_flush(struct file *file);

/* fsync(2): flush, and everything of this file durable. */
MUST_CHECK int file_fsync(struct file *file);

/* Before rename(2) over another file: what the name will expose must be as
 * durable as the rename. */
MUST_CHECK int file_sync_data(struct file *file);

/* truncate(2); `mtime_ns` is the new mtime. */
MUST_CHECK int file_truncate(struct file *file,
                             uint64_t size,
                             int64_t mtime_ns);

/* Let attributes that are set of a file in the making go with its first commit:
 * others see the file appear as it will be, and it costs no RPC. Errors of that
 * commit are told as those of the bytes. False when the file is not, or no
 * longer, in the making: then it is for the caller to set them. */
bool file_hold(struct file *file, const struct file_set *set);

/* What file_hold() was given and no commit has taken to the shard yet. */
void file_held(struct file *file, struct file_set *ret_set);

/* Commit the file if attributes are held: due before an op on its inode. */
MUST_CHECK int file_settle(struct file *file);

/* utimensat(2) came by: a later flush must not move the mtime. */
void file_mtime_was_set(struct file *file);

/* fallocate(2); `how` as in metadata.proto's Allocate. */
MUST_CHECK int file_allocate(struct file *file,
                             uint64_t offset,
                             uint64_t length,
                             unsigned how);

/* copy_file_range(2) by sharing extents; falls back to copying bytes where
 * they cannot be shared. Errors as file_read() and file_write(). */
MUST_CHECK int file_clone(struct file *source,
                          uint64_t source_offset,
                          struct file *file,
                          uint64_t offset,
                          uint64_t length,
                          uint64_t *ret_length);

/* lseek(2) with SEEK_DATA or SEEK_HOLE. Errors: -ENXIO, and as file_read(). */
MUST_CHECK int file_seek(struct file *file,
                         uint64_t offset,
                         int whence,
                         uint64_t *ret_offset);
