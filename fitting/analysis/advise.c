/* Fitting: the laws of a sweep and a question in, a ranked list of methods and models out. */
#include "fitting/analysis/advise.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fitting/analysis/analysis_internal.h"
#include "fitting/fit/sorted.h"

/* Least squares of log seconds on 1, log N, log D over the rows of a fit: what a point costs. NAN: too few rows. */
static double predict_seconds(const struct analysis *analysis, const struct analysis_fit *fit,
                              const struct observation *point)
{
    double m[3][4] = {{1e-9, 0, 0, 0}, {0, 1e-6, 0, 0}, {0, 0, 1e-6, 0}}; /* an axis of one level gets slope 0 */
    size_t count = 0;
    for (size_t i = 0; i < fit->fitted_count + fit->heldout_count; i++) {
        const struct observation *row = &analysis->observations.rows[fit->rows[i]];
        if (!(row->seconds > 0)) continue;
        const double x[4] = {1, log(row->parameters / point->parameters), log(row->examples / point->examples),
                             log(row->seconds)};
        for (size_t a = 0; a < 3; a++)
            for (size_t b = 0; b < 4; b++)
                m[a][b] += x[a] * x[b];
        count++;
    }
    if (count < 4) return NAN;
    for (size_t k = 0; k < 3; k++)
        for (size_t r = 0; r < 3; r++) {
            double factor = r == k ? 0 : m[r][k] / m[k][k];
            for (size_t c = 0; c < 4 && r != k; c++)
                m[r][c] -= factor * m[k][c];
        }
    return exp(m[0][3] / m[0][0]); /* the axes' origin is the point itself */
}

static double predict(const struct analysis_fit *fit, const double *theta, const struct observation *point)
{
    double x[LAW_AXES];
    analysis_axes(fit, point, x);
    return law_value(&fit->law, theta, x);
}

static struct observation point_of(const struct advise_option *option, const struct analysis_fit *fit, double examples)
{
    return (struct observation){.parameters = option->parameters,
                                .pretrain_tokens = option->pretrain_tokens,
                                .pet_size = fit->pet_size,
                                .examples = examples};
}

static int profile_of(const struct analysis *analysis, const struct analysis_fit *fit, const struct observation *point,
                      struct advise_option *option, struct error *err)
{
    const struct fit_options how = analysis_fit_options(analysis);
    struct fit_data data = {0};
    struct profile profile = {0};
    double x[LAW_AXES], log_x[LAW_AXES] = {0};
    int result = analysis_make_data(analysis, fit, 0, fit->fitted_count, &data)
                     ? error_set(err, "out of memory for the advice")
                     : profile_create(&fit->fit, &data, &how, analysis->options.level, &profile, err);
    analysis_axes(fit, point, x);
    for (size_t axis = 0; axis < LAW_AXES; axis++)
        if (law_uses(&fit->law, (enum law_axis)axis)) log_x[axis] = log(x[axis]);
    if (!result) {
        struct span span = profile_prediction(&profile, log_x);
        option->low = span.low;
        option->high = span.high;
    }
    profile_destroy(&profile);
    analysis_free_data(&data);
    return result;
}

static void interval_of(const struct analysis_fit *fit, double level, struct advise_option *option,
                        const struct observation *point)
{
    size_t count = fit->intervals.samples ? fit->intervals.resamples : 0;
    double *losses = calloc(count + 1, sizeof *losses);
    option->low = option->high = NAN;
    for (size_t r = 0; losses && r < count; r++)
        losses[r] = predict(fit, fit->intervals.samples + r * fit->law.parameter_count, point);
    if (losses && count) {
        sort_numbers(losses, count);
        option->low = sorted_at(losses, count, (1 - level) / 2);
        option->high = sorted_at(losses, count, (1 + level) / 2);
    }
    free(losses);
}

static void mark_range(const struct analysis *analysis, const struct analysis_fit *fit, double examples,
                       struct advise_option *option)
{
    double low[2] = {INFINITY, INFINITY}, high[2] = {0, 0};
    for (size_t i = 0; i < fit->fitted_count; i++) {
        const struct observation *row = &analysis->observations.rows[fit->rows[i]];
        low[0] = fmin(low[0], row->parameters);
        high[0] = fmax(high[0], row->parameters);
        low[1] = fmin(low[1], row->examples);
        high[1] = fmax(high[1], row->examples);
    }
    option->beyond_size = option->parameters < low[0] || option->parameters > high[0];
    option->beyond_examples = examples < low[1] || examples > high[1];
}

