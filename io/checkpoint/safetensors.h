/* Weights in the format of Hugging Face's folders: reader and writer of safetensors.
 *
 * A file is 8 bytes with the header's length, the header (a JSON object: name -> dtype, shape, data_offsets), the
 * values. Large models are cut into several files, named by model.safetensors.index.json.
 *
 * At full size: 16B parameters in bf16, 32 GB in a dozen files: opening reads the headers alone; each rank of a gang
 * reads its slice of a tensor with pread, a block at a time, and converts it to float32.
 *
 * The files are hostile: the header's length, JSON, names, types, shapes and offsets are checked before anything is
 * read; a file whose tensors overlap, leave holes or go past its end is refused, and so is an index that names a file
 * outside of its folder. */
#ifndef TUNELAW_IO_CHECKPOINT_SAFETENSORS_H
#define TUNELAW_IO_CHECKPOINT_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/digest.h"
#include "io/error.h"

#define SAFETENSORS_HEADER_LIMIT ((uint64_t)100 << 20) /* bytes, as in the reference implementation */
#define SAFETENSORS_DIMENSIONS 8
#define SAFETENSORS_FILES 4096

struct safetensors_tensor {
    const char *name;  /* owned by the reader */
    const char *dtype; /* "F32", "F16", "BF16"; others can be listed, not read */
    size_t dimensions;
    uint64_t shape[SAFETENSORS_DIMENSIONS];
    uint64_t rows, columns; /* as a matrix: vectors are [1][n], further dimensions are columns */
    uint64_t offset, bytes; /* in its file */
    size_t file;
};

/* From a folder (model.safetensors, else model.safetensors.index.json) or a single file. NULL with *err, which begins
 * with the path. */
struct safetensors;
struct safetensors *safetensors_open(const char *path, struct error *err);
void safetensors_close(struct safetensors *s);
/* Tensors, sorted by name. */
size_t safetensors_count(const struct safetensors *s);
const struct safetensors_tensor *safetensors_at(const struct safetensors *s, size_t index);
const struct safetensors_tensor *safetensors_find(const struct safetensors *s, const char *name); /* or NULL */

/* out[row_count][column_count] = values [row_first .. ][column_first .. ] of a tensor as a matrix, as float32 (exact
 * for every readable type). Several threads may read at once. */
struct safetensors_tile {
    uint64_t row_first, row_count, column_first, column_count;
};
int safetensors_read(const struct safetensors *s, const struct safetensors_tensor *tensor,
                     const struct safetensors_tile *tile, float *out, struct error *err);

/* Whether two tensors hold the same matrix of readable values, whatever their types. Reads up to the first difference.
 */
int safetensors_same(const struct safetensors *s, const struct safetensors_tensor *a,
                     const struct safetensors_tensor *b, bool *same, struct error *err);

/* Digest of all tensors: names, types, shapes and bytes, sorted by name; how they are cut into files does not matter.
 * Reads everything. */
int safetensors_digest(const struct safetensors *s, struct digest *out, struct error *err);
/* Changes where a file is exchanged or written to: device, inode, size and time of change of every file. Cheap. */
struct digest safetensors_stamp(const struct safetensors *s);

/* Writing one file, float32: declare every tensor, put its values row by row or in tiles, finish. PATH appears whole or
 * not at all. Finish frees the writer, also where it fails; destroy without finish leaves nothing. */
struct safetensors_writer;
struct safetensors_writer *safetensors_writer_create(const char *path, struct error *err);
int safetensors_writer_declare(struct safetensors_writer *writer, const char *name, size_t dimensions,
                               const uint64_t *shape, struct error *err);
/* data[row_count][column_count]; every value of every tensor has to come, once. */
int safetensors_writer_put(struct safetensors_writer *writer, const char *name, const struct safetensors_tile *tile,
                           const float *data, struct error *err);
int safetensors_writer_finish(struct safetensors_writer *writer, struct error *err);
void safetensors_writer_destroy(struct safetensors_writer *writer);

#endif
