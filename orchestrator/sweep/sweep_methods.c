/* The sweep file's list of methods: PET sizes, learning rates, and what a method changes in the finetuning recipe. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "orchestrator/sweep/sweep_parts.h"

#define OVERRIDE_KEYS                                                                                                  \
    "rates", "reference", "examples", "sequence_length", "batch", "epochs", "max_steps", PASS_KEYS, RECIPE_KEYS
static const char *const none_keys[] = {"name", "tasks", "start", "sequence_length", NULL};
static const char *const full_keys[] = {"name", "tasks", "learning_rates", OVERRIDE_KEYS, NULL};
static const char *const lora_keys[] = {"name",    "tasks",        "ranks", "alpha",          "rank_stabilised",
                                        "modules", "lora_dropout", "start", "learning_rates", OVERRIDE_KEYS,
                                        NULL};
static const char *const prompt_keys[] = {"name",  "tasks",          "lengths",     "text",
                                          "start", "learning_rates", OVERRIDE_KEYS, NULL};
static const char *const any_keys[] = {
    "name",           "tasks",        "ranks",     "lengths",     "widths",     "alpha", "rank_stabilised",
    "modules",        "lora_dropout", "placement", "thaw_layers", "thaw_steps", "text",  "start",
    "learning_rates", OVERRIDE_KEYS,  NULL};
static const char *const prefix_keys[] = {"name", "tasks", "lengths", "start", "learning_rates", OVERRIDE_KEYS, NULL};
static const char *const ia3_keys[] = {"name", "tasks", "modules", "start", "learning_rates", OVERRIDE_KEYS, NULL};
static const char *const adapter_keys[] = {"name",           "tasks",       "widths", "placement",
                                           "learning_rates", OVERRIDE_KEYS, NULL};
static const char *const unfreeze_keys[] = {"name",           "tasks",       "thaw_layers", "thaw_steps",
                                            "learning_rates", OVERRIDE_KEYS, NULL};
static const char *const *const keys_of[METHODS] = {none_keys, full_keys, lora_keys,    prompt_keys,  prefix_keys,
                                                    ia3_keys,  full_keys, adapter_keys, unfreeze_keys};

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void read_sizes(const struct config_group *group, struct sweep_method *method)
{
    const char *key = method_sizes(method->config.kind);
    if (!key) {
        method->sizes = calloc(1, sizeof *method->sizes);
        method->size_count = method->sizes ? 1 : 0;
        return;
    }
    if (method->start.dir[0]) {
        sweep_read_start_size(group, key, method);
        return;
    }
    uint64_t *sizes = config_take_uints(group, key, 1, UINT32_MAX, true, &method->size_count);
    method->sizes = sizes ? calloc(method->size_count, sizeof *method->sizes) : NULL;
    if (!method->sizes) method->size_count = 0;
    for (size_t i = 0; i < method->size_count; i++)
        method->sizes[i] = (uint32_t)sizes[i];
    free(sizes);
    if (method->sizes) qsort(method->sizes, method->size_count, sizeof *method->sizes, ascending);
}

static void read_rates(const struct config_group *group, struct sweep_method *method)
{
    if (method->config.kind == METHOD_NONE) {
        method->learning_rates = calloc(1, sizeof *method->learning_rates);
        method->learning_rate_count = method->learning_rates ? 1 : 0;
        return;
    }
    static const char *const modes[] = {"per_cell", "reference"};
    method->learning_rates =
        config_take_doubles(group, "learning_rates", CONFIG_POSITIVE, 1e3, true, &method->learning_rate_count);
    method->at_reference = config_take_choice(group, "rates", modes, 2, 0) == 1;
    if (method->at_reference && method->learning_rate_count == 1)
        config_fail(group, "learning_rates",
                    "one, which leaves nothing to be tuned; allowed with rates = \"reference\": "
                    "two or more");
    if (!method->at_reference && config_has(group, "reference"))
        config_fail(group, "reference", "rates is \"per_cell\"; allowed with rates = \"reference\"");
}

uint32_t sweep_size_place(const struct config_group *group, const char *key, const struct sweep_method *method,
                          uint64_t value)
{
    for (uint32_t i = 0; i < method->size_count; i++)
        if (method->sizes[i] == value) return i;
    if (!config_file_failed(group->file))
        config_fail(group, key, "%" PRIu64 " is not a size of method %s; allowed: one that it has", value,
                    method_name(method->config.kind));
    return 0;
}

static void check_steps(const struct config_group *group, const struct sweep_method *method)
{
    if (method->epochs <= 0.0 && !method->recipe.steps) {
        config_fail(group, NULL, "no length of training: give epochs, max_steps, or both, in finetune or here");
        return;
    }
    uint64_t least = sweep_finetune_steps(method, method->examples[0]);
    if (least > SWEEP_STEPS_LIMIT ||
        sweep_finetune_steps(method, method->examples[method->example_count - 1]) > SWEEP_STEPS_LIMIT)
        config_fail(group, "epochs", "more than %" PRIu64 " steps", SWEEP_STEPS_LIMIT);
    if (method->recipe.warmup_steps >= least)
        config_fail(group, "warmup_steps",
                    "warmup_steps %" PRIu64 "%s is not below the %" PRIu64 " steps that %" PRIu64
                    " examples make; allowed: 0..%" PRIu64,
                    method->recipe.warmup_steps, config_has(group, "warmup_steps") ? "" : " (of finetune)", least,
                    method->examples[0], least - 1);
}

/* Points share only what is the same to the bit: where it is not, the reason. */
static void check_share(const struct config_group *group, const struct sweep_method *method)
{
    const struct recipe *recipe = &method->recipe;
    if (method->at_reference)
        config_fail(group, "share",
                    "the learning rate is tuned at a reference cell; allowed with rates = \"per_cell\"");
    if (recipe->order != ORDER_STREAM)
        config_fail(group, "share", "the order of examples is each size's own; allowed with order = \"stream\"");
    if (recipe->schedule == SCHEDULE_LINEAR || recipe->schedule == SCHEDULE_COSINE)
        config_fail(group, "share",
                    "the schedule \"%s\" falls from the start towards each point's own end; allowed with constant, "
                    "inverse_sqrt and wsd",
                    schedule_name(recipe->schedule));
    if (!recipe->evaluation_steps)
        config_fail(group, "share",
                    "validations are spread over each point's own steps; allowed with evaluation_steps");
    if (recipe->patience)
        config_fail(group, "share", "patience may end a point before the others; allowed with patience = 0");
}

