/* The plan as tables for a person: axes, points per method, stages, what sharing saves, time and memory. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "io/quantity.h"
#include "orchestrator/plan/pack.h"
#include "orchestrator/plan/plan.h"
#include "orchestrator/plan/share.h"
#include "orchestrator/sweep/grid.h"

static void print_uints(FILE *out, const char *name, const uint64_t *values, size_t count)
{
    fprintf(out, "  %-16s", name);
    for (size_t i = 0; i < count && i < 12; i++)
        fprintf(out, "%s%" PRIu64, i ? ", " : "", values[i]);
    fprintf(out, count > 12 ? ", ... (%zu)\n" : "\n", count);
}

static void print_axes(const struct sweep *sweep, FILE *out)
{
    char number[32];
    fprintf(out, "  %-16s", "models");
    for (size_t i = 0; i < sweep->model_count && i < 12; i++)
        fprintf(out, "%s%s (%s)", i ? ", " : "", sweep->models[i].name,
                quantity_number((double)model_parameters(&sweep->models[i]), number));
    fprintf(out, sweep->model_count > 12 ? ", ... (%zu)\n" : "\n", sweep->model_count);
    print_uints(out, "pretrain tokens", sweep->pretrain_tokens, sweep->pretrain_token_count);
    print_uints(out, "examples", sweep->examples, sweep->example_count);
    print_uints(out, "seeds", sweep->seeds, sweep->seed_count);
}

static void print_sizes(const struct sweep_method *method, FILE *out)
{
    char text[64] = "-";
    size_t used = 0;
    for (size_t i = 0; i < method->size_count && method->sizes[i] && used < 30; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%" PRIu32, i ? "," : "", method->sizes[i]);
    fprintf(out, "%-14s", text);
}

static void print_methods(const struct plan *plan, FILE *out)
{
    const struct sweep *sweep = plan->sweep;
    char flops[32];
    bool several = sweep->task_count > 1;
    fprintf(out, "\n%-10s%-14s%8s%8s%10s%10s%s\n", "method", "PET sizes", "rates", "points", "held out", "FLOPs",
            several ? "  tasks" : "");
    for (uint32_t method = 0; method < sweep->method_count; method++) {
        const struct sweep_method *m = &sweep->methods[method];
        size_t points = 0, held_out = 0;
        double sum = 0.0;
        for (size_t i = 0; i < plan->stage_count; i++) {
            const struct plan_stage *stage = &plan->stages[i];
            if (stage->kind == STAGE_PRETRAIN || stage->method != method) continue;
            sum += stage->flops;
            if (stage->kind == STAGE_PREFIX) continue;
            points++;
            held_out += plan->points[stage->point].held_out;
        }
        fprintf(out, "%-10s", method_name(m->config.kind));
        print_sizes(m, out);
        fprintf(out, "%8zu%8zu%10zu%10s", m->config.kind == METHOD_NONE ? 0 : m->learning_rate_count, points, held_out,
                quantity_number(sum, flops));
        for (size_t task = 0; several && task < sweep->task_count; task++)
            if (m->tasks >> task & 1) fprintf(out, "  %s", sweep->tasks[task].name);
        fputc('\n', out);
    }
}

static void print_references(const struct plan *plan, FILE *out)
{
    const struct sweep *sweep = plan->sweep;
    for (size_t i = 0; i < plan->reference_count; i++) {
        const struct plan_reference *reference = &plan->references[i];
        fprintf(out, "%s%s, task %s: ", i ? "" : "\n", method_name(sweep->methods[reference->method].config.kind),
                sweep->tasks[reference->task].name);
        if (reference->count == 0) {
            fprintf(out, "the learning rate is tuned by task 0\n");
            continue;
        }
        const struct store_point *cell = &plan->points[plan->stages[reference->candidates[0]].point];
        char tokens[32];
        fprintf(out, "the best of %zu learning rates at model %s, %s tokens, ", reference->count,
                sweep->models[plan->stages[reference->candidates[0]].model].name,
                quantity_number((double)cell->pretrain_tokens, tokens));
        if (cell->pet_size) fprintf(out, "size %" PRIu64 ", ", cell->pet_size);
        fprintf(out, "%" PRIu64 " examples, seed %" PRIu64 "\n", cell->finetune_examples, cell->seed);
    }
}

static void print_stage_head(bool several, FILE *out)
{
    fprintf(out, "\n%-10s%-16s%-12s%8s%10s%10s%12s%9s%12s%s\n", "stage", "model", "method", "stages", "steps", "FLOPs",
            "memory", "devices", "time", several ? "  task" : "");
}

static void print_stage_row(FILE *out, const char *kind, const char *model, const char *method, size_t count,
                            uint64_t steps, double flops, uint64_t bytes, uint32_t degree, double seconds,
                            const char *task)
{
    char a[32], b[32], c[32];
    fprintf(out, "%-10s%-16.15s%-12s%8zu%10" PRIu64 "%10s%12s%9" PRIu32 "%12s", kind, model, method, count, steps,
            quantity_number(flops, a), quantity_bytes((double)bytes, b), degree, quantity_time(seconds, c));
    fprintf(out, task ? "  %s\n" : "\n", task);
}

/* NULL where the sweep has one alone. */
static const char *task_label(const struct sweep *sweep, size_t task)
{
    return sweep->task_count > 1 ? sweep->tasks[task].name : NULL;
}

