/* Weights in a Hugging Face folder -> a rank's tensors. */
#include "workers/files/huggingface.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "workers/files/folder.h"
#include "workers/files/json_reader.h"

/* Tensors that files of some models have and that no computation reads. */
static bool ignored(const struct model_config *model, const char *name)
{
    static const char *const ends[] = {".rotary_emb.inv_freq", ".attention.bias", ".attention.masked_bias"};
    size_t length = strlen(name);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        size_t end = strlen(ends[i]);
        if (length >= end && !strcmp(name + length - end, ends[i])) return true;
    }
    const char *unembedding = tensor_names_of(model)->unembedding;
    return model->tied && !strncmp(name, unembedding, strlen(unembedding));
}

size_t huggingface_shape(const struct parameter *parameter, uint64_t shape[2])
{
    bool vector = !parameter->decay;
    shape[0] = vector ? parameter->rows * parameter->columns : parameter->rows;
    shape[1] = vector ? 1 : parameter->columns;
    return vector ? 1 : 2;
}

static int check_tensor(const struct safetensors *weights, const struct parameter *p, struct error *err)
{
    uint64_t shape[2];
    size_t dimensions = huggingface_shape(p, shape);
    const struct safetensors_tensor *tensor = huggingface_find(weights, p->name);
    if (!tensor) return error_set(err, "tensor %s, which config.json asks for, is not there", p->name);
    bool same = tensor->dimensions == dimensions && tensor->shape[0] == shape[0] &&
                (dimensions == 1 || tensor->shape[1] == shape[1]);
    if (!same)
        return error_set(err, "tensor %s is of another shape than config.json says: %llu x %llu", p->name,
                         (unsigned long long)shape[0], (unsigned long long)shape[1]);
    if (strcmp(tensor->dtype, "F32") && strcmp(tensor->dtype, "F16") && strcmp(tensor->dtype, "BF16"))
        return error_set(err, "tensor %s is of type %s; allowed: F32, F16, BF16", p->name, tensor->dtype);
    return 0;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct parameter *)a)->name, ((const struct parameter *)b)->name);
}

/* `list`: the model's tensors, sorted by name. */
static int check_tensors(const struct safetensors *weights, const struct model_config *model,
                         const struct parameter *list, size_t count, struct error *err)
{
    for (size_t i = 0; i < count; i++)
        if (check_tensor(weights, &list[i], err)) return -1;
    for (size_t i = 0; i < safetensors_count(weights); i++) {
        struct parameter key = {.name = ""};
        const char *name = safetensors_at(weights, i)->name;
        snprintf(key.name, sizeof key.name, "%s", name);
        bool known = strlen(name) < sizeof key.name && bsearch(&key, list, count, sizeof *list, compare_names);
        if (!known && !ignored(model, name) && strcmp(name, "lm_head.weight"))
            return error_set(err, "tensor %.200s is none of the model that config.json describes", name);
    }
    return 0;
}

struct safetensors *huggingface_open(const char *dir, const struct model_config *model, struct error *err)
{
    struct parameter *list = NULL;
    size_t count = 0;
    struct safetensors *weights = safetensors_open(dir, err);
    if (!weights) return NULL;
    const struct method_config none = {.kind = METHOD_NONE};
    int result = parameters_list(model, &none, &list, &count, err);
    if (!result) {
        qsort(list, count, sizeof *list, compare_names);
        result = check_tensors(weights, model, list, count, err);
        if (result) error_prefix(err, "%s", dir);
    }
    free(list);
    if (!result) return weights;
    safetensors_close(weights);
    return NULL;
}

/* Digests of this process, by the files' stamp: a worker runs many stages on one base. */
struct remembered {
    struct digest stamp, digest;
    struct remembered *next;
};
static struct remembered *remembered;
static pthread_mutex_t remembered_mutex = PTHREAD_MUTEX_INITIALIZER;

static int tensors_digest(const struct safetensors *weights, struct digest *out, struct error *err)
{
    struct digest stamp = safetensors_stamp(weights);
    pthread_mutex_lock(&remembered_mutex);
    struct remembered *entry = remembered;
    while (entry && strcmp(entry->stamp.hex, stamp.hex))
        entry = entry->next;
    int result = 0;
    if (entry) {
        *out = entry->digest;
    } else if (!(result = safetensors_digest(weights, out, err)) && (entry = malloc(sizeof *entry))) {
        *entry = (struct remembered){stamp, *out, remembered};
        remembered = entry;
    }
    pthread_mutex_unlock(&remembered_mutex);
    return result;
}

