/* The first step of the way of the data: lines of UTF-8 text and TSV, checked while they are read. */
#include "io/text/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct text_reader {
    char *path;
    int fd;
    char *buffer;
    size_t capacity;
    size_t start, end; /* bytes read and not yet given out */
    size_t line;
    bool at_end;
};

struct text_reader *text_open(const char *path, struct error *err)
{
    struct text_reader *reader = calloc(1, sizeof *reader);
    if (!reader) {
        error_set(err, "%s: out of memory", path);
        return NULL;
    }
    struct stat status;
    reader->path = strdup(path);
    reader->capacity = (size_t)1 << 16;
    reader->buffer = malloc(reader->capacity);
    reader->fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (reader->fd < 0 || fstat(reader->fd, &status) != 0) {
        error_set_errno(err, "%s", path);
    } else if (!S_ISREG(status.st_mode)) {
        error_set(err, "%s: not a regular file; text is read more than once", path);
    } else if (!reader->path || !reader->buffer) {
        error_set(err, "%s: out of memory", path);
    } else {
        return reader;
    }
    text_close(reader);
    return NULL;
}

void text_close(struct text_reader *reader)
{
    if (!reader) return;
    if (reader->fd >= 0) close(reader->fd);
    free(reader->path);
    free(reader->buffer);
    free(reader);
}

size_t text_line(const struct text_reader *reader)
{
    return reader->line;
}

const char *text_path(const struct text_reader *reader)
{
    return reader->path;
}

/* Make room for more bytes behind `end`: move what is left to the front, or grow. */
static int make_room(struct text_reader *reader, struct error *err)
{
    if (reader->start > 0) {
        memmove(reader->buffer, reader->buffer + reader->start, reader->end - reader->start);
        reader->end -= reader->start;
        reader->start = 0;
    }
    if (reader->end < reader->capacity) return 0;
    if (reader->capacity > TEXT_LINE_LIMIT)
        return error_set(err, "%s:%zu: the line is longer than %zu bytes", reader->path, reader->line, TEXT_LINE_LIMIT);
    char *grown = realloc(reader->buffer, 2 * reader->capacity);
    if (!grown) return error_set(err, "%s:%zu: out of memory", reader->path, reader->line);
    reader->buffer = grown;
    reader->capacity *= 2;
    return 0;
}

static int read_more(struct text_reader *reader, struct error *err)
{
    if (make_room(reader, err) != 0) return -1;
    ssize_t got;
    do {
        got = read(reader->fd, reader->buffer + reader->end, reader->capacity - reader->end);
    } while (got < 0 && errno == EINTR);
    if (got < 0) return error_set_errno(err, "%s", reader->path);
    if (got == 0) reader->at_end = true;
    reader->end += (size_t)got;
    return 0;
}

/* The raw next line, without '\n': as text_next. */
static int next_line(struct text_reader *reader, char **line, size_t *size, struct error *err)
{
    size_t scanned = 0;
    reader->line++;
    for (;;) {
        char *first = reader->buffer + reader->start;
        size_t held = reader->end - reader->start;
        char *newline = memchr(first + scanned, '\n', held - scanned);
        if (newline || reader->at_end) {
            if (!newline && held == 0) return 0;
            *line = first;
            *size = newline ? (size_t)(newline - first) : held;
            reader->start += *size + (newline ? 1 : 0);
            return 1;
        }
        scanned = held;
        if (read_more(reader, err) != 0) return -1;
    }
}

/* Bytes of the UTF-8 sequence at the front of s[size], 0 where it is malformed (Unicode 15, table 3-7). */
static size_t sequence_length(const unsigned char *s, size_t size)
{
    unsigned char lead = s[0];
    if (lead < 0x80) return 1;
    size_t length = lead >= 0xc2 && lead <= 0xdf   ? 2
                    : lead >= 0xe0 && lead <= 0xef ? 3
                    : lead >= 0xf0 && lead <= 0xf4 ? 4
                                                   : 0;
    if (length == 0 || length > size) return 0;
    unsigned char low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    unsigned char high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    if (s[1] < low || s[1] > high) return 0;
    for (size_t i = 2; i < length; i++)
        if (s[i] < 0x80 || s[i] > 0xbf) return 0;
    return length;
}

