/* The training step. Nothing is remembered between steps but weights and moments: the data is a function of the step's
 * number. While the device has one micro-batch to do, the next one is made; what the host waits for is the losses of
 * the micro-batch before, and the norms of the gradients, of all lanes at once. */
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

/* Losses of the oldest pass that has begun. */
static int end_pass(struct trainer *const *trainers, struct trainer_step *outs, size_t count, struct error *err)
{
    double losses[PACK_LIMIT] = {0};
    if (model_pass_end(trainers[0]->model, losses, err)) return -1;
    for (size_t i = 0; i < count; i++)
        outs[i].loss += losses[trainers[i]->lane];
    return 0;
}

static bool over(const struct cursor *cursors, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (cursors[i].next < cursors[i].end) return false;
    return true;
}

/* Begin a pass with a micro-batch of each lane that has one left. */
static int begin_pass(struct trainer *const *trainers, struct cursor *cursors, struct trainer_step *outs, size_t count,
                      struct error *err)
{
    float scales[PACK_LIMIT] = {0};
    bool has[PACK_LIMIT];
    struct batch_buffer *buffer = trainers[0]->joined ? trainers[0]->joined : trainers[0]->buffer;
    if (fill(trainers, outs, cursors, count, scales, has, err) ||
        model_pass_begin(trainers[0]->model, &buffer->batch, scales, err))
        return -1;
    for (size_t i = 0; i < count; i++) {
        const struct trainer *t = trainers[i];
        if (!has[i]) continue;
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

/* From the gradients to the weights. The device may still work on it on return. */
static int finish(struct trainer *trainer, uint64_t step, struct trainer_step *out, struct error *err)
{
    struct parameters *parameters = trainer->parameters;
    if (parameters_gradient_norm_end(parameters, &out->gradient_norm, err)) return -1;
    out->finite = isfinite(out->loss) && isfinite(out->gradient_norm);
    if (!out->finite) return check_devices(parameters, err);
    return optimiser_step(parameters, trainer->recipe, step, recipe_rate(trainer->recipe, step),
                          optimiser_clip(trainer->recipe, out->gradient_norm), err);
}

static int take_steps(struct trainer *const *trainers, const uint64_t *steps, struct trainer_step *outs, size_t count,
                      struct error *err)
{
    struct cursor cursors[PACK_LIMIT];
    assert(count <= PACK_LIMIT);
    for (size_t i = 0; i < count; i++)
        if (begin(trainers[i], steps[i], &cursors[i], &outs[i], err)) return -1;
    for (bool first = true; !over(cursors, count); first = false)
        if (begin_pass(trainers, cursors, outs, count, err) || (!first && end_pass(trainers, outs, count, err)))
            return -1;
    for (size_t i = 0; i < count; i++) {
        if (parameters_reduce_gradients(trainers[i]->parameters, err)) return -1;
        parameters_gradient_norm_begin(trainers[i]->parameters);
    }
    if (end_pass(trainers, outs, count, err)) return -1;
    for (size_t i = 0; i < count; i++)
        if (finish(trainers[i], steps[i], &outs[i], err)) return -1;
    return 0;
}

int trainer_steps(struct trainer *const *trainers, const uint64_t *steps, struct trainer_step *outs, size_t count,
                  struct error *err)
{
    int rc = take_steps(trainers, steps, outs, count, err);
    if (rc) model_give_up(trainers[0]->model);
    return rc;
}

int trainer_step(struct trainer *trainer, uint64_t step, struct trainer_step *out, struct error *err)
{
    return trainer_steps(&trainer, &step, out, 1, err);
}
