/* One rank's part of the Transformer over a packed batch: embed, layers, loss, and back. */
#include "workers/model/model.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "workers/model/gang_failed.h"
#include "workers/model/model_parts.h"

static int told(const struct model *model, int failed, struct error *err)
{
    return failed ? gang_failed(model->kernels, model->device, err) : 0;
}

int model_sum(const struct model *model, size_t n, real *x, struct error *err)
{
    return told(model, model->kernels->sum_ranks(model->device, &model->collective, n, x), err);
}

int model_sum_begin(const struct model *model, size_t n, real *x, struct error *err)
{
    return told(model, model->kernels->sum_ranks_begin(model->device, &model->collective, n, x), err);
}

int model_sum_end(const struct model *model, struct error *err)
{
    return told(model, model->kernels->sum_ranks_end(model->device, &model->collective), err);
}

int model_sum_floats(const struct model *model, size_t n, float *x, struct error *err)
{
    return told(model, model->kernels->sum_ranks_floats(model->device, &model->collective, n, x), err);
}

/* A norm's tensors; `layer` as "LAYERS.NUMBER.", or "". */
static void attach_norm(const struct model *model, struct norm *norm, const char *layer, const char *name)
{
    norm->gain = parameters_find(model->parameters, "%s%s.weight", layer, name);
    norm->bias = parameters_find(model->parameters, "%s%s.bias", layer, name);
}

static void attach_linear(const struct model *model, const struct model_lane *lane, struct linear *linear,
                          uint32_t layer, enum linear_kind kind, const char *place)
{
    char module[96];
    const struct linear_shape *shape = &model->shard.linears[kind];
    snprintf(module, sizeof module, "%s%s", place, shape->name);
    linear->weight = parameters_find(lane->parameters, "%s.weight", module);
    linear->bias = shape->bias ? parameters_find(lane->parameters, "%s.bias", module) : NULL;
    linear->adds_bias = shape->bias && (shape->out.split || model->shard.rank == 0);
    linear->out = shape->out.count;
    linear->in = shape->in.count;
    linear->input = shape->in;
    linear->layer = layer;
    linear->kind = kind;
    if (lane->method->linear_attach) lane->method->linear_attach(linear, lane->parameters, module);
}

/* A layer's part of a lane's prefix, at this rank's first key/value head. */
static void attach_prefix(const struct model *model, const struct model_lane *lane, uint32_t index)
{
    const struct parameter *table = lane->method->prefix ? lane->method->prefix(lane->parameters) : NULL;
    struct attention_prefix *prefix = &lane->prefixes[index];
    if (!table) return;
    size_t keys = (size_t)model->config.kv_heads * model->config.head_width;
    size_t first = 2 * index * keys + model->shard.kv_heads.first * model->config.head_width;
    *prefix = (struct attention_prefix){.length = table->rows,
                                        .stride = table->columns,
                                        .k = at(model, table->matrix, first),
                                        .v = at(model, table->matrix, first + keys)};
    if (!table->gradient) return;
    prefix->dk = table->gradient + first;
    prefix->dv = table->gradient + first + keys;
}

static void attach_halves(const struct model *model, const struct model_lane *lane, const struct layer *layer,
                          size_t index, const char *place)
{
    char name[96];
    if (!lane->method->half_attach) return;
    snprintf(name, sizeof name, "%sattention_adapter", place);
    lane->method->half_attach(lane_half(model, index, layer, HALF_ATTENTION), lane->parameters, name);
    snprintf(name, sizeof name, "%smlp_adapter", place);
    lane->method->half_attach(lane_half(model, index, layer, HALF_MLP), lane->parameters, name);
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
        if (!model->shard.linears[kind].name) continue;
        layer->linears[kind].layer = index;
        layer->linears[kind].kind = (enum linear_kind)kind;
        for (size_t lane = 0; lane < model->lane_count; lane++)
            attach_linear(model, &model->lanes[lane], lane_linear(model, lane, &layer->linears[kind]), index,
                          (enum linear_kind)kind, place);
    }
    for (size_t i = 0; i < model->lane_count; i++) {
        attach_prefix(model, &model->lanes[i], index);
        attach_halves(model, &model->lanes[i], layer, i, place);
    }
}

