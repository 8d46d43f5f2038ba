/* That each method is possible on the models that it meets: in the cells that the sweep has, not in those that it
 * excludes. */
#include <stdlib.h>

#include "orchestrator/sweep/grid.h"
#include "orchestrator/sweep/sweep_parts.h"

/* At its place in the file, where sizes may stand in another order. */
static void fail_size(const struct config_group *group, const struct sweep_method *method, uint32_t size,
                      const char *why)
{
    const char *key = method_sizes(method->config.kind);
    size_t count, i = 0;
    if (!key) {
        config_fail(group, "name", "%s", why);
        return;
    }
    uint64_t *sizes = config_take_uints(group, key, 1, UINT32_MAX, true, &count);
    while (i < count && sizes[i] != size)
        i++;
    config_fail_element(group, key, i, "%s", why);
    free(sizes);
}

static void check_cell(const struct config_group *root, const struct sweep *sweep, const struct grid_point *point)
{
    struct error err;
    const struct sweep_method *method = &sweep->methods[point->method];
    const struct model_config *model = &sweep->models[point->model];
    struct config_group group = sweep_open_method(root, sweep, point->method);
    struct method_config config = method->config;
    config.size = method->sizes[point->size];
    if (method->start.dir[0]) {
        if (method->start.partial && sweep_check_start(model, &method->start, &err))
            config_fail(&group, "start", "%s", err.text);
    } else if (config_has(&group, "modules") && method_modules_check(&config, model, &err)) {
        config_fail(&group, "modules", "%s", err.text);
    } else if (method_config_check(&config, model, &err)) {
        fail_size(&group, method, config.size, err.text);
    }
}

void sweep_check_methods(const struct config_group *root, const struct sweep *sweep, const struct grid *grid)
{
    size_t most = 1;
    for (size_t i = 0; i < sweep->method_count; i++)
        if (sweep->methods[i].size_count > most) most = sweep->methods[i].size_count;
    bool *seen = calloc(sweep->model_count * sweep->method_count * most, sizeof *seen);
    if (!seen) config_fail(root, NULL, "out of memory");
    for (size_t i = 0; seen && i < grid->count && !config_file_failed(root->file); i++) {
        const struct grid_point *point = &grid->points[i];
        bool *one = &seen[(point->model * sweep->method_count + point->method) * most + point->size];
        if (!*one) check_cell(root, sweep, point);
        *one = true;
    }
    free(seen);
}
