/* Opens a stage's state, verifying every byte that will be used, and reads tiles of its tensors. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/checkpoint/checkpoint_internal.h"
#include "io/file.h"

struct checkpoint {
    char *path;
    int fd;
    struct checkpoint_header header;
    struct digest digest;
    struct store_curve_entry *curve;
    struct checkpoint_tensor *tensors;
    struct frozen_part parts[CHECKPOINT_DATASETS];
};

/* malloc'ed rows of a dataset, which lies inside the file. */
static void *rows_read(const struct checkpoint *checkpoint, enum checkpoint_dataset dataset, struct error *err)
{
    const struct frozen_part *part = &checkpoint->parts[dataset];
    size_t size = (size_t)(part->rows * part->row_size);
    void *rows = malloc(size + 1);
    if (!rows) {
        error_set(err, "%s: out of memory", checkpoint->path);
    } else if (file_read_at(checkpoint->fd, rows, size, part->offset) != 0) {
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
    uint64_t room = checkpoint->parts[CHECKPOINT_DATA].rows;
    for (size_t i = 0; i < checkpoint->parts[CHECKPOINT_INDEX].rows; i++) {
        const struct checkpoint_tensor *tensor = &checkpoint->tensors[i];
        uint64_t values;
        if (strnlen(tensor->name, CHECKPOINT_NAME) == CHECKPOINT_NAME || tensor->rows == 0 || tensor->columns == 0 ||
            (i > 0 && checkpoint_compare_names(tensor - 1, tensor) >= 0) ||
            checkpoint_values(tensor->rows, tensor->columns, &values) != 0 || tensor->offset > room ||
            values > room - tensor->offset)
            return error_set(err, "%s: damaged: row %zu of its index is not a tensor of this file", checkpoint->path,
                             i);
    }
    return 0;
}

static uint64_t tensor_base(const struct checkpoint *checkpoint, const struct checkpoint_tensor *tensor)
{
    return checkpoint->parts[CHECKPOINT_DATA].offset + tensor->offset * sizeof(float);
}

static int tensors_verify(const struct checkpoint *checkpoint, struct error *err)
{
    int result = 0;
    void *block = malloc(CHECKPOINT_BLOCK);
    if (!block) return error_set(err, "%s: out of memory", checkpoint->path);
    for (size_t i = 0; i < checkpoint->parts[CHECKPOINT_INDEX].rows && result == 0; i++) {
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

/* Block, seal and header: everything but the tensors. */
static int checkpoint_load(struct checkpoint *checkpoint, struct error *err)
{
    struct frozen_block block;
    if (frozen_open(checkpoint->fd, checkpoint->path, &checkpoint_format, &block, err) != 0) return -1;
    for (int i = 0; i < CHECKPOINT_DATASETS; i++) {
        checkpoint->parts[i].spec = &checkpoint_specs[i];
        if (frozen_locate(&block, checkpoint->path, &checkpoint->parts[i], err) != 0) return -1;
    }
    if (checkpoint->parts[CHECKPOINT_HEADER].rows != 1)
        return error_set(err, "%s: damaged: dataset header has %llu rows where 1 is expected", checkpoint->path,
                         (unsigned long long)checkpoint->parts[CHECKPOINT_HEADER].rows);
    if (frozen_verify(checkpoint->fd, checkpoint->path, &checkpoint_format, &block, err) != 0) return -1;
    return header_read(checkpoint, err);
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

/* errno after a failure that followed `errno = 0`: the file is to blame where no call of the system has failed, or has
 * found less of it than it should hold. */
static void blame(void)
{
    if (errno == 0 || errno == ENODATA) errno = EBADMSG;
}

struct checkpoint *checkpoint_open(const char *path, struct error *err)
{
    struct checkpoint *checkpoint = checkpoint_begin(path, err);
    if (!checkpoint) return NULL;
    errno = 0;
    if (checkpoint_load(checkpoint, err) != 0) goto failed;
    checkpoint->curve = rows_read(checkpoint, CHECKPOINT_CURVE, err);
    checkpoint->tensors = rows_read(checkpoint, CHECKPOINT_INDEX, err);
    if (!checkpoint->curve || !checkpoint->tensors) goto failed;
    if (index_check(checkpoint, err) != 0 || tensors_verify(checkpoint, err) != 0) goto failed;
    return checkpoint;
failed:
    blame();
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
    errno = 0;
    int result = checkpoint_load(checkpoint, err) == 0 ? 1 : -1;
    if (result == 1)
        *header = checkpoint->header;
    else
        blame();
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
    return (size_t)checkpoint->parts[CHECKPOINT_CURVE].rows;
}

struct digest checkpoint_digest(const struct checkpoint *checkpoint)
{
    return checkpoint->digest;
}

static const struct checkpoint_tensor *tensor_find(const struct checkpoint *checkpoint, const char *name)
{
    return checkpoint_find(checkpoint->tensors, checkpoint->parts[CHECKPOINT_INDEX].rows, name);
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
