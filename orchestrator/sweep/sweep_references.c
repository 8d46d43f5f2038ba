/* Learning rates that are tuned once: the cell at which a method's candidates are tried, for each of its tasks. */
#include <inttypes.h>
#include <string.h>

#include "orchestrator/sweep/grid.h"
#include "orchestrator/sweep/sweep_parts.h"

static const char *const reference_keys[] = {"tasks",    "task", "model", "pretrain_tokens",
                                             "examples", "size", "seed",  NULL};

/* Required, also where the whole group is absent. */
static uint64_t take_number(const struct config_group *group, const char *key, uint64_t least, uint64_t most)
{
    if (!config_has(group, key) && !config_file_failed(group->file))
        config_fail(group, NULL, "key \"%s\" is missing", key);
    return config_take_uint(group, key, least, most);
}

uint32_t sweep_read_place(const struct config_group *group, const char *key, const uint64_t *axis, size_t count,
                          long usual)
{
    if (!config_has(group, key) && usual >= 0) return (uint32_t)usual;
    if (!config_has(group, key) && count == 1) return 0;
    uint64_t value = take_number(group, key, 0, INT64_MAX);
    for (uint32_t i = 0; i < count; i++)
        if (axis[i] == value) return i;
    if (!config_file_failed(group->file)) config_fail(group, key, "%" PRIu64 " is not a value of that axis", value);
    return 0;
}

uint32_t sweep_read_model(const struct config_group *group, const struct sweep *sweep, long usual)
{
    if (!config_has(group, "model") && usual >= 0) return (uint32_t)usual;
    if (!config_has(group, "model") && sweep->model_count == 1) return 0;
    if (!config_has(group, "model") && !config_file_failed(group->file))
        config_fail(group, NULL,
                    "rates = \"reference\" and no model that says where they are tried; needed: "
                    "reference = { model = NAME; ... }");
    const char *name = config_take_string(group, "model", SWEEP_NAME);
    for (uint32_t i = 0; i < sweep->model_count && !config_file_failed(group->file); i++)
        if (!strcmp(sweep->models[i].name, name)) return i;
    if (!config_file_failed(group->file)) config_fail(group, "model", "\"%s\" is no model of this sweep", name);
    return 0;
}

/* Place among the method's PET sizes. Absent: the centre's. */
static uint32_t read_size(const struct config_group *group, const struct sweep_method *method,
                          const struct sweep_centre *centre)
{
    bool wanted = config_has(group, "size");
    if (method->sizes[0] == 0 || (!wanted && method->size_count == 1)) {
        if (wanted && method->sizes[0] == 0) config_fail(group, "size", "method full has no PET size");
        return 0;
    }
    uint64_t value =
        wanted || !centre->given ? take_number(group, "size", 1, UINT32_MAX) : centre->sizes[method->config.kind];
    return sweep_size_place(group, "size", method, value);
}

static uint32_t read_task(const struct config_group *group, const struct sweep *sweep, uint32_t own)
{
    const char *names[SWEEP_TASKS];
    for (size_t i = 0; i < sweep->task_count; i++)
        names[i] = sweep->tasks[i].name;
    if (!config_has(group, "task")) return own;
    return (uint32_t)config_take_choice(group, "task", names, sweep->task_count, (int)own);
}

/* The cell of one task. */
static void read_cell(const struct config_group *group, struct sweep *sweep, struct sweep_method *method, uint32_t task)
{
    struct sweep_reference *cell = &method->references[task];
    cell->task = read_task(group, sweep, task);
    const struct sweep_centre *centre = &sweep->centres[cell->task];
    cell->model = sweep_read_model(group, sweep, centre->given ? (long)centre->model : -1);
    cell->tokens = sweep_read_place(group, "pretrain_tokens", sweep->pretrain_tokens, sweep->pretrain_token_count,
                                    centre->given ? (long)centre->tokens : -1);
    cell->size = read_size(group, method, centre);
    cell->examples = sweep_read_place(group, "examples", sweep->examples, sweep->example_count, -1);
    cell->seed = sweep_read_place(group, "seed", sweep->seeds, sweep->seed_count, 0);
}

/* One group for all tasks of the method, or a list of groups with their tasks. */
static void read_references(const struct config_group *method_group, struct sweep *sweep, struct sweep_method *method)
{
    static const char key[] = "reference";
    bool list = config_is_list(method_group, key);
    size_t count = list ? config_open_list(method_group, key, true) : 1;
    uint32_t seen = 0;
    for (size_t i = 0; i < count && !config_file_failed(method_group->file); i++) {
        struct config_group group = list ? config_open_element(method_group, key, i, reference_keys)
                                         : config_open_group(method_group, key, reference_keys, false);
        uint32_t tasks = sweep_read_task_names(&group, sweep) & method->tasks;
        if (seen & tasks) config_fail(&group, "tasks", "a task has a reference cell already");
        seen |= tasks;
        for (uint32_t task = 0; task < sweep->task_count && !config_file_failed(method_group->file); task++)
            if (tasks >> task & 1) read_cell(&group, sweep, method, task);
    }
    for (uint32_t task = 0; task < sweep->task_count; task++)
        if (method->tasks >> task & 1 && !(seen >> task & 1))
            config_fail(method_group, key, "task \"%s\" has no reference cell", sweep->tasks[task].name);
}

void sweep_read_references(const struct config_group *root, struct sweep *sweep)
{
    for (size_t i = 0; i < sweep->method_count && !config_file_failed(root->file); i++) {
        struct sweep_method *method = &sweep->methods[i];
        if (!method->at_reference) continue;
        struct config_group group = sweep_open_method(root, sweep, i);
        if (!config_file_failed(root->file)) read_references(&group, sweep, method);
    }
}

/* Every cell is there, and belongs to the method. */
static bool in_grid(const struct sweep_reference *cell, uint32_t method, const struct grid *grid)
{
    for (size_t i = 0; i < grid->count; i++) {
        const struct grid_point *point = &grid->points[i];
        if (point->method == method && point->rate != GRID_TUNED && point->task == cell->task &&
            grid_at_reference(cell, point))
            return true;
    }
    return false;
}

void sweep_check_references(const struct config_group *root, const struct sweep *sweep, const struct grid *grid)
{
    for (uint32_t i = 0; i < sweep->method_count; i++) {
        const struct sweep_method *method = &sweep->methods[i];
        for (uint32_t task = 0; method->at_reference && task < sweep->task_count; task++) {
            const struct sweep_reference *cell = &method->references[task];
            if (!(method->tasks >> task & 1) || config_file_failed(root->file) || in_grid(cell, i, grid)) continue;
            struct config_group group = sweep_open_method(root, sweep, i);
            config_fail(&group, "reference",
                        "the reference cell (%s, %s, %" PRIu64 " tokens, size %" PRIu32 ", %" PRIu64
                        " examples, seed %" PRIu64 ") is not in the grid",
                        sweep->tasks[cell->task].name, sweep->models[cell->model].name,
                        sweep->pretrain_tokens[cell->tokens], method->sizes[cell->size],
                        sweep->examples[cell->examples], sweep->seeds[cell->seed]);
        }
    }
}
