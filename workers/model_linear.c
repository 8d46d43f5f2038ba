/* A linear layer of the model with its method's hook: the only place where weights meet activations. */
#include "workers/model_parts.h"

static struct method_context context_of(const struct model *model, size_t lane, const struct draws *draws)
{
    return (struct method_context){.kernels = model->kernels,
                                   .device = model->device,
                                   .config = &model->lanes[lane].method_config,
                                   .scratch = model->method_scratch,
                                   .draws = model->training_pass ? draws : NULL,
                                   .input = model->method_input};
}

int model_merge(struct model *model, struct error *err)
{
    const struct method *method = model->method;
    struct method_context context = context_of(model, 0, NULL);
    if (!method->parameters) return 0;
    if (!method->linear_merge)
        return error_set(err, "what %s adds cannot be taken up by the weights", method_name(model->method_config.kind));
    for (uint32_t i = 0; i < model->config.layers; i++)
        for (int kind = 0; kind < LINEARS; kind++)
            if (model->layers[i].linears[kind].adapter[0])
                method->linear_merge(&context, &model->layers[i].linears[kind]);
    return model->kernels->synchronise(model->device, err);
}

/* Rows that are passed outside of a batch (generation) are the first lane's. */
static size_t segments_of(const struct model *model, size_t tokens, struct segment *all,
                          const struct segment **segments)
{
    *all = (struct segment){.rows = tokens, .padded = tokens};
    *segments = model->segment_count ? model->segments : all;
    return model->segment_count ? model->segment_count : 1;
}

void linear_forward(const struct model *model, const struct linear *linear, size_t tokens, const float *x, float *y)
{
    struct segment all;
    const struct segment *segments;
    size_t in = linear->in, out = linear->out, count = segments_of(model, tokens, &all, &segments);
    segments_matmul(model, segments, count, true, out, in, x, linear->weight->value, 0, y);
    if (linear->adds_bias) model->kernels->bias_forward(model->device, tokens, out, linear->bias->value, y);
    for (size_t i = 0; i < count; i++) {
        const struct segment *s = &segments[i];
        const struct linear *own = lane_linear(model, s->lane, linear);
        struct method_context context = context_of(model, s->lane, &s->draws);
        if (own->adapter[0])
            model->lanes[s->lane].method->linear_forward(&context, own, s->rows, x + s->first * in, y + s->first * out);
    }
}

void linear_backward(const struct model *model, const struct linear *linear, size_t tokens, const float *x,
                     const float *dy, float *dx, bool add)
{
    struct segment all;
    const struct segment *segments;
    const struct kernels *k = model->kernels;
    size_t in = linear->in, out = linear->out, count = segments_of(model, tokens, &all, &segments);
    const struct parameter *weight = linear->weight;
    if (weight->gradient)
        k->matmul(model->device, true, false, out, in, tokens, 1, dy, out, x, in, 1, weight->gradient, in);
    if (linear->bias && linear->bias->gradient)
        k->bias_backward(model->device, tokens, out, dy, linear->bias->gradient);
    if (dx) segments_matmul(model, segments, count, false, in, out, dy, weight->value, add ? 1 : 0, dx);
    for (size_t i = 0; i < count; i++) {
        const struct segment *s = &segments[i];
        const struct linear *own = lane_linear(model, s->lane, linear);
        struct method_context context = context_of(model, s->lane, &s->draws);
        if (own->adapter[0])
            model->lanes[s->lane].method->linear_backward(&context, own, s->rows, x + s->first * in,
                                                          dy + s->first * out, dx ? dx + s->first * in : NULL);
    }
}
