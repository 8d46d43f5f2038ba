/* The header of one safetensors file: hostile JSON -> checked tensors with their places. */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "io/checkpoint/safetensors_internal.h"
#include "io/file.h"

enum { NAME_LIMIT = 1024, FILE_TENSORS = 1 << 20 };

static const struct {
    const char *name;
    size_t size;
} types[] = {{"F32", 4},     {"F16", 2},     {"BF16", 2}, {"F64", 8}, {"I64", 8}, {"I32", 4}, {"I16", 2}, {"I8", 1},
             {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"U8", 1},   {"U16", 2}, {"U32", 4}, {"U64", 8}, {"BOOL", 1}};

static const char *type_name(const char *name)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(types[i].name, name)) return types[i].name;
    return NULL;
}

size_t safetensors_type_size(const char *dtype)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(types[i].name, dtype)) return types[i].size;
    return 0;
}

void safetensors_matrix(struct safetensors_tensor *tensor)
{
    tensor->rows = tensor->dimensions > 1 ? tensor->shape[0] : 1;
    tensor->columns = 1;
    for (size_t i = tensor->dimensions > 1; i < tensor->dimensions; i++)
        tensor->columns *= tensor->shape[i];
}

int safetensors_compare(const void *a, const void *b)
{
    const struct safetensors_tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static int compare_offsets(const void *a, const void *b)
{
    const struct safetensors_tensor *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); /* empty ones first */
}

/* A number of the header as 0 .. INT64_MAX, or -1. */
static int64_t natural(const json_t *value)
{
    return json_is_integer(value) && json_integer_value(value) >= 0 ? (int64_t)json_integer_value(value) : -1;
}

/* Values of a shape times the bytes of one, or -1 where they do not fit. */
static int read_shape(const json_t *list, struct safetensors_tensor *tensor, struct error *err)
{
    uint64_t bytes = safetensors_type_size(tensor->dtype);
    if (!json_is_array(list) || json_array_size(list) > SAFETENSORS_DIMENSIONS)
        return error_set(err, "shape is not an array of up to %d numbers", SAFETENSORS_DIMENSIONS);
    tensor->dimensions = json_array_size(list);
    for (size_t i = 0; i < tensor->dimensions; i++) {
        int64_t size = natural(json_array_get(list, i));
        if (size < 0) return error_set(err, "shape holds what is not a natural number");
        tensor->shape[i] = (uint64_t)size;
    }
    for (size_t i = 0; i < tensor->dimensions; i++)
        if (__builtin_mul_overflow(bytes, tensor->shape[i], &bytes) || bytes > INT64_MAX)
            return error_set(err, "shape has more values than a file can hold");
    safetensors_matrix(tensor);
    tensor->bytes = bytes;
    return 0;
}

static int read_offsets(const json_t *list, uint64_t begin, uint64_t end, struct safetensors_tensor *tensor,
                        struct error *err)
{
    int64_t first = json_array_size(list) == 2 ? natural(json_array_get(list, 0)) : -1;
    int64_t last = json_array_size(list) == 2 ? natural(json_array_get(list, 1)) : -1;
    if (!json_is_array(list) || first < 0 || last < first)
        return error_set(err, "data_offsets are not two ascending natural numbers");
    if ((uint64_t)last > end - begin) return error_set(err, "data_offsets go past the end of the file");
    if ((uint64_t)(last - first) != tensor->bytes)
        return error_set(err, "data_offsets span %" PRId64 " bytes, its shape and type %" PRIu64, last - first,
                         tensor->bytes);
    tensor->offset = begin + (uint64_t)first;
    return 0;
}

static int read_tensor(const json_t *entry, uint64_t begin, uint64_t end, struct safetensors_tensor *tensor,
                       struct error *err)
{
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    if (json_object_size(entry) != 3) return error_set(err, "not an object of dtype, shape and data_offsets");
    tensor->dtype = dtype ? type_name(dtype) : NULL;
    if (!tensor->dtype) return error_set(err, "dtype \"%.16s\" is not known", dtype ? dtype : "");
    return read_shape(json_object_get(entry, "shape"), tensor, err) ||
                   read_offsets(json_object_get(entry, "data_offsets"), begin, end, tensor, err)
               ? -1
               : 0;
}

