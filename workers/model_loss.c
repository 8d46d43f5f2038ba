/* From the last layer's output to the loss, and back: final norm, vocabulary-parallel logits and cross-entropy, for
 * rows with a loss alone, and some of those at a time, so that the logits' memory does not grow with the batch. */
#include "workers/model_parts.h"

/* Logits -> losses of `count` rows in model->loss_values; scale != 0: logits become their gradients. */
static int cross_entropy(const struct model *model, size_t count, const int32_t *labels, float scale, struct error *err)
{
    const struct kernels *k = model->kernels;
    const struct part *vocabulary = &model->shard.vocabulary;
    size_t ranks = (size_t)model->collective.size;
    const float *partials = model->partial;
    k->cross_entropy_partial(model->device, count, vocabulary->count, vocabulary->first, model->logits, labels,
                             model->partial);
    if (ranks > 1) {
        if (collective_gather(&model->collective, 4 * count, model->partial, model->partials))
            return error_set(err, "another device of the gang failed");
        partials = model->partials;
    }
    float smoothing = scale != 0 ? model->label_smoothing : 0;
    k->cross_entropy_finish(model->device, count, vocabulary->count, vocabulary->first, ranks, partials, labels,
                            vocabulary->total, smoothing, scale, model->logits, model->loss_values);
    return 0;
}

static int chunk_forward(const struct model *model, size_t first, size_t count, float scale, double *loss,
                         struct error *err)
{
    const struct kernels *k = model->kernels;
    size_t width = model->config.width, vocabulary = model->shard.vocabulary.count;
    k->gather_rows(model->device, count, width, model->rows + first, model->final, model->loss_hidden);
    norm_forward(model, &model->final_norm, count, model->loss_hidden, model->loss_normed);
    k->matmul(model->device, false, true, count, vocabulary, width, 1, model->loss_normed, width,
              model->unembedding->value, width, 0, model->logits, vocabulary);
    if (cross_entropy(model, count, model->labels + first, scale, err)) return -1;
    *loss += k->sum(model->device, count, model->loss_values);
    return 0;
}

/* model->logits hold gradients; ends in model->dx. */
static int chunk_backward(const struct model *model, size_t first, size_t count, struct error *err)
{
    const struct kernels *k = model->kernels;
    size_t width = model->config.width, vocabulary = model->shard.vocabulary.count;
    const struct parameter *matrix = model->unembedding;
    if (matrix->gradient)
        k->matmul(model->device, true, false, vocabulary, width, count, 1, model->logits, vocabulary,
                  model->loss_normed, width, 1, matrix->gradient, width);
    k->matmul(model->device, false, false, count, width, vocabulary, 1, model->logits, vocabulary, matrix->value, width,
              0, model->loss_dnormed, width);
    if (model_sum(model, count * width, model->loss_dnormed, err)) return -1;
    k->fill(model->device, count * width, 0, model->loss_dhidden);
    norm_backward(model, &model->final_norm, count, model->loss_hidden, model->loss_dnormed, model->loss_dhidden);
    k->scatter_rows(model->device, count, width, model->rows + first, model->loss_dhidden, model->dx);
    return 0;
}

int model_loss(const struct model *model, size_t tokens, size_t targets, float scale, double *loss, struct error *err)
{
    *loss = 0;
    if (scale != 0) model->kernels->fill(model->device, tokens * model->config.width, 0, model->dx);
    for (size_t first = 0; first < targets; first += LOSS_ROWS) {
        size_t count = targets - first < LOSS_ROWS ? targets - first : LOSS_ROWS;
        if (chunk_forward(model, first, count, scale, loss, err)) return -1;
        if (scale != 0 && chunk_backward(model, first, count, err)) return -1;
    }
    return 0;
}
