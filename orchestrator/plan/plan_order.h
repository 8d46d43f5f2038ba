/* Which points run first: by the longest chain (plan_create's order), or those that tell most of the laws. */
#ifndef TUNELAW_ORCHESTRATOR_PLAN_PLAN_ORDER_H
#define TUNELAW_ORCHESTRATOR_PLAN_PLAN_ORDER_H

#include "orchestrator/plan/plan.h"

/* Set every stage's `priority` so that, method by method, the points run first whose losses tighten the joint law most
 * for each second of finetuning: a D-optimal order at guessed parameters (fitting/analysis/preflight.h). Points of
 * different methods take turns; held-out and untuned ones come last; a base is as urgent as the most urgent point below
 * it. A sweep that is cut short has then the better part of its grid, at the price of a longer way to the end. */
int plan_order_by_information(struct plan *plan, struct error *err);

#endif
