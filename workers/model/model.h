/* One rank's part of the Transformer: forward, loss, backward over packed batches, for every method, on any backend.
 *
 * At full size: 16B over 8 devices, batches of 10^5 tokens; the activation arena is sized by the same walk that the
 * plan counts. A batch is packed: sequences lie one after another without padding. Tensor parallelism: every rank calls
 * the same functions with the same batch; column-parallel matmuls first, row-parallel ones second, one sum over ranks
 * after attention and one after the MLP, forward and backward. */
#ifndef TUNELAW_WORKERS_MODEL_MODEL_H
#define TUNELAW_WORKERS_MODEL_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "workers/model/dropout.h"
#include "workers/model/parameters.h"

/* Rows of a batch that belong to one lane of a pack (below): first .. first + rows - 1, and after them padding without
 * meaning up to first + padded, where the next segment begins. Targets are places in batch->rows. */
struct segment {
    uint32_t lane;
    size_t first, rows, padded, first_target, targets;
    struct draws draws;
};

/* Segments begin at multiples of so many rows: a row's last bits depend on its place among those that a matmul works on
 * at a time (docs/engine.md, Packs). */
#define SEGMENT_ROWS JOIN_ROWS

/* Lanes of a pack at most. */
enum { PACK_LIMIT = 64 };

/* Host memory, owned by the caller. tokens = offsets[sequences]. With prompt tuning each sequence begins with the
 * prompt: ids -1, -2, ... -length. */
struct batch {
    size_t tokens, sequences, longest;
    const int32_t *ids;       /* [tokens] */
    const int32_t *positions; /* [tokens], from 0 in each sequence, or from the length of the method's prefix */
    const uint32_t *offsets;  /* [sequences + 1] */
    const uint32_t *rows;     /* [targets] ascending: token rows that predict a token with a loss */
    const int32_t *labels;    /* [targets] the token to be predicted at rows[i] */
    size_t targets;
    struct draws draws;             /* of dropout, in training; of a segment: its own */
    const struct segment *segments; /* [segment_count] of different lanes, ascending, they cover all rows and targets */
    size_t segment_count;           /* 0: all is the first lane's, and nothing is padding */
};

/* What a model is made for: the largest batch; and whether the backward pass computes each block again from its input
 * (Chen et al. 2016), so that the activations of one block alone are kept: the same bytes of every gradient, in less
 * memory and more time; and whether there may be dropout. */
struct batch_capacity {
    size_t tokens, sequences, targets, longest;
    bool recompute;
    bool dropout;  /* the recipe has some */
    bool one_pass; /* a step is one pass: gradients that begin with a product lie where activations were. Parameters are
                      those of parameters_create_one_pass */
};

struct model;
/* parameters are borrowed and must outlive the model. training: with room for the backward pass. NULL with *err. */
struct model *model_create(const struct model_config *config, const struct method_config *method,
                           struct parameters *parameters, const struct batch_capacity *capacity, bool training,
                           struct error *err);
void model_destroy(struct model *model);

/* A pack: several adapters over one frozen base, each with rows of its own in a batch. The weights of the base multiply
 * the rows of all at once; what a method adds, losses and gradients are of a lane's rows alone, and the same as if it
 * were alone with its segment: the same bytes on backends whose matmul computes a row the same way wherever it lies.
 * `parameters` of the first lane hold the base, the others were made beside it. A model of model_create is a pack of
 * one. */
struct lane {
    struct method_config method;
    struct parameters *parameters; /* borrowed */
    struct batch_capacity capacity;
};
struct model *model_create_pack(const struct model_config *config, const struct lane *lanes, size_t count,
                                bool training, struct error *err);
/* Whether points of a method can be lanes of a pack of several. */
bool method_packs(enum method_kind kind);
/* Whether points of a method are packed among themselves alone. Where halves stand side by side, adapters of a gang
 * have each half's sum over the ranks by itself: what is no adapter beside them would have other last bits than alone.
 */
