/* The inodes that the kernel or this mount holds: how often, what the shard
 * last said of them, and their open bytes.
 *
 * Thread-safe. Attributes may be kept only when nothing of this mount's own
 * doing overlapped with the question: a table-wide clock ticks whenever a
 * change begins or ends, a question remembers when it began (a stamp), and an
 * answer is kept only if the inode was not touched since.
 *
 * No function of fusefs/file.h is called with a lock of this module held, since
 * that layer calls back here when it commits. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "fusefs/file.h"
#include "proto/metadata.pb-c.h"

struct inode_table;

/* One inode, counted. Its number never changes; all else is behind functions.
 */
struct inode;

/* When something happened, in ticks of the table's clock. */
typedef uint64_t inode_stamp;

/* `attr_ms`: how long attributes count as fresh. `n_idle_files`: how many files
 * that nobody has open keep their cached extents. Errors: -ENOMEM */
MUST_CHECK int inode_table_new(int64_t attr_ms,
                               size_t n_idle_files,
                               struct inode_table **ret_table);

/* Where inode_open() gets files from; borrowed. Before the first open. */
void inode_table_set_store(struct inode_table *table, struct file_store *store);

/* Lets go of everything, however often it is still held: the kernel does not
 * say goodbye when a mount ends. No call may be running. NULL is allowed. */
void inode_table_free(struct inode_table *table);

/* The time before a question is asked. */
inode_stamp inode_table_now(struct inode_table *table);

/* A reference to the inode, made on first use. Errors: -ENOMEM */
MUST_CHECK int inode_get(struct inode_table *table,
                         uint64_t ino,
                         struct inode **ret_inode);

/* A reference to the inode if it is known, else NULL. */
struct inode *inode_find(struct inode_table *table, uint64_t ino);
void inode_put(struct inode *inode);

uint64_t inode_number(const struct inode *inode);

/* The kernel was told of the inode, and has forgotten `n` such tellings. */
void inode_lookup_add(struct inode *inode);
void inode_forget(struct inode_table *table, uint64_t ino, uint64_t n);

/* ------------------------------------------------------------- attributes */

/* The attributes if they are fresh, with how long they stay so; false when the
 * shard must be asked. */
bool inode_attr(struct inode *inode,
                Gabion__Attr *ret_attr,
                int64_t *ret_fresh_ms);

/* Type and permissions as last heard, however long ago; 0 if never. */
uint32_t inode_mode(struct inode *inode);

/* Whether it had extended attributes when last heard of. */
bool inode_has_xattrs(struct inode *inode);

/* Keep the answer to a question asked at `asked`, unless a change of this mount
 * has come in between; the answer is then of no use beyond its own request.
 * Returns whether it was kept. */
bool inode_attr_answer(struct inode *inode,
                       inode_stamp asked,
                       const Gabion__Attr *attr);

/* Whether an answer asked at `asked`, of an inode which may be unknown here, is
 * still true as far as this mount knows. */
bool inode_is_untouched(struct inode_table *table,
                        uint64_t ino,
                        inode_stamp asked);

/* A change of this mount's own. `inode` may be NULL in a zeroed change: then
 * ending it does nothing. */
struct inode_change {
    struct inode *inode; /* counted while the change goes on */
    inode_stamp began;
    bool is_removal; /* of a name */
};

/* Begin a change of the inode, known here or not: a question asked before must
 * not be believed after. Out of memory there is nothing to be believed either:
 * the change then stays zeroed. */
void inode_change_begin(struct inode_table *table,
                        uint64_t ino,
                        struct inode_change *ret_change);

/* Begin to remove a name of the inode. Until the end of the change nobody opens
 * it; `*ret_open` tells whether somebody has before. */
void inode_removal_begin(struct inode_table *table,
                         uint64_t ino,
                         struct inode_change *ret_change,
                         bool *ret_open);

/* The change is over; `attr` is what the shard says the inode is now, NULL when
 * it did not say. `op_mark` orders the change against syncs (session_mark()).
 */
void inode_change_end(struct inode_change *change,
                      const Gabion__Attr *attr,
                      uint64_t op_mark);

/* Latest `op_mark` of the inode's changes: what fsync must wait for. */
uint64_t inode_op_mark(struct inode *inode);

/* A lookup by thread `pid` has just asked the shard: the open that follows at
 * once from the same thread need not ask again. */
void inode_note_lookup(struct inode *inode, int32_t pid);
bool inode_take_lookup(struct inode *inode, int32_t pid);

/* At open, with the shard's data version: whether the pages that the kernel
 * caches are still those of the file. `*ret_changed`: the kernel knew the file
 * with other bytes, so its attributes are out of date, too. */
bool inode_pages_valid(struct inode *inode,
                       uint64_t data_version,
                       bool *ret_changed);

/* ------------------------------------------------------------------ xattrs */

/* Extended attributes short enough to keep along with the attributes. */
#define INODE_XATTR_VALUE_MAX 128u

/* A cached answer for `name`: -ENODATA, or 0 with the value (`value` has room
 * for INODE_XATTR_VALUE_MAX bytes), or -EAGAIN when the shard must be asked. */
int inode_xattr(struct inode *inode,
                const char *name,
                uint8_t *value,
                size_t *ret_size);

/* Keep an answer asked for at `asked`; `value` NULL: there is no such. */
void inode_xattr_answer(struct inode *inode,
                        inode_stamp asked,
                        const char *name,
                        const uint8_t *value,
                        size_t size);

/* ------------------------------------------------------------- open files */

/* One more handle, once no name is being removed. Regular files get their bytes
 * (`file`), others NULL: the handle borrows it until inode_close(). Errors:
 * those of file_get() */
MUST_CHECK int inode_open(struct inode *inode,
                          bool with_file,
                          struct file **ret_file);
void inode_close(struct inode *inode);

/* How many handles the inode has. */
uint32_t inode_n_open(struct inode *inode);

/* Whether any inode at all is open. */
bool inode_any_open(struct inode_table *table);

/* The inode has lost its last name, says the shard: whether it is open here. If
 * it is not, what is known of it does not count any more, so that an open asks
 * the shard. */
bool inode_orphaned(struct inode_table *table, uint64_t ino);

/* The inode's bytes if they are known here, pinned until inode_file_unpin();
 * else NULL. */
struct file *inode_file_pin(struct inode *inode);
void inode_file_unpin(struct inode *inode);
