/* The sweep file's exclusions and held-out cells: conditions on the axes, each of which must hold for some cell. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "orchestrator/sweep/grid.h"
#include "orchestrator/sweep/sweep_parts.h"

enum { CELLS_LIMIT = 256 };

static const char *const cell_keys[] = {"task",     "model", "parameters", "method", "pretrain_tokens",
                                        "examples", "size",  "seed",       NULL};

static void list_numbers(const uint64_t *axis, size_t count, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < count && used + 32 < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%" PRIu64, i ? ", " : "", axis[i]);
}

static bool on_axis(const uint64_t *axis, size_t count, uint64_t value)
{
    for (size_t i = 0; i < count; i++)
        if (axis[i] == value) return true;
    return false;
}

/* "< 1e9", "<= 8", "> 100", ">= 100", "100..1000": the range; false: something else. */
static bool parse_range(const char *text, struct sweep_range *range)
{
    double value, other;
    char end, first[32] = "";
    const char *dots = strstr(text, "..");
    if (dots && dots - text < (long)sizeof first) memcpy(first, text, (size_t)(dots - text));
    *range = (struct sweep_range){true, -INFINITY, INFINITY};
    if (sscanf(text, " <= %lf %c", &value, &end) == 1)
        range->most = value;
    else if (sscanf(text, " >= %lf %c", &value, &end) == 1)
        range->least = value;
    else if (sscanf(text, " < %lf %c", &value, &end) == 1)
        range->most = nextafter(value, -INFINITY);
    else if (sscanf(text, " > %lf %c", &value, &end) == 1)
        range->least = nextafter(value, INFINITY);
    else if (dots && sscanf(first, " %lf %c", &value, &end) == 1 && sscanf(dots + 2, " %lf %c", &other, &end) == 1 &&
             value <= other)
        *range = (struct sweep_range){true, value, other};
    else
        return false;
    return !isnan(range->least) && !isnan(range->most);
}

static void read_range(const struct config_group *group, const char *key, struct sweep_range *range)
{
    const char *text = config_take_string(group, key, 64);
    if (!config_file_failed(group->file) && !parse_range(text, range))
        config_fail(group, key, "\"%s\" is no range; allowed: \"< N\", \"<= N\", \"> N\", \">= N\", \"A..B\"", text);
}

/* Values of the axis, or a range of them. */
static uint64_t *read_numbers(const struct config_group *group, const char *key, const uint64_t *axis,
                              size_t axis_count, size_t *count, struct sweep_range *range)
{
    *count = 0;
    if (range && config_is_string(group, key)) {
        read_range(group, key, range);
        return NULL;
    }
    uint64_t *values = config_take_uints(group, key, 0, INT64_MAX, false, count);
    for (size_t i = 0; i < *count; i++) {
        if (on_axis(axis, axis_count, values[i])) continue;
        char allowed[300];
        list_numbers(axis, axis_count, allowed, sizeof allowed);
        config_fail_element(group, key, i, "%" PRIu64 " is not a value of that axis; allowed: %s", values[i], allowed);
        break;
    }
    return values;
}

void sweep_fail_name(const struct config_group *group, const char *key, size_t index, const char *name,
                     const char *const *axis, size_t axis_count)
{
    char allowed[300] = "";
    size_t used = 0;
    for (size_t i = 0; i < axis_count && used + 64 < sizeof allowed; i++)
        used += (size_t)snprintf(allowed + used, sizeof allowed - used, "%s%s", i ? ", " : "", axis[i]);
    const char *guess = config_guess(name, axis, axis_count);
    config_fail_element(group, key, index, "\"%s\" is not in the sweep%s%s%s; allowed: %s", name,
                        guess ? ", did you mean " : "", guess ? guess : "", guess ? "?" : "", allowed);
}

