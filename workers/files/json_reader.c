/* Typed values out of JSON files. */
#include "workers/files/json_reader.h"

#include <stdio.h>
#include <stdlib.h>

enum { LIMIT = 1 << 20 };

static json_t *parse(const char *path, const char *text, size_t size, struct error *err)
{
    json_error_t where;
    json_t *object = json_loadb(text, size, JSON_REJECT_DUPLICATES, &where);
    if (!object)
        error_set(err, "%s:%d: %s", path, where.line, where.text);
    else if (!json_is_object(object))
        error_set(err, "%s: not an object", path);
    if (json_is_object(object)) return object;
    json_decref(object);
    return NULL;
}

json_t *json_file_read(const char *dir, const char *name, char path[PATH_MAX], struct error *err)
{
    if (snprintf(path, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX) {
        error_set(err, "%s: the path is too long", dir);
        return NULL;
    }
    FILE *file = fopen(path, "rbe");
    if (!file) {
        error_set_errno(err, "%s", path);
        return NULL;
    }
    json_t *object = NULL;
    char *text = malloc(LIMIT + 1);
    size_t size = text ? fread(text, 1, LIMIT + 1, file) : 0;
    if (!text)
        error_set(err, "%s: out of memory", path);
    else if (size > LIMIT)
        error_set(err, "%s: larger than %d bytes", path, LIMIT);
    else
        object = parse(path, text, size, err);
    free(text);
    fclose(file);
    return object;
}

const json_t *json_value_of(const struct json_reader *reader, const char *key)
{
    const json_t *value = json_object_get(reader->object, key);
    return json_is_null(value) ? NULL : value;
}

void json_fail(struct json_reader *reader, const char *key, const char *why)
{
    if (!reader->failed) error_set(reader->err, "\"%s\" %s", key, why);
    reader->failed = true;
}

void json_refuse(struct json_reader *reader, const char *format, const char *what)
{
    if (!reader->failed) error_set(reader->err, format, what);
    reader->failed = true;
}

uint32_t json_take_count(struct json_reader *reader, const char *key, uint32_t fallback)
{
    const json_t *value = json_value_of(reader, key);
    json_int_t number = json_integer_value(value);
    if (!value && fallback) return fallback;
    if (json_is_integer(value) && number >= 1 && number <= UINT32_MAX) return (uint32_t)number;
    json_fail(reader, key, value ? "is no natural number of 32 bits" : "is missing");
    return 1;
}

double json_take_number(struct json_reader *reader, const char *key, double fallback)
{
    const json_t *value = json_value_of(reader, key);
    if (value && !json_is_number(value)) json_fail(reader, key, "is no number");
    return value ? json_number_value(value) : fallback;
}

bool json_take_bool(struct json_reader *reader, const char *key, bool fallback)
{
    const json_t *value = json_value_of(reader, key);
    if (value && !json_is_boolean(value)) json_fail(reader, key, "is neither true nor false");
    return value ? json_is_true(value) : fallback;
}

const char *json_take_string(struct json_reader *reader, const char *key, const char *fallback)
{
    const json_t *value = json_value_of(reader, key);
    if (value && !json_is_string(value)) json_fail(reader, key, "is no string");
    return json_is_string(value) ? json_string_value(value) : fallback;
}
