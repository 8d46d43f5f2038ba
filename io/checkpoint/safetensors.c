/* Reads weights of Hugging Face's folders: finds the files, checks what their headers say (safetensors_header.c), reads
 * slices of tensors as float32. */
#include "io/checkpoint/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/checkpoint/safetensors_internal.h"
#include "io/file.h"

#define INDEX_LIMIT ((off_t)64 << 20)
#define BLOCK ((size_t)1 << 20) /* bytes */

static int file_add(struct safetensors *s, const char *path, struct error *err)
{
    struct stat status;
    struct safetensors_file *grown = reallocarray(s->files, s->file_count + 1, sizeof *grown);
    if (!grown) return error_set(err, "%s: out of memory", path);
    s->files = grown;
    struct safetensors_file *file = &s->files[s->file_count];
    *file = (struct safetensors_file){strdup(path), open(path, O_RDONLY | O_CLOEXEC), 0};
    s->file_count++;
    if (!file->path) return error_set(err, "%s: out of memory", path);
    if (file->fd < 0 || fstat(file->fd, &status)) return error_set_errno(err, "%s", path);
    if (!S_ISREG(status.st_mode)) return error_set(err, "%s: not a file", path);
    file->size = (uint64_t)status.st_size;
    return safetensors_header(s, s->file_count - 1, err);
}

/* The whole index as JSON; NULL with *err. */
static json_t *index_load(const char *path, struct error *err)
{
    json_error_t where;
    struct stat status;
    json_t *object = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *text = NULL;
    if (fd < 0 || fstat(fd, &status)) {
        error_set_errno(err, "%s", path);
    } else if (!S_ISREG(status.st_mode) || status.st_size > INDEX_LIMIT) {
        error_set(err, "%s: not an index: larger than %lld bytes, or no file", path, (long long)INDEX_LIMIT);
    } else if (!(text = malloc((size_t)status.st_size + 1))) {
        error_set(err, "%s: out of memory", path);
    } else if (file_read_at(fd, text, (size_t)status.st_size, 0)) {
        error_set_errno(err, "%s", path);
    } else if (!(object = json_loadb(text, (size_t)status.st_size, JSON_REJECT_DUPLICATES, &where))) {
        error_set(err, "%s:%d: %s", path, where.line, where.text);
    }
    free(text);
    if (fd >= 0) close(fd);
    return object;
}

