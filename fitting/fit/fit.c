/* Fitting, second box: points and a law in, parameters out. Axes are centred on their geometric means, every start is
 * followed a short way, the best are followed to the end of what double precision can tell. */
#include "fitting/fit/fit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fitting/fit/absolute.h"
#include "fitting/fit/descent.h"
#include "fitting/fit/starts.h"

enum { POLISHED = 10, SCOUTED = 2048, WHOLE = 2 };
#define NOWHERE 1e12 /* a point's part of an objective: no loss is so far from another */

/* What a fit works on: the points, the same in columns with centred axes, the optimiser over them. */
struct problem {
    const struct law *law;
    const struct fit_data *data;
    struct columns columns;
    double *weight;
    const struct fit_options *options;
    struct descent descent;
    struct fit_data few; /* points that the starts are followed on: at most SCOUTED, the data's own or copies */
    struct columns few_columns;
    double *few_weight;
    struct descent scout;
};

static bool is_frozen(const struct fit_options *options, size_t parameter)
{
    return options->frozen && options->frozen[parameter];
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

/* Mean log of each axis over the points; a law with a knee may have points at 0, which do not count. 0 for a law whose
 * origin cannot be moved. */
static void middle(const struct law *law, const struct fit_data *data, double mean[LAW_AXES])
{
    for (size_t axis = 0; axis < LAW_AXES; axis++) {
        double sum = 0;
        size_t finite = 0;
        bool same = true;
        for (size_t i = 0; i < data->count; i++) {
            same = same && data->log_x[i][axis] == data->log_x[0][axis];
            if (!isfinite(data->log_x[i][axis])) continue;
            sum += data->log_x[i][axis];
            finite++;
        }
        mean[axis] = finite ? sum / (double)finite : 0;
        if (same && finite) mean[axis] = data->log_x[0][axis]; /* a constant axis centres to exactly 0 */
        if (!law_can_shift(law)) mean[axis] = 0;
    }
}

/* Where there are many points the starts are followed on some of them: in steps of the golden ratio over the rows, so
 * that no order of the rows is favoured. */
static int take_few(const struct fit_data *data, struct fit_data *few)
{
    *few = (struct fit_data){.count = SCOUTED};
    few->log_x = calloc(SCOUTED, sizeof *few->log_x);
    few->loss = calloc(SCOUTED, sizeof *few->loss);
    double *weight = calloc(SCOUTED, sizeof *weight);
    few->weight = weight;
    if (!few->log_x || !few->loss || !weight) return -1;
    for (size_t i = 0; i < SCOUTED; i++) {
        size_t from = (size_t)(fmod((double)i * 0.6180339887498949, 1.0) * (double)data->count);
        memcpy(few->log_x[i], data->log_x[from], sizeof *few->log_x);
        few->loss[i] = data->loss[from];
        weight[i] = data->weight ? data->weight[from] : 1.0;
    }
    return 0;
}

static void free_few(struct fit_data *few)
{
    free(few->log_x);
    free(few->loss);
    free((void *)few->weight);
}

static int prepare_scout(struct problem *out, const double mean[LAW_AXES])
{
    if (out->options->only_start || out->data->count <= SCOUTED) {
        out->scout = out->descent;
        return 0;
    }
    if (take_few(out->data, &out->few) || columns_create(out->law, &out->few, mean, &out->few_columns) ||
        !(out->few_weight = columns_weights(&out->few_columns, out->few.weight)))
        return -1;
    out->scout = descent_of(&out->few_columns, out->few_weight, out->options);
    out->scout.frozen = out->options->frozen;
    return 0;
}

static int problem_create(const struct law *law, const struct fit_data *data, const struct fit_options *options,
                          double mean[LAW_AXES], struct problem *out)
{
    *out = (struct problem){.law = law, .data = data, .options = options};
    middle(law, data, mean);
    if (columns_create(law, data, mean, &out->columns) || !(out->weight = columns_weights(&out->columns, data->weight)))
        return -1;
    out->descent = descent_of(&out->columns, out->weight, options);
    out->descent.frozen = options->frozen;
    return prepare_scout(out, mean);
}

static void problem_destroy(struct problem *problem)
{
    free_few(&problem->few);
    free(problem->few_weight);
    columns_destroy(&problem->few_columns);
    free(problem->weight);
    columns_destroy(&problem->columns);
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
    struct starts_scale scale = starts_scale(problem->few.count ? &problem->few : problem->data);
    for (size_t i = 0; i < count; i++) {
        if (i < grid) starts_get(problem->law, problem->data, &scale, i, starts[i].theta);
        for (size_t p = 0; i < grid && p < problem->law->parameter_count; p++)
            if (is_frozen(problem->options, p)) starts[i].theta[p] = problem->options->start[p];
        starts[i].order = i;
        starts[i].value = count > 1 ? descent_scout(&problem->scout, starts[i].theta) : INFINITY;
        if (isnan(starts[i].value)) starts[i].value = INFINITY;
    }
    qsort(starts, count, sizeof *starts, compare_starts);
}

/* The best starts to the end on the few points; only the best of these are worth the whole. Returns how many. */
static size_t polish_on_few(struct problem *problem, struct start *starts, size_t polished, struct fit *fit)
{
    for (size_t i = 0; i < polished; i++)
        descent_settle(&problem->scout, starts[i].theta, &starts[i].value);
    qsort(starts, polished, sizeof *starts, compare_starts);
    for (size_t i = WHOLE; i < polished; i++)
        fit->agreeing += starts[i].value <= starts[0].value * (1 + 1e-6) + 1e-300;
    return polished < WHOLE ? polished : WHOLE;
}

static void choose(struct problem *problem, struct start *starts, size_t count, struct fit *fit)
{
    fit->starts = count;
    fit->polished = count < POLISHED ? count : POLISHED;
    size_t whole = problem->few.count ? polish_on_few(problem, starts, fit->polished, fit) : fit->polished;
    double best = INFINITY;
    size_t winner = 0;
    for (size_t i = 0; i < whole; i++) {
        problem->descent.iterations = 0;
        bool settled = descent_settle(&problem->descent, starts[i].theta, &starts[i].value);
        if (starts[i].value < best) {
            best = starts[i].value;
            winner = i;
            fit->converged = settled;
            fit->iterations = problem->descent.iterations;
        }
    }
    for (size_t i = 0; i < whole; i++)
        fit->agreeing += starts[i].value <= best * (1 + 1e-6) + 1e-300;
    memcpy(fit->theta, starts[winner].theta, sizeof fit->theta);
    fit->objective = best * problem->descent.scale;
}

static double largest_slope(const struct problem *problem, const double *theta)
{
    const struct descent *descent = &problem->descent;
    double gradient[LAW_PARAMETERS], largest = 0;
    columns_objective(&problem->columns, problem->weight, descent->delta, descent->log_residuals, theta, gradient);
    for (size_t i = 0; i < problem->law->parameter_count; i++)
        if (!is_frozen(problem->options, i)) largest = fmax(largest, fabs(gradient[i]));
    return largest / descent->scale;
}

/* Hurvich and Tsai 1989, one more parameter for the width of the errors. */
static double akaike(const struct problem *problem, const double *theta)
{
    double n = (double)problem->data->count, k = 1, sum = 0;
    bool normal = isinf(problem->options->delta);
    for (size_t p = 0; p < problem->law->parameter_count; p++)
        k += !is_frozen(problem->options, p);
    if (n <= k + 1) return NAN;
    for (size_t i = 0; i < problem->data->count; i++) {
        double r = fabs(columns_residual(&problem->columns, problem->options->log_residuals, theta, i, NULL));
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
    *fit = (struct fit){.law = *law, .points = data->count};
    size_t grid = options->only_start ? 0 : starts_count(law), count = grid + (options->start ? 1 : 0);
    struct start *starts = calloc(count ? count : 1, sizeof *starts);
    struct problem problem;
    if (problem_create(law, data, options, fit->centre, &problem) || !starts) {
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
    scout(&problem, starts, count);
    choose(&problem, starts, count, fit);
    if (!(fit->objective < NOWHERE * (double)data->count)) {
        error_set(err, "the law %s gives no loss that can be compared with the points', wherever it starts", law->name);
        goto done;
    }
    fit->gradient = largest_slope(&problem, fit->theta);
    fit->converged = fit->converged && isfinite(fit->objective) && fit->gradient < 1e-5;
    if (options->absolute) {
        double before = absolute_settle(&problem.descent, fit->theta);
        fit->objective = absolute_settle(&problem.descent, fit->theta);
        fit->converged = isfinite(before) && fit->objective >= before * (1 - 1e-6);
    }
    fit->akaike = akaike(&problem, fit->theta);
    law_shift(law, fit->theta, back);
    result = 0;
done:
    problem_destroy(&problem);
    free(starts);
    return result;
}

double fit_predict(const struct fit *fit, const struct fit_data *data, size_t i)
{
    return exp(law_log_value(&fit->law, fit->theta, data->log_x[i], NULL));
}
