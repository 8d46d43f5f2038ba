/* The text of a stage, written and read without a tree: between the master and a worker. */
#include "workers/stage/stage_text.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/digest.h"

struct text {
    char *bytes;
    size_t size, capacity;
    bool failed;
};

static void put(struct text *out, const char *bytes, size_t size)
{
    if (out->failed) return;
    if (out->capacity - out->size <= size) {
        size_t capacity = 2 * out->capacity + size + 1;
        char *grown = realloc(out->bytes, capacity);
        if (!grown) {
            out->failed = true;
            return;
        }
        out->bytes = grown;
        out->capacity = capacity;
    }
    memcpy(out->bytes + out->size, bytes, size);
    out->size += size;
}

static void put_integer(struct text *out, uint64_t value)
{
    char digits[24];
    size_t at = sizeof digits;
    do
        digits[--at] = (char)('0' + value % 10);
    while (value /= 10);
    put(out, digits + at, sizeof digits - at);
}

/* JSON integers are signed: a number above 2^63 - 1 travels as a string of digits. */
static void put_u64(struct text *out, uint64_t value)
{
    if (value > INT64_MAX) put(out, "\"", 1);
    put_integer(out, value);
    if (value > INT64_MAX) put(out, "\"", 1);
}

/* With a point or an exponent, so that it stays a real. */
static void put_real(struct text *out, double value)
{
    char digits[40];
    bool whole = value >= 0.0 && value < 1e9 && value - floor(value) <= 0.0;
    if (!isfinite(value)) out->failed = true;
    if (whole && !signbit(value)) {
        put_integer(out, (uint64_t)value);
        put(out, ".0", 2);
        return;
    }
    int size = snprintf(digits, sizeof digits, "%.17g", value);
    put(out, digits, (size_t)size);
    if (!strpbrk(digits, ".en")) put(out, ".0", 2);
}

/* Bytes that stand for themselves in a JSON string. */
static size_t plain_length(const char *at, size_t size)
{
    size_t length = 0;
    while (length < size && at[length] >= ' ' && at[length] < 0x7f && at[length] != '"' && at[length] != '\\')
        length++;
    return length;
}

static void put_string(struct text *out, const char *value)
{
    size_t size = strlen(value);
    if (plain_length(value, size) == size) {
        put(out, "\"", 1);
        put(out, value, size);
        put(out, "\"", 1);
        return;
    }
    json_t *string = json_string(value);
    char *quoted = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
    if (quoted)
        put(out, quoted, strlen(quoted));
    else
        out->failed = true;
    free(quoted);
    json_decref(string);
}

static void put_object(struct text *out, const struct field *fields, const char *base);

/* `base`: of the struct that the list is in. */
static void put_list(struct text *out, const struct field *field, const char *base)
{
    uint32_t count = *(const uint32_t *)(base + field->count);
    put(out, "[", 1);
    for (uint32_t i = 0; i < count; i++) {
        if (i) put(out, ",", 1);
        put_object(out, field->fields, base + field->offset + i * field->stride);
    }
    put(out, "]", 1);
}

static void put_bool(struct text *out, bool value)
{
    put(out, value ? "true" : "false", value ? 4 : 5);
}

static void put_value(struct text *out, const struct field *field, const char *base)
{
    const char *at = base + field->offset;
    switch (field->type) {
    case FIELD_U32:
        put_integer(out, *(const uint32_t *)at);
        break;
    case FIELD_U64:
        put_u64(out, *(const uint64_t *)at);
        break;
    case FIELD_REAL:
        put_real(out, *(const double *)at);
        break;
    case FIELD_BOOL:
        put_bool(out, *(const bool *)at);
        break;
    case FIELD_TEXT:
        put_string(out, at);
        break;
    case FIELD_DIGEST:
        put_string(out, ((const struct digest *)at)->hex);
        break;
    case FIELD_NAME:
        put_string(out, field->name(*(const int *)at));
        break;
    case FIELD_OBJECT:
        put_object(out, field->fields, at);
        break;
    case FIELD_LIST:
        put_list(out, field, base);
        break;
    }
}

static void put_object(struct text *out, const struct field *fields, const char *base)
{
    for (const struct field *field = fields; field->key; field++) {
        put(out, field == fields ? "{\"" : ",\"", 2);
        put(out, field->key, strlen(field->key));
        put(out, "\":", 2);
        put_value(out, field, base);
    }
    put(out, "}", 1);
}

char *stage_text_write(const struct field *fields, const void *base)
{
    struct text out = {NULL, 0, 0, false};
    put_object(&out, fields, base);
    put(&out, "", 1);
    if (!out.failed) return out.bytes;
    free(out.bytes);
    return NULL;
}

struct cursor {
    const char *at, *end;
};

static bool skip(struct cursor *in, const char *expected, size_t size)
{
    if ((size_t)(in->end - in->at) < size || memcmp(in->at, expected, size) != 0) return false;
    in->at += size;
    return true;
}

