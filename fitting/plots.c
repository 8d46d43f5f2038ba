/* Fitting: from the analysis to the report's figures: the list of them, and what all of them are filled with. */
#include "fitting/plots.h"

#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fitting/html.h"
#include "fitting/plots_internal.h"
#include "fitting/sorted.h"

size_t *plots_predicting_fits(const struct analysis *analysis, struct error *err)
{
    static const enum view_kind order[] = {VIEW_JOINT, VIEW_MODEL, VIEW_PRETRAIN, VIEW_EXAMPLES, VIEW_TABLE};
    size_t *fits = malloc((analysis->observations.count + 1) * sizeof *fits);
    if (!fits) {
        error_set(err, "out of memory for %zu points", analysis->observations.count);
        return NULL;
    }
    for (size_t i = 0; i < analysis->observations.count; i++)
        fits[i] = SIZE_MAX;
    for (size_t k = 0; k < sizeof order / sizeof *order; k++)
        for (size_t f = 0; f < analysis->fit_count; f++) {
            const struct analysis_fit *fit = &analysis->fits[f];
            if (fit->view != order[k] || !fit->fitted) continue;
            size_t shown = analysis_shown(analysis, f);
            for (size_t i = 0; shown != SIZE_MAX && i < fit->fitted_count + fit->heldout_count; i++)
                if (fits[fit->rows[i]] == SIZE_MAX) fits[fit->rows[i]] = shown;
        }
    return fits;
}

void plots_destroy(struct plots *plots)
{
    free(plots->items);
    *plots = (struct plots){0};
}

struct plot *canvas_open(struct canvas *canvas, struct plot_place *place, enum plot_kind kind,
                         const struct figure_axes *axes)
{
    static const char *const names[PLOT_KINDS] = {
        [PLOT_EXAMPLES] = "examples",     [PLOT_SIZE] = "size",     [PLOT_RESIDUALS] = "residuals",
        [PLOT_METHODS] = "methods",       [PLOT_POWERS] = "powers", [PLOT_MAP] = "map",
        [PLOT_FORGETTING] = "forgetting", [PLOT_TEXTS] = "texts",   [PLOT_COST] = "cost",
        [PLOT_CURVES] = "curves"};
    assert(names[kind]); /* a kind that was added */
    struct plots *plots = place->plots;
    struct plot *items = realloc(plots->items, (plots->count + 1) * sizeof *items);
    *canvas = (struct canvas){.place = place};
    if (!items) {
        error_set(place->err, "out of memory for the plots");
        return NULL;
    }
    plots->items = items;
    struct plot *plot = &items[plots->count];
    *plot = (struct plot){.kind = kind, .fit = SIZE_MAX};
    snprintf(plot->name, sizeof plot->name, "%s-%zu", names[kind], plots->count + 1);
    canvas->figure = figure_create(place->folder, plot->name, axes, place->err);
    if (!canvas->figure) return NULL;
    plots->count++;
    return plot;
}

void canvas_begin(struct canvas *canvas, enum figure_style style)
{
    canvas->style = style;
    canvas->count = 0;
}

void canvas_add(struct canvas *canvas, const double *value)
{
    size_t columns = figure_columns(canvas->style);
    if (canvas->count + columns > canvas->room) {
        size_t room = canvas->room ? 2 * canvas->room : 256;
        double *values = realloc(canvas->values, room * sizeof *values);
        if (!values) {
            canvas->failed = true;
            return;
        }
        canvas->values = values;
        canvas->room = room;
    }
    for (size_t i = 0; i < columns; i++) {
        if (!isfinite(value[i])) return; /* what is not a number has no place */
        canvas->values[canvas->count + i] = value[i];
    }
    canvas->count += columns;
}

void canvas_draw(struct canvas *canvas, size_t colour, size_t shape, const char *title)
{
    size_t columns = figure_columns(canvas->style), count = canvas->count / columns, kept = count;
    if (canvas->style == FIGURE_POINTS || canvas->style == FIGURE_HOLLOW) {
        if (count > PLOT_POINTS) {
            kept = PLOT_POINTS;
            for (size_t i = 0; i < kept; i++)
                memmove(canvas->values + i * columns, canvas->values + i * (count - 1) / (kept - 1) * columns,
                        columns * sizeof *canvas->values);
        }
        canvas->hidden += count - kept;
        canvas->seen += count;
    }
    figure_series(canvas->figure, canvas->style, colour, shape, title, canvas->values, kept);
    canvas->count = 0;
}