/* The method's own finetuning sizes, or those of the sweep. */
static void read_examples(const struct config_group *group, const struct sweep *sweep, struct sweep_method *method)
{
    if (config_has(group, "examples")) {
        method->examples = sweep_read_examples(group, sweep, method->tasks, &method->example_count);
        return;
    }
    const struct sweep_task *least = sweep_smallest_task(sweep, method->tasks);
    uint64_t most = sweep->example_count ? sweep->examples[sweep->example_count - 1] : 0;
    if (least && most > least->data.examples[SPLIT_TRAIN]) {
        config_fail(group, NULL,
                    "%" PRIu64 " examples (finetune.examples), more than the data set of task %s has; allowed: "
                    "1..%zu, or examples of this method's own",
                    most, least->name, least->data.examples[SPLIT_TRAIN]);
        return;
    }
    method->examples = calloc(sweep->example_count + 1, sizeof *method->examples);
    if (!method->examples) {
        config_fail(group, NULL, "out of memory");
        return;
    }
    memcpy(method->examples, sweep->examples, sweep->example_count * sizeof *method->examples);
    method->example_count = sweep->example_count;
}

static void read_overrides(const struct config_group *group, const struct sweep *sweep, struct sweep_method *method)
{
    struct recipe *recipe = &method->recipe;
    read_examples(group, sweep, method);
    recipe->sequence_length =
        (uint32_t)config_take_uint_or(group, "sequence_length", 2, 1 << 20, recipe->sequence_length);
    recipe->batch = (uint32_t)config_take_uint_or(group, "batch", 1, 1 << 20, recipe->batch);
    method->epochs = config_take_double_or(group, "epochs", 0.0, 1e6, method->epochs);
    recipe->steps = config_take_uint_or(group, "max_steps", 0, SWEEP_STEPS_LIMIT, recipe->steps);
    sweep_read_passes(group, recipe, &method->share);
    sweep_read_recipe(group, recipe);
    if (!config_file_failed(group->file)) check_steps(group, method);
    if (method->share && !config_file_failed(group->file)) check_share(group, method);
}

