/* Directories.
 *
 * Offset 1 is behind ".", 2 behind "..", and behind an entry it is the entry's
 * cookie + 2. Cookies only grow and stay with their entries, so a reader that
 * goes on from an offset neither misses nor repeats what was there all the
 * time, whatever comes and goes meanwhile.
 *
 * A handle keeps the page of entries it got last. Names from it are always good
 * enough for readdir(2), but attributes must not bring back what this mount has
 * changed since the page was asked for: such entries go to the kernel by name
 * only. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "fusefs/ops.h"

#define OFFSET_DOT    1u
#define OFFSET_DOTDOT 2u
#define PAGE_FIRST    256u  /* entries asked for at the start of a directory */
#define PAGE_NEXT     2048u /* and after it has turned out to be big */

struct dir_handle {
    struct inode *inode; /* pinned by inode_open() */
    uint64_t parent;     /* inode number of ".." */
    pthread_mutex_t lock;
    /* Guarded by lock. */
    Gabion__ReadDirReply *page; /* owned; NULL: none yet */
    bool is_plus;               /* the page has attributes */
    uint64_t after;             /* cookie before the page's first entry */
    size_t next;                /* entry that comes next in order */
    inode_stamp asked;          /* before the page was asked for */
    int64_t fresh_until_ms;     /* of its attributes */
};

static struct dir_handle *dir_of(const struct fuse_file_info *fi)
{
    return (struct dir_handle *)(uintptr_t)fi->fh;
}

static void drop_page(struct dir_handle *dir)
{
    if (dir->page != NULL) {
        gabion__read_dir_reply__free_unpacked(dir->page, NULL);
        dir->page = NULL;
    }
}

static void free_dir(struct dir_handle *dir)
{
    drop_page(dir);
    inode_close(dir->inode);
    (void)pthread_mutex_destroy(&dir->lock);
    free(dir);
}

static int open_dir(struct client *client,
                    struct inode *inode,
                    struct dir_handle **ret_dir)
{
    struct dir_handle *dir = calloc(1, sizeof *dir);
    struct file *none;
    struct ops_attr attr;
    int rc;

    if (dir == NULL) {
        return -ENOMEM;
    }
    rc = inode_open(inode, false, &none);
    if (rc != 0) {
        free(dir);
        return rc;
    }
    (void)pthread_mutex_init(&dir->lock, NULL);
    dir->inode = inode;
    rc = ops_get_attr(client, inode, false, &attr);
    if (rc != 0) {
        free_dir(dir);
        return rc == -ENOENT ? -ESTALE : rc;
    }
    dir->parent = inode_number(inode);
    if (dir->parent != client->root && attr.attr.parent != 0) {
        dir->parent = attr.attr.parent;
    }
    *ret_dir = dir;
    return 0;
}

void ops_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct client *client = ops_begin(req);
    struct dir_handle *dir;
    struct inode *inode;
    int rc = inode_get(client->inodes, ops_ino(client, node), &inode);

    if (rc != 0) {
        ops_reply_error(req, rc);
        return;
    }
    rc = open_dir(client, inode, &dir);
    if (rc != 0) {
        ops_reply_error(req, rc);
    } else {
        fi->fh = (uint64_t)(uintptr_t)dir;
        if (fuse_reply_open(ops_end(req), fi) != 0) {
            free_dir(dir);
        }
    }
    inode_put(inode);
}

void ops_releasedir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    (void)node;
    (void)ops_begin(req);
    ops_reply_error(req, 0);
    free_dir(dir_of(fi));
}

void ops_fsyncdir(fuse_req_t req,
                  fuse_ino_t node,
                  int datasync,
                  struct fuse_file_info *fi)
{
    struct client *client = ops_begin(req);
    struct inode *inode = dir_of(fi)->inode;

    (void)node;
    (void)datasync;
    ops_reply_error(req, session_sync(client->session, inode_number(inode),
                                      inode_op_mark(inode)));
}

/* ------------------------------------------------------------------- pages */

