/* Mean loss of a model over a feed: validation, test, pretraining validation. */
#ifndef TUNELAW_WORKERS_EVALUATE_H
#define TUNELAW_WORKERS_EVALUATE_H

#include "workers/batch.h"
#include "workers/model.h"

/* Called between micro-batches; may be NULL. */
struct tick {
    void (*call)(void *context);
    void *context;
};

/* *loss = nats per target token over one epoch of the feed, *targets their number; the same on every rank, and
 * collective over the gang. */
int evaluate(struct model *model, struct feed *feed, struct batch_buffer *buffer, const struct tick *tick, double *loss,
             uint64_t *targets, struct error *err);

#endif
