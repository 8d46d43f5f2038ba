/* The layout of a checkpoint file, and tiles of tensors in it: shared by the writer and the reader. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "io/checkpoint/checkpoint_internal.h"
#include "io/file.h"
#include "io/store/store_internal.h"

static const struct frozen_field header_fields[] = {
    FIELD(checkpoint_header, stage, FIELD_TEXT, "hexadecimal digest of the stage"),
    FIELD(checkpoint_header, parent, FIELD_TEXT, "hexadecimal digest of the state that it started from"),
    FIELD(checkpoint_header, execution_class, FIELD_TEXT, "name"),
    FIELD(checkpoint_header, step, FIELD_U64, "optimiser steps"),
    FIELD(checkpoint_header, tokens, FIELD_U64, "tokens"),
    FIELD(checkpoint_header, target_tokens, FIELD_U64, "tokens"),
    FIELD(checkpoint_header, train_loss_sum, FIELD_F64, "nats since the last evaluation"),
    FIELD(checkpoint_header, train_loss_tokens, FIELD_U64, "tokens since the last evaluation"),
    FIELD(checkpoint_header, gradient_norm, FIELD_F64, "nats/token per unit of weight"),
    FIELD(checkpoint_header, best_loss, FIELD_F64, "nats/token; infinite before the first evaluation"),
    FIELD(checkpoint_header, best_step, FIELD_U64, "optimiser step"),
    FIELD(checkpoint_header, best_digest, FIELD_TEXT, "hexadecimal digest of the best weights' file"),
    FIELD(checkpoint_header, evaluations_without_gain, FIELD_U64, "evaluations"),
    FIELD(checkpoint_header, seconds, FIELD_F64, "seconds spent, all attempts"),
    FIELD(checkpoint_header, finished, FIELD_U32, "1: the stage's end state, 2: it ends diverged"),
    {"tensors_digest", FIELD_TEXT, CHECKPOINT_DIGEST_OFFSET, DIGEST_HEX, "hexadecimal digest of all tensors", NULL},
};

static const struct frozen_field index_fields[] = {
    FIELD(checkpoint_tensor, name, FIELD_TEXT, "name"),
    FIELD(checkpoint_tensor, rows, FIELD_U64, "rows"),
    FIELD(checkpoint_tensor, columns, FIELD_U64, "columns"),
    FIELD(checkpoint_tensor, offset, FIELD_U64, "values from the beginning of /data"),
    FIELD(checkpoint_tensor, checksum, FIELD_U64, "XXH3-64 of the tensor's bytes"),
};

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static const struct frozen_layout header_layout = {CHECKPOINT_HEADER_SLOT, sizeof(struct checkpoint_header),
                                                   header_fields, COUNT(header_fields)};
static const struct frozen_layout curve_layout = {sizeof(struct store_curve_entry), sizeof(struct store_curve_entry),
                                                  store_curve_entry_fields, STORE_CURVE_ENTRY_FIELDS};
static const struct frozen_layout index_layout = {sizeof(struct checkpoint_tensor), sizeof(struct checkpoint_tensor),
                                                  index_fields, COUNT(index_fields)};

const struct frozen_spec checkpoint_specs[CHECKPOINT_DATASETS] = {
    [CHECKPOINT_HEADER] = {"header", "where the training stands", NULL, FROZEN_RECORD, &header_layout, true},
    [CHECKPOINT_CURVE] = {"curve", "evaluations so far", NULL, FROZEN_RECORD, &curve_layout, true},
    [CHECKPOINT_INDEX] = {"index", "tensors, sorted by name: where each lies in /data", NULL, FROZEN_RECORD,
                          &index_layout, true},
    [CHECKPOINT_DATA] = {"data", "values of all tensors, row by row; see /index", "1", FROZEN_F32, NULL, false},
};

/* sealed: all but the tensors */
const struct frozen_format checkpoint_format = {"tunelaw checkpoint", CHECKPOINT_VERSION, (uint64_t)1 << 30};

_Static_assert(sizeof(struct checkpoint_header) == 248,
               "a member of /header needs an entry in header_fields and a new version");
_Static_assert(sizeof(struct checkpoint_tensor) == CHECKPOINT_NAME + 32, "likewise /index");

int checkpoint_values(uint64_t rows, uint64_t columns, uint64_t *values)
{
    uint64_t bytes;
    if (__builtin_mul_overflow(rows, columns, values) || __builtin_mul_overflow(*values, sizeof(float), &bytes))
        return -1;
    return bytes > INT64_MAX ? -1 : 0;
}

int checkpoint_compare_names(const void *a, const void *b)
{
    const struct checkpoint_tensor *x = a, *y = b;
    return strncmp(x->name, y->name, CHECKPOINT_NAME);
}

const struct checkpoint_tensor *checkpoint_find(const struct checkpoint_tensor *tensors, size_t count, const char *name)
{
    struct checkpoint_tensor key = {0};
    if (count == 0 || strlen(name) >= CHECKPOINT_NAME) return NULL;
    strcpy(key.name, name);
    return bsearch(&key, tensors, count, sizeof key, checkpoint_compare_names);
}

static bool inside(size_t first, size_t count, uint64_t whole)
{
    return first <= whole && count <= whole - first;
}

int checkpoint_tile_check(const struct checkpoint_tensor *tensor, const struct checkpoint_tile *tile, const char *path,
                          struct error *err)
{
    if (!tensor) return error_set(err, "%s: has no tensor %s", path, tile->name);
    if (tensor->rows != tile->rows || tensor->columns != tile->columns)
        return error_set(err, "%s: tensor %s is %llu x %llu, not %zu x %zu", path, tile->name,
                         (unsigned long long)tensor->rows, (unsigned long long)tensor->columns, tile->rows,
                         tile->columns);
    if (!inside(tile->row_first, tile->row_count, tensor->rows) ||
        !inside(tile->column_first, tile->column_count, tensor->columns))
        return error_set(err, "%s: a tile reaches out of tensor %s", path, tile->name);
    return 0;
}

int checkpoint_tile_move(int fd, uint64_t base, const struct checkpoint_tile *tile, float *data, checkpoint_move move)
{
    uint64_t at = base + ((uint64_t)tile->row_first * tile->columns + tile->column_first) * sizeof(float);
    if (tile->column_count == tile->columns)
        return move(fd, data, tile->row_count * tile->column_count * sizeof(float), at);
    for (size_t row = 0; row < tile->row_count; row++) {
        if (move(fd, data + row * tile->column_count, tile->column_count * sizeof(float), at) != 0) return -1;
        at += (uint64_t)tile->columns * sizeof(float);
    }
    return 0;
}

int checkpoint_tensor_sum(int fd, uint64_t base, uint64_t bytes, void *block, struct digest_stream *stream,
                          uint64_t *checksum)
{
    XXH3_state_t *state = XXH3_createState();
    if (!state) {
        errno = ENOMEM;
        return -1;
    }
    XXH3_64bits_reset(state);
    int result = 0;
    for (uint64_t at = 0; at < bytes && result == 0;) {
        size_t size = bytes - at < CHECKPOINT_BLOCK ? (size_t)(bytes - at) : CHECKPOINT_BLOCK;
        result = file_read_at(fd, block, size, base + at);
        if (result == 0) XXH3_64bits_update(state, block, size);
        if (result == 0 && stream) digest_stream_add(stream, block, size);
        at += size;
    }
    *checksum = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return result;
}
