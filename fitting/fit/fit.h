/* The one fit of any law: the minimum of a sum of Huber losses, from many starts. Deterministic, no files.
 *
 * At full size: 10^4 points, 10^3 starts. Objective: sum over points of weight · huber(residual), a sum and not a mean,
 * so that the optimiser's tolerances mean the same whatever the number of points. huber(r) = r²/2 for |r| <= delta,
 * else delta·(|r| - delta/2). Residual: predicted - observed loss, of the losses or of their logs. Source: Hoffmann et
 * al. 2022, app. D.3; Zhang et al. 2024, sec. 4.
 * `absolute`: sum over points of weight · |residual|. */
#ifndef TUNELAW_FITTING_FIT_FIT_H
#define TUNELAW_FITTING_FIT_FIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fitting/laws/laws.h"

/* Points to fit, as parallel arrays owned by the caller. */
struct fit_data {
    size_t count;
    double (*log_x)[LAW_AXES]; /* logs of raw counts; 0 where an axis is not used */
    double *loss;              /* positive */
    const double *weight;      /* NULL: all 1 */
    const size_t *cluster;     /* NULL: every point is its own; else points with equal numbers are resampled together */
};

struct fit_options {
    double delta;        /* Huber's threshold; INFINITY: least squares */
    bool log_residuals;  /* residuals of log L */
    bool absolute;       /* sum of absolute residuals instead; delta is not used */
    const double *start; /* NULL, or theta of one more start */
    const bool *frozen;  /* NULL, or a mark a parameter: stays at its value in `start`; of a law whose axes are centred
                            exponents and E alone */
    bool only_start;     /* no grid: `start` alone (resampling) */
};

struct fit {
    struct law law;
    double theta[LAW_PARAMETERS]; /* of the raw axes: coefficients and offset in logs */
    double centre[LAW_AXES];      /* mean log of each axis over the points: the internal origin; 0 of a user's law */
    double objective;
    double gradient; /* largest |d objective / d theta| at the end over the objective's own scale (weights · delta),
                        centred coordinates; of absolute residuals: at the end of the Huber fit before */
    double akaike; /* AICc: normal errors for delta = INFINITY, else Laplace's; compare laws of the same points alone */
    size_t points;
    size_t starts;   /* tried */
    size_t agreeing; /* starts, of those polished, that ended within 1e-6 (relative) of the best objective */
    size_t polished;
    size_t iterations; /* of the best start */
    bool converged;    /* the last restart of the optimiser gained nothing and the gradient is small; of absolute
                          residuals: doing it all again gained nothing */
};

/* Fit. -1 with *err where the data cannot be fitted at all: too few different cells, losses or axes that are not
 * positive numbers. */
int fit_law(const struct law *law, const struct fit_data *data, const struct fit_options *options, struct fit *fit,
            struct error *err);

/* Number of different cells (combinations of the axes that the law uses), and levels of one axis. */
size_t fit_cells(const struct law *law, const struct fit_data *data);
size_t fit_levels(const struct fit_data *data, enum law_axis axis);

/* Predicted loss of point i. */
double fit_predict(const struct fit *fit, const struct fit_data *data, size_t i);

#endif
