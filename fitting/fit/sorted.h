/* Sorted numbers: what intervals, levels and medians are read from. */
#ifndef TUNELAW_FITTING_FIT_SORTED_H
#define TUNELAW_FITTING_FIT_SORTED_H

#include <stddef.h>

/* Ascending, in place. No NaN. */
void sort_numbers(double *values, size_t count);

/* Ascending, each value once; returns how many are left. */
size_t sort_levels(double *values, size_t count);

/* The value at a share (0..1) of sorted[count], count > 0: the nearest one. */
double sorted_at(const double *sorted, size_t count, double share);

#endif
