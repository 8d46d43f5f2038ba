/* libconfig's grammar once more, for words that help: NAME = VALUE [;], a value being a scalar, { settings },
 * [ scalars, ... ] or ( values, ... ). Only asked when libconfig has refused a text, so that it decides nothing. */
#include "io/config/config_syntax.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { DEPTH = 32, WORD = 40 };

enum token_kind { END, NAME, NUMBER, STRING, MARK };

struct token {
    enum token_kind kind;
    const char *text;
    int length, line;
};

/* What may come next. */
enum state { SETTING, ASSIGN, VALUE, AFTER_SETTING, ELEMENT, AFTER_ELEMENT };

struct open_bracket {
    char close; /* '}', ']' or ')' */
    int line;
};

struct syntax {
    const char *text, *end;
    int line;
    struct open_bracket open[DEPTH];
    int depth;
    enum state state;
    struct token name, comma; /* of the setting that is read; the last comma of a list */
    int fault_line;
    char *what;
    size_t what_size;
};

static bool fault(struct syntax *s, int line, const char *format, ...)
{
    va_list args;
    s->fault_line = line;
    va_start(args, format);
    vsnprintf(s->what, s->what_size, format, args);
    va_end(args);
    for (char *c = s->what; *c; c++)
        if (iscntrl((unsigned char)*c)) *c = '?';
    return false;
}

static bool at(const struct syntax *s, const char *word)
{
    size_t length = strlen(word);
    return (size_t)(s->end - s->text) >= length && !memcmp(s->text, word, length);
}

static void skip_to(struct syntax *s, const char *word)
{
    while (s->text < s->end && !at(s, word))
        s->line += *s->text++ == '\n';
}

static void skip_blank(struct syntax *s)
{
    while (s->text < s->end) {
        if (*s->text == '#' || at(s, "//")) {
            skip_to(s, "\n");
        } else if (at(s, "/*")) {
            s->text += 2;
            skip_to(s, "*/");
            s->text += s->text < s->end ? 2 : 0;
        } else if (isspace((unsigned char)*s->text)) {
            s->line += *s->text++ == '\n';
        } else {
            return;
        }
    }
}

static bool word_character(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '*' || c == '-' || c == '.' || c == '+';
}

static struct token next(struct syntax *s)
{
    skip_blank(s);
    struct token token = {.kind = END, .text = s->text, .line = s->line};
    if (s->text == s->end) return token;
    char first = *s->text++;
    token.kind = MARK;
    if (first == '"') {
        token.kind = STRING;
        while (s->text < s->end && *s->text != '"') {
            s->text += *s->text == '\\' && s->text + 1 < s->end;
            s->line += *s->text++ == '\n';
        }
        s->text += s->text < s->end;
    } else if (isalpha((unsigned char)first) || first == '*') {
        token.kind = NAME;
        while (s->text < s->end && word_character(*s->text))
            s->text++;
    } else if (word_character(first)) {
        token.kind = NUMBER;
        while (s->text < s->end && word_character(*s->text))
            s->text++;
    }
    token.length = (int)(s->text - token.text < WORD ? s->text - token.text : WORD);
    return token;
}

static bool is(const struct token *token, char mark)
{
    return token->kind == MARK && *token->text == mark;
}

static bool truth(const struct token *token)
{
    return (token->length == 4 && !strncasecmp(token->text, "true", 4)) ||
           (token->length == 5 && !strncasecmp(token->text, "false", 5));
}

/* The state behind a value or a closed bracket. */
static enum state after_value(const struct syntax *s)
{
    return s->depth && s->open[s->depth - 1].close != '}' ? AFTER_ELEMENT : AFTER_SETTING;
}

static bool open_bracket(struct syntax *s, const struct token *token)
{
    if (s->depth == DEPTH) return fault(s, token->line, "nested too deep");
    if (s->depth && s->open[s->depth - 1].close == ']')
        return fault(s, token->line, "%c inside [ ]; an array holds numbers, truth values or strings, lists are ( )",
                     *token->text);
    char close = (char)(*token->text == '{' ? '}' : *token->text == '[' ? ']' : ')');
    s->open[s->depth++] = (struct open_bracket){close, token->line};
    s->state = close == '}' ? SETTING : ELEMENT;
    return true;
}

