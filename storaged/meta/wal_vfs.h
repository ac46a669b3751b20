/* A SQLite VFS that writes the write-ahead log a transaction at a time.
 *
 * SQLite's own writes each frame of a transaction by two calls, a header of 24
 * bytes and a page, so that nearly every write ends within a page of the file.
 * A transaction of ten pages costs twenty calls, and up to as many reads when
 * the log's old content has left the page cache. A log opened through this VFS
 * collects what is appended and writes it by one call, in whole pages, when
 * SQLite syncs the log: with synchronous=FULL at the end of each commit, before
 * any connection sees it. It does *not* make commits durable then: who needs
 * that syncs the log through another connection. Only the sync by which SQLite
 * separates the log's old content from the new, when it starts the log over, is
 * a real one.
 *
 * For the one connection that writes a database in WAL mode, with
 * synchronous=FULL and without checkpoints of its own (also not when it is
 * closed), as these need a log that has been synced. Other connections to the
 * same database, by SQLite's own VFS, see its commits as ever. Files other than
 * the log are SQLite's own. */
#pragma once

/* The name for sqlite3_open_v2(), registered with SQLite at the first call over
 * the VFS that is then the default one; NULL when SQLite cannot be initialised.
 * Thread-safe. */
const char *wal_vfs_name(void);
