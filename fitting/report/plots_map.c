/* Fitting: the map of the best method over examples and model size, by the laws of the model views, with the lines
 * where two laws give the same loss. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fitting/report/html.h"
#include "fitting/report/plots_internal.h"

enum { COLUMNS = 96, ROWS = 40, LINE = 48, RESAMPLES = 200, CANDIDATES = FIGURE_COLOURS };
static const double sure = 0.9; /* share of resamples that makes a colour full */

struct map {
    const struct analysis *analysis;
    const char *task;
    size_t fits[CANDIDATES], groups[CANDIDATES], count; /* laws and their groups */
    double tokens;                                      /* pretraining tokens of all of them */
    double examples[2], sizes[2];                       /* what the map covers */
    double measured[4];                                 /* range of the points: examples, sizes */
    struct levels size_levels, example_levels;
};

/* The laws to compare: of the pretraining count with most of them. */
static void find_laws(struct map *map, const struct plot_groups *groups)
{
    const struct analysis *analysis = map->analysis;
    for (size_t first = 0; first < analysis->fit_count; first++) {
        struct map other = {.count = 0};
        double tokens = analysis->fits[first].pretrain_tokens;
        for (size_t f = 0; f < analysis->fit_count && other.count < CANDIDATES; f++) {
            const struct analysis_fit *fit = &analysis->fits[f];
            size_t group = plot_group_of(groups, fit->method, fit->pet_size);
            if (fit->view != VIEW_MODEL || strcmp(fit->task, map->task) || fit->pretrain_tokens != tokens ||
                analysis_shown(analysis, f) != f || group == SIZE_MAX)
                continue;
            other.fits[other.count] = f;
            other.groups[other.count++] = group;
        }
        if (other.count <= map->count) continue;
        memcpy(map->fits, other.fits, sizeof map->fits);
        memcpy(map->groups, other.groups, sizeof map->groups);
        map->count = other.count;
        map->tokens = tokens;
    }
}

static int find_range(struct map *map)
{
    const struct observations *observations = &map->analysis->observations;
    map->size_levels.at = calloc(observations->count + 1, sizeof *map->size_levels.at);
    map->example_levels.at = calloc(observations->count + 1, sizeof *map->example_levels.at);
    for (size_t i = 0; map->size_levels.at && map->example_levels.at && i < observations->count; i++) {
        if (observations->rows[i].pretrain_tokens != map->tokens || strcmp(observations->rows[i].task, map->task))
            continue;
        map->size_levels.at[map->size_levels.count++] = observations->rows[i].parameters;
        map->example_levels.at[map->example_levels.count++] = observations->rows[i].examples;
    }
    if (levels_sort(&map->size_levels) || levels_sort(&map->example_levels)) return -1;
    const struct levels *sizes = &map->size_levels, *examples = &map->example_levels;
    if (!sizes->count || !examples->count) return 1;
    memcpy(map->measured,
           (double[]){examples->at[0], examples->at[examples->count - 1], sizes->at[0], sizes->at[sizes->count - 1]},
           sizeof map->measured);
    map->examples[0] = map->measured[0] / 4;
    map->examples[1] = map->measured[1] * 30;
    map->sizes[0] = map->measured[2] / 2;
    map->sizes[1] = map->measured[3] * 4;
    return 0;
}

static double predict(const struct map *map, size_t candidate, const double *theta, double examples, double size)
{
    const struct analysis_fit *fit = &map->analysis->fits[map->fits[candidate]];
    const double x[LAW_AXES] = {size, map->tokens, fit->pet_size, examples};
    return law_value(&fit->law, theta ? theta : fit->fit.theta, x);
}

/* The candidate with the lowest loss; resample SIZE_MAX: by the laws themselves. */
static size_t winner(const struct map *map, size_t resample, double examples, double size)
{
    size_t best = 0;
    double least = INFINITY;
    for (size_t c = 0; c < map->count; c++) {
        const struct analysis_fit *fit = &map->analysis->fits[map->fits[c]];
        const double *theta =
            resample == SIZE_MAX ? NULL : fit->intervals.samples + resample * fit->law.parameter_count;
        double loss = predict(map, c, theta, examples, size);
        if (loss >= least) continue;
        least = loss;
        best = c;
    }
    return best;
}

static size_t resamples_of(const struct map *map)
{
    size_t resamples = RESAMPLES;
    for (size_t c = 0; c < map->count; c++) {
        const struct intervals *intervals = &map->analysis->fits[map->fits[c]].intervals;
        size_t has = intervals->samples ? intervals->resamples : 0;
        resamples = has < resamples ? has : resamples;
    }
    return resamples;
}

