/* Writes one safetensors file of float32 tensors: the header is known before the first value, tiles go to their
 * places. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/checkpoint/safetensors_internal.h"
#include "io/file.h"

struct safetensors_writer {
    char *path, *temporary;
    struct safetensors_tensor *tensors; /* in the order of declaration; offset from the first value */
    uint64_t *put;                      /* values that have come */
    size_t count, capacity;
    uint64_t bytes, base;
    int fd; /* -1 before the first tile */
};

struct safetensors_writer *safetensors_writer_create(const char *path, struct error *err)
{
    struct safetensors_writer *writer = calloc(1, sizeof *writer);
    if (writer) writer->fd = -1;
    if (!writer || !(writer->path = strdup(path)) || asprintf(&writer->temporary, "%s.tmp", path) < 0) {
        error_set(err, "%s: out of memory", path);
        if (writer) free(writer->path);
        free(writer);
        return NULL;
    }
    return writer;
}

void safetensors_writer_destroy(struct safetensors_writer *writer)
{
    if (!writer) return;
    int saved = errno;
    if (writer->fd >= 0) {
        close(writer->fd);
        unlink(writer->temporary);
    }
    for (size_t i = 0; i < writer->count; i++)
        free((char *)writer->tensors[i].name);
    free(writer->tensors);
    free(writer->put);
    free(writer->temporary);
    free(writer->path);
    free(writer);
    errno = saved;
}

static int grow(struct safetensors_writer *writer)
{
    if (writer->count < writer->capacity) return 0;
    size_t capacity = writer->capacity ? 2 * writer->capacity : 256;
    struct safetensors_tensor *tensors = reallocarray(writer->tensors, capacity, sizeof *tensors);
    if (tensors) writer->tensors = tensors;
    uint64_t *put = tensors ? reallocarray(writer->put, capacity, sizeof *put) : NULL;
    if (!put) return -1;
    writer->put = put;
    writer->capacity = capacity;
    return 0;
}

int safetensors_writer_declare(struct safetensors_writer *writer, const char *name, size_t dimensions,
                               const uint64_t *shape, struct error *err)
{
    struct safetensors_tensor tensor = {.dtype = "F32", .dimensions = dimensions, .bytes = sizeof(float)};
    if (writer->fd >= 0) return error_set(err, "%s: tensor %s is declared after the first tile", writer->path, name);
    for (size_t i = 0; i < dimensions; i++)
        if (__builtin_mul_overflow(tensor.bytes, shape[i], &tensor.bytes) || tensor.bytes > INT64_MAX / 2)
            return error_set(err, "%s: tensor %s is too large", writer->path, name);
    memcpy(tensor.shape, shape, dimensions * sizeof *shape);
    safetensors_matrix(&tensor);
    tensor.offset = writer->bytes;
    if (grow(writer) || !(tensor.name = strdup(name))) return error_set(err, "%s: out of memory", writer->path);
    writer->put[writer->count] = 0;
    writer->tensors[writer->count++] = tensor;
    if (__builtin_add_overflow(writer->bytes, tensor.bytes, &writer->bytes) || writer->bytes > INT64_MAX / 2)
        return error_set(err, "%s: the tensors do not fit a file", writer->path);
    return 0;
}

/* The header's text, of a multiple of 8 bytes; malloc'ed. */
static char *header_text(const struct safetensors_writer *writer)
{
    json_t *object = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    for (size_t i = 0; i < writer->count && object; i++) {
        const struct safetensors_tensor *tensor = &writer->tensors[i];
        json_t *shape = json_array();
        for (size_t d = 0; d < tensor->dimensions; d++)
            json_array_append_new(shape, json_integer((json_int_t)tensor->shape[d]));
        json_t *entry = json_pack("{s:s, s:o, s:[I,I]}", "dtype", tensor->dtype, "shape", shape, "data_offsets",
                                  (json_int_t)tensor->offset, (json_int_t)(tensor->offset + tensor->bytes));
        if (json_object_set_new(object, tensor->name, entry)) {
            json_decref(object);
            object = NULL;
        }
    }
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    size_t length = text ? strlen(text) : 0, padded = (length + 7) / 8 * 8;
    char *grown = text ? realloc(text, padded + 1) : NULL;
    if (!grown) {
        free(text);
        return NULL;
    }
    memset(grown + length, ' ', padded - length);
    grown[padded] = 0;
    return grown;
}

static int begin(struct safetensors_writer *writer, struct error *err)
{
    char *text = header_text(writer);
    if (!text) return error_set(err, "%s: out of memory", writer->path);
    uint64_t size = strlen(text);
    unsigned char length[8];
    for (size_t i = 0; i < sizeof length; i++)
        length[i] = (unsigned char)(size >> 8 * i);
    writer->base = sizeof length + size;
    if (unlink(writer->temporary) && errno != ENOENT) {
        free(text);
        return error_set_errno(err, "%s", writer->temporary);
    }
    writer->fd = open(writer->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    int result = writer->fd < 0 || file_write_at(writer->fd, length, sizeof length, 0) ||
                 file_write_at(writer->fd, text, size, sizeof length) ||
                 ftruncate(writer->fd, (off_t)(writer->base + writer->bytes));
    free(text);
    return result ? error_set_errno(err, "%s", writer->temporary) : 0;
}

int safetensors_writer_put(struct safetensors_writer *writer, const char *name, const struct safetensors_tile *tile,
                           const float *data, struct error *err)
{
    size_t index = 0;
    while (index < writer->count && strcmp(writer->tensors[index].name, name))
        index++;
    if (index == writer->count) return error_set(err, "%s: tensor %s is not declared", writer->path, name);
    const struct safetensors_tensor *tensor = &writer->tensors[index];
    if (tile->row_first + tile->row_count > tensor->rows || tile->column_first + tile->column_count > tensor->columns)
        return error_set(err, "%s: tensor %s has no such rows and columns", writer->path, name);
    if (writer->fd < 0 && begin(writer, err)) return -1;
    bool dense = tile->column_count == tensor->columns;
    uint64_t runs = dense ? 1 : tile->row_count, length = tile->row_count * tile->column_count / (runs ? runs : 1);
    for (uint64_t i = 0; i < runs; i++) {
        uint64_t first = (tile->row_first + i) * tensor->columns + tile->column_first;
        if (file_write_at(writer->fd, data + i * length, length * sizeof *data,
                          writer->base + tensor->offset + first * sizeof *data))
            return error_set_errno(err, "%s", writer->temporary);
    }
    writer->put[index] += tile->row_count * tile->column_count;
    return 0;
}

static int finish(struct safetensors_writer *writer, struct error *err)
{
    for (size_t i = 0; i < writer->count; i++)
        if (writer->put[i] != writer->tensors[i].rows * writer->tensors[i].columns)
            return error_set(err, "%s: tensor %s was not written once", writer->path, writer->tensors[i].name);
    if (writer->fd < 0 && begin(writer, err)) return -1;
    if (fsync(writer->fd)) return error_set_errno(err, "%s: cannot sync", writer->temporary);
    if (file_publish(writer->temporary, writer->path, err)) return -1;
    close(writer->fd);
    writer->fd = -1;
    return 0;
}

int safetensors_writer_finish(struct safetensors_writer *writer, struct error *err)
{
    int result = finish(writer, err);
    safetensors_writer_destroy(writer);
    return result;
}
