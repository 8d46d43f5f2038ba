/* A linear layer of the model with its method's hook: the only place where weights meet activations. */
#include "workers/model_parts.h"

static struct method_context context_of(const struct model *model)
{
    return (struct method_context){.kernels = model->kernels,
                                   .device = model->device,
                                   .config = &model->method_config,
                                   .scratch = model->method_scratch,
                                   .draws = model->training_pass ? &model->draws : NULL,
                                   .input = model->method_input};
}

int model_merge(struct model *model, struct error *err)
{
    const struct method *method = model->method;
    struct method_context context = context_of(model);
    if (!method->parameters) return 0;
    if (!method->linear_merge)
        return error_set(err, "what %s adds cannot be taken up by the weights", method_name(model->method_config.kind));
    for (uint32_t i = 0; i < model->config.layers; i++)
        for (int kind = 0; kind < LINEARS; kind++)
            if (model->layers[i].linears[kind].adapter[0])
                method->linear_merge(&context, &model->layers[i].linears[kind]);
    return model->kernels->synchronise(model->device, err);
}

void linear_forward(const struct model *model, const struct linear *linear, size_t tokens, const float *x, float *y)
{
    size_t in = linear->in, out = linear->out;
    model->kernels->matmul(model->device, false, true, tokens, out, in, 1, x, in, linear->weight->value, in, 0, y, out);
    if (linear->adds_bias) model->kernels->bias_forward(model->device, tokens, out, linear->bias->value, y);
    if (linear->adapter[0]) {
        struct method_context context = context_of(model);
        model->method->linear_forward(&context, linear, tokens, x, y);
    }
}

void linear_backward(const struct model *model, const struct linear *linear, size_t tokens, const float *x,
                     const float *dy, float *dx, bool add)
{
    const struct kernels *k = model->kernels;
    size_t in = linear->in, out = linear->out;
    const struct parameter *weight = linear->weight;
    if (weight->gradient)
        k->matmul(model->device, true, false, out, in, tokens, 1, dy, out, x, in, 1, weight->gradient, in);
    if (linear->bias && linear->bias->gradient)
        k->bias_backward(model->device, tokens, out, dy, linear->bias->gradient);
    if (dx) k->matmul(model->device, false, false, tokens, in, out, 1, dy, out, weight->value, in, add ? 1 : 0, dx, in);
    if (linear->adapter[0]) {
        struct method_context context = context_of(model);
        model->method->linear_backward(&context, linear, tokens, x, dy, dx);
    }
}
