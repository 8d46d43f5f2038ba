/* Plan -> the plan of one shard. */
#include "orchestrator/plan/shard.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "orchestrator/plan/plan_parts.h"
#include "orchestrator/plan/shard_parts.h"

int shard_parse(const char *text, bool array, struct shard *out, struct error *err)
{
    int length = 0;
    *out = (struct shard){.array = array};
    if (sscanf(text, "%9" SCNu32 "/%9" SCNu32 "%n", &out->index, &out->count, &length) == 2 && !text[length] &&
        text[0] != '-' && out->index >= (array ? 0 : 1) && out->index <= out->count && out->count >= 1 &&
        out->count <= GRID_LIMIT)
        return 0;
    *out = (struct shard){0};
    if (array) return error_set(err, "--array-task %s: a task is I/N with 0 <= I <= N, 1 <= N <= %d", text, GRID_LIMIT);
    return error_set(err, "--shard %s: a shard is I/N with 1 <= I <= N <= %d", text, GRID_LIMIT);
}

void shard_label(const struct shard *shard, char out[SHARD_LABEL])
{
    out[0] = 0;
    if (shard->index > 0)
        snprintf(out, SHARD_LABEL, "%" PRIu32 "/%" PRIu32 "%s", shard->index, shard->count,
                 shard->array ? " of an array" : "");
}

/* A model's points and its pretraining. */
struct trunk {
    uint32_t model;
    size_t points;
    double pretraining, finetuning; /* FLOPs */
    uint32_t shards, first;         /* given to it, from which on */
};

static double trunk_cost(const struct trunk *trunk, uint32_t shards)
{
    return trunk->pretraining + trunk->finetuning / shards;
}

static int compare_costs(const void *a, const void *b)
{
    const struct trunk *x = a, *y = b;
    double p = trunk_cost(x, 1), q = trunk_cost(y, 1);
    if (p != q) return p > q ? -1 : 1;
    return (x->model > y->model) - (x->model < y->model);
}

static size_t collect(const struct plan *plan, struct trunk *trunks)
{
    size_t models = plan->sweep->model_count, used = 0;
    for (size_t i = 0; i < models; i++)
        trunks[i] = (struct trunk){.model = (uint32_t)i};
    for (size_t i = 0; i < plan->stage_count; i++) {
        const struct plan_stage *stage = &plan->stages[i];
        struct trunk *trunk = &trunks[stage->model];
        if (stage->kind == STAGE_PRETRAIN)
            trunk->pretraining += stage->flops;
        else
            trunk->finetuning += stage->flops;
        trunk->points += stage->point != PLAN_NONE;
    }
    for (size_t i = 0; i < models; i++)
        if (trunks[i].points > 0) trunks[used++] = trunks[i];
    qsort(trunks, used, sizeof *trunks, compare_costs);
    return used;
}

/* As many shards as trunks, or fewer: the costliest trunk goes to the shard with the least. */
static int whole_trunks(struct trunk *trunks, size_t used, uint32_t count)
{
    double *load = calloc(count, sizeof *load);
    if (!load) return -1;
    for (size_t i = 0; i < used; i++) {
        uint32_t least = 0;
        for (uint32_t s = 1; s < count; s++)
            if (load[s] < load[least]) least = s;
        trunks[i].first = least + 1;
        trunks[i].shards = 1;
        load[least] += trunk_cost(&trunks[i], 1);
    }
    free(load);
    return 0;
}

/* More shards than trunks: each further one goes where the cost of a shard is highest. */
static void cut_trunks(struct trunk *trunks, size_t used, uint32_t count)
{
    for (size_t i = 0; i < used; i++)
        trunks[i].shards = 1;
    for (uint32_t given = (uint32_t)used; given < count; given++) {
        struct trunk *most = NULL;
        for (size_t i = 0; i < used; i++)
            if (trunks[i].shards < trunks[i].points &&
                (!most || trunk_cost(&trunks[i], trunks[i].shards) > trunk_cost(most, most->shards)))
                most = &trunks[i];
        most->shards++; /* no more shards than points: there is one */
    }
    uint32_t first = 1;
    for (size_t i = 0; i < used; i++) {
        trunks[i].first = first;
        first += trunks[i].shards;
    }
}

/* The points of a trunk in their order, cut into pieces of even cost, none empty. */
static void deal(const struct plan *plan, const struct trunk *trunk, uint32_t *of)
{
    double done = 0, piece = trunk->finetuning / trunk->shards;
    size_t left = trunk->points;
    uint32_t at = 0, in_piece = 0;
    for (size_t p = 0; p < plan->point_count; p++) {
        const struct plan_stage *stage = &plan->stages[plan->stage_of_point[p]];
        if (stage->model != trunk->model) continue;
        uint32_t pieces_left = trunk->shards - at - 1; /* behind this one: each needs a point */
        bool full = in_piece > 0 && done + stage->flops / 2 > piece * (at + 1);
        if (pieces_left > 0 && in_piece > 0 && (full || left <= pieces_left)) {
            at++;
            in_piece = 0;
        }
        of[p] = trunk->first + at;
        done += stage->flops;
        in_piece++;
        left--;
    }
}

