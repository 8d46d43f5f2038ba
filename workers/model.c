/* One rank's part of the Transformer over a packed batch: embed, layers, loss, and back. */
#include "workers/model.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "workers/model_parts.h"

int model_sum(const struct model *model, size_t n, float *x, struct error *err)
{
    if (collective_sum(&model->collective, n, x)) return error_set(err, "another device of the gang failed");
    return 0;
}

/* A norm's tensors; `layer` as "LAYERS.NUMBER.", or "". */
static void attach_norm(const struct model *model, struct norm *norm, const char *layer, const char *name)
{
    norm->gain = parameters_find(model->parameters, "%s%s.weight", layer, name);
    norm->bias = parameters_find(model->parameters, "%s%s.bias", layer, name);
}

static void attach_linear(const struct model *model, struct linear *linear, const char *layer,
                          const struct linear_shape *shape)
{
    char module[96];
    snprintf(module, sizeof module, "%s%s", layer, shape->name);
    linear->weight = parameters_find(model->parameters, "%s.weight", module);
    linear->bias = shape->bias ? parameters_find(model->parameters, "%s.bias", module) : NULL;
    linear->adds_bias = shape->bias && (shape->out.split || model->shard.rank == 0);
    linear->out = shape->out.count;
    linear->in = shape->in.count;
    linear->input = shape->in;
    if (model->method->linear_attach) model->method->linear_attach(linear, model->parameters, module);
}

static void attach_layer(struct model *model, uint32_t index)
{
    struct layer *layer = &model->layers[index];
    const struct tensor_names *names = tensor_names_of(&model->config);
    char place[64];
    snprintf(place, sizeof place, "%s.%u.", names->layers, index);
    attach_norm(model, &layer->attention_norm, place, names->attention_norm);
    attach_norm(model, &layer->mlp_norm, place, names->mlp_norm);
    if (model->config.architecture.qk_norm) {
        attach_norm(model, &layer->query_norm, place, names->query_norm);
        attach_norm(model, &layer->key_norm, place, names->key_norm);
    }
    for (int kind = 0; kind < LINEARS; kind++) {
        layer->linears[kind].layer = index;
        layer->linears[kind].kind = (enum linear_kind)kind;
        if (model->shard.linears[kind].name)
            attach_linear(model, &layer->linears[kind], place, &model->shard.linears[kind]);
    }
}

static void attach(struct model *model)
{
    const struct tensor_names *names = tensor_names_of(&model->config);
    model->embedding = parameters_find(model->parameters, "%s.weight", names->embedding);
    model->unembedding =
        model->config.tied ? model->embedding : parameters_find(model->parameters, "%s.weight", names->unembedding);
    attach_norm(model, &model->final_norm, "", names->final_norm);
    model->prompt = model->method->prompt ? model->method->prompt(model->parameters) : NULL;
    for (uint32_t i = 0; i < model->config.layers; i++)
        attach_layer(model, i);
}

struct model *model_create(const struct model_config *config, const struct method_config *method,
                           struct parameters *parameters, const struct batch_capacity *capacity, bool training,
                           struct error *err)
{
    struct model *model = calloc(1, sizeof *model);
    if (!model) {
        error_set(err, "out of memory");
        return NULL;
    }
    model->parameters = parameters;
    model->kernels = parameters->kernels;
    model->device = parameters->device;
    model->collective = parameters->collective;
    struct arena activations = {0}, workspace = {0};
    if (model_prepare(model, config, method, capacity, training, model->collective.rank, model->collective.size, err))
        goto fail;
    attach(model);
    model_layout(model, &activations, &workspace);
    if (arena_allocate(&activations, model->kernels, model->device, err)) goto fail;
    model->activation_arena = activations.base;
    if (arena_allocate(&workspace, model->kernels, model->device, err)) goto fail;
    model->workspace_arena = workspace.base;
    model_layout(model, &activations, &workspace);
    return model;
fail:
    model_destroy(model);
    return NULL;
}

void model_destroy(struct model *model)
{
    if (!model) return;
    if (model->workspace_arena) model->kernels->release(model->device, model->workspace_arena);
    if (model->activation_arena) model->kernels->release(model->device, model->activation_arena);
    free(model->kv_head_of);
    free(model->layers);
    free(model);
}

static int check_sequences(const struct model *model, const struct batch *batch, struct error *err)
{
    const struct batch_capacity *c = &model->capacity;
    if (batch->tokens > c->tokens || batch->targets > c->targets || batch->sequences > c->sequences ||
        batch->longest > c->longest)
        return error_set(err,
                         "a batch of %zu tokens, %zu targets, %zu sequences of up to %zu is larger than the model's "
                         "room (%zu, %zu, %zu, %zu)",
                         batch->tokens, batch->targets, batch->sequences, batch->longest, c->tokens, c->targets,
                         c->sequences, c->longest);
    if (batch->offsets[0] != 0 || batch->offsets[batch->sequences] != batch->tokens)
        return error_set(err, "a batch's sequences do not cover its %zu tokens", batch->tokens);
    for (size_t s = 0; s < batch->sequences; s++)
        if (batch->offsets[s + 1] < batch->offsets[s] || batch->offsets[s + 1] - batch->offsets[s] > batch->longest)
            return error_set(err, "sequence %zu of a batch is longer than %zu tokens", s, batch->longest);
    return 0;
}

