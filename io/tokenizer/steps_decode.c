/* Behind the model: from the pieces of ids to a text. */
#include <string.h>

#include "io/text/text.h"
#include "io/tokenizer/steps.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* Byte-level pieces: bytes that are printable in Latin-1 stand for themselves, the others for U+0100 and on. */
static bool stands_for_itself(unsigned byte)
{
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

/* The first characters of the others' three ranges: 0x00..0x20, 0x7f..0xa0 and 0xad. */
enum { LOW = 0x100, MIDDLE = LOW + 0x21, LAST = MIDDLE + 0x22 };

int byte_character(unsigned char byte, struct bytes *out, struct error *err)
{
    unsigned code = stands_for_itself(byte) ? byte
                    : byte <= 0x20          ? LOW + byte
                    : byte == 0xad          ? LAST
                                            : MIDDLE + byte - 0x7f;
    const char two[2] = {(char)(0xc0 | code >> 6), (char)(0x80 | (code & 0x3f))};
    const char one = (char)code;
    return code < 0x80 ? bytes_add(out, &one, 1, err) : bytes_add(out, two, 2, err);
}

int character_byte(const char *text, size_t size)
{
    unsigned char lead = (unsigned char)text[0];
    if (size > 2) return -1;
    unsigned code = size == 1 ? lead : (lead & 0x1fu) << 6 | ((unsigned char)text[1] & 0x3fu);
    if (code < LOW) return stands_for_itself(code) ? (int)code : -1;
    if (code < MIDDLE) return (int)(code - LOW);
    if (code < LAST) return (int)(code - MIDDLE + 0x7f);
    return code == LAST ? 0xad : -1;
}

/* How many bytes at the front of what is no character of UTF-8 become one U+FFFD: the beginning of one, or one. */
static size_t malformed_length(const char *text, size_t size)
{
    static const char tails[2][3] = {{'\x80', '\x80', '\x80'}, {'\xbf', '\xbf', '\xbf'}};
    char whole[4];
    size_t length = size < 3 ? size : 3;
    for (; length > 1; length--) /* could these be the beginning of one? */
        for (int tail = 0; tail < 2; tail++)
            for (size_t all = length + 1; all <= 4; all++) {
                memcpy(whole, text, length);
                memcpy(whole + length, tails[tail], all - length);
                if (text_character(whole, all) == all) return length;
            }
    return 1;
}

/* Bytes that are to be a text: what is none, and zero, become U+FFFD. */
static int add_lossy(const char *text, size_t size, struct bytes *out, struct error *err)
{
    for (size_t at = 0, length; at < size; at += length) {
        length = text[at] ? text_character(text + at, size - at) : 0;
        bool good = length > 0;
        if (!good) length = text[at] ? malformed_length(text + at, size - at) : 1;
        if (good ? bytes_add(out, text + at, length, err) : bytes_add(out, REPLACEMENT, 3, err)) return -1;
    }
    return 0;
}

/* The bytes that a piece stands for; one with another character stands for itself. */
static int add_piece_bytes(const char *text, size_t size, struct bytes *out, struct error *err)
{
    size_t begin = out->size;
    for (size_t at = 0, length; at < size; at += length) {
        length = text_character(text + at, size - at);
        int byte = length ? character_byte(text + at, length) : -1;
        if (byte < 0) {
            out->size = begin;
            return bytes_add(out, text, size, err);
        }
        const char one = (char)byte;
        if (bytes_add(out, &one, 1, err)) return -1;
    }
    return 0;
}

struct decoding_text {
    const char *text;
    const struct spans *pieces;
    struct bytes out;
    struct spans places;
};

static const char *piece_at(const struct decoding_text *d, size_t i, size_t *size)
{
    struct span piece = d->pieces->list[i];
    *size = piece.end - piece.first;
    return d->text + piece.first;
}

static int join(struct decoding_text *d, const char *between, struct error *err)
{
    for (size_t i = 0, size; i < d->pieces->count; i++) {
        const char *piece = piece_at(d, i, &size);
        if ((i && bytes_add(&d->out, between, strlen(between), err)) || bytes_add(&d->out, piece, size, err)) return -1;
    }
    return spans_add(&d->places, 0, d->out.size, err);
}

static int decode_byte_level(struct decoding_text *d, struct error *err)
{
    struct bytes raw = {0};
    int result = 0;
    for (size_t i = 0, size; i < d->pieces->count && result == 0; i++) {
        const char *piece = piece_at(d, i, &size);
        result = add_piece_bytes(piece, size, &raw, err);
    }
    if (result == 0) result = add_lossy(raw.text, raw.size, &d->out, err);
    bytes_free(&raw);
    return result ? -1 : spans_add(&d->places, 0, d->out.size, err);
}

static int hexadecimal(char digit)
{
    const char *digits = "0123456789ABCDEF", *at = digit ? strchr(digits, digit) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* "<0xE2>" -> 0xe2; -1: another piece. */
static int fallback_byte(const char *piece, size_t size)
{
    if (size != 6 || memcmp(piece, "<0x", 3) != 0 || piece[5] != '>') return -1;
    int high = hexadecimal(piece[3]), low = hexadecimal(piece[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* Bytes side by side: one text if they are one, else each of them U+FFFD. */
static int add_fallback(const struct bytes *raw, struct decoding_text *d, struct error *err)
{
    size_t begin = d->out.size;
    if (text_is_utf8(raw->text, raw->size)) {
        if (bytes_add(&d->out, raw->text, raw->size, err)) return -1;
        return spans_add(&d->places, begin, d->out.size, err);
    }
    for (size_t i = 0; i < raw->size; i++)
        if (bytes_add(&d->out, REPLACEMENT, 3, err) || spans_add(&d->places, begin + 3 * i, begin + 3 * i + 3, err))
            return -1;
    return 0;
}

static int decode_byte_fallback(struct decoding_text *d, struct error *err)
{
    struct bytes raw = {0};
    int result = 0;
    for (size_t i = 0, size = 0; i <= d->pieces->count && result == 0; i++) {
        const char *piece = i < d->pieces->count ? piece_at(d, i, &size) : "";
        int byte = i < d->pieces->count ? fallback_byte(piece, size) : -1;
        if (byte >= 0) {
            const char one = (char)byte;
            result = bytes_add(&raw, &one, 1, err);
            continue;
        }
        if (raw.size) result = add_fallback(&raw, d, err);
        raw.size = 0;
        if (i == d->pieces->count || result) break;
        size_t begin = d->out.size;
        result = bytes_add(&d->out, piece, size, err);
        if (result == 0) result = spans_add(&d->places, begin, d->out.size, err);
    }
    bytes_free(&raw);
    return result;
}

/* One piece at a time. */
static int decode_piece(const struct step *step, bool first, const char *piece, size_t size, struct bytes *out,
                        struct error *err)
{
    const char *content = step->content;
    size_t content_size = content ? strlen(content) : 0;
    if (step->kind == STEP_REPLACE) return step_replace(step, piece, size, out, err);
    if (step->kind == STEP_STRIP) {
        for (size_t i = 0; i < step->start && size >= content_size && !memcmp(piece, content, content_size); i++) {
            piece += content_size;
            size -= content_size;
        }
        for (size_t i = 0;
             i < step->stop && size >= content_size && !memcmp(piece + size - content_size, content, content_size); i++)
            size -= content_size;
        return bytes_add(out, piece, size, err);
    }
    /* metaspace: those of the first piece go, since one was put before the text */
    for (size_t at = 0; at < size;) {
        bool space = size - at >= content_size && !memcmp(piece + at, content, content_size);
        bool goes = space && first && step->scheme != PREPEND_NEVER;
        if (!goes && bytes_add(out, space ? " " : piece + at, 1, err)) return -1;
        at += space ? content_size : 1;
    }
    return 0;
}

static int decode_each(const struct step *step, struct decoding_text *d, struct error *err)
{
    for (size_t i = 0, size; i < d->pieces->count; i++) {
        size_t begin = d->out.size;
        const char *piece = piece_at(d, i, &size);
        if (decode_piece(step, i == 0, piece, size, &d->out, err) || spans_add(&d->places, begin, d->out.size, err))
            return -1;
    }
    return 0;
}

static int decode_step(const struct step *step, struct decoding_text *d, struct error *err)
{
    switch (step->kind) {
    case STEP_BYTE_LEVEL:
        return decode_byte_level(d, err);
    case STEP_BYTE_FALLBACK:
        return decode_byte_fallback(d, err);
    case STEP_FUSE:
        return join(d, "", err);
    default:
        return decode_each(step, d, err);
    }
}

int steps_decode(const struct steps *steps, struct bytes *text, struct spans *pieces, struct error *err)
{
    const char *between = steps->there ? "" : " "; /* without a decoder pieces are words */
    int result = 0;
    for (size_t i = 0; i <= steps->count && result == 0; i++) {
        struct decoding_text d = {.text = text->text, .pieces = pieces};
        result = i < steps->count ? decode_step(&steps->list[i], &d, err) : join(&d, between, err);
        bytes_free(text);
        spans_free(pieces);
        *text = d.out;
        *pieces = d.places;
    }
    return result;
}
