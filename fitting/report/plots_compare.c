/* Fitting: the plots that set methods side by side: losses, the powers of the axes, forgetting. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fitting/report/html.h"
#include "fitting/report/plots_internal.h"
#include "fitting/report/report_internal.h"

enum { CURVE = 60, GROUPS = FIGURE_COLOURS };

/* One model and pretraining count, at which methods are set side by side. */
struct slice {
    const char *task;
    double parameters, tokens;
    struct levels examples;
};

static bool in_slice(const struct slice *slice, const struct observation *row)
{
    return row->parameters == slice->parameters && row->pretrain_tokens == slice->tokens &&
           !strcmp(row->task, slice->task);
}

/* The largest model of a task, at its largest pretraining count. */
static int find_slice(const struct observations *observations, const char *task, struct slice *out)
{
    *out = (struct slice){.task = task, .examples.at = calloc(observations->count + 1, sizeof *out->examples.at)};
    for (size_t i = 0; i < observations->count; i++)
        if (!strcmp(observations->rows[i].task, task))
            out->parameters = fmax(out->parameters, observations->rows[i].parameters);
    for (size_t i = 0; i < observations->count; i++)
        if (!strcmp(observations->rows[i].task, task) && observations->rows[i].parameters == out->parameters)
            out->tokens = fmax(out->tokens, observations->rows[i].pretrain_tokens);
    for (size_t i = 0; out->examples.at && i < observations->count; i++)
        if (in_slice(out, &observations->rows[i]))
            out->examples.at[out->examples.count++] = observations->rows[i].examples;
    return levels_sort(&out->examples);
}

/* What is drawn of a point of the slice. */
typedef double quantity(const struct observations *observations, const struct observation *row);

static double loss_of(const struct observations *observations, const struct observation *row)
{
    (void)observations;
    return row->loss;
}

static double forgotten_of(const struct observations *observations, const struct observation *row)
{
    return row->pretrain_loss - report_untuned(observations, row).pretrain_loss;
}

/* Points of a group in the slice, fitted ones or held-out ones. */
static void add_points(struct canvas *canvas, const struct slice *slice, const struct plot_group *group, int held_out,
                       quantity *value_of)
{
    const struct observations *observations = &canvas->place->analysis->observations;
    for (size_t i = 0; i < observations->count; i++) {
        const struct observation *row = &observations->rows[i];
        if (!in_slice(slice, row) || row->pet_size != group->pet_size || strcmp(row->method, group->method)) continue;
        if (held_out >= 0 && row->held_out != (held_out != 0)) continue;
        const double value[2] = {row->examples, value_of(observations, row)};
        canvas_add(canvas, value);
    }
}

/* Rows are in order of examples: neighbours with the same x become their mean. */
static void merge_seeds(struct canvas *canvas)
{
    size_t kept = 0;
    for (size_t first = 0, end; first < canvas->count; first = end) {
        double sum = 0;
        for (end = first; end < canvas->count && canvas->values[end] == canvas->values[first]; end += 2)
            sum += canvas->values[end + 1];
        canvas->values[kept++] = canvas->values[first];
        canvas->values[kept++] = 2 * sum / (double)(end - first);
    }
    canvas->count = kept;
}

static const struct analysis_fit *law_of(const struct analysis *analysis, const struct slice *slice,
                                         const struct plot_group *group)
{
    for (size_t i = 0; i < analysis->fit_count; i++) {
        const struct analysis_fit *fit = &analysis->fits[i];
        bool here = fit->view == VIEW_MODEL ? fit->pretrain_tokens == slice->tokens
                                            : fit->view == VIEW_EXAMPLES && fit->parameters == slice->parameters &&
                                                  fit->pretrain_tokens == slice->tokens;
        if (here && fit->pet_size == group->pet_size && !strcmp(fit->method, group->method) &&
            !strcmp(fit->task, slice->task) && analysis_shown(analysis, i) == i)
            return fit;
    }
    return NULL;
}