/* Twice the winner of a cell of the map, and one more where it is not the winner of most resamples. */
static unsigned char cell_of(const struct map *map, size_t resamples, double examples, double size)
{
    size_t best = winner(map, SIZE_MAX, examples, size), agreeing = 0;
    for (size_t r = 0; r < resamples; r++)
        agreeing += winner(map, r, examples, size) == best;
    return (unsigned char)(2 * best + ((double)agreeing < sure * (double)resamples));
}

static double between(const double range[2], double share)
{
    return exp(log(range[0]) + share * log(range[1] / range[0]));
}

/* Boxes of one kind of cell: neighbours in a row are one box. */
static void add_boxes(struct canvas *canvas, const struct map *map, unsigned char (*cells)[COLUMNS], unsigned char kind)
{
    for (size_t r = 0; r < ROWS; r++)
        for (size_t c = 0, end; c < COLUMNS; c = end) {
            for (end = c + 1; end < COLUMNS && cells[r][end] == cells[r][c];)
                end++;
            if (cells[r][c] != kind) continue;
            double x[2] = {between(map->examples, (double)c / COLUMNS), between(map->examples, (double)end / COLUMNS)};
            double y[2] = {between(map->sizes, (double)r / ROWS), /* a little over the next row: no seams */
                           between(map->sizes, fmin(1, ((double)r + 1.1) / ROWS))};
            const double value[6] = {sqrt(x[0] * x[1]), sqrt(y[0] * y[1]), x[0], x[1], y[0], y[1]};
            canvas_add(canvas, value);
        }
}

static void draw_areas(struct canvas *canvas, const struct map *map, const struct plot_groups *groups)
{
    unsigned char cells[ROWS][COLUMNS];
    size_t resamples = resamples_of(map);
    for (size_t r = 0; r < ROWS; r++)
        for (size_t c = 0; c < COLUMNS; c++)
            cells[r][c] = cell_of(map, resamples, between(map->examples, ((double)c + 0.5) / COLUMNS),
                                  between(map->sizes, ((double)r + 0.5) / ROWS));
    for (size_t k = 0; k < map->count; k++)
        for (size_t faint = 0; faint < 2; faint++) {
            canvas_begin(canvas, faint ? FIGURE_FAINT_AREA : FIGURE_AREA);
            add_boxes(canvas, map, cells, (unsigned char)(2 * k + faint));
            canvas_draw(canvas, map->groups[k], map->groups[k], NULL);
        }
    (void)groups;
}

/* Root k of the difference of two laws, where no third is lower; NAN: none. */
static double meeting(const struct map *map, size_t a, size_t b, double size, size_t k)
{
    const struct analysis_fit *first = &map->analysis->fits[map->fits[a]];
    const struct analysis_fit *second = &map->analysis->fits[map->fits[b]];
    const double x[2][LAW_AXES] = {{size, map->tokens, first->pet_size, 1}, {size, map->tokens, second->pet_size, 1}};
    double roots[CROSSING_LARGEST];
    size_t count = crossing_find(&first->law, first->fit.theta, x[0], &second->law, second->fit.theta, x[1],
                                 map->examples[0], map->examples[1], roots);
    if (k >= count) return NAN;
    double loss = predict(map, a, NULL, roots[k], size);
    for (size_t c = 0; c < map->count; c++)
        if (c != a && c != b && predict(map, c, NULL, roots[k], size) < loss) return NAN;
    return roots[k];
}

static void draw_meetings(struct canvas *canvas, const struct map *map)
{
    const char *title = "laws meet";
    for (size_t a = 0; a < map->count; a++)
        for (size_t b = a + 1; b < map->count; b++)
            for (size_t k = 0; k < 2; k++) {
                canvas_begin(canvas, FIGURE_LINE);
                for (size_t r = 0; r < LINE; r++) {
                    double size = between(map->sizes, (double)r / (LINE - 1));
                    const double value[2] = {meeting(map, a, b, size, k), size};
                    canvas_add(canvas, value);
                }
                bool any = canvas->count > 0;
                canvas_draw(canvas, FIGURE_TEXT, 0, title);
                if (any) title = NULL;
            }
}

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-9 * fabs(b);
}

/* Intervals of the meetings that are on the map. */
static void draw_intervals(struct canvas *canvas, const struct map *map)
{
    canvas_begin(canvas, FIGURE_SPAN);
    for (size_t i = 0; i < map->analysis->crossing_count; i++) {
        const struct analysis_crossing *crossing = &map->analysis->crossings[i];
        size_t a = SIZE_MAX, b = SIZE_MAX;
        for (size_t c = 0; c < map->count; c++) {
            if (map->fits[c] == crossing->first) a = c;
            if (map->fits[c] == crossing->second) b = c;
        }
        for (size_t k = 0; a != SIZE_MAX && b != SIZE_MAX && k < crossing->count; k++) {
            double at = crossing->roots[k];
            if (!near(meeting(map, a, b, crossing->parameters, 0), at) &&
                !near(meeting(map, a, b, crossing->parameters, 1), at))
                continue;
            const double value[4] = {at, crossing->parameters, fmax(crossing->low[k], map->examples[0]),
                                     fmin(crossing->high[k], map->examples[1])};
            canvas_add(canvas, value);
        }
    }
    canvas_draw(canvas, FIGURE_TEXT, 0, NULL);
}

