/* The tensors of one rank's shard of a model and its method: names, global shapes, which part this rank holds, and
 * where in the arenas.
 *
 * At full size: 16B weights over 8 devices, a few hundred tensors. The same walk over the tensors counts bytes (for the
 * plan) and assigns pointers (for the worker), so that predicted bytes are allocated bytes. Names are those of Hugging
 * Face's models ("model.layers.0.self_attn.q_proj.weight"), adapters those of PEFT without its prefix
 * ("model.layers.0.self_attn.q_proj.lora_A.weight", "prompt_embeddings").
 *
 * Sharding (Shoeybi et al. 2019): q, k, v, gate, up by output rows (whole heads), their biases with them; o, down by
 * input columns, their biases whole; embedding and output by vocabulary rows; norms, prompt whole, norms of queries and
 * keys with their heads. Key/value heads are replicated where there are fewer than ranks.
 * Uneven shards are allowed (20 heads over 8 ranks). */
#ifndef TUNELAW_WORKERS_MODEL_PARAMETERS_H
#define TUNELAW_WORKERS_MODEL_PARAMETERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/checkpoint/checkpoint.h"
#include "kernels/collective.h"
#include "kernels/kernels.h"
#include "workers/model/config.h"
#include "workers/model/cost.h"

/* What an optimiser keeps beside a tensor: as many numbers as it has, one a row, or one a column. */
enum moment_form { MOMENT_NONE, MOMENT_FULL, MOMENT_ROWS, MOMENT_COLUMNS };

struct parameter {
    char name[96];
    size_t rows, columns; /* global shape; vectors are [1][n], or [n][1] where they are cut with a matrix's rows */
    size_t row_first, row_count, column_first, column_count; /* what this rank holds, dense */
    size_t owned_first, owned_count; /* of the held rows, those that no rank before holds: this rank writes them and
                                        counts them in norms */
    bool whole;                      /* every rank holds all of it */
    bool rows_cut, columns_cut;      /* ranks hold different rows, columns */
    bool trainable;
    bool decay;            /* weight decay applies: matrices, not norms */
    bool partial_gradient; /* some of it is held by several ranks, each with its own part of the gradient: summed over
                              ranks before the step */
    bool adapter;          /* of the method, not of the base */
    /* Device memory, [row_count][column_count]. The model reads `matrix` of a tensor that multiplies (decay), `value`
     * of a vector. Of a matrix, where the device stores less than floats: fp32 values are kept beside while it is
     * trained, and matrix is their rounding; else value is NULL. Where it stores floats the two are one. */
    float *value;
    real *matrix;
    float *gradient;      /* the same shape; NULL where not trained now or where only evaluation is wanted, as below */
    float *gradient_room; /* where it lies while the tensor is trained */
    bool product;         /* of the base, and its gradient begins with a matrix product: it is not zeroed but */
    bool stale;           /* this says that the product overwrites what is there */
    int32_t block;        /* the layer whose it is; -1: of none, as embeddings */
    uint64_t thaw;        /* steps before the first one that trains it */
    float *moment1, *moment2; /* of the optimiser (optimiser.h), of these forms */
    enum moment_form form1, form2;
    float *sums1, *sums2; /* Adafactor: squares of gradients, of the forms of the moments */
};

struct parameters {
    struct parameter *list;
    size_t count;
    struct collective collective;
    const struct kernels *kernels;
    struct device *device;
    size_t element;                                 /* bytes of a `real` */
    void *base_arena, *train_arena, *adapter_arena; /* owned */
    /* all gradients, one after another; those that are whole and partial come first, products' last */
    float *gradients;
    size_t partial_count, zeroed_count, gradient_count; /* floats of the first; of all but products'; of all */
    float *sums; /* all sums1 and sums2; those that are to be summed over ranks come first */
    size_t partial_sums;
    /* [count] on the host, owned: room for lists that the kernels take */
    struct span *spans;
    struct update *updates;
    struct factored *factored;
    double *squares;      /* [3][count] on the host: numbers of each tensor; owned */
    size_t squares_count; /* of the norm that has begun */
    float *shared; /* room for one tensor of which only some ranks hold a part (shared KV heads), at its global shape */
    bool lent;     /* some gradients lie in a model's memory (parameters_create_one_pass) */
};

/* What this rank holds of a model with a method; trainable tensors get gradients and what the recipe's optimiser
 * keeps; recipe NULL: evaluation alone. Values
 * are zero. Base tensors come first, in the order of the layers. NULL with *err (device memory). */
struct parameters *parameters_create(const struct model_config *model, const struct method_config *method,
                                     const struct recipe *recipe, const struct collective *collective,
                                     const struct kernels *kernels, struct device *device, struct error *err);
/* The same for steps of one pass (batch_capacity.one_pass): gradients of the blocks' matrices, where they are trained,
 * have no room here. model_create puts them where activations were that nobody reads any more. */
