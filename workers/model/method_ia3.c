/* IA3 (Liu et al. 2022) as PEFT's IA3Config: a vector that scales the outputs of keys and values, another that scales
 * the input of the MLP's last matrix; or of the matrices that are chosen, outputs in attention, inputs in the MLP.
 * Where queries, keys and values come from one matrix, all its outputs are scaled. */
#include <stdio.h>
#include <stdlib.h>

#include "workers/model/method.h"

static bool scales_input(enum linear_kind kind)
{
    return kind == LINEAR_GATE || kind == LINEAR_UP || kind == LINEAR_DOWN;
}

/* Columns and rows as in PEFT's files. Ranks that hold the same element have parts of its gradient where the products
 * that they see are partial: outputs of row-parallel layers, gradients of inputs of column-parallel ones. */
static void ia3_parameters(struct tensor_walk *walk)
{
    const char *layers = tensor_names_of(walk->model)->layers;
    for (uint32_t layer = 0; layer < walk->model->layers; layer++) {
        for (int kind = 0; kind < LINEARS; kind++) {
            const struct linear_shape *shape = &walk->shard.linears[kind];
            char name[sizeof walk->list->name];
            if (!shape->name || !method_module(walk->method, (enum linear_kind)kind)) continue;
            snprintf(name, sizeof name, "%s.%u.%s.ia3_l", layers, layer, shape->name);
            if (scales_input((enum linear_kind)kind))
                tensor_add(walk, name, part_whole(1), shape->in, false, !shape->in.split);
            else
                tensor_add(walk, name, shape->out, part_whole(1), false, !shape->out.split || shape->out.shared);
        }
    }
}

static int ia3_initialise(struct parameters *parameters, const struct model_config *model,
                          const struct method_config *config, uint64_t seed, struct error *err)
{
    (void)model, (void)config, (void)err;
    for (size_t i = 0; i < parameters->count; i++)
        if (parameters->list[i].adapter) parameter_fill(parameters, &parameters->list[i], INITIAL_CONSTANT, 1, seed);
    return 0;
}

static void ia3_attach(struct linear *linear, const struct parameters *parameters, const char *module)
{
    linear->adapter[0] = parameters_find(parameters, "%s.ia3_l", module);
    linear->changes_input = linear->adapter[0] && scales_input(linear->kind);
    linear->changes_output = linear->adapter[0] && !linear->changes_input;
}

/* What is scaled, before it is. */
static size_t ia3_kept(const struct method_config *config, enum linear_kind kind, const struct linear_shape *shape)
{
    if (!method_module(config, kind)) return 0;
    return scales_input(kind) ? shape->in.count : shape->out.count;
}

static void ia3_input(const struct method_context *context, const struct linear *linear, size_t tokens, const real *x,
                      real *input)
{
    const struct kernels *k = context->kernels;
    k->copy(context->device, tokens * linear->in * context->element, x, linear->kept);
    k->scale_columns(context->device, tokens, linear->in, x, linear->adapter[0]->value, input);
}

static void ia3_input_backward(const struct method_context *context, const struct linear *linear, size_t tokens,
                               real *dinput, bool add, real *dx)
{
    const struct parameter *vector = linear->adapter[0];
    context->kernels->scale_columns_backward(context->device, tokens, linear->in, linear->kept, vector->value, dinput,
                                             dx && add, dx ? dx : dinput, vector->gradient);
}

static void ia3_output(const struct linear_rows *lanes, size_t count)
{
    for (const struct linear_rows *lane = lanes; lane < lanes + count; lane++) {
        const struct method_context *context = &lane->context;
        const struct linear *linear = lane->linear;
        if (!linear->changes_output) continue;
        context->kernels->copy(context->device, lane->tokens * linear->out * context->element, lane->y, linear->kept);
        context->kernels->scale_columns(context->device, lane->tokens, linear->out, lane->y, linear->adapter[0]->value,
                                        lane->y);
    }
}

static void ia3_output_backward(const struct method_context *context, const struct linear *linear, size_t tokens,
                                const real *dy, real *dout)
{
    const struct parameter *vector = linear->adapter[0];
    context->kernels->scale_columns_backward(context->device, tokens, linear->out, linear->kept, vector->value, dy,
                                             false, dout, vector->gradient);
}

/* A bias takes up what its outputs are scaled by. */
static int scale_bias(const struct method_context *context, const struct parameter *bias, const float *factors,
                      struct error *err)
{
    size_t count = bias->row_count * bias->column_count;
    float *values = malloc(count * sizeof *values);
    if (!values) return error_set(err, "out of memory");
    context->kernels->to_host(context->device, values, bias->value, count * sizeof *values);
    for (size_t i = 0; i < count; i++)
        values[i] *= factors[i];
    context->kernels->to_device(context->device, bias->value, values, count * sizeof *values);
    free(values);
    return 0;
}

/* Columns of the weight, or its rows and the bias. */
static int ia3_merge(const struct method_context *context, const struct linear *linear, struct error *err)
{
    const struct kernels *k = context->kernels;
    const struct parameter *vector = linear->adapter[0];
    size_t in = linear->in, out = linear->out;
    real *weight = linear->weight->matrix;
    if (linear->changes_input) {
        k->scale_columns(context->device, out, in, weight, vector->value, weight);
        return 0;
    }
    float *factors = malloc(out * sizeof *factors);
    if (!factors) return error_set(err, "out of memory");
    k->to_host(context->device, factors, vector->value, out * sizeof *factors);
    for (size_t row = 0; row < out; row++)
        k->scale(context->device, in, factors[row], real_at(weight, context->element, row * in));
    int status = linear->bias ? scale_bias(context, linear->bias, factors, err) : 0;
    free(factors);
    return status;
}

const struct method method_ia3 = {
    .parameters = ia3_parameters,
    .initialise = ia3_initialise,
    .linear_attach = ia3_attach,
    .linear_kept = ia3_kept,
    .linear_forward = ia3_output,
    .linear_input = ia3_input,
    .linear_input_backward = ia3_input_backward,
    .linear_output_backward = ia3_output_backward,
    .linear_merge = ia3_merge,
};
