/* Log lines with rank, elapsed time and place. */
#include "io/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int log_fd = STDERR_FILENO;
static int log_rank = -1;

static double clock_read(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

double clock_wall(void)
{
    return clock_read(CLOCK_REALTIME);
}

double clock_elapsed(void)
{
    static double start;
    double now = clock_read(CLOCK_MONOTONIC);
    if (start <= 0) start = now;
    return now - start;
}

void log_open(int fd, int rank)
{
    log_fd = fd;
    log_rank = rank;
}

void log_line(const char *file, int line, const char *format, ...)
{
    char text[2048];
    const char *base = strrchr(file, '/');
    int used = log_rank >= 0
                   ? snprintf(text, sizeof text, "[rank %d %.3f %s:%d] ", log_rank, clock_elapsed(),
                              base ? base + 1 : file, line)
                   : snprintf(text, sizeof text, "[%.3f %s:%d] ", clock_elapsed(), base ? base + 1 : file, line);
    va_list args;
    va_start(args, format);
    int more = vsnprintf(text + used, sizeof text - (size_t)used - 1, format, args);
    va_end(args);
    size_t size = (size_t)used + (size_t)(more < 0 ? 0 : more);
    if (size > sizeof text - 2) size = sizeof text - 2;
    text[size++] = '\n';
    ssize_t written = write(log_fd, text, size); /* a log that cannot be written has nowhere to be reported */
    (void)written;
}
