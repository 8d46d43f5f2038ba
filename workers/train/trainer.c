/* The training step. Nothing is remembered between steps but weights and moments: the data is a function of the step's
 * number. */
#include "workers/train/trainer.h"

#include <assert.h>
#include <math.h>

#include "workers/train/optimiser.h"

/* Where a lane is in its step. */
struct cursor {
    uint64_t step, next, end;
    float scale;
};

static int begin(struct trainer *trainer, uint64_t step, struct cursor *cursor, struct trainer_step *out,
                 struct error *err)
{
    uint64_t batch = trainer->recipe->batch;
    *out = (struct trainer_step){.loss = 0};
    *cursor = (struct cursor){.step = step, .next = (step - 1) * batch, .end = step * batch};
    parameters_thaw(trainer->parameters, step);
    parameters_zero_gradients(trainer->parameters);
    if (feed_targets(trainer->feed, cursor->next, cursor->end, &out->targets, err)) return -1;
    cursor->scale = (float)(1.0 / (double)out->targets);
    return 0;
}

/* The next micro-batch of each lane that has one: filled, and joined where there is a pack. */
static int fill(struct trainer *const *trainers, const struct trainer_step *outs, struct cursor *cursors, size_t count,
                float *scales, bool *has, struct error *err)
{
    if (trainers[0]->joined) batch_join_begin(trainers[0]->joined);
    for (size_t i = 0; i < count; i++) {
        struct trainer *t = trainers[i];
        has[i] = cursors[i].next < cursors[i].end;
        if (!has[i]) continue;
        scales[t->lane] = cursors[i].scale;
        if (feed_fill(t->feed, &cursors[i].next, cursors[i].end, t->buffer, err)) return -1;
        t->buffer->batch.draws = (struct draws){t->seed, cursors[i].step, outs[i].tokens};
        if (t->joined && batch_join(t->joined, t->lane, &t->buffer->batch, err)) return -1;
    }
    return 0;
}

/* One pass with a micro-batch of each lane that has one left; *over: none had. */
static int pass(struct trainer *const *trainers, struct cursor *cursors, struct trainer_step *outs, size_t count,
                bool *over, struct error *err)
{
    float scales[PACK_LIMIT] = {0};
    double losses[PACK_LIMIT] = {0};
    bool has[PACK_LIMIT];
    struct batch_buffer *buffer = trainers[0]->joined ? trainers[0]->joined : trainers[0]->buffer;
    *over = true;
    for (size_t i = 0; i < count; i++)
        *over = *over && cursors[i].next >= cursors[i].end;
    if (*over) return 0;
    if (fill(trainers, outs, cursors, count, scales, has, err) ||
        model_pass(trainers[0]->model, &buffer->batch, scales, losses, err))
        return -1;
    for (size_t i = 0; i < count; i++) {
        const struct trainer *t = trainers[i];
        if (!has[i]) continue;
        outs[i].loss += losses[t->lane];
        outs[i].tokens += t->buffer->batch.tokens;
        outs[i].sequences += t->buffer->batch.sequences;
        if (t->tick && t->tick->call) t->tick->call(t->tick->context);
    }
    return 0;
}

/* A device that has failed gives no numbers either: that is no divergence, on any rank. */
static int check_devices(const struct parameters *parameters, struct error *err)
{
    if (parameters->kernels->synchronise(parameters->device, err)) return -1;
    if (collective_barrier(&parameters->collective)) return error_set(err, GANG_FAILED);
    return 0;
}

/* From the gradients to the weights. */
static int finish(struct trainer *trainer, uint64_t step, struct trainer_step *out, struct error *err)
{
    struct parameters *parameters = trainer->parameters;
    if (parameters_reduce_gradients(parameters, err) || parameters_gradient_norm(parameters, &out->gradient_norm, err))
        return -1;
    out->finite = isfinite(out->loss) && isfinite(out->gradient_norm);
    if (!out->finite) return check_devices(parameters, err);
    if (optimiser_step(parameters, trainer->recipe, step, recipe_rate(trainer->recipe, step),
                       optimiser_clip(trainer->recipe, out->gradient_norm), err))
        return -1;
    return parameters->kernels->synchronise(parameters->device, err);
}

int trainer_steps(struct trainer *const *trainers, const uint64_t *steps, struct trainer_step *outs, size_t count,
                  struct error *err)
{
    struct cursor cursors[PACK_LIMIT];
    assert(count <= PACK_LIMIT);
    for (size_t i = 0; i < count; i++)
        if (begin(trainers[i], steps[i], &cursors[i], &outs[i], err)) return -1;
    for (bool over = false; !over;)
        if (pass(trainers, cursors, outs, count, &over, err)) return -1;
    for (size_t i = 0; i < count; i++)
        if (finish(trainers[i], steps[i], &outs[i], err)) return -1;
    return 0;
}

int trainer_step(struct trainer *trainer, uint64_t step, struct trainer_step *out, struct error *err)
{
    return trainer_steps(&trainer, &step, out, 1, err);
}
