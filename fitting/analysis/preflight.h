/* What a planned grid will tell of a law before anything has run: Fisher information. Pure. */
#ifndef TUNELAW_FITTING_ANALYSIS_PREFLIGHT_H
#define TUNELAW_FITTING_ANALYSIS_PREFLIGHT_H

#include "fitting/laws/laws.h"

struct preflight_point {
    double x[LAW_AXES]; /* raw counts; 1 where the law has no such axis */
    double seconds;     /* predicted */
    double gain;        /* out, of a candidate: growth of log det of the information, per second */
};

struct preflight {
    double error[LAW_PARAMETERS];   /* expected standard error: of exponents; of coefficients and E of their logs */
    double centred[LAW_PARAMETERS]; /* the same with the axes' origin in the middle of the points */
    bool identified[LAW_PARAMETERS];
};

/* Expected standard errors of `law` at theta (raw axes) from the points, each loss known to a fraction `noise` of
 * itself; and the gain of every candidate. A parameter that the points cannot tell is marked, as after a fit. */
void preflight_errors(const struct law *law, const double *theta, double noise, const struct preflight_point *points,
                      size_t count, struct preflight_point *candidates, size_t candidate_count, struct preflight *out);

/* Theta of a law for want of a better: powers of 0.1 (of T: 0.01), E a third of the loss in the middle of the points.
 */
void preflight_guess(const struct law *law, const struct preflight_point *points, size_t count, double *theta);

/* order[count]: the points so that each is the one that adds most to log det of the information, per second, beside
 * those before it; each loss is known to a fraction `noise`. Lazily greedy: 10^5 points take a second or two. -1:
 * memory. */
int preflight_order(const struct law *law, const double *theta, double noise, const struct preflight_point *points,
                    size_t count, size_t *order);

/* Seconds of the candidates, by a power law of the axes through those of the points. */
void preflight_seconds(const struct preflight_point *points, size_t count, struct preflight_point *candidates,
                       size_t candidate_count);

#endif
