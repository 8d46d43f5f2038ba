/* A dataset while it is built. Private to io/text/dataset_*.c. */
#ifndef TUNELAW_IO_TEXT_DATASET_BUILD_H
#define TUNELAW_IO_TEXT_DATASET_BUILD_H

#include <limits.h>

#include "io/text/dataset_spool.h"
#include "io/tokenizer/tokenizer_source.h"

struct build {
    const char *path;
    char temporary[PATH_MAX];
    const struct dataset_sources *sources;
    struct tokenizer_source source;
    size_t vocabulary;
    int32_t separator, reserved;
    size_t sentinels;
    size_t endless; /* examples whose target has no end token */
    struct spool spools[PARTS];
};

/* All sources into the spools, by all cores that there are (OMP_NUM_THREADS); the bytes do not depend on how many.
 * repeated[SPLITS]: as in struct dataset_info. */
int dataset_tokenise(struct build *build, size_t repeated[SPLITS], struct error *err);

#endif
