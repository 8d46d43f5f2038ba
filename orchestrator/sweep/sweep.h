/* The sweep file as plain values: axes, recipes, resources. Read once by the master (io/config), checked wholly, never
 * changed.
 *
 * At full size: a dozen values an axis, 10^5 points. docs/configuration.md describes every key. */
#ifndef TUNELAW_ORCHESTRATOR_SWEEP_SWEEP_H
#define TUNELAW_ORCHESTRATOR_SWEEP_SWEEP_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fitting/settings.h"
#include "io/error.h"
#include "io/text/dataset.h"
#include "workers/model/config.h"

enum { SWEEP_TASKS = 16 }; /* at most; sets of them are bits */

/* A task: its finetuning examples, and what its points are validated and tested on. */
struct sweep_task {
    char name[48];
    char dataset[PATH_MAX];   /* resolved against the sweep file's folder; "": none is named */
    struct dataset_info data; /* of the data set, as it was when the sweep was read */
    struct digest tokenizer;  /* of its bytes; "" where the sweep has one task, or what is known is not the file */
    bool there;               /* the file could be opened while the sweep was read */
    uint64_t valid_examples, test_examples; /* 0: all */
};

/* What the sweep says of a model beside its shape. */
struct sweep_model {
    uint32_t tasks;   /* bits: it is finetuned on these */
    bool declared;    /* imported: the file says its shape, so that it can be planned without the folder */
    uint32_t text;    /* trained: it is pretrained on the text of this task's data set */
    uint64_t *tokens; /* trained: its own part of the axis, ascending; imported: none, see sweep_import_of */
    size_t token_count;
    uint64_t decay_steps; /* of its pretraining */
    unsigned line;        /* of the file, on which it begins */
};

/* A cell at which a method's learning rate is tuned for all others. Indices into the axes. */
struct sweep_reference {
    uint32_t task, model, tokens, size, examples, seed;
};

/* A PEFT folder with an adapter that a method starts from. */
struct sweep_start {
    char dir[PATH_MAX];          /* resolved as the data set is; "": none */
    struct digest identity;      /* of its method and tensors: peft_identify */
    struct method_config method; /* what it is */
    bool partial;                /* not one of every model that has a task of the method */
};

/* One row of the methods list: a method with its PET sizes and learning rates. A method is there once for a task. */
struct sweep_method {
    struct method_config config; /* size is filled per point */
    uint32_t tasks;              /* bits */
    struct sweep_start start;    /* of none: the adapter that the model is evaluated with */
    uint32_t *sizes;             /* full and none: one entry, 0 */
    size_t size_count;
    uint64_t *examples; /* of this method, a part of the sweep's axis, ascending; none: empty */
    size_t example_count;
    double *learning_rates; /* none: one entry, 0 */
    size_t learning_rate_count;
    bool at_reference; /* the rates are candidates at a cell of each task, and every other cell has the best of them */
    struct sweep_reference references[SWEEP_TASKS]; /* [task], with at_reference; several tasks may have one cell */
    struct recipe recipe;                           /* finetuning recipe with this method's overrides */
    double epochs; /* 0: max_steps alone. recipe.steps is max_steps, 0: epochs alone; sweep_finetune_steps */
    bool share;    /* points that differ in examples alone train their common beginning once */
};

/* least <= value <= most. */
struct sweep_range {
    bool given;
    double least, most;
};

/* A set of cells: a cell belongs to it when every condition that is given holds. Empty lists: any value. */
struct sweep_cells {
    struct sweep_range parameters, pretrain_token_range, example_range, size_range;
    char (*tasks)[48];
    size_t task_count;
    char (*models)[48];
    size_t model_count;
    char (*methods)[48];
    size_t method_count;
    uint64_t *pretrain_tokens, *examples, *sizes, *seeds;
    size_t pretrain_token_count, example_count, size_count, seed_count;
};

