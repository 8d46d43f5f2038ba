/* Subword tokenizers behind one interface: sentencepiece models (sentencepiece.h), those that are trained here among
 * them, and the tokenizer.json of Hugging Face's folders (tokenizer_json.h). Encoding and decoding may be called from
 * several threads. */
#ifndef TUNELAW_IO_TOKENIZER_TOKENIZER_H
#define TUNELAW_IO_TOKENIZER_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/error.h"

/* Ids of sentencepiece models: these, then pieces. */
enum { TOKEN_UNKNOWN = 0, TOKEN_BEGIN = 1, TOKEN_END = 2, TOKEN_PAD = 3 };

/* The piece that stands between source and target; a control symbol, so that no text ever encodes to it. Id 4 in the
 * models that tokenizer_train makes. */
#define TOKENIZER_SEPARATOR "<sep>"

struct tokenizer;

/* Train a BPE model with byte fallback on text files (one sentence a line, UTF-8, checked as io/text/text.h does); the
 * model's bytes go to *model (malloc, caller frees). Deterministic: one thread, and of more than TOKENIZER_TRAIN_BYTES
 * of text an even sample by line number. */
#define TOKENIZER_TRAIN_BYTES ((size_t)64 << 20)
struct text_fields;
struct tokenizer_texts {
    const char *const *paths;         /* [count] */
    size_t count, documents;          /* the first so many are of documents, the others of pairs */
    const struct text_fields *fields; /* of JSON lines, or NULL */
};
/* sentinels: reserve the control symbols <R>, <S>, <X>, <extra_id_0>, ... (so many); 0: none of them. */
int tokenizer_train(const struct tokenizer_texts *texts, size_t vocabulary, size_t sentinels, void **model,
                    size_t *model_size, struct error *err);

/* From a serialised sentencepiece model, or the text of a tokenizer.json; the bytes are copied. Models whose ids of
 * unknown, begin and end differ are refused, and parts of a tokenizer.json that are not supported. */
struct tokenizer *tokenizer_create(const void *model, size_t model_size, struct error *err);
void tokenizer_destroy(struct tokenizer *tokenizer);
/* Whether such bytes are a tokenizer.json. */
bool tokenizer_is_json(const void *model, size_t model_size);
size_t tokenizer_vocabulary(const struct tokenizer *tokenizer);
/* The piece of an id below that, valid as long as the tokenizer; NULL: there is none. */
const char *tokenizer_piece(const struct tokenizer *tokenizer, size_t id);
/* A control symbol, or a special token: no part of a text. */
bool tokenizer_is_special(const struct tokenizer *tokenizer, size_t id);
/* Ids of what begins a text, ends it, and fills up; -1: there is none, or (the last two of a tokenizer.json) other
 * files say it. */
void tokenizer_marks(const struct tokenizer *tokenizer, int32_t *begin, int32_t *end, int32_t *pad);
/* Id of the piece TOKENIZER_SEPARATOR, -1 where the model has none. */
int32_t tokenizer_separator(const struct tokenizer *tokenizer);
/* Id of the piece that is written so; of the one piece whose text this is. -1: there is none. */
int32_t tokenizer_id(const struct tokenizer *tokenizer, const char *piece);
int32_t tokenizer_id_of_text(const struct tokenizer *tokenizer, const char *text);

/* How many sentinels <extra_id_0>, ... follow each other and the modes <R>, <S>, <X>; *first: id of <R>. */
size_t tokenizer_sentinels(const struct tokenizer *tokenizer, int32_t *first);

/* Ids of a UTF-8 text, without begin and end; *ids is malloc'ed, the caller frees. A special token of a tokenizer.json
 * that the text spells is that token, as everywhere; a control symbol of a sentencepiece model is text. */
int tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t size, int32_t **ids, size_t *count,
                     struct error *err);
/* Text of ids; *text is malloc'ed and zero-terminated. Control symbols and special tokens leave nothing. Ids outside
 * the vocabulary are an error. */
int tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t count, char **text,
                     struct error *err);

#endif
