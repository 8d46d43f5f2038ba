/* FLOPs of a stage, from the shapes of its matmuls; the plan schedules by them, the trainer reports the same number. */
#include "workers/cost.h"

/* Weights that multiply every token: the matrices of the layers, without norms and vocabulary. */
static double layer_weights(const struct model_config *model)
{
    struct linear_size size;
    double layer = 0;
    for (int kind = 0; kind < LINEARS; kind++)
        if (model_linear(model, (enum linear_kind)kind, &size)) layer += (double)size.out * (double)size.in;
    return model->layers * layer;
}

/* Multiply-adds of causal attention for one token of a sequence of `length`: scores and weighted values over (length +
 * 1) / 2 positions in the mean. */
static double attention_products(const struct model_config *model, double length)
{
    double query = (double)model->heads * model->head_width;
    return model->layers * 2.0 * query * (length + 1.0) / 2.0;
}

double cost_flops(const struct model_config *model, const struct method_config *method, bool training, double tokens,
                  double targets, double length)
{
    double base = layer_weights(model) * tokens + (double)model->vocabulary * model->width * targets;
    double attention = attention_products(model, length) * tokens;
    double lora = method->kind == METHOD_LORA ? (double)method_parameters(model, method) * tokens : 0.0;

    /* passes over the products: forward, gradients of inputs, gradients of weights; attention's backward has two
     * products for each */
    double base_passes = !training ? 1.0 : method->kind == METHOD_FULL ? 3.0 : 2.0;
    double other_passes = training ? 3.0 : 1.0;
    return 2.0 * (base_passes * base + other_passes * (attention + lora));
}

double cost_recompute_flops(const struct model_config *model, const struct method_config *method, double tokens,
                            double length)
{
    double share = (model->layers - 1.0) / model->layers;
    return share * cost_flops(model, method, false, tokens, 0, length);
}

size_t memory_total(const struct memory *memory)
{
    return memory->parameters + memory->gradients + memory->optimiser + memory->activations + memory->workspace +
           memory->cache;
}
