/* The first step of the way of the data: lines of UTF-8 text, TSV and JSON, checked while they are read. */
#include "io/text/text.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
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
    bool is_json; /* an object a line */
    const struct text_fields *fields;
    json_t *object; /* of the line that was read last */
    char *joined;   /* its pair as one text */
};

static bool ends_with(const char *path, const char *end)
{
    size_t size = strlen(path), end_size = strlen(end);
    return size > end_size && !strcmp(path + size - end_size, end);
}

bool text_is_json_lines(const char *path)
{
    return ends_with(path, ".jsonl") || ends_with(path, ".ndjson");
}

struct text_reader *text_open(const char *path, const struct text_fields *fields, struct error *err)
{
    static const struct text_fields none;
    struct text_reader *reader = calloc(1, sizeof *reader);
    if (!reader) {
        error_set(err, "%s: out of memory", path);
        return NULL;
    }
    struct stat status;
    reader->path = strdup(path);
    reader->is_json = text_is_json_lines(path);
    reader->fields = fields ? fields : &none;
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
    free(reader->joined);
    json_decref(reader->object);
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

size_t text_character(const char *text, size_t size)
{
    const unsigned char *s = (const unsigned char *)text;
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
        size_t length = bytes[i] ? text_character(line + i, size - i) : 0;
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
        length = bytes[i] ? text_character(text + i, size - i) : 0;
        if (length == 0) return false;
    }
    return true;
}

static bool blank(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (!strchr(" \t\r\v\f\n", text[i])) return false;
    return true;
}

/* The next line, checked; it may be blank. */
static int next_checked(struct text_reader *reader, const char **line, size_t *size, struct error *err)
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
    *line = bytes;
    *size = count;
    return 1;
}

/* The next line that is not blank. */
static int next_full(struct text_reader *reader, const char **line, size_t *size, struct error *err)
{
    int got;
    while ((got = next_checked(reader, line, size, err)) > 0 && blank(*line, *size))
        ;
    return got;
}

/* The next line, an object, into reader->object. */
static int next_object(struct text_reader *reader, struct error *err)
{
    const char *line;
    size_t size;
    json_error_t fault;
    int got = next_full(reader, &line, &size, err);
    if (got <= 0) return got;
    json_decref(reader->object);
    reader->object = json_loadb(line, size, JSON_DECODE_INT_AS_REAL, &fault); /* other members: what a double holds */
    if (!reader->object) {
        error_set(err, "%s:%zu: not JSON at column %d: %s", reader->path, reader->line, fault.column, fault.text);
        return error_one_line(err);
    }
    if (json_is_object(reader->object)) return 1;
    return error_set(err, "%s:%zu: not an object; allowed: {\"NAME\": \"TEXT\", ...}", reader->path, reader->line);
}

/* Names of what the line has, to be shown. */
static void list_members(const json_t *object, char *out, size_t size)
{
    const char *name;
    json_t *value;
    size_t used = 0;
    *out = 0;
    json_object_foreach((json_t *)object, name, value)
    {
        if (used + strlen(name) + 4 >= size) break;
        used += (size_t)snprintf(out + used, size - used, "%s%s", used ? ", " : "", name);
    }
}

/* Text of a member, not blank. */
static int take_member(const struct text_reader *reader, const char *name, const char **text, size_t *size,
                       struct error *err)
{
    const json_t *value = json_object_get(reader->object, name);
    char members[160];
    if (json_is_string(value) && !blank(json_string_value(value), json_string_length(value))) {
        *text = json_string_value(value);
        *size = json_string_length(value);
        return 1;
    }
    if (value)
        return error_set(err, "%s:%zu: \"%s\" is %s; allowed: a text", reader->path, reader->line, name,
                         json_is_string(value) ? "empty" : "no text");
    list_members(reader->object, members, sizeof members);
    error_set(err, "%s:%zu: there is no \"%s\", but: %s", reader->path, reader->line, name, members);
    return error_one_line(err);
}

