/* Points -> the tree of stages: the third arrow of the way of the data. One chain of pretraining stages a model, one
 * finetuning stage a point, and where points share finetuning a chain of prefixes. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "orchestrator/plan/identity.h"
#include "orchestrator/plan/plan_parts.h"
#include "orchestrator/plan/share.h"
#include "workers/model/model.h"

/* What is worked out once for many points. */
struct builder {
    const struct sweep *sweep;
    struct plan *plan;
    struct grid grid;
    struct plan_prefixes prefixes;
    double rate;
    uint32_t *base;            /* [model][tokens] index of the pretraining stage, PLAN_NONE where no point needs it */
    struct digest *trunks;     /* [model] */
    struct plan_shape *shapes; /* [model][method][size], from shape_first[method] */
    bool *wanted;              /* as shapes: some point has it */
    struct identity_method *texts; /* [task][method][size][rate], from text_first[method] */
    size_t *shape_first, *text_first;
    size_t shape_count, text_count;
};

static size_t shape_index(const struct builder *b, uint32_t model, uint32_t method, uint32_t size)
{
    return model * b->shape_count + b->shape_first[method] + size;
}

/* Of a method with a reference cell, behind its rates, also GRID_TUNED. */
static size_t text_count(const struct sweep_method *method)
{
    return method->learning_rate_count + method->at_reference;
}

static size_t text_index(const struct builder *b, uint32_t task, uint32_t method, uint32_t size, uint32_t rate)
{
    const struct sweep_method *m = &b->sweep->methods[method];
    if (rate == GRID_TUNED) rate = (uint32_t)m->learning_rate_count;
    return task * b->text_count + b->text_first[method] + size * text_count(m) + rate;
}

static int prepare_method(struct builder *b, uint32_t method, struct error *err)
{
    const struct sweep *sweep = b->sweep;
    const struct sweep_method *m = &sweep->methods[method];
    for (uint32_t size = 0; size < m->size_count; size++) {
        struct method_config config = plan_method(sweep, method, size);
        for (uint32_t i = 0; i < text_count(m); i++) {
            uint32_t rate = i < m->learning_rate_count ? i : GRID_TUNED;
            struct recipe recipe = plan_recipe(m, rate, sweep->examples[0]);
            for (uint32_t task = 0; task < sweep->task_count; task++)
                identity_method(&sweep->tasks[task], &config, &m->start.identity, &recipe,
                                &b->texts[text_index(b, task, method, size, rate)]);
        }
        for (uint32_t model = 0; model < sweep->model_count; model++)
            if (b->wanted[shape_index(b, model, method, size)] &&
                plan_shape(sweep, &sweep->models[model], &config, &m->recipe, m->config.kind != METHOD_NONE,
                           &b->shapes[shape_index(b, model, method, size)], err))
                return -1;
    }
    return 0;
}

static int prepare(struct builder *b, struct error *err)
{
    const struct sweep *sweep = b->sweep;
    b->shape_first = calloc(sweep->method_count, sizeof *b->shape_first);
    b->text_first = calloc(sweep->method_count, sizeof *b->text_first);
    if (!b->shape_first || !b->text_first) return error_set(err, "out of memory");
    for (size_t i = 0; i < sweep->method_count; i++) {
        const struct sweep_method *m = &sweep->methods[i];
        b->shape_first[i] = b->shape_count;
        b->text_first[i] = b->text_count;
        b->shape_count += m->size_count;
        b->text_count += m->size_count * text_count(m);
    }
    b->shapes = calloc(b->shape_count * sweep->model_count, sizeof *b->shapes);
    b->texts = calloc(b->text_count * sweep->task_count, sizeof *b->texts);
    b->trunks = calloc(sweep->model_count, sizeof *b->trunks);
    b->base = calloc(sweep->model_count * sweep->pretrain_token_count, sizeof *b->base);
    b->wanted = calloc(b->shape_count * sweep->model_count, sizeof *b->wanted);
    if (!b->shapes || !b->texts || !b->trunks || !b->base || !b->wanted) return error_set(err, "out of memory");
    for (size_t i = 0; i < b->grid.count; i++)
        b->wanted[shape_index(b, b->grid.points[i].model, b->grid.points[i].method, b->grid.points[i].size)] = true;
    for (size_t i = 0; i < sweep->model_count; i++)
        b->trunks[i] = sweep_imported(sweep, i) ? identity_imported(&sweep->models[i]) : identity_trunk(sweep, i);
    for (uint32_t i = 0; i < sweep->method_count; i++)
        if (prepare_method(b, i, err)) return -1;
    return 0;
}