/* Digits without a zero in front, as many as are there; 0: none, or more than fit. */
static size_t take_digits(struct cursor *in, uint64_t *value)
{
    const char *begin = in->at;
    uint64_t number = 0;
    for (; in->at < in->end && *in->at >= '0' && *in->at <= '9'; in->at++) {
        uint64_t digit = (uint64_t)(*in->at - '0');
        if (number > (UINT64_MAX - digit) / 10) return 0;
        number = 10 * number + digit;
    }
    size_t count = (size_t)(in->at - begin);
    *value = number;
    return count > 1 && *begin == '0' ? 0 : count;
}

static bool take_u32(struct cursor *in, const struct field *field, char *at)
{
    uint64_t value;
    if (!take_digits(in, &value) || value < field->low || value > field->high) return false;
    *(uint32_t *)at = (uint32_t)value;
    return true;
}

static bool take_u64(struct cursor *in, char *at)
{
    uint64_t value;
    bool quoted = skip(in, "\"", 1);
    if (!take_digits(in, &value) || quoted != (value > INT64_MAX)) return false;
    *(uint64_t *)at = value;
    return !quoted || skip(in, "\"", 1);
}

static size_t digits_at(const char *text)
{
    return strspn(text, "0123456789");
}

/* -?D+(.D+)?(e[+-]D+)?, without a zero in front of digits: a JSON number. */
static bool is_number(const char *text)
{
    text += *text == '-';
    size_t count = digits_at(text);
    if (count == 0 || (count > 1 && *text == '0')) return false;
    text += count;
    if (*text == '.') {
        count = digits_at(text + 1);
        if (count == 0) return false;
        text += 1 + count;
    }
    if (*text == 'e' && (text[1] == '+' || text[1] == '-')) {
        count = digits_at(text + 2);
        if (count == 0) return false;
        text += 2 + count;
    }
    return *text == 0;
}

static bool take_real(struct cursor *in, char *at)
{
    char digits[40];
    size_t size = 0;
    while (in->at + size < in->end && size < sizeof digits && strchr("0123456789.e+-", in->at[size]) && in->at[size])
        size++;
    if (size == sizeof digits) return false;
    memcpy(digits, in->at, size);
    digits[size] = 0;
    if (!is_number(digits)) return false;
    double value = strtod(digits, NULL);
    if (!isfinite(value)) return false;
    *(double *)at = value;
    in->at += size;
    return true;
}

static bool take_bool(struct cursor *in, char *at)
{
    bool value = skip(in, "true", 4);
    if (!value && !skip(in, "false", 5)) return false;
    *(bool *)at = value;
    return true;
}

/* A string of plain bytes, less than `size` of them. */
static bool take_string(struct cursor *in, char *at, size_t size)
{
    if (!skip(in, "\"", 1)) return false;
    size_t length = plain_length(in->at, (size_t)(in->end - in->at));
    if (length >= size) return false;
    memcpy(at, in->at, length);
    at[length] = 0;
    in->at += length;
    return skip(in, "\"", 1);
}

static bool take_digest(struct cursor *in, char *at)
{
    char *hex = ((struct digest *)at)->hex;
    if (!take_string(in, hex, DIGEST_HEX + 1)) return false;
    size_t size = strlen(hex);
    return (size == 0 || size == DIGEST_HEX) && strspn(hex, "0123456789abcdef") == size;
}

static bool take_name(struct cursor *in, const struct field *field, char *at)
{
    char name[64];
    int value = take_string(in, name, sizeof name) ? field->find(name) : -1;
    if (value < 0) return false;
    *(int *)at = value;
    return true;
}

static bool take_object(struct cursor *in, const struct field *fields, char *base);

static bool take_list(struct cursor *in, const struct field *field, char *base)
{
    uint32_t count = 0;
    if (!skip(in, "[", 1)) return false;
    for (; !skip(in, "]", 1); count++)
        if ((count && !skip(in, ",", 1)) || count >= field->high ||
            !take_object(in, field->fields, base + field->offset + count * field->stride))
            return false;
    *(uint32_t *)(base + field->count) = count;
    return true;
}

static bool take_value(struct cursor *in, const struct field *field, char *base)
{
    char *at = base + field->offset;
    switch (field->type) {
    case FIELD_U32:
        return take_u32(in, field, at);
    case FIELD_U64:
        return take_u64(in, at);
    case FIELD_REAL:
        return take_real(in, at);
    case FIELD_BOOL:
        return take_bool(in, at);
    case FIELD_TEXT:
        return take_string(in, at, field->size);
    case FIELD_DIGEST:
        return take_digest(in, at);
    case FIELD_NAME:
        return take_name(in, field, at);
    case FIELD_OBJECT:
        return take_object(in, field->fields, at);
    case FIELD_LIST:
        return take_list(in, field, base);
    }
    return false;
}

static bool take_object(struct cursor *in, const struct field *fields, char *base)
{
    for (const struct field *field = fields; field->key; field++)
        if (!skip(in, field == fields ? "{\"" : ",\"", 2) || !skip(in, field->key, strlen(field->key)) ||
            !skip(in, "\":", 2) || !take_value(in, field, base))
            return false;
    return skip(in, "}", 1);
}

bool stage_text_read(const struct field *fields, const char *text, size_t size, void *base)
{
    struct cursor in = {text, text + size};
    return take_object(&in, fields, base) && in.at == in.end;
}
