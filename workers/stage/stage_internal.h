/* A stage while it runs, shared by the files stage_*.c: struct run for the whole gang, struct member for one rank of
 * it. */
#ifndef TUNELAW_WORKERS_STAGE_STAGE_INTERNAL_H
#define TUNELAW_WORKERS_STAGE_STAGE_INTERNAL_H

#include <pthread.h>

#include "io/checkpoint/checkpoint.h"
#include "io/checkpoint/safetensors.h"
#include "io/text/dataset.h"
#include "io/tokenizer/tokenizer.h"
#include "workers/stage/monitor.h"
#include "workers/stage/stage.h"
#include "workers/train/evaluate.h"
#include "workers/train/trainer.h"

struct curve {
    struct store_curve_entry *entries;
    size_t count, capacity;
};

struct run { /* read by every rank; written by rank 0 alone while the gang runs */
    const struct stage *stage;
    const struct kernels *kernels;
    struct dataset *dataset;
    struct tokenizer *tokenizer; /* where texts are generated */
    char execution_class[STORE_NAME];
    bool training; /* there are steps to do: gradients and moments are wanted */

    pthread_mutex_t *io;                      /* held around every use of a checkpoint by a rank: the pack's */
    struct safetensors *weights;              /* of an imported base */
    struct safetensors *adapter;              /* that the method starts from */
    struct checkpoint *parent, *prefix, *own; /* where this attempt begins; NULL: none */
    struct checkpoint *best;
    struct checkpoint_writer *writer; /* while a file is being written */

    struct checkpoint_header start; /* of every rank */
    struct checkpoint_header state; /* rank 0's, at the end */
    struct curve curve;
    struct monitor monitor;
    struct trainer_step trained; /* sums of this attempt */
    uint64_t durable_best;       /* best step that the newest state on disk names */
    uint64_t durable_step;       /* its step */
    double started, saved;       /* clock_elapsed of the attempt's start and of the newest state */
    bool diverged, cut;
    bool validation_due; /* the state where this attempt begins was written before the validation at its step */
    bool data_unusable;
    uint32_t failed_device; /* from 1; of the last of a pack to be told */
    bool opened;            /* data set and imported weights are those that were planned */
    bool borrowed;          /* they are another run's of the pack */
    bool settled;           /* its outcome is known */
    size_t index;           /* in the pack */
    struct pack *pack;      /* NULL: no training (reevaluation, export); both from before it is opened */
    struct stage_outcome *outcome;
};

struct member {
    struct run *run;
    const struct collective *collective;
    struct device *device;
    struct parameters *parameters;
    struct model *model;
    struct batch_buffer buffer;
    struct feed *train, *valid, *test, *text;
    struct trainer trainer;
    struct tick tick; /* rank 0 reports, all hear of a drain */
    struct checkpoint_header state;
    uint32_t lane; /* of the pack; the first one's member holds device, base, model and joined batch of all */
    struct batch_buffer joined_buffer, *joined; /* where stages may be packed; NULL: batches are passed as they are */
    bool over;                                  /* diverged or cut */
};

/* stage_member.c: a rank's device, weights and feeds. */
int member_create(struct member *member, struct run *run, const struct collective *collective, struct error *err);
void member_destroy(struct member *member);
/* The same of a rank's members of a pack, one for each of its runs. */
int members_create(struct member *members, struct run *const *runs, size_t count, const struct collective *collective,
                   struct error *err);
void members_destroy(struct member *members, size_t count);
/* What the model of a pack is made for, without parameters, and its joined batches. */
void pack_lanes(struct run *const *runs, size_t count, struct lane *lanes, struct batch_capacity *all);
/* Trainable tensors from a checkpoint, by all ranks. */
int member_load_trainable(struct member *member, const struct checkpoint *checkpoint, bool moments, struct error *err);
/* The weights with which this attempt begins. */
int member_load(struct member *member, struct error *err);

/* What the stage's model is made for. */
struct batch_capacity stage_capacity(const struct stage *stage);
/* stage_run.c: open what training and evaluation share; close everything. */
int run_open(struct run *run, const struct stage *stage, bool training, struct error *err);
/* The same for another stage of a pack: data set and imported weights are those of `first`, which is closed last. */
int run_open_beside(struct run *run, const struct stage *stage, bool training, const struct run *first,
                    struct error *err);
void run_close(struct run *run);
/* The weights that a committed result was measured with. Collective. */
int member_load_result(struct member *member, const struct store_result *result, struct error *err);

/* stage_state.c: checkpoints of a stage. Saving is collective over the gang. */
int run_parent(struct run *run, struct error *err); /* open the parent's end state, where there is a parent */
int run_resume(struct run *run, struct error *err);
/* The curve of the state that an attempt begins from. */
int curve_copy(struct run *run, const struct checkpoint *from, struct error *err);
/* stage_prefix.c. Begin where the shared prefix ended: its place, its curve, its best weights as this stage's own. */
int run_prefix(struct run *run, struct error *err);
/* A prefix that diverged: the end state, without tensors, by which its points know. */
int run_save_diverged(struct run *run, struct error *err);
int state_save(struct member *member, struct error *err);
int state_finish(struct member *member, struct error *err); /* finetuning: the end state, without tensors */
int best_save(struct member *member, struct error *err);
struct checkpoint *best_open(const struct stage *stage, uint64_t step, const char *digest, struct error *err);

/* stage_train.c: steps and validations of a pack, each stage up to its end; finetuning is concluded. What has ended is
 * settled at once. Collective. */
int members_train(struct member *members, size_t count, struct error *err);
/* Whether a validation of a finetuning stage comes after `step` steps. */
bool evaluation_due(const struct stage *stage, uint64_t step);
/* What rank 0's hooks say of a drain, told to every rank: 1, 0, or -1. Collective. */
int member_stopped(void *member);

/* stage_pack.c: how a run of the pack ended; says so through its hooks, once. Rank 0. */
void run_settle(struct run *run, const struct error *failure);
/* Rank 0 goes on with this run: what it logs belongs there. */
void run_enter(const struct run *run);
/* What keeps its base; NULL: nothing does. */
struct residence *run_residence(const struct run *run);
/* Seconds of this attempt: in a pack, this run's share of them. */
double run_seconds(const struct run *run);

/* stage_generate.c: texts of the test split, by the weights that are loaded. Rank 0 fills the metrics of the result.
 * 0, -1, or 1: stopped. Collective. */
int run_open_tokenizer(struct run *run, struct error *err);
int member_generate(struct member *member, struct store_result *result, struct error *err);

/* stage_result.c */
int curve_add(struct curve *curve, const struct store_curve_entry *entry, struct error *err);
void execution_class_of(const struct stage *stage, const struct kernels *kernels, char out[STORE_NAME]);
void result_fill(struct run *run);

#endif
