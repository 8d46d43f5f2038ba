/* A plan that is there: what all its stages sum up to, and each of them as a worker gets it. */
#include "orchestrator/plan/plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "orchestrator/plan/plan_order.h"
#include "orchestrator/plan/plan_parts.h"
#include "workers/model/model.h"

struct recipe plan_recipe(const struct sweep_method *method, uint32_t rate, uint64_t examples)
{
    struct recipe recipe = method->recipe;
    recipe.learning_rate = rate == GRID_TUNED ? 0.0 : method->learning_rates[rate];
    recipe.steps = recipe.decay_steps = sweep_finetune_steps(method, examples);
    if (recipe.evaluation_steps) {
        uint64_t count = recipe.steps / recipe.evaluation_steps + (recipe.steps % recipe.evaluation_steps != 0);
        recipe.evaluations = count < UINT32_MAX ? (uint32_t)count : UINT32_MAX;
    }
    if (recipe.evaluations > recipe.steps) recipe.evaluations = (uint32_t)recipe.steps;
    return recipe;
}

struct method_config plan_method(const struct sweep *sweep, uint32_t method, uint32_t size)
{
    const struct sweep_method *m = &sweep->methods[method];
    struct method_config config = m->config;
    if (m->config.kind == METHOD_NONE && m->start.dir[0]) return m->start.method;
    config.size = m->sizes[size];
    return config;
}

static void describe_point(const struct plan *plan, const struct store_point *point, char *out, size_t size)
{
    bool several = plan->sweep->task_count > 1;
    char task[STORE_NAME + 1], model[STORE_NAME + 1], method[STORE_NAME + 1];
    store_text(task, sizeof task, point->task, sizeof point->task);
    store_text(model, sizeof model, point->model, sizeof point->model);
    store_text(method, sizeof method, point->method, sizeof point->method);
    snprintf(out, size,
             "%s%s%s, %" PRIu64 " tokens, %s, size %" PRIu64 ", learning rate %g, %" PRIu64 " examples, seed %" PRIu64,
             several ? task : "", several ? ", " : "", model, point->pretrain_tokens, method, point->pet_size,
             point->learning_rate, point->finetune_examples, point->seed);
}

/* Stages of one identity would write the same files: an open-addressing table of stage indices finds them. */
static int check_distinct(const struct plan *plan, struct error *err)
{
    size_t size = 16;
    while (size < 2 * plan->stage_count)
        size *= 2;
    uint32_t *table = malloc(size * sizeof *table);
    if (!table) return error_set(err, "out of memory");
    memset(table, 0xff, size * sizeof *table);
    int rc = 0;
    for (size_t i = 0; i < plan->stage_count && !rc; i++) {
        const char *identity = plan->stages[i].identity.hex;
        size_t at = (size_t)checksum_of(identity, DIGEST_HEX) & (size - 1);
        while (table[at] != PLAN_NONE && memcmp(plan->stages[table[at]].identity.hex, identity, DIGEST_HEX))
            at = (at + 1) & (size - 1);
        const struct plan_stage *other = table[at] != PLAN_NONE ? &plan->stages[table[at]] : NULL;
        table[at] = (uint32_t)i;
        if (!other) continue;
        char a[256] = "a pretraining stage", b[256] = "another";
        if (other->point != PLAN_NONE) describe_point(plan, &plan->points[other->point], a, sizeof a);
        if (plan->stages[i].point != PLAN_NONE) describe_point(plan, &plan->points[plan->stages[i].point], b, sizeof b);
        rc = error_set(err, "%s: two points are the same: (%s) and (%s)", plan->sweep->path, a, b);
    }
    free(table);
    return rc;
}

/* Sums, longest chains and the digest over all stages. */
int plan_finish(struct plan *plan, struct error *err)
{
    struct digest_stream *stream = digest_stream_create();
    if (!stream) return error_set(err, "out of memory");
    plan->flops = plan->recompute_flops = 0;
    for (size_t i = 0; i < plan->stage_count; i++) {
        digest_stream_add(stream, plan->stages[i].identity.hex, DIGEST_HEX);
        plan->flops += plan->stages[i].flops;
        plan->recompute_flops += plan->stages[i].recompute_flops;
        plan->stages[i].path_seconds = plan->stages[i].seconds;
    }
    plan->identity = digest_stream_result(stream);
    digest_stream_destroy(stream);
    for (size_t i = 0; i < plan->reference_count; i++)
        plan->references[i].tail = 0;
    for (size_t i = plan->stage_count; i-- > 0;) { /* candidates come before what waits for them */
        struct plan_stage *stage = &plan->stages[i];
        struct plan_reference *reference = stage->reference == PLAN_NONE ? NULL : &plan->references[stage->reference];
        if (reference && plan_is_tuned(stage))
            reference->tail = stage->path_seconds > reference->tail ? stage->path_seconds : reference->tail;
        else if (reference && stage->seconds + reference->tail > stage->path_seconds)
            stage->path_seconds = stage->seconds + reference->tail;
        if (stage->parent == PLAN_NONE) continue;
        struct plan_stage *parent = &plan->stages[stage->parent];
        double through = parent->seconds + stage->path_seconds;
        if (through > parent->path_seconds) parent->path_seconds = through;
    }
    for (size_t i = 0; i < plan->stage_count; i++)
        plan->stages[i].priority = plan->stages[i].path_seconds;
    if (plan->sweep->resources.order == SWEEP_INFORMATION && plan_order_by_information(plan, err)) return -1;
    return check_distinct(plan, err);
}

