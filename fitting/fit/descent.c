/* Fitting: the optimiser's side of a fit: a start in, the nearest minimum out. */
#include "fitting/fit/descent.h"

#include <lbfgs.h>
#include <math.h>
#include <string.h>

#include "fitting/fit/eigen.h"
#include "fitting/fit/newton.h"

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

/* The parameters that a prediction is moved by. */
static bool scales(const struct law *law, size_t i)
{
    return law->parameters[i].role == LAW_COEFFICIENT || law->parameters[i].role == LAW_OFFSET;
}

/* Slope of log L at a point by all the logs that scale it, 1 where every term has a coefficient; its value by `value`.
 */
static double scale_slope(const struct descent *descent, const double *theta, double *value, double *gradient)
{
    const struct law *law = &descent->columns->law;
    double sum = 0;
    *value = law_log_value(law, theta, descent->at, gradient);
    for (size_t i = 0; i < law->parameter_count; i++)
        if (scales(law, i)) sum += gradient[i];
    return sum;
}

void descent_place(const struct descent *descent, double *theta)
{
    enum { STEPS = 30 }; /* one where every term has a coefficient; a user's law may be another function of them */
    const struct law *law = &descent->columns->law;
    double gradient[LAW_PARAMETERS], value = INFINITY;
    for (int step = 0; descent->at && step < STEPS && fabs(descent->tied - value) > 1e-14; step++) {
        double slope = scale_slope(descent, theta, &value, gradient), move = (descent->tied - value) / slope;
        for (size_t i = 0; i < law->parameter_count && isfinite(move); i++)
            if (scales(law, i)) theta[i] += move;
        if (!law->user) return;
    }
    if (!descent->tie) return;
    value = descent->tied;
    for (size_t i = 0; i < law->parameter_count; i++)
        if (i != descent->slack) value -= descent->tie[i] * theta[i];
    theta[descent->slack] = value;
}

/* Slopes by the parameters that move, from those by all. */
static void fold(const struct descent *descent, const double *theta, double *slope)
{
    const struct law *law = &descent->columns->law;
    double at[LAW_PARAMETERS], all = 0, value, one = 1;
    if (descent->at) one = scale_slope(descent, theta, &value, at);
    for (size_t i = 0; descent->at && i < law->parameter_count; i++)
        if (scales(law, i)) all += slope[i];
    for (size_t i = 0; i < law->parameter_count; i++) {
        if (descent->at) slope[i] -= all * at[i] / one;
        if (descent->tie && i != descent->slack) slope[i] -= descent->tie[i] * slope[descent->slack];
    }
}

/* What L-BFGS moves: the parameters, or coordinates around a place of theirs. */
struct frame {
    struct descent *descent;
    int n;
    bool mapped;
    double origin[LAW_PARAMETERS], map[LAW_PARAMETERS][LAW_PARAMETERS]; /* theta = origin + map · x */
    double unit;                                                        /* of the objective */
};

static void place(const struct frame *frame, const lbfgsfloatval_t *x, double *theta)
{
    const size_t count = frame->descent->columns->law.parameter_count;
    memcpy(theta, frame->mapped ? frame->origin : x, count * sizeof *theta);
    for (size_t p = 0; frame->mapped && p < count; p++)
        for (size_t k = 0; k < count; k++)
            theta[p] += frame->map[p][k] * x[k];
    descent_place(frame->descent, theta);
}

static lbfgsfloatval_t evaluate(void *context, const lbfgsfloatval_t *x, lbfgsfloatval_t *gradient, const int n,
                                const lbfgsfloatval_t step)
{
    const struct frame *frame = context;
    const struct descent *descent = frame->descent;
    const double unit = descent->scale * frame->unit;
    size_t count = descent->columns->law.parameter_count;
    double theta[LAW_PARAMETERS], slope[LAW_PARAMETERS], by_theta[LAW_PARAMETERS] = {0};
    (void)step;
    place(frame, x, theta);
    double value =
        columns_objective(descent->columns, descent->weight, descent->delta, descent->log_residuals, theta, slope);
    fold(descent, theta, slope);
    for (size_t i = 0; i < count; i++)
        if (!descent_holds(descent, i)) by_theta[i] = slope[i] / unit;
    for (size_t i = 0; i < (size_t)n; i++) {
        gradient[i] = frame->mapped ? 0 : by_theta[i];
        for (size_t p = 0; frame->mapped && i < count && p < count; p++)
            gradient[i] += by_theta[p] * frame->map[p][i];
    }
    return value / unit;
}

/* Coordinates around theta in which the objective is near a sphere, for a law whose axes cannot be centred, so that its
 * parameters are as good as parallel: from the Gauss-Newton matrix, directions that the points do not tell held back.
 */
