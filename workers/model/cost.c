/* FLOPs of a stage, from the shapes of its matmuls; the plan schedules by them, the trainer reports the same number. */
#include "workers/model/cost.h"

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
 * 1) / 2 positions in the mean, and over those of a prefix. */
static double attention_products(const struct model_config *model, const struct method_config *method, double length)
{
    double query = (double)model->heads * model->head_width;
    return model->layers * 2.0 * query * ((length + 1.0) / 2.0 + method_prefix_length(method));
}

double cost_flops(const struct model_config *model, const struct method_config *method, bool training, double tokens,
                  double targets, double length)
{
    double base = layer_weights(model) * tokens + (double)model->vocabulary * model->width * targets;
    double attention = attention_products(model, method, length) * tokens;
    bool matrices = method->kind == METHOD_LORA || method->kind == METHOD_ADAPTER;
    double added = matrices ? (double)method_parameters(model, method) * tokens : 0.0;

    /* passes over the products: forward, gradients of inputs, gradients of weights; attention's backward has two
     * products for each */
    bool weights = method->kind == METHOD_FULL || method->kind == METHOD_UNFREEZE;
    double base_passes = !training ? 1.0 : weights ? 3.0 : 2.0;
    double other_passes = training ? 3.0 : 1.0;
    return 2.0 * (base_passes * base + other_passes * (attention + added));
}

/* Training with the topmost `blocks` thawed: two backward passes over these alone. */
static double thawed_flops(const struct model_config *model, const struct method_config *method, double blocks,
                           double tokens, double targets, double length)
{
    double share = blocks / model->layers;
    double layers = (layer_weights(model) + attention_products(model, method, length)) * tokens;
    double table = (double)model->vocabulary * model->width * targets;
    return 2.0 * ((1.0 + 2.0 * share) * layers + (model->tied && share < 1.0 ? 2.0 : 3.0) * table);
}

double cost_training_flops(const struct model_config *model, const struct method_config *method, uint64_t first_step,
                           uint64_t last_step, double tokens, double targets, double length)
{
    if (method->kind != METHOD_UNFREEZE || last_step <= first_step)
        return cost_flops(model, method, true, tokens, targets, length);
    double sum = 0.0;
    uint64_t step = first_step;
    for (uint32_t blocks = 0; step < last_step;) { /* each turn: the steps that train as many blocks */
        uint64_t end = last_step;
        while (blocks < model->layers && method_thaw(method, model, model->layers - 1 - blocks) <= step)
            blocks++;
        if (blocks < model->layers && method_thaw(method, model, model->layers - 1 - blocks) < end)
            end = method_thaw(method, model, model->layers - 1 - blocks);
        sum += (double)(end - step) * thawed_flops(model, method, blocks, tokens, targets, length);
        step = end;
    }
    return sum / (double)(last_step - first_step);
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
