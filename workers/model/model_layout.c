/* The buffers of a model, sized by one walk: while counting for the plan, then while assigning for the worker. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "workers/model/model_parts.h"

static int prepare_lanes(struct model *model, const struct lane *lanes, size_t count, struct error *err)
{
    model->lanes = calloc(count, sizeof *model->lanes);
    model->pieces = calloc(count, sizeof *model->pieces);
    if (!model->lanes || !model->pieces) return error_set(err, "out of memory");
    model->lane_count = count;
    for (size_t i = 0; i < count; i++) {
        struct model_lane *lane = &model->lanes[i];
        *lane = (struct model_lane){.method_config = lanes[i].method,
                                    .method = method_of(lanes[i].method.kind),
                                    .parameters = lanes[i].parameters,
                                    .capacity = lanes[i].capacity};
        if (count > 1 && !method_packs(lanes[i].method.kind))
            return error_set(err, "points of method %s are not packed", method_name(lanes[i].method.kind));
        model->reads_linear_inputs |= lane->method->reads_linear_inputs;
        model->changes_halves |= lane->method->half_forward != NULL;
        lane->halves = calloc((size_t)model->config.layers * HALVES, sizeof *lane->halves);
        lane->prefixes = calloc(model->config.layers, sizeof *lane->prefixes);
        if (!lane->halves || !lane->prefixes) return error_set(err, "out of memory");
        size_t prefix = method_prefix_length(&lane->method_config);
        if (prefix > model->longest_prefix) model->longest_prefix = prefix;
        if (i == 0) continue;
        lane->linears = calloc((size_t)model->config.layers * LINEARS, sizeof *lane->linears);
        if (!lane->linears) return error_set(err, "out of memory");
    }
    return 0;
}

/* A model alone is made for its batches as they are. */
static struct batch_capacity capacity_of(const struct model *model, const struct lane *lanes)
{
    struct batch_capacity all = lanes[0].capacity;
    if (model->lane_count == 1) return all;
    all = batch_capacity_join(&all, 1);
    for (size_t i = 1; i < model->lane_count; i++) {
        struct batch_capacity one = batch_capacity_join(&lanes[i].capacity, 1);
        all.tokens += one.tokens;
        all.sequences += one.sequences;
        all.targets += one.targets;
        if (one.longest > all.longest) all.longest = one.longest;
        all.dropout = all.dropout || one.dropout;
    }
    return all;
}

static int prepare_overlaid(struct model *model, int rank, int size, struct error *err)
{
    uint32_t layers = model->config.layers;
    size_t *bytes = calloc(layers, sizeof *bytes);
    model->overlaid = calloc(layers, sizeof *model->overlaid);
    int rc = bytes && model->overlaid ? 0 : error_set(err, "out of memory");
    if (!rc) rc = parameters_lent_bytes(&model->config, &model->method_config, rank, size, bytes, err);
    for (uint32_t i = 0; !rc && i < layers; i++)
        model->overlaid[i].gradients = bytes[i];
    free(bytes);
    return rc;
}

int model_prepare(struct model *model, const struct model_config *config, const struct lane *lanes, size_t count,
                  bool training, int rank, int size, struct error *err)
{
    model->config = *config;
    if (prepare_lanes(model, lanes, count, err)) return -1;
    const struct method_config *method = &model->lanes[0].method_config;
    const struct batch_capacity all = capacity_of(model, lanes), *capacity = &all;
    model->method_config = *method;
    model->method = method_of(method->kind);
    model->capacity = *capacity;
    model->training = training && method->kind != METHOD_NONE;
    size_t most = segment_padded(model->loss_room);
    model->loss_rows = capacity->targets < most ? capacity->targets : most;
    uint32_t window = config->architecture.window;
    for (size_t i = 0; window && i < count; i++) {
        size_t longest = lanes[i].capacity.longest + method_prefix_length(&lanes[i].method);
        if (longest <= window) continue;
        return error_set(err,
                         "sequences of %zu tokens are longer than the %" PRIu32 " that attention sees in model \"%s\"; "
                         "allowed: up to that, the virtual tokens of a prompt or prefix counted",
                         longest, window, config->name);
    }
    if (shard_of(config, rank, size, &model->shard, err)) return -1;
    model->layers = calloc(config->layers, sizeof *model->layers);
    if (!model->layers) return error_set(err, "out of memory");
    return model->training && count == 1 && capacity->one_pass ? prepare_overlaid(model, rank, size, err) : 0;
}

