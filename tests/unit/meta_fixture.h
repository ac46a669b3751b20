/* A metadata database in a temporary directory, and short ways to apply ops to
 * it. Failures of the database itself fail the test at once. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/metadata.pb-c.h"
#include "storaged/meta/apply.h"
#include "storaged/meta/meta_db.h"
#include "storaged/meta/meta_read.h"

#define FIXTURE_CLUSTER 0x1122334455667788u
#define FIXTURE_NOW_NS  1000000000000

struct meta_fixture {
    char directory[64];
    char path[96];
    struct meta_db *db;           /* owned */
    struct meta_reader *reader;   /* owned */
    struct sqlite3 *sqlite;       /* owned: for looking at tables */
    uint64_t index;               /* of the last entry */
    uint64_t session;             /* that ops are applied for */
    uint64_t sequence;            /* of its last op */
    uint64_t acked;               /* sent along with ops */
    uint64_t next_ino;            /* of the reserved ones */
    uint64_t serial;              /* of the last object */
    int64_t now_ns;               /* of the last op; a microsecond per op */
    bool held_open;               /* sent along with ops */
    struct apply_results results; /* owned: of the last op */
};

/* A new database with session 1 open and 100000 inode numbers reserved. */
void meta_fixture_open(struct meta_fixture *f);
/* Close and remove everything. */
void meta_fixture_close(struct meta_fixture *f);
/* Close and open again. */
void meta_fixture_reopen(struct meta_fixture *f);

/* Apply a batch as the next entry, in a transaction of its own. */
void meta_fixture_apply_batch(struct meta_fixture *f,
                              const Gabion__Batch *batch);

/* Apply an op as it is. The result stays until the next one. */
const Gabion__OpResult *meta_fixture_apply(struct meta_fixture *f,
                                           Gabion__Op *op);

/* Apply an op with this body for the fixture's session, as its next. */
const Gabion__OpResult *meta_fixture_run(struct meta_fixture *f,
                                         Gabion__Op__BodyCase which,
                                         void *body);

/* Bytes of a string, borrowed. */
ProtobufCBinaryData meta_fixture_bytes(const char *text);

/* Short ways. Those that answer an int answer the op's error, positive. */
int meta_fixture_create(struct meta_fixture *f,
                        uint64_t parent,
                        const char *name,
                        uint32_t mode,
                        uint64_t *ret_ino);
/* A file or directory that must come into being. */
uint64_t meta_fixture_file(struct meta_fixture *f,
                           uint64_t parent,
                           const char *name);
uint64_t meta_fixture_directory(struct meta_fixture *f,
                                uint64_t parent,
                                const char *name);
int meta_fixture_link(struct meta_fixture *f,
                      uint64_t ino,
                      uint64_t parent,
                      const char *name);
int meta_fixture_unlink(struct meta_fixture *f,
                        uint64_t parent,
                        const char *name,
                        bool directory);
int meta_fixture_rename(struct meta_fixture *f,
                        uint64_t parent,
                        const char *name,
                        uint64_t new_parent,
                        const char *new_name,
                        uint32_t flags);
int meta_fixture_set_xattr(struct meta_fixture *f,
                           uint64_t ino,
                           const char *name,
                           const void *value,
                           size_t size,
                           uint32_t flags);
int meta_fixture_set_size(struct meta_fixture *f, uint64_t ino, uint64_t size);

/* Open one more session, without making it the fixture's. */
void meta_fixture_open_session(struct meta_fixture *f, uint64_t session);

/* An object's info with an id of the fixture's session; the id's bytes are at
 * `id`, which must stay. */
Gabion__ObjectInfo meta_fixture_object(struct meta_fixture *f,
                                       uint64_t size,
                                       uint8_t id[16]);

/* Write `length` bytes of a new object at `offset`. */
int meta_fixture_write(struct meta_fixture *f,
                       uint64_t ino,
                       uint64_t offset,
                       uint64_t length);

/* Attributes by the reader; zeros when the inode is not there. */
Gabion__Attr meta_fixture_attr(struct meta_fixture *f, uint64_t ino);

/* Inode of a path from the root, like "a/b"; 0 when not there. */
uint64_t meta_fixture_resolve(struct meta_fixture *f, const char *path);

/* The integer that an SQL query gives. */
int64_t meta_fixture_query(const struct meta_fixture *f, const char *sql);

/* All tables as text, owned by the caller; the applied index is left out. */
char *meta_fixture_dump(const struct meta_fixture *f);
