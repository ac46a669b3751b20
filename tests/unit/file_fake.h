/* What a file store needs, in memory, with faults on demand: storage nodes
 * behind a struct block_io, and a metadata shard behind a struct file_meta.
 * Thread-safe, unlike block_fake.h, and without any delay. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/block_io.h"
#include "fusefs/file.h"

#define FAKE_FILE_NODES 6u

struct file_fake;

struct file_fake_config {
    const struct objio_policy *policy; /* borrowed */
    uint64_t cache_size;
    bool discard;       /* nodes forget what is put: for measuring */
    int64_t timeout_ms; /* of the objio; 0: 20 s */
};

/* Never fails: asserts. */
struct file_fake *file_fake_new(const struct file_fake_config *config);
void file_fake_free(struct file_fake *fake);

/* The store under test; a second one is another mount of the same cluster. */
struct file_store *file_fake_store(struct file_fake *fake);
struct file_store *file_fake_second_store(struct file_fake *fake);

enum file_fake_mode {
    FAKE_OK,
    FAKE_GONE, /* refuses everything; is_up knows */
    FAKE_NOSPC /* puts fail with -ENOSPC */
};
void file_fake_set_node(struct file_fake *fake,
                        uint32_t node,
                        enum file_fake_mode mode);
void file_fake_set_all(struct file_fake *fake, enum file_fake_mode mode);

/* Every node is another process now; `lose`: without the blocks that were not
 * synced, as after a loss of power. */
void file_fake_restart_all(struct file_fake *fake, bool lose);

/* The next commits fail, `n` of them, with `rc`; `applied`: after they have
 * taken effect. */
void file_fake_fail_commits(struct file_fake *fake,
                            unsigned n,
                            int rc,
                            bool applied);

/* Answer clones with this; 0: do them. */
void file_fake_set_clone_error(struct file_fake *fake, int rc);

/* Delete blocks of an object as soon as no extent refers to it. */
void file_fake_set_reaping(struct file_fake *fake, bool reaping);

/* The inode is gone from the shard. */
void file_fake_unlink(struct file_fake *fake, uint64_t ino);

/* Pages of layouts have this many extents. */
void file_fake_set_page(struct file_fake *fake, size_t n_extents);

/* What the shard says of an inode; one that was never seen is empty. */
void file_fake_attr(struct file_fake *fake,
                    uint64_t ino,
                    struct file_attr *ret_attr);
/* What commits have set of it. */
void file_fake_set(struct file_fake *fake,
                   uint64_t ino,
                   struct file_set *ret_set);
size_t file_fake_extents(struct file_fake *fake, uint64_t ino);

struct file_fake_counts {
    uint64_t n_commits, n_commits_durable, n_files_committed;
    uint64_t n_objects_committed;
    uint64_t n_layouts, n_syncs, n_set_sizes, n_clones;
    uint64_t n_puts, n_gets, n_block_syncs;
    uint64_t n_errors; /* things that a good client does not do */
};
void file_fake_counts(struct file_fake *fake, struct file_fake_counts *ret);
