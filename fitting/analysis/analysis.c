/* Fitting, the whole: observations in, for every view the fits of its laws with intervals and held-out errors. */
#include "fitting/analysis/analysis.h"
#include "fitting/analysis/analysis_internal.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *view_name(enum view_kind view)
{
    static const char *const names[VIEWS] = {"model", "pretrain", "joint", "examples", "table", "pet"};
    return names[view];
}

const char *cluster_name(enum cluster_kind kind)
{
    static const char *const names[CLUSTERS] = {"trunks", "seeds", "points", "runs"};
    return names[kind];
}

enum cluster_kind cluster_find(const char *name)
{
    size_t kind = 0;
    while (kind < CLUSTERS && strcmp(name, cluster_name((enum cluster_kind)kind)))
        kind++;
    return (enum cluster_kind)kind;
}

/* The first row that differs from this one in its examples alone. */
static size_t first_of_run(const struct observations *all, const struct observation *row)
{
    size_t i = 0;
    for (const struct observation *r = all->rows; r < row; r++, i++)
        if (r->seed == row->seed && r->pretrain_tokens == row->pretrain_tokens && r->pet_size == row->pet_size &&
            r->learning_rate == row->learning_rate && !strcmp(r->model, row->model) &&
            !strcmp(r->method, row->method) && !strcmp(r->task, row->task))
            break;
    return i;
}

size_t analysis_cluster(const struct analysis *analysis, const struct observation *row)
{
    switch (analysis->options.resample) {
    case CLUSTER_SEEDS:
        return (size_t)row->seed;
    case CLUSTER_RUNS:
        return first_of_run(&analysis->observations, row);
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
    x[LAW_X] = fit->view == VIEW_PRETRAIN ? row->pretrain_tokens
               : fit->view == VIEW_PET    ? row->pet_size
                                          : row->parameters;
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
    return a->view == b->view && analysis_of_method(a, b->task, b->method);
}

bool analysis_of_method(const struct analysis_fit *fit, const char *task, const char *method)
{
    return !strcmp(fit->task, task) && !strcmp(fit->method, method);
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

static bool first_of_method(const struct observations *observations, size_t i)
{
    const struct observation *rows = observations->rows;
    for (size_t j = i; j-- > 0;) /* backwards: rows of a store are in order of tasks and methods */
        if (!strcmp(rows[j].task, rows[i].task) && !strcmp(rows[j].method, rows[i].method)) return false;
    return true;
}

/* Check what the user asked for, before any work. */
static int check_options(const struct analysis_options *options, struct error *err)
{
    if (options->delta < 0 || isnan(options->delta))
        return error_set(err, "delta %g; allowed: above 0, or inf", options->delta);
    if (!(options->level > 0 && options->level < 1))
        return error_set(err, "level %g; allowed: between 0 and 1", options->level);
    return 0;
}

/* The law that was asked for: *law NULL for none. */
static int find_law(const struct analysis *analysis, const struct analysis_options *options, const struct law **law,
                    struct error *err)
{
    const struct fit_settings *settings = &analysis->observations.settings;
    *law = options->user ? &options->user->law : NULL;
    for (size_t i = 0; options->law && i < settings->law_count; i++)
        if (!strcmp(settings->laws[i]->name, options->law)) *law = &settings->laws[i]->law;
    if (*law && options->no_offset)
        return error_set(err,
                         "no-offset: the law %s is an expression, and E stays in it; allowed: laws of the table, or "
                         "the expression written without its offset",
                         (*law)->name);
    if (!options->law || *law) return 0;
    struct error unknown = {""};
    *law = law_find(options->law, &unknown);
    if (*law) return 0;
    size_t used = strlen(unknown.text);
    for (size_t i = 0; i < settings->law_count && used < sizeof unknown.text - 64; i++)
        used += (size_t)snprintf(unknown.text + used, sizeof unknown.text - used, ", %s", settings->laws[i]->name);
    return error_set(err, "%s", unknown.text);
}

static void settle_options(struct analysis *out, const struct analysis_options *options)
{
    out->options = *options;
    out->options.law = out->options.x = out->options.seeds = out->options.metric = NULL;
    out->options.user = NULL;
    if (!out->options.resamples && out->options.intervals == INTERVAL_BOTH) /* of both there is one */
        out->options.intervals = INTERVAL_PROFILE;
    if (out->options.delta == 0) out->options.delta = out->observations.settings.huber_delta;
}

static int fit_methods(struct analysis *out, const struct law *law, bool table, struct error *err)
{
    for (size_t i = 0; i < out->observations.count; i++) {
        const struct observation *row = &out->observations.rows[i];
        struct analysis_fit view = {
            .view = VIEW_TABLE, .pet_size = NAN, .parameters = NAN, .pretrain_tokens = NAN, .x_symbol = "X"};
        if (!first_of_method(&out->observations, i)) continue;
        snprintf(view.method, sizeof view.method, "%s", row->method);
        snprintf(view.group, sizeof view.group, "%s", row->method);
        if (table ? analysis_add_view(out, &view, law, err) : analysis_add_method(out, row, law, err)) return -1;
    }
    return 0;
}

int fitting_fit_store(const char *path, const struct analysis_options *options, struct analysis *out, struct error *err)
{
    const struct observation_options how = {.x = options->x, .seeds = options->seeds, .metric = options->metric};
    const struct law *law;
    *out = (struct analysis){0};
    if (check_options(options, err) || observations_from_store(path, &how, &out->observations, err)) return -1;
    settle_options(out, options);
    bool failed = find_law(out, options, &law, err) || fit_methods(out, law, false, err);
    if (!failed && !law) failed = analysis_compare(out, err) != 0;
    if (!failed) failed = analysis_warn(out, err) != 0;
    if (failed) analysis_destroy(out);
    return failed ? -1 : 0;
}

int fitting_fit_table(const char *path, const char *columns, const struct analysis_options *options,
                      struct analysis *out, struct error *err)
{
    const struct law *law;
    *out = (struct analysis){0};
    if (check_options(options, err) || observations_from_table(path, columns, &out->observations, err)) return -1;
    settle_options(out, options);
    bool failed = find_law(out, options, &law, err) || fit_methods(out, law, true, err) || analysis_warn(out, err);
    if (failed) analysis_destroy(out);
    return failed ? -1 : 0;
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
    free(analysis->warnings);
    free(analysis->fits);
    observations_destroy(&analysis->observations);
    *analysis = (struct analysis){0};
}
