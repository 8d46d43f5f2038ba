/* What two texts have in common, as sequences of numbers: the arithmetic under the metrics. */
#include "workers/text/ngrams.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "io/digest.h"

int symbols_add(struct symbols *symbols, uint32_t symbol, struct error *err)
{
    if (symbols->count == symbols->capacity) {
        size_t capacity = symbols->capacity ? 2 * symbols->capacity : 64;
        uint32_t *list = realloc(symbols->list, capacity * sizeof *list);
        if (!list) return error_set(err, "out of memory for a text");
        symbols->list = list;
        symbols->capacity = capacity;
    }
    symbols->list[symbols->count++] = symbol;
    return 0;
}

void symbols_destroy(struct symbols *symbols)
{
    free(symbols->list);
    *symbols = (struct symbols){0};
}

/* The slot of a word, or the empty one where it belongs. */
static size_t find_slot(const struct words *words, const char *text, size_t size)
{
    size_t slot = (size_t)checksum_of(text, size) & (words->slot_count - 1);
    while (words->slots[slot]) {
        const struct word *word = &words->list[words->slots[slot] - 1];
        if (word->size == size && memcmp(word->text, text, size) == 0) break;
        slot = (slot + 1) & (words->slot_count - 1);
    }
    return slot;
}

static int grow(struct words *words, struct error *err)
{
    size_t slots = words->slot_count ? 2 * words->slot_count : 128;
    struct word *list = realloc(words->list, slots / 2 * sizeof *list);
    if (list) words->list = list;
    uint32_t *table = calloc(slots, sizeof *table);
    if (!list || !table) {
        free(table);
        return error_set(err, "out of memory for the words of a text");
    }
    free(words->slots);
    words->slots = table;
    words->slot_count = slots;
    for (size_t i = 0; i < words->count; i++)
        table[find_slot(words, list[i].text, list[i].size)] = (uint32_t)i + 1;
    return 0;
}

int words_number(struct words *words, const char *text, size_t size, uint32_t *number, struct error *err)
{
    if (words->count == words->slot_count / 2 && grow(words, err)) return -1;
    size_t slot = find_slot(words, text, size);
    if (!words->slots[slot]) {
        words->list[words->count] = (struct word){text, size};
        words->slots[slot] = (uint32_t)++words->count;
    }
    *number = words->slots[slot] - 1;
    return 0;
}

void words_destroy(struct words *words)
{
    free(words->list);
    free(words->slots);
    *words = (struct words){0};
}

size_t ngrams_count(const struct symbols *symbols, size_t n)
{
    return symbols->count >= n ? symbols->count - n + 1 : 0;
}

/* Two windows of at most `n` symbols that end with their sequence; a shorter one comes first. */
static int compare_windows(const struct symbols *a, size_t at, const struct symbols *b, size_t bt, size_t n)
{
    size_t left = a->count - at < n ? a->count - at : n, right = b->count - bt < n ? b->count - bt : n;
    for (size_t i = 0; i < left && i < right; i++) {
        uint32_t x = a->list[at + i], y = b->list[bt + i];
        if (x != y) return x < y ? -1 : 1;
    }
    return left < right ? -1 : left > right;
}

static int compare_positions(const void *left, const void *right, void *context)
{
    const struct symbols *symbols = context;
    return compare_windows(symbols, *(const size_t *)left, symbols, *(const size_t *)right, NGRAM_ORDERS);
}

/* Places of a sequence in the order of the windows that begin there: in this order the n-grams of every order lie
 * together. */
static size_t *sort_windows(const struct symbols *symbols, struct error *err)
{
    size_t *order = malloc((symbols->count + 1) * sizeof *order);
    if (!order) {
        error_set(err, "out of memory for the n-grams of a text");
        return NULL;
    }
    for (size_t i = 0; i < symbols->count; i++)
        order[i] = i;
    qsort_r(order, symbols->count, sizeof *order, compare_positions, (void *)symbols);
    return order;
}

/* The next place from *at on where n symbols are left, or false. */
static bool next_window(const struct symbols *symbols, const size_t *order, size_t n, size_t *at)
{
    while (*at < symbols->count && symbols->count - order[*at] < n)
        ++*at;
    return *at < symbols->count;
}

/* Merge: an n-gram that occurs x times here and y times there is met min(x, y) times on both sides at once. */
static uint64_t match(const struct symbols *a, const size_t *a_order, const struct symbols *b, const size_t *b_order,
                      size_t n)
{
    uint64_t matches = 0;
    for (size_t i = 0, j = 0; next_window(a, a_order, n, &i) && next_window(b, b_order, n, &j);) {
        int order = compare_windows(a, a_order[i], b, b_order[j], n);
        matches += order == 0;
        i += order <= 0;
        j += order >= 0;
    }
    return matches;
}

int ngrams_match(const struct symbols *a, const struct symbols *b, size_t orders, uint64_t *matches, struct error *err)
{
    size_t *a_order = sort_windows(a, err), *b_order = a_order ? sort_windows(b, err) : NULL;
    if (b_order)
        for (size_t n = 1; n <= orders; n++)
            matches[n - 1] = match(a, a_order, b, b_order, n);
    bool done = b_order != NULL;
    free(a_order);
    free(b_order);
    return done ? 0 : -1;
}

int symbols_common(const struct symbols *a, const struct symbols *b, uint64_t *length, struct error *err)
{
    uint32_t *row = calloc(b->count + 1, sizeof *row); /* of the lengths for a's symbols so far */
    if (!row) return error_set(err, "out of memory for a common subsequence");
    for (size_t i = 0; i < a->count; i++) {
        uint32_t diagonal = 0;
        for (size_t j = 1; j <= b->count; j++) {
            uint32_t above = row[j];
            if (a->list[i] == b->list[j - 1])
                row[j] = diagonal + 1;
            else if (row[j - 1] > above)
                row[j] = row[j - 1];
            diagonal = above;
        }
    }
    *length = row[b->count];
    free(row);
    return 0;
}