struct parameters *parameters_create_one_pass(const struct model_config *model, const struct method_config *method,
                                              const struct recipe *recipe, const struct collective *collective,
                                              const struct kernels *kernels, struct device *device, struct error *err);
/* As parameters_create, for another adapter on a base that is there already: tensors of the base are those of `base`
 * (of the same model, without gradients), which must outlive it; the adapter's are its own. */
struct parameters *parameters_create_beside(const struct parameters *base, const struct model_config *model,
                                            const struct method_config *method, const struct recipe *recipe,
                                            struct error *err);
/* Its device NULL: what it has on the device is not released. */
void parameters_destroy(struct parameters *parameters);

/* From now on gradients are those of step `step` (from 1): of what it trains. At first all are. */
void parameters_thaw(struct parameters *parameters, uint64_t step);

/* The tensors of a whole base and of what the method adds, without memory: names and shapes. *list is malloc'ed. */
int parameters_list(const struct model_config *model, const struct method_config *method, struct parameter **list,
                    size_t *count, struct error *err);

/* Floats of the host into elements first .. first+count-1 of a tensor's held part. */
void parameter_write(const struct parameters *parameters, const struct parameter *parameter, size_t first, size_t count,
                     const float *from);
/* And back, complete on return: 0, or -1 where the device has failed, and nothing of `to` is to be used. */
int parameter_read(const struct parameters *parameters, const struct parameter *parameter, size_t first, size_t count,
                   float *to, struct error *err);

/* Where the optimiser writes what the model reads; NULL where that are the values themselves. */
static inline real *parameter_rounding(const struct parameter *p)
{
    return (const void *)p->matrix == p->value ? NULL : p->matrix;
}

/* Host memory for the largest tile (malloc, the caller frees). NULL with *err. */
float *parameters_staging(const struct parameters *parameters, struct error *err);

/* "....bias" */
bool parameter_is_bias(const char *name);

/* By name, or NULL. */
struct parameter *parameters_find(const struct parameters *parameters, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Bytes that parameters_create, or its like, allocates on one rank whose device stores `element` bytes: adds to
 * parameters, gradients, optimiser. -1: the model cannot be cut into `size` parts. */
enum parameters_form { PARAMETERS_ALONE, PARAMETERS_ONE_PASS, PARAMETERS_BESIDE };
int parameters_memory(const struct model_config *model, const struct method_config *method, const struct recipe *recipe,
                      enum parameters_form form, size_t element, int rank, int size, struct memory *memory,
                      struct error *err);

/* bytes[layers]: of the gradients of each block that parameters_create_one_pass leaves without room, on one rank. */
int parameters_lent_bytes(const struct model_config *model, const struct method_config *method, int rank, int size,
                          size_t *bytes, struct error *err);
/* They lie there from now on, in so many bytes of device memory that the caller owns; NULL: nowhere again. */
void parameters_lend(struct parameters *parameters, uint32_t block, float *room);

/* Initial values, a function of (seed, tensor name, global element index) alone: the same for every degree. Base:
 * normal with deviation 0.02, and 0.02 / sqrt(2 layers) for o and down; norms 1, biases 0. LoRA (Hu et al. 2021): A
 * uniform (Kaiming, a = sqrt(5): +-1/sqrt(in)), B zero. */
void parameters_initialise_base(struct parameters *parameters, const struct model_config *model, uint64_t seed);
/* Adapters; prompts (Lester et al. 2021) are copies of sampled vocabulary embeddings, so the base must be loaded
 * before. May call collectives. */
int parameters_initialise_adapter(struct parameters *parameters, const struct model_config *model,
                                  const struct method_config *method, uint64_t seed, struct error *err);
/* A prompt begins as the embeddings of ids[count], again and again up to its length (PEFT's PromptTuningInit.TEXT); the
 * ids are of the vocabulary. May call collectives. */
int parameters_initialise_prompt(struct parameters *parameters, const struct model_config *model, const int32_t *ids,
                                 size_t count, struct error *err);

/* One tensor: every value `size`, uniform in +-size, or normal with deviation `size`; drawn by (seed, name, global
 * index). */
enum initial { INITIAL_CONSTANT, INITIAL_UNIFORM, INITIAL_NORMAL };
void parameter_fill(const struct parameters *parameters, const struct parameter *parameter, enum initial initial,
                    double size, uint64_t seed);

/* Copy the tile of every base (or trainable) tensor from a checkpoint's "value/NAME" (and moments where wanted and
 * present). */
int parameters_load(struct parameters *parameters, const struct checkpoint *checkpoint, bool trainable_only,
                    bool moments, struct error *err);
/* Declare (one rank) and put (each rank in turn, its owner tiles) the trainable tensors, with moments where wanted. */
int parameters_declare(const struct parameters *parameters, struct checkpoint_writer *writer, bool moments,
                       struct error *err);
int parameters_put(const struct parameters *parameters, struct checkpoint_writer *writer, bool moments,
                   struct error *err);

#endif
