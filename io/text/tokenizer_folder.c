#include "io/text/tokenizer_folder.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/digest.h"
#include "io/text/tokenizer.h"

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

static int match_json(const char *path, const void *model, size_t size, enum tokenizer_match *match, struct error *err)
{
    json_error_t failure;
    struct tokenizer *tokenizer = tokenizer_create(model, size, err);
    if (!tokenizer) return -1;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &failure);
    const json_t *vocabulary = json_object_get(json_object_get(root, "model"), "vocab");
    int rc = root ? 0 : error_set(err, "%s:%d: %s", path, failure.line, failure.text);
    if (vocabulary) {
        size_t pieces = tokenizer_vocabulary(tokenizer);
        bool enough = pieces_alike(tokenizer, vocabulary) * 100 >= pieces * ENOUGH;
        *match = enough ? TOKENIZERS_SAME : TOKENIZERS_DIFFER;
    }
    json_decref(root);
    tokenizer_destroy(tokenizer);
    return rc;
}

int tokenizer_match_folder(const char *dir, const void *model, size_t size, enum tokenizer_match *match, char *file,
                           size_t size_of_file, struct error *err)
{
    static const char *const names[] = {"sentencepiece.model", "tokenizer.model", "tokenizer.json"};
    *match = TOKENIZERS_UNKNOWN;
    for (size_t i = 0; size && i < sizeof names / sizeof *names; i++) {
        if (snprintf(file, size_of_file, "%s/%s", dir, names[i]) >= (int)size_of_file || access(file, F_OK)) continue;
        if (i == 2) return match_json(file, model, size, match, err);
        struct digest theirs, ours = digest_of(model, size);
        if (digest_of_file(file, &theirs, err)) return -1;
        *match = strcmp(theirs.hex, ours.hex) ? TOKENIZERS_DIFFER : TOKENIZERS_SAME;
        return 0;
    }
    return 0;
}
