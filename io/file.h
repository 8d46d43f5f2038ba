/* Whole reads and writes at an offset, and the one way in which files of ours come to be: logs that grow, and files
 * that are written beside their name and take it when they are whole. Neither goes through a symbolic link, so that in
 * a folder where others may write nobody leads us to another file. Modes are 0666 (or as given) less the umask. */
#ifndef TUNELAW_IO_FILE_H
#define TUNELAW_IO_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "io/error.h"

/* All `size` bytes at `offset`: 0, or -1 with errno set (a file that ends before: ENODATA). Short transfers and EINTR
 * are continued. */
int file_read_at(int fd, void *bytes, size_t size, uint64_t offset);
/* At the end of a file that was opened to append: in one write, but for a disk that is full. 0 or -1: some of it may be
 * there. */
int file_append(int fd, const void *bytes, size_t size);
int file_write_at(int fd, const void *bytes, size_t size, uint64_t offset);

/* Sync the directory that holds `path`, so that a new or renamed entry survives a power loss. */
int file_sync_parent(const char *path, struct error *err);

/* Rename `from` (complete and synced) to `to` in the same directory, and sync the directory. */
int file_publish(const char *from, const char *to, struct error *err);

/* Copy the file `from` to `to`, whole and on the disk, or leave `to` as it was. */
int file_copy(const char *from, const char *to, struct error *err);

/* `to`, which is not there, becomes another name of the file `from`; where the file system has no links, a copy. */
int file_link(const char *from, const char *to, struct error *err);

/* Open a file of ours for writing, made where it is missing; flags: 0, O_APPEND or O_TRUNC. -1 with errno: ELOOP where
 * its name is a symbolic link, EEXIST where it is no plain file. */
int file_open_write(const char *path, int flags);

/* Whether a file that a user names may be written at `path`: 0, or -1 with *err where something is there that is no
 * plain file. A link is neither followed, since whoever may write in its folder would say where to, nor replaced. */
int file_check_named(const char *path, struct error *err);

/* A file in the making: PATH.tmp, always new. Two that make the same file at once do no harm: one of them fails. */
struct file_draft {
    FILE *file; /* write here */
    char *path, *temporary;
};

/* mode: 0666, or 0777 for a script. A device, a pipe or a folder of that name is refused: renaming would replace it. On
 * failure there is nothing to discard. */
int file_draft_open(struct file_draft *draft, const char *path, mode_t mode, struct error *err);
/* The same of a file that a user names: file_check_named. */
int file_draft_open_named(struct file_draft *draft, const char *path, mode_t mode, struct error *err);
/* Close it and give it its name; sync: only when it is on the disk. On failure it is discarded, and PATH is as it was.
 */
int file_draft_publish(struct file_draft *draft, bool sync, struct error *err);
void file_draft_discard(struct file_draft *draft);

#endif
