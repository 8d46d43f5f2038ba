/* Writes a stage's state: declared tensors get their places, tiles go there with pwrite, then checksums, seal, sync and
 * rename. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/checkpoint/checkpoint_internal.h"
#include "io/file.h"

struct checkpoint_writer {
    char *path, *temporary;
    struct checkpoint_header header;
    struct store_curve_entry *curve;
    size_t curve_count;
    struct checkpoint_tensor *tensors; /* sorted by name once the file exists */
    uint64_t *put;                     /* values that have arrived, a tensor */
    size_t count, capacity;
    int fd; /* -1 until the first tile fixes the layout */
    uint64_t data_values;
    struct frozen_part parts[CHECKPOINT_DATASETS];
    struct frozen_block block;
};

struct checkpoint_writer *checkpoint_writer_create(const char *path, const struct checkpoint_header *header,
                                                   const struct store_curve_entry *curve, size_t count,
                                                   struct error *err)
{
    static atomic_uint serial;
    struct checkpoint_writer *writer = calloc(1, sizeof *writer);
    if (!writer) goto failed;
    writer->fd = -1;
    writer->header = *header;
    writer->curve_count = count;
    writer->path = strdup(path);
    writer->curve = calloc(count + 1, sizeof *curve);
    if (!writer->path || !writer->curve) goto failed;
    if (count > 0) memcpy(writer->curve, curve, count * sizeof *curve);
    /* two hosts may hand out one process id, and a run that was taken for dead may still write: 64 random bits */
    uint64_t unique = 0;
    if (getrandom(&unique, sizeof unique, 0) != sizeof unique)
        unique = (uint64_t)getpid() << 32 | atomic_fetch_add(&serial, 1);
    if (asprintf(&writer->temporary, "%s.%016" PRIx64 ".tmp", path, unique) < 0) {
        writer->temporary = NULL;
        goto failed;
    }
    return writer;
failed:
    error_set(err, "%s: out of memory", path);
    checkpoint_writer_destroy(writer);
    return NULL;
}

void checkpoint_writer_destroy(struct checkpoint_writer *writer)
{
    if (!writer) return;
    int saved = errno;
    if (writer->fd >= 0) {
        close(writer->fd);
        unlink(writer->temporary);
    }
    free(writer->path);
    free(writer->temporary);
    free(writer->curve);
    free(writer->tensors);
    free(writer->put);
    free(writer);
    errno = saved;
}

static int writer_grow(struct checkpoint_writer *writer)
{
    if (writer->count < writer->capacity) return 0;
    size_t capacity = writer->capacity ? 2 * writer->capacity : 64;
    struct checkpoint_tensor *tensors = reallocarray(writer->tensors, capacity, sizeof *tensors);
    if (!tensors) return -1;
    writer->tensors = tensors;
    writer->capacity = capacity;
    return 0;
}

int checkpoint_writer_declare(struct checkpoint_writer *writer, const char *name, size_t rows, size_t columns,
                              struct error *err)
{
    uint64_t values;
    size_t size = strlen(name);
    if (writer->fd >= 0) return error_set(err, "%s: tensor %s is declared after the first tile", writer->path, name);
    if (size == 0 || size >= CHECKPOINT_NAME)
        return error_set(err, "%s: a tensor's name has 1 to %d bytes: \"%s\"", writer->path, CHECKPOINT_NAME - 1, name);
    if (rows == 0 || columns == 0 || checkpoint_values(rows, columns, &values) != 0)
        return error_set(err, "%s: tensor %s cannot be %zu x %zu", writer->path, name, rows, columns);
    for (size_t i = 0; i < writer->count; i++)
        if (strcmp(writer->tensors[i].name, name) == 0)
            return error_set(err, "%s: tensor %s is declared twice", writer->path, name);
    if (writer_grow(writer) != 0) return error_set(err, "%s: out of memory", writer->path);
    struct checkpoint_tensor *tensor = &writer->tensors[writer->count++];
    memset(tensor, 0, sizeof *tensor);
    memcpy(tensor->name, name, size);
    tensor->rows = rows;
    tensor->columns = columns;
    return 0;
}

