/* Causal attention of the cpu backend, one (sequence, head) at a time in the device's scratch.
 *
 * The head's rows are packed (padded to whole vectors, keys transposed), then QUERIES rows of the scores are made,
 * turned into probabilities and used, as in FlashAttention: the whole matrix of scores never exists. The backward pass
 * makes the scores again from the saved log-sum-exp (Dao et al. 2022). */
#include <float.h>
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/tile.h"

enum { QUERIES = 32 };

/* Where things lie in the scratch, for the longest sequence. L: padded length, D: padded head width. */
struct space {
    size_t length, width;
    float *q, *dout, *out;                  /* [QUERIES][D] */
    float *scores, *dscores;                /* [QUERIES][L] */
    float *keys, *values, *dkeys, *dvalues; /* [L][D] */
    float *keys_t, *values_t;               /* [D][L] */
    float *delta;                           /* [QUERIES] */
};

static bool space_create(struct device *device, const struct attention *a, struct space *s)
{
    size_t length = round_up(a->sequences.longest), width = round_up(a->head_width);
    float *at = cpu_scratch(device, 3 * QUERIES * width + 2 * QUERIES * length + 6 * length * width + QUERIES);
    if (!at) return false;
    s->length = length;
    s->width = width;
    float **rows[] = {&s->q, &s->dout, &s->out}, **scores[] = {&s->scores, &s->dscores};
    float **all[] = {&s->keys, &s->values, &s->dkeys, &s->dvalues, &s->keys_t, &s->values_t};
    for (size_t i = 0; i < 3; i++, at += QUERIES * width)
        *rows[i] = at;
    for (size_t i = 0; i < 2; i++, at += QUERIES * length)
        *scores[i] = at;
    for (size_t i = 0; i < 6; i++, at += length * width)
        *all[i] = at;
    s->delta = at;
    return true;
}

/* to[n][padded] = from[n][width], rows `stride` apart, times factor; zeros in the padding */
INLINE void pack(size_t n, size_t width, size_t padded, size_t stride, float factor, const float *from, float *to)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t d = 0; d < width; d++)
            to[i * padded + d] = from[i * stride + d] * factor;
        for (size_t d = width; d < padded; d++)
            to[i * padded + d] = 0;
    }
}

/* to[width][length] = transpose of from[n][width]; zeros in the columns n .. padded-1 */
INLINE void pack_transposed(size_t n, size_t padded, size_t width, size_t stride, size_t length, const float *from,
                            float *to)
{
    for (size_t d = 0; d < width; d++) {
        for (size_t i = 0; i < n; i++)
            to[d * length + i] = from[i * stride + d];
        for (size_t i = n; i < padded; i++)
            to[d * length + i] = 0;
    }
}

INLINE void unpack(size_t n, size_t width, size_t padded, size_t stride, const float *from, float *to)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t d = 0; d < width; d++)
            to[i * stride + d] = from[i * padded + d];
    }
}

/* Scores of one query over its `keys` keys become exp(score - maximum), zero from there to `padded`; returns their sum.
 * Loops of exactly LANES steps become one vector each, with no tail. */
INLINE float softmax(float *row, size_t keys, size_t padded, float *maximum_out)
{
    float maxima[LANES], sums[LANES] = {0};
    for (size_t j = keys; j < padded; j++)
        row[j] = -FLT_MAX;
    memcpy(maxima, row, sizeof maxima);
    for (size_t block = LANES; block < padded; block += LANES) {
        for (int l = 0; l < LANES; l++)
            maxima[l] = row[block + l] > maxima[l] ? row[block + l] : maxima[l];
    }
#pragma GCC unroll 4
    for (int half = LANES / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
        for (int l = 0; l < half; l++)
            maxima[l] = maxima[l + half] > maxima[l] ? maxima[l + half] : maxima[l];
    }
    float maximum = maxima[0];
    for (size_t block = 0; block < padded; block += LANES) {
        int here = keys - block < LANES ? (int)(keys - block) : LANES;
        for (int l = 0; l < LANES; l++) {
            float e = vector_exp(row[block + l] - maximum);
            e = l < here ? e : 0.0f;
            row[block + l] = e;
            sums[l] += e;
        }
    }
#pragma GCC unroll 4
    for (int half = LANES / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
        for (int l = 0; l < half; l++)
            sums[l] += sums[l + half];
    }
    *maximum_out = maximum;
    return sums[0];
}

/* Queries first .. first+n-1 of a sequence; q, out and lse point to the first of them */
INLINE void forward_block(int lanes, const struct attention *a, const struct space *s, size_t first, size_t n,
                          const float *q, float *out, float *lse)
{
    size_t D = s->width, L = s->length, stride = a->heads * a->head_width, padded = round_up(first + n);
    pack(n, a->head_width, D, stride, 1.0f / sqrtf((float)a->head_width), q, s->q);
    small_matmul(lanes, n, padded, a->head_width, s->q, D, 1, s->keys_t, L, s->scores, L, false);
    for (size_t i = 0; i < n; i++) {
        float maximum, sum = softmax(s->scores + i * L, first + i + 1, padded, &maximum);
        lse[i * a->heads] = maximum + logf(sum);
        s->delta[i] = 1.0f / sum;
    }
    small_matmul(lanes, n, D, first + n, s->scores, L, 1, s->values, D, s->out, D, false);
    for (size_t i = 0; i < n; i++) {
        for (size_t d = 0; d < D; d++)
            s->out[i * D + d] *= s->delta[i];
    }
    unpack(n, a->head_width, D, stride, s->out, out);
}

