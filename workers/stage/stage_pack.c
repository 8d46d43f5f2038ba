/* Stages that share a base, mostly one, from their descriptions to their outcomes, in this process: open what they
 * need, run them on a gang of threads, say how each ended as soon as it is known. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/log.h"
#include "workers/stage/gang.h"
#include "workers/stage/residence.h"
#include "workers/stage/stage_files.h"
#include "workers/stage/stage_internal.h"
#include "workers/text/generation.h"

struct pack {
    const struct stage_hooks *hooks; /* may be NULL */
    struct run *runs;                /* [count] one for each stage */
    size_t count;
    struct run *open[PACK_LIMIT]; /* those with something to do */
    size_t open_count;
    _Atomic uint32_t failed_device; /* written by the rank that found it, which is the only one: the others are told */
    /* seconds of each that is not settled, its share of the device's: all have equal ones */
    double shared, since; /* up to clock_elapsed `since` */
    size_t working;       /* that share them since then */
};

void run_enter(const struct run *run)
{
    const struct pack *pack = run->pack;
    if (pack && pack->hooks && pack->hooks->enter) pack->hooks->enter(pack->hooks->context, run->index);
}

struct residence *run_residence(const struct run *run)
{
    const struct pack *pack = run->pack;
    return pack && pack->hooks ? pack->hooks->residence : NULL;
}

double run_seconds(const struct run *run)
{
    const struct pack *pack = run->pack;
    if (!pack) return clock_elapsed() - run->started;
    return pack->shared + (clock_elapsed() - pack->since) / (double)pack->working;
}

/* One less shares the device. */
static void leave(struct pack *pack, const struct run *run)
{
    pack->shared = run_seconds(run);
    pack->since = clock_elapsed();
    if (pack->working > 1) pack->working--;
}

