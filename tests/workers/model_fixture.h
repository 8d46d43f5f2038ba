/* Small models, batches and gangs for the tests of the model and its parameters. */
#ifndef TUNELAW_TESTS_WORKERS_MODEL_FIXTURE_H
#define TUNELAW_TESTS_WORKERS_MODEL_FIXTURE_H

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/random.h"
#include "workers/model/model.h"

static inline struct model_config small_model(uint32_t heads, uint32_t kv_heads, bool tied)
{
    return (struct model_config){.name = "small",
                                 .layers = 2,
                                 .width = 12,
                                 .heads = heads,
                                 .kv_heads = kv_heads,
                                 .head_width = 4,
                                 .ffn = 11,
                                 .vocabulary = 23,
                                 .tied = tied,
                                 .rope_theta = 100,
                                 .norm_epsilon = 1e-5};
}

/* What the architectures have beside Llama, alone and together. */
struct variant {
    const char *what;
    struct architecture architecture;
};
static const struct variant variants[] = {
    {"biases everywhere", {.qkv_bias = true, .out_bias = true, .mlp_bias = true}},
    {"Qwen2", {.family = FAMILY_QWEN2, .qkv_bias = true}},
    {"OLMo 2", {.family = FAMILY_OLMO2, .norm_after = true, .qk_norm = QK_NORM_TOKEN}},
    {"Qwen3", {.family = FAMILY_QWEN3, .qk_norm = QK_NORM_HEAD}},
    {"norms of queries and keys, with biases", {.family = FAMILY_OLMO2, .qk_norm = QK_NORM_TOKEN, .qkv_bias = true}},
    {"parallel, LayerNorm, half of a head turned", {.norm = NORM_LAYER, .parallel = true, .rotary_width = 2}},
    {"GPT-NeoX",
     {.family = FAMILY_NEOX,
      .norm = NORM_LAYER,
      .activation = ACTIVATION_GELU,
      .parallel = true,
      .fused_qkv = true,
      .qkv_bias = true,
      .out_bias = true,
      .mlp_bias = true,
      .rotary_width = 2}},
    {"GPT-NeoX, halves in turn, GELU by tanh",
     {.family = FAMILY_NEOX,
      .norm = NORM_LAYER,
      .activation = ACTIVATION_GELU_TANH,
      .fused_qkv = true,
      .qkv_bias = true,
      .out_bias = true,
      .mlp_bias = true}},
    {"norms after, LayerNorm, GELU",
     {.family = FAMILY_NEOX, .norm = NORM_LAYER, .norm_after = true, .activation = ACTIVATION_GELU, .fused_qkv = true}},
};
enum { VARIANTS = sizeof variants / sizeof *variants };

/* A small model of a variant; one matrix of queries, keys and values has as many key/value heads as heads. */
static inline struct model_config variant_model(int variant, uint32_t heads, uint32_t kv_heads, bool tied)
{
    const struct architecture *a = &variants[variant].architecture;
    struct model_config config = small_model(heads, a->fused_qkv ? heads : kv_heads, tied);
    config.architecture = *a;
    return config;
}

static inline struct method_config method_full_config(void)
{
    return (struct method_config){.kind = METHOD_FULL};
}

static inline struct method_config method_lora_config(void)
{
    return (struct method_config){.kind = METHOD_LORA, .size = 3, .alpha = 4.5};
}

static inline struct method_config method_prompt_config(void)
{
    return (struct method_config){.kind = METHOD_PROMPT, .size = 2};
}

/* Every method, with the options that make it compute something else; the untuned model first. */
static const struct method_config method_cases[] = {
    {.kind = METHOD_NONE},
    {.kind = METHOD_FULL},
    {.kind = METHOD_LORA, .size = 3, .alpha = 4.5},
    {.kind = METHOD_PROMPT, .size = 2},
    {.kind = METHOD_PREFIX, .size = 4},
    {.kind = METHOD_IA3},
    {.kind = METHOD_IA3,
     .modules = 1 << LINEAR_Q | 1 << LINEAR_QKV | 1 << LINEAR_O | 1 << LINEAR_GATE | 1 << LINEAR_UP},
    {.kind = METHOD_BITFIT},
    {.kind = METHOD_ADAPTER, .size = 5},
    {.kind = METHOD_ADAPTER, .size = 3, .mlp_only = true},
    {.kind = METHOD_UNFREEZE, .thaw_layers = 1, .thaw_steps = 2},
    {.kind = METHOD_LORA,
     .size = 2,
     .alpha = 3,
     .rank_stabilised = true,
     .modules = 1 << LINEAR_Q | 1 << LINEAR_V | 1 << LINEAR_QKV | 1 << LINEAR_DOWN},
};
enum { METHOD_CASES = sizeof method_cases / sizeof *method_cases };

