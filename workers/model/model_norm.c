/* Norms of the model: of the residual stream, and of queries and keys, whose rows are spread over the gang. */
#include "workers/model/model_parts.h"

void norm_forward(const struct model *model, const struct norm *norm, size_t rows, const real *residual, real *x,
                  real *y)
{
    const struct kernels *k = model->kernels;
    size_t width = model->config.width;
    float epsilon = (float)model->config.norm_epsilon;
    if (norm->bias)
        k->layer_norm_forward(model->device, rows, width, epsilon, residual, x, norm->gain->value, norm->bias->value, y,
                              norm->mean, norm->rstd);
    else
        k->rms_norm_forward(model->device, rows, width, epsilon, residual, x, norm->gain->value, y, norm->rstd);
}

void norm_backward(const struct model *model, const struct norm *norm, size_t rows, const real *x, const real *dy,
                   real *dx)
{
    const struct kernels *k = model->kernels;
    size_t width = model->config.width;
    if (norm->bias)
        k->layer_norm_backward(model->device, rows, width, x, norm->gain->value, norm->mean, norm->rstd, dy, dx,
                               norm->gain->gradient, norm->bias->gradient);
    else
        k->rms_norm_backward(model->device, rows, width, x, norm->gain->value, norm->rstd, dy, dx,
                             norm->gain->gradient);
}

/* Columns at the start of a rank's keys that the rank before it holds, too. */
static size_t shared_columns(const struct part *part)
{
    return part->owned_first - part->first;
}

int head_norms_forward(const struct model *model, const struct layer *layer, size_t tokens, struct error *err)
{
    const struct kernels *k = model->kernels;
    const struct part *query = &model->shard.query, *key = &model->shard.key;
    float epsilon = (float)model->config.norm_epsilon, *squares = model->row_sums;
    k->row_squares(model->device, tokens, query->count, shared_columns(query), layer->raw_q, squares);
    k->row_squares(model->device, tokens, key->count, shared_columns(key), layer->raw_k, squares + tokens);
    if (model_sum_floats(model, 2 * tokens, squares, err)) return -1;
    k->row_norm_forward(model->device, tokens, query->count, query->total, epsilon, layer->raw_q,
                        layer->query_norm.gain->value, squares, layer->q, layer->query_norm.rstd);
    k->row_norm_forward(model->device, tokens, key->count, key->total, epsilon, layer->raw_k,
                        layer->key_norm.gain->value, squares + tokens, layer->k, layer->key_norm.rstd);
    return 0;
}

int head_norms_backward(const struct model *model, const struct layer *layer, size_t tokens, real *dq, real *dk,
                        struct error *err)
{
    const struct kernels *k = model->kernels;
    const struct part *query = &model->shard.query, *key = &model->shard.key;
    const struct norm *q = &layer->query_norm, *n = &layer->key_norm;
    float *dots = model->row_sums;
    k->row_norm_dots(model->device, tokens, query->count, layer->raw_q, q->gain->value, dq, dots);
    k->row_norm_dots(model->device, tokens, key->count, layer->raw_k, n->gain->value, dk, dots + tokens);
    if (model_sum_floats(model, 2 * tokens, dots, err)) return -1;
    k->row_norm_backward(model->device, tokens, query->count, shared_columns(query), query->total, layer->raw_q,
                         q->gain->value, q->rstd, dots, dq, dq, q->gain->gradient);
    k->row_norm_backward(model->device, tokens, key->count, shared_columns(key), key->total, layer->raw_k,
                         n->gain->value, n->rstd, dots + tokens, dk, dk, n->gain->gradient);
    return 0;
}
