/* A simulated sweep for a person, or as JSON for a program. */
#ifndef TUNELAW_ORCHESTRATOR_PLAN_SIMULATE_PRINT_H
#define TUNELAW_ORCHESTRATOR_PLAN_SIMULATE_PRINT_H

#include <stdio.h>

#include "orchestrator/plan/simulate.h"

/* Simulate the plan in the better order of the scheduler, and print it. -1 with *err. */
int simulate_print(const struct plan *plan, const struct simulate_options *options, bool json, FILE *out,
                   struct error *err);

#endif
