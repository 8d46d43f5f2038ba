/* A figure that is being filled, series by series. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fitting/report/plots_internal.h"

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
