/* Learning rates that are tuned at a reference cell: the candidates among the plan's stages, and the identity that
 * stands for the best of them before it is known. */
#include <stdlib.h>
#include <string.h>

#include "orchestrator/plan/plan_parts.h"

bool plan_is_tuned(const struct plan_stage *stage)
{
    return stage->rate == GRID_TUNED;
}

bool plan_is_candidate(const struct plan_stage *stage)
{
    return stage->reference != PLAN_NONE && !plan_is_tuned(stage);
}

double plan_stage_rate(const struct plan *plan, const struct plan_stage *stage)
{
    return plan_is_tuned(stage) ? 0.0 : plan->sweep->methods[stage->method].learning_rates[stage->rate];
}

uint32_t plan_find_reference(const struct plan *plan, uint32_t method, uint32_t task)
{
    const struct sweep_method *m = &plan->sweep->methods[method];
    for (uint32_t i = 0; m->at_reference && i < plan->reference_count; i++)
        if (plan->references[i].method == method && plan->references[i].task == m->references[task].task) return i;
    return PLAN_NONE;
}

/* A stage takes its place among the candidates of a reference. */
static void add_candidate(struct plan *plan, struct plan_reference *reference, uint32_t stage)
{
    double rate = plan_stage_rate(plan, &plan->stages[stage]);
    size_t at = reference->count++;
    for (; at > 0 && plan_stage_rate(plan, &plan->stages[reference->candidates[at - 1]]) > rate; at--)
        reference->candidates[at] = reference->candidates[at - 1];
    reference->candidates[at] = stage;
}

static int identify(const struct plan *plan, struct plan_reference *reference, struct error *err)
{
    struct digest_stream *stream = digest_stream_create();
    if (!stream) return error_set(err, "out of memory");
    for (size_t i = 0; i < reference->count; i++)
        digest_stream_add(stream, plan->stages[reference->candidates[i]].identity.hex, DIGEST_HEX);
    reference->identity = digest_stream_result(stream);
    digest_stream_destroy(stream);
    return 0;
}

int plan_make_references(struct plan *plan, struct error *err)
{
    const struct sweep *sweep = plan->sweep;
    plan->references = calloc(sweep->method_count * sweep->task_count + 1, sizeof *plan->references);
    if (!plan->references) return error_set(err, "out of memory");
    for (uint32_t i = 0; i < plan->stage_count; i++) {
        struct plan_stage *stage = &plan->stages[i];
        stage->reference = PLAN_NONE;
        if (stage->point == PLAN_NONE || !sweep->methods[stage->method].at_reference) continue;
        uint32_t at = plan_find_reference(plan, stage->method, stage->task);
        if (at == PLAN_NONE) {
            size_t room = sweep->methods[stage->method].learning_rate_count;
            at = (uint32_t)plan->reference_count++;
            plan->references[at] = (struct plan_reference){.method = stage->method, .task = stage->task};
            plan->references[at].candidates = calloc(room, sizeof *plan->references[at].candidates);
            if (!plan->references[at].candidates) return error_set(err, "out of memory");
        }
        stage->reference = at;
        add_candidate(plan, &plan->references[at], i);
    }
    for (size_t i = 0; i < plan->reference_count; i++)
        if (identify(plan, &plan->references[i], err)) return -1;
    return 0;
}
