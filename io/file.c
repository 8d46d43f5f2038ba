/* The POSIX calls under the store, the checkpoints and the datasets: rows at offsets, and files that appear whole or
 * not at all. */
#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int file_read_at(int fd, void *bytes, size_t size, uint64_t offset)
{
    char *at = bytes;
    while (size > 0) {
        ssize_t got = pread(fd, at, size, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -1;
        if (got == 0) {
            errno = ENODATA;
            return -1;
        }
        at += got;
        size -= (size_t)got;
        offset += (uint64_t)got;
    }
    return 0;
}

int file_write_at(int fd, const void *bytes, size_t size, uint64_t offset)
{
    const char *at = bytes;
    while (size > 0) {
        ssize_t put = pwrite(fd, at, size, (off_t)offset);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return -1;
        if (put == 0) {
            errno = EIO;
            return -1;
        }
        at += put;
        size -= (size_t)put;
        offset += (uint64_t)put;
    }
    return 0;
}

int file_sync_parent(const char *path, struct error *err)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash == path ? strdup("/") : slash ? strndup(path, (size_t)(slash - path)) : strdup(".");
    if (!dir) return error_set(err, "out of memory");
    int result = 0;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* EINVAL: a file system whose directories cannot be synced */
    if (fd < 0 || (fsync(fd) != 0 && errno != EINVAL)) result = error_set_errno(err, "%s", dir);
    if (fd >= 0) close(fd);
    free(dir);
    return result;
}

int file_publish(const char *from, const char *to, struct error *err)
{
    if (rename(from, to) != 0) return error_set_errno(err, "%s: cannot rename to %s", from, to);
    return file_sync_parent(to, err);
}
