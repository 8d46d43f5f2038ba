/* What the files of the observations share. Internal to fitting/. */
#ifndef TUNELAW_FITTING_OBSERVATIONS_OBSERVATIONS_INTERNAL_H
#define TUNELAW_FITTING_OBSERVATIONS_OBSERVATIONS_INTERNAL_H

#include "fitting/observations/observations.h"

/* Rows that differ in nothing but seed, learning rate and being held out. */
bool observations_same_cell(const struct observation *a, const struct observation *b);

void observations_omit(struct observations *out, const struct observation *point, enum omission why, const char *status,
                       const char *message);

/* Order the rows; of the learning rates of each cell keep the best. */
void observations_reduce_rates(struct observations *out);

/* Measure how far seeds lie apart and, where the observations want means, make one row of the seeds of a cell (those
 * held out apart). -1 with *err: out of memory. */
int observations_reduce_seeds(struct observations *out, struct error *err);

#endif