static bool close_bracket(struct syntax *s, const struct token *token)
{
    if (!s->depth) return fault(s, token->line, "%c closes nothing", *token->text);
    struct open_bracket open = s->open[s->depth - 1];
    if (*token->text != open.close)
        return fault(s, token->line, "%c where %c is expected, for the bracket that line %d opens", *token->text,
                     open.close, open.line);
    if (s->state == ELEMENT && s->comma.kind == MARK)
        return fault(s, s->comma.line, "a comma before %c; allowed: commas between values", open.close);
    s->depth--;
    s->state = after_value(s);
    return true;
}

static bool take_value(struct syntax *s, const struct token *token)
{
    if (token->kind == MARK && strchr("{[(", *token->text)) return open_bracket(s, token);
    if (token->kind == NAME && !truth(token))
        return fault(s, token->line, "%.*s is no value; a string stands in double quotes", token->length, token->text);
    if (token->kind == MARK && *token->text == '\'') return fault(s, token->line, "a string stands in double quotes");
    if (token->kind == MARK)
        return fault(s, s->state == VALUE ? s->name.line : token->line, "%c where a value is expected", *token->text);
    s->state = after_value(s);
    return true;
}

/* Strings that follow each other are one. */
static bool take(struct syntax *s, const struct token *token, const struct token *last)
{
    const char close = s->depth ? s->open[s->depth - 1].close : '\0';
    bool closes = token->kind == MARK && strchr("}])", *token->text);
    if (token->kind == STRING && last->kind == STRING && (s->state == AFTER_SETTING || s->state == AFTER_ELEMENT))
        return true;
    switch (s->state) {
    case AFTER_SETTING:
        s->state = SETTING;
        if (is(token, ';') || is(token, ',')) return true;
        /* fall through */
    case SETTING:
        if (closes) return close_bracket(s, token);
        s->name = *token;
        s->state = ASSIGN;
        return token->kind == NAME ||
               fault(s, token->line, "%.*s where the name of a setting is expected", token->length, token->text);
    case ASSIGN:
        s->state = VALUE;
        return is(token, '=') || is(token, ':') ||
               fault(s, s->name.line, "= is missing behind %.*s", s->name.length, s->name.text);
    case VALUE:
        if (closes || is(token, ';') || is(token, ','))
            return fault(s, s->name.line, "%.*s has no value", s->name.length, s->name.text);
        return take_value(s, token);
    case ELEMENT:
        if (closes) return close_bracket(s, token);
        return take_value(s, token);
    default:
        if (closes) return close_bracket(s, token);
        s->state = ELEMENT;
        s->comma = *token;
        return is(token, ',') || fault(s, token->line,
                                       "a comma or %c is missing before %.*s, in the bracket that line "
                                       "%d opens",
                                       close, token->length, token->text, s->open[s->depth - 1].line);
    }
}

bool config_syntax(const char *text, size_t size, int *line, char *what, size_t what_size)
{
    struct syntax s = {.text = text, .end = text + size, .line = 1, .what = what, .what_size = what_size};
    struct token last = {.kind = END};
    for (;;) {
        struct token token = next(&s);
        if (token.kind == END) break;
        if (!is(&last, ',')) s.comma = (struct token){.kind = END};
        if (!take(&s, &token, &last)) {
            *line = s.fault_line;
            return true;
        }
        last = token;
    }
    if (s.state == ASSIGN || s.state == VALUE)
        fault(&s, s.name.line, "%.*s has no value", s.name.length, s.name.text);
    else if (s.depth)
        fault(&s, s.open[s.depth - 1].line, "a bracket that begins here has no closing %c", s.open[s.depth - 1].close);
    else
        return false;
    *line = s.fault_line;
    return true;
}