/* Axes that go together: their first values, their second ones, and so on. */
enum sweep_axis { SWEEP_TASK, SWEEP_MODEL, SWEEP_PRETRAIN_TOKENS, SWEEP_EXAMPLES, SWEEP_SEED, SWEEP_AXES };
struct sweep_zip {
    bool axes[SWEEP_AXES];
};

/* A cell of `when` is kept where it is one of `keep`, too. */
struct sweep_conditional {
    struct sweep_cells when, keep;
};

/* An L-shaped grid: of model, pretraining tokens and PET size at most one is another than here (Zhang et al. 2024,
 * section 3: each axis against finetuning data). Indices into the axes; PET sizes themselves, of each kind of method.
 */
struct sweep_centre {
    bool given;
    uint32_t model, tokens, sizes[METHODS];
};

/* What runs first: what ends the sweep soonest, or what tells most of the laws (orchestrator/plan/plan_order.h). */
enum sweep_order { SWEEP_LONGEST_CHAIN, SWEEP_INFORMATION };

/* Whether training computes activations again instead of keeping them; auto: where a stage does not fit otherwise. */
enum sweep_recompute { RECOMPUTE_AUTO, RECOMPUTE_ALWAYS, RECOMPUTE_NEVER };

#define GPU_PROCESS_BYTES ((uint64_t)1 << 30) /* of a worker beside its arenas: context, library workspaces */
#define STAGES_PER_DEVICE 64                  /* at most */

#define SWEEP_PACK_AUTO 0u /* where a measurement at the start says that it pays (orchestrator/run/master_pack.c) */

/* A GPU waits so long for an operation, unless the file says otherwise: a launch and its kernel's beginning and end. */
#define SWEEP_GPU_OPERATION_SECONDS 10e-6

struct sweep_resources {
    char backend[16];           /* auto, cpu, cuda, reference */
    uint32_t tensor_parallel;   /* devices a stage; 0: the smallest that fits */
    uint32_t threads;           /* matmul threads a device, CPU */
    uint32_t devices;           /* devices a node; 0: what the node has (CPU: cores / threads) */
    uint64_t device_bytes;      /* memory of one device; 0: not known */
    uint64_t process_bytes;     /* of it, of a process beside its arenas, on GPUs: context, libraries' workspaces */
    uint32_t stages_per_device; /* at most, orchestrator/plan/share.h; 1: none shares one */
    double operation_seconds;   /* in which a device waits for an operation to be launched; 0: of the backend */
    uint32_t attempts;          /* of a stage before it is given up, in one run */
    double hang_seconds, checkpoint_seconds;
    uint64_t checkpoint_steps;
    bool keep_weights;
    uint32_t pack; /* points of one base that are trained in one pass at most; 1: none, SWEEP_PACK_AUTO */
    enum sweep_order order;
    enum sweep_recompute recompute;
};

/* A base that is read from a Hugging Face folder: a revision of a model. */
struct sweep_import {
    uint32_t model;         /* index */
    uint64_t tokens;        /* that it has seen, as the file says */
    char dir[PATH_MAX];     /* resolved as the data set is */
    struct digest identity; /* of its shape and weights: huggingface_identify */
};

