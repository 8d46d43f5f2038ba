/* Points of the plan as the laws see them: shared by the preflight and the order of the points. */
#ifndef TUNELAW_ORCHESTRATOR_PLAN_TABLE_H
#define TUNELAW_ORCHESTRATOR_PLAN_TABLE_H

#include <stdbool.h>

#include "fitting/laws.h"
#include "orchestrator/plan.h"

/* Axes of a point; of those that it does not have, 1. */
void plan_table_axes(const struct plan *plan, const struct store_point *point, double x[LAW_AXES]);

/* Finetuned with this method, and not held out: it will be fitted. */
bool plan_table_holds(const struct store_point *point, const char *method);

#endif
