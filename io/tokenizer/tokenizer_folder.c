#include "io/tokenizer/tokenizer_folder.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/tokenizer/tokenizer_source.h"

/* Of a hundred pieces so many must agree. */
enum { ENOUGH = 95 };

static bool has_piece(const struct tokenizer *tokenizer, json_int_t id, const char *piece)
{
    if (id < 0 || (uint64_t)id >= tokenizer_vocabulary(tokenizer) || !piece) return false;
    const char *ours = tokenizer_piece(tokenizer, (size_t)id);
    return ours && strcmp(ours, piece) == 0;
}

/* "vocab" of a tokenizer.json: { PIECE: ID, ... }, or [[PIECE, SCORE], ...] by ascending id. */
static size_t pieces_alike(const struct tokenizer *tokenizer, const json_t *vocabulary)
{
    size_t alike = 0;
    const char *piece;
    json_t *value;
    json_object_foreach((json_t *)vocabulary, piece, value) alike +=
        has_piece(tokenizer, json_integer_value(value), piece);
    for (size_t i = 0; i < json_array_size(vocabulary); i++)
        alike +=
            has_piece(tokenizer, (json_int_t)i, json_string_value(json_array_get(json_array_get(vocabulary, i), 0)));
    return alike;
}

/* Whether enough of our pieces are among those that agree. */
static enum tokenizer_match judge(const struct tokenizer *ours, size_t alike)
{
    return alike * 100 >= tokenizer_vocabulary(ours) * ENOUGH ? TOKENIZERS_SAME : TOKENIZERS_DIFFER;
}

static enum tokenizer_match match_json(const void *text, size_t size, const struct tokenizer *ours)
{
    json_t *root = json_loadb(text, size, 0, NULL);
    const json_t *vocabulary = json_object_get(json_object_get(root, "model"), "vocab");
    enum tokenizer_match match = vocabulary ? judge(ours, pieces_alike(ours, vocabulary)) : TOKENIZERS_UNKNOWN;
    json_decref(root);
    return match;
}

/* Not all that is called tokenizer.model is of sentencepiece. */
static enum tokenizer_match match_model(const void *bytes, size_t size, const struct tokenizer *ours)
{
    struct error ignored;
    struct tokenizer *theirs = tokenizer_create(bytes, size, &ignored);
    size_t alike = 0;
    for (size_t id = 0; theirs && id < tokenizer_vocabulary(theirs); id++)
        alike += has_piece(ours, (json_int_t)id, tokenizer_piece(theirs, id));
    enum tokenizer_match match = theirs ? judge(ours, alike) : TOKENIZERS_UNKNOWN;
    tokenizer_destroy(theirs);
    return match;
}

/* The same file, else the same pieces: one may have been given a separator. *ours is made when it is needed. */
static int match_file(const char *path, const void *model, size_t size, struct tokenizer **ours,
                      enum tokenizer_match *match, struct error *err)
{
    void *bytes;
    size_t their_size;
    struct error ignored;
    if (tokenizer_bytes(path, &bytes, &their_size, &ignored)) return 0;
    bool same = their_size == size && !memcmp(bytes, model, size);
    if (!same && !*ours) *ours = tokenizer_create(model, size, err);
    if (same)
        *match = TOKENIZERS_SAME;
    else if (*ours)
        *match = tokenizer_is_json(bytes, their_size) ? match_json(bytes, their_size, *ours)
                                                      : match_model(bytes, their_size, *ours);
    free(bytes);
    return same || *ours ? 0 : -1;
}

int tokenizer_match_folder(const char *dir, const void *model, size_t size, enum tokenizer_match *match, char *file,
                           size_t size_of_file, struct error *err)
{
    struct tokenizer *ours = NULL;
    int result = 0;
    *match = TOKENIZERS_UNKNOWN;
    for (size_t i = 0; size && result == 0 && *match == TOKENIZERS_UNKNOWN && tokenizer_files[i]; i++) {
        if (snprintf(file, size_of_file, "%s/%s", dir, tokenizer_files[i]) >= (int)size_of_file || access(file, F_OK))
            continue;
        result = match_file(file, model, size, &ours, match, err);
    }
    tokenizer_destroy(ours);
    return result;
}