static void print_pretraining(const struct plan *plan, FILE *out)
{
    for (size_t i = 0; i < plan->stage_count; i++) {
        const struct plan_stage *stage = &plan->stages[i];
        if (stage->kind != STAGE_PRETRAIN) continue;
        char tokens[32], step[48];
        snprintf(step, sizeof step, "to %s",
                 quantity_number((double)sweep_step_tokens(&plan->sweep->pretrain, stage->last_step), tokens));
        print_stage_row(out, "pretrain", plan->sweep->models[stage->model].name, step, 1,
                        stage->last_step - stage->first_step, stage->flops, stage->bytes, stage->degree, stage->seconds,
                        task_label(plan->sweep, stage->task));
    }
}

/* Sums over the finetuning stages of one task, model and method. */
struct group {
    size_t count;
    uint64_t steps, bytes;
    uint32_t degree;
    double flops, seconds;
};

/* What several points begin with, or what each ends with. */
static void print_finetuning(const struct plan *plan, enum stage_kind wanted, FILE *out)
{
    const struct sweep *sweep = plan->sweep;
    size_t methods = sweep->method_count, cells = sweep->model_count * methods;
    struct group *groups = calloc(cells * sweep->task_count, sizeof *groups);
    if (!groups) return;
    for (size_t i = 0; i < plan->stage_count; i++) {
        const struct plan_stage *stage = &plan->stages[i];
        if (stage->kind != wanted) continue;
        struct group *group = &groups[stage->task * cells + stage->model * methods + stage->method];
        group->count++;
        group->steps += stage->last_step - stage->first_step;
        group->flops += stage->flops;
        group->seconds += stage->seconds;
        group->bytes = stage->bytes > group->bytes ? stage->bytes : group->bytes;
        group->degree = stage->degree > group->degree ? stage->degree : group->degree;
    }
    for (size_t i = 0; i < cells * sweep->task_count; i++) {
        const struct group *group = &groups[i];
        enum method_kind kind = sweep->methods[i % methods].config.kind;
        if (!group->count) continue;
        const char *name = kind == METHOD_NONE ? "evaluate" : stage_kind_name(wanted);
        print_stage_row(out, name, sweep->models[i % cells / methods].name, method_name(kind), group->count,
                        group->steps, group->flops, group->bytes, group->degree, group->seconds,
                        task_label(sweep, i / cells));
    }
    free(groups);
}

