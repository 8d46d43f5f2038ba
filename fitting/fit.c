/* Fitting, second box: points and a law in, parameters out. Axes are centred on their geometric means, every start is
 * followed a short way, the best are followed to the end of what double precision can tell. */
#include "fitting/fit.h"

#include <lbfgs.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fitting/starts.h"

enum { SCOUT_ITERATIONS = 30, POLISHED = 10, POLISH_ITERATIONS = 3000, RESTARTS = 20, SHARPER = 4 };

static double huber(double r, double delta, double *slope)
{
    double size = fabs(r);
    if (size <= delta) {
        *slope = r;
        return 0.5 * r * r;
    }
    *slope = r > 0 ? delta : -delta;
    return delta * (size - 0.5 * delta);
}

double fit_objective(const struct law *law, const struct fit_data *data, const struct fit_options *options,
                     const double *theta, double *gradient)
{
    double sum = 0, point[LAW_PARAMETERS];
    size_t n = law->parameter_count;
    if (gradient) memset(gradient, 0, n * sizeof *gradient);
    for (size_t i = 0; i < data->count; i++) {
        double weight = data->weight ? data->weight[i] : 1, slope;
        double predicted = law_log_value(law, theta, data->log_x[i], gradient ? point : NULL);
        double scale = 1, residual;
        if (options->log_residuals) {
            residual = predicted - log(data->loss[i]);
        } else {
            scale = exp(fmin(predicted, 600)); /* a wild step of the line search stays finite */
            residual = scale - data->loss[i];
        }
        sum += weight * huber(residual, options->delta, &slope);
        if (!gradient) continue;
        for (size_t p = 0; p < n; p++)
            gradient[p] += weight * slope * scale * point[p];
    }
    return sum;
}

/* What the optimiser sees: a centred problem, divided by `scale` so that its tolerances have a meaning. */
struct problem {
    const struct law *law;
    const struct fit_data *data;
    const struct fit_options *options;
    double scale;
    size_t iterations;
};

static bool is_frozen(const struct fit_options *options, size_t parameter)
{
    return options->frozen && options->frozen[parameter];
}

static lbfgsfloatval_t evaluate(void *context, const lbfgsfloatval_t *x, lbfgsfloatval_t *gradient, const int n,
                                const lbfgsfloatval_t step)
{
    const struct problem *problem = context;
    (void)step;
    for (int i = 0; i < n; i++)
        gradient[i] = 0;
    double value = fit_objective(problem->law, problem->data, problem->options, x, gradient);
    for (size_t i = 0; i < problem->law->parameter_count; i++)
        gradient[i] = is_frozen(problem->options, i) ? 0 : gradient[i] / problem->scale;
    return value / problem->scale;
}

static int count_iteration(void *context, const lbfgsfloatval_t *x, const lbfgsfloatval_t *g, const lbfgsfloatval_t fx,
                           const lbfgsfloatval_t xnorm, const lbfgsfloatval_t gnorm, const lbfgsfloatval_t step, int n,
                           int k, int ls)
{
    (void)x, (void)g, (void)fx, (void)xnorm, (void)gnorm, (void)step, (void)n, (void)k, (void)ls;
    ((struct problem *)context)->iterations++;
    return 0;
}

/* One run of L-BFGS from theta, in place; returns the objective over the scale. */
static double descend(struct problem *problem, double *theta, int iterations)
{
    _Alignas(32) lbfgsfloatval_t x[LAW_PARAMETERS] = {0}; /* the library wants aligned arrays of a multiple of 8 */
    size_t n = problem->law->parameter_count;
    memcpy(x, theta, n * sizeof *x);
    lbfgs_parameter_t parameters;
    lbfgs_parameter_init(&parameters);
    parameters.m = 10;
    parameters.epsilon = problem->options->only_start ? 1e-8 : 1e-12; /* a resample's spread is far wider */
    parameters.max_iterations = iterations;
    parameters.max_linesearch = 40;
    lbfgsfloatval_t before = evaluate(problem, x, (lbfgsfloatval_t[LAW_PARAMETERS]){0}, n > 8 ? LAW_PARAMETERS : 8, 0);
    lbfgsfloatval_t value = before;
    /* every status leaves x at the best point found: running out of digits is how a tight search ends */
    lbfgs(n > 8 ? LAW_PARAMETERS : 8, x, &value, evaluate, count_iteration, problem, &parameters);
    value = fit_objective(problem->law, problem->data, problem->options, x, NULL) / problem->scale;
    if (!(value <= before)) return before;
    memcpy(theta, x, n * sizeof *theta);
    return value;
}

