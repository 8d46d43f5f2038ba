/* Between the plan and the laws: a point's axes. */
#include "orchestrator/plan/plan_table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fitting/observations/observations.h"

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

/* The shared beginning that a stage goes on from; PLAN_NONE: it begins at its base. */
static uint32_t beginning_of(const struct plan *plan, uint32_t stage)
{
    uint32_t parent = plan->stages[stage].parent;
    return parent != PLAN_NONE && plan->stages[parent].kind == STAGE_PREFIX ? parent : PLAN_NONE;
}

double *plan_table_seconds(const struct plan *plan)
{
    double *seconds = calloc(plan->point_count + 1, sizeof *seconds);
    double *each = calloc(plan->stage_count + 1, sizeof *each); /* of a beginning and those before it, for one point */
    size_t *points = calloc(plan->stage_count + 1, sizeof *points); /* below a beginning */
    if (!seconds || !each || !points) {
        free(seconds);
        seconds = NULL;
    }
    for (size_t i = 0; seconds && i < plan->point_count; i++)
        for (uint32_t at = beginning_of(plan, plan->stage_of_point[i]); at != PLAN_NONE; at = beginning_of(plan, at))
            points[at]++;
    for (uint32_t i = 0; seconds && i < plan->stage_count; i++) { /* parents come before children */
        uint32_t before = beginning_of(plan, i);
        if (plan->stages[i].kind != STAGE_PREFIX || !points[i]) continue;
        each[i] = plan->stages[i].seconds / (double)points[i] + (before == PLAN_NONE ? 0.0 : each[before]);
    }
    for (size_t i = 0; seconds && i < plan->point_count; i++) {
        uint32_t stage = plan->stage_of_point[i], before = beginning_of(plan, stage);
        seconds[i] = fmax(plan->stages[stage].seconds + (before == PLAN_NONE ? 0.0 : each[before]), 1e-9);
    }
    free(each);
    free(points);
    return seconds;
}
