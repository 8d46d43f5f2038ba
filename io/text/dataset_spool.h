/* The parts of a dataset while it is built: each grows in an unnamed file beside the dataset, and is then copied to its
 * place, which has its final size from the beginning. Private to io/text/dataset_build.c. */
#ifndef TUNELAW_IO_TEXT_DATASET_SPOOL_H
#define TUNELAW_IO_TEXT_DATASET_SPOOL_H

#include <stdio.h>

#include "io/text/dataset_format.h"

struct spool {
    const struct part_format *format;
    const char *path; /* of the dataset, the caller's */
    FILE *file;
    size_t width;
    uint64_t count; /* elements so far */
    struct digest_stream *digest;
};

/* A spool whose file is made beside `path`, which is kept, and unlinked at once. */
int spool_open(struct spool *spool, const struct part_format *format, size_t vocabulary, const char *path,
               struct error *err);
void spool_close(struct spool *spool); /* takes a zeroed one */

/* Append elements as they are stored. */
int spool_add(struct spool *spool, const void *elements, size_t count, struct error *err);
/* Append token ids, narrowed to the width of the part. The ids are overwritten. */
int spool_add_tokens(struct spool *spool, int32_t *ids, size_t count, struct error *err);

/* Copy the part into a file, from `offset` on. */
int spool_write(struct spool *spool, int fd, uint64_t offset, struct error *err);

#endif
