/* One stage from its description to its outcome, in this process: open what it needs, run it on a gang of threads, say
 * how it ended. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/log.h"
#include "workers/gang.h"
#include "workers/huggingface.h"
#include "workers/stage_files.h"
#include "workers/stage_internal.h"

void run_close(struct run *run)
{
    checkpoint_writer_destroy(run->writer);
    safetensors_close(run->weights);
    checkpoint_close(run->parent);
    checkpoint_close(run->prefix);
    checkpoint_close(run->own);
    checkpoint_close(run->best);
    dataset_close(run->dataset);
    free(run->curve.entries);
    pthread_mutex_destroy(&run->io);
}

static int check_dataset(struct run *run, struct error *err)
{
    const struct stage *stage = run->stage;
    const struct dataset_info *info = dataset_info(run->dataset);
    run->data_changed = strcmp(info->digest.hex, stage->dataset_digest.hex) != 0;
    if (run->data_changed)
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
    if (!stage->import[0]) return 0;
    run->weights = huggingface_open(stage->import, &stage->model, err);
    if (!run->weights || huggingface_digest(run->weights, &stage->model, &found, err)) return -1;
    if (strcmp(found.hex, stage->base.hex))
        return error_set(err, "%s: the weights have changed: digest %s, planned with %s", stage->import, found.hex,
                         stage->base.hex);
    return 0;
}

struct batch_capacity stage_capacity(const struct stage *stage)
{
    struct batch_capacity capacity = batch_capacity_of(&stage->recipe, &stage->method);
    capacity.recompute = stage->recompute;
    return capacity;
}

/* What training and evaluation share. */
int run_open(struct run *run, const struct stage *stage, bool training, struct error *err)
{
    *run = (struct run){.stage = stage, .training = training, .started = clock_elapsed()};
    pthread_mutex_init(&run->io, NULL);
    run->saved = run->started;
    run->kernels = kernels_find(stage->backend, err);
    if (!run->kernels || model_config_check(&stage->model, err) ||
        method_config_check(&stage->method, &stage->model, err))
        return -1;
    execution_class_of(stage, run->kernels, run->execution_class);
    run->dataset = dataset_open(stage->dataset, err);
    return run->dataset && !check_dataset(run, err) ? open_import(run, err) : -1;
}

static int run_steps(struct member *member, struct error *err)
{
    struct run *run = member->run;
    if (member_load(member, err) || member_train(member, err)) return -1;
    /* what rank 0 found is for all: whether there is something to conclude */
    double over = run->diverged || run->cut || run->stage->kind != STAGE_FINETUNE;
    if (member->collective->rank != 0) over = 0;
    if (collective_sum_double(member->collective, &over)) return -1;
    return over > 0 ? 0 : member_conclude(member, err);
}

static int member_main(void *context, const struct collective *collective, struct error *err)
{
    struct member member;
    struct run *run = context;
    int result = member_create(&member, run, collective, err);
    if (result == 0) result = run_steps(&member, err);
    if (collective->rank == 0) run->state = member.state;
    if (result && strstr(err->text, DEVICE_FAILED)) run->failed_device = (uint32_t)collective->rank + 1;
    member_destroy(&member);
    return result;
}

/* The host grants more memory than it has, and kills who uses it: what cannot fit is refused before. */
static int check_memory(const struct run *run, struct error *err)
{
    struct memory memory;
    const struct stage *stage = run->stage;
    const struct batch_capacity capacity = stage_capacity(stage);
    if (model_memory(&stage->model, &stage->method, &capacity, run->training ? &stage->recipe : NULL,
                     (int)stage->degree, &memory, err))
        return -1;
    double wanted = (double)memory_total(&memory) * stage->degree;
    double present = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    if (strcmp(run->kernels->name, "cuda") != 0 && wanted > present)
        return error_set(err, "out of memory: the stage needs %.1f GiB, the host has %.1f GiB", wanted / 0x1p30,
                         present / 0x1p30);
    LOG("%s, %.1f MiB a device", run->execution_class, (double)memory_total(&memory) / 0x1p20);
    return 0;
}

