/* A linear layer of the model with its method's hooks: the only place where weights meet activations. */
#include "workers/model/model_parts.h"

struct method_context lane_context(const struct model *model, size_t lane)
{
    return (struct method_context){.kernels = model->kernels,
                                   .device = model->device,
                                   .element = model->element,
                                   .config = &model->lanes[lane].method_config,
                                   .scratch = at(model, model->method_scratch, model->lanes[lane].scratch_first),
                                   .keys = model->training_pass ? lane_keys(model, lane) : NULL,
                                   .input = model->method_input};
}

struct method_context model_context(const struct model *model)
{
    return lane_context(model, 0);
}

int model_merge(struct model *model, struct error *err)
{
    const struct method *method = model->method;
    struct method_context context = model_context(model);
    if (!method->parameters) return 0;
    if (!method->linear_merge)
        return error_set(err, "what %s adds cannot be taken up by the weights; allowed: to write it alone (--peft)",
                         method_name(model->method_config.kind));
    for (uint32_t i = 0; i < model->config.layers; i++)
        for (int kind = 0; kind < LINEARS; kind++)
            if (model->layers[i].linears[kind].adapter[0] &&
                method->linear_merge(&context, &model->layers[i].linears[kind], err))
                return -1;
    return model->kernels->synchronise(model->device, err);
}

/* Nothing comes between the layer's output and what follows it. */
static bool plain(const struct model *model, const struct linear *linear)
{
    for (size_t lane = 0; lane < model->lane_count; lane++)
        if (lane_linear(model, lane, linear)->adapter[0]) return false;
    return true;
}

/* dx of the matrix alone. */
static struct layer_product product_back(const struct linear *linear, float beta)
{
    return (struct layer_product){
        .weight = linear->weight->matrix, .n = linear->in, .k = linear->out, .back = true, .beta = beta};
}

static struct layer_product product_of(const struct linear *linear, enum linear_gelu gelu)
{
    return (struct layer_product){.weight = linear->weight->matrix,
                                  .bias = linear->adds_bias ? linear->bias->value : NULL,
                                  .gelu = gelu,
                                  .n = linear->out,
                                  .k = linear->in};
}

/* How many segments from the first on are alike in whether their methods change this of the layer. */
static size_t alike(const struct model *model, const struct linear *linear, bool input, const struct segment *segments,
                    size_t count, bool *changed)
{
    size_t same = 0;
    for (; same < count; same++) {
        const struct linear *own = lane_linear(model, segments[same].lane, linear);
        bool now = input ? own->changes_input : own->changes_output;
        if (same == 0) *changed = now;
        if (now != *changed) break;
    }
    return same;
}

/* Rows of padding, which mean nothing but must be numbers. */
static void copy_padding(const struct model *model, const struct segment *s, size_t width, const real *from, real *to)
{
    size_t end = (s->first + s->rows) * width;
    if (s->padded > s->rows)
        model->kernels->copy(model->device, (s->padded - s->rows) * width * model->element, at(model, from, end),
                             at(model, to, end));
}

/* What a segment has in model->changed, `width` a row: by its method. */
static void change(const struct model *model, const struct linear *linear, const struct segment *s, bool input,
                   const real *x)
{
    const struct linear *own = lane_linear(model, s->lane, linear);
    const struct method *method = model->lanes[s->lane].method;
    const struct method_context context = lane_context(model, s->lane);
    size_t width = input ? linear->in : linear->out;
    const real *from = at(model, x, s->first * width);
    real *to = at(model, model->changed, s->first * width);
    if (input)
        method->linear_input(&context, own, s->rows, from, to);
    else
        method->linear_output_backward(&context, own, s->rows, from, to);
    copy_padding(model, s, width, x, model->changed);
}

void linear_forward(const struct model *model, const struct linear *linear, size_t tokens, const real *x, real *y)
{
    struct segment all;
    const struct segment *segments;
    size_t count = segments_of(model, tokens, &all, &segments);
    const struct layer_product product = product_of(linear, GELU_NONE);
    bool changed;
    for (size_t i = 0, same; i < count; i += same) {
        same = alike(model, linear, true, &segments[i], count - i, &changed);
        for (size_t s = i; changed && s < i + same; s++)
            change(model, linear, &segments[s], true, x);
        segments_multiply(model, &segments[i], same, &product, changed ? model->changed : x, NULL, y);
    }
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
    segments_multiply(model, segments, count, &product, x, before, y);
}

/* dx of the matrix alone, from the gradient of what it gave. */
static void output_backward(const struct model *model, const struct linear *linear, const struct segment *segments,
                            size_t count, const real *dy, real *dx, bool add)
{
    const struct layer_product product = product_back(linear, add ? 1 : 0);
    bool changed;
    for (size_t i = 0, same; i < count; i += same) {
        same = alike(model, linear, false, &segments[i], count - i, &changed);
        for (size_t s = i; changed && s < i + same; s++)
            change(model, linear, &segments[s], false, dy);
        if (dx) segments_multiply(model, &segments[i], same, &product, changed ? model->changed : dy, NULL, dx);
    }
}

/* The same where methods change the layer's input: what they make of the gradient of what was multiplied. */
static void input_backward(const struct model *model, const struct linear *linear, const struct segment *segments,
                           size_t count, const real *dy, real *dx, bool add)
{
    const struct layer_product product = product_back(linear, 0);
    size_t in = linear->in;
    segments_multiply(model, segments, count, &product, dy, NULL, model->changed);
    for (const struct segment *s = segments; s < segments + count; s++) {
        const struct method_context context = lane_context(model, s->lane);
        model->lanes[s->lane].method->linear_input_backward(&context, lane_linear(model, s->lane, linear), s->rows,
                                                            at(model, model->changed, s->first * in), add,
                                                            dx ? at(model, dx, s->first * in) : NULL);
        if (dx && !add) copy_padding(model, s, in, model->changed, dx);
    }
}

void linear_backward(const struct model *model, const struct linear *linear, size_t tokens, const real *x,
                     const real *dy, real *dx, bool add)
{
    struct segment all;
    const struct segment *segments;
    size_t count = segments_of(model, tokens, &all, &segments);
    bool changed;
    for (size_t i = 0, same; i < count; i += same) {
        same = alike(model, linear, true, &segments[i], count - i, &changed);
        if (changed)
            input_backward(model, linear, &segments[i], same, dy, dx, add);
        else
            output_backward(model, linear, &segments[i], same, dy, dx, add);
    }
    adapters_backward(model, linear, segments, count, x, dy, dx);
}

/* Methods that change a layer's output train neither. */
void linear_backward_weights(const struct model *model, const struct linear *linear, size_t tokens, const real *x,
                             const real *dy)
{
    const struct kernels *k = model->kernels;
    size_t in = linear->in, out = linear->out;
    if (linear->weight->gradient)
        k->matmul_floats(model->device, true, false, out, in, tokens, 1, dy, out, x, in,
                         parameter_gradient_beta(linear->weight), linear->weight->gradient, in);
    if (linear->bias && linear->bias->gradient)
        k->bias_backward(model->device, tokens, out, dy, linear->bias->gradient);
}
