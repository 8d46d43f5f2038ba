/* Generation on the cpu backend: attention of single queries over a cache, and the largest logits of a row.
 *
 * A cached row is read once for all query heads that share it: with one row a query there is nothing else to reuse, so
 * that the memory's speed is the bound (Shazeer 2019). */
#include <float.h>
#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vector.h"

/* scores[h][stride] of the query heads that read key/value head g */
INLINE void score(const struct decode *d, size_t g, size_t stride, const uint32_t *rows, size_t count, const float *q,
                  const float *keys, float *scores)
{
    size_t width = d->head_width;
    float scale = 1.0f / sqrtf((float)width);
    for (size_t j = 0; j < count; j++) {
        const float *key = keys + (rows[j] * d->kv_heads + g) * width;
        for (size_t h = 0; h < d->heads; h++) {
            if (d->kv_head_of[h] != g) continue;
            const float *query = q + h * width;
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (size_t i = 0; i < width; i++)
                sum += query[i] * key[i];
            scores[h * stride + j] = sum * scale;
        }
    }
}

/* Scores become probabilities. */
INLINE void normalise(size_t count, float *scores)
{
    float maximum = -FLT_MAX, sum = 0;
#pragma omp simd reduction(max : maximum)
    for (size_t j = 0; j < count; j++)
        maximum = scores[j] > maximum ? scores[j] : maximum;
#pragma omp simd reduction(+ : sum)
    for (size_t j = 0; j < count; j++) {
        scores[j] = vector_exp(scores[j] - maximum);
        sum += scores[j];
    }
    float factor = 1.0f / sum;
#pragma omp simd
    for (size_t j = 0; j < count; j++)
        scores[j] *= factor;
}

INLINE void gather(const struct decode *d, size_t g, size_t stride, const uint32_t *rows, size_t count,
                   const float *values, const float *scores, float *out)
{
    size_t width = d->head_width;
    for (size_t j = 0; j < count; j++) {
        const float *value = values + (rows[j] * d->kv_heads + g) * width;
        for (size_t h = 0; h < d->heads; h++) {
            if (d->kv_head_of[h] != g) continue;
            float p = scores[h * stride + j], *sum = out + h * width;
#pragma omp simd
            for (size_t i = 0; i < width; i++)
                sum[i] += p * value[i];
        }
    }
}

CLONES static void attend(const struct decode *d, size_t stride, const uint32_t *rows, size_t count, const float *q,
                          const float *keys, const float *values, float *scores, float *out)
{
    memset(out, 0, d->heads * d->head_width * sizeof *out);
    for (size_t g = 0; g < d->kv_heads; g++)
        score(d, g, stride, rows, count, q, keys, scores);
    for (size_t h = 0; h < d->heads; h++)
        normalise(count, scores + h * stride);
    for (size_t g = 0; g < d->kv_heads; g++)
        gather(d, g, stride, rows, count, values, scores, out);
}

void cpu_attention_decode(struct device *device, const struct decode *shape, const float *q, const float *keys,
                          const float *values, float *out)
{
    size_t row = shape->heads * shape->head_width, stride = (shape->longest + 15) / 16 * 16;
    float *scores = cpu_scratch(device, shape->heads * stride);
    if (!scores) return;
    for (size_t i = 0; i < shape->queries; i++)
        attend(shape, stride, shape->table + i * shape->stride, shape->counts[i], q + i * row, keys, values, scores,
               out + i * row);
}

enum { BLOCK = 64 };

/* Put a logit where it belongs among the k largest so far; what is equal and was there before stays in front. */
INLINE void insert(size_t k, float value, int32_t id, float *values, int32_t *ids)
{
    size_t at = k - 1;
    for (; at > 0 && value > values[at - 1]; at--) {
        values[at] = values[at - 1];
        ids[at] = ids[at - 1];
    }
    values[at] = value;
    ids[at] = id;
}

/* Blocks without a logit that is large enough, nearly all of them, are left after one vectorised maximum. */
CLONES static void largest(size_t n, int32_t first, size_t k, const float *row, float *values, int32_t *ids)
{
    for (size_t begin = 0; begin < n; begin += BLOCK) {
        size_t end = n - begin < BLOCK ? n : begin + BLOCK;
        float maximum = -INFINITY;
#pragma omp simd reduction(max : maximum)
        for (size_t i = begin; i < end; i++)
            maximum = row[i] > maximum ? row[i] : maximum;
        if (!(maximum > values[k - 1])) continue;
        for (size_t i = begin; i < end; i++)
            if (row[i] > values[k - 1]) insert(k, row[i], first + (int32_t)i, values, ids);
    }
}

CLONES static float exponentials(size_t n, float maximum, const float *row)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++)
        sum += vector_exp(row[i] - maximum);
    return sum;
}

void cpu_top_k(struct device *device, size_t rows, size_t vocabulary, size_t first, size_t k, const float *logits,
               float *values, int32_t *ids, float *sums)
{
    (void)device;
    for (size_t r = 0; r < rows; r++) {
        const float *row = logits + r * vocabulary;
        for (size_t i = 0; i < k; i++) {
            values[r * k + i] = -INFINITY;
            ids[r * k + i] = -1;
        }
        largest(vocabulary, (int32_t)first, k, row, values + r * k, ids + r * k);
        if (sums) sums[r] = exponentials(vocabulary, values[r * k], row);
    }
}
