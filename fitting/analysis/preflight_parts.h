/* What the files of the preflight share. */
#ifndef TUNELAW_FITTING_ANALYSIS_PREFLIGHT_PARTS_H
#define TUNELAW_FITTING_ANALYSIS_PREFLIGHT_PARTS_H

#include "fitting/analysis/preflight.h"

/* Mean of the logarithms of each axis. */
void preflight_middle(const struct preflight_point *points, size_t count, double centre[LAW_AXES]);

/* d log L / d theta at a point, axes centred. */
void preflight_slope(const struct law *law, const double *theta, const double centre[LAW_AXES],
                     const struct preflight_point *point, double gradient[LAW_PARAMETERS]);

#endif
