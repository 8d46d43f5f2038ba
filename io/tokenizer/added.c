/* Leftmost, then longest. */
#include "io/tokenizer/added.h"

#include <stdlib.h>
#include <string.h>

static int normal_form(const struct steps *normalizer, struct added_token *token, struct error *err)
{
    struct bytes form = {0};
    int result = bytes_add(&form, token->text, strlen(token->text), err);
    if (result == 0 && token->normalized) result = steps_normalize(normalizer, &form, err);
    if (result == 0) token->form = strndup(form.size ? form.text : "", form.size);
    if (result == 0 && !token->form) result = error_set(err, "out of memory");
    token->size = form.size;
    bytes_free(&form);
    return result;
}

static int read_token(const json_t *object, const struct steps *normalizer, const struct bpe *bpe,
                      struct added_token *token, struct error *err)
{
    const char *content = json_string_value(json_object_get(object, "content"));
    json_int_t id = json_integer_value(json_object_get(object, "id"));
    if (!content || !*content || !json_is_integer(json_object_get(object, "id")) || id < 0 || id >= BPE_LARGEST)
        return error_set(err, "added_tokens: a token without content, or an id outside 0..%d", BPE_LARGEST - 1);
    if (step_flag(object, "single_word", false))
        return error_set(err, "added_tokens: \"%.40s\" is a single_word; allowed: false", content);
    int32_t piece = bpe_id(bpe, content, strlen(content));
    if (piece >= 0 && piece != id)
        return error_set(err, "added_tokens: \"%.40s\" has the id %d, in model.vocab %d", content, (int)id, piece);
    token->id = (int32_t)id;
    token->special = step_flag(object, "special", false);
    token->normalized = step_flag(object, "normalized", !token->special);
    token->left = step_flag(object, "lstrip", false);
    token->right = step_flag(object, "rstrip", false);
    token->text = strdup(content);
    return token->text ? normal_form(normalizer, token, err) : error_set(err, "out of memory");
}

static int compare(const void *a, const void *b)
{
    const struct added_token *x = a, *y = b;
    unsigned char first_x = (unsigned char)*x->form, first_y = (unsigned char)*y->form;
    if (first_x != first_y) return first_x < first_y ? -1 : 1;
    if (x->size != y->size) return x->size > y->size ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

int added_read(const json_t *tokens, const struct steps *normalizer, const struct bpe *bpe, struct added *added,
               struct error *err)
{
    size_t count = json_array_size(tokens);
    *added = (struct added){0};
    if (count == 0) return 0;
    if (count > BPE_LARGEST) return error_set(err, "added_tokens: more than %d", BPE_LARGEST);
    added->list = calloc(count, sizeof *added->list);
    if (!added->list) return error_set(err, "out of memory");
    for (; added->count < count; added->count++)
        if (read_token(json_array_get(tokens, added->count), normalizer, bpe, &added->list[added->count], err)) {
            added->count++; /* what it holds goes with the others */
            return -1;
        }
    qsort(added->list, count, sizeof *added->list, compare);
    for (size_t i = 0; i < count; i++)
        added->first[(size_t)(unsigned char)*added->list[i].form + 1]++;
    for (size_t byte = 1; byte < 257; byte++)
        added->first[byte] += added->first[byte - 1];
    return 0;
}

void added_free(struct added *added)
{
    for (size_t i = 0; i < added->count; i++) {
        free(added->list[i].text);
        free(added->list[i].form);
    }
    free(added->list);
    *added = (struct added){0};
}

/* White space of Unicode before `at`, or at it: its bytes; 0: none. */
static size_t space_length(const char *text, size_t size, bool before)
{
    static const char *const spaces[] = {" ",
                                         "\t",
                                         "\n",
                                         "\v",
                                         "\f",
                                         "\r",
                                         "\xc2\x85",
                                         "\xc2\xa0",
                                         "\xe1\x9a\x80",
                                         "\xe2\x80\x80",
                                         "\xe2\x80\x81",
                                         "\xe2\x80\x82",
                                         "\xe2\x80\x83",
                                         "\xe2\x80\x84",
                                         "\xe2\x80\x85",
                                         "\xe2\x80\x86",
                                         "\xe2\x80\x87",
                                         "\xe2\x80\x88",
                                         "\xe2\x80\x89",
                                         "\xe2\x80\x8a",
                                         "\xe2\x80\xa8",
                                         "\xe2\x80\xa9",
                                         "\xe2\x80\xaf",
                                         "\xe2\x81\x9f",
                                         "\xe3\x80\x80"};
    for (size_t i = 0; i < sizeof spaces / sizeof *spaces; i++) {
        size_t length = strlen(spaces[i]);
        if (length <= size && !memcmp(before ? text + size - length : text, spaces[i], length)) return length;
    }
    return 0;
}

/* The longest one that stands at the front of text[size]. */
static const struct added_token *find_here(const struct added *added, bool normalized, const char *text, size_t size)
{
    size_t byte = (unsigned char)*text;
    for (size_t i = added->first[byte]; i < added->first[byte + 1]; i++) {
        const struct added_token *token = &added->list[i];
        if (token->normalized == normalized && token->size && token->size <= size &&
            !memcmp(token->form, text, token->size))
            return token;
    }
    return NULL;
}

const struct added_token *added_find(const struct added *added, bool normalized, const char *text, size_t size,
                                     size_t from, struct span *place)
{
    for (size_t at = from; at < size && added->count; at++) {
        const struct added_token *token = find_here(added, normalized, text + at, size - at);
        if (!token) continue;
        *place = (struct span){at, at + token->size};
        for (size_t length; token->left && (length = space_length(text + from, place->first - from, true)) > 0;)
            place->first -= length;
        for (size_t length; token->right && (length = space_length(text + place->end, size - place->end, false)) > 0;)
            place->end += length;
        return token;
    }
    return NULL;
}
