/* LoRA (Hu et al. 2021) beside linear layers of attention and MLP, all or chosen ones: y += scale (x A^T) B^T,
 * A [rank][in], B [out][rank], scale alpha / rank, or alpha / sqrt(rank) (Kalajdzievski 2023).
 *
 * Tensor parallelism adds no collective: beside a column-parallel layer B is cut with the output and A is whole, its
 * gradient partial; beside a row-parallel one A is cut with the input, so that x A^T and y are partial sums like the
 * layer's own, and B's gradient is partial. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kernels/random.h"
#include "workers/method.h"

static void lora_parameters(struct tensor_walk *walk)
{
    struct part rank = part_whole(walk->method->size);
    const char *layers = tensor_names_of(walk->model)->layers;
    for (uint32_t layer = 0; layer < walk->model->layers; layer++) {
        for (int kind = 0; kind < LINEARS; kind++) {
            const struct linear_shape *shape = &walk->shard.linears[kind];
            char name[sizeof walk->list->name];
            if (!shape->name || !method_module(walk->method, (enum linear_kind)kind)) continue;
            snprintf(name, sizeof name, "%s.%u.%s.lora_A.weight", layers, layer, shape->name);
            tensor_add(walk, name, rank, shape->in, true, !shape->in.split);
            snprintf(name, sizeof name, "%s.%u.%s.lora_B.weight", layers, layer, shape->name);
            tensor_add(walk, name, shape->out, rank, true, !shape->out.split || shape->out.shared);
        }
    }
}

/* A uniform in +-1/sqrt(in) (Kaiming with a = sqrt(5)), B zero: the model begins as the base. */
static int lora_initialise(struct parameters *parameters, const struct model_config *model,
                           const struct method_config *config, uint64_t seed, struct error *err)
{
    (void)model, (void)config;
    (void)err;
    for (size_t i = 0; i < parameters->count; i++) {
        const struct parameter *p = &parameters->list[i];
        if (!p->adapter) continue;
        if (strstr(p->name, ".lora_A."))
            parameter_fill(parameters, p, INITIAL_UNIFORM, 1 / sqrt((double)p->columns), seed);
        else
            parameter_fill(parameters, p, INITIAL_CONSTANT, 0, seed);
    }
    return 0;
}

static void lora_attach(struct linear *linear, const struct parameters *parameters, const char *module)
{
    linear->adapter[0] = parameters_find(parameters, "%s.lora_A.weight", module);
    linear->adapter[1] = parameters_find(parameters, "%s.lora_B.weight", module);
}

static size_t lora_kept(const struct method_config *config, enum linear_kind kind, const struct linear_shape *shape)
{
    (void)shape;
    return method_module(config, kind) ? config->size : 0; /* x A^T */
}

static size_t lora_scratch(const struct method_config *config, const struct shard *shard)
{
    (void)shard;
    return config->size; /* its gradient */
}

static float lora_scale(const struct method_config *config)
{
    return (float)(config->alpha / (config->rank_stabilised ? sqrt(config->size) : config->size));
}

static bool lora_drops(const struct method_config *config)
{
    return config->dropout > 0;
}

/* Each adapter has masks of its own, as in PEFT. */
static struct dropout lora_dropout(const struct method_context *context, const struct linear *linear)
{
    char site[16];
    snprintf(site, sizeof site, "lora %d", (int)linear->kind);
    return dropout_at(context->draws, context->config->dropout, site, linear->layer, &linear->input);
}

/* What A multiplies: x, in training behind dropout, in context->input. */
static const real *lora_input(const struct method_context *context, const struct linear *linear, size_t tokens,
                              const real *x)
{
    if (!context->draws || !lora_drops(context->config)) return x;
    struct dropout how = lora_dropout(context, linear);
    context->kernels->dropout(context->device, &how, tokens, linear->in, x, false, context->input);
    return context->input;
}

/* dx += du A, through the dropout. */
static void lora_backward_input(const struct method_context *context, const struct linear *linear, size_t tokens,
                                const real *du, real *dx)
{
    const struct kernels *k = context->kernels;
    size_t rank = context->config->size, in = linear->in;
    const real *a = linear->adapter[0]->matrix;
    if (!lora_drops(context->config)) {
        k->matmul(context->device, false, false, tokens, in, rank, 1, du, rank, a, in, 1, dx, in);
        return;
    }
    struct dropout how = lora_dropout(context, linear);
    k->matmul(context->device, false, false, tokens, in, rank, 1, du, rank, a, in, 0, context->input, in);
    k->dropout(context->device, &how, tokens, in, context->input, true, dx);
}

static void lora_forward(const struct method_context *context, const struct linear *linear, size_t tokens,
                         const real *x, real *y)
{
    const struct kernels *k = context->kernels;
    size_t rank = context->config->size, in = linear->in, out = linear->out;
    const real *a = linear->adapter[0]->matrix, *b = linear->adapter[1]->matrix;
    real *u = linear->kept;
    x = lora_input(context, linear, tokens, x);
    k->matmul(context->device, false, true, tokens, rank, in, 1, x, in, a, in, 0, u, rank);
    k->matmul(context->device, false, true, tokens, out, rank, lora_scale(context->config), u, rank, b, rank, 1, y,
              out);
}

static void lora_backward(const struct method_context *context, const struct linear *linear, size_t tokens,
                          const real *x, const real *dy, real *dx)
{
    const struct kernels *k = context->kernels;
    struct device *device = context->device;
    size_t rank = context->config->size, in = linear->in, out = linear->out;
    const struct parameter *a = linear->adapter[0], *b = linear->adapter[1];
    const real *u = linear->kept;
    real *du = context->scratch;
    float scale = lora_scale(context->config);
    k->matmul_floats(device, true, false, out, rank, tokens, scale, dy, out, u, rank, 1, b->gradient, rank);
    k->matmul(device, false, false, tokens, rank, out, scale, dy, out, b->matrix, rank, 0, du, rank);
    x = lora_input(context, linear, tokens, x);
    k->matmul_floats(device, true, false, rank, in, tokens, 1, du, rank, x, in, 1, a->gradient, in);
    if (dx) lora_backward_input(context, linear, tokens, du, dx);
}

static int lora_merge(const struct method_context *context, const struct linear *linear, struct error *err)
{
    (void)err;
    size_t rank = context->config->size, in = linear->in, out = linear->out;
    const real *a = linear->adapter[0]->matrix, *b = linear->adapter[1]->matrix;
    context->kernels->matmul(context->device, false, false, out, in, rank, lora_scale(context->config), b, rank, a, in,
                             1, linear->weight->matrix, in);
    return 0;
}

const struct method method_lora = {
    .keeps_linear_inputs = true,
    .packs = true,
    .parameters = lora_parameters,
    .initialise = lora_initialise,
    .scratch = lora_scratch,
    .linear_attach = lora_attach,
    .linear_kept = lora_kept,
    .drops_inputs = lora_drops,
    .linear_forward = lora_forward,
    .linear_backward = lora_backward,
    .linear_merge = lora_merge,
};
