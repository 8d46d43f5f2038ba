/* Fitting: the plots of one view: its points, the law through them with its band, what the law leaves. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fitting/report/html.h"
#include "fitting/report/plots_internal.h"

enum { CURVE = 48 };

/* A view that is drawn, and what of it. */
struct drawn {
    const struct analysis_fit *fit;
    size_t index; /* of the fit */
    size_t axis, fixed;
    struct levels curves, marks; /* of `fixed`, thinned, and of `axis` */
    size_t all_curves;
};

static const struct observation *row_of(const struct plot_place *place, const struct analysis_fit *fit, size_t i)
{
    return &place->analysis->observations.rows[fit->rows[i]];
}

static int levels_of(const struct plot_place *place, const struct analysis_fit *fit, size_t axis, struct levels *out)
{
    out->count = fit->fitted_count + fit->heldout_count;
    out->at = calloc(out->count + 1, sizeof *out->at);
    for (size_t i = 0; out->at && i < out->count; i++) {
        double x[LAW_AXES];
        analysis_axes(fit, row_of(place, fit, i), x);
        out->at[i] = x[axis];
    }
    return levels_sort(out) ? error_set(place->err, "out of memory for a plot") : 0;
}

static const char *axis_label(const struct analysis_fit *fit, size_t axis)
{
    return axis == LAW_D                ? "finetuning examples"
           : fit->view == VIEW_PRETRAIN ? "pretraining tokens"
           : fit->view == VIEW_PET      ? "size of the method"
                                        : "model size (parameters)";
}

/* Where the points of a level lie on the axis. */
static bool extent_of(const struct plot_place *place, const struct drawn *drawn, double level, double extent[2])
{
    extent[0] = INFINITY;
    extent[1] = 0;
    for (size_t i = 0; i < drawn->fit->fitted_count + drawn->fit->heldout_count; i++) {
        double x[LAW_AXES];
        analysis_axes(drawn->fit, row_of(place, drawn->fit, i), x);
        if (x[drawn->fixed] != level) continue;
        extent[0] = fmin(extent[0], x[drawn->axis]);
        extent[1] = fmax(extent[1], x[drawn->axis]);
    }
    return extent[0] < INFINITY;
}

/* The law at one level, as a line or as a band. */
static void add_curve(struct canvas *canvas, const struct drawn *drawn, double level, bool band)
{
    const struct plot_place *place = canvas->place;
    double x[LAW_AXES], extent[2];
    if (!extent_of(place, drawn, level, extent)) return;
    analysis_axes(drawn->fit, row_of(place, drawn->fit, 0), x);
    x[drawn->fixed] = level;
    double low = log(extent[0] / 1.15), high = log(extent[1] * 1.15);
    for (size_t i = 0; i < CURVE; i++) {
        x[drawn->axis] = exp(low + (double)i / (CURVE - 1) * (high - low));
        double value[3] = {x[drawn->axis], law_value(&drawn->fit->law, drawn->fit->fit.theta, x)};
        if (!band || plot_band(place->analysis, drawn->fit, x, value + 1)) canvas_add(canvas, value);
    }
}

/* Fitted points of one level, or the held-out ones. */
static void add_points(struct canvas *canvas, const struct drawn *drawn, double level, bool held_out, bool residual)
{
    const struct analysis_fit *fit = drawn->fit;
    size_t first = held_out ? fit->fitted_count : 0, end = fit->fitted_count + (held_out ? fit->heldout_count : 0);
    for (size_t i = first; i < end; i++) {
        const struct observation *row = row_of(canvas->place, fit, i);
        double x[LAW_AXES];
        analysis_axes(fit, row, x);
        if (x[drawn->fixed] != level) continue;
        double predicted = residual ? law_value(&fit->law, fit->fit.theta, x) : 0;
        const double value[2] = {residual ? predicted : x[drawn->axis], row->loss - predicted};
        canvas_add(canvas, value);
    }
}

