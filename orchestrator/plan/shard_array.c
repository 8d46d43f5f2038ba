/* Plan -> the tasks of an array: who computes which point, and what is trained before all of them. Longest processing
 * time first, over whole models and over the points of models that are too large for one task. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "orchestrator/plan/plan_parts.h"
#include "orchestrator/plan/shard_parts.h"

#define TOO_LARGE 1.25 /* even shares: a model above is cut, so that one task does not keep the others waiting */

/* What goes to one task as a whole: a model with its trunk; of a model that is cut points that share finetuning, or a
 * point. */
struct piece {
    double cost;    /* FLOPs */
    uint32_t model; /* PLAN_NONE: a family */
    uint32_t family;
};

struct model_cost {
    uint32_t model;
    size_t points, families;
    double trunk, all; /* FLOPs: of pretraining, with all its points */
    bool cut;
};

/* Without activations that are computed again: that depends on the devices of a node, and every task must deal alike.
 */
static double stage_cost(const struct plan_stage *stage)
{
    return stage->flops + stage->evaluation_flops;
}

static int compare_models(const void *a, const void *b)
{
    const struct model_cost *x = a, *y = b;
    if (x->all > y->all || x->all < y->all) return x->all > y->all ? -1 : 1;
    return (x->model > y->model) - (x->model < y->model);
}

static int compare_pieces(const void *a, const void *b)
{
    const struct piece *x = a, *y = b;
    if (x->cost > y->cost || x->cost < y->cost) return x->cost > y->cost ? -1 : 1;
    if (x->model != y->model) return x->model < y->model ? -1 : 1;
    return (x->family > y->family) - (x->family < y->family);
}

/* The stage that stands for all that go on from the same finetuning: the first of it; alone, for itself. */
static uint32_t family_of(const struct plan *plan, uint32_t stage, bool together)
{
    for (uint32_t parent;
         together && (parent = plan->stages[stage].parent) != PLAN_NONE && plan->stages[parent].kind == STAGE_PREFIX;)
        stage = parent;
    return stage;
}

/* Costs of the models that have points, the costliest first; their number. */
static size_t count_costs(const struct plan *plan, bool together, struct model_cost *models)
{
    size_t count = plan->sweep->model_count, used = 0;
    for (size_t i = 0; i < count; i++)
        models[i] = (struct model_cost){.model = (uint32_t)i};
    for (size_t i = 0; i < plan->stage_count; i++) {
        const struct plan_stage *stage = &plan->stages[i];
        struct model_cost *model = &models[stage->model];
        if (plan_is_candidate(stage)) continue;
        model->all += stage_cost(stage);
        if (stage->kind == STAGE_PRETRAIN) model->trunk += stage_cost(stage);
        model->points += stage->point != PLAN_NONE;
        model->families += together ? stage->kind != STAGE_PRETRAIN && family_of(plan, (uint32_t)i, true) == i
                                    : stage->point != PLAN_NONE;
    }
    for (size_t i = 0; i < count; i++)
        if (models[i].points > 0) models[used++] = models[i];
    qsort(models, used, sizeof *models, compare_models);
    return used;
}

/* Models above an even share are cut, and as many more as it takes for every task to have something. */
static void choose_cuts(struct model_cost *models, size_t used, uint32_t count)
{
    size_t pieces = used;
    double total = 0;
    for (size_t i = 0; i < used; i++)
        total += models[i].all;
    for (size_t i = 0; i < used; i++) {
        struct model_cost *model = &models[i];
        if (model->all <= TOO_LARGE * total / count && pieces >= count) return; /* so are all that come */
        if (model->families == 1) continue;
        model->cut = true;
        total -= model->trunk; /* trained before the tasks */
        pieces += model->families - 1;
    }
}

