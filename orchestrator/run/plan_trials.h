/* What a sweep costs on this host, from trials of its stages: one of each model and kind of training, timed, and the
 * others by their FLOPs.
 *
 * At full size: 10^5 stages in some hundred cells; a cell is measured once, on all devices at once. */
#ifndef TUNELAW_ORCHESTRATOR_RUN_PLAN_TRIALS_H
#define TUNELAW_ORCHESTRATOR_RUN_PLAN_TRIALS_H

#include <stddef.h>
#include <stdint.h>

#include "orchestrator/plan/plan.h"
#include "orchestrator/run/trials.h"

struct trial_cell {
    size_t stages;
    uint32_t measured; /* index of the stage that is tried: a step of it costs what the mean one costs */
    double predicted_device_seconds, device_seconds; /* of its stages: as planned; as measured */
    struct trial trial;
    double training_pace, evaluation_pace; /* device seconds a FLOP */
};

struct plan_trials {
    struct trial_cell *cells; /* by model, pretraining first */
    size_t count;
};

/* "pretraining", or the method. */
const char *plan_trials_name(const struct plan *plan, const struct trial_cell *cell);

/* The cells of a plan, not measured yet. */
int plan_trials_find(const struct plan *plan, struct plan_trials *trials, struct error *err);
void plan_trials_free(struct plan_trials *trials);

/* Measure a cell for about so many seconds of training and of evaluation. The host has the devices of each stage, as
 * `simulate` says. */
int plan_trials_measure(const struct plan *plan, struct trial_cell *cell, const struct trials_host *host,
                        double seconds, struct error *err);

/* The plan's stages take from now on what was measured: seconds, chains, priorities. */
int plan_trials_apply(struct plan *plan, struct plan_trials *trials, struct error *err);

#endif