static void attach(struct model *model)
{
    const struct tensor_names *names = tensor_names_of(&model->config);
    model->embedding = parameters_find(model->parameters, "%s.weight", names->embedding);
    model->unembedding =
        model->config.tied ? model->embedding : parameters_find(model->parameters, "%s.weight", names->unembedding);
    attach_norm(model, &model->final_norm, "", names->final_norm);
    for (size_t i = 0; i < model->lane_count; i++) {
        struct model_lane *lane = &model->lanes[i];
        lane->prompt = lane->method->prompt ? lane->method->prompt(lane->parameters) : NULL;
    }
    model->prompt = model->lanes[0].prompt;
    for (uint32_t i = 0; i < model->config.layers; i++)
        attach_layer(model, i);
}

/* The heads' keys, which every pass reads on the device and none changes. */
static int upload_heads(struct model *model, struct error *err)
{
    size_t heads = model->shard.heads.count;
    uint32_t *kv_head_of = calloc(heads, sizeof *kv_head_of);
    if (!kv_head_of) return error_set(err, "out of memory");
    for (size_t head = 0; head < heads; head++)
        kv_head_of[head] =
            (uint32_t)(shard_kv_head(&model->config, model->shard.heads.first + head) - model->shard.kv_heads.first);
    model->kernels->to_device(model->device, model->kv_head_of, kv_head_of, heads * sizeof *kv_head_of);
    free(kv_head_of);
    return model->kernels->synchronise(model->device, err);
}

static void put_prefix(const struct model *model, size_t lane, size_t sequence)
{
    for (uint32_t layer = 0; layer < model->config.layers; layer++)
        model->prefix_room[layer * model->capacity.sequences + sequence] = model->lanes[lane].prefixes[layer];
}

/* What is before the sequences of a batch: its lane's prefix, before those of padding nothing. A batch without padding
 * of one lane finds what the last one like it has left there. */
static void upload_prefixes(struct model *model, const struct batch *batch)
{
    size_t room = model->capacity.sequences, bytes = model->config.layers * room * sizeof *model->prefix_room;
    bool alike = model->lane_count == 1 && model->segments == &model->whole;
    if (!model->prefixes || (alike && model->prefixes_alike)) return;
    memset(model->prefix_room, 0, bytes);
    for (size_t s = 0; alike && s < room; s++)
        put_prefix(model, 0, s);
    for (size_t i = 0, s = 0; !alike && i < model->segment_count; i++) {
        const struct segment *segment = &model->segments[i];
        for (; s < batch->sequences && batch->offsets[s] < segment->first + segment->padded; s++)
            if (batch->offsets[s] < segment->first + segment->rows) put_prefix(model, segment->lane, s);
    }
    model->kernels->to_device(model->device, model->prefixes, model->prefix_room, bytes);
    model->prefixes_alike = alike;
}

static const char *passes(bool one)
{
    return one ? "one pass" : "any number of passes";
}

struct model *model_create(const struct model_config *config, const struct method_config *method,
                           struct parameters *parameters, const struct batch_capacity *capacity, bool training,
                           struct error *err)
{
    return model_create_pack(config, &(struct lane){*method, parameters, *capacity}, 1, training, err);
}

