/* Before the model: the normal form of a text, and the words that it is cut into. */
#include <oniguruma.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "io/text/text.h"
#include "io/tokenizer/steps.h"

static int find_pattern(const struct step *step, const struct bytes *text, size_t from, bool again, struct span *found,
                        struct error *err)
{
    const UChar *begin = (const UChar *)text->text, *end = begin + text->size;
    OnigRegion *region = onig_region_new();
    size_t before = from;
    int result = region ? 0 : error_set(err, "tokenizer: out of memory");
    while (result == 0 && from <= text->size) {
        int at = onig_search(step->regex, begin, end, begin + from, end, region, ONIG_OPTION_NONE);
        if (at == ONIG_MISMATCH) break;
        if (at < 0) {
            result = error_set(err, "tokenizer: its pattern takes too long on this text (code %d)", at);
        } else if (region->end[0] > region->beg[0] || (size_t)at > before || !again) {
            *found = (struct span){(size_t)region->beg[0], (size_t)region->end[0]};
            result = 1;
        } else { /* nothing, here: on behind the next character */
            size_t length = from < text->size ? text_character(text->text + from, text->size - from) : 1;
            from += length ? length : 1;
        }
    }
    if (region) onig_region_free(region, 1);
    return result;
}

int step_find(const struct step *step, const struct bytes *text, size_t from, bool again, struct span *found,
              struct error *err)
{
    if (text->size == 0) return 0;
    if (step->regex) return find_pattern(step, text, from, again, found, err);
    size_t size = strlen(step->text);
    const char *at = memmem(text->text + from, text->size - from, step->text, size);
    if (!at) return 0;
    found->first = (size_t)(at - text->text);
    found->end = found->first + size;
    return 1;
}

int step_replace(const struct step *step, const char *text, size_t size, struct bytes *out, struct error *err)
{
    const struct bytes whole = {.text = (char *)text, .size = size}; /* only read */
    struct span found;
    size_t done = 0;
    int got;
    bool again = false;
    for (; (got = step_find(step, &whole, done, again, &found, err)) > 0; again = true) {
        if (bytes_add(out, text + done, found.first - done, err) ||
            bytes_add(out, step->content, strlen(step->content), err))
            return -1;
        done = found.end;
    }
    return got < 0 ? -1 : bytes_add(out, text + done, size - done, err);
}

static bool is_ascii(const struct bytes *text)
{
    for (size_t i = 0; i < text->size; i++)
        if ((unsigned char)text->text[i] >= 0x80) return false;
    return true;
}

static utf8proc_option_t form_of(enum step_kind kind)
{
    utf8proc_option_t form = kind == STEP_NFC || kind == STEP_NFKC ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
    if (kind == STEP_NFKC || kind == STEP_NFKD) form |= UTF8PROC_COMPAT;
    return form | UTF8PROC_STABLE;
}

static int normal_form(const struct step *step, const struct bytes *text, struct bytes *out, struct error *err)
{
    utf8proc_uint8_t *form = NULL;
    if (is_ascii(text)) return bytes_add(out, text->text, text->size, err);
    utf8proc_ssize_t size =
        utf8proc_map((const utf8proc_uint8_t *)text->text, (utf8proc_ssize_t)text->size, &form, form_of(step->kind));
    if (size < 0) return error_set(err, "tokenizer: %s", utf8proc_errmsg(size));
    int result = bytes_add(out, (const char *)form, (size_t)size, err);
    free(form);
    return result;
}

/* Each character's own lower case; that of several characters is not. */
static int lowercase(const struct bytes *text, struct bytes *out, struct error *err)
{
    if (bytes_reserve(out, 2 * text->size + 4, err)) return -1; /* U+023A, two bytes, becomes one of three */
    for (size_t at = 0; at < text->size;) {
        utf8proc_int32_t code;
        utf8proc_ssize_t length =
            utf8proc_iterate((const utf8proc_uint8_t *)text->text + at, (utf8proc_ssize_t)(text->size - at), &code);
        if (length <= 0) return error_set(err, "tokenizer: not UTF-8");
        if (code == 0x130) { /* the one character with two */
            if (bytes_add(out, "i\xcc\x87", 3, err)) return -1;
        } else {
            out->size +=
                (size_t)utf8proc_encode_char(utf8proc_tolower(code), (utf8proc_uint8_t *)out->text + out->size);
        }
        at += (size_t)length;
    }
    return 0;
}

static int normalize_one(const struct step *step, const struct bytes *text, struct bytes *out, struct error *err)
{
    switch (step->kind) {
    case STEP_LOWERCASE:
        return lowercase(text, out, err);
    case STEP_PREPEND: /* to nothing nothing is added */
        if (text->size && bytes_add(out, step->content, strlen(step->content), err)) return -1;
        return bytes_add(out, text->text, text->size, err);
    case STEP_REPLACE:
        return step_replace(step, text->text, text->size, out, err);
    default:
        return normal_form(step, text, out, err);
    }
}

int steps_normalize(const struct steps *steps, struct bytes *text, struct error *err)
{
    struct bytes out = {0};
    int result = 0;
    for (size_t i = 0; i < steps->count && result == 0; i++) {
        out.size = 0;
        result = normalize_one(&steps->list[i], text, &out, err);
        struct bytes old = *text;
        *text = out;
        out = old;
    }
    bytes_free(&out);
    return result;
}

/* A word cut where a step finds something: pieces that are found and pieces between them, and which of them stay alone,
 * are joined or go. */
struct cutting {
    const struct step *step;
    struct spans *out;
    struct span held; /* not added yet */
    bool holds, held_found;
};

static int release(struct cutting *cut, struct error *err)
{
    if (!cut->holds) return 0;
    cut->holds = false;
    return spans_add(cut->out, cut->held.first, cut->held.end, err);
}

