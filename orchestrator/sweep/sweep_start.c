/* The sweep file's key `start` of a method: a PEFT folder with the adapter that its training starts from, or, of the
 * method none, that the model is evaluated with. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "orchestrator/sweep/sweep_parts.h"
#include "workers/files/peft.h"

/* Both mean the same matrices of the model. */
static bool same_modules(const struct model_config *model, const struct method_config *a, const struct method_config *b)
{
    struct linear_size size;
    for (int i = 0; i < LINEARS; i++) {
        enum linear_kind kind = (enum linear_kind)i;
        if (model_linear(model, kind, &size) && method_module(a, kind) != method_module(b, kind)) return false;
    }
    return true;
}

/* The adapter on one more model: the same method everywhere. */
static int check_model(const struct model_config *model, struct sweep_start *start, struct error *err)
{
    struct method_config found;
    struct digest identity;
    if (peft_config(start->dir, model, &found, err) || peft_identify(start->dir, model, &found, &identity, err))
        return error_prefix(err, "on model \"%s\"", model->name);
    if (start->identity.hex[0] && strcmp(identity.hex, start->identity.hex))
        return error_set(err, "%s: on model \"%s\" it is another adapter than on the models before it", start->dir,
                         model->name);
    start->method = found;
    start->identity = identity;
    return 0;
}

int sweep_check_start(const struct model_config *model, const struct sweep_start *start, struct error *err)
{
    struct sweep_start copy = *start;
    return check_model(model, &copy, err);
}

/* On the models that have a task of the method; on one at least, since cells of the others may be excluded. */
static void check_models(const struct config_group *group, const struct sweep *sweep, uint32_t tasks,
                         struct sweep_start *start)
{
    struct error err, first = {""};
    bool fits = false;
    for (size_t i = 0; i < sweep->model_count; i++) {
        if (!(sweep->bases[i].tasks & tasks)) continue;
        if (!check_model(&sweep->models[i], start, &err))
            fits = true;
        else if (!first.text[0])
            first = err;
    }
    start->partial = first.text[0];
    if (!fits && start->partial) config_fail(group, "start", "%s", first.text);
}

/* What the entry says beside `start` is what the adapter is; what it does not say, the adapter says. */
static void take_modules(const struct config_group *group, const struct sweep *sweep, struct sweep_method *method)
{
    struct method_config *config = &method->config;
    const struct method_config *start = &method->start.method;
    for (size_t i = 0; config_has(group, "modules") && i < sweep->model_count; i++)
        if (sweep->bases[i].tasks & method->tasks && !same_modules(&sweep->models[i], config, start))
            config_fail(group, "modules", "the adapter in start has others; allowed: the same, or none");
    config->modules = start->modules;
}

static void take_lora(const struct config_group *group, const struct sweep *sweep, struct sweep_method *method)
{
    struct method_config *config = &method->config;
    const struct method_config *start = &method->start.method;
    if (config_has(group, "alpha") && config->alpha != start->alpha)
        config_fail(group, "alpha", "the adapter in start has alpha %g; allowed: the same, or none", start->alpha);
    if (config_has(group, "rank_stabilised") && config->rank_stabilised != start->rank_stabilised)
        config_fail(group, "rank_stabilised", "the adapter in start has %s; allowed: the same, or none",
                    start->rank_stabilised ? "true" : "false");
    config->alpha = start->alpha;
    config->rank_stabilised = start->rank_stabilised;
    take_modules(group, sweep, method);
}

void sweep_read_start(const struct config_group *group, const struct sweep *sweep, struct sweep_method *method)
{
    struct sweep_start *start = &method->start;
    if (!config_has(group, "start")) return;
    if (config_has(group, "text"))
        config_fail(group, "text", "not allowed beside start, which says what the prompt is");
    const char *path = config_take_string(group, "start", PATH_MAX - 1);
    if (config_file_failed(group->file)) return;
    if (sweep_resolve(sweep->path, path, start->dir)) {
        config_fail(group, "start", "the path is too long; allowed: up to %d bytes", PATH_MAX - 1);
        return;
    }
    check_models(group, sweep, method->tasks, start);
    if (config_file_failed(group->file)) return;
    enum method_kind kind = method->config.kind;
    if (kind != METHOD_NONE && kind != start->method.kind)
        config_fail(group, "start", "%s is an adapter of the method %s; allowed: one of %s", start->dir,
                    method_name(start->method.kind), method_name(kind));
    if (kind == METHOD_LORA) take_lora(group, sweep, method);
    if (kind == METHOD_IA3) take_modules(group, sweep, method);
}

void sweep_read_start_size(const struct config_group *group, const char *key, struct sweep_method *method)
{
    size_t count;
    uint64_t *sizes = config_take_uints(group, key, 1, UINT32_MAX, false, &count);
    if (count && (count != 1 || sizes[0] != method->start.method.size))
        config_fail(group, key, "the adapter in start has %u; allowed: the same, or none", method->start.method.size);
    free(sizes);
    method->sizes = calloc(1, sizeof *method->sizes);
    method->size_count = method->sizes ? 1 : 0;
    if (method->sizes) method->sizes[0] = method->start.method.size;
}
