/* Which order of the scheduler fills these nodes best with what is left: both are simulated once, when every rank has
 * said what it has. */
#include <stdlib.h>

#include "io/log.h"
#include "orchestrator/master_internal.h"
#include "orchestrator/simulate.h"

static bool needs_no_work(const struct master_stage *stage)
{
    return stage->state == STAGE_UNNEEDED || stage->state >= STAGE_COMPLETE;
}

int master_choose_order(struct master *master, struct error *err)
{
    size_t count = master->plan->stage_count;
    bool *complete = calloc(count + 1, sizeof *complete);
    if (!complete) return error_set(err, "out of memory for %zu stages", count);
    for (size_t i = 0; i < count; i++)
        complete[i] = needs_no_work(&master->stages[i]);
    struct simulate_options options = {.nodes = (size_t)master->transport->size,
                                       .cluster = master->nodes,
                                       .complete = complete,
                                       .checkpoint_seconds = master->sweep->resources.checkpoint_seconds};
    struct simulate_result result;
    int rc = simulate_best(master->plan, &options, &result, err);
    free(complete);
    if (rc) return -1;
    master->schedule.order = result.order;
    LOG("simulated: %.0f s for what is left, at least %.0f s, utilisation %.0f %%", result.makespan_seconds,
        result.tight_bound_seconds, 100.0 * result.utilisation);
    return 0;
}
