/* The layout of a dataset file as a table, shared by its writer and its reader. Private to io/dataset*.c. */
#ifndef TUNELAW_IO_DATASET_FORMAT_H
#define TUNELAW_IO_DATASET_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#include "io/dataset.h"

enum part_kind { PART_BYTES, PART_TOKENS, PART_OFFSETS, PART_COUNTS };

enum part {
    PART_TOKENIZER,
    PART_TEXT_TRAIN,
    PART_TEXT_VALID,
    PART_EXAMPLES, /* + 3 * split + 0 tokens, 1 offsets, 2 sources */
    PARTS = PART_EXAMPLES + 3 * SPLITS
};
enum { EXAMPLE_TOKENS = 0, EXAMPLE_OFFSETS, EXAMPLE_SOURCES };

struct part_format {
    const char *path; /* in the HDF5 file */
    enum part_kind kind;
    const char *description; /* attribute of the HDF5 dataset; `units` beside it goes by the kind */
};
extern const struct part_format dataset_parts[PARTS];

static inline enum part part_text(enum dataset_split split)
{
    return (enum part)(PART_TEXT_TRAIN + (int)split);
}

static inline enum part part_example(enum dataset_split split, int which)
{
    return (enum part)(PART_EXAMPLES + 3 * (int)split + which);
}

const char *dataset_units(enum part_kind kind);

/* Bytes of one element of a part. */
size_t dataset_width(enum part_kind kind, size_t vocabulary);

/* HDF5 type (hid_t) of elements of this width as stored, little-endian and unsigned: a library constant, not to be
 * closed. */
int64_t dataset_type(size_t width);

/* The digest of a dataset: of one line a part (path, count, digest of its stored bytes) below the vocabulary and the
 * separator. */
struct digest dataset_digest(const uint64_t counts[PARTS], const struct digest digests[PARTS], size_t vocabulary,
                             int32_t separator);

#endif
