/* Counting what two sequences of symbols share: n-grams with clipped counts, and the longest common subsequence. Exact,
 * by sorting, no hashes of n-grams; memory grows with one pair of texts. */
#ifndef TUNELAW_WORKERS_TEXT_NGRAMS_H
#define TUNELAW_WORKERS_TEXT_NGRAMS_H

#include <stddef.h>
#include <stdint.h>

#include "io/error.h"

enum { NGRAM_ORDERS = 6 };

struct symbols {
    uint32_t *list; /* malloc'ed, symbols_destroy frees */
    size_t count, capacity;
};
int symbols_add(struct symbols *symbols, uint32_t symbol, struct error *err);
void symbols_destroy(struct symbols *symbols);

/* Numbers for words: the same number for the same bytes. The bytes are borrowed and must outlive the table. */
struct words {
    struct word {
        const char *text;
        size_t size;
    } * list;
    uint32_t *slots; /* [slot_count], a power of two; 0: empty, else number + 1 */
    size_t count, slot_count;
};
int words_number(struct words *words, const char *text, size_t size, uint32_t *number, struct error *err);
void words_destroy(struct words *words);

/* Windows of n symbols. */
size_t ngrams_count(const struct symbols *symbols, size_t n);

/* matches[n - 1] = sum over the distinct n-grams of the lesser of their counts in a and b, for n = 1 .. orders, at most
 * NGRAM_ORDERS. */
int ngrams_match(const struct symbols *a, const struct symbols *b, size_t orders, uint64_t *matches, struct error *err);

/* Length of the longest common subsequence. */
int symbols_common(const struct symbols *a, const struct symbols *b, uint64_t *length, struct error *err);

#endif
