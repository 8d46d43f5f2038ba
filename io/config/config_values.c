/* Typed values of a config file: one setting -> one checked number, name or array, noted for the log. */
#include <assert.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/config/config_private.h"
#include "io/number.h"
#include "io/text/text.h"

const char *config_type_name(const config_setting_t *setting)
{
    switch (config_setting_type(setting)) {
    case CONFIG_TYPE_GROUP:
        return "a group";
    case CONFIG_TYPE_INT:
    case CONFIG_TYPE_INT64:
        return "an integer";
    case CONFIG_TYPE_FLOAT:
        return "a number with a point";
    case CONFIG_TYPE_STRING:
        return "a string";
    case CONFIG_TYPE_BOOL:
        return "true or false";
    case CONFIG_TYPE_ARRAY:
        return "an array";
    case CONFIG_TYPE_LIST:
        return "a list";
    default:
        return "nothing";
    }
}

/* Where a value stands: in a key, or in element `index` of its array. */
struct place {
    const struct config_group *group;
    const char *key;
    size_t index;
    bool element;
};

static void fail(const struct place *place, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void fail(const struct place *place, const char *format, ...)
{
    char text[700];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (place->element)
        config_fail_element(place->group, place->key, place->index, "%s", text);
    else
        config_fail(place->group, place->key, "%s", text);
}

static void uint_range(uint64_t min, uint64_t max, char *out, size_t size)
{
    if (max == UINT64_MAX || max == INT64_MAX)
        snprintf(out, size, "at least %" PRIu64, min);
    else if (min == max)
        snprintf(out, size, "%" PRIu64, min);
    else
        snprintf(out, size, "%" PRIu64 "..%" PRIu64, min, max);
}

static bool read_uint(const struct place *place, const config_setting_t *setting, uint64_t min, uint64_t max,
                      uint64_t *out)
{
    char allowed[64];
    uint_range(min, max, allowed, sizeof allowed);
    int type = config_setting_type(setting);
    if (type == CONFIG_TYPE_FLOAT) {
        double value = config_setting_get_float(setting);
        if (!(value >= 0.0 && value <= 9007199254740992.0 && value == floor(value))) {
            char text[NUMBER_TEXT];
            number_of_double(value, text);
            fail(place, "%s is not an integer; allowed: %s", text, allowed);
            return false;
        }
        *out = (uint64_t)value;
    } else if (type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64) {
        long long value = config_setting_get_int64(setting);
        if (value < 0) {
            fail(place, "%lld is out of range; allowed: %s", value, allowed);
            return false;
        }
        *out = (uint64_t)value;
    } else {
        fail(place, "%s where an integer is expected; allowed: %s", config_type_name(setting), allowed);
        return false;
    }
    if (*out < min || *out > max) {
        fail(place, "%" PRIu64 " is out of range; allowed: %s", *out, allowed);
        return false;
    }
    return true;
}

static void double_range(double min, double max, char *out, size_t size)
{
    char low[40] = "", high[40] = "";
    if (min == CONFIG_POSITIVE)
        snprintf(low, sizeof low, "above 0");
    else if (min > -DBL_MAX)
        snprintf(low, sizeof low, "at least %g", min);
    if (max < DBL_MAX) snprintf(high, sizeof high, "at most %g", max);
    snprintf(out, size, "%s%s%s", low, low[0] && high[0] ? ", " : "", low[0] || high[0] ? high : "any number");
}

static bool read_double(const struct place *place, const config_setting_t *setting, double min, double max, double *out)
{
    char allowed[96];
    double_range(min, max, allowed, sizeof allowed);
    int type = config_setting_type(setting);
    if (type == CONFIG_TYPE_FLOAT)
        *out = config_setting_get_float(setting);
    else if (type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64)
        *out = (double)config_setting_get_int64(setting);
    else {
        fail(place, "%s where a number is expected; allowed: %s", config_type_name(setting), allowed);
        return false;
    }
    if (!isfinite(*out) || *out < min || *out > max) {
        fail(place, "%g is out of range; allowed: %s", *out, allowed);
        return false;
    }
    return true;
}

static bool read_string(const struct place *place, const config_setting_t *setting, size_t longest, const char **out)
{
    if (config_setting_type(setting) != CONFIG_TYPE_STRING) {
        fail(place, "%s where a string \"...\" is expected", config_type_name(setting));
        return false;
    }
    *out = config_setting_get_string(setting);
    if (!*out || !**out || strlen(*out) > longest) {
        fail(place, "a string of %zu bytes; allowed: 1..%zu", *out ? strlen(*out) : 0, longest);
        return false;
    }
    return true;
}

/* The setting of a scalar, or NULL: absent, or an error before. */
static const config_setting_t *scalar(const struct config_group *group, const char *key, bool required)
{
    if (group->file->failed || !group->present) return NULL;
    bool known = false;
    for (size_t i = 0; group->keys[i] && !known; i++)
        known = !strcmp(group->keys[i], key);
    assert(known);
    (void)known;
    const config_setting_t *setting = config_member(group, key);
    if (!setting && required) config_fail(group, NULL, "key \"%s\" is missing", key);
    return setting;
}

static uint64_t take_uint(const struct config_group *group, const char *key, uint64_t min, uint64_t max, bool required,
                          uint64_t fallback)
{
    const config_setting_t *setting = scalar(group, key, required);
    struct place place = {.group = group, .key = key};
    uint64_t value = fallback;
    if (setting && !read_uint(&place, setting, min, max, &value)) return fallback;
    config_note(group, key, !setting, "%" PRIu64, value);
    return value;
}

uint64_t config_take_uint(const struct config_group *group, const char *key, uint64_t min, uint64_t max)
{
    return take_uint(group, key, min, max, true, min);
}

uint64_t config_take_uint_or(const struct config_group *group, const char *key, uint64_t min, uint64_t max,
                             uint64_t fallback)
{
    return take_uint(group, key, min, max, false, fallback);
}

static double take_double(const struct config_group *group, const char *key, double min, double max, bool required,
                          double fallback)
{
    const config_setting_t *setting = scalar(group, key, required);
    struct place place = {.group = group, .key = key};
    double value = fallback;
    if (setting && !read_double(&place, setting, min, max, &value)) return fallback;
    char text[NUMBER_TEXT];
    number_of_double(value, text);
    config_note(group, key, !setting, "%s", text);
    return value;
}

double config_take_double(const struct config_group *group, const char *key, double min, double max)
{
    return take_double(group, key, min, max, true, min);
}

double config_take_double_or(const struct config_group *group, const char *key, double min, double max, double fallback)
{
    return take_double(group, key, min, max, false, fallback);
}

bool config_take_bool_or(const struct config_group *group, const char *key, bool fallback)
{
    const config_setting_t *setting = scalar(group, key, false);
    if (setting && config_setting_type(setting) != CONFIG_TYPE_BOOL) {
        config_fail(group, key, "%s where true or false is expected", config_type_name(setting));
        return fallback;
    }
    bool value = setting ? config_setting_get_bool(setting) : fallback;
    config_note(group, key, !setting, "%s", value ? "true" : "false");
    return value;
}

const char *config_take_string(const struct config_group *group, const char *key, size_t longest)
{
    const config_setting_t *setting = scalar(group, key, true);
    struct place place = {.group = group, .key = key};
    const char *value = "";
    if (!setting || !read_string(&place, setting, longest, &value)) return "";
    config_note(group, key, false, "\"%s\"", value);
    return value;
}

const char *config_take_name(const struct config_group *group, const char *key, size_t longest)
{
    const char *value = config_take_string(group, key, longest);
    if (!*value || text_is_name(value)) return value;
    config_fail(group, key, "not a name; allowed: " TEXT_NAMES);
    return "";
}

int config_take_choice(const struct config_group *group, const char *key, const char *const *names, size_t count,
                       int fallback)
{
    const config_setting_t *setting = scalar(group, key, fallback < 0);
    if (!setting) {
        if (fallback >= 0) config_note(group, key, true, "\"%s\"", names[fallback]);
        return fallback < 0 ? 0 : fallback;
    }
    struct place place = {.group = group, .key = key};
    const char *value = "";
    if (!read_string(&place, setting, 64, &value)) return 0;
    for (size_t i = 0; i < count; i++)
        if (!strcmp(names[i], value)) {
            config_note(group, key, false, "\"%s\"", value);
            return (int)i;
        }
    char allowed[300];
    config_join(names, count, allowed, sizeof allowed);
    const char *guess = config_guess(value, names, count);
    config_fail(group, key, "\"%s\" is unknown%s%s%s; allowed: %s", value, guess ? ", did you mean " : "",
                guess ? guess : "", guess ? "?" : "", allowed);
    return 0;
}

/* Elements of an array, of a list, or the single value itself; 0 with an error where there is none. */
static size_t array_length(const struct config_group *group, const char *key, const config_setting_t *setting)
{
    int type = config_setting_type(setting);
    if (type != CONFIG_TYPE_ARRAY && type != CONFIG_TYPE_LIST) return 1;
    size_t count = (size_t)config_setting_length(setting);
    if (!count) config_fail(group, key, "an empty list; allowed: at least one value");
    if (count > CONFIG_ELEMENT_LIMIT)
        config_fail(group, key, "%zu values; allowed: up to %u", count, CONFIG_ELEMENT_LIMIT);
    return group->file->failed ? 0 : count;
}

static const config_setting_t *array_element(const config_setting_t *setting, struct place *place, size_t index)
{
    int type = config_setting_type(setting);
    place->index = index;
    place->element = type == CONFIG_TYPE_ARRAY || type == CONFIG_TYPE_LIST;
    return place->element ? config_setting_get_elem(setting, (unsigned)index) : setting;
}

enum element { ELEMENT_UINT, ELEMENT_DOUBLE, ELEMENT_STRING };

struct bounds {
    uint64_t uint_min, uint_max;
    double double_min, double_max;
    size_t longest;
};

union value {
    uint64_t u;
    double d;
    const char *s;
};

static bool read_element(enum element kind, const struct place *place, const config_setting_t *setting,
                         const struct bounds *bounds, union value *out)
{
    switch (kind) {
    case ELEMENT_UINT:
        return read_uint(place, setting, bounds->uint_min, bounds->uint_max, &out->u);
    case ELEMENT_DOUBLE:
        return read_double(place, setting, bounds->double_min, bounds->double_max, &out->d);
    default:
        return read_string(place, setting, bounds->longest, &out->s);
    }
}

static bool same(enum element kind, union value a, union value b)
{
    return kind == ELEMENT_UINT ? a.u == b.u : kind == ELEMENT_DOUBLE ? a.d == b.d : !strcmp(a.s, b.s);
}

static void show(enum element kind, union value value, char *out, size_t size)
{
    if (kind == ELEMENT_UINT)
        snprintf(out, size, "%" PRIu64, value.u);
    else if (kind == ELEMENT_DOUBLE)
        number_of_double(value.d, out);
    else
        snprintf(out, size, "\"%s\"", value.s);
}

static void note_array(const struct config_group *group, const char *key, enum element kind, const union value *values,
                       size_t count)
{
    char text[480] = "[", one[80];
    size_t used = 1;
    for (size_t i = 0; i < count && used + 90 < sizeof text; i++) {
        show(kind, values[i], one, sizeof one);
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", i ? ", " : "", one);
        if (used + 90 >= sizeof text && i + 1 < count)
            used += (size_t)snprintf(text + used, sizeof text - used, ", ... %zu values", count);
    }
    config_note(group, key, false, "%s]", text);
}

static union value *take_array(const struct config_group *group, const char *key, enum element kind,
                               const struct bounds *bounds, bool required, size_t *count)
{
    *count = 0;
    const config_setting_t *setting = scalar(group, key, required);
    size_t length = setting ? array_length(group, key, setting) : 0;
    if (!length) return NULL;
    union value *values = calloc(length, sizeof *values);
    if (!values) {
        config_fail(group, key, "out of memory");
        return NULL;
    }
    struct place place = {.group = group, .key = key};
    for (size_t i = 0; i < length && !group->file->failed; i++) {
        if (!read_element(kind, &place, array_element(setting, &place, i), bounds, &values[i])) break;
        for (size_t j = 0; j < i; j++)
            if (same(kind, values[i], values[j])) {
                char text[80];
                show(kind, values[i], text, sizeof text);
                fail(&place, "%s is there twice", text);
                break;
            }
    }
    if (group->file->failed) {
        free(values);
        return NULL;
    }
    note_array(group, key, kind, values, length);
    *count = length;
    return values;
}

uint64_t *config_take_uints(const struct config_group *group, const char *key, uint64_t min, uint64_t max,
                            bool required, size_t *count)
{
    struct bounds bounds = {.uint_min = min, .uint_max = max};
    union value *values = take_array(group, key, ELEMENT_UINT, &bounds, required, count);
    uint64_t *out = values ? malloc(*count * sizeof *out) : NULL;
    for (size_t i = 0; out && i < *count; i++)
        out[i] = values[i].u;
    free(values);
    *count = out ? *count : 0;
    return out;
}

double *config_take_doubles(const struct config_group *group, const char *key, double min, double max, bool required,
                            size_t *count)
{
    struct bounds bounds = {.double_min = min, .double_max = max};
    union value *values = take_array(group, key, ELEMENT_DOUBLE, &bounds, required, count);
    double *out = values ? malloc(*count * sizeof *out) : NULL;
    for (size_t i = 0; out && i < *count; i++)
        out[i] = values[i].d;
    free(values);
    *count = out ? *count : 0;
    return out;
}

const char **config_take_strings(const struct config_group *group, const char *key, size_t longest, bool required,
                                 size_t *count)
{
    struct bounds bounds = {.longest = longest};
    union value *values = take_array(group, key, ELEMENT_STRING, &bounds, required, count);
    const char **out = values ? malloc(*count * sizeof *out) : NULL;
    for (size_t i = 0; out && i < *count; i++)
        out[i] = values[i].s;
    free(values);
    *count = out ? *count : 0;
    return out;
}
