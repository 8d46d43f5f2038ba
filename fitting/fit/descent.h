/* From a start to the minimum of an objective over columns, with parameters held or tied. Internal to fitting/.
 */
#ifndef TUNELAW_FITTING_FIT_DESCENT_H
#define TUNELAW_FITTING_FIT_DESCENT_H

#include "fitting/fit/columns.h"

struct descent {
    const struct columns *columns;
    const double *weight; /* a column, of columns_weights */
    double delta;
    bool log_residuals;
    bool coarse;        /* tolerances of resampling, whose spread is far wider */
    double scale;       /* the objective is divided by it, so that the tolerances have a meaning */
    const bool *frozen; /* NULL, or parameters that stay (centred axes) */
    /* What a profile holds: sum of tie[i]·theta[i] = tied, where `tie` is not NULL; parameter `slack`, of tie 1, takes
     * what the others leave. Or log L = tied at a point (centred axes), where `at` is not NULL: all terms are
     * multiplied by what that takes; `slack` is a coefficient and does not move otherwise. */
    const double *tie, *at;
    double tied;
    size_t slack;
    size_t iterations; /* counts up */
};

/* The problem of a fit's options, without what is held. weight: a column of `columns`. */
struct descent descent_of(const struct columns *columns, const double *weight, const struct fit_options *options);

/* Whether a parameter does not move by itself; and the move of theta to where what is held is so. */
bool descent_holds(const struct descent *descent, size_t parameter);
void descent_place(const struct descent *descent, double *theta);

/* A short way from theta (centred axes), which is moved to the best point found. Returns the objective over the scale.
 */
double descent_scout(struct descent *descent, double *theta);

/* To the end: run until a run gains nothing, and return whether it came to that. *value: in and out.
 */
bool descent_settle(struct descent *descent, double *theta, double *value);

#endif