/* Restart the optimiser, its memory forgotten, until a restart gains nothing. Returns whether it came to that. */
static bool polish(struct problem *problem, double *theta, double *value)
{
    for (int restart = 0; restart < RESTARTS; restart++) {
        double before = *value;
        *value = descend(problem, theta, POLISH_ITERATIONS);
        if (before - *value <= (problem->options->only_start ? 1e-7 : 1e-13) * fabs(before)) return true;
    }
    return false;
}

static double cells_key(const struct law *law, const struct fit_data *data, size_t i, size_t j)
{
    for (size_t axis = 0; axis < LAW_AXES; axis++) {
        if (!law_uses(law, (enum law_axis)axis)) continue;
        if (data->log_x[i][axis] != data->log_x[j][axis]) return 1;
    }
    return 0;
}

size_t fit_cells(const struct law *law, const struct fit_data *data)
{
    size_t cells = 0;
    for (size_t i = 0; i < data->count; i++) {
        bool seen = false;
        for (size_t j = 0; j < i && !seen; j++)
            seen = cells_key(law, data, i, j) == 0;
        cells += !seen;
    }
    return cells;
}

size_t fit_levels(const struct fit_data *data, enum law_axis axis)
{
    size_t levels = 0;
    for (size_t i = 0; i < data->count; i++) {
        bool seen = false;
        for (size_t j = 0; j < i && !seen; j++)
            seen = data->log_x[i][axis] == data->log_x[j][axis];
        levels += !seen;
    }
    return levels;
}

static int check_data(const struct law *law, const struct fit_data *data, const struct fit_options *options,
                      struct error *err)
{
    for (size_t i = 0; i < data->count; i++) {
        if (!(data->loss[i] > 0) || !isfinite(data->loss[i]))
            return error_set(err, "point %zu: loss %g; allowed: positive numbers", i + 1, data->loss[i]);
        for (size_t axis = 0; axis < LAW_AXES; axis++)
            if (law_uses(law, (enum law_axis)axis) && !isfinite(data->log_x[i][axis]) &&
                !(data->log_x[i][axis] < 0 && law_allows_zero(law, (enum law_axis)axis)))
                return error_set(err, "point %zu: %s is not a positive number, as the law %s needs", i + 1,
                                 law_axis_name((enum law_axis)axis), law->name);
    }
    size_t cells = fit_cells(law, data), free_count = 0;
    for (size_t p = 0; p < law->parameter_count; p++)
        free_count += !is_frozen(options, p);
    if (cells <= free_count)
        return error_set(
            err, "too few points: %zu different cells, and the law %s has %zu parameters; needed: at least %zu cells",
            cells, law->name, free_count, free_count + 1);
    return 0;
}

static double total_weight(const struct fit_data *data)
{
    double sum = 0;
    for (size_t i = 0; i < data->count; i++)
        sum += data->weight ? data->weight[i] : 1;
    return sum;
}

/* The data with axes centred; log_x is malloc'ed, the rest is shared. */
static int centre(const struct fit_data *data, struct fit_data *out, double mean[LAW_AXES])
{
    *out = *data;
    out->log_x = malloc(data->count * sizeof *out->log_x);
    if (!out->log_x) return -1;
    for (size_t axis = 0; axis < LAW_AXES; axis++) {
        double sum = 0;
        size_t finite = 0; /* a law with a knee may have points at 0 */
        bool same = true;
        for (size_t i = 0; i < data->count; i++) {
            same = same && data->log_x[i][axis] == data->log_x[0][axis];
            if (!isfinite(data->log_x[i][axis])) continue;
            sum += data->log_x[i][axis];
            finite++;
        }
        mean[axis] = finite ? sum / (double)finite : 0;
        if (same && finite) mean[axis] = data->log_x[0][axis]; /* a constant axis centres to exactly 0 */
        for (size_t i = 0; i < data->count; i++)
            out->log_x[i][axis] = data->log_x[i][axis] - mean[axis];
    }
    return 0;
}

struct start {
    double theta[LAW_PARAMETERS];
    double value;
    size_t order;
};

