/* A finetuning method: what is trainable, and what is inserted into the model. One struct of functions a method, called
 * by the model at its fixed places; a method that does nothing at a place has NULL there. */
#ifndef TUNELAW_WORKERS_MODEL_METHOD_H
#define TUNELAW_WORKERS_MODEL_METHOD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "workers/model/dropout.h"
#include "workers/model/parameters.h"
#include "workers/model/shard.h"

/* Collects the tensors of one rank's shard. list NULL: counts. */
struct tensor_walk {
    const struct model_config *model;
    const struct method_config *method;
    struct shard shard;
    struct parameter *list;
    size_t count;
    bool adapter, trainable; /* of the tensors that are being added */
    uint64_t thaw;           /* steps before the first one that trains them */
    int32_t block;           /* theirs; -1: of none */
};
/* partial: ranks that hold the same element have different parts of its gradient. */
void tensor_add(struct tensor_walk *walk, const char *name, struct part rows, struct part columns, bool decay,
                bool partial);

/* One linear layer of the model, y[T][out] = x[T][in] W^T + b, as this rank holds it. */
struct linear {
    struct parameter *weight; /* [out][in]; NULL: the model has no such layer */
    struct parameter *bias;   /* [out], NULL without */
    bool adds_bias;           /* this rank does, in the forward pass: of a row-parallel layer the first one alone */
    struct parameter
        *adapter[2]; /* tensors that the method has beside it, NULL without: its hooks are then not called */
    real *kept;      /* [T][linear_kept] what the method keeps from forward to backward */
    enum linear_kind kind;
    size_t out, in;
    struct part input; /* the columns of x that this rank has */
    uint32_t layer;
    bool changes_input, changes_output; /* set by the method: its linear_input, linear_output_backward are called */
};

/* What a method has behind a half of a block: on the half's output, before it is added to the residual stream, or
 * normed. */
enum half_place { HALF_ATTENTION, HALF_MLP, HALVES };
struct half {
    struct parameter *adapter[4]; /* NULL without */
    real *kept;                   /* [T][half_kept] */
};

/* Where a hook computes. */
struct method_context {
    const struct kernels *kernels;
    struct device *device;
    size_t element; /* bytes of a `real` */
    const struct method_config *config;
    real *scratch;                  /* [T][scratch] */
    const struct dropout_key *keys; /* [layers][DROPOUT_SITES], device memory; NULL: not in training, or none drops */
    real *input;                    /* [T][largest input of a linear layer], where drops_inputs */
};

/* One lane's rows at a linear layer, for the hooks beside it: x [tokens][in]; y [tokens][out] forward; dy and dx (NULL:
 * not wanted) backward. The arrays, `kept` and the scratch begin at those rows. */
struct linear_rows {
    struct method_context context;
    const struct linear *linear;
    size_t tokens;
    const real *x, *dy;
    real *y, *dx;
};

struct method {
    bool trains_base;         /* every tensor of the base */
    bool trains_biases;       /* of the base, nothing else of it */
    bool reads_linear_inputs; /* backward reads the inputs of linear layers: weights, or adapters beside them, are
                                 trained */
    bool scratch_forward;     /* scratch is used in the forward pass, too */

    /* Add the method's tensors, after those of the base. */
    void (*parameters)(struct tensor_walk *walk);
    /* Initial values of the method's tensors. May call collectives. */
    int (*initialise)(struct parameters *parameters, const struct model_config *model,
                      const struct method_config *config, uint64_t seed, struct error *err);

    /* floats a token for all hooks; NULL: none */
    size_t (*scratch)(const struct method_config *config, const struct shard *shard);

    /* On a linear layer called `module` ("model.layers.0.mlp.up_proj"): find its tensors; floats a token kept from
     * forward to backward; y +=; gradients +=, dx +=. y of a row-parallel layer is partial, to be summed over ranks
     * later, as dx of a column-parallel one is. Lanes of a pack come together, so that a device can compute them at
     * once, each with the tensors of its own adapter: what is computed for one depends on no other. */
    void (*linear_attach)(struct linear *linear, const struct parameters *parameters, const char *module);
    size_t (*linear_kept)(const struct method_config *config, enum linear_kind kind, const struct linear_shape *shape);
    bool (*drops_inputs)(const struct method_config *config); /* context->input is wanted in training; NULL: never */
    void (*linear_forward)(const struct linear_rows *lanes, size_t count);
    void (*linear_backward)(const struct linear_rows *lanes, size_t count);

    /* Where it changes the input: what the layer multiplies in place of x, [tokens][in], and back, dx = the gradient of
     * x from that of `input`, += where `add` (NULL: not wanted). Where it changes the output y: the gradient of what
     * the layer gave. Gradients +=. Which of the two follows from the layer's kind; whether it does, from the lane's
     * own modules. */
    void (*linear_input)(const struct method_context *context, const struct linear *linear, size_t tokens,
                         const real *x, real *input);
    void (*linear_input_backward)(const struct method_context *context, const struct linear *linear, size_t tokens,
                                  real *dinput, bool add, real *dx);
    void (*linear_output_backward)(const struct method_context *context, const struct linear *linear, size_t tokens,
                                   const real *dy, real *dout);

    /* On the weights of a linear layer: they take up what the method adds beside it. NULL: a method with tensors of its
     * own that no weight can take up (a prompt). */
    int (*linear_merge)(const struct method_context *context, const struct linear *linear, struct error *err);

    /* On the output of a half block, whole on every rank, [tokens][width], `half` as in "LAYERS.0.mlp": find its
     * tensors; floats a token kept; y becomes what the method makes of it, and dy the gradient of what it was. As for
     * linear layers, the rows may be some of a batch. */
    void (*half_attach)(struct half *half, const struct parameters *parameters, const char *name);
    size_t (*half_kept)(const struct method_config *config, size_t width);
    void (*half_forward)(const struct method_context *context, const struct half *half, size_t tokens, size_t width,
                         real *y);
    void (*half_backward)(const struct method_context *context, const struct half *half, size_t tokens, size_t width,
                          real *dy);

    /* On the embeddings: the table that ids -1, -2, ... of a batch mean. */
    struct parameter *(*prompt)(const struct parameters *parameters);

    /* On attention: the table of keys and values before every sequence,
     * [length][layers][2][all kv_heads][head_width]. */
    struct parameter *(*prefix)(const struct parameters *parameters);
};

extern const struct method method_none, method_full, method_lora, method_prompt, method_prefix, method_ia3,
    method_bitfit, method_adapter;
const struct method *method_of(enum method_kind kind);

#endif
