/* Fitting: what is made of the fits of all methods together: the two stages of each, and where each pair meets. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fitting/analysis/analysis.h"
#include "fitting/analysis/analysis_internal.h"
#include "fitting/fit/sorted.h"

/* Points as the two stages want them: `size` on LAW_X. */
struct axis_rows {
    struct fit_data data;
    size_t *cluster;
};

static int axis_create(size_t count, struct axis_rows *out)
{
    out->cluster = calloc(count + 1, sizeof *out->cluster);
    out->data = (struct fit_data){.cluster = out->cluster};
    out->data.log_x = calloc(count + 1, sizeof *out->data.log_x);
    out->data.loss = calloc(count + 1, sizeof *out->data.loss);
    return out->cluster && out->data.log_x && out->data.loss ? 0 : -1;
}

static void axis_free(struct axis_rows *axis)
{
    free(axis->cluster);
    free(axis->data.log_x);
    free(axis->data.loss);
}

static void axis_add(const struct analysis *analysis, struct axis_rows *axis, const struct observation *row,
                     double size)
{
    size_t i = axis->data.count++;
    axis->data.log_x[i][LAW_X] = log(size);
    axis->data.log_x[i][LAW_D] = log(row->examples);
    axis->data.loss[i] = row->loss;
    axis->cluster[i] = analysis_cluster(analysis, row);
}

static void add_view(const struct analysis *analysis, const struct analysis_fit *fit, struct axis_rows *axis)
{
    for (size_t i = 0; fit && i < fit->fitted_count; i++) {
        const struct observation *row = &analysis->observations.rows[fit->rows[i]];
        axis_add(analysis, axis, row, fit->view == VIEW_PRETRAIN ? row->pretrain_tokens : row->parameters);
    }
}

static bool at_cell(const struct observation *row, const struct observation *cell)
{
    return !row->held_out && !strcmp(row->task, cell->task) && !strcmp(row->method, cell->method) &&
           row->parameters == cell->parameters && row->pretrain_tokens == cell->pretrain_tokens;
}

/* The axis of PET sizes: at the model and pretraining count with most sizes. Rows are in order of method, PET size,
 * model, pretraining. */
static void add_sizes(const struct analysis *analysis, const char *task, const char *method, struct axis_rows *axis)
{
    const struct observations *observations = &analysis->observations;
    const struct observation *best = NULL;
    size_t most = 1;
    for (size_t i = 0; i < observations->count; i++) {
        const struct observation *row = &observations->rows[i];
        if (strcmp(row->task, task) || strcmp(row->method, method) || row->pet_size <= 0 || row->held_out) continue;
        if (i && at_cell(&observations->rows[i - 1], row) && observations->rows[i - 1].pet_size == row->pet_size)
            continue;
        size_t sizes = 0;
        double last = NAN;
        for (size_t j = i; j < observations->count && !strcmp(observations->rows[j].method, method); j++) {
            if (!at_cell(&observations->rows[j], row) || observations->rows[j].pet_size == last) continue;
            last = observations->rows[j].pet_size;
            sizes++;
        }
        if (sizes > most) {
            most = sizes;
            best = row;
        }
    }
    for (size_t j = 0; best && j < observations->count; j++)
        if (at_cell(&observations->rows[j], best))
            axis_add(analysis, axis, &observations->rows[j], observations->rows[j].pet_size);
}

static const struct analysis_fit *view_of(const struct analysis *analysis, const char *task, const char *method,
                                          double pet_size, enum view_kind view)
{
    for (size_t i = 0; i < analysis->fit_count; i++)
        if (analysis->fits[i].view == view && analysis_of_method(&analysis->fits[i], task, method) &&
            analysis->fits[i].pet_size == pet_size)
            return &analysis->fits[i];
    return NULL;
}

/* PET size whose two views have most points; NAN: the method has neither view. */
static double fullest_size(const struct analysis *analysis, const char *task, const char *method)
{
    double best = NAN;
    size_t most = 0;
    for (size_t i = 0; i < analysis->fit_count; i++) {
        const struct analysis_fit *fit = &analysis->fits[i];
        if (!analysis_of_method(fit, task, method) || (fit->view != VIEW_MODEL && fit->view != VIEW_PRETRAIN)) continue;
        const struct analysis_fit *model = view_of(analysis, task, method, fit->pet_size, VIEW_MODEL);
        const struct analysis_fit *pretrain = view_of(analysis, task, method, fit->pet_size, VIEW_PRETRAIN);
        size_t points = (model ? model->fitted_count : 0) + (pretrain ? pretrain->fitted_count : 0);
        if (points <= most) continue;
        most = points;
        best = fit->pet_size;
    }
    return best;
}