static int add_part(struct cutting *cut, size_t first, size_t end, bool found, struct error *err)
{
    bool joins = false;
    if (first == end && !found) return 0;
    found = found != cut->step->invert;
    switch (cut->step->behaviour) {
    case SPLIT_ISOLATED:
        break;
    case SPLIT_REMOVED:
        if (found) return 0;
        break;
    case SPLIT_CONTIGUOUS:
        joins = cut->holds && cut->held_found == found;
        break;
    case SPLIT_WITH_PREVIOUS:
        joins = cut->holds && found && !cut->held_found;
        break;
    case SPLIT_WITH_NEXT:
        joins = cut->holds && !found && cut->held_found;
        break;
    }
    if (joins) {
        cut->held.end = end;
        cut->held_found = found;
        return 0;
    }
    if (release(cut, err)) return -1;
    cut->held = (struct span){first, end};
    cut->held_found = found;
    cut->holds = true;
    return 0;
}

/* Words [first, end) of the text by a pattern, as if nothing stood around them. */
static int cut_word(const struct step *step, const struct bytes *text, struct span word, struct spans *out,
                    struct error *err)
{
    const struct bytes alone = {.text = text->text + word.first, .size = word.end - word.first}; /* only read */
    struct cutting cut = {.step = step, .out = out};
    struct span found;
    size_t done = 0;
    int got;
    bool again = false;
    for (; (got = step_find(step, &alone, done, again, &found, err)) > 0; again = true) {
        if (add_part(&cut, word.first + done, word.first + found.first, false, err) ||
            add_part(&cut, word.first + found.first, word.first + found.end, true, err))
            return -1;
        done = found.end;
    }
    if (got < 0 || add_part(&cut, word.first + done, word.end, false, err)) return -1;
    return release(&cut, err);
}

static int cut_all(const struct step *step, const struct bytes *text, struct spans *words, struct error *err)
{
    struct spans out = {0};
    int result = 0;
    for (size_t i = 0; i < words->count && result == 0; i++)
        result = cut_word(step, text, words->list[i], &out, err);
    spans_free(words);
    *words = out;
    return result;
}

static bool begins_with(const struct bytes *text, struct span word, const char *with)
{
    size_t size = strlen(with);
    return word.end - word.first >= size && !memcmp(text->text + word.first, with, size);
}

/* Each word written anew by `write`. */
static int rewrite(const struct step *step, bool first, struct bytes *text, struct spans *words,
                   int (*write)(const struct step *step, bool first, const struct bytes *text, struct span word,
                                struct bytes *out, struct error *err),
                   struct error *err)
{
    struct bytes out = {0};
    struct spans places = {0};
    int result = 0;
    for (size_t i = 0; i < words->count && result == 0; i++) {
        size_t begin = out.size;
        result = write(step, first && words->list[i].first == 0, text, words->list[i], &out, err);
        if (result == 0) result = spans_add(&places, begin, out.size, err);
    }
    bytes_free(text);
    spans_free(words);
    *text = out;
    *words = places;
    return result;
}

static int write_prefix(const struct step *step, bool first, const struct bytes *text, struct span word,
                        struct bytes *out, struct error *err)
{
    (void)first;
    (void)step;
    if (!begins_with(text, word, " ") && bytes_add(out, " ", 1, err)) return -1;
    return bytes_add(out, text->text + word.first, word.end - word.first, err);
}

static int write_bytes(const struct step *step, bool first, const struct bytes *text, struct span word,
                       struct bytes *out, struct error *err)
{
    (void)first;
    (void)step;
    for (size_t i = word.first; i < word.end; i++)
        if (byte_character((unsigned char)text->text[i], out, err)) return -1;
    return 0;
}

static int write_metaspace(const struct step *step, bool first, const struct bytes *text, struct span word,
                           struct bytes *out, struct error *err)
{
    size_t begin = out->size, size = strlen(step->content);
    bool prepend = step->scheme == PREPEND_ALWAYS || (step->scheme == PREPEND_FIRST && first);
    bool there = begins_with(text, word, step->content) || begins_with(text, word, " ");
    if (prepend && !there && bytes_add(out, step->content, size, err)) return -1;
    for (size_t i = word.first; i < word.end; i++) {
        bool space = text->text[i] == ' ';
        if (bytes_add(out, space ? step->content : text->text + i, space ? size : 1, err)) return -1;
    }
    return out->size > begin ? 0 : error_set(err, "tokenizer: an empty word");
}

static int byte_level(const struct step *step, struct bytes *text, struct spans *words, struct error *err)
{
    if (step->adds_space && rewrite(step, false, text, words, write_prefix, err)) return -1;
    if (step->splits && cut_all(step, text, words, err)) return -1;
    return rewrite(step, false, text, words, write_bytes, err);
}

static int metaspace(const struct step *step, bool first, struct bytes *text, struct spans *words, struct error *err)
{
    struct step split = {.kind = STEP_SPLIT, .text = step->content, .behaviour = SPLIT_WITH_NEXT};
    if (rewrite(step, first, text, words, write_metaspace, err)) return -1;
    return step->splits ? cut_all(&split, text, words, err) : 0;
}

int steps_split(const struct steps *steps, bool first, struct bytes *text, struct spans *words, struct error *err)
{
    words->count = 0;
    int result = spans_add(words, 0, text->size, err);
    for (size_t i = 0; i < steps->count && result == 0; i++) {
        const struct step *step = &steps->list[i];
        result = step->kind == STEP_BYTE_LEVEL  ? byte_level(step, text, words, err)
                 : step->kind == STEP_METASPACE ? metaspace(step, first, text, words, err)
                                                : cut_all(step, text, words, err);
    }
    return result;
}