/* Sort the tensors and give each its place. */
static int tensors_place(struct checkpoint_writer *writer, struct error *err)
{
    uint64_t at = 0;
    writer->put = calloc(writer->count + 1, sizeof *writer->put);
    if (!writer->put) return error_set(err, "%s: out of memory", writer->path);
    if (writer->count > 0) qsort(writer->tensors, writer->count, sizeof *writer->tensors, checkpoint_compare_names);
    for (size_t i = 0; i < writer->count; i++) {
        struct checkpoint_tensor *tensor = &writer->tensors[i];
        at = (at + CHECKPOINT_ALIGNMENT - 1) / CHECKPOINT_ALIGNMENT * CHECKPOINT_ALIGNMENT;
        tensor->offset = at;
        /* each is below 2^61 values: the sum is caught before it wraps */
        at += tensor->rows * tensor->columns;
        if (at > INT64_MAX / sizeof(float)) return error_set(err, "%s: the tensors do not fit a file", writer->path);
    }
    writer->data_values = at;
    return 0;
}

/* Create the file with room for everything. */
static int file_create(struct checkpoint_writer *writer, struct error *err)
{
    if (tensors_place(writer, err) != 0) return -1;
    const uint64_t rows[CHECKPOINT_DATASETS] = {1, writer->curve_count, writer->count, writer->data_values};
    for (int i = 0; i < CHECKPOINT_DATASETS; i++)
        writer->parts[i] = (struct frozen_part){.spec = &checkpoint_specs[i], .rows = rows[i]};
    if (unlink(writer->temporary) != 0 && errno != ENOENT)
        return error_set_errno(err, "%s: cannot remove it", writer->temporary);
    return frozen_create(writer->temporary, &checkpoint_format, NULL, 0, writer->parts, CHECKPOINT_DATASETS,
                         &writer->block, &writer->fd, err);
}

static uint64_t tensor_base(const struct checkpoint_writer *writer, const struct checkpoint_tensor *tensor)
{
    return writer->parts[CHECKPOINT_DATA].offset + tensor->offset * sizeof(float);
}

static int write_move(int fd, void *bytes, size_t size, uint64_t offset)
{
    return file_write_at(fd, bytes, size, offset);
}

int checkpoint_writer_put(struct checkpoint_writer *writer, const struct checkpoint_tile *tile, const float *data,
                          struct error *err)
{
    if (writer->fd < 0 && file_create(writer, err) != 0) return -1;
    const struct checkpoint_tensor *tensor = checkpoint_find(writer->tensors, writer->count, tile->name);
    if (checkpoint_tile_check(tensor, tile, writer->path, err) != 0) return -1;
    /* the cast drops const: write_move only reads */
    if (checkpoint_tile_move(writer->fd, tensor_base(writer, tensor), tile, (float *)(uintptr_t)data, write_move) != 0)
        return error_set_errno(err, "%s: cannot write tensor %s", writer->temporary, tile->name);
    writer->put[tensor - writer->tensors] += (uint64_t)tile->row_count * tile->column_count;
    return 0;
}

/* Checksums from what is in the file, in the order of the names: the same however the tiles came. */
static int tensors_sum(struct checkpoint_writer *writer, struct digest *digest, struct error *err)
{
    int result = 0;
    void *block = malloc(CHECKPOINT_BLOCK);
    struct digest_stream *stream = digest_stream_create();
    if (!block || !stream) result = error_set(err, "%s: out of memory", writer->path);
    for (size_t i = 0; i < writer->count && result == 0; i++) {
        struct checkpoint_tensor *tensor = &writer->tensors[i];
        uint64_t values = tensor->rows * tensor->columns;
        if (writer->put[i] != values) {
            result = error_set(err, "%s: tensor %s got %llu of its %llu values", writer->path, tensor->name,
                               (unsigned long long)writer->put[i], (unsigned long long)values);
            break;
        }
        digest_stream_add(stream, tensor->name, strlen(tensor->name) + 1);
        digest_stream_add(stream, &tensor->rows, 2 * sizeof tensor->rows);
        if (checkpoint_tensor_sum(writer->fd, tensor_base(writer, tensor), values * sizeof(float), block, stream,
                                  &tensor->checksum) != 0)
            result = error_set_errno(err, "%s: cannot read back tensor %s", writer->temporary, tensor->name);
    }
    if (result == 0) *digest = digest_stream_result(stream);
    digest_stream_destroy(stream);
    free(block);
    return result;
}

