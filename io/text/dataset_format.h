/* The layout of a dataset file as a table, shared by its writer and its reader. Private to io/dataset*.c. */
#ifndef TUNELAW_IO_TEXT_DATASET_FORMAT_H
#define TUNELAW_IO_TEXT_DATASET_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#include "io/frozen/frozen.h"
#include "io/text/dataset.h"

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
    const char *description;
};
extern const struct part_format dataset_parts[PARTS];
extern const struct frozen_format dataset_file;

/* The parts as datasets of a frozen file; tokens are as wide as the vocabulary needs. None is sealed: a reader does not
 * read them all when it opens the file, their digest is an attribute. */
void dataset_specs(size_t vocabulary, struct frozen_spec specs[PARTS]);

static inline enum part part_text(enum dataset_split split)
{
    return (enum part)(PART_TEXT_TRAIN + (int)split);
}

static inline enum part part_example(enum dataset_split split, int which)
{
    return (enum part)(PART_EXAMPLES + 3 * (int)split + which);
}

/* Bytes of one element of a part. */
size_t dataset_width(enum part_kind kind, size_t vocabulary);

/* The digest of a dataset: of one line a part (path, count, digest of its stored bytes) below the vocabulary, the
 * separator and, where there are any, the reserved ids and marks of its own. */
struct digest dataset_digest(const uint64_t counts[PARTS], const struct digest digests[PARTS],
                             const struct dataset_info *info);

#endif
