/* Fitting: from the analysis to the series of the report's figures. */
#include "fitting/plots.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fitting/figure.h"
#include "fitting/html.h"

enum { CURVE = 60, LEVELS = 24 };

static bool holds(const struct analysis_fit *fit, size_t row)
{
    for (size_t i = 0; i < fit->fitted_count + fit->heldout_count; i++)
        if (fit->rows[i] == row) return true;
    return false;
}

size_t plots_predicting_fit(const struct analysis *analysis, size_t row)
{
    static const enum view_kind order[] = {VIEW_JOINT, VIEW_MODEL, VIEW_PRETRAIN, VIEW_EXAMPLES, VIEW_TABLE};
    for (size_t k = 0; k < VIEWS; k++)
        for (size_t i = 0; i < analysis->fit_count; i++)
            if (analysis->fits[i].view == order[k] && analysis->fits[i].fitted && holds(&analysis->fits[i], row))
                return analysis_shown(analysis, i);
    return SIZE_MAX;
}

void plots_destroy(struct plots *plots)
{
    free(plots->items);
    *plots = (struct plots){0};
}

/* Points of a series; room for every row. */
struct points {
    double (*at)[2];
    size_t count;
};

static void add_point(struct points *points, double x, double y)
{
    points->at[points->count][0] = x;
    points->at[points->count++][1] = y;
}

static struct plot *new_plot(struct plots *plots, enum plot_kind kind, struct error *err)
{
    struct plot *items = realloc(plots->items, (plots->count + 1) * sizeof *items);
    if (!items) {
        error_set(err, "out of memory for the plots");
        return NULL;
    }
    static const char *const names[] = {"examples", "size", "residuals", "methods"};
    plots->items = items;
    struct plot *plot = &items[plots->count++];
    *plot = (struct plot){.kind = kind};
    snprintf(plot->name, sizeof plot->name, "%s-%zu", names[kind], plots->count);
    return plot;
}

static int finish(struct plots *plots, struct figure *figure, struct points *points, struct error *err)
{
    size_t series;
    free(points->at);
    if (figure_close(figure, &series, err)) return -1;
    if (!series) plots->count--; /* a figure without points is not drawn */
    return 0;
}

/* Put a value into an ascending list without doubles, of at most LEVELS. */
static void add_level_value(double levels[LEVELS], size_t *count, double value)
{
    size_t place = 0;
    while (place < *count && levels[place] < value)
        place++;
    if ((place < *count && levels[place] == value) || *count == LEVELS) return;
    memmove(&levels[place + 1], &levels[place], (*count - place) * sizeof *levels);
    levels[place] = value;
    (*count)++;
}

/* Values of one axis among the rows of a fit, ascending, at most LEVELS. */
static size_t levels_of(const struct analysis *analysis, const struct analysis_fit *fit, size_t axis,
                        double levels[LEVELS])
{
    size_t count = 0;
    for (size_t i = 0; i < fit->fitted_count + fit->heldout_count; i++) {
        double x[LAW_AXES];
        analysis_axes(fit, &analysis->observations.rows[fit->rows[i]], x);
        add_level_value(levels, &count, x[axis]);
    }
    return count;
}

/* Points of a fit at one level of `fixed`, drawn over `axis`: fitted ones full, held-out ones hollow, and the law's
 * curve. */
static void add_level(struct figure *figure, const struct analysis *analysis, const struct analysis_fit *fit,
                      size_t axis, size_t fixed, double level, size_t colour, struct points *points)
{
    char title[32];
    double low = INFINITY, high = 0, x[LAW_AXES];
    html_count(level, title, sizeof title);
    for (int held_out = 0; held_out < 2; held_out++) {
        size_t first = held_out ? fit->fitted_count : 0, end = fit->fitted_count + (held_out ? fit->heldout_count : 0);
        points->count = 0;
        for (size_t i = first; i < end; i++) {
            const struct observation *row = &analysis->observations.rows[fit->rows[i]];
            analysis_axes(fit, row, x);
            if (x[fixed] != level) continue;
            add_point(points, x[axis], row->loss);
            low = fmin(low, x[axis]);
            high = fmax(high, x[axis]);
        }
        /* a level of held-out points alone has the hollow mark in the legend */
        figure_series(figure, held_out ? FIGURE_HOLLOW : FIGURE_POINTS, colour,
                      low < INFINITY && !(held_out && fit->fitted_count) ? title : NULL, points->at, points->count);
    }
    if (!fit->fitted || !(low < INFINITY)) return;
    double curve[CURVE][2];
    analysis_axes(fit, &analysis->observations.rows[fit->rows[0]], x);
    x[fixed] = level;
    for (size_t i = 0; i < CURVE; i++) {
        curve[i][0] = x[axis] = exp(log(low / 1.15) + (double)i / (CURVE - 1) * log(1.3225 * high / low));
        curve[i][1] = law_value(&fit->law, fit->fit.theta, x);
    }
    figure_series(figure, FIGURE_LINE, colour, NULL, (const double(*)[2])curve, CURVE);
}

