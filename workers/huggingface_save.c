/* A rank's base tensors -> a folder that transformers loads: config.json and model.safetensors. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"
#include "workers/huggingface.h"

static int write_config(const char *path, const char *text, struct error *err)
{
    struct file_draft draft;
    if (file_draft_open(&draft, path, 0666, err)) return -1;
    fprintf(draft.file, "%s\n", text);
    return file_draft_publish(&draft, true, err);
}

static int write_weights(const struct parameters *parameters, const char *path, struct error *err)
{
    struct safetensors_writer *writer = safetensors_writer_create(path, err);
    float *staging = writer ? parameters_staging(parameters, err) : NULL;
    int result = staging ? 0 : -1;
    for (size_t i = 0; i < parameters->count && !result; i++) {
        const struct parameter *p = &parameters->list[i];
        uint64_t shape[2];
        size_t dimensions = huggingface_shape(p, shape);
        if (!p->adapter) result = safetensors_writer_declare(writer, p->name, dimensions, shape, err);
    }
    for (size_t i = 0; i < parameters->count && !result; i++) {
        const struct parameter *p = &parameters->list[i];
        uint64_t shape[2];
        bool vector = huggingface_shape(p, shape) == 1;
        struct safetensors_tile whole = {0, vector ? 1 : shape[0], 0, vector ? shape[0] : shape[1]};
        if (p->adapter) continue;
        parameters->kernels->to_host(parameters->device, staging, p->value, p->rows * p->columns * sizeof *staging);
        result = safetensors_writer_put(writer, p->name, &whole, staging, err);
    }
    free(staging);
    if (!result) return safetensors_writer_finish(writer, err);
    safetensors_writer_destroy(writer);
    return -1;
}

int huggingface_save(const struct parameters *parameters, const struct model_config *model, const char *dir,
                     struct error *err)
{
    char config[PATH_MAX], weights[PATH_MAX];
    if (parameters->collective.size != 1) return error_set(err, "a folder is written by a gang of one");
    if (snprintf(config, sizeof config, "%s/config.json", dir) >= (int)sizeof config - 64)
        return error_set(err, "%s: the path is too long", dir);
    snprintf(weights, sizeof weights, "%s/model.safetensors", dir);
    char *text = huggingface_describe(model, err);
    if (!text) return -1;
    int result = mkdir(dir, 0777) ? error_set_errno(err, "%s", dir) : 0;
    if (!result && (write_weights(parameters, weights, err) || write_config(config, text, err))) {
        result = -1;
        unlink(config);
        unlink(weights);
        rmdir(dir);
    }
    free(text);
    return result;
}
