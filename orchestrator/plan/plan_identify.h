/* Before a sweep runs: how well its grid will tell the laws of each method, and which points more would help most. */
#ifndef TUNELAW_ORCHESTRATOR_PLAN_PLAN_IDENTIFY_H
#define TUNELAW_ORCHESTRATOR_PLAN_PLAN_IDENTIFY_H

#include <stdio.h>

#include "orchestrator/plan/plan.h"

struct identify_options {
    const char *laws; /* a run whose laws are taken as true, or NULL: a guess */
    double noise;     /* spread of a loss, as a fraction of it */
    bool json;
};

/* The joint law of each task and method, and the laws of the sweep file. */
int plan_identify(const struct plan *plan, const struct identify_options *options, FILE *out, struct error *err);

#endif