/* What the methods keep beside each linear layer, and behind each half. */
static void layout_method(const struct model *model, uint32_t index, struct arena *arena)
{
    for (size_t i = 0; i < model->lane_count; i++) {
        const struct model_lane *lane = &model->lanes[i];
        for (int kind = 0; kind < LINEARS; kind++) {
            struct linear *linear =
                i ? &lane->linears[index * LINEARS + (uint32_t)kind] : &model->layers[index].linears[kind];
            if (!model->shard.linears[kind].name || !lane->method->linear_kept) continue;
            linear->kept = arena_reals(
                arena, lane->capacity.tokens,
                lane->method->linear_kept(&lane->method_config, (enum linear_kind)kind, &model->shard.linears[kind]));
        }
    }
    for (size_t i = 0; i < model->lane_count; i++) {
        const struct model_lane *lane = &model->lanes[i];
        if (!lane->method->half_kept) continue;
        size_t kept = lane->method->half_kept(&lane->method_config, model->config.width);
        for (int place = lane->method_config.mlp_only ? HALF_MLP : HALF_ATTENTION; place < HALVES; place++)
            lane->halves[index * HALVES + (uint32_t)place].kept = arena_reals(arena, lane->capacity.tokens, kept);
    }
}

/* Inputs of the linear layers, which all layers share, where nothing else in the backward pass reads them. */
static void layout_linear_inputs(const struct model *model, struct layer *layer, struct arena *arena)
{
    size_t tokens = model->capacity.tokens;
    if (!model->config.architecture.norm_after) {
        layer->attention_in = arena_reals(arena, tokens, model->config.width);
        layer->mlp_in = arena_reals(arena, tokens, model->config.width);
    }
    layer->activated = arena_reals(arena, tokens, model->shard.ffn.count);
}

static void layout_norm(const struct model *model, struct norm *norm, size_t rows, struct arena *arena)
{
    if (model->config.architecture.norm == NORM_LAYER) norm->mean = arena_floats(arena, rows, 1);
    norm->rstd = arena_floats(arena, rows, 1);
}

static void layout_heads(const struct model *model, struct layer *layer, struct arena *arena)
{
    size_t tokens = model->capacity.tokens, query = model->shard.query.count, key = model->shard.key.count;
    if (model->config.architecture.qk_norm) {
        layer->raw_q = arena_reals(arena, tokens, query);
        layer->raw_k = arena_reals(arena, tokens, key);
        layer->query_norm.rstd = arena_floats(arena, head_norm_rows(model, &model->shard.query, tokens), 1);
        layer->key_norm.rstd = arena_floats(arena, head_norm_rows(model, &model->shard.key, tokens), 1);
    }
    layer->q = arena_reals(arena, tokens, query);
    layer->k = arena_reals(arena, tokens, key);
    layer->v = arena_reals(arena, tokens, key);
    layer->attended = arena_reals(arena, tokens, query);
    layer->lse = arena_floats(arena, tokens, model->shard.heads.count);
}

static void layout_layer(const struct model *model, uint32_t index, struct arena *arena)
{
    struct layer *layer = &model->layers[index];
    const struct architecture *a = &model->config.architecture;
    size_t tokens = model->capacity.tokens, width = model->config.width;
    if (!a->parallel) layer->middle = arena_reals(arena, tokens, width);
    layout_norm(model, &layer->attention_norm, tokens, arena);
    layout_norm(model, &layer->mlp_norm, tokens, arena);
    layout_heads(model, layer, arena);
    if (a->norm_after) {
        layer->attention_out = arena_reals(arena, tokens, width);
        layer->mlp_out = arena_reals(arena, tokens, width);
    }
    if (a->activation == ACTIVATION_SWIGLU) layer->gate = arena_reals(arena, tokens, model->shard.ffn.count);
    layer->up = arena_reals(arena, tokens, model->shard.ffn.count);
    layout_method(model, index, arena);
}

static void share_norm(struct norm *norm, const struct norm *first)
{
    norm->mean = first->mean;
    norm->rstd = first->rstd;
}

