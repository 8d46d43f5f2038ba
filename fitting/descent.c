/* Fitting: the optimiser's side of a fit: a start in, the nearest minimum out. */
#include "fitting/descent.h"

#include <lbfgs.h>
#include <math.h>
#include <string.h>

#include "fitting/newton.h"

enum { SCOUT = 30, NEWTON_SCOUT = 10, ITERATIONS = 3000, RUNS = 20 };

struct descent descent_of(const struct columns *columns, const double *weight, const struct fit_options *options)
{
    struct descent out = {.columns = columns,
                          .weight = weight,
                          .delta = options->absolute ? 1e-3 : options->delta,
                          .log_residuals = options->log_residuals,
                          .coarse = options->only_start};
    for (size_t i = 0; i < columns->count; i++)
        out.scale += weight[i];
    if (isfinite(out.delta)) out.scale *= out.delta;
    return out;
}

bool descent_holds(const struct descent *descent, size_t parameter)
{
    return (descent->frozen && descent->frozen[parameter]) ||
           ((descent->tie || descent->at) && parameter == descent->slack);
}

void descent_place(const struct descent *descent, double *theta)
{
    const struct law *law = &descent->columns->law;
    double value = descent->tied;
    if (descent->at) {
        value -= law_log_value(law, theta, descent->at, NULL);
        for (size_t i = 0; i < law->parameter_count; i++)
            if (law->parameters[i].role == LAW_COEFFICIENT || law->parameters[i].role == LAW_OFFSET) theta[i] += value;
    } else if (descent->tie) {
        for (size_t i = 0; i < law->parameter_count; i++)
            if (i != descent->slack) value -= descent->tie[i] * theta[i];
        theta[descent->slack] = value;
    }
}

/* Slopes by the parameters that move, from those by all. */
static void fold(const struct descent *descent, const double *theta, double *slope)
{
    const struct law *law = &descent->columns->law;
    double at[LAW_PARAMETERS], all = 0;
    for (size_t i = 0; descent->at && i < law->parameter_count; i++)
        if (law->parameters[i].role == LAW_COEFFICIENT || law->parameters[i].role == LAW_OFFSET) all += slope[i];
    if (descent->at) law_log_value(law, theta, descent->at, at);
    for (size_t i = 0; i < law->parameter_count; i++) {
        if (descent->at) slope[i] -= all * at[i];
        if (descent->tie && i != descent->slack) slope[i] -= descent->tie[i] * slope[descent->slack];
    }
}

static lbfgsfloatval_t evaluate(void *context, const lbfgsfloatval_t *x, lbfgsfloatval_t *gradient, const int n,
                                const lbfgsfloatval_t step)
{
    const struct descent *descent = context;
    (void)step;
    size_t count = descent->columns->law.parameter_count;
    double theta[LAW_PARAMETERS], slope[LAW_PARAMETERS];
    memcpy(theta, x, count * sizeof *theta);
    descent_place(descent, theta);
    double value =
        columns_objective(descent->columns, descent->weight, descent->delta, descent->log_residuals, theta, slope);
    fold(descent, theta, slope);
    for (size_t i = 0; i < (size_t)n; i++)
        gradient[i] = i >= count || descent_holds(descent, i) ? 0 : slope[i] / descent->scale;
    return value / descent->scale;
}

static int count_iteration(void *context, const lbfgsfloatval_t *x, const lbfgsfloatval_t *g, const lbfgsfloatval_t fx,
                           const lbfgsfloatval_t xnorm, const lbfgsfloatval_t gnorm, const lbfgsfloatval_t step, int n,
                           int k, int ls)
{
    (void)x, (void)g, (void)fx, (void)xnorm, (void)gnorm, (void)step, (void)n, (void)k, (void)ls;
    ((struct descent *)context)->iterations++;
    return 0;
}

/* L-BFGS, for laws with a knee: their second derivatives are not worked out. */
static double lbfgs_run(struct descent *descent, double *theta, int iterations)
{
    _Alignas(64) lbfgsfloatval_t x[LAW_PARAMETERS] = {0}; /* the library wants aligned arrays of a multiple of 8 */
    lbfgsfloatval_t slope[LAW_PARAMETERS];
    size_t count = descent->columns->law.parameter_count;
    int n = count > 8 ? LAW_PARAMETERS : 8;
    lbfgs_parameter_t parameters;
    lbfgs_parameter_init(&parameters);
    parameters.m = 10;
    parameters.epsilon = descent->coarse ? 1e-8 : 1e-12;
    parameters.max_iterations = iterations;
    parameters.max_linesearch = 40;
    memcpy(x, theta, count * sizeof *x);
    lbfgsfloatval_t before = evaluate(descent, x, slope, n, 0), value;
    /* every status leaves x at the best point found: running out of digits is how a tight search ends */
    lbfgs(n, x, &value, evaluate, count_iteration, descent, &parameters);
    value = evaluate(descent, x, slope, n, 0);
    if (value <= before)
        memcpy(theta, x, count * sizeof *theta);
    else
        value = before;
    descent_place(descent, theta);
    return value;
}

static bool has_knee(const struct law *law)
{
    for (size_t t = 0; t < law->term_count; t++)
        if (law->terms[t].knee) return true;
    return false;
}

static double run(struct descent *descent, double *theta, int iterations)
{
    return has_knee(&descent->columns->law) ? lbfgs_run(descent, theta, iterations)
                                            : newton_run(descent, theta, iterations);
}

double descent_scout(struct descent *descent, double *theta)
{
    return run(descent, theta, has_knee(&descent->columns->law) ? SCOUT : NEWTON_SCOUT);
}

bool descent_settle(struct descent *descent, double *theta, double *value)
{
    for (int i = 0; i < RUNS; i++) {
        double before = *value;
        *value = run(descent, theta, ITERATIONS);
        if (before - *value <= (descent->coarse ? 1e-7 : 1e-13) * fabs(before)) return true;
    }
    return false;
}
