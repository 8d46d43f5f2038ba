/* The sweep file -> struct sweep: the first arrow of the way of the data. Everything is checked here, before anything
 * is written. */
#include "orchestrator/sweep/sweep.h"

#include <float.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "orchestrator/sweep/sweep_parts.h"
#include "workers/model/model.h"

uint64_t sweep_step_tokens(const struct recipe *pretrain, uint64_t steps)
{
    return steps * pretrain->batch * pretrain->sequence_length;
}

struct recipe sweep_pretrain_recipe(const struct sweep *sweep, size_t model)
{
    struct recipe recipe = sweep->pretrain;
    recipe.decay_steps = sweep->bases[model].decay_steps;
    return recipe;
}

uint64_t sweep_pretrain_steps(const struct recipe *pretrain, uint64_t tokens)
{
    uint64_t step = sweep_step_tokens(pretrain, 1);
    return tokens / step + (tokens % step != 0);
}

int sweep_resolve(const char *path, const char *name, char out[PATH_MAX])
{
    const char *slash = strrchr(path, '/');
    int folder = name[0] == '/' || !slash ? 0 : (int)(slash - path) + 1;
    int length = snprintf(out, PATH_MAX, "%.*s%s", folder, path, name);
    return length > 0 && length < PATH_MAX ? 0 : -1;
}

/* "auto", or how many; 0 and 1: none. */
static void read_pack(const struct config_group *group, struct sweep_resources *resources)
{
    static const char *const words[] = {"auto"};
    resources->pack = 1;
    if (config_is_string(group, "pack")) {
        config_take_choice(group, "pack", words, 1, 0);
        resources->pack = SWEEP_PACK_AUTO;
    } else {
        uint64_t most = config_take_uint_or(group, "pack", 0, PACK_LIMIT, 1);
        if (most > 1) resources->pack = (uint32_t)most;
    }
    if (resources->pack != 1 && resources->threads > 1)
        config_fail(group, "pack",
                    "packs need threads = 1, not %u: with more, the last bits of a point would depend on "
                    "who is in its pack",
                    resources->threads);
}

/* What goes with the backend, and a guess of it where the sweep file does not say. */
static void follow_backend(struct sweep_resources *resources)
{
    bool gpus = strcmp(resources->backend, "cuda") == 0;
    resources->process_bytes = gpus ? GPU_PROCESS_BYTES : 0;
    if (gpus && resources->operation_seconds <= 0.0) resources->operation_seconds = SWEEP_GPU_OPERATION_SECONDS;
}

static const char *const backends[] = {"auto", "cpu", "cuda", "reference"}; /* SWEEP_BACKENDS */

bool sweep_backend_known(const char *name)
{
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++)
        if (!strcmp(name, backends[i])) return true;
    return false;
}

bool sweep_backend_computes(const char *name, enum precision precision)
{
    return precision != PRECISION_BF16X3 || !strcmp(name, "cpu") || !strcmp(name, "reference");
}

void sweep_set_backend(struct sweep *sweep, const char *name)
{
    snprintf(sweep->resources.backend, sizeof sweep->resources.backend, "%s", name);
    follow_backend(&sweep->resources);
}

/* Who shares a device is chosen by its memory, which must be known. */
static void read_sharing(const struct config_group *group, struct sweep_resources *resources)
{
    resources->stages_per_device = (uint32_t)config_take_uint_or(group, "stages_per_device", 1, STAGES_PER_DEVICE, 1);
    resources->operation_seconds = 1e-6 * config_take_double_or(group, "operation_microseconds", 0.0, 1e6, 0.0);
    follow_backend(resources);
    if (resources->stages_per_device > 1 && !resources->device_bytes)
        config_fail(group, "stages_per_device", "stages that share a device need device_bytes, its memory");
}

static void read_resources(const struct config_group *root, struct sweep_resources *resources)
{
    static const char *const keys[] = {"backend",
                                       "tensor_parallel",
                                       "threads",
                                       "devices",
                                       "device_bytes",
                                       "stages_per_device",
                                       "operation_microseconds",
                                       "attempts",
                                       "hang_seconds",
                                       "checkpoint_seconds",
                                       "checkpoint_steps",
                                       "keep_weights",
                                       "order",
                                       "recompute",
                                       "pack",
                                       NULL};
    static const char *const recomputes[] = {"auto", "always", "never"};
    static const char *const orders[] = {"longest_chain", "information"};
    struct config_group group = config_open_group(root, "resources", keys, false);
    snprintf(resources->backend, sizeof resources->backend, "%s",
             backends[config_take_choice(&group, "backend", backends, 4, 0)]);
    resources->tensor_parallel = (uint32_t)config_take_uint_or(&group, "tensor_parallel", 0, 64, 1);
    resources->threads = (uint32_t)config_take_uint_or(&group, "threads", 1, 4096, 1);
    resources->devices = (uint32_t)config_take_uint_or(&group, "devices", 0, 4096, 0);
    if (resources->devices && resources->tensor_parallel > resources->devices)
        config_fail(&group, "tensor_parallel", "stages of %u devices do not fit hosts of devices = %u",
                    resources->tensor_parallel, resources->devices);
    resources->device_bytes = config_take_uint_or(&group, "device_bytes", 0, INT64_MAX, 0);
    read_sharing(&group, resources);
    resources->attempts = (uint32_t)config_take_uint_or(&group, "attempts", 1, 1000, 3);
    resources->hang_seconds = config_take_double_or(&group, "hang_seconds", 1.0, 1e7, 600.0);
    resources->checkpoint_seconds = config_take_double_or(&group, "checkpoint_seconds", 0.0, 1e7, 60.0);
    resources->checkpoint_steps = config_take_uint_or(&group, "checkpoint_steps", 0, SWEEP_STEPS_LIMIT, 0);
    resources->keep_weights = config_take_bool_or(&group, "keep_weights", true);
    resources->recompute = (enum sweep_recompute)config_take_choice(&group, "recompute", recomputes, 3, RECOMPUTE_AUTO);
    read_pack(&group, resources);
    resources->order = (enum sweep_order)config_take_choice(&group, "order", orders, 2, SWEEP_LONGEST_CHAIN);
}