int canvas_close(struct canvas *canvas)
{
    size_t series;
    struct plots *plots = canvas->place->plots;
    free(canvas->values);
    if (figure_close(canvas->figure, &series, canvas->place->err)) return -1;
    if (canvas->failed) return error_set(canvas->place->err, "out of memory for the plots");
    struct plot *plot = &plots->items[plots->count - 1];
    size_t used = strlen(plot->caption);
    if (canvas->hidden)
        snprintf(plot->caption + used, sizeof plot->caption - used, " %zu of %zu points are drawn, evenly chosen.",
                 canvas->seen - canvas->hidden, canvas->seen);
    if (!series) plots->count--; /* a figure without points is not drawn */
    return 0;
}

int levels_sort(struct levels *levels)
{
    size_t count = 0;
    if (!levels->at) return -1;
    sort_numbers(levels->at, levels->count);
    for (size_t i = 0; i < levels->count; i++)
        if (levels->at[i] > 0 && (!count || levels->at[i] != levels->at[count - 1]))
            levels->at[count++] = levels->at[i];
    levels->count = count;
    return 0;
}

void levels_thin(struct levels *levels, size_t most)
{
    if (levels->count <= most) return;
    for (size_t i = 0; i < most; i++)
        levels->at[i] = levels->at[i * (levels->count - 1) / (most - 1)];
    levels->count = most;
}

static void name_group(const struct analysis *analysis, struct plot_group *group)
{
    if (group->pet_size > 0)
        snprintf(group->name, sizeof group->name, "%s %g", group->method, group->pet_size);
    else
        snprintf(group->name, sizeof group->name, "%s", group->method);
    for (size_t i = 0; i < analysis->fit_count; i++)
        if (!strcmp(analysis->fits[i].method, group->method) && analysis->fits[i].pet_size == group->pet_size)
            snprintf(group->name, sizeof group->name, "%.*s", (int)sizeof group->name - 1,
                     analysis->fits[i].group +
                         (analysis->fits[i].several_tasks ? strlen(analysis->fits[i].task) + 2 : 0));
}

int plot_groups_make(const struct analysis *analysis, struct plot_groups *out, struct error *err)
{
    const struct observations *observations = &analysis->observations;
    *out = (struct plot_groups){0};
    for (size_t i = 0; i < observations->count; i++) {
        const struct observation *row = &observations->rows[i];
        if (plot_group_of(out, row->method, row->pet_size) != SIZE_MAX) continue;
        struct plot_group *items = realloc(out->items, (out->count + 1) * sizeof *items);
        if (!items) {
            free(out->items);
            return error_set(err, "out of memory for the plots");
        }
        out->items = items;
        items[out->count] = (struct plot_group){.pet_size = row->pet_size};
        memcpy(items[out->count].method, row->method, sizeof row->method);
        name_group(analysis, &items[out->count++]);
    }
    return 0;
}

size_t plot_group_of(const struct plot_groups *groups, const char *method, double pet_size)
{
    for (size_t i = groups->count; i-- > 0;)
        if (groups->items[i].pet_size == pet_size && !strcmp(groups->items[i].method, method)) return i;
    return SIZE_MAX;
}

const char *plot_loss_label(const struct analysis *analysis, char *out, size_t size)
{
    enum metric metric = analysis->observations.metric;
    snprintf(out, size, metric_units[metric][0] ? "%s (nats/token)" : "%s", metric_titles[metric]);
    return out;
}

bool plot_band(const struct analysis *analysis, const struct analysis_fit *fit, const double x[LAW_AXES],
               double range[2])
{
    size_t count = fit->intervals.samples ? fit->intervals.resamples : 0;
    double *losses = count > 1 ? malloc(count * sizeof *losses) : NULL;
    if (!losses) return false;
    for (size_t r = 0; r < count; r++)
        losses[r] = law_value(&fit->law, fit->intervals.samples + r * fit->law.parameter_count, x);
    sort_numbers(losses, count);
    for (size_t i = 0; i < 2; i++) {
        double share = 0.5 + (i ? 0.5 : -0.5) * analysis->options.level;
        range[i] = sorted_at(losses, count, share);
    }
    free(losses);
    return true;
}

int plots_make(const struct analysis *analysis, const struct run_record *run, const char *folder, struct plots *out,
               struct error *err)
{
    *out = (struct plots){0};
    struct plot_place place = {.analysis = analysis, .run = run, .folder = folder, .plots = out, .err = err};
    int result = plot_views(&place) || plot_comparisons(&place) || plot_run(&place) ? -1 : 0;
    char(*names)[32] = calloc(out->count + 1, sizeof *names);
    if (!result && !names) result = error_set(err, "out of memory for %zu plots", out->count);
    for (size_t i = 0; !result && i < out->count; i++)
        memcpy(names[i], out->items[i].name, sizeof names[i]);
    if (!result) result = figures_draw(folder, (const char(*)[32])names, out->count, err);
    free(names);
    if (result) plots_destroy(out);
    return result;
}
