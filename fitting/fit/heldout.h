/* How well a law predicts what it has not seen: mean absolute deviation of predicted from observed loss. */
#ifndef TUNELAW_FITTING_FIT_HELDOUT_H
#define TUNELAW_FITTING_FIT_HELDOUT_H

#include "fitting/fit/fit.h"

enum heldout_kind { HELDOUT_NONE = 0, HELDOUT_CELLS, HELDOUT_LEVELS };

struct heldout {
    enum heldout_kind kind; /* cells set aside in the sweep, or every level of an axis left out in turn */
    size_t points;          /* predicted (in HELDOUT_LEVELS a point counts once a fold) */
    size_t folds;           /* fits made */
    double error;           /* mean |predicted - observed| */
    double constant_error;  /* the same for the best constant: the median of the points that were fitted */
    bool guessed;           /* the points left in a fold do not tell an exponent: what it predicts may be anything */
};

/* Error of a fit on points it has not seen. */
void heldout_cells(const struct fit *fit, const struct fit_data *fitted, const struct fit_data *unseen,
                   struct heldout *out);

/* An error so many times that of the best constant says that the law does not extrapolate to these points, and nothing
 * else: how large it is depends on how far a power that two levels do not tell has run away. */
#define HELDOUT_BEYOND 10.0

/* The error as it is told: where it is beyond that, the bound, and *beyond says that it is more. */
double heldout_told(const struct heldout *heldout, bool *beyond);

#define HELDOUT_FOLDS 10 /* of one axis */

/* Leave one level of each axis of the law out in turn (an axis of more than HELDOUT_FOLDS levels: a run of neighbouring
 * levels), where at least `levels` levels of that axis remain; laws that are compared should get the same `levels`, so
 * that they are judged on the same folds. kind is HELDOUT_NONE where there is no fold. */
int heldout_levels(const struct law *law, const struct fit_data *data, const struct fit_options *options, size_t levels,
                   struct heldout *out, struct error *err);

#endif