struct model *model_create_pack(const struct model_config *config, const struct lane *lanes, size_t count,
                                bool training, struct error *err)
{
    struct parameters *parameters = lanes[0].parameters;
    struct model *model = calloc(1, sizeof *model);
    if (!model) {
        error_set(err, "out of memory");
        return NULL;
    }
    model->parameters = parameters;
    model->kernels = parameters->kernels;
    model->device = parameters->device;
    model->element = model->kernels->element_bytes(model->device);
    model->loss_room = kernels_storage(model->kernels->name, PRECISION_FP32).loss_rows; /* in either */
    model->row_join = kernels_row_join(model->kernels, model->kernels->precision(model->device));
    model->joins = joins_create();
    model->collective = parameters->collective;
    struct arena activations = {.element = model->element}, workspace = {.element = model->element};
    if (model_prepare(model, config, lanes, count, training, model->collective.rank, model->collective.size, err))
        goto fail;
    if (parameters->lent != (model_overlaid_bytes(model) > 0)) {
        error_set(err, "parameters for steps of %s, and a model for steps of %s", passes(parameters->lent),
                  passes(!parameters->lent));
        goto fail;
    }
    attach(model);
    model_layout(model, &activations, &workspace);
    if (arena_allocate(&activations, model->kernels, model->device, err)) goto fail;
    model->activation_arena = activations.base;
    if (arena_allocate(&workspace, model->kernels, model->device, err)) goto fail;
    model->workspace_arena = workspace.base;
    model_layout(model, &activations, &workspace);
    if (model->training) model->order_room = calloc(3 * model->capacity.tokens, sizeof *model->order_room);
    if (model->prefixes)
        model->prefix_room = calloc(model->config.layers * model->capacity.sequences, sizeof *model->prefix_room);
    if (model->keys) model->key_room = calloc(dropout_keys(model), sizeof *model->key_room);
    bool records = model->kernels->graph_begin && model->collective.size == 1;
    if (records) model->recordings = recordings_create(model);
    if (!model->joins || (records && !model->recordings) || (model->training && !model->order_room) ||
        (model->prefixes && !model->prefix_room) || (model->keys && !model->key_room)) {
        error_set(err, "out of memory");
        goto fail;
    }
    if (upload_heads(model, err)) goto fail;
    return model;
fail:
    model_destroy(model);
    return NULL;
}