static void draw_law(struct canvas *canvas, const struct slice *slice, const struct analysis_fit *fit, size_t colour)
{
    const struct levels *examples = &slice->examples;
    double low = log(examples->at[0] / 1.15), high = log(examples->at[examples->count - 1] * 1.15);
    for (int line = 0; line < 2; line++) {
        canvas_begin(canvas, line ? FIGURE_LINE : FIGURE_BAND);
        for (size_t i = 0; i < CURVE; i++) {
            double x[LAW_AXES] = {slice->parameters, slice->tokens, fit->pet_size,
                                  exp(low + (double)i / (CURVE - 1) * (high - low))};
            double value[3] = {x[LAW_D], law_value(&fit->law, fit->fit.theta, x)};
            if (line || plot_band(canvas->place->analysis, fit, x, value + 1)) canvas_add(canvas, value);
        }
        canvas_draw(canvas, colour, colour, NULL);
    }
}

static void draw_group(struct canvas *canvas, const struct slice *slice, const struct plot_groups *groups, size_t index)
{
    const struct plot_group *group = &groups->items[index];
    const struct analysis_fit *fit = law_of(canvas->place->analysis, slice, group);
    if (fit) draw_law(canvas, slice, fit, index);
    if (!fit) { /* no law: the points are joined */
        canvas_begin(canvas, FIGURE_DASHED);
        add_points(canvas, slice, group, -1, loss_of);
        merge_seeds(canvas);
        canvas_draw(canvas, index, index, NULL);
    }
    const char *title = group->name;
    for (int held_out = 0; held_out < 2; held_out++) {
        canvas_begin(canvas, held_out ? FIGURE_HOLLOW : FIGURE_POINTS);
        add_points(canvas, slice, group, held_out, loss_of);
        bool any = canvas->count > 0;
        canvas_draw(canvas, index, index, title);
        if (any) title = NULL;
    }
}

static void draw_untuned(struct canvas *canvas, const struct slice *slice)
{
    struct observation cell = {.parameters = slice->parameters, .pretrain_tokens = slice->tokens};
    snprintf(cell.task, sizeof cell.task, "%s", slice->task);
    double loss = report_untuned(&canvas->place->analysis->observations, &cell).loss;
    if (isnan(loss)) return;
    const double line[2][2] = {{slice->examples.at[0] / 1.15, loss},
                               {slice->examples.at[slice->examples.count - 1] * 1.15, loss}};
    canvas_begin(canvas, FIGURE_DASHED);
    canvas_add(canvas, line[0]);
    canvas_add(canvas, line[1]);
    canvas_draw(canvas, FIGURE_GREY, FIGURE_GREY, "untuned");
}

static int plot_methods(struct plot_place *place, const struct slice *slice, const struct plot_groups *groups)
{
    char loss[64];
    const struct figure_axes axes = {.levels = slice->examples.at,
                                     .level_count = slice->examples.count,
                                     .x = "finetuning examples",
                                     .y = plot_loss_label(place->analysis, loss, sizeof loss),
                                     .key = "",
                                     .log_x = true,
                                     .large = true};
    struct canvas canvas;
    struct plot *plot = canvas_open(&canvas, place, PLOT_METHODS, &axes);
    if (!plot) return -1;
    char count[2][32];
    plot_name(place->analysis, plot, slice->task, "Loss of each method at the largest model");
    snprintf(plot->caption, sizeof plot->caption,
             "Model size %s, %s pretraining tokens. Lines: the law of each method with its %g %% band; dashed where no "
             "law is identified. Hollow: held out.%s",
             html_count(slice->parameters, count[0], sizeof count[0]),
             html_count(slice->tokens, count[1], sizeof count[1]), 100 * place->analysis->options.level,
             groups->count > GROUPS ? " The first methods and sizes only." : "");
    draw_untuned(&canvas, slice);
    for (size_t i = 0; i < groups->count && i < GROUPS; i++)
        draw_group(&canvas, slice, groups, i);
    return canvas_close(&canvas);
}

