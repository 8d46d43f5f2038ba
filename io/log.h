/* Log lines: "[rank 0 12.3 file.c:45] text". One stream a process; every line is written with one write, so that
 * processes may share a file opened with O_APPEND. */
#ifndef TUNELAW_IO_LOG_H
#define TUNELAW_IO_LOG_H

/* Where lines go from now on (a file descriptor, not owned) and which rank they carry (-1: none). Before the first
 * call: stderr. */
void log_open(int fd, int rank);
void log_line(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));
#define LOG(...) log_line(__FILE__, __LINE__, __VA_ARGS__)

/* Seconds since the Epoch, and seconds since the process's first call, on the monotonic clock. */
double clock_wall(void);
double clock_elapsed(void);

#endif