static void describe_view(const struct analysis_fit *fit, char *out, size_t size)
{
    char count[32];
    snprintf(out, size, "%s", fit->group);
    if (!isnan(fit->parameters)) {
        size_t used = strlen(out);
        snprintf(out + used, size - used, ", model size %s", html_count(fit->parameters, count, sizeof count));
    }
    if (!isnan(fit->pretrain_tokens)) {
        size_t used = strlen(out);
        snprintf(out + used, size - used, ", %s pretraining tokens",
                 html_count(fit->pretrain_tokens, count, sizeof count));
    }
}

static const char *x_label(const struct analysis_fit *fit)
{
    return fit->view == VIEW_PRETRAIN ? "pretraining tokens" : "model size (parameters)";
}

/* Loss over examples with one colour a level of X, or over X with one colour a number of examples. */
static int plot_view(const struct analysis *analysis, const struct analysis_fit *fit, enum plot_kind kind,
                     const char *folder, struct plots *plots, struct error *err)
{
    bool over_examples = kind == PLOT_EXAMPLES;
    size_t axis = over_examples ? LAW_D : LAW_X, fixed = over_examples ? LAW_X : LAW_D;
    struct plot *plot = new_plot(plots, kind, err);
    if (!plot) return -1;
    char view[256];
    describe_view(fit, view, sizeof view);
    snprintf(plot->caption, sizeof plot->caption, "%s: loss against %s%s%s", view,
             over_examples ? "finetuning examples" : x_label(fit), fit->fitted ? "; curves: " : "; no law fitted",
             fit->fitted ? fit->law.name : "");
    double levels[LEVELS], marks[LEVELS];
    size_t count = levels_of(analysis, fit, fixed, levels), mark_count = levels_of(analysis, fit, axis, marks);
    const struct figure_axes axes = {.levels = marks,
                                     .level_count = mark_count,
                                     .x = over_examples ? "finetuning examples" : x_label(fit),
                                     .y = "test loss (nats per target token)",
                                     .key = over_examples ? x_label(fit) : "finetuning examples",
                                     .log_x = true};
    struct points points = {.at = calloc(analysis->observations.count + 1, sizeof *points.at)};
    struct figure *figure = points.at ? figure_create(folder, plot->name, &axes, err) : NULL;
    if (!figure) {
        free(points.at);
        return -1;
    }
    for (size_t i = 0; i < count; i++)
        add_level(figure, analysis, fit, axis, fixed, levels[i], i, &points);
    return finish(plots, figure, &points, err);
}

/* Observed minus predicted over the loss, of the widest view of a method. */
static int plot_residuals(const struct analysis *analysis, const struct analysis_fit *fit, const char *folder,
                          struct plots *plots, struct error *err)
{
    struct plot *plot = new_plot(plots, PLOT_RESIDUALS, err);
    if (!plot) return -1;
    char view[256];
    describe_view(fit, view, sizeof view);
    snprintf(plot->caption, sizeof plot->caption, "%s: residuals of the %s law; hollow: held out", view, fit->law.name);
    const struct figure_axes axes = {.x = "predicted loss (nats per target token)",
                                     .y = "observed - predicted",
                                     .key =
                                         fit->view == VIEW_PRETRAIN ? "pretraining tokens" : "model size (parameters)",
                                     .zero_line = true};
    struct points points = {.at = calloc(analysis->observations.count + 1, sizeof *points.at)};
    struct figure *figure = points.at ? figure_create(folder, plot->name, &axes, err) : NULL;
    if (!figure) {
        free(points.at);
        return -1;
    }
    double levels[LEVELS];
    size_t count = levels_of(analysis, fit, LAW_X, levels), all = fit->fitted_count + fit->heldout_count;
    for (size_t k = 0; k < count; k++)
        for (int held_out = 0; held_out < 2; held_out++) {
            char title[32];
            points.count = 0;
            for (size_t i = held_out ? fit->fitted_count : 0; i < (held_out ? all : fit->fitted_count); i++) {
                const struct observation *row = &analysis->observations.rows[fit->rows[i]];
                double x[LAW_AXES], predicted = analysis_predict(fit, row);
                analysis_axes(fit, row, x);
                if (x[LAW_X] == levels[k]) add_point(&points, predicted, row->loss - predicted);
            }
            figure_series(figure, held_out ? FIGURE_HOLLOW : FIGURE_POINTS, k,
                          held_out ? NULL : html_count(levels[k], title, sizeof title), (const double(*)[2])points.at,
                          points.count);
        }
    return finish(plots, figure, &points, err);
}

