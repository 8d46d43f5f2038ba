/* The sweep file's options of methods: keys of one method alone, beside its sizes, learning rates and recipe. */
#include <stdlib.h>

#include "orchestrator/sweep_parts.h"

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
    if (config->modules == modules_find("all")) config->modules = 0;
    struct error err;
    for (size_t i = 0; i < sweep->model_count && count && !config_file_failed(group->file); i++)
        if (meets(sweep, i, method) && method_modules_check(config, &sweep->models[i], &err))
            config_fail(group, "modules", "%s", err.text);
}

void sweep_read_options(const struct config_group *group, const struct sweep *sweep, struct sweep_method *method)
{
    struct method_config *config = &method->config;
    if (config->kind != METHOD_LORA) return;
    config->alpha = config_take_double_or(group, "alpha", CONFIG_POSITIVE, 1e6, 16.0);
    config->rank_stabilised = config_take_bool_or(group, "rank_stabilised", false);
    config->dropout = config_take_double_or(group, "lora_dropout", 0.0, 0.999999, 0.0);
    read_modules(group, sweep, method);
}