bool method_packs_apart(enum method_kind kind, const struct model_config *model, uint32_t degree);
/* Whether a method leaves every tensor of the base as it is. */
bool method_leaves_base(enum method_kind kind);
/* What a batch of segments of so large ones needs: the sum, with padding. */
struct batch_capacity batch_capacity_join(const struct batch_capacity *capacities, size_t count);

/* *loss = sum over targets of -log p, in nats, the same on every rank. -1: a peer failed, or the device did. */
int model_evaluate(struct model *model, const struct batch *batch, double *loss, struct error *err);

/* Forward and backward: gradients of (scale * sum of losses) are added to parameters' gradients, the partial ones not
 * yet summed over ranks. *loss as above. */
int model_train(struct model *model, const struct batch *batch, float scale, double *loss, struct error *err);

/* As model_evaluate and model_train, with a scale (0: the loss alone) and a loss for each lane; those without a segment
 * in the batch are left alone. scales NULL: evaluation. */
int model_pass(struct model *model, const struct batch *batch, const float *scales, double *losses, struct error *err);
/* The same in two parts, so that the host prepares the next batch while the device works: begin gives a pass to the
 * device, the batch may be changed then; end waits for the oldest one's losses. PASSES_BEGUN at most are begun and not
 * ended. After an error, or instead of the end, all that has begun is given up by model_give_up. */
enum { PASSES_BEGUN = 2 };
int model_pass_begin(struct model *model, const struct batch *batch, const float *scales, struct error *err);
int model_pass_end(struct model *model, double *losses, struct error *err);
void model_give_up(struct model *model);

/* Weights of the base += what the method adds beside them, so that the base alone is the finetuned model. -1: the
 * method adds what no weight can take up. */
int model_merge(struct model *model, struct error *err);

/* From now on model_train smooths labels (Szegedy et al. 2016, as torch's cross_entropy): a target has 1 - smoothing +
 * smoothing / V, every other token smoothing / V. model_evaluate never does. 0 at first. */
void model_smooth_labels(struct model *model, double smoothing);
void model_smooth_lane(struct model *model, size_t lane, double smoothing); /* of a pack */

/* From now on model_train drops so large a part of the embeddings and of what attention and MLP add to the residual
 * stream; below 1, 0 at first. The model must be made for it. */
void model_dropout(struct model *model, double rate);
void model_lane_dropout(struct model *model, size_t lane, double rate); /* of a pack */

/* Gradients: zero them, those of products by the first product; sum the partial ones over ranks; their global norm
 * (each tensor once). After the sum or the norm all are there. */
void parameters_zero_gradients(struct parameters *parameters);
int parameters_reduce_gradients(struct parameters *parameters, struct error *err);
int parameters_gradient_norm(struct parameters *parameters, double *norm, struct error *err);
/* In two parts: norms of all lanes of a pack are computed before the first one is waited for. */
void parameters_gradient_norm_begin(struct parameters *parameters);
int parameters_gradient_norm_end(struct parameters *parameters, double *norm, struct error *err);
/* What a product of a gradient keeps of what is there: 0 where it is the first one since they were zeroed, else 1. */
float parameter_gradient_beta(struct parameter *parameter);

/* Bytes on the fullest device of a gang of `degree` whose devices store so (kernels_storage): what
 * parameters_create and model_create will allocate. recipe NULL: evaluation alone. */
int model_memory(const struct model_config *config, const struct method_config *method,
                 const struct batch_capacity *capacity, const struct recipe *recipe, struct kernels_storage storage,
                 int degree, struct memory *memory, struct error *err);
/* The same of a pack; `parameters` of the lanes are not read. recipes[count]; NULL: evaluation alone. */
int model_pack_memory(const struct model_config *config, const struct lane *lanes, const struct recipe *recipes,
                      size_t count, struct kernels_storage storage, int degree, struct memory *memory,
                      struct error *err);

#endif