void model_destroy(struct model *model)
{
    if (!model) return;
    recordings_destroy(model, model->recordings);
    for (uint32_t i = 0; model->overlaid && model->activation_arena && i < model->config.layers; i++)
        parameters_lend(model->parameters, i, NULL);
    if (model->workspace_arena) model->kernels->release(model->device, model->workspace_arena);
    if (model->activation_arena) model->kernels->release(model->device, model->activation_arena);
    for (size_t i = 0; model->lanes && i < model->lane_count; i++) {
        free(model->lanes[i].linears);
        free(model->lanes[i].halves);
        free(model->lanes[i].prefixes);
    }
    free(model->lanes);
    free(model->pieces);
    free(model->order_room);
    free(model->prefix_room);
    free(model->key_room);
    joins_destroy(model->joins);
    free(model->overlaid);
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

/* Segments that the batch names cover it in order, one a lane. */
static int check_segments(const struct model *model, const struct batch *batch, struct error *err)
{
    size_t row = 0, target = 0;
    for (size_t i = 0; i < batch->segment_count; i++) {
        const struct segment *s = &batch->segments[i];
        if (s->lane >= model->lane_count || (i && s->lane <= s[-1].lane) || s->first != row || s->rows > s->padded ||
            s->rows > model->lanes[s->lane].capacity.tokens || s->first_target != target)
            return error_set(err, "segment %zu of a batch does not follow the one before", i);
        row += s->padded;
        target += s->targets;
        for (size_t t = s->first_target; t < target && t < batch->targets; t++)
            if (batch->rows[t] < s->first || batch->rows[t] >= s->first + s->rows)
                return error_set(err, "a target of segment %zu of a batch is another's", i);
    }
    if (batch->segment_count && (row != batch->tokens || target != batch->targets))
        return error_set(err, "the segments of a batch do not cover it");
    return 0;
}

static int check_ids(const struct model *model, const struct batch *batch, const struct segment *segment,
                     struct error *err)
{
    const struct model_lane *lane = &model->lanes[segment->lane];
    int64_t vocabulary = model->config.vocabulary, prompt = lane->prompt ? lane->method_config.size : 0;
    for (size_t i = segment->first; i < segment->first + segment->padded; i++)
        if (batch->ids[i] >= vocabulary || batch->ids[i] < -prompt)
            return error_set(err, "token id %d is outside the vocabulary; allowed: 0..%lld", batch->ids[i],
                             (long long)vocabulary - 1);
    return 0;
}

/* Token ids come from files: none may reach a kernel that does not lie in a table. */
static int check_batch(const struct model *model, const struct batch *batch, struct error *err)
{
    int64_t vocabulary = model->config.vocabulary;
    for (size_t i = 0; i < model->segment_count; i++)
        if (check_ids(model, batch, &model->segments[i], err)) return -1;
    for (size_t i = 0; i < batch->targets; i++) {
        if (batch->labels[i] < 0 || batch->labels[i] >= vocabulary)
            return error_set(err, "label %d is outside the vocabulary; allowed: 0..%lld", batch->labels[i],
                             (long long)vocabulary - 1);
        if (batch->rows[i] >= batch->tokens || (i && batch->rows[i] <= batch->rows[i - 1]))
            return error_set(err, "target rows of a batch are not ascending rows of its %zu tokens", batch->tokens);
    }
    return 0;
}

struct attention model_heads(const struct model *model)
{
    return (struct attention){.heads = model->shard.heads.count,
                              .kv_heads = model->shard.kv_heads.count,
                              .head_width = model->config.head_width,
                              .kv_head_of = model->kv_head_of};
}

struct pass model_begin_pass(struct model *model, const struct batch *batch)
{
    const struct kernels *k = model->kernels;
    k->to_device(model->device, model->ids, batch->ids, batch->tokens * sizeof *batch->ids);
    k->to_device(model->device, model->positions, batch->positions, batch->tokens * sizeof *batch->positions);
    if (batch->targets) { /* prompts have none */
        k->to_device(model->device, model->rows, batch->rows, batch->targets * sizeof *batch->rows);
        k->to_device(model->device, model->labels, batch->labels, batch->targets * sizeof *batch->labels);
    }
    k->to_device(model->device, model->offsets, batch->offsets, (batch->sequences + 1) * sizeof *batch->offsets);
    upload_prefixes(model, batch);
    struct pass pass = {.tokens = batch->tokens, .attention = model_heads(model)};
    pass.attention.sequences = (struct sequences){batch->sequences, model->offsets, batch->longest, batch->tokens};
    return pass;
}

/* Each token's embedding is on one rank, the prompt is the first rank's to add. */
static int embed(const struct model *model, size_t tokens, struct error *err)
{
    size_t width = model->config.width;
    real *x = model->layers[0].input;
    for (size_t i = 0; i < model->segment_count; i++) {
        const struct segment *s = &model->segments[i];
        const struct parameter *prompt = model->lanes[s->lane].prompt;
        model->kernels->embedding_forward(
            model->device, s->padded, width, model->ids + s->first, model->shard.vocabulary.first,
            model->shard.vocabulary.count, model->embedding->matrix,
            prompt && model->shard.rank == 0 ? prompt->matrix : NULL, at(model, x, s->first * width));
    }
    if (model_sum(model, tokens * width, x, err)) return -1;
    if (model->drops) drop(model, DROPOUT_EMBEDDING, 0, tokens, x, x);
    return 0;
}

static void embed_backward(const struct model *model, size_t tokens)
{
    size_t width = model->config.width;
    if (model->drops) drop(model, DROPOUT_EMBEDDING, 0, tokens, model->dx, model->dx);
    for (size_t i = 0; i < model->segment_count; i++) {
        const struct segment *s = &model->segments[i];
        const struct parameter *prompt = model->lanes[s->lane].prompt;
        if (!model->embedding->gradient && !prompt) continue;
        model->kernels->embedding_backward(model->device, s->rows, width, model->ids + s->first,
                                           model->order + s->first, model->shard.vocabulary.first,
                                           model->shard.vocabulary.count, at(model, model->dx, s->first * width),
                                           model->embedding->gradient, prompt ? prompt->gradient : NULL);
    }
}

int model_forward(const struct model *model, const struct pass *pass, struct error *err)
{
    if (embed(model, pass->tokens, err)) return -1;
    for (uint32_t i = 0; i < model->config.layers; i++)
        if (block_forward(model, &model->layers[i], pass, err)) return -1;
    return 0;
}

static bool trained(const struct parameter *parameter)
{
    return parameter && parameter->gradient;
}

static bool norm_trained(const struct norm *norm)
{
    return trained(norm->gain) || trained(norm->bias);
}

static bool halves_trained(const struct model *model, const struct layer *layer)
{
    for (size_t lane = 0; lane < model->lane_count; lane++)
        for (int place = 0; place < HALVES; place++)
            if (trained(lane_half(model, lane, layer, (enum half_place)place)->adapter[0])) return true;
    return false;
}

static bool prefixes_trained(const struct model *model, const struct layer *layer)
{
    for (size_t lane = 0; lane < model->lane_count; lane++)
        if (model->lanes[lane].prefixes[layer - model->layers].dk) return true;
    return false;
}

/* A norm that reads the block's input is: the gradient of that input is wanted. */
static bool input_trained(const struct model *model, const struct layer *layer)
{
    const struct architecture *a = &model->config.architecture;
    return !a->norm_after && (norm_trained(&layer->attention_norm) || (a->parallel && norm_trained(&layer->mlp_norm)));
}

static bool linear_trained(const struct model *model, const struct linear *linear)
{
    if (trained(linear->weight) || trained(linear->bias)) return true;
    for (size_t lane = 0; lane < model->lane_count; lane++)
        if (trained(lane_linear(model, lane, linear)->adapter[0])) return true;
    return false;
}

static bool block_trained(const struct model *model, const struct layer *layer)
{
    for (int kind = 0; kind < LINEARS; kind++)
        if (model->shard.linears[kind].name && linear_trained(model, &layer->linears[kind])) return true;
    return norm_trained(&layer->attention_norm) || norm_trained(&layer->mlp_norm) || norm_trained(&layer->query_norm) ||
           norm_trained(&layer->key_norm) || halves_trained(model, layer) || prefixes_trained(model, layer);
}

static bool embeddings_trained(const struct model *model)
{
    if (trained(model->embedding)) return true;
    for (size_t lane = 0; lane < model->lane_count; lane++)
        if (trained(model->lanes[lane].prompt)) return true;
    return false;
}

/* From the top down to the lowest block with something to train, or to the embeddings. */
static int backward(const struct model *model, const struct pass *pass, struct error *err)
{
    bool embeddings = embeddings_trained(model);
    uint32_t lowest = 0;
    while (!embeddings && lowest < model->config.layers && !block_trained(model, &model->layers[lowest]))
        lowest++;
    for (uint32_t i = model->config.layers; i-- > lowest;) {
        bool last = i == lowest && !embeddings && !input_trained(model, &model->layers[i]);
        bool again = model->capacity.recompute && i + 1 < model->config.layers; /* what the top block left is there */
        if (again && block_forward(model, &model->layers[i], pass, err)) return -1;
        if (block_backward(model, &model->layers[i], pass, last, err)) return -1;
    }
    if (embeddings) embed_backward(model, pass->tokens);
    return 0;
}

/* Tokens by ascending id, those of one id in their order, segment by segment: so gradients of a table's rows can be
 * summed in one order by whatever computes many rows at once. */
static void upload_order(struct model *model, const struct batch *batch)
{
    for (size_t i = 0; i < model->segment_count; i++) {
        const struct segment *s = &model->segments[i];
        size_t room = model->capacity.tokens;
        uint32_t *order = (uint32_t *)(model->order_room + 2 * room);
        token_order(s->rows, batch->ids + s->first, model->order_room, model->order_room + room, order);
        model->kernels->to_device(model->device, model->order + s->first, order, s->rows * sizeof *order);
    }
}

int model_work(const struct model *model, const struct pass *pass, const float *scales, struct error *err)
{
    if (model_forward(model, pass, err) || model_loss(model, pass->tokens, scales, err)) return -1;
    return scales ? backward(model, pass, err) : 0;
}

/* What a second pass of a step leaves of the first one's gradients, where they lie among the activations. */
static int check_passes(const struct model *model, struct error *err)
{
    const struct layer *top = &model->layers[model->config.layers - 1];
    const struct parameter *last = top->linears[LINEAR_DOWN].weight;
    if (model_overlaid_bytes(model) == 0 || last->stale) return 0;
    return error_set(err, "a second pass of a step, of a model that was made for one");
}

/* scales NULL: the losses alone. */
static int run(struct model *model, const struct batch *batch, const float *scales, struct begun_pass *begun,
               struct error *err)
{
    if (batch->targets == 0) return 0; /* neither loss nor gradient */
    if (scales && check_passes(model, err)) return -1;
    struct pass pass = model_begin_pass(model, batch);
    model->training_pass = scales != NULL;
    model->drops = false;
    for (size_t i = 0; i < model->segment_count; i++)
        model->drops |= scales && model->lanes[model->segments[i].lane].dropout > 0;
    if (scales && embeddings_trained(model)) upload_order(model, batch);
    if (scales) upload_dropout_keys(model);
    if (model_repeat(model, &pass, scales, batch->targets, err)) return -1;
    model_losses(model, begun);
    return 0;
}

int model_begin_forward(struct model *model, uint32_t lane, const struct batch *batch, struct error *err)
{
    if (batch->segment_count) return error_set(err, "a batch of a pack's segments");
    if (check_sequences(model, batch, err)) return -1;
    model->whole = (struct segment){.lane = lane, .rows = batch->tokens, .padded = batch->tokens};
    model->segments = &model->whole;
    model->segment_count = 1;
    model->training_pass = model->drops = false;
    if (!check_batch(model, batch, err)) return 0;
    model->segment_count = 0;
    return -1;
}

int model_pass_begin(struct model *model, const struct batch *batch, const float *scales, struct error *err)
{
    struct begun_pass *begun = &model->begun[(model->first_begun + model->begun_count) % PASSES_BEGUN];
    assert(model->begun_count < PASSES_BEGUN);
    if (check_sequences(model, batch, err) || check_segments(model, batch, err)) return -1;
    if (scales && !model->training) {
        if (model->method_config.kind != METHOD_NONE)
            return error_set(err, "the model was made for evaluation, it has no room for gradients");
        scales = NULL;
    }
    model->whole = (struct segment){0, 0, batch->tokens, batch->tokens, 0, batch->targets, batch->draws};
    model->segments = batch->segment_count ? batch->segments : &model->whole;
    model->segment_count = batch->segment_count ? batch->segment_count : 1;
    *begun = (struct begun_pass){.count = model->segment_count};
    for (size_t i = 0; i < begun->count; i++)
        begun->lanes[i] = model->segments[i].lane;
    int rc = check_batch(model, batch, err) ? -1 : run(model, batch, scales, begun, err);
    model->segment_count = 0;
    if (!rc) model->begun_count++;
    return rc;
}

int model_pass_end(struct model *model, double *losses, struct error *err)
{
    const struct begun_pass *begun = &model->begun[model->first_begun];
    assert(model->begun_count > 0);
    model->first_begun = (model->first_begun + 1) % PASSES_BEGUN;
    model->begun_count--;
    size_t later = 0;
    for (size_t i = 0; i < model->begun_count; i++)
        later += model->begun[(model->first_begun + i) % PASSES_BEGUN].awaited;
    if (model->kernels->collect(model->device, later, err)) return -1;
    for (size_t i = 0; i < begun->count; i++)
        losses[begun->lanes[i]] = begun->losses[i];
    return 0;
}

void model_give_up(struct model *model)
{
    model->begun_count = 0;
    model->kernels->collect(model->device, 0, NULL);
}

int model_pass(struct model *model, const struct batch *batch, const float *scales, double *losses, struct error *err)
{
    if (!model_pass_begin(model, batch, scales, err) && !model_pass_end(model, losses, err)) return 0;
    model_give_up(model);
    return -1;
}

static int pass_alone(struct model *model, const struct batch *batch, const float *scale, double *loss,
                      struct error *err)
{
    *loss = 0;
    if (model->lane_count > 1) return error_set(err, "a pack has a loss for each lane");
    return model_pass(model, batch, scale, loss, err);
}

int model_evaluate(struct model *model, const struct batch *batch, double *loss, struct error *err)
{
    return pass_alone(model, batch, NULL, loss, err);
}

void model_smooth_lane(struct model *model, size_t lane, double smoothing)
{
    model->lanes[lane].label_smoothing = (float)smoothing;
}

void model_smooth_labels(struct model *model, double smoothing)
{
    model_smooth_lane(model, 0, smoothing);
}

void model_lane_dropout(struct model *model, size_t lane, double rate)
{
    assert(rate <= 0 || model->capacity.dropout || !model->training);
    model->lanes[lane].dropout = rate;
}

void model_dropout(struct model *model, double rate)
{
    model_lane_dropout(model, 0, rate);
}

int model_train(struct model *model, const struct batch *batch, float scale, double *loss, struct error *err)
{
    return pass_alone(model, batch, scale != 0 ? &scale : NULL, loss, err);
}
