/* Inside the model: its layers, its buffers, and the steps that model.c puts together. */
#ifndef TUNELAW_WORKERS_MODEL_PARTS_H
#define TUNELAW_WORKERS_MODEL_PARTS_H

#include "workers/arena.h"
#include "workers/method.h"
#include "workers/model.h"
#include "workers/shard.h"

#define LOSS_ROWS 1024 /* target rows whose logits exist at a time */

/* One block, and what its forward pass leaves for the backward pass. In evaluation the layers share these buffers, and
 * input and middle alternate as the residual stream; where linear inputs are not kept, the layers share those. T tokens
 * of the batch; H, G, D, F of this rank. */
struct layer {
    struct parameter *attention_gain, *mlp_gain;
    struct linear linears[LINEARS];
    float *input, *middle,
        *output; /* residual stream before attention, between, after the MLP [T][W]; output is the next layer's input */
    float *attention_rstd, *mlp_rstd;     /* [T] */
    float *attention_normed, *mlp_normed; /* [T][W] inputs of q, k, v and of gate, up */
    float *q, *k, *v;                     /* [T][H or G][D], rotated */
    float *attended, *lse;                /* [T][H][D], [T][H] */
    float *gate, *up, *activated; /* [T][F]; the backward pass puts the gradients of gate and up in their place */
};

struct model {
    struct model_config config;
    struct method_config method_config;
    const struct method *method;
    struct parameters *parameters; /* borrowed */
    const struct kernels *kernels;
    struct device *device;
    struct collective collective;
    struct shard shard;
    struct batch_capacity capacity;
    bool training;

    struct parameter *embedding, *unembedding, *final_gain, *prompt;
    struct layer *layers;
    uint32_t *kv_head_of; /* [heads] of this rank, counted in the key/value heads of this rank */
    float *final;         /* the last layer's output */

    /* workspace */
    int32_t *ids, *positions, *labels;
    uint32_t *rows;
    float *dx;             /* [T][W] gradient of the residual stream */
    float *dnormed;        /* [T][W] gradient of a norm's output */
    float *dinner;         /* gradients inside a block: attended, q, k, v; or activated */
    float *method_scratch; /* [T][linear_kept] */
    float *loss_hidden, *loss_normed, *loss_dnormed, *loss_dhidden; /* [C][W], C = min(LOSS_ROWS, targets) */
    float *loss_rstd, *loss_values;                                 /* [C] */
    float *logits;                                                  /* [C][V] */
    float *partial, *partials;                                      /* [3][C], [size][3][C] */

    void *activation_arena, *workspace_arena; /* owned */
};

/* What one pass works on: the batch, with its arrays in device memory. */
struct pass {
    size_t tokens;
    struct attention attention;
};

/* Host side of a model: shapes, no device memory. Freed by model_destroy. */
int model_prepare(struct model *model, const struct model_config *config, const struct method_config *method,
                  const struct batch_capacity *capacity, bool training, int rank, int size, struct error *err);
void model_layout(struct model *model, struct arena *activations, struct arena *workspace);

/* x[n] = sum over ranks. */
int model_sum(const struct model *model, size_t n, float *x, struct error *err);

/* y = x W^T, with what the method adds; partial where the layer is row-parallel. */
void linear_forward(const struct model *model, const struct linear *linear, size_t tokens, const float *x, float *y);
/* Gradients of the weight and of what the method adds +=; dx = dy W, or += where `add`; NULL: not wanted. */
void linear_backward(const struct model *model, const struct linear *linear, size_t tokens, const float *x,
                     const float *dy, float *dx, bool add);

int attention_block_forward(const struct model *model, const struct layer *layer, const struct pass *pass,
                            struct error *err);
int mlp_block_forward(const struct model *model, const struct layer *layer, const struct pass *pass, struct error *err);
/* model->dx: from the gradient of the block's output to that of its input; with `last` nothing below this block wants
 * it. */
int attention_block_backward(const struct model *model, const struct layer *layer, const struct pass *pass, bool last,
                             struct error *err);
int mlp_block_backward(const struct model *model, const struct layer *layer, const struct pass *pass,
                       struct error *err);

/* Cross-entropy of the rows with a loss, from model->final. scale != 0: gradients too, and model->dx is begun. */
int model_loss(const struct model *model, size_t tokens, size_t targets, float scale, double *loss, struct error *err);

#endif
