/* Before a sweep runs: how well its grid will tell the laws of each method, and which points more would help most. */
#ifndef TUNELAW_ORCHESTRATOR_PLAN_IDENTIFY_H
#define TUNELAW_ORCHESTRATOR_PLAN_IDENTIFY_H

#include <stdio.h>

#include "orchestrator/plan.h"

/* laws: a run whose joint laws are taken as true, or NULL: a guess. noise: spread of a loss, as a fraction of it. */
int plan_identify(const struct plan *plan, const char *laws, double noise, FILE *out, struct error *err);

#endif
