/* Reference attention: rotary positions and the causal softmax of one query at a time. */
#include <math.h>
#include <string.h>

#include "kernels/reference/reference.h"

void reference_rotary(struct device *device, size_t tokens, size_t heads, size_t head_width,
                      const struct rotary *rotary, const int32_t *positions, bool inverse, float *x)
{
    (void)device;
    size_t half = rotary->turned / 2;
    for (size_t t = 0; t < tokens; t++) {
        for (size_t i = 0; i < half; i++) {
            double angle = positions[t] * rotary_frequency(rotary, i);
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

/* What a head's queries of one sequence see: the prefix's places, then the tokens. */
struct seen {
    size_t prefix, begin, stride, prefix_stride; /* tokens from row `begin` on */
    const float *k, *v, *prefix_k, *prefix_v;    /* of the head's key/value head */
};

static struct seen seen_of(const struct attention *a, size_t sequence, size_t h, const float *k, const float *v)
{
    size_t g = a->kv_head_of[h] * a->head_width;
    const struct attention_prefix *p = a->prefixes ? &a->prefixes[sequence] : NULL;
    struct seen seen = {
        .begin = a->sequences.offsets[sequence], .stride = a->kv_heads * a->head_width, .k = k + g, .v = v + g};
    if (!p || !p->length) return seen;
    seen.prefix = p->length;
    seen.prefix_stride = p->stride;
    seen.prefix_k = p->k + g;
    seen.prefix_v = p->v + g;
    return seen;
}

static const float *key(const struct seen *s, size_t j)
{
    return j < s->prefix ? s->prefix_k + j * s->prefix_stride : s->k + (s->begin + j - s->prefix) * s->stride;
}

static const float *value(const struct seen *s, size_t j)
{
    return j < s->prefix ? s->prefix_v + j * s->prefix_stride : s->v + (s->begin + j - s->prefix) * s->stride;
}

/* One query of one head over its `keys` keys. */
static void attend(const struct attention *a, const struct seen *seen, size_t keys, const float *q, float *out,
                   float *lse)
{
    size_t width = a->head_width;
    double scale = 1 / sqrt((double)width), maximum = -HUGE_VAL, denominator = 0;
    for (size_t j = 0; j < keys; j++)
        maximum = fmax(maximum, scale * dot(width, q, key(seen, j)));
    for (size_t j = 0; j < keys; j++)
        denominator += exp(scale * dot(width, q, key(seen, j)) - maximum);
    double log_denominator = maximum + log(denominator);
    memset(out, 0, width * sizeof *out);
    for (size_t j = 0; j < keys; j++) {
        double p = exp(scale * dot(width, q, key(seen, j)) - log_denominator);
        for (size_t i = 0; i < width; i++)
            out[i] += (float)(p * value(seen, j)[i]);
    }
    *lse = (float)log_denominator;
}

void reference_attention_forward(struct device *device, const struct attention *shape, const float *q, const float *k,
                                 const float *v, float *out, float *lse)
{
    (void)device;
    for (size_t s = 0; s < shape->sequences.count; s++) {
        size_t begin = shape->sequences.offsets[s], end = shape->sequences.offsets[s + 1];
        for (size_t h = 0; h < shape->heads; h++) {
            struct seen seen = seen_of(shape, s, h, k, v);
            for (size_t i = begin; i < end; i++) {
                size_t at = i * shape->heads + h;
                attend(shape, &seen, seen.prefix + i - begin + 1, q + at * shape->head_width,
                       out + at * shape->head_width, lse + at);
            }
        }
    }
}

/* Where the gradient of a key or value goes; NULL: not wanted. */
static float *gradient_of(const struct seen *s, size_t j, float *prefix, float *tokens)
{
    if (j >= s->prefix) return tokens + (s->begin + j - s->prefix) * s->stride;
    return prefix ? prefix + j * s->prefix_stride : NULL;
}

static void add_scaled(size_t n, double factor, const float *x, float *y)
{
    for (size_t i = 0; y && i < n; i++)
        y[i] += (float)(factor * x[i]);
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
            struct seen seen = seen_of(shape, s, h, k, v);
            size_t g = shape->kv_head_of[h] * width;
            float *pk = seen.prefix && shape->prefixes[s].dk ? shape->prefixes[s].dk + g : NULL;
            float *pv = seen.prefix && shape->prefixes[s].dv ? shape->prefixes[s].dv + g : NULL;
            for (size_t i = begin; i < end; i++) {
                size_t at = (i * heads + h) * width;
                double delta = dot(width, dout + at, out + at);
                for (size_t j = 0; j <= seen.prefix + i - begin; j++) {
                    double p = exp(scale * dot(width, q + at, key(&seen, j)) - lse[i * heads + h]);
                    double ds = p * (dot(width, dout + at, value(&seen, j)) - delta) * scale;
                    add_scaled(width, ds, key(&seen, j), dq + at);
                    add_scaled(width, ds, q + at, gradient_of(&seen, j, pk, dk + g));
                    add_scaled(width, p, dout + at, gradient_of(&seen, j, pv, dv + g));
                }
            }
        }
    }
}
