/* Fitting, the whole: observations in, for every view the fits of its laws with intervals and held-out errors. */
#include "fitting/analysis.h"
#include "fitting/analysis_internal.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

const char *view_name(enum view_kind view)
{
    static const char *const names[VIEWS] = {"model", "pretrain", "joint", "examples", "table"};
    return names[view];
}

const char *cluster_name(enum cluster_kind kind)
{
    static const char *const names[CLUSTERS] = {"trunks", "seeds", "points"};
    return names[kind];
}

enum cluster_kind cluster_find(const char *name)
{
    size_t kind = 0;
    while (kind < CLUSTERS && strcmp(name, cluster_name((enum cluster_kind)kind)))
        kind++;
    return (enum cluster_kind)kind;
}

size_t analysis_cluster(const struct analysis *analysis, const struct observation *row)
{
    switch (analysis->options.resample) {
    case CLUSTER_SEEDS:
        return (size_t)row->seed;
    case CLUSTER_POINTS:
        return (size_t)(row - analysis->observations.rows);
    default:
        return row->trunk;
    }
}

struct analysis_options analysis_defaults(void)
{
    return (struct analysis_options){.resamples = 200, .level = 0.9};
}

void analysis_axes(const struct analysis_fit *fit, const struct observation *row, double x[LAW_AXES])
{
    x[LAW_X] = fit->view == VIEW_PRETRAIN ? row->pretrain_tokens : row->parameters;
    x[LAW_P] = row->pretrain_tokens;
    x[LAW_T] = row->pet_size;
    x[LAW_D] = row->examples;
}

double analysis_predict(const struct analysis_fit *fit, const struct observation *row)
{
    double x[LAW_AXES];
    analysis_axes(fit, row, x);
    return law_value(&fit->law, fit->fit.theta, x);
}

bool analysis_same_view(const struct analysis_fit *a, const struct analysis_fit *b)
{
    const double fixed[][2] = {
        {a->pet_size, b->pet_size}, {a->parameters, b->parameters}, {a->pretrain_tokens, b->pretrain_tokens}};
    for (size_t i = 0; i < 3; i++)
        if (fixed[i][0] != fixed[i][1] && !(isnan(fixed[i][0]) && isnan(fixed[i][1]))) return false;
    return a->view == b->view && !strcmp(a->method, b->method);
}

size_t analysis_best(const struct analysis *analysis, size_t first)
{
    size_t best = SIZE_MAX, judged = 0;
    const struct analysis_fit *reference = NULL;
    for (size_t i = 0; i < analysis->fit_count; i++) {
        const struct analysis_fit *fit = &analysis->fits[i];
        if (!analysis_same_view(fit, &analysis->fits[first]) || !fit->fitted || fit->intervals.vague ||
            fit->heldout.kind == HELDOUT_NONE)
            continue;
        if (reference &&
            (fit->heldout.kind != reference->heldout.kind || fit->heldout.points != reference->heldout.points))
            return SIZE_MAX;
        if (!reference || fit->heldout.error < analysis->fits[best].heldout.error) best = i;
        reference = fit;
        judged++;
    }
    return judged > 1 ? best : SIZE_MAX;
}

