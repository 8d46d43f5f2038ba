/* Axes -> points: the second arrow of the way of the data. */
#include "orchestrator/sweep/grid.h"

#include <stdlib.h>
#include <string.h>

static bool any_number(const uint64_t *list, size_t count, uint64_t value)
{
    for (size_t i = 0; i < count; i++)
        if (list[i] == value) return true;
    return !count;
}

static bool any_name(char (*list)[48], size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (!strcmp(list[i], name)) return true;
    return !count;
}

static bool in_range(const struct sweep_range *range, double value)
{
    return !range->given || (value >= range->least && value <= range->most);
}

bool grid_holds(const struct sweep *sweep, const struct sweep_cells *cells, const struct grid_point *point)
{
    const struct sweep_method *method = &sweep->methods[point->method];
    enum method_kind kind = method->config.kind;
    bool tuned = kind != METHOD_NONE, sized = method_sizes(kind) != NULL;
    bool on_examples = cells->example_count || cells->example_range.given;
    bool on_size = cells->size_count || cells->size_range.given;
    if ((!tuned && (on_examples || cells->seed_count)) || (!sized && on_size)) return false;
    return in_range(&cells->example_range, (double)sweep->examples[point->examples]) &&
           in_range(&cells->size_range, method->sizes[point->size]) &&
           in_range(&cells->pretrain_token_range, (double)sweep->pretrain_tokens[point->tokens]) &&
           (!cells->parameters.given ||
            in_range(&cells->parameters, (double)model_parameters(&sweep->models[point->model]))) &&
           any_number(cells->examples, cells->example_count, sweep->examples[point->examples]) &&
           any_number(cells->seeds, cells->seed_count, sweep->seeds[point->seed]) &&
           any_number(cells->sizes, cells->size_count, method->sizes[point->size]) &&
           any_number(cells->pretrain_tokens, cells->pretrain_token_count, sweep->pretrain_tokens[point->tokens]) &&
           any_name(cells->tasks, cells->task_count, sweep->tasks[point->task].name) &&
           any_name(cells->models, cells->model_count, sweep->models[point->model].name) &&
           any_name(cells->methods, cells->method_count, method_name(kind));
}

/* Points of one base and method. */
static double method_points(const struct sweep *sweep, const struct sweep_method *method)
{
    if (method->config.kind == METHOD_NONE) return 1.0;
    double rates = method->at_reference ? 1.0 : (double)method->learning_rate_count;
    return (double)method->size_count * rates * (double)method->example_count * (double)sweep->seed_count;
}

/* A base that is finetuned on a task. */
static bool has_base(const struct sweep *sweep, size_t task, size_t model, size_t tokens)
{
    return sweep->bases[model].tasks >> task & 1 && sweep_has_base(sweep, model, tokens);
}

size_t grid_size(const struct sweep *sweep)
{
    double all = 0.0;
    for (size_t task = 0; task < sweep->task_count; task++) {
        double each = 0.0, bases = 0.0;
        for (size_t i = 0; i < sweep->method_count; i++)
            if (sweep->methods[i].tasks >> task & 1) each += method_points(sweep, &sweep->methods[i]);
        for (size_t model = 0; model < sweep->model_count; model++)
            for (size_t tokens = 0; tokens < sweep->pretrain_token_count; tokens++)
                bases += has_base(sweep, task, model, tokens);
        all += each * bases;
        for (size_t i = 0; i < sweep->method_count; i++) /* the other candidates */
            if (sweep->methods[i].at_reference && sweep->methods[i].tasks >> task & 1)
                all += (double)sweep->methods[i].learning_rate_count - 1.0;
    }
    return all > GRID_LIMIT ? GRID_LIMIT + 1 : (size_t)all;
}

static bool in_any(const struct sweep *sweep, const struct sweep_cells *cells, size_t count,
                   const struct grid_point *point)
{
    for (size_t i = 0; i < count; i++)
        if (grid_holds(sweep, &cells[i], point)) return true;
    return false;
}

