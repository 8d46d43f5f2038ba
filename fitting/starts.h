/* The grid of starts of a fit, in centred coordinates. Internal to fitting/. */
#ifndef TUNELAW_FITTING_STARTS_H
#define TUNELAW_FITTING_STARTS_H

#include "fitting/fit.h"

/* Number of starts of a law, and start i: each exponent over a few values, E over shares of the smallest loss, and what
 * is left of the median loss divided between the coefficients. */
size_t starts_count(const struct law *law);
void starts_get(const struct law *law, const struct fit_data *data, size_t i, double *theta);

#endif
