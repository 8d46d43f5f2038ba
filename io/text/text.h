/* Reading text that a person made: UTF-8 lines, TSV files of pairs (source TAB target), and JSON lines of either (files
 * whose names end in .jsonl or .ndjson: an object a line, and only there may a text hold tabs and newlines).
 *
 * Every error is one line that begins with FILE:LINE. A file is refused where it is not strict UTF-8, holds a zero
 * byte, a line above TEXT_LINE_LIMIT bytes, or nothing at all. A byte order mark at the start and a carriage return at
 * the end of a line are dropped. Memory is bounded by the longest line. */
#ifndef TUNELAW_IO_TEXT_TEXT_H
#define TUNELAW_IO_TEXT_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/error.h"

#define TEXT_LINE_LIMIT ((size_t)1 << 24) /* bytes */

struct text_reader;

/* The members of JSON lines that are read. NULL: "text"; "source" and "target", "prompt" and "completion", or "input"
 * and "output" (without "instruction"), whichever a line has. */
struct text_fields {
    const char *text;
    const char *source, *target; /* both or none */
};

/* By its name. */
bool text_is_json_lines(const char *path);

/* fields may be NULL, and is the caller's as long as the reader. */
struct text_reader *text_open(const char *path, const struct text_fields *fields, struct error *err);
void text_close(struct text_reader *reader);

/* Next document: a line, without its end, or a text of JSON; empty lines are passed over. The bytes belong to the
 * reader until the next call and are not zero-terminated. Returns 1 for one, 0 at the end, -1 with *err. */
int text_next(struct text_reader *reader, const char **line, size_t *size, struct error *err);

struct text_pair {
    const char *source, *target; /* in the reader's line */
    size_t source_size, target_size;
};
/* Next line as exactly two columns, or two members, neither of them blank; an empty line of TSV is refused. Returns as
 * text_next. */
int text_next_pair(struct text_reader *reader, struct text_pair *pair, struct error *err);

/* Next line to learn pieces from: a document, or a pair as one text (of TSV: the line). Returns as text_next. */
int text_next_sentence(struct text_reader *reader, bool is_pair, const char **line, size_t *size, struct error *err);

/* Number of the line that was read last, from 1. */
size_t text_line(const struct text_reader *reader);
const char *text_path(const struct text_reader *reader);

/* Read a whole file through, as documents or (columns = 2) as pairs, and count them: 0, or -1 with the first fault. */
int text_check(const char *path, int columns, const struct text_fields *fields, size_t *count, struct error *err);

/* Letters and digits of ASCII, '_', '-', '.', '+', beginning with a letter or digit. */
#define TEXT_NAMES "letters, digits, '_', '-', '.', '+', beginning with a letter or digit"
bool text_is_name(const char *text);

/* Bytes of the UTF-8 sequence at the front of text[size], size > 0; 0 where it is malformed (Unicode 15, table 3-7). */
size_t text_character(const char *text, size_t size);

/* Strict UTF-8 without zero bytes. */
bool text_is_utf8(const char *text, size_t size);

#endif