static int compare_words(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The distinct files that the map names, sorted. */
static size_t map_files(json_t *map, const char **files)
{
    size_t count = 0, distinct = 0;
    const char *name;
    json_t *file;
    json_object_foreach(map, name, file) files[count++] = json_string_value(file);
    if (count) qsort(files, count, sizeof *files, compare_words);
    for (size_t i = 0; i < count; i++)
        if (!i || strcmp(files[i], files[distinct - 1])) files[distinct++] = files[i];
    return distinct;
}

static bool plain_name(const char *name)
{
    return name && *name && name[0] != '.' && !strchr(name, '/') && strlen(name) <= NAME_MAX;
}

/* What the files hold is what the index says: every tensor, in the file where it is said to be. */
static int check_index(const struct safetensors *s, const char *folder, json_t *map, struct error *err)
{
    if (s->count != json_object_size(map))
        return error_set(err, "%s: the files hold %zu tensors, the index names %zu", folder, s->count,
                         json_object_size(map));
    for (size_t i = 0; i < s->count; i++) {
        const char *file = json_string_value(json_object_get(map, s->tensors[i].name));
        const char *path = s->files[s->tensors[i].file].path;
        if (!file || strcmp(strrchr(path, '/') + 1, file))
            return error_set(err, "%s: tensor %.200s is not where the index says", folder, s->tensors[i].name);
    }
    return 0;
}

static int open_files(struct safetensors *s, const char *folder, json_t *map, const char **files, struct error *err)
{
    const char *name;
    json_t *file;
    json_object_foreach(map, name, file)
    {
        if (!plain_name(json_string_value(file)))
            return error_set(err, "%s: the index names no file of its folder for %.200s", folder, name);
    }
    size_t count = map_files(map, files);
    if (count > SAFETENSORS_FILES) return error_set(err, "%s: more than %d files", folder, SAFETENSORS_FILES);
    for (size_t i = 0; i < count; i++) {
        char path[PATH_MAX];
        if (snprintf(path, sizeof path, "%s/%s", folder, files[i]) >= (int)sizeof path)
            return error_set(err, "%s: the path is too long", folder);
        if (file_add(s, path, err)) return -1;
    }
    return 0;
}

static int open_index(struct safetensors *s, const char *folder, const char *path, struct error *err)
{
    json_t *object = index_load(path, err), *map = json_object_get(object, "weight_map");
    int result = -1;
    if (!object) return -1;
    const char **files = calloc(json_object_size(map) + 1, sizeof *files);
    if (!json_is_object(map))
        error_set(err, "%s: it has no object \"weight_map\"", path);
    else if (!files)
        error_set(err, "%s: out of memory", path);
    else
        result = open_files(s, folder, map, files, err);
    if (s->count) qsort(s->tensors, s->count, sizeof *s->tensors, safetensors_compare);
    if (!result) result = check_index(s, folder, map, err);
    free(files);
    json_decref(object);
    return result;
}

/* One name once, also over several files. */
static int check_names(const struct safetensors *s, const char *path, struct error *err)
{
    for (size_t i = 1; i < s->count; i++)
        if (!strcmp(s->tensors[i - 1].name, s->tensors[i].name))
            return error_set(err, "%s: tensor %.200s is there twice", path, s->tensors[i].name);
    return 0;
}

static int open_path(struct safetensors *s, const char *path, struct error *err)
{
    char index[PATH_MAX], single[PATH_MAX];
    struct stat status;
    if (stat(path, &status)) return error_set_errno(err, "%s", path);
    if (snprintf(index, sizeof index, "%s/model.safetensors.index.json", path) >= (int)sizeof index)
        return error_set(err, "%s: the path is too long", path);
    snprintf(single, sizeof single, "%s/model.safetensors", path);
    if (!S_ISDIR(status.st_mode)) return file_add(s, path, err);
    if (access(single, F_OK) == 0) return file_add(s, single, err); /* before the index, as transformers looks */
    if (access(index, F_OK) == 0) return open_index(s, path, index, err);
    return error_set(err, "%s: neither model.safetensors nor model.safetensors.index.json is there", path);
}

struct safetensors *safetensors_open(const char *path, struct error *err)
{
    struct safetensors *s = calloc(1, sizeof *s);
    int result = s ? open_path(s, path, err) : error_set(err, "%s: out of memory", path);
    if (!result && s->count) qsort(s->tensors, s->count, sizeof *s->tensors, safetensors_compare);
    if (!result) result = check_names(s, path, err);
    if (!result) return s;
    safetensors_close(s);
    return NULL;
}

void safetensors_close(struct safetensors *s)
{
    if (!s) return;
    int saved = errno;
    for (size_t i = 0; i < s->count; i++)
        free((char *)s->tensors[i].name);
    for (size_t i = 0; i < s->file_count; i++) {
        if (s->files[i].fd >= 0) close(s->files[i].fd);
        free(s->files[i].path);
    }
    free(s->tensors);
    free(s->files);
    free(s);
    errno = saved;
}

size_t safetensors_count(const struct safetensors *s)
{
    return s->count;
}

const struct safetensors_tensor *safetensors_at(const struct safetensors *s, size_t index)
{
    return &s->tensors[index];
}

const struct safetensors_tensor *safetensors_find(const struct safetensors *s, const char *name)
{
    struct safetensors_tensor key = {.name = name};
    return s->count ? bsearch(&key, s->tensors, s->count, sizeof key, safetensors_compare) : NULL;
}

static float float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* IEEE 754 binary16, subnormals and NaN included. */
static float float_of_half(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 1023;
    if (exponent == 31) return float_of_bits(sign | 0x7f800000 | fraction << 13);
    if (exponent) return float_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
    float small = (float)fraction * 0x1p-24f;
    return sign ? -small : small;
}

/* `count` values of a type -> out. */
static void convert(const char *dtype, size_t count, const unsigned char *bytes, float *out)
{
    if (!strcmp(dtype, "F32")) {
        memcpy(out, bytes, count * sizeof *out);
        return;
    }
    bool brain = !strcmp(dtype, "BF16");
    for (size_t i = 0; i < count; i++) {
        uint16_t half = (uint16_t)(bytes[2 * i] | bytes[2 * i + 1] << 8);
        out[i] = brain ? float_of_bits((uint32_t)half << 16) : float_of_half(half);
    }
}

static bool readable(const char *dtype)
{
    return !strcmp(dtype, "F32") || !strcmp(dtype, "F16") || !strcmp(dtype, "BF16");
}

/* `count` values from value `first` of a tensor. */
static int read_run(const struct safetensors *s, const struct safetensors_tensor *tensor, uint64_t first,
                    uint64_t count, unsigned char *block, float *out)
{
    size_t size = safetensors_type_size(tensor->dtype);
    while (count > 0) {
        size_t now = count < BLOCK / size ? (size_t)count : BLOCK / size;
        if (file_read_at(s->files[tensor->file].fd, block, now * size, tensor->offset + first * size)) return -1;
        convert(tensor->dtype, now, block, out);
        out += now;
        first += now;
        count -= now;
    }
    return 0;
}

int safetensors_read(const struct safetensors *s, const struct safetensors_tensor *tensor,
                     const struct safetensors_tile *tile, float *out, struct error *err)
{
    const char *path = s->files[tensor->file].path;
    if (!readable(tensor->dtype))
        return error_set(err, "%s: tensor %.200s is of type %s; allowed: F32, F16, BF16", path, tensor->name,
                         tensor->dtype);
    if (tile->row_first > tensor->rows || tile->row_count > tensor->rows - tile->row_first ||
        tile->column_first > tensor->columns || tile->column_count > tensor->columns - tile->column_first)
        return error_set(err, "%s: tensor %.200s has no such rows and columns", path, tensor->name);
    unsigned char *block = malloc(BLOCK);
    if (!block) return error_set(err, "%s: out of memory", path);
    bool dense = tile->column_count == tensor->columns;
    uint64_t runs = dense ? 1 : tile->row_count,
             length = dense ? tile->row_count * tile->column_count : tile->column_count;
    int result = 0;
    for (uint64_t i = 0; i < runs && !result; i++)
        result = read_run(s, tensor, (tile->row_first + i) * tensor->columns + tile->column_first, length, block,
                          out + i * length);
    free(block);
    return result ? error_set_errno(err, "%s: tensor %.200s", path, tensor->name) : 0;
}

enum { COMPARED = 1 << 15 /* values at a time */ };

/* values[2][COMPARED] */
static int compare_tensors(const struct safetensors *s, const struct safetensors_tensor *const tensors[2],
                           float *values, bool *same, struct error *err)
{
    uint64_t columns = tensors[0]->columns, count = tensors[0]->rows * columns;
    unsigned char *block = malloc(BLOCK);
    if (!block) return error_set(err, "out of memory");
    int result = 0;
    *same = true;
    for (uint64_t at = 0; at < count && *same && !result; at += COMPARED) {
        size_t now = count - at < COMPARED ? (size_t)(count - at) : COMPARED;
        for (int i = 0; i < 2 && !result; i++)
            if (read_run(s, tensors[i], at, now, block, values + i * COMPARED))
                result = error_set_errno(err, "%s: tensor %.200s", s->files[tensors[i]->file].path, tensors[i]->name);
        for (size_t i = 0; i < now && *same && !result; i++)
            *same = values[i] == values[COMPARED + i];
    }
    free(block);
    return result;
}

int safetensors_same(const struct safetensors *s, const struct safetensors_tensor *a,
                     const struct safetensors_tensor *b, bool *same, struct error *err)
{
    const struct safetensors_tensor *const tensors[2] = {a, b};
    *same = false;
    if (!readable(a->dtype) || !readable(b->dtype) || a->rows != b->rows || a->columns != b->columns) return 0;
    float *values = malloc(2 * COMPARED * sizeof *values);
    int result = values ? compare_tensors(s, tensors, values, same, err) : error_set(err, "out of memory");
    free(values);
    return result;
}

static int digest_tensor(const struct safetensors *s, const struct safetensors_tensor *tensor, unsigned char *block,
                         struct digest_stream *stream)
{
    digest_stream_add(stream, tensor->name, strlen(tensor->name) + 1);
    digest_stream_add(stream, tensor->dtype, strlen(tensor->dtype) + 1);
    digest_stream_add(stream, &tensor->dimensions, sizeof tensor->dimensions);
    digest_stream_add(stream, tensor->shape, tensor->dimensions * sizeof *tensor->shape);
    for (uint64_t at = 0; at < tensor->bytes; at += BLOCK) {
        size_t now = tensor->bytes - at < BLOCK ? (size_t)(tensor->bytes - at) : BLOCK;
        if (file_read_at(s->files[tensor->file].fd, block, now, tensor->offset + at)) return -1;
        digest_stream_add(stream, block, now);
    }
    return 0;
}

int safetensors_digest(const struct safetensors *s, struct digest *out, struct error *err)
{
    struct digest_stream *stream = digest_stream_create();
    unsigned char *block = malloc(BLOCK);
    int result = stream && block ? 0 : error_set(err, "out of memory");
    for (size_t i = 0; i < s->count && !result; i++)
        if (digest_tensor(s, &s->tensors[i], block, stream))
            result = error_set_errno(err, "%s", s->files[s->tensors[i].file].path);
    if (!result) *out = digest_stream_result(stream);
    digest_stream_destroy(stream);
    free(block);
    return result;
}

struct digest safetensors_stamp(const struct safetensors *s)
{
    struct digest none = {""};
    struct digest_stream *stream = digest_stream_create();
    if (!stream) return none;
    for (size_t i = 0; i < s->file_count; i++) {
        struct stat status;
        if (fstat(s->files[i].fd, &status)) memset(&status, 0, sizeof status);
        digest_stream_add(stream, &status.st_dev, sizeof status.st_dev);
        digest_stream_add(stream, &status.st_ino, sizeof status.st_ino);
        digest_stream_add(stream, &status.st_size, sizeof status.st_size);
        digest_stream_add(stream, &status.st_mtim, sizeof status.st_mtim);
        digest_stream_add(stream, &status.st_ctim, sizeof status.st_ctim);
    }
    none = digest_stream_result(stream);
    digest_stream_destroy(stream);
    return none;
}
