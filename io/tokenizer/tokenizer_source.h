/* What `tunelaw data --tokenizer` names: a file, or a folder of Hugging Face, whose other files say what begins and
 * ends a text. */
#ifndef TUNELAW_IO_TOKENIZER_TOKENIZER_SOURCE_H
#define TUNELAW_IO_TOKENIZER_TOKENIZER_SOURCE_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#include "io/tokenizer/tokenizer.h"

struct tokenizer_source {
    void *bytes; /* malloc'ed, the caller's */
    size_t size;
    char path[PATH_MAX]; /* of the file that was read */
    struct tokenizer *tokenizer;
    int32_t begin, end; /* ids; -1: none */
};

/* Names in a folder, the first that is there is its tokenizer; NULL at the end. */
extern const char *const tokenizer_files[];

/* Of a folder the first of tokenizer_files. Of a tokenizer.json the files beside
 * it say more: tokenizer_config.json (bos_token, eos_token, add_bos_token), else config.json (eos_token_id). end_piece:
 * what ends a text, or NULL: as these say, and it is an error where none does. On failure nothing is held. */
int tokenizer_source_open(const char *path, const char *end_piece, struct tokenizer_source *source, struct error *err);
void tokenizer_source_close(struct tokenizer_source *source);

/* A whole file of at most 256 MiB; *bytes is malloc'ed, the caller frees. */
int tokenizer_bytes(const char *path, void **bytes, size_t *size, struct error *err);

#endif
