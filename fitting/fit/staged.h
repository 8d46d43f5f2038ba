/* The two-stage procedure of Zhang et al. 2024: β and E are fitted jointly over the model-size and the pretraining
 * axis, each with its own A and α; then they are frozen and every axis is fitted again, the axis of PET sizes for the
 * first time. Pure.
 *
 * With β and E at their joint optimum the second fit of the first two axes finds what the first one found. */
#ifndef TUNELAW_FITTING_FIT_STAGED_H
#define TUNELAW_FITTING_FIT_STAGED_H

#include "fitting/fit/interval.h"

enum staged_axis { STAGED_MODEL = 0, STAGED_PRETRAIN, STAGED_PET, STAGED_AXES };
const char *staged_axis_name(enum staged_axis axis); /* "model", "pretrain", "pet" */

struct staged_parameter {
    double value, low, high;      /* NAN: not fitted, no resamples */
    bool identified;              /* by the rules of fitting/fit/interval.h, both stages taken together */
    char reason[INTERVAL_REASON]; /* "" where identified */
};

struct staged {
    struct staged_parameter a[STAGED_AXES], alpha[STAGED_AXES], beta, offset;
    bool has[STAGED_AXES];
    size_t points[STAGED_AXES];
    double objective; /* of the first stage */
    size_t resamples;
};

/* axes[k]: the points of axis k, its sizes as LAW_X, examples as LAW_D; count 0 where there are none or one level. The
 * first two axes share what is shared: at least one must have points. -1 with *err where it cannot be fitted. */
int staged_fit(const struct fit_data axes[STAGED_AXES], const struct fit_options *options,
               const struct interval_options *interval, struct staged *out, struct error *err);

#endif