int huggingface_digest(const struct safetensors *weights, const struct model_config *model, struct digest *out,
                       struct error *err)
{
    struct digest tensors;
    if (tensors_digest(weights, &tensors, err)) return -1;
    char shape[MODEL_TEXT], text[MODEL_TEXT + 128];
    model_text(model, shape, sizeof shape);
    int length = snprintf(text, sizeof text, "tunelaw-1 import weights=%s %s", tensors.hex, shape);
    *out = digest_of(text, (size_t)length);
    return 0;
}

int huggingface_identify(const char *dir, const struct model_config *model, struct digest *out, struct error *err)
{
    struct safetensors *weights = huggingface_open(dir, model, err);
    if (!weights) return -1;
    int result = huggingface_digest(weights, model, out, err);
    safetensors_close(weights);
    return result;
}

static int load_tensor(const struct parameters *parameters, const struct parameter *p,
                       const struct safetensors *weights, float *staging, struct error *err)
{
    const struct safetensors_tensor *tensor = huggingface_find(weights, p->name);
    struct safetensors_tile tile = {p->row_first, p->row_count, p->column_first, p->column_count};
    if (!tensor) return error_set(err, "tensor %s is not there", p->name);
    if (tensor->dimensions == 1 && p->columns == 1) /* cut with a matrix's rows */
        tile = (struct safetensors_tile){0, 1, p->row_first, p->row_count};
    if (safetensors_read(weights, tensor, &tile, staging, err)) return -1;
    parameter_write(parameters, p, 0, p->row_count * p->column_count, staging);
    return parameters->kernels->synchronise(parameters->device, err); /* staging is used again */
}

int huggingface_load(const struct parameters *parameters, const struct safetensors *weights, struct error *err)
{
    float *staging = parameters_staging(parameters, err);
    int result = staging ? 0 : -1;
    for (size_t i = 0; i < parameters->count && !result; i++)
        if (!parameters->list[i].adapter) result = load_tensor(parameters, &parameters->list[i], weights, staging, err);
    free(staging);
    return result;
}

static bool describe_tensor(const struct parameter *parameter, struct folder_tensor *out)
{
    snprintf(out->name, sizeof out->name, "%s", parameter->name);
    out->dimensions = huggingface_shape(parameter, out->shape);
    return !parameter->adapter;
}

const char *const huggingface_companion_files[] = {"tokenizer.json",
                                                   "tokenizer.model",
                                                   "tokenizer_config.json",
                                                   "special_tokens_map.json",
                                                   "added_tokens.json",
                                                   "vocab.json",
                                                   "merges.txt",
                                                   "vocab.txt",
                                                   "spiece.model",
                                                   "sentencepiece.bpe.model",
                                                   "chat_template.jinja",
                                                   "generation_config.json",
                                                   NULL};

static void put_mark(json_t *object, const char *key, int32_t id)
{
    if (id >= 0) json_object_set_new(object, key, json_integer(id));
}

/* The description with what the companions know. */
static char *complete(char *text, const struct huggingface_companions *companions, struct error *err)
{
    static const char *const carried[] = {"bos_token_id", "eos_token_id", "pad_token_id", "max_position_embeddings"};
    char path[PATH_MAX];
    json_t *object = json_loads(text, 0, NULL);
    if (companions->like) {
        json_t *like = json_file_read(companions->like, "config.json", path, NULL);
        for (size_t i = 0; i < sizeof carried / sizeof *carried; i++) {
            json_t *value = json_object_get(like, carried[i]);
            if (value) json_object_set(object, carried[i], value);
        }
        json_decref(like);
    } else {
        put_mark(object, "bos_token_id", companions->begin);
        put_mark(object, "eos_token_id", companions->end);
        put_mark(object, "pad_token_id", companions->pad);
    }
    free(text);
    text = object ? json_dumps(object, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(object);
    if (!text) error_set(err, "out of memory");
    return text;
}

int huggingface_save(const struct parameters *parameters, const struct model_config *model,
                     const struct huggingface_companions *companions, const char *dir, struct error *err)
{
    char *text = huggingface_describe(model, err);
    if (text && companions) text = complete(text, companions, err);
    if (!text) return -1;
    const struct folder folder = {.config = "config.json",
                                  .text = text,
                                  .weights = "model.safetensors",
                                  .describe = describe_tensor,
                                  .files = companions ? companions->files : NULL,
                                  .file_count = companions ? companions->count : 0};
    int result = folder_save(parameters, &folder, dir, err);
    free(text);
    return result;
}
