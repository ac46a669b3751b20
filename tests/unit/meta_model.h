/* A filesystem in memory that says what the metadata state machine must answer:
 * simple, byte by byte, and written without looking at the real one.
 *
 * Limits: names of at most 7 bytes, files of at most MODEL_FILE_MAX bytes, no
 * ACLs. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/metadata.pb-c.h"

#define MODEL_FILE_MAX     40960u
#define MODEL_INODES_MAX   4096u
#define MODEL_OBJECTS_MAX  8192u
#define MODEL_ENTRIES_MAX  64u
#define MODEL_XATTRS_MAX   4u
#define MODEL_SESSIONS_MAX 64u

struct model_byte {
    uint32_t object; /* 1 + index; 0: inline or a hole */
    uint8_t covered; /* by an extent */
    uint8_t value;   /* 0 in holes */
};

struct model_entry {
    char name[8];
    uint64_t ino;
};

struct model_xattr {
    char name[16];
    size_t size;
    uint8_t value[32];
};

struct model_inode {
    Gabion__Attr attr; /* attr.ino 0: no such inode */
    bool orphan;
    char target[16];
    size_t n_entries;
    struct model_entry entries[MODEL_ENTRIES_MAX];
    size_t n_xattrs;
    struct model_xattr xattrs[MODEL_XATTRS_MAX];
    struct model_byte *bytes; /* owned, of regular files: MODEL_FILE_MAX */
};

struct model_object {
    uint64_t session;
    uint64_t serial;
    uint64_t size;
    bool forgotten;
};

struct model {
    struct model_inode inodes[MODEL_INODES_MAX]; /* by inode number */
    size_t n_objects;
    struct model_object objects[MODEL_OBJECTS_MAX];
    uint64_t next_sequence; /* of inode numbers */
    uint64_t next_session;
    size_t n_sessions;
    uint64_t sessions[MODEL_SESSIONS_MAX];
    size_t n_orphans;
    uint64_t orphans[MODEL_INODES_MAX]; /* in the order of unlinking */
};

/* What an op must answer. */
struct model_result {
    int error;
    bool existed;
    uint64_t ino;
    uint64_t length;
    size_t n_attr;
    Gabion__Attr attr[8];
};

/* With a root directory of these times. The model is freed by model_free(). */
struct model *model_new(int64_t now_ns);
void model_free(struct model *model);

void model_apply(struct model *model,
                 const Gabion__Op *op,
                 struct model_result *ret_result);

/* The inode, or NULL. */
struct model_inode *model_inode(struct model *model, uint64_t ino);

/* Bytes of files that lie in each object, by its index. */
void model_live(const struct model *model,
                uint64_t ret_live[MODEL_OBJECTS_MAX]);

/* The byte at an offset of an object. */
uint8_t model_object_byte(uint64_t session, uint64_t serial, uint64_t offset);
