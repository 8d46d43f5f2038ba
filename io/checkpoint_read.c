/* Opens a stage's state, verifying every byte that will be used, and reads tiles of its tensors. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/checkpoint_internal.h"
#include "io/file.h"

struct checkpoint {
    char *path;
    int fd;
    struct checkpoint_header header;
    struct digest digest;
    struct store_curve_entry *curve;
    struct checkpoint_tensor *tensors;
    size_t rows[CHECKPOINT_DATASETS]; /* of header, curve, index */
    uint64_t offsets[CHECKPOINT_DATASETS], data_offset, data_values;
};

static int layout_read(struct checkpoint *checkpoint, hid_t file, uint64_t file_size, struct error *err)
{
    hsize_t values[1];
    uint64_t version;
    for (int i = 0; i < CHECKPOINT_DATASETS; i++)
        if (frozen_layout_check(file, checkpoint->path, &checkpoint_layouts[i], file_size, &checkpoint->rows[i],
                                &checkpoint->offsets[i], err) != 0)
            return -1;
    hid_t data = frozen_dataset_open(file, checkpoint->path, "data", H5T_IEEE_F32LE, 1, values, file_size,
                                     &checkpoint->data_offset, err);
    if (data < 0) return -1;
    H5Dclose(data);
    checkpoint->data_values = values[0];
    if (frozen_get_u64(file, checkpoint->path, "version", &version, err) != 0) return -1;
    if (version != CHECKPOINT_VERSION || checkpoint->rows[CHECKPOINT_HEADER] != 1)
        return error_set(err, "%s: not a checkpoint of version %d", checkpoint->path, CHECKPOINT_VERSION);
    return 0;
}

/* malloc'ed rows of a dataset, which lies inside the file. */
static void *rows_read(const struct checkpoint *checkpoint, enum checkpoint_dataset dataset, struct error *err)
{
    size_t size = checkpoint->rows[dataset] * checkpoint_layouts[dataset].size;
    void *rows = malloc(size + 1);
    if (!rows) {
        error_set(err, "%s: out of memory", checkpoint->path);
    } else if (file_read_at(checkpoint->fd, rows, size, checkpoint->offsets[dataset]) != 0) {
        error_set_errno(err, "%s: cannot read", checkpoint->path);
        free(rows);
        rows = NULL;
    }
    return rows;
}

static int header_read(struct checkpoint *checkpoint, struct error *err)
{
    struct checkpoint_header *header = &checkpoint->header;
    unsigned char *slot = rows_read(checkpoint, CHECKPOINT_HEADER, err);
    if (!slot) return -1;
    memcpy(header, slot, sizeof *header);
    header->stage[DIGEST_HEX] = header->parent[DIGEST_HEX] = header->best_digest[DIGEST_HEX] = '\0';
    header->execution_class[sizeof header->execution_class - 1] = '\0';
    memcpy(checkpoint->digest.hex, slot + CHECKPOINT_DIGEST_OFFSET, DIGEST_HEX);
    free(slot);
    return 0;
}

/* Names are sorted text, and every tensor lies inside /data. */
static int index_check(const struct checkpoint *checkpoint, struct error *err)
{
    for (size_t i = 0; i < checkpoint->rows[CHECKPOINT_INDEX]; i++) {
        const struct checkpoint_tensor *tensor = &checkpoint->tensors[i];
        uint64_t values;
        if (strnlen(tensor->name, CHECKPOINT_NAME) == CHECKPOINT_NAME || tensor->rows == 0 || tensor->columns == 0 ||
            (i > 0 && checkpoint_compare_names(tensor - 1, tensor) >= 0) ||
            checkpoint_values(tensor->rows, tensor->columns, &values) != 0 ||
            tensor->offset > checkpoint->data_values || values > checkpoint->data_values - tensor->offset)
            return error_set(err, "%s: damaged: row %zu of its index is not a tensor of this file", checkpoint->path,
                             i);
    }
    return 0;
}

static uint64_t tensor_base(const struct checkpoint *checkpoint, const struct checkpoint_tensor *tensor)
{
    return checkpoint->data_offset + tensor->offset * sizeof(float);
}

static int tensors_verify(const struct checkpoint *checkpoint, struct error *err)
{
    int result = 0;
    void *block = malloc(CHECKPOINT_BLOCK);
    if (!block) return error_set(err, "%s: out of memory", checkpoint->path);
    for (size_t i = 0; i < checkpoint->rows[CHECKPOINT_INDEX] && result == 0; i++) {
        const struct checkpoint_tensor *tensor = &checkpoint->tensors[i];
        uint64_t checksum, bytes = tensor->rows * tensor->columns * sizeof(float);
        if (checkpoint_tensor_sum(checkpoint->fd, tensor_base(checkpoint, tensor), bytes, block, NULL, &checksum) != 0)
            result = error_set_errno(err, "%s: cannot read tensor %s", checkpoint->path, tensor->name);
        else if (checksum != tensor->checksum)
            result = error_set(err, "%s: damaged: the checksum of tensor %s is wrong", checkpoint->path, tensor->name);
    }
    free(block);
    return result;
}

