/* Packs: ready points of one base go to one worker together, which trains them in one pass. Who goes together is
 * decided when a device is free, not planned: a point's bytes do not depend on it (docs/engine.md, Packs), so a resumed
 * run may pack otherwise. A stage that has failed, or was in flight when a run died, is tried alone. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "io/log.h"
#include "orchestrator/plan/pack.h"
#include "orchestrator/run/master_internal.h"
#include "workers/model/model.h"
#include "workers/stage/probe.h"
#include "workers/train/batch.h"

#define GAIN 1.1       /* of the rate of matrix products, below which points are not packed */
#define NEARLY 0.95    /* of the best rate, for the narrowest pack */
#define MOST_ROWS 1024 /* of a point: so many rows are enough alone */

void master_packs_free(struct master_packs *packs)
{
    free(packs->order);
    free(packs->place);
    free(packs->widths);
    *packs = (struct master_packs){.count = 0};
}

/* Rows of a point's micro-batch, in the mean. */
static size_t rows_of(const struct sweep *sweep, const struct sweep_method *method)
{
    const struct dataset_info *data = &sweep->tasks[0].data;
    double count = data->examples[SPLIT_TRAIN] ? (double)data->examples[SPLIT_TRAIN] : 1.0;
    double length = fmin((double)data->example_tokens[SPLIT_TRAIN] / count, method->recipe.sequence_length);
    return (size_t)fmin(ceil(length * method->recipe.batch), MICRO_TOKENS);
}

/* The narrowest pack with nearly the best rate of products; 1 where that is not much better than a point's own. */
static int measure(const struct sweep *sweep, const struct model_config *model, const struct sweep_method *method,
                   uint32_t *width, struct error *err)
{
    double rates[8], best = 0;
    uint32_t widths = 0;
    size_t rows = rows_of(sweep, method);
    *width = 1;
    if (rows > MOST_ROWS) return 0;
    for (uint32_t w = 1; w <= PACK_WIDEST; w *= 2, widths++) {
        if (probe_products(sweep->resources.backend, sweep->precision, model->width, w * rows, &rates[widths], err))
            return -1;
        best = fmax(best, rates[widths]);
    }
    for (uint32_t i = 0; i < widths && best >= GAIN * rates[0]; i++) {
        *width = 1u << i;
        if (rates[i] >= NEARLY * best) break;
    }
    LOG("packs: model \"%s\", %s, %zu rows a point: %u in a pack, products %.2f times as fast", model->name,
        method_name(method->config.kind), rows, *width, best / rates[0]);
    return 0;
}

static int choose_widths(struct master *master, struct error *err)
{
    const struct sweep *sweep = master->sweep;
    for (size_t m = 0; m < sweep->model_count; m++)
        for (size_t i = 0; i < sweep->method_count; i++) {
            uint32_t *width = &master->packs.widths[m * sweep->method_count + i];
            *width = sweep->resources.pack;
            if (!method_packs(sweep->methods[i].config.kind) || sweep->generate.max_new_tokens)
                *width = 1;
            else if (*width == SWEEP_PACK_AUTO && !master->options.rows_join)
                *width = 1;
            else if (*width == SWEEP_PACK_AUTO && measure(sweep, &sweep->models[m], &sweep->methods[i], width, err))
                return -1;
        }
    return 0;
}

static uint32_t width_of(const struct master *master, const struct plan_stage *stage)
{
    return master->packs.widths[stage->model * master->sweep->method_count + stage->method];
}

static bool may_pack(const struct master *master, const struct plan_stage *stage)
{
    return pack_is_possible(master->plan, stage) && width_of(master, stage) > 1;
}

int master_packs_open(struct master *master, struct error *err)
{
    struct master_packs *packs = &master->packs;
    const struct plan *plan = master->plan;
    if (master->sweep->resources.pack == 1) return 0;
    packs->order = calloc(plan->stage_count + 1, sizeof *packs->order);
    packs->place = malloc((plan->stage_count + 1) * sizeof *packs->place);
    packs->widths = calloc(master->sweep->model_count * master->sweep->method_count + 1, sizeof *packs->widths);
    if (!packs->order || !packs->place || !packs->widths) return error_set(err, "out of memory");
    if (choose_widths(master, err)) return -1;
    memset(packs->place, 0xff, (plan->stage_count + 1) * sizeof *packs->place);
    for (uint32_t i = 0; i < plan->stage_count; i++)
        if (may_pack(master, &plan->stages[i])) packs->order[packs->count++] = i;
    qsort_r(packs->order, packs->count, sizeof *packs->order, pack_compare, (void *)plan);
    for (size_t i = 0; i < packs->count; i++)
        packs->place[packs->order[i]] = (uint32_t)i;
    return 0;
}

/* Fewer than there are devices for would leave some idle. */
static size_t widest_now(const struct master *master, const struct plan_stage *lead)
{
    size_t places = 0, width = width_of(master, lead);
    for (int r = 0; r < master->transport->size; r++)
        places += master->nodes[r].devices / lead->degree;
    size_t share = places ? master->ready / places : 1;
    return share < width ? share : width;
}

static bool may_join(const struct master *master, uint32_t index)
{
    const struct master_stage *stage = &master->stages[index];
    return stage->state == STAGE_READY && stage->attempts == 0 && losses_of(master->losses, index) == 0 &&
           master_parent_complete(master, index);
}

/* One more, if the device's memory is enough and the time to the end or the first checkpoint. */
static bool fits(const struct master *master, struct pack_load *load, uint32_t index, double seconds_left)
{
    struct pack_load with = *load;
    double checkpoint = master->sweep->resources.checkpoint_seconds;
    if (!pack_add(master->plan, &with, &master->plan->stages[index])) return false;
    if ((checkpoint > 0 ? fmin(checkpoint, with.seconds) : with.seconds) > seconds_left) return false;
    *load = with;
    return true;
}

size_t master_packs_gather(const struct master *master, uint32_t lead, double seconds_left, struct schedule_seat *seat,
                           uint32_t *members)
{
    const struct master_packs *packs = &master->packs;
    const struct plan *plan = master->plan;
    const struct plan_stage *first = &plan->stages[lead];
    struct pack_load load = {(double)first->bytes, first->seconds};
    size_t count = 1;
    members[0] = lead;
    if (!packs->count || packs->place[lead] == PLAN_NONE || !may_join(master, lead)) return 1;
    size_t most = widest_now(master, first), begin = packs->place[lead], end = begin + 1;
    while (begin > 0 && pack_compare_groups(plan, &plan->stages[packs->order[begin - 1]], first) == 0)
        begin--;
    while (end < packs->count && pack_compare_groups(plan, &plan->stages[packs->order[end]], first) == 0)
        end++;
    /* those as long as the lead first: they end together */
    for (size_t i = packs->place[lead] + 1, n = end - begin; n > 1 && count < most; n--, i++) {
        if (i == end) i = begin;
        uint32_t index = packs->order[i];
        if (may_join(master, index) && width_of(master, &plan->stages[index]) >= count + 1 &&
            fits(master, &load, index, seconds_left) && schedule_grow(master->nodes, seat, plan->stages[index].share))
            members[count++] = index;
    }
    return count;
}
