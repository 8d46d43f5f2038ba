/* One stage from its description to its outcome, in this process: open what it needs, run it on a gang of threads, say
 * how it ended. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/log.h"
#include "workers/files/huggingface.h"
#include "workers/files/peft.h"
#include "workers/stage/gang.h"
#include "workers/stage/residence.h"
#include "workers/stage/stage_files.h"
#include "workers/stage/stage_internal.h"

void run_close(struct run *run)
{
    checkpoint_writer_destroy(run->writer);
    if (!run->borrowed) safetensors_close(run->weights);
    safetensors_close(run->adapter);
    checkpoint_close(run->parent);
    checkpoint_close(run->prefix);
    checkpoint_close(run->own);
    checkpoint_close(run->best);
    tokenizer_destroy(run->tokenizer);
    if (!run->borrowed) dataset_close(run->dataset);
    free(run->curve.entries);
}

static int check_dataset(struct run *run, struct error *err)
{
    const struct stage *stage = run->stage;
    const struct dataset_info *info = dataset_info(run->dataset);
    run->data_unusable = strcmp(info->digest.hex, stage->dataset_digest.hex) != 0;
    if (run->data_unusable)
        return error_set(err, "%s: the data has changed: digest %s, planned with %s", stage->dataset, info->digest.hex,
                         stage->dataset_digest.hex);
    if (info->vocabulary > stage->model.vocabulary)
        return error_set(err, "%s: a vocabulary of %zu, the model has %" PRIu32, stage->dataset, info->vocabulary,
                         stage->model.vocabulary);
    return 0;
}

/* The folder of an imported base: still what it was when the sweep was planned. */
static int open_import(struct run *run, struct error *err)
{
    struct digest found;
    const struct stage *stage = run->stage;
    if (!stage->import[0] || residence_holds(run_residence(run))) return 0;
    run->weights = huggingface_open(stage->import, &stage->model, err);
    if (!run->weights || huggingface_digest(run->weights, &stage->model, &found, err)) return -1;
    if (strcmp(found.hex, stage->base.hex))
        return error_set(err, "%s: the weights have changed: digest %s, planned with %s", stage->import, found.hex,
                         stage->base.hex);
    return 0;
}

/* The adapter that the method starts from: still what it was when the sweep was planned. */
static int open_start(struct run *run, struct error *err)
{
    struct digest found;
    const struct stage *stage = run->stage;
    if (!stage->start[0]) return 0;
    run->adapter = peft_open(stage->start, &stage->model, &stage->method, err);
    if (!run->adapter || peft_digest(run->adapter, &stage->method, &found, err)) return -1;
    if (strcmp(found.hex, stage->start_digest.hex))
        return error_set(err, "%s: the adapter has changed: digest %s, planned with %s", stage->start, found.hex,
                         stage->start_digest.hex);
    return 0;
}

struct batch_capacity stage_capacity(const struct stage *stage)
{
    struct batch_capacity capacity = batch_capacity_of(&stage->recipe, &stage->model, &stage->method);
    capacity.recompute = stage->recompute;
    return capacity;
}

/* HDF5 is one for the whole process: so is what is held around its use. */
static pthread_mutex_t checkpoints = PTHREAD_MUTEX_INITIALIZER;

static int begin(struct run *run, const struct stage *stage, bool training, struct error *err)
{
    *run = (struct run){.stage = stage,
                        .training = training,
                        .io = &checkpoints,
                        .started = clock_elapsed(),
                        .pack = run->pack,
                        .index = run->index};
    run->saved = run->started;
    run->kernels = kernels_find(stage->backend, err);
    if (!run->kernels || model_config_check(&stage->model, err) ||
        method_config_check(&stage->method, &stage->model, err))
        return -1;
    execution_class_of(stage, run->kernels, run->execution_class);
    return 0;
}

/* What training and evaluation share. */
int run_open(struct run *run, const struct stage *stage, bool training, struct error *err)
{
    if (begin(run, stage, training, err)) return -1;
    errno = 0;
    run->dataset = dataset_open(stage->dataset, err);
    /* what this process, or this host, lacks for the moment says nothing of the file */
    if (!run->dataset) run->data_unusable = errno != ENOMEM && errno != EMFILE && errno != ENFILE;
    if (!run->dataset || check_dataset(run, err) || open_import(run, err) || open_start(run, err)) return -1;
    return stage->generate.max_new_tokens ? run_open_tokenizer(run, err) : 0;
}

int run_open_beside(struct run *run, const struct stage *stage, bool training, const struct run *first,
                    struct error *err)
{
    if (begin(run, stage, training, err)) return -1;
    run->borrowed = true;
    run->dataset = first->dataset;
    run->weights = first->weights;
    if (check_dataset(run, err) || open_start(run, err)) return -1;
    return stage->generate.max_new_tokens ? run_open_tokenizer(run, err) : 0;
}

struct reevaluation {
    struct run run;
    const struct store_result *result;
    double loss;
};

int member_load_result(struct member *member, const struct store_result *result, struct error *err)
{
    struct run *run = member->run;
    if (member_load(member, err)) return -1;
    if (!result->best_step) return 0;
    if (member->collective->rank == 0) {
        run->best = best_open(run->stage, result->best_step, result->best_digest, err);
        if (!run->best) return -1;
    }
    if (collective_barrier(member->collective)) return -1;
    return member_load_trainable(member, run->best, false, err);
}

static int reevaluate_main(void *context, const struct collective *collective, struct error *err)
{
    struct member member;
    struct reevaluation *work = context;
    int status = member_create(&member, &work->run, collective, err);
    member.tick = (struct tick){.call = NULL};
    if (status == 0) status = member_load_result(&member, work->result, err);
    struct evaluation test = {.feed = member.test, .buffer = &member.buffer};
    if (status == 0) status = evaluate_lanes(member.model, &test, 1, member.joined, NULL, err);
    if (status == 0 && collective->rank == 0) work->loss = test.loss;
    gang_tell(collective, status);
    member_destroy(&member);
    return status;
}

int stage_reevaluate(const struct stage *stage, const struct store_result *result, double *loss, struct error *err)
{
    struct reevaluation work = {.result = result};
    if (stage->kind != STAGE_FINETUNE) return error_set(err, "only a finetuning stage has a test loss");
    if (result->status != STORE_DONE) return error_set(err, "the point has diverged: it has no weights to evaluate");
    int status = run_open(&work.run, stage, false, err);
    if (status == 0) status = run_parent(&work.run, err);
    if (status == 0) status = gang_run((int)stage->degree, reevaluate_main, &work, err);
    if (status == 0) *loss = work.loss;
    run_close(&work.run);
    return status;
}
