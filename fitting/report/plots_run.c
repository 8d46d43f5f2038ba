/* Fitting: the plots of the run itself: what points cost, how their losses fell. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fitting/report/html.h"
#include "fitting/report/plots_internal.h"

enum { CURVE_GROUPS = 9 };

static bool same_group(const struct run_cost *a, const struct run_cost *b)
{
    return a->pet_size == b->pet_size && !strcmp(a->method, b->method) && !strcmp(a->task, b->task);
}

/* Costs are in order of groups, then of model sizes. */
static size_t end_of_group(const struct run_record *run, size_t first)
{
    size_t end = first + 1;
    while (end < run->cost_count && same_group(&run->costs[first], &run->costs[end]))
        end++;
    return end;
}

/* What the points cost: at least and at most, FLOPs and seconds. */
static bool cost_extent(const struct run_record *run, double low[2], double high[2])
{
    low[0] = low[1] = INFINITY;
    high[0] = high[1] = 0;
    for (size_t i = 0; i < run->point_count; i++) {
        const double value[2] = {run->points[i].flops, run->points[i].seconds};
        for (size_t k = 0; k < 2 && value[0] > 0 && value[1] > 0; k++) {
            low[k] = fmin(low[k], value[k] / 1.3);
            high[k] = fmax(high[k], value[k] * 1.3);
        }
    }
    return high[0] > 0;
}

static void draw_costs(struct canvas *canvas, const struct plot_groups *groups)
{
    const struct run_record *run = canvas->place->run;
    for (size_t group = 0; group < groups->count && group < FIGURE_COLOURS; group++) {
        canvas_begin(canvas, FIGURE_POINTS);
        for (size_t i = 0; i < run->point_count; i++) {
            const double value[2] = {run->points[i].flops, run->points[i].seconds};
            const struct run_cost *cost = &run->costs[run->points[i].cost];
            if (value[0] > 0 && value[1] > 0 && cost->pet_size == groups->items[group].pet_size &&
                !strcmp(cost->method, groups->items[group].method))
                canvas_add(canvas, value);
        }
        canvas_draw(canvas, group, group, groups->items[group].name);
    }
}

static int plot_cost(struct plot_place *place, const struct plot_groups *groups)
{
    double low[2], high[2], marks[2][FIGURE_TICKS];
    if (!cost_extent(place->run, low, high)) return 0;
    const struct figure_axes axes = {.x = "FLOPs of the training of one point",
                                     .y = "seconds of one point",
                                     .key = "",
                                     .log_x = true,
                                     .log_y = true,
                                     .large = true,
                                     .levels = marks[0],
                                     .level_count = figure_log_marks(low[0], high[0], marks[0]),
                                     .range = {low[0], high[0]},
                                     .y_levels = marks[1],
                                     .y_level_count = figure_log_marks(low[1], high[1], marks[1]),
                                     .y_range = {low[1], high[1]}};
    struct canvas canvas;
    struct plot *plot = canvas_open(&canvas, place, PLOT_COST, &axes);
    if (!plot) return -1;
    snprintf(plot->title, sizeof plot->title, "What a point cost");
    snprintf(plot->caption, sizeof plot->caption,
             "Seconds of finetuning and evaluation; pretraining is not among them. Points that lie on one rising line "
             "of slope 1 were trained at the same FLOP/s.");
    draw_costs(&canvas, groups);
    return canvas_close(&canvas);
}

static double largest_tokens(const struct run_record *run, size_t first, size_t end)
{
    double largest = 0;
    for (size_t i = 0; i < run->curve_count; i++)
        if (run->curves[i].cost >= first && run->curves[i].cost < end && run->curves[i].curve.count)
            largest = fmax(largest, run->curves[i].curve.entries[run->curves[i].curve.count - 1].tokens);
    return largest;
}