/* The method is possible on the model: some have no biases. */
static inline bool method_fits(const struct method_config *method, const struct model_config *model)
{
    struct error err;
    return method_config_check(method, model, &err) == 0;
}

/* A batch that owns its arrays. */
struct sample {
    struct batch batch;
    int32_t ids[4096], positions[4096], labels[4096];
    uint32_t offsets[64], rows[4096];
};

/* Sequences of random tokens, each behind `prompt` prompt tokens. Every token but the last of a sequence predicts the
 * next one, every fifth of them has no loss. */
static inline struct sample *sample_create(size_t sequences, const size_t *lengths, size_t prompt, uint32_t vocabulary,
                                           uint64_t seed)
{
    struct sample *s = calloc(1, sizeof *s);
    struct batch *b = &s->batch;
    struct random_key key = {seed, 7};
    for (size_t i = 0; i < sequences; i++) {
        size_t length = lengths[i] + prompt;
        for (size_t t = 0; t < length; t++) {
            size_t at = b->tokens + t;
            s->positions[at] = (int32_t)t;
            s->ids[at] = t < prompt ? -(int32_t)t - 1 : (int32_t)random_below(key, at, vocabulary);
        }
        for (size_t t = prompt; t + 1 < length; t++) {
            size_t at = b->tokens + t;
            if (at % 5 == 3) continue;
            s->rows[b->targets] = (uint32_t)at;
            s->labels[b->targets++] = s->ids[at + 1];
        }
        b->tokens += length;
        if (length > b->longest) b->longest = length;
        s->offsets[i + 1] = (uint32_t)b->tokens;
    }
    b->sequences = sequences;
    b->ids = s->ids;
    b->positions = s->positions;
    b->labels = s->labels;
    b->offsets = s->offsets;
    b->rows = s->rows;
    return s;
}

static inline struct sample *sample_default(const struct method_config *method, uint32_t vocabulary)
{
    struct sample *s = sample_create(3, (size_t[]){5, 9, 3}, method_prompt_length(method), vocabulary, 1);
    for (size_t i = 0; i < s->batch.tokens; i++)
        s->positions[i] += (int32_t)method_prefix_length(method);
    return s;
}

static inline struct batch_capacity capacity_of(const struct batch *batch)
{
    return (struct batch_capacity){
        .tokens = batch->tokens, .sequences = batch->sequences, .targets = batch->targets, .longest = batch->longest};
}

/* Values large enough for every gradient to matter (LoRA's B is not zero). */
static inline void randomise(const struct parameters *parameters)
{
    for (size_t i = 0; i < parameters->count; i++)
        parameter_fill(parameters, &parameters->list[i], INITIAL_NORMAL, parameters->list[i].rows == 1 ? 0.8 : 0.4, 11);
}

/* One rank: everything that a worker's thread has. */
static const struct recipe fixture_adamw = {.optimiser = OPTIMISER_ADAMW};

struct rank {
    const struct kernels *kernels;
    struct device *device;
    struct parameters *parameters;
    struct model *model;
};

static inline void rank_destroy(struct rank *r)
{
    model_destroy(r->model);
    parameters_destroy(r->parameters);
    if (r->device) r->kernels->device_destroy(r->device);
}

/* recipe NULL: for evaluation */
static inline int rank_create_with(struct rank *r, const struct kernels *kernels, const struct collective *collective,
                                   const struct model_config *config, const struct method_config *method,
                                   const struct batch_capacity *capacity, const struct recipe *recipe,
                                   struct error *err)
{
    *r = (struct rank){.kernels = kernels};
    r->device = kernels->device_create(collective->rank, 1, err);
    if (!r->device) return -1;
    r->parameters = (capacity->one_pass ? parameters_create_one_pass : parameters_create)(
        config, method, recipe, collective, kernels, r->device, err);
    if (r->parameters) r->model = model_create(config, method, r->parameters, capacity, recipe != NULL, err);
    if (r->model) return 0;
    rank_destroy(r);
    return -1;
}

static inline int rank_create(struct rank *r, const struct kernels *kernels, const struct collective *collective,
                              const struct model_config *config, const struct method_config *method,
                              const struct batch_capacity *capacity, bool training, struct error *err)
{
    return rank_create_with(r, kernels, collective, config, method, capacity, training ? &fixture_adamw : NULL, err);
}

/* A gang of one, ready; the test fails if it cannot be had. */
static inline struct rank rank_alone(const char *backend, const struct model_config *config,
                                     const struct method_config *method, const struct batch_capacity *capacity,
                                     bool training)
{
    struct error err = {""};
    struct rank r;
    const struct kernels *kernels = kernels_find(backend, &err);
    if (!kernels ||
        rank_create(&r, kernels, &(struct collective){NULL, 0, 1}, config, method, capacity, training, &err))
        fail_msg("%s", err.text);
    randomise(r.parameters);
    return r;
}

