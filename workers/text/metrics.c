/* From pairs of texts to BLEU, chrF and ROUGE: counts of each pair, their sums, and the formulas. */
#include "workers/text/metrics.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "workers/text/metric_text.h"
#include "workers/text/ngrams.h"

static const char *const names[TEXT_METRICS] = {"bleu", "chrf", "rouge1", "rouge2", "rougeL"};

const char *text_metric_name(enum text_metric metric)
{
    return names[metric];
}

int text_metric_find(const char *name)
{
    for (int metric = 0; metric < TEXT_METRICS; metric++)
        if (strcmp(names[metric], name) == 0) return metric;
    return -1;
}

/* A hypothesis and its reference, as symbols. */
struct pair {
    struct words words;
    struct symbols hypothesis, reference;
    char *texts[2]; /* what the words lie in */
};

static void pair_destroy(struct pair *pair)
{
    words_destroy(&pair->words);
    symbols_destroy(&pair->hypothesis);
    symbols_destroy(&pair->reference);
    free(pair->texts[0]);
    free(pair->texts[1]);
    *pair = (struct pair){0};
}

/* Words of both texts, as `tokenise` leaves them: between white space. */
static int pair_words(struct pair *pair, const char *hypothesis, const char *reference,
                      char *(*tokenise)(const char *text, struct error *err), struct error *err)
{
    const char *const from[2] = {hypothesis, reference};
    struct symbols *const to[2] = {&pair->hypothesis, &pair->reference};
    for (int side = 0; side < 2; side++) {
        pair->texts[side] = tokenise(from[side], err);
        if (!pair->texts[side]) return -1;
        const char *at = pair->texts[side], *word;
        for (size_t size; (word = metric_word(&at, &size));) {
            uint32_t number;
            if (words_number(&pair->words, word, size, &number, err) || symbols_add(to[side], number, err)) return -1;
        }
    }
    return 0;
}

static int add_bleu(struct metric_sums *sums, const char *hypothesis, const char *reference, struct error *err)
{
    struct pair pair = {0};
    uint64_t matches[BLEU_ORDERS];
    int result = pair_words(&pair, hypothesis, reference, metric_tokenise_13a, err);
    if (result == 0) result = ngrams_match(&pair.hypothesis, &pair.reference, BLEU_ORDERS, matches, err);
    for (size_t n = 0; result == 0 && n < BLEU_ORDERS; n++) {
        sums->word_matches[n] += matches[n];
        sums->words[n] += ngrams_count(&pair.hypothesis, n + 1);
    }
    sums->hypothesis_words += pair.hypothesis.count;
    sums->reference_words += pair.reference.count;
    pair_destroy(&pair);
    return result;
}

static int add_chrf(struct metric_sums *sums, const char *hypothesis, const char *reference, struct error *err)
{
    struct pair pair = {0};
    uint64_t matches[CHRF_ORDERS];
    int result = metric_characters(hypothesis, &pair.hypothesis, err);
    if (result == 0) result = metric_characters(reference, &pair.reference, err);
    if (result == 0) result = ngrams_match(&pair.hypothesis, &pair.reference, CHRF_ORDERS, matches, err);
    for (size_t n = 0; result == 0 && n < CHRF_ORDERS; n++) {
        size_t there = ngrams_count(&pair.reference, n + 1);
        sums->character_matches[n] += matches[n];
        sums->reference_characters[n] += there;
        /* as sacrebleu: no n-gram counts against a hypothesis whose reference has none of this order */
        sums->hypothesis_characters[n] += there ? ngrams_count(&pair.hypothesis, n + 1) : 0;
    }
    pair_destroy(&pair);
    return result;
}

static double f1(uint64_t matches, uint64_t hypothesis, uint64_t reference)
{
    double precision = (double)matches / (double)(hypothesis ? hypothesis : 1);
    double recall = (double)matches / (double)(reference ? reference : 1);
    return precision + recall > 0 ? 2 * precision * recall / (precision + recall) : 0;
}

static int add_rouge(struct metric_sums *sums, const char *hypothesis, const char *reference, struct error *err)
{
    struct pair pair = {0};
    uint64_t matches[2], common;
    int result = pair_words(&pair, hypothesis, reference, metric_tokenise_rouge, err);
    if (result == 0) result = ngrams_match(&pair.hypothesis, &pair.reference, 2, matches, err);
    if (result == 0) result = symbols_common(&pair.hypothesis, &pair.reference, &common, err);
    if (result == 0) {
        for (size_t n = 0; n < 2; n++)
            sums->rouge[n] +=
                f1(matches[n], ngrams_count(&pair.hypothesis, n + 1), ngrams_count(&pair.reference, n + 1));
        sums->rouge[2] += f1(common, pair.hypothesis.count, pair.reference.count);
    }
    pair_destroy(&pair);
    return result;
}

int metrics_add(struct metric_sums *sums, const char *hypothesis, const char *reference, struct error *err)
{
    if (add_bleu(sums, hypothesis, reference, err) || add_chrf(sums, hypothesis, reference, err) ||
        add_rouge(sums, hypothesis, reference, err))
        return -1;
    sums->pairs++;
    return 0;
}

static double bleu(const struct metric_sums *sums)
{
    double logarithms = 0, smoothing = 1, penalty = 1;
    bool any = false;
    for (size_t n = 0; n < BLEU_ORDERS; n++)
        any = any || sums->word_matches[n];
    if (!any) return 0;
    for (size_t n = 0; n < BLEU_ORDERS; n++) {
        if (sums->words[n] == 0) return 0; /* no hypothesis is so long */
        if (sums->word_matches[n] == 0) smoothing *= 2;
        double matches = sums->word_matches[n] ? (double)sums->word_matches[n] : 1 / smoothing;
        logarithms += log(100 * matches / (double)sums->words[n]);
    }
    if (sums->hypothesis_words < sums->reference_words)
        penalty = exp(1 - (double)sums->reference_words / (double)sums->hypothesis_words);
    return penalty * exp(logarithms / BLEU_ORDERS);
}

/* F of the mean precision and the mean recall of the orders that both sides have. */
static double chrf(const struct metric_sums *sums)
{
    enum { BETA_SQUARED = 4 };
    double precision = 0, recall = 0;
    int orders = 0;
    for (size_t n = 0; n < CHRF_ORDERS; n++) {
        if (!sums->hypothesis_characters[n] || !sums->reference_characters[n]) continue;
        precision += (double)sums->character_matches[n] / (double)sums->hypothesis_characters[n];
        recall += (double)sums->character_matches[n] / (double)sums->reference_characters[n];
        orders++;
    }
    if (!(precision + recall > 0)) return 0;
    precision /= orders;
    recall /= orders;
    return 100 * (1 + BETA_SQUARED) * precision * recall / (BETA_SQUARED * precision + recall);
}

double metrics_value(const struct metric_sums *sums, enum text_metric metric)
{
    if (sums->pairs == 0) return NAN;
    switch (metric) {
    case TEXT_BLEU:
        return bleu(sums);
    case TEXT_CHRF:
        return chrf(sums);
    default:
        return sums->rouge[metric - TEXT_ROUGE1] / (double)sums->pairs;
    }
}