/* All axes of a zip that the point has stand at the same place. */
static bool zipped(const struct sweep *sweep, const struct sweep_zip *zip, const struct grid_point *point)
{
    bool tuned = sweep->methods[point->method].config.kind != METHOD_NONE;
    const uint32_t at[SWEEP_AXES] = {point->task, point->model, point->tokens, point->examples, point->seed};
    const bool has[SWEEP_AXES] = {true, true, true, tuned, tuned};
    int first = -1;
    for (int axis = 0; axis < SWEEP_AXES; axis++) {
        if (!zip->axes[axis] || !has[axis]) continue;
        if (first >= 0 && at[axis] != at[first]) return false;
        first = axis;
    }
    return true;
}

static bool near_centre(const struct sweep *sweep, const struct grid_point *point)
{
    const struct sweep_centre *centre = &sweep->centres[point->task];
    const struct sweep_method *method = &sweep->methods[point->method];
    int moved = (point->model != centre->model) + (point->tokens != centre->tokens) +
                (method->sizes[point->size] != centre->sizes[method->config.kind]);
    return !centre->given || moved <= 1;
}

static bool kept(const struct sweep *sweep, const struct grid_point *point)
{
    if (!near_centre(sweep, point)) return false;
    for (size_t i = 0; i < sweep->zip_count; i++)
        if (!zipped(sweep, &sweep->zips[i], point)) return false;
    for (size_t i = 0; i < sweep->only_count; i++)
        if (grid_holds(sweep, &sweep->only[i].when, point) && !grid_holds(sweep, &sweep->only[i].keep, point))
            return false;
    return !in_any(sweep, sweep->exclude, sweep->exclude_count, point);
}

bool grid_at_reference(const struct sweep_reference *cell, const struct grid_point *point)
{
    return point->model == cell->model && point->tokens == cell->tokens && point->size == cell->size &&
           point->examples == cell->examples && point->seed == cell->seed;
}

static void add(const struct sweep *sweep, struct grid *grid, struct grid_point point)
{
    const struct sweep_method *method = &sweep->methods[point.method];
    const struct sweep_reference *cell = &method->references[point.task];
    if (method->at_reference && !(cell->task == point.task && grid_at_reference(cell, &point))) {
        if (point.rate > 0) return;
        point.rate = GRID_TUNED;
    }
    if (!kept(sweep, &point)) {
        grid->excluded++;
        return;
    }
    point.held_out = in_any(sweep, sweep->held_out, sweep->held_out_count, &point);
    grid->held_out += point.held_out;
    grid->points[grid->count++] = point;
}

/* Finetuning axes of one base and method. */
static void add_method(const struct sweep *sweep, struct grid *grid, struct grid_point point)
{
    const struct sweep_method *method = &sweep->methods[point.method];
    bool tuned = method->config.kind != METHOD_NONE;
    size_t examples = tuned ? sweep->example_count : 1, seeds = tuned ? sweep->seed_count : 1;
    for (point.size = 0; point.size < method->size_count; point.size++)
        for (point.rate = 0; point.rate < method->learning_rate_count; point.rate++)
            for (point.examples = 0; point.examples < examples; point.examples++) {
                bool own =
                    !tuned || any_number(method->examples, method->example_count, sweep->examples[point.examples]);
                for (point.seed = 0; own && point.seed < seeds; point.seed++)
                    add(sweep, grid, point);
            }
}

static void add_base(const struct sweep *sweep, struct grid *grid, uint32_t task, uint32_t model, uint32_t tokens)
{
    struct grid_point point = {.task = task, .model = model, .tokens = tokens};
    for (point.method = 0; point.method < sweep->method_count; point.method++)
        if (sweep->methods[point.method].tasks >> task & 1) add_method(sweep, grid, point);
}

int grid_build(const struct sweep *sweep, struct grid *grid, struct error *err)
{
    *grid = (struct grid){0};
    size_t size = grid_size(sweep);
    if (size > GRID_LIMIT) return error_set(err, "the axes make more than %d points", GRID_LIMIT);
    grid->points = calloc(size ? size : 1, sizeof *grid->points);
    if (!grid->points) return error_set(err, "out of memory for %zu points", size);
    for (uint32_t task = 0; task < sweep->task_count; task++)
        for (uint32_t model = 0; model < sweep->model_count; model++)
            for (uint32_t tokens = 0; tokens < sweep->pretrain_token_count; tokens++)
                if (has_base(sweep, task, model, tokens)) add_base(sweep, grid, task, model, tokens);
    return 0;
}

void grid_destroy(struct grid *grid)
{
    free(grid->points);
    grid->points = NULL;
}