static char (*read_names(const struct config_group *group, const char *key, const char *const *axis, size_t axis_count,
                         size_t *count))[48]
{
    const char **names = config_take_strings(group, key, SWEEP_NAME, false, count);
    char(*out)[48] = *count ? calloc(*count, sizeof *out) : NULL;
    if (!out) *count = 0;
    for (size_t i = 0; i < *count; i++) {
        bool known = false;
        for (size_t j = 0; j < axis_count && !known; j++)
            known = !strcmp(axis[j], names[i]);
        if (!known) sweep_fail_name(group, key, i, names[i], axis, axis_count);
        snprintf(out[i], sizeof out[i], "%s", names[i]);
    }
    free(names);
    return out;
}

/* Names of tasks, models and methods, and all PET sizes, as lists to compare with. */
struct axes {
    const char **tasks, **models, **methods;
    uint64_t *sizes;
    size_t method_count, size_count;
};

static int axes_create(const struct sweep *sweep, struct axes *axes)
{
    size_t sizes = 0;
    for (size_t i = 0; i < sweep->method_count; i++)
        sizes += sweep->methods[i].size_count;
    axes->tasks = calloc(sweep->task_count, sizeof *axes->tasks);
    axes->models = calloc(sweep->model_count, sizeof *axes->models);
    axes->methods = calloc(sweep->method_count, sizeof *axes->methods);
    axes->sizes = calloc(sizes ? sizes : 1, sizeof *axes->sizes);
    if (!axes->tasks || !axes->models || !axes->methods || !axes->sizes) return -1;
    for (size_t i = 0; i < sweep->task_count; i++)
        axes->tasks[i] = sweep->tasks[i].name;
    for (size_t i = 0; i < sweep->model_count; i++)
        axes->models[i] = sweep->models[i].name;
    for (size_t i = 0; i < sweep->method_count; i++) {
        const struct sweep_method *method = &sweep->methods[i];
        bool again = false; /* for other tasks */
        for (size_t j = 0; j < i; j++)
            again = again || sweep->methods[j].config.kind == method->config.kind;
        if (!again) axes->methods[axes->method_count++] = method_name(method->config.kind);
        for (size_t j = 0; j < method->size_count; j++)
            if (method->sizes[j] && !on_axis(axes->sizes, axes->size_count, method->sizes[j]))
                axes->sizes[axes->size_count++] = method->sizes[j];
    }
    return 0;
}

static void axes_destroy(struct axes *axes)
{
    free(axes->tasks);
    free(axes->models);
    free(axes->methods);
    free(axes->sizes);
}

static void read_cells(const struct config_group *group, const struct sweep *sweep, const struct axes *axes,
                       struct sweep_cells *cells)
{
    cells->tasks = read_names(group, "task", axes->tasks, sweep->task_count, &cells->task_count);
    cells->models = read_names(group, "model", axes->models, sweep->model_count, &cells->model_count);
    cells->methods = read_names(group, "method", axes->methods, axes->method_count, &cells->method_count);
    cells->pretrain_tokens = read_numbers(group, "pretrain_tokens", sweep->pretrain_tokens, sweep->pretrain_token_count,
                                          &cells->pretrain_token_count, &cells->pretrain_token_range);
    cells->examples = read_numbers(group, "examples", sweep->examples, sweep->example_count, &cells->example_count,
                                   &cells->example_range);
    cells->sizes = read_numbers(group, "size", axes->sizes, axes->size_count, &cells->size_count, &cells->size_range);
    cells->seeds = read_numbers(group, "seed", sweep->seeds, sweep->seed_count, &cells->seed_count, NULL);
    if (config_has(group, "parameters")) read_range(group, "parameters", &cells->parameters);
    for (size_t i = 0; cell_keys[i]; i++)
        if (config_has(group, cell_keys[i])) return;
    config_fail(group, NULL,
                "no condition, this would be every cell; allowed: task, model, parameters, method, pretrain_tokens, "
                "examples, size, seed");
}

static struct sweep_cells *read_list(const struct config_group *root, const char *key, const struct sweep *sweep,
                                     const struct axes *axes, size_t *count)
{
    *count = config_open_list(root, key, false);
    if (*count > CELLS_LIMIT) config_fail(root, key, "%zu entries; allowed: up to %d", *count, CELLS_LIMIT);
    struct sweep_cells *list = *count ? calloc(*count, sizeof *list) : NULL;
    if (!list) *count = 0;
    for (size_t i = 0; i < *count && !config_file_failed(root->file); i++) {
        struct config_group group = config_open_element(root, key, i, cell_keys);
        read_cells(&group, sweep, axes, &list[i]);
    }
    return list;
}