/* The counts of an attempt. */
static void describe(const struct run *run, struct stage_outcome *outcome)
{
    const struct stage *stage = run->stage;
    const struct trainer_step *trained = &run->trained;
    uint64_t end = run->state.step, reached = run->monitor.before.reached;
    outcome->resumed_step = run->start.step;
    outcome->end_step = end;
    if (reached > end) reached = end;
    outcome->recomputed_steps = reached > run->start.step ? reached - run->start.step : 0;
    const struct stage_trained all = monitor_trained(&run->monitor);
    outcome->executed_steps = all.executed;
    outcome->repeated_steps = stage_trained_repeated(&all, stage->first_step);
    outcome->packed = (uint32_t)run->pack->count;
    outcome->seconds = run_seconds(run);
    outcome->peak_bytes = run->kernels ? peak_bytes(run->kernels) : 0;
    if (trained->sequences)
        outcome->flops =
            cost_training_flops(&stage->model, &stage->method, run->start.step, end, (double)trained->tokens,
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

static void succeed(struct run *run, struct stage_outcome *outcome)
{
    const struct stage *stage = run->stage;
    if (run->cut) {
        outcome->status = STORE_CUT;
        snprintf(outcome->message, sizeof outcome->message, "checkpointed at step %" PRIu64, run->state.step);
        return;
    }
    /* a prefix has done its part where it has found out that its points diverge */
    outcome->status = run->diverged && stage->kind != STAGE_PREFIX ? STORE_DIVERGED : STORE_DONE;
    if (run->diverged)
        snprintf(outcome->message, sizeof outcome->message, "diverged at step %" PRIu64, run->state.step);
    if (stage->kind == STAGE_FINETUNE) result_fill(run);
}

void run_settle(struct run *run, const struct error *failure)
{
    struct error err = {""};
    struct stage_outcome *outcome = run->outcome;
    const struct stage_hooks *hooks = run->pack->hooks;
    if (run->settled) return;
    run->settled = true;
    if (!failure && run->diverged && run->stage->kind == STAGE_PREFIX && run_save_diverged(run, &err)) failure = &err;
    describe(run, outcome);
    if (failure)
        fail(outcome, failure);
    else
        succeed(run, outcome);
    outcome->data_unusable = failure && run->data_unusable;
    outcome->failed_device = failure ? run->failed_device : 0;
    leave(run->pack, run);
    if (run->monitor.stage) monitor_checkpoint(&run->monitor, run->durable_step);
    if (hooks && hooks->outcome) hooks->outcome(hooks->context, outcome);
}

/* Open and resume. *over: nothing is left to train or to evaluate. */
static int run_begin(struct pack *pack, struct run *run, const struct stage *stage, const struct run *first, bool *over,
                     struct error *err)
{
    bool training = stage->last_step > stage->first_step;
    int opened = first ? run_open_beside(run, stage, training, first, err) : run_open(run, stage, training, err);
    run->pack = pack;
    run->index = (size_t)(run - pack->runs);
    run->opened = opened == 0;
    if (opened || stage_check_owner(stage, err) || stage_make_folders(stage, err) || run_resume(run, err)) return -1;
    run->state = run->start;
    run->durable_best = run->start.best_step;
    run->durable_step = run->start.step;
    struct stage_trained before;
    bool known = stage_trained_read(stage, &before);
    if (known || run->own) stage_remove_best(stage, run->durable_best, 0);
    uint64_t own = run->start.step > stage->first_step ? run->start.step - stage->first_step : 0;
    if (before.executed < own) before.executed = own; /* the file that counts is gone */
    monitor_start(&run->monitor, stage, pack->hooks, run->start.step, &before);
    LOG("from step %" PRIu64 " to %" PRIu64, run->start.step, stage->last_step);
    *over = (stage->kind != STAGE_FINETUNE && run->start.finished) || run->diverged; /* in its prefix */
    if (!*over) *over = run->cut = monitor_stopped(&run->monitor);                   /* weights may take long to load */
    return 0;
}

static int pack_main(void *context, const struct collective *collective, struct error *err)
{
    struct pack *pack = context;
    struct member *members = calloc(pack->open_count, sizeof *members);
    if (!members) return error_set(err, "out of memory");
    int result = members_create(members, pack->open, pack->open_count, collective, err);
    for (size_t i = 0; i < pack->open_count && !result; i++)
        result = member_load(&members[i], err);
    if (!result) result = members_train(members, pack->open_count, err);
    for (size_t i = 0; i < pack->open_count && collective->rank == 0; i++)
        if (!pack->open[i]->settled) pack->open[i]->state = members[i].state;
    if (result && strstr(err->text, DEVICE_FAILED) && !strstr(err->text, GANG_FAILED))
        pack->failed_device = (uint32_t)collective->rank + 1;
    gang_tell(collective, result);
    members_destroy(members, pack->open_count);
    free(members);
    return result;
}

/* The host grants more memory than it has, and kills who uses it: what cannot fit is refused before. */
static int check_memory(const struct pack *pack, struct error *err)
{
    struct memory memory;
    struct lane lanes[PACK_LIMIT];
    struct recipe recipes[PACK_LIMIT];
    const struct run *first = pack->open[0];
    const struct stage *stage = first->stage;
    struct batch_capacity all;
    struct kernels_storage storage = kernels_storage(first->kernels->name, stage->recipe.precision);
    pack_lanes(pack->open, pack->open_count, lanes, &all);
    for (size_t i = 0; i < pack->open_count; i++)
        recipes[i] = pack->open[i]->stage->recipe;
    if (model_pack_memory(&stage->model, lanes, first->training ? recipes : NULL, pack->open_count, storage,
                          (int)stage->degree, &memory, err))
        return -1;
    for (size_t i = 0; i < pack->open_count; i++) { /* one after the other */
        struct memory one = {0};
        if (generation_memory(&stage->model, &lanes[i].method, &lanes[i].capacity, &pack->open[i]->stage->generate,
                              storage.element, (int)stage->degree, &one, err))
            return -1;
        memory.cache = one.cache > memory.cache ? one.cache : memory.cache;
    }
    double wanted = (double)memory_total(&memory) * stage->degree;
    double present = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    if (strcmp(first->kernels->name, "cuda") != 0 && wanted > present)
        return error_set(err, "out of memory: the stage needs %.1f GiB, the host has %.1f GiB", wanted / 0x1p30,
                         present / 0x1p30);
    LOG("%s, %.1f MiB a device", first->execution_class, (double)memory_total(&memory) / 0x1p20);
    return 0;
}

/* Whether a stage can be in a pack with the first. */
static int check_pack(const struct stage *first, const struct stage *stage, struct error *err)
{
    bool same = !strcmp(first->parent.hex, stage->parent.hex) && !strcmp(first->import, stage->import) &&
                !strcmp(first->base.hex, stage->base.hex) && first->recipe.precision == stage->recipe.precision &&
                !strcmp(first->dataset, stage->dataset) && !strcmp(first->dir, stage->dir) &&
                !strcmp(first->backend, stage->backend) && first->degree == stage->degree &&
                first->threads == stage->threads && first->recompute == stage->recompute;
    bool can = stage->kind == STAGE_FINETUNE && stage->aligned && method_packs(stage->method.kind) &&
               !stage->generate.max_new_tokens; /* texts are generated with one adapter */
    same = same && method_packs_apart(first->method.kind, &first->model, first->degree) ==
                       method_packs_apart(stage->method.kind, &stage->model, stage->degree);
    return same && can && stage->last_step > stage->first_step
               ? 0
               : error_set(err, "stages %.12s and %.12s cannot be packed", first->identity.hex, stage->identity.hex);
}

static void pack_begin(struct pack *pack, const struct stage *stages, struct stage_outcome *outcomes)
{
    const struct run *first = NULL; /* that holds what is shared */
    for (size_t i = 0; i < pack->count; i++) {
        bool over = false;
        struct error err = {""};
        struct run *run = &pack->runs[i];
        *run = (struct run){.stage = &stages[i], .pack = pack, .index = i};
        outcomes[i].identity = stages[i].identity;
        store_result_without_generations(&outcomes[i].row.result);
        run_enter(run);
        int failed = pack->count > 1 && check_pack(&stages[0], &stages[i], &err);
        if (!failed) failed = run_begin(pack, run, &stages[i], first, &over, &err);
        run->outcome = &outcomes[i];
        if (!first && run->opened) first = run;
        if (failed || over)
            run_settle(run, failed ? &err : NULL);
        else
            pack->open[pack->open_count++] = run;
    }
}

/* A stage that could not even begin: its base may not be what it was. */
static bool any_failed(const struct stage_outcome *outcomes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (outcomes[i].status > STORE_DIVERGED && outcomes[i].status != STORE_CUT) return true;
    return false;
}

/* What stays on the devices for this stage, or goes; then the peak is counted anew. */
static int enter(struct residence *residence, const struct stage *stage, struct error *err)
{
    struct error unknown; /* is told when the stage is opened */
    const struct kernels *kernels = kernels_find(stage->backend, &unknown);
    int result = residence && kernels ? residence_enter(residence, stage, kernels, err) : 0;
    peak_reset(kernels);
    return result;
}

void stage_run_pack(const struct stage *stages, size_t count, const struct stage_hooks *hooks,
                    struct stage_outcome *outcomes)
{
    struct error err = {""};
    struct pack pack = {.hooks = hooks,
                        .runs = calloc(count, sizeof *pack.runs),
                        .count = count,
                        .since = clock_elapsed(),
                        .working = count};
    assert(count <= PACK_LIMIT && pack.runs);
    struct residence *residence = hooks ? hooks->residence : NULL;
    memset(outcomes, 0, count * sizeof *outcomes);
    int failed = enter(residence, &stages[0], &err);
    pack_begin(&pack, stages, outcomes);
    if (pack.open_count && !failed) failed = check_memory(&pack, &err);
    if (pack.open_count && !failed) failed = gang_run((int)stages[0].degree, pack_main, &pack, &err);
    if (residence)
        residence_leave(residence,
                        failed || any_failed(outcomes, count) || (!pack.open_count && !residence_holds(residence)));
    struct run *last = NULL; /* to be told */
    for (size_t i = 0; i < pack.open_count; i++)
        if (!pack.open[i]->settled) last = pack.open[i];
    if (last) last->failed_device = pack.failed_device; /* one failure, told once */
    for (size_t i = 0; i < pack.open_count; i++)
        if (!pack.open[i]->settled) {
            run_enter(pack.open[i]);
            run_settle(pack.open[i], failed ? &err : NULL);
        }
    for (size_t i = pack.count; i-- > 0;)
        run_close(&pack.runs[i]);
    free(pack.runs);
}

void stage_run(const struct stage *stage, const struct stage_hooks *hooks, struct stage_outcome *outcome)
{
    stage_run_pack(stage, 1, hooks, outcome);
}
