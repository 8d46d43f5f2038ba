/* The training step. Nothing is remembered between steps but weights and moments: the data is a function of the step's
 * number. */
#include "workers/trainer.h"

#include <math.h>

#include "workers/optimiser.h"

/* Gradients of the mean loss over the step's targets, in as many micro-batches as it takes. */
static int accumulate(struct trainer *trainer, uint64_t step, struct trainer_step *out, struct error *err)
{
    uint64_t first = (step - 1) * trainer->recipe->batch, end = step * trainer->recipe->batch;
    if (feed_targets(trainer->feed, first, end, &out->targets, err)) return -1;
    float scale = (float)(1.0 / (double)out->targets);
    for (uint64_t next = first; next < end;) {
        double part;
        const struct batch *batch = &trainer->buffer->batch;
        if (feed_fill(trainer->feed, &next, end, trainer->buffer, err)) return -1;
        trainer->buffer->batch.draws = (struct draws){trainer->seed, step, out->tokens};
        if (model_train(trainer->model, batch, scale, &part, err)) return -1;
        out->loss += part;
        out->tokens += batch->tokens;
        out->sequences += batch->sequences;
        if (trainer->tick && trainer->tick->call) trainer->tick->call(trainer->tick->context);
    }
    return 0;
}

int trainer_step(struct trainer *trainer, uint64_t step, struct trainer_step *out, struct error *err)
{
    struct parameters *parameters = trainer->parameters;
    *out = (struct trainer_step){.loss = 0};
    parameters_zero_gradients(parameters);
    if (accumulate(trainer, step, out, err) || parameters_reduce_gradients(parameters, err) ||
        parameters_gradient_norm(parameters, &out->gradient_norm, err))
        return -1;
    out->finite = isfinite(out->loss) && isfinite(out->gradient_norm);
    if (!out->finite) return 0;
    if (optimiser_step(parameters, trainer->recipe, step, recipe_rate(trainer->recipe, step),
                       optimiser_clip(trainer->recipe, out->gradient_norm), err))
        return -1;
    return parameters->kernels->synchronise(parameters->device, err);
}
