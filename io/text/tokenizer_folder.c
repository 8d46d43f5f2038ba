#include "io/text/tokenizer_folder.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"
#include "io/text/tokenizer.h"

/* Of a hundred pieces so many must agree. */
enum { ENOUGH = 95, LARGEST = 1 << 28 /* bytes */ };

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

static enum tokenizer_match match_json(const char *path, const struct tokenizer *ours)
{
    json_t *root = json_load_file(path, 0, NULL);
    const json_t *vocabulary = json_object_get(json_object_get(root, "model"), "vocab");
    enum tokenizer_match match = vocabulary ? judge(ours, pieces_alike(ours, vocabulary)) : TOKENIZERS_UNKNOWN;
    json_decref(root);
    return match;
}

/* A sentencepiece model, byte by byte, else piece by piece: one may have been given a separator. Not all that is called
 * tokenizer.model is one. */
static enum tokenizer_match match_model(const char *path, const void *model, size_t size, const struct tokenizer *ours)
{
    enum tokenizer_match match = TOKENIZERS_UNKNOWN;
    struct error ignored;
    struct stat about;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool readable = fd >= 0 && !fstat(fd, &about) && about.st_size > 0 && about.st_size <= LARGEST;
    size_t their_size = readable ? (size_t)about.st_size : 0;
    char *bytes = readable ? malloc(their_size) : NULL;
    if (bytes && file_read_at(fd, bytes, their_size, 0)) their_size = 0;
    if (fd >= 0) close(fd);
    if (!bytes) return match;
    if (their_size == size && !memcmp(bytes, model, size)) {
        match = TOKENIZERS_SAME;
    } else {
        struct tokenizer *theirs = tokenizer_create(bytes, their_size, &ignored);
        size_t alike = 0;
        for (size_t id = 0; theirs && id < tokenizer_vocabulary(theirs); id++)
            alike += has_piece(ours, (json_int_t)id, tokenizer_piece(theirs, id));
        if (theirs) match = judge(ours, alike);
        tokenizer_destroy(theirs);
    }
    free(bytes);
    return match;
}

int tokenizer_match_folder(const char *dir, const void *model, size_t size, enum tokenizer_match *match, char *file,
                           size_t size_of_file, struct error *err)
{
    static const char *const names[] = {"sentencepiece.model", "tokenizer.model", "tokenizer.json"};
    *match = TOKENIZERS_UNKNOWN;
    if (!size) return 0;
    struct tokenizer *ours = tokenizer_create(model, size, err);
    if (!ours) return -1;
    for (size_t i = 0; *match == TOKENIZERS_UNKNOWN && i < sizeof names / sizeof *names; i++) {
        if (snprintf(file, size_of_file, "%s/%s", dir, names[i]) >= (int)size_of_file || access(file, F_OK)) continue;
        *match = i < 2 ? match_model(file, model, size, ours) : match_json(file, ours);
    }
    tokenizer_destroy(ours);
    return 0;
}
