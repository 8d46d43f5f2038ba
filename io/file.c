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

int file_append(int fd, const void *bytes, size_t size)
{
    for (size_t at = 0; at < size;) {
        ssize_t written = write(fd, (const char *)bytes + at, size - at);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return -1;
        at += (size_t)written;
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

int file_open_write(const char *path, int flags)
{
    struct stat status;
    /* O_NONBLOCK: a fifo of this name must not block */
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | flags, 0666);
    if (fd < 0) return -1;
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) return fd;
    close(fd);
    errno = EEXIST;
    return -1;
}

static void draft_free(struct file_draft *draft)
{
    int saved = errno;
    if (draft->file) fclose(draft->file);
    free(draft->path);
    free(draft->temporary);
    *draft = (struct file_draft){NULL, NULL, NULL};
    errno = saved;
}

/* The temporary name is still this file's: another that makes the same file has taken it where it is not. */
static bool draft_is_named(const struct file_draft *draft)
{
    struct stat mine, named;
    return fstat(fileno(draft->file), &mine) == 0 && lstat(draft->temporary, &named) == 0 &&
           mine.st_dev == named.st_dev && mine.st_ino == named.st_ino;
}

static int not_plain(const char *path, struct error *err)
{
    return error_set(err, "%s: no plain file; allowed: the name of a file, there or not", path);
}

int file_check_named(const char *path, struct error *err)
{
    struct stat there;
    if (lstat(path, &there) != 0 || S_ISREG(there.st_mode)) return 0;
    if (!S_ISLNK(there.st_mode)) return not_plain(path, err);
    return error_set(err, "%s: a symbolic link; allowed: the name of the file itself", path);
}

int file_draft_open(struct file_draft *draft, const char *path, mode_t mode, struct error *err)
{
    *draft = (struct file_draft){.path = strdup(path)};
    if (!draft->path || asprintf(&draft->temporary, "%s.tmp", path) < 0) {
        draft->temporary = NULL;
        draft_free(draft);
        return error_set(err, "%s: out of memory", path);
    }
    struct stat there;
    if (lstat(path, &there) == 0 && !S_ISREG(there.st_mode) && !S_ISLNK(there.st_mode)) {
        draft_free(draft);
        return not_plain(path, err);
    }
    int fd = -1;
    if (unlink(draft->temporary) == 0 || errno == ENOENT)
        fd = open(draft->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd >= 0) draft->file = fdopen(fd, "w");
    if (draft->file) return 0;
    error_set_errno(err, "%s", draft->temporary);
    if (fd >= 0) {
        close(fd);
        unlink(draft->temporary);
    }
    draft_free(draft);
    return -1;
}

int file_draft_open_named(struct file_draft *draft, const char *path, mode_t mode, struct error *err)
{
    return file_check_named(path, err) ? -1 : file_draft_open(draft, path, mode, err);
}

int file_draft_publish(struct file_draft *draft, bool sync, struct error *err)
{
    int result = 0;
    if (fflush(draft->file) != 0 || ferror(draft->file) || (sync && fsync(fileno(draft->file)) != 0))
        result = error_set_errno(err, "%s", draft->temporary);
    else if (!draft_is_named(draft))
        result = error_set(err, "%s: another process writes it at the same time", draft->path);
    else if (rename(draft->temporary, draft->path) != 0)
        result = error_set_errno(err, "%s", draft->path);
    if (result != 0)
        file_draft_discard(draft);
    else
        draft_free(draft);
    return result;
}

void file_draft_discard(struct file_draft *draft)
{
    if (!draft->file) return;
    if (draft_is_named(draft)) unlink(draft->temporary);
    draft_free(draft);
}

static int copy(int from, struct file_draft *draft, const char *name, struct error *err)
{
    char block[1 << 16];
    for (;;) {
        ssize_t got = read(from, block, sizeof block);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return error_set_errno(err, "%s", name);
        if (got == 0) return 0;
        if (fwrite(block, 1, (size_t)got, draft->file) != (size_t)got) return error_set_errno(err, "%s", draft->path);
    }
}

int file_copy(const char *from, const char *to, struct error *err)
{
    struct file_draft draft;
    int fd = open(from, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return error_set_errno(err, "%s", from);
    int result = file_draft_open(&draft, to, 0666, err);
    if (result == 0) {
        result = copy(fd, &draft, from, err);
        if (result == 0)
            result = file_draft_publish(&draft, true, err);
        else
            file_draft_discard(&draft);
    }
    close(fd);
    return result;
}

int file_link(const char *from, const char *to, struct error *err)
{
    if (link(from, to) == 0) return 0;
    if (errno != EPERM && errno != EXDEV && errno != EMLINK && errno != EOPNOTSUPP)
        return error_set_errno(err, "%s: cannot become %s, too", from, to);
    return file_copy(from, to, err);
}
