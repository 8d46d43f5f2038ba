/* Generation: from packed prompts to texts, greedy or by beam search, with a cache of keys and values.
 *
 * At full size: 16B models, prompts of 10^3 tokens, GENERATE_ROWS hypotheses at a time. The prompts go through the
 * model as one packed batch, whose keys and values stay in the cache; then each step takes one token of every
 * hypothesis that is still open. A hypothesis reads the cache through a list of rows: beams share their prompt and what
 * else they have in common, and nothing is moved when beams change (Kwon et al. 2023, with blocks of one token). The
 * keys and values of prefix tuning are the first rows, once for all: every list begins with them.
 *
 * Over a gang every rank calls the same functions with the same prompts; each finds the best tokens of its part of the
 * vocabulary, all see those of all, and decide alike. Every method works as in evaluation: it is the same forward pass.
 */
#ifndef TUNELAW_WORKERS_TEXT_GENERATE_H
#define TUNELAW_WORKERS_TEXT_GENERATE_H

#include "workers/model/model.h"
#include "workers/text/beam.h"
#include "workers/train/evaluate.h"

/* Hypotheses that are open at a time. What is generated depends on it in the last bits of the logits: a constant, part
 * of the program's version. */
#define GENERATE_ROWS 64

struct generator;
/* By one lane of the model (0 where it is no pack). The model is borrowed: between calls of generator_run it may
 * evaluate and train. NULL with *err. */
struct generator *generator_create(struct model *model, uint32_t lane, const struct decoding *decoding,
                                   struct error *err);
void generator_destroy(struct generator *generator);

/* Prompts that fit into one call, besides the model's capacity for tokens. */
size_t decoding_prompts(const struct decoding *decoding);

/* Positions of prompts are as in training: from 0, or behind the method's prefix.
 * ids[prompts][max_new_tokens], counts[prompts]: what follows each sequence of the batch (ids, positions, offsets; its
 * targets are not looked at), without the end token. tick->call comes after each step; tick may be NULL. */
int generator_run(struct generator *generator, const struct batch *prompts, const struct tick *tick, int32_t *ids,
                  uint32_t *counts, struct error *err);

/* Bytes that generator_create takes on one rank. */
struct shard;
size_t generator_bytes(const struct model_config *config, const struct shard *shard,
                       const struct batch_capacity *capacity, const struct method_config *method,
                       const struct decoding *decoding, size_t element);

/* What is wrong with a decoding for this model: window, vocabulary. longest: of what is seen before the first new
 * token, virtual tokens among it. */
int decoding_check(const struct decoding *decoding, const struct model_config *model, size_t longest,
                   struct error *err);

#endif
