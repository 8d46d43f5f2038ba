/* From a feed to one number: the mean loss over all of its target tokens. */
#include "workers/train/evaluate.h"

/* A micro-batch of each lane that has one left. */
static int pass(struct model *model, struct evaluation *list, uint64_t *next, size_t count, struct batch_buffer *joined,
                struct error *err)
{
    double losses[PACK_LIMIT] = {0};
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
    if (model_pass(model, batch, NULL, losses, err)) return -1;
    for (size_t i = 0; i < count; i++) {
        if (!list[i].buffer->batch.targets) continue;
        list[i].loss += losses[list[i].lane];
        list[i].targets += list[i].buffer->batch.targets;
    }
    return 0;
}

int evaluate_lanes(struct model *model, struct evaluation *list, size_t count, struct batch_buffer *joined,
                   const struct tick *tick, struct error *err)
{
    uint64_t next[PACK_LIMIT] = {0};
    for (size_t i = 0; i < count; i++) {
        list[i].loss = 0;
        list[i].targets = 0;
    }
    for (;;) {
        bool over = true;
        for (size_t i = 0; i < count; i++)
            over = over && next[i] >= feed_items(list[i].feed);
        if (over) break;
        int stopped = tick && tick->stop ? tick->stop(tick->context) : 0;
        if (stopped) return stopped;
        if (pass(model, list, next, count, joined, err)) return -1;
        if (tick && tick->call) tick->call(tick->context);
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
