/* Goldens of tests/golden (the layout is at the top of make_goldens.py) in memory: read once, by one thread. */
#ifndef TUNELAW_TESTS_WORKERS_GOLDEN_H
#define TUNELAW_TESTS_WORKERS_GOLDEN_H

#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "workers/model/model.h"

enum { GOLDEN_TENSORS = 128, GOLDEN_BATCHES = 8, GOLDEN_STEPS = 64 };

struct golden_tensor {
    char name[128]; /* ours */
    size_t count;
    float *data;
};
struct golden_list {
    struct golden_tensor list[GOLDEN_TENSORS];
    size_t count;
};

struct golden_batch {
    struct batch batch;
    int32_t *ids, *positions, *labels;
    uint32_t *offsets, *rows;
};

struct golden {
    struct model_config model;
    struct method_config method;
    struct recipe recipe;
    struct golden_list values, gradients; /* values: of the base and the adapter */
    struct golden_batch batches[GOLDEN_BATCHES];
    size_t batch_count, steps;
    double losses[GOLDEN_STEPS], norms[GOLDEN_STEPS];
    struct batch_capacity capacity;
    const char *name; /* of the method's group */
};

/* A test cannot go on without its golden: the reason, and out. */
static inline _Noreturn void golden_stop(const char *what, const char *name)
{
    fprintf(stderr, "golden: %s: %s\n", what, name);
    exit(1);
}

static inline double golden_number(hid_t object, const char *name)
{
    double value = 0;
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    if (attribute < 0 || H5Aread(attribute, H5T_NATIVE_DOUBLE, &value) < 0) golden_stop("no attribute", name);
    H5Aclose(attribute);
    return value;
}

/* Of goldens that came later. */
static inline double golden_number_or(hid_t object, const char *name, double other)
{
    return H5Aexists(object, name) > 0 ? golden_number(object, name) : other;
}

static inline uint32_t golden_count(hid_t object, const char *name)
{
    return (uint32_t)golden_number(object, name);
}

/* A whole dataset as `type`, malloc'ed. */
static inline void *golden_array(hid_t object, const char *name, hid_t type, size_t *count)
{
    hid_t dataset = H5Dopen2(object, name, H5P_DEFAULT);
    if (dataset < 0) golden_stop("no dataset", name);
    hid_t space = H5Dget_space(dataset);
    *count = (size_t)H5Sget_simple_extent_npoints(space);
    void *data = malloc(*count * H5Tget_size(type) + 1);
    if (!data || H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0) golden_stop("cannot read", name);
    H5Sclose(space);
    H5Dclose(dataset);
    return data;
}

/* PEFT's names are ours behind a prefix. */
static inline const char *golden_our_name(const char *name)
{
    static const char prefix[] = "base_model.model.";
    return strncmp(name, prefix, sizeof prefix - 1) ? name : name + sizeof prefix - 1;
}

static inline void golden_tensors(hid_t file, const char *path, struct golden_list *out)
{
    hid_t group = H5Gopen2(file, path, H5P_DEFAULT);
    H5G_info_t info;
    if (group < 0 || H5Gget_info(group, &info) < 0) golden_stop("no group", path);
    for (hsize_t i = 0; i < info.nlinks; i++) {
        char name[128];
        if (out->count == GOLDEN_TENSORS) golden_stop("too many tensors", path);
        struct golden_tensor *tensor = &out->list[out->count++];
        if (H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, i, name, sizeof name, H5P_DEFAULT) < 0)
            golden_stop("cannot list", path);
        tensor->data = golden_array(group, name, H5T_NATIVE_FLOAT, &tensor->count);
        snprintf(tensor->name, sizeof tensor->name, "%s", golden_our_name(name));
    }
    H5Gclose(group);
}

static inline struct golden_tensor *golden_find(struct golden_list *list, const char *name)
{
    for (size_t i = 0; i < list->count; i++)
        if (!strcmp(list->list[i].name, name)) return &list->list[i];
    return NULL;
}

