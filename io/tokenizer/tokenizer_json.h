/* The tokenizers of Hugging Face: a tokenizer.json whose model is BPE, byte-level (GPT-2, Pythia, OLMo, Llama 3, Qwen,
 * SmolLM) or with metaspaces and byte fallback (Llama 2, Mistral). Ids are those of the library tokenizers, without
 * what its post-processor adds. Private to io/tokenizer; tokenizer.h is what others call.
 *
 * At full size: 200,000 pieces, 30 MB of JSON, read once a data set and worker; a text is encoded in n log n. */
#ifndef TUNELAW_IO_TOKENIZER_TOKENIZER_JSON_H
#define TUNELAW_IO_TOKENIZER_TOKENIZER_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/error.h"

struct tokenizer_json;

struct tokenizer_json *tokenizer_json_create(const void *text, size_t size, struct error *err);
void tokenizer_json_destroy(struct tokenizer_json *tokenizer);
size_t tokenizer_json_vocabulary(const struct tokenizer_json *tokenizer);
/* NULL: no piece has this id. */
const char *tokenizer_json_piece(const struct tokenizer_json *tokenizer, size_t id);
bool tokenizer_json_is_special(const struct tokenizer_json *tokenizer, size_t id);
/* What the post-processor puts before a text; -1: nothing. */
int32_t tokenizer_json_begin(const struct tokenizer_json *tokenizer);
/* The id of a piece as it is written in the file, or of the byte-level one whose text this is; -1: there is none. */
int32_t tokenizer_json_id(const struct tokenizer_json *tokenizer, const char *piece);
int32_t tokenizer_json_id_of_text(const struct tokenizer_json *tokenizer, const char *text);
/* As tokenizer_encode and tokenizer_decode. */
int tokenizer_json_encode(const struct tokenizer_json *tokenizer, const char *text, size_t size, int32_t **ids,
                          size_t *count, struct error *err);
int tokenizer_json_decode(const struct tokenizer_json *tokenizer, const int32_t *ids, size_t count, char **text,
                          struct error *err);

#endif