/* pieces[stages], cost[stages] of families; the number of pieces. */
static size_t make_pieces(const struct plan *plan, const struct model_cost *models, size_t used, bool together,
                          double *cost, unsigned char *cut, struct piece *pieces)
{
    size_t count = 0;
    for (size_t i = 0; i < used; i++) {
        cut[models[i].model] = models[i].cut;
        if (!models[i].cut) pieces[count++] = (struct piece){models[i].all, models[i].model, 0};
    }
    for (uint32_t i = 0; i < plan->stage_count; i++)
        cost[family_of(plan, i, together)] += stage_cost(&plan->stages[i]);
    for (uint32_t i = 0; i < plan->stage_count; i++) {
        const struct plan_stage *stage = &plan->stages[i];
        if (!cut[stage->model] || stage->kind == STAGE_PRETRAIN || plan_is_candidate(stage) ||
            family_of(plan, i, together) != i)
            continue;
        if (together || stage->kind == STAGE_FINETUNE) pieces[count++] = (struct piece){cost[i], PLAN_NONE, i};
    }
    qsort(pieces, count, sizeof *pieces, compare_pieces);
    return count;
}

/* A task with what it was given; the one with the least is at the top of a heap. */
struct load {
    double cost;
    size_t pieces; /* some points cost nothing */
    uint32_t task;
};

static bool less(const struct load *a, const struct load *b)
{
    if (a->cost > b->cost || a->cost < b->cost) return a->cost < b->cost;
    if (a->pieces != b->pieces) return a->pieces < b->pieces;
    return a->task < b->task;
}

static void sink_top(struct load *heap, size_t count)
{
    for (size_t at = 0;;) {
        size_t least = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2; child++)
            if (child < count && less(&heap[child], &heap[least])) least = child;
        if (least == at) return;
        struct load load = heap[at];
        heap[at] = heap[least];
        heap[least] = load;
        at = least;
    }
}

/* Each piece to the task with the least: task_of_model[models], task_of_family[stages]. */
static void give_out(const struct piece *pieces, size_t piece_count, struct load *heap, uint32_t count,
                     uint32_t *task_of_model, uint32_t *task_of_family)
{
    for (uint32_t i = 0; i < count; i++)
        heap[i] = (struct load){0, 0, i + 1};
    for (size_t i = 0; i < piece_count; i++) {
        const struct piece *piece = &pieces[i];
        *(piece->model == PLAN_NONE ? &task_of_family[piece->family] : &task_of_model[piece->model]) = heap[0].task;
        heap[0].cost += piece->cost;
        heap[0].pieces++;
        sink_top(heap, count);
    }
}

/* What comes before the tasks is shared, with what it builds on. */
static void share(const struct plan *plan, uint32_t index, struct shard_array *out)
{
    for (; index != PLAN_NONE && !out->shared[index]; index = plan->stages[index].parent) {
        out->shared[index] = 1;
        out->shared_count++;
    }
}

/* The points of whole models, and the trunks that more than one task needs. */
static void finish(const struct plan *plan, const uint32_t *task_of_model, const uint32_t *task_of_family,
                   bool together, const unsigned char *cut, uint32_t *first, struct shard_array *out)
{
    for (size_t p = 0; p < plan->point_count; p++) {
        uint32_t stage = plan->stage_of_point[p], model = plan->stages[stage].model;
        if (plan_is_candidate(&plan->stages[stage])) continue;
        out->of[p] = cut[model] ? task_of_family[family_of(plan, stage, together)] : task_of_model[model];
        if (first[model] == 0) first[model] = out->of[p];
        if (first[model] != out->of[p]) first[model] = PLAN_NONE;
    }
    for (uint32_t i = 0; i < plan->stage_count; i++) {
        const struct plan_stage *stage = &plan->stages[i];
        bool trunk = stage->kind == STAGE_PRETRAIN && first[stage->model] == PLAN_NONE;
        if (trunk || plan_is_candidate(stage)) share(plan, i, out);
    }
}

/* Whether there are families for every task; else points that share finetuning are dealt one by one, and each of their
 * tasks trains it. */
static bool has_families(const struct plan *plan, uint32_t count)
{
    size_t families = 0;
    for (uint32_t i = 0; i < plan->stage_count; i++)
        families += plan->stages[i].kind != STAGE_PRETRAIN && !plan_is_candidate(&plan->stages[i]) &&
                    family_of(plan, i, true) == i;
    return families >= count;
}