/* A layer without buffers of its own uses those of the first; its input stays its own. */
static void share_layer(const struct model *model, uint32_t index)
{
    struct layer *layer = &model->layers[index];
    const struct layer *first = &model->layers[0];
    struct layer own = *layer;
    *layer = *first;
    layer->input = own.input;
    layer->attention_norm = own.attention_norm;
    layer->mlp_norm = own.mlp_norm;
    layer->query_norm = own.query_norm;
    layer->key_norm = own.key_norm;
    share_norm(&layer->attention_norm, &first->attention_norm);
    share_norm(&layer->mlp_norm, &first->mlp_norm);
    share_norm(&layer->query_norm, &first->query_norm);
    share_norm(&layer->key_norm, &first->key_norm);
    for (int kind = 0; kind < LINEARS; kind++) {
        layer->linears[kind] = own.linears[kind];
        layer->linears[kind].kept = first->linears[kind].kept;
        for (size_t i = 1; i < model->lane_count; i++)
            model->lanes[i].linears[index * LINEARS + (uint32_t)kind].kept = model->lanes[i].linears[kind].kept;
    }
    for (size_t i = 0; i < model->lane_count; i++)
        for (uint32_t place = 0; place < HALVES; place++)
            model->lanes[i].halves[index * HALVES + place].kept = model->lanes[i].halves[place].kept;
}

/* In the order in which the forward pass writes: what the backward pass is done with first lies last. */
static void layout_activations(struct model *model, struct arena *arena)
{
    struct layer *first = &model->layers[0];
    const struct architecture *a = &model->config.architecture;
    bool kept = model->training && !model->capacity.recompute; /* every block's, for the backward pass */
    if (a->parallel) first->middle = arena_reals(arena, model->capacity.tokens, model->config.width);
    for (uint32_t i = 0; i < model->config.layers; i++) {
        struct layer *layer = &model->layers[i];
        if (i == 0 || model->training)
            layer->input = arena_reals(arena, model->capacity.tokens, model->config.width);
        else
            layer->input = first->input;
        if (i && model->overlaid) model->overlaid[i - 1].live = arena->used; /* with its output */
        if (i == 0 || kept)
            layout_layer(model, i, arena);
        else
            share_layer(model, i);
        if (i == 0) {
            layout_linear_inputs(model, layer, arena);
        } else {
            layer->attention_in = first->attention_in;
            layer->mlp_in = first->mlp_in;
            layer->activated = first->activated;
        }
        if (a->parallel) layer->middle = first->middle; /* nothing reads it afterwards */
        if (a->norm_after) {
            layer->attention_in = layer->input;
            layer->mlp_in = layer->middle;
        }
    }
    model->final = model->training ? arena_reals(arena, model->capacity.tokens, model->config.width) : first->input;
    if (model->overlaid) model->overlaid[model->config.layers - 1].live = arena->used;
    for (uint32_t i = 0; i < model->config.layers; i++)
        model->layers[i].output = i + 1 < model->config.layers ? model->layers[i + 1].input : model->final;
}

/* What the architecture needs in passing, forward and backward. */
static void layout_passing(struct model *model, struct arena *arena)
{
    const struct architecture *a = &model->config.architecture;
    size_t tokens = model->capacity.tokens;
    if (a->fused_qkv) model->fused = arena_reals(arena, tokens, 3 * model->shard.query.count);
    if (a->qk_norm)
        model->row_sums = arena_floats(
            arena,
            head_norm_rows(model, &model->shard.query, tokens) + head_norm_rows(model, &model->shard.key, tokens), 1);
    if (a->parallel || (a->norm_after && model->training))
        model->branch = arena_reals(arena, tokens, model->config.width);
}

static size_t largest_input(const struct model *model)
{
    size_t largest = 0;
    for (int kind = 0; kind < LINEARS; kind++) {
        const struct linear_shape *shape = &model->shard.linears[kind];
        if (shape->name && shape->in.count > largest) largest = shape->in.count;
    }
    return largest;
}

static void layout_backward(struct model *model, struct arena *arena)
{
    size_t tokens = model->capacity.tokens, width = model->config.width;
    size_t attention = 2 * (model->shard.query.count + model->shard.key.count);
    size_t mlp = model->shard.ffn.count;
    model->dx = arena_reals(arena, tokens, width);
    model->dinput = arena_reals(arena, tokens, width);
    model->dinner = arena_reals(arena, tokens, attention > mlp ? attention : mlp);
    if (model->capacity.dropout) model->dropped = arena_reals(arena, tokens, width);
    size_t inputs = 0;
    for (size_t i = 0; i < model->lane_count; i++) {
        const struct model_lane *lane = &model->lanes[i];
        if (lane_drops_inputs(lane) && lane->capacity.tokens > inputs) inputs = lane->capacity.tokens;
    }
    if (inputs) model->method_input = arena_reals(arena, inputs, largest_input(model));
    if (dropout_keys(model)) model->keys = arena_take(arena, dropout_keys(model) * sizeof *model->keys);
    if (model->changes_halves) model->half_gradient = arena_reals(arena, tokens, width);
}

