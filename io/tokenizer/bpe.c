/* The vocabulary and the merges in two hash tables; a word is merged from the pair of the lowest rank on. */
#include "io/tokenizer/bpe.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "io/text/text.h"

enum { BYTES = 256, NONE = -1 };

struct merge {
    int32_t left, right, made;
    uint32_t rank;
};

struct bpe {
    char **pieces; /* [size], owned */
    size_t size;
    int32_t *slots; /* [slot_count], a power of two: ids by piece, NONE: free */
    size_t slot_count;
    struct merge *merges; /* [merge_slots], a power of two: by left and right; made NONE: free */
    size_t merge_slots;
    int32_t unknown;
    int32_t bytes[BYTES]; /* <0x00>, ...; NONE where there is no such piece */
    bool byte_fallback, fuse_unknown, whole_words;
    bool unknown_missing; /* one is named that is no piece: what needs it is refused */
};

struct bpe_symbol {
    int32_t id;
    int32_t previous, next; /* NONE at the ends */
};

struct bpe_candidate {
    uint32_t rank;
    int32_t at; /* the left symbol */
    int32_t left, right, made;
};

size_t bpe_size(const struct bpe *bpe)
{
    return bpe->size;
}

const char *bpe_piece(const struct bpe *bpe, size_t id)
{
    return id < bpe->size ? bpe->pieces[id] : NULL;
}

static size_t slot_of(const struct bpe *bpe, const char *piece, size_t size)
{
    size_t slot = (size_t)XXH3_64bits(piece, size) & (bpe->slot_count - 1);
    for (; bpe->slots[slot] != NONE; slot = (slot + 1) & (bpe->slot_count - 1)) {
        const char *there = bpe->pieces[bpe->slots[slot]];
        if (strncmp(there, piece, size) == 0 && there[size] == 0) break;
    }
    return slot;
}

int32_t bpe_id(const struct bpe *bpe, const char *piece, size_t size)
{
    return bpe->slots[slot_of(bpe, piece, size)];
}

static struct merge *merge_at(const struct bpe *bpe, int32_t left, int32_t right)
{
    const int32_t pair[2] = {left, right};
    size_t slot = (size_t)XXH3_64bits(pair, sizeof pair) & (bpe->merge_slots - 1);
    for (;; slot = (slot + 1) & (bpe->merge_slots - 1)) {
        struct merge *merge = &bpe->merges[slot];
        if (merge->made == NONE || (merge->left == left && merge->right == right)) return merge;
    }
}

/* A power of two, at least twice `count`. */
static size_t table_size(size_t count)
{
    size_t size = 16;
    while (size < 2 * count)
        size *= 2;
    return size;
}

static int read_vocabulary(struct bpe *bpe, json_t *vocabulary, struct error *err)
{
    const char *piece;
    json_t *value;
    if (!json_is_object(vocabulary) || json_object_size(vocabulary) == 0)
        return error_set(err, "model.vocab is no object of pieces");
    json_object_foreach(vocabulary, piece, value)
    {
        json_int_t id = json_integer_value(value);
        if (!json_is_integer(value) || id < 0 || id >= BPE_LARGEST)
            return error_set(err, "model.vocab: the id of \"%.40s\"; allowed: 0..%d", piece, BPE_LARGEST - 1);
        if ((size_t)id >= bpe->size) bpe->size = (size_t)id + 1;
    }
    bpe->slot_count = table_size(json_object_size(vocabulary));
    bpe->pieces = calloc(bpe->size, sizeof *bpe->pieces);
    bpe->slots = malloc(bpe->slot_count * sizeof *bpe->slots);
    if (!bpe->pieces || !bpe->slots) return error_set(err, "out of memory");
    memset(bpe->slots, 0xff, bpe->slot_count * sizeof *bpe->slots);
    json_object_foreach(vocabulary, piece, value)
    {
        size_t id = (size_t)json_integer_value(value);
        if (bpe->pieces[id]) return error_set(err, "model.vocab: two pieces have the id %zu", id);
        bpe->pieces[id] = strdup(piece);
        if (!bpe->pieces[id]) return error_set(err, "out of memory");
        bpe->slots[slot_of(bpe, piece, strlen(piece))] = (int32_t)id;
    }
    return 0;
}

/* "LEFT RIGHT", or [LEFT, RIGHT]. */
static int merge_words(const json_t *entry, const char **left, size_t *left_size, const char **right)
{
    *left = json_string_value(json_is_array(entry) ? json_array_get(entry, 0) : entry);
    *right = json_string_value(json_array_get(entry, 1));
    if (!*left) return -1;
    if (json_is_array(entry)) {
        *left_size = strlen(*left);
        return *right && json_array_size(entry) == 2 ? 0 : -1;
    }
    const char *space = strchr(*left, ' ');
    if (!space || strchr(space + 1, ' ')) return -1;
    *left_size = (size_t)(space - *left);
    *right = space + 1;
    return 0;
}