static void draw_points(struct canvas *canvas, const struct drawn *drawn, bool residual)
{
    for (size_t k = 0; k < drawn->curves.count; k++) {
        size_t colour = figure_ramp(k, drawn->curves.count);
        char title[32];
        const char *name = html_count_short(drawn->curves.at[k], title, sizeof title);
        for (int held_out = 0; held_out < 2; held_out++) {
            canvas_begin(canvas, held_out ? FIGURE_HOLLOW : FIGURE_POINTS);
            add_points(canvas, drawn, drawn->curves.at[k], held_out != 0, residual);
            bool any = canvas->count > 0;
            canvas_draw(canvas, colour, k, name);
            if (any) name = NULL; /* a level of held-out points alone has the hollow mark in the legend */
        }
    }
}

static void draw_law(struct canvas *canvas, const struct drawn *drawn)
{
    for (int line = 0; drawn->fit->fitted && line < 2; line++)
        for (size_t k = 0; k < drawn->curves.count; k++) {
            canvas_begin(canvas, line ? FIGURE_LINE : FIGURE_BAND);
            add_curve(canvas, drawn, drawn->curves.at[k], !line);
            canvas_draw(canvas, figure_ramp(k, drawn->curves.count), k, NULL);
        }
}

static void describe(const struct plot_place *place, const struct drawn *drawn, bool residual, struct plot *plot)
{
    const struct analysis_fit *fit = drawn->fit;
    char count[32];
    size_t size = sizeof plot->title;
    plot->fit = drawn->index;
    snprintf(plot->title, size, "%.150s: %s", fit->group,
             residual                     ? "what the law leaves"
             : drawn->axis == LAW_D       ? "loss against examples"
             : fit->view == VIEW_PRETRAIN ? "loss against pretraining"
             : fit->view == VIEW_PET      ? "loss against the method's size"
                                          : "loss against model size");
    char *text = plot->caption;
    size = sizeof plot->caption;
    int used = 0;
    if (!isnan(fit->parameters))
        used += snprintf(text, size, "Model size %s. ", html_count(fit->parameters, count, sizeof count));
    if (!isnan(fit->pretrain_tokens))
        used += snprintf(text + used, size - (size_t)used, "%s pretraining tokens. ",
                         html_count(fit->pretrain_tokens, count, sizeof count));
    if (!fit->fitted)
        used += snprintf(text + used, size - (size_t)used, "No law: no exponent is identified, or too few points.");
    else
        used += snprintf(text + used, size - (size_t)used, "Law: %s%s", fit->law.name,
                         residual                  ? "; observed minus predicted loss."
                         : !fit->intervals.samples ? "."
                                                   : "");
    if (fit->fitted && !residual && fit->intervals.samples)
        used +=
            snprintf(text + used, size - (size_t)used, ", with its %g %% band.", 100 * place->analysis->options.level);
    if (fit->heldout_count) used += snprintf(text + used, size - (size_t)used, " Hollow: held out.");
    if (drawn->all_curves > drawn->curves.count)
        snprintf(text + used, size - (size_t)used, " %zu of %zu levels are drawn.", drawn->curves.count,
                 drawn->all_curves);
}

/* Where the predictions of a law lie, with a margin. */
static void extent_of_predictions(const struct plot_place *place, const struct analysis_fit *fit, double extent[2])
{
    extent[0] = INFINITY;
    extent[1] = -INFINITY;
    for (size_t i = 0; i < fit->fitted_count + fit->heldout_count; i++) {
        double predicted = analysis_predict(fit, row_of(place, fit, i));
        extent[0] = fmin(extent[0], predicted);
        extent[1] = fmax(extent[1], predicted);
    }
    double margin = fmax(0.04 * (extent[1] - extent[0]), 1e-6 * fabs(extent[1]));
    extent[0] -= margin;
    extent[1] += margin;
}

