/* The sentencepiece library behind a C interface (sentencepiece.cc); tokenizer.h is what others call, with the same
 * meaning. No C++ exception leaves it. Private to io/tokenizer. */
#ifndef TUNELAW_IO_TOKENIZER_SENTENCEPIECE_H
#define TUNELAW_IO_TOKENIZER_SENTENCEPIECE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/error.h"

struct sentencepiece_model;

struct sentencepiece_model *sentencepiece_create(const void *model, size_t size, struct error *err);
void sentencepiece_destroy(struct sentencepiece_model *model);
size_t sentencepiece_vocabulary(const struct sentencepiece_model *model);
const char *sentencepiece_piece(const struct sentencepiece_model *model, size_t id);
bool sentencepiece_is_control(const struct sentencepiece_model *model, size_t id);
/* -1: there is no such piece. */
int32_t sentencepiece_id(const struct sentencepiece_model *model, const char *piece);
void sentencepiece_marks(const struct sentencepiece_model *model, int32_t *begin, int32_t *end, int32_t *pad);
size_t sentencepiece_sentinels(const struct sentencepiece_model *model, int32_t *first);
int sentencepiece_encode(const struct sentencepiece_model *model, const char *text, size_t size, int32_t **ids,
                         size_t *count, struct error *err);
int sentencepiece_decode(const struct sentencepiece_model *model, const int32_t *ids, size_t count, char **text,
                         struct error *err);

#endif