/* Packed sequences as they lie in the file, each behind the virtual tokens of a prompt or the places of a prefix. */
static inline void golden_batch_read(hid_t file, size_t index, const struct method_config *method,
                                     struct golden_batch *out)
{
    size_t prompt = method_prompt_length(method), prefix = method_prefix_length(method);
    char path[32];
    size_t tokens, offsets, targets, labels;
    snprintf(path, sizeof path, "batches/%zu", index);
    hid_t group = H5Gopen2(file, path, H5P_DEFAULT);
    if (group < 0) golden_stop("no group", path);
    int32_t *ids = golden_array(group, "ids", H5T_NATIVE_INT32, &tokens);
    out->offsets = golden_array(group, "offsets", H5T_NATIVE_UINT32, &offsets);
    out->rows = golden_array(group, "rows", H5T_NATIVE_UINT32, &targets);
    out->labels = golden_array(group, "labels", H5T_NATIVE_INT32, &labels);
    H5Gclose(group);
    struct batch *batch = &out->batch;
    *batch = (struct batch){.sequences = offsets - 1, .targets = targets};
    out->ids = calloc(tokens + prompt * batch->sequences, sizeof *out->ids);
    out->positions = calloc(tokens + prompt * batch->sequences, sizeof *out->positions);
    for (size_t s = 0, target = 0; s < batch->sequences; s++) {
        size_t first = out->offsets[s], end = out->offsets[s + 1], length = prompt + end - first;
        for (; target < targets && out->rows[target] < end; target++)
            out->rows[target] += (uint32_t)(prompt * (s + 1));
        for (size_t t = 0; t < length; t++) {
            out->ids[batch->tokens + t] = t < prompt ? -(int32_t)t - 1 : ids[first + t - prompt];
            out->positions[batch->tokens + t] = (int32_t)(prefix + t);
        }
        out->offsets[s] = (uint32_t)batch->tokens;
        batch->tokens += length;
        if (length > batch->longest) batch->longest = length;
    }
    out->offsets[batch->sequences] = (uint32_t)batch->tokens;
    free(ids);
    batch->ids = out->ids;
    batch->positions = out->positions;
    batch->offsets = out->offsets;
    batch->rows = out->rows;
    batch->labels = out->labels;
}

static inline void golden_batches(hid_t file, struct golden *golden)
{
    hid_t group = H5Gopen2(file, "batches", H5P_DEFAULT);
    H5G_info_t info;
    if (group < 0 || H5Gget_info(group, &info) < 0 || info.nlinks > GOLDEN_BATCHES) golden_stop("group", "batches");
    H5Gclose(group);
    struct batch_capacity *c = &golden->capacity;
    for (golden->batch_count = 0; golden->batch_count < info.nlinks; golden->batch_count++) {
        struct golden_batch *out = &golden->batches[golden->batch_count];
        golden_batch_read(file, golden->batch_count, &golden->method, out);
        const struct batch *b = &out->batch;
        c->tokens = b->tokens > c->tokens ? b->tokens : c->tokens;
        c->sequences = b->sequences > c->sequences ? b->sequences : c->sequences;
        c->targets = b->targets > c->targets ? b->targets : c->targets;
        c->longest = b->longest > c->longest ? b->longest : c->longest;
    }
}

static inline void golden_method(hid_t file, hid_t group, struct golden *golden)
{
    golden->method.size = golden_count(group, "size");
    golden->method.alpha = golden_number(group, "alpha");
    golden->method.rank_stabilised = golden_number_or(group, "rank_stabilised", 0) != 0;
    golden->method.modules = (uint32_t)golden_number_or(group, "modules", 0);
    golden->method.mlp_only = golden_number_or(group, "mlp_only", 0) != 0;
    golden->method.thaw_layers = (uint32_t)golden_number_or(group, "thaw_layers", 0);
    golden->method.thaw_steps = (uint64_t)golden_number_or(group, "thaw_steps", 0);
    golden->recipe = (struct recipe){.learning_rate = golden_number(group, "learning_rate"),
                                     .beta1 = golden_number(group, "beta1"),
                                     .beta2 = golden_number(group, "beta2"),
                                     .epsilon = golden_number(group, "epsilon"),
                                     .weight_decay = golden_number(group, "weight_decay"),
                                     .clip_norm = golden_number(group, "clip_norm"),
                                     .schedule = SCHEDULE_CONSTANT};
    size_t norms;
    double *losses = golden_array(group, "losses", H5T_NATIVE_DOUBLE, &golden->steps);
    double *all = golden_array(group, "norms", H5T_NATIVE_DOUBLE, &norms);
    if (golden->steps > GOLDEN_STEPS || golden->steps == 0 || norms != golden->steps) golden_stop("steps", "losses");
    memcpy(golden->losses, losses, golden->steps * sizeof *losses);
    memcpy(golden->norms, all, golden->steps * sizeof *all);
    free(losses);
    free(all);
    golden_tensors(file, "weights", &golden->values);
    if (H5Lexists(group, "adapter", H5P_DEFAULT) > 0) golden_tensors(group, "adapter", &golden->values);
    golden_tensors(group, "gradients", &golden->gradients);
}

static inline struct architecture golden_architecture(hid_t file)
{
    return (struct architecture){.family = (enum model_family)golden_count(file, "family"),
                                 .norm = (enum norm_kind)golden_count(file, "norm"),
                                 .activation = (enum activation)golden_count(file, "activation"),
                                 .norm_after = golden_count(file, "norm_after") != 0,
                                 .parallel = golden_count(file, "parallel") != 0,
                                 .qk_norm = (enum qk_norm)golden_count(file, "qk_norm"),
                                 .fused_qkv = golden_count(file, "fused_qkv") != 0,
                                 .qkv_bias = golden_count(file, "qkv_bias") != 0,
                                 .out_bias = golden_count(file, "out_bias") != 0,
                                 .mlp_bias = golden_count(file, "mlp_bias") != 0,
                                 .rotary_width = golden_count(file, "rotary_width"),
                                 .window = golden_count(file, "window")};
}

