/* Newton's method with a bound on the step (Levenberg and Marquardt) for laws without a knee. Internal to fitting/. */
#ifndef TUNELAW_FITTING_FIT_NEWTON_H
#define TUNELAW_FITTING_FIT_NEWTON_H

#include "fitting/fit/descent.h"

/* Moves theta (centred axes) to the best point found; returns the objective over the scale. */
double newton_run(struct descent *descent, double *theta, int iterations);

#endif