/* /header, /curve, /index; then the seal over them. */
static int rows_write(struct checkpoint_writer *writer, const struct digest *digest, struct error *err)
{
    unsigned char header[CHECKPOINT_HEADER_SLOT];
    struct store_curve_entry entry;
    int result;
    frozen_layout_pack(checkpoint_specs[CHECKPOINT_HEADER].layout, &writer->header, header);
    memcpy(header + CHECKPOINT_DIGEST_OFFSET, digest->hex, DIGEST_HEX);
    result = file_write_at(writer->fd, header, sizeof header, writer->parts[CHECKPOINT_HEADER].offset);
    for (size_t i = 0; i < writer->curve_count; i++) {
        frozen_layout_pack(checkpoint_specs[CHECKPOINT_CURVE].layout, &writer->curve[i], (unsigned char *)&entry);
        writer->curve[i] = entry;
    }
    if (result == 0)
        result = file_write_at(writer->fd, writer->curve, writer->curve_count * sizeof entry,
                               writer->parts[CHECKPOINT_CURVE].offset);
    if (result == 0)
        result = file_write_at(writer->fd, writer->tensors, writer->count * sizeof *writer->tensors,
                               writer->parts[CHECKPOINT_INDEX].offset);
    if (result != 0) return error_set_errno(err, "%s: cannot write", writer->temporary);
    return frozen_seal(writer->fd, writer->temporary, &writer->block, err);
}

/* Whether an end state of the same stage has taken our place while we wrote a state on the way: the worker of a run
 * that was taken for dead must not put the stage of its heir back. Looked at last, just before the rename. */
static bool would_undo(const struct checkpoint_writer *writer)
{
    struct checkpoint_header there;
    return !writer->header.finished && checkpoint_peek(writer->path, &there, NULL) == 1 && there.finished &&
           strcmp(there.stage, writer->header.stage) == 0;
}

int checkpoint_writer_finish(struct checkpoint_writer *writer, struct digest *digest, struct error *err)
{
    struct digest tensors;
    int result = -1;
    if (writer->fd < 0 && file_create(writer, err) != 0) goto done;
    if (tensors_sum(writer, &tensors, err) != 0 || rows_write(writer, &tensors, err) != 0) goto done;
    if (fsync(writer->fd) != 0) {
        error_set_errno(err, "%s: cannot sync", writer->temporary);
        goto done;
    }
    if (would_undo(writer)) {
        error_set(err, "%s: another run has finished this stage meanwhile", writer->path);
        goto done;
    }
    if (file_publish(writer->temporary, writer->path, err) != 0) goto done;
    if (digest) *digest = tensors;
    close(writer->fd);
    writer->fd = -1;
    result = 0;
done:
    checkpoint_writer_destroy(writer);
    return result;
}

int checkpoint_remove_unfinished(const char *dir, size_t *removed, struct error *err)
{
    size_t count = 0;
    int result = 0;
    DIR *stream = opendir(dir);
    if (!stream && errno != ENOENT) return error_set_errno(err, "%s", dir);
    for (struct dirent *entry; stream && (entry = readdir(stream));) {
        size_t size = strlen(entry->d_name);
        if (!strstr(entry->d_name, ".h5.") || strcmp(entry->d_name + size - 4, ".tmp") != 0) continue;
        if (unlinkat(dirfd(stream), entry->d_name, 0) == 0)
            count++;
        else if (errno != ENOENT)
            result = error_set_errno(err, "%s/%s: cannot remove it", dir, entry->d_name);
    }
    if (stream) closedir(stream);
    if (removed) *removed = count;
    return result;
}
