/* Mean loss of a model over a feed: validation, test, pretraining validation. */
#ifndef TUNELAW_WORKERS_TRAIN_EVALUATE_H
#define TUNELAW_WORKERS_TRAIN_EVALUATE_H

#include "workers/model/model.h"
#include "workers/train/batch.h"

/* Called between micro-batches; may be NULL. stop: whether to end an evaluation before its end; NULL: never;
 * collective over the gang, with the same answer on every rank: 1, 0, or -1 (a peer failed). */
struct tick {
    void (*call)(void *context);
    int (*stop)(void *context);
    void *context;
};

/* *loss = nats per target token over one epoch of the feed, *targets their number; the same on every rank, and
 * collective over the gang. 0, -1, or 1: stopped before the end, there is no loss. */
int evaluate(struct model *model, struct feed *feed, struct batch_buffer *buffer, const struct tick *tick, double *loss,
             uint64_t *targets, struct error *err);

/* The same of several lanes of a pack, in their order, each over a feed of its own. joined NULL: no pack, one lane, its
 * batches are passed as they are. */
struct evaluation {
    struct feed *feed;
    struct batch_buffer *buffer;
    uint32_t lane;
    double loss;
    uint64_t targets;
};
int evaluate_lanes(struct model *model, struct evaluation *list, size_t count, struct batch_buffer *joined,
                   const struct tick *tick, struct error *err);

#endif
