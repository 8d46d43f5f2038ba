/* The shape of the grid in the sweep file: axes that go together, and one axis at a time around a centre. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "orchestrator/sweep/sweep_parts.h"

static const char *const axis_names[SWEEP_AXES] = {"task", "model", "pretrain_tokens", "examples", "seed"};

static size_t axis_length(const struct sweep *sweep, int axis)
{
    const size_t lengths[SWEEP_AXES] = {sweep->task_count, sweep->model_count, sweep->pretrain_token_count,
                                        sweep->example_count, sweep->seed_count};
    return lengths[axis];
}

static void read_zip(const struct config_group *group, const struct sweep *sweep, struct sweep_zip *zip)
{
    size_t count = 0;
    const char **names = config_take_strings(group, "axes", SWEEP_NAME, true, &count);
    int first = -1;
    if (names && count < 2) config_fail(group, "axes", "one axis; allowed: two or more");
    for (size_t i = 0; i < count && !config_file_failed(group->file); i++) {
        int axis = 0;
        while (axis < SWEEP_AXES && strcmp(axis_names[axis], names[i]) != 0)
            axis++;
        if (axis == SWEEP_AXES) {
            config_fail_element(group, "axes", i,
                                "\"%s\" is no axis; allowed: task, model, pretrain_tokens, examples, seed", names[i]);
            break;
        }
        if (first < 0) first = axis;
        if (axis_length(sweep, axis) != axis_length(sweep, first))
            config_fail_element(group, "axes", i, "%zu values, but %s has %zu; axes of a zip have equally many",
                                axis_length(sweep, axis), axis_names[first], axis_length(sweep, first));
        zip->axes[axis] = true;
    }
    free(names);
}

static void read_zips(const struct config_group *root, struct sweep *sweep)
{
    static const char *const keys[] = {"axes", NULL};
    size_t count = config_open_list(root, "zip", false);
    sweep->zips = count ? calloc(count, sizeof *sweep->zips) : NULL;
    sweep->zip_count = sweep->zips ? count : 0;
    for (size_t i = 0; i < sweep->zip_count && !config_file_failed(root->file); i++) {
        struct config_group group = config_open_element(root, "zip", i, keys);
        read_zip(&group, sweep, &sweep->zips[i]);
    }
}

static uint32_t read_size(const struct config_group *group, const struct sweep_method *method)
{
    const char *key = method_name(method->config.kind);
    if (!config_has(group, key) && method->size_count == 1) return method->sizes[0];
    uint64_t value = config_take_uint(group, key, 0, UINT32_MAX);
    return method->sizes[sweep_size_place(group, key, method, value)];
}

static const char *const centre_keys[] = {"tasks",  "model",  "pretrain_tokens", "lora",
                                          "prompt", "prefix", "adapter",         NULL};

/* The centre of these tasks. */
static void read_centre(const struct config_group *group, struct sweep *sweep)
{
    struct sweep_centre centre = {.given = true};
    uint32_t tasks = sweep_read_task_names(group, sweep);
    centre.model = sweep_read_model(group, sweep, -1);
    centre.tokens = sweep_read_place(group, "pretrain_tokens", sweep->pretrain_tokens, sweep->pretrain_token_count, -1);
    for (size_t i = 0; i < sweep->method_count && !config_file_failed(group->file); i++) {
        enum method_kind kind = sweep->methods[i].config.kind;
        if (method_sizes(kind) && sweep->methods[i].tasks & tasks)
            centre.sizes[kind] = read_size(group, &sweep->methods[i]);
    }
    for (size_t task = 0; task < sweep->task_count && !config_file_failed(group->file); task++) {
        if (!(tasks >> task & 1)) continue;
        if (!(sweep->bases[centre.model].tasks >> task & 1))
            config_fail(group, "model", "\"%s\" is no model of task \"%s\"", sweep->models[centre.model].name,
                        sweep->tasks[task].name);
        if (sweep->centres[task].given)
            config_fail(group, "tasks", "task \"%s\" has a centre already", sweep->tasks[task].name);
        sweep->centres[task] = centre;
    }
    if (!config_file_failed(group->file) && !sweep_has_base(sweep, centre.model, centre.tokens))
        config_fail(group, "pretrain_tokens", "model \"%s\" has no base of %" PRIu64 " tokens",
                    sweep->models[centre.model].name, sweep->pretrain_tokens[centre.tokens]);
}

/* One group for all tasks, or a list of groups with their tasks. */
static void read_centres(const struct config_group *root, struct sweep *sweep)
{
    static const char key[] = "one_at_a_time";
    if (!config_is_list(root, key)) {
        struct config_group group = config_open_group(root, key, centre_keys, false);
        if (group.present) read_centre(&group, sweep);
        return;
    }
    size_t count = config_open_list(root, key, true);
    for (size_t i = 0; i < count && !config_file_failed(root->file); i++) {
        struct config_group group = config_open_element(root, key, i, centre_keys);
        read_centre(&group, sweep);
    }
}

void sweep_read_shape(const struct config_group *root, struct sweep *sweep)
{
    read_zips(root, sweep);
    if (!config_file_failed(root->file)) read_centres(root, sweep);
}