/* An entry that holds for no point is a slip of the pen. Without held-out marks the grid is every point that may match.
 */
static void check_matches(const struct config_group *root, const char *key, const struct sweep *sweep,
                          const struct sweep_cells *list, size_t count, const struct grid *grid, const char *what)
{
    for (size_t i = 0; i < count; i++) {
        size_t point = 0;
        while (point < grid->count && !grid_holds(sweep, &list[i], &grid->points[point]))
            point++;
        if (point == grid->count) config_fail_element(root, key, i, "holds for no %s", what);
    }
}

static void read_conditionals(const struct config_group *root, struct sweep *sweep, const struct axes *axes)
{
    static const char *const keys[] = {"when", "keep", NULL};
    size_t count = config_open_list(root, "only", false);
    if (count > CELLS_LIMIT) config_fail(root, "only", "%zu entries; allowed: up to %d", count, CELLS_LIMIT);
    sweep->only = count ? calloc(count, sizeof *sweep->only) : NULL;
    sweep->only_count = sweep->only ? count : 0;
    for (size_t i = 0; i < sweep->only_count && !config_file_failed(root->file); i++) {
        struct config_group entry = config_open_element(root, "only", i, keys);
        struct config_group when = config_open_group(&entry, "when", cell_keys, true);
        struct config_group keep = config_open_group(&entry, "keep", cell_keys, true);
        if (config_file_failed(root->file)) return;
        read_cells(&when, sweep, axes, &sweep->only[i].when);
        read_cells(&keep, sweep, axes, &sweep->only[i].keep);
    }
}

static void check_grid(const struct config_group *root, struct sweep *sweep)
{
    struct error err;
    struct grid all = {0}, kept = {0};
    size_t excludes = sweep->exclude_count;
    sweep->exclude_count = 0;
    int rc = grid_build(sweep, &all, &err);
    sweep->exclude_count = excludes;
    if (!rc) rc = grid_build(sweep, &kept, &err);
    if (rc) {
        config_fail(root, NULL, "%s", err.text);
    } else {
        check_matches(root, "exclude", sweep, sweep->exclude, excludes, &all, "cell of the grid");
        for (size_t i = 0; i < sweep->only_count; i++)
            check_matches(root, "only", sweep, &sweep->only[i].when, 1, &all, "cell of the grid");
        sweep_check_methods(root, sweep, &kept);
        if (kept.count) sweep_check_references(root, sweep, &kept);
        if (!kept.count) config_fail(root, sweep->exclude_count ? "exclude" : "only", "no cell of the grid is left");
        check_matches(root, "held_out", sweep, sweep->held_out, sweep->held_out_count, &kept,
                      "cell of the grid that is not excluded");
        size_t tuned = 0, judged = 0;
        for (size_t i = 0; i < kept.count; i++)
            if (sweep->methods[kept.points[i].method].config.kind != METHOD_NONE) {
                tuned++;
                judged += kept.points[i].held_out;
            }
        if (tuned && judged == tuned)
            config_fail(root, "held_out", "every finetuned cell is held out, none is left to fit");
    }
    grid_destroy(&all);
    grid_destroy(&kept);
}

void sweep_read_cells(const struct config_group *root, struct sweep *sweep)
{
    struct axes axes = {0};
    if (config_file_failed(root->file)) return;
    if (axes_create(sweep, &axes)) {
        config_fail(root, NULL, "out of memory");
    } else {
        sweep_read_shape(root, sweep);
        sweep_read_references(root, sweep);
        read_conditionals(root, sweep, &axes);
        sweep->exclude = read_list(root, "exclude", sweep, &axes, &sweep->exclude_count);
        sweep->held_out = read_list(root, "held_out", sweep, &axes, &sweep->held_out_count);
    }
    axes_destroy(&axes);
    if (!config_file_failed(root->file)) check_grid(root, sweep);
}
