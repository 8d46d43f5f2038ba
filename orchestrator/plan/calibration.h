/* Measured seconds beside predicted ones: how much longer a stage of a model and a method takes than the plan says,
 * learnt from stages that have ended and from the progress of those that run.
 *
 * The logarithm of the ratio is a mean, a slope in the logarithm of the model's parameters (large matmuls run closer to
 * a device's limit), an effect of the method and one of the cell (model, method), each shrunk towards the one before by
 * how few stages tell of it. So a model that has not run yet is extrapolated from the others. At full size: a few
 * hundred cells, two numbers each. Pure. */
#ifndef TUNELAW_ORCHESTRATOR_PLAN_CALIBRATION_H
#define TUNELAW_ORCHESTRATOR_PLAN_CALIBRATION_H

#include <stdbool.h>
#include <stddef.h>

#include "io/error.h"
#include "orchestrator/plan/plan.h"

struct calibration_cell {
    double stages; /* whole ones, and parts of those that run */
    double predicted_seconds, actual_seconds;
};

struct calibration {
    size_t models, classes; /* class 0: pretraining; 1 + method: finetuning */
    double *size;           /* [models] log of the parameters */
    struct calibration_cell *cells;
    double *ratio; /* [models][classes] actual over predicted, of calibration_fit */
    double mean;   /* over all stages; 1 before any */
};

int calibration_init(struct calibration *calibration, const struct sweep *sweep, struct error *err);
int calibration_copy(struct calibration *to, const struct calibration *from, struct error *err);
void calibration_free(struct calibration *calibration);

struct calibration_cell *calibration_cell(struct calibration *calibration, const struct plan_stage *stage);
void calibration_add(struct calibration *calibration, const struct plan_stage *stage, double stages, double predicted,
                     double actual);

/* Fill `ratio` and `mean`. False: nothing has been measured, all ratios are 1. */
bool calibration_fit(struct calibration *calibration);
double calibration_seconds(const struct calibration *calibration, const struct plan_stage *stage);

#endif
