/* What a stage is made of: model, method, recipe. Plain values, printed and hashed by the planner, obeyed by the
 * trainer. Pure functions of them: parameter counts and validity. */
#ifndef TUNELAW_WORKERS_MODEL_CONFIG_H
#define TUNELAW_WORKERS_MODEL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/error.h"
#include "kernels/precision.h"
#include "kernels/rotary.h"
#include "workers/model/architecture.h"
#include "workers/model/mixture.h"

/* Far above any model that fits a cluster, low enough that no count overflows 64 bits. */
enum {
    LAYERS_LIMIT = 4096,
    WIDTH_LIMIT = 1 << 18, /* of a head, too */
    HEADS_LIMIT = 4096,
    FFN_LIMIT = 1 << 20,
    VOCABULARY_LIMIT = 1 << 24
};

/* Decoder-only Transformer with rotary positions; what else it is made of, its architecture says. */
struct model_config {
    char name[48];
    uint32_t layers, width, heads, kv_heads, head_width, ffn, vocabulary;
    bool tied; /* the output matrix is the embedding */
    double rope_theta, norm_epsilon;
    struct rotary_scaling rope_scaling; /* of imported models alone */
    struct architecture architecture;
};

enum method_kind {
    METHOD_NONE,
    METHOD_FULL,
    METHOD_LORA,
    METHOD_PROMPT,
    METHOD_PREFIX,
    METHOD_IA3,
    METHOD_BITFIT,
    METHOD_ADAPTER,
    METHOD_UNFREEZE,
    METHODS
};
const char *method_name(enum method_kind kind);
int method_find(const char *name); /* enum method_kind, or -1 */
/* The method has a PET size, an axis of the sweep: what it is called in sweep files ("ranks"), or NULL. */
const char *method_sizes(enum method_kind kind);

#define PROMPT_TEXT 1024 /* bytes, with the final zero */

/* Zero: not used, or the usual. */
struct method_config {
    enum method_kind kind;
    uint32_t size;          /* PET size: LoRA rank, prompt or prefix length, adapter width; 0 for methods without */
    double alpha;           /* LoRA: the update is scaled by alpha / rank */
    bool rank_stabilised;   /* LoRA: by alpha / sqrt(rank) instead (Kalajdzievski 2023) */
    double dropout;         /* LoRA: of the inputs of its A, in training; 0: none */
    uint32_t modules;       /* LoRA: bits of enum linear_kind, the matrices that have adapters; 0: all. IA3: those whose
                               outputs, or inputs in the MLP, are scaled; 0: keys, values, down */
    bool mlp_only;          /* adapter: after the MLP alone (Pfeiffer), not after both halves of a block (Houlsby) */
    uint32_t thaw_layers;   /* unfreeze: blocks of a group */
    uint64_t thaw_steps;    /* unfreeze: steps after which the next group below is trained, too */
    char text[PROMPT_TEXT]; /* prompt: what it begins as (prompt_text.h); "": embeddings that are drawn */
};

/* Matrices of a layer by name, as bits of enum linear_kind: "attention", "mlp", "all", or the last part of a matrix's
 * name in any family ("q_proj", "dense"), which means the matrix of that place in every family. 0: no such name. */
uint32_t modules_find(const char *name);
/* Those of a method that chooses none. */
uint32_t modules_usual(enum method_kind kind);
/* The method has something beside matrices of this kind. */
bool method_module(const struct method_config *method, enum linear_kind kind);
/* Virtual tokens in front of each sequence; places before its first token that it sees but that are no tokens. */
uint32_t method_prompt_length(const struct method_config *method);
uint32_t method_prefix_length(const struct method_config *method);
/* Steps before the first one that trains a block, counted from below; the embeddings go with block 0, final norm and
 * untied output matrix with the topmost. 0: from the first step on. */
uint64_t method_thaw(const struct method_config *method, const struct model_config *model, uint32_t block);
/* What makes a method with the same kind, size and alpha another one, as text: " key=value" each, "" where all is
 * usual. For identities. Cut at `size`; returns the length. */
#define METHOD_TEXT 256
int method_text(const struct method_config *method, char *out, size_t size);

enum schedule_kind {
    SCHEDULE_CONSTANT,
    SCHEDULE_LINEAR,
    SCHEDULE_COSINE,
    SCHEDULE_INVERSE_SQRT,
    SCHEDULE_WSD,
    SCHEDULES
};
const char *schedule_name(enum schedule_kind kind);
int schedule_find(const char *name);

