/* The buffers of a model, sized by one walk: while counting for the plan, then while assigning for the worker. */
#include <stdlib.h>

#include "workers/model_parts.h"

int model_prepare(struct model *model, const struct model_config *config, const struct method_config *method,
                  const struct batch_capacity *capacity, bool training, int rank, int size, struct error *err)
{
    model->config = *config;
    model->method_config = *method;
    model->method = method_of(method->kind);
    model->capacity = *capacity;
    model->training = training && method->kind != METHOD_NONE;
    if (shard_of(config, rank, size, &model->shard, err)) return -1;
    model->layers = calloc(config->layers, sizeof *model->layers);
    model->kv_head_of = calloc(model->shard.heads.count, sizeof *model->kv_head_of);
    if (!model->layers || !model->kv_head_of) return error_set(err, "out of memory");
    for (size_t head = 0; head < model->shard.heads.count; head++)
        model->kv_head_of[head] =
            (uint32_t)(shard_kv_head(config, model->shard.heads.first + head) - model->shard.kv_heads.first);
    return 0;
}

/* What the method keeps beside each linear layer. */
static void layout_method(const struct model *model, struct layer *layer, struct arena *arena)
{
    size_t kept = model->method->linear_kept ? model->method->linear_kept(&model->method_config) : 0;
    for (int kind = 0; kind < LINEARS; kind++)
        layer->linears[kind].kept = arena_floats(arena, model->capacity.tokens, kept);
}

/* Inputs of the linear layers, where nothing else in the backward pass reads them. */
static void layout_linear_inputs(const struct model *model, struct layer *layer, struct arena *arena)
{
    size_t tokens = model->capacity.tokens;
    layer->attention_normed = arena_floats(arena, tokens, model->config.width);
    layer->mlp_normed = arena_floats(arena, tokens, model->config.width);
    layer->activated = arena_floats(arena, tokens, model->shard.ffn.count);
}

static void layout_layer(const struct model *model, struct layer *layer, struct arena *arena)
{
    size_t tokens = model->capacity.tokens, width = model->config.width;
    size_t heads = model->shard.heads.count, head_width = model->config.head_width;
    size_t key = model->shard.kv_heads.count * head_width;
    layer->input = arena_floats(arena, tokens, width);
    layer->middle = arena_floats(arena, tokens, width);
    layer->attention_rstd = arena_floats(arena, tokens, 1);
    layer->mlp_rstd = arena_floats(arena, tokens, 1);
    layer->q = arena_floats(arena, tokens, heads * head_width);
    layer->k = arena_floats(arena, tokens, key);
    layer->v = arena_floats(arena, tokens, key);
    layer->attended = arena_floats(arena, tokens, heads * head_width);
    layer->lse = arena_floats(arena, tokens, heads);
    layer->gate = arena_floats(arena, tokens, model->shard.ffn.count);
    layer->up = arena_floats(arena, tokens, model->shard.ffn.count);
    layout_method(model, layer, arena);
}

/* A layer without buffers of its own uses those of the first. */
static void share_layer(struct layer *layer, const struct layer *first)
{
    struct parameter *attention_gain = layer->attention_gain, *mlp_gain = layer->mlp_gain;
    struct linear linears[LINEARS];
    for (int kind = 0; kind < LINEARS; kind++) {
        linears[kind] = layer->linears[kind];
        linears[kind].kept = first->linears[kind].kept;
    }
    *layer = *first;
    layer->attention_gain = attention_gain;
    layer->mlp_gain = mlp_gain;
    for (int kind = 0; kind < LINEARS; kind++)
        layer->linears[kind] = linears[kind];
}

static void layout_activations(struct model *model, struct arena *arena)
{
    struct layer *first = &model->layers[0];
    bool inputs = model->training && model->method->keeps_linear_inputs;
    for (uint32_t i = 0; i < model->config.layers; i++) {
        struct layer *layer = &model->layers[i];
        if (i == 0 || model->training)
            layout_layer(model, layer, arena);
        else
            share_layer(layer, first);
        if (i == 0 || inputs) {
            layout_linear_inputs(model, layer, arena);
        } else {
            layer->attention_normed = first->attention_normed;
            layer->mlp_normed = first->mlp_normed;
            layer->activated = first->activated;
        }
    }
    model->final = model->training ? arena_floats(arena, model->capacity.tokens, model->config.width) : first->input;
    for (uint32_t i = 0; i < model->config.layers; i++)
        model->layers[i].output = i + 1 < model->config.layers ? model->layers[i + 1].input : model->final;
}

static void layout_backward(struct model *model, struct arena *arena)
{
    size_t tokens = model->capacity.tokens, width = model->config.width;
    size_t attention = 2 * (model->shard.heads.count + model->shard.kv_heads.count) * model->config.head_width;
    size_t mlp = model->shard.ffn.count;
    size_t kept = model->method->linear_kept ? model->method->linear_kept(&model->method_config) : 0;
    model->dx = arena_floats(arena, tokens, width);
    model->dnormed = arena_floats(arena, tokens, width);
    model->dinner = arena_floats(arena, tokens, attention > mlp ? attention : mlp);
    model->method_scratch = arena_floats(arena, tokens, kept);
}

static void layout_loss(struct model *model, struct arena *arena)
{
    size_t rows = model->capacity.targets < LOSS_ROWS ? model->capacity.targets : LOSS_ROWS,
           width = model->config.width;
    size_t ranks = (size_t)model->shard.size;
    model->loss_hidden = arena_floats(arena, rows, width);
    model->loss_normed = arena_floats(arena, rows, width);
    model->loss_rstd = arena_floats(arena, rows, 1);
    model->loss_values = arena_floats(arena, rows, 1);
    model->logits = arena_floats(arena, rows, model->shard.vocabulary.count);
    model->partial = arena_floats(arena, 3, rows);
    if (ranks > 1) model->partials = arena_floats(arena, 3 * ranks, rows);
    if (!model->training) return;
    model->loss_dnormed = arena_floats(arena, rows, width);
    model->loss_dhidden = arena_floats(arena, rows, width);
}

void model_layout(struct model *model, struct arena *activations, struct arena *workspace)
{
    layout_activations(model, activations);
    model->ids = arena_take(workspace, model->capacity.tokens * sizeof *model->ids);
    model->positions = arena_take(workspace, model->capacity.tokens * sizeof *model->positions);
    model->labels = arena_take(workspace, model->capacity.targets * sizeof *model->labels);
    model->rows = arena_take(workspace, model->capacity.targets * sizeof *model->rows);
    layout_loss(model, workspace);
    if (model->training) layout_backward(model, workspace);
}