int shard_array_deal(const struct plan *plan, uint32_t count, struct shard_array *out, struct error *err)
{
    *out = (struct shard_array){.count = count};
    size_t points = plan->point_count;
    for (size_t i = 0; i < plan->reference_count; i++)
        points -= plan->references[i].count;
    if (count > points)
        return error_set(err, "%" PRIu32 " tasks, but the sweep has %zu points%s: some would have none", count, points,
                         points < plan->point_count ? " beside the candidates of reference cells" : "");
    size_t models = plan->sweep->model_count;
    struct model_cost *costs = calloc(models, sizeof *costs);
    struct piece *pieces = calloc(plan->stage_count + 1, sizeof *pieces);
    double *cost = calloc(plan->stage_count + 1, sizeof *cost);
    uint32_t *task_of_family = calloc(plan->stage_count + 1, sizeof *task_of_family);
    struct load *heap = calloc(count, sizeof *heap);
    uint32_t *task_of_model = calloc(models, sizeof *task_of_model), *first = calloc(models, sizeof *first);
    unsigned char *cut = calloc(models, 1);
    out->of = calloc(plan->point_count + 1, sizeof *out->of);
    out->shared = calloc(plan->stage_count + 1, 1);
    int result = -1;
    if (costs && pieces && cost && task_of_family && heap && task_of_model && first && cut && out->of && out->shared) {
        bool together = has_families(plan, count);
        size_t used = count_costs(plan, together, costs);
        choose_cuts(costs, used, count);
        size_t piece_count = make_pieces(plan, costs, used, together, cost, cut, pieces);
        give_out(pieces, piece_count, heap, count, task_of_model, task_of_family);
        finish(plan, task_of_model, task_of_family, together, cut, first, out);
        result = 0;
    } else {
        error_set(err, "out of memory");
        shard_array_free(out);
    }
    free(costs);
    free(pieces);
    free(cost);
    free(task_of_family);
    free(heap);
    free(task_of_model);
    free(first);
    free(cut);
    return result;
}

void shard_array_free(struct shard_array *array)
{
    free(array->of);
    free(array->shared);
    *array = (struct shard_array){0};
}

static struct plan *make_room(const struct plan *whole, size_t stages, size_t points)
{
    struct plan *plan = calloc(1, sizeof *plan);
    if (!plan) return NULL;
    plan->sweep = whole->sweep;
    plan->stages = calloc(stages + 1, sizeof *plan->stages);
    plan->points = calloc(points + 1, sizeof *plan->points);
    plan->stage_of_point = calloc(points + 1, sizeof *plan->stage_of_point);
    if (plan->stages && plan->points && plan->stage_of_point) return plan;
    plan_destroy(plan);
    return NULL;
}

struct plan *shard_array_plan(const struct plan *whole, const struct shard_array *array, uint32_t index,
                              struct error *err)
{
    unsigned char *keep = calloc(whole->stage_count + 1, 1);
    size_t stages = 0, points = 0;
    if (keep && index > 0) shard_mark_stages(whole, array->of, index, keep);
    for (size_t i = 0; keep && i < whole->stage_count; i++) {
        if (index == 0) keep[i] = array->shared[i];
        stages += keep[i];
        points += keep[i] && whole->stages[i].point != PLAN_NONE;
    }
    struct plan *plan = keep ? make_room(whole, stages, points) : NULL;
    int result = plan ? shard_compact(whole, array->of, index, keep, plan, err) : error_set(err, "out of memory");
    for (size_t i = 0, at = 0; result == 0 && index > 0 && i < whole->stage_count; i++) {
        if (keep[i] && array->shared[i]) plan->stages[at].seconds = 0;
        at += keep[i];
    }
    free(keep);
    if (result == 0) result = plan_finish(plan, err);
    if (result == 0) return plan;
    plan_destroy(plan);
    return NULL;
}