/* Packs of one group: how many, of how many points, and the largest cost of one. */
static void print_pack_row(const struct plan *plan, const struct pack_list *list, size_t begin, size_t end, FILE *out)
{
    const struct sweep *sweep = plan->sweep;
    const struct plan_stage *lead = &plan->stages[list->order[list->first[begin]]];
    char tokens[32], a[32], b[32], c[32], label[48];
    struct pack_cost largest = {0};
    for (size_t i = begin; i < end; i++) {
        struct pack_cost cost = pack_cost(plan, list, i);
        if (cost.flops > largest.flops) largest.flops = cost.flops;
        if (cost.bytes > largest.bytes) largest.bytes = cost.bytes;
        if (cost.seconds > largest.seconds) largest.seconds = cost.seconds;
    }
    snprintf(label, sizeof label, "from %s",
             quantity_number((double)plan->points[lead->point].pretrain_tokens, tokens));
    fprintf(out, "%-10s%-16.15s%-12s%8zu%10zu%10s%12s%9" PRIu32 "%12s", "pack", sweep->models[lead->model].name, label,
            end - begin, list->first[end] - list->first[begin], quantity_number(largest.flops, a),
            quantity_bytes(largest.bytes, b), lead->degree, quantity_time(largest.seconds, c));
    const char *task = task_label(sweep, lead->task);
    fprintf(out, task ? "  %s\n" : "\n", task);
}

/* Points that are trained in one pass, base by base, were all points of a base ready at once. */
static void print_packs(const struct plan *plan, size_t devices, FILE *out)
{
    struct pack_list list;
    if (plan->sweep->resources.pack == 1 || pack_plan(plan, devices, &list)) return;
    bool measured = plan->sweep->resources.pack == SWEEP_PACK_AUTO;
    if (list.count)
        fprintf(out, "\n%-10s%-16s%-12s%8s%10s%10s%12s%9s%12s%s\n", measured ? "at most" : "packs", "model", "base",
                "packs", "points", "FLOPs", "memory", "devices", "time", plan->sweep->task_count > 1 ? "  task" : "");
    for (size_t begin = 0, end; begin < list.count; begin = end) {
        const struct plan_stage *lead = &plan->stages[list.order[list.first[begin]]];
        for (end = begin + 1;
             end < list.count && !pack_compare_groups(plan, lead, &plan->stages[list.order[list.first[end]]]);)
            end++;
        print_pack_row(plan, &list, begin, end, out);
    }
    pack_list_free(&list);
}

struct plan_forecast plan_forecast(const struct plan *plan, size_t devices)
{
    struct plan_forecast forecast = {0};
    double busy = 0.0;
    for (size_t i = 0; i < plan->stage_count; i++) {
        const struct plan_stage *stage = &plan->stages[i];
        uint64_t gang = stage->bytes * stage->degree;
        forecast.device_seconds += stage->seconds * stage->degree;
        busy += stage->seconds * stage->degree * (stage->share ? (double)stage->share / SHARE_WHOLE : 1.0);
        if (stage->path_seconds > forecast.longest_seconds) forecast.longest_seconds = stage->path_seconds;
        if (stage->bytes > forecast.largest_bytes) forecast.largest_bytes = stage->bytes;
        if (gang > forecast.largest_gang_bytes) forecast.largest_gang_bytes = gang;
        if (stage->degree > forecast.widest) forecast.widest = stage->degree;
    }
    double share = busy / (double)(devices ? devices : 1);
    forecast.seconds = share > forecast.longest_seconds ? share : forecast.longest_seconds;
    return forecast;
}