/* All methods at the largest model and pretraining count of the whole sweep. */
static int plot_methods(const struct analysis *analysis, const char *folder, struct plots *plots, struct error *err)
{
    const struct observations *observations = &analysis->observations;
    double model = 0, pretrain = 0;
    for (size_t i = 0; i < observations->count; i++)
        model = fmax(model, observations->rows[i].parameters);
    for (size_t i = 0; i < observations->count; i++)
        if (observations->rows[i].parameters == model) pretrain = fmax(pretrain, observations->rows[i].pretrain_tokens);
    double marks[LEVELS];
    size_t mark_count = 0;
    for (size_t i = 0; i < observations->count; i++)
        if (observations->rows[i].parameters == model && observations->rows[i].pretrain_tokens == pretrain)
            add_level_value(marks, &mark_count, observations->rows[i].examples);
    struct plot *plot = new_plot(plots, PLOT_METHODS, err);
    if (!plot) return -1;
    char count[2][32];
    snprintf(plot->caption, sizeof plot->caption, "methods compared at model size %s and %s pretraining tokens",
             html_count(model, count[0], sizeof count[0]), html_count(pretrain, count[1], sizeof count[1]));
    const struct figure_axes axes = {.levels = marks,
                                     .level_count = mark_count,
                                     .x = "finetuning examples",
                                     .y = "test loss (nats per target token)",
                                     .key = "",
                                     .log_x = true};
    struct points points = {.at = calloc(observations->count + 1, sizeof *points.at)};
    struct figure *figure = points.at ? figure_create(folder, plot->name, &axes, err) : NULL;
    if (!figure) {
        free(points.at);
        return -1;
    }
    size_t colour = 0;
    for (size_t first = 0, end; first < observations->count;
         first = end) { /* rows are in order of method and PET size */
        const struct observation *group = &observations->rows[first];
        char title[OBSERVATION_NAME + 32];
        points.count = 0;
        for (end = first; end < observations->count && !strcmp(observations->rows[end].method, group->method) &&
                          observations->rows[end].pet_size == group->pet_size;
             end++)
            if (observations->rows[end].parameters == model && observations->rows[end].pretrain_tokens == pretrain)
                add_point(&points, observations->rows[end].examples, observations->rows[end].loss);
        snprintf(title, sizeof title, group->pet_size > 0 ? "%s %g" : "%s", group->method, group->pet_size);
        figure_series(figure, FIGURE_DASHED, colour, NULL, (const double(*)[2])points.at, points.count);
        figure_series(figure, FIGURE_POINTS, colour++, title, (const double(*)[2])points.at, points.count);
    }
    return finish(plots, figure, &points, err);
}

/* The figures of one view: `index` is the view's first fit. */
static int plot_fit(const struct analysis *analysis, size_t index, const char *folder, struct plots *plots,
                    struct error *err)
{
    size_t shown = analysis_shown(analysis, index);
    struct analysis_fit bare = analysis->fits[index]; /* no law to draw: the points alone */
    bare.fitted = false;
    const struct analysis_fit *fit = shown == SIZE_MAX ? &bare : &analysis->fits[shown];
    if (fit->view == VIEW_JOINT) return fit->fitted ? plot_residuals(analysis, fit, folder, plots, err) : 0;
    if (plot_view(analysis, fit, PLOT_EXAMPLES, folder, plots, err)) return -1;
    if (fit->view == VIEW_EXAMPLES) return 0;
    if (plot_view(analysis, fit, PLOT_SIZE, folder, plots, err)) return -1;
    return fit->fitted ? plot_residuals(analysis, fit, folder, plots, err) : 0;
}

int plots_make(const struct analysis *analysis, const char *folder, struct plots *out, struct error *err)
{
    *out = (struct plots){0};
    int result = 0;
    for (size_t i = 0; i < analysis->fit_count && !result; i++)
        if (!i || !analysis_same_view(&analysis->fits[i - 1], &analysis->fits[i]))
            result = plot_fit(analysis, i, folder, out, err);
    if (!result && analysis->observations.count) result = plot_methods(analysis, folder, out, err);
    char(*names)[32] = calloc(out->count + 1, sizeof *names);
    if (!result && !names) result = error_set(err, "out of memory for %zu plots", out->count);
    for (size_t i = 0; !result && i < out->count; i++)
        memcpy(names[i], out->items[i].name, sizeof names[i]);
    if (!result) result = figures_draw(folder, (const char(*)[32])names, out->count, err);
    free(names);
    if (result) plots_destroy(out);
    return result;
}
