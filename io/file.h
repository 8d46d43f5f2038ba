/* Whole reads and writes at an offset, and publishing a finished file under its name. */
#ifndef TUNELAW_IO_FILE_H
#define TUNELAW_IO_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "io/error.h"

/* All `size` bytes at `offset`: 0, or -1 with errno set (a file that ends before: ENODATA). Short transfers and EINTR
 * are continued. */
int file_read_at(int fd, void *bytes, size_t size, uint64_t offset);
int file_write_at(int fd, const void *bytes, size_t size, uint64_t offset);

/* Sync the directory that holds `path`, so that a new or renamed entry survives a power loss. */
int file_sync_parent(const char *path, struct error *err);

/* Rename `from` (complete and synced) to `to` in the same directory, and sync the directory. */
int file_publish(const char *from, const char *to, struct error *err);

#endif