static void read_sweep(struct config_file *file, const struct sweep_task *known, size_t known_count,
                       struct sweep *sweep)
{
    static const char *const keys[] = {"name",          "data",      "models",    "pretrain", "finetune",
                                       "methods",       "exclude",   "held_out",  "only",     "zip",
                                       "one_at_a_time", "precision", "resources", "fit",      NULL};
    const char *precisions[PRECISIONS];
    for (int i = 0; i < PRECISIONS; i++)
        precisions[i] = precision_name((enum precision)i);
    struct config_group root = config_open_root(file, keys);
    struct recipe recipe = {0};
    double epochs = 0.0;
    bool share = false;
    snprintf(sweep->name, sizeof sweep->name, "%s", config_take_name(&root, "name", SWEEP_NAME));
    sweep->precision = (enum precision)config_take_choice(&root, "precision", precisions, PRECISIONS, PRECISION_FP32);
    read_resources(&root, &sweep->resources);
    if (!sweep_backend_computes(sweep->resources.backend, sweep->precision))
        config_fail(&root, "precision", "bf16x3 goes with resources.backend = \"cpu\" or \"reference\", not \"%s\"",
                    sweep->resources.backend);
    fit_settings_read(&root, &sweep->fit);
    sweep_read_tasks(&root, known, known_count, sweep);
    if (!config_file_failed(file)) sweep_read_models(&root, sweep);
    if (!config_file_failed(file)) sweep_read_pretrain(&root, sweep);
    if (!config_file_failed(file)) sweep_read_finetune(&root, sweep, &recipe, &epochs, &share);
    if (!config_file_failed(file)) sweep_read_methods(&root, sweep, &recipe, epochs, share);
    sweep_read_cells(&root, sweep);
}

struct sweep *sweep_parse(const char *path, const char *text, size_t size, struct error *err)
{
    return sweep_parse_on(path, text, size, NULL, 0, err);
}

struct sweep *sweep_parse_on(const char *path, const char *text, size_t size, const struct sweep_task *known,
                             size_t count, struct error *err)
{
    struct config_file *file = config_file_parse(path, text, size, err);
    if (!file) return NULL;
    struct sweep *sweep = calloc(1, sizeof *sweep);
    int rc = -1;
    if (!sweep || !(sweep->text = calloc(1, size + 1))) {
        error_set(err, "%s: out of memory", path);
    } else if (snprintf(sweep->path, sizeof sweep->path, "%s", path) >= (int)sizeof sweep->path) {
        error_set(err, "the path of the sweep file is longer than %d bytes", PATH_MAX - 1);
    } else {
        memcpy(sweep->text, text, size);
        sweep->text_size = size;
        read_sweep(file, known, count, sweep);
        rc = config_file_finish(file, err);
        if (!rc && !(sweep->parameters = strdup(config_file_parameters(file))))
            rc = error_set(err, "%s: out of memory", path);
    }
    config_file_close(file);
    if (rc) {
        sweep_destroy(sweep);
        return NULL;
    }
    return sweep;
}

struct sweep *sweep_load(const char *path, struct error *err)
{
    char *text;
    size_t size;
    if (config_text_read(path, &text, &size, err)) return NULL;
    struct sweep *sweep = sweep_parse(path, text, size, err);
    free(text);
    return sweep;
}

static void free_cells(struct sweep_cells *cells, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(cells[i].tasks);
        free(cells[i].models);
        free(cells[i].methods);
        free(cells[i].pretrain_tokens);
        free(cells[i].examples);
        free(cells[i].sizes);
        free(cells[i].seeds);
    }
}

void sweep_destroy(struct sweep *sweep)
{
    if (!sweep) return;
    for (size_t i = 0; i < sweep->method_count; i++) {
        free(sweep->methods[i].sizes);
        free(sweep->methods[i].learning_rates);
        free(sweep->methods[i].examples);
    }
    free(sweep->methods);
    free_cells(sweep->exclude, sweep->exclude_count);
    free_cells(sweep->held_out, sweep->held_out_count);
    for (size_t i = 0; i < sweep->only_count; i++) {
        free_cells(&sweep->only[i].when, 1);
        free_cells(&sweep->only[i].keep, 1);
    }
    free(sweep->exclude);
    free(sweep->held_out);
    free(sweep->only);
    free(sweep->zips);
    fit_settings_destroy(&sweep->fit);
    for (size_t i = 0; sweep->bases && i < sweep->model_count; i++)
        free(sweep->bases[i].tokens);
    free(sweep->bases);
    free(sweep->models);
    free(sweep->tasks);
    free(sweep->pretrain_tokens);
    free(sweep->imports);
    free(sweep->examples);
    free(sweep->seeds);
    free(sweep->text);
    free(sweep->parameters);
    free(sweep);
}

int sweep_check_complete(const struct sweep *sweep, struct error *err)
{
    return sweep->missing.text[0] ? error_set(err, "%s", sweep->missing.text) : 0;
}