void plan_destroy(struct plan *plan)
{
    if (!plan) return;
    free(plan->points);
    free(plan->stages);
    free(plan->stage_of_point);
    for (size_t i = 0; i < plan->reference_count; i++)
        free(plan->references[i].candidates);
    free(plan->references);
    free(plan);
}

/* The states, or the folder, that a stage starts from. */
static void describe_start(const struct plan *plan, const struct plan_stage *from, struct stage *out)
{
    const struct sweep *sweep = plan->sweep;
    const struct plan_stage *parent = from->parent == PLAN_NONE ? NULL : &plan->stages[from->parent];
    if (parent && parent->kind == STAGE_PREFIX) out->prefix = parent->identity;
    uint32_t base = plan_base(plan, from->parent);
    if (base != PLAN_NONE) out->parent = plan->stages[base].identity;
    if (from->kind == STAGE_PRETRAIN) return;
    out->base = out->parent;
    if (base != PLAN_NONE) return;
    const struct sweep_import *import = sweep_import_of(sweep, from->model, sweep->pretrain_tokens[from->tokens]);
    out->base = import->identity;
    snprintf(out->import, sizeof out->import, "%s", import->dir);
}

static void describe_training(const struct plan *plan, const struct plan_stage *from, struct stage *out)
{
    const struct sweep *sweep = plan->sweep;
    if (from->kind == STAGE_PRETRAIN) {
        out->method = (struct method_config){.kind = METHOD_FULL};
        out->recipe = sweep_pretrain_recipe(sweep, from->model);
        out->seed = sweep->pretrain_seed;
        return;
    }
    out->method = plan_method(sweep, from->method, from->size);
    snprintf(out->start, sizeof out->start, "%s", sweep->methods[from->method].start.dir);
    out->start_digest = sweep->methods[from->method].start.identity;
    out->examples =
        from->point == PLAN_NONE ? sweep->examples[from->examples] : plan->points[from->point].finetune_examples;
    out->recipe = plan_recipe(&sweep->methods[from->method], from->rate, sweep->examples[from->examples]);
    out->seed = sweep->seeds[from->seed];
    out->valid_examples = sweep->tasks[from->task].valid_examples;
    out->test_examples = sweep->tasks[from->task].test_examples;
    if (from->kind == STAGE_FINETUNE) out->generate = sweep->generate;
}

uint64_t plan_stage_bytes(const struct plan *plan, const struct plan_stage *stage)
{
    return (stage->bytes + plan->sweep->resources.process_bytes) * stage->degree;
}

void plan_stage_describe(const struct plan *plan, size_t index, const char *dir, uint32_t attempt, struct stage *out)
{
    const struct sweep *sweep = plan->sweep;
    const struct plan_stage *from = &plan->stages[index];
    const struct sweep_resources *resources = &sweep->resources;
    memset(out, 0, sizeof *out);
    out->identity = from->identity;
    out->kind = from->kind;
    snprintf(out->dir, sizeof out->dir, "%s", dir);
    snprintf(out->dataset, sizeof out->dataset, "%s", sweep->tasks[from->task].dataset);
    out->dataset_digest = sweep->tasks[from->task].data.digest;
    out->model = sweep->models[from->model];
    describe_start(plan, from, out);
    describe_training(plan, from, out);
    out->first_step = from->first_step;
    out->last_step = from->last_step;
    out->flops = out->prefix.hex[0] && from->kind == STAGE_FINETUNE
                     ? plan_finetune_flops(&sweep->tasks[from->task], &out->model, &out->method, &out->recipe, 0,
                                           out->recipe.steps)
                     : from->flops;
    out->predicted_bytes = plan_stage_bytes(plan, from);
    snprintf(out->backend, sizeof out->backend, "%s", resources->backend);
    out->degree = from->degree;
    out->threads = resources->threads;
    out->recompute = from->recompute;
    out->attempt = attempt;
    out->checkpoint_seconds = resources->checkpoint_seconds;
    out->checkpoint_steps = resources->checkpoint_steps;
    out->hang_seconds = resources->hang_seconds;
    out->keep_weights = resources->keep_weights;
    out->aligned = resources->pack != 1 && from->kind != STAGE_PRETRAIN && method_packs(out->method.kind) &&
                   !sweep->generate.max_new_tokens;
}
