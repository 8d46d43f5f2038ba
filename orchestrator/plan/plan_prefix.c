/* Points that begin alike: which finetuning is trained once for several sizes, and where each point leaves it. */
#include <stdlib.h>
#include <string.h>

#include "orchestrator/plan/plan_parts.h"
#include "workers/model/model.h"

/* A point that may share, and how far: steps of one pass over its examples, at a rate that does not know its end. */
struct sharer {
    uint32_t point;
    uint64_t branch;
    const struct grid_point *at;
};

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* The last step up to which the point's training is that of every larger one: at least one step is its own. */
static uint64_t branch_of(const struct sweep *sweep, const struct grid_point *at)
{
    struct recipe recipe = plan_recipe(&sweep->methods[at->method], at->rate, sweep->examples[at->examples]);
    uint64_t pass = sweep->examples[at->examples] / recipe.batch;
    return least(least(recipe_steady_steps(&recipe), pass), recipe.steps - 1);
}

static int compare_keys(const struct grid_point *a, const struct grid_point *b)
{
    const uint32_t x[] = {a->task, a->model, a->tokens, a->method, a->size, a->rate, a->seed};
    const uint32_t y[] = {b->task, b->model, b->tokens, b->method, b->size, b->rate, b->seed};
    for (size_t i = 0; i < sizeof x / sizeof *x; i++)
        if (x[i] != y[i]) return x[i] < y[i] ? -1 : 1;
    return 0;
}

static int compare_sharers(const void *a, const void *b)
{
    const struct sharer *x = a, *y = b;
    int keys = compare_keys(x->at, y->at);
    if (keys) return keys;
    if (x->branch != y->branch) return x->branch < y->branch ? -1 : 1;
    if (x->at->examples != y->at->examples) return x->at->examples < y->at->examples ? -1 : 1;
    return (x->point > y->point) - (x->point < y->point);
}

/* The prefixes of points that differ in their examples alone, one where a point leaves, from the first to the last. */
static void cut_chain(const struct sharer *sharers, size_t count, struct plan_prefixes *out)
{
    uint32_t parent = PLAN_NONE;
    uint64_t first = 0;
    for (size_t i = 0; i < count;) {
        size_t end = i;
        while (end < count && sharers[end].branch == sharers[i].branch)
            end++;
        if (sharers[i].branch > 0 && count - i > 1) { /* the last point has nobody to share the rest with */
            out->list[out->count] = (struct plan_prefix){.point = sharers[count - 1].point,
                                                         .parent = parent,
                                                         .first_step = first,
                                                         .last_step = sharers[i].branch};
            parent = (uint32_t)out->count++;
            first = sharers[i].branch;
        }
        for (; i < end; i++)
            out->of[sharers[i].point] = parent;
    }
}

static size_t collect(const struct sweep *sweep, const struct grid *grid, struct sharer *sharers)
{
    size_t count = 0;
    for (size_t i = 0; i < grid->count; i++)
        if (sweep->methods[grid->points[i].method].share)
            sharers[count++] = (struct sharer){(uint32_t)i, branch_of(sweep, &grid->points[i]), &grid->points[i]};
    qsort(sharers, count, sizeof *sharers, compare_sharers);
    return count;
}

int plan_prefixes_find(const struct sweep *sweep, const struct grid *grid, struct plan_prefixes *out, struct error *err)
{
    struct sharer *sharers = calloc(grid->count + 1, sizeof *sharers);
    *out = (struct plan_prefixes){.list = calloc(grid->count + 1, sizeof *out->list),
                                  .of = calloc(grid->count + 1, sizeof *out->of)};
    if (!sharers || !out->list || !out->of) {
        free(sharers);
        plan_prefixes_free(out);
        return error_set(err, "out of memory for %zu points", grid->count);
    }
    memset(out->of, 0xff, (grid->count + 1) * sizeof *out->of);
    size_t count = collect(sweep, grid, sharers);
    for (size_t first = 0, end; first < count; first = end) {
        for (end = first + 1; end < count && !compare_keys(sharers[first].at, sharers[end].at);)
            end++;
        cut_chain(sharers + first, end - first, out);
    }
    free(sharers);
    return 0;
}

void plan_prefixes_free(struct plan_prefixes *prefixes)
{
    free(prefixes->list);
    free(prefixes->of);
    *prefixes = (struct plan_prefixes){0};
}

uint32_t plan_kept_base(const struct plan *plan, uint32_t index)
{
    const struct plan_stage *stage = &plan->stages[index];
    if (stage->kind == STAGE_PRETRAIN || !method_leaves_base(plan->sweep->methods[stage->method].config.kind)) return 0;
    uint32_t base = plan_base(plan, stage->parent);
    if (base != PLAN_NONE) return base + 1;
    return (uint32_t)plan->stage_count + 1 +
           (stage->model << 12 | stage->tokens); /* a folder's; 4,096 tokens at most */
}

uint32_t plan_base(const struct plan *plan, uint32_t index)
{
    while (index != PLAN_NONE && plan->stages[index].kind != STAGE_PRETRAIN)
        index = plan->stages[index].parent;
    return index;
}
