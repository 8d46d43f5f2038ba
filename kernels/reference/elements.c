/* Reference operations of biases, GELU, and heads that come from one matrix. */
#include <math.h>
#include <string.h>

#include "kernels/reference/reference.h"

void reference_bias_forward(struct device *device, size_t rows, size_t width, const float *bias, float *x)
{
    (void)device;
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < width; i++)
            x[r * width + i] += bias[i];
}

void reference_bias_backward(struct device *device, size_t rows, size_t width, const float *dy, float *dbias)
{
    (void)device;
    for (size_t i = 0; i < width; i++) {
        double sum = dbias[i];
        for (size_t r = 0; r < rows; r++)
            sum += dy[r * width + i];
        dbias[i] = (float)sum;
    }
}

void reference_scale_columns(struct device *device, size_t rows, size_t width, const float *x, const float *factors,
                             float *y)
{
    (void)device;
    for (size_t i = 0; i < rows * width; i++)
        y[i] = x[i] * factors[i % width];
}

void reference_scale_columns_backward(struct device *device, size_t rows, size_t width, const float *x,
                                      const float *factors, const float *dy, bool add, float *dx, float *dfactors)
{
    (void)device;
    for (size_t i = 0; i < width; i++) {
        double sum = 0;
        for (size_t r = 0; r < rows; r++) {
            size_t at = r * width + i;
            double d = dy[at];
            sum += d * x[at];
            dx[at] = (float)(d * factors[i] + (add ? dx[at] : 0));
        }
        dfactors[i] += (float)sum;
    }
}

void reference_split_heads(struct device *device, size_t tokens, size_t heads, size_t head_width, const float *qkv,
                           float *q, float *k, float *v)
{
    (void)device;
    for (size_t h = 0; h < tokens * heads; h++) {
        const float *head = qkv + 3 * h * head_width;
        memcpy(q + h * head_width, head, head_width * sizeof *q);
        memcpy(k + h * head_width, head + head_width, head_width * sizeof *k);
        memcpy(v + h * head_width, head + 2 * head_width, head_width * sizeof *v);
    }
}

void reference_merge_heads(struct device *device, size_t tokens, size_t heads, size_t head_width, const float *q,
                           const float *k, const float *v, float *qkv)
{
    (void)device;
    for (size_t h = 0; h < tokens * heads; h++) {
        float *head = qkv + 3 * h * head_width;
        memcpy(head, q + h * head_width, head_width * sizeof *q);
        memcpy(head + head_width, k + h * head_width, head_width * sizeof *k);
        memcpy(head + 2 * head_width, v + h * head_width, head_width * sizeof *v);
    }
}

/* The argument of tanh in the approximation, and its derivative. */
static double inner(double x)
{
    return sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
}

static double inner_slope(double x)
{
    return sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x);
}

void reference_gelu_forward(struct device *device, size_t n, bool approximate, const float *x, float *out)
{
    (void)device;
    for (size_t i = 0; i < n; i++) {
        double value = x[i];
        out[i] = (float)(value * 0.5 * (approximate ? 1 + tanh(inner(value)) : erfc(-value / sqrt(2))));
    }
}

void reference_gelu_backward(struct device *device, size_t n, bool approximate, const float *x, const float *dout,
                             float *dx)
{
    (void)device;
    for (size_t i = 0; i < n; i++) {
        double value = x[i], share, slope;
        if (approximate) {
            double t = tanh(inner(value));
            share = 0.5 * (1 + t);
            slope = 0.5 * (1 - t * t) * inner_slope(value);
        } else {
            share = 0.5 * erfc(-value / sqrt(2));
            slope = exp(-0.5 * value * value) / sqrt(2 * M_PI);
        }
        dx[i] = (float)(dout[i] * (share + value * slope));
    }
}