static int draw(struct plot_place *place, const struct drawn *drawn, enum plot_kind kind)
{
    bool residual = kind == PLOT_RESIDUALS;
    double extent[2] = {0, 0}, marks[FIGURE_TICKS];
    if (residual) extent_of_predictions(place, drawn->fit, extent);
    char loss[64], predicted[96];
    snprintf(predicted, sizeof predicted, "predicted %s", plot_loss_label(place->analysis, loss, sizeof loss));
    const struct figure_axes axes = {
        .levels = residual ? marks : drawn->marks.at,
        .level_count = residual ? figure_marks(extent[0], extent[1], marks) : drawn->marks.count,
        .range = {extent[0], extent[1]},
        .x = residual ? predicted : axis_label(drawn->fit, drawn->axis),
        .y = residual ? "observed - predicted" : plot_loss_label(place->analysis, loss, sizeof loss),
        .key = axis_label(drawn->fit, drawn->fixed),
        .log_x = !residual,
        .zero_line = residual,
    };
    struct canvas canvas;
    struct plot *plot = canvas_open(&canvas, place, kind, &axes);
    if (!plot) return -1;
    describe(place, drawn, residual, plot);
    if (!residual) draw_law(&canvas, drawn);
    draw_points(&canvas, drawn, residual);
    return canvas_close(&canvas);
}

/* One figure of a view: `over`: the axis that is drawn. */
static int draw_view(struct plot_place *place, const struct analysis_fit *fit, size_t index, enum plot_kind kind)
{
    struct drawn drawn = {.fit = fit,
                          .index = index,
                          .axis = kind == PLOT_SIZE ? LAW_X : LAW_D,
                          .fixed = kind == PLOT_SIZE ? LAW_D : LAW_X};
    int result = levels_of(place, fit, drawn.fixed, &drawn.curves);
    if (!result) result = levels_of(place, fit, drawn.axis, &drawn.marks);
    if (!result) {
        drawn.all_curves = drawn.curves.count;
        levels_thin(&drawn.curves, PLOT_LEVELS);
        result = draw(place, &drawn, kind);
    }
    free(drawn.curves.at);
    free(drawn.marks.at);
    return result;
}

/* The figures of one view: `index` is the view's first fit. */
static int plot_view(struct plot_place *place, size_t index)
{
    const struct analysis *analysis = place->analysis;
    size_t shown = analysis_shown(analysis, index);
    struct analysis_fit bare = analysis->fits[index]; /* no law to draw: the points alone */
    bare.fitted = false;
    const struct analysis_fit *fit = shown == SIZE_MAX ? &bare : &analysis->fits[shown];
    if (fit->view != VIEW_JOINT && draw_view(place, fit, index, PLOT_EXAMPLES)) return -1;
    if (fit->view != VIEW_JOINT && fit->view != VIEW_EXAMPLES && draw_view(place, fit, index, PLOT_SIZE)) return -1;
    return fit->fitted && fit->view != VIEW_EXAMPLES ? draw_view(place, fit, index, PLOT_RESIDUALS) : 0;
}

static bool first_of_view(const struct analysis *analysis, size_t i)
{
    return i == 0 || !analysis_same_view(&analysis->fits[i - 1], &analysis->fits[i]);
}

static int more_points(const void *a, const void *b)
{
    size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return (x < y) - (x > y);
}

/* The fewest points that a view must have to be one of the PLOT_VIEWS that are drawn. */
static size_t least_points(const struct analysis *analysis, struct plots *plots)
{
    size_t *points = calloc(analysis->fit_count + 1, sizeof *points), least = 0;
    for (size_t i = 0; i < analysis->fit_count; i++)
        if (points && first_of_view(analysis, i))
            points[plots->views++] = analysis->fits[i].fitted_count + analysis->fits[i].heldout_count;
    if (points && plots->views > PLOT_VIEWS) {
        qsort(points, plots->views, sizeof *points, more_points);
        least = points[PLOT_VIEWS - 1];
    }
    free(points);
    return least;
}

int plot_views(struct plot_place *place)
{
    const struct analysis *analysis = place->analysis;
    size_t least = least_points(analysis, place->plots);
    for (size_t i = 0; i < analysis->fit_count && place->plots->views_drawn < PLOT_VIEWS; i++) {
        const struct analysis_fit *fit = &analysis->fits[i];
        if (!first_of_view(analysis, i) || fit->fitted_count + fit->heldout_count < least) continue;
        if (plot_view(place, i)) return -1;
        place->plots->views_drawn++;
    }
    return 0;
}
