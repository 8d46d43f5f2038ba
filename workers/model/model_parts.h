/* Inside the model: its layers, its buffers, and the steps that model.c puts together. */
#ifndef TUNELAW_WORKERS_MODEL_MODEL_PARTS_H
#define TUNELAW_WORKERS_MODEL_MODEL_PARTS_H

#include "workers/model/arena.h"
#include "workers/model/method.h"
#include "workers/model/model.h"
#include "workers/model/shard.h"

struct norm {
    struct parameter *gain, *bias; /* bias: LayerNorm, else NULL */
    float *mean, *rstd;            /* [T]; mean: LayerNorm alone */
};

/* One block, and what its forward pass leaves for the backward pass. In evaluation the layers share these buffers, and
 * input and middle alternate as the residual stream; where blocks are computed again, they share all but their inputs.
 * What norms and the activation give (attention_in, mlp_in, activated) no layer keeps: where the backward pass reads
 * it, it is made again from what they read, for a hundredth of a step's time. T tokens of the batch; H, G, D, F of this
 * rank. NULL: what the architecture does not have. */
struct layer {
    struct norm attention_norm, mlp_norm, query_norm, key_norm;
    struct linear linears[LINEARS];
    real *input, *middle, *output;     /* residual stream before attention, between, after the MLP [T][W]; output is the
                                           next layer's input. Halves side by side: middle is their sum */
    real *attention_in, *mlp_in;       /* [T][W] inputs of the halves: normed, or the residual stream itself */
    real *attention_out, *mlp_out;     /* [T][W] norms after: outputs of the halves, before the norm */
    real *raw_q, *raw_k;               /* as q, k, before their norms */
    real *q, *k, *v;                   /* [T][H or G][D], rotated */
    real *cached_keys, *cached_values; /* generation alone: the cache that k and v lie in */
    real *attended;                    /* [T][H][D] */
    float *lse;                        /* [T][H] */
    real *gate, *up, *activated;       /* [T][F]; the backward pass puts the gradients of gate and up in their place */
};

/* One adapter set of a pack. */
struct model_lane {
    struct method_config method_config;
    const struct method *method;
    struct parameters *parameters; /* borrowed; those of the first lane hold the base */
    struct batch_capacity capacity;
    struct parameter *prompt;
    struct linear *linears; /* [layers * LINEARS], layer by layer; NULL for the first lane, whose are in the layers */
    struct half *halves;    /* [layers * HALVES], layer by layer */
    struct attention_prefix *prefixes; /* [layers] before every sequence; length 0: none */
    float label_smoothing;
    double dropout;
    size_t scratch_first; /* where its part of the scratch begins */
};

/* A pass whose losses are not there yet. */
struct begun_pass {
    bool awaited; /* the device computes them; else they are 0, of a batch without targets */
    size_t count;
    uint32_t lanes[PACK_LIMIT];
    double losses[PACK_LIMIT];
};

struct model {
    struct model_config config;
    struct model_lane *lanes; /* [lane_count], at least one */
    size_t lane_count;
    struct method_config method_config; /* of the first lane */
    const struct method *method;
    struct parameters *parameters; /* borrowed */
    bool reads_linear_inputs;      /* some lane's method does, backward */
    bool changes_halves;           /* some lane's method has something behind them */
    const struct kernels *kernels;
    struct device *device;
    size_t element; /* bytes of a `real` */
    struct collective collective;
    struct shard shard;
    struct batch_capacity capacity;
    bool training;
    bool training_pass, drops; /* gradients of it are wanted; the recipe's dropout of some lane is on */

    enum row_join row_join;         /* of the backend in the device's precision */
    struct joins *joins;            /* owned: what model_join.c has tried */
    const struct segment *segments; /* of the batch that is passed now; none: all rows are the first lane's */
    size_t segment_count;
    struct segment whole;                  /* of a batch that names none */
    struct begun_pass begun[PASSES_BEGUN]; /* a ring: from first_begun on */
    size_t first_begun, begun_count;

