/* Dropout of a pass: the keys of its masks on the device, and the recipe's sites. */
#include "workers/model/model_parts.h"

bool lane_drops_inputs(const struct model_lane *lane)
{
    return lane->method->drops_inputs && lane->method->drops_inputs(&lane->method_config);
}

size_t dropout_keys(const struct model *model)
{
    bool any = model->capacity.dropout;
    for (size_t i = 0; i < model->lane_count; i++)
        any |= lane_drops_inputs(&model->lanes[i]);
    return any ? model->lane_count * model->config.layers * DROPOUT_SITES : 0;
}

static size_t first_key(const struct model *model, size_t lane)
{
    return lane * model->config.layers * DROPOUT_SITES;
}

const struct dropout_key *lane_keys(const struct model *model, size_t lane)
{
    return model->keys ? model->keys + first_key(model, lane) : NULL;
}

/* A method has something beside the layer. */
static bool adapted(const struct model *model, size_t lane, uint32_t layer, unsigned kind)
{
    return model->shard.linears[kind].name && lane_linear(model, lane, &model->layers[layer].linears[kind])->adapter[0];
}

static bool draw_keys(const struct model *model, const struct segment *segment)
{
    const struct model_lane *lane = &model->lanes[segment->lane];
    struct dropout_key *keys = model->key_room + first_key(model, segment->lane);
    bool inputs = lane_drops_inputs(lane), recipe = lane->dropout > 0;
    for (uint32_t layer = 0; (inputs || recipe) && layer < model->config.layers; layer++)
        for (unsigned site = 0; site < DROPOUT_SITES; site++)
            if (site < DROPOUT_INPUTS ? recipe && (site != DROPOUT_EMBEDDING || layer == 0)
                                      : inputs && adapted(model, segment->lane, layer, site - DROPOUT_INPUTS))
                keys[dropout_place(site, layer)] = dropout_key(&segment->draws, site, layer);
    return inputs || recipe;
}

void upload_dropout_keys(const struct model *model)
{
    bool any = false;
    if (!model->keys) return;
    for (size_t i = 0; i < model->segment_count; i++)
        any |= draw_keys(model, &model->segments[i]);
    if (any)
        model->kernels->to_device(model->device, model->keys, model->key_room,
                                  dropout_keys(model) * sizeof *model->keys);
}

void drop(const struct model *model, unsigned site, uint32_t layer, size_t tokens, const real *x, real *y)
{
    const struct part columns = part_whole(model->config.width);
    if (y != x) model->kernels->copy(model->device, tokens * columns.count * model->element, x, y);
    for (size_t i = 0; i < model->segment_count; i++) {
        const struct segment *s = &model->segments[i];
        double rate = model->lanes[s->lane].dropout;
        real *rows = at(model, y, s->first * columns.count);
        if (rate <= 0) continue;
        const struct dropout how = dropout_at(lane_keys(model, s->lane), rate, site, layer, &columns);
        model->kernels->dropout(model->device, &how, s->rows, columns.count, rows, false, rows);
    }
}
