/* How fast a device of this machine trains, measured in a moment: what predicted seconds are made of until stages have
 * finished. */
#ifndef TUNELAW_ORCHESTRATOR_PROBE_H
#define TUNELAW_ORCHESTRATOR_PROBE_H

#include "io/error.h"
#include "orchestrator/sweep.h"

/* *rate: FLOP/s that a training step of the sweep's backend may reach on one device: a matmul timed for 0.3 s, times
 * the share of it that training reaches. */
int probe_rate(const struct sweep *sweep, double *rate, struct error *err);

#endif
