/* The last part of a training step: gradients to weights. */
#include "workers/optimiser.h"

void optimiser_forms(const struct recipe *recipe, struct parameter *p)
{
    bool factored = p->rows > 1 && p->columns > 1;
    switch (recipe->optimiser) {
    case OPTIMISER_ADAFACTOR:
        p->form1 = factored ? MOMENT_ROWS : MOMENT_NONE;
        p->form2 = factored ? MOMENT_COLUMNS : MOMENT_FULL;
        return;
    case OPTIMISER_SGD:
        p->form1 = recipe->momentum > 0 ? MOMENT_FULL : MOMENT_NONE;
        p->form2 = MOMENT_NONE;
        return;
    case OPTIMISER_ADAMW:
    case OPTIMISERS:
        break;
    }
    p->form1 = p->form2 = MOMENT_FULL;
}

int optimiser_step(struct parameters *parameters, const struct recipe *recipe, uint64_t step, double rate,
                   double gradient_scale, struct error *err)
{
    const struct kernels *k = parameters->kernels;
    if (recipe->optimiser == OPTIMISER_ADAFACTOR)
        return adafactor_step(parameters, recipe, step, rate, gradient_scale, err);
    for (size_t i = 0; i < parameters->count; i++) {
        struct parameter *p = &parameters->list[i];
        size_t n = p->row_count * p->column_count;
        float decay = p->decay ? (float)recipe->weight_decay : 0;
        if (!p->gradient || n == 0) continue;
        if (recipe->optimiser == OPTIMISER_SGD)
            k->sgd(parameters->device, n, p->value, p->gradient, p->moment1, (float)rate, (float)recipe->momentum,
                   decay, (float)gradient_scale);
        else
            k->adamw(parameters->device, n, p->value, p->gradient, p->moment1, p->moment2, (float)rate,
                     (float)recipe->beta1, (float)recipe->beta2, (float)recipe->epsilon, decay, step - p->thaw,
                     (float)gradient_scale);
    }
    return 0;
}

double optimiser_clip(const struct recipe *recipe, double norm)
{
    return recipe->clip_norm > 0 && norm > recipe->clip_norm ? recipe->clip_norm / norm : 1;
}