CLONES static void forward_sequence(int lanes, const struct attention *a, const struct space *s, size_t begin,
                                    size_t end, size_t g, const float *q, const float *k, const float *v, float *out,
                                    float *lse)
{
    size_t n = end - begin, width = a->head_width, stride = a->kv_heads * width;
    pack_transposed(n, round_up(n), width, stride, s->length, k + begin * stride + g * width, s->keys_t);
    pack(n, width, s->width, stride, 1, v + begin * stride + g * width, s->values);
    for (size_t h = 0; h < a->heads; h++) {
        if (a->kv_head_of[h] != g) continue;
        for (size_t first = 0; first < n; first += QUERIES) {
            size_t count = n - first < QUERIES ? n - first : QUERIES, at = (begin + first) * a->heads + h;
            forward_block(lanes, a, s, first, count, q + at * width, out + at * width, lse + at);
        }
    }
}

void cpu_attention_forward(struct device *device, const struct attention *shape, const float *q, const float *k,
                           const float *v, float *out, float *lse)
{
    struct space space;
    if (!space_create(device, shape, &space)) return;
    for (size_t s = 0; s < shape->sequences.count; s++) {
        size_t begin = shape->sequences.offsets[s], end = shape->sequences.offsets[s + 1];
        for (size_t g = 0; g < shape->kv_heads; g++) {
            forward_sequence(device->lanes, shape, &space, begin, end, g, q, k, v, out, lse);
        }
    }
}

/* scores become probabilities, dscores the gradient of the scores before their scale */
INLINE void backward_scores(const struct attention *a, const struct space *s, size_t first, size_t n, size_t padded,
                            const float *lse)
{
    float scale = 1.0f / sqrtf((float)a->head_width);
    for (size_t i = 0; i < n; i++) {
        float *p = s->scores + i * s->length, *dp = s->dscores + i * s->length;
        float log_sum = lse[i * a->heads], delta = s->delta[i];
        int keys = (int)(first + i + 1), end = (int)padded / LANES * LANES;
#pragma omp simd
        for (int j = 0; j < end; j++) {
            float e = vector_exp(p[j] - log_sum);
            e = j < keys ? e : 0.0f;
            p[j] = e;
            dp[j] = e * (dp[j] - delta) * scale;
        }
    }
}

INLINE void backward_block(int lanes, const struct attention *a, const struct space *s, size_t first, size_t n,
                           const float *q, const float *out, const float *lse, const float *dout, float *dq)
{
    size_t D = s->width, L = s->length, width = a->head_width, stride = a->heads * width;
    size_t keys = first + n, padded = round_up(keys);
    pack(n, width, D, stride, 1.0f / sqrtf((float)width), q, s->q);
    pack(n, width, D, stride, 1, dout, s->dout);
    for (size_t i = 0; i < n; i++) {
        float delta = 0;
#pragma omp simd reduction(+ : delta)
        for (size_t d = 0; d < width; d++)
            delta += dout[i * stride + d] * out[i * stride + d];
        s->delta[i] = delta;
    }
    small_matmul(lanes, n, padded, width, s->q, D, 1, s->keys_t, L, s->scores, L, false);
    small_matmul(lanes, n, padded, width, s->dout, D, 1, s->values_t, L, s->dscores, L, false);
    backward_scores(a, s, first, n, padded, lse);
    small_matmul(lanes, n, D, keys, s->dscores, L, 1, s->keys, D, s->out, D, false);
    unpack(n, width, D, stride, s->out, dq);
    pack(n, width, D, stride, 1, q, s->q);
    small_matmul(lanes, keys, D, n, s->dscores, 1, L, s->q, D, s->dkeys, D, true);
    small_matmul(lanes, keys, D, n, s->scores, 1, L, s->dout, D, s->dvalues, D, true);
}

struct gradients {
    const float *q, *k, *v, *out, *lse, *dout;
    float *dq, *dk, *dv;
};

CLONES static void backward_sequence(int lanes, const struct attention *a, const struct space *s, size_t begin,
                                     size_t end, size_t g, const struct gradients *x)
{
    size_t n = end - begin, width = a->head_width, D = s->width, stride = a->kv_heads * width;
    size_t kv = begin * stride + g * width;
    pack(n, width, D, stride, 1, x->k + kv, s->keys);
    pack_transposed(n, round_up(n), width, stride, s->length, x->k + kv, s->keys_t);
    pack_transposed(n, round_up(n), width, stride, s->length, x->v + kv, s->values_t);
    memset(s->dkeys, 0, n * D * sizeof(float));
    memset(s->dvalues, 0, n * D * sizeof(float));
    for (size_t h = 0; h < a->heads; h++) {
        if (a->kv_head_of[h] != g) continue;
        for (size_t first = 0; first < n; first += QUERIES) {
            size_t count = n - first < QUERIES ? n - first : QUERIES, row = (begin + first) * a->heads + h;
            size_t at = row * width;
            backward_block(lanes, a, s, first, count, x->q + at, x->out + at, x->lse + row, x->dout + at, x->dq + at);
        }
    }
    unpack(n, width, D, stride, s->dkeys, x->dk + kv);
    unpack(n, width, D, stride, s->dvalues, x->dv + kv);
}

void cpu_attention_backward(struct device *device, const struct attention *shape, const float *q, const float *k,
                            const float *v, const float *out, const float *lse, const float *dout, float *dq, float *dk,
                            float *dv)
{
    struct space space;
    if (!space_create(device, shape, &space)) return;
    struct gradients gradients = {q, k, v, out, lse, dout, dq, dk, dv};
    for (size_t s = 0; s < shape->sequences.count; s++) {
        size_t begin = shape->sequences.offsets[s], end = shape->sequences.offsets[s + 1];
        for (size_t g = 0; g < shape->kv_heads; g++) {
            backward_sequence(device->lanes, shape, &space, begin, end, g, &gradients);
        }
    }
}
