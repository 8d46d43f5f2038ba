/* A tokenizer from a file, and its marks from the files beside it. */
#include "io/tokenizer/tokenizer_source.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LARGEST ((size_t)1 << 28) /* bytes */

const char *const tokenizer_files[] = {"tokenizer.json", "sentencepiece.model", "tokenizer.model", NULL};

int tokenizer_bytes(const char *path, void **bytes, size_t *size, struct error *err)
{
    size_t capacity = (size_t)1 << 20, used = 0;
    char *all = NULL;
    FILE *file = fopen(path, "rbe");
    if (!file) return error_set_errno(err, "%s", path);
    for (;;) {
        char *grown = realloc(all, capacity);
        if (!grown) break;
        all = grown;
        used += fread(all + used, 1, capacity - used, file);
        if (used < capacity || capacity >= LARGEST) break;
        capacity *= 2;
    }
    int failed = !all || used == capacity || ferror(file);
    fclose(file);
    if (failed) {
        free(all);
        return error_set(err, "%s: unreadable, or larger than %zu bytes", path, LARGEST);
    }
    *bytes = all;
    *size = used;
    return 0;
}

static int find_file(const char *path, char out[PATH_MAX], struct error *err)
{
    struct stat found;
    if (stat(path, &found) != 0) return error_set_errno(err, "%s", path);
    if (!S_ISDIR(found.st_mode))
        return snprintf(out, PATH_MAX, "%s", path) < PATH_MAX ? 0 : error_set(err, "%s: path too long", path);
    for (size_t i = 0; tokenizer_files[i]; i++)
        if (snprintf(out, PATH_MAX, "%s/%s", path, tokenizer_files[i]) < PATH_MAX && access(out, F_OK) == 0) return 0;
    return error_set(err, "%s: there is no tokenizer.json, tokenizer.model or sentencepiece.model", path);
}

/* *root NULL: there is none beside the tokenizer. Numbers are reals: model_max_length is often 10^30. */
static int read_beside(const char *path, const char *name, json_t **root, struct error *err)
{
    char beside[PATH_MAX];
    const char *slash = strrchr(path, '/');
    int length = slash ? (int)(slash - path) + 1 : 0;
    json_error_t fault;
    *root = NULL;
    if (snprintf(beside, sizeof beside, "%.*s%s", length, path, name) >= (int)sizeof beside || access(beside, F_OK))
        return 0;
    *root = json_load_file(beside, JSON_DECODE_INT_AS_REAL, &fault);
    if (!*root) return error_set(err, "%s, line %d: %s", name, fault.line, fault.text);
    if (json_is_object(*root)) return 0;
    json_decref(*root);
    *root = NULL;
    return error_set(err, "%s: not an object", name);
}

/* A token is a text, or an object with its content. */
static int32_t id_of(const struct tokenizer *tokenizer, const json_t *token)
{
    const char *piece = json_string_value(json_is_object(token) ? json_object_get(token, "content") : token);
    return piece ? tokenizer_id(tokenizer, piece) : -1;
}

/* One id, or the first of several; -1: the file, if it is there, does not say it. */
static int end_of_model(const struct tokenizer_source *source, const char *name, int32_t *end, struct error *err)
{
    json_t *root;
    if (read_beside(source->path, name, &root, err)) return -1;
    const json_t *value = json_object_get(root, "eos_token_id");
    if (json_is_array(value)) value = json_array_get(value, 0);
    double id = json_is_number(value) ? json_number_value(value) : -1;
    json_decref(root);
    *end = id >= 0 && id <= floor(id) && id < (double)tokenizer_vocabulary(source->tokenizer) ? (int32_t)id : -1;
    return 0;
}

static int read_marks(struct tokenizer_source *source, const char *end_piece, struct error *err)
{
    int32_t ignored;
    json_t *config;
    tokenizer_marks(source->tokenizer, &source->begin, &source->end, &ignored);
    if (!tokenizer_is_json(source->bytes, source->size)) {
        if (end_piece) return error_set(err, "a sentencepiece model says itself what ends a text");
        return 0;
    }
    if (read_beside(source->path, "tokenizer_config.json", &config, err)) return -1;
    const json_t *adds = json_object_get(config, "add_bos_token");
    if (json_is_false(adds)) source->begin = -1;
    if (json_is_true(adds) && source->begin < 0)
        source->begin = id_of(source->tokenizer, json_object_get(config, "bos_token"));
    source->end = end_piece ? tokenizer_id(source->tokenizer, end_piece)
                            : id_of(source->tokenizer, json_object_get(config, "eos_token"));
    json_decref(config);
    if (end_piece && source->end < 0) return error_set(err, "there is no token \"%s\" to end a text with", end_piece);
    if (source->end < 0 && end_of_model(source, "config.json", &source->end, err)) return -1;
    if (source->end < 0 && end_of_model(source, "generation_config.json", &source->end, err)) return -1;
    if (source->end < 0)
        return error_set(err, "no file beside it says which token ends a text (tokenizer_config.json: eos_token; "
                              "config.json: eos_token_id); --end-token TOKEN does");
    return 0;
}

int tokenizer_source_open(const char *path, const char *end_piece, struct tokenizer_source *source, struct error *err)
{
    *source = (struct tokenizer_source){0};
    if (find_file(path, source->path, err) || tokenizer_bytes(source->path, &source->bytes, &source->size, err))
        return -1;
    source->tokenizer = tokenizer_create(source->bytes, source->size, err);
    if (source->tokenizer && read_marks(source, end_piece, err) == 0) return 0;
    error_prefix(err, "%s", source->path);
    error_one_line(err); /* it may quote what was asked for */
    tokenizer_source_close(source);
    return -1;
}

void tokenizer_source_close(struct tokenizer_source *source)
{
    tokenizer_destroy(source->tokenizer);
    free(source->bytes);
    *source = (struct tokenizer_source){0};
}