    struct parameter *embedding, *unembedding, *prompt; /* prompt: of the first lane */
    struct norm final_norm;                             /* of [C] rows at a time */
    struct layer *layers;
    uint32_t *kv_head_of;              /* [heads] of this rank, counted in the key/value heads of this rank; device */
    struct attention_prefix *prefixes; /* [layers][sequences] of the pass, device; NULL: no method has one */
    struct attention_prefix *prefix_room; /* the same in host memory, owned */
    bool prefixes_alike;                  /* what is there is the first lane's before every sequence */
    size_t longest_prefix;
    struct dropout_key *keys;     /* [lanes][layers][DROPOUT_SITES] of the pass, device; NULL: no lane drops */
    struct dropout_key *key_room; /* the same in host memory, owned */
    real *final;                  /* the last layer's output */

    /* workspace */
    int32_t *ids, *positions, *labels;
    uint32_t *rows, *offsets, *order; /* [targets], [sequences + 1]; [T] tokens of each segment by ascending id */
    uint64_t *order_room;             /* [3][T], host memory, owned: to sort them, and the result */
    real *dx;                         /* [T][W] gradient of the residual stream */
    real *dinput;                     /* [T][W] gradient of a half block's input */
    real *branch;           /* [T][W] output of one half block, or its gradient, where the residual stream is needed */
    real *dropped;          /* [T][W] gradient of a half block's output, behind dropout */
    real *fused;            /* [T][H][3][D] output of the one matrix of q, k, v, or its gradient */
    float *row_sums;        /* [2][T] of norms that are spread over the gang */
    real *dinner;           /* gradients inside a block: attended, q, k, v; or activated */
    real *method_scratch;   /* [T][scratch] of the method that wants most */
    real *method_input;     /* [largest T of a lane that drops inputs][largest input of a linear layer] */
    real *half_gradient;    /* [T][W] gradient of a half's output, where a method changes it */
    real *changed;          /* [T][largest that a method changes] input of a linear layer, or a gradient there */
    struct segment *pieces; /* [lane_count] of the rows whose logits are worked on */
    size_t loss_room;       /* target rows of a lane whose logits exist at a time (struct kernels_storage) */
    size_t loss_rows;       /* C: targets, at most those with padding */
    real *loss_hidden, *loss_normed, *loss_dnormed, *loss_dhidden; /* [C][W] */
    float *loss_values;                                            /* [targets] */
    real *logits;                                                  /* [C][V] */
    float *partial, *partials;                                     /* [4][C], [size][4][C] */

    struct recordings *recordings; /* owned; NULL: the device records nothing */
    struct overlaid *overlaid;     /* [layers], owned; NULL: gradients have memory of their own */

    void *activation_arena, *workspace_arena; /* owned */
};

/* A block whose matrices' gradients are put where activations of the blocks above were: their bytes; and how far from
 * the arena's beginning its backward pass, and those of the blocks below, still read. */
struct overlaid {
    size_t gradients, live;
};

/* What one pass works on: the batch, with its arrays in device memory. */
struct pass {
    size_t tokens;
    struct attention attention;
    const struct decode *decode; /* generation: new tokens over the layers' caches; NULL: whole sequences */
};

/* Host side of a model: shapes, no device memory. Freed by model_destroy. */
int model_prepare(struct model *model, const struct model_config *config, const struct lane *lanes, size_t count,
                  bool training, int rank, int size, struct error *err);
/* The arenas' element is that of the device. Gradients among the activations get their place, too. */
void model_layout(struct model *model, struct arena *activations, struct arena *workspace);
/* Of the activations' arena, what gradients take. */
size_t model_overlaid_bytes(const struct model *model);

/* model_pack.c: a lane's linear layer at the place of the first lane's; what it has behind a half. */
struct linear *lane_linear(const struct model *model, size_t lane, const struct linear *linear);
struct half *lane_half(const struct model *model, size_t lane, const struct layer *layer, enum half_place place);
/* Those of the pass; rows that are passed outside of a batch (generation) are the first lane's, in *all. */
size_t segments_of(const struct model *model, size_t tokens, struct segment *all, const struct segment **segments);
/* The smallest multiple of SEGMENT_ROWS that holds so many rows. */
size_t segment_padded(size_t rows);
/* A product with a matrix of the base: y = gelu(x W^T + bias), x [rows][k], W [n][k]; or the way back, y = x W + beta
 * y, W [k][n]. */