size_t analysis_shown(const struct analysis *analysis, size_t first)
{
    size_t best = analysis_best(analysis, first);
    for (size_t i = 0; best == SIZE_MAX && i < analysis->fit_count; i++) {
        const struct analysis_fit *fit = &analysis->fits[i];
        if (analysis_same_view(fit, &analysis->fits[first]) && fit->fitted && !fit->intervals.vague) best = i;
    }
    return best;
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

static int judge(struct analysis_fit *fit, const struct fit_data *fitted, const struct fit_data *unseen,
                 const struct fit_options *options, struct error *err)
{
    if (unseen->count) {
        heldout_cells(&fit->fit, fitted, unseen, &fit->heldout);
        return 0;
    }
    for (size_t levels = 3; levels >= 2; levels--) {
        if (heldout_levels(&fit->law, fitted, options, levels, &fit->heldout, err)) return -1;
        if (fit->heldout.kind != HELDOUT_NONE) break;
    }
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

static bool in_view(const struct analysis_fit *view, const struct observation *row)
{
    return !strcmp(row->method, view->method) && (isnan(view->pet_size) || row->pet_size == view->pet_size) &&
           (isnan(view->parameters) || row->parameters == view->parameters) &&
           (isnan(view->pretrain_tokens) || row->pretrain_tokens == view->pretrain_tokens);
}

/* Fill rows of a view: fitted ones first, then held-out ones. */
static int collect_rows(struct analysis_fit *fit, const struct observations *observations, struct error *err)
{
    fit->rows = calloc(observations->count + 1, sizeof *fit->rows);
    if (!fit->rows) return error_set(err, "out of memory for %zu points", observations->count);
    size_t count = 0;
    for (int held_out = 0; held_out < 2; held_out++)
        for (size_t i = 0; i < observations->count; i++)
            if (observations->rows[i].held_out == (held_out != 0) && in_view(fit, &observations->rows[i])) {
                fit->rows[count++] = i;
                if (held_out)
                    fit->heldout_count++;
                else
                    fit->fitted_count++;
            }
    return 0;
}

/* The joint laws keep the axes that vary: in a product two levels tell a power, in a sum of terms it takes three to
 * tell it from a constant. */
static struct law law_of_view(const struct law *law, struct analysis_fit *view, const struct fit_data *data)
{
    if (strncmp(law->name, "joint", 5)) return *law;
    bool varies[LAW_AXES];
    size_t needed = law->term_count > 2 ? 3 : 2;
    for (size_t axis = 0; axis < LAW_AXES; axis++) {
        size_t levels = fit_levels(data, (enum law_axis)axis);
        varies[axis] = levels >= needed;
        if (levels > 1 && !varies[axis]) view->ignored_axis = law_axis_name((enum law_axis)axis);
    }
    return law_restrict(law, varies);
}

static int add_fit(struct analysis *analysis, const struct analysis_fit *view, const char *law_name, struct error *err)
{
    const struct law *law = law_find(law_name, err);
    if (!law) return -1;
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

static bool suits(enum view_kind view, const char *law)
{
    bool joint = !strncmp(law, "joint", 5), single = !strcmp(law, "single") || !strcmp(law, "rectified");
    return view == VIEW_TABLE || (joint    ? view == VIEW_JOINT
                                  : single ? view == VIEW_EXAMPLES
                                           : view == VIEW_MODEL || view == VIEW_PRETRAIN);
}

/* The laws of a view: those that suit it, or the one that was asked for where it does. */
static int add_view(struct analysis *analysis, const struct analysis_fit *view, const char *asked, struct error *err)
{
    static const char *const of_view[VIEWS][2] = {{"multiplicative", "additive"},
                                                  {"multiplicative", "additive"},
                                                  {"joint", "joint_additive"},
                                                  {"single", NULL},
                                                  {"multiplicative", "additive"}};
    if (asked) return suits(view->view, asked) ? add_fit(analysis, view, asked, err) : 0;
    for (size_t i = 0; i < 2; i++)
        if (of_view[view->view][i] && add_fit(analysis, view, of_view[view->view][i], err)) return -1;
    return 0;
}

/* What views are chosen by: levels of one field among the fitted rows of a view. */
typedef double field_of(const struct observation *row);
static double field_parameters(const struct observation *row)
{
    return row->parameters;
}
static double field_pretrain(const struct observation *row)
{
    return row->pretrain_tokens;
}
static double field_pet(const struct observation *row)
{
    return row->pet_size;
}

static int compare_numbers(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Ascending levels of a field over the rows of a view; *levels is malloc'ed. Returns the count, 0 also out of memory.
 */
static size_t levels_of(const struct observations *observations, const struct analysis_fit *view, field_of *field,
                        double **levels)
{
    size_t count = 0;
    *levels = calloc(observations->count + 1, sizeof **levels);
    if (!*levels) return 0;
    for (size_t i = 0; i < observations->count; i++)
        if (in_view(view, &observations->rows[i])) (*levels)[count++] = field(&observations->rows[i]);
    qsort(*levels, count, sizeof **levels, compare_numbers);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (!i || (*levels)[i] != (*levels)[kept - 1]) (*levels)[kept++] = (*levels)[i];
    return kept;
}

/* The level at which most points can be fitted, the largest of several. */
static double fullest_level(const struct observations *observations, const struct analysis_fit *view, field_of *field)
{
    double *levels, best = NAN;
    size_t count = levels_of(observations, view, field, &levels), most = 0;
    for (size_t i = 0; i < count; i++) {
        size_t points = 0;
        for (size_t r = 0; r < observations->count; r++)
            points += !observations->rows[r].held_out && in_view(view, &observations->rows[r]) &&
                      field(&observations->rows[r]) == levels[i];
        if (points >= most) {
            most = points;
            best = levels[i];
        }
    }
    free(levels);
    return best;
}

static int add_examples_views(struct analysis *analysis, const struct analysis_fit *group, const char *asked,
                              struct error *err)
{
    int result = 0;
    double *models, *pretrains;
    struct analysis_fit view = *group;
    view.view = VIEW_EXAMPLES;
    size_t model_count = levels_of(&analysis->observations, group, field_parameters, &models);
    for (size_t m = 0; m < model_count && !result; m++) {
        view.parameters = models[m];
        view.pretrain_tokens = NAN;
        size_t pretrain_count = levels_of(&analysis->observations, &view, field_pretrain, &pretrains);
        for (size_t p = 0; p < pretrain_count && !result; p++) {
            view.pretrain_tokens = pretrains[p];
            result = add_view(analysis, &view, asked, err);
        }
        free(pretrains);
    }
    free(models);
    return result;
}

static size_t count_levels(const struct observations *observations, const struct analysis_fit *view, field_of *field)
{
    double *levels;
    size_t count = levels_of(observations, view, field, &levels);
    free(levels);
    return count;
}

/* The views of one method at one PET size. */
static int add_group(struct analysis *analysis, const struct analysis_fit *group, const char *asked, struct error *err)
{
    const struct observations *observations = &analysis->observations;
    struct analysis_fit view = *group;
    size_t models = count_levels(observations, group, field_parameters);
    size_t pretrains = count_levels(observations, group, field_pretrain);
    if (models > 1 || (asked && pretrains < 2)) {
        view.view = VIEW_MODEL;
        view.pretrain_tokens = fullest_level(observations, group, field_pretrain);
        if (add_view(analysis, &view, asked, err)) return -1;
    }
    if (pretrains > 1) {
        view = *group;
        view.view = VIEW_PRETRAIN;
        view.x_symbol = "P";
        view.parameters = fullest_level(observations, group, field_parameters);
        if (add_view(analysis, &view, asked, err)) return -1;
    }
    if ((asked && suits(VIEW_EXAMPLES, asked)) || (!asked && models < 2 && pretrains < 2))
        return add_examples_views(analysis, group, asked, err);
    return 0;
}

static void name_group(struct analysis_fit *group, double size)
{
    const char *unit = !strcmp(group->method, "lora") ? "rank" : !strcmp(group->method, "prompt") ? "length" : "size";
    group->pet_size = size;
    if (isnan(size))
        snprintf(group->group, sizeof group->group, "%s, all sizes", group->method);
    else if (size > 0)
        snprintf(group->group, sizeof group->group, "%s %s %g", group->method, unit, size);
    else
        snprintf(group->group, sizeof group->group, "%s", group->method);
}

static int add_method(struct analysis *analysis, const char *method, const char *asked, struct error *err)
{
    struct analysis_fit group = {.pet_size = NAN, .parameters = NAN, .pretrain_tokens = NAN, .x_symbol = "N"};
    snprintf(group.method, sizeof group.method, "%s", method);
    int result = 0;
    double *sizes;
    size_t size_count = levels_of(&analysis->observations, &group, field_pet, &sizes);
    size_t varying = (count_levels(&analysis->observations, &group, field_parameters) > 1) +
                     (count_levels(&analysis->observations, &group, field_pretrain) > 1) + (size_count > 1);
    for (size_t i = 0; i < size_count && !result; i++) {
        name_group(&group, sizes[i]);
        result = add_group(analysis, &group, asked, err);
    }
    if (!result && (varying > 1 || (asked && !strncmp(asked, "joint", 5)))) {
        name_group(&group, size_count > 1 ? NAN : sizes[0]);
        group.pet_size = NAN;
        group.view = VIEW_JOINT;
        result = add_view(analysis, &group, asked, err);
    }
    free(sizes);
    return result;
}

static bool first_of_method(const struct observations *observations, size_t i)
{
    for (size_t j = i; j-- > 0;) /* backwards: rows of a store are in order of methods */
        if (!strcmp(observations->rows[j].method, observations->rows[i].method)) return false;
    return true;
}

/* Check what the user asked for, before any work. */
static int check_options(const struct analysis_options *options, struct error *err)
{
    if (options->law && !law_find(options->law, err)) return -1;
    if (options->delta < 0 || isnan(options->delta))
        return error_set(err, "delta %g; allowed: above 0, or inf", options->delta);
    if (!(options->level > 0 && options->level < 1))
        return error_set(err, "level %g; allowed: between 0 and 1", options->level);
    return 0;
}

static void settle_options(struct analysis *out, const struct analysis_options *options)
{
    out->options = *options;
    out->options.law = out->options.x = NULL;
    if (out->options.delta == 0)
        out->options.delta = out->observations.huber_delta > 0 ? out->observations.huber_delta : 1e-3;
}

int fitting_fit_store(const char *path, const struct analysis_options *options, struct analysis *out, struct error *err)
{
    *out = (struct analysis){0};
    if (check_options(options, err) || observations_from_store(path, options->x, &out->observations, err)) return -1;
    settle_options(out, options);
    bool failed = false;
    for (size_t i = 0; i < out->observations.count && !failed; i++)
        if (first_of_method(&out->observations, i) &&
            add_method(out, out->observations.rows[i].method, options->law, err))
            failed = true;
    if (!failed && !options->law) failed = analysis_compare(out, err) != 0;
    if (failed) analysis_destroy(out);
    return failed ? -1 : 0;
}

int fitting_fit_table(const char *path, const char *columns, const struct analysis_options *options,
                      struct analysis *out, struct error *err)
{
    *out = (struct analysis){0};
    if (check_options(options, err) || observations_from_table(path, columns, &out->observations, err)) return -1;
    settle_options(out, options);
    for (size_t i = 0; i < out->observations.count; i++) {
        struct analysis_fit view = {
            .view = VIEW_TABLE, .pet_size = NAN, .parameters = NAN, .pretrain_tokens = NAN, .x_symbol = "X"};
        if (!first_of_method(&out->observations, i)) continue;
        snprintf(view.method, sizeof view.method, "%s", out->observations.rows[i].method);
        snprintf(view.group, sizeof view.group, "%s", view.method);
        if (add_view(out, &view, options->law, err)) {
            analysis_destroy(out);
            return -1;
        }
    }
    return 0;
}

void analysis_destroy(struct analysis *analysis)
{
    if (!analysis) return;
    for (size_t i = 0; i < analysis->fit_count; i++) {
        free(analysis->fits[i].rows);
        free(analysis->fits[i].intervals.samples);
    }
    free(analysis->staged);
    free(analysis->crossings);
    free(analysis->fits);
    observations_destroy(&analysis->observations);
    *analysis = (struct analysis){0};
}
