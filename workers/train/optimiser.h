/* The optimiser: one step over the trainable tensors of a rank's shard, and what it keeps beside each of them.
 *
 * AdamW (Loshchilov & Hutter 2019): two moments of the tensor's shape. SGD with momentum: one, none where the momentum
 * is 0. Adafactor (Shazeer & Stern 2018) as transformers' Adafactor with relative_step=False and its other defaults
 * (decay 1 - step^-0.8, epsilon 1e-30 and 1e-3, clipping at 1, no first moment): of a matrix the moving averages of the
 * rows' and of the columns' mean squares; of a vector, or a matrix of one row or column, those of its elements, which
 * is the same. Over a gang the averages are those of the whole tensor. */
#ifndef TUNELAW_WORKERS_TRAIN_OPTIMISER_H
#define TUNELAW_WORKERS_TRAIN_OPTIMISER_H

#include "workers/model/config.h"
#include "workers/model/parameters.h"

/* Gradients (summed over ranks) are multiplied by `gradient_scale` first; `step` counts from 1, for a tensor that is
 * trained later from its own first step. Weight decay applies to
 * the tensors that say so. Adafactor is collective over the gang; the others step what a rank holds. -1: a peer failed.
 */
int optimiser_step(struct parameters *parameters, const struct recipe *recipe, uint64_t step, double rate,
                   double gradient_scale, struct error *err);

/* Factor that brings gradients of norm `norm` to at most clip_norm; 1 where clip_norm is 0. */
double optimiser_clip(const struct recipe *recipe, double norm);

/* adafactor.c */
int adafactor_step(struct parameters *parameters, const struct recipe *recipe, uint64_t step, double rate,
                   double gradient_scale, struct error *err);

#endif