struct layer_product {
    const real *weight;
    const float *bias;
    enum linear_gelu gelu;
    size_t n, k;
    bool back;
    float beta;
};
/* model_join.c. `before` is what gelu reads, where there is one. */
void product_rows(const struct model *model, const struct layer_product *product, size_t rows, const real *x,
                  real *before, real *y);
/* Whether a row of it has the same bytes alone and among those of other segments; `rows`: of a segment, a multiple of
 * JOIN_ROWS. May try it, which waits for the device. */
bool product_joins(const struct model *model, const struct layer_product *product, size_t rows);
/* What was tried. NULL: out of memory. */
struct joins *joins_create(void);
void joins_destroy(struct joins *joins);
/* For the rows of segments side by side. A row's result does not depend on the other segments. */
void segments_multiply(const struct model *model, const struct segment *segments, size_t count,
                       const struct layer_product *product, const real *x, real *before, real *y);

/* model_graph.c: model_work, which may be recorded and launched as one. `targets` of the batch. */
int model_repeat(const struct model *model, const struct pass *pass, const float *scales, size_t targets,
                 struct error *err);
/* NULL: out of memory. They are destroyed before the device. */
struct recordings *recordings_create(const struct model *model);
void recordings_destroy(const struct model *model, struct recordings *recordings);
/* model.c: forward, loss and, with scales, back, of what model_begin_pass has put on the device. Waits for nothing. */
int model_work(const struct model *model, const struct pass *pass, const float *scales, struct error *err);

/* A batch of one lane's, checked: no id, row or label lies outside its table. From then on all rows of a pass are
 * that lane's, and nothing of them is wanted but the forward pass; until model->segment_count is 0 again. */
int model_begin_forward(struct model *model, uint32_t lane, const struct batch *batch, struct error *err);

/* model_order.c: places of ids[count] in ascending order of the ids, those of one id in their own; keys and spare
 * [count] are room for it. */
void token_order(size_t count, const int32_t *ids, uint64_t *keys, uint64_t *spare, uint32_t *order);

/* The batch's arrays, and what its segments' methods put before its sequences, to the device. */
struct pass model_begin_pass(struct model *model, const struct batch *batch);
/* Heads of this rank, without sequences. */
struct attention model_heads(const struct model *model);

/* model->ids -> model->final. */
int model_forward(const struct model *model, const struct pass *pass, struct error *err);

/* x[n] = sum over ranks. */
int model_sum(const struct model *model, size_t n, real *x, struct error *err);
/* The same beside what is computed between the two; x is not touched meanwhile. */
int model_sum_begin(const struct model *model, size_t n, real *x, struct error *err);
int model_sum_end(const struct model *model, struct error *err);
int model_sum_floats(const struct model *model, size_t n, float *x, struct error *err);

static inline real *at(const struct model *model, const real *x, size_t index)
{
    return real_at(x, model->element, index);
}

/* model_dropout.c: the recipe's at a site (dropout.h); y may be x. Only while model->drops. */
void drop(const struct model *model, unsigned site, uint32_t layer, size_t tokens, const real *x, real *y);
/* Whether a lane's method has some; how many keys there are, 0 where no lane drops anything; a lane's, NULL there;
 * those of the pass to the device. */
bool lane_drops_inputs(const struct model_lane *lane);
size_t dropout_keys(const struct model *model);
const struct dropout_key *lane_keys(const struct model *model, size_t lane);
void upload_dropout_keys(const struct model *model);
/* Where a hook of a lane's method computes; of the first lane's. */
struct method_context lane_context(const struct model *model, size_t lane);
struct method_context model_context(const struct model *model);

/* model_adapters.c: the hooks of the lanes' methods, for the rows of their segments. Behind a half: `out`, whole on
 * every rank, [T][W], in place; back: the gradient of the half's own output, from that of what the methods made of it,
 * which is left alone. */
