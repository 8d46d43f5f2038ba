/* Points in columns, and the objective of a law over eight of them at a time: the inner loop of every fit.
 *
 * At full size: 10^4 points, 10^6 evaluations. The same points and parameters give the same bits on every machine and
 * for every number of threads: sums run over eight lanes in one order. Pure; a `struct columns` is only read, so
 * threads share it, each with weights of its own. */
#ifndef TUNELAW_FITTING_FIT_COLUMNS_H
#define TUNELAW_FITTING_FIT_COLUMNS_H

#include "fitting/fit/fit.h"

/* A term of a law: its coefficient, a knee or 0, and powers of columns. */
struct columns_term {
    size_t coefficient, knee, count;
    size_t exponent[LAW_AXES];
    const double *log_x[LAW_AXES];
};

struct columns {
    struct law law;
    struct columns_term terms[LAW_TERMS];
    size_t count, padded;    /* points; the length of a column: a multiple of 8 */
    double *log_x[LAW_AXES]; /* centred; an axis of 0 is far below, -1e300; NULL where the law has no such axis */
    double *loss, *log_loss;
    double unit;  /* log of a loss of about the points' size: terms are summed in units of it */
    double *room; /* all columns, freed by columns_destroy */
};

/* Columns of `data` with the origin of the axes (logs) moved to `centre`. -1: out of memory. */
int columns_create(const struct law *law, const struct fit_data *data, const double centre[LAW_AXES],
                   struct columns *out);
void columns_destroy(struct columns *columns);

/* A column of weights, 0 where there is no point: of `weight`, or 1 where it is NULL. NULL out of memory; free(). */
double *columns_weights(const struct columns *columns, const double *weight);
/* The same into a column that exists. */
void columns_weigh(const struct columns *columns, const double *weight, double *column);

/* Sum of weight · huber(residual) at theta (centred axes), and its gradient[parameter_count]. */
double columns_objective(const struct columns *columns, const double *weight, double delta, bool log_residuals,
                         const double *theta, double *gradient);

/* The same with the second derivatives, and the diagonal of the matrix that bounds them from above where the law is
 * linear (weights huber'(r)/r): the measure of a step. For laws of the table without a knee. */
double columns_curvature(const struct columns *columns, const double *weight, double delta, bool log_residuals,
                         const double *theta, double *gradient, double hessian[LAW_PARAMETERS][LAW_PARAMETERS],
                         double *measure);

/* Residual of point i, predicted - observed, and its gradient[parameter_count] where not NULL. */
double columns_residual(const struct columns *columns, bool log_residuals, const double *theta, size_t i,
                        double *gradient);

#endif