/* A method is there once for a task. */
static void check_once(const struct config_group *group, const struct sweep *sweep, size_t index)
{
    const struct sweep_method *method = &sweep->methods[index];
    for (size_t i = 0; i < index; i++) {
        uint32_t both = sweep->methods[i].tasks & method->tasks, task = 0;
        if (sweep->methods[i].config.kind != method->config.kind || !both) continue;
        while (!(both >> task & 1))
            task++;
        config_fail(group, "name", "\"%s\" is methods[%zu], too%s%s; sizes and learning rates are lists of one entry",
                    method_name(method->config.kind), i, sweep->task_count > 1 ? ", for task " : "",
                    sweep->task_count > 1 ? sweep->tasks[task].name : "");
    }
}

struct config_group sweep_open_method(const struct config_group *root, const struct sweep *sweep, size_t index)
{
    return config_open_element(root, "methods", index, keys_of[sweep->methods[index].config.kind]);
}

static void read_method(const struct config_group *root, struct sweep *sweep, size_t index)
{
    const char *names[METHODS];
    for (int i = 0; i < METHODS; i++)
        names[i] = method_name((enum method_kind)i);
    struct sweep_method *method = &sweep->methods[index];
    struct config_group any = config_open_element(root, "methods", index, any_keys);
    method->tasks = sweep_read_task_names(&any, sweep);
    method->config.kind = (enum method_kind)config_take_choice(&any, "name", names, METHODS, -1);
    struct config_group group = sweep_open_method(root, sweep, index);
    check_once(&group, sweep, index);
    sweep_read_options(&group, sweep, method);
    sweep_read_start(&group, sweep, method);
    read_sizes(&group, method);
    read_rates(&group, method);
    if (method->config.kind == METHOD_NONE)
        method->recipe.sequence_length =
            (uint32_t)config_take_uint_or(&group, "sequence_length", 2, 1 << 20, method->recipe.sequence_length);
    else if (!config_file_failed(root->file))
        read_overrides(&group, sweep, method);
}

/* The axis: what any method has. (The methods have their own lists by now.) */
static int join_examples(struct sweep *sweep)
{
    size_t count = 0, most = sweep->example_count;
    for (size_t i = 0; i < sweep->method_count; i++)
        most += sweep->methods[i].example_count;
    uint64_t *all = calloc(most + 1, sizeof *all);
    if (!all) return -1;
    for (size_t i = 0; i < sweep->method_count; i++) {
        if (!sweep->methods[i].examples) continue; /* none */
        memcpy(all + count, sweep->methods[i].examples, sweep->methods[i].example_count * sizeof *all);
        count += sweep->methods[i].example_count;
    }
    if (!count) { /* untuned models alone */
        memcpy(all, sweep->examples, sweep->example_count * sizeof *all);
        count = sweep->example_count;
    }
    sweep_sort_axis(all, count);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (!kept || all[i] != all[kept - 1]) all[kept++] = all[i];
    free(sweep->examples);
    sweep->examples = all;
    sweep->example_count = kept;
    return 0;
}

void sweep_read_methods(const struct config_group *root, struct sweep *sweep, const struct recipe *recipe,
                        double epochs, bool share)
{
    size_t count = config_open_list(root, "methods", true);
    sweep->methods = count ? calloc(count, sizeof *sweep->methods) : NULL;
    sweep->method_count = sweep->methods ? count : 0;
    for (size_t i = 0; i < sweep->method_count && !config_file_failed(root->file); i++) {
        sweep->methods[i].recipe = *recipe;
        sweep->methods[i].epochs = epochs;
        sweep->methods[i].share = share;
        read_method(root, sweep, i);
    }
    for (size_t task = 0; task < sweep->task_count && !config_file_failed(root->file); task++) {
        bool has_method = false, has_model = false;
        for (size_t i = 0; i < sweep->method_count; i++)
            has_method = has_method || sweep->methods[i].tasks >> task & 1;
        for (size_t i = 0; i < sweep->model_count; i++)
            has_model = has_model || sweep->bases[i].tasks >> task & 1;
        if (!has_method || !has_model)
            config_fail(root, has_method ? "models" : "methods", "none of them has task \"%s\"",
                        sweep->tasks[task].name);
    }
    if (!config_file_failed(root->file) && join_examples(sweep)) config_fail(root, "methods", "out of memory");
}

uint64_t sweep_finetune_steps(const struct sweep_method *method, uint64_t examples)
{
    if (method->config.kind == METHOD_NONE) return 0;
    uint64_t limit = method->recipe.steps ? method->recipe.steps : UINT64_MAX;
    if (method->epochs <= 0.0) return limit;
    double steps = ceil(method->epochs * (double)examples / method->recipe.batch);
    return steps < (double)limit ? (uint64_t)steps : limit;
}
