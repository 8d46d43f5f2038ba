/* The sidecar lock that keeps two masters of one run directory apart.
 *
 * An open-file-description lock (F_OFD_SETLK): the kernel drops it when the process dies, however it dies, and closing
 * another descriptor of the file does not lose it. exec drops it (O_CLOEXEC); a child that is forked and does not exec
 * keeps it as long as it lives. Where the file system has no such locks, the caller is told. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "io/file.h"
#include "io/log.h"
#include "io/store/store.h"

#define POLL_SECONDS 0.05

static void holder_write(int fd)
{
    char host[128] = "?", when[64], line[256];
    time_t now = (time_t)clock_wall();
    struct tm utc;
    gethostname(host, sizeof host - 1);
    gmtime_r(&now, &utc);
    strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S UTC", &utc);
    int size = snprintf(line, sizeof line, "host %s, pid %ld, since %s\n", host, (long)getpid(), when);
    /* for the message of another process only: a failure here harms nobody */
    if (ftruncate(fd, 0) == 0 && size > 0) (void)!pwrite(fd, line, (size_t)size, 0);
}

static void holder_read(int fd, char *line, size_t size)
{
    ssize_t got = pread(fd, line, size - 1, 0);
    line[got > 0 ? got : 0] = '\0';
    line[strcspn(line, "\n")] = '\0';
    for (char *at = line; *at; at++)
        if ((unsigned char)*at < ' ' || (unsigned char)*at > '~') *at = '?';
}

static int lock_try(int fd)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, F_OFD_SETLK, &lock);
}

static int lock_wait(int fd, const char *path, double wait_seconds, struct error *err)
{
    double end = clock_elapsed() + wait_seconds;
    while (lock_try(fd) != 0) {
        char holder[256];
        if (errno != EAGAIN && errno != EACCES && errno != EINTR)
            return error_set_errno(err, "%s: this file system gives no locks; a run needs them", path);
        double left = end - clock_elapsed();
        if (left <= 0) {
            holder_read(fd, holder, sizeof holder);
            errno = EAGAIN;
            return error_set(err, "%s: another run has this directory (%s)", path,
                             holder[0] ? holder : "holder unknown");
        }
        double pause = left < POLL_SECONDS ? left : POLL_SECONDS;
        nanosleep(&(struct timespec){.tv_nsec = (long)(pause * 1e9)}, NULL);
    }
    return 0;
}

/* With the lock held, another open file of the same path must not get it, just as another process must not. */
static int lock_probe(const char *path, struct error *err)
{
    int other = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (other < 0) return error_set_errno(err, "%s", path);
    int granted = lock_try(other) == 0;
    int number = errno;
    close(other);
    errno = granted ? ENOLCK : number;
    if (granted)
        return error_set(err, "%s: this file system grants one lock to two at once; a run needs locks that exclude",
                         path);
    if (number == EAGAIN || number == EACCES) return 0;
    return error_set_errno(err, "%s: this file system gives no locks; a run needs them", path);
}

int store_lock_held(const char *dir, struct error *err)
{
    char *path = NULL;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (asprintf(&path, "%s/results.lock", dir) < 0) return error_set(err, "out of memory");
    int result = -1;
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fcntl(fd, F_OFD_GETLK, &lock) != 0)
        error_set_errno(err, "%s", path);
    else
        result = lock.l_type != F_UNLCK;
    if (fd >= 0) close(fd);
    free(path);
    return result;
}

int store_lock(const char *dir, double wait_seconds, int *lock_fd, struct error *err)
{
    char *path = NULL;
    if (asprintf(&path, "%s/results.lock", dir) < 0) return error_set(err, "out of memory");
    int result = -1;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0) {
        error_set_errno(err, "%s", path);
    } else if (lock_wait(fd, path, wait_seconds, err) != 0 || lock_probe(path, err) != 0) {
        int saved = errno;
        close(fd);
        errno = saved;
    } else {
        holder_write(fd);
        *lock_fd = fd;
        result = 0;
    }
    free(path);
    return result;
}
