/* The sweep file's options of methods: keys of one method alone, beside its sizes, learning rates and recipe. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/text/text.h"
#include "orchestrator/sweep/sweep_parts.h"
#include "workers/model/prompt_text.h"

/* The method is there for the model. */
static bool meets(const struct sweep *sweep, size_t model, const struct sweep_method *method)
{
    return (sweep->bases[model].tasks & method->tasks) != 0;
}

/* Some model of the method has a matrix of these places. */
static bool modules_used(const struct sweep *sweep, const struct sweep_method *method, uint32_t modules)
{
    struct linear_size size;
    for (size_t i = 0; i < sweep->model_count; i++)
        for (int kind = 0; kind < LINEARS && meets(sweep, i, method); kind++)
            if (modules >> kind & 1 && model_linear(&sweep->models[i], (enum linear_kind)kind, &size)) return true;
    return false;
}

static void read_modules(const struct config_group *group, const struct sweep *sweep, struct sweep_method *method)
{
    size_t count;
    struct method_config *config = &method->config;
    const char **names = config_take_strings(group, "modules", SWEEP_NAME, false, &count);
    for (size_t i = 0; i < count && !config_file_failed(group->file); i++) {
        uint32_t found = modules_find(names[i]);
        if (!modules_used(sweep, method, found))
            config_fail_element(group, "modules", i,
                                "\"%s\" is no matrix of a layer of any model here; allowed: attention, mlp, all, or "
                                "names such as q_proj",
                                names[i]);
        config->modules |= found;
    }
    free(names);
    if (config->modules == modules_usual(config->kind)) config->modules = 0;
}

/* The text that a prompt begins as must be something to the tokenizer of each task. */
static void check_text(const struct config_group *group, const struct sweep_task *task, const char *text)
{
    struct error err = {""};
    int32_t *ids = NULL;
    size_t count;
    if (!task->there) return;
    struct dataset *dataset = dataset_open(task->dataset, &err);
    if (!dataset || prompt_text_ids(dataset, text, &ids, &count, &err)) config_fail(group, "text", "%s", err.text);
    free(ids);
    dataset_close(dataset);
}

static void read_text(const struct config_group *group, const struct sweep *sweep, struct sweep_method *method)
{
    if (!config_has(group, "text")) return;
    const char *text = config_take_string(group, "text", PROMPT_TEXT - 1);
    if (config_file_failed(group->file)) return;
    if (!text_is_utf8(text, strlen(text))) {
        config_fail(group, "text", "the text is not UTF-8");
        return;
    }
    snprintf(method->config.text, sizeof method->config.text, "%s", text);
    for (size_t task = 0; task < sweep->task_count && !config_file_failed(group->file); task++)
        if (method->tasks >> task & 1) check_text(group, &sweep->tasks[task], text);
}

static void read_placement(const struct config_group *group, struct method_config *config)
{
    static const char *const placements[] = {"both", "mlp"};
    config->mlp_only = config_take_choice(group, "placement", placements, 2, 0) == 1;
}

static void read_thaw(const struct config_group *group, struct method_config *config)
{
    config->thaw_layers = (uint32_t)config_take_uint_or(group, "thaw_layers", 1, UINT32_MAX, 1);
    config->thaw_steps = config_take_uint(group, "thaw_steps", 1, SWEEP_STEPS_LIMIT);
}

void sweep_read_options(const struct config_group *group, const struct sweep *sweep, struct sweep_method *method)
{
    struct method_config *config = &method->config;
    switch (config->kind) {
    case METHOD_LORA:
        config->alpha = config_take_double_or(group, "alpha", CONFIG_POSITIVE, 1e6, 16.0);
        config->rank_stabilised = config_take_bool_or(group, "rank_stabilised", false);
        config->dropout = config_take_double_or(group, "lora_dropout", 0.0, 0.999999, 0.0);
        read_modules(group, sweep, method);
        break;
    case METHOD_PROMPT:
        read_text(group, sweep, method);
        break;
    case METHOD_IA3:
        read_modules(group, sweep, method);
        break;
    case METHOD_ADAPTER:
        read_placement(group, config);
        break;
    case METHOD_UNFREEZE:
        read_thaw(group, config);
        break;
    default:
        break;
    }
}
