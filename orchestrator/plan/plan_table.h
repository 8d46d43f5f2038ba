/* Points of the plan as the laws see them: shared by the preflight and the order of the points. */
#ifndef TUNELAW_ORCHESTRATOR_PLAN_PLAN_TABLE_H
#define TUNELAW_ORCHESTRATOR_PLAN_PLAN_TABLE_H

#include <stdbool.h>

#include "fitting/laws/laws.h"
#include "orchestrator/plan/plan.h"

/* Axes of a point; of those that it does not have, 1. */
void plan_table_axes(const struct plan *plan, const struct store_point *point, double x[LAW_AXES]);

/* Finetuned with this method, and not held out: it will be fitted. */
bool plan_table_holds(const struct store_point *point, const char *method);

/* [points] predicted seconds of finetuning, at least 1e-9: of the point's own stage, and of each beginning that it
 * shares an equal part with the other points that go on from it: their sum is that of the stages. The caller frees;
 * NULL: out of memory. */
double *plan_table_seconds(const struct plan *plan);

#endif
