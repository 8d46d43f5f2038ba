/* Batches for training and evaluation: which sequence comes when is a pure function of its position, so that a stage
 * can start again at any step.
 *
 * At full size: 10^11 tokens of text, 10^8 examples. A feed numbers sequences 0, 1, 2, ... over concatenated epochs;
 * step s of a stage takes positions (s-1)*batch .. s*batch-1. A step that does not fit in memory at once is cut into
 * micro-batches at fixed bounds.
 *
 * Text: block b of the epoch is tokens [b*length, (b+1)*length], each predicting the next; epoch e visits the blocks in
 * the order of a permutation (stream "pretrain:epoch E"). Examples: a nested subset (the first `limit` of one
 * permutation, stream "subset"), each epoch in its own order (stream "finetune:epoch E"), the first one, where the feed
 * is a stream, in that of the nesting; a batch at the end of an epoch goes on into the next. Unshuffled feeds take the
 * first `limit` in the file's order.
 *
 * With a mixture of denoisers (ul2.h) a position's sequence is made of tokens within block b, and its loss is on its
 * targets alone; the order of the blocks stays.
 *
 * An example longer than `length` is cut: the source keeps its head and its last token (the separator), and gives way
 * until half of the length remains for the target; then the target's tail goes. The loss is on target tokens and the
 * end token. Virtual prompt tokens come before the example and are not counted in `length`. */
#ifndef TUNELAW_WORKERS_TRAIN_BATCH_H
#define TUNELAW_WORKERS_TRAIN_BATCH_H

#include <stdbool.h>

#include "io/text/dataset.h"
#include "workers/model/config.h"
#include "workers/model/model.h"

/* Bounds of a micro-batch. Float sums depend on them: constants, part of the program's version. */
#define MICRO_TOKENS 4096
#define MICRO_SEQUENCES 512
/* Pretraining text for validation: sequences of so many tokens, fewer where attention does not see so many
 * (text_length_of), and so many tokens in all. */
#define TEXT_LENGTH 256
#define TEXT_TOKENS 16384
uint32_t text_length_of(const struct model_config *model, const struct method_config *method);

/* Largest micro-batch of a stage, in training and evaluation: what its model is made for. Without recomputation. */
struct batch_capacity batch_capacity_of(const struct recipe *recipe, const struct model_config *model,
                                        const struct method_config *method);

/* Tokens that an example of `count` keeps in `length`, the first *kept_source of them of its `source`. */
size_t batch_cut(size_t count, size_t source, size_t length, size_t *kept_source);

/* Room for one micro-batch, and the view of it that the model takes. */
struct batch_buffer {
    struct batch batch;
    struct batch_capacity capacity;
    int32_t *ids, *positions, *labels;
    uint32_t *offsets, *rows;
    struct segment *segments; /* of a joined batch; each has a sequence at least */
};
int batch_buffer_create(struct batch_buffer *buffer, const struct batch_capacity *capacity, struct error *err);
void batch_buffer_destroy(struct batch_buffer *buffer); /* frees the arrays; the struct is the caller's */

/* Put the batch of a lane behind those that lie in `joined` (none: batch_join_begin), padded to a multiple of
 * SEGMENT_ROWS by a sequence without targets. Lanes ascending; joined has the capacity of batch_capacity_join. */
void batch_join_begin(struct batch_buffer *joined);
int batch_join(struct batch_buffer *joined, uint32_t lane, const struct batch *batch, struct error *err);

struct feed_spec {
    const struct dataset *dataset; /* borrowed */
    enum dataset_split split;
    bool text;       /* pretraining text; else examples */
    uint32_t length; /* tokens a sequence at most, at least 2 */
    uint32_t prompt; /* virtual tokens before each sequence */
    uint32_t prefix; /* position of its first token */
    uint64_t limit;  /* blocks or examples to use; 0: all */
    bool shuffle;
    bool stream;   /* shuffled examples: the first epoch visits a smaller set's before what a larger one adds */
    uint64_t seed; /* where shuffled */
    const struct mixture *mixture; /* text: of UL2 instead of the next token everywhere; copied, NULL: none */
};
struct feed;
struct feed *feed_create(const struct feed_spec *spec, struct error *err);
void feed_destroy(struct feed *feed);
uint64_t feed_items(const struct feed *feed); /* sequences of one epoch, at least 1 */

/* Fill the buffer with sequences from position *next up to `end`, as many as fit (at least one); *next moves on. */
int feed_fill(struct feed *feed, uint64_t *next, uint64_t end, struct batch_buffer *buffer, struct error *err);
/* Tokens with a loss in positions [first, end): the divisor of a step's loss. */
int feed_targets(struct feed *feed, uint64_t first, uint64_t end, uint64_t *targets, struct error *err);
/* Which block or example stands at a position (tests). */
int feed_item(struct feed *feed, uint64_t position, uint64_t *item, struct error *err);

/* The pretraining validation text. NULL with err untouched where the dataset has none. */
struct feed *feed_text_valid(const struct dataset *dataset, const struct model_config *model,
                             const struct method_config *method, struct error *err);

#endif