/* A quantity of the slice's points against their examples: means over seeds, joined. */
static void draw_quantity(struct canvas *canvas, const struct slice *slice, const struct plot_groups *groups,
                          quantity *value_of)
{
    for (size_t i = 0; i < groups->count && i < GROUPS; i++)
        for (int line = 1; line >= 0; line--) {
            canvas_begin(canvas, line ? FIGURE_LINE : FIGURE_POINTS);
            add_points(canvas, slice, &groups->items[i], -1, value_of);
            merge_seeds(canvas);
            canvas_draw(canvas, i, i, line ? NULL : groups->items[i].name);
        }
}

static int plot_forgetting(struct plot_place *place, const struct slice *slice, const struct plot_groups *groups)
{
    const struct figure_axes axes = {.levels = slice->examples.at,
                                     .level_count = slice->examples.count,
                                     .x = "finetuning examples",
                                     .y = "pretraining loss, after - before",
                                     .key = "",
                                     .log_x = true,
                                     .large = true,
                                     .zero_line = true};
    struct canvas canvas;
    struct plot *plot = canvas_open(&canvas, place, PLOT_FORGETTING, &axes);
    if (!plot) return -1;
    char count[2][32];
    plot_name(place->analysis, plot, slice->task, "Forgetting at the largest model");
    snprintf(plot->caption, sizeof plot->caption,
             "Rise of the loss on the pretraining text through finetuning, nats per token; means over seeds. Model "
             "size %s, %s pretraining tokens.",
             html_count(slice->parameters, count[0], sizeof count[0]),
             html_count(slice->tokens, count[1], sizeof count[1]));
    draw_quantity(&canvas, slice, groups, forgotten_of);
    return canvas_close(&canvas);
}

static double score_of(const struct observations *observations, const struct observation *row)
{
    return row->scores[report_first_score(observations)];
}

/* The first metric of generated texts that was measured. */
static int plot_texts(struct plot_place *place, const struct slice *slice, const struct plot_groups *groups)
{
    size_t score = report_first_score(&place->analysis->observations);
    char title[96];
    if (score == OBSERVATION_SCORES) return 0;
    const struct figure_axes axes = {.levels = slice->examples.at,
                                     .level_count = slice->examples.count,
                                     .x = "finetuning examples",
                                     .y = report_score_name(score),
                                     .key = "",
                                     .log_x = true,
                                     .large = true};
    struct canvas canvas;
    struct plot *plot = canvas_open(&canvas, place, PLOT_TEXTS, &axes);
    if (!plot) return -1;
    char count[2][32];
    snprintf(title, sizeof title, "%s of generated texts at the largest model", report_score_name(score));
    plot_name(place->analysis, plot, slice->task, title);
    snprintf(plot->caption, sizeof plot->caption,
             "Texts of the test set, by the best weights; means over seeds. Model size %s, %s pretraining tokens.",
             html_count(slice->parameters, count[0], sizeof count[0]),
             html_count(slice->tokens, count[1], sizeof count[1]));
    draw_quantity(&canvas, slice, groups, score_of);
    return canvas_close(&canvas);
}

static const char *const axis_names[STAGED_AXES] = {"model size", "pretraining tokens", "PET size"};

static bool has_power(const struct analysis_staged *entry, size_t axis)
{
    return entry->fitted && entry->staged.alpha[axis].identified;
}

/* In the order of the names, from below. */
static void draw_powers(struct canvas *canvas)
{
    const struct analysis *analysis = canvas->place->analysis;
    double y = 0;
    for (size_t i = analysis->staged_count; i-- > 0;)
        for (size_t k = STAGED_AXES; k-- > 0;) {
            const struct staged_parameter *alpha = &analysis->staged[i].staged.alpha[k];
            if (!has_power(&analysis->staged[i], k)) continue;
            const double value[4] = {alpha->value, ++y, isnan(alpha->low) ? alpha->value : alpha->low,
                                     isnan(alpha->high) ? alpha->value : alpha->high};
            canvas_begin(canvas, FIGURE_RANGE);
            canvas_add(canvas, value);
            canvas_draw(canvas, k, k, NULL);
        }
}

