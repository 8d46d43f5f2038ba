/* One optimiser step, the same for pretraining and finetuning: batch, forward, loss, backward, reduce, clip, step; and
 * of several lanes of a pack at once. */
#ifndef TUNELAW_WORKERS_TRAIN_TRAINER_H
#define TUNELAW_WORKERS_TRAIN_TRAINER_H

#include <stdbool.h>

#include "workers/model/config.h"
#include "workers/model/model.h"
#include "workers/model/parameters.h"
#include "workers/train/batch.h"
#include "workers/train/evaluate.h"

struct trainer { /* all borrowed */
    const struct recipe *recipe;
    uint64_t seed; /* of dropout */
    struct parameters *parameters;
    struct model *model;
    struct feed *feed;
    struct batch_buffer *buffer;
    const struct tick *tick; /* between micro-batches: a step may be longer than the agent's patience */
    uint32_t lane;           /* of the model */
    struct batch_buffer
        *joined; /* room for a micro-batch of every lane; NULL: no pack, batches are passed as they are */
};

struct trainer_step {
    double loss;          /* nats, summed over the targets of the step */
    double gradient_norm; /* before clipping */
    uint64_t tokens, targets, sequences;
    bool finite; /* no: loss or norm is not, and the weights were left as they were */
};

/* Train step `step` (from 1), which takes positions (step-1)*batch .. step*batch-1 of the feed. Collective over the
 * gang; the same numbers on every rank. -1: a peer or the device failed; an error of the device after the gradients'
 * norm is told by the next step, or by synchronise. */
int trainer_step(struct trainer *trainer, uint64_t step, struct trainer_step *out, struct error *err);

/* Step steps[i] of trainers[i], lanes of one pack in their order: each as trainer_step does it, micro-batches of all
 * passed together as long as a lane has some. */
int trainer_steps(struct trainer *const *trainers, const uint64_t *steps, struct trainer_step *outs, size_t count,
                  struct error *err);

#endif