static int add_staged(struct analysis *analysis, const char *task, const char *method, struct error *err)
{
    double size = fullest_size(analysis, task, method);
    if (isnan(size)) return 0;
    struct analysis_staged *entries =
        realloc(analysis->staged, (analysis->staged_count + 1) * sizeof *analysis->staged);
    struct axis_rows axes[STAGED_AXES] = {0};
    int result = -1;
    if (entries) analysis->staged = entries;
    for (size_t k = 0; k < STAGED_AXES; k++)
        if (axis_create(analysis->observations.count, &axes[k])) entries = NULL;
    if (!entries) {
        error_set(err, "out of memory for the two stages of %s", method);
        goto done;
    }
    struct analysis_staged *entry = &analysis->staged[analysis->staged_count++];
    *entry = (struct analysis_staged){.pet_size = size};
    snprintf(entry->task, sizeof entry->task, "%s", task);
    snprintf(entry->method, sizeof entry->method, "%s", method);
    add_view(analysis, view_of(analysis, task, method, size, VIEW_MODEL), &axes[STAGED_MODEL]);
    add_view(analysis, view_of(analysis, task, method, size, VIEW_PRETRAIN), &axes[STAGED_PRETRAIN]);
    add_sizes(analysis, task, method, &axes[STAGED_PET]);
    const struct fit_data data[STAGED_AXES] = {axes[0].data, axes[1].data, axes[2].data};
    const struct fit_options how = analysis_fit_options(analysis);
    const struct interval_options interval = {analysis->options.resamples, analysis->options.level, 1, false};
    struct error why = {""};
    entry->fitted = !staged_fit(data, &how, &interval, &entry->staged, &why);
    snprintf(entry->why, sizeof entry->why, "%.*s", (int)sizeof entry->why - 1, why.text);
    result = 0;
done:
    for (size_t k = 0; k < STAGED_AXES; k++)
        axis_free(&axes[k]);
    return result;
}

/* Interval of every root over the resamples with as many roots. Resamples of the two methods are independent. */
static void crossing_intervals(const struct analysis *analysis, struct analysis_crossing *out, double x[2][LAW_AXES])
{
    const struct analysis_fit *fits[2] = {&analysis->fits[out->first], &analysis->fits[out->second]};
    size_t resamples = fits[0]->intervals.resamples, kept = 0;
    if (fits[1]->intervals.resamples < resamples) resamples = fits[1]->intervals.resamples;
    double(*logs)[CROSSING_LARGEST] = calloc(resamples + 1, sizeof *logs);
    double *column = calloc(resamples + 1, sizeof *column);
    out->agreement = NAN;
    for (size_t k = 0; k < out->count; k++) {
        out->low[k] = out->high[k] = NAN;
        out->profile[k] = (struct span){NAN, NAN, false, false};
    }
    for (size_t r = 0; logs && r < resamples; r++) {
        const double *theta[2];
        for (size_t i = 0; i < 2; i++)
            theta[i] = fits[i]->intervals.samples + r * fits[i]->law.parameter_count;
        if (crossing_find(&fits[0]->law, theta[0], x[0], &fits[1]->law, theta[1], x[1], out->range[0], out->range[1],
                          logs[kept]) == out->count)
            kept++;
    }
    if (logs && resamples) out->agreement = (double)kept / (double)resamples;
    for (size_t k = 0; column && kept && k < out->count; k++) {
        double level = analysis->options.level;
        for (size_t r = 0; r < kept; r++)
            column[r] = logs[r][k];
        sort_numbers(column, kept);
        out->low[k] = sorted_at(column, kept, (1 - level) / 2);
        out->high[k] = sorted_at(column, kept, (1 + level) / 2);
    }
    free(logs);
    free(column);
}