static int read_merge(struct bpe *bpe, const json_t *entry, uint32_t rank, struct bytes *joined, struct error *err)
{
    const char *left, *right;
    size_t left_size;
    if (merge_words(entry, &left, &left_size, &right))
        return error_set(err, "model.merges[%u] is not two pieces", rank);
    size_t right_size = strlen(right);
    joined->size = 0;
    if (bytes_add(joined, left, left_size, err) || bytes_add(joined, right, right_size, err)) return -1;
    struct merge merge = {.left = bpe_id(bpe, left, left_size),
                          .right = bpe_id(bpe, right, right_size),
                          .made = bpe_id(bpe, joined->text, joined->size),
                          .rank = rank};
    if (merge.left == NONE || merge.right == NONE || merge.made == NONE)
        return error_set(err, "model.merges[%u]: \"%.*s\" and \"%.40s\" make a piece that is not in model.vocab", rank,
                         left_size < 40 ? (int)left_size : 40, left, right);
    *merge_at(bpe, merge.left, merge.right) = merge; /* of two the later one, as in an object */
    return 0;
}

static int read_merges(struct bpe *bpe, const json_t *merges, struct error *err)
{
    struct bytes joined = {0};
    size_t count = json_array_size(merges);
    int result = json_is_array(merges) ? 0 : error_set(err, "model.merges is no list");
    if (result == 0 && count > UINT32_MAX / 2) result = error_set(err, "model.merges is too long");
    if (result) return result;
    bpe->merge_slots = table_size(count);
    bpe->merges = malloc(bpe->merge_slots * sizeof *bpe->merges);
    if (!bpe->merges) return error_set(err, "out of memory");
    for (size_t i = 0; i < bpe->merge_slots; i++)
        bpe->merges[i] = (struct merge){.made = NONE};
    for (size_t i = 0; i < count && result == 0; i++)
        result = read_merge(bpe, json_array_get(merges, i), (uint32_t)i, &joined, err);
    bytes_free(&joined);
    return result;
}

static int refuse_others(const json_t *model, struct error *err)
{
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const char *type = json_string_value(json_object_get(model, "type"));
    if (!json_is_object(model)) return error_set(err, "there is no group \"model\"");
    if (!type && !json_object_get(model, "merges")) return error_set(err, "model.type is not there; allowed: BPE");
    if (type && strcmp(type, "BPE") != 0) return error_set(err, "model.type is \"%.40s\"; allowed: BPE", type);
    if (json_number_value(json_object_get(model, "dropout")) != 0)
        return error_set(err, "model.dropout is set; allowed: null");
    for (size_t i = 0; i < sizeof affixes / sizeof *affixes; i++) {
        const char *affix = json_string_value(json_object_get(model, affixes[i]));
        if (affix && *affix) return error_set(err, "model.%s is set; allowed: null", affixes[i]);
    }
    return 0;
}

static int read_model(struct bpe *bpe, const json_t *model, struct error *err)
{
    const char *unknown = json_string_value(json_object_get(model, "unk_token"));
    if (refuse_others(model, err) || read_vocabulary(bpe, json_object_get(model, "vocab"), err) ||
        read_merges(bpe, json_object_get(model, "merges"), err))
        return -1;
    bpe->unknown = unknown ? bpe_id(bpe, unknown, strlen(unknown)) : NONE;
    bpe->unknown_missing = unknown && bpe->unknown == NONE;
    bpe->byte_fallback = json_is_true(json_object_get(model, "byte_fallback"));
    bpe->fuse_unknown = json_is_true(json_object_get(model, "fuse_unk"));
    bpe->whole_words = json_is_true(json_object_get(model, "ignore_merges"));
    for (unsigned i = 0; i < BYTES; i++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", i);
        bpe->bytes[i] = bpe_id(bpe, name, 6);
    }
    return 0;
}

struct bpe *bpe_create(const json_t *model, struct error *err)
{
    struct bpe *bpe = calloc(1, sizeof *bpe);
    if (!bpe) {
        error_set(err, "out of memory");
        return NULL;
    }
    if (read_model(bpe, model, err) == 0) return bpe;
    bpe_destroy(bpe);
    return NULL;
}

void bpe_destroy(struct bpe *bpe)
{
    if (!bpe) return;
    for (size_t i = 0; bpe->pieces && i < bpe->size; i++)
        free(bpe->pieces[i]);
    free(bpe->pieces);
    free(bpe->slots);
    free(bpe->merges);
    free(bpe);
}

void bpe_scratch_free(struct bpe_scratch *scratch)
{
    free(scratch->symbols);
    free(scratch->heap);
    *scratch = (struct bpe_scratch){0};
}

