/* Pieces that the analysis prints with. Internal to fitting/. */
#ifndef TUNELAW_FITTING_ANALYSIS_INTERNAL_H
#define TUNELAW_FITTING_ANALYSIS_INTERNAL_H

#include <math.h>

#include "fitting/analysis.h"

/* Print text padded, or cut, to a width in characters, not bytes. */
void print_padded(FILE *out, const char *text, int width);

/* An E that the fit drives to 0 stops somewhere on the way; where it stops means nothing. */
static inline double near_zero(double value)
{
    return fabs(value) < 1e-9 ? 0 : value;
}

/* One line a law, at most 100 columns. */
void print_table(const struct analysis *analysis, FILE *out);

#endif