static int fetch_page(struct client *client,
                      struct dir_handle *dir,
                      uint64_t after,
                      bool plus)
{
    Gabion__ReadDirRequest query = GABION__READ_DIR_REQUEST__INIT;
    Gabion__ReadDirReply *page;
    inode_stamp asked = inode_table_now(client->inodes);
    int64_t asked_ms = clock_mono_ms();
    int rc;

    query.ino = inode_number(dir->inode);
    query.after = after;
    query.limit = after == 0 ? PAGE_FIRST : PAGE_NEXT;
    query.plus = plus;
    rc = meta_client_read_dir(client->meta, &query, &page);
    if (rc != 0) {
        return rc;
    }
    drop_page(dir);
    dir->page = page;
    dir->is_plus = plus;
    dir->after = after;
    dir->next = 0;
    dir->asked = asked;
    dir->fresh_until_ms = asked_ms + client->options->attr_ms;
    return 0;
}

/* Find the place behind cookie `after` in the page. False: it is elsewhere. */
static bool find_in_page(struct dir_handle *dir, uint64_t after)
{
    const Gabion__ReadDirReply *page = dir->page;

    if (page == NULL || after < dir->after) {
        return false;
    }
    if (dir->next > 0 && page->entry[dir->next - 1]->cookie > after) {
        dir->next = 0; /* seekdir(3) has gone back */
    }
    while (dir->next < page->n_entry &&
           page->entry[dir->next]->cookie <= after) {
        dir->next++;
    }
    return dir->next < page->n_entry || page->end;
}

/* The entry behind cookie `after`; NULL at the end of the directory. A
 * directory that has been removed is empty. */
static int next_entry(struct client *client,
                      struct dir_handle *dir,
                      uint64_t after,
                      bool plus,
                      const Gabion__DirEntry **ret_entry)
{
    if (!find_in_page(dir, after)) {
        int rc = fetch_page(client, dir, after, plus);

        if (rc == -ENOENT || rc == -ESTALE) {
            *ret_entry = NULL;
            return 0;
        }
        if (rc != 0) {
            return rc;
        }
    }
    *ret_entry =
        dir->next < dir->page->n_entry ? dir->page->entry[dir->next] : NULL;
    return 0;
}

/* ----------------------------------------------------------------- filling */

/* A reply to readdir or readdirplus in the making. */
struct listing {
    fuse_req_t req;
    struct client *client;
    struct dir_handle *dir;
    bool plus;
    char *data; /* owned: `size` bytes */
    size_t size;
    size_t length; /* bytes in use */
};

/* Add an entry that has no more than type and number. False: it is full. */
static bool add_plain(struct listing *listing,
                      const char *name,
                      uint64_t ino,
                      uint32_t mode,
                      uint64_t offset)
{
    char *place = listing->data + listing->length;
    size_t room = listing->size - listing->length;
    struct fuse_entry_param entry = { .ino = 0 };
    size_t n;

    entry.attr.st_ino = ino;
    entry.attr.st_mode = mode;
    n = listing->plus ? fuse_add_direntry_plus(listing->req, place, room, name,
                                               &entry, (off_t)offset)
                      : fuse_add_direntry(listing->req, place, room, name,
                                          &entry.attr, (off_t)offset);
    if (n > room) {
        return false;
    }
    listing->length += n;
    return true;
}

/* Whether what the page says of the entry's inode, and that the name stands for
 * it, is still true as far as this mount knows. */
static bool is_entry_good(const struct listing *listing,
                          const Gabion__DirEntry *entry)
{
    const struct dir_handle *dir = listing->dir;
    struct inode_table *inodes = listing->client->inodes;

    return dir->is_plus && entry->attr != NULL &&
           clock_mono_ms() < dir->fresh_until_ms &&
           inode_is_untouched(inodes, inode_number(dir->inode), dir->asked) &&
           inode_is_untouched(inodes, entry->ino, dir->asked);
}

/* Add an entry of which the kernel shall know everything. Counts as a lookup.
 */