/* What the seal leaves out must be the tensors and nothing else. */
static int range_agrees(const struct checkpoint *checkpoint, const struct seal_range *range, struct error *err)
{
    uint64_t size = checkpoint->data_values * sizeof(float);
    if (range->size == size && (size == 0 || range->offset == checkpoint->data_offset)) return 0;
    return error_set(err, "%s: damaged: its seal does not match its datasets", checkpoint->path);
}

/* Seal, layout and header: everything but the tensors. */
static int checkpoint_load(struct checkpoint *checkpoint, struct error *err)
{
    struct seal_range range;
    struct stat status;
    if (fstat(checkpoint->fd, &status) != 0) return error_set_errno(err, "%s", checkpoint->path);
    if (seal_check(checkpoint->fd, checkpoint->path, CHECKPOINT_KIND, CHECKPOINT_VERSION, CHECKPOINT_SEALED_LIMIT,
                   &range, 1, err) != 0)
        return -1;
    hid_t file = frozen_open_fd(checkpoint->fd, checkpoint->path, err);
    if (file < 0) return -1;
    int result = layout_read(checkpoint, file, (uint64_t)status.st_size, err);
    H5Fclose(file);
    if (result == 0) result = range_agrees(checkpoint, &range, err);
    return result == 0 ? header_read(checkpoint, err) : -1;
}

/* NULL with *err; errno is ENOENT where there is no file. */
static struct checkpoint *checkpoint_begin(const char *path, struct error *err)
{
    struct checkpoint *checkpoint = calloc(1, sizeof *checkpoint);
    if (checkpoint) {
        checkpoint->fd = -1;
        checkpoint->path = strdup(path);
    }
    if (!checkpoint || !checkpoint->path) {
        checkpoint_close(checkpoint);
        error_set(err, "%s: out of memory", path);
        errno = ENOMEM;
        return NULL;
    }
    checkpoint->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (checkpoint->fd >= 0) return checkpoint;
    error_set_errno(err, "%s", path);
    checkpoint_close(checkpoint);
    return NULL;
}

struct checkpoint *checkpoint_open(const char *path, struct error *err)
{
    struct checkpoint *checkpoint = checkpoint_begin(path, err);
    if (!checkpoint) return NULL;
    if (checkpoint_load(checkpoint, err) != 0) goto failed;
    checkpoint->curve = rows_read(checkpoint, CHECKPOINT_CURVE, err);
    checkpoint->tensors = rows_read(checkpoint, CHECKPOINT_INDEX, err);
    if (!checkpoint->curve || !checkpoint->tensors) goto failed;
    if (index_check(checkpoint, err) != 0 || tensors_verify(checkpoint, err) != 0) goto failed;
    return checkpoint;
failed:
    checkpoint_close(checkpoint);
    return NULL;
}

void checkpoint_close(struct checkpoint *checkpoint)
{
    if (!checkpoint) return;
    int saved = errno;
    if (checkpoint->fd >= 0) close(checkpoint->fd);
    free(checkpoint->curve);
    free(checkpoint->tensors);
    free(checkpoint->path);
    free(checkpoint);
    errno = saved;
}

int checkpoint_peek(const char *path, struct checkpoint_header *header, struct error *err)
{
    struct checkpoint *checkpoint = checkpoint_begin(path, err);
    if (!checkpoint) return errno == ENOENT ? 0 : -1;
    int result = checkpoint_load(checkpoint, err) == 0 ? 1 : -1;
    if (result == 1) *header = checkpoint->header;
    checkpoint_close(checkpoint);
    return result;
}

const struct checkpoint_header *checkpoint_header(const struct checkpoint *checkpoint)
{
    return &checkpoint->header;
}

size_t checkpoint_curve(const struct checkpoint *checkpoint, const struct store_curve_entry **curve)
{
    *curve = checkpoint->curve;
    return checkpoint->rows[CHECKPOINT_CURVE];
}

struct digest checkpoint_digest(const struct checkpoint *checkpoint)
{
    return checkpoint->digest;
}

static const struct checkpoint_tensor *tensor_find(const struct checkpoint *checkpoint, const char *name)
{
    return checkpoint_find(checkpoint->tensors, checkpoint->rows[CHECKPOINT_INDEX], name);
}

bool checkpoint_has(const struct checkpoint *checkpoint, const char *name)
{
    return tensor_find(checkpoint, name) != NULL;
}

int checkpoint_get(const struct checkpoint *checkpoint, const struct checkpoint_tile *tile, float *data,
                   struct error *err)
{
    const struct checkpoint_tensor *tensor = tensor_find(checkpoint, tile->name);
    if (checkpoint_tile_check(tensor, tile, checkpoint->path, err) != 0) return -1;
    if (checkpoint_tile_move(checkpoint->fd, tensor_base(checkpoint, tensor), tile, data, file_read_at) != 0)
        return error_set_errno(err, "%s: cannot read tensor %s", checkpoint->path, tile->name);
    return 0;
}