/* What the plan comes to: stages, what sharing saves, memory, time. */
static void print_totals(const struct plan *plan, size_t devices, FILE *out)
{
    struct plan_forecast forecast = plan_forecast(plan, devices);
    char a[32], b[32], c[32], d[32];
    size_t pretraining = 0, prefixes = 0, recomputed = 0, sharing = 0;
    for (size_t i = 0; i < plan->stage_count; i++) {
        const struct plan_stage *stage = &plan->stages[i];
        pretraining += stage->kind == STAGE_PRETRAIN;
        prefixes += stage->kind == STAGE_PREFIX;
        recomputed += stage->recompute;
        sharing += stage->share && stage->share < SHARE_WHOLE;
    }
    fprintf(out, "\n%zu stages: %zu of pretraining", plan->stage_count, pretraining);
    if (prefixes) fprintf(out, " and %zu of finetuning", prefixes);
    if (plan->point_count)
        fprintf(out, ", shared by %zu points\n", plan->point_count);
    else
        fprintf(out, ", for the tasks that come after\n");
    fprintf(out, "FLOPs of training: %s", quantity_number(plan->flops, a));
    if (plan->flops_alone > plan->flops) /* not so of an array's task whose trunks are of the others, too */
        fprintf(out, "; %s if every point trained its own prefix: sharing saves %.0f %%",
                quantity_number(plan->flops_alone, b), 100.0 * (1.0 - plan->flops / plan->flops_alone));
    fputc('\n', out);
    if (recomputed)
        fprintf(out, "activations of %zu stages are computed again in the backward pass: %s FLOPs beside these\n",
                recomputed, quantity_number(plan->recompute_flops, a));
    if (sharing) fprintf(out, "%zu stages may share a device with others\n", sharing);
    fprintf(out, "memory of the largest stage: %s on one device\n", quantity_bytes((double)forecast.largest_bytes, c));
    fprintf(out, "predicted time on %zu device%s: %s", devices, devices == 1 ? "" : "s",
            quantity_time(forecast.seconds, d));
    fprintf(out, " (longest chain of stages %s, all stages one after another %s)\n",
            quantity_time(forecast.longest_seconds, a), quantity_time(forecast.device_seconds, b));
}

void plan_print(const struct plan *plan, size_t devices, FILE *out)
{
    const struct sweep *sweep = plan->sweep;
    fprintf(out, "sweep %s: %zu points, plan %.12s\n", sweep->name, plan->point_count, plan->identity.hex);
    for (size_t i = 0; i < sweep->task_count; i++)
        fprintf(out, "data %s (task %s, vocabulary %zu, digest %.12s)\n", sweep->tasks[i].dataset, sweep->tasks[i].name,
                sweep->tasks[i].data.vocabulary, sweep->tasks[i].data.digest.hex);
    if (sweep->missing.text[0]) fprintf(out, "identities are not final: %s\n", sweep->missing.text);
    print_axes(sweep, out);
    print_methods(plan, out);
    print_references(plan, out);
    print_stage_head(sweep->task_count > 1, out);
    print_pretraining(plan, out);
    print_finetuning(plan, STAGE_PREFIX, out);
    print_finetuning(plan, STAGE_FINETUNE, out);
    print_packs(plan, devices, out);
    print_totals(plan, devices, out);
}

void plan_print_points(const struct plan *plan, FILE *out)
{
    bool several = plan->sweep->task_count > 1;
    fprintf(out, "\n%-14s%-16s%14s  %-8s%8s%12s%12s%8s%10s%10s%s\n", "point", "model", "tokens", "method", "size",
            "rate", "examples", "seed", "steps", "held out", several ? "  task" : "");
    for (size_t i = 0; i < plan->point_count; i++) {
        const struct store_point *point = &plan->points[i];
        const struct plan_stage *stage = &plan->stages[plan->stage_of_point[i]];
        char model[STORE_NAME + 1], method[STORE_NAME + 1];
        store_text(model, sizeof model, point->model, sizeof point->model);
        store_text(method, sizeof method, point->method, sizeof point->method);
        char rate[32];
        snprintf(rate, sizeof rate, plan_is_tuned(stage) ? "tuned" : "%g", point->learning_rate);
        fprintf(out, "%-14.12s%-16.15s%14" PRIu64 "  %-8s%8" PRIu64 "%12s%12" PRIu64 "%8" PRIu64 "%10" PRIu64 "%10s",
                point->identity, model, point->pretrain_tokens, method, point->pet_size, rate, point->finetune_examples,
                point->seed, stage->last_step, point->held_out ? "yes" : "");
        fprintf(out, several ? "  %s\n" : "\n", plan->sweep->tasks[stage->task].name);
    }
}