/* The same by profile likelihood. */
static int crossing_profiles(const struct analysis *analysis, struct analysis_crossing *out, double x[2][LAW_AXES],
                             struct error *err)
{
    const struct fit_options how = analysis_fit_options(analysis);
    struct profile profiles[2] = {0};
    struct fit_data data[2] = {0};
    double log_x[2][LAW_AXES] = {{0}};
    int result = 0;
    for (size_t i = 0; i < 2 && !result; i++) {
        const struct analysis_fit *fit = &analysis->fits[i ? out->second : out->first];
        for (size_t axis = 0; axis < LAW_AXES; axis++)
            if (law_uses(&fit->law, (enum law_axis)axis)) log_x[i][axis] = log(x[i][axis]);
        if (analysis_make_data(analysis, fit, 0, fit->fitted_count, &data[i]))
            result = error_set(err, "out of memory for the crossings");
        else
            result = profile_create(&fit->fit, &data[i], &how, analysis->options.level, &profiles[i], err);
    }
    for (size_t k = 0; k < out->count && !result; k++) {
        out->profile[k] = profile_crossing(&profiles[0], log_x[0], &profiles[1], log_x[1], out->roots[k], out->range[0],
                                           out->range[1]);
        if (analysis->options.intervals != INTERVAL_PROFILE) continue;
        out->low[k] = out->profile[k].low;
        out->high[k] = out->profile[k].high;
    }
    for (size_t i = 0; i < 2; i++) {
        profile_destroy(&profiles[i]);
        analysis_free_data(&data[i]);
    }
    return result;
}

static int add_crossings(struct analysis *analysis, size_t first, size_t second, struct error *err)
{
    const struct analysis_fit *fit = &analysis->fits[first];
    double last = NAN, low = INFINITY, high = 0;
    for (size_t i = 0; i < analysis->observations.count; i++) {
        low = fmin(low, analysis->observations.rows[i].examples);
        high = fmax(high, analysis->observations.rows[i].examples);
    }
    /* rows of a model view are in order of model size, the held-out ones after the others */
    for (size_t i = 0; i < fit->fitted_count; i++) {
        const struct observation *row = &analysis->observations.rows[fit->rows[i]];
        if (row->parameters == last) continue;
        last = row->parameters;
        struct analysis_crossing *crossings =
            realloc(analysis->crossings, (analysis->crossing_count + 1) * sizeof *crossings);
        if (!crossings) return error_set(err, "out of memory for the crossings");
        analysis->crossings = crossings;
        struct analysis_crossing *out = &crossings[analysis->crossing_count++];
        *out = (struct analysis_crossing){
            .first = first, .second = second, .parameters = last, .range = {low / 100, high * 1e4}};
        double x[2][LAW_AXES];
        analysis_axes(fit, row, x[0]);
        memcpy(x[1], x[0], sizeof x[1]);
        const struct analysis_fit *other = &analysis->fits[second];
        out->count = crossing_find(&fit->law, fit->fit.theta, x[0], &other->law, other->fit.theta, x[1], out->range[0],
                                   out->range[1], out->roots);
        crossing_intervals(analysis, out, x);
        if (analysis->options.intervals != INTERVAL_BOOTSTRAP && crossing_profiles(analysis, out, x, err)) return -1;
    }
    return 0;
}

bool analysis_crossing_identified(const struct analysis_crossing *crossing, size_t root)
{
    if (crossing->agreement < 0.5) return false;
    if (isnan(crossing->low[root])) return true;
    const double slack = 1.01; /* of resamples that all say the same */
    return crossing->low[root] <= crossing->roots[root] * slack &&
           crossing->roots[root] <= crossing->high[root] * slack;
}

int analysis_compare(struct analysis *analysis, struct error *err)
{
    for (size_t i = 0; i < analysis->fit_count; i++)
        if ((!i || !analysis_of_method(&analysis->fits[i - 1], analysis->fits[i].task, analysis->fits[i].method)) &&
            add_staged(analysis, analysis->fits[i].task, analysis->fits[i].method, err))
            return -1;
    for (size_t a = 0; a < analysis->fit_count; a++)
        for (size_t b = a + 1; b < analysis->fit_count; b++) {
            const struct analysis_fit *first = &analysis->fits[a], *second = &analysis->fits[b];
            if (first->view != VIEW_MODEL || second->view != VIEW_MODEL || strcmp(first->task, second->task) ||
                first->pretrain_tokens != second->pretrain_tokens || analysis_same_view(first, second) ||
                analysis_shown(analysis, a) != a || analysis_shown(analysis, b) != b)
                continue;
            if (add_crossings(analysis, a, b, err)) return -1;
        }
    return 0;
}