/* Token ids come from files: none may reach a kernel that does not lie in a table. */
static int check_batch(const struct model *model, const struct batch *batch, struct error *err)
{
    if (check_sequences(model, batch, err)) return -1;
    int64_t vocabulary = model->config.vocabulary, prompt = model->prompt ? model->method_config.size : 0;
    for (size_t i = 0; i < batch->tokens; i++)
        if (batch->ids[i] >= vocabulary || batch->ids[i] < -prompt)
            return error_set(err, "token id %d is outside the vocabulary; allowed: 0..%lld", batch->ids[i],
                             (long long)vocabulary - 1);
    for (size_t i = 0; i < batch->targets; i++) {
        if (batch->labels[i] < 0 || batch->labels[i] >= vocabulary)
            return error_set(err, "label %d is outside the vocabulary; allowed: 0..%lld", batch->labels[i],
                             (long long)vocabulary - 1);
        if (batch->rows[i] >= batch->tokens || (i && batch->rows[i] <= batch->rows[i - 1]))
            return error_set(err, "target rows of a batch are not ascending rows of its %zu tokens", batch->tokens);
    }
    return 0;
}

static struct pass pass_begin(struct model *model, const struct batch *batch)
{
    const struct kernels *k = model->kernels;
    k->to_device(model->device, model->ids, batch->ids, batch->tokens * sizeof *batch->ids);
    k->to_device(model->device, model->positions, batch->positions, batch->tokens * sizeof *batch->positions);
    k->to_device(model->device, model->rows, batch->rows, batch->targets * sizeof *batch->rows);
    k->to_device(model->device, model->labels, batch->labels, batch->targets * sizeof *batch->labels);
    return (struct pass){.tokens = batch->tokens,
                         .attention = {.sequences = {batch->sequences, batch->offsets, batch->longest},
                                       .heads = model->shard.heads.count,
                                       .kv_heads = model->shard.kv_heads.count,
                                       .head_width = model->config.head_width,
                                       .kv_head_of = model->kv_head_of}};
}

/* Each token's embedding is on one rank, the prompt is the first rank's to add. */
static int embed(const struct model *model, size_t tokens, struct error *err)
{
    const float *prompt = model->prompt && model->shard.rank == 0 ? model->prompt->value : NULL;
    float *x = model->layers[0].input;
    model->kernels->embedding_forward(model->device, tokens, model->config.width, model->ids,
                                      model->shard.vocabulary.first, model->shard.vocabulary.count,
                                      model->embedding->value, prompt, x);
    if (model_sum(model, tokens * model->config.width, x, err)) return -1;
    if (model->drops) drop(model, "embedding", 0, tokens, x, x);
    return 0;
}

static int forward(const struct model *model, const struct pass *pass, struct error *err)
{
    if (embed(model, pass->tokens, err)) return -1;
    for (uint32_t i = 0; i < model->config.layers; i++)
        if (block_forward(model, &model->layers[i], pass, err)) return -1;
    return 0;
}

static int backward(const struct model *model, const struct pass *pass, struct error *err)
{
    for (uint32_t i = model->config.layers; i-- > 0;) {
        bool last = i == 0 && !model->method->reaches_embeddings;
        bool again = model->capacity.recompute && i + 1 < model->config.layers; /* what the top block left is there */
        if (again && block_forward(model, &model->layers[i], pass, err)) return -1;
        if (block_backward(model, &model->layers[i], pass, last, err)) return -1;
    }
    if (!model->method->reaches_embeddings) return 0;
    if (model->drops) drop(model, "embedding", 0, pass->tokens, model->dx, model->dx);
    model->kernels->embedding_backward(model->device, pass->tokens, model->config.width, model->ids,
                                       model->shard.vocabulary.first, model->shard.vocabulary.count, model->dx,
                                       model->embedding->gradient, model->prompt ? model->prompt->gradient : NULL);
    return 0;
}

/* scale 0: the loss alone. */
static int run(struct model *model, const struct batch *batch, float scale, double *loss, struct error *err)
{
    *loss = 0;
    if (check_batch(model, batch, err)) return -1;
    if (batch->targets == 0) return 0; /* neither loss nor gradient */
    struct pass pass = pass_begin(model, batch);
    model->draws = batch->draws;
    model->training_pass = scale != 0;
    model->drops = scale != 0 && model->dropout > 0;
    if (forward(model, &pass, err) || model_loss(model, batch->tokens, batch->targets, scale, loss, err)) return -1;
    if (scale != 0 && backward(model, &pass, err)) return -1;
    return model->kernels->synchronise(model->device, err);
}

int model_evaluate(struct model *model, const struct batch *batch, double *loss, struct error *err)
{
    return run(model, batch, 0, loss, err);
}

void model_smooth_labels(struct model *model, double smoothing)
{
    model->label_smoothing = (float)smoothing;
}

void model_dropout(struct model *model, double rate)
{
    assert(rate <= 0 || model->capacity.dropout || !model->training);
    model->dropout = rate;
}

void drop(const struct model *model, const char *site, uint32_t layer, size_t tokens, const float *x, float *y)
{
    const struct part columns = part_whole(model->config.width);
    const struct dropout how = dropout_at(&model->draws, model->dropout, site, layer, &columns);
    model->kernels->dropout(model->device, &how, tokens, columns.count, x, false, y);
}

int model_train(struct model *model, const struct batch *batch, float scale, double *loss, struct error *err)
{
    if (!model->training && model->method_config.kind != METHOD_NONE)
        return error_set(err, "the model was made for evaluation, it has no room for gradients");
    return run(model, batch, model->training ? scale : 0, loss, err);
}
