/* Groups of points that may be trained together, and the packs that they make. */
#include "orchestrator/plan/pack.h"

#include <stdlib.h>
#include <string.h>

#include "workers/model/model.h"

static bool apart(const struct plan *plan, const struct plan_stage *stage)
{
    const struct sweep *sweep = plan->sweep;
    return method_packs_apart(sweep->methods[stage->method].config.kind, &sweep->models[stage->model], stage->degree);
}

int pack_compare_groups(const struct plan *plan, const struct plan_stage *a, const struct plan_stage *b)
{
    int base = memcmp(plan->points[a->point].base, plan->points[b->point].base, sizeof plan->points->base);
    if (base) return base;
    if (a->model != b->model) return a->model < b->model ? -1 : 1;
    if (a->task != b->task) return a->task < b->task ? -1 : 1;
    if (a->degree != b->degree) return a->degree < b->degree ? -1 : 1;
    if (a->recompute != b->recompute) return a->recompute - b->recompute;
    return apart(plan, a) - apart(plan, b);
}

int pack_compare(const void *x, const void *y, void *context)
{
    const struct plan *plan = context;
    uint32_t i = *(const uint32_t *)x, j = *(const uint32_t *)y;
    const struct plan_stage *a = &plan->stages[i], *b = &plan->stages[j];
    int group = pack_compare_groups(plan, a, b);
    if (group) return group;
    if (a->seconds > b->seconds || a->seconds < b->seconds) return a->seconds > b->seconds ? -1 : 1;
    return i < j ? -1 : 1;
}

bool pack_is_possible(const struct plan *plan, const struct plan_stage *stage)
{
    const struct sweep *sweep = plan->sweep;
    bool shares = stage->parent != PLAN_NONE && plan->stages[stage->parent].kind == STAGE_PREFIX;
    return stage->kind == STAGE_FINETUNE && !shares && stage->last_step > stage->first_step &&
           method_packs(sweep->methods[stage->method].config.kind) && !sweep->generate.max_new_tokens;
}

bool pack_add(const struct plan *plan, struct pack_load *load, const struct plan_stage *stage)
{
    double bytes = load->bytes + (double)stage->bytes, most = (double)plan->sweep->resources.device_bytes;
    most -= most > 0 ? (double)plan->sweep->resources.process_bytes : 0;
    if (most > 0.0 && bytes > most) return false;
    *load = (struct pack_load){bytes, load->seconds + stage->seconds};
    return true;
}

/* Packs of one group, order[begin] .. order[end - 1]: each begins with the longest that is left. */
static void add_group(const struct plan *plan, struct pack_list *out, size_t begin, size_t end, size_t devices)
{
    const struct sweep_resources *resources = &plan->sweep->resources;
    size_t most = resources->pack == SWEEP_PACK_AUTO ? PACK_WIDEST : resources->pack;
    size_t places = devices / plan->stages[out->order[begin]].degree;
    size_t share = (end - begin) / (places ? places : 1); /* each */
    if (share < most) most = share ? share : 1;
    for (size_t i = begin; i < end;) {
        const struct plan_stage *lead = &plan->stages[out->order[i]];
        struct pack_load load = {(double)lead->bytes, lead->seconds};
        size_t first = i++;
        out->first[out->count++] = first;
        while (i < end && i - first < most && pack_add(plan, &load, &plan->stages[out->order[i]]))
            i++;
    }
}

int pack_plan(const struct plan *plan, size_t devices, struct pack_list *out)
{
    size_t count = 0;
    *out = (struct pack_list){.order = calloc(plan->stage_count + 1, sizeof *out->order),
                              .first = calloc(plan->stage_count + 1, sizeof *out->first)};
    if (!out->order || !out->first) {
        pack_list_free(out);
        return -1;
    }
    for (uint32_t i = 0; plan->sweep->resources.pack != 1 && i < plan->stage_count; i++)
        if (pack_is_possible(plan, &plan->stages[i])) out->order[count++] = i;
    qsort_r(out->order, count, sizeof *out->order, pack_compare, (void *)plan);
    for (size_t begin = 0, end; begin < count; begin = end) {
        const struct plan_stage *lead = &plan->stages[out->order[begin]];
        for (end = begin + 1; end < count && !pack_compare_groups(plan, lead, &plan->stages[out->order[end]]);)
            end++;
        add_group(plan, out, begin, end, devices);
    }
    out->first[out->count] = count;
    return 0;
}

void pack_list_free(struct pack_list *list)
{
    free(list->order);
    free(list->first);
    *list = (struct pack_list){.count = 0};
}

struct pack_cost pack_cost(const struct plan *plan, const struct pack_list *list, size_t pack)
{
    struct pack_cost cost = {0};
    for (size_t i = list->first[pack]; i < list->first[pack + 1]; i++) {
        const struct plan_stage *stage = &plan->stages[list->order[i]];
        cost.flops += stage->flops;
        cost.bytes += (double)stage->bytes;
        cost.seconds += stage->seconds;
    }
    return cost;
}
