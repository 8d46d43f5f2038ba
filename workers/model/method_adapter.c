/* Bottleneck adapters: behind both halves of every block (Houlsby et al. 2019) or behind the MLP alone (as Pfeiffer et
 * al. 2021 place them): h becomes h + gelu(h D^T + d) U^T + u, D [width][model], U [model][width], h what the half
 * gives, before it is added to the residual stream, or normed where norms stand behind the halves.
 *
 * Every rank of a gang holds adapters whole and computes the same: h is whole on each, and a bottleneck is too narrow
 * to be worth another sum over ranks. */
#include <stdio.h>

#include "workers/model/method.h"

enum { DOWN, DOWN_BIAS, UP, UP_BIAS };
static const char *const tensors[] = {"down.weight", "down.bias", "up.weight", "up.bias"};
static const char *const halves[] = {"attention_adapter", "mlp_adapter"};

#define DEVIATION 0.01 /* nearly the identity (Houlsby et al. 2019, section 3.6) */

static void adapter_parameters(struct tensor_walk *walk)
{
    struct part one = part_whole(1), size = part_whole(walk->method->size), width = part_whole(walk->model->width);
    const struct part shapes[][2] = {{size, width}, {one, size}, {width, size}, {one, width}};
    const char *layers = tensor_names_of(walk->model)->layers;
    for (uint32_t layer = 0; layer < walk->model->layers; layer++)
        for (int half = walk->method->mlp_only; half < 2; half++)
            for (int i = DOWN; i <= UP_BIAS; i++) {
                char name[sizeof walk->list->name];
                snprintf(name, sizeof name, "%s.%u.%s.%s", layers, layer, halves[half], tensors[i]);
                tensor_add(walk, name, shapes[i][0], shapes[i][1], i == DOWN || i == UP, false);
            }
}

static int adapter_initialise(struct parameters *parameters, const struct model_config *model,
                              const struct method_config *config, uint64_t seed, struct error *err)
{
    (void)model, (void)config, (void)err;
    for (size_t i = 0; i < parameters->count; i++) {
        const struct parameter *p = &parameters->list[i];
        if (!p->adapter) continue;
        if (p->decay)
            parameter_fill(parameters, p, INITIAL_NORMAL, DEVIATION, seed);
        else
            parameter_fill(parameters, p, INITIAL_CONSTANT, 0, seed);
    }
    return 0;
}

static void adapter_attach(struct half *half, const struct parameters *parameters, const char *name)
{
    for (int i = DOWN; i <= UP_BIAS; i++)
        half->adapter[i] = parameters_find(parameters, "%s.%s", name, tensors[i]);
}

/* h, then h D^T + d. */
static size_t adapter_kept(const struct method_config *config, size_t width)
{
    return width + config->size;
}

/* gelu of that, and its gradient. */
static size_t adapter_scratch(const struct method_config *config, const struct shard *shard)
{
    (void)shard;
    return 2 * (size_t)config->size;
}

static void adapter_forward(const struct method_context *context, const struct half *half, size_t tokens, size_t width,
                            real *y)
{
    const struct kernels *k = context->kernels;
    struct device *device = context->device;
    size_t size = context->config->size;
    real *h = half->kept, *z = real_at(h, context->element, tokens * width), *activated = context->scratch;
    k->copy(device, tokens * width * context->element, y, h);
    k->matmul(device, false, true, tokens, size, width, 1, h, width, half->adapter[DOWN]->matrix, width, 0, z, size);
    k->bias_forward(device, tokens, size, half->adapter[DOWN_BIAS]->value, z);
    k->gelu_forward(device, tokens * size, false, z, activated);
    k->matmul(device, false, true, tokens, width, size, 1, activated, size, half->adapter[UP]->matrix, size, 1, y,
              width);
    k->bias_forward(device, tokens, width, half->adapter[UP_BIAS]->value, y);
}

static void adapter_backward(const struct method_context *context, const struct half *half, size_t tokens, size_t width,
                             real *dy)
{
    const struct kernels *k = context->kernels;
    struct device *device = context->device;
    size_t size = context->config->size;
    const struct parameter *down = half->adapter[DOWN], *up = half->adapter[UP];
    const real *h = half->kept, *z = real_at(h, context->element, tokens * width);
    real *activated = context->scratch, *dz = real_at(activated, context->element, tokens * size);
    k->gelu_forward(device, tokens * size, false, z, activated);
    k->matmul_floats(device, true, false, width, size, tokens, 1, dy, width, activated, size, 1, up->gradient, size);
    k->bias_backward(device, tokens, width, dy, half->adapter[UP_BIAS]->gradient);
    k->matmul(device, false, false, tokens, size, width, 1, dy, width, up->matrix, size, 0, dz, size);
    k->gelu_backward(device, tokens * size, false, z, dz, dz);
    k->matmul_floats(device, true, false, size, width, tokens, 1, dz, size, h, width, 1, down->gradient, width);
    k->bias_backward(device, tokens, size, dz, half->adapter[DOWN_BIAS]->gradient);
    k->matmul(device, false, false, tokens, width, size, 1, dz, size, down->matrix, width, 1, dy, width);
}

const struct method method_adapter = {
    .scratch_forward = true,
    .parameters = adapter_parameters,
    .initialise = adapter_initialise,
    .scratch = adapter_scratch,
    .half_attach = adapter_attach,
    .half_kept = adapter_kept,
    .half_forward = adapter_forward,
    .half_backward = adapter_backward,
};