/* Mark the states that points start from: 1 in `base`; the number of those that are trained. */
static size_t count_bases(struct builder *b)
{
    size_t count = 0, tokens = b->sweep->pretrain_token_count;
    for (size_t i = 0; i < b->grid.count; i++) {
        uint32_t *needed = &b->base[b->grid.points[i].model * tokens + b->grid.points[i].tokens];
        count += !*needed && !sweep_imported(b->sweep, b->grid.points[i].model);
        *needed = 1;
    }
    return count;
}

/* Seconds of a stage, and its share of a device. `operations`: that its device has to wait for. */
static void predict(const struct builder *b, struct plan_stage *stage, double operations)
{
    const struct sweep_resources *resources = &b->sweep->resources;
    double busy = (stage->flops + stage->recompute_flops + stage->evaluation_flops) / (b->rate * stage->degree);
    stage->seconds = busy + operations * resources->operation_seconds;
    if (stage->degree == 1)
        stage->share =
            share_of(busy, stage->seconds, stage->bytes, resources->device_bytes, resources->stages_per_device);
}

/* The chain of one model: stages (a, b] over ascending step counts. */
static int add_trunk(struct builder *b, uint32_t model, struct error *err)
{
    const struct sweep *sweep = b->sweep;
    const struct model_config *config = &sweep->models[model];
    struct method_config full = {.kind = METHOD_FULL};
    struct plan_shape shape;
    uint32_t parent = PLAN_NONE;
    uint64_t first = 0;
    bool trained = false; /* a model that no point has is not even looked at */
    for (size_t i = 0; i < sweep->pretrain_token_count && !sweep_imported(sweep, model); i++)
        trained = trained || b->base[model * sweep->pretrain_token_count + i];
    for (size_t i = 0; i < sweep->pretrain_token_count && !trained; i++)
        b->base[model * sweep->pretrain_token_count + i] = PLAN_NONE;
    if (!trained) return 0;
    if (plan_shape(sweep, config, &full, &sweep->pretrain, true, &shape, err)) return -1;
    for (size_t i = 0; i < sweep->pretrain_token_count; i++) {
        uint32_t *base = &b->base[model * sweep->pretrain_token_count + i];
        if (!*base) {
            *base = PLAN_NONE;
            continue;
        }
        uint64_t last = sweep_pretrain_steps(&sweep->pretrain, sweep->pretrain_tokens[i]);
        struct plan_stage *stage = &b->plan->stages[b->plan->stage_count];
        *stage = (struct plan_stage){.kind = STAGE_PRETRAIN,
                                     .parent = parent,
                                     .point = PLAN_NONE,
                                     .reference = PLAN_NONE,
                                     .task = sweep->bases[model].text,
                                     .model = model,
                                     .tokens = (uint32_t)i,
                                     .degree = shape.degree,
                                     .first_step = first,
                                     .last_step = last,
                                     .flops = plan_pretrain_flops(sweep, config, first, last),
                                     .bytes = shape.bytes,
                                     .recompute = shape.recompute};
        stage->identity = identity_state(&b->trunks[model], last);
        if (shape.recompute) stage->recompute_flops = plan_pretrain_recompute(sweep, config, first, last);
        predict(b, stage, plan_pretrain_operations(sweep, config, last - first, shape.recompute));
        *base = parent = (uint32_t)b->plan->stage_count++;
        first = last;
    }
    return 0;
}

/* What a point starts from: a stage's end state, or a folder. */
struct base {
    struct digest identity;
    uint64_t tokens;
    uint32_t stage; /* PLAN_NONE: a folder */
    double flops;   /* of all the training behind it that is done here */
};

static struct base base_of(const struct builder *b, const struct grid_point *at)
{
    const struct sweep *sweep = b->sweep;
    uint32_t index = b->base[at->model * sweep->pretrain_token_count + at->tokens];
    if (index == PLAN_NONE) {
        const struct sweep_import *import = sweep_import_of(sweep, at->model, sweep->pretrain_tokens[at->tokens]);
        return (struct base){import->identity, import->tokens, PLAN_NONE, 0};
    }
    const struct plan_stage *stage = &b->plan->stages[index];
    return (struct base){stage->identity, sweep_step_tokens(&sweep->pretrain, stage->last_step), index,
                         plan_pretrain_flops(sweep, &sweep->models[at->model], 0, stage->last_step)};
}