static int take_pair(const struct text_reader *reader, struct text_pair *pair, struct error *err)
{
    enum { INPUT_OUTPUT = 2 };
    static const char *const names[][2] = {{"source", "target"}, {"prompt", "completion"}, {"input", "output"}};
    const char *source = reader->fields->source, *target = reader->fields->target;
    char members[160];
    for (size_t i = 0; !source && i < sizeof names / sizeof *names; i++) {
        if (!json_object_get(reader->object, names[i][0]) || !json_object_get(reader->object, names[i][1])) continue;
        if (i == INPUT_OUTPUT && json_object_get(reader->object, "instruction")) continue; /* would be lost */
        source = names[i][0];
        target = names[i][1];
    }
    if (!source) {
        list_members(reader->object, members, sizeof members);
        bool chat = json_object_get(reader->object, "messages") || json_object_get(reader->object, "conversations");
        error_set(err,
                  "%s:%zu: no pair of members; allowed: source and target, prompt and completion, input and "
                  "output (without instruction), or those of --pair-fields; there are: %s%s",
                  reader->path, reader->line, members,
                  chat ? " (configs/chat_pairs.py makes pairs of conversations)" : "");
        return error_one_line(err);
    }
    int got = take_member(reader, source, &pair->source, &pair->source_size, err);
    return got > 0 ? take_member(reader, target, &pair->target, &pair->target_size, err) : got;
}

int text_next(struct text_reader *reader, const char **line, size_t *size, struct error *err)
{
    const char *name = reader->fields->text ? reader->fields->text : "text";
    if (!reader->is_json) return next_full(reader, line, size, err);
    for (;;) {
        int got = next_object(reader, err);
        const json_t *value = json_object_get(reader->object, name);
        if (got <= 0) return got;
        if (!json_is_string(value) || !blank(json_string_value(value), json_string_length(value)))
            return take_member(reader, name, line, size, err);
    }
}

static int split_columns(const struct text_reader *reader, const char *line, size_t size, struct text_pair *pair,
                         struct error *err)
{
    size_t columns = 1;
    if (blank(line, size)) return error_set(err, "%s:%zu: the line is empty", reader->path, reader->line);
    for (size_t i = 0; i < size; i++)
        columns += line[i] == '\t';
    if (columns != 2)
        return error_set(err, "%s:%zu: %zu column%s; allowed: two columns, source TAB target%s", reader->path,
                         reader->line, columns, columns == 1 ? "" : "s",
                         *line == '{' || *line == '[' ? " (JSON lines: in a file that ends in .jsonl)" : "");
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

int text_next_pair(struct text_reader *reader, struct text_pair *pair, struct error *err)
{
    const char *line = NULL;
    size_t size = 0;
    int got = reader->is_json ? next_object(reader, err) : next_checked(reader, &line, &size, err);
    if (got <= 0) return got;
    return reader->is_json ? take_pair(reader, pair, err) : split_columns(reader, line, size, pair, err);
}

int text_next_sentence(struct text_reader *reader, bool is_pair, const char **line, size_t *size, struct error *err)
{
    struct text_pair pair;
    if (!is_pair || !reader->is_json) return text_next(reader, line, size, err);
    int got = text_next_pair(reader, &pair, err);
    if (got <= 0) return got;
    char *joined = realloc(reader->joined, pair.source_size + pair.target_size + 1);
    if (!joined) return error_set(err, "%s:%zu: out of memory", reader->path, reader->line);
    reader->joined = joined;
    memcpy(joined, pair.source, pair.source_size);
    joined[pair.source_size] = '\t';
    memcpy(joined + pair.source_size + 1, pair.target, pair.target_size);
    *line = joined;
    *size = pair.source_size + pair.target_size + 1;
    return 1;
}

int text_check(const char *path, int columns, const struct text_fields *fields, size_t *count, struct error *err)
{
    struct text_reader *reader = text_open(path, fields, err);
    if (!reader) return -1;
    const char *line = NULL;
    size_t size = 0;
    struct text_pair pair;
    int got;
    for (*count = 0;; ++*count) {
        got = columns == 2 ? text_next_pair(reader, &pair, err) : text_next(reader, &line, &size, err);
        if (got <= 0) break;
    }
    if (got == 0 && *count == 0) got = error_set(err, "%s:1: the file is empty, line by line", path);
    text_close(reader);
    return got;
}