static int add_option(const struct analysis *analysis, size_t index, double parameters,
                      const struct advise_question *question, struct advice *out, struct error *err)
{
    const struct analysis_fit *fit = &analysis->fits[index];
    struct advise_option *options = realloc(out->options, (out->count + 1) * sizeof *options);
    if (!options) return error_set(err, "out of memory for the advice");
    out->options = options;
    struct advise_option *option = &options[out->count++];
    *option = (struct advise_option){
        .fit = index, .parameters = parameters, .pretrain_tokens = fit->pretrain_tokens, .best = NAN};
    short_group(fit, option->group, sizeof option->group);
    struct observation point = point_of(option, fit, question->examples);
    option->loss = predict(fit, fit->fit.theta, &point);
    interval_of(fit, analysis->options.level, option, &point);
    if (analysis->options.intervals == INTERVAL_PROFILE && profile_of(analysis, fit, &point, option, err)) return -1;
    option->seconds = predict_seconds(analysis, fit, &point);
    option->within_budget = !(option->seconds > question->budget);
    mark_range(analysis, fit, question->examples, option);
    return 0;
}

static int compare_options(const void *a, const void *b)
{
    const struct advise_option *x = a, *y = b;
    if (x->within_budget != y->within_budget) return x->within_budget ? -1 : 1;
    return (x->loss > y->loss) - (x->loss < y->loss);
}

/* How often each option is the best one of those within the budget. */
static void count_best(const struct analysis *analysis, const struct advise_question *question, struct advice *out)
{
    size_t resamples = SIZE_MAX;
    for (size_t i = 0; i < out->count; i++) {
        const struct intervals *intervals = &analysis->fits[out->options[i].fit].intervals;
        size_t has = intervals->samples ? intervals->resamples : 0;
        resamples = has < resamples ? has : resamples;
    }
    for (size_t i = 0; resamples && i < out->count; i++)
        out->options[i].best = 0;
    for (size_t r = 0; out->count && r < resamples; r++) {
        size_t winner = SIZE_MAX;
        double least = INFINITY;
        for (size_t i = 0; i < out->count; i++) {
            const struct analysis_fit *fit = &analysis->fits[out->options[i].fit];
            struct observation point = point_of(&out->options[i], fit, question->examples);
            double loss = predict(fit, fit->intervals.samples + r * fit->law.parameter_count, &point);
            if (!out->options[i].within_budget || !(loss < least)) continue;
            least = loss;
            winner = i;
        }
        if (winner != SIZE_MAX) out->options[winner].best++;
    }
    for (size_t i = 0; i < out->count; i++)
        out->options[i].best /= (double)resamples; /* NAN stays */
}

/* Losses of two tasks are not of one kind. */
static int check_task(const struct analysis *analysis, const char *task, struct error *err)
{
    char tasks[512] = "";
    bool found = false;
    for (size_t f = 0; f < analysis->fit_count; f++) {
        const struct analysis_fit *fit = &analysis->fits[f];
        found = found || (task ? !strcmp(fit->task, task) : !fit->several_tasks);
        if (f && !strcmp(analysis->fits[f - 1].task, fit->task)) continue;
        size_t used = strlen(tasks);
        snprintf(tasks + used, sizeof tasks - used, "%s%s", used ? ", " : "", fit->task);
    }
    if (found || !analysis->fit_count) return 0;
    if (!task) return error_set(err, "the sweep has several tasks: give --task; allowed: %s", tasks);
    return error_set(err, "--task \"%s\" is not in the sweep; allowed: %s", task, tasks);
}

int advise(const struct analysis *analysis, const struct advise_question *question, struct advice *out,
           struct error *err)
{
    *out = (struct advice){0};
    if (check_task(analysis, question->task, err)) return -1;
    for (size_t f = 0; f < analysis->fit_count; f++) {
        const struct analysis_fit *fit = &analysis->fits[f];
        double last = NAN;
        if (fit->view != VIEW_MODEL || analysis_shown(analysis, f) != f) continue;
        if (question->task && strcmp(fit->task, question->task) != 0) continue;
        if (!isnan(question->parameters)) {
            if (add_option(analysis, f, question->parameters, question, out, err)) goto failed;
            continue;
        }
        for (size_t i = 0; i < fit->fitted_count; i++) { /* in order of model size */
            double parameters = analysis->observations.rows[fit->rows[i]].parameters;
            if (parameters != last && add_option(analysis, f, parameters, question, out, err)) goto failed;
            last = parameters;
        }
    }
    if (!out->count) {
        error_set(err, "no law over model size is identified; `tunelaw fit --verbose` says why");
        goto failed;
    }
    qsort(out->options, out->count, sizeof *out->options, compare_options);
    count_best(analysis, question, out);
    return 0;
failed:
    advice_destroy(out);
    return -1;
}

void advice_destroy(struct advice *advice)
{
    free(advice->options);
    *advice = (struct advice){0};
}