static void draw_curve(struct canvas *canvas, const struct store_curve *curve, bool valid, enum figure_style style,
                       size_t colour, size_t shape, const char *title)
{
    canvas_begin(canvas, style);
    for (size_t i = 0; i < curve->count && i < STORE_CURVE; i++) {
        const struct store_curve_entry *entry = &curve->entries[i];
        const double value[2] = {entry->tokens, valid ? entry->valid_loss : entry->train_loss};
        if (value[1] > 0) canvas_add(canvas, value);
    }
    canvas_draw(canvas, colour, shape, title);
}

/* At most PLOT_LEVELS model sizes of a group, evenly chosen. */
static void draw_curves(struct canvas *canvas, const struct run_record *run, size_t first, size_t end)
{
    size_t of[512], count = 0;
    for (size_t i = 0; i < run->curve_count && count < sizeof of / sizeof *of; i++)
        if (run->curves[i].cost >= first && run->curves[i].cost < end && !run->curves[i].diverged) of[count++] = i;
    size_t shown = count > PLOT_LEVELS ? PLOT_LEVELS : count;
    for (size_t k = 0; k < shown; k++) {
        const struct run_curve *curve = &run->curves[of[shown > 1 ? k * (count - 1) / (shown - 1) : 0]];
        char name[32];
        size_t colour = figure_ramp(k, shown);
        draw_curve(canvas, &curve->curve, false, FIGURE_DASHED, colour, k, NULL);
        draw_curve(canvas, &curve->curve, true, FIGURE_LINE, colour, k, NULL);
        draw_curve(canvas, &curve->curve, true, FIGURE_POINTS, colour, k,
                   html_count_short(run->costs[curve->cost].parameters, name, sizeof name));
    }
    const char *title = "diverged";
    for (size_t i = 0; i < run->curve_count; i++)
        if (run->curves[i].cost >= first && run->curves[i].cost < end && run->curves[i].diverged) {
            draw_curve(canvas, &run->curves[i].curve, false, FIGURE_THIN, FIGURE_GREY, 0, title);
            title = NULL;
        }
}

static int plot_curves(struct plot_place *place, const struct plot_groups *groups, size_t first, size_t end)
{
    const struct run_record *run = place->run;
    double marks[FIGURE_TICKS], largest = largest_tokens(run, first, end);
    size_t group = plot_group_of(groups, run->costs[first].method, run->costs[first].pet_size);
    if (!(largest > 0)) return 0;
    const struct figure_axes axes = {.x = "finetuning tokens",
                                     .y = "loss (nats/token)",
                                     .key = "model size (parameters)",
                                     .levels = marks,
                                     .level_count = figure_marks(0, largest, marks),
                                     .range = {0, largest * 1.03}};
    struct canvas canvas;
    struct plot *plot = canvas_open(&canvas, place, PLOT_CURVES, &axes);
    if (!plot) return -1;
    double examples = 0;
    for (size_t i = first; i < end; i++)
        examples = fmax(examples, run->costs[i].longest_examples);
    char count[32];
    const char *name = group == SIZE_MAX ? run->costs[first].method : groups->items[group].name;
    char label[192];
    const bool several = place->analysis->observations.several_tasks;
    snprintf(label, sizeof label, "%.60s%s%.100s", several ? run->costs[first].task : "", several ? ": " : "", name);
    snprintf(plot->title, sizeof plot->title, "%.160s: losses during training", label);
    snprintf(plot->caption, sizeof plot->caption,
             "The point with most examples (%s) of each model size. Solid: validation; dashed: training loss since the "
             "mark before.",
             html_count(examples, count, sizeof count));
    draw_curves(&canvas, run, first, end);
    return canvas_close(&canvas);
}

int plot_run(struct plot_place *place)
{
    struct plot_groups groups;
    if (plot_groups_make(place->analysis, &groups, place->err)) return -1;
    int result = plot_cost(place, &groups);
    size_t drawn = 0;
    for (size_t first = 0; first < place->run->cost_count && !result && drawn < CURVE_GROUPS;) {
        size_t end = end_of_group(place->run, first), before = place->plots->count;
        result = plot_curves(place, &groups, first, end);
        drawn += place->plots->count - before;
        first = end;
    }
    free(groups.items);
    return result;
}
