/* Profile likelihood: how far a parameter, a prediction or the meeting of two laws can go until the best fit that has
 * it there is too much worse. The other way to an interval than resampling: no random numbers, and an end that the
 * points do not give is said to be open. Points count as independent of each other.
 *
 * Statistic of a value v: 2 · (least objective with v held - least objective) / tau, compared with the square of
 * Student's quantile for (points - parameters). tau = mean(psi²) / mean(psi'), psi the slope of Huber's loss: for
 * least squares the variance of a residual, and what makes the statistic chi-squared for the others (Hampel et al.
 * 1986, Robust Statistics, sec. 7.2; Schrader and Hettmansperger 1980). */
#ifndef TUNELAW_FITTING_FIT_PROFILE_H
#define TUNELAW_FITTING_FIT_PROFILE_H

#include "fitting/fit/descent.h"

/* An interval; an open end is that of what was searched: 0 and INFINITY for positive numbers, else +-INFINITY. */
struct span {
    double low, high;
    bool low_open, high_open;
};

struct profile {
    struct columns columns;
    double *weight;
    struct descent descent;
    double theta[LAW_PARAMETERS]; /* of the least objective, centred axes */
    double back[LAW_AXES];        /* to raw axes */
    double least, tau, quantile;  /* least: over the scale */
};

/* Of a fit of `data` with `options`; level 0.9: 90 %. For absolute residuals Huber's loss with a threshold of 1e-3 is
 * profiled. -1 with *err: as many parameters as points, memory. Threads must not share one. */
int profile_create(const struct fit *fit, const struct fit_data *data, const struct fit_options *options, double level,
                   struct profile *out, struct error *err);
void profile_destroy(struct profile *profile);

/* Parameter i as a person writes it, of the raw axes or of the centred ones. */
struct span profile_parameter(struct profile *profile, size_t i, bool raw);

/* Predicted loss at raw axes (logs). */
struct span profile_prediction(struct profile *profile, const double log_x[LAW_AXES]);

/* Where two laws of independent points meet: examples at which the hypothesis of equal losses stands, around `root`,
 * within [low, high]. log_x: the other axes of each law. */
struct span profile_crossing(struct profile *first, const double first_log_x[LAW_AXES], struct profile *second,
                             const double second_log_x[LAW_AXES], double root, double low, double high);

/* Student's quantile: |t| stays below it with probability `level`. */
double profile_student(double level, double degrees);

#endif
