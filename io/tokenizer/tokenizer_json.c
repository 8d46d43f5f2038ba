/* Added tokens, normal form, words, merges; and back. */
#include "io/tokenizer/tokenizer_json.h"

#include <stdlib.h>
#include <string.h>

#include "io/text/text.h"
#include "io/tokenizer/added.h"
#include "io/tokenizer/bpe.h"
#include "io/tokenizer/steps.h"

struct tokenizer_json {
    struct bpe *bpe;
    struct added added;
    struct steps normalizer, pre_tokenizer, decoder;
    const struct added_token **tokens; /* [vocabulary]: those that are added */
    size_t vocabulary;
    int32_t begin;
};

/* The first special token of a template before the text itself. */
static int32_t begin_of(const struct tokenizer_json *tokenizer, const json_t *processor)
{
    const char *type = json_string_value(json_object_get(processor, "type"));
    const json_t *list = json_object_get(processor, "processors");
    if (type && !strcmp(type, "Sequence")) {
        int32_t begin = -1;
        for (size_t i = 0; begin < 0 && i < json_array_size(list) && i < 8; i++) {
            const json_t *one = json_array_get(list, i);
            if (!json_object_get(one, "processors")) begin = begin_of(tokenizer, one);
        }
        return begin;
    }
    const json_t *first = json_array_get(json_object_get(processor, "single"), 0);
    const char *piece = json_string_value(json_object_get(json_object_get(first, "SpecialToken"), "id"));
    return type && !strcmp(type, "TemplateProcessing") && piece ? tokenizer_json_id(tokenizer, piece) : -1;
}

static int index_added(struct tokenizer_json *tokenizer, struct error *err)
{
    const struct added *added = &tokenizer->added;
    tokenizer->vocabulary = bpe_size(tokenizer->bpe);
    for (size_t i = 0; i < added->count; i++)
        if ((size_t)added->list[i].id >= tokenizer->vocabulary) tokenizer->vocabulary = (size_t)added->list[i].id + 1;
    tokenizer->tokens = calloc(tokenizer->vocabulary, sizeof *tokenizer->tokens);
    if (!tokenizer->tokens) return error_set(err, "out of memory");
    for (size_t i = 0; i < added->count; i++)
        tokenizer->tokens[added->list[i].id] = &added->list[i];
    return 0;
}

static int read_all(struct tokenizer_json *tokenizer, const json_t *root, struct error *err)
{
    tokenizer->bpe = bpe_create(json_object_get(root, "model"), err);
    if (!tokenizer->bpe ||
        steps_read(json_object_get(root, "normalizer"), STEPS_NORMALIZER, &tokenizer->normalizer, err) ||
        steps_read(json_object_get(root, "pre_tokenizer"), STEPS_PRE_TOKENIZER, &tokenizer->pre_tokenizer, err) ||
        steps_read(json_object_get(root, "decoder"), STEPS_DECODER, &tokenizer->decoder, err) ||
        added_read(json_object_get(root, "added_tokens"), &tokenizer->normalizer, tokenizer->bpe, &tokenizer->added,
                   err) ||
        index_added(tokenizer, err))
        return -1;
    tokenizer->begin = begin_of(tokenizer, json_object_get(root, "post_processor"));
    return 0;
}

struct tokenizer_json *tokenizer_json_create(const void *text, size_t size, struct error *err)
{
    json_error_t fault;
    struct tokenizer_json *tokenizer = calloc(1, sizeof *tokenizer);
    json_t *root = json_loadb(text, size, 0, &fault);
    int result = !tokenizer ? error_set(err, "out of memory")
                 : !root    ? error_set(err, "line %d: %s", fault.line, fault.text)
                            : read_all(tokenizer, root, err);
    json_decref(root);
    if (result == 0) return tokenizer;
    error_one_line(err); /* it may quote pieces and patterns */
    tokenizer_json_destroy(tokenizer);
    return NULL;
}

void tokenizer_json_destroy(struct tokenizer_json *tokenizer)
{
    if (!tokenizer) return;
    bpe_destroy(tokenizer->bpe);
    added_free(&tokenizer->added);
    steps_free(&tokenizer->normalizer);
    steps_free(&tokenizer->pre_tokenizer);
    steps_free(&tokenizer->decoder);
    free(tokenizer->tokens);
    free(tokenizer);
}

size_t tokenizer_json_vocabulary(const struct tokenizer_json *tokenizer)
{
    return tokenizer->vocabulary;
}

const char *tokenizer_json_piece(const struct tokenizer_json *tokenizer, size_t id)
{
    const struct added_token *added = id < tokenizer->vocabulary ? tokenizer->tokens[id] : NULL;
    return added ? added->text : bpe_piece(tokenizer->bpe, id);
}

bool tokenizer_json_is_special(const struct tokenizer_json *tokenizer, size_t id)
{
    return id < tokenizer->vocabulary && tokenizer->tokens[id] && tokenizer->tokens[id]->special;
}

int32_t tokenizer_json_begin(const struct tokenizer_json *tokenizer)
{
    return tokenizer->begin;
}

int32_t tokenizer_json_id(const struct tokenizer_json *tokenizer, const char *piece)
{
    const struct added *added = &tokenizer->added;
    for (size_t i = 0; i < added->count; i++)
        if (!strcmp(added->list[i].text, piece)) return added->list[i].id;
    return bpe_id(tokenizer->bpe, piece, strlen(piece));
}

