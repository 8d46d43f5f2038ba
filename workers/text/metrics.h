/* Metrics of generated texts against one reference each, over a corpus: BLEU and chrF as sacrebleu computes them with
 * its defaults, ROUGE-1, ROUGE-2 and ROUGE-L as rouge-score does. Pure functions of the texts.
 *
 * At full size: 10^5 pairs of 10^3 words; what is kept are the sums below, a pair is forgotten when it has been added.
 *
 * - BLEU (Papineni et al. 2002; Post 2018): corpus level, 4-grams, tokenizer 13a (mteval-v13a's), case kept,
 * exponential smoothing of orders without a match.
 * - chrF (Popovic 2015): corpus level, characters 1..6, beta 2, white space left out.
 * - ROUGE (Lin 2004): mean over the pairs of each pair's F1; lower case, words of a-z and 0-9, everything else
 *   separates; no stemmer (rouge-score's use_stemmer would need NLTK's extended Porter stemmer).
 *
 * Texts are UTF-8; a byte that is none counts as a character. */
#ifndef TUNELAW_WORKERS_TEXT_METRICS_H
#define TUNELAW_WORKERS_TEXT_METRICS_H

#include <stdint.h>

#include "io/error.h"

enum { BLEU_ORDERS = 4, CHRF_ORDERS = 6 };

enum text_metric { TEXT_BLEU, TEXT_CHRF, TEXT_ROUGE1, TEXT_ROUGE2, TEXT_ROUGEL, TEXT_METRICS };
const char *text_metric_name(enum text_metric metric); /* "bleu", "chrf", "rouge1", "rouge2", "rougeL" */
int text_metric_find(const char *name);                /* enum text_metric, or -1 */

/* Sums over the pairs that were added; all zero: none. */
struct metric_sums {
    uint64_t pairs;
    uint64_t hypothesis_words, reference_words;             /* 13a */
    uint64_t word_matches[BLEU_ORDERS], words[BLEU_ORDERS]; /* n-grams of the hypotheses, and those in the references */
    uint64_t character_matches[CHRF_ORDERS], hypothesis_characters[CHRF_ORDERS], reference_characters[CHRF_ORDERS];
    double rouge[3]; /* F1 */
};

/* Zero-terminated texts. -1: no memory. */
int metrics_add(struct metric_sums *sums, const char *hypothesis, const char *reference, struct error *err);

/* BLEU, chrF: 0..100; ROUGE: 0..1. NaN where nothing was added. */
double metrics_value(const struct metric_sums *sums, enum text_metric metric);

#endif