static bool add_plus(struct listing *listing,
                     const char *name,
                     const Gabion__DirEntry *entry,
                     uint64_t offset)
{
    struct client *client = listing->client;
    char *place = listing->data + listing->length;
    size_t room = listing->size - listing->length;
    struct fuse_entry_param param;
    struct ops_attr attr;
    struct inode *inode;
    size_t n;

    if (inode_get(client->inodes, entry->ino, &inode) != 0) {
        return add_plain(listing, name, entry->ino, entry->mode, offset);
    }
    ops_learn(client, inode, listing->dir->asked, entry->attr, &attr);
    ops_fill_entry(client, inode, &attr, &param);
    n = fuse_add_direntry_plus(listing->req, place, room, name, &param,
                               (off_t)offset);
    if (n <= room) {
        listing->length += n;
        inode_lookup_add(inode);
        name_hints_set(client->hints, inode_number(listing->dir->inode), name,
                       entry->ino, listing->dir->asked);
    }
    inode_put(inode);
    return n <= room;
}

static bool add_entry(struct listing *listing, const Gabion__DirEntry *entry)
{
    uint64_t offset = entry->cookie + OFFSET_DOTDOT;
    char name[256];

    memcpy(name, entry->name.data, entry->name.len);
    name[entry->name.len] = '\0';
    if (listing->plus && is_entry_good(listing, entry)) {
        return add_plus(listing, name, entry, offset);
    }
    return add_plain(listing, name, entry->ino, entry->mode, offset);
}

/* Fill from `offset` until the reply is full or the directory ends. An error
 * behind the first entries waits for the next call. */
static int fill_listing(struct listing *listing, uint64_t offset)
{
    struct dir_handle *dir = listing->dir;
    const Gabion__DirEntry *entry;
    int rc;

    if (offset < OFFSET_DOT) {
        if (!add_plain(listing, ".", inode_number(dir->inode), S_IFDIR,
                       OFFSET_DOT)) {
            return 0;
        }
        offset = OFFSET_DOT;
        drop_page(dir); /* rewinddir(3) wants to see what is there now */
    }
    if (offset < OFFSET_DOTDOT) {
        if (!add_plain(listing, "..", dir->parent, S_IFDIR, OFFSET_DOTDOT)) {
            return 0;
        }
        offset = OFFSET_DOTDOT;
    }
    for (;;) {
        rc = next_entry(listing->client, dir, offset - OFFSET_DOTDOT,
                        listing->plus, &entry);
        if (rc != 0) {
            return listing->length > 0 ? 0 : rc;
        }
        if (entry == NULL || !add_entry(listing, entry)) {
            return 0;
        }
        offset = entry->cookie + OFFSET_DOTDOT;
    }
}

static void reply_listing(struct listing *listing, int rc)
{
    if (rc != 0) {
        ops_reply_error(listing->req, rc);
    } else {
        (void)fuse_reply_buf(ops_end(listing->req), listing->data,
                             listing->length);
    }
}

static void list(fuse_req_t req,
                 size_t size,
                 off_t offset,
                 struct fuse_file_info *fi,
                 bool plus)
{
    struct listing listing = {
        .req = req,
        .client = ops_begin(req),
        .dir = dir_of(fi),
        .plus = plus,
        .data = malloc(size),
        .size = size,
    };
    int rc = -ENOMEM;

    if (listing.data != NULL) {
        (void)pthread_mutex_lock(&listing.dir->lock);
        rc = fill_listing(&listing, (uint64_t)offset);
        (void)pthread_mutex_unlock(&listing.dir->lock);
    }
    reply_listing(&listing, rc);
    free(listing.data);
}

void ops_readdir(fuse_req_t req,
                 fuse_ino_t node,
                 size_t size,
                 off_t offset,
                 struct fuse_file_info *fi)
{
    (void)node;
    list(req, size, offset, fi, false);
}

void ops_readdirplus(fuse_req_t req,
                     fuse_ino_t node,
                     size_t size,
                     off_t offset,
                     struct fuse_file_info *fi)
{
    (void)node;
    list(req, size, offset, fi, true);
}
