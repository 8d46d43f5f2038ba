/* A linear layer of the model with its method's hooks: the only place where weights meet activations. */
#include "workers/model/model_parts.h"

struct method_context lane_context(const struct model *model, size_t lane, const struct draws *draws)
{
    return (struct method_context){.kernels = model->kernels,
                                   .device = model->device,
                                   .element = model->element,
                                   .config = &model->lanes[lane].method_config,
                                   .scratch = at(model, model->method_scratch, model->lanes[lane].scratch_first),
                                   .draws = model->training_pass ? draws : NULL,
                                   .input = model->method_input};
}

struct method_context model_context(const struct model *model)
{
    return lane_context(model, 0, NULL);
}

int model_merge(struct model *model, struct error *err)
{
    const struct method *method = model->method;
    struct method_context context = model_context(model);
    if (!method->parameters) return 0;
    if (!method->linear_merge)
        return error_set(err, "what %s adds cannot be taken up by the weights", method_name(model->method_config.kind));
    for (uint32_t i = 0; i < model->config.layers; i++)
        for (int kind = 0; kind < LINEARS; kind++)
            if (model->layers[i].linears[kind].adapter[0] &&
                method->linear_merge(&context, &model->layers[i].linears[kind], err))
                return -1;
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

/* Nothing comes between the layer's output and what follows it. */
static bool plain(const struct model *model, const struct linear *linear)
{
    for (size_t lane = 0; lane < model->lane_count; lane++)
        if (lane_linear(model, lane, linear)->adapter[0]) return false;
    return true;
}

static struct layer_product product_of(const struct linear *linear, enum linear_gelu gelu)
{
    return (struct layer_product){.weight = linear->weight->matrix,
                                  .bias = linear->adds_bias ? linear->bias->value : NULL,
                                  .gelu = gelu,
                                  .n = linear->out,
                                  .k = linear->in};
}

void linear_forward(const struct model *model, const struct linear *linear, size_t tokens, const real *x, real *y)
{
    struct segment all;
    const struct segment *segments;
    size_t count = segments_of(model, tokens, &all, &segments);
    const struct layer_product product = product_of(linear, GELU_NONE);
    const real *input = x;
    if (linear->changes_input) { /* such methods are not in packs: all rows are theirs */
        struct method_context context = model_context(model);
        model->method->linear_input(&context, linear, tokens, x, model->method_scratch);
        input = model->method_scratch;
    }
    segments_linear(model, segments, count, &product, input, NULL, y);
    adapters_forward(model, linear, segments, count, x, y);
}

void linear_gelu_forward(const struct model *model, const struct linear *linear, size_t tokens, bool approximate,
                         const real *x, real *before, real *y)
{
    struct segment all;
    const struct segment *segments;
    if (!plain(model, linear)) {
        linear_forward(model, linear, tokens, x, before);
        model->kernels->gelu_forward(model->device, tokens * linear->out, approximate, before, y);
        return;
    }
    size_t count = segments_of(model, tokens, &all, &segments);
    const struct layer_product product = product_of(linear, approximate ? GELU_TANH : GELU_ERF);
    segments_linear(model, segments, count, &product, x, before, y);
}

/* dx of the matrix alone, from the gradient of what it gave; and what a change of its input makes of it. */
static void input_backward(const struct model *model, const struct linear *linear, const struct segment *segments,
                           size_t count, size_t tokens, const real *dout, real *dx, bool add)
{
    struct method_context context = model_context(model);
    size_t in = linear->in, out = linear->out;
    const real *weight = linear->weight->matrix;
    if (linear->changes_input) {
        segments_matmul(model, segments, count, in, out, dout, weight, 0, model->method_scratch);
        model->method->linear_input_backward(&context, linear, tokens, model->method_scratch, add, dx);
    } else if (dx) {
        segments_matmul(model, segments, count, in, out, dout, weight, add ? 1 : 0, dx);
    }
}

void linear_backward(const struct model *model, const struct linear *linear, size_t tokens, const real *x,
                     const real *dy, real *dx, bool add)
{
    struct segment all;
    const struct segment *segments;
    size_t count = segments_of(model, tokens, &all, &segments);
    const real *dout = dy;
    if (linear->changes_output) {
        struct method_context context = model_context(model);
        model->method->linear_output_backward(&context, linear, tokens, dy, model->method_scratch);
        dout = model->method_scratch;
    }
    input_backward(model, linear, segments, count, tokens, dout, dx, add);
    adapters_backward(model, linear, segments, count, x, dy, dx);
}

/* Methods that change a layer's output train neither. */
void linear_backward_weights(const struct model *model, const struct linear *linear, size_t tokens, const real *x,
                             const real *dy)
{
    const struct kernels *k = model->kernels;
    size_t in = linear->in, out = linear->out;
    if (linear->weight->gradient)
        k->matmul_floats(model->device, true, false, out, in, tokens, 1, dy, out, x, in, 1, linear->weight->gradient,
                         in);
    if (linear->bias && linear->bias->gradient)
        k->bias_backward(model->device, tokens, out, dy, linear->bias->gradient);
}