static void make_map(const struct descent *descent, const double *theta, struct frame *out)
{
    const size_t n = descent->columns->law.parameter_count;
    double normal[EIGEN_LARGEST][EIGEN_LARGEST] = {{0}}, gradient[LAW_PARAMETERS], values[EIGEN_LARGEST];
    double vectors[EIGEN_LARGEST][EIGEN_LARGEST], largest = 0;
    for (size_t i = 0; i < descent->columns->count; i++) {
        double size = fabs(columns_residual(descent->columns, descent->log_residuals, theta, i, gradient));
        double weight = descent->weight[i] * (size > descent->delta ? descent->delta / size : 1) / descent->scale;
        for (size_t a = 0; a < n; a++)
            for (size_t b = 0; b < n; b++)
                if (!descent_holds(descent, a) && !descent_holds(descent, b))
                    normal[a][b] += weight * gradient[a] * gradient[b];
    }
    eigen_symmetric(n, normal, values, vectors);
    for (size_t k = 0; k < n; k++)
        largest = fmax(largest, values[k]);
    for (size_t k = 0; k < n; k++)
        for (size_t p = 0; p < n; p++)
            out->map[p][k] = vectors[k][p] / (largest > 0 ? sqrt(fmax(values[k], 1e-9 * largest)) : 1);
    memcpy(out->origin, theta, n * sizeof *theta);
}

/* The library's first step has length 1: make that Newton's step, and the slope there 1. */
static void size_map(struct frame *frame)
{
    lbfgsfloatval_t x[LAW_PARAMETERS] = {0}, slope[LAW_PARAMETERS];
    double square = 0;
    evaluate(frame, x, slope, frame->n, 0);
    for (int k = 0; k < frame->n; k++)
        square += slope[k] * slope[k];
    if (!(square > 0)) return;
    frame->unit = square;
    for (size_t p = 0; p < LAW_PARAMETERS; p++)
        for (size_t k = 0; k < LAW_PARAMETERS; k++)
            frame->map[p][k] *= sqrt(square);
}

static int count_iteration(void *context, const lbfgsfloatval_t *x, const lbfgsfloatval_t *g, const lbfgsfloatval_t fx,
                           const lbfgsfloatval_t xnorm, const lbfgsfloatval_t gnorm, const lbfgsfloatval_t step, int n,
                           int k, int ls)
{
    (void)x, (void)g, (void)fx, (void)xnorm, (void)gnorm, (void)step, (void)n, (void)k, (void)ls;
    ((struct frame *)context)->descent->iterations++;
    return 0;
}

/* L-BFGS, for laws with a knee and those that users write: their second derivatives are not worked out. */
static double lbfgs_run(struct descent *descent, double *theta, int iterations)
{
    _Alignas(64) lbfgsfloatval_t x[LAW_PARAMETERS] = {0}; /* the library wants aligned arrays of a multiple of 8 */
    lbfgsfloatval_t slope[LAW_PARAMETERS];
    size_t count = descent->columns->law.parameter_count;
    struct frame frame = {.descent = descent, .n = count > 8 ? LAW_PARAMETERS : 8, .unit = 1};
    lbfgs_parameter_t parameters;
    lbfgs_parameter_init(&parameters);
    parameters.m = 10;
    parameters.epsilon = descent->coarse ? 1e-8 : 1e-12;
    parameters.max_iterations = iterations;
    parameters.max_linesearch = 40;
    frame.mapped = !law_can_shift(&descent->columns->law);
    if (frame.mapped) {
        make_map(descent, theta, &frame);
        size_map(&frame);
    } else {
        memcpy(x, theta, count * sizeof *x);
    }
    lbfgsfloatval_t before = evaluate(&frame, x, slope, frame.n, 0), value;
    /* every status leaves x at the best point found: running out of digits is how a tight search ends */
    lbfgs(frame.n, x, &value, evaluate, count_iteration, &frame, &parameters);
    value = evaluate(&frame, x, slope, frame.n, 0);
    if (value <= before)
        place(&frame, x, theta);
    else
        value = before;
    descent_place(descent, theta);
    return value * frame.unit;
}

static bool wants_lbfgs(const struct law *law)
{
    if (law->user) return true;
    for (size_t t = 0; t < law->term_count; t++)
        if (law->terms[t].knee) return true;
    return false;
}

static double run(struct descent *descent, double *theta, int iterations)
{
    return wants_lbfgs(&descent->columns->law) ? lbfgs_run(descent, theta, iterations)
                                               : newton_run(descent, theta, iterations);
}

double descent_scout(struct descent *descent, double *theta)
{
    return run(descent, theta, wants_lbfgs(&descent->columns->law) ? SCOUT : NEWTON_SCOUT);
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