struct sweep {
    char path[PATH_MAX]; /* of the file, as given */
    char *text;          /* its bytes */
    size_t text_size;
    char name[48];
    struct sweep_task *tasks;
    size_t task_count;
    struct model_config *models;
    struct sweep_model *bases; /* [model_count] */
    size_t model_count;
    uint64_t *pretrain_tokens; /* ascending, as wished: a checkpoint holds whole steps, sweep_pretrain_steps */
    size_t pretrain_token_count;
    struct sweep_import *imports;
    size_t import_count;
    enum precision precision; /* of every recipe */
    struct recipe pretrain;   /* zeros where every model is imported; decay_steps: see sweep_pretrain_recipe */
    uint64_t pretrain_seed;
    uint64_t *examples; /* ascending */
    size_t example_count;
    struct generation_config generate;
    struct sweep_method *methods;
    size_t method_count;
    uint64_t *seeds;
    size_t seed_count;
    struct sweep_cells *exclude, *held_out;
    size_t exclude_count, held_out_count;
    struct sweep_conditional *only;
    struct sweep_zip *zips;
    size_t only_count, zip_count;
    struct sweep_centre centres[SWEEP_TASKS]; /* of each task */
    struct sweep_resources resources;
    struct fit_settings fit; /* how laws are fitted, unless the command line says otherwise */
    struct error missing;    /* "": all is there that the file names; else the first thing that it only declares: such a
                                sweep is planned, its identities are not final, and it is not run */
    char *parameters;        /* every parameter as it was taken, one a line, defaults marked: for the log */
};

/* Names of resources.backend, and one instead of what the sweep file says: where stages run is no part of what they
 * are. */
#define SWEEP_BACKENDS "auto, cpu, cuda, reference"
bool sweep_backend_known(const char *name);
/* Whether a backend ("auto" may be any) has the precision. */
bool sweep_backend_computes(const char *name, enum precision precision);
void sweep_set_backend(struct sweep *sweep, const char *name);

/* Read and check a sweep file against the data set that it names (vocabulary, number of examples). Errors: FILE:LINE:
 * what, allowed. Nothing is written. From text: `path` is used for messages and for resolving relative paths. NULL with
 * *err. */
struct sweep *sweep_load(const char *path, struct error *err);
struct sweep *sweep_parse(const char *path, const char *text, size_t size, struct error *err);
/* As sweep_parse, with tasks that are known: a task of the text that is one of known[count], by its name, else by its
 * data set's path, else because each side has one alone, has that one's data, and its data set is not opened. */
struct sweep *sweep_parse_on(const char *path, const char *text, size_t size, const struct sweep_task *known,
                             size_t count, struct error *err);
void sweep_destroy(struct sweep *sweep);

/* -1: something of the sweep is declared, and not there. */
int sweep_check_complete(const struct sweep *sweep, struct error *err);

/* The digests of the data sets as a store keeps them: of one task the digest; of several "NAME DIGEST, NAME DIGEST".
 * Read back: the digest of a task, "" where it has none; `single` names the task of a text that is one digest. */
#define SWEEP_DIGESTS (SWEEP_TASKS * (48 + DIGEST_HEX + 3))
void sweep_digests(const struct sweep *sweep, char out[SWEEP_DIGESTS]);
struct digest sweep_digest_of(const char *digests, const char *single, const char *task);

/* -1: an imported model and a data set of so large a vocabulary are of different tokenizers. Models often have some
 * rows more than their tokenizer, up to a round number. */
int sweep_vocabulary_check(size_t vocabulary, const struct model_config *model, struct error *err);

/* Whether a model is imported; its base of so many tokens, or NULL; whether a model has a base at a place of the axis
 * of token counts. */
bool sweep_imported(const struct sweep *sweep, size_t model);
const struct sweep_import *sweep_import_of(const struct sweep *sweep, size_t model, uint64_t tokens);
bool sweep_has_base(const struct sweep *sweep, size_t model, size_t tokens);

/* The recipe with which a model is pretrained here. */
struct recipe sweep_pretrain_recipe(const struct sweep *sweep, size_t model);
/* Optimiser steps of pretraining up to a wished number of tokens, rounded up; and the tokens that so many steps see. */
uint64_t sweep_pretrain_steps(const struct recipe *pretrain, uint64_t tokens);
uint64_t sweep_step_tokens(const struct recipe *pretrain, uint64_t steps);
/* Optimiser steps of finetuning on so many examples: the smaller of max_steps and the steps of `epochs`. */
uint64_t sweep_finetune_steps(const struct sweep_method *method, uint64_t examples);

#endif
