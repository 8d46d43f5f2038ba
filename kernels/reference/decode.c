/* Reference operations of generation: attention of single queries over a cache, and the largest logits of a row. */
#include <math.h>
#include <string.h>

#include "kernels/reference/reference.h"

static double dot(size_t n, const float *x, const float *y)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * y[i];
    return sum;
}

static const float *cached(const struct decode *d, size_t query, size_t j, size_t h, const float *rows)
{
    return rows + (d->table[query * d->stride + j] * d->kv_heads + d->kv_head_of[h]) * d->head_width;
}

static void attend(const struct decode *d, size_t query, size_t h, const float *q, const float *keys,
                   const float *values, float *out)
{
    size_t width = d->head_width, count = d->counts[query];
    double scale = 1 / sqrt((double)width), maximum = -HUGE_VAL, denominator = 0;
    for (size_t j = 0; j < count; j++)
        maximum = fmax(maximum, scale * dot(width, q, cached(d, query, j, h, keys)));
    for (size_t j = 0; j < count; j++)
        denominator += exp(scale * dot(width, q, cached(d, query, j, h, keys)) - maximum);
    memset(out, 0, width * sizeof *out);
    for (size_t j = 0; j < count; j++) {
        double p = exp(scale * dot(width, q, cached(d, query, j, h, keys)) - maximum) / denominator;
        const float *value = cached(d, query, j, h, values);
        for (size_t i = 0; i < width; i++)
            out[i] += (float)(p * value[i]);
    }
}

void reference_attention_decode(struct device *device, const struct decode *shape, const float *q, const float *keys,
                                const float *values, float *out)
{
    (void)device;
    for (size_t query = 0; query < shape->queries; query++) {
        for (size_t h = 0; h < shape->heads; h++) {
            size_t at = (query * shape->heads + h) * shape->head_width;
            attend(shape, query, h, q + at, keys, values, out + at);
        }
    }
}

/* Put a logit where it belongs among the k largest so far; what is equal and was there before stays in front. */
static void insert(size_t k, float value, int32_t id, float *values, int32_t *ids)
{
    if (!(value > values[k - 1])) return;
    size_t at = k - 1;
    for (; at > 0 && value > values[at - 1]; at--) {
        values[at] = values[at - 1];
        ids[at] = ids[at - 1];
    }
    values[at] = value;
    ids[at] = id;
}

void reference_top_k(struct device *device, size_t rows, size_t vocabulary, size_t first, size_t k, const float *logits,
                     float *values, int32_t *ids, float *sums)
{
    (void)device;
    for (size_t r = 0; r < rows; r++) {
        const float *row = logits + r * vocabulary;
        float *best = values + r * k;
        for (size_t i = 0; i < k; i++) {
            best[i] = -INFINITY;
            ids[r * k + i] = -1;
        }
        for (size_t i = 0; i < vocabulary; i++)
            insert(k, row[i], (int32_t)(first + i), best, ids + r * k);
        if (!sums) continue;
        double sum = 0;
        for (size_t i = 0; i < vocabulary; i++)
            sum += exp((double)row[i] - best[0]);
        sums[r] = (float)sum;
    }
}
