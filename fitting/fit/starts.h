/* The grid of starts of a fit, in centred coordinates. Internal to fitting/. */
#ifndef TUNELAW_FITTING_FIT_STARTS_H
#define TUNELAW_FITTING_FIT_STARTS_H

#include "fitting/fit/fit.h"

/* Number of starts of a law, and start i: each exponent over a few values, E over shares of the smallest loss, and what
 * is left of the median loss divided between the coefficients. */
size_t starts_count(const struct law *law);
struct starts_scale {
    double smallest, median; /* of the losses */
};
struct starts_scale starts_scale(const struct fit_data *data);
void starts_get(const struct law *law, const struct fit_data *data, const struct starts_scale *scale, size_t i,
                double *theta);

/* The same for a user's law (fitting/fit/starts_user.c): every combination of the starts of its parameters, or
 * STARTS_USER_LARGEST of them. smallest, median: of the losses. */
#define STARTS_USER_LARGEST 2000
size_t starts_user_count(const struct law *law);
void starts_user_get(const struct law *law, const struct fit_data *data, double smallest, double median, size_t i,
                     double *theta);

/* The middle start of every parameter, for a law without points: the axes' logs in the middle of the grid, and a loss
 * there. */
void starts_user_guess(const struct law *law, const double log_x[LAW_AXES], double loss, double *theta);

#endif
