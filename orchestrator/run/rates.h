/* DIR/logs/rates: the learning rates that candidates at a reference cell have decided on. Written once, on disk before
 * a point that waited is handed out, read by every later run of the directory and by the tasks of an array. A line a
 * reference: its identity, the rate, the validation loss. */
#ifndef TUNELAW_ORCHESTRATOR_RUN_RATES_H
#define TUNELAW_ORCHESTRATOR_RUN_RATES_H

#include "orchestrator/plan/plan.h"

/* No candidate has a result that is one: what task 0 of an array leaves for the others, written as 0. */
#define RATES_NONE (-1.0)

/* rates[plan->reference_count]: those that are decided there are set, others left as they are. No file is no error;
 * what is no rate of the reference's method is passed over, as is a line that a crash has cut short. */
int rates_read(const char *dir, const struct plan *plan, double *rates, struct error *err);

int rates_write(const char *dir, const struct plan_reference *reference, double rate, double loss, struct error *err);

/* `rate` where it is one of those of the reference's method, else 0. */
double rates_allowed(const struct plan *plan, size_t reference, double rate);

#endif
