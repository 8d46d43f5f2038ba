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

/* Queries or keys as rows that are normed: a token's, which lie over the gang, or each head's. */
struct head_rows {
    size_t rows, width, total; /* total: of a whole row */
    size_t shared;             /* columns at the start that the rank before holds, too */
};

static struct head_rows head_rows_of(const struct model *model, const struct part *part, size_t tokens)
{
    size_t head = model->config.head_width;
    if (model->config.architecture.qk_norm == QK_NORM_HEAD)
        return (struct head_rows){.rows = tokens * (part->count / head), .width = head, .total = head};
    return (struct head_rows){
        .rows = tokens, .width = part->count, .total = part->total, .shared = part->owned_first - part->first};
}

size_t head_norm_rows(const struct model *model, const struct part *part, size_t tokens)
{
    return head_rows_of(model, part, tokens).rows;
}

/* What all ranks have of a token's rows; a head's are one rank's. */
static int sum_rows(const struct model *model, size_t rows, float *sums, struct error *err)
{
    return model->config.architecture.qk_norm == QK_NORM_TOKEN ? model_sum_floats(model, rows, sums, err) : 0;
}

int head_norms_forward(const struct model *model, const struct layer *layer, size_t tokens, struct error *err)
{
    const struct kernels *k = model->kernels;
    const struct head_rows query = head_rows_of(model, &model->shard.query, tokens),
                           key = head_rows_of(model, &model->shard.key, tokens);
    float epsilon = (float)model->config.norm_epsilon, *squares = model->row_sums, *key_squares = squares + query.rows;
    k->row_squares(model->device, query.rows, query.width, query.shared, layer->raw_q, squares);
    k->row_squares(model->device, key.rows, key.width, key.shared, layer->raw_k, key_squares);
    if (sum_rows(model, query.rows + key.rows, squares, err)) return -1;
    k->row_norm_forward(model->device, query.rows, query.width, query.total, epsilon, layer->raw_q,
                        layer->query_norm.gain->value, squares, layer->q, layer->query_norm.rstd);
    k->row_norm_forward(model->device, key.rows, key.width, key.total, epsilon, layer->raw_k,
                        layer->key_norm.gain->value, key_squares, layer->k, layer->key_norm.rstd);
    return 0;
}

int head_norms_backward(const struct model *model, const struct layer *layer, size_t tokens, real *dq, real *dk,
                        struct error *err)
{
    const struct kernels *k = model->kernels;
    const struct head_rows query = head_rows_of(model, &model->shard.query, tokens),
                           key = head_rows_of(model, &model->shard.key, tokens);
    const struct norm *q = &layer->query_norm, *n = &layer->key_norm;
    float *dots = model->row_sums, *key_dots = dots + query.rows;
    k->row_norm_dots(model->device, query.rows, query.width, layer->raw_q, q->gain->value, dq, dots);
    k->row_norm_dots(model->device, key.rows, key.width, layer->raw_k, n->gain->value, dk, key_dots);
    if (sum_rows(model, query.rows + key.rows, dots, err)) return -1;
    k->row_norm_backward(model->device, query.rows, query.width, query.shared, query.total, layer->raw_q,
                         q->gain->value, q->rstd, dots, dq, dq, q->gain->gradient);
    k->row_norm_backward(model->device, key.rows, key.width, key.shared, key.total, layer->raw_k, n->gain->value,
                         n->rstd, key_dots, dk, dk, n->gain->gradient);
    return 0;
}
