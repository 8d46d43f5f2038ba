/* The optimiser: one step over the trainable tensors of a rank's shard. AdamW (Loshchilov & Hutter 2019). */
#ifndef TUNELAW_WORKERS_OPTIMISER_H
#define TUNELAW_WORKERS_OPTIMISER_H

#include "workers/config.h"
#include "workers/parameters.h"

/* Gradients (summed over ranks) are multiplied by `gradient_scale` first; `step` counts from 1 for the bias correction.
 * Weight decay applies to the tensors that say so. No communication: every rank steps what it holds. */
void optimiser_step(struct parameters *parameters, const struct recipe *recipe, uint64_t step, double rate,
                    double gradient_scale);

/* Factor that brings gradients of norm `norm` to at most clip_norm; 1 where clip_norm is 0. */
double optimiser_clip(const struct recipe *recipe, double norm);

#endif
