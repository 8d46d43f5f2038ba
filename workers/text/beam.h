/* Which tokens are taken: greedy or beam search over the best next tokens of each hypothesis. On the host, without a
 * model; the same decisions on every rank that has the same numbers.
 *
 * Beam search is that of transformers' generate with do_sample false and early_stopping false: 2 * beams candidates a
 * step; a candidate that ends (by the end token, or at max_new_tokens) and is among the best `beams` is a finished
 * hypothesis of score = log p / tokens^length_penalty, its end token counted; the search of a sequence is over when it
 * has `beams` finished ones and the best running one, scored as if it ended now, is no better than the worst of them.
 * Of equal candidates the one of the better hypothesis comes first, then the one with the smaller id. */
#ifndef TUNELAW_WORKERS_TEXT_BEAM_H
#define TUNELAW_WORKERS_TEXT_BEAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/error.h"

struct decoding {
    uint32_t beams; /* 1: greedy */
    uint32_t max_new_tokens;
    double length_penalty; /* of beam search: above 0 longer ones are favoured */
    int32_t end;           /* the token that ends a text */
};

/* Best next tokens that are wanted of each hypothesis. */
static inline size_t decoding_candidates(const struct decoding *decoding)
{
    return decoding->beams == 1 ? 1 : 2 * (size_t)decoding->beams;
}

struct hypothesis {
    double score;   /* log p of its tokens; finished: over tokens^length_penalty. Not kept by greedy search */
    uint32_t count; /* tokens */
    int32_t *ids;   /* [max_new_tokens] */
    uint32_t *rows; /* [max_new_tokens] of the cache, for each token but the newest */
};

struct candidate {
    double score;
    uint32_t beam; /* running hypothesis that it continues */
    int32_t id;
};

/* The search of one sequence. */
struct beam_search {
    const struct decoding *decoding; /* borrowed */
    bool done;
    uint32_t running_count, finished_count, candidate_count;
    struct hypothesis *running, *next, *finished; /* [beams] each, owned; best first */
    struct candidate *candidates;                 /* [decoding_candidates], best first, of this step */
    void *memory;
};

int beam_create(struct beam_search *search, const struct decoding *decoding, struct error *err);
void beam_destroy(struct beam_search *search);
/* One empty hypothesis. */
void beam_begin(struct beam_search *search);
/* Offer a continuation of running hypothesis `beam`; log_p: of the token alone. */
void beam_offer(struct beam_search *search, uint32_t beam, int32_t id, double log_p);
/* After all offers of a step: running hypotheses are one token longer, those that ended are finished. -1: nothing was
 * offered. */
int beam_advance(struct beam_search *search, struct error *err);
/* Tokens of the best finished hypothesis, without the end token, into out[max_new_tokens]; returns how many. */
uint32_t beam_result(const struct beam_search *search, int32_t *out);

#endif