void halves_forward(const struct model *model, const struct layer *layer, enum half_place place, size_t tokens,
                    real *out);
const real *halves_backward(const struct model *model, const struct layer *layer, enum half_place place, size_t tokens,
                            const real *dout);
/* Beside a linear layer. */
void adapters_forward(const struct model *model, const struct linear *linear, const struct segment *segments,
                      size_t count, const real *x, real *y);
void adapters_backward(const struct model *model, const struct linear *linear, const struct segment *segments,
                       size_t count, const real *x, const real *dy, real *dx);

/* y = x W^T, with what the method adds; partial where the layer is row-parallel. */
void linear_forward(const struct model *model, const struct linear *linear, size_t tokens, const real *x, real *y);
/* before = that, y = GELU of it, at once where the device can. */
void linear_gelu_forward(const struct model *model, const struct linear *linear, size_t tokens, bool approximate,
                         const real *x, real *before, real *y);
/* dx = dy W, or += where `add`; NULL: not wanted; with what the method adds, whose gradients +=. */
void linear_backward(const struct model *model, const struct linear *linear, size_t tokens, const real *x,
                     const real *dy, real *dx, bool add);
/* Gradients of the weight and the bias +=. */
void linear_backward_weights(const struct model *model, const struct linear *linear, size_t tokens, const real *x,
                             const real *dy);

/* model_norm.c: x += residual (NULL: none), y = norm(x), x [rows][W]; dx +=, gradients of gain and bias +=. */
void norm_forward(const struct model *model, const struct norm *norm, size_t rows, const real *residual, real *x,
                  real *y);
void norm_backward(const struct model *model, const struct norm *norm, size_t rows, const real *x, const real *dy,
                   real *dx);
/* Rows that are normed of the queries or keys (a part of the shard) of so many tokens. */
size_t head_norm_rows(const struct model *model, const struct part *part, size_t tokens);
/* layer->raw_q, raw_k -> q, k, and back in place. Collective. */
int head_norms_forward(const struct model *model, const struct layer *layer, size_t tokens, struct error *err);
int head_norms_backward(const struct model *model, const struct layer *layer, size_t tokens, real *dq, real *dk,
                        struct error *err);

/* Whether a block's attention_in, mlp_in and activated, which the backward pass reads, have been overwritten since. */
bool inputs_are_gone(const struct model *model, const struct layer *layer);

/* model_half.c: from layer->attention_in or mlp_in to `out`, partial over ranks; back from dout (whole) to dinput
 * (NULL: not wanted), whose sum over ranks has begun: model_sum_end() ends it. dout is left alone. */
int attention_forward(const struct model *model, const struct layer *layer, const struct pass *pass, real *out,
                      struct error *err);
int attention_backward(const struct model *model, const struct layer *layer, const struct pass *pass, const real *dout,
                       real *dinput, struct error *err);
void mlp_forward(const struct model *model, const struct layer *layer, const struct pass *pass, real *out);
int mlp_backward(const struct model *model, const struct layer *layer, const struct pass *pass, const real *dout,
                 real *dinput, struct error *err);

/* This rank's logits of the rows model->rows[first .. first + count - 1] of model->final, at most model->loss_rows, in
 * model->logits. */
void model_logits(const struct model *model, size_t first, size_t count);

/* model_layer.c: layer->input -> layer->output; back, model->dx: from the gradient of the output to that of the input;
 * with `last` nothing below this block wants it. */
int block_forward(const struct model *model, const struct layer *layer, const struct pass *pass, struct error *err);
int block_backward(const struct model *model, const struct layer *layer, const struct pass *pass, bool last,
                   struct error *err);

/* Cross-entropy of the rows with a loss, from model->final, for the lanes of the pass, in model->loss_values. scales
 * [lane_count]: gradients too, and model->dx is begun; NULL: the losses alone. */
int model_loss(const struct model *model, size_t tokens, const float *scales, struct error *err);
/* Their sums, for each lane of the pass, there once they are collected. */
void model_losses(const struct model *model, struct begun_pass *begun);

#endif
