/* A master that dies between two instants that nothing else can tell apart: preloaded into a run, the process that
 * syncs results.h5 for the KILL_AT_SYNC-th time is killed right after. An even number: the rows' markers are on the
 * disk, and nothing that follows has happened. */
#include <dlfcn.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int is_store(int fd)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    path[size > 0 ? size : 0] = '\0';
    const char *name = strrchr(path, '/');
    return name && strcmp(name, "/results.h5") == 0;
}

int fdatasync(int fd)
{
    static atomic_int syncs;
    const char *at = getenv("KILL_AT_SYNC");
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    int result = real(fd);
    if (at && is_store(fd) && atomic_fetch_add(&syncs, 1) + 1 == atoi(at)) kill(getpid(), SIGKILL);
    return result;
}
