/* Where two laws give the same loss: the critical finetuning size between two methods. Pure. */
#ifndef TUNELAW_FITTING_ANALYSIS_CROSSING_H
#define TUNELAW_FITTING_ANALYSIS_CROSSING_H

#include "fitting/laws/laws.h"

#define CROSSING_LARGEST 8

/* Roots over D of first - second in [low, high], ascending, at most CROSSING_LARGEST; x holds the other axes of each
 * law. The two differ by sums of a few powers of D, which cross 0, 1 or 2 times; near-touching pairs are found through
 * the extremum between them. */
size_t crossing_find(const struct law *first, const double *theta_first, const double x_first[LAW_AXES],
                     const struct law *second, const double *theta_second, const double x_second[LAW_AXES], double low,
                     double high, double roots[CROSSING_LARGEST]);

#endif
