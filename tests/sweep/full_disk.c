/* A disk that is full while a file exists: preloaded into a run, writes that need room on files below $FULL_DISK fail
 * with ENOSPC as long as $FULL_DISK/full is there. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int is_full(int fd)
{
    const char *folder = getenv("FULL_DISK");
    char link[64], path[4096];
    if (!folder) return 0;
    snprintf(path, sizeof path, "%s/full", folder);
    if (access(path, F_OK) != 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = '\0';
    return strncmp(path, folder, strlen(folder)) == 0 && path[strlen(folder)] == '/';
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
    if (is_full(fd)) {
        errno = ENOSPC;
        return -1;
    }
    return ((__typeof__(&pwrite))dlsym(RTLD_NEXT, "pwrite"))(fd, bytes, size, offset);
}

ssize_t write(int fd, const void *bytes, size_t size)
{
    if (is_full(fd)) {
        errno = ENOSPC;
        return -1;
    }
    return ((__typeof__(&write))dlsym(RTLD_NEXT, "write"))(fd, bytes, size);
}
