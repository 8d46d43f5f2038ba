/* FLOPs and bytes of a stage: pure functions, shared by the plan (which prints and schedules them) and the worker
 * (which allocates them).
 *
 * FLOPs count a multiply-add as two. Training a token costs 6N (full tuning, pretraining) or 4N (LoRA, prompt: no
 * weight gradients of the base) plus attention, with N the weights that are multiplied for each token (Kaplan et al.
 * 2020, section 2.1; facts: the vocabulary matmul is counted for target tokens only). */
#ifndef TUNELAW_WORKERS_MODEL_COST_H
#define TUNELAW_WORKERS_MODEL_COST_H

#include <stddef.h>
#include <stdint.h>

#include "workers/model/config.h"

/* FLOPs of forward (and backward where training) over `tokens` tokens, of which `targets` have a loss, in sequences of
 * `length` tokens. */
double cost_flops(const struct model_config *model, const struct method_config *method, bool training, double tokens,
                  double targets, double length);

/* What activation recomputation adds to training: the forward pass of every block but the top one, once more. */
double cost_recompute_flops(const struct model_config *model, const struct method_config *method, double tokens,
                            double length);

/* The same in training, on the mean of steps first_step+1 .. last_step: gradual unfreezing computes gradients of more
 * and more blocks. */
double cost_training_flops(const struct model_config *model, const struct method_config *method, uint64_t first_step,
                           uint64_t last_step, double tokens, double targets, double length);

struct memory {
    size_t parameters, gradients, optimiser, activations, workspace,
        cache; /* bytes on one device; cache: of generation */
};
size_t memory_total(const struct memory *memory);

#endif
