/* The memory of bytes that are written and not yet stored: counted, bounded,
 * recycled. Thread-safe.
 *
 * Memory is handed out as struct buf and counted from taking it to the last
 * unref of the buffer, wherever that happens: gRPC may hold a buffer for longer
 * than the put that it was made for. Buffers of stripes are recycled through a
 * free list, since fresh pages cost more than encoding a stripe does. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"

struct write_memory;

/* `limit` bytes at most, and a third of that for buffers of `stripe_size` that
 * wait to be used again; at most
 * `unsent_max` stripes between write_memory_queued() and write_memory_done().
 * Errors: -ENOMEM */
MUST_CHECK int write_memory_new(uint64_t limit,
                                size_t stripe_size,
                                unsigned unsent_max,
                                struct write_memory **ret_memory);

/* Its memory goes when the last buffer has been released. NULL is allowed. */
void write_memory_free(struct write_memory *memory);

/* Take a buffer of `size` bytes. A single one always fits. `force`: beyond the
 * limit if need be, for what serves to free memory.
 * Errors: -EAGAIN  no room now: see write_memory_wait()
 *         -ENOMEM */
MUST_CHECK int write_memory_take(struct write_memory *memory,
                                 size_t size,
                                 bool force,
                                 struct buf **ret_buf);

/* A stripe waits to be stored; it has been stored, or has failed. */
void write_memory_queued(struct write_memory *memory);
void write_memory_done(struct write_memory *memory);

/* Count of the changes that may let a take succeed. */
uint64_t write_memory_changes(struct write_memory *memory);

/* Wait for such a change, after `changes`. True: there was one. False: no
 * stripe is on its way and nobody else is at it, so the caller must make room
 * by storing something, and then call write_memory_made_room(). */
bool write_memory_wait(struct write_memory *memory, uint64_t changes);
void write_memory_made_room(struct write_memory *memory);

/* Wait until a buffer is released, at most `timeout_ms`. */
void write_memory_wait_release(struct write_memory *memory, int64_t timeout_ms);

/* Bytes taken now. */
uint64_t write_memory_used(struct write_memory *memory);
