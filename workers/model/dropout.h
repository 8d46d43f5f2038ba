/* Where dropout happens in a model, and what its masks are drawn by: (seed, step, site, layer, place of the token among
 * those of the step, column). So a mask depends neither on the tensor-parallel degree and threads, nor on how a step is
 * cut into micro-batches, nor on where a run was interrupted; and as the backward pass draws it again, none is stored.
 * The draws themselves: struct dropout in kernels/kernels.h. */
#ifndef TUNELAW_WORKERS_MODEL_DROPOUT_H
#define TUNELAW_WORKERS_MODEL_DROPOUT_H

#include <stdint.h>

#include "kernels/kernels.h"
#include "workers/model/shard.h"

/* Of a batch: what its tokens draw by. */
struct draws {
    uint64_t seed, step;
    uint64_t first_token; /* place of the batch's first token among those of the step */
};

/* At a site ("embedding", "attention", "mlp", "lora 3") of a layer (of the embedding: 0), on the columns of a rank. */
struct dropout dropout_at(const struct draws *draws, double rate, const char *site, uint32_t layer,
                          const struct part *columns);

#endif
