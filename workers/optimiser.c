/* The last part of a training step: gradients to weights. */
#include "workers/optimiser.h"

void optimiser_step(struct parameters *parameters, const struct recipe *recipe, uint64_t step, double rate,
                    double gradient_scale)
{
    for (size_t i = 0; i < parameters->count; i++) {
        struct parameter *p = &parameters->list[i];
        size_t n = p->row_count * p->column_count;
        if (!p->trainable || n == 0) continue;
        parameters->kernels->adamw(parameters->device, n, p->value, p->gradient, p->moment1, p->moment2, (float)rate,
                                   (float)recipe->beta1, (float)recipe->beta2, (float)recipe->epsilon,
                                   p->decay ? (float)recipe->weight_decay : 0, step, (float)gradient_scale);
    }
}

double optimiser_clip(const struct recipe *recipe, double norm)
{
    return recipe->clip_norm > 0 && norm > recipe->clip_norm ? recipe->clip_norm / norm : 1;
}
