/* Axes -> points: the second arrow of the way of the data. */
#include "orchestrator/grid.h"

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

bool grid_holds(const struct sweep *sweep, const struct sweep_cells *cells, const struct grid_point *point)
{
    const struct sweep_method *method = &sweep->methods[point->method];
    enum method_kind kind = method->config.kind;
    bool tuned = kind != METHOD_NONE, sized = kind == METHOD_LORA || kind == METHOD_PROMPT;
    if ((!tuned && (cells->example_count || cells->seed_count)) || (!sized && cells->size_count)) return false;
    return any_number(cells->examples, cells->example_count, sweep->examples[point->examples]) &&
           any_number(cells->seeds, cells->seed_count, sweep->seeds[point->seed]) &&
           any_number(cells->sizes, cells->size_count, method->sizes[point->size]) &&
           any_number(cells->pretrain_tokens, cells->pretrain_token_count, sweep->pretrain_tokens[point->tokens]) &&
           any_name(cells->models, cells->model_count, sweep->models[point->model].name) &&
           any_name(cells->methods, cells->method_count, method_name(kind));
}

/* Points of one model, token count and method. */
static double method_points(const struct sweep *sweep, const struct sweep_method *method)
{
    if (method->config.kind == METHOD_NONE) return 1.0;
    return (double)method->size_count * (double)method->learning_rate_count * (double)sweep->example_count *
           (double)sweep->seed_count;
}

size_t grid_size(const struct sweep *sweep)
{
    double each = 0.0;
    for (size_t i = 0; i < sweep->method_count; i++)
        each += method_points(sweep, &sweep->methods[i]);
    double all = each * (double)sweep->model_count * (double)sweep->pretrain_token_count;
    return all > GRID_LIMIT ? GRID_LIMIT + 1 : (size_t)all;
}

static bool in_any(const struct sweep *sweep, const struct sweep_cells *cells, size_t count,
                   const struct grid_point *point)
{
    for (size_t i = 0; i < count; i++)
        if (grid_holds(sweep, &cells[i], point)) return true;
    return false;
}

static void add(const struct sweep *sweep, struct grid *grid, struct grid_point point)
{
    if (in_any(sweep, sweep->exclude, sweep->exclude_count, &point)) {
        grid->excluded++;
        return;
    }
    point.held_out = in_any(sweep, sweep->held_out, sweep->held_out_count, &point);
    grid->held_out += point.held_out;
    grid->points[grid->count++] = point;
}

/* Finetuning axes of one model, token count and method. */
static void add_method(const struct sweep *sweep, struct grid *grid, struct grid_point point)
{
    const struct sweep_method *method = &sweep->methods[point.method];
    bool tuned = method->config.kind != METHOD_NONE;
    size_t examples = tuned ? sweep->example_count : 1, seeds = tuned ? sweep->seed_count : 1;
    for (point.size = 0; point.size < method->size_count; point.size++)
        for (point.rate = 0; point.rate < method->learning_rate_count; point.rate++)
            for (point.examples = 0; point.examples < examples; point.examples++)
                for (point.seed = 0; point.seed < seeds; point.seed++)
                    add(sweep, grid, point);
}

int grid_build(const struct sweep *sweep, struct grid *grid, struct error *err)
{
    *grid = (struct grid){0};
    size_t size = grid_size(sweep);
    if (size > GRID_LIMIT) return error_set(err, "the axes make more than %d points", GRID_LIMIT);
    grid->points = calloc(size ? size : 1, sizeof *grid->points);
    if (!grid->points) return error_set(err, "out of memory for %zu points", size);
    struct grid_point point = {0};
    for (point.model = 0; point.model < sweep->model_count; point.model++)
        for (point.tokens = 0; point.tokens < sweep->pretrain_token_count; point.tokens++)
            for (point.method = 0; point.method < sweep->method_count; point.method++)
                add_method(sweep, grid, point);
    return 0;
}

void grid_destroy(struct grid *grid)
{
    free(grid->points);
    grid->points = NULL;
}