/* The method that was best in a measured cell, of those on the map: mean loss over seeds. SIZE_MAX: fewer than two. */
static size_t measured_best(const struct map *map, const struct plot_groups *groups, double size, double examples)
{
    const struct observations *observations = &map->analysis->observations;
    double sum[CANDIDATES] = {0}, count[CANDIDATES] = {0}, least = INFINITY;
    size_t best = SIZE_MAX, there = 0;
    for (size_t i = 0; i < observations->count; i++) {
        const struct observation *row = &observations->rows[i];
        if (row->parameters != size || row->examples != examples || row->pretrain_tokens != map->tokens ||
            strcmp(row->task, map->task))
            continue;
        size_t group = plot_group_of(groups, row->method, row->pet_size);
        for (size_t c = 0; c < map->count; c++)
            if (map->groups[c] == group) {
                sum[c] += row->loss;
                count[c]++;
            }
    }
    for (size_t c = 0; c < map->count; c++) {
        there += count[c] > 0;
        if (!(count[c] > 0) || sum[c] / count[c] >= least) continue;
        least = sum[c] / count[c];
        best = map->groups[c];
    }
    return there > 1 ? best : SIZE_MAX;
}

static void draw_measured(struct canvas *canvas, struct map *map, const struct plot_groups *groups)
{
    levels_thin(&map->size_levels, 12);
    levels_thin(&map->example_levels, 12);
    for (size_t k = 0; k < map->count; k++) {
        canvas_begin(canvas, FIGURE_POINTS);
        for (size_t s = 0; s < map->size_levels.count; s++)
            for (size_t e = 0; e < map->example_levels.count; e++) {
                const double value[2] = {map->example_levels.at[e], map->size_levels.at[s]};
                if (measured_best(map, groups, value[1], value[0]) == map->groups[k]) canvas_add(canvas, value);
            }
        if (!canvas->count) { /* never measured best: still in the legend, by its area */
            const double nowhere[2] = {map->examples[1] * 1e6, map->sizes[1]};
            canvas_add(canvas, nowhere);
        }
        canvas_draw(canvas, map->groups[k], map->groups[k], groups->items[map->groups[k]].name);
    }
    const double *m = map->measured;
    const double corners[5][2] = {{m[0], m[2]}, {m[1], m[2]}, {m[1], m[3]}, {m[0], m[3]}, {m[0], m[2]}};
    canvas_begin(canvas, FIGURE_DASHED);
    for (size_t i = 0; i < 5; i++)
        canvas_add(canvas, corners[i]);
    canvas_draw(canvas, FIGURE_TEXT, 0, "measured");
}

static int draw_map(struct plot_place *place, struct map *map, const struct plot_groups *groups)
{
    const struct figure_axes axes = {.x = "finetuning examples",
                                     .y = "model size (parameters)",
                                     .key = "",
                                     .log_x = true,
                                     .log_y = true,
                                     .large = true,
                                     .range = {map->examples[0], map->examples[1]},
                                     .y_range = {map->sizes[0], map->sizes[1]},
                                     .decades = true,
                                     .y_levels = map->size_levels.at,
                                     .y_level_count = map->size_levels.count};
    struct canvas canvas;
    struct plot *plot = canvas_open(&canvas, place, PLOT_MAP, &axes);
    if (!plot) return -1;
    char count[32];
    plot_name(map->analysis, plot, map->task, "The best method");
    snprintf(plot->caption, sizeof plot->caption,
             "The method whose law predicts the lowest loss at %s pretraining tokens; full colour where it does so in "
             "%g %% of the resamples or more. Lines: two laws meet, with %g %% intervals at the measured model sizes. "
             "Marks: the method measured best in that cell. Outside the dashed box the laws extrapolate.",
             html_count(map->tokens, count, sizeof count), 100 * sure, 100 * place->analysis->options.level);
    draw_areas(&canvas, map, groups);
    draw_meetings(&canvas, map);
    draw_intervals(&canvas, map);
    draw_measured(&canvas, map, groups);
    return canvas_close(&canvas);
}

int plot_map(struct plot_place *place, const struct plot_groups *groups, const char *task)
{
    struct map map = {.analysis = place->analysis, .task = task};
    int result = 0;
    find_laws(&map, groups);
    if (map.count > 1) {
        result = find_range(&map);
        if (result < 0) error_set(place->err, "out of memory for a plot");
        if (result == 0) result = draw_map(place, &map, groups);
        if (result > 0) result = 0;
    }
    free(map.size_levels.at);
    free(map.example_levels.at);
    return result;
}
