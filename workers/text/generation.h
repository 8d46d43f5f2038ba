/* Texts generated for the examples of a split, or for sources of one's own: sources into prompts, prompts into batches,
 * token ids back into text.
 *
 * At full size: 10^5 examples; a batch is in memory, every text is handed on and forgotten. A source that is longer
 * than sequence_length less the new tokens (but at least half of it) keeps its head and its last token, the separator,
 * as examples do in training (workers/train/batch.h). Texts are what the tokenizer makes of token ids: normalised, as
 * it was trained. */
#ifndef TUNELAW_WORKERS_TEXT_GENERATION_H
#define TUNELAW_WORKERS_TEXT_GENERATION_H

#include <stdio.h>

#include "io/text/dataset.h"
#include "io/tokenizer/tokenizer.h"
#include "workers/model/config.h"
#include "workers/model/cost.h"
#include "workers/text/generate.h"
#include "workers/text/metrics.h"
#include "workers/train/batch.h"
#include "workers/train/evaluate.h"

struct text_sources {
    const struct dataset *dataset;
    const struct tokenizer *tokenizer; /* the dataset's; used by several threads */
    enum dataset_split split;
    const char *const *lines; /* not NULL: these sources, without references, instead of the split's */
    uint64_t count;           /* the first so many; at most what there is */
    uint32_t sequence_length;
    const struct method_config *method; /* whose virtual tokens stand before each source */
};

struct generated_text {
    uint64_t index;                              /* of the example or line */
    const char *source, *reference, *hypothesis; /* UTF-8; reference: NULL where there is none */
};

/* What is done with the texts, in order. */
struct text_taker {
    int (*take)(void *context, const struct generated_text *text, struct error *err);
    void *context;
};

/* Tokens of the longest source that a model of so long sequences gets. */
size_t generation_source(const struct generation_config *config, uint32_t sequence_length);

struct decoding decoding_of(const struct generation_config *config, int32_t end);

/* Over a gang every rank calls it; rank 0 alone has a taker, the others NULL. 0, -1, or 1: stopped between two batches.
 */
int generate_texts(struct model *model, uint32_t lane, const struct generation_config *config,
                   const struct text_sources *sources, struct batch_buffer *buffer, const struct tick *tick,
                   const struct text_taker *taker, struct error *err);

/* memory->cache: what generation takes on the fullest device of a gang; none where nothing is generated. */
int generation_memory(const struct model_config *model, const struct method_config *method,
                      const struct batch_capacity *capacity, const struct generation_config *config, size_t element,
                      int degree, struct memory *memory, struct error *err);

/* One text as a line of JSON: {"example": ..., "source": ..., "reference": ..., "hypothesis": ...} and a newline,
 * without a reference where there is none. */
int generated_text_write(const struct generated_text *text, FILE *out, struct error *err);

#endif