/* The model of a golden, but its weights. */
static inline struct model_config golden_model(hid_t file)
{
    return (struct model_config){.name = "golden",
                                 .layers = golden_count(file, "layers"),
                                 .width = golden_count(file, "width"),
                                 .heads = golden_count(file, "heads"),
                                 .kv_heads = golden_count(file, "kv_heads"),
                                 .head_width = golden_count(file, "head_width"),
                                 .ffn = golden_count(file, "ffn"),
                                 .vocabulary = golden_count(file, "vocabulary"),
                                 .tied = golden_count(file, "tied") != 0,
                                 .rope_theta = golden_number(file, "rope_theta"),
                                 .norm_epsilon = golden_number(file, "norm_epsilon"),
                                 .rope_scaling = {.factor = golden_number_or(file, "rope_factor", 0),
                                                  .low = golden_number_or(file, "rope_low", 0),
                                                  .high = golden_number_or(file, "rope_high", 0),
                                                  .original = (uint32_t)golden_number_or(file, "rope_original", 0)},
                                 .architecture = golden_architecture(file)};
}

/* The golden of /methods/METHOD; NULL: the file has none. */
static inline struct golden *golden_read(const char *path, const char *method, enum method_kind kind)
{
    char name[64];
    struct golden *golden = calloc(1, sizeof *golden);
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (!golden || file < 0) golden_stop("cannot open", path);
    golden->model = golden_model(file);
    golden->method.kind = kind;
    golden->name = method;
    snprintf(name, sizeof name, "methods/%s", method);
    if (H5Lexists(file, name, H5P_DEFAULT) <= 0) {
        H5Fclose(file);
        free(golden);
        return NULL;
    }
    hid_t group = H5Gopen2(file, name, H5P_DEFAULT);
    if (group < 0) golden_stop("no group", name);
    golden_method(file, group, golden);
    golden_batches(file, golden);
    H5Gclose(group);
    H5Fclose(file);
    return golden;
}

/* Another optimiser's recipe and curve (optimisers/curves.h5) in place of AdamW's. false: the file has none of this
 * model, method and optimiser. */
static inline bool golden_optimiser(struct golden *golden, const char *path, const char *model, const char *name,
                                    enum optimiser_kind kind)
{
    char group_name[192];
    size_t steps, norms;
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file < 0) golden_stop("cannot open", path);
    snprintf(group_name, sizeof group_name, "%s/%s", model, golden->name);
    bool has = H5Lexists(file, model, H5P_DEFAULT) > 0 && H5Lexists(file, group_name, H5P_DEFAULT) > 0;
    snprintf(group_name, sizeof group_name, "%s/%s/%s", model, golden->name, name);
    has = has && H5Lexists(file, group_name, H5P_DEFAULT) > 0;
    if (has) {
        hid_t group = H5Gopen2(file, group_name, H5P_DEFAULT);
        if (group < 0) golden_stop("no group", group_name);
        golden->recipe = (struct recipe){.optimiser = kind,
                                         .learning_rate = golden_number(group, "learning_rate"),
                                         .weight_decay = golden_number(group, "weight_decay"),
                                         .clip_norm = golden_number(group, "clip_norm"),
                                         .parameter_scale = golden_number(group, "parameter_scale") != 0,
                                         .momentum = golden_number(group, "momentum"),
                                         .schedule = SCHEDULE_CONSTANT};
        double *losses = golden_array(group, "losses", H5T_NATIVE_DOUBLE, &steps);
        double *all = golden_array(group, "norms", H5T_NATIVE_DOUBLE, &norms);
        if (steps != golden->steps || norms != steps) golden_stop("steps", group_name);
        memcpy(golden->losses, losses, steps * sizeof *losses);
        memcpy(golden->norms, all, steps * sizeof *all);
        free(losses);
        free(all);
        H5Gclose(group);
    }
    H5Fclose(file);
    return has;
}

static inline void golden_destroy(struct golden *golden)
{
    for (size_t i = 0; i < golden->values.count; i++)
        free(golden->values.list[i].data);
    for (size_t i = 0; i < golden->gradients.count; i++)
        free(golden->gradients.list[i].data);
    for (size_t i = 0; i < golden->batch_count; i++) {
        struct golden_batch *b = &golden->batches[i];
        free(b->ids);
        free(b->positions);
        free(b->labels);
        free(b->offsets);
        free(b->rows);
    }
    free(golden);
}

#endif
