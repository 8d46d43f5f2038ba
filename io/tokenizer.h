/* Subword tokenizer: sentencepiece behind a C interface (sentencepiece.cc). Ids: 0 unknown, 1 begin, 2 end, 3 pad, then pieces. */
#ifndef TUNELAW_IO_TOKENIZER_H
#define TUNELAW_IO_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "io/error.h"

enum { TOKEN_UNKNOWN = 0, TOKEN_BEGIN = 1, TOKEN_END = 2, TOKEN_PAD = 3 };

struct tokenizer;

/* Train a BPE model with byte fallback on text files (one sentence a line, UTF-8); the model's bytes go to *model (malloc, caller frees). Deterministic: one thread, no sampling. */
int tokenizer_train(const char *const *paths, size_t path_count, size_t vocabulary, void **model, size_t *model_size,
                    struct error *err);

/* From a serialised sentencepiece model; the bytes are copied. */
struct tokenizer *tokenizer_create(const void *model, size_t model_size, struct error *err);
void tokenizer_destroy(struct tokenizer *tokenizer);
size_t tokenizer_vocabulary(const struct tokenizer *tokenizer);

/* Ids of a UTF-8 text, without begin and end; *ids is malloc'ed, the caller frees. */
int tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t size, int32_t **ids, size_t *count,
                     struct error *err);
/* Text of ids; *text is malloc'ed and zero-terminated. */
int tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t count, char **text, struct error *err);

#endif