int32_t tokenizer_json_id_of_text(const struct tokenizer_json *tokenizer, const char *text)
{
    const struct steps *decoder = &tokenizer->decoder;
    struct bytes piece = {0};
    struct error ignored;
    bool byte_level = false;
    for (size_t i = 0; i < decoder->count; i++)
        byte_level = byte_level || decoder->list[i].kind == STEP_BYTE_LEVEL;
    for (const char *at = text; *at && byte_level; at++)
        if (byte_character((unsigned char)*at, &piece, &ignored)) byte_level = false;
    int32_t id = byte_level && piece.size ? bpe_id(tokenizer->bpe, piece.text, piece.size) : -1;
    bytes_free(&piece);
    return id;
}

/* What encoding works with. */
struct encoding {
    const struct tokenizer_json *tokenizer;
    struct bpe_scratch scratch;
    struct bytes text;
    struct spans words;
    struct ids ids;
};

/* A part without added tokens, in normal form. */
static int encode_words(struct encoding *work, const char *text, size_t size, bool first, struct error *err)
{
    const struct tokenizer_json *tokenizer = work->tokenizer;
    work->text.size = 0;
    if (size == 0) return 0;
    if (bytes_add(&work->text, text, size, err) ||
        steps_split(&tokenizer->pre_tokenizer, first, &work->text, &work->words, err))
        return -1;
    for (size_t i = 0; i < work->words.count; i++) {
        struct span word = work->words.list[i];
        if (bpe_encode(tokenizer->bpe, work->text.text + word.first, word.end - word.first, &work->scratch, &work->ids,
                       err))
            return -1;
    }
    return 0;
}

/* A part without tokens that are looked for in the text as it is. */
static int encode_normal(struct encoding *work, const char *text, size_t size, bool first, struct error *err)
{
    const struct tokenizer_json *tokenizer = work->tokenizer;
    const struct added_token *token;
    struct bytes form = {0};
    struct span place;
    size_t done = 0;
    int result = size ? bytes_add(&form, text, size, err) : 0;
    if (result == 0 && size) result = steps_normalize(&tokenizer->normalizer, &form, err);
    while (result == 0 && (token = added_find(&tokenizer->added, true, form.text, form.size, done, &place))) {
        result = encode_words(work, form.text + done, place.first - done, first && done == 0, err);
        if (result == 0) result = ids_add(&work->ids, token->id, err);
        done = place.end;
    }
    if (result == 0 && form.size > done)
        result = encode_words(work, form.text + done, form.size - done, first && done == 0, err);
    bytes_free(&form);
    return result;
}

static int encode(struct encoding *work, const char *text, size_t size, struct error *err)
{
    const struct added_token *token;
    struct span place;
    size_t done = 0;
    while ((token = added_find(&work->tokenizer->added, false, text, size, done, &place))) {
        if (encode_normal(work, text + done, place.first - done, done == 0, err) || ids_add(&work->ids, token->id, err))
            return -1;
        done = place.end;
    }
    return encode_normal(work, text + done, size - done, done == 0, err);
}

int tokenizer_json_encode(const struct tokenizer_json *tokenizer, const char *text, size_t size, int32_t **ids,
                          size_t *count, struct error *err)
{
    struct encoding work = {.tokenizer = tokenizer};
    int result = text_is_utf8(text, size) ? encode(&work, text, size, err) : error_set(err, "tokenizer: not UTF-8");
    bpe_scratch_free(&work.scratch);
    bytes_free(&work.text);
    spans_free(&work.words);
    *ids = work.ids.list;
    *count = work.ids.count;
    if (result == 0 && !*ids) *ids = malloc(sizeof **ids);
    if (result == 0 && *ids) return 0;
    ids_free(&work.ids);
    *ids = NULL;
    return result ? -1 : error_set(err, "tokenizer: out of memory");
}

int tokenizer_json_decode(const struct tokenizer_json *tokenizer, const int32_t *ids, size_t count, char **text,
                          struct error *err)
{
    struct bytes bytes = {0};
    struct spans pieces = {0};
    int result = 0;
    for (size_t i = 0; i < count && result == 0; i++) {
        if (ids[i] < 0 || (size_t)ids[i] >= tokenizer->vocabulary) {
            result = error_set(err, "token %d is outside the vocabulary of %zu", ids[i], tokenizer->vocabulary);
            break;
        }
        const struct added_token *added = tokenizer->tokens[ids[i]];
        const char *piece = added ? added->form : bpe_piece(tokenizer->bpe, (size_t)ids[i]);
        if (!piece || (added && added->special)) continue;
        size_t begin = bytes.size;
        result = bytes_add(&bytes, piece, strlen(piece), err);
        if (result == 0) result = spans_add(&pieces, begin, bytes.size, err);
    }
    if (result == 0) result = steps_decode(&tokenizer->decoder, &bytes, &pieces, err);
    if (result == 0) result = bytes_add(&bytes, "", 1, err);
    spans_free(&pieces);
    *text = bytes.text;
    if (result == 0) return 0;
    bytes_free(&bytes);
    *text = NULL;
    return -1;
}
