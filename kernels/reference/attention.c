/* Reference attention: rotary positions and the causal softmax of one query at a time. */
#include <math.h>
#include <string.h>

#include "kernels/reference/reference.h"

void reference_rotary(struct device *device, size_t tokens, size_t heads, size_t head_width, size_t turned, float theta,
                      const int32_t *positions, bool inverse, float *x)
{
    (void)device;
    size_t half = turned / 2;
    for (size_t t = 0; t < tokens; t++) {
        for (size_t i = 0; i < half; i++) {
            double angle = positions[t] * pow((double)theta, -2.0 * (double)i / (double)turned);
            double c = cos(angle), s = inverse ? -sin(angle) : sin(angle);
            for (size_t h = 0; h < heads; h++) {
                float *head = x + (t * heads + h) * head_width;
                double a = head[i], b = head[i + half];
                head[i] = (float)(a * c - b * s);
                head[i + half] = (float)(b * c + a * s);
            }
        }
    }
}

static double dot(size_t n, const float *x, const float *y)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * y[i];
    return sum;
}

/* One query of one head over the keys begin..query. */
static void attend(const struct attention *a, size_t begin, size_t query, size_t h, const float *q, const float *k,
                   const float *v, float *out, float *lse)
{
    size_t width = a->head_width, g = a->kv_head_of[h];
    const float *qh = q + (query * a->heads + h) * width;
    double scale = 1 / sqrt((double)width), maximum = -HUGE_VAL, denominator = 0;
    for (size_t j = begin; j <= query; j++) {
        maximum = fmax(maximum, scale * dot(width, qh, k + (j * a->kv_heads + g) * width));
    }
    for (size_t j = begin; j <= query; j++) {
        denominator += exp(scale * dot(width, qh, k + (j * a->kv_heads + g) * width) - maximum);
    }
    double log_denominator = maximum + log(denominator);
    float *outh = out + (query * a->heads + h) * width;
    memset(outh, 0, width * sizeof *outh);
    for (size_t j = begin; j <= query; j++) {
        double p = exp(scale * dot(width, qh, k + (j * a->kv_heads + g) * width) - log_denominator);
        for (size_t i = 0; i < width; i++)
            outh[i] += (float)(p * v[(j * a->kv_heads + g) * width + i]);
    }
    lse[query * a->heads + h] = (float)log_denominator;
}

void reference_attention_forward(struct device *device, const struct attention *shape, const float *q, const float *k,
                                 const float *v, float *out, float *lse)
{
    (void)device;
    for (size_t s = 0; s < shape->sequences.count; s++) {
        size_t begin = shape->sequences.offsets[s], end = shape->sequences.offsets[s + 1];
        for (size_t h = 0; h < shape->heads; h++) {
            for (size_t query = begin; query < end; query++)
                attend(shape, begin, query, h, q, k, v, out, lse);
        }
    }
}

void reference_attention_backward(struct device *device, const struct attention *shape, const float *q, const float *k,
                                  const float *v, const float *out, const float *lse, const float *dout, float *dq,
                                  float *dk, float *dv)
{
    (void)device;
    size_t heads = shape->heads, kv_heads = shape->kv_heads, width = shape->head_width;
    size_t tokens = shape->sequences.offsets[shape->sequences.count];
    double scale = 1 / sqrt((double)width);
    memset(dq, 0, tokens * heads * width * sizeof *dq);
    memset(dk, 0, tokens * kv_heads * width * sizeof *dk);
    memset(dv, 0, tokens * kv_heads * width * sizeof *dv);
    for (size_t s = 0; s < shape->sequences.count; s++) {
        size_t begin = shape->sequences.offsets[s], end = shape->sequences.offsets[s + 1];
        for (size_t h = 0; h < heads; h++) {
            for (size_t i = begin; i < end; i++) {
                size_t at = (i * heads + h) * width;
                double delta = dot(width, dout + at, out + at);
                for (size_t j = begin; j <= i; j++) {
                    size_t key = (j * kv_heads + shape->kv_head_of[h]) * width;
                    double p = exp(scale * dot(width, q + at, k + key) - lse[i * heads + h]);
                    double ds = p * (dot(width, dout + at, v + key) - delta) * scale;
                    for (size_t d = 0; d < width; d++) {
                        dq[at + d] += (float)(ds * k[key + d]);
                        dk[key + d] += (float)(ds * q[at + d]);
                        dv[key + d] += (float)(p * dout[at + d]);
                    }
                }
            }
        }
    }
}