/* Open, resume, train. 0, or -1 with the reason. */
static int run_whole(struct run *run, const struct stage *stage, const struct stage_hooks *hooks,
                     struct stage_outcome *outcome, struct error *err)
{
    bool known, training = stage->last_step > stage->first_step;
    int opened = run_open(run, stage, training, err);
    run->outcome = outcome;
    if (opened || stage_check_owner(stage, err) || check_memory(run, err) || stage_make_folders(stage, err) ||
        run_resume(run, err))
        return -1;
    run->state = run->start;
    run->durable_best = run->start.best_step;
    run->durable_step = run->start.step;
    uint64_t reached = stage_step_read(stage, &known);
    if (known || run->own) stage_remove_best(stage, run->durable_best, 0);
    monitor_start(&run->monitor, stage, hooks, run->start.step, reached);
    LOG("from step %" PRIu64 " to %" PRIu64, run->start.step, stage->last_step);
    if (stage->kind != STAGE_FINETUNE && run->start.finished) return 0;
    if (run->diverged) return 0; /* in its prefix */
    run->cut = monitor_stopped(&run->monitor);
    if (run->cut) return 0; /* weights may take long to load */
    return gang_run((int)stage->degree, member_main, run, err);
}

/* The counts of an attempt. */
static void describe(const struct run *run, struct stage_outcome *outcome)
{
    const struct stage *stage = run->stage;
    const struct trainer_step *trained = &run->trained;
    uint64_t end = run->state.step, reached = run->monitor.reached;
    outcome->resumed_step = run->start.step;
    outcome->end_step = end;
    if (reached > end) reached = end;
    outcome->recomputed_steps = reached > run->start.step ? reached - run->start.step : 0;
    outcome->seconds = clock_elapsed() - run->started;
    outcome->peak_bytes = peak_bytes();
    if (trained->sequences)
        outcome->flops = cost_flops(&stage->model, &stage->method, true, (double)trained->tokens,
                                    (double)trained->targets, (double)trained->tokens / (double)trained->sequences);
}

static void fail(struct stage_outcome *outcome, const struct error *err)
{
    /* every module says it in these words */
    bool memory = strstr(err->text, "out of memory") != NULL;
    outcome->status = memory ? STORE_OUT_OF_MEMORY : STORE_CRASHED;
    error_shorten(outcome->message, sizeof outcome->message, err->text);
    LOG("failed: %s", err->text);
}

void stage_run(const struct stage *stage, const struct stage_hooks *hooks, struct stage_outcome *outcome)
{
    struct run run;
    struct error err = {""};
    memset(outcome, 0, sizeof *outcome);
    outcome->identity = stage->identity;
    peak_reset();
    int result = run_whole(&run, stage, hooks, outcome, &err);
    if (result == 0 && run.diverged && stage->kind == STAGE_PREFIX) result = run_save_diverged(&run, &err);
    describe(&run, outcome);
    if (result) {
        fail(outcome, &err);
        outcome->data_changed = run.data_changed;
        outcome->failed_device = run.failed_device;
    } else if (run.cut) {
        outcome->status = STORE_CUT;
        snprintf(outcome->message, sizeof outcome->message, "checkpointed at step %" PRIu64, run.state.step);
    } else {
        /* a prefix has done its part where it has found out that its points diverge */
        outcome->status = run.diverged && stage->kind != STAGE_PREFIX ? STORE_DIVERGED : STORE_DONE;
        if (run.diverged)
            snprintf(outcome->message, sizeof outcome->message, "diverged at step %" PRIu64, run.state.step);
        if (stage->kind == STAGE_FINETUNE) result_fill(&run);
    }
    if (run.monitor.stage) monitor_checkpoint(&run.monitor, run.durable_step);
    if (outcome->status == STORE_DONE && stage->kind != STAGE_FINETUNE) stage_cleanup(stage);
    run_close(&run);
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
    double loss;
    uint64_t targets;
    struct member member;
    struct reevaluation *work = context;
    int status = member_create(&member, &work->run, collective, err);
    member.tick = (struct tick){.call = NULL};
    if (status == 0) status = member_load_result(&member, work->result, err);
    if (status == 0) status = evaluate(member.model, member.test, &member.buffer, NULL, &loss, &targets, err);
    if (status == 0 && collective->rank == 0) work->loss = loss;
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
