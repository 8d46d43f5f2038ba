/* Fitting, one entry of the analysis: a view and a law in, its rows collected, the fit, its intervals and held-out
 * errors out. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fitting/analysis/analysis.h"
#include "fitting/analysis/analysis_internal.h"

bool analysis_in_view(const struct analysis_fit *view, const struct observation *row)
{
    return !strcmp(row->task, view->task) && !strcmp(row->method, view->method) &&
           (isnan(view->pet_size) || row->pet_size == view->pet_size) &&
           (isnan(view->parameters) || row->parameters == view->parameters) &&
           (isnan(view->pretrain_tokens) || row->pretrain_tokens == view->pretrain_tokens);
}

int analysis_make_data(const struct analysis *analysis, const struct analysis_fit *fit, size_t first, size_t count,
                       struct fit_data *out)
{
    size_t *cluster = calloc(count + 1, sizeof *cluster);
    *out = (struct fit_data){.count = count, .cluster = cluster};
    out->log_x = calloc(count + 1, sizeof *out->log_x);
    out->loss = calloc(count + 1, sizeof *out->loss);
    if (!cluster || !out->log_x || !out->loss) return -1;
    for (size_t i = 0; i < count; i++) {
        const struct observation *row = &analysis->observations.rows[fit->rows[first + i]];
        double x[LAW_AXES];
        analysis_axes(fit, row, x);
        for (size_t axis = 0; axis < LAW_AXES; axis++)
            out->log_x[i][axis] = law_uses(&fit->law, (enum law_axis)axis) ? log(x[axis]) : 0;
        out->loss[i] = row->loss;
        cluster[i] = analysis_cluster(analysis, row);
    }
    return 0;
}

void analysis_free_data(struct fit_data *data)
{
    free(data->log_x);
    free(data->loss);
    free((void *)data->cluster);
}

/* Error on what was not fitted: the cells that the sweep holds out, and every level left out in turn. */
static int judge(struct analysis_fit *fit, const struct fit_data *fitted, const struct fit_data *unseen,
                 const struct fit_options *options, struct error *err)
{
    for (size_t levels = 3; levels >= 2; levels--) {
        if (heldout_levels(&fit->law, fitted, options, levels, &fit->levels, err)) return -1;
        if (fit->levels.kind != HELDOUT_NONE) break;
    }
    if (unseen->count)
        heldout_cells(&fit->fit, fitted, unseen, &fit->heldout);
    else
        fit->heldout = fit->levels;
    return 0;
}

/* Fit, intervals and held-out error of one entry whose view, law and rows are set. */
static int run_fit(struct analysis_fit *fit, const struct analysis *analysis, struct error *err)
{
    const struct analysis_options *options = &analysis->options;
    const struct fit_options how = analysis_fit_options(analysis);
    const size_t resamples = options->intervals == INTERVAL_PROFILE ? 0 : options->resamples;
    const struct interval_options interval = {resamples, options->level, 1, true};
    struct fit_data fitted = {0}, unseen = {0};
    struct error why = {""};
    int result = -1;
    if (analysis_make_data(analysis, fit, 0, fit->fitted_count, &fitted) ||
        analysis_make_data(analysis, fit, fit->fitted_count, fit->heldout_count, &unseen)) {
        error_set(err, "out of memory for a fit of %zu points", fit->fitted_count);
        goto done;
    }
    if (fit_law(&fit->law, &fitted, &how, &fit->fit, &why)) {
        snprintf(fit->why, sizeof fit->why, "%.*s", (int)sizeof fit->why - 1, why.text);
        result = 0;
        goto done;
    }
    fit->fitted = true;
    if (interval_bootstrap(&fit->fit, &fitted, &how, &interval, &fit->intervals, err)) goto done;
    if (options->intervals != INTERVAL_BOOTSTRAP &&
        interval_profile(&fit->fit, &fitted, &how, options->intervals == INTERVAL_PROFILE, &fit->intervals, err))
        goto done;
    result = judge(fit, &fitted, &unseen, &how, err);
done:
    analysis_free_data(&fitted);
    analysis_free_data(&unseen);
    return result;
}

/* Fill rows of a view: fitted ones first, then held-out ones. */
static int collect_rows(struct analysis_fit *fit, const struct observations *observations, struct error *err)
{
    size_t count = 0, *seen = calloc(observations->trunks + observations->class_count + 1, sizeof *seen);
    fit->rows = calloc(observations->count + 1, sizeof *fit->rows);
    if (!fit->rows || !seen) {
        free(seen);
        return error_set(err, "out of memory for %zu points", observations->count);
    }
    for (int held_out = 0; held_out < 2; held_out++)
        for (size_t i = 0; i < observations->count; i++) {
            const struct observation *row = &observations->rows[i];
            if (row->held_out != (held_out != 0) || !analysis_in_view(fit, row)) continue;
            fit->rows[count++] = i;
            fit->fitted_count += !held_out;
            fit->heldout_count += held_out;
            if (held_out) continue;
            fit->trunks += !seen[row->trunk]++;
            if (observations->class_count) fit->classes += !seen[observations->trunks + row->execution_class]++;
        }
    free(seen);
    return 0;
}

/* The joint laws keep the axes that vary: in a product two levels tell a power, in a sum of terms it takes three to
 * tell it from a constant. */
static struct law law_of_view(const struct law *law, struct analysis_fit *view, const struct fit_data *data)
{
    if (law->user || strncmp(law->name, "joint", 5)) return *law;
    bool varies[LAW_AXES];
    size_t needed = law->term_count > 2 ? 3 : 2;
    for (size_t axis = 0; axis < LAW_AXES; axis++) {
        size_t levels = fit_levels(data, (enum law_axis)axis);
        varies[axis] = levels >= needed;
        if (levels > 1 && !varies[axis]) view->ignored_axis = law_axis_name((enum law_axis)axis);
    }
    return law_restrict(law, varies);
}

int analysis_add_fit(struct analysis *analysis, const struct analysis_fit *view, const struct law *law,
                     struct error *err)
{
    struct analysis_fit *fits = realloc(analysis->fits, (analysis->fit_count + 1) * sizeof *fits);
    if (!fits) return error_set(err, "out of memory for the fits");
    analysis->fits = fits;
    struct analysis_fit *fit = &fits[analysis->fit_count++];
    *fit = *view;
    if (collect_rows(fit, &analysis->observations, err)) return -1;
    fit->law = *law; /* for make_data: every axis */
    struct fit_data data;
    int failed = analysis_make_data(analysis, fit, 0, fit->fitted_count, &data);
    if (!failed) fit->law = law_of_view(law, fit, &data);
    if (!failed && analysis->options.no_offset) fit->law = law_without_offset(&fit->law);
    analysis_free_data(&data);
    if (failed) return error_set(err, "out of memory for a fit of %zu points", fit->fitted_count);
    law_formula(&fit->law, fit->x_symbol, fit->formula, sizeof fit->formula);
    return run_fit(fit, analysis, err);
}
