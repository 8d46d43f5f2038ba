/* Reading text that a person made: UTF-8 lines, and TSV files of pairs (source TAB target).
 *
 * Every error is one line that begins with FILE:LINE. A file is refused where it is not strict UTF-8, holds a zero
 * byte, an empty line, a line above TEXT_LINE_LIMIT bytes, or nothing at all. A byte order mark at the start and a
 * carriage return at the end of a line are dropped. Memory is bounded by the longest line. */
#ifndef TUNELAW_IO_TEXT_TEXT_H
#define TUNELAW_IO_TEXT_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/error.h"

#define TEXT_LINE_LIMIT ((size_t)1 << 24) /* bytes */

struct text_reader;

struct text_reader *text_open(const char *path, struct error *err);
void text_close(struct text_reader *reader);

/* Next line, without its end; the bytes belong to the reader until the next call and are not zero-terminated.
 * Returns 1 for a line, 0 at the end, -1 with *err. */
int text_next(struct text_reader *reader, const char **line, size_t *size, struct error *err);

struct text_pair {
    const char *source, *target; /* in the reader's line */
    size_t source_size, target_size;
};
/* Next line as exactly two columns, neither of them blank. Returns as text_next. */
int text_next_pair(struct text_reader *reader, struct text_pair *pair, struct error *err);

/* Number of the line that was read last, from 1. */
size_t text_line(const struct text_reader *reader);
const char *text_path(const struct text_reader *reader);

/* Read a whole file through, as lines or (columns = 2) as pairs, and count its lines: 0, or -1 with the first fault. */
int text_check(const char *path, int columns, size_t *lines, struct error *err);

/* Letters and digits of ASCII, '_', '-', '.', '+', beginning with a letter or digit. */
#define TEXT_NAMES "letters, digits, '_', '-', '.', '+', beginning with a letter or digit"
bool text_is_name(const char *text);

/* Strict UTF-8 without zero bytes. */
bool text_is_utf8(const char *text, size_t size);

#endif
