/* Checkpoints that cannot be opened while a file exists: preloaded into a run, opening one for reading fails with
 * EMFILE, as where a process has no descriptors left, while $CLOSED_FILES is there. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    const char *flag = getenv("CLOSED_FILES");
    if (flags & O_CREAT) {
        va_list rest;
        va_start(rest, flags);
        mode = va_arg(rest, mode_t);
        va_end(rest);
    }
    size_t size = strlen(path);
    if (flag && (flags & O_ACCMODE) == O_RDONLY && strstr(path, "/checkpoints/") && size > 3 &&
        strcmp(path + size - 3, ".h5") == 0 && access(flag, F_OK) == 0) {
        errno = EMFILE;
        return -1;
    }
    return ((__typeof__(&open))dlsym(RTLD_NEXT, "open"))(path, flags, mode);
}