/* In which order the first pass visits the finetuning examples: an order of each subset's own, or that in which subsets
 * are nested, so that a larger set begins with the whole of a smaller one. */
enum example_order { ORDER_SHUFFLED, ORDER_STREAM, ORDERS };
const char *example_order_name(enum example_order order);
int example_order_find(const char *name);

enum optimiser_kind { OPTIMISER_ADAMW, OPTIMISER_ADAFACTOR, OPTIMISER_SGD, OPTIMISERS };
const char *optimiser_name(enum optimiser_kind kind);
int optimiser_find(const char *name);

/* What pretraining predicts: the next token everywhere, or the targets of a mixture of denoisers (workers/train/ul2.h).
 */
enum objective { OBJECTIVE_CAUSAL, OBJECTIVE_UL2, OBJECTIVES };
const char *objective_name(enum objective objective);
int objective_find(const char *name);

/* How a stage is trained. */
struct recipe {
    enum optimiser_kind optimiser;
    bool parameter_scale; /* Adafactor: the rate is times a tensor's root mean square */
    double momentum;      /* SGD */
    double learning_rate, weight_decay;
    double beta1, beta2, epsilon; /* AdamW */
    double clip_norm;             /* 0: no clipping */
    enum schedule_kind schedule;
    uint64_t warmup_steps;    /* linear from 0 */
    uint64_t decay_steps;     /* linear, cosine and WSD reach final_ratio at this step; absolute */
    double final_ratio;       /* of learning_rate */
    double decay_share;       /* WSD: of decay_steps, at their end, in which the rate falls */
    enum precision precision; /* of matrix products, in training and evaluation; one for the whole sweep */
    double dropout; /* of training: of the embeddings, and of what attention and MLP add to the residual stream */
    double label_smoothing;   /* of training losses; evaluation has none */
    enum objective objective; /* pretraining */
    struct mixture mixture;   /* of the objective ul2, else zeros */
    uint32_t sequence_length; /* pretraining: tokens a sequence; finetuning: examples are cut to it */
    uint32_t batch;           /* sequences (pretraining) or examples (finetuning) a step */
    uint64_t steps;           /* finetuning: optimiser steps in all */
    uint32_t evaluations;     /* finetuning: validations, evenly spread, the last at the last step */
    uint32_t patience;        /* stop after this many validations without gain; 0: never */
    enum example_order order; /* finetuning */
    /* finetuning: a validation after every so many steps and at the last, instead of `evaluations`; 0: as these say */
    uint64_t evaluation_steps;
};

/* Texts that are generated and measured at the end of a finetuning stage, with the best weights. All zero: none. Not
 * part of what a point is. */
struct generation_config {
    uint32_t metrics;        /* bits 1 << enum text_metric (metrics.h) that are kept in the result */
    uint32_t beams;          /* 1: greedy */
    uint32_t max_new_tokens; /* 0: nothing is generated */
    double length_penalty;   /* of beam search: scores are log p / tokens^length_penalty */
    uint64_t examples;       /* of the test split, its first; 0: as many as the test has */
    bool save;               /* keep the texts: generations/ID.jsonl */
};

/* Learning rate of step 1, 2, ... */
double recipe_rate(const struct recipe *recipe, uint64_t step);
/* The last step whose rate, and that of every step before it, would be the same if the training were longer. */
uint64_t recipe_steady_steps(const struct recipe *recipe);

/* All weights; those outside the embedding and output matrices; those that the method trains. */
uint64_t model_parameters(const struct model_config *model);
uint64_t model_non_embedding_parameters(const struct model_config *model);
uint64_t method_parameters(const struct model_config *model, const struct method_config *method);

/* All that makes a model another model, but its name, as one line: what identities are made of. Cut at `size`, below
 * MODEL_TEXT. What a Llama does not have is not named. */
#define MODEL_TEXT 512
int model_text(const struct model_config *model, char *out, size_t size);

/* What is wrong with a configuration, what is allowed. No FILE:LINE: the caller puts it in front. */
int model_config_check(const struct model_config *model, struct error *err);
int method_config_check(const struct method_config *method, const struct model_config *model, struct error *err);
/* That the model has one of the modules at least. */
int method_modules_check(const struct method_config *method, const struct model_config *model, struct error *err);

#endif
