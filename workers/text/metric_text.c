/* Texts for the metrics, read as Python's str and re read them there.
 *
 * The rules of 13a name ASCII characters alone, or "not a digit". In UTF-8 no byte of another character is ASCII, so
 * that they can go byte by byte; white space cannot: it is Unicode's. */
#include "workers/text/metric_text.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { NOT_UTF8 = 0x110000 }; /* a byte that is none is the character NOT_UTF8 + byte */

/* The code point at `text` (not at its end), and its bytes. */
static uint32_t code_point(const char *text, size_t *size)
{
    const unsigned char *bytes = (const unsigned char *)text;
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    size_t count = bytes[0] < 0x80 ? 1 : bytes[0] >= 0xf0 ? 4 : bytes[0] >= 0xe0 ? 3 : 2;
    uint32_t point = count == 1 ? bytes[0] : bytes[0] & (0x7fu >> count);
    bool good = bytes[0] < 0x80 || (bytes[0] >= 0xc2 && bytes[0] <= 0xf4);
    *size = 1;
    for (size_t i = 1; good && i < count; i++) {
        good = (bytes[i] & 0xc0) == 0x80; /* the terminating zero is not */
        point = point << 6 | (bytes[i] & 0x3f);
    }
    if (!good || point < least[count] || point > 0x10ffff || (point >= 0xd800 && point < 0xe000))
        return NOT_UTF8 + bytes[0];
    *size = count;
    return point;
}

/* Python's str.isspace. */
static bool is_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

const char *metric_word(const char **at, size_t *size)
{
    size_t bytes;
    while (**at && is_space(code_point(*at, &bytes)))
        *at += bytes;
    const char *word = *at;
    while (**at && !is_space(code_point(*at, &bytes)))
        *at += bytes;
    *size = (size_t)(*at - word);
    return *size ? word : NULL;
}

int metric_characters(const char *text, struct symbols *out, struct error *err)
{
    for (size_t bytes; *text; text += bytes) {
        uint32_t point = code_point(text, &bytes);
        if (!is_space(point) && symbols_add(out, point, err)) return -1;
    }
    return 0;
}

/* Python's str.replace, in place: what comes in is no longer than what goes. */
static void replace(char *text, const char *old, const char *new)
{
    size_t old_size = strlen(old), new_size = strlen(new);
    char *to = text;
    for (char *found; (found = strstr(text, old)); text = found + old_size) {
        memmove(to, text, (size_t)(found - text));
        to += found - text;
        memcpy(to, new, new_size);
        to += new_size;
    }
    memmove(to, text, strlen(text) + 1);
}

/* Python's str.rstrip, in place. */
static void strip_end(char *text)
{
    char *end = text;
    for (size_t bytes; *text; text += bytes)
        if (!is_space(code_point(text, &bytes))) end = text + bytes;
    *end = 0;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* re.sub of 13a's four rules, one after the other: `text` to `out`. */
static bool is_symbol(char c)
{
    return (c >= '{' && c <= '~') || (c >= '[' && c <= '`') || (c >= ' ' && c <= '&') || (c >= '(' && c <= '+') ||
           (c >= ':' && c <= '@') || c == '/';
}

static bool is_stop(char c)
{
    return c == '.' || c == ',';
}

/* ([symbol]) -> " \1 " */
static void separate_symbols(const char *text, char *out)
{
    for (; *text; text++) {
        bool alone = is_symbol(*text);
        if (alone) *out++ = ' ';
        *out++ = *text;
        if (alone) *out++ = ' ';
    }
    *out = 0;
}

/* Two characters at a time, the first by `first`, the second by `second`: spaces put around one of them. Matches do not
 * overlap. The texts begin and end with a space. */
static void separate_pairs(const char *text, char *out, bool (*first)(char), bool (*second)(char), bool between,
                           const char *before, const char *after)
{
    while (*text) {
        if (!text[1] || !first(text[0]) || !second(text[1])) {
            *out++ = *text++;
            continue;
        }
        out = stpcpy(out, before);
        *out++ = *text++;
        if (between) *out++ = ' ';
        *out++ = *text++;
        out = stpcpy(out, after);
    }
    *out = 0;
}

static bool is_no_digit(char c)
{
    return !is_digit(c);
}

static bool is_dash(char c)
{
    return c == '-';
}

char *metric_tokenise_13a(const char *text, struct error *err)
{
    size_t room = strlen(text) + 3;
    char *a = malloc(9 * room), *b = malloc(9 * room); /* a character gets at most four spaces: "." */
    if (!a || !b) {
        free(a);
        free(b);
        error_set(err, "out of memory for a text of %zu bytes", room);
        return NULL;
    }
    a[0] = ' ';
    strcpy(a + 1, text);
    strip_end(a + 1);
    replace(a + 1, "<skipped>", "");
    replace(a + 1, "-\n", "");
    replace(a + 1, "\n", " ");
    replace(a + 1, "&quot;", "\"");
    replace(a + 1, "&amp;", "&");
    replace(a + 1, "&lt;", "<");
    replace(a + 1, "&gt;", ">");
    strcat(a, " ");
    separate_symbols(a, b);
    separate_pairs(b, a, is_no_digit, is_stop, true, "", " ");
    separate_pairs(a, b, is_stop, is_no_digit, true, " ", "");
    separate_pairs(b, a, is_digit, is_dash, true, "", " ");
    free(b);
    return a;
}

char *metric_tokenise_rouge(const char *text, struct error *err)
{
    char *out = malloc(strlen(text) + 1), *at = out;
    if (!out) {
        error_set(err, "out of memory for a text");
        return NULL;
    }
    for (size_t bytes; *text; text += bytes) {
        uint32_t c = code_point(text, &bytes);
        if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
        /* the two other characters whose lower case begins with an ASCII letter: the Kelvin sign, and I with a dot,
         * which leaves a combining dot behind it */
        if (c == 0x212a) c = 'k';
        bool dotted = c == 0x130;
        if (dotted) c = 'i';
        bool word = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        *at++ = word ? (char)c : ' ';
        if (dotted) *at++ = ' ';
    }
    *at = 0;
    return out;
}