static inline double loss_of(struct rank *r, const struct batch *batch)
{
    struct error err = {""};
    double loss = NAN;
    if (model_evaluate(r->model, batch, &loss, &err)) fail_msg("%s", err.text);
    return loss;
}

static inline double gradients_of(struct rank *r, const struct batch *batch, float scale)
{
    struct error err = {""};
    double loss = NAN;
    parameters_zero_gradients(r->parameters);
    if (model_train(r->model, batch, scale, &loss, &err)) fail_msg("%s", err.text);
    return loss;
}

/* Global tensors put together from the tiles of a gang. */
struct tensor {
    char name[96];
    size_t rows, columns;
    float *value, *gradient;
    unsigned char *seen;
};
struct gathered {
    struct tensor list[128];
    size_t count;
    double loss, norm;
    char failure[256]; /* "" where all went well */
};

static inline struct gathered *gathered_create(void)
{
    struct gathered *g = calloc(1, sizeof *g);
    assert_non_null(g);
    return g;
}

static inline void gathered_destroy(struct gathered *g)
{
    for (size_t i = 0; i < g->count; i++) {
        free(g->list[i].value);
        free(g->list[i].gradient);
        free(g->list[i].seen);
    }
    free(g);
}

static inline struct tensor *gathered_find(struct gathered *g, const char *name)
{
    for (size_t i = 0; i < g->count; i++)
        if (!strcmp(g->list[i].name, name)) return &g->list[i];
    return NULL;
}

static inline struct tensor *gathered_tensor(struct gathered *g, const struct parameter *p)
{
    struct tensor *t = gathered_find(g, p->name);
    if (t) return t;
    t = &g->list[g->count++];
    snprintf(t->name, sizeof t->name, "%s", p->name);
    t->rows = p->rows;
    t->columns = p->columns;
    t->value = calloc(p->rows * p->columns, sizeof(float));
    t->gradient = calloc(p->rows * p->columns, sizeof(float));
    t->seen = calloc(p->rows * p->columns, 1);
    return t;
}

/* Elements that several ranks hold must be the same on each, or the replicas would drift apart. */
static inline void gather_tile(struct gathered *g, const struct rank *r, const struct parameter *p)
{
    struct tensor *t = gathered_tensor(g, p);
    size_t n = p->row_count * p->column_count;
    float *value = malloc(n * sizeof(float)), *gradient = calloc(n, sizeof(float));
    struct error err = {""};
    if (parameter_read(r->parameters, p, 0, n, value, &err)) fail_msg("%s", err.text);
    if (p->gradient) r->kernels->to_host(r->device, gradient, p->gradient, n * sizeof(float));
    for (size_t i = 0; i < p->row_count; i++) {
        for (size_t j = 0; j < p->column_count; j++) {
            size_t at = (p->row_first + i) * p->columns + p->column_first + j, from = i * p->column_count + j;
            if (t->seen[at] && (t->value[at] != value[from] || t->gradient[at] != gradient[from]))
                snprintf(g->failure, sizeof g->failure,
                         "%.90s: ranks differ at %zu: value %g and %g, gradient %g and %g", p->name, at,
                         (double)t->value[at], (double)value[from], (double)t->gradient[at], (double)gradient[from]);
            t->value[at] = value[from];
            t->gradient[at] = gradient[from];
            t->seen[at] = 1;
        }
    }
    free(value);
    free(gradient);
}

/* A gang of threads that trains one batch once. */
struct gang {
    const struct kernels *kernels;
    struct collective_group *group;
    const struct model_config *config;
    const struct method_config *method;
    const struct batch *batch;
    bool recompute, one_pass;
    double dropout; /* of the recipe */
    bool initial;   /* keep the initial values instead of large random ones */
    struct gathered *out;
    pthread_mutex_t mutex;
};
struct member {
    struct gang *gang;
    struct collective collective;
};

static inline int member_step(struct member *m, struct rank *r, double *loss, double *norm, struct error *err)
{
    struct gang *gang = m->gang;
    if (gang->initial) {
        parameters_initialise_base(r->parameters, gang->config, 5);
        if (parameters_initialise_adapter(r->parameters, gang->config, gang->method, 6, err)) return -1;
    } else {
        randomise(r->parameters);
    }
    parameters_zero_gradients(r->parameters);
    model_dropout(r->model, gang->dropout);
    if (model_train(r->model, gang->batch, 0.25f, loss, err)) return -1;
    if (parameters_reduce_gradients(r->parameters, err)) return -1;
    return parameters_gradient_norm(r->parameters, norm, err);
}

