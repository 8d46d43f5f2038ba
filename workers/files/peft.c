/* An adapter's tensors in a PEFT folder -> a rank's tensors. */
#include "workers/files/peft.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "workers/files/folder.h"

/* A module's tensor behind PEFT's prefix; a prompt, which stands alone, as it is. */
static bool describe_tensor(const struct parameter *parameter, struct folder_tensor *out)
{
    const char *prefix = strchr(parameter->name, '.') ? "base_model.model." : "";
    snprintf(out->name, sizeof out->name, "%s%s", prefix, parameter->name);
    out->dimensions = 2;
    out->shape[0] = parameter->rows;
    out->shape[1] = parameter->columns;
    return parameter->adapter;
}

static const struct safetensors_tensor *find(const struct safetensors *weights, const struct parameter *parameter)
{
    struct folder_tensor tensor;
    describe_tensor(parameter, &tensor);
    return safetensors_find(weights, tensor.name);
}

static int check_tensor(const struct safetensors *weights, const struct parameter *p, struct error *err)
{
    struct folder_tensor wanted;
    describe_tensor(p, &wanted);
    const char *name = wanted.name;
    const struct safetensors_tensor *tensor = safetensors_find(weights, name);
    if (!tensor)
        return error_set(err,
                         "tensor %s, which adapter_config.json asks for (a matrix that it names is one of every "
                         "layer), is not there",
                         name);
    if (tensor->dimensions != 2 || memcmp(tensor->shape, wanted.shape, sizeof wanted.shape))
        return error_set(err, "tensor %s does not fit the model: it should be %zu x %zu", name, p->rows, p->columns);
    if (strcmp(tensor->dtype, "F32") && strcmp(tensor->dtype, "F16") && strcmp(tensor->dtype, "BF16"))
        return error_set(err, "tensor %s is of type %s; allowed: F32, F16, BF16", name, tensor->dtype);
    return 0;
}

/* A tensor that none of the list is; NULL: there is none. */
static const char *stranger(const struct safetensors *weights, const struct parameter *list, size_t count)
{
    for (size_t i = 0; i < safetensors_count(weights); i++) {
        const struct safetensors_tensor *tensor = safetensors_at(weights, i);
        bool known = false;
        for (size_t j = 0; j < count && !known; j++)
            known = list[j].adapter && find(weights, &list[j]) == tensor;
        if (!known) return tensor->name;
    }
    return NULL;
}

static int check_tensors(const struct safetensors *weights, const struct model_config *model,
                         const struct method_config *method, struct error *err)
{
    struct parameter *list = NULL;
    size_t count = 0, own = 0;
    if (parameters_list(model, method, &list, &count, err)) return -1;
    int result = 0;
    for (size_t i = 0; i < count && !result; i++) {
        own += list[i].adapter;
        if (list[i].adapter) result = check_tensor(weights, &list[i], err);
    }
    /* looked for only where there is one: the search is slow */
    const char *name = !result && own != safetensors_count(weights) ? stranger(weights, list, count) : NULL;
    if (name)
        result = error_set(err, "tensor %.200s is none that adapter_config.json explains on the model \"%s\"", name,
                           model->name);
    free(list);
    return result;
}

struct safetensors *peft_open(const char *dir, const struct model_config *model, const struct method_config *method,
                              struct error *err)
{
    char path[PATH_MAX], pickled[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/adapter_model.safetensors", dir) >= (int)sizeof path) {
        error_set(err, "%s: the path is too long", dir);
        return NULL;
    }
    snprintf(pickled, sizeof pickled, "%.*s.bin", (int)(strlen(path) - strlen(".safetensors")), path);
    if (access(path, F_OK) && !access(pickled, F_OK)) {
        error_set(err, "%s: a pickled file, which can hold programs, is not read; save it as safetensors", pickled);
        return NULL;
    }
    struct safetensors *weights = safetensors_open(path, err);
    if (!weights || !check_tensors(weights, model, method, err)) return weights;
    error_prefix(err, "%s", path);
    safetensors_close(weights);
    return NULL;
}

int peft_digest(const struct safetensors *weights, const struct method_config *method, struct digest *out,
                struct error *err)
{
    struct digest tensors;
    char more[METHOD_TEXT], text[METHOD_TEXT + 256];
    if (safetensors_digest(weights, &tensors, err)) return -1;
    struct method_config plain = *method;
    plain.dropout = 0; /* of training with it, not of what it is */
    method_text(&plain, more, sizeof more);
    int length = snprintf(text, sizeof text, "tunelaw-1 adapter weights=%s method=%s size=%u alpha=%.17g%s",
                          tensors.hex, method_name(method->kind), method->size, method->alpha, more);
    *out = digest_of(text, (size_t)length);
    return 0;
}

int peft_identify(const char *dir, const struct model_config *model, const struct method_config *method,
                  struct digest *out, struct error *err)
{
    struct safetensors *weights = peft_open(dir, model, method, err);
    if (!weights) return -1;
    int result = peft_digest(weights, method, out, err);
    if (result) error_prefix(err, "%s", dir);
    safetensors_close(weights);
    return result;
}

static int load_tensor(const struct parameters *parameters, const struct parameter *p,
                       const struct safetensors *weights, float *staging, struct error *err)
{
    const struct safetensors_tensor *tensor = find(weights, p);
    const struct safetensors_tile tile = {p->row_first, p->row_count, p->column_first, p->column_count};
    if (!tensor) return error_set(err, "tensor %s is not there", p->name);
    if (safetensors_read(weights, tensor, &tile, staging, err)) return -1;
    parameter_write(parameters, p, 0, p->row_count * p->column_count, staging);
    return parameters->kernels->synchronise(parameters->device, err); /* staging is used again */
}

int peft_load(const struct parameters *parameters, const struct safetensors *weights, struct error *err)
{
    float *staging = parameters_staging(parameters, err);
    int result = staging ? 0 : -1;
    for (size_t i = 0; i < parameters->count && !result; i++)
        if (parameters->list[i].adapter) result = load_tensor(parameters, &parameters->list[i], weights, staging, err);
    free(staging);
    return result;
}

int peft_save(const struct parameters *parameters, const struct model_config *model, const struct method_config *method,
              const char *base, const char *dir, struct error *err)
{
    char *text = peft_describe(model, method, base, err);
    if (!text) return -1;
    const struct folder folder = {.config = "adapter_config.json",
                                  .text = text,
                                  .weights = "adapter_model.safetensors",
                                  .describe = describe_tensor};
    int result = folder_save(parameters, &folder, dir, err);
    free(text);
    return result;
}
