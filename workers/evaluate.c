/* From a feed to one number: the mean loss over all of its target tokens. */
#include "workers/evaluate.h"

int evaluate(struct model *model, struct feed *feed, struct batch_buffer *buffer, const struct tick *tick, double *loss,
             uint64_t *targets, struct error *err)
{
    double sum = 0;
    uint64_t count = 0;
    for (uint64_t next = 0, end = feed_items(feed); next < end;) {
        double part;
        int stopped = tick && tick->stop ? tick->stop(tick->context) : 0;
        if (stopped) return stopped;
        if (feed_fill(feed, &next, end, buffer, err) || model_evaluate(model, &buffer->batch, &part, err)) return -1;
        sum += part;
        count += buffer->batch.targets;
        if (tick && tick->call) tick->call(tick->context);
    }
    *targets = count;
    *loss = sum / (double)count; /* every sequence has a target */
    return 0;
}
