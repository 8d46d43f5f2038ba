/* Error texts: the one way in which a failure reaches the person at the terminal. */
#include "io/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

int error_set(struct error *err, const char *format, ...)
{
    int saved = errno;
    if (err) {
        va_list args;
        va_start(args, format);
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
    }
    errno = saved;
    return -1;
}

int error_set_errno(struct error *err, const char *format, ...)
{
    int saved = errno;
    if (err) {
        va_list args;
        va_start(args, format);
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
        size_t used = strlen(err->text);
        snprintf(err->text + used, sizeof err->text - used, ": %s", strerror(saved));
    }
    errno = saved;
    return -1;
}

int error_prefix(struct error *err, const char *format, ...)
{
    int saved = errno;
    if (err) {
        char old[sizeof err->text];
        memcpy(old, err->text, sizeof old);
        va_list args;
        va_start(args, format);
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
        size_t used = strlen(err->text);
        snprintf(err->text + used, sizeof err->text - used, ": %s", old);
    }
    errno = saved;
    return -1;
}

static bool inside_character(char byte)
{
    return ((unsigned char)byte & 0xc0) == 0x80;
}

int error_one_line(struct error *err)
{
    for (char *at = err ? err->text : ""; *at;) {
        unsigned char lead = (unsigned char)*at;
        size_t length = lead < 0xc0 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4, have = 1;
        if (lead < 0x20 || lead == 0x7f) *at = ' ';
        while (have < length && inside_character(at[have]))
            have++;
        if (have < length || inside_character(*at)) memset(at, '?', have); /* was cut */
        at += have;
    }
    return -1;
}

void error_shorten(char *out, size_t size, const char *line)
{
    size_t length = strlen(line), room = size - 1;
    if (length <= room) {
        memcpy(out, line, length + 1);
        return;
    }
    size_t head = (room - 3) / 3, tail = room - 3 - head;
    const char *end = line + length - tail;
    while (head > 0 && inside_character(line[head]))
        head--;
    while (inside_character(*end))
        end++;
    memcpy(out, line, head);
    snprintf(out + head, size - head, "...%s", end);
}
