/* One stage of the plan, as it is handed to a worker: everything that the worker needs to know, and nothing about the
 * sweep.
 *
 * It travels as JSON (jansson) from the master to an agent to a worker, about 1.5 KB, and is the first line of the
 * stage's log. A stage is a stretch of training from a parent's state, followed, for finetuning, by validation, test
 * and a result row. A prefix is a stretch of finetuning that several points begin with: it ends with a state. */
#ifndef TUNELAW_WORKERS_STAGE_STAGE_H
#define TUNELAW_WORKERS_STAGE_STAGE_H

#include <limits.h>
#include <stdint.h>

#include "io/digest.h"
#include "io/store/store.h"
#include "workers/model/config.h"

enum stage_kind { STAGE_PRETRAIN, STAGE_FINETUNE, STAGE_PREFIX, STAGE_KINDS };
const char *stage_kind_name(enum stage_kind kind);
int stage_kind_find(const char *name); /* -1: none */

/* A path in the run directory still fits in PATH_MAX: "/checkpoints/" ID ".best-" STEP ".h5.tmp". */
#define STAGE_DIR_LIMIT (PATH_MAX - 128)

struct stage {
    struct digest identity;
    enum stage_kind kind;
    struct digest parent; /* "" : starts from initial weights */
    struct digest base;   /* finetuning, prefixes: what the base's weights are: the parent, or the digest of `import` */
    struct digest prefix; /* finetuning: the shared beginning that it goes on from; "": it begins with the base */
    char import[PATH_MAX]; /* finetuning: the Hugging Face folder with the base's weights; "": the parent has them */
    char start[PATH_MAX];  /* finetuning: the PEFT folder that the method's tensors start from; "": initial values */
    struct digest start_digest; /* peft_digest of it */
    char dir[PATH_MAX];         /* run directory: checkpoints/, logs/ */
    char dataset[PATH_MAX];
    struct digest dataset_digest;
    struct model_config model;
    struct method_config method; /* pretraining: METHOD_FULL */
    struct recipe recipe;
    uint64_t seed; /* pretraining: of initial weights and order; finetuning: of subset, order, adapter */
    uint64_t first_step, last_step; /* absolute steps (first, last]; finetuning ends at recipe.steps */
    uint64_t examples; /* finetuning: the first `examples` of a seeded permutation of the training examples */
    uint64_t valid_examples, test_examples; /* 0: all */
    struct generation_config generate;
    double flops; /* as planned; of a point: with its prefix */
    uint64_t predicted_bytes;
    /* throughput and safety knobs, not part of the identity */
    char backend[16];
    uint32_t degree;           /* devices: tensor-parallel threads */
    uint32_t threads;          /* matmul threads a device */
    bool recompute;            /* training keeps the activations of one block alone (workers/model/model.h) */
    uint32_t attempt;          /* from 1 */
    double checkpoint_seconds; /* between state checkpoints */
    uint64_t checkpoint_steps; /* also every so many steps; 0: by time alone */
    double hang_seconds;       /* no progress for so long: the agent ends the worker */
    bool keep_weights;         /* keep the best checkpoint after the result is committed */
    bool aligned; /* rows lie as in a pack (SEGMENT_ROWS), packed or alone: the last bits depend on that, not on who
                     else is in the pack, and the execution class says so */
    uint64_t generation; /* store_stamp of the run's store: another one there means another run; 0: not looked at */
};

/* JSON text (malloc, caller frees), and back; the text may be hostile. Doubles survive exactly. NULL: out of memory, or
 * a number that is not finite. */
char *stage_encode(const struct stage *stage);
int stage_decode(const char *text, size_t size, struct stage *stage, struct error *err);

/* Files of a stage in its run directory: the newest state, the best weights (finetuning) at a step, the log. */
void stage_state_path(const struct stage *stage, char out[PATH_MAX]);  /* DIR/checkpoints/ID.h5 */
void stage_parent_path(const struct stage *stage, char out[PATH_MAX]); /* DIR/checkpoints/PARENT.h5 */
void stage_prefix_path(const struct stage *stage, char out[PATH_MAX]); /* DIR/checkpoints/PREFIX.h5 */
void stage_best_path(const struct stage *stage, uint64_t step,
                     char out[PATH_MAX]); /* DIR/checkpoints/ID.best-STEP.h5 */
void stage_step_path(const struct stage *stage,
                     char out[PATH_MAX]); /* DIR/checkpoints/ID.step: what all attempts have trained */
void stage_log_path(const struct stage *stage, char out[PATH_MAX]);         /* DIR/logs/ID.log */
void stage_generations_path(const struct stage *stage, char out[PATH_MAX]); /* DIR/generations/ID.jsonl */

/* After the end of a stage is in the log, of finetuning committed: remove its step file; of finetuning also its state
 * and, unless keep_weights, its best weights. Pretraining and prefixes: the state stays, children start from it.
 * Missing files are no error. */
void stage_cleanup(const struct stage *stage);
/* Nothing will start from a prefix any more: remove its state and its best weights. */
void stage_discard(const struct stage *stage);

/* How a stage ended; sent as bytes from worker to agent to master, all of one build. */
struct stage_outcome {
    struct digest identity;
    enum store_status status; /* done, diverged: row is valid; cut: checkpointed; others: failed */
    char message[STORE_MESSAGE];
    uint64_t resumed_step, end_step; /* this attempt trained (resumed_step, end_step] */
    uint64_t recomputed_steps;       /* of these, steps that an earlier attempt had already trained */
    uint64_t executed_steps;         /* of this and all earlier attempts; those that died are counted to a fifth of a
                                      * second before their end */
    uint64_t repeated_steps;         /* of these, how many beyond the first time */
    double flops;                    /* of this attempt's training */
    double seconds;                  /* in a pack: its share of them */
    uint32_t packed;                 /* stages that the attempt began with, this one among them */
    uint64_t peak_bytes;
    uint32_t failed_device; /* crashed because this device of the gang does not work, from 1; 0: not known of any */
    bool data_unusable;     /* failed because the data set is not the planned one, or cannot be read: no stage can be
                             * computed
                             */
    /* Finetuning; index, rank and epoch are filled by the master. A diverged stage has +inf for every loss that was not
     * reached or is not finite. NaN: there is no such number (train_loss without training, pretrain_loss without
     * pretraining text). */
    struct store_row row;
};

struct stage_progress {
    struct digest identity;
    uint64_t step, steps; /* steps of this stage done, and in all */
    double loss, tokens_per_second;
    uint64_t checkpoint_step; /* newest state on disk, counted as `step` */
};

/* Write the model that a committed result was measured with as a Hugging Face folder (huggingface_save): the base and
 * its best weights, adapters merged into them. On one device, whatever the stage's degree. -1: also for methods whose
 * adapter no weight can take up, and for diverged points. */
int stage_export(const struct stage *stage, const struct store_result *result, const char *dir, struct error *err);

/* As stage_export, but the adapter alone, as a folder that PEFT loads onto the base (peft_save). -1: also for methods
 * of which PEFT has no adapter. */
int stage_export_adapter(const struct stage *stage, const struct store_result *result, const char *dir,
                         struct error *err);

#endif
