/* The last part of a training step: gradients to weights. */
#include "workers/train/optimiser.h"

static size_t updates_of(struct parameters *parameters, const struct recipe *recipe, uint64_t step)
{
    size_t count = 0;
    for (size_t i = 0; i < parameters->count; i++) {
        struct parameter *p = &parameters->list[i];
        size_t n = p->row_count * p->column_count;
        if (!p->gradient || n == 0) continue;
        parameters->updates[count++] = (struct update){.n = n,
                                                       .value = p->value,
                                                       .gradient = p->gradient,
                                                       .moment1 = p->moment1,
                                                       .moment2 = p->moment2,
                                                       .rounded = parameter_rounding(p),
                                                       .weight_decay = p->decay ? (float)recipe->weight_decay : 0,
                                                       .step = step - p->thaw};
    }
    return count;
}

int optimiser_step(struct parameters *parameters, const struct recipe *recipe, uint64_t step, double rate,
                   double gradient_scale, struct error *err)
{
    const struct kernels *k = parameters->kernels;
    if (recipe->optimiser == OPTIMISER_ADAFACTOR)
        return adafactor_step(parameters, recipe, step, rate, gradient_scale, err);
    size_t count = updates_of(parameters, recipe, step);
    if (recipe->optimiser == OPTIMISER_SGD)
        k->sgd(parameters->device, count, parameters->updates, (float)rate, (float)recipe->momentum,
               (float)gradient_scale);
    else
        k->adamw(parameters->device, count, parameters->updates, (float)rate, (float)recipe->beta1,
                 (float)recipe->beta2, (float)recipe->epsilon, (float)gradient_scale);
    return 0;
}

double optimiser_clip(const struct recipe *recipe, double norm)
{
    return recipe->clip_norm > 0 && norm > recipe->clip_norm ? recipe->clip_norm / norm : 1;
}