/* Each lane's, where its method wants some. */
static void layout_scratch(struct model *model, struct arena *arena)
{
    size_t scratch = 0;
    for (size_t i = 0; i < model->lane_count; i++) {
        struct model_lane *lane = &model->lanes[i];
        lane->scratch_first = scratch;
        if (!lane->method->scratch || (!model->training && !lane->method->scratch_forward)) continue;
        size_t wanted = lane->capacity.tokens * lane->method->scratch(&lane->method_config, &model->shard);
        scratch += (wanted + 31) / 32 * 32; /* elements: every part is aligned */
    }
    model->method_scratch = arena_reals(arena, 1, scratch);
}

/* The most that a method changes of a linear layer, which it keeps. */
static size_t largest_changed(const struct model *model)
{
    size_t largest = 0;
    for (size_t i = 0; i < model->lane_count; i++) {
        const struct model_lane *lane = &model->lanes[i];
        for (int kind = 0; kind < LINEARS && lane->method->linear_input; kind++) {
            const struct linear_shape *shape = &model->shard.linears[kind];
            if (!shape->name) continue;
            size_t kept = lane->method->linear_kept(&lane->method_config, (enum linear_kind)kind, shape);
            if (kept > largest) largest = kept;
        }
    }
    return largest;
}

/* What the loss alone needs, forward and backward. */
static void layout_loss(struct model *model, struct arena *arena)
{
    size_t rows = model->loss_rows, width = model->config.width;
    size_t ranks = (size_t)model->shard.size;
    model->loss_hidden = arena_reals(arena, rows, width);
    model->loss_normed = arena_reals(arena, rows, width);
    layout_norm(model, &model->final_norm, rows, arena);
    model->logits = arena_reals(arena, rows, model->shard.vocabulary.count);
    model->partial = arena_floats(arena, 4, rows);
    if (ranks > 1) model->partials = arena_floats(arena, 4 * ranks, rows);
    if (!model->training) return;
    model->loss_dnormed = arena_reals(arena, rows, width);
    model->loss_dhidden = arena_reals(arena, rows, width);
}

size_t model_overlaid_bytes(const struct model *model)
{
    size_t bytes = 0;
    for (uint32_t i = 0; model->overlaid && i < model->config.layers; i++)
        bytes += model->overlaid[i].gradients;
    return bytes;
}

/* Gradients grow from the arena's end towards its beginning, as the backward pass goes down, and the activations that
 * are still read shrink towards it: the arena is so large that they never meet. */
static void layout_overlaid(struct model *model, struct arena *arena)
{
    size_t room = arena->used, gradients = 0;
    for (uint32_t i = model->config.layers; i-- > 0;) {
        gradients += model->overlaid[i].gradients;
        if (room < model->overlaid[i].live + gradients) room = model->overlaid[i].live + gradients;
    }
    arena->used = room;
    for (uint32_t i = model->config.layers; arena->base && i-- > 0;) {
        room -= model->overlaid[i].gradients;
        parameters_lend(model->parameters, i, (float *)(void *)(arena->base + room));
    }
}

void model_layout(struct model *model, struct arena *activations, struct arena *workspace)
{
    layout_activations(model, activations);
    layout_loss(model, activations);
    if (model->overlaid) layout_overlaid(model, activations);
    model->loss_values = arena_floats(workspace, model->capacity.targets, 1);
    model->ids = arena_take(workspace, model->capacity.tokens * sizeof *model->ids);
    model->positions = arena_take(workspace, model->capacity.tokens * sizeof *model->positions);
    model->labels = arena_take(workspace, model->capacity.targets * sizeof *model->labels);
    model->rows = arena_take(workspace, model->capacity.targets * sizeof *model->rows);
    model->offsets = arena_take(workspace, (model->capacity.sequences + 1) * sizeof *model->offsets);
    if (model->training) model->order = arena_take(workspace, model->capacity.tokens * sizeof *model->order);
    model->kv_head_of = arena_take(workspace, model->shard.heads.count * sizeof *model->kv_head_of);
    if (model->longest_prefix)
        model->prefixes =
            arena_take(workspace, model->config.layers * model->capacity.sequences * sizeof *model->prefixes);
    layout_passing(model, workspace);
    if (model->training) layout_backward(model, workspace);
    layout_scratch(model, workspace);
    size_t changed = largest_changed(model);
    if (changed) model->changed = arena_reals(workspace, model->capacity.tokens, changed);
}
