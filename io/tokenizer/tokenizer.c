/* Which of the two a tokenizer is, its beginning says. */
#include "io/tokenizer/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/tokenizer/sentencepiece.h"
#include "io/tokenizer/tokenizer_json.h"

struct tokenizer {
    struct sentencepiece_model *model; /* this */
    struct tokenizer_json *json;       /* or this */
};

static bool is_space(char letter)
{
    return letter == ' ' || letter == '\t' || letter == '\r' || letter == '\n';
}

bool tokenizer_is_json(const void *model, size_t model_size)
{
    const char *text = model, *end = text + model_size;
    while (text < end && is_space(*text))
        text++;
    if (text == end || *text++ != '{') return false;
    while (text < end && is_space(*text))
        text++;
    return text < end && *text == '"'; /* a serialised sentencepiece model begins with 0x0a, too, but not so */
}

struct tokenizer *tokenizer_create(const void *model, size_t model_size, struct error *err)
{
    struct tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    if (!tokenizer) {
        error_set(err, "out of memory");
        return NULL;
    }
    if (tokenizer_is_json(model, model_size))
        tokenizer->json = tokenizer_json_create(model, model_size, err);
    else
        tokenizer->model = sentencepiece_create(model, model_size, err);
    if (tokenizer->json || tokenizer->model) return tokenizer;
    free(tokenizer);
    return NULL;
}

void tokenizer_destroy(struct tokenizer *tokenizer)
{
    if (!tokenizer) return;
    sentencepiece_destroy(tokenizer->model);
    tokenizer_json_destroy(tokenizer->json);
    free(tokenizer);
}

size_t tokenizer_vocabulary(const struct tokenizer *tokenizer)
{
    return tokenizer->json ? tokenizer_json_vocabulary(tokenizer->json) : sentencepiece_vocabulary(tokenizer->model);
}

const char *tokenizer_piece(const struct tokenizer *tokenizer, size_t id)
{
    return tokenizer->json ? tokenizer_json_piece(tokenizer->json, id) : sentencepiece_piece(tokenizer->model, id);
}

void tokenizer_marks(const struct tokenizer *tokenizer, int32_t *begin, int32_t *end, int32_t *pad)
{
    *begin = *end = *pad = -1;
    if (tokenizer->json)
        *begin = tokenizer_json_begin(tokenizer->json);
    else
        sentencepiece_marks(tokenizer->model, begin, end, pad);
}

bool tokenizer_is_special(const struct tokenizer *tokenizer, size_t id)
{
    return tokenizer->json ? tokenizer_json_is_special(tokenizer->json, id)
                           : sentencepiece_is_control(tokenizer->model, id);
}

int32_t tokenizer_id(const struct tokenizer *tokenizer, const char *piece)
{
    return tokenizer->json ? tokenizer_json_id(tokenizer->json, piece) : sentencepiece_id(tokenizer->model, piece);
}

int32_t tokenizer_separator(const struct tokenizer *tokenizer)
{
    return tokenizer_id(tokenizer, TOKENIZER_SEPARATOR);
}

int32_t tokenizer_id_of_text(const struct tokenizer *tokenizer, const char *text)
{
    int32_t id = tokenizer->json ? tokenizer_json_id_of_text(tokenizer->json, text) : -1;
    char byte[8];
    if (id < 0) id = tokenizer_id(tokenizer, text);
    if (id >= 0 || strlen(text) != 1) return id;
    snprintf(byte, sizeof byte, "<0x%02X>", (unsigned char)*text);
    return tokenizer_id(tokenizer, byte);
}

size_t tokenizer_sentinels(const struct tokenizer *tokenizer, int32_t *first)
{
    *first = 0;
    return tokenizer->json ? 0 : sentencepiece_sentinels(tokenizer->model, first);
}

int tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t size, int32_t **ids, size_t *count,
                     struct error *err)
{
    return tokenizer->json ? tokenizer_json_encode(tokenizer->json, text, size, ids, count, err)
                           : sentencepiece_encode(tokenizer->model, text, size, ids, count, err);
}

int tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t count, char **text,
                     struct error *err)
{
    return tokenizer->json ? tokenizer_json_decode(tokenizer->json, ids, count, text, err)
                           : sentencepiece_decode(tokenizer->model, ids, count, text, err);
}
