/* What the checkpoint's writer and reader share: the layout of the file. */
#ifndef TUNELAW_IO_CHECKPOINT_CHECKPOINT_INTERNAL_H
#define TUNELAW_IO_CHECKPOINT_CHECKPOINT_INTERNAL_H

#include "io/checkpoint/checkpoint.h"
#include "io/frozen/frozen.h"

#define CHECKPOINT_NAME 128
#define CHECKPOINT_ALIGNMENT 16 /* values: tensors begin at multiples of 64 bytes */
#define CHECKPOINT_BLOCK ((size_t)1 << 20)

/* A row of /index; rows are sorted by name. */
struct checkpoint_tensor {
    char name[CHECKPOINT_NAME]; /* zero-terminated */
    uint64_t rows, columns;
    uint64_t offset;   /* of value [0][0] in /data, in values */
    uint64_t checksum; /* XXH3-64 of the rows * columns values */
};

enum checkpoint_dataset {
    CHECKPOINT_HEADER,
    CHECKPOINT_CURVE,
    CHECKPOINT_INDEX,
    CHECKPOINT_DATA, /* float32 [values] */
    CHECKPOINT_DATASETS
};
extern const struct frozen_spec checkpoint_specs[CHECKPOINT_DATASETS];
extern const struct frozen_format checkpoint_format;

/* The row of /header: struct checkpoint_header, then the digest of all tensors. */
#define CHECKPOINT_HEADER_SLOT 512
#define CHECKPOINT_DIGEST_OFFSET (CHECKPOINT_HEADER_SLOT - DIGEST_HEX)

/* Values of a tensor, or -1 where they do not fit 64 bits. */
int checkpoint_values(uint64_t rows, uint64_t columns, uint64_t *values);

/* Tensor of this name among sorted ones, or NULL. */
const struct checkpoint_tensor *checkpoint_find(const struct checkpoint_tensor *tensors, size_t count,
                                                const char *name);
int checkpoint_compare_names(const void *a, const void *b); /* of struct checkpoint_tensor */

/* The tile lies in the tensor: 0, else -1 with *err. */
int checkpoint_tile_check(const struct checkpoint_tensor *tensor, const struct checkpoint_tile *tile, const char *path,
                          struct error *err);

/* Move a tile between data[row_count][column_count] and a tensor whose value [0][0] lies at byte `base` of the file;
 * `move` is file_read_at or file_write_at. */
typedef int (*checkpoint_move)(int fd, void *bytes, size_t size, uint64_t offset);
int checkpoint_tile_move(int fd, uint64_t base, const struct checkpoint_tile *tile, float *data, checkpoint_move move);

/* One pass over a tensor's bytes in the file: its checksum, and, where stream is not NULL, added to the stream. */
struct digest_stream;
int checkpoint_tensor_sum(int fd, uint64_t base, uint64_t bytes, void *block, struct digest_stream *stream,
                          uint64_t *checksum);

#endif
