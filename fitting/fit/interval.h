/* How well a fit is known: intervals of every parameter, and which parameters the grid cannot tell.
 *
 * Resampling gives every cluster (the points of one pretraining trunk) a random weight, exponential with mean 1, and
 * refits: the fractional-weight bootstrap (Rubin 1981; Xu et al. 2020). Unlike drawing clusters with replacement it
 * never loses a level of an axis, so it works with the two or three trunks that a sweep has. With few clusters, weights
 * of points are drawn too (two stages), see docs/laws.md.
 *
 * A parameter is not identified where
 *   1. the Jacobian of the predictions is singular (smallest singular value below 1e-6 of the largest) in a direction
 * that moves it: one level of its axis, too few levels to tell a power from a constant, an E that the fit drives to 0;
 * or
 *   2. its interval says nothing: for a coefficient or E the upper end is over 100 times the lower, for an exponent it
 * is wider than 1. */
#ifndef TUNELAW_FITTING_FIT_INTERVAL_H
#define TUNELAW_FITTING_FIT_INTERVAL_H

#include "fitting/fit/fit.h"
#include "fitting/fit/profile.h"

#define INTERVAL_REASON 128

enum interval_kind { INTERVAL_BOOTSTRAP = 0, INTERVAL_PROFILE, INTERVAL_BOTH, INTERVAL_KINDS };
const char *interval_kind_name(enum interval_kind kind); /* "bootstrap", ... */
enum interval_kind interval_kind_find(const char *name); /* INTERVAL_KINDS: no such name */

struct interval_options {
    size_t resamples; /* 0: no intervals, only rule 1 */
    double level;     /* 0.9: from the 5th to the 95th percentile */
    uint64_t seed;
    bool keep; /* intervals.samples */
};

struct interval {
    double low, high;    /* of the bootstrap, or of the profile where it is alone; NAN where there is neither */
    double error;        /* standard deviation over the resamples */
    struct span profile; /* NAN where it was not asked for */
    bool identified;
    char reason[INTERVAL_REASON]; /* "" where identified */
};

struct intervals {
    double *samples; /* theta of every resample, one row each; NULL where not kept; freed by the caller */
    double level;
    size_t resamples; /* that gave a fit */
    size_t clusters;
    bool singular; /* rule 1 holds for an exponent: between the levels the law is a guess */
    bool vague;    /* an exponent is not identified, by either rule */
    double correlation[LAW_PARAMETERS][LAW_PARAMETERS]; /* of the parameters (exponents, logs of the others) over the
                                                           resamples, axes as they are */
    struct interval raw[LAW_PARAMETERS];                /* of the law as it is written */
    struct interval centred[LAW_PARAMETERS]; /* of the law with axes divided by their geometric means: coefficients in
                                                the middle of the grid */
};

/* Whether a parameter with a value and an interval is still identified: rule 2, and that the interval holds it. */
void interval_judge(enum law_role role, double value, struct interval *interval);

/* Whether an eigenvalue of the Jacobian's normal matrix is that of a direction that the points do not tell, and whether
 * such a direction, whose largest move is `largest`, moves a parameter by `move`. */
bool interval_is_singular(double value, double largest);
bool interval_moves(double move, double largest);

/* Weights of resample number `resample` of `data`, one a point. */
void interval_draw(const struct fit_data *data, size_t resample, uint64_t seed, double *weight);

/* Whether rule 1 holds for an exponent of a fit of `data`. */
bool interval_shape_is_unknown(const struct fit *fit, const struct fit_data *data);

/* Bootstrap intervals of a fit of `data` with `options`. -1 with *err: out of memory. */
int interval_bootstrap(const struct fit *fit, const struct fit_data *data, const struct fit_options *options,
                       const struct interval_options *interval, struct intervals *out, struct error *err);

/* Profile likelihood of every parameter, into intervals that interval_bootstrap has filled. alone: `low` and `high` are
 * those of the profile, and a parameter with an open end is not identified. */
int interval_profile(const struct fit *fit, const struct fit_data *data, const struct fit_options *options, bool alone,
                     struct intervals *out, struct error *err);

#endif
