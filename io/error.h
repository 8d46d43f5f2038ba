/* One line of text about what went wrong, for a person.
 *
 * Functions that can fail for a reason outside the program return 0 or -1 and, on -1, leave one line in *err.
 * The line does not name the program and has no newline: "sweep.cfg:12: rank 300 is above the width 256;
 * allowed: 1..256". This is the one header that every folder may include. */
#ifndef TUNELAW_IO_ERROR_H
#define TUNELAW_IO_ERROR_H

#include <stddef.h>

struct error {
    char text[1024];
};

/* Write a formatted line to *err (which may be NULL) and return -1, so that a caller can `return error_set(...)`.
 * A line longer than the buffer is cut. errno is kept. */
int error_set(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* As error_set, with ": strerror(errno)" appended. */
int error_set_errno(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Put "PREFIX: " in front of the line that is already there, and return -1. */
int error_prefix(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Control characters of what was quoted become spaces, characters that were cut question marks; returns -1. */
int error_one_line(struct error *err);

/* Copy a line into out[size], zero-terminated, size at least 8. One that is too long loses its middle, which becomes
 * "...": long paths stand before the reason, and the reason is what a person needs. No character of UTF-8 is cut. */
void error_shorten(char *out, size_t size, const char *line);

#endif