static void fill_point(const struct builder *b, const struct grid_point *at, const struct plan_stage *stage,
                       const struct base *base, struct store_point *point)
{
    const struct sweep *sweep = b->sweep;
    const struct model_config *model = &sweep->models[at->model];
    const struct sweep_method *m = &sweep->methods[at->method];
    bool tuned = m->config.kind != METHOD_NONE; /* an adapter as it is counts as a model that is not */
    struct method_config method = tuned ? plan_method(sweep, at->method, at->size) : m->config;
    memset(point, 0, sizeof *point);
    store_field(point->identity, sizeof point->identity, stage->identity.hex);
    store_field(point->base, sizeof point->base, base->identity.hex);
    store_field(point->trunk, sizeof point->trunk, b->trunks[at->model].hex);
    store_field(point->task, sizeof point->task, sweep->tasks[at->task].name);
    store_field(point->model, sizeof point->model, model->name);
    store_field(point->method, sizeof point->method, method_name(method.kind));
    point->parameters = model_parameters(model);
    point->non_embedding_parameters = model_non_embedding_parameters(model);
    point->trainable_parameters = method_parameters(model, &method);
    point->pretrain_tokens = base->tokens;
    point->finetune_examples = tuned ? sweep->examples[at->examples] : 0;
    point->pet_size = method.size;
    point->seed = sweep->seeds[at->seed];
    point->learning_rate = plan_stage_rate(b->plan, stage);
    point->held_out = at->held_out;
}

/* Validations after steps (first, last] of a recipe. */
static double validations(const struct recipe *recipe, uint64_t first, uint64_t last)
{
    uint64_t each = recipe->evaluation_steps;
    if (!recipe->steps) return 1.0;
    if (!each) return recipe->evaluations;
    return (double)(last / each - first / each + (last == recipe->steps && last % each != 0));
}

/* A stretch of finetuning of a grid point: what it shares with others, or, with the test, the rest. */
static struct plan_stage finetune_stage(const struct builder *b, const struct grid_point *at, uint64_t first,
                                        uint64_t last, bool test)
{
    const struct sweep *sweep = b->sweep;
    const struct sweep_task *task = &sweep->tasks[at->task];
    const struct model_config *model = &sweep->models[at->model];
    const struct plan_shape *shape = &b->shapes[shape_index(b, at->model, at->method, at->size)];
    struct method_config method = plan_method(sweep, at->method, at->size);
    struct recipe whole = plan_recipe(&sweep->methods[at->method], at->rate, sweep->examples[at->examples]),
                  stretch = whole;
    stretch.steps = last - first;
    struct plan_stage stage = {
        .kind = test ? STAGE_FINETUNE : STAGE_PREFIX,
        .parent = PLAN_NONE,
        .point = PLAN_NONE,
        .task = at->task,
        .model = at->model,
        .tokens = at->tokens,
        .method = at->method,
        .size = at->size,
        .rate = at->rate,
        .reference = PLAN_NONE,
        .seed = at->seed,
        .examples = at->examples,
        .degree = shape->degree,
        .first_step = first,
        .last_step = last,
        .flops = plan_finetune_flops(task, model, &method, &whole, first, last),
        .evaluation_flops = plan_evaluation_flops(task, model, &method, &whole, validations(&whole, first, last), test),
        .bytes = shape->bytes,
        .recompute = shape->recompute};
    if (test) stage.evaluation_flops += plan_generation_flops(sweep, task, model, &method, &whole);
    if (shape->recompute) stage.recompute_flops = plan_finetune_recompute(task, model, &method, &stretch);
    double checks = validations(&whole, first, last);
    predict(b, &stage,
            plan_finetune_operations(task, model, &method, &whole, last - first, shape->recompute) +
                plan_evaluation_operations(sweep, task, model, &method, &whole, checks, test));
    return stage;
}

