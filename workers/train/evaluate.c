/* From a feed to one number: the mean loss over all of its target tokens. */
#include "workers/train/evaluate.h"

/* Losses of the oldest pass that has begun. */
static int end_pass(struct model *model, struct evaluation *list, size_t count, struct error *err)
{
    double losses[PACK_LIMIT] = {0};
    if (model_pass_end(model, losses, err)) return -1;
    for (size_t i = 0; i < count; i++)
        list[i].loss += losses[list[i].lane];
    return 0;
}

/* Begin a pass with a micro-batch of each lane that has one left. */
static int begin_pass(struct model *model, struct evaluation *list, uint64_t *next, size_t count,
                      struct batch_buffer *joined, struct error *err)
{
    const struct batch *batch = joined ? &joined->batch : &list[0].buffer->batch;
    if (joined) batch_join_begin(joined);
    for (size_t i = 0; i < count; i++) {
        struct evaluation *e = &list[i];
        uint64_t end = feed_items(e->feed);
        e->buffer->batch.targets = 0;
        if (next[i] >= end) continue;
        if (feed_fill(e->feed, &next[i], end, e->buffer, err)) return -1;
        if (joined && batch_join(joined, e->lane, &e->buffer->batch, err)) return -1;
    }
    if (model_pass_begin(model, batch, NULL, err)) return -1;
    for (size_t i = 0; i < count; i++)
        list[i].targets += list[i].buffer->batch.targets;
    return 0;
}

static bool over(const struct evaluation *list, const uint64_t *next, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (next[i] < feed_items(list[i].feed)) return false;
    return true;
}

/* While the device has one pass to do, the batch of the next one is made. */
static int pass_all(struct model *model, struct evaluation *list, size_t count, struct batch_buffer *joined,
                    const struct tick *tick, struct error *err)
{
    uint64_t next[PACK_LIMIT] = {0};
    for (bool first = true; !over(list, next, count); first = false) {
        int stopped = tick && tick->stop ? tick->stop(tick->context) : 0;
        if (stopped) return stopped;
        if (begin_pass(model, list, next, count, joined, err) || (!first && end_pass(model, list, count, err)))
            return -1;
        if (tick && tick->call) tick->call(tick->context);
    }
    return end_pass(model, list, count, err);
}

int evaluate_lanes(struct model *model, struct evaluation *list, size_t count, struct batch_buffer *joined,
                   const struct tick *tick, struct error *err)
{
    for (size_t i = 0; i < count; i++) {
        list[i].loss = 0;
        list[i].targets = 0;
    }
    int stopped = pass_all(model, list, count, joined, tick, err);
    if (stopped) {
        model_give_up(model);
        return stopped;
    }
    for (size_t i = 0; i < count; i++)
        list[i].loss /= (double)list[i].targets; /* every sequence has a target */
    return 0;
}

int evaluate(struct model *model, struct feed *feed, struct batch_buffer *buffer, const struct tick *tick, double *loss,
             uint64_t *targets, struct error *err)
{
    struct evaluation alone = {.feed = feed, .buffer = buffer};
    int stopped = evaluate_lanes(model, &alone, 1, NULL, tick, err);
    *targets = alone.targets;
    if (!stopped) *loss = alone.loss;
    return stopped;
}
