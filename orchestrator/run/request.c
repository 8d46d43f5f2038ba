/* DIR/drain.request and DIR/pause.request: between `tunelaw top` and the master. */
#include "orchestrator/run/request.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "io/file.h"

static void path_of(const char *dir, enum request request, char path[PATH_MAX])
{
    snprintf(path, PATH_MAX, "%s/%s.request", dir, request == REQUEST_DRAIN ? "drain" : "pause");
}

bool request_present(const char *dir, enum request request)
{
    char path[PATH_MAX];
    path_of(dir, request, path);
    return faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

int request_make(const char *dir, enum request request, struct error *err)
{
    char path[PATH_MAX];
    path_of(dir, request, path);
    int fd = file_open_write(path, 0);
    if (fd < 0) return error_set_errno(err, "%s", path);
    close(fd);
    return 0;
}

int request_withdraw(const char *dir, enum request request, struct error *err)
{
    char path[PATH_MAX];
    path_of(dir, request, path);
    return unlink(path) && errno != ENOENT ? error_set_errno(err, "%s", path) : 0;
}
