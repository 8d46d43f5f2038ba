/* The state of one stage in one HDF5 file: global (unsharded) tensors, so that any tensor-parallel degree can load it.
 *
 * At full size a full-tuning state of a 16B model is about 200 GB: a writer adds tensors one by one, each rank's tile
 * is written where it belongs in the global tensor, nothing is gathered. Written to PATH.RANDOM.tmp, synced, renamed.
 * Every tensor has a checksum, verified when the file is opened.
 *
 *   /header   compound [1]: struct checkpoint_header, and the digest of all tensors
 *   /curve    compound [n]: struct store_curve_entry
 *   /index    compound [tensors], sorted by name: name, rows, columns, offset into /data in values, checksum
 *   /data     float32 [values]: the tensors, each row by row
 * One dataset for all tensors, since a small file would otherwise be mostly HDF5 metadata; docs/store-format.md has the
 * bytes. HDF5 is not thread safe: checkpoints are written by one thread at a time; reading does not use HDF5.
 *
 * Trainable weights and optimiser moments are tensors named "value/NAME", "moment1/NAME", "moment2/NAME";
 * Adafactor's, one number a row or a column, "row_moment/NAME" and "column_moment/NAME". */
#ifndef TUNELAW_IO_CHECKPOINT_CHECKPOINT_H
#define TUNELAW_IO_CHECKPOINT_CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/digest.h"
#include "io/error.h"
#include "io/store/store.h"

#define CHECKPOINT_VERSION 2

/* Whether a state is its stage's end; a stage whose training diverged ends with a state without tensors. */
enum checkpoint_end { CHECKPOINT_ON_THE_WAY, CHECKPOINT_FINISHED, CHECKPOINT_DIVERGED };

struct checkpoint_header {
    char stage[DIGEST_HEX + 1];  /* identity of the stage */
    char parent[DIGEST_HEX + 1]; /* identity of the state that it started from, "" for none */
    char execution_class[STORE_NAME];
    uint64_t step; /* steps done, of the stage's own trunk: absolute */
    uint64_t tokens, target_tokens;
    double train_loss_sum; /* nats since the last evaluation */
    uint64_t train_loss_tokens;
    double gradient_norm;
    double best_loss; /* validation, +inf before the first evaluation */
    uint64_t best_step;
    char best_digest[DIGEST_HEX + 1]; /* of the file that holds the best weights */
    uint64_t evaluations_without_gain;
    double seconds;    /* spent so far, all attempts */
    uint32_t finished; /* enum checkpoint_end */
};

/* A rectangle of a global tensor [rows][columns] that one rank holds as a dense array [row_count][column_count]. */
struct checkpoint_tile {
    const char *name;
    size_t rows, columns; /* global */
    size_t row_first, row_count, column_first, column_count;
};

/* Writing: create, declare every tensor, put every tile (any thread, one at a time), finish. Destroy without finish
 * leaves nothing. curve[count] is copied. On finish *digest (if not NULL) is the digest of all tensors by name: equal
 * tensors, equal digest, whatever the degree that wrote them. Finish frees the writer, also where it fails (nothing is
 * left then, and a file that was at PATH before stays). A name has at most 127 bytes; declaring after the first tile,
 * or leaving out a tile, is an error. */
struct checkpoint_writer;
struct checkpoint_writer *checkpoint_writer_create(const char *path, const struct checkpoint_header *header,
                                                   const struct store_curve_entry *curve, size_t count,
                                                   struct error *err);
int checkpoint_writer_declare(struct checkpoint_writer *writer, const char *name, size_t rows, size_t columns,
                              struct error *err);
int checkpoint_writer_put(struct checkpoint_writer *writer, const struct checkpoint_tile *tile, const float *data,
                          struct error *err);
int checkpoint_writer_finish(struct checkpoint_writer *writer, struct digest *digest, struct error *err);
/* finish: -1 also where an end state of the same stage has been published meanwhile and this one is none. */
void checkpoint_writer_destroy(struct checkpoint_writer *writer); /* frees and removes the unfinished file */

/* Remove what killed writers left in a directory (files named *.h5.*.tmp), while no writer of this run is alive: 0,
 * *removed files (may be NULL). A directory that does not exist has none. */
int checkpoint_remove_unfinished(const char *dir, size_t *removed, struct error *err);

/* Reading. Open checks the header, the version and every checksum: a file that opens is whole. Where it fails errno
 * says whether the file is to blame: EBADMSG, it is no whole checkpoint of this version; ENOENT, there is none;
 * anything else (EMFILE, EACCES, ENOMEM, EIO...), it could not be looked at and may be good. The same holds for peek.
 */
struct checkpoint;
struct checkpoint *checkpoint_open(const char *path, struct error *err);
void checkpoint_close(struct checkpoint *checkpoint);
const struct checkpoint_header *checkpoint_header(const struct checkpoint *checkpoint);
size_t checkpoint_curve(const struct checkpoint *checkpoint,
                        const struct store_curve_entry **curve);      /* owned by the checkpoint */
struct digest checkpoint_digest(const struct checkpoint *checkpoint); /* as the writer gave it */
bool checkpoint_has(const struct checkpoint *checkpoint, const char *name);
int checkpoint_get(const struct checkpoint *checkpoint, const struct checkpoint_tile *tile, float *data,
                   struct error *err);

/* The header alone, without reading tensors: 1 read, 0 no such file, -1 unreadable (damaged, other version), *err set.
 */
int checkpoint_peek(const char *path, struct checkpoint_header *header, struct error *err);

#endif
