/* Least absolute residuals. Internal to fitting/. */
#ifndef TUNELAW_FITTING_FIT_ABSOLUTE_H
#define TUNELAW_FITTING_FIT_ABSOLUTE_H

#include "fitting/fit/descent.h"

/* Move theta (centred axes) from the minimum of Huber's loss: the threshold goes down in steps, each from where the
 * last one ended, and after each the law is put through its nearest points where that lowers the sum. Returns the sum
 * of weight · |residual|. */
double absolute_settle(const struct descent *descent, double *theta);

#endif
