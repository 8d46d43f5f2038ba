/* The pass over a config's text before libconfig parses it: refuses what would crash or stall that parser, or be
 * silently misread. */
#include "io/config/config_scan.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_LIMIT = 16, SETTING_LIMIT = 20000, NUMBER_LIMIT = 64 };

struct scan {
    const char *path, *text;
    size_t size, at;
    int line, depth, settings;
    char *out;
    size_t used;
    struct error *err;
};

static int fail(struct scan *s, const char *what)
{
    return error_set(s->err, "%s:%d: %s", s->path, s->line, what);
}

static char peek(const struct scan *s, size_t ahead)
{
    return s->at + ahead < s->size ? s->text[s->at + ahead] : '\0';
}

static void take(struct scan *s)
{
    if (s->text[s->at] == '\n') s->line++;
    s->out[s->used++] = s->text[s->at++];
}

static int scan_string(struct scan *s)
{
    int first = s->line;
    take(s);
    while (s->at < s->size && peek(s, 0) != '"' && peek(s, 0) != '\n') {
        if (peek(s, 0) == '\\' && s->at + 1 < s->size) take(s);
        take(s);
    }
    if (s->at == s->size || peek(s, 0) == '\n') {
        s->line = first;
        return fail(
            s, "a string that begins here has no closing quote in its line (strings that follow each other are one)");
    }
    take(s);
    return 0;
}

static int scan_block_comment(struct scan *s)
{
    int first = s->line;
    take(s);
    take(s);
    while (s->at < s->size && !(peek(s, 0) == '*' && peek(s, 1) == '/'))
        take(s);
    if (s->at == s->size) {
        s->line = first;
        return fail(s, "a comment that begins here has no end");
    }
    take(s);
    take(s);
    return 0;
}

static bool is_hex(const char *word)
{
    return word[0] == '0' && (word[1] == 'x' || word[1] == 'X');
}

/* The characters of a number, sign included: digits, letters, points, and a sign after an exponent's e. */
static size_t number_length(const struct scan *s)
{
    size_t n = peek(s, 0) == '-' || peek(s, 0) == '+';
    bool hex = peek(s, n) == '0' && (peek(s, n + 1) == 'x' || peek(s, n + 1) == 'X');
    for (;; n++) {
        char c = peek(s, n);
        bool exponent = !hex && n && (peek(s, n - 1) == 'e' || peek(s, n - 1) == 'E');
        bool word = isalnum((unsigned char)c) || c == '.' || c == '_' || c == '*';
        if (!word && !(exponent && (c == '-' || c == '+'))) return n;
    }
}

/* Whether a word without sign is one number; libconfig reads "." as 0, and "1x = 2" as a number and a name. */
static bool number_right(const char *word)
{
    if (is_hex(word)) {
        size_t digits = strspn(word + 2, "0123456789abcdefABCDEF");
        return digits && !word[2 + digits + strspn(word + 2 + digits, "L")];
    }
    size_t whole = strspn(word, "0123456789"), point = word[whole] == '.', used = whole + point;
    size_t fraction = point ? strspn(word + used, "0123456789") : 0;
    used += fraction;
    if (whole + fraction == 0) return false;
    if (word[used] == 'e' || word[used] == 'E') {
        used += 1 + (word[used + 1] == '-' || word[used + 1] == '+');
        size_t exponent = strspn(word + used, "0123456789");
        return exponent && !word[used + exponent];
    }
    return !word[used + (point ? 0 : strspn(word + used, "L"))];
}

static int scan_number(struct scan *s)
{
    size_t length = number_length(s);
    char word[NUMBER_LIMIT];
    if (length >= sizeof word) return fail(s, "a number of more than 63 characters");
    memcpy(word, s->text + s->at, length);
    word[length] = '\0';

    size_t sign = word[0] == '-' || word[0] == '+';
    size_t digits = strspn(word + sign, "0123456789");
    bool suffix = word[sign + digits] == 'L';
    bool integer = digits && (!word[sign + digits] || suffix);
    if (length > sign && !number_right(word + sign))
        return error_set(s->err, "%s:%d: %s is no number; a string stands in double quotes", s->path, s->line, word);
    if (is_hex(word + sign) && length > sign + 2 + 15)
        return error_set(s->err, "%s:%d: %s does not fit; allowed: up to 15 hexadecimal digits", s->path, s->line,
                         word);
    if (integer && digits > 1 && word[sign] == '0')
        return error_set(s->err, "%s:%d: %s begins with a zero (which would make it octal); write %s", s->path, s->line,
                         word, strspn(word + sign, "0") < digits ? word + sign + strspn(word + sign, "0") : "0");
    if (integer) {
        errno = 0;
        strtoll(word, NULL, 10);
        if (errno) return error_set(s->err, "%s:%d: %s does not fit into 64 bits", s->path, s->line, word);
    }
    for (size_t i = 0; i < length; i++)
        take(s);
    bool hex = is_hex(word + sign) && length > sign + 2;
    if ((integer || hex) && word[length - 1] != 'L') s->out[s->used++] = 'L';
    return 0;
}

static int scan_bracket(struct scan *s, char c)
{
    if (strchr("{[(", c) && ++s->depth > DEPTH_LIMIT)
        return error_set(s->err, "%s:%d: nested deeper than %d brackets", s->path, s->line, DEPTH_LIMIT);
    if (strchr("}])", c)) s->depth--;
    take(s);
    return 0;
}

static void scan_word(struct scan *s)
{
    while (isalnum((unsigned char)peek(s, 0)) || (peek(s, 0) && strchr("-_*", peek(s, 0))))
        take(s);
}

static int scan_token(struct scan *s)
{
    char c = peek(s, 0);
    if (c == '"') return scan_string(s);
    if (c == '#' || (c == '/' && peek(s, 1) == '/')) {
        while (s->at < s->size && peek(s, 0) != '\n')
            take(s);
        return 0;
    }
    if (c == '/' && peek(s, 1) == '*') return scan_block_comment(s);
    if (c == '@') return fail(s, "@include is not allowed: a config is one file");
    if (strchr("{}[]()", c)) return scan_bracket(s, c);
    if ((c == '=' || c == ':') && ++s->settings > SETTING_LIMIT)
        return error_set(s->err, "%s:%d: more than %d settings", s->path, s->line, SETTING_LIMIT);
    if (isdigit((unsigned char)c) || c == '.' || c == '-' || c == '+')
        return number_length(s) ? scan_number(s) : (take(s), 0);
    if (isalpha((unsigned char)c) || c == '*')
        scan_word(s);
    else
        take(s);
    return 0;
}

char *config_scan(const char *path, const char *text, size_t size, struct error *err)
{
    /* each number grows by one character at most */
    struct scan s = {.path = path, .text = text, .size = size, .line = 1, .out = malloc(2 * size + 1), .err = err};
    if (!s.out) {
        error_set(err, "%s: out of memory", path);
        return NULL;
    }
    int rc = memchr(text, '\0', size) ? error_set(err, "%s: holds a zero byte; a config is text", path) : 0;
    while (!rc && s.at < s.size)
        rc = scan_token(&s);
    s.out[s.used] = '\0';
    if (rc) free(s.out);
    return rc ? NULL : s.out;
}