/* The symbols of a character: itself, its bytes, unknown, or none. */
static int add_character(const struct bpe *bpe, const char *text, size_t size, struct bpe_symbol *symbols,
                         size_t *count, struct error *err)
{
    int32_t id = bpe_id(bpe, text, size);
    bool bytes = bpe->byte_fallback;
    for (size_t i = 0; i < size && id == NONE; i++)
        bytes = bytes && bpe->bytes[(unsigned char)text[i]] != NONE;
    if (id == NONE && bytes) {
        for (size_t i = 0; i < size; i++)
            symbols[(*count)++].id = bpe->bytes[(unsigned char)text[i]];
        return 0;
    }
    if (id == NONE && bpe->unknown_missing)
        return error_set(err, "tokenizer: no piece for \"%.*s\", and its unk_token is none of model.vocab", (int)size,
                         text);
    if (id == NONE && bpe->fuse_unknown && *count && symbols[*count - 1].id == bpe->unknown) return 0;
    if (id == NONE) id = bpe->unknown;
    if (id != NONE) symbols[(*count)++].id = id;
    return 0;
}

static bool before(const struct bpe_candidate *a, const struct bpe_candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void heap_put(struct bpe_candidate *heap, size_t *count, struct bpe_candidate candidate)
{
    size_t at = (*count)++;
    for (; at > 0 && before(&candidate, &heap[(at - 1) / 2]); at = (at - 1) / 2)
        heap[at] = heap[(at - 1) / 2];
    heap[at] = candidate;
}

static struct bpe_candidate heap_take(struct bpe_candidate *heap, size_t *count)
{
    struct bpe_candidate first = heap[0], last = heap[--*count];
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < *count; at = child) {
        if (child + 1 < *count && before(&heap[child + 1], &heap[child])) child++;
        if (!before(&heap[child], &last)) break;
        heap[at] = heap[child];
    }
    heap[at] = last;
    return first;
}

/* The pair of a symbol and the next one, if they merge. */
static void consider(const struct bpe *bpe, const struct bpe_symbol *symbols, int32_t at, struct bpe_candidate *heap,
                     size_t *heap_count)
{
    if (at == NONE || symbols[at].next == NONE) return;
    int32_t left = symbols[at].id, right = symbols[symbols[at].next].id;
    const struct merge *merge = merge_at(bpe, left, right);
    if (merge->made != NONE)
        heap_put(heap, heap_count, (struct bpe_candidate){merge->rank, at, left, right, merge->made});
}

/* Each merge takes a symbol away and adds two candidates at most: 3 n are enough. */
static void merge_all(const struct bpe *bpe, struct bpe_symbol *symbols, size_t count, struct bpe_candidate *heap)
{
    size_t heap_count = 0;
    for (size_t i = 0; i < count; i++) {
        symbols[i].previous = (int32_t)i - 1;
        symbols[i].next = i + 1 < count ? (int32_t)i + 1 : NONE;
    }
    for (size_t i = 0; i < count; i++)
        consider(bpe, symbols, (int32_t)i, heap, &heap_count);
    while (heap_count) {
        struct bpe_candidate best = heap_take(heap, &heap_count);
        struct bpe_symbol *left = &symbols[best.at];
        if (left->id != best.left || left->next == NONE || symbols[left->next].id != best.right) continue;
        struct bpe_symbol *right = &symbols[left->next];
        left->id = best.made;
        right->id = NONE;
        left->next = right->next;
        if (left->next != NONE) symbols[left->next].previous = best.at;
        consider(bpe, symbols, left->previous, heap, &heap_count);
        consider(bpe, symbols, best.at, heap, &heap_count);
    }
}

static int make_room(struct bpe_scratch *scratch, size_t size, struct error *err)
{
    void *symbols = scratch->symbols, *heap = scratch->heap;
    int result = grow_list(&symbols, &scratch->symbol_room, size, sizeof *scratch->symbols, err);
    scratch->symbols = symbols;
    if (result == 0) result = grow_list(&heap, &scratch->heap_room, 3 * size, sizeof *scratch->heap, err);
    scratch->heap = heap;
    return result;
}

int bpe_encode(const struct bpe *bpe, const char *word, size_t size, struct bpe_scratch *scratch, struct ids *out,
               struct error *err)
{
    int32_t whole = bpe->whole_words ? bpe_id(bpe, word, size) : NONE;
    if (whole != NONE) return ids_add(out, whole, err);
    if (size > INT32_MAX) return error_set(err, "tokenizer: a word of %zu bytes", size);
    if (make_room(scratch, size, err)) return -1;
    size_t count = 0;
    for (size_t at = 0, length; at < size; at += length) {
        length = text_character(word + at, size - at);
        if (length == 0) return error_set(err, "tokenizer: not UTF-8");
        if (add_character(bpe, word + at, length, scratch->symbols, &count, err)) return -1;
    }
    merge_all(bpe, scratch->symbols, count, scratch->heap);
    for (int32_t at = count ? 0 : NONE; at != NONE; at = scratch->symbols[at].next)
        if (ids_add(out, scratch->symbols[at].id, err)) return -1;
    return 0;
}