static int compare_starts(const void *a, const void *b)
{
    const struct start *x = a, *y = b;
    if (x->value != y->value) return x->value < y->value ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

/* Follow every start a short way, best first in `starts`. */
static void scout(struct problem *problem, struct start *starts, size_t count)
{
    size_t grid = problem->options->only_start ? 0 : starts_count(problem->law);
    for (size_t i = 0; i < count; i++) {
        if (i < grid) starts_get(problem->law, problem->data, i, starts[i].theta);
        for (size_t p = 0; i < grid && p < problem->law->parameter_count; p++)
            if (is_frozen(problem->options, p)) starts[i].theta[p] = problem->options->start[p];
        starts[i].order = i;
        starts[i].value = count > 1 ? descend(problem, starts[i].theta, SCOUT_ITERATIONS) : INFINITY;
        if (isnan(starts[i].value)) starts[i].value = INFINITY;
    }
    qsort(starts, count, sizeof *starts, compare_starts);
}

static void choose(struct problem *problem, struct start *starts, size_t count, struct fit *fit)
{
    fit->starts = count;
    fit->polished = count < POLISHED ? count : POLISHED;
    double best = INFINITY;
    size_t winner = 0;
    for (size_t i = 0; i < fit->polished; i++) {
        problem->iterations = 0;
        bool settled = polish(problem, starts[i].theta, &starts[i].value);
        if (starts[i].value < best) {
            best = starts[i].value;
            winner = i;
            fit->converged = settled;
            fit->iterations = problem->iterations;
        }
    }
    for (size_t i = 0; i < fit->polished; i++)
        fit->agreeing += starts[i].value <= best * (1 + 1e-6) + 1e-300;
    memcpy(fit->theta, starts[winner].theta, sizeof fit->theta);
    fit->objective = best * problem->scale;
}

static double residual_at(const struct problem *problem, const double *theta, size_t i, double *gradient)
{
    double predicted = law_log_value(problem->law, theta, problem->data->log_x[i], gradient);
    if (problem->options->log_residuals) return predicted - log(problem->data->loss[i]);
    double value = exp(fmin(predicted, 600));
    for (size_t p = 0; gradient && p < problem->law->parameter_count; p++)
        gradient[p] *= value;
    return value - problem->data->loss[i];
}

static double sum_absolute(const struct problem *problem, const double *theta)
{
    double sum = 0;
    for (size_t i = 0; i < problem->data->count; i++)
        sum += (problem->data->weight ? problem->data->weight[i] : 1) * fabs(residual_at(problem, theta, i, NULL));
    return sum;
}

/* Solve m·x = b in place, partial pivoting. false: singular. */
static bool solve(size_t n, double m[LAW_PARAMETERS][LAW_PARAMETERS], double *b)
{
    for (size_t k = 0; k < n; k++) {
        size_t pivot = k;
        for (size_t r = k + 1; r < n; r++)
            if (fabs(m[r][k]) > fabs(m[pivot][k])) pivot = r;
        if (!(fabs(m[pivot][k]) > 1e-14)) return false;
        for (size_t c = 0; c < n; c++) {
            double swap = m[k][c];
            m[k][c] = m[pivot][c];
            m[pivot][c] = swap;
        }
        double swap = b[k];
        b[k] = b[pivot];
        b[pivot] = swap;
        for (size_t r = k + 1; r < n; r++) {
            double factor = m[r][k] / m[k][k];
            for (size_t c = k; c < n; c++)
                m[r][c] -= factor * m[k][c];
            b[r] -= factor * b[k];
        }
    }
    for (size_t k = n; k-- > 0;) {
        for (size_t c = k + 1; c < n; c++)
            b[k] -= m[k][c] * b[c];
        b[k] /= m[k][k];
    }
    return true;
}

/* The least sum of absolute residuals runs through as many points as there are parameters: Newton's method through the
 * nearest ones, kept where the sum falls. */
static void vertex(const struct problem *problem, double *theta)
{
    size_t n = problem->law->parameter_count, near[LAW_PARAMETERS], kept = 0;
    double size[LAW_PARAMETERS], trial[LAW_PARAMETERS];
    for (size_t i = 0; i < problem->data->count; i++) {
        double r = fabs(residual_at(problem, theta, i, NULL));
        size_t place = kept;
        while (place > 0 && size[place - 1] > r)
            place--;
        if (place == n) continue;
        if (kept < n) kept++;
        for (size_t k = kept - 1; k > place; k--) {
            size[k] = size[k - 1];
            near[k] = near[k - 1];
        }
        size[place] = r;
        near[place] = i;
    }
    memcpy(trial, theta, n * sizeof *trial);
    for (int step = 0; step < 20; step++) {
        double m[LAW_PARAMETERS][LAW_PARAMETERS] = {{0}}, b[LAW_PARAMETERS];
        for (size_t k = 0; k < n; k++)
            b[k] = -residual_at(problem, trial, near[k], m[k]);
        if (!solve(n, m, b)) return;
        for (size_t p = 0; p < n; p++)
            trial[p] += b[p];
    }
    if (sum_absolute(problem, trial) < sum_absolute(problem, theta)) memcpy(theta, trial, n * sizeof *trial);
}

/* Least absolute residuals: Huber's threshold goes down in steps, each from where the last one ended. */
static void sharpen(struct problem *problem, struct fit *fit)
{
    struct fit_options sharper = *problem->options;
    const double weight = problem->scale / sharper.delta;
    problem->options = &sharper;
    for (int step = 0; step < SHARPER; step++) {
        sharper.delta /= 10;
        problem->scale = sharper.delta * weight;
        double value = fit_objective(problem->law, problem->data, &sharper, fit->theta, NULL) / problem->scale;
        polish(problem, fit->theta, &value);
        vertex(problem, fit->theta);
    }
    fit->objective = sum_absolute(problem, fit->theta);
}

static double largest_slope(const struct problem *problem, const double *theta)
{
    double gradient[LAW_PARAMETERS], largest = 0;
    fit_objective(problem->law, problem->data, problem->options, theta, gradient);
    for (size_t i = 0; i < problem->law->parameter_count; i++)
        if (!is_frozen(problem->options, i)) largest = fmax(largest, fabs(gradient[i]));
    return largest;
}

/* Hurvich and Tsai 1989, one more parameter for the width of the errors. */
static double akaike(const struct problem *problem, const double *theta)
{
    double n = (double)problem->data->count, k = (double)problem->law->parameter_count + 1, sum = 0;
    bool normal = isinf(problem->options->delta);
    if (n <= k + 1) return NAN;
    for (size_t i = 0; i < problem->data->count; i++) {
        double r = fabs(residual_at(problem, theta, i, NULL));
        sum += normal ? r * r : r;
    }
    double likelihood = normal ? n * (log(2 * M_PI * sum / n) + 1) : 2 * n * (log(2 * sum / n) + 1);
    return likelihood + 2 * k + 2 * k * (k + 1) / (n - k - 1);
}

int fit_law(const struct law *law, const struct fit_data *data, const struct fit_options *options, struct fit *fit,
            struct error *err)
{
    if (check_data(law, data, options, err)) return -1;
    if (!options->absolute && !(options->delta > 0))
        return error_set(err, "delta %g; allowed: above 0, or inf for least squares", options->delta);
    int result = -1;
    struct fit_data centred = {0};
    *fit = (struct fit){.law = *law, .points = data->count};
    size_t grid = options->only_start ? 0 : starts_count(law), count = grid + (options->start ? 1 : 0);
    struct start *starts = calloc(count ? count : 1, sizeof *starts);
    if (!starts || centre(data, &centred, fit->centre)) {
        error_set(err, "out of memory for a fit of %zu points", data->count);
        goto done;
    }
    double back[LAW_AXES];
    for (size_t axis = 0; axis < LAW_AXES; axis++)
        back[axis] = -fit->centre[axis];
    if (options->start) {
        memcpy(starts[grid].theta, options->start, law->parameter_count * sizeof(double));
        law_shift(law, starts[grid].theta, fit->centre);
    }
    struct fit_options settled = *options;
    if (options->absolute) settled.delta = 1e-3;
    double unit = isfinite(settled.delta) ? settled.delta : 1;
    struct problem problem = {law, &centred, &settled, unit * total_weight(data), 0};
    scout(&problem, starts, count);
    choose(&problem, starts, count, fit);
    if (options->absolute) {
        struct problem sharp = problem;
        sharpen(&sharp, fit);
    }
    fit->gradient = largest_slope(&problem, fit->theta) / problem.scale;
    fit->converged = fit->converged && isfinite(fit->objective) && (options->absolute || fit->gradient < 1e-5);
    fit->akaike = akaike(&problem, fit->theta);
    law_shift(law, fit->theta, back);
    result = 0;
done:
    free(centred.log_x);
    free(starts);
    return result;
}

double fit_predict(const struct fit *fit, const struct fit_data *data, size_t i)
{
    return exp(law_log_value(&fit->law, fit->theta, data->log_x[i], NULL));
}