static inline void *member_main(void *argument)
{
    struct member *m = argument;
    struct gang *gang = m->gang;
    struct batch_capacity capacity = capacity_of(gang->batch);
    capacity.recompute = gang->recompute;
    capacity.one_pass = gang->one_pass;
    capacity.dropout = gang->dropout > 0;
    struct error err = {""};
    struct rank r = {0};
    double loss = NAN, norm = NAN;
    int rc = rank_create(&r, gang->kernels, &m->collective, gang->config, gang->method, &capacity, true, &err);
    if (!rc) rc = member_step(m, &r, &loss, &norm, &err);
    if (rc && gang->group) collective_abort(gang->group);
    pthread_mutex_lock(&gang->mutex);
    struct gathered *g = gang->out;
    if (rc) {
        snprintf(g->failure, sizeof g->failure, "rank %d: %.200s", m->collective.rank, err.text);
    } else {
        if (g->count && (g->loss != loss || g->norm != norm))
            snprintf(g->failure, sizeof g->failure, "ranks differ: loss %.17g and %.17g, norm %.17g and %.17g", g->loss,
                     loss, g->norm, norm);
        g->loss = loss;
        g->norm = norm;
        for (size_t i = 0; i < r.parameters->count; i++)
            gather_tile(g, &r, &r.parameters->list[i]);
    }
    pthread_mutex_unlock(&gang->mutex);
    rank_destroy(&r);
    return NULL;
}

/* `as`: config, method, batch, and how. */
static inline struct gathered *gang_train_as(const char *backend, int degree, struct gang as)
{
    struct error err = {""};
    struct gang gang = as;
    gang.out = gathered_create();
    pthread_mutex_init(&gang.mutex, NULL);
    gang.kernels = kernels_find(backend, &err);
    if (!gang.kernels) fail_msg("%s", err.text);
    gang.group = collective_group_create(degree, &err);
    assert_non_null(gang.group);
    struct member members[16];
    pthread_t threads[16];
    for (int rank = 0; rank < degree; rank++) {
        members[rank] = (struct member){&gang, {gang.group, rank, degree}};
        assert_int_equal(pthread_create(&threads[rank], NULL, member_main, &members[rank]), 0);
    }
    for (int rank = 0; rank < degree; rank++)
        pthread_join(threads[rank], NULL);
    collective_group_destroy(gang.group);
    pthread_mutex_destroy(&gang.mutex);
    if (gang.out->failure[0]) fail_msg("degree %d: %s", degree, gang.out->failure);
    for (size_t i = 0; i < gang.out->count; i++) {
        struct tensor *t = &gang.out->list[i];
        for (size_t j = 0; j < t->rows * t->columns; j++)
            if (!t->seen[j]) fail_msg("degree %d: no rank holds element %zu of %s", degree, j, t->name);
    }
    return gang.out;
}

static inline struct gathered *gang_train(const char *backend, int degree, const struct model_config *config,
                                          const struct method_config *method, const struct batch *batch, bool initial)
{
    return gang_train_as(backend, degree,
                         (struct gang){.config = config, .method = method, .batch = batch, .initial = initial});
}

/* Difference of two arrays, relative to the root mean square of the second. */
static inline double relative_error(size_t n, const float *x, const float *y)
{
    double difference = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        difference += pow((double)x[i] - (double)y[i], 2);
        size += pow((double)y[i], 2);
    }
    if (size == 0) return difference == 0 ? 0 : INFINITY;
    return sqrt(difference / size);
}

/* Losses and gradients are the same bytes. */
static inline void assert_same_bytes(struct gathered *a, struct gathered *b, const char *what)
{
    assert_int_equal(a->count, b->count);
    if (a->loss != b->loss || a->norm != b->norm)
        fail_msg("%s: loss %.17g, norm %.17g, not %.17g, %.17g", what, a->loss, a->norm, b->loss, b->norm);
    for (size_t i = 0; i < b->count; i++) {
        const struct tensor *y = &b->list[i], *x = gathered_find(a, y->name);
        assert_non_null(x);
        if (memcmp(x->gradient, y->gradient, y->rows * y->columns * sizeof(float)))
            fail_msg("%s: the gradient of %s differs", what, y->name);
    }
}

static inline void assert_same_gradients(struct gathered *a, struct gathered *b, double bound, const char *what)
{
    assert_int_equal(a->count, b->count);
    if (fabs(a->loss - b->loss) > bound * fabs(b->loss)) fail_msg("%s: loss %.9g, not %.9g", what, a->loss, b->loss);
    if (fabs(a->norm - b->norm) > bound * b->norm) fail_msg("%s: gradient norm %.9g, not %.9g", what, a->norm, b->norm);
    for (size_t i = 0; i < b->count; i++) {
        const struct tensor *y = &b->list[i], *x = gathered_find(a, y->name);
        assert_non_null(x);
        double error = relative_error(y->rows * y->columns, x->gradient, y->gradient);
        if (!(error <= bound)) fail_msg("%s: gradient of %s differs by %.2g", what, y->name, error);
    }
}

#endif
