/* Between the plan and the laws: a point's axes. */
#include "orchestrator/plan_table.h"

#include "fitting/observations.h"

#include <string.h>

void plan_table_axes(const struct plan *plan, const struct store_point *point, double x[LAW_AXES])
{
    x[LAW_X] = observations_size(point, plan->sweep->fit.x);
    x[LAW_P] = (double)point->pretrain_tokens;
    x[LAW_T] = point->pet_size ? (double)point->pet_size : 1;
    x[LAW_D] = (double)point->finetune_examples;
}

bool plan_table_holds(const struct store_point *point, const char *method)
{
    return !strncmp(point->method, method, sizeof point->method) && point->finetune_examples && !point->held_out;
}