static int add(struct safetensors *s, const struct safetensors_tensor *tensor, const char *name, struct error *err)
{
    if (s->count == s->capacity) {
        size_t capacity = s->capacity ? 2 * s->capacity : 256;
        struct safetensors_tensor *grown = reallocarray(s->tensors, capacity, sizeof *grown);
        if (!grown) return error_set(err, "out of memory");
        s->tensors = grown;
        s->capacity = capacity;
    }
    char *copy = strdup(name);
    if (!copy) return error_set(err, "out of memory");
    s->tensors[s->count] = *tensor;
    s->tensors[s->count++].name = copy;
    return 0;
}

/* The tensors of one file cover its values, each byte once. */
static int check_cover(const struct safetensors *s, size_t first, uint64_t begin, uint64_t end, struct error *err)
{
    if (s->count > first) qsort(s->tensors + first, s->count - first, sizeof *s->tensors, compare_offsets);
    for (size_t i = first; i < s->count; i++) {
        const struct safetensors_tensor *tensor = &s->tensors[i];
        if (tensor->offset != begin)
            return error_set(err, "tensor %.200s %s", tensor->name,
                             tensor->offset < begin ? "overlaps another one" : "leaves a hole before it");
        begin += tensor->bytes;
    }
    if (begin != end) return error_set(err, "%" PRIu64 " bytes at its end belong to no tensor", end - begin);
    return 0;
}

static int read_entries(struct safetensors *s, size_t file, json_t *object, uint64_t begin, struct error *err)
{
    size_t first = s->count;
    const char *name;
    json_t *entry;
    json_object_foreach(object, name, entry)
    {
        struct safetensors_tensor tensor = {.file = file};
        if (!strcmp(name, "__metadata__")) continue;
        if (!*name || strlen(name) > NAME_LIMIT) return error_set(err, "a tensor's name has 1 to %d bytes", NAME_LIMIT);
        if (s->count - first == FILE_TENSORS) return error_set(err, "more than %d tensors", FILE_TENSORS);
        if (read_tensor(entry, begin, s->files[file].size, &tensor, err))
            return error_prefix(err, "tensor %.200s", name);
        if (add(s, &tensor, name, err)) return -1;
    }
    return check_cover(s, first, begin, s->files[file].size, err);
}

int safetensors_header(struct safetensors *s, size_t file, struct error *err)
{
    const struct safetensors_file *f = &s->files[file];
    uint64_t size = 0;
    unsigned char length[8];
    json_error_t where;
    if (f->size < sizeof length || file_read_at(f->fd, length, sizeof length, 0))
        return error_set(err, "%s: not a safetensors file: it has no header", f->path);
    for (size_t i = sizeof length; i-- > 0;)
        size = size << 8 | length[i];
    if (size > SAFETENSORS_HEADER_LIMIT || size > f->size - sizeof length)
        return error_set(err, "%s: not a safetensors file: a header of %" PRIu64 " bytes in a file of %" PRIu64,
                         f->path, size, f->size);
    char *text = malloc(size + 1);
    if (!text) return error_set(err, "%s: out of memory for a header of %" PRIu64 " bytes", f->path, size);
    if (file_read_at(f->fd, text, size, sizeof length)) {
        free(text);
        return error_set_errno(err, "%s", f->path);
    }
    json_t *object = json_loadb(text, size, JSON_REJECT_DUPLICATES, &where);
    free(text);
    if (!json_is_object(object)) {
        json_decref(object);
        return error_set(err, "%s: its header is not a JSON object: %s", f->path,
                         object ? "another value" : where.text);
    }
    int result = read_entries(s, file, object, sizeof length + size, err);
    json_decref(object);
    return result ? error_prefix(err, "%s", f->path) : 0;
}
