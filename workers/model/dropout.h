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

/* Of a layer: the embedding (of layer 0), what its halves add, and what a method's part beside a linear layer reads:
 * DROPOUT_INPUTS + enum linear_kind. */
enum { DROPOUT_EMBEDDING, DROPOUT_ATTENTION, DROPOUT_MLP, DROPOUT_INPUTS, DROPOUT_SITES = DROPOUT_INPUTS + LINEARS };

struct dropout_key dropout_key(const struct draws *draws, unsigned site, uint32_t layer);

/* Its place among keys [layers][DROPOUT_SITES]. */
static inline size_t dropout_place(unsigned site, uint32_t layer)
{
    return (size_t)layer * DROPOUT_SITES + site;
}

/* By those keys, in device memory, on the columns of a rank. */
static inline struct dropout dropout_at(const struct dropout_key *keys, double rate, unsigned site, uint32_t layer,
                                        const struct part *columns)
{
    return (struct dropout){.key = keys + dropout_place(site, layer),
                            .first_column = columns->first,
                            .total = columns->total,
                            .rate = rate};
}

#endif