/* Points wait for others, of which a shard that shares nothing does not know. */
static int check_references(const struct plan *plan, struct error *err)
{
    if (!plan->reference_count) return 0;
    return error_set(err,
                     "%s: methods[%" PRIu32
                     "].rates: a learning rate that is tuned at a reference cell needs the whole sweep in one run, or "
                     "an array; allowed with shards: \"per_cell\"",
                     plan->sweep->path, plan->references[0].method);
}

int shard_assign(const struct plan *plan, uint32_t count, uint32_t *of, struct error *err)
{
    if (count > plan->point_count)
        return error_set(err, "%u shards, but the sweep has %zu points: some would have none", count,
                         plan->point_count);
    struct trunk *trunks = calloc(plan->sweep->model_count, sizeof *trunks);
    if (!trunks) return error_set(err, "out of memory");
    size_t used = collect(plan, trunks);
    int result = 0;
    if (count > used)
        cut_trunks(trunks, used, count);
    else
        result = whole_trunks(trunks, used, count);
    for (size_t i = 0; i < used && result == 0; i++)
        deal(plan, &trunks[i], of);
    free(trunks);
    return result == 0 ? 0 : error_set(err, "out of memory");
}

/* Which stages the kept points need; parents come before children. */
void shard_mark_stages(const struct plan *plan, const uint32_t *of, uint32_t index, unsigned char *keep)
{
    for (size_t i = plan->stage_count; i-- > 0;) {
        const struct plan_stage *stage = &plan->stages[i];
        if (stage->point != PLAN_NONE && of[stage->point] == index) keep[i] = 1;
        if (keep[i] && stage->parent != PLAN_NONE) keep[stage->parent] = 1;
    }
}

static double prefix_flops(const struct plan *plan, uint32_t index)
{
    double flops = 0;
    for (; index != PLAN_NONE; index = plan->stages[index].parent)
        flops += plan->stages[index].flops;
    return flops;
}

/* The candidates that are kept. */
static int move_references(const struct plan *from, const uint32_t *moved, struct plan *to, struct error *err)
{
    if (to != from) {
        to->references = calloc(from->reference_count + 1, sizeof *to->references);
        if (!to->references) return error_set(err, "out of memory");
    }
    for (size_t i = 0; i < from->reference_count; i++) {
        const struct plan_reference reference = from->references[i];
        struct plan_reference *kept = &to->references[i];
        if (to != from) {
            *kept = reference;
            kept->candidates = calloc(reference.count + 1, sizeof *kept->candidates);
            to->reference_count = i + 1;
            if (!kept->candidates) return error_set(err, "out of memory");
        }
        kept->count = 0;
        for (size_t k = 0; k < reference.count; k++)
            if (moved[reference.candidates[k]] != PLAN_NONE)
                kept->candidates[kept->count++] = moved[reference.candidates[k]];
    }
    return 0;
}

int shard_compact(const struct plan *from, const uint32_t *of, uint32_t index, const unsigned char *keep,
                  struct plan *to, struct error *err)
{
    uint32_t *moved = calloc(from->stage_count + 1, sizeof *moved);
    if (!moved) return error_set(err, "out of memory");
    size_t points = 0, stages = 0, point_count = from->point_count;
    to->flops_alone = 0;
    for (size_t i = 0; i < from->stage_count; i++) {
        moved[i] = PLAN_NONE;
        if (!keep[i]) continue;
        struct plan_stage stage = from->stages[i];
        if (stage.parent != PLAN_NONE) stage.parent = moved[stage.parent];
        moved[i] = (uint32_t)stages;
        to->stages[stages++] = stage;
    }
    for (size_t p = 0; p < point_count; p++) {
        if (of[p] != index) continue;
        uint32_t stage = moved[from->stage_of_point[p]];
        to->stages[stage].point = (uint32_t)points;
        to->stage_of_point[points] = stage;
        to->points[points++] = from->points[p];
        to->flops_alone += prefix_flops(to, stage);
    }
    int result = move_references(from, moved, to, err);
    free(moved);
    to->stage_count = stages;
    to->point_count = points;
    return result;
}

static int select_points(struct plan *plan, const uint32_t *of, uint32_t index, struct error *err)
{
    unsigned char *keep = calloc(plan->stage_count + 1, 1);
    if (!keep) return error_set(err, "out of memory");
    shard_mark_stages(plan, of, index, keep);
    int result = shard_compact(plan, of, index, keep, plan, err);
    free(keep);
    return result == 0 ? plan_finish(plan, err) : -1;
}

int shard_select(struct plan *plan, const struct shard *shard, struct error *err)
{
    if (shard->index == 0) return 0;
    if (shard->array) {
        struct shard_array array;
        if (shard_array_deal(plan, shard->count, &array, err)) return -1;
        int result = select_points(plan, array.of, shard->index, err);
        shard_array_free(&array);
        return result;
    }
    if (check_references(plan, err)) return -1;
    uint32_t *of = calloc(plan->point_count + 1, sizeof *of);
    if (!of) return error_set(err, "out of memory");
    int result = shard_assign(plan, shard->count, of, err);
    if (result == 0) result = select_points(plan, of, shard->index, err);
    free(of);
    return result;
}