/* Room for the powers and their intervals, and 0. */
static void extent_of_powers(const struct analysis *analysis, double extent[2])
{
    extent[0] = 0;
    extent[1] = 1e-3;
    for (size_t i = 0; i < analysis->staged_count; i++)
        for (size_t k = 0; k < STAGED_AXES; k++) {
            const struct staged_parameter *alpha = &analysis->staged[i].staged.alpha[k];
            if (!has_power(&analysis->staged[i], k)) continue;
            extent[0] = fmin(extent[0], fmin(alpha->value, isnan(alpha->low) ? alpha->value : alpha->low));
            extent[1] = fmax(extent[1], fmax(alpha->value, isnan(alpha->high) ? alpha->value : alpha->high));
        }
    extent[1] *= 1.05;
    extent[0] -= 0.02 * extent[1];
}

static int plot_powers(struct plot_place *place)
{
    const struct analysis *analysis = place->analysis;
    char label[OBSERVATION_LABEL];
    char(*names)[160] = calloc(STAGED_AXES * analysis->staged_count + 1, sizeof *names);
    size_t count = 0;
    if (!names) return error_set(place->err, "out of memory for a plot");
    for (size_t i = analysis->staged_count; i-- > 0;) /* from below */
        for (size_t k = STAGED_AXES; k-- > 0;)
            if (has_power(&analysis->staged[i], k)) {
                const struct analysis_staged *entry = &analysis->staged[i];
                observations_label(&analysis->observations, entry->task, entry->method, label);
                snprintf(names[count++], sizeof names[0], "%s: %s", label, axis_names[k]);
            }
    double extent[2], marks[FIGURE_TICKS];
    extent_of_powers(analysis, extent);
    const struct figure_axes axes = {.x = "α",
                                     .y = "",
                                     .key = "",
                                     .zero_line = true,
                                     .no_key = true,
                                     .large = true,
                                     .levels = marks,
                                     .level_count = figure_marks(extent[0], extent[1], marks),
                                     .range = {extent[0], extent[1]},
                                     .y_names = (const char(*)[160])names,
                                     .y_name_count = count};
    struct canvas canvas;
    struct plot *plot = count ? canvas_open(&canvas, place, PLOT_POWERS, &axes) : NULL;
    int result = !count ? 0 : -1;
    if (plot) {
        snprintf(plot->title, sizeof plot->title, "The power of each axis");
        snprintf(plot->caption, sizeof plot->caption,
                 "L = A·X^-α·D^-β + E, β and E shared by the axes of a method. Bars: %g %% intervals. A power that the "
                 "points do not identify is not drawn.",
                 100 * analysis->options.level);
        draw_powers(&canvas);
        result = canvas_close(&canvas);
    }
    free(names);
    return result;
}

/* The plots of one task: its methods side by side. */
static int plot_task(struct plot_place *place, const struct plot_groups *groups, const char *task)
{
    struct slice slice;
    int result = find_slice(&place->analysis->observations, task, &slice)
                     ? error_set(place->err, "out of memory for a plot")
                     : 0;
    if (!result) result = plot_methods(place, &slice, groups);
    if (!result) result = plot_forgetting(place, &slice, groups);
    if (!result) result = plot_texts(place, &slice, groups);
    if (!result) result = plot_map(place, groups, task);
    free(slice.examples.at);
    return result;
}

int plot_comparisons(struct plot_place *place)
{
    const struct observations *observations = &place->analysis->observations;
    struct plot_groups groups;
    if (!observations->count) return 0;
    if (plot_groups_make(place->analysis, &groups, place->err)) return -1;
    int result = 0;
    for (size_t i = 0; i < observations->count && !result; i++) /* rows are in order of tasks */
        if (!i || strcmp(observations->rows[i - 1].task, observations->rows[i].task))
            result = plot_task(place, &groups, observations->rows[i].task);
    if (!result) result = plot_powers(place);
    free(groups.items);
    return result;
}