static int check_utf8(const struct text_reader *reader, const char *line, size_t size, struct error *err)
{
    const unsigned char *bytes = (const unsigned char *)line;
    for (size_t i = 0; i < size;) {
        size_t length = bytes[i] ? sequence_length(bytes + i, size - i) : 0;
        if (length == 0)
            return error_set(err, "%s:%zu: %s (byte 0x%02x at byte %zu of the line); allowed: UTF-8 text", reader->path,
                             reader->line, bytes[i] ? "not UTF-8" : "a zero byte", bytes[i], i + 1);
        i += length;
    }
    return 0;
}

bool text_is_name(const char *text)
{
    static const char signs_and_letters[] = "_-.+abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    return *text && strchr(signs_and_letters + 4, *text) && !text[strspn(text, signs_and_letters)];
}

bool text_is_utf8(const char *text, size_t size)
{
    const unsigned char *bytes = (const unsigned char *)text;
    for (size_t i = 0, length; i < size; i += length) {
        length = bytes[i] ? sequence_length(bytes + i, size - i) : 0;
        if (length == 0) return false;
    }
    return true;
}

static bool blank(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (!strchr(" \t\r\v\f", text[i])) return false;
    return true;
}

int text_next(struct text_reader *reader, const char **line, size_t *size, struct error *err)
{
    char *bytes = NULL;
    size_t count = 0;
    int got = next_line(reader, &bytes, &count, err);
    if (got == 0 && reader->line == 1) return error_set(err, "%s:1: the file is empty", reader->path);
    if (got <= 0) return got;
    if (count > TEXT_LINE_LIMIT)
        return error_set(err, "%s:%zu: the line is longer than %zu bytes", reader->path, reader->line, TEXT_LINE_LIMIT);
    if (reader->line == 1 && count >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0) {
        bytes += 3;
        count -= 3;
    }
    if (count > 0 && bytes[count - 1] == '\r') count--;
    if (check_utf8(reader, bytes, count, err) != 0) return -1;
    if (blank(bytes, count)) return error_set(err, "%s:%zu: the line is empty", reader->path, reader->line);
    *line = bytes;
    *size = count;
    return 1;
}

int text_next_pair(struct text_reader *reader, struct text_pair *pair, struct error *err)
{
    const char *line = NULL;
    size_t size = 0;
    int got = text_next(reader, &line, &size, err);
    if (got <= 0) return got;
    size_t columns = 1;
    for (size_t i = 0; i < size; i++)
        columns += line[i] == '\t';
    if (columns != 2)
        return error_set(err, "%s:%zu: %zu column%s; allowed: two columns, source TAB target", reader->path,
                         reader->line, columns, columns == 1 ? "" : "s");
    const char *tab = memchr(line, '\t', size);
    pair->source = line;
    pair->source_size = (size_t)(tab - line);
    pair->target = tab + 1;
    pair->target_size = size - pair->source_size - 1;
    if (blank(pair->source, pair->source_size) || blank(pair->target, pair->target_size))
        return error_set(err, "%s:%zu: the %s is empty", reader->path, reader->line,
                         blank(pair->source, pair->source_size) ? "source (column 1)" : "target (column 2)");
    return 1;
}

int text_check(const char *path, int columns, size_t *lines, struct error *err)
{
    struct text_reader *reader = text_open(path, err);
    if (!reader) return -1;
    const char *line = NULL;
    size_t size = 0;
    struct text_pair pair;
    int got;
    do {
        got = columns == 2 ? text_next_pair(reader, &pair, err) : text_next(reader, &line, &size, err);
    } while (got > 0);
    *lines = reader->line - 1;
    text_close(reader);
    return got;
}