static void add_prefix(struct builder *b, struct plan_prefix *prefix)
{
    const struct grid_point *at = &b->grid.points[prefix->point];
    struct base base = base_of(b, at);
    struct plan_stage *stage = &b->plan->stages[b->plan->stage_count];
    *stage = finetune_stage(b, at, prefix->first_step, prefix->last_step, false);
    stage->parent = prefix->parent == PLAN_NONE ? base.stage : b->prefixes.list[prefix->parent].stage;
    stage->identity =
        identity_prefix(&base.identity, &b->texts[text_index(b, at->task, at->method, at->size, at->rate)],
                        b->sweep->seeds[at->seed], prefix->last_step);
    prefix->stage = (uint32_t)b->plan->stage_count++;
}

static void add_point(struct builder *b, size_t index)
{
    const struct sweep *sweep = b->sweep;
    struct plan *plan = b->plan;
    const struct grid_point *at = &b->grid.points[index];
    const struct sweep_task *task = &sweep->tasks[at->task];
    const struct sweep_method *m = &sweep->methods[at->method];
    const struct model_config *model = &sweep->models[at->model];
    struct method_config method = plan_method(sweep, at->method, at->size);
    struct recipe recipe = plan_recipe(m, at->rate, sweep->examples[at->examples]);
    const struct plan_prefix *prefix =
        b->prefixes.of[index] == PLAN_NONE ? NULL : &b->prefixes.list[b->prefixes.of[index]];
    struct base base = base_of(b, at);
    struct plan_stage *stage = &plan->stages[plan->stage_count];
    *stage = finetune_stage(b, at, prefix ? prefix->last_step : 0, recipe.steps, true);
    stage->parent = prefix ? prefix->stage : base.stage;
    stage->point = (uint32_t)index;
    struct identity_method text = b->texts[text_index(b, at->task, at->method, at->size, at->rate)];
    if (plan_is_tuned(stage)) {
        stage->reference = plan_find_reference(plan, at->method, at->task);
        identity_tuned(&text, &plan->references[stage->reference].identity);
    }
    stage->identity =
        identity_point(&base.identity, &text, &recipe, sweep->examples[at->examples], sweep->seeds[at->seed]);
    fill_point(b, at, stage, &base, &plan->points[index]);
    plan->flops_alone += plan_finetune_flops(task, model, &method, &recipe, 0, recipe.steps) + base.flops;
    plan->stage_of_point[index] = (uint32_t)plan->stage_count++;
}

static int build(struct builder *b, struct error *err)
{
    struct plan *plan = b->plan;
    if (grid_build(b->sweep, &b->grid, err) || plan_prefixes_find(b->sweep, &b->grid, &b->prefixes, err) ||
        prepare(b, err))
        return -1;
    plan->point_count = b->grid.count;
    size_t stages = plan->point_count + b->prefixes.count + count_bases(b);
    plan->stages = calloc(stages ? stages : 1, sizeof *plan->stages);
    plan->points = calloc(plan->point_count ? plan->point_count : 1, sizeof *plan->points);
    plan->stage_of_point = calloc(plan->point_count ? plan->point_count : 1, sizeof *plan->stage_of_point);
    if (!plan->stages || !plan->points || !plan->stage_of_point)
        return error_set(err, "out of memory for %zu points", plan->point_count);
    for (uint32_t i = 0; i < b->sweep->model_count; i++)
        if (add_trunk(b, i, err)) return -1;
    for (size_t i = 0; i < b->prefixes.count; i++)
        add_prefix(b, &b->prefixes.list[i]);
    for (size_t i = 0; i < plan->point_count; i++)
        if (b->grid.points[i].rate != GRID_TUNED) add_point(b, i);
    if (plan_make_references(plan, err)) return -1;
    for (size_t i = 0; i < plan->point_count; i++)
        if (b->grid.points[i].rate == GRID_TUNED) add_point(b, i);
    return plan_finish(plan, err);
}

struct plan *plan_create(const struct sweep *sweep, double rate, struct error *err)
{
    struct plan *plan = calloc(1, sizeof *plan);
    if (!plan) {
        error_set(err, "out of memory");
        return NULL;
    }
    plan->sweep = sweep;
    struct builder b = {.sweep = sweep, .plan = plan, .rate = rate > 0.0 ? rate : 1.0};
    int rc = build(&b, err);
    grid_destroy(&b.grid);
    plan_prefixes_free(&b.prefixes);
    free(b.base);
    free(b.trunks);
    free(b.shapes);
    free(b.wanted);
    free(b.texts);
    free(b.shape_first);
    free(b.text_first);
    if (rc) {
        plan_destroy(plan);
        return NULL;
    }
    return plan;
}
